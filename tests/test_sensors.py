"""What the meter reads: counters where there are some, models for the rest, each saying what it is."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from greenml.energy import Component, Reading, SensorError, Settings, codecarbon, nvml, open_meter, rapl
from greenml.energy.codecarbon import CodeCarbonSensor
from greenml.energy.idle import idle_watts
from greenml.energy.machine import MachineSensor
from greenml.energy.meters import open_sensor, register_meter
from greenml.energy.replay import ReplaySensor
from greenml.errors import UsageError
from greenml.records import Source


class FakeNvml:
    """GPUs, whose counters can be lost."""

    class NVMLError(Exception):
        pass

    class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801, N818
        pass

    class NVMLError_DriverNotLoaded(NVMLError):  # noqa: N801, N818
        pass

    class NVMLError_NotSupported(NVMLError):  # noqa: N801, N818
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
        if isinstance(self.millijoules[number], Exception):
            raise self.millijoules[number]
        return self.millijoules[number]


NO_COUNTER = FakeNvml.NVMLError_NotSupported("Not Supported")


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
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(millijoules=(1000, NO_COUNTER)))
    with pytest.raises(nvml.NoCounterError, match="no energy counter on GPU 1: H200"):
        nvml.open_counters()

    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(init_error=FakeNvml.NVMLError("version mismatch")))
    with pytest.raises(SensorError, match="version mismatch"):
        nvml.open_counters()


@pytest.mark.parametrize("joules", [(1000, None), (NO_COUNTER, None)])
def test_a_gpu_that_is_lost_from_the_start_is_unknown_and_polled_by_no_model(no_hardware, monkeypatch, joules):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(millijoules=joules))
    monkeypatch.setattr(nvml, "open_counters", OPEN_NVML)
    asked = []
    sensor = MachineSensor("CodeCarbon", lambda wanted: asked.append(wanted) or models(wanted))
    sensor.start()

    assert asked == [{"cpu", "ram"}]
    words = "GPU 1: H200 (GPU-111aaaaa) cannot be read: GPU is lost"
    assert sensor.components()["gpu"] == Component(Source.UNKNOWN, words)


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
        ("1,MIG-1/2/3", None, ("A", "A", "A"), [0, 1, 2]),
        ("", None, ("A", "A", "A"), []),
        ("-1", None, ("A", "B", "A"), []),  # CUDA stops at the first entry that names no GPU
        ("NoDevFiles", None, ("A", "A", "A"), []),
        ("0,-1,1", None, ("A", "A", "A"), [0]),
        ("2,3,1", None, ("A", "A", "A"), [2]),
        ("GPU-222,GPU-9,0", None, ("A", "A", "A"), [2]),
        ("GPU-,0", None, ("A", "A", "A"), []),
    ],
)
def test_a_process_counts_the_gpus_that_cuda_shows_it(monkeypatch, visible, order, names, counted):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(millijoules=(1, 2, 3), names=names))
    for name, value in (("CUDA_VISIBLE_DEVICES", visible), ("CUDA_DEVICE_ORDER", order)):
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)

    def places(found):
        return [int(name.partition(":")[0]) for name in found.names]

    assert places(nvml.open_counters(visible_only=True)) == counted
    assert places(nvml.open_counters()) == [0, 1, 2]


def test_gpus_that_are_all_hidden_are_absent_and_left_to_no_model(no_hardware, monkeypatch):
    monkeypatch.setattr(nvml, "open_counters", lambda **_: nvml.NvmlCounters(None, [], []))
    asked = []
    sensor = MachineSensor("CodeCarbon", lambda wanted: asked.append(wanted) or models(wanted), visible_only=True)
    sensor.start()

    assert asked == [{"cpu", "ram"}]
    assert sources(sensor)["gpu"] == "absent"
    assert sensor.read().joules["gpu"] == 0


# A machine made of several


class FakeRapl:
    def __init__(self, joules, ram=False):
        self.joules, self._names = joules, ("cpu", "ram") if ram else ("cpu",)

    def read(self):
        return {name: self.joules.get(name) for name in self._names}

    def components(self):
        return {name: Component(Source.MEASURED, "RAPL energy counter", 0.001) for name in self._names}


def models(wanted):
    """A model of what is wanted: 10 W each, a GPU absent."""
    sensor = ReplaySensor(lambda *_: 1.0, sources=dict.fromkeys(wanted, Source.ESTIMATED) | {"gpu": Source.ABSENT})
    sensor.components = lambda every=sensor.components: {name: every()[name] for name in wanted}
    sensor.read = lambda: Reading(dict.fromkeys(wanted, 1.0))
    return sensor


def failing(step):
    """The same, whose `step` is never answered."""

    def refuse():
        raise SensorError("CodeCarbon did not answer")

    def opened(wanted):
        sensor = models(wanted)
        setattr(sensor, step, refuse)
        return sensor

    return opened


def sources(sensor):
    return {name: str(part.source) for name, part in sensor.components().items()}


def test_counters_are_read_where_there_are_some_and_the_model_for_the_rest(no_hardware, monkeypatch):
    monkeypatch.setattr(rapl, "open_counters", lambda: FakeRapl({"cpu": 7.0}))
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    monkeypatch.setattr(nvml, "open_counters", OPEN_NVML)
    asked = []
    sensor = MachineSensor("CodeCarbon", lambda wanted: asked.append(wanted) or models(wanted))
    sensor.start()

    assert asked == [{"ram"}]
    assert sources(sensor) == {"cpu": "measured", "gpu": "measured", "ram": "estimated"}
    reading = sensor.read()
    assert (reading.joules["cpu"], list(reading.gpus_j), reading.joules["ram"]) == (7.0, [1.0, 2.5], 1.0)
    assert sensor.min_interval_s == nvml.NvmlSensor.min_interval_s


OPEN_NVML = nvml.open_counters


def test_a_part_that_fails_takes_no_other_with_it(no_hardware, monkeypatch):
    monkeypatch.setattr(rapl, "open_counters", lambda: FakeRapl({}))
    sensor = MachineSensor("CodeCarbon", failing("read"))
    sensor.start()
    reading = sensor.read()

    assert reading.joules == {"cpu": None, "gpu": 0.0, "ram": None}
    assert reading.faults["cpu"] == "RAPL did not answer"
    assert reading.faults["ram"] == "CodeCarbon did not answer"


def unreadable():
    raise SensorError("RAPL is there and cannot be read: energy_uj: Permission denied")


def test_rapl_that_cannot_be_read_is_said_beside_the_model(no_hardware, monkeypatch):
    monkeypatch.setattr(rapl, "open_counters", unreadable)
    sensor = MachineSensor("CodeCarbon", models)
    sensor.start()

    cpu = sensor.components()["cpu"]
    assert cpu.source is Source.ESTIMATED
    assert cpu.method.endswith("; RAPL is there, but unreadable: see greenml doctor")


def test_counters_alone_leave_the_rest_unknown_and_import_no_codecarbon(no_hardware, monkeypatch):
    sensor = open_sensor(Settings(meter="counters"))
    sensor.start()
    assert sources(sensor) == {"cpu": "unknown", "gpu": "absent", "ram": "unknown"}

    monkeypatch.setattr(rapl, "open_counters", unreadable)
    sensor = open_sensor(Settings(meter="counters"))
    sensor.start()
    assert "Permission denied" in sensor.components()["cpu"].method

    monkeypatch.setattr(rapl, "open_counters", lambda: FakeRapl({}, ram=True))
    sensor = open_sensor(Settings(meter="counters"))
    sensor.start()
    assert sources(sensor) == {"cpu": "measured", "gpu": "absent", "ram": "measured"}


def test_a_driver_without_an_answer_is_unknown_and_a_gpu_without_a_counter_is_left_to_the_model(
    no_hardware, monkeypatch
):
    def silent(**_):
        raise SensorError("NVML does not start: version mismatch")

    def old(**_):
        raise nvml.NoCounterError("no energy counter on GPU 0: P100")

    for opened, model, asked in ((silent, models, {"cpu", "ram"}), (old, models, {"cpu", "gpu", "ram"})):
        wanted = []
        monkeypatch.setattr(nvml, "open_counters", opened)
        sensor = MachineSensor("CodeCarbon", lambda left, found=wanted, model=model: found.append(left) or model(left))
        sensor.start()
        assert wanted == [asked]
    sensor = MachineSensor("hardware counters")
    sensor.start()
    assert sensor.components()["gpu"] == Component(Source.UNKNOWN, "no energy counter on GPU 0: P100")


def test_a_model_that_does_not_start_leaves_its_components_unknown(no_hardware):
    sensor = MachineSensor("CodeCarbon", failing("start"))
    sensor.start()

    assert set(sources(sensor).values()) == {"unknown"}


# CodeCarbon, on machines that this one is not


def hardware(kind, **fields):
    """One of CodeCarbon's own objects, with the fields that it would have on such a machine."""
    from codecarbon.external import hardware as parts
    from codecarbon.external.ram import RAM

    made = object.__new__({"RAM": RAM}.get(kind) or getattr(parts, kind))
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


def cpu(mode, tdp=65, **fields):
    return hardware("CPU", _mode=mode, _tdp=tdp, _is_generic_tdp=False, _model="EPYC", **fields)


def gpu(*kinds, polled=False):
    from codecarbon.core import gpu as devices

    made = [object.__new__(getattr(devices, kind)) for kind in kinds]
    for device in made:
        device._use_power_fallback = polled
    return hardware("GPU", devices=SimpleNamespace(devices=made), num_gpus=len(made), gpu_ids=[0])


class FakeTracker:
    """CodeCarbon with other hardware, and energies that are set."""

    parts = ()
    energies = SimpleNamespace(cpu_energy=0.0, gpu_energy=0.0, ram_energy=0.0)
    is_mute = False

    def __init__(self, output_handlers, **_):
        self._handler, self._conf = output_handlers[0], {"cpu_count": 8, "cpu_physical_count": 1}
        self._hardware, self._scheduler_monitor_power = list(self.parts), None

    def start(self):
        pass

    def flush(self):
        if not self.is_mute:
            self._handler.out(self.energies, None)

    def stop(self):
        pass


@pytest.fixture
def tracker(monkeypatch):
    import codecarbon as package

    energies = SimpleNamespace(cpu_energy=1.0, gpu_energy=1.0, ram_energy=1.0)
    fake = type("Tracker", (FakeTracker,), {"energies": energies})
    monkeypatch.setattr(package, "OfflineEmissionsTracker", fake)
    return fake


def known(tracker, *parts, **asked):
    tracker.parts = parts
    sensor = CodeCarbonSensor(**asked)
    sensor.start()
    return sensor


LABELS = [
    (lambda: cpu("cpu_load"), "cpu", "estimated", "load model, 65 W TDP listed for this CPU", 6.5),
    (lambda: cpu("cpu_load", tdp=32), "cpu", "estimated", "load model, 32 W TDP assumed for an unlisted CPU", 3.2),
    (lambda: cpu("constant"), "cpu", "estimated", "constant, 65 W TDP listed for this CPU", 32.5),
    (lambda: cpu("intel_rapl"), "cpu", "measured", "RAPL energy counter, read by CodeCarbon", None),
    (lambda: cpu("windows_emi"), "cpu", "measured", "Windows energy meter (RAPL), read by CodeCarbon", None),
    (lambda: cpu("intel_power_gadget"), "cpu", "estimated", "Intel Power Gadget, power for 1 s", None),
    (lambda: hardware("AppleSiliconChip", chip_part="CPU"), "cpu", "estimated", "Apple's power estimate", None),
    (lambda: hardware("AppleSiliconChip", chip_part="GPU"), "gpu", "estimated", "Apple's power estimate", None),
    (lambda: hardware("Raspberry", chip_part="CPU"), "cpu", "estimated", "supply rails (PMIC)", None),
    (lambda: hardware("Raspberry", chip_part="RAM"), "ram", "estimated", "supply rails (PMIC)", None),
    (lambda: gpu("AMDGPUDevice"), "gpu", "measured", "AMD energy counter, read by CodeCarbon", None),
    (lambda: gpu("AMDGPUDevice", polled=True), "gpu", "estimated", "GPU power polled by CodeCarbon", None),
    (lambda: gpu("NvidiaGPUDevice", "NvidiaGPUDevice", polled=True), "gpu", "estimated", "GPU powers of 2 GPUs", None),
    (lambda: gpu(), "gpu", "unknown", "a GPU driver without a GPU that answers", None),
]


@pytest.mark.parametrize(("part", "name", "source", "method", "idle_w"), LABELS)
def test_what_codecarbon_finds_is_called_what_it_is(tracker, part, name, source, method, idle_w):
    found = known(tracker, part()).components()[name]

    assert (str(found.source), found.idle_w) == (source, pytest.approx(idle_w) if idle_w else None)
    assert method in found.method


def test_a_machine_without_a_gpu_has_none_and_a_processor_that_is_not_found_is_unknown(tracker):
    found = sources(known(tracker))

    assert found == {"cpu": "unknown", "gpu": "absent", "ram": "unknown"}


def test_the_tdp_that_is_given_is_the_one_of_the_load_model_and_replaces_no_counter(tracker):
    modelled = cpu("cpu_load")
    sensor = known(tracker, modelled, tdp_w=100.0)
    assert modelled._tdp == 100.0
    part = sensor.components()["cpu"]
    assert part.constants == {"tdp_w": 100.0, "tdp_origin": "given by --tdp"}
    assert part.idle_w == 10.0

    counted = cpu("intel_rapl")
    sensor = known(tracker, counted, tdp_w=100.0)
    assert (counted._tdp, sources(sensor)["cpu"]) == (65, "measured")


def test_a_tdp_that_nothing_is_reckoned_with_is_said_whatever_the_meter(tmp_path, no_hardware, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "watts.csv").write_text("seconds,cpu_w,gpu_w,ram_w\n0,10,0,5")
    monkeypatch.setattr("greenml.energy.codecarbon.ignored_settings", dict)
    counted = MachineSensor("all counted", lambda wanted: pytest.fail("nothing is left"))
    register_meter("all-counted", usage="all-counted")(lambda argument, settings: counted)

    def said(name, tdp_w=65.0):
        with open_meter("a", settings=Settings(meter=name, tdp_w=tdp_w)) as meter:
            meter.wait_until_ready()
            assert meter.describe()["ignored"] == list(filter(None, [meter.unused_tdp]))
            return meter.unused_tdp

    why = "tdp 65: the CPU is not metered by a model that takes one"
    assert said(f"replay:{tmp_path / 'watts.csv'}") == f"{why} (replayed from watts.csv)"
    assert said(f"replay:{tmp_path / 'watts.csv'}", None) is None
    assert said("counters") == f"{why} (no counter of the processor (RAPL) on this machine)"
    monkeypatch.setattr(rapl, "open_counters", lambda: FakeRapl({"cpu": 7.0, "ram": 1.0}, ram=True))
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    monkeypatch.setattr(nvml, "open_counters", OPEN_NVML)
    assert said("all-counted") == f"{why} (RAPL energy counter)"


def test_a_tdp_that_the_load_model_has_is_no_ignored_one(tracker, no_hardware, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tracker.parts = (cpu("cpu_load"),)
    for scope in ("machine", "process"):
        with open_meter("a", settings=Settings(tdp_w=100.0, scope=scope)) as meter:
            meter.wait_until_ready()
            assert meter.unused_tdp is None


@pytest.mark.parametrize("mode", ["cpu_load", "constant"])
def test_the_idle_power_is_what_codecarbons_model_gives_at_no_load(tracker, mode):
    part = cpu(mode, _tracking_mode="machine", _cpu_load_meter=SimpleNamespace(percent=lambda: 0.0))
    sensor = known(tracker, part)

    assert pytest.approx(sensor.components()["cpu"].idle_w) == part._get_power_from_cpus().W


def test_all_gpus_are_polled_whatever_cuda_shows(tracker):
    polled = gpu("NvidiaGPUDevice", "NvidiaGPUDevice", polled=True)
    known(tracker, polled)

    assert polled.gpu_ids == [0, 1]


def test_a_device_that_falls_silent_is_unknown_and_broken_where_it_comes_back(tracker, monkeypatch):
    """CodeCarbon swallows what its devices raise, and adds 0 J."""
    now = 0.0
    monkeypatch.setattr(codecarbon.time, "monotonic", lambda: now)
    sensor = known(tracker, gpu("AMDGPUDevice"), cpu("cpu_load"))

    def after(seconds, **grown):
        nonlocal now
        now += seconds
        for name, kwh in grown.items():
            setattr(tracker.energies, f"{name}_energy", kwh)
        return sensor.read()

    assert after(0, gpu=2, cpu=2).joules["gpu"] == 2 * 3.6e6
    assert after(0.1, cpu=3).joules["gpu"] == 2 * 3.6e6  # between two ticks
    silent = after(1, cpu=4)
    assert (silent.joules["gpu"], silent.joules["cpu"]) == (None, 4 * 3.6e6)
    assert "fell silent" in silent.faults["gpu"]
    back = after(1, gpu=3, cpu=5)
    assert back.joules["gpu"] == 3 * 3.6e6
    assert back.broken == {"gpu"}
    assert not after(1, gpu=4, cpu=6).broken


def test_a_handler_that_is_not_called_is_no_reading(tracker):
    sensor = known(tracker, cpu("cpu_load"))
    tracker.is_mute = True

    with pytest.raises(SensorError, match="did not answer"):
        sensor.read()


# What is set for CodeCarbon


def test_what_is_set_for_codecarbon_is_said_with_greenmls_own_keys(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    for name in [name for name in codecarbon.os.environ if name.lower().startswith("codecarbon")]:
        monkeypatch.delenv(name)
    assert codecarbon.ignored_settings() == {}

    from greenml.energy import ignored_settings

    assert ignored_settings() is None
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".codecarbon.config").write_text("[codecarbon]\npue = 2\napi_key = secret\n")
    (tmp_path / ".codecarbon.config").write_text("no section")
    monkeypatch.setenv("CODECARBON_FORCE_CPU_POWER", "300")

    said = ignored_settings()
    for part in ("api_key, pue", "CODECARBON_FORCE_CPU_POWER", "`pue`", "`tdp`", ".codecarbon.config: unreadable"):
        assert part in said
    assert "secret" not in said
    assert "CODECARBON_FORCE_CPU_POWER (environment)" in CodeCarbonSensor().describe()["ignored"]


# The meters by name


def test_meters_are_known_by_name_and_others_can_be_added():
    @register_meter("wall-plug", usage="wall-plug:ADDRESS")
    def wall_plug(argument, settings):
        return (argument, settings.interval_s)

    assert open_sensor(Settings(meter="wall-plug:10.0.0.5:80", interval_s=0.5)) == ("10.0.0.5:80", 0.5)
    for asked, hint in (
        ("codecarbn", "did you mean `codecarbon`?"),
        ("wall-plug", "it is asked for as `wall-plug:ADDRESS`"),
    ):
        with pytest.raises(UsageError) as error:
            open_sensor(Settings(meter=asked))
        assert error.value.hint == hint
    with pytest.raises(UsageError, match="counters:x"):
        open_meter("a", settings=Settings(meter="counters:x"))


def replay(tmp_path, text):
    (tmp_path / "watts.csv").write_text(textwrap.dedent(text).strip())
    now = [0.0]
    sensor = open_sensor(Settings(meter=f"replay:{tmp_path / 'watts.csv'}"))
    sensor._clock = lambda: now[0]
    sensor.start()

    def at(seconds):
        now[0] = seconds
        return sensor.read()

    return sensor, at


def test_a_file_of_watts_is_a_meter(tmp_path):
    sensor, at = replay(
        tmp_path,
        """
        seconds,cpu_w,gpu_w,ram_w,cpu_source
        0,100,0,5,measured
        10,,0,5,
        12,50,0,5,measured
        """,
    )

    assert sources(sensor) == {"cpu": "measured", "gpu": "absent", "ram": "estimated"}
    assert at(5).joules == {"cpu": 500.0, "gpu": 0.0, "ram": 25.0}
    assert at(10).joules["cpu"] is None
    late = at(14)
    assert (late.joules["cpu"], late.broken) == (1100.0, {"cpu"})  # two seconds are missing, and it says so
    assert at(1014).joules == {"cpu": 51_100.0, "gpu": 0.0, "ram": 5070.0}
    assert not at(1015).broken


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seconds,cpu_w,gpu_w\n0,1,2", "no column `ram_w`"),
        ("seconds,cpu_w,gpu_w,ram_w\n", "no rows"),
        ("seconds,cpu_w,gpu_w,ram_w\n1,1,1,1", "`seconds` must begin with 0"),
        ("seconds,cpu_w,gpu_w,ram_w\n0,1,1,1\n0,1,1,1", "`seconds` must begin with 0"),
        ("seconds,cpu_w,gpu_w,ram_w\n0,-1,1,1", "line 2: `-1` is no cpu_w"),
        ("seconds,cpu_w,gpu_w,ram_w\n0,1,1,lots", "line 2: `lots` is no ram_w"),
        ("seconds,cpu_w,gpu_w,ram_w\n0,1,1,nan", "line 2: `nan` is no ram_w"),
        ("seconds,cpu_w,gpu_w,ram_w,ram_source\n0,1,1,1,guessed", "`ram_source` is none of the sources"),
    ],
)
def test_a_file_that_is_no_replay_is_said(tmp_path, text, said):
    with pytest.raises(UsageError) as error:
        replay(tmp_path, text)
    assert said in str(error.value)


def test_a_replay_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        open_sensor(Settings(meter=f"replay:{tmp_path / 'none.csv'}"))


# Idle power


MODELS = {
    "cpu": Component(Source.ESTIMATED, "load model, 65 W TDP", idle_w=6.5),
    "gpu": Component(Source.ABSENT, "no GPU"),
    "ram": Component(Source.ESTIMATED, "20 W model", idle_w=20.0),
}


def test_idle_power_is_what_was_measured_or_what_the_models_say_or_nothing():
    modelled = idle_watts(MODELS)
    assert (modelled["watts"], modelled["cpu_w"], modelled["gpu_w"], modelled["ram_w"]) == (26.5, 6.5, 0.0, 20.0)
    assert (modelled["source"], modelled["measured_at"]) == ("estimated", None)
    counted = MODELS | {"cpu": Component(Source.MEASURED, "RAPL energy counter", 0.001)}
    assert (idle_watts(counted)["watts"], idle_watts(counted)["ram_w"]) == (None, 20.0)
    assert idle_watts(dict.fromkeys(MODELS, counted["cpu"])) is None


def test_idle_power_is_measured_where_a_counter_counts_and_modelled_where_a_model_does():
    """A desktop's memory has no counter; and what was measured by a counter is not taken off a model's total."""
    counted = MODELS | {"cpu": Component(Source.MEASURED, "RAPL energy counter", 0.001)}
    measured = {"watts": None, "cpu_w": 11, "gpu_w": 0.0, "ram_w": None, "method": "RAPL", "measured_at": "2026-03-01"}

    mixed = idle_watts(counted, measured)
    assert (mixed["watts"], mixed["cpu_w"], mixed["ram_w"]) == (31.0, 11.0, 20.0)
    assert (mixed["source"], mixed["measured_at"]) == ("estimated", "2026-03-01")
    assert idle_watts(MODELS, measured) == idle_watts(MODELS)
    whole = dict.fromkeys(("cpu", "ram"), counted["cpu"]) | {"gpu": MODELS["gpu"]}
    assert idle_watts(whole, measured | {"ram_w": 3.0})["source"] == "measured"


def test_everything_that_is_known_of_a_meter_is_described(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "watts.csv").write_text("seconds,cpu_w,gpu_w,ram_w\n0,10,0,5")
    idle = {"watts": 8.0}
    settings = Settings(meter=f"replay:{tmp_path / 'watts.csv'}", interval_s=0.5, idle=idle)

    with open_meter("a", settings=settings) as meter:
        meter.wait_until_ready()
        described = meter.describe()
    assert (described["meter"], described["replayed"]) == ("replay of watts.csv", True)
    assert (described["scope"], described["interval_s"], described["idle"]) == ("machine", 0.5, None)
    assert (described["gpus"], described["ignored"]) == ([], [])
    assert described["cpu"] == {
        "source": "estimated",
        "method": "replayed from watts.csv",
        "period_s": None,
        "scope": "machine",
        "constants": {},
    }

    with open_meter("a", settings=dataclasses.replace(settings, scope="process")) as meter:
        meter.wait_until_ready()
        described = meter.describe()
    assert (described["scope"], described["idle"], described["replayed"]) == (
        "process",
        None,
        True,
    )  # what a machine draws is not a process's
    assert described["cpu"]["method"] == "share of the busy CPU time: replayed from watts.csv"


def test_counters_alone_import_no_codecarbon(tmp_path):
    code = """
    import sys
    from greenml.energy import Settings, open_meter
    with open_meter("a", settings=Settings(meter="counters")) as meter:
        meter.wait_until_ready()
        meter.finish()
        assert list(meter.phases())
    assert "codecarbon" not in sys.modules
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
