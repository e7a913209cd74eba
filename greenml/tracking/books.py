"""From what a program tells of its epochs, and the phases of its meter, to rows: each epoch with what it took."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from greenml.grid.watch import Mean, mean_of
from greenml.records import Epoch, total
from greenml.tally import Tally
from greenml.tracking.metrics import columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from greenml.goals import Name
    from greenml.records import Phase

GRACE_S = 1.0
"""So long an epoch waits for more lines about itself once it seems complete."""

OF_NO_EPOCH = frozenset({"setup", "test"})
"""Phases that no epoch has to answer for."""

_COLUMNS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "value")
_VALIDATED = frozenset({"val_loss", "val_accuracy", "value"})


@dataclass(slots=True)
class Draft:
    """An epoch as its program tells it, line by line."""

    epoch: int
    figures: dict[Name, float] = field(default_factory=dict)
    schedule_complete: bool = False
    is_open: bool = False
    """Whether its last line told of a step: then it lasts until another epoch begins."""


@dataclass(slots=True)
class _Mark:
    """A boundary of the meter at which one epoch ended, several where they were told of at once, or none."""

    last_seq: int
    drafts: list[Draft]
    told_at: float


class Books:
    """Drafts of epochs and phases in, phases and epochs out.

    An epoch is everything since the epoch before, but for phases that were named set-up or test. Several lines may
    speak of one epoch: it ends with the last of them, and its row waits for what the row before had. Where lines tell
    of steps, the next epoch says which was the last.
    """

    def __init__(self, run_id: str, num_val: int | None, factor: float) -> None:
        """`factor` is the intensity, in g/kWh, of phases that have none of their own."""
        self._run_id, self._num_val = run_id, num_val
        self._mean_told = Mean(factor)
        """The intensity over what is in `_told`."""
        self._marks: deque[_Mark] = deque()
        self._since: list[Phase] = []
        self._told = Tally()
        """Until the last row."""
        self.spent = Tally()
        """Of all phases so far."""
        self._settled_seq = -1
        self._expects: frozenset[str] | None = None
        """The columns that the last row had."""
        self.last_epoch = 0
        """The highest that was told of."""

    def open_draft(self, epoch: int) -> Draft | None:
        """The draft of `epoch`, where it still waits for more lines."""
        drafts = self._marks[-1].drafts if self._marks else []
        return drafts[-1] if drafts and drafts[-1].epoch == epoch else None

    def set_apart(self, last_seq: int) -> None:
        """The phases up to `last_seq` that no epoch has yet are of no epoch."""
        self._marks.append(_Mark(last_seq, [], time.monotonic()))

    def end(self, drafts: Iterable[Draft], last_seq: int) -> None:
        """`drafts` were told of at a boundary of the meter: the phases up to `last_seq` are theirs."""
        new = sorted((draft for draft in drafts if draft.epoch > self.last_epoch), key=lambda draft: draft.epoch)
        if new:
            self._marks.append(_Mark(last_seq, new, time.monotonic()))
            self.last_epoch = new[-1].epoch
        elif self._marks:
            self._marks[-1].last_seq, self._marks[-1].told_at = last_seq, time.monotonic()

    def settle(self, phases: Iterator[Phase], metric: str | None, *, over: bool = False) -> Iterator[Phase | Epoch]:
        """The phases that have become known, and the epochs that are complete, or all that are left."""
        for phase in phases:
            self._since.append(phase)
            self.spent = self.spent.plus(phase)
            self._settled_seq = phase.seq
            yield phase
        while self._marks and self._marks[0].last_seq <= self._settled_seq:
            is_last = len(self._marks) == 1
            if is_last and not over and not self._is_complete(self._marks[0], metric):
                break
            yield from self._rows(self._marks.popleft(), metric)

    def _is_complete(self, mark: _Mark, metric: str | None) -> bool:
        if not mark.drafts:
            return True
        if mark.drafts[-1].is_open or time.monotonic() - mark.told_at < GRACE_S:
            return False
        had = _present(mark.drafts[-1], metric)
        return bool(had & _VALIDATED) if self._expects is None else had >= self._expects

    def _rows(self, mark: _Mark, metric: str | None) -> Iterator[Epoch]:
        stretch = [phase for phase in self._since if phase.seq <= mark.last_seq]
        self._since = self._since[len(stretch) :]
        if mark.drafts:
            self._expects = _present(mark.drafts[-1], metric)
        before, mean_before = self._told, self._mean_told.copy()
        for phase in stretch:
            self._told = self._told.plus(phase)
            self._mean_told.add(phase.joules, phase.g_per_kwh)
        own = [phase for phase in stretch if phase.name not in OF_NO_EPOCH]
        for number, draft in enumerate(mark.drafts, start=1):
            share = number / len(mark.drafts)
            so_far, mean = self._told.after(before, share), self._mean_told.after(mean_before, share)
            yield self._row(draft, own, len(mark.drafts), so_far, mean, metric)

    def _row(self, draft: Draft, own: list[Phase], shares: int, so_far: Tally, mean: Mean, metric: str | None) -> Epoch:
        figures = columns(draft.figures, metric)
        val_accuracy = figures["val_accuracy"]
        used = Tally()
        for phase in own:
            used = used.plus(phase)
        part = used.after(Tally(), 1 / shares)
        return Epoch(
            run_id=self._run_id,
            segment=0,
            epoch=draft.epoch,
            train_loss=figures["train_loss"],
            train_accuracy=figures["train_accuracy"],
            val_loss=figures["val_loss"],
            val_accuracy=val_accuracy,
            val_correct=None if val_accuracy is None or not self._num_val else round(val_accuracy * self._num_val),
            val_count=None if val_accuracy is None else self._num_val,
            lr=figures["lr"],
            duration_s=sum((phase.ended_at - phase.started_at).total_seconds() for phase in own) / shares,
            cpu_j=part.cpu_j,
            gpu_j=part.gpu_j,
            ram_j=part.ram_j,
            energy_j=part.joules,
            energy_total_j=so_far.joules,
            source=so_far.source,
            energy_source=part.source,
            # All of a stretch that was split may be another's.
            error_j=used.error_j if shares == 1 else total(used.error_j, used.joules),
            value=figures["value"],
            schedule_complete=draft.schedule_complete,
            g_per_kwh=mean_of(own, mean.factor).g_per_kwh,
            total_g_per_kwh=mean.g_per_kwh,
        )


def _present(draft: Draft, metric: str | None) -> frozenset[str]:
    figures = columns(draft.figures, metric)
    return frozenset(name for name in _COLUMNS if figures[name] is not None)
