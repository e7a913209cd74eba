"""Fills the joules of epochs in when their phases have settled, which may be a moment after they end."""

from __future__ import annotations

import dataclasses
from collections import defaultdict, deque
from typing import TYPE_CHECKING

from greenml.records import Epoch, Phase, Progress
from greenml.tally import Tally

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
        self._total, self._by_epoch = Tally(), defaultdict[int | None, Tally](Tally)
        self._known_before_j = 0.0
        if past:
            self._total = Tally(past.cpu_j, past.gpu_j, past.ram_j, past.source)
            self._known_before_j = past.known_j

    def expect(self, epoch: Epoch, last_seq: int) -> None:
        """`epoch` is over but for the joules of its phases up to `last_seq`."""
        self._expected.append((epoch, last_seq))

    def settle(self) -> Iterator[Phase | Epoch]:
        """The phases that have become known, each epoch right after its last."""
        for phase in self._meter.phases():
            self._total = self._total.plus(phase)
            if phase.name in EPOCH_PHASES:
                self._by_epoch[phase.epoch] = self._by_epoch[phase.epoch].plus(phase)
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
