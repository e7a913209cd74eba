"""The energy counters of the processor (RAPL), as Linux shows them for Intel and AMD alike."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from greenml.energy.sensor import Component, SensorError
from greenml.records import Source

if TYPE_CHECKING:
    from collections.abc import Callable

POWERCAP = Path("/sys/class/powercap")

PERIOD_S = 0.001
"""The counters tick about every millisecond."""

MOST_W = 1000.0
"""More than any socket or its memory draws. What it makes impossible is no consumption: the counter was reset."""

STILL_S = 1.0
"""A counter that stands still for longer is not counting, as in virtual machines that show one: it is unread, not 0."""

MIRROR_J = 1.0
"""Dies of one package may each show the counter of the whole: two that always agree this closely are one."""

BREAK_J = 1e9
"""How far a count falls where some of it was lost: further than a run can climb again. Exact to 1e-6 J all the same."""


@dataclass(frozen=True)
class Domain:
    """A part of the machine with a counter of its own."""

    folder: Path
    name: str
    """`package-0`, `package-0-die-1`, `core`, `uncore`, `dram`, `psys`; empty where it cannot be read."""
    within: str
    """The name of the package that it is a part of; its own name where it is no part."""

    @property
    def interface(self) -> str:
        """`intel-rapl`, also on AMD; `intel-rapl-mmio` shows counters of the same packages once more."""
        return self.folder.name.partition(":")[0]

    @property
    def counts_as(self) -> str | None:
        """The component that it adds to; None for what is in a package already, and for the platform around it."""
        if self.name.startswith("package"):
            return "cpu"
        return "ram" if self.name.startswith("dram") else None

    @property
    def counter(self) -> Path:
        """The file with the count."""
        return self.folder / "energy_uj"

    def read_j(self) -> float:
        """Joules on the counter. Raises OSError where it cannot be read, ValueError where it is no number."""
        return _joules(self.counter)

    def range_j(self) -> float | None:
        """Joules after which the counter starts again from 0; None where the kernel does not say."""
        try:
            return _joules(self.folder / "max_energy_range_uj") or None
        except (OSError, ValueError):
            return None


class _Count:
    """What one domain has used since it was opened."""

    def __init__(self, domain: Domain, clock: Callable[[], float]) -> None:
        self.domain, self._clock = domain, clock
        self.used_j = 0.0
        self._range_j = domain.range_j()
        self._read_at = self._moved_at = clock()
        self._last_j = domain.read_j()

    def read(self) -> bool:
        """Take in what was used since the last reading; whether there is one."""
        before = self._clock()
        try:
            last_j, self._last_j = self._last_j, self.domain.read_j()
        except (OSError, ValueError):
            return False
        after = self._clock()
        # From before the last reading to after this one: the counter's own interval lies within, whoever interrupts.
        used_j = self._since(last_j, after - self._read_at)
        self._read_at = before
        if self._last_j != last_j:
            self._moved_at = after
        self.used_j += -BREAK_J if used_j is None else used_j
        return after - self._moved_at <= STILL_S

    def _since(self, last_j: float, seconds: float) -> float | None:
        """Joules since the last reading, over at most one wrap; None where they cannot be known."""
        used_j, most_j = self._last_j - last_j, (seconds + PERIOD_S) * MOST_W
        if self._range_j is not None:
            if most_j > self._range_j:  # long enough for a second wrap
                return None
            used_j %= self._range_j
        return used_j if 0 <= used_j <= most_j else None


class _Sum:
    """The counts of one component, each package once."""

    def __init__(self, counts: list[_Count]) -> None:
        self._counts = counts
        self._mirrors: dict[int, _Count] = {}
        for number, count in enumerate(counts):
            originals = [other for index, other in enumerate(counts[:number]) if index not in self._mirrors]
            original = next((other for other in originals if _agree(other.domain, count.domain)), None)
            if original:
                self._mirrors[number] = original

    def own(self) -> list[_Count]:
        """Those that mirror no other."""
        return [count for number, count in enumerate(self._counts) if number not in self._mirrors]

    def read_j(self) -> float | None:
        """Joules since opening; None where a counter did not answer."""
        answered = [count.read() for count in self._counts]
        for number, original in list(self._mirrors.items()):
            if not _agree(original.domain, self._counts[number].domain):
                del self._mirrors[number]  # it counts for itself after all, from the start
        own = self.own()
        if not all(answer for count, answer in zip(self._counts, answered, strict=True) if count in own):
            return None
        return sum(count.used_j for count in own)


class RaplCounters:
    """What the packages of this machine and their memory have used since opening.

    Wraps are undone. A reading that fails is None, and the next one that succeeds goes on from the last that did: the
    counter kept counting meanwhile, so that nothing is lost. Where something is lost all the same (the counter was
    reset, as by suspending a laptop, or the gap was long enough for it to wrap twice), the count falls by `BREAK_J`:
    every difference across the loss is negative, which a meter takes as unknown, and those before and after are right.
    """

    def __init__(self, sums: dict[str, _Sum]) -> None:
        self._sums = sums

    def read(self) -> dict[str, float | None]:
        """Joules since opening of `cpu` and, where its counters are there, `ram`; None: not read this time."""
        return {name: parts.read_j() for name, parts in self._sums.items()}

    def components(self) -> dict[str, Component]:
        """How they are known; the same keys as `read`."""
        return {name: Component(Source.MEASURED, _method(name, parts), PERIOD_S) for name, parts in self._sums.items()}


def open_counters(root: Path | None = None, *, clock: Callable[[], float] = time.monotonic) -> RaplCounters | None:
    """The counters of this machine (in `root` instead of `POWERCAP`); None where it shows none.

    Memory without a readable counter is left out.

    Raises SensorError where they are there and those of the processor cannot be read: half of it is no total.
    """
    domains = find_domains(root)
    if not domains:
        return None
    counted = {name: counted_once(domains, name) for name in ("cpu", "ram")}
    if not counted["cpu"]:
        raise SensorError(f"RAPL shows no package of the processor in {root or POWERCAP}")
    sums = {}
    for name, parts in counted.items():
        try:
            counts = [_Count(domain, clock) for domain in parts]
        except (OSError, ValueError) as error:
            if name == "cpu":
                raise SensorError(f"RAPL is there and cannot be read: {why(error)}") from error
            continue
        if counts:
            sums[name] = _Sum(counts)
    return RaplCounters(sums)


def find_domains(root: Path | None = None) -> list[Domain]:
    """Everything that RAPL shows of this machine, readable or not, in the order of its numbers."""
    folders = sorted((root or POWERCAP).glob("intel-rapl*:*"), key=_order)
    names = {folder.name: _name(folder) for folder in folders}
    return [
        Domain(folder, names[folder.name], names.get(_parent(folder.name), names[folder.name])) for folder in folders
    ]


def counted_once(domains: list[Domain], component: str) -> list[Domain]:
    """The domains that add up to a component: what a second interface shows again is left out."""
    seen: dict[tuple[str, str], str] = {}
    return [
        domain
        for domain in domains
        if domain.counts_as == component
        and seen.setdefault((domain.within, domain.name), domain.interface) == domain.interface
    ]


def why(error: OSError | ValueError) -> str:
    """Which file could not be read, and why, in words."""
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _joules(file: Path) -> float:
    text = _text(file)
    if not text.isdecimal():
        raise ValueError(f"{file}: `{text}` is no number of microjoules")
    return int(text) / 1e6


def _text(file: Path) -> str:
    return file.read_text(encoding="ascii", errors="replace").strip()


def _name(folder: Path) -> str:
    try:
        return _text(folder / "name")
    except OSError:  # a link that leads nowhere, as in containers that hide these folders
        return ""


def _parent(name: str) -> str:
    """ "intel-rapl:0:1" -> "intel-rapl:0"; what has no parent -> no folder's name."""
    head, _, _ = name.rpartition(":")
    return head if ":" in head else ""


def _order(folder: Path) -> tuple[str, list[int]]:
    interface, *numbers = folder.name.split(":")
    return interface, [int(number) for number in numbers if number.isdecimal()]


def _agree(one: Domain, other: Domain) -> bool:
    """Whether two counters may be one: the other's count lies between two of the first, however long reading takes."""
    try:
        before, between, after = one.read_j(), other.read_j(), one.read_j()
    except (OSError, ValueError):
        return True  # nothing was learned
    return after < before or before - MIRROR_J <= between <= after + MIRROR_J


def _method(name: str, parts: _Sum) -> str:
    num_packages = len(parts.own())
    of = "" if num_packages == 1 else f" of {num_packages} packages"
    return f"RAPL energy counter{of}" if name == "cpu" else f"RAPL energy counter of memory{of}"
