"""Phases that tile a run: one thread reads the sensor, boundaries and heartbeats alike."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from greenml.energy.idle import idle_watts
from greenml.energy.ledger import Entry, Ledger
from greenml.energy.presence import Presence
from greenml.errors import MeterError
from greenml.records import Phase, Source, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from greenml.energy.sensor import Component, Sensor

HEARTBEAT_S = 1.0
"""Counters wrap, screens want watts, and a killed run counts to its last heartbeat."""


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
    run. The books are kept by a `Ledger`, which only the measuring thread touches. Readings that fail never break a
    training: what they cover is split or, when a component stays silent, unknown.
    """

    def __init__(
        self,
        sensor: Sensor,
        *,
        run_id: str,
        segment: int = 0,
        clock: Callable[[], float] = time.perf_counter,
        heartbeat_s: float = HEARTBEAT_S,
        idle: Mapping[str, object] | None = None,
        tdp_w: float | None = None,
        driver: str | None = None,
    ) -> None:
        self._sensor = sensor
        self._ledger = Ledger(sensor, clock=clock)
        self._bug: BaseException | None = None
        self._run_id, self._segment = run_id, segment
        self._clock, self._heartbeat_s = clock, heartbeat_s
        self._measured_idle, self._tdp_w = idle, tdp_w
        self._synchronize: Callable[[], None] = lambda: None
        self._requests: queue.SimpleQueue[_Switch | None] = queue.SimpleQueue()
        self._settled: queue.SimpleQueue[Phase] = queue.SimpleQueue()
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._measure, name="greenml-meter", daemon=True)
        self._presence = Presence(run_id, driver=driver)
        self._seen_at = 0.0
        self._is_over = False
        self.started_at = self.ended_at = utc_now()
        """UTC, naive: the first moment of the first phase, and the last of the latest that has ended."""
        self.first_seq = self.last_seq = 0
        """Of the phases of the window that closed last; `first_seq` is known as soon as it is open."""
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
        self._ledger.device, self._synchronize = device, synchronize

    def require(self) -> None:
        """Raise MeterError where the meter did not start, or a component cannot be metered."""
        if self.missing:
            raise MeterError(
                f"not everything can be metered: {self.missing}",
                hint="`greenml doctor` says what would help; without --require-meter it is stored as unknown",
            )

    @contextmanager
    def window(self, name: str, epoch: int | None = None) -> Iterator[None]:
        """Book what happens inside under `name`; its phases are then those from `first_seq` to `last_seq`."""
        self.first_seq = self._switch(_Switch(name, epoch))
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
        return self._ledger.power.watts

    def energy_j(self) -> float | None:
        """Joules from the start of this meter to now, by the last power since the last reading, which is a second old
        at most; None where a component is unknown."""
        watts, joules, at = self._ledger.power
        if self._is_over or watts is None or joules is None:
            return joules
        return joules + watts * (self._clock() - at)

    @property
    def trouble(self) -> str | None:
        """What went wrong with the sensor, in words; None while all is well."""
        return self._ledger.trouble

    @property
    def missing(self) -> str | None:
        """What of this run nobody knows, and why, in words; None where every joule is known."""
        unknown = [
            f"{name}: {part.method}"
            for name, part in self._ledger.components().items()
            if part.source is Source.UNKNOWN
        ]
        return self.trouble or "; ".join(unknown) or None

    @property
    def is_blind(self) -> bool:
        """Whether a component cannot be read, so that nobody knows what this run uses."""
        return self.missing is not None

    @property
    def unused_tdp(self) -> str | None:
        """That a TDP was given and nothing is reckoned with it, in words; None where it is, and where none was."""
        cpu = self._ledger.components()["cpu"]
        if self._tdp_w is None or cpu.constants.get("tdp_w") == self._tdp_w:
            return None
        return f"tdp {self._tdp_w:g}: the CPU is not metered by a model that takes one ({cpu.method})"

    def elapsed_s(self) -> float:
        """Seconds from the first moment of the first phase to now."""
        return self._clock() - self._ledger.began

    def describe(self) -> dict[str, object]:
        """How the joules are known, for the record: the meter, each component, each GPU, and the idle power."""
        components = self._ledger.components()
        described: dict[str, Any] = {"scope": "machine", "gpus": [], "ignored": [], **self._sensor.describe()}
        if self.unused_tdp:
            described["ignored"] = [*described["ignored"], self.unused_tdp]
        described["interval_s"] = self._heartbeat_s
        described |= {name: _described(part) for name, part in components.items()}
        is_whole = described["scope"] == "machine"  # what a machine draws when idle is not its processes'
        described["idle"] = idle_watts(components, self._measured_idle) if is_whole else None
        return described

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
                if not self._thread.is_alive():  # who broke off has closed it, while others still work
                    raise RuntimeError("the meter has stopped") from None

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
                request.done.set_result(seq)
                self._settle()  # after the answer: it need not wait for the books
            self._presence.leave()
            self._sensor.stop()
        except BaseException as error:  # noqa: BLE001
            # A bug in the meter must surface where the run waits for it, not hang the run.
            self._bug = error
            if not self._ready.done():
                self._ready.set_exception(error)

    def _start(self) -> None:
        try:
            self._presence.announce()
        except OSError as error:
            self.deaf = str(error)
        self._ledger.open("setup")
        since_s = self._clock() - self._ledger.began
        self.started_at = utc_now() - timedelta(seconds=since_s)

    def _next(self) -> _Switch | None:
        """What the run asks for next; until then, readings."""
        while True:
            if self._clock() - self._seen_at >= self._heartbeat_s:
                self._seen_at = self._clock()
                self._presence.alive()
            soon = self._ledger.is_waiting
            try:
                return self._requests.get(timeout=self._sensor.min_interval_s if soon else self._heartbeat_s)
            except queue.Empty:
                self._ledger.beat()
                self._settle()

    def _handle(self, request: _Switch) -> int:
        if request.final:
            seq = self._ledger.close()
            self._is_over = True
            self._settle()  # before the answer: whoever finishes wants all of them
        else:
            seq = self._ledger.switch(request.name, request.epoch, between=request.between, asked_at=request.asked_at)
        self.ended_at = self._wall(self._ledger.ended)
        return seq

    def _settle(self) -> None:
        self._ledger.settle()
        for entry in self._ledger.entries():
            self._settled.put(self._phase(entry))

    def _phase(self, entry: Entry) -> Phase:
        started_at, ended_at = self._wall(entry.began), self._wall(entry.ended)
        cpu, gpu, ram = entry.parts["cpu"], entry.parts["gpu"], entry.parts["ram"]
        return Phase(
            run_id=self._run_id,
            segment=self._segment,
            seq=entry.seq,
            name=entry.name,
            epoch=entry.epoch,
            device=self._ledger.device,
            started_at=started_at,
            ended_at=ended_at,
            cpu_j=cpu.joules,
            gpu_j=gpu.joules,
            ram_j=ram.joules,
            cpu_source=cpu.source,
            gpu_source=gpu.source,
            ram_source=ram.source,
            method=entry.method,
            error_j=entry.error_j,
            cpu_error_j=cpu.error_j,
            gpu_error_j=gpu.error_j,
            ram_error_j=ram.error_j,
            gpus_j=entry.gpus_j,
            overlap_s=self._presence.overlap_s(_unix(started_at), _unix(ended_at)),
        )

    def _wall(self, at: float) -> datetime:
        return self.started_at + timedelta(seconds=at - self._ledger.began)


def _described(part: Component) -> dict[str, object]:
    described = asdict(part)
    del described["idle_w"]  # the idle power is said once, of all
    return described | {"source": str(part.source), "constants": dict(part.constants)}


def _unix(at: datetime) -> float:
    return at.replace(tzinfo=UTC).timestamp()
