"""The only door to Dask: seats over the workers of a cluster, which may come, go and die."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

try:
    import dask
    from distributed import Client, LocalCluster, get_worker
except ImportError as error:
    from greenml.errors import UsageError

    raise UsageError(
        "a cluster needs Dask, which is not installed", hint='pip install "greenml[cluster]", here and where it works'
    ) from error

import greenml
from greenml import environment
from greenml.errors import ClusterError
from greenml.sweep.crew import DIED, environment_of, num_cpus, refuse_to_share, with_threads
from greenml.sweep.worker import Outcome, carry_out, forget, train

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future
    from types import TracebackType

    from greenml.sweep.crew import Inbox
    from greenml.sweep.worker import Message, Task, Training

LOCAL = "local"
SILENCE = logging.CRITICAL + 1
"""Above what Dask says when a worker or a client goes: here that is expected, and said once."""
ANSWER_S = 5.0
"""Within which a scheduler answers, or is not there."""
WORKERS_S = 60.0
"""How long a search waits for a worker where there is none: who was lost is often started again."""
LAST_WORDS_S = 5.0
"""How much later than its result the last message of a trial may come."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a worker is, in its own words."""

    host: str
    gpus: str | None
    """Its CUDA_VISIBLE_DEVICES; None where nobody set that."""
    num_cpus: int
    version: str
    """Of greenml."""

    @property
    def alone(self) -> tuple[str, str | None]:
        """What no two trials at a time may share: a machine or, where workers have GPUs of their own, those."""
        return (self.host, self.gpus or None)


def place() -> Place:
    """Of this process. One machine is one, whatever its containers are called."""
    return Place(
        host=environment.read_text("proc/sys/kernel/random/boot_id") or socket.gethostname(),
        gpus=os.environ.get("CUDA_VISIBLE_DEVICES"),
        num_cpus=num_cpus(),
        version=greenml.__version__,
    )


class Cluster:
    """Workers of a Dask scheduler, and as many seats as trials may run at a time.

    A trial is bound to the worker that it was given, so that Dask never runs one twice on its own: what is lost is
    sent out again as another attempt, with its own rows.
    """

    def __init__(
        self,
        address: str,
        num: int | None = None,
        *,
        gpus: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        training: Training = train,
    ) -> None:
        """`address` of a scheduler, or `local` for one of its own, whose workers take a GPU of `gpus` each. Every
        worker gets the `environment`. `num` seats, or one for each machine or GPU that is there now. Raises
        ClusterError where nobody answers."""
        self.address, self.training = address, training
        self._is_local = address == LOCAL
        self._gpus = list(gpus) if self._is_local else []
        self._environment = dict(environment or {})
        self._gpu_of: dict[str, str] = {}
        self._places: dict[str, Place] = {}
        self._busy: dict[str, DaskSeat] = {}
        self._lock = threading.RLock()
        self._unasked: set[str] = set()
        self._lost: list[str] = []
        self._alone_since: float | None = None
        self._topic = f"greenml-{uuid.uuid4().hex}"
        if self._is_local:
            num = num or max(len(gpus), 1)
            refuse_to_share(gpus, num)
        self._scheduler = _local_cluster(num or 1) if self._is_local else None
        self._client = self._connect()
        try:
            self._client.subscribe_topic(self._topic, self._deliver)
            self._client.subscribe_topic("all", self._notice)
            with self._lock:
                self._unasked |= set(self._client.scheduler_info(n_workers=-1)["workers"])
            self._await_workers(num if self._is_local else 1)
            num = num or len({each.alone for each in self._places.values()})
            hosts = {each.host for each in self._places.values()}
            self._shares_places = num > len({each.alone for each in self._places.values()})
            is_here = hosts == {place().host}
            self._is_crowded = num > len(hosts) or (place().host in hosts and num > 1)
            self.seats = [DaskSeat(self, is_here=is_here, is_crowded=self._is_crowded) for _ in range(num)]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for seat in self.seats:
            seat.close()
        self.close()

    def close(self) -> None:
        """Let go of everybody; a cluster of somebody else's goes on."""
        for topic in {self._topic, "all"} & self._client._event_handlers.keys():
            self._client.unsubscribe_topic(topic)
        self._client.close(timeout=ANSWER_S)
        if self._scheduler is not None:
            self._scheduler.close(timeout=ANSWER_S)

    # -- what seats ask --------------------------------------------------------------------------------------------

    def has_room(self) -> bool:
        """Whether a worker is free. Raises ClusterError where the scheduler has gone, or no worker came for long."""
        if self._client.status == "connecting":
            return False  # what is sent now would be lost
        if self._client.status != "running":
            raise self._gone("has gone")
        self._ask()
        if self._places:
            self._alone_since = None
        else:
            self._alone_since = self._alone_since or time.monotonic()
            if time.monotonic() - self._alone_since > WORKERS_S:
                raise self._gone(f"has had no worker for {WORKERS_S:.0f} s")
        return self._free() is not None

    def send_out(self, seat: DaskSeat, task: Task) -> tuple[str, Future[Any]] | None:
        """Give it to a free worker: its address, and what will come of it; None where the last one has just gone."""
        with self._lock:
            address = self._free()
            if address is None:
                return None
            self._busy[address] = seat
            at = self._places[address]
            if self._gpus and address not in self._gpu_of:
                taken = {gpu for worker, gpu in self._gpu_of.items() if worker in self._places}
                self._gpu_of[address] = next(gpu for gpu in self._gpus if gpu not in taken)
        num_here = max(sum(each.host == at.host for each in self._places.values()), 1) if seat.is_crowded else 1
        gpu = [self._gpu_of[address]] if address in self._gpu_of else []
        executor = self._client.get_executor(pure=False, workers=[address], allow_other_workers=False, retries=0)
        # Dask lets a worker compute with one thread, as it has many of them; here it has one trial.
        with_its_threads = with_threads(task, max(at.num_cpus // num_here, 1))
        future = executor.submit(
            _carry_out_there,
            with_its_threads,
            self.training,
            self._topic,
            self._environment | environment_of(gpu, 0),
            list(self._lost),
        )
        return address, future

    def call_off(self, address: str, run_id: str) -> None:
        self._client.run(_call_off, run_id, workers=[address], on_error="ignore")  # which it hears while it trains

    def tidy(self, run_id: str) -> None:
        """An attempt was lost: whoever trains next where it was removes its files."""
        self._lost.append(run_id)
        forget(run_id)  # and that may be here

    def release(self, address: str, seat: DaskSeat) -> None:
        with self._lock:
            if self._busy.get(address) is seat:
                del self._busy[address]

    # -- how workers come and go -----------------------------------------------------------------------------------

    def _connect(self) -> Client:
        target = self._scheduler or self.address
        logging.getLogger("distributed").setLevel(SILENCE)  # what it would say is said here, once
        try:
            return Client(target, timeout=ANSWER_S, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            hint = "start it (`dask scheduler`), or give the address that it prints, as in tcp://host:8786"
            raise ClusterError(f"no cluster answers at {self.address}", hint=hint) from error

    def _await_workers(self, num: int | None) -> None:
        deadline = time.monotonic() + WORKERS_S / 2
        self._ask()
        while len(self._places) < (num or 1):
            if time.monotonic() > deadline:
                hint = f"start some: `dask worker {self.address} --nthreads 1` on each machine"
                raise ClusterError(f"the cluster at {self.address} has no workers", hint=hint)
            time.sleep(0.1)
            self._ask()

    def _ask(self) -> None:
        """Who has come since: where are you?"""
        with self._lock:
            asked, self._unasked = self._unasked, set()
        if not asked:
            return
        answers = self._client.run(place, workers=list(asked), on_error="return")
        for address, answer in answers.items():
            if isinstance(answer, ImportError):
                raise ClusterError(
                    f"the workers of {self.address} cannot import greenml: {answer}",
                    hint=f'install it where they run: pip install "greenml[cluster]=={greenml.__version__}"',
                ) from answer
            if not isinstance(answer, Place):
                continue  # it has died meanwhile
            if answer.version != greenml.__version__:
                raise ClusterError(
                    f"the workers of {self.address} have greenml {answer.version}, and this is {greenml.__version__}",
                    hint="install the same version on both sides",
                )
            with self._lock:
                self._places[address] = answer

    def _free(self) -> str | None:
        """A worker without a trial, on a machine without one or, where trials get their shares, on a GPU without one
        where there are enough."""

        def room(at: Place) -> object:
            return at.alone if self._is_crowded else at.host

        with self._lock:
            taken = {room(self._places[address]) for address in self._busy if address in self._places}
            for address, at in self._places.items():
                if address not in self._busy and (self._is_local or self._shares_places or room(at) not in taken):
                    return address
        return None

    def _notice(self, event: tuple[float, Any]) -> None:
        """Workers that come and go, as the scheduler says."""
        word = event[1]
        action, address = (word.get("action"), word.get("worker")) if isinstance(word, dict) else (None, None)
        if address is None:
            return
        if action == "add-worker":
            with self._lock:
                self._unasked.add(address)
        elif action == "remove-worker":
            with self._lock:
                self._places.pop(address, None)
                self._unasked.discard(address)
                self._gpu_of.pop(address, None)
                seat = self._busy.pop(address, None)
            if seat is not None:
                seat.lose()

    def _deliver(self, event: tuple[float, Any]) -> None:
        """A message of a worker."""
        run_id, number, message = pickle.loads(event[1])  # noqa: S301 (it comes from a worker that runs our code)
        with self._lock:
            seats = list(self._busy.values())
        for seat in seats:
            seat.hear(run_id, number, message)

    def _gone(self, what: str) -> ClusterError:
        return ClusterError(
            f"the cluster at {self.address} {what}", hint="start it again, and go on with `greenml sweep --resume`"
        )


class DaskSeat:
    """One trial at a time, on whichever worker of the cluster is free."""

    def __init__(self, cluster: Cluster, *, is_here: bool, is_crowded: bool) -> None:
        self.is_here, self.is_crowded = is_here, is_crowded
        self._cluster = cluster
        self._lock = threading.RLock()
        self._inbox: Inbox | None = None
        self._run_id, self._address = "", ""
        self._future: Future[Any] | None = None
        self._num_heard = 0
        self._result: tuple[int, Outcome] | None = None

    def is_open(self) -> bool:
        return self._cluster.has_room()

    def start(self, task: Task, inbox: Inbox) -> None:
        with self._lock:
            self._inbox, self._run_id = inbox, task.run_id
            self._num_heard, self._result, self._address, self._future = 0, None, "", None
            sent = self._cluster.send_out(self, task)
            if sent is None:
                self._end(Outcome(failure=DIED, may_retry=True))
                return
            self._address, self._future = sent
        self._future.add_done_callback(lambda future: self._conclude(task.run_id, future))

    def call_off(self) -> None:
        if self._inbox is not None:
            self._cluster.call_off(self._address, self._run_id)

    def close(self) -> None:
        """Whoever trains for it stops as soon as it hears that nobody waits any more."""
        with self._lock:
            self._inbox = None
        if self._future is not None:
            self._future.cancel()

    def hear(self, run_id: str, number: int, message: Message) -> None:
        """A message from the worker; `number` counts those of a trial from 0."""
        with self._lock:
            if self._inbox is None or run_id != self._run_id or number != self._num_heard:
                return
            self._num_heard += 1
            self._inbox.put(run_id, message)
            self._end_where_all_is_said()

    def lose(self) -> None:
        """Its worker has gone."""
        with self._lock:
            future = self._future
            self._cluster.tidy(self._run_id)
            self._end(Outcome(failure=DIED, may_retry=True))
        if future is not None:  # or it would run again when a worker comes back to that address
            # Not from here, which is Dask's own thread: there nothing would come of it.
            threading.Thread(target=future.cancel, daemon=True).start()

    def _conclude(self, run_id: str, future: Future[Any]) -> None:
        with self._lock:
            if self._inbox is None or run_id != self._run_id:
                return
            if future.cancelled():
                self._end(Outcome(failure=DIED, may_retry=True))
            elif (error := future.exception()) is not None:
                self._end(Outcome(failure=f"{type(error).__name__}: {error}"))
            else:
                self._result = future.result()
                self._end_where_all_is_said()
                late = threading.Timer(LAST_WORDS_S, self._give_up, [run_id])
                late.daemon = True
                late.start()

    def _end_where_all_is_said(self) -> None:
        if self._result is not None and self._num_heard == self._result[0]:
            self._end(self._result[1])

    def _give_up(self, run_id: str) -> None:
        with self._lock:
            if run_id == self._run_id:
                self._end(Outcome(failure="not all of its records came", may_retry=True))

    def _end(self, outcome: Outcome) -> None:
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            self._cluster.release(self._address, self)
            inbox.put(self._run_id, outcome)


def _local_cluster(num: int) -> LocalCluster:
    with dask.config.set({"distributed.worker.daemon": True}):
        return LocalCluster(
            n_workers=num,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",  # any free port: the usual one may be taken
            scheduler_kwargs={"dashboard": False},
            memory_limit=0,  # Dask would kill a training that takes most of the memory; that is up to the system
            silence_logs=SILENCE,
        )


# -- what happens there ------------------------------------------------------------------------------------------------

_called_off: set[str] = set()
"""Of this process, where it is a worker."""


def _call_off(run_id: str) -> None:
    _called_off.add(run_id)


def _carry_out_there(
    task: Task, training: Training, topic: str, environment: dict[str, str], lost: list[str]
) -> tuple[int, Outcome | None]:
    """How many messages were sent, and the Outcome: with its files it is no event, but a result."""
    os.environ.update(environment)
    for run_id in lost:
        forget(run_id)
    line = _EventLine(task.run_id, topic)
    carry_out(task, line, training)
    return line.num_sent, line.outcome


class _EventLine:
    """The worker's end: messages are events of the scheduler, which it hands on without looking inside."""

    def __init__(self, run_id: str, topic: str) -> None:
        self._run_id, self._topic = run_id, topic
        self._worker = get_worker()
        self._key = self._worker.get_current_task()
        self.num_sent = 0
        self.outcome: Outcome | None = None

    def send(self, message: Message) -> None:
        if isinstance(message, Outcome):
            self.outcome = message
            return
        self._worker.log_event(self._topic, pickle.dumps((self._run_id, self.num_sent, message)))
        self.num_sent += 1

    def is_called_off(self) -> bool:
        # Where the driver has died, the scheduler forgets what it wanted, and tells the worker so.
        known = self._worker.state.tasks.get(self._key)
        return self._run_id in _called_off or known is None or known.state == "cancelled"
