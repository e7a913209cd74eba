"""`greenml doctor` on machines of every kind, all of them made of files."""

from __future__ import annotations

import errno
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from types import SimpleNamespace

import duckdb
import psutil
import pytest
from conftest import count, environment, make_phase, make_powercap, make_run
from filelock import FileLock
from test_front_door import HEAVY
from test_sensors import NO_COUNTER, FakeNvml
from test_store import of_schema_1

from greenml import cli, energy
from greenml import environment as surroundings
from greenml.energy import SensorError, baseline, rapl, survey
from greenml.energy.meters import open_sensor
from greenml.energy.presence import Presence
from greenml.energy.replay import ReplaySensor
from greenml.errors import UsageError
from greenml.records import Source
from greenml.store import Store, examine
from greenml.store.schema import migrations

INTEL = {
    "intel-rapl:0": ("package-0", 1000),
    "intel-rapl:0:0": ("core", 700),
    "intel-rapl:0:1": ("dram", 50),
    "intel-rapl-mmio:0": ("package-0", 1000),
}
AMD = {"intel-rapl:0": ("package-0", 1000), "intel-rapl:0:0": ("core", 5)}
HINT = "sudo chmod a+r /sys/class/powercap/intel-rapl*:*/energy_uj"


class Gpus(FakeNvml):
    """Two GPUs of which more is known; the second may be at work."""

    busy_percent = 0

    def __init__(self, **words):
        super().__init__(names=("NVIDIA A100", b"NVIDIA H200"), **words)

    def nvmlDeviceGetUtilizationRates(self, number):  # noqa: N802
        return SimpleNamespace(gpu=number * self.busy_percent)

    def nvmlSystemGetDriverVersion(self):  # noqa: N802
        return "575.51"

    def nvmlSystemGetCudaDriverVersion(self):  # noqa: N802
        return 12090


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A Linux PC without counters, GPUs, other meters or anything to do; its root, to put things into."""
    root = tmp_path / "root"
    (root / "proc").mkdir(parents=True)
    (root / "proc/cpuinfo").write_text("model name\t: A CPU\nflags\t\t: fpu vme\n")
    monkeypatch.setattr(surroundings, "ROOT", root)
    monkeypatch.setattr(rapl, "POWERCAP", root / "sys/class/powercap")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(psutil, "cpu_percent", lambda: 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(init_error=FakeNvml.NVMLError_LibraryNotFound()))
    monkeypatch.setattr(survey, "open_sensor", lambda _: ReplaySensor())
    for name in ("KUBERNETES_SERVICE_HOST", "APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return root


@pytest.fixture
def doctor(machine, tmp_path, monkeypatch, capsys):
    """The one object that it prints as JSON, with its findings by name. Its store is `db`, if a test asks for that."""
    monkeypatch.setenv("GREENML_STORE", str(tmp_path / "store" / "greenml.duckdb"))

    def look(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main(["doctor", "--json", "--seconds", "0.05", *arguments])
        [report] = json.loads(capsys.readouterr().out)
        assert report["exit_code"] == end.value.code
        return report | {"by_name": {finding["name"]: finding for finding in report["findings"]}}

    return look


def powered(root, domains, monkeypatch, **watts):
    """Counters that go on while somebody sleeps: `intel_rapl_0=20` W."""
    folder = make_powercap(root / "sys/class/powercap", domains)
    shown = {name: joules for name, (_, joules) in domains.items()}
    sleep = time.sleep

    def asleep(seconds):
        sleep(seconds)
        for name in shown:
            shown[name] += watts.get(name.replace("-", "_").replace(":", "_"), 0) * seconds
            count(folder / name, shown[name])

    monkeypatch.setattr(baseline.time, "sleep", asleep)


def forbid(monkeypatch):
    """As for a user who is not root."""
    text = rapl._text

    def refuse(file):
        if file.name == "energy_uj":
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return text(file)

    monkeypatch.setattr(rapl, "_text", refuse)


# The processor


def test_intel_is_measured_with_its_memory(doctor, machine, monkeypatch):
    powered(machine, INTEL, monkeypatch, intel_rapl_0=40, intel_rapl_0_1=4, intel_rapl_mmio_0=40)
    report = doctor()

    assert report["by_name"]["RAPL"]["state"] == "works"
    assert report["by_name"]["RAPL"]["text"] == "RAPL energy counter; memory has one, too"
    assert report["idle"]["cpu_w"] == pytest.approx(40, rel=0.2)
    assert report["idle"]["ram_w"] == pytest.approx(4, rel=0.2)
    assert report["idle"]["gpu_w"] == 0
    assert report["idle"]["watts"] == pytest.approx(44, rel=0.2)


def test_amd_is_measured_and_its_memory_is_not(doctor, machine, monkeypatch):
    powered(machine, AMD, monkeypatch, intel_rapl_0=65)
    report = doctor()

    assert report["by_name"]["RAPL"]["text"] == "RAPL energy counter; memory has none"
    assert report["idle"]["cpu_w"] == pytest.approx(65, rel=0.2)
    assert (report["idle"]["ram_w"], report["idle"]["watts"]) == (None, None)


def test_counters_for_root_alone_come_with_the_commands_that_open_them(doctor, machine, monkeypatch):
    make_powercap(machine / "sys/class/powercap", INTEL)
    forbid(monkeypatch)
    report = doctor()
    found = report["by_name"]["RAPL"]

    assert found["state"] == "does not work"
    assert "Permission denied" in found["text"]
    commands = [hint.removeprefix("$ ") for hint in found["hints"] if hint.startswith("$ ")]
    assert commands[0] == HINT
    assert "/etc/udev/rules.d/" in commands[1]
    assert report["by_name"]["now"]["state"] == "not here"
    assert report["idle"] is None


def test_the_commands_open_what_a_shell_is_given(tmp_path):
    """The glob meets every counter, and the rule reaches its file whole through the quotes."""
    folder = make_powercap(tmp_path / "sys/class/powercap", INTEL)
    for counter in folder.glob("*/energy_uj"):
        counter.chmod(0o400)
    now = survey.OPEN_NOW.removeprefix("$ sudo ").replace("/sys", f"{tmp_path}/sys")
    for_good = survey.OPEN_FOR_GOOD.removeprefix("$ ").replace("sudo tee /etc/udev/rules.d", f"tee {tmp_path}")
    for command in (now, for_good):
        subprocess.run(["sh", "-c", command], check=True, capture_output=True)

    assert {counter.stat().st_mode & 0o777 for counter in folder.glob("*/energy_uj")} == {0o444}
    [rule] = (tmp_path / "70-rapl.rules").read_text().splitlines()
    assert rule.endswith('KERNEL=="intel-rapl*:*", RUN+="/bin/chmod a+r $sys$devpath/energy_uj"')


def test_memory_that_root_alone_may_read_is_a_limit(doctor, machine, monkeypatch):
    powered(machine, INTEL, monkeypatch, intel_rapl_0=40)
    (machine / "sys/class/powercap/intel-rapl:0:1/energy_uj").unlink()
    monkeypatch.setattr(baseline.time, "sleep", lambda _: None)

    assert doctor()["by_name"]["RAPL"]["state"] == "works with a limit"


def test_a_container_that_hides_the_counters_is_said(doctor, machine):
    powercap = machine / "sys/class/powercap"
    powercap.mkdir(parents=True)
    (powercap / "intel-rapl:0").symlink_to(machine / "hidden")
    (machine / ".dockerenv").touch()
    found = doctor()["by_name"]["RAPL"]

    assert found["state"] == "does not work"
    assert found["text"].startswith("hidden by Docker")
    assert any("systempaths=unconfined" in hint for hint in found["hints"])


def test_a_driver_that_is_not_loaded_comes_with_the_commands_that_load_it(doctor):
    found = doctor()["by_name"]["RAPL"]

    assert found["state"] == "does not work"
    assert "$ sudo modprobe intel_rapl_msr" in found["hints"]
    assert any("/etc/modules-load.d/" in hint for hint in found["hints"])


def test_a_driver_that_knows_no_counter_is_said(doctor, machine):
    (machine / "sys/module/intel_rapl_msr").mkdir(parents=True)

    assert "driver is loaded" in doctor()["by_name"]["RAPL"]["text"]


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"proc/cpuinfo": "flags : fpu hypervisor sse"}, "virtual machine (a host that does not say its name)"),
        (
            {
                "proc/cpuinfo": "flags : fpu hypervisor",
                "sys/class/dmi/id/sys_vendor": "Amazon EC2\n",
                "sys/class/dmi/id/product_name": "t3.large\n",
            },
            "virtual machine (Amazon EC2 t3.large)",
        ),
        ({"proc/sys/kernel/osrelease": "5.15.90-microsoft-standard-WSL2"}, "virtual machine (Windows (WSL))"),
        ({"sys/hypervisor/type": "xen"}, "virtual machine (a host that does not say its name)"),
    ],
)
def test_a_virtual_machine_has_its_counters_at_its_host(doctor, machine, files, text):
    for name, words in files.items():
        (machine / name).parent.mkdir(parents=True, exist_ok=True)
        (machine / name).write_text(words)
    found = doctor()["by_name"]["RAPL"]

    assert found["state"] == "not here"
    assert text in found["text"]


@pytest.mark.parametrize(
    ("file", "words", "variables", "kind"),
    [
        (".dockerenv", "", {}, "Docker"),
        ("run/.containerenv", "", {}, "Podman"),
        ("run/systemd/container", "lxc\n", {}, "lxc"),
        (".dockerenv", "", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "Kubernetes"),
        ("etc/hosts", "", {"APPTAINER_CONTAINER": "image.sif"}, "Apptainer"),
        ("etc/hosts", "", {}, None),
    ],
)
def test_a_container_is_told_by_what_it_leaves(machine, monkeypatch, file, words, variables, kind):
    (machine / file).parent.mkdir(parents=True, exist_ok=True)
    (machine / file).write_text(words)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert surroundings.container() == kind


@pytest.mark.parametrize(
    ("system", "architecture", "text"),
    [
        ("Darwin", "arm64", "Apple chips"),
        ("Darwin", "x86_64", "powermetrics"),
        ("Windows", "AMD64", "Energy Meter Interface"),
        ("Linux", "aarch64", "this is aarch64"),
        ("FreeBSD", "amd64", "FreeBSD"),
    ],
)
def test_other_systems_hear_what_codecarbon_does_there(doctor, monkeypatch, system, architecture, text):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: architecture)

    assert text in doctor()["by_name"]["RAPL"]["text"]


# GPUs


def test_gpus_with_counters_are_named_and_measured(doctor, machine, monkeypatch):
    gpus = Gpus()
    monkeypatch.setitem(sys.modules, "pynvml", gpus)
    powered(machine, INTEL, monkeypatch, intel_rapl_0=40, intel_rapl_0_1=4)
    asleep = baseline.time.sleep

    def busy(seconds):
        asleep(seconds)
        gpus.millijoules[1] += 1000 * 60 * seconds

    monkeypatch.setattr(baseline.time, "sleep", busy)
    report = doctor()

    found = report["by_name"]["NVML"]
    assert (found["state"], found["text"]) == (
        "works",
        "energy counters of NVIDIA A100, NVIDIA H200; driver 575.51",
    )
    assert report["machine"]["gpus"] == ["NVIDIA A100", "NVIDIA H200"]
    assert report["idle"]["gpu_w"] == pytest.approx(60, rel=0.2)
    assert report["cuda"]["driver_runs"] == "12.9"


def test_a_gpu_without_a_counter_is_named(doctor, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", Gpus(millijoules=(1000, NO_COUNTER)))
    found = doctor()["by_name"]["NVML"]

    assert found["state"] == "works with a limit"
    assert "no energy counter on NVIDIA H200:" in found["text"]


@pytest.mark.parametrize(("trouble", "hint"), [("GPU is lost", "nvidia-smi"), ("Insufficient Permissions", "allow it")])
def test_a_gpu_that_cannot_be_read_is_not_one_without_a_counter(doctor, monkeypatch, trouble, hint):
    monkeypatch.setitem(sys.modules, "pynvml", Gpus(millijoules=(1000, FakeNvml.NVMLError(trouble))))
    report = doctor()
    found = report["by_name"]["NVML"]

    assert (found["state"], found["text"]) == (
        "does not work",
        f"a GPU's energy counter cannot be read: {trouble}",
    )
    assert hint in found["hints"][0]
    assert report["machine"]["gpus"] == ["NVIDIA A100", "NVIDIA H200"]


def test_a_driver_that_was_updated_under_way_is_said(doctor, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", Gpus(init_error=FakeNvml.NVMLError("Driver/library version mismatch")))
    found = doctor()["by_name"]["NVML"]

    assert found["state"] == "does not work"
    assert "mismatch" in found["text"]
    assert "restart" in found["hints"][0]


@pytest.mark.parametrize(
    ("maker", "name", "text"),
    [("0x10de", "NVML", "its driver is not"), ("0x1002", "AMD GPU", "amdsmi is not installed")],
)
def test_a_gpu_on_the_bus_that_nobody_reads_is_said(doctor, machine, maker, name, text):
    device = machine / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{maker}\n")
    (device / "class").write_text("0x030000\n")

    assert text in doctor()["by_name"][name]["text"]


def test_a_machine_without_a_gpu_is_no_problem(doctor):
    report = doctor()

    assert (report["by_name"]["NVML"]["state"], report["by_name"]["NVML"]["text"]) == ("not here", "no NVIDIA GPU")
    assert report["exit_code"] == 0


# Idle power


def test_without_a_counter_nothing_is_measured_and_no_model_pretends(doctor, db):
    report = doctor()

    assert "nothing to measure it with" in report["by_name"]["now"]["text"]
    assert report["idle"] is None
    assert db.rows("from idle_rows") == []


def test_idle_power_is_kept_and_found_again(doctor, machine, monkeypatch, db):
    powered(machine, INTEL, monkeypatch, intel_rapl_0=40, intel_rapl_0_1=4)
    first = doctor()
    kept = db.idle(lambda: first["machine"]["id"])

    assert kept == first["idle"]
    assert kept.keys() == {"watts", "cpu_w", "gpu_w", "ram_w", "source", "method", "seconds", "measured_at"}
    assert (kept["source"], kept["seconds"]) == ("measured", pytest.approx(0.05, abs=0.05))
    forbid(monkeypatch)  # later, without permission, it is still there
    assert doctor()["idle"] == kept
    assert db.idle(lambda: "another") is None


def test_a_training_carries_what_was_measured(doctor, machine, monkeypatch, db):
    """`open_meter` gets it with its settings."""
    given = []

    def open_meter(run_id, **words):
        given.append(words["settings"].idle)
        raise UsageError("enough is known", hint="none")

    monkeypatch.setattr(energy, "open_meter", open_meter)
    train = ["train", "cnn", "--dataset", "digits", "--quiet"]
    with pytest.raises(SystemExit):
        cli.main(train)
    powered(machine, AMD, monkeypatch, intel_rapl_0=40)
    measured = doctor()["idle"]
    with pytest.raises(SystemExit):
        cli.main(train)

    assert given == [None, measured]


def test_the_last_measurement_counts(doctor, machine, monkeypatch, db):
    powered(machine, AMD, monkeypatch, intel_rapl_0=40)
    doctor()
    last = doctor()

    assert len(db.rows("from idle_rows")) == 2
    assert db.idle(lambda: last["machine"]["id"]) == last["idle"]


def test_a_busy_machine_is_not_idle(doctor, machine, monkeypatch, db):
    powered(machine, INTEL, monkeypatch, intel_rapl_0=140, intel_rapl_0_1=4)
    monkeypatch.setattr(psutil, "cpu_percent", lambda: 100.0)
    found = doctor()["by_name"]["now"]

    assert found["state"] == "works with a limit"
    assert "not kept" in found["text"]
    assert db.rows("from idle_rows") == []


def test_a_gpu_that_works_is_not_idle(doctor, machine, monkeypatch, db):
    gpus = Gpus()
    gpus.busy_percent = 80
    monkeypatch.setitem(sys.modules, "pynvml", gpus)
    powered(machine, INTEL, monkeypatch, intel_rapl_0=40, intel_rapl_0_1=4)
    asleep = baseline.time.sleep

    def busy(seconds):
        asleep(seconds)
        gpus.millijoules = [millijoules + 1000 * 60 * seconds for millijoules in gpus.millijoules]

    monkeypatch.setattr(baseline.time, "sleep", busy)

    assert "not kept, for work went on (NVIDIA H200)" in doctor()["by_name"]["now"]["text"]
    assert db.rows("from idle_rows") == []


def test_a_run_that_is_being_metered_is_heard_and_nothing_is_measured(doctor, machine, monkeypatch):
    powered(machine, INTEL, monkeypatch, intel_rapl_0=40)
    other = Presence()
    other.announce()
    try:
        report = doctor()
    finally:
        other.leave()

    assert report["other_meters"] == 1
    assert report["by_name"]["others"]["text"].startswith("1 other meter")
    assert "a run is being metered" in report["by_name"]["now"]["text"]
    assert doctor()["other_meters"] == 0


def test_a_dead_counter_is_no_idle_power_of_zero(doctor, machine, monkeypatch):
    powered(machine, AMD, monkeypatch)
    report = doctor()

    assert "stands still" in report["by_name"]["now"]["text"]
    assert (report["idle"], report["exit_code"]) == (None, 4)


def test_a_machine_keeps_its_id_until_it_changes():
    hardware = {"cpu": "A CPU", "threads": 8, "memory_gb": 33.4}
    first = surroundings.machine(hardware, ["A", "B"])

    assert len(first) == 12
    assert surroundings.machine({**hardware, "memory_gb": 33.3}, ["B", "A"]) == first
    assert surroundings.machine({**hardware, "threads": 16}, ["A", "B"]) != first
    assert surroundings.machine(hardware, ["A"]) != first


# A run now


def test_what_a_run_would_store_is_there(doctor):
    report = doctor("--region", "IN-TN")

    assert report["components"]["cpu"]["source"] == "measured"
    assert report["components"]["cpu"]["period_s"] == 0.001
    assert report["components"]["gpu"]["source"] == "absent"
    assert "ticks every 1 ms" in report["by_name"]["cpu"]["text"]
    assert report["intensity"]["g_per_kwh"] == pytest.approx(713.441)
    assert (report["intensity"]["level"], report["intensity"]["year"]) == ("country", 2023)
    assert report["intensity"]["pue"] == 1.0
    assert report["by_name"]["region"]["text"] == "IN-TN: no state factor; India, 713 g/kWh, 2023"
    assert report["is_ready"]


def test_where_everything_has_a_counter_no_model_is_asked(doctor, machine, monkeypatch):
    """The meter that a run opens, on two sockets and two GPUs."""
    monkeypatch.setattr(survey, "open_sensor", open_sensor)
    monkeypatch.setitem(sys.modules, "pynvml", Gpus())
    make_powercap(machine / "sys/class/powercap", INTEL | {"intel-rapl:1": ("package-1", 2000)})
    report = doctor("--seconds", "0")

    assert [part["source"] for part in report["components"].values()] == ["measured"] * 3
    assert "RAPL energy counter of 2 packages; ticks every 1 ms" in report["by_name"]["cpu"]["text"]
    assert "ticks every 100 ms" in report["by_name"]["gpu"]["text"]
    assert (report["exit_code"], report["is_ready"]) == (0, True)


def test_what_is_set_for_codecarbon_is_said_and_not_obeyed(doctor, tmp_path, monkeypatch):
    assert doctor()["ignored_settings"] == {}
    monkeypatch.setenv("CODECARBON_PUE", "3")
    (tmp_path / ".codecarbon.config").write_text("[codecarbon]\nforce_cpu_power = 700\n")
    report = doctor()

    assert report["ignored_settings"] == {
        str(tmp_path / ".codecarbon.config"): ["force_cpu_power"],
        "environment": ["CODECARBON_PUE"],
    }
    assert report["by_name"]["ignored"]["state"] == "works with a limit"
    assert report["by_name"]["PUE"]["text"].startswith("1 unless")


def test_without_a_region_it_is_the_world(doctor):
    report = doctor()

    assert report["intensity"]["level"] == "world"
    assert report["by_name"]["region"]["state"] == "works with a limit"


def test_an_unknown_region_is_2_and_everything_else_is_said(doctor):
    report = doctor("--region", "Narnia")

    assert report["exit_code"] == 2
    assert report["intensity"] is None
    assert report["by_name"]["region"]["text"] == "unknown region `Narnia`"
    assert report["components"]


def test_a_component_that_would_be_unknown_is_4(doctor, monkeypatch):
    monkeypatch.setattr(survey, "open_sensor", lambda _: ReplaySensor(sources={"cpu": Source.UNKNOWN}))
    report = doctor()

    assert report["exit_code"] == 4
    assert report["by_name"]["cpu"]["state"] == "does not work"


def test_a_meter_that_does_not_start_is_4(doctor, monkeypatch):
    class Dead(ReplaySensor):
        def start(self):
            raise SensorError("no driver")

    monkeypatch.setattr(survey, "open_sensor", lambda _: Dead())
    report = doctor()

    assert report["exit_code"] == 4
    assert report["by_name"]["meter"]["text"] == "does not start: no driver"


# The store


def test_no_store_is_no_problem_and_none_is_made(doctor, tmp_path):
    place = tmp_path / "nowhere" / "runs.duckdb"
    report = doctor("--store", str(place))

    assert report["exit_code"] == 0
    assert "not there yet" in report["by_name"]["file"]["text"]
    assert not place.parent.exists()


def test_a_store_is_counted_and_tried_and_nothing_is_left(doctor, db):
    db.write([make_run("a" * 12), make_phase("a" * 12, 0)])
    with db.claim("a" * 12):
        before = {file: file.read_bytes() for file in db.path.parent.rglob("*") if file.is_file()}
        health = examine(Store(db.path))
        after = {file: file.read_bytes() for file in db.path.parent.rglob("*") if file.is_file()}
        report = doctor()

    assert before == after
    assert (health.num_runs, health.alive, health.crashed, health.is_writable) == (1, ["a" * 12], [], True)
    assert report["store"]["schema_version"] == max(migrations())
    assert report["by_name"]["running"]["text"] == "aaaaaaaa"
    assert "taken back" in report["by_name"]["writing"]["text"]


def test_runs_that_died_and_rows_that_wait_are_said(doctor, db):
    db.write([make_run("b" * 12), make_phase("b" * 12, 0)])
    with FileLock(f"{db.path}.lock"):
        late = Store(db.path, timeout_s=0.1)
        assert not late.write([make_phase("b" * 12, 1)])
    report = doctor()

    assert report["store"]["crashed"] == ["b" * 12]
    assert report["store"]["num_spooled"] == 1
    assert "1 row" in report["by_name"]["waiting"]["text"]


def test_a_broken_store_is_3_and_everything_else_is_said(doctor, tmp_path):
    (tmp_path / "bad.duckdb").write_text("no database" * 1000)
    report = doctor("--store", str(tmp_path / "bad.duckdb"))

    assert report["exit_code"] == 3
    assert "not a DuckDB database" in report["by_name"]["writing"]["text"]
    assert report["components"]


def test_other_peoples_databases_and_folders_are_3(doctor, tmp_path):
    with duckdb.connect(str(tmp_path / "other.duckdb")) as con:  # noqa: TID251
        con.execute("create table schema_migrations (version integer)")

    assert doctor("--store", str(tmp_path / "other.duckdb"))["exit_code"] == 3
    assert doctor("--store", str(tmp_path))["exit_code"] == 3
    (tmp_path / "file").touch()
    assert doctor("--store", str(tmp_path / "file" / "a.duckdb"))["exit_code"] == 3


def test_a_store_of_an_older_greenml_is_left_as_it_is(doctor, tmp_path):
    of_schema_1(tmp_path / "old.duckdb")
    before = (tmp_path / "old.duckdb").read_bytes()
    report = doctor("--store", str(tmp_path / "old.duckdb"))

    assert report["exit_code"] == 0
    assert "older greenml (schema 1)" in report["by_name"]["file"]["text"]
    assert (tmp_path / "old.duckdb").read_bytes() == before


def test_a_store_of_a_newer_greenml_is_3(doctor, db):
    with db._writing(1) as con:
        con.execute("insert into schema_migrations values (99, 'later.sql', '9.0', now()::timestamp)")
    report = doctor()

    assert report["exit_code"] == 3
    assert "newer greenml" in report["by_name"]["writing"]["text"]


HOLD = "import duckdb, sys; con = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def test_a_store_that_another_program_holds_is_3_and_names_it(doctor, db):
    command = [sys.executable, "-c", HOLD, str(db.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        report = doctor()
        other.communicate()

    assert report["exit_code"] == 3
    assert str(other.pid) in report["by_name"]["writing"]["text"]


def test_the_writers_lock_that_nobody_gives_back_is_3(doctor, db):
    with FileLock(f"{db.path}.lock"):
        report = doctor()

    assert report["exit_code"] == 3
    assert "held by another writer" in report["by_name"]["writing"]["text"]


def test_a_store_that_may_not_be_written_is_3_and_is_read_all_the_same(doctor, db, monkeypatch):
    """Simulated: tests may run as root, whom read-only files do not stop."""
    db.write([make_run("a" * 12)])
    monkeypatch.setattr(os, "access", lambda *_: False)
    report = doctor()

    assert report["exit_code"] == 3
    assert "cannot be written" in report["by_name"]["writing"]["text"]
    assert report["store"]["num_runs"] == 1


def test_a_full_disk_is_3(doctor, db, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    report = doctor()

    assert report["exit_code"] == 3
    assert "No space left" in report["by_name"]["writing"]["text"]


# For people


@pytest.mark.parametrize("width", [60, 80, 120])
def test_people_get_marks_and_ways_out_that_fit_the_screen(machine, greenml, monkeypatch, width):
    make_powercap(machine / "sys/class/powercap", INTEL)
    forbid(monkeypatch)
    code, out, err = greenml("doctor", "--seconds", "0", width=width)

    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("A CPU, ")
    assert any(line.startswith("✗ RAPL      ") for line in lines)
    assert f"{' ' * 12}$ {HINT}" in lines
    # Commands stay whole, and so do paths.
    assert all(len(line) <= width or "$ " in line or max(map(len, line.split())) > width - 14 for line in lines)
    assert err.splitlines() == ["a run can be metered and stored here"]


def test_what_is_not_ready_says_so(machine, greenml):
    code, _, err = greenml("doctor", "--seconds", "0", "--region", "Narnia")

    assert code == 2
    assert err.splitlines() == ["not ready: mend what is marked ✗"]


@pytest.mark.parametrize("seconds", ["-1", "nan", "many", "1e9"])
def test_seconds_that_are_none_are_2(greenml, seconds):
    assert greenml("doctor", f"--seconds={seconds}")[0] == 2


TORCHLESS = """
import sys
from greenml.cli import main
try:
    main(["doctor", "--json", "--seconds", "0.1"])
finally:
    print("loaded:", *sys.modules, file=sys.stderr)
"""


def test_the_real_machine_is_looked_at_without_torch_or_network(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", TORCHLESS], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True
    )
    [report] = json.loads(done.stdout)
    loaded = {name.partition(".")[0] for name in done.stderr.partition("loaded:")[2].split()}

    assert done.returncode == report["exit_code"] == 0
    assert loaded & (HEAVY - {"codecarbon", "numpy", "pydantic"}) == set()
    assert not (tmp_path / "site" / "asked").exists()
    assert report["versions"]["torch"]
    assert report["components"].keys() == {"cpu", "gpu", "ram"}
