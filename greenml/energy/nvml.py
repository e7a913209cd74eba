"""The energy counters of NVIDIA GPUs, read directly: what every board of this machine has used."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from greenml.energy.sensor import Component, Reading, SensorError
from greenml.records import Source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PERIOD_S = 0.1
"""The counters tick about every 100 ms."""


class NoCounterError(SensorError):
    """A GPU that has no energy counter (before Volta, and in some virtual machines), and says so."""


class NvmlCounters:
    """The counters of GPUs, one by one, whoever works on them."""

    def __init__(self, nvml: Any, handles: Sequence[Any], names: Sequence[str]) -> None:
        self._nvml, self._handles = nvml, handles
        self.names = list(names)
        """Index, name and the first digits of the unique id of each."""

    @property
    def num_gpus(self) -> int:
        """GPUs that are counted."""
        return len(self._handles)

    def check(self) -> None:
        """Read each once. Raises SensorError where one does not answer, NoCounterError where one has no counter."""
        without = []
        for name, handle in zip(self.names, self._handles, strict=True):
            try:
                self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            except self._nvml.NVMLError_NotSupported:
                without.append(name)
            except self._nvml.NVMLError as error:
                raise SensorError(f"GPU {name} cannot be read: {error}") from error
        if without:
            raise NoCounterError(f"no energy counter on GPU {without[0]}")

    def read(self) -> list[float | None]:
        """Joules of each since its driver was loaded; None for one that does not answer."""
        return [self._read(handle)[0] for handle in self._handles]

    def faults(self) -> dict[int, str]:
        """Why some do not answer, by their place in `names`."""
        answers = enumerate(self._read(handle) for handle in self._handles)
        return {place: f"{self.names[place]}: {fault}" for place, (_, fault) in answers if fault is not None}

    def _read(self, handle: Any) -> tuple[float | None, str | None]:
        try:
            return self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000, None
        except self._nvml.NVMLError as error:
            return None, str(error)


class NvmlSensor:
    """All GPUs of a machine, each for itself; a lost one is unknown and takes no other with it."""

    min_interval_s = 1.2 * PERIOD_S
    """A tick at least between two readings."""

    def __init__(self, counters: NvmlCounters) -> None:
        self._counters = counters

    def start(self) -> None:
        """The counters run anyway."""

    def components(self) -> Mapping[str, Component]:
        number = self._counters.num_gpus
        method = "NVML energy counter" if number == 1 else f"NVML energy counters of {number} GPUs"
        return {"gpu": Component(Source.MEASURED, method, PERIOD_S)}

    def describe(self) -> dict[str, object]:
        return {"gpus": self._counters.names}

    def read(self) -> Reading:
        joules = self._counters.read()
        lost = self._counters.faults() if None in joules else {}
        return Reading({}, joules, faults={f"gpu {place}": fault for place, fault in lost.items()})

    def stop(self) -> None:
        """Whoever else uses NVML in this process still needs it."""


def open_counters(*, visible_only: bool = False) -> NvmlCounters | None:
    """The counters of this machine's GPUs; None where it has no NVIDIA GPU, none of them where all are left out.

    `visible_only` leaves out those that CUDA_VISIBLE_DEVICES hides from this process, where it says so without doubt:
    by unique id, or by number where CUDA counts as NVML does (CUDA_DEVICE_ORDER=PCI_BUS_ID, or all of one kind).

    Raises SensorError where a driver is there and does not answer, NoCounterError where a GPU has no counter.
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
        names = [_text(pynvml.nvmlDeviceGetName(handle)) for handle in handles]
        ids = [_text(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    except pynvml.NVMLError as error:
        raise SensorError(f"a GPU does not answer: {error}") from error
    places = _visible(names, ids) if visible_only else range(len(handles))
    counters = NvmlCounters(
        pynvml,
        [handles[place] for place in places],
        [f"{place}: {names[place]} ({ids[place][:12]})" for place in places],
    )
    counters.check()
    return counters if handles else None


def visible_ids() -> list[str]:
    """The unique ids of the GPUs that CUDA shows this process; none where there is no NVIDIA GPU that answers."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        names = [_text(pynvml.nvmlDeviceGetName(handle)) for handle in handles]
        ids = [_text(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    except pynvml.NVMLError:
        return []
    return [ids[place] for place in _visible(names, ids)]


def _visible(names: Sequence[str], ids: Sequence[str]) -> Sequence[int]:
    """The places of the GPUs that CUDA shows this process; all of them where that cannot be told.

    CUDA stops at the first entry that names no GPU: -1 hides all, and `0,-1,1` all but the first.
    """
    everything, asked = range(len(names)), os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is None:
        return everything
    counts_alike = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len(set(names)) == 1
    places = set()
    for word in map(str.strip, asked.split(",")):
        if word.startswith("MIG-") or (word.isdecimal() and not counts_alike):
            return everything
        is_id = word.startswith("GPU-")
        found = [place for place, unique in enumerate(ids) if word == str(place) or (is_id and unique.startswith(word))]
        if len(found) != 1:
            break
        places.add(found[0])
    return sorted(places)


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
