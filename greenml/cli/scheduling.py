"""From flags and `schedule:` keys to a planner, and what its decisions look like on a screen."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenml import units
from greenml.cli import policing
from greenml.cli.gridasking import moment_of, per_cent
from greenml.cli.options import flag
from greenml.errors import UsageError
from greenml.records import Decision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from greenml.cli.forecasts import Outlook
    from greenml.cli.jobs import Job
    from greenml.config import Config, Schedule
    from greenml.forecast import Forecast
    from greenml.grid.planner import Clock, Level, Need, Planner, Rules
    from greenml.grid.policy import Policy
    from greenml.grid.series import Status
    from greenml.records import Intensity
    from greenml.store import Store

LONGEST = timedelta(days=366)
SLACK = "24h"
"""The deadline where none was given."""

WhenGreenOption = Annotated[
    bool | None,
    typer.Option("--when-green", help="Start in the cleanest window before --deadline.", show_default=False),
]
DurationOption = Annotated[
    str | None, flag("--duration", metavar="TIME", help="How long it takes, for --when-green: 90m, 4h.")
]
DeadlineOption = Annotated[
    str | None,
    flag("--deadline", metavar="TIME", help="When it has to be done: 08:00, tomorrow-08:00, 6h.", default=SLACK),
]
MaxIntensityOption = Annotated[
    float | None, flag("--max-intensity", metavar="G", help="Start below so many g/kWh, or after --max-wait.")
]
MaxWaitOption = Annotated[
    str | None, flag("--max-wait", metavar="TIME", help="How long --max-intensity waits.", default="1h")
]
CheckIntervalOption = Annotated[
    str | None, flag("--check-interval", metavar="TIME", help="How often the grid is looked at.", default="5m")
]
PauseAboveOption = Annotated[
    str | None,
    flag("--pause-above", metavar="LEVEL", help="Pause above 400 g/kWh, or above p75: a percentile of the last week."),
]
ResumeBelowOption = Annotated[
    str | None, flag("--resume-below", metavar="LEVEL", help="Go on below that.", default="a tenth less; p40")
]
ExitOnPauseOption = Annotated[
    bool | None,
    typer.Option("--exit-on-pause", help="Leave with 75 and say what starts it again.", show_default=False),
]
StaysOnOption = Annotated[
    bool | None,
    typer.Option("--stays-on", help="The machine is on anyway: waiting costs nothing.", show_default=False),
]
PrefetchOption = Annotated[
    bool | None,
    typer.Option("--prefetch", help="Keep the decoded data in memory while it waits.", show_default=False),
]
FLAGS = {
    "when_green": "when_green",
    "deadline": "deadline",
    "max_intensity": "threshold",
    "max_wait": "max_wait",
    "check_interval": "check_interval",
    "pause_above": "pause_above",
    "resume_below": "resume_below",
    "exit_on_pause": "exit_on_pause",
    "stays_on": "stays_on",
    "prefetch": "prefetch",
    "policy": "policy",
}
"""Parameters of commands, and the keys under `schedule` that they are."""
NAMES = {key: name for name, key in FLAGS.items()}


def keys(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Flags by the names of their parameters -> keys under `schedule`; None where none was given."""
    found = {key: given[name] for name, key in FLAGS.items() if given.get(name) is not None}
    return found or None


def settled(config: Config, now: datetime) -> Config:
    """With the deadline as a moment, which stays where it is however often the run is taken up, and the policy's file
    by its whole path. Raises UsageError."""
    from greenml.grid import policy as policies

    config = located(config)
    schedule, policy = config.schedule, policies.chosen(config.schedule.policy)
    if not schedule.is_on:
        _refuse_idle(schedule, has_policy=policy is not None)
        return config
    at = moment_of("--deadline", schedule.deadline or SLACK, now)
    if at <= now:
        raise UsageError(
            f"--deadline {schedule.deadline}: that was {units.format_duration((now - at).total_seconds())} ago",
            hint="give a time to come: tomorrow-08:00, 6h",
        )
    rules_of(schedule, at)
    deadline = at.replace(tzinfo=UTC).isoformat(timespec="seconds")
    return dataclasses.replace(config, schedule=dataclasses.replace(schedule, deadline=deadline))


def located(config: Config) -> Config:
    """With a policy that is found from any folder."""
    if config.schedule.policy is None:
        return config
    schedule = dataclasses.replace(config.schedule, policy=policing.whole_path(config.schedule.policy))
    return dataclasses.replace(config, schedule=schedule)


def rules_of(
    schedule: Schedule, deadline: datetime | None, *, policy: Policy | None = None, idle_w: float | None = None
) -> Rules:
    """What the keys say. Raises UsageError."""
    from greenml.grid.planner import Rules

    above = _level("pause_above", schedule.pause_above)
    below = _level("resume_below", schedule.resume_below)
    if below is not None and above is None:
        raise UsageError("--resume-below without --pause-above", hint="give both, or --max-intensity for the start")
    if schedule.threshold is not None and not 0 < schedule.threshold < 1e5:
        raise UsageError(f"--max-intensity {schedule.threshold:g}: no g/kWh above 0", hint="as in 300")
    if above is not None and below is None:
        below = dataclasses.replace(above, value=40.0 if above.is_percentile else 0.9 * above.value)
    if above and below and above.is_percentile == below.is_percentile and below.value > above.value:
        raise UsageError(
            f"--resume-below {below.value:g} lies above --pause-above {above.value:g}: it would never stand still",
            hint="give a lower --resume-below",
        )
    return Rules(
        when_green=schedule.when_green or (schedule.enabled is True and above is None and schedule.threshold is None),
        deadline=deadline,
        max_intensity=schedule.threshold,
        max_wait=_duration("max_wait", schedule.max_wait),
        check_interval=_duration("check_interval", schedule.check_interval),
        pause_above=above,
        resume_below=below,
        min_dwell=_duration("min_dwell", schedule.min_dwell),
        exits=schedule.exit_on_pause,
        idle_w=0.0 if schedule.stays_on or schedule.exit_on_pause else idle_w,
        policy=policy,
    )


def planner_of(job: Job, store: Store, outlook: Outlook, numbers: Iterator[int]) -> Planner | None:
    """What holds a training up; None where nothing does. `numbers` counts its decisions. Raises UsageError and
    DataError."""
    from greenml.grid.planner import Need, SystemClock

    began = store.rows(BEGAN, [job.run_id])[0] if job.past else None

    def need() -> Need:
        remaining, active_w = outlook.remaining()
        return Need(remaining=remaining, active_w=active_w)

    return make_planner(
        job.config,
        store,
        job.intensity,
        job.clock or SystemClock(),
        need=need,
        wants_j=outlook.wanted_j,
        run_id=job.run_id,
        segment=job.segment,
        numbers=numbers,
        asked_at=began["started_at"] if began else None,
        has_started=bool(began and began["has_trained"]),
    )


def foreseen(config: Config, store: Store, intensity: Intensity, made: Forecast | None) -> Planner | None:
    """What would hold a training up that began now, as `ask_once` has it. `made` is what it is expected to take."""
    from greenml.grid.planner import Need

    need = Need(
        remaining=timedelta(seconds=made.duration_s.high) if made else None, active_w=made.power_w if made else None
    )
    wants_j = made.energy_j.value if made and made.energy_j else None
    return ask_once(config, store, intensity, need, wants_j=lambda: wants_j)


def ask_once(config: Config, store: Store, intensity: Intensity, need: Need, **how: Any) -> Planner | None:
    """What would hold up whatever began now and had this `need`; None where nothing can. Nothing is kept of what
    services answer. `how` is as in `make_planner`. Raises PolicyError where it may not begin, UsageError and
    DataError."""
    from greenml.grid.planner import SystemClock

    planner = make_planner(
        config, store, intensity, SystemClock(), need=lambda: need, remembers=False, run_id="dry-run", **how
    )
    if planner:
        planner.holds()
    return planner


def make_planner(
    config: Config,
    store: Store,
    intensity: Intensity,
    clock: Clock,
    *,
    need: Callable[[], Need],
    wants_j: Callable[[], float | None] = lambda: None,
    remembers: bool = True,
    **how: Any,
) -> Planner | None:
    """What holds up whatever `config` describes; None where nothing does. `wants_j` says what it is still going to use,
    `remembers` is as in `open_feed`, `how` as in `Planner`. Raises UsageError and DataError."""
    from greenml.grid import policy as policies

    schedule, policy = config.schedule, policies.chosen(config.schedule.policy)
    if not schedule.is_on and policy is None:
        return None
    from greenml.cli.feeds import Asked, open_feed
    from greenml.energy import survey
    from greenml.grid.planner import Planner
    from greenml.grid.series import utc

    idle = store.idle(survey.machine)
    watts = idle["watts"] if idle else None
    deadline = utc(datetime.fromisoformat(schedule.deadline)) if schedule.deadline else None
    feed = open_feed(Asked.of(config), store, intensity, clock=clock.now, remembers=remembers, tells_lacks=True)
    trace = feed.only(["trace"])

    def factor(now: datetime) -> float:
        """g/kWh of what is left: of a trace its mean over that time, where all of it is known."""
        until = now + (need().remaining or timedelta(0))
        mean = trace.averages(now, until).mean(now, until)
        return intensity.g_per_kwh if mean is None else mean

    return Planner(
        rules_of(schedule, deadline, policy=policy, idle_w=watts if isinstance(watts, float) else None),
        feed,
        clock=clock,
        need=need,
        facts=policing.facts_of(policy, store, intensity, wants_j=wants_j, factor=factor),
        pue=intensity.pue,
        **how,
    )


BEGAN = """
    select started_at, exists (from phases where phases.run_id = runs.run_id and phases.name = 'train') as has_trained
    from runs
    where run_id = ?
"""
HELD = """
    select 1 as one from decisions where run_id = ? and what in ('wait', 'pause') limit 1
"""
LIVED = """
    with left_by as (
        select run_id, segment, arg_max(what, seq) in ('wait', 'pause') as has_left
        from decisions
        group by run_id, segment
    )
    select phases.name, phases.started_at, phases.ended_at, phases.joules, phases.intensity_status,
        coalesce(phases.g_per_kwh, runs.intensity_g_per_kwh) as g_per_kwh,
        -- The life before ended where the grid held it up.
        phases.seq = 0 and coalesce(left_by.has_left, false) as was_away
    from phases
    join runs using (run_id)
    left join left_by on left_by.run_id = phases.run_id and left_by.segment = phases.segment - 1
    where phases.run_id = ?
    order by phases.segment, phases.seq
"""


def what_it_saved(job: Job, store: Store, numbers: Iterator[int]) -> Decision | None:
    """Of a run that is over and was held up: what that came to; None where it was not, or where nobody can tell."""
    if not store.rows(HELD, [job.run_id]):
        return None
    from greenml.cli.feeds import Asked, open_feed
    from greenml.grid.hindsight import Stretch, saved
    from greenml.grid.moments import shown
    from greenml.grid.series import now

    phases: list[Stretch] = []
    for row in store.rows(LIVED, [job.run_id]):
        name, start = row["name"], row["started_at"]
        if row["was_away"] and phases:  # the machine was not ours, and drew nothing for us
            left = phases[-1].end
            phases.append(Stretch(name="wait", start=left, end=start, joules=0.0, g_per_kwh=0.0, status="actual"))
        status: Status = row["intensity_status"] or "assumed"
        own = Stretch(
            name=name, start=start, end=row["ended_at"], joules=row["joules"], g_per_kwh=row["g_per_kwh"], status=status
        )
        phases.append(own)
    clock = job.clock.now if job.clock else now
    feed = open_feed(Asked.of(job.config), store, job.intensity, clock=clock, may_model=False)
    found = saved(phases, feed.past, pue=job.intensity.pue, idles=not job.config.schedule.stays_on)
    if found is None:
        return None
    saving, status = found
    idle = "; the machine is on anyway: what it drew meanwhile is not counted" if job.config.schedule.stays_on else ""
    return Decision(
        run_id=job.run_id,
        segment=job.segment,
        seq=next(numbers),
        decided_at=clock(),
        what="saved",
        why=f"standing still came to {units.format_mass(saving.then_g)} instead of "
        f"{units.format_mass(saving.now_g)}{idle}",
        intensity_status=status,
        saved_g=saving.saved_g,
        saved_share=saving.share,
        saved_source="measured" if status in ("actual", "estimated") else "modelled",
        against=f"the same work from {shown(phases[0].start, clock())} on, without a stop",
    )


HELD_UNTIL = """
    select until_at
    from decisions
    where run_id = ? and what in ('wait', 'pause')
    order by segment desc, seq desc
    limit 1
"""


def leave_wakes(store: Store, run_id: str, folder: Path) -> str:
    """The lines that start a paused run again, into `wake.txt` of its folder; what is said of it."""
    from greenml.grid.series import now
    from greenml.store import resolve_path

    until = [row["until_at"] for row in store.rows(HELD_UNTIL, [run_id])]
    at = next(filter(None, until), None) or now() + timedelta(hours=1)
    elsewhere = [] if store.path == resolve_path(None) else ["--store", str(store.path)]
    text = wake_lines(
        ["train", "--resume", run_id, "--store", str(store.path.resolve())],
        at,
        log=folder / "wake.log",
        by_hand=["train", "--resume", run_id[:8], *elsewhere],
    )
    (folder / "wake.txt").write_text(text, encoding="utf-8")
    return text


def wake_lines(words: Sequence[str], at: datetime, *, log: Path, by_hand: Sequence[str]) -> str:
    """What runs `greenml WORDS` in this folder at a moment (UTC, naive), for the clocks of this system; and how to
    start it `by_hand`."""
    from greenml.grid import wake

    command = [sys.executable, "-m", "greenml", *words]
    wakes = wake.wakes(command, at, folder=Path.cwd(), environment=os.environ, log=log.resolve())
    return wake.text(wakes, ["greenml", *by_hand], at)


def refuse_leaving(schedule: Schedule, *, repeats: int, then: str | None) -> None:
    """Raise UsageError where something hangs on a run that leaves, and would be lost with it."""
    if not schedule.exit_on_pause:
        return
    for flag_, is_given, hint in (
        ("--repeats", repeats > 1, "start them one by one, or leave --exit-on-pause out"),
        ("--then", then is not None, "compress it when it is done: greenml compress RUN"),
        ("--prefetch", schedule.prefetch, "what is kept in memory goes with the process: leave one of them out"),
    ):
        if is_given:
            raise UsageError(f"--exit-on-pause ends the process: {flag_} goes not with it", hint=hint)


def _refuse_idle(schedule: Schedule, *, has_policy: bool) -> None:
    """Keys that do nothing without a rule are a mistake, and said to be; a policy may hold a run up, too, but knows no
    deadline."""
    if schedule.enabled is False:
        return
    default = type(schedule)()
    with_any = () if has_policy else ("check_interval", "exit_on_pause", "prefetch")
    rules = {
        "max_wait": "--max-intensity",
        "resume_below": "--pause-above",
        "deadline": "--when-green or --pause-above",
    }
    for key in ("deadline", "resume_below", "stays_on", "max_wait", *with_any):
        if getattr(schedule, key) != getattr(default, key):
            name = f"--{NAMES.get(key, key).replace('_', '-')}"
            rule = rules.get(key, "--when-green, --max-intensity or --pause-above")
            raise UsageError(f"{name} without anything to wait for", hint=f"give {rule}, too")


def _duration(key: str, text: str) -> timedelta:
    name = f"--{key.replace('_', '-')}"
    try:
        seconds = units.parse_quantity(text, units.SECONDS)
    except ValueError as error:
        raise UsageError(f"{name}: {error}", hint="as in 30m") from None
    if seconds > LONGEST.total_seconds():
        raise UsageError(f"{name} {text}: longer than a year", hint="as in 30m")
    return timedelta(seconds=seconds)


def _level(key: str, text: str | None) -> Level | None:
    from greenml.grid.planner import Level

    if text is None:
        return None
    if match := re.fullmatch(r"p(\d{1,2})", text.strip()):
        return Level(value=float(match[1]), is_percentile=True)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e5:
        raise UsageError(f"--{key.replace('_', '-')} {text}: neither g/kWh nor a percentile", hint="as in 400, or p75")
    return Level(value=value)


def in_words(decision: Decision) -> str:
    """One line for people."""
    from greenml.grid.moments import shown

    verb = VERBS.get(decision.what, decision.what)
    until = "" if decision.until_at is None else f" until {shown(decision.until_at, decision.decided_at)}"
    if decision.what not in ("wait", "pause"):
        until = ""
    return f"{verb}{until}: {decision.why}{_saved(decision)}"


def _saved(decision: Decision) -> str:
    share = decision.saved_share
    if share is None or decision.what == "decline":  # which says itself that it would save nothing
        return ""
    if decision.what != "saved":
        return f"; saves {per_cent(share)} ({decision.saved_source})"
    return f", {per_cent(abs(share))} {'less' if share > 0 else 'more'} ({decision.saved_source})" if share else ""


VERBS = {
    "wait": "waits",
    "pause": "pauses",
    "start": "starts",
    "resume": "goes on",
    "decline": "does not wait",
    "saved": "saved",
    "fallback": "intensity",
    "deadline": "deadline",
}
