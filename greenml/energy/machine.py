"""A whole machine as one sensor: hardware counters where they can be read, a model of the rest where one is asked."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from greenml.energy import nvml, rapl
from greenml.energy.sensor import COMPONENTS, Component, Reading, Sensor, SensorError
from greenml.records import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from greenml.energy.rapl import RaplCounters

RAPL_INTERVAL_S = 0.05
"""Fifty ticks of the counter between two readings."""

UNREADABLE = "RAPL is there, but unreadable: see greenml doctor"


class RaplSensor:
    """The processor's counters, and the memory's where it has some."""

    min_interval_s = RAPL_INTERVAL_S

    def __init__(self, counters: RaplCounters) -> None:
        self._counters = counters

    def start(self) -> None:
        """The counters run anyway."""

    def components(self) -> Mapping[str, Component]:
        return self._counters.components()

    def describe(self) -> dict[str, object]:
        return {}

    def read(self) -> Reading:
        joules = self._counters.read()
        return Reading(joules, faults={name: "RAPL did not answer" for name, value in joules.items() if value is None})

    def stop(self) -> None:
        """Nothing is held open."""


class MachineSensor:
    """RAPL and NVML where they can be read; of what is left, what `model` knows.

    `model` is called with the names of the components that are left and gives a sensor for them. Without one they are
    unknown, a GPU that NVML does not show absent. A part that fails takes no other with it.
    """

    def __init__(
        self,
        name: str,
        model: Callable[[frozenset[str]], Sensor] | None = None,
        *,
        visible_only: bool = False,
    ) -> None:
        """`visible_only`: of the GPUs, those that CUDA_VISIBLE_DEVICES leaves to this process."""
        self.min_interval_s = RAPL_INTERVAL_S
        self._name, self._model, self._visible_only = name, model, visible_only
        self._parts: list[Sensor] = []
        self._components = {name: Component(Source.UNKNOWN, "the meter did not start") for name in COMPONENTS}

    def start(self) -> None:
        """Find the counters, begin to count. Raises SensorError where nothing at all can be read."""
        known: dict[str, Component] = {}
        rapl_fault = self._add_rapl(known)
        self._add_nvml(known)
        left = frozenset(COMPONENTS) - known.keys()
        if self._model and left:
            self._add_model(self._model(left), known, left)
            if rapl_fault and known["cpu"].source is not Source.UNKNOWN:
                method = f"{known['cpu'].method}; {UNREADABLE}"
                known["cpu"] = dataclasses.replace(known["cpu"], method=method)
        else:
            without = {
                "cpu": Component(Source.UNKNOWN, rapl_fault or "no counter of the processor (RAPL) on this machine"),
                "gpu": Component(Source.ABSENT, "no GPU that NVML shows"),
                "ram": Component(Source.UNKNOWN, "no counter of the memory on this machine"),
            }
            known |= {name: without[name] for name in left}
        self._components = known
        self.min_interval_s = max((part.min_interval_s for part in self._parts), default=self.min_interval_s)

    def components(self) -> Mapping[str, Component]:
        return self._components

    def describe(self) -> dict[str, object]:
        described: dict[str, object] = {}
        for part in self._parts:
            described |= part.describe()
        return described | {"meter": self._name}

    def read(self) -> Reading:
        """Everything at once; what fails is None, with its reason."""
        joules: dict[str, float | None] = {
            name: 0.0 if part.source is Source.ABSENT else None for name, part in self._components.items()
        }
        gpus_j, broken, faults = None, frozenset[str](), dict[str, str]()
        for part in self._parts:
            try:
                reading = part.read()
            except SensorError as error:
                faults |= dict.fromkeys(part.components(), str(error))
                continue
            joules |= reading.joules
            gpus_j = reading.gpus_j if gpus_j is None else gpus_j
            broken |= reading.broken
            faults |= reading.faults
        return Reading(joules, gpus_j, broken, faults)

    def stop(self) -> None:
        for part in self._parts:
            part.stop()

    def _add_rapl(self, known: dict[str, Component]) -> str | None:
        """Take RAPL in; why it is there and cannot be read, in words."""
        try:
            counters = rapl.open_counters()
        except SensorError as error:
            return str(error)
        if counters:
            self._add(RaplSensor(counters), known)
        return None

    def _add_nvml(self, known: dict[str, Component]) -> None:
        try:
            counters = nvml.open_counters(visible_only=self._visible_only)
        except nvml.NoCounterError as error:
            if not self._model:  # which may still poll its power
                known["gpu"] = Component(Source.UNKNOWN, str(error))
        except SensorError as error:
            known["gpu"] = Component(Source.UNKNOWN, str(error))
        else:
            if counters and not counters.num_gpus:
                known["gpu"] = Component(Source.ABSENT, "no GPU that CUDA shows this process")
            elif counters:
                self._add(nvml.NvmlSensor(counters), known)

    def _add_model(self, model: Sensor, known: dict[str, Component], left: frozenset[str]) -> None:
        try:
            model.start()
        except SensorError as error:
            known |= {name: Component(Source.UNKNOWN, str(error)) for name in left}
        else:
            self._parts.insert(0, model)  # counters are read last, next to the moment that is noted
            known |= {name: model.components()[name] for name in left}

    def _add(self, part: Sensor, known: dict[str, Component]) -> None:
        part.start()
        self._parts.append(part)
        known |= part.components()
