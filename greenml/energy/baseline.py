"""What a machine draws when nothing runs on it: measured by its counters, never modelled."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from greenml.energy.meters import open_sensor
from greenml.energy.sensor import COMPONENTS, SensorError
from greenml.energy.settings import Settings
from greenml.records import Source, total, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from greenml.energy.sensor import Reading

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
        return total(*self.parts_w.values())

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
    sensor = open_sensor(Settings(meter="counters"))
    sensor.start()
    methods = {name: part.method for name, part in sensor.components().items() if part.source is Source.MEASURED}
    if not methods:
        return None
    import psutil

    begin()
    psutil.cpu_percent()  # counts from its last call
    before, began, measured_at = sensor.read(), time.monotonic(), utc_now()
    time.sleep(seconds)
    after, elapsed_s = sensor.read(), time.monotonic() - began
    busy_threads = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
    sensor.stop()
    measured = {name: _used_j(name, before, after) / elapsed_s for name in methods}
    return Baseline(
        parts_w=dict.fromkeys(COMPONENTS) | ({} if has_gpu else {"gpu": 0.0}) | measured,
        method=", ".join(f"{name}: {method}" for name, method in methods.items()),
        seconds=elapsed_s,
        measured_at=measured_at,
        busy_threads=busy_threads,
    )


def _used_j(name: str, before: Reading, after: Reading) -> float:
    first_j, last_j = _joules(name, before), _joules(name, after)
    # Nothing that has a counter draws nothing.
    if first_j is None or last_j is None or last_j <= first_j or name in after.broken:
        raise SensorError(f"the {name} counter stands still, was reset or could not be read")
    return last_j - first_j


def _joules(name: str, reading: Reading) -> float | None:
    """Cumulative; the GPUs come one by one."""
    if name != "gpu" or reading.gpus_j is None:
        return reading.joules.get(name)
    return total(*reading.gpus_j)
