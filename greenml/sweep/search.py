"""The life of one search, top to bottom: it asks, sends out, hears every epoch, and yields what happened."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from greenml import config as configs
from greenml import energy, environment
from greenml.grid.planner import Need
from greenml.records import Epoch, Notice, Phase, Progress, Resume, Run, RunEnd, Source, Study, Trial, new_run_id
from greenml.run import budget_rule, grams_by
from greenml.sweep.crew import Inbox
from greenml.sweep.front import Bound, Point, front
from greenml.sweep.sampler import Asker, violations_of
from greenml.sweep.worker import Began, Message, Outcome, Task, forget
from greenml.units import co2_g

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from greenml.config import Config
    from greenml.energy import Meter, Settings
    from greenml.grid.planner import Planner
    from greenml.records import Intensity, Record
    from greenml.sweep.crew import Seat
    from greenml.sweep.space import Sampler, Space, Value

POLL_S = 0.25
MAX_ATTEMPTS = 3
"""A trial whose worker dies is tried so often; then it is what kills them."""
MAX_FAILURES = 5
"""Trials that may fail before any has ended well: then it is the search that is wrong."""
BUDGETS = tuple(key.replace("_", "-") for key in configs.UNITS)
"""Why a search may end before its last trial."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What an earlier run has shown already: a trial that costs nothing."""

    run_id: str
    params: dict[str, Value]
    points: list[Point]
    num_parameters: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is searched, and how long."""

    run_id: str
    space: Space
    sampler: Sampler
    num_trials: int
    seed: int
    base: Config
    """What all trials share; its `epochs` are the most that one may train."""
    intensity: Intensity
    settings: Settings
    known: Sequence[Known] = ()
    limits: dict[str, float] = field(default_factory=dict)
    """Of the whole search, in seconds, joules and grams: `time_budget`, `energy_budget`, `carbon_budget`."""
    data_hash: str | None = None
    split_hash: str | None = None
    """Of what is trained on, where that was looked at: the search then stands beside its trials."""
    stops_early: bool = True
    """Whether trials that can no longer reach the front are called off."""
    floor: float = 0.0
    """Validation accuracy above which a training has clearly learned, where the data were looked at."""


@dataclass(frozen=True, kw_only=True)
class Past:
    """A search that is taken up again: what the store knows of it."""

    segment: int
    trials: list[tuple[Trial, list[Point]]]
    duration_s: float
    joules: float
    """Of its trials and of itself, what is known."""
    taken: Mapping[str, tuple[float, float | None]] = field(default_factory=dict)
    """The same by run: joules, and the mean intensity at which they were taken (None: the factor of the plan)."""
    deaths: Mapping[int, int] = field(default_factory=dict)
    """How often a trial, by its number, took its worker along, or the search itself."""

    def grams(self, intensity: Intensity) -> float:
        """All that it took, each run at its own hours."""
        return sum(
            co2_g(joules, intensity.g_per_kwh if g_per_kwh is None else g_per_kwh, intensity.pue)
            for joules, g_per_kwh in self.taken.values()
        )


@dataclass(frozen=True, kw_only=True)
class Files:
    """What a trial left, after its last record."""

    run_id: str
    content: dict[str, bytes]


@dataclass
class _Flight:
    """A trial that is on its way."""

    trial: Trial
    seat: Seat
    config: Config
    points: list[Point] = field(default_factory=list)
    joules: float = 0.0
    """So far, as its last word says."""
    settled_j: float = 0.0
    """Of its phases."""
    val_count: int = 0
    num_parameters: int = 0
    called_off: str | None = None
    began: Began | None = None
    run: Run | None = None
    last_phase: Phase | None = None
    heard_s: float = 0.0
    """When that phase, or else its beginning, was heard of, by the driver's clock."""
    has_ended: bool = False

    @property
    def run_id(self) -> str:
        return self.trial.attempts[-1]


def takes_turns(seats: Sequence[Seat]) -> bool:
    """Whether the driver's meter stands back while a trial's counts: with one seat, and that on this machine."""
    return len(seats) == 1 and seats[0].is_here and not seats[0].is_crowded


def is_shared(seats: Sequence[Seat]) -> bool:
    """Whether trials share a machine, so that each can only be given its share."""
    return any(seat.is_crowded for seat in seats) or sum(seat.is_here for seat in seats) > 1


def open_meter(plan: Plan, seats: Sequence[Seat], *, segment: int = 0) -> Meter:
    """What the driver uses: the machine while no trial runs, or else the share of its own process, without workers."""
    settings = plan.settings
    if not takes_turns(seats):
        settings = dataclasses.replace(settings, scope="process", with_children=False)
    return energy.open_meter(plan.run_id, segment=segment, settings=settings)


class Search:
    """One search; `go` is its life, and what it yields is stored and shown by whoever calls it."""

    def __init__(
        self,
        plan: Plan,
        seats: Sequence[Seat],
        meter: Meter,
        *,
        past: Past | None = None,
        interrupted: Callable[[], bool] = lambda: False,
        grams_of: Callable[[float], float] | None = None,
        planner: Planner | None = None,
    ) -> None:
        """`grams_of` says for a carbon budget what the joules of all lives have come to, trials included; by the plan's
        factor where it is None. Trials are always held against each other by that factor: none of them is better for
        the hour at which it was drawn. While `planner` holds, no other trial is sent out; those on their way go on.
        What is left to do it is told by the search from here on."""
        self._plan, self._seats, self._meter, self._past = plan, seats, meter, past
        self._grams_of = grams_of or grams_by(plan.intensity)
        self._interrupted, self._planner = interrupted, planner
        if planner:
            planner.need = self._need
        self._inbox = Inbox(self._take_turns if takes_turns(seats) else lambda _: None)
        self._is_trials_turn = False
        self._flights: dict[str, _Flight] = {}
        self._asker = Asker(plan.space, plan.sampler, seed=plan.seed, num_trials=plan.num_trials, floor=plan.floor)
        self._again: list[Trial] = []
        """Trials to be tried once more, before others are drawn."""
        self._deaths = Counter(past.deaths if past else {})
        """Attempts at each trial whose worker died."""
        self._reason: str | None = None
        self._is_exhausted = False
        """Whether everything in the space was tried."""
        self._num_drawn = self._num_failed = self._num_well = 0
        self._curves: list[list[float]] = []
        self._points: list[Point] = []
        self._spent_s, self._spent_j = (past.duration_s, past.joules) if past else (0.0, 0.0)
        self._waited_s = 0.0
        """In this life, between two trials, for cleaner electricity."""
        self._seq = 0

    def go(self) -> Iterator[Record | Files]:
        """Search until the trials are made, a budget is spent, or nothing works."""
        self._meter.wait_until_ready()
        yield from self._begin()
        while True:
            reason = self._reason = self._reason or self._over()
            if reason:
                self._call_off_all(reason)
            is_held = reason is None and self._has_more() and self._planner is not None and self._planner.holds()
            yield from self._decided()
            for seat in self._free_seats() if reason is None and self._has_more() and not is_held else ():
                if trial := self._next_trial():
                    yield from self._send_out(trial, seat)
            if not self._flights and (reason or not self._has_more()):
                break
            if self._planner and is_held and not self._flights:
                yield from self._stand_still(self._planner)
            elif heard := self._inbox.get(POLL_S):
                yield from self._hear(*heard)
            yield from self._own_phases()
        if reason is None and self._num_failed and not self._num_well:
            reason = "failures"
        self._meter.finish()
        yield from self._own_phases()
        status = "interrupted" if reason == "interrupted" else "failed" if reason == "failures" else "done"
        yield RunEnd(
            run_id=self._plan.run_id,
            status=status,
            stop_reason=reason or ("space" if self._is_exhausted else "trials"),
            ended_at=self._meter.ended_at,
        )

    def _decided(self) -> Iterator[Record]:
        """What the planner has said since the last call. The search lives on while it holds trials back."""
        if self._planner:
            yield from self._planner.judgements()
            yield from (dataclasses.replace(decision, status=None) for decision in self._planner.decisions())

    def _stand_still(self, planner: Planner) -> Iterator[Record]:
        """Stay in a phase `wait` until the planner lets go, or the search is over."""
        self._meter.turn_to("wait")
        while self._over() is None and planner.holds():
            began_s = self._meter.elapsed_s()
            yield from self._decided()
            yield from self._own_phases()
            done_s, total_s = planner.progress()
            yield Progress(what="waiting", done=round(done_s), total=round(total_s), watts=self._meter.watts())
            planner.rest()
            self._waited_s += self._meter.elapsed_s() - began_s
        self._meter.turn_to("search")

    def _need(self) -> Need:
        """The time that its trials still take at the pace so far, or that its budget leaves them where that is less."""
        worked_s = self._worked_s()
        num_ended = self._num_drawn - len(self._again) - len(self._flights)
        left_s = [self._plan.limits["time_budget"] - worked_s] if "time_budget" in self._plan.limits else []
        if num_ended:
            left_s.append((self._plan.num_trials - num_ended) * worked_s / num_ended)
        return Need(
            remaining=timedelta(seconds=max(min(left_s), 0.0)) if left_s else None,
            active_w=self._joules() / worked_s if worked_s else None,
            restart_s=0.0,  # between two trials nothing is kept in memory
        )

    def _worked_s(self) -> float:
        """Of all lives, without what it waited."""
        return self._spent_s + self._meter.elapsed_s() - self._waited_s

    def _joules(self) -> float:
        """Of all lives, as far as they are known."""
        return self._spent_j + sum(flight.joules for flight in self._flights.values())

    # How it begins

    def _begin(self) -> Iterator[Record]:
        plan, past = self._plan, self._past
        if past is None:
            yield _run(plan, self._meter)
        else:
            yield _resume(plan, self._meter, past.segment)
        yield Study(
            run_id=plan.run_id,
            sampler=plan.sampler,
            num_trials=plan.num_trials,
            seed=plan.seed,
            space=plan.space.to_plain(),
            base=dataclasses.asdict(plan.base),
            limits=plan.limits,
            stops_early=plan.stops_early,
            floor=plan.floor,
        )
        if past is None:
            for known in plan.known:
                broken = self._violations(known.points, known.num_parameters)
                trial = self._asker.know(plan.run_id, known.params, known.points, broken)
                self._learn(known.points, broken)
                yield dataclasses.replace(trial, origin=known.run_id)
            return
        for trial, points in past.trials:
            self._asker.restore(trial, points)
            self._learn(points, violations_of(trial))
            self._num_drawn += trial.origin is None
            self._num_well += trial.state == "complete" and trial.origin is None
            self._num_failed += trial.state == "failed"
            if trial.state == "running":
                for attempt in trial.attempts:  # its driver was killed, and may have left them
                    forget(attempt)
                if self._deaths[trial.number] < MAX_ATTEMPTS:
                    self._again.append(trial)
                else:
                    self._num_failed += 1
                    told = self._asker.tell(trial, [], {})
                    yield dataclasses.replace(told, reason=f"died {self._deaths[trial.number]} times, with the search")

    # Trials

    def _has_more(self) -> bool:
        """Whether there are trials to be sent out."""
        return bool(self._again) or (self._num_drawn < self._plan.num_trials and not self._is_exhausted)

    def _next_trial(self) -> Trial | None:
        """One that is to be tried again, or else another draw; None where there are enough, or no others."""
        if self._again:
            return self._again.pop(0)
        if not self._has_more():
            return None
        enqueued = self._plan.space.enqueue
        values = enqueued[self._num_drawn] if self._num_drawn < len(enqueued) else None
        trial = self._asker.ask(self._plan.run_id, values)
        self._num_drawn += trial is not None
        self._is_exhausted = trial is None
        return trial

    def _send_out(self, trial: Trial, seat: Seat) -> Iterator[Record]:
        plan = self._plan
        run_id = new_run_id()
        trial = dataclasses.replace(trial, attempts=[*trial.attempts, run_id])
        config, settings = dataclasses.replace(plan.base, **plan.space.config(trial.params)), plan.settings
        if is_shared(self._seats):
            config = dataclasses.replace(config, scope="process")
            settings = dataclasses.replace(settings, scope="process")
        self._flights[run_id] = _Flight(trial, seat, config)
        yield trial
        task = Task(run_id=run_id, study=plan.run_id, config=config, intensity=plan.intensity, settings=settings)
        seat.start(task, self._inbox)

    def _hear(self, run_id: str, message: Message) -> Iterator[Record | Files]:
        flight = self._flights.get(run_id)
        if flight is None:
            return  # a word of an attempt that was given up
        match message:
            case Began():
                flight.began, flight.heard_s = message, time.monotonic()
            case Outcome():
                yield from self._end(flight, message)
            case Phase():
                if flight.run is None:  # it broke before it was one
                    assert flight.began is not None
                    flight.run = _unborn(flight, flight.began, self._plan)
                    yield flight.run
                flight.last_phase, flight.heard_s = message, time.monotonic()
                flight.settled_j += message.joules or 0.0
                flight.joules = max(flight.joules, flight.settled_j)
                yield message
            case Run():
                flight.run = message
                flight.num_parameters = message.num_parameters or 0
                flight.val_count = message.num_val or 0
                ceiling = self._plan.space.max_parameters
                if ceiling is not None and flight.num_parameters > ceiling:
                    self._call_off(flight, f"{flight.num_parameters:,} parameters are more than {ceiling:,}")
                yield message
            case Epoch():
                yield message
                self._judge(flight, message)
            case Progress():
                flight.joules = max(flight.joules, message.energy_j or 0.0)
                yield message
            case RunEnd():
                flight.has_ended = True
                if message.status == "done":  # before it heard that it was called off
                    flight.called_off = None
                yield dataclasses.replace(message, stop_reason=flight.called_off or message.stop_reason)
            case _:
                yield message

    def _judge(self, flight: _Flight, epoch: Epoch) -> None:
        """Take an epoch in; where the trial can no longer reach the front, call it off."""
        if epoch.energy_total_j is None or epoch.val_accuracy is None or not epoch.schedule_complete:
            return
        intensity = self._plan.intensity
        grams = co2_g(epoch.energy_total_j, intensity.g_per_kwh, intensity.pue)
        flight.points.append(Point(epoch.val_accuracy, grams))
        if not self._plan.stops_early or epoch.epoch == flight.config.epochs:
            return
        bound = Bound(curves=self._curves, horizon=flight.config.epochs, val_count=flight.val_count)
        if not bound.may_reach(flight.points, front(self._points, self._plan.floor)):
            self._call_off(flight, "dominated")

    def _end(self, flight: _Flight, outcome: Outcome) -> Iterator[Record | Files]:
        del self._flights[flight.run_id]
        self._spent_j += flight.joules
        if flight.began and not flight.has_ended:
            yield from _cut_short(flight, self._plan, is_dead=outcome.may_retry)
        yield Files(run_id=flight.run_id, content=outcome.files)
        trial = flight.trial
        if flight.called_off == "interrupted" or (not flight.points and flight.called_off in BUDGETS):
            return  # it stays `running`, and is tried again when the search goes on
        self._deaths[trial.number] += outcome.may_retry
        if outcome.may_retry and flight.called_off is None and self._deaths[trial.number] < MAX_ATTEMPTS:
            yield Notice(text=f"trial {trial.number}: {outcome.failure}; it is tried again")
            self._again.append(trial)
            return
        # What was called off had said all that it was asked for: its epochs count, however its worker ended.
        points = [] if outcome.failure and not (outcome.may_retry and flight.called_off) else flight.points
        tries = f", {self._deaths[trial.number]} times" if outcome.may_retry and self._deaths[trial.number] > 1 else ""
        failure = outcome.failure and outcome.failure + tries
        why = flight.called_off if points else failure
        why = why or flight.called_off or (None if points else "its energy is unknown")
        broken = self._violations(points, flight.num_parameters)
        told = self._asker.tell(trial, points, broken)
        self._learn(points, broken)
        self._num_well += bool(points)
        self._num_failed += not points and flight.called_off is None  # what is too large has not failed
        yield dataclasses.replace(told, reason=why)

    def _learn(self, points: Sequence[Point], broken: Mapping[str, float]) -> None:
        """What a trial teaches: how accuracy grows, and, where it keeps the constraints, what others have to beat."""
        if points:
            self._curves.append([point.accuracy for point in points])
            if max(broken.values(), default=0.0) <= 0:
                self._points += points

    def _violations(self, points: Sequence[Point], num_parameters: int) -> dict[str, float]:
        """By how much a trial breaks each constraint of the space; what is not above 0 is kept."""
        space, found = self._plan.space, {}
        if space.min_accuracy is not None and points:
            found["min_accuracy"] = space.min_accuracy - max(point.accuracy for point in points)
        if space.max_parameters is not None:
            found["max_parameters"] = num_parameters / space.max_parameters - 1
        return found

    # How it ends

    def _over(self) -> str | None:
        """Why no more trials are sent out, and those on their way are called off; None while the search goes on."""
        if self._interrupted():
            return "interrupted"
        if self._num_failed >= MAX_FAILURES and not self._num_well:
            return "failures"
        return budget_rule(self._plan.limits, self._grams_of, self._worked_s(), self._joules())

    def _call_off_all(self, reason: str) -> None:
        for flight in self._flights.values():
            self._call_off(flight, reason)

    def _call_off(self, flight: _Flight, reason: str) -> None:
        if flight.called_off is None:
            flight.called_off = reason
            flight.seat.call_off()

    # Seats, and what the driver itself uses

    def _free_seats(self) -> Iterator[Seat]:
        """One at a time: where workers are fewer than seats, whoever is given one leaves less for the next."""
        busy = [flight.seat for flight in self._flights.values()]
        return (seat for seat in self._seats if seat not in busy and seat.is_open())

    def _take_turns(self, message: Message) -> None:
        """Its trial's own meter counts from its first reading to its last. Called at once, by whoever brings the
        message: until the driver gets to it, both would count, or none."""
        is_trials = isinstance(message, Began) or (self._is_trials_turn and not isinstance(message, RunEnd | Outcome))
        if is_trials != self._is_trials_turn:
            self._is_trials_turn = is_trials
            self._meter.turn_to("trial" if is_trials else "search")

    def _own_phases(self) -> Iterator[Phase]:
        """What the driver used beside the trials: what they metered themselves is not counted twice."""
        for phase in self._meter.phases():
            if phase.name != "trial":
                self._spent_j += phase.joules or 0.0
                yield dataclasses.replace(phase, seq=self._seq)
                self._seq += 1


def _cut_short(flight: _Flight, plan: Plan, *, is_dead: bool) -> Iterator[Run | Phase | RunEnd]:
    """An attempt that broke before it could say how it ended. Where its worker died nobody has read what it used since
    its last phase; otherwise that was told."""
    began = flight.began
    assert began is not None
    if flight.run is None:
        flight.run = _unborn(flight, began, plan)
        yield flight.run
    if is_dead or flight.last_phase is None:
        flight.last_phase = _unread(flight, began)
        yield flight.last_phase
    status = "crashed" if is_dead else "failed"
    yield RunEnd(
        run_id=flight.run_id,
        status=status,
        stop_reason=status,
        ended_at=flight.last_phase.ended_at,
    )


def _unread(flight: _Flight, began: Began) -> Phase:
    """What an attempt used after its last phase."""
    last = flight.last_phase
    started_at = last.ended_at if last else began.started_at
    cpu, gpu, ram = (_lost(began, name) for name in ("cpu", "gpu", "ram"))
    return Phase(
        run_id=flight.run_id,
        segment=0,
        seq=last.seq + 1 if last else 0,
        name="lost",
        epoch=last.epoch if last else None,
        device=flight.run.device if flight.run else "unknown",
        started_at=started_at,
        ended_at=started_at + timedelta(seconds=time.monotonic() - flight.heard_s),
        cpu_j=cpu[0],
        gpu_j=gpu[0],
        ram_j=ram[0],
        cpu_source=cpu[1],
        gpu_source=gpu[1],
        ram_source=ram[1],
        method="its worker died: nothing was read after the last phase",
        error_j=None,
        overlap_s=0.0,
    )


def _lost(began: Began, name: str) -> tuple[float | None, Source]:
    """What a component used that nobody read: nothing where there is none."""
    part = began.meter.get(name)
    is_absent = isinstance(part, dict) and part["source"] == Source.ABSENT
    return (0.0, Source.ABSENT) if is_absent else (None, Source.UNKNOWN)


def _unborn(flight: _Flight, began: Began, plan: Plan) -> Run:
    """What is known of an attempt that came to nothing while it was set up."""
    config = flight.config
    return Run(
        run_id=flight.run_id,
        kind="trial",
        name=config.name,
        tags=config.tags,
        parent=plan.run_id,
        model=config.model,
        dataset=config.dataset,
        precision_asked=config.precision,
        batch_size=config.batch_size,
        grad_accum=config.grad_accum,
        epochs_asked=config.epochs,
        seed=config.seed,
        split_seed=config.split_seed,
        scope=config.scope,
        config=dataclasses.asdict(config),
        device="unknown",
        hardware=dict(began.hardware),
        meter=dict(began.meter),
        intensity=plan.intensity,
        versions={},
        git_commit=None,
        git_dirty=None,
        command=environment.command(),
        started_at=began.started_at,
    )


def _run(plan: Plan, meter: Meter) -> Run:
    """The sweep itself, as a run: what it used beside its trials."""
    commit, dirty = environment.git()
    return Run(
        run_id=plan.run_id,
        kind="sweep",
        name=plan.base.name,
        tags=plan.base.tags,
        parent=None,
        model=", ".join(plan.space.models) or plan.base.model,
        dataset=plan.base.dataset,
        data_hash=plan.data_hash,
        split_hash=plan.split_hash,
        seed=plan.seed,
        epochs_asked=plan.base.epochs,
        config=dataclasses.asdict(plan.base),
        scope=str(meter.describe()["scope"]),
        device="cpu",
        hardware=environment.hardware(),
        meter=meter.describe(),
        intensity=plan.intensity,
        versions=environment.versions((*environment.PACKAGES, "optuna")),
        dependencies_hash=environment.dependencies_hash(),
        git_commit=commit,
        git_dirty=dirty,
        command=environment.command(),
        started_at=meter.started_at,
    )


def _resume(plan: Plan, meter: Meter, segment: int) -> Resume:
    return Resume(
        run_id=plan.run_id,
        segment=segment,
        epoch=0,
        step=0,
        started_at=meter.started_at,
        epochs_asked=plan.base.epochs,
        group_hash=None,
        config=dataclasses.asdict(plan.base),
        hardware=environment.hardware(),
        meter=meter.describe(),
        versions=environment.versions((*environment.PACKAGES, "optuna")),
        command=environment.command(),
    )
