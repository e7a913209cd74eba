"""The share of one process tree: nobody's CPU time is lost, however short the life."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter, namedtuple
from types import SimpleNamespace

import psutil
import pytest

from greenml.energy import Component, Reading, process
from greenml.energy.process import ProcessShare, ProcessTree, _grown_s, _Times
from greenml.records import Source

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems keep no books of children that have ended")

BURN = """
import os, sys, time
path, seconds = sys.argv[1], float(sys.argv[2])
while (used := time.process_time()) < seconds:
    with open(path, "w") as file:
        file.write(f"{used:.6f}")
    for _ in range(20_000):
        pass
if len(sys.argv) > 3:  # a child of its own, whose end it does not live to see
    os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-S", "-c", sys.argv[3], path + ".child", "0.3"])
print(flush=True)
time.sleep(60)
"""


def start(path, seconds, *child):
    return subprocess.Popen(
        [sys.executable, "-S", "-c", BURN, str(path), str(seconds), *child], stdout=subprocess.PIPE, text=True
    )


def told(path):
    """What a worker said that it had used: `open` empties the file before it is written anew."""
    while not (text := path.read_text()):
        pass
    return float(text)


@linux
def test_the_cpu_time_of_workers_is_captured_also_of_those_that_are_killed(tmp_path):
    """Goal: at least 99 %. Some end between two looks and some are never seen alive."""
    tree = ProcessTree()
    before_s, own_s = tree.look()[0], time.process_time()
    paths = [tmp_path / str(number) for number in range(4)]
    workers = [start(path, 0.5) for path in paths]
    for worker in workers[:2]:
        worker.stdout.readline()
    tree.look()
    for worker in workers[2:]:
        worker.stdout.readline()
    workers[0].send_signal(signal.SIGKILL)  # seen alive
    workers[2].send_signal(signal.SIGKILL)  # has done most of its work since the last look
    workers[0].wait()  # reaped, and in this process's books; the third stays a zombie for now
    time.sleep(0.05)
    between_s = tree.look()[0]
    workers[2].wait()
    for worker in (workers[1], workers[3]):
        worker.kill()
        worker.wait()
    own_s = time.process_time() - own_s
    captured_s = tree.look()[0] - before_s - own_s
    for worker in workers:
        worker.stdout.close()

    true_s = sum(map(told, paths))
    assert true_s > 1.9
    assert captured_s >= 0.99 * true_s
    assert captured_s <= 1.05 * true_s + 4 * 0.05  # what they used to start, and after the last word
    assert between_s - before_s - own_s >= 0.99 * true_s - 0.1


@linux
def test_a_descendant_stays_counted_when_its_parent_is_gone(tmp_path):
    tree = ProcessTree()
    worker = start(tmp_path / "parent", 0.05, BURN)
    worker.stdout.readline()
    child = tmp_path / "parent.child"
    while not child.exists():
        time.sleep(0.005)
    before_s, own_s = tree.look()[0], time.process_time()
    seen = [process.pid for process in tree._seen]
    worker.kill()
    worker.wait()
    worker.stdout.close()
    orphan = next(pid for pid in seen if pid not in (worker.pid, os.getpid()) and is_burning(pid))
    try:
        while told(child) < 0.28:
            time.sleep(0.01)
        grown_s = tree.look()[0] - before_s - (time.process_time() - own_s)
        assert grown_s > 0.15
        other = start(tmp_path / "other", 0.1)
        other.stdout.readline()
        before_s, own_s = tree.look()[0], time.process_time()
        assert {process.pid: times.parent and times.parent.pid for process, times in tree._seen.items()} == {
            os.getpid(): None,
            other.pid: os.getpid(),
            orphan: None,
        }
        other.kill()
        other.wait()
        other.stdout.close()
    finally:
        os.kill(orphan, signal.SIGKILL)
    while is_there(orphan):
        time.sleep(0.005)
    # The orphan is in nobody's books, and what was counted of it comes off nobody's.
    assert -0.02 <= tree.look()[0] - before_s - (time.process_time() - own_s) < 0.1


def is_there(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def is_burning(pid):
    with open(f"/proc/{pid}/cmdline") as file:
        return "parent.child" in file.read()


def test_who_ends_moves_into_the_books_of_its_parent_and_is_not_counted_twice():
    before = {"parent": _Times(5.0, 1.0), "child": _Times(3.0, 0.5, "parent")}

    waited_for = {"parent": _Times(5.2, 1.0 + 3.5 + 0.4)}  # the child used 0.4 s more before it ended
    assert _grown_s(before, waited_for) == pytest.approx(0.6)
    forgotten = {"parent": _Times(5.2, 1.0)}  # nobody waited: what was seen stays counted, and no more comes
    assert _grown_s(before, forgotten) == pytest.approx(0.2)
    born = {**before, "new": _Times(0.7, 0.1)}
    assert _grown_s(before, born) == pytest.approx(0.8)


def test_who_ends_comes_off_the_books_of_its_own_parent_alone():
    before = {
        "root": _Times(5.0, 1.0),
        "worker": _Times(3.0, 0.5, "root"),
        "grandchild": _Times(2.0, 0.0, "worker"),
        "other": _Times(1.0, 0.0, "root"),
        "its child": _Times(4.0, 0.0, "other"),
        "orphan": _Times(10.0, 0.0),
    }
    # The worker waited for its child and was waited for; nobody waited for the other's, and the orphan is gone, too.
    now = {"root": _Times(5.2, 1.0 + 3.5 + 2.0 + 0.4), "other": _Times(1.1, 0.0, "root")}

    assert _grown_s(before, now) == pytest.approx(0.2 + 0.1 + 0.4)


@linux
def test_each_process_is_asked_once_for_its_children(tmp_path, monkeypatch):
    """Of a data loader with many threads each question costs, and every thread is asked."""
    tree = ProcessTree()
    worker = start(tmp_path / "parent", 0.01, BURN)
    worker.stdout.readline()
    try:
        while not (tmp_path / "parent.child").exists():
            time.sleep(0.005)
        tree.look()
        asked, listed = Counter(), process._children_file
        monkeypatch.setattr(process, "_children_file", lambda *which: asked.update([which]) or listed(*which))
        tree.look()
        assert len({pid for pid, _ in asked}) == 3
        assert set(asked.values()) == {1}
    finally:
        for each in (*psutil.Process(worker.pid).children(), worker):
            each.kill()
        worker.wait()
        worker.stdout.close()


class FakeTree:
    with_children = True

    cpu_s, resident = 0.0, 0

    def look(self):
        return self.cpu_s, self.resident


class FakeMachine:
    min_interval_s = 0.05
    cpu_j = ram_j = 0.0

    def start(self):
        pass

    def components(self):
        return {
            "cpu": Component(Source.MEASURED, "RAPL energy counter", 0.001),
            "gpu": Component(Source.MEASURED, "NVML energy counter", 0.1),
            "ram": Component(Source.ESTIMATED, "20 W model", idle_w=20.0),
        }

    def describe(self):
        return {"meter": "fake"}

    def read(self):
        return Reading({"cpu": self.cpu_j, "ram": self.ram_j}, [7.0])


@pytest.fixture
def share(monkeypatch):
    """A share whose tree, machine, busy time and memory are set."""
    machine, tree = FakeMachine(), FakeTree()
    busy, memory = [0.0], SimpleNamespace(total=1000, available=200)
    monkeypatch.setattr(process, "busy_s", lambda: busy[0])
    monkeypatch.setattr(process.psutil, "virtual_memory", lambda: memory)
    sensor = ProcessShare(machine, tree)
    sensor.start()
    sensor.read()

    def after(*, cpu_j=0.0, ram_j=0.0, own_s=0.0, busy_s=0.0, resident=0):
        machine.cpu_j = None if cpu_j is None else (machine.cpu_j or 0.0) + cpu_j
        machine.ram_j += ram_j
        tree.cpu_s += own_s
        tree.resident = resident
        busy[0] += busy_s
        return sensor.read()

    return sensor, after


def test_joules_go_by_cpu_time_and_by_resident_memory_and_gpus_are_whole(share):
    _, after = share

    reading = after(cpu_j=100, ram_j=10, own_s=3, busy_s=4, resident=400)
    assert reading.joules["cpu"] == 75
    assert reading.joules["ram"] == pytest.approx(10 * 0.25)  # half of what is in use at the end, nothing at the start
    assert reading.gpus_j == [7.0]
    reading = after(cpu_j=100, ram_j=10, own_s=0, busy_s=2, resident=400)
    assert reading.joules == {"cpu": 75, "ram": pytest.approx(7.5)}
    assert after(cpu_j=100, busy_s=0).joules["cpu"] == 75


def test_clocks_that_tick_apart_lose_nothing(share):
    """Readings of 50 ms see 40 or 60 ms of a machine that only this tree keeps busy."""
    _, after = share
    for number in range(100):
        reading = after(cpu_j=1, own_s=0.05, busy_s=0.06 if number % 2 else 0.04)

    assert reading.joules["cpu"] == pytest.approx(100, abs=10)


def test_a_reading_that_is_missed_is_shared_by_the_time_since_the_last_that_was_not(share):
    sensor, after = share
    assert after(cpu_j=None, own_s=1, busy_s=1).joules["cpu"] is None
    sensor._machine.cpu_j = 0.0

    assert after(cpu_j=100, own_s=0, busy_s=3).joules["cpu"] == 25


def test_a_counter_that_went_backwards_goes_backwards_here_too(share):
    _, after = share
    before = after(cpu_j=100, own_s=1, busy_s=2).joules["cpu"]

    assert after(cpu_j=-40, own_s=1, busy_s=2).joules["cpu"] < before


def test_a_share_says_that_it_is_one(share):
    sensor, _ = share
    parts = sensor.components()

    assert {name: str(part.source) for name, part in parts.items()} == {
        "cpu": "apportioned",
        "gpu": "measured",
        "ram": "estimated",
    }
    assert {name: part.scope for name, part in parts.items()} == {"cpu": "process", "gpu": "machine", "ram": "process"}
    assert sensor.describe() == {"meter": "fake", "scope": "process"}
    assert parts["cpu"].method == "share of the busy CPU time: RAPL energy counter"
    assert parts["gpu"].method == "whole GPUs: NVML energy counter"
    assert not parts["cpu"].is_bounded  # a convention has no error
    assert parts["ram"].idle_w is None


def test_what_other_virtual_machines_have_is_no_busy_time(monkeypatch):
    names = "user nice system idle iowait irq softirq steal guest guest_nice"
    times = namedtuple("scputimes", names)(10, 2, 3, 1000, 400, 0.5, 0.25, 5000, 4, 1)
    monkeypatch.setattr(process.psutil, "cpu_times", lambda: times)

    assert process.busy_s() == 10 + 2 + 3 + 0.5 + 0.25


def test_the_busy_time_of_this_machine_grows_with_its_work():
    before, began = process.busy_s(), time.process_time()
    while time.process_time() - began < 0.1:
        pass

    assert process.busy_s() - before >= 0.08
