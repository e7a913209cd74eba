"""What a search says while it lives: on a terminal a picture of its front, elsewhere a line a trial."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from greenml import console
from greenml.cli import scheduling
from greenml.cli.portrait import one_line
from greenml.cli.searchresult import config_in_words
from greenml.console import counted, percentage
from greenml.grid.watch import Mean
from greenml.records import SIGNS, Decision, Epoch, Notice, Phase, Progress, Run, RunEnd, Source, Trial
from greenml.sweep.front import Point, front
from greenml.units import co2_g, format_duration, format_energy, format_mass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from greenml.records import Intensity, Record
    from greenml.sweep.search import Files, Past, Plan

PLOT_WIDTH, PLOT_HEIGHT = 60, 10
NUM_LEVELS = 4
"""Amounts of carbon at which the best accuracy so far is shown."""


@dataclass
class _Curve:
    """A training that goes on."""

    run: Run
    spent: Mean
    """By the intensity of each of its hours, as it is stored."""
    points: list[Point] = field(default_factory=list)
    source: Source = Source.ABSENT


class SearchScreen:
    """A live picture on a terminal, above it a line for each trial that has ended; elsewhere the lines alone."""

    def __init__(
        self,
        plan: Plan,
        *,
        quiet: bool,
        past: Past | None = None,
        grams_of: Callable[[float], float] | None = None,
    ) -> None:
        """`grams_of` says what all joules so far have come to; without it, the factor of the plan does."""
        self._plan, self._quiet = plan, quiet
        self._grams_of = grams_of or self._grams
        # Where there is a constraint, what just keeps it counts.
        self._floor = max(plan.floor, (plan.space.min_accuracy or 0.0) - 1e-12)
        self._curves: dict[str, _Curve] = {}
        self._points: list[Point] = [point for known in plan.known for point in known.points]
        self._joules, self._source = (past.joules if past else 0.0), Source.ABSENT
        self._num_ended = self._num_before = 0
        for trial, points in past.trials if past else ():
            self._points += points
            self._num_ended += trial.origin is None and trial.state != "running"
        self._num_before = self._num_ended
        self._began = time.monotonic()
        self._spent_before_s = past.duration_s if past else 0.0
        self._waited_s = 0.0
        self._now: str = "loading libraries"
        self._live: Any = None

    def __enter__(self) -> SearchScreen:
        if console.err().is_terminal and not self._quiet:
            from rich.live import Live

            self._live = Live(get_renderable=self._picture, console=console.err(), transient=True, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def note(self, text: str, *, always: bool = False) -> None:
        if always or not self._quiet:
            console.say(text)

    def show(self, record: Record | Files) -> None:
        """Whatever a search yields."""
        match record:
            case Notice():
                self.note(record.text, always=True)
            case Decision():
                self.note(scheduling.in_words(record), always=True)
            case Run() if record.kind == "trial":
                self._curves[record.run_id] = _Curve(record, Mean(self._plan.intensity.g_per_kwh))
                self._now = f"{record.model} in {record.precision}"
            case Phase():
                self._count(record)
            case Epoch():
                self._hear(record)
            case Progress():
                self._now = self._doing(record)
            case Trial():
                self._tell(record)
            case RunEnd() if record.run_id == self._plan.run_id:
                self._now = ""
            case _:
                pass

    def _count(self, phase: Phase) -> None:
        known = sum(part for part in (phase.cpu_j, phase.gpu_j, phase.ram_j) if part is not None)
        source = Source.worst([phase.cpu_source, phase.gpu_source, phase.ram_source])
        self._joules += known
        if phase.name == "wait":
            self._waited_s += (phase.ended_at - phase.started_at).total_seconds()
        self._source = Source.worst([self._source, source])
        if curve := self._curves.get(phase.run_id):
            curve.spent.add(known, phase.g_per_kwh)
            curve.source = Source.worst([curve.source, source])

    def _hear(self, epoch: Epoch) -> None:
        curve = self._curves.get(epoch.run_id)
        if curve is None or epoch.val_accuracy is None or epoch.energy_total_j is None or not epoch.schedule_complete:
            return
        curve.points.append(Point(epoch.val_accuracy, self._grams(epoch.energy_total_j)))

    def _tell(self, trial: Trial) -> None:
        for attempt in trial.attempts[:-1]:  # which came to nothing
            self._curves.pop(attempt, None)
        if trial.state == "running" or trial.origin:
            if trial.origin:
                self.note(f"known: run {trial.origin[:8]}, {config_in_words(self._plan.space.config(trial.params))}")
            return
        self._num_ended += 1
        curve = self._curves.pop(trial.attempts[-1], None)
        points = curve.points if curve and trial.state == "complete" else []
        self._points += points
        self.note(self._line(trial, curve, points))

    def _line(self, trial: Trial, curve: _Curve | None, points: Sequence[Point]) -> str:
        """One trial that has ended."""
        head = f"{self._num_ended}/{self._plan.num_trials}  trial {trial.number}"
        with_what = config_in_words(self._plan.space.config(trial.params))
        if curve is None or not points:
            return f"{head}  failed: {one_line(trial.reason)}  ({with_what})"
        best = max(points, key=lambda point: (point.accuracy, -point.co2_g))
        on_front = set(front(self._points, self._floor)) & set(points)
        ended = f", {trial.reason}" if trial.reason else ""
        spent = f"{SIGNS.get(curve.source, '')}{format_energy(curve.spent.joules)}"
        grams = format_mass(curve.spent.grams(self._plan.intensity.pue))
        return (
            f"{head}  {curve.run.model} {curve.run.precision}  val {percentage(best.accuracy):>5} %  "
            f"{counted(len(points), 'epoch')}{ended}  {spent}  {grams}{'  on the front' if on_front else ''}  "
            f"({with_what})"
        )

    def _doing(self, progress: Progress) -> str:
        """What the only trial that runs is doing; of several, how many they are; or that none may begin."""
        if progress.what == "waiting":
            return f"waiting, {format_duration(max(progress.total - progress.done, 0))} to go"
        if len(self._curves) != 1:
            return counted(len(self._curves), "trial") + " on their way"
        [curve] = self._curves.values()
        where = f"{curve.run.model} in {curve.run.precision}"
        if progress.epoch is None:
            return f"{where}: {progress.what}"
        share = progress.done / progress.total if progress.total else 0.0
        return f"{where}: epoch {progress.epoch}/{curve.run.epochs_asked}, {progress.what} {share:.0%}"

    def _grams(self, joules: float) -> float:
        """By one factor: none of several trials is better for its hour."""
        intensity: Intensity = self._plan.intensity
        return co2_g(joules, intensity.g_per_kwh, intensity.pue)

    # The picture

    def _picture(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        points = [*self._points, *(point for curve in self._curves.values() for point in curve.points)]
        head = Table.grid(padding=(0, 1), expand=True)
        head.add_column(no_wrap=True)
        head.add_column(ratio=1)
        head.add_column(no_wrap=True)
        head.add_row(
            f"{self._num_ended}/{self._plan.num_trials} trials",
            ProgressBar(total=self._plan.num_trials, completed=self._num_ended),
            f"{SIGNS.get(self._source, '')}{format_energy(self._joules)}, {format_mass(self._grams_of(self._joules))}"
            + (f", {format_duration(left)} left" if (left := self.left_s()) else ""),
        )
        width = min(PLOT_WIDTH, max(console.err().width - 12, 10))
        best = front(points, self._floor)
        lines = [self._now, *plot(points, best, width, PLOT_HEIGHT), best_at(best)]
        return Group(head, *(Text(line, no_wrap=True, overflow="ellipsis") for line in lines if line))

    def left_s(self) -> float | None:
        """By the pace of the trials so far, or until the time budget ends if that comes first; waiting left out."""
        done, lasted = self._num_ended - self._num_before, time.monotonic() - self._began - self._waited_s
        by_pace = (self._plan.num_trials - self._num_ended) * lasted / done if done else None
        budget_s = self._plan.limits.get("time_budget")
        by_budget = None if budget_s is None else max(budget_s - self._spent_before_s - lasted, 0.0)
        known = [each for each in (by_pace, by_budget) if each is not None]
        return min(known, default=None)


def plot(points: Iterable[Point], best: Iterable[Point], width: int, height: int) -> list[str]:
    """Accuracy over the logarithm of grams, as lines of text: `●` the best, which are its front, `·` others."""
    some = [point for point in points if point.co2_g > 0]
    if not some:
        return []
    grams, accuracies = [math.log(point.co2_g) for point in some], [point.accuracy for point in some]
    left, wide = min(grams), (max(grams) - min(grams)) or 1.0
    low, high = min(accuracies), max(accuracies)
    tall = (high - low) or 1.0
    cells = [[" "] * width for _ in range(height)]
    for sign, group in (("·", some), ("●", [point for point in best if point.co2_g > 0])):
        for point in group:
            column = round((math.log(point.co2_g) - left) / wide * (width - 1))
            row = round((high - point.accuracy) / tall * (height - 1))
            cells[row][column] = sign
    labels = {0: f"{percentage(high):>5} %", height - 1: f"{percentage(low):>5} %"}
    lines = [f"{labels.get(i, ''):>7} │{''.join(row).rstrip()}" for i, row in enumerate(cells)]
    first, last = (format_mass(float(f"{math.exp(edge):.6g}")) for edge in (left, max(grams)))
    return [*lines, f"{'':7} └{'─' * width}", f"{'':9}{first}{last:>{max(width - len(first), 1)}} CO2e"]


def best_at(best: Sequence[Point]) -> str:
    """What a front reaches at each of a few amounts of carbon: "best for 1.0 mg 80.1 %, ..."."""
    if not best:
        return ""
    low, high = math.log(max(best[0].co2_g, 1e-12)), math.log(max(best[-1].co2_g, 1e-12))
    levels = [float(f"{math.exp(low + (high - low) * i / (NUM_LEVELS - 1)):.6g}") for i in range(NUM_LEVELS)]
    if low == high:
        levels = levels[:1]
    told = []
    for level in levels:
        reached = [point.accuracy for point in best if point.co2_g <= level * (1 + 1e-5)]
        told.append(f"{format_mass(level)} {percentage(max(reached))} %")
    return f"best for {', '.join(told)}"
