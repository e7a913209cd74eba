"""What a machine draws when nothing runs on it: measured by its counters, never modelled."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from greenml.energy import nvml, rapl
from greenml.energy.sensor import COMPONENTS, SensorError
from greenml.records import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Counters = TypeVar("Counters")

BUSY_THREADS = 0.5
"""More work than this, in threads kept busy, is not idle. A desktop at rest takes a tenth or two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Mean power over some seconds."""

    parts_w: Mapping[str, float | None]
    """Of `cpu`, `gpu` and `ram`; None for one that no counter counts."""
    method: str
    seconds: float
    measured_at: datetime
    """UTC, naive."""
    busy_threads: float
    """What ran all the same, in threads kept busy."""

    @property
    def watts(self) -> float | None:
        """All of them; None where one is unknown. No counter sees power supply, fans and disks."""
        known = [part for part in self.parts_w.values() if part is not None]
        return sum(known) if len(known) == len(self.parts_w) else None

    @property
    def is_idle(self) -> bool:
        """Whether so little ran that this is worth keeping."""
        return self.busy_threads <= BUSY_THREADS

    def components(self) -> dict[str, object]:
        """What is kept beside `watts`: `cpu_w`, `gpu_w`, `ram_w`, and how they are known."""
        parts_w = {f"{name}_w": watts for name, watts in self.parts_w.items()}
        return {**parts_w, "source": str(Source.MEASURED), "method": self.method}


def measure(seconds: float, *, has_gpu: bool, begin: Callable[[], None] = lambda: None) -> Baseline | None:
    """Read the counters, call `begin`, wait, and read them again; None where none can be read.

    `has_gpu` tells a GPU that nobody counts (None) from one that is not there (0 W). Raises SensorError where there
    are counters, and what they say is no measurement.
    """
    packages, gpus = _readable(rapl.open_counters), _readable(nvml.open_counters)
    if packages is None and gpus is None:
        return None
    begin()
    import psutil

    def read() -> dict[str, float | None]:
        return (packages.read() if packages else {}) | ({"gpu": gpus.read_j()} if gpus else {})

    psutil.cpu_percent()  # counts from its last call
    before, began, measured_at = read(), time.monotonic(), datetime.now(UTC).replace(tzinfo=None)
    time.sleep(seconds)
    after, elapsed_s = read(), time.monotonic() - began
    busy_threads = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
    absent = {} if gpus or has_gpu else {"gpu": 0.0}
    measured = {name: _watts(name, before[name], after[name], elapsed_s) for name in before}
    methods = {name: part.method for name, part in packages.components().items()} if packages else {}
    if gpus:
        methods["gpu"] = f"NVML energy counter of {gpus.num_gpus} GPU{'s' if gpus.num_gpus > 1 else ''}"
    return Baseline(
        parts_w=dict.fromkeys(COMPONENTS) | absent | measured,
        method=", ".join(f"{name}: {method}" for name, method in methods.items()),
        seconds=elapsed_s,
        measured_at=measured_at,
        busy_threads=busy_threads,
    )


def _readable(open_counters: Callable[[], Counters | None]) -> Counters | None:
    """Counters that cannot be read are no counters; `survey` says why."""
    try:
        return open_counters()
    except SensorError:
        return None


def _watts(name: str, before: float | None, after: float | None, seconds: float) -> float:
    # Nothing that has a counter draws nothing.
    if before is None or after is None or after <= before:
        raise SensorError(f"the {name} counter stood still, was reset or could not be read")
    return (after - before) / seconds
