"""Phases out of readings: samples, boundaries, windows. No thread, and the time is what its clock says."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from greenml.energy.sensor import COMPONENTS, Component, Reading, Sensor, SensorError
from greenml.energy.series import MAX_FAILURES, Mark, Series, difference_j, error_j
from greenml.records import Source, total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SEAM_S = 5e-3
"""Less than this between two windows is no phase: the next window starts where the last one ended."""

UNKNOWN_DEVICE = "unknown"
"""What runs of its own may compute on anything: that claims no GPU."""

DURABLE_S = 8.0
"""A longer phase is cut at the next heartbeat, so that its caller can store it: who is killed loses 10 s at most."""


PAUSE_S = 0.05
"""No two readings come closer: CodeCarbon would not measure again, nor would its joules be worth the time."""


class Part(NamedTuple):
    """What one component used in one phase."""

    joules: float | None
    source: Source
    error_j: float | None
    """Bound on its error; None where nothing bounds it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the ledger: one phase, and what it used."""

    seq: int
    name: str
    epoch: int | None
    began: float
    """By the ledger's clock, ..."""
    ended: float
    """... as is its end."""
    parts: dict[str, Part]
    """By component."""
    gpus_j: list[float | None] | None
    method: str

    @property
    def error_j(self) -> float | None:
        """Of all components that have a bound; None where none has."""
        bounds = [part.error_j for part in self.parts.values() if part.error_j is not None]
        return sum(bounds) if bounds else None


class Power(NamedTuple):
    """What the last two readings say; None where a component is unknown."""

    watts: float | None
    joules: float | None
    """Since the first reading."""
    at: float


@dataclass(slots=True)
class _Boundary:
    """Where one window ends and the next begins."""

    at: float
    marks: dict[str, Mark]

    @property
    def is_settled(self) -> bool:
        return all(mark.is_settled for mark in self.marks.values())


@dataclass(slots=True)
class _Window:
    seq: int
    name: str
    epoch: int | None
    between: bool
    start: _Boundary
    end: _Boundary | None = None


class Ledger:
    """Books every moment between `open` and `close` under the name of what was being done.

    Windows tile the time. A boundary costs one reading; where the last one is too recent to read again, the joules
    between the two readings around the boundary are split by time and said to be. Each component, and each GPU, is
    booked for itself: one that fails is split or unknown, and takes no other with it.
    """

    def __init__(
        self, sensor: Sensor, *, clock: Callable[[], float], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._sensor, self._clock, self._sleep = sensor, clock, sleep
        self._series: dict[str, Series] = {}
        self._gpus: list[str] = []
        self._windows: deque[_Window] = deque()
        self._entries: deque[Entry] = deque()
        self._num_windows = 0
        self._last_at: float | None = None
        self._last_boundary_at = float("-inf")
        self._last_was_idle = False
        self._answered_at = 0.0
        self._faults: dict[str, str] = {}
        self._troubles: dict[str, str] = {}
        self._dead: str | None = None
        self._is_closed = False
        self.device = "cpu"
        """What is trained on. A GPU that is trained on and not seen by the sensor is unknown, not absent."""
        self.began = self.ended = 0.0
        """The start of the first window, and the end of the last that is over; by the clock."""
        self.power = Power(None, None, 0.0)

    # -- what is booked --------------------------------------------------------------------------------------------

    def open(self, name: str) -> None:
        """Start the sensor and the first window. A sensor that does not start leaves everything unknown."""
        try:
            self._sensor.start()
        except SensorError as error:
            self._dead = str(error)
        self._series = {component: self._new_series(component) for component in COMPONENTS}
        for component, series in self._series.items():
            if self._dead is not None or not self._is_expected(component):
                series.lose()
        self._read(by_beat=False)
        self.began = self.ended = self._clock() if self._last_at is None else self._last_at
        self._begin(name, None, between=True, start=self._boundary(self.began))

    def switch(self, name: str, epoch: int | None, *, between: bool, asked_at: float) -> int:
        """End the window in hand and begin the next; the number of the phase that is then in hand.

        Where the one in hand is a seam `between` two others, it becomes the next.
        """
        current = self._windows[-1]
        if current.between and current.seq > 0 and asked_at - self._answered_at < SEAM_S:
            current.name, current.epoch, current.between = name, epoch, between
            return current.seq
        end = self._end(must=False)
        self._begin(name, epoch, between=between, start=end)
        self._answered_at = self._clock()
        return self._num_windows - 1

    def close(self) -> int:
        """End the last window, and settle everything; the number of the last phase."""
        self._end(must=True)
        self._is_closed = True
        for _ in range(MAX_FAILURES):
            if self.is_waiting:
                self._sleep(self._sensor.min_interval_s)
                self._read(by_beat=False, must=True)
        for series in self._series.values():
            series.give_up()
        self.settle()
        return self._num_windows - 1

    def beat(self) -> None:
        """A reading between boundaries: so that no boundary stays unread, no counter wraps, and long phases are cut."""
        self._read(by_beat=True)
        current = self._windows[-1] if self._windows else None  # none after the last one is closed
        if current and current.end is None and self._last_at and self._last_at - current.start.at >= DURABLE_S:
            current.end = self._boundary(self._last_at)
            self._begin(current.name, current.epoch, between=current.between, start=current.end)
        self.settle()

    @property
    def is_waiting(self) -> bool:
        """Whether a boundary needs another reading, `min_interval_s` after the last one."""
        return any(series.is_waiting for series in self._series.values())

    # -- what is known ---------------------------------------------------------------------------------------------

    def entries(self) -> Iterator[Entry]:
        """The phases that have settled since the last call, in order."""
        while self._entries:
            yield self._entries.popleft()

    def components(self) -> dict[str, Component]:
        """How `cpu`, `gpu` and `ram` are known."""
        known = {name: self._sensor.components()[name] for name in COMPONENTS}
        if self.device not in ("cpu", UNKNOWN_DEVICE) and known["gpu"].source is Source.ABSENT:
            known["gpu"] = Component(Source.UNKNOWN, f"the {self.device} device cannot be read")
        return known

    @property
    def trouble(self) -> str | None:
        """What went wrong with the sensor, in words; None while all is well."""
        if self._dead is not None:
            return self._dead
        said = set(self._troubles.values())
        if len(said) == 1 and len(self._troubles) == len(self._series):
            return said.pop()
        return "; ".join(f"{name}: {fault}" for name, fault in self._troubles.items()) or None

    # -- readings --------------------------------------------------------------------------------------------------

    def _read(self, *, by_beat: bool, must: bool = False) -> float | None:
        """Read the sensor; the moment of it, or None where the last reading is too recent, or this one failed."""
        if self._dead is not None:
            return None
        now, interval_s = self._clock(), self._sensor.min_interval_s
        if not (by_beat or must) and now - self._last_boundary_at < interval_s:
            return None  # a window too short to be read at all
        if self._last_at is not None:
            too_soon_s = self._last_at + min(interval_s, PAUSE_S) - now
            if too_soon_s > 0:
                # Idle heartbeats come a second after everything else: this wait is rare, and short beside its window.
                if not (must or by_beat or self._last_was_idle):
                    return None
                self._sleep(too_soon_s)
        self._last_was_idle = by_beat and not self.is_waiting
        try:
            reading = self._sensor.read()
        except SensorError as error:
            reading = Reading(dict.fromkeys(COMPONENTS), faults=dict.fromkeys(COMPONENTS, str(error)))
        at = self._clock()
        self._book(at, reading)
        if all(value is None for value in reading.joules.values()) and not reading.gpus_j:
            return None
        self._last_at = at
        if not by_beat:
            self._last_boundary_at = at
        return at

    def _book(self, at: float, reading: Reading) -> None:
        if reading.gpus_j is not None and not self._gpus:
            self._tell_gpus_apart(len(reading.gpus_j))
        by_name = dict(reading.joules)
        by_name |= zip(self._gpus, reading.gpus_j or [None] * len(self._gpus), strict=True)
        for name, series in self._series.items():
            component = "gpu" if name in self._gpus else name
            joules, was_current, was_lost = by_name.get(name), series.is_current, series.is_lost
            series.feed(at, joules, broken=not {name, component}.isdisjoint(reading.broken))
            if joules is None:
                self._faults[name] = reading.faults.get(name) or reading.faults.get(component, "no reading")
            elif was_current and series.power_w is None:
                self._faults[name] = reading.faults.get(component, "its counter was reset")
            if series.is_lost and not was_lost and self._is_expected(component):
                self._troubles[name] = self._fault(name)
        if not self._is_closed:
            self._note_power(at)

    def _tell_gpus_apart(self, number: int) -> None:
        self._gpus = [f"gpu {index}" for index in range(number)]
        self._series.pop("gpu").give_up()
        self._series |= {name: self._new_series("gpu") for name in self._gpus}

    def _new_series(self, component: str) -> Series:
        return Series(self._sensor.components()[component].period_s, self._sensor.min_interval_s)

    def _is_expected(self, component: str) -> bool:
        return self.components()[component].source is not Source.UNKNOWN

    def _fault(self, name: str) -> str:
        return self._faults.get(name) or self._dead or "no reading"

    def _note_power(self, at: float) -> None:
        if not all(map(self._is_expected, COMPONENTS)):
            self.power = Power(None, None, at)
            return
        self.power = Power(
            total(*(series.power_w for series in self._series.values())),
            total(*(series.used_j for series in self._series.values())),
            at,
        )

    # -- windows ---------------------------------------------------------------------------------------------------

    def _end(self, *, must: bool) -> _Boundary:
        at = self._read(by_beat=False, must=must)
        end = self._boundary(self._clock() if at is None else at)
        self._windows[-1].end, self.ended = end, end.at
        return end

    def _begin(self, name: str, epoch: int | None, *, between: bool, start: _Boundary) -> None:
        self._windows.append(_Window(self._num_windows, name, epoch, between, start))
        self._num_windows += 1

    def _boundary(self, at: float) -> _Boundary:
        return _Boundary(at, {name: series.mark(at) for name, series in self._series.items()})

    def settle(self) -> None:
        """Turn the windows whose both ends are known into entries, in order."""
        while self._windows:
            window = self._windows[0]
            if window.end is None or not (window.start.is_settled and window.end.is_settled):
                return
            self._entries.append(self._entry(window, window.start, window.end))
            self._windows.popleft()

    def _entry(self, window: _Window, start: _Boundary, end: _Boundary) -> Entry:
        components, faults, parts = self.components(), dict[str, str](), dict[str, Part]()
        pairs = {name: (_mark(start, name), _mark(end, name)) for name in self._series}
        gpus_j = [difference_j(*pairs[name]) for name in self._gpus]
        for name, component in components.items():
            names = self._gpus if name == "gpu" and self._gpus else [name]
            parts[name] = _part(component, [pairs[each] for each in names])
            if parts[name].joules is None and component.source is not Source.UNKNOWN:
                lost = [each for each in names if difference_j(*pairs[each]) is None]
                self._troubles |= {each: self._fault(each) for each in lost}
                faults[name] = "; ".join(sorted({self._fault(each) for each in lost}))
        is_split = any(mark.shared_j is not None for pair in pairs.values() for mark in pair)
        return Entry(
            seq=window.seq,
            name=window.name,
            epoch=window.epoch,
            began=start.at,
            ended=end.at,
            parts=parts,
            gpus_j=gpus_j or None,
            method=_method(components, faults) + ("; split by time" if is_split else ""),
        )


def _mark(boundary: _Boundary, name: str) -> Mark:
    """What a counter stood at; unknown where it was not yet told apart."""
    return boundary.marks.get(name) or Mark(boundary.at)


def _part(component: Component, pairs: list[tuple[Mark, Mark]]) -> Part:
    joules = total(*(difference_j(*pair) for pair in pairs))
    if joules is None or component.source is Source.UNKNOWN:
        return Part(None, Source.UNKNOWN, None)
    is_split = any(mark.shared_j is not None for pair in pairs for mark in pair)
    source = Source.APPORTIONED if is_split and component.source is Source.MEASURED else component.source
    return Part(joules, source, sum(error_j(*pair) for pair in pairs) if component.is_bounded else None)


def _method(components: Mapping[str, Component], faults: Mapping[str, str]) -> str:
    return ", ".join(
        f"{name}: {component.method}" + (f" [unknown here: {faults[name]}]" if name in faults else "")
        for name, component in components.items()
    )
