"""RAPL on fake machines: what is counted, what is left out, and what happens when a counter goes wrong."""

from __future__ import annotations

import errno
import shutil

import pytest
from conftest import count, make_powercap

from greenml.energy import SensorError, rapl
from greenml.records import Source

RANGE_J = 262143.32885

LAPTOP = {
    "intel-rapl:0": ("package-0", 1000),
    "intel-rapl:0:0": ("core", 700),
    "intel-rapl:0:1": ("uncore", 100),
    "intel-rapl:0:2": ("dram", 50),
    "intel-rapl:1": ("psys", 5000),
    "intel-rapl-mmio:0": ("package-0", 1000),
}
TWO_SOCKETS = {
    "intel-rapl:0": ("package-0", 1000),
    "intel-rapl:0:0": ("dram", 200),
    "intel-rapl:1": ("package-1", 2000),
    "intel-rapl:1:0": ("dram", 300),
}
AMD = {"intel-rapl:0": ("package-0", 1000), "intel-rapl:0:0": ("core", 5)}
TWO_DIES = {"intel-rapl:0": ("package-0-die-0", 1000), "intel-rapl:1": ("package-0-die-1", 1000.4)}


class Machine:
    """A fake machine: its counters, and a clock that only moves when told."""

    def __init__(self, root, domains):
        self.root, self.now = make_powercap(root, domains), 0.0
        self.shown = {folder: joules for folder, (_, joules) in domains.items()}

    def open(self):
        return rapl.open_counters(self.root, clock=lambda: self.now)

    def use(self, seconds=1.0, **joules):
        """Time goes by; `intel_rapl_0_1=5` adds 5 J to intel-rapl:0:1."""
        self.now += seconds
        for folder, shown in self.shown.items():
            self.shown[folder] = (shown + joules.get(folder.replace("-", "_").replace(":", "_"), 0)) % RANGE_J
            if (self.root / folder).exists():
                count(self.root / folder, self.shown[folder])


@pytest.fixture
def machine(tmp_path):
    return lambda domains: Machine(tmp_path / "powercap", domains)


def lose_permission(monkeypatch, of="intel-rapl"):
    """As for a user who is not root: the tests may be run by root, whom no mode of a file stops."""
    text = rapl._text

    def refuse(file):
        if file.name == "energy_uj" and file.parent.name.startswith(of):
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return text(file)

    monkeypatch.setattr(rapl, "_text", refuse)


def test_a_package_is_counted_once_and_memory_beside_it(machine):
    """Cores are in the package, the platform is around it, and the second interface shows the same package."""
    laptop = machine(LAPTOP)
    counters = laptop.open()
    laptop.use(intel_rapl_0=20, intel_rapl_0_0=15, intel_rapl_0_1=2, intel_rapl_0_2=3, intel_rapl_1=40)

    assert counters.read() == pytest.approx({"cpu": 20, "ram": 3})
    cpu, ram = counters.components()["cpu"], counters.components()["ram"]
    assert (cpu.source, cpu.method, cpu.period_s) == (Source.MEASURED, "RAPL energy counter", 0.001)
    assert (ram.source, ram.method) == (Source.MEASURED, "RAPL energy counter of memory")


def test_all_sockets_are_counted(machine):
    server = machine(TWO_SOCKETS)
    counters = server.open()
    server.use(intel_rapl_0=100, intel_rapl_0_0=10, intel_rapl_1=150, intel_rapl_1_0=20)

    assert counters.read() == pytest.approx({"cpu": 250, "ram": 30})
    assert counters.components()["cpu"].method == "RAPL energy counter of 2 packages"


def test_amd_has_no_counter_of_memory(machine):
    amd = machine(AMD)
    counters = amd.open()
    amd.use(intel_rapl_0=65, intel_rapl_0_0=5)

    assert counters.read() == pytest.approx({"cpu": 65})
    assert list(counters.components()) == ["cpu"]


def test_a_package_that_only_the_second_interface_shows_is_counted(machine):
    laptop = machine({"intel-rapl:0": ("psys", 9), "intel-rapl-mmio:0": ("package-0", 1000)})
    counters = laptop.open()
    laptop.use(intel_rapl_0=40, intel_rapl_mmio_0=20)

    assert counters.read() == pytest.approx({"cpu": 20})


def test_dies_that_mirror_one_counter_are_counted_once(machine):
    threadripper = machine(TWO_DIES)
    counters = threadripper.open()
    for _ in range(3):
        threadripper.use(intel_rapl_0=100, intel_rapl_1=100)

    assert counters.read() == pytest.approx({"cpu": 300})
    assert counters.components()["cpu"].method == "RAPL energy counter"


def test_dies_that_only_began_alike_are_both_counted_from_the_start(machine):
    cascade_lake = machine(TWO_DIES)
    counters = cascade_lake.open()
    cascade_lake.use(intel_rapl_0=100, intel_rapl_1=60)
    assert counters.read() == pytest.approx({"cpu": 160})

    cascade_lake.use(intel_rapl_0=100, intel_rapl_1=140)  # alike again, but no mirror
    assert counters.read() == pytest.approx({"cpu": 400})
    assert counters.components()["cpu"].method == "RAPL energy counter of 2 packages"


def test_a_slow_reading_does_not_part_mirrors(machine, monkeypatch):
    """A process that is interrupted between two files sees the counter go on: 5 J with every reading."""
    threadripper = machine(TWO_DIES)
    counters = threadripper.open()
    text = rapl._text

    def slow(file):
        threadripper.use(0.05, intel_rapl_0=5, intel_rapl_1=5)
        return text(file)

    monkeypatch.setattr(rapl, "_text", slow)

    assert counters.read()["cpu"] == pytest.approx(5)
    assert counters.read()["cpu"] == pytest.approx(30)
    assert counters.components()["cpu"].method == "RAPL energy counter"


def test_nothing_is_nothing_and_not_an_error(tmp_path):
    assert rapl.open_counters(tmp_path / "powercap") is None
    (tmp_path / "powercap" / "intel-rapl").mkdir(parents=True)  # the driver is loaded, and knows no domain
    (tmp_path / "powercap" / "dtpm:0").mkdir()

    assert rapl.open_counters(tmp_path / "powercap") is None


def test_what_only_root_may_read_is_said(machine, monkeypatch):
    server = machine(TWO_SOCKETS)
    lose_permission(monkeypatch)

    with pytest.raises(SensorError, match=r"cannot be read: .*intel-rapl:0/energy_uj: Permission denied"):
        server.open()


def test_one_readable_socket_of_two_is_no_total(machine, monkeypatch):
    server = machine(TWO_SOCKETS)
    lose_permission(monkeypatch, of="intel-rapl:1")

    with pytest.raises(SensorError, match="intel-rapl:1/energy_uj"):
        server.open()


def test_memory_that_cannot_be_read_is_left_out(machine, monkeypatch):
    laptop = machine(LAPTOP)
    lose_permission(monkeypatch, of="intel-rapl:0:2")

    assert list(laptop.open().components()) == ["cpu"]


@pytest.mark.parametrize("text", ["", "many", "-5", "1.5"])
def test_a_counter_that_shows_no_number_is_an_error(machine, text):
    amd = machine(AMD)
    (amd.root / "intel-rapl:0" / "energy_uj").write_text(text)

    with pytest.raises(SensorError, match="no number"):
        amd.open()


def test_a_container_that_hides_the_counters_is_an_error(tmp_path):
    """The links are there, and lead nowhere."""
    (tmp_path / "intel-rapl:0").symlink_to(tmp_path / "hidden" / "intel-rapl:0")

    with pytest.raises(SensorError, match="no package"):
        rapl.open_counters(tmp_path)


def test_a_platform_without_packages_is_an_error(machine):
    with pytest.raises(SensorError, match="no package"):
        machine({"intel-rapl:0": ("psys", 9)}).open()


def test_a_wrap_is_undone(machine):
    amd = machine({"intel-rapl:0": ("package-0", RANGE_J - 30)})
    counters = amd.open()
    amd.use(intel_rapl_0=100)

    assert amd.shown["intel-rapl:0"] < 100
    assert counters.read() == pytest.approx({"cpu": 100})


def test_wraps_between_heartbeats_are_all_undone(machine):
    """An hour and a half at 150 W, read every ten seconds: three wraps."""
    server = machine({"intel-rapl:0": ("package-0", 200_000), "intel-rapl:1": ("package-1", 1)})
    counters = server.open()
    for second in range(10, 5410, 10):
        server.use(10, intel_rapl_0=1500, intel_rapl_1=900)
        assert counters.read()["cpu"] == pytest.approx(240 * second)


def test_a_wrap_of_unknown_range_is_a_loss_and_what_follows_is_right(machine):
    amd = machine({"intel-rapl:0": ("package-0", RANGE_J - 30)})
    (amd.root / "intel-rapl:0" / "max_energy_range_uj").unlink()
    counters = amd.open()
    amd.use(intel_rapl_0=20)
    before = counters.read()["cpu"]
    amd.use(intel_rapl_0=20)
    lost = counters.read()["cpu"]
    amd.use(intel_rapl_0=20)

    assert before == pytest.approx(20)
    assert lost < before
    assert counters.read()["cpu"] - lost == pytest.approx(20)


def test_a_reset_is_a_loss_and_not_a_wrap(machine):
    """A laptop that slept: the counter starts from 0, and 200 kJ in a second are no consumption."""
    laptop = machine({"intel-rapl:0": ("package-0", 60_000)})
    counters = laptop.open()
    laptop.use(intel_rapl_0=20)
    before = counters.read()["cpu"]
    laptop.shown["intel-rapl:0"] = 0
    laptop.use(intel_rapl_0=5)
    lost = counters.read()["cpu"]
    for _ in range(100):
        laptop.use(10, intel_rapl_0=5000)
        after = counters.read()["cpu"]

    assert lost < after < before  # no window across the loss has a positive difference, however long
    assert after - lost == pytest.approx(500_000, abs=1e-3)


def test_permission_lost_in_the_middle_is_unread_and_nothing_is_lost(machine, monkeypatch):
    server = machine(TWO_SOCKETS)
    counters = server.open()
    with monkeypatch.context() as patch:
        lose_permission(patch, of="intel-rapl:1")
        server.use(intel_rapl_0=100, intel_rapl_0_0=1, intel_rapl_1=50, intel_rapl_1_0=1)
        assert counters.read() == {"cpu": None, "ram": None}
    server.use(intel_rapl_0=100, intel_rapl_0_0=1, intel_rapl_1=50, intel_rapl_1_0=1)

    assert counters.read() == pytest.approx({"cpu": 300, "ram": 4})


def test_a_gap_in_which_it_may_have_wrapped_twice_is_a_loss(machine):
    amd = machine(AMD)
    counters = amd.open()
    amd.use(intel_rapl_0=100)
    before = counters.read()["cpu"]
    amd.use(seconds=3600, intel_rapl_0=100)

    assert counters.read()["cpu"] < before


def test_a_domain_that_disappears_is_unread(machine):
    server = machine(TWO_SOCKETS)
    counters = server.open()
    server.use(intel_rapl_0=100, intel_rapl_1=100, intel_rapl_0_0=1, intel_rapl_1_0=1)
    assert counters.read()["ram"] == pytest.approx(2)
    shutil.rmtree(server.root / "intel-rapl:1:0")
    server.use(intel_rapl_0=100, intel_rapl_1=100)

    assert counters.read() == {"cpu": pytest.approx(400), "ram": None}


def test_a_counter_that_stands_still_is_unread_not_zero(machine):
    """As in a virtual machine that shows one."""
    fake = machine(AMD)
    counters = fake.open()
    fake.use(seconds=0.5)
    assert counters.read() == {"cpu": 0}  # it may not have ticked yet
    fake.use(seconds=1)
    assert counters.read() == {"cpu": None}
    fake.use(seconds=1, intel_rapl_0=30)
    assert counters.read() == {"cpu": pytest.approx(30)}
