"""When a run may train: its rules are asked at moments, and each change of mind is a decision with its reason.

A run waits before its first step (`when_green`: for the cleanest window before the deadline; `max_intensity`: for an
intensity below that, so long at most) and pauses in its midst (`pause_above`). A policy may hold it up at any time. A
deadline ends every wait but a policy's, while what is left to do still fits before it.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from greenml.grid import outlook, windows
from greenml.grid import policy as policies
from greenml.grid.moments import shown
from greenml.records import Decision, Judgement, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from greenml.grid.feed import Feed
    from greenml.grid.policy import Facts, Policy
    from greenml.grid.series import Series, Step
    from greenml.grid.windows import Saving

ASSUMED_IDLE = 0.1
"""What a machine that waits is held to draw, as a share of what the run draws, where nobody has measured it."""
SLOW = timedelta(seconds=5)
"""A look that takes so long, which the run has to wait for, makes the next one come later, ..."""
SELDOM = timedelta(hours=1)
"""... up to this."""
SLICE_S = 1.0
"""A wait looks up so often: for Ctrl-C, and for the meter's readings."""
NOTHING_S = timedelta(0)
FORETOLD = timedelta(days=2)
"""So far ahead services are asked for what a policy allows; anybody else as far as `policy.FAR`."""


class Clock(Protocol):
    """The time, as the world has it; injected, so that no test waits."""

    def now(self) -> datetime:
        """UTC, naive."""

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now(self) -> datetime:
        return utc_now()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """An intensity, or a percentile of those of the last week."""

    value: float
    is_percentile: bool = False

    def __str__(self) -> str:
        return f"the {self.value:g}th percentile of the last week" if self.is_percentile else f"{self.value:g} g/kWh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What holds a run up."""

    when_green: bool = False
    deadline: datetime | None = None
    max_intensity: float | None = None
    max_wait: timedelta = timedelta(hours=1)
    check_interval: timedelta = timedelta(minutes=5)
    pause_above: Level | None = None
    resume_below: Level | None = None
    min_dwell: timedelta = timedelta(minutes=10)
    exits: bool = False
    """Whether the process leaves rather than sleeps; the machine then draws nothing for it."""
    idle_w: float | None = None
    """What the machine draws while the run waits, for which nobody else uses it; None where nobody has measured it."""
    policy: Policy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What is left of a run, as far as anybody can tell."""

    remaining: timedelta | None
    """At most, as its interval goes."""
    active_w: float | None = None
    restart_s: float = 30.0
    """What loading everything again takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why a run does not go on."""

    rule: str
    """Which holds it: `policy`, `window`, `threshold`, `level`."""
    what: str
    """`wait` before its first step, `pause` after it."""
    why: str
    until: datetime | None
    """When it will, as far as can be told."""
    since: datetime
    expected_g_per_kwh: float | None = None
    saving: Saving | None = None
    series: Series | None = None


class Planner:
    """Asked by one run whether it may train. What it decides is told once, by `decisions`."""

    def __init__(
        self,
        rules: Rules,
        feed: Feed,
        *,
        run_id: str,
        segment: int = 0,
        clock: Clock | None = None,
        need: Callable[[], Need] = lambda: Need(remaining=None),
        facts: Callable[[datetime], Facts] = lambda now: policies.Facts(now=now),
        numbers: Iterator[int] | None = None,
        command: str = "train",
        pue: float = 1.0,
        asked_at: datetime | None = None,
        has_started: bool = False,
    ) -> None:
        """`facts` are what a policy asks of the run beside the intensity. `numbers` counts the decisions of the
        segment, where somebody else makes some, too. `command` is who asks. A run that is taken up again was `asked_at`
        when it began, and `has_started` where it has trained."""
        self._rules, self._feed, self._run_id, self._segment = rules, feed, run_id, segment
        self._clock: Clock = clock or SystemClock()
        self.need = need
        """What is left to do, as whoever asks can tell; a search tells it better once it has begun."""
        self._facts_of = facts
        self._untold: list[Decision] = []
        self._command = command
        self._judgements: list[Judgement] = []
        self._judged: object = None
        """What the policy came to when it was asked last, rule by rule."""
        self._numbers = itertools.count() if numbers is None else numbers
        self._asked_at, self._pue = asked_at, pue
        self._seen_at = self._looked_at = self._look_at = datetime.min
        self._patience = rules.check_interval
        self._turned_at = datetime.min
        self._hold: Hold | None = None
        self._step: Step | None = None
        """What held when it looked last."""
        self._has_started = has_started
        self._has_window = False
        """Whether the window was chosen, so that the run goes on in it to its end."""
        self._said: set[str] = set()

    # -- what a run calls ------------------------------------------------------------------------------------------

    @property
    def exits(self) -> bool:
        """Whether the run ends as `paused` where it is held up, to be taken up later."""
        return self._rules.exits

    @property
    def policy(self) -> Policy | None:
        """Which is kept to, where there is one."""
        return self._rules.policy

    @property
    def may_pause(self) -> bool:
        """Whether it may also hold up what has begun."""
        return self._rules.policy is not None or self._rules.pause_above is not None

    @property
    def hold(self) -> Hold | None:
        """Why the run does not go on; None while it may."""
        return self._hold

    def admit(self) -> None:
        """Raise PolicyError where the policy does not let the run begin, and it either refuses or never will. Asked
        before there is a run; `holds` asks again when more is known of it."""
        self._by_policy(self._clock.now())

    def holds(self) -> bool:
        """Whether the run is to stand still now. Cheap, but for once in `check_interval`; at once, too, where the clock
        was set back. The first time it raises PolicyError, as `admit` does."""
        now = self._clock.now()
        if now < self._seen_at:
            self._set_back(self._seen_at - now)
        self._seen_at = now
        if self._looked_at <= now < self._look_at:
            return self._hold is not None
        self._asked_at = self._asked_at or now
        found = self._why_not(now)
        if found and self._hold is None:
            self._tell(now, found.what, found.why, hold=found, status=None if self.exits else "waiting")
        elif found is None and self._hold is not None:
            self._let_go(now)
        turn = {found and found.rule, self._hold and self._hold.rule}
        if len(turn) == 2 and "level" in turn:
            self._turned_at = now
        self._hold = found and replace(found, since=self._hold.since if self._hold else now)
        self._has_started = self._has_started or found is None
        interval = self._rules.check_interval
        took = self._clock.now() - now
        self._patience = min(max(2 * self._patience, interval), SELDOM) if took > SLOW else interval
        self._looked_at, self._look_at = now, now + max(self._patience, interval)
        if found and found.until and found.until > now:
            self._look_at = min(self._look_at, found.until)
        return found is not None

    def _set_back(self, jump: timedelta) -> None:
        """The clock was: what it has waited stays what it is, and so does what it may still wait."""
        if self._asked_at:
            self._asked_at -= jump
        if self._hold:
            self._hold = replace(self._hold, since=self._hold.since - jump)
        if self._turned_at > datetime.min:
            self._turned_at -= jump

    def rest(self) -> None:
        """Sleep, a second at most, or until there is something to look at."""
        left_s = (self._look_at - self._clock.now()).total_seconds()
        self._clock.sleep(min(max(left_s, 0.0), SLICE_S))

    def progress(self) -> tuple[float, float]:
        """Seconds waited, and to be waited as far as can be told."""
        if self._hold is None:
            return 0.0, 0.0
        waited_s = (self._clock.now() - self._hold.since).total_seconds()
        until = self._hold.until or self._look_at
        return waited_s, max((until - self._hold.since).total_seconds(), waited_s)

    def decisions(self) -> Iterator[Decision]:
        """Those since the last call."""
        while self._untold:
            yield self._untold.pop(0)

    def judgements(self) -> Iterator[Judgement]:
        """What the policy said since the last call, wherever that was something else than before."""
        while self._judgements:
            yield self._judgements.pop(0)

    # -- the rules -------------------------------------------------------------------------------------------------

    def _why_not(self, now: datetime) -> Hold | None:
        """The first rule that holds the run up at `now`; None where none does."""
        step = self._now(now)
        if held := self._by_policy(now):
            return held
        need = self.need()
        slack = self._slack(now, need)
        if slack is not None and slack <= NOTHING_S:
            self._tell_once(now, "deadline", self._too_late(need, slack), about="deadline")
            return None
        if not self._has_started or (self._rules.when_green and not self._has_window):
            held = self._by_window(now, need) or (None if self._has_started else self._by_threshold(now, step))
        return held or self._by_level(now, step, need, slack)

    def _by_policy(self, now: datetime) -> Hold | None:
        policy = self._rules.policy
        if policy is None:
            return None
        facts = self._facts(now)
        verdict, outcome, at = policies.judge(policy, facts), "allowed", None
        if not verdict.allowed:
            series, until = self._averages(now), now + policies.FAR
            at = policies.next_allowed(policy, now, series, until, facts)
            in_vain = policy.on_violation == "refuse" or policies.is_in_vain(policy, facts, series, until)
            is_first = self._looked_at == datetime.min
            outcome = "refused" if is_first and in_vain else "waited"
        judged = outcome, [(rule.rule, rule.status) for rule in verdict.rules]
        if judged != self._judged:
            self._judged = judged
            self._judgements += policies.judgements(
                verdict, run_id=self._run_id, command=self._command, decided_at=now, outcome=outcome
            )
        if outcome == "refused":
            raise policies.refusal(verdict, at)
        if verdict.allowed:
            return None
        broken = "; ".join(rule.words for rule in verdict.blocking)
        return Hold(rule="policy", what=self._what, why=f"policy {policy.name}: {broken}", until=at, since=now)

    def _facts(self, now: datetime) -> Facts:
        facts, step = self._facts_of(now), self._feed.averages(now, now + timedelta(minutes=1)).at(now)
        if step:
            facts = replace(facts, g_per_kwh=step.g_per_kwh, intensity_status=step.status)
        # What a run wants is asked before it begins; then it has what is left of the budget.
        return replace(facts, wants_j=None, wants_g=None) if self._has_started else facts

    def _averages(self, now: datetime) -> Series:
        """What is known of the time in which a policy may allow it. Of services only as much as they like to tell: who
        is asked for more may tell nothing."""
        near = self._feed.averages(now, now + FORETOLD)
        self._tell_fallbacks(now)
        far = self._feed.averages(now + FORETOLD, now + policies.FAR)
        list(self._feed.fallbacks())  # that nobody foretells a week is not worth a word
        return near.filled(far) if near.steps else far

    def _by_window(self, now: datetime, need: Need) -> Hold | None:
        """The cleanest window that the run fits into before the deadline, where waiting for it pays."""
        deadline = self._rules.deadline
        if not self._rules.when_green or deadline is None:
            return None
        if need.remaining is None:
            self._tell_once(now, "start", self._not_known_yet)
            return None
        if need.remaining <= NOTHING_S:
            return None
        self._has_window = True
        series = self._foretold(now, deadline, need)
        window = windows.best(series, duration=need.remaining, earliest=now, deadline=deadline)
        if window is None:
            known = f"until {shown(series.end, now)}" if series.end else "of no time"
            self._tell_once(now, "start", f"intensities are known {known}, which is less than the run takes")
            return None
        if window.start - now < min(self._rules.check_interval, timedelta(minutes=5)):
            return None
        load = self._load(need)
        saving = windows.saving(series, [window], load, now=now, duration=need.remaining)
        if saving is None or saving.saved_g <= 0:
            if self._hold is None:
                self._decline(now, f"waiting until {shown(window.start, now)}", load, series, saving)
            return None
        self._has_window = False  # until it has begun, a better one may come
        why = f"{window.g_per_kwh:.0f} g/kWh from {shown(window.start, now)} on"
        return Hold(
            rule="window",
            what=self._what,
            why=why,
            until=window.start,
            since=now,
            expected_g_per_kwh=window.g_per_kwh,
            saving=saving,
            series=series,
        )

    def _by_threshold(self, now: datetime, step: Step | None) -> Hold | None:
        limit, asked_at = self._rules.max_intensity, self._asked_at or now
        if limit is None:
            return None
        if step is None:
            self._tell_once(now, "start", "nobody knows the intensity of now: no waiting for a lower one")
            return None
        latest = asked_at + self._rules.max_wait
        if step.g_per_kwh <= limit or now >= latest:
            return None
        until = windows.first_below(self._ahead(now, latest), limit=limit, earliest=now, latest=latest)
        why = f"{step.g_per_kwh:.0f} g/kWh are above {limit:g}"
        return Hold(rule="threshold", what="wait", why=why, until=until or latest, since=now)

    def _by_level(self, now: datetime, step: Step | None, need: Need, slack: timedelta | None) -> Hold | None:
        above, below = self._rules.pause_above, self._rules.resume_below
        if above is None or below is None or step is None:
            return None
        history = None
        if above.is_percentile or below.is_percentile:
            # Of services that tell no week the last day, which is enough for a percentile.
            day = self._feed.past(now - timedelta(days=1), now)
            history = day.filled(self._feed.past(now - timedelta(days=7), now)) if day.steps else day
            step = self._feed.averages(now, now + timedelta(minutes=1)).at(now)
            if step is None:
                return None
        pause_g, resume_g = (
            windows.level(history, now, each.value) if history is not None and each.is_percentile else each.value
            for each in (above, below)
        )
        if pause_g is None or resume_g is None:
            self._tell_once(now, "start", "less than a day of intensities is known: no percentiles, no pauses")
            return None
        rule = windows.Pausing(
            pause_above=pause_g, resume_below=min(resume_g, pause_g), min_dwell=self._rules.min_dwell
        )
        holding = self._hold is not None and self._hold.rule == "level"
        turn = rule.decide(
            now,
            step.g_per_kwh,
            is_running=not holding,
            since=self._turned_at,
            slack=timedelta.max if slack is None else slack,
        )
        if turn == "resume" or (turn is None and not holding):
            return None
        if holding:
            assert self._hold is not None
            return self._hold
        load = self._load(need)
        if need.remaining is None and load.idle_w > 0:  # nobody can tell whether it pays
            if not self._has_started:
                self._tell_once(now, "start", self._not_known_yet)
            return None
        deadline = self._rules.deadline or now + timedelta(days=1)
        series = self._foretold(now, deadline, need)
        saving = None
        if need.remaining is not None and need.remaining > NOTHING_S:
            verdict = windows.would_pay(series, now=now, remaining=need.remaining, deadline=deadline, load=load)
            saving = verdict.saving
            if saving is not None and not verdict.pays:
                self._decline(now, f"pausing at {step.g_per_kwh:.0f} g/kWh", load, series, saving)
                return None
        until = windows.first_below(series, limit=resume_g, earliest=now, latest=deadline)
        why = f"{step.g_per_kwh:.0f} g/kWh are above {pause_g:.0f}; goes on below {resume_g:.0f}"
        return Hold(rule="level", what=self._what, why=why, until=until, since=now, saving=saving, series=series)

    # -- what they are made of -------------------------------------------------------------------------------------

    @property
    def _what(self) -> str:
        return "pause" if self._has_started else "wait"

    @property
    def _not_known_yet(self) -> str:
        first = "trial" if self._command == "sweep" else "epoch"
        return f"how long it takes is not known yet: it is planned after the first {first}"

    def _now(self, now: datetime) -> Step | None:
        self._step = self._feed.at(now)
        self._tell_fallbacks(now)
        return self._step

    def _tell_fallbacks(self, now: datetime) -> None:
        for fallback in self._feed.fallbacks():
            instead = f"; asked instead: {fallback.instead}" if fallback.instead else ""
            self._tell(now, "fallback", f"{fallback.source}: {fallback.why}{instead}")

    def _ahead(self, now: datetime, end: datetime) -> Series:
        return self._feed.ahead(now, end)

    def _foretold(self, now: datetime, end: datetime, need: Need) -> Series:
        """On one level, so that no seam between two sources is taken for a change of the grid."""
        return outlook.look(self._feed, now, end, duration=need.remaining or None).series

    def _slack(self, now: datetime, need: Need) -> timedelta | None:
        """How long the run can still stand still; None where no deadline is set."""
        if self._rules.deadline is None:
            return None
        return self._rules.deadline - now - (need.remaining or NOTHING_S)

    def _too_late(self, need: Need, slack: timedelta) -> str:
        if slack >= -self._patience:  # it looks so often, and may have waited until now
            return "what is left to do only just fits before the deadline: no more waiting"
        left = slack + (need.remaining or NOTHING_S)
        when = f"is in {_hours(left)}" if left > NOTHING_S else f"was {_hours(-left)} ago"
        takes = f"what is left takes {_hours(need.remaining)}, and " if need.remaining else ""
        return f"{takes}the deadline {when}: no waiting"

    def _load(self, need: Need) -> windows.Load:
        """In watts where they are known; else in multiples of what the run draws."""
        active_w, idle_w = need.active_w or 1.0, self._rules.idle_w
        if self._rules.exits:
            idle_w = 0.0
        elif idle_w is None or (need.active_w is None and idle_w > 0):
            idle_w = ASSUMED_IDLE * active_w
        return windows.Load(active_w=active_w, idle_w=idle_w, restart_j=need.restart_s * active_w)

    def _decline(self, now: datetime, what: str, load: windows.Load, series: Series, saving: Saving | None) -> None:
        is_measured = self._rules.idle_w is not None and self.need().active_w is not None
        measured = "measured" if is_measured else "assumed"
        share = load.idle_w / load.active_w
        why = f"{what} would save nothing: the machine draws {share:.0%} of the run's power while it waits ({measured})"
        if load.idle_w == 0:
            why = f"{what} would save nothing"
        kind = what.partition(" ")[0]  # waiting, pausing: each is declined once
        if kind not in self._said:
            self._said.add(kind)
            self._tell(
                now,
                "decline",
                why,
                hold=Hold(rule="window", what="decline", why=why, until=None, since=now, saving=saving, series=series),
            )

    def _let_go(self, now: datetime) -> None:
        assert self._hold is not None
        waited = now - self._hold.since
        g_now = f"{self._step.g_per_kwh:.0f} g/kWh, " if self._step else ""
        what = "resume" if self._has_started else "start"
        self._tell(now, what, f"{g_now}after {_hours(waited)}", status="running")

    def _tell_once(self, now: datetime, what: str, why: str, *, about: str | None = None) -> None:
        """Once in these words; once in any, where they are `about` something."""
        if (about or why) not in self._said:
            self._said.add(about or why)
            self._tell(now, what, why)

    def _tell(self, now: datetime, what: str, why: str, *, hold: Hold | None = None, status: str | None = None) -> None:
        step, series, saving = self._step, hold.series if hold else None, hold.saving if hold else None
        is_average = series is not None and series.kind == "average"
        self._untold.append(
            Decision(
                run_id=self._run_id,
                segment=self._segment,
                seq=next(self._numbers),
                decided_at=now,
                what=what,
                why=why,
                provider=series.provider if series else None,
                intensity_status=step.status if step else None,
                g_per_kwh=step.g_per_kwh if step else None,
                until_at=hold.until if hold else None,
                expected_g_per_kwh=hold.expected_g_per_kwh if hold else None,
                # Of marginal intensities no grams are told: they steer, and averages account.
                saved_g=saving.saved_g * self._pue if saving and is_average and self.need().active_w else None,
                saved_share=saving.share if saving else None,
                saved_source=_known_by(series) if saving and series else None,
                against=f"going on at {shown(now, now)}" if saving else None,
                status=status,
            )
        )


def _known_by(series: Series) -> str:
    """How a saving is known that was reckoned with these."""
    return "modelled" if series.status in ("modelled", "assumed") else "forecast"


def _hours(span: timedelta) -> str:
    from greenml.units import format_duration

    return format_duration(span.total_seconds())
