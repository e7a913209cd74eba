"""Seats in which trials run, here or elsewhere: each one worker, and a line from it to the driver."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import connection
from typing import TYPE_CHECKING, Any, Protocol

from greenml.errors import UsageError
from greenml.sweep.worker import Outcome, Task, carry_out, forget, train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from greenml.sweep.worker import Message, Training

DIED = "its worker died"
GRACE_S = 10.0
"""How long a trial that is called off while everything ends may take for its last step."""


class Seat(Protocol):
    """Room for one trial at a time."""

    is_here: bool
    """On this machine."""
    is_crowded: bool
    """Others train on its machine, too, and it knows that they do."""

    def is_open(self) -> bool:
        """Whether a worker is there, or can be made. Raises ClusterError where none will come any more."""

    def start(self, task: Task, inbox: Inbox) -> None:
        """Train it; every message, the Outcome last, goes to the inbox."""

    def call_off(self) -> None:
        """The trial that runs is to end after the step in hand."""

    def close(self) -> None:
        """Let go of the worker."""


class Inbox:
    """Messages of all seats, by the run that they are about, in the order in which they came."""

    def __init__(self, noticed: Callable[[Message], None] = lambda _: None) -> None:
        """`noticed` hears of a message at once, in the thread that brings it."""
        self._queue: queue.SimpleQueue[tuple[str, Message]] = queue.SimpleQueue()
        self._noticed = noticed

    def put(self, run_id: str, message: Message) -> None:
        try:
            self._noticed(message)
        finally:
            self._queue.put((run_id, message))

    def get(self, timeout_s: float) -> tuple[str, Message] | None:
        """The next message; None where none comes in time."""
        try:
            return self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None


@contextmanager
def open_seats(
    num: int | None = None, *, device: str | None = None, cluster: str | None = None, training: Training = train
) -> Iterator[Sequence[Seat]]:
    """Room for `num` trials at a time, and an end to it: one for each GPU, or else one, where nobody says how many.

    One is in this process, several are processes of their own; those of a `cluster` (an address, or `local`) are its
    workers, one on each machine or GPU. Raises UsageError for more than there are GPUs, ClusterError for a cluster
    that does not answer.
    """
    seats: Sequence[Seat]
    # Who trains on the CPU counts no GPU: in the scope of a process those that it sees are its own.
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    if cluster is not None:
        from greenml.sweep.cluster import Cluster

        gpus = visible_gpus(device)
        with Cluster(cluster, num, gpus=gpus, environment=hidden, training=training) as workers:
            yield workers.seats
        return
    gpus = visible_gpus(device)
    num = num or max(len(gpus), 1)
    refuse_to_share(gpus, num)
    seats = [ThreadSeat(training)]
    if num > 1:
        num_threads = max(num_cpus() // num, 1)
        seats = [ProcessSeat(hidden | environment_of(gpus, at), num_threads, training) for at in range(num)]
    try:
        yield seats
    finally:
        for seat in seats:
            seat.close()


def visible_gpus(device: str | None) -> list[str]:
    """The ids of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them; none where it trains on
    something else."""
    if device not in (None, "auto", "cuda"):
        return []
    from greenml.energy.nvml import visible_ids

    return visible_ids()


def refuse_to_share(gpus: Sequence[str], num: int) -> None:
    """No counter tells who used a GPU: two trials on one would each count all of it."""
    if gpus and num > len(gpus):
        raise UsageError(
            f"{num} workers on {len(gpus)} GPU{'s' * (len(gpus) > 1)}: what each of them uses could not be told apart",
            hint=f"--workers {len(gpus)}, or --device cpu",
        )


def environment_of(gpus: Sequence[str], at: int) -> dict[str, str]:
    """What a worker is told, so that it uses one GPU alone."""
    return {"CUDA_VISIBLE_DEVICES": gpus[at]} if gpus else {}


def num_cpus() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def with_threads(task: Task, num_threads: int | None) -> Task:
    """The same with this many CPU threads, where nobody has said how many."""
    if num_threads is None or task.config.num_threads is not None:
        return task
    return replace(task, config=replace(task.config, num_threads=num_threads))


class ThreadSeat:
    """In this process: the libraries are loaded once, and nothing has to travel."""

    is_here = True
    is_crowded = False

    def __init__(self, training: Training = train) -> None:
        self._executor: Executor = ThreadPoolExecutor(1, thread_name_prefix="greenml-trial")
        self._off = threading.Event()
        self._training = training

    def is_open(self) -> bool:
        return True

    def start(self, task: Task, inbox: Inbox) -> None:
        self._off = threading.Event()
        line = _ThreadLine(task.run_id, inbox, self._off)
        self._executor.submit(carry_out, task, line, self._training)

    def call_off(self) -> None:
        self._off.set()

    def close(self) -> None:
        self._off.set()
        self._executor.shutdown()


class _ThreadLine:
    def __init__(self, run_id: str, inbox: Inbox, off: threading.Event) -> None:
        self._run_id, self._inbox, self._off = run_id, inbox, off

    def send(self, message: Message) -> None:
        self._inbox.put(self._run_id, message)

    def is_called_off(self) -> bool:
        return self._off.is_set()


class ProcessSeat:
    """In a process of its own, on its own GPU where there are several.

    No pool: one that loses a worker is broken as a whole, its queues hold locks that a killed worker takes along, and
    its workers outlive a driver that was killed. Here a pipe is all there is between the two, and whoever is left at
    one end of it knows.
    """

    is_here = True
    is_crowded = False

    def __init__(
        self, environment: dict[str, str] | None = None, num_threads: int | None = None, training: Training = train
    ) -> None:
        self._environment, self._num_threads, self._training = environment or {}, num_threads, training
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._pump: threading.Thread | None = None
        self._run_id = ""

    @property
    def pid(self) -> int | None:
        """Of its worker; None where there is none yet."""
        return self._process.pid if self._process else None

    def is_open(self) -> bool:
        return True

    def start(self, task: Task, inbox: Inbox) -> None:
        self._run_id = task.run_id
        task = with_threads(task, self._num_threads)
        if self._process is None or not self._process.is_alive():
            self._open()
        assert self._pipe is not None
        with suppress(OSError):  # it has died just now, which the pump says
            self._pipe.send(task)
        self._pump = threading.Thread(target=self._follow, args=(task.run_id, self._pipe, inbox), daemon=True)
        self._pump.start()

    def call_off(self) -> None:
        if self._pipe is not None:
            with suppress(OSError):  # it has died, which the pump says
                self._pipe.send(self._run_id)

    def close(self) -> None:
        if self._process is None or self._pipe is None:
            return
        if self._pump is not None and self._pump.is_alive():
            self.call_off()
            self._pump.join(GRACE_S)
            if self._pump.is_alive():
                self._process.kill()
                self._pump.join()
        self._pipe.close()  # which a worker that waits for a trial takes as its end
        self._process.join(GRACE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None

    def _open(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        context = multiprocessing.get_context("spawn")  # a fork would share locks, and on a GPU nothing works after it
        self._pipe, far = context.Pipe()
        arguments = (far, self._environment, self._training)
        self._process = context.Process(target=_work, args=arguments, name="greenml-trial", daemon=True)
        self._process.start()
        far.close()  # the worker has its own by now: without ours, its death ends the pipe

    def _follow(self, run_id: str, pipe: Connection, inbox: Inbox) -> None:
        message: Any = None
        while not isinstance(message, Outcome):
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                message = Outcome(failure=self._cause_of_death(), may_retry=True)
                forget(run_id)
            inbox.put(run_id, message)

    def _cause_of_death(self) -> str:
        assert self._process is not None
        self._process.join(GRACE_S)
        code = self._process.exitcode
        if code is None or code >= 0:
            return DIED if code is None else f"{DIED} (exit code {code})"
        known = {int(each): each.name for each in signal.Signals}
        return f"{DIED} ({known.get(-code, f'signal {-code}')})"


def _work(pipe: Connection, environment: dict[str, str], training: Training) -> None:
    """The life of a worker: one trial after another, until nobody is left to train for."""
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; the driver decides
    line = _PipeLine(pipe)
    threading.Thread(target=_end_with_the_driver, args=(line,), daemon=True).start()
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        if isinstance(task, Task):  # or else it calls a trial off that has just ended
            line.run_id = task.run_id
            carry_out(task, line, training)


def _end_with_the_driver(line: _PipeLine) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    line.leave()


class _PipeLine:
    """The worker's end. Where the driver has died there is nobody to train for."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._called_off = pipe, ""
        self.run_id = ""

    def send(self, message: Message) -> None:
        try:
            self._pipe.send(message)
        except OSError:
            self.leave()

    def is_called_off(self) -> bool:
        try:
            while self._pipe.poll():
                self._called_off = self._pipe.recv()
        except (EOFError, OSError):
            self.leave()
        return self._called_off == self.run_id

    def leave(self) -> None:
        """End at once, and leave nothing behind."""
        if self.run_id:
            forget(self.run_id)
        os._exit(1)
