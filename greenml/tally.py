"""What several phases took together: joules, how they are known, and by how much they may be off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from greenml.records import Source, total

if TYPE_CHECKING:
    from greenml.records import Phase


@dataclass(frozen=True, slots=True)
class Tally:
    """A sum over phases: None once a part is unknown, its source as good as the worst part."""

    cpu_j: float | None = 0.0
    gpu_j: float | None = 0.0
    ram_j: float | None = 0.0
    source: Source = Source.ABSENT
    _stretches: tuple[tuple[float, float | None], ...] = ()
    """The bounds of the first and the last phase of each stretch that has no gap; the last None where it is one."""
    _last_seq: int = -1
    _has_unbounded: bool = False

    @property
    def joules(self) -> float | None:
        return total(self.cpu_j, self.gpu_j, self.ram_j)

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

    def plus(self, phase: Phase) -> Tally:
        """With one phase more; phases come in the order of their `seq`."""
        return Tally(
            total(self.cpu_j, phase.cpu_j),
            total(self.gpu_j, phase.gpu_j),
            total(self.ram_j, phase.ram_j),
            Source.worst([self.source, phase.source]),
            self._stretched(phase),
            phase.seq,
            self._has_unbounded or phase.error_j is None,
        )

    def after(self, before: Tally, share: float) -> Tally:
        """What was spent when `share` of the way from `before` to here was gone: split by time, where it is a part.

        What was split has no bound here: all of it may be another's.
        """
        if share == 1:
            return self

        def between(low: float | None, high: float | None) -> float | None:
            return None if low is None or high is None else low + (high - low) * share

        return Tally(
            between(before.cpu_j, self.cpu_j),
            between(before.gpu_j, self.gpu_j),
            between(before.ram_j, self.ram_j),
            Source.worst([self.source, Source.APPORTIONED]),
        )

    def _stretched(self, phase: Phase) -> tuple[tuple[float, float | None], ...]:
        if phase.error_j is None:
            return self._stretches
        if self._stretches and phase.seq == self._last_seq + 1:
            *others, (first, _) = self._stretches
            return (*others, (first, phase.error_j))
        return (*self._stretches, (phase.error_j, None))
