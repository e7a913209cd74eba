"""Phases that tile a run: one thread reads the sensor, boundaries and heartbeats alike."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from greenml.energy.presence import Presence
from greenml.energy.sensor import COMPONENTS, Component, Sensor, SensorError
from greenml.records import Phase, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

HEARTBEAT_S = 1.0
"""Counters wrap, screens want watts, and a killed run counts to its last heartbeat."""

SEAM_S = 5e-3
"""Less than this between two windows is no phase: the next window starts where the last one ended."""

DURABLE_S = 8.0
"""A longer phase is cut at the next heartbeat, so that its caller can store it: who is killed loses 10 s at most."""

MAX_FAILURES = 3
"""Readings that fail in a row before the meter is called broken."""


Joules = dict[str, float | None]


class _Sample(NamedTuple):
    """Cumulative joules per component at a moment of the meter's clock."""

    at: float
    joules: Joules
    by_heartbeat: bool


class _Power(NamedTuple):
    """What the last two readings say; None where a component is unknown."""

    watts: float | None
    joules: float | None
    """Since the first reading."""
    at: float


@dataclass(slots=True)
class _Boundary:
    """Where one window ends and the next begins."""

    at: float
    joules: Joules | None = None
    """Cumulative; None until a reading comes."""
    shared: Joules | None = None
    """Where no reading fell on the boundary: the joules between the two readings around it."""


@dataclass(slots=True)
class _Window:
    seq: int
    name: str
    epoch: int | None
    between: bool
    start: _Boundary
    end: _Boundary | None = None

    @property
    def is_split(self) -> bool:
        return any(boundary is not None and boundary.shared is not None for boundary in (self.start, self.end))


@dataclass(slots=True)
class _Switch:
    """Asks the measuring thread to close the current window and to open the next."""

    name: str
    epoch: int | None
    between: bool = False
    final: bool = False
    asked_at: float = 0.0
    done: Future[int] = field(default_factory=Future)


class Meter:
    """Books every moment of a run under the name of what was being done.

        with Meter(sensor, run_id=...) as meter:
            meter.wait_until_ready()
            with meter.window("train", epoch=1):
                ...
            meter.finish()
            meter.phases()

    What happens between two windows is a phase too (`setup` before the first, then `record`), so that phases tile the
    run. A boundary costs one reading; where the last one is too recent to read again, the joules between the two
    readings around the boundary are split by time and said to be. Readings that fail never break a training: what
    they cover is split or, when the sensor stays silent, unknown.
    """

    def __init__(
        self,
        sensor: Sensor,
        *,
        run_id: str,
        segment: int = 0,
        clock: Callable[[], float] = time.perf_counter,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._sensor = sensor
        self._bug: BaseException | None = None
        self._run_id, self._segment = run_id, segment
        self._clock, self._heartbeat_s = clock, heartbeat_s
        self._device = "cpu"
        self._synchronize: Callable[[], None] = lambda: None
        self._requests: queue.SimpleQueue[_Switch | None] = queue.SimpleQueue()
        self._settled: queue.SimpleQueue[Phase] = queue.SimpleQueue()
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._measure, name="greenml-meter", daemon=True)
        self._presence = Presence()
        # From here on only the measuring thread writes.
        self._windows: deque[_Window] = deque()
        self._unread: list[_Boundary] = []
        self._first: _Sample | None = None
        self._last: _Sample | None = None
        self._latest = _Power(None, None, 0.0)
        self._num_windows = 0
        self._num_failures = 0
        self._answered_at = self._seen_at = self._began = 0.0
        self._peak_w = dict.fromkeys(COMPONENTS, 0.0)
        self.started_at = self.ended_at = datetime.now(UTC).replace(tzinfo=None)
        """UTC, naive: the first moment of the first phase, and the last of the latest that has ended."""
        self.trouble: str | None = None
        """What went wrong with the sensor, in words; None while all is well."""
        self.last_seq = 0
        """Of the last phase of the window that closed last."""
        self.deaf: str | None = None
        """Why other meters on this machine cannot be heard; None where they can."""

    # -- what a run calls ------------------------------------------------------------------------------------------

    def __enter__(self) -> Meter:
        """Start the sensor in the background: CodeCarbon takes 2 to 3 s, and libraries load meanwhile."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._requests.put(None)
        self._thread.join()

    def wait_until_ready(self) -> None:
        """Return once the first phase, `setup`, has begun."""
        self._ready.result()

    def attach(self, device: str, synchronize: Callable[[], None]) -> None:
        """Name the device that is trained on; `synchronize` waits until it has done what it was given.

        A GPU that is trained on and not seen by the sensor is unknown from here on, not absent.
        """
        self._device, self._synchronize = device, synchronize

    @contextmanager
    def window(self, name: str, epoch: int | None = None) -> Iterator[None]:
        """Book what happens inside under `name`; its last phase is then that of `last_seq`."""
        self._switch(_Switch(name, epoch))
        try:
            yield
        finally:
            self.last_seq = self._switch(_Switch("record", epoch, between=True)) - 1

    def turn_to(self, name: str, epoch: int | None = None, *, between: bool = False) -> int:
        """End the window that is open, book under `name` from here on, and give the number of the phase that ended
        last. What lies `between` two others and is too short to be a phase becomes part of the next."""
        return self._switch(_Switch(name, epoch, between)) - 1

    def finish(self) -> None:
        """Close the last phase at `ended_at`; after this `phases` gives all that are left."""
        self._switch(_Switch("", None, final=True))

    def phases(self) -> Iterator[Phase]:
        """The phases whose joules have become known since the last call, in order."""
        while True:
            try:
                yield self._settled.get_nowait()
            except queue.Empty:
                return

    def watts(self) -> float | None:
        """Power between the last two readings, all components; None while unknown."""
        return self._latest.watts

    def energy_j(self) -> float | None:
        """Joules from the start of this meter to now, by the last power since the last reading, which is a second old
        at most; None where a component is unknown."""
        watts, joules, at = self._latest
        if watts is None or joules is None:
            return None
        return joules + watts * (self._clock() - at) if self._windows else joules  # none are left after `finish`

    @property
    def is_blind(self) -> bool:
        """Whether a component cannot be read, so that nobody knows what this run uses."""
        return self.trouble is not None or any(part.source is Source.UNKNOWN for part in self._components().values())

    def elapsed_s(self) -> float:
        """Seconds from the first moment of the first phase to now."""
        return self._clock() - self._began

    def describe(self) -> dict[str, object]:
        """How the joules are known, for the record."""
        return {
            **self._sensor.describe(),
            **{name: {"source": str(part.source), "method": part.method} for name, part in self._components().items()},
        }

    def _components(self) -> dict[str, Component]:
        known = dict(self._sensor.components())
        if self._device != "cpu" and known["gpu"].source is Source.ABSENT:
            known["gpu"] = Component(Source.UNKNOWN, f"the {self._device} device cannot be read")
        return known

    def _switch(self, request: _Switch) -> int:
        self._synchronize()
        request.asked_at = self._clock()
        self._requests.put(request)
        while True:
            try:
                return request.done.result(timeout=1.0)
            except TimeoutError:
                if self._bug:
                    raise self._bug from None

    # -- what the measuring thread does ----------------------------------------------------------------------------

    def _measure(self) -> None:
        try:
            self._start()
            self._ready.set_result(None)
            while (request := self._next()) is not None:
                try:
                    seq = self._handle(request)
                except BaseException as error:
                    request.done.set_exception(error)
                    raise
                self._answered_at = self._clock()
                request.done.set_result(seq)
                self._settle()  # after the answer: it need not wait for the books
            self._presence.leave()
            self._sensor.stop()
        except BaseException as error:  # noqa: BLE001
            # A bug in the meter must surface where the run waits for it, not hang the run.
            self._bug = error
            if not self._ready.done():
                self._ready.set_exception(error)

    def _next(self) -> _Switch | None:
        """What the run asks for next; until then, readings so that no boundary stays unread and no counter wraps."""
        while True:
            if self._clock() - self._seen_at >= self._heartbeat_s:
                self._seen_at = self._clock()
                self._presence.alive()
            try:
                return self._requests.get(timeout=self._sensor.min_interval_s if self._unread else self._heartbeat_s)
            except queue.Empty:
                self._read(by_heartbeat=not self._unread)
                self._cut_what_is_long()

    def _cut_what_is_long(self) -> None:
        """Store a long phase piecewise: each piece is a phase of the same name."""
        current = self._windows[-1] if self._windows else None  # none after the final one
        if current and self._last and self._last.at - current.start.at >= DURABLE_S:
            current.end = self._boundary(self._last)
            self._settle()
            self._open(current.name, current.epoch, current.between, current.end)

    def _start(self) -> None:
        try:
            self._sensor.start()
        except SensorError as error:
            self.trouble = str(error)
        try:
            self._presence.announce()
        except OSError as error:
            self.deaf = str(error)
        self._read(by_heartbeat=False)
        self._began = self._last.at if self._last else self._clock()
        self.started_at = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=self._clock() - self._began)
        self._open("setup", None, between=True, start=self._boundary(self._last))

    def _handle(self, request: _Switch) -> int:
        current = self._windows[-1]
        seam = current.between and current.seq > 0 and request.asked_at - self._answered_at < SEAM_S
        if seam and not request.final:
            current.name, current.epoch, current.between = request.name, request.epoch, request.between
            return current.seq
        current.end = self._boundary(self._read(by_heartbeat=False, must=request.final))
        self.ended_at = self._wall(current.end.at)
        if not request.final:
            return self._open(request.name, request.epoch, request.between, current.end)
        if current.end.joules is None:
            self._give_up()
        self._settle()
        return current.seq

    def _open(self, name: str, epoch: int | None, between: bool, start: _Boundary) -> int:
        self._windows.append(_Window(self._num_windows, name, epoch, between, start))
        self._num_windows += 1
        return self._num_windows - 1

    def _boundary(self, sample: _Sample | None) -> _Boundary:
        if sample:
            return _Boundary(sample.at, sample.joules)
        boundary = _Boundary(self._clock())
        self._unread.append(boundary)
        if self.trouble:
            self._give_up()
        return boundary

    def _read(self, *, by_heartbeat: bool, must: bool = False) -> _Sample | None:
        """A new sample; None where the last one is too recent, or the sensor failed."""
        if self.trouble:
            return None
        if self._last:
            too_soon_s = self._last.at + self._sensor.min_interval_s - self._clock()
            if too_soon_s > 0:
                # A heartbeat comes only a second after everything else, so this wait is rare, and short beside its
                # window. Two boundaries this close mean that the window is too short to be read at all.
                if not (must or self._last.by_heartbeat):
                    return None
                time.sleep(too_soon_s)
        try:
            reading = self._sensor.read()
        except SensorError as error:
            self._num_failures += 1
            if self._num_failures == MAX_FAILURES:
                self.trouble = str(error)
                self._give_up()
            return None
        self._num_failures = 0
        sample = _Sample(self._clock(), {name: getattr(reading, f"{name}_j") for name in COMPONENTS}, by_heartbeat)
        if self._first and self._last:
            self._resolve(self._last, sample)
            self._note_power(self._first, self._last, sample)
        self._first, self._last = self._first or sample, sample
        return sample

    def _note_power(self, first: _Sample, before: _Sample, now: _Sample) -> None:
        used, seconds = _difference(now.joules, before.joules), now.at - before.at
        for name, joules in used.items():
            self._peak_w[name] = max(self._peak_w[name], (joules or 0.0) / seconds)
        if any(part.source is Source.UNKNOWN for part in self._components().values()):
            self._latest = _Power(None, None, now.at)
        else:
            used_j, total_j = _total(used), _total(_difference(now.joules, first.joules))
            self._latest = _Power(None if used_j is None else used_j / seconds, total_j, now.at)

    def _resolve(self, before: _Sample, after: _Sample) -> None:
        """Split what was used between two samples by time, at the boundaries that fell there."""
        shared = _difference(after.joules, before.joules)
        for boundary in self._unread:
            share = (boundary.at - before.at) / (after.at - before.at)
            boundary.shared = shared
            boundary.joules = {
                name: None if used is None else _known(before.joules[name]) + used * share
                for name, used in shared.items()
            }
        self._unread.clear()
        self._settle()

    def _give_up(self) -> None:
        """No reading will come any more: what was not read is unknown."""
        for boundary in self._unread:
            boundary.joules = dict.fromkeys(COMPONENTS)
        self._unread.clear()
        self._latest = _Power(None, None, self._clock())
        self._settle()

    def _settle(self) -> None:
        """Turn the windows whose both ends are known into phases, in order."""
        while self._windows:
            window = self._windows[0]
            if window.end is None or window.start.joules is None or window.end.joules is None:
                return
            self._settled.put(self._phase(window, window.end, _difference(window.end.joules, window.start.joules)))
            self._windows.popleft()

    def _phase(self, window: _Window, end: _Boundary, joules: Joules) -> Phase:
        components = self._components()
        sources = {name: components[name].source for name in COMPONENTS}
        for name, used in joules.items():
            if sources[name] is Source.UNKNOWN:
                joules[name] = None
            elif used is None:
                sources[name] = Source.UNKNOWN
            elif window.is_split and sources[name] is Source.MEASURED:
                sources[name] = Source.APPORTIONED
        method = ", ".join(f"{name}: {components[name].method}" for name in COMPONENTS)
        started_at, ended_at = self._wall(window.start.at), self._wall(end.at)
        return Phase(
            run_id=self._run_id,
            segment=self._segment,
            seq=window.seq,
            name=window.name,
            epoch=window.epoch,
            device=self._device,
            started_at=started_at,
            ended_at=ended_at,
            cpu_j=joules["cpu"],
            gpu_j=joules["gpu"],
            ram_j=joules["ram"],
            cpu_source=sources["cpu"],
            gpu_source=sources["gpu"],
            ram_source=sources["ram"],
            method=method + ("; split by time" if window.is_split else ""),
            error_j=self._error_j(window, end, sources),
            overlap_s=self._presence.overlap_s(_unix(started_at), _unix(ended_at)),
        )

    def _error_j(self, window: _Window, end: _Boundary, sources: dict[str, Source]) -> float | None:
        """Of what is counted: at each end one tick at the highest power so far, and all that was shared where split."""
        components, error = self._components(), None
        for name, source in sources.items():
            if source not in (Source.MEASURED, Source.APPORTIONED):
                continue
            error = error or 0.0
            for boundary in (window.start, end):
                tick_j = self._peak_w[name] * (components[name].period_s or 0.0)
                error += tick_j if boundary.shared is None else tick_j + _known(boundary.shared[name])
        return error

    def _wall(self, at: float) -> datetime:
        return self.started_at + timedelta(seconds=at - self._began)


def _unix(at: datetime) -> float:
    return at.replace(tzinfo=UTC).timestamp()


def _difference(after: Joules, before: Joules) -> Joules:
    """None where one of the two is, and where a counter went backwards: it was reset, and what it had is lost."""
    return {name: _used(value, before[name]) for name, value in after.items()}


def _used(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None or after < before else after - before


def _total(joules: Joules) -> float | None:
    return None if None in joules.values() else sum(map(_known, joules.values()))


def _known(value: float | None) -> float:
    if value is None:
        raise ValueError("a gap in the readings has no value")
    return value
