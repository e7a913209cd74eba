"""From what a program tells of its epochs, and the phases of its meter, to rows: each epoch with what it took."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from greenml.records import Epoch, Phase, Source
from greenml.tracking.metrics import columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from greenml.goals import Name

GRACE_S = 1.0
"""So long an epoch waits for more lines about itself once it seems complete."""

OF_NO_EPOCH = frozenset({"setup", "test"})
"""Phases that no epoch has to answer for."""

_COLUMNS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "value")
_VALIDATED = frozenset({"val_loss", "val_accuracy", "value"})


@dataclass(frozen=True, slots=True)
class Spent:
    """A sum over phases: None once a part is unknown, its source as good as the worst part."""

    cpu_j: float | None = 0.0
    gpu_j: float | None = 0.0
    ram_j: float | None = 0.0
    source: Source = Source.ABSENT

    @property
    def joules(self) -> float | None:
        return _sum(self.cpu_j, self.gpu_j, self.ram_j)

    def plus(self, phase: Phase) -> Spent:
        return Spent(
            _sum(self.cpu_j, phase.cpu_j),
            _sum(self.gpu_j, phase.gpu_j),
            _sum(self.ram_j, phase.ram_j),
            Source.worst([self.source, phase.source]),
        )

    def after(self, before: Spent, share: float) -> Spent:
        """What was spent when `share` of the way from `before` to here was gone: split by time, where it is a part."""
        if share == 1:
            return self

        def between(low: float | None, high: float | None) -> float | None:
            return None if low is None or high is None else low + (high - low) * share

        return Spent(
            between(before.cpu_j, self.cpu_j),
            between(before.gpu_j, self.gpu_j),
            between(before.ram_j, self.ram_j),
            Source.worst([self.source, Source.APPORTIONED]),
        )


@dataclass(slots=True)
class Draft:
    """An epoch as its program tells it, line by line."""

    epoch: int
    figures: dict[Name, float] = field(default_factory=dict)
    schedule_complete: bool = False


@dataclass(slots=True)
class _Mark:
    """A boundary of the meter at which one epoch ended, several where they were told of at once, or none."""

    last_seq: int
    drafts: list[Draft]
    told_at: float


class Books:
    """Drafts of epochs and phases in, phases and epochs out.

    An epoch is everything since the epoch before, but for phases that were named set-up or test. Several lines may
    speak of one epoch: it ends with the last of them, and its row waits for what the row before had.
    """

    def __init__(self, run_id: str, num_val: int | None) -> None:
        self._run_id, self._num_val = run_id, num_val
        self._marks: deque[_Mark] = deque()
        self._since: list[Phase] = []
        self._told = Spent()
        """Until the last row."""
        self.spent = Spent()
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
        if time.monotonic() - mark.told_at < GRACE_S:
            return False
        had = _present(mark.drafts[-1], metric)
        return bool(had & _VALIDATED) if self._expects is None else had >= self._expects

    def _rows(self, mark: _Mark, metric: str | None) -> Iterator[Epoch]:
        stretch = [phase for phase in self._since if phase.seq <= mark.last_seq]
        self._since = self._since[len(stretch) :]
        if mark.drafts:
            self._expects = _present(mark.drafts[-1], metric)
        before = self._told
        for phase in stretch:
            self._told = self._told.plus(phase)
        own = [phase for phase in stretch if phase.name not in OF_NO_EPOCH]
        for number, draft in enumerate(mark.drafts, start=1):
            so_far = self._told.after(before, number / len(mark.drafts))
            yield self._row(draft, own, len(mark.drafts), so_far, metric)

    def _row(self, draft: Draft, own: list[Phase], shares: int, so_far: Spent, metric: str | None) -> Epoch:
        figures = columns(draft.figures, metric)
        val_accuracy = figures["val_accuracy"]
        used = Spent()
        for phase in own:
            used = used.plus(phase)
        part = used.after(Spent(), 1 / shares)
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
            error_j=_error_j(own, shares),
            value=figures["value"],
            schedule_complete=draft.schedule_complete,
        )


def _present(draft: Draft, metric: str | None) -> frozenset[str]:
    figures = columns(draft.figures, metric)
    return frozenset(name for name in _COLUMNS if figures[name] is not None)


def _error_j(own: list[Phase], shares: int) -> float | None:
    """A counter's error sits at the two ends of a stretch; of a stretch that was split, all of it may be another's."""
    bounds = [phase.error_j for phase in own if phase.error_j is not None]
    if not bounds:
        return None
    ends = bounds[0] + bounds[-1]
    joules = _sum(*(phase.joules for phase in own))
    return ends if shares == 1 or joules is None else ends + joules


def _sum(*parts: float | None) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None
