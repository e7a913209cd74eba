"""What a meter reads: cumulative joules per component, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from greenml.records import Source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
    """How often the counter ticks; None where there is no counter, or nobody says."""
    scope: str = "machine"
    """`machine`, or `process` where it is the share of one process tree."""
    constants: Mapping[str, object] = field(default_factory=dict)
    """What a model was given, and where that is from: `tdp_w` (a TDP that is not here was not used), `tdp_origin`,
    `power_w`, ..."""
    idle_w: float | None = None
    """What a power model gives where nothing runs; None for everything else."""

    @property
    def is_bounded(self) -> bool:
        """Whether the error of its joules has a bound: a counter's has, a model's and a convention's have none."""
        counted = self.source in (Source.MEASURED, Source.APPORTIONED)
        return counted and self.scope == "machine" and self.period_s is not None


@dataclass(frozen=True, slots=True)
class Reading:
    """Cumulative joules since any moment before the first reading."""

    joules: Mapping[str, float | None]
    """By component; None for one that cannot be read, and where the GPUs are read one by one."""
    gpus_j: Sequence[float | None] | None = None
    """Of each GPU, as many in every reading; None where they are not told apart."""
    broken: frozenset[str] = frozenset()
    """Components that have lost joules since the last reading, so that no difference across it holds. A counter that
    goes backwards need not be named."""
    faults: Mapping[str, str] = field(default_factory=dict)
    """Why a component could not be read, in words."""


class Sensor(Protocol):
    """A source of readings. Only ever touched by the one thread that measures."""

    @property
    def min_interval_s(self) -> float:
        """Readings closer together than this say nothing: a tick of the slowest counter at least."""

    def start(self) -> None:
        """Begin to count. Raises SensorError."""

    def components(self) -> Mapping[str, Component]:
        """How the components that it reads are known; fixed once it has started."""

    def describe(self) -> dict[str, object]:
        """For the record: `meter`, its name and version; `gpus`, where they are read one by one; `ignored`, what was
        asked for and has no effect; `scope`, where it is not the machine; `replayed`, true where the power is that of
        something else."""

    def read(self) -> Reading:
        """Raises SensorError where nothing at all could be read."""

    def stop(self) -> None:
        """Let go of the hardware."""
