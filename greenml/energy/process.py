"""The share of one process tree in what a machine uses."""

from __future__ import annotations

import dataclasses
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from greenml.energy.sensor import Component
from greenml.records import Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from greenml.energy.sensor import Reading, Sensor

METHODS = {
    "cpu": "share of the busy CPU time",
    "gpu": "whole GPUs",
    "ram": "share of the memory in use (resident)",
}

NOT_BUSY = ("idle", "iowait", "steal", "guest", "guest_nice")
"""Times in which this machine did nothing: other virtual machines have what is stolen. Those of its own guests Linux
counts in `user` and `nice`, too."""


@dataclass(slots=True)
class _Times:
    """CPU seconds of one process, as last seen."""

    own_s: float
    reaped_s: float
    """Of its children that have ended and were waited for, and of theirs."""
    parent: psutil.Process | None = None
    """None where that is none of this tree: the root's, and an orphan's."""


class ProcessTree:
    """A process and everything that it started: CPU time and resident memory.

    Whoever ends between two looks is counted all the same: the time of a child that was waited for is in its parent's
    books, that of one which was not yet (a zombie) in its own. A descendant that was seen once stays counted when its
    parent ends. macOS and Windows keep no such books: there, what a child used after the last look at it is lost.
    """

    def __init__(self, pid: int | None = None, *, with_children: bool = True) -> None:
        self._root = psutil.Process(pid or os.getpid())
        self.with_children = with_children
        self._lists_children = Path(_children_file(self._root.pid, self._root.pid)).exists()  # Linux
        self._seen: dict[psutil.Process, _Times] = {}
        self._cpu_s = 0.0

    def look(self) -> tuple[float, int]:
        """CPU seconds of all of them since their start, the ended included; bytes that are resident now."""
        now, resident = dict[psutil.Process, _Times](), 0
        found = self._found()
        by_pid = {process.pid: process for process in found}
        for process in found:
            try:
                if not process.is_running():  # or its number is another's by now
                    continue
                with process.oneshot():
                    times = process.cpu_times()
                    own_s, reaped_s = times.user + times.system, times.children_user + times.children_system
                    reaped_s = reaped_s if self.with_children else 0.0
                    now[process] = _Times(own_s, reaped_s, by_pid.get(process.ppid()))
                    resident += process.memory_info().rss
            except psutil.ZombieProcess:  # where the system does not tell what it had
                continue
            except psutil.Error:  # it has ended since
                continue
        self._cpu_s += _grown_s(self._seen, now)
        self._seen = now
        return self._cpu_s, resident

    def _found(self) -> set[psutil.Process]:
        """The root, who was seen at the last look, and whatever they have started."""
        found = {self._root, *self._seen}
        if not self.with_children:
            return found
        if not self._lists_children:
            with suppress(psutil.Error):
                found |= set(self._root.children(recursive=True))
            return found
        waiting = list(found)
        while waiting:  # each is asked once, however it was reached
            children = set(_children(waiting.pop().pid)) - found
            found |= children
            waiting += children
        return found


def _children(pid: int) -> list[psutil.Process]:
    """What a process has started and is still there, as Linux lists it of each thread.

    psutil looks at every process of the machine instead: 1.8 ms for a hundred of them, where this takes 0.01 ms for
    each thread (twice that by way of pathlib).
    """
    found: list[psutil.Process] = []
    with suppress(OSError):  # it has just ended
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with suppress(OSError, psutil.Error), open(_children_file(pid, thread), "rb", buffering=0) as file:  # noqa: PTH123
                found += map(psutil.Process, map(int, file.read().split()))  # a thread, or a child, may have ended
    return found


def _children_file(pid: int, thread: int | str) -> str:
    return f"/proc/{pid}/task/{thread}/children"


def _grown_s(before: Mapping[psutil.Process, _Times], now: Mapping[psutil.Process, _Times]) -> float:
    """CPU seconds that came between two looks."""
    nothing = _Times(0.0, 0.0)
    own_s = sum(times.own_s - before.get(process, nothing).own_s for process, times in now.items())
    reaped_s = {process: times.reaped_s - before.get(process, nothing).reaped_s for process, times in now.items()}
    # Who ended is in the books of its parent, or of whoever waited for that, with all that it had: what was counted
    # already comes off there. An orphan is in nobody's.
    for process in before.keys() - now.keys():
        heir = before[process].parent
        while heir is not None and heir not in now:
            heir = before[heir].parent if heir in before else None
        if heir is not None:
            reaped_s[heir] -= before[process].own_s + before[process].reaped_s
    return max(own_s, 0.0) + sum(max(each, 0.0) for each in reaped_s.values())


def busy_s() -> float:
    """CPU seconds that this machine was not idle since it started."""
    times = psutil.cpu_times()
    return float(sum(times) - sum(getattr(times, name, 0.0) for name in NOT_BUSY))


class ProcessShare:
    """What a machine's sensor reads, cut down to the share of a process tree: a sensor, too.

    The processor's joules go by CPU time: of this tree, over all that was busy, between two readings. The memory's go
    by resident bytes over bytes in use. GPUs are whole: no counter tells who used them. Without its children, a process
    that only hands out work leaves the GPUs to them, too.
    """

    def __init__(self, machine: Sensor, tree: ProcessTree | None = None) -> None:
        self._machine, self._tree = machine, tree or ProcessTree()
        self._cpu_s = self._busy_s = 0.0
        self._owed_s = self._shared_s = 0.0
        self._memory_share = 0.0
        self._machine_j: dict[str, float] = {}
        self._own_j = {"cpu": 0.0, "ram": 0.0}

    @property
    def min_interval_s(self) -> float:
        """The machine's."""
        return self._machine.min_interval_s

    def start(self) -> None:
        self._machine.start()
        self._cpu_s, resident = self._tree.look()
        self._busy_s, self._memory_share = busy_s(), _memory_share(resident)

    def components(self) -> Mapping[str, Component]:
        alone = not self._tree.with_children
        return {name: _share_of(name, part, alone=alone) for name, part in self._machine.components().items()}

    def describe(self) -> dict[str, object]:
        described = self._machine.describe() | {"scope": "process"}
        return described if self._tree.with_children else described | {"gpus": []}

    def read(self) -> Reading:
        reading = self._machine.read()
        cpu_s, resident = self._tree.look()
        busy_now_s, memory_share = busy_s(), _memory_share(resident)
        self._owed_s += cpu_s - self._cpu_s
        self._shared_s += busy_now_s - self._busy_s
        self._cpu_s, self._busy_s = cpu_s, busy_now_s
        joules = dict(reading.joules)
        if (cpu_j := joules.get("cpu")) is not None:
            joules["cpu"] = self._take("cpu", cpu_j, self._spend())
        if (ram_j := joules.get("ram")) is not None:
            joules["ram"] = self._take("ram", ram_j, (self._memory_share + memory_share) / 2)
            self._memory_share = memory_share
        if not self._tree.with_children:
            return dataclasses.replace(reading, joules=joules | {"gpu": 0.0}, gpus_j=None)
        return dataclasses.replace(reading, joules=joules)

    def stop(self) -> None:
        self._machine.stop()

    def _spend(self) -> float:
        """The share in the busy time since the processor was last read.

        The two clocks tick apart, by 10 ms: what this tree had beyond all that was busy is owed to the next reading.
        """
        spent_s, shared_s = min(self._owed_s, self._shared_s), self._shared_s
        if shared_s <= 0:
            return 0.0
        self._owed_s, self._shared_s = self._owed_s - spent_s, 0.0
        return spent_s / shared_s

    def _take(self, name: str, machine_j: float, share: float) -> float:
        """Cumulative joules of this tree; a counter that went backwards goes backwards here, too."""
        used_j = machine_j - self._machine_j.get(name, machine_j)
        self._machine_j[name] = machine_j
        self._own_j[name] += used_j * share if used_j > 0 else used_j
        return self._own_j[name]


def _memory_share(resident: int) -> float:
    memory = psutil.virtual_memory()
    return min(resident / float(max(memory.total - memory.available, 1)), 1.0)


def _share_of(name: str, machine: Component, *, alone: bool) -> Component:
    if alone and name == "gpu":
        return Component(Source.ABSENT, "none of its own: those who train count theirs", scope="process")
    if machine.source in (Source.ABSENT, Source.UNKNOWN):
        return machine
    if name == "gpu":
        return dataclasses.replace(machine, method=f"{METHODS[name]}: {machine.method}")
    source = Source.APPORTIONED if machine.source is Source.MEASURED else machine.source
    method = f"{METHODS[name]}{', without its workers' if alone else ''}: {machine.method}"
    return dataclasses.replace(machine, source=source, method=method, scope="process", idle_w=None)
