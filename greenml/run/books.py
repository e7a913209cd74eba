"""Fills the joules of epochs in when their phases have settled, which may be a moment after they end."""

from __future__ import annotations

import dataclasses
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from greenml.records import Epoch, Phase, Progress, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from greenml.energy import Meter
    from greenml.run.past import Past

EPOCH_PHASES = frozenset({"train", "validate", "checkpoint"})


class Books:
    """The phases of a run in, its phases and epochs out, each epoch with what it took."""

    def __init__(self, meter: Meter, past: Past | None) -> None:
        self._meter = meter
        self._expected: deque[tuple[Epoch, int]] = deque()
        self._total, self._by_epoch = _Tally(), defaultdict[int | None, _Tally](_Tally)
        self._known_before_j = 0.0
        if past:
            self._total = _Tally(past.cpu_j, past.gpu_j, past.ram_j, past.source)
            self._known_before_j = past.known_j

    def expect(self, epoch: Epoch, last_seq: int) -> None:
        """`epoch` is over but for the joules of its phases up to `last_seq`."""
        self._expected.append((epoch, last_seq))

    def settle(self) -> Iterator[Phase | Epoch]:
        """The phases that have become known, each epoch right after its last."""
        for phase in self._meter.phases():
            self._total.add(phase)
            if phase.name in EPOCH_PHASES:
                self._by_epoch[phase.epoch].add(phase)
            yield phase
            if self._expected and self._expected[0][1] == phase.seq:
                epoch, _ = self._expected.popleft()
                own = self._by_epoch.pop(epoch.epoch)
                yield dataclasses.replace(
                    epoch,
                    cpu_j=own.cpu_j,
                    gpu_j=own.gpu_j,
                    ram_j=own.ram_j,
                    energy_j=own.joules,
                    energy_total_j=self._total.joules,
                    source=self._total.source,
                    energy_source=own.source,
                    error_j=own.error_j,
                )

    def close(self) -> Iterator[Phase | Epoch]:
        """The end of the run: everything that is left."""
        self._meter.finish()
        yield from self.settle()

    def progress(self, what: str, done: int, total: int, epoch: int | None) -> Progress:
        """How far it is, with the power of the last reading and the energy of all lives of the run."""
        joules = self._meter.energy_j()
        return Progress(
            what=what,
            done=done,
            total=total,
            epoch=epoch,
            watts=self._meter.watts(),
            energy_j=None if joules is None else self._known_before_j + joules,
        )


@dataclass(slots=True)
class _Tally:
    """A sum over phases: None once a part is unknown, its source as good as the worst part."""

    cpu_j: float | None = 0.0
    gpu_j: float | None = 0.0
    ram_j: float | None = 0.0
    source: Source = Source.ABSENT
    _stretches: list[tuple[float, float | None]] = field(default_factory=list)
    """The bounds of the first and the last phase of each stretch that has no gap; the last None where it is one."""
    _last_seq: int = -1
    _has_unbounded: bool = False

    def add(self, phase: Phase) -> None:
        self.cpu_j = _sum(self.cpu_j, phase.cpu_j)
        self.gpu_j = _sum(self.gpu_j, phase.gpu_j)
        self.ram_j = _sum(self.ram_j, phase.ram_j)
        self.source = Source.worst([self.source, phase.source])
        self._note_error(phase)

    @property
    def error_j(self) -> float | None:
        """Bound on the error of the sum; None where a part is unknown or without a bound.

        A phase is off by what its two readings are off, and a stretch of phases shares the readings between them: what
        one counts too much the next counts too little. So only the ends of a stretch count, each at most as much as
        its phase.
        """
        if self.joules is None or not self._stretches or self._has_unbounded:
            return None
        return sum(first + (last or 0.0) for first, last in self._stretches)

    def _note_error(self, phase: Phase) -> None:
        if phase.error_j is None:
            self._has_unbounded = True
        elif self._stretches and phase.seq == self._last_seq + 1:
            self._stretches[-1] = (self._stretches[-1][0], phase.error_j)
        else:
            self._stretches.append((phase.error_j, None))
        self._last_seq = phase.seq

    @property
    def joules(self) -> float | None:
        return _sum(self.cpu_j, self.gpu_j, self.ram_j)


def _sum(*parts: float | None) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None
