"""The energy counters of NVIDIA GPUs, read directly: what every board of this machine has used."""

from __future__ import annotations

from typing import Any

from greenml.energy.sensor import SensorError

PERIOD_S = 0.1
"""The counters tick about every 100 ms."""


class NvmlCounters:
    """The sum of the counters of all GPUs that NVML shows, whoever works on them."""

    def __init__(self, nvml: Any, handles: list[Any]) -> None:
        self._nvml, self._handles = nvml, handles

    @property
    def num_gpus(self) -> int:
        """GPUs that are counted."""
        return len(self._handles)

    def read_j(self) -> float | None:
        """Joules since the drivers were loaded; None where one of the counters did not answer."""
        try:
            return float(sum(map(self._nvml.nvmlDeviceGetTotalEnergyConsumption, self._handles))) / 1000
        except self._nvml.NVMLError:
            return None


def open_counters() -> NvmlCounters | None:
    """The counters of this machine; None where it has no NVIDIA GPU, or one without a counter (before Volta).

    Raises SensorError where a driver is there and does not answer.
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return None
    except pynvml.NVMLError as error:
        raise SensorError(f"NVML does not start: {error}") from error
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        counters = NvmlCounters(pynvml, handles)
    except pynvml.NVMLError as error:
        raise SensorError(f"a GPU does not answer: {error}") from error
    return counters if handles and counters.read_j() is not None else None
