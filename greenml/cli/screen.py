"""What a training says while it lives: a bar on a terminal, a line an epoch, and all of it in `run.log`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

from greenml import console, environment
from greenml.cli import forecasts, scheduling
from greenml.records import Decision, Epoch, Notice, Progress, Resume, Run
from greenml.units import co2_g, format_duration, format_mass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from greenml.cli.forecasts import Outlook
    from greenml.forecast import Span
    from greenml.records import Intensity, Record

LINE_WIDTH = 80
"""Of the line of an epoch, in the log as on a screen."""
BAR_WIDTH = 8
"""Columns that are left to the bar itself, and its margins."""


class Notes:
    """Lines for people on stderr and in `run.log`, and on a terminal a bar beneath them."""

    def __init__(self, folder: Path, *, quiet: bool) -> None:
        self._folder, self._quiet = folder, quiet
        self._lines: list[str] = []
        self._has_begun = False
        self._may_log = True
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if console.err().is_terminal and not self._quiet:
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[facts]}"))
            self._bar = Progress(*columns, console=console.err(), transient=True)
            self._task = self._bar.add_task("loading libraries", total=None, facts="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def note(self, text: str, *, always: bool = False) -> None:
        """A line for people, kept in the log once there is a run."""
        if always or not self._quiet:
            console.say(text)
        self._lines.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")
        if self._has_begun and self._may_log:
            try:
                with (self._folder / "run.log").open("a", encoding="utf-8") as log:
                    log.writelines(self._lines)
            except OSError as error:  # a full disk ends no training for want of a log
                self._may_log = False
                console.say(f"run.log cannot be written: {error.strerror}")
            self._lines.clear()

    def show(self, record: Record) -> None:
        """Whatever a run yields."""
        raise NotImplementedError

    def move(self, record: Progress, title: str, facts: str) -> None:
        """The bar, where there is one."""
        if self._bar:
            self._bar.update(self._task, description=title, total=record.total, completed=record.done, facts=facts)


class Screen(Notes):
    """What a training says while it lives."""

    def __init__(
        self,
        folder: Path,
        num_epochs: int,
        intensity: Intensity,
        outlook: Outlook,
        *,
        quiet: bool,
        grams_of: Callable[[float], float] | None = None,
    ) -> None:
        """`grams_of` says what all joules so far have come to; without it, the factor of `intensity` does."""
        super().__init__(folder, quiet=quiet)
        self._grams_of = grams_of or (lambda joules: co2_g(joules, intensity.g_per_kwh, intensity.pue))
        self._num_epochs, self._intensity, self._outlook = num_epochs, intensity, outlook
        self._epochs: list[Epoch] = []
        self._first: tuple[float, float] | None = None

    def show(self, record: Record) -> None:
        """Whatever a run yields."""
        match record:
            case Notice():
                self.note(record.text, always=True)  # --quiet is about progress; no fallback goes unannounced
            case Run():
                self._has_begun = True
                self.note(_describe(record))
                self._note_forecast()
            case Resume():
                self._has_begun = True
                done = f" after step {record.step}" if record.step else ""
                self.note(f"goes on in epoch {record.epoch} of {record.epochs_asked}{done}")
            case Decision():
                self.note(scheduling.in_words(record), always=True)
            case Progress() if self._bar:
                self.move(record, self._title(record), self._facts(record))
            case Epoch():
                self._epochs.append(record)
                self.note(self._epoch_line(record))
            case _:
                pass

    def _title(self, record: Progress) -> str:
        if record.epoch is None:
            return record.what
        return f"epoch {record.epoch}/{self._num_epochs}" + f" {record.what}" * (record.what != "training")

    def _facts(self, record: Progress) -> str:
        if record.what == "waiting":
            return f"{format_duration(record.done)} of {format_duration(record.total)}"
        if record.epoch is None:
            return f"{record.done:,} of {record.total:,}"
        val = [f"val {console.percentage(self._epochs[-1].val_accuracy)} %"] if self._epochs else []
        watts = [] if record.watts is None else [f"{record.watts:.0f} W"]
        spent = [] if record.energy_j is None else [self._spent(record.energy_j, self._outlook.energy_by_now(record))]
        grams = [] if record.energy_j is None else [format_mass(self._grams_of(record.energy_j))]
        left_s = self._left_s(record.epoch - 1 + record.done / record.total) if record.what == "training" else None
        left = [] if left_s is None else [f"{format_duration(left_s)} left"]
        room = console.err().width - len(self._title(record)) - BAR_WIDTH
        return fitting([(val, 1), (watts, 3), (spent, 0), (grams, 4), (left, 2)], room)

    def _spent(self, joules: float, whole: Span | None) -> str:
        """So far, of what is expected."""
        made = self._outlook.latest
        return forecasts.so_far(joules, whole, at_most=made is not None and made.at_most)

    def _note_forecast(self) -> None:
        from greenml.grid.series import now

        made = self._outlook.latest
        if made is None:
            self.note(f"forecast: none before the first epoch: {self._outlook.lack}")
        else:
            self.note(f"forecast: {self._outlook.in_one_line(now())}\nfrom {forecasts.basis(made)}")

    def _left_s(self, position: float) -> float | None:
        """By the pace since the first word of progress; `position` counts epochs."""
        now = time.monotonic()
        if self._first is None:
            self._first = now, position
        began, first = self._first
        return (self._num_epochs - position) * (now - began) / (position - first) if position > first else None

    def _epoch_line(self, epoch: Epoch) -> str:
        width = len(str(self._num_epochs))
        head = (
            f"epoch {epoch.epoch:>{width}}/{self._num_epochs}  val {console.percentage(epoch.val_accuracy):>5} %  "
            f"loss {epoch.val_loss:.3f}"
        )
        joules = epoch.energy_total_j
        made = self._outlook.latest
        spent = "energy unknown" if joules is None else self._spent(joules, made.energy_j if made else None)
        watts = [] if epoch.energy_j is None else [f"{epoch.energy_j / epoch.duration_s:.0f} W"]
        g_per_kwh = self._intensity.g_per_kwh if epoch.total_g_per_kwh is None else epoch.total_g_per_kwh
        grams = [] if joules is None else [format_mass(co2_g(joules, g_per_kwh, self._intensity.pue))]
        partly = [] if epoch.schedule_complete else ["(a part of it)"]
        time_s = [f"{format_duration(epoch.duration_s):>7}"]
        return fitting([([head], 0), (time_s, 1), (watts, 3), ([spent], 0), (grams, 2), (partly, 0)], LINE_WIDTH)


def fitting(parts: Sequence[tuple[Sequence[str], int]], width: int) -> str:
    """Parts of a line, two spaces between them, in their order; those with the highest numbers give way where it is
    too long, and those with 0 never."""
    shown = [(text, weight) for texts, weight in parts for text in texts]
    while len(line := "  ".join(text for text, _ in shown)) > width:
        least = max(weight for _, weight in shown)
        if not least:
            break
        shown = [(text, weight) for text, weight in shown if weight != least]
    return line


def _describe(run: Run) -> str:
    """What is about to be trained, and how its energy is known."""
    stem = "" if run.stem == "as published" else f", stem {run.stem}"
    return "\n".join(
        (
            f"{run.model}: {run.num_parameters:,} parameters{stem}; {run.precision} on {run.device}, "
            f"batch {run.batch_size}" + f" x {run.grad_accum}, {run.accumulation}" * (run.grad_accum > 1),
            f"{run.dataset}: {run.num_train:,} training, {run.num_val:,} validation, {run.num_test:,} test images of "
            f"{run.image_size} px (resized: {run.resize})",
            f"energy by {run.meter['meter']}: {environment.provenance(run.meter)}",
        )
    )
