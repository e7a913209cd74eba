"""A meter that replays what it is given: for tests, and for asking what another machine would have said."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from greenml.energy.sensor import Component, Reading, SensorError
from greenml.records import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class ReplaySensor:
    """Answers with `joules(component, seconds)`, cumulative; `constant(cpu=10.0, ...)` is the usual case.

    After `broken_after` readings it fails, as a sensor does whose driver went away.
    """

    def __init__(
        self,
        joules: Callable[[str, float], float | None] | None = None,
        *,
        sources: Mapping[str, Source] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        min_interval_s: float = 0.05,
        broken_after: int | None = None,
    ) -> None:
        self._joules = joules or constant(cpu=10.0, gpu=0.0, ram=2.0)
        self._sources = {"cpu": Source.MEASURED, "gpu": Source.ABSENT, "ram": Source.ESTIMATED} | dict(sources or {})
        self._clock = clock
        self._broken_after = broken_after
        self._num_reads = 0
        self.min_interval_s = min_interval_s

    def start(self) -> None:
        self._started = self._clock()

    def components(self) -> Mapping[str, Component]:
        return {
            name: Component(source, "replayed", 0.001 if source is Source.MEASURED else None)
            for name, source in self._sources.items()
        }

    def describe(self) -> dict[str, str]:
        return {"meter": "replay"}

    def read(self) -> Reading:
        self._num_reads += 1
        if self._broken_after is not None and self._num_reads > self._broken_after:
            raise SensorError("the replay ends here")
        seconds = self._clock() - self._started
        return Reading(*(self._joules(name, seconds) for name in ("cpu", "gpu", "ram")))

    def stop(self) -> None:
        pass


def constant(**watts: float) -> Callable[[str, float], float | None]:
    """Constant watts per component -> cumulative joules."""
    return lambda component, seconds: watts[component] * seconds
