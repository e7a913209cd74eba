"""What a meter reads: cumulative joules per component, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from greenml.records import Source

COMPONENTS = ("cpu", "gpu", "ram")


class SensorError(Exception):
    """A reading that did not come. The meter carries on and labels what it lost."""


@dataclass(frozen=True, slots=True)
class Component:
    """How the joules of one component are known."""

    source: Source
    method: str
    """In words: "NVML energy counter", "load model, 8 W TDP"."""
    period_s: float | None = None
    """How often the counter ticks; None where there is no counter."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Cumulative joules since the sensor started; None for a component that cannot be read."""

    cpu_j: float | None
    gpu_j: float | None
    ram_j: float | None


class Sensor(Protocol):
    """A source of readings. Only ever touched by the one thread that measures."""

    min_interval_s: float
    """Readings closer together than this say nothing."""

    def start(self) -> None:
        """Begin to count. Raises SensorError."""

    def components(self) -> Mapping[str, Component]:
        """How `cpu`, `gpu` and `ram` are known, as of now."""

    def describe(self) -> dict[str, str]:
        """Name and version of the meter, for the record."""

    def read(self) -> Reading:
        """Raises SensorError."""

    def stop(self) -> None:
        """Let go of the hardware."""
