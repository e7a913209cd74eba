"""What the meter reads: counters where there are some, models for the rest, each saying what it is."""

from __future__ import annotations

import sys

import pytest

from greenml.energy import (
    SensorError,
    nvml,
    rapl,
)


class FakeNvml:
    """GPUs, whose counters can be lost."""

    class NVMLError(Exception):
        pass

    class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801, N818
        pass

    class NVMLError_DriverNotLoaded(NVMLError):  # noqa: N801, N818
        pass

    def __init__(self, millijoules=(1000, 2500), init_error=None, names=("H200", "H200", "H200", "H200")):
        self.millijoules, self._init_error, self._names = list(millijoules), init_error, names

    def nvmlInit(self):  # noqa: N802
        if self._init_error:
            raise self._init_error

    def nvmlDeviceGetCount(self):  # noqa: N802
        return len(self.millijoules)

    def nvmlDeviceGetHandleByIndex(self, number):  # noqa: N802
        return number

    def nvmlDeviceGetName(self, number):  # noqa: N802
        return self._names[number]

    def nvmlDeviceGetUUID(self, number):  # noqa: N802
        return f"GPU-{number}{number}{number}aaaaaaaa"

    def nvmlDeviceGetTotalEnergyConsumption(self, number):  # noqa: N802
        if self.millijoules[number] is None:
            raise self.NVMLError("GPU is lost")
        return self.millijoules[number]


@pytest.fixture
def no_hardware(monkeypatch):
    """A machine without RAPL or an NVIDIA driver, whatever this one has."""
    monkeypatch.setattr(rapl, "open_counters", lambda: None)
    monkeypatch.setattr(nvml, "open_counters", lambda **_: None)


# GPUs


def test_each_gpu_is_counted_and_a_lost_one_is_unknown_not_zero(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", fake := FakeNvml())
    sensor = nvml.NvmlSensor(nvml.open_counters())

    assert sensor.describe() == {"gpus": ["0: H200 (GPU-000aaaaa)", "1: H200 (GPU-111aaaaa)"]}
    assert list(sensor.read().gpus_j) == [1.0, 2.5]
    fake.millijoules[1] = None
    reading = sensor.read()
    assert list(reading.gpus_j) == [1.0, None]
    assert reading.faults == {"gpu 1": "1: H200 (GPU-111aaaaa): GPU is lost"}


@pytest.mark.parametrize(
    "fake",
    [
        FakeNvml(init_error=FakeNvml.NVMLError_LibraryNotFound()),
        FakeNvml(init_error=FakeNvml.NVMLError_DriverNotLoaded()),
        FakeNvml(millijoules=()),
    ],
)
def test_a_machine_without_nvidia_gpus_has_no_counters(monkeypatch, fake):
    monkeypatch.setitem(sys.modules, "pynvml", fake)

    assert nvml.open_counters() is None


def test_a_gpu_without_a_counter_and_a_driver_that_does_not_start_are_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(millijoules=(1000, None)))
    with pytest.raises(nvml.NoCounterError, match="no energy counter on GPU 1: H200"):
        nvml.open_counters()

    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(init_error=FakeNvml.NVMLError("version mismatch")))
    with pytest.raises(SensorError, match="version mismatch"):
        nvml.open_counters()


@pytest.mark.parametrize(
    ("visible", "order", "names", "counted"),
    [
        (None, None, ("A", "A", "A"), [0, 1, 2]),
        ("1", None, ("A", "A", "A"), [1]),
        ("2,0", None, ("A", "A", "A"), [0, 2]),
        ("1", None, ("A", "B", "A"), [0, 1, 2]),  # CUDA counts the fastest first: which one is meant cannot be told
        ("1", "PCI_BUS_ID", ("A", "B", "A"), [1]),
        ("GPU-222", None, ("A", "B", "A"), [2]),
        ("MIG-1/2/3", None, ("A", "A", "A"), [0, 1, 2]),
        ("", None, ("A", "A", "A"), []),
    ],
)
def test_a_process_counts_the_gpus_that_cuda_shows_it(monkeypatch, visible, order, names, counted):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(millijoules=(1, 2, 3), names=names))
    for name, value in (("CUDA_VISIBLE_DEVICES", visible), ("CUDA_DEVICE_ORDER", order)):
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)

    def places(found):
        return [int(name.partition(":")[0]) for name in found.names] if found else []

    assert places(nvml.open_counters(visible_only=True)) == counted
    assert places(nvml.open_counters()) == [0, 1, 2]
