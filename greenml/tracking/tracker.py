"""One run of kind `track`: any program under the meter, its figures beside its joules, stored while it lasts."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from greenml import config as configs
from greenml import environment
from greenml.goals import goal_of, parse
from greenml.grid import accounting
from greenml.records import Artifact, Metric, Phase, Run, RunEnd, new_run_id, utc_now
from greenml.tracking import metrics, permission
from greenml.tracking.books import Books, Draft
from greenml.units import co2_g, format_duration, format_energy, format_mass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from greenml.energy import Meter
    from greenml.grid.watch import Watch
    from greenml.records import Decision, Stored
    from greenml.store import Store
    from greenml.tracking.subject import Subject

INTERVAL_S = 8.0
"""A longer stretch is cut and stored: who is killed loses 10 s at most."""
TICK_S = 0.25
WRITE_EVERY_S = 1.0

PROGRAM = "program"
"""The phase in which a program does what it has no other name for."""

METRICS_FILE = "metrics.jsonl"

RUN_ID = "GREENML_RUN_ID"
"""In the environment of a tracked command: the run that it is part of, ..."""
METRICS = "GREENML_METRICS"
"""... and the file to which it may write figures, a JSON object a line."""


class Tracker:
    """Meters what happens between `start` and `finish`, and stores it while it happens.

        with Tracker(subject, store) as run:
            run.log({"epoch": 1, "accuracy": 0.8})

    A thread of its own cuts what is long and writes to the store. Trouble with the store never reaches the program:
    rows wait in the spool, and that is said once.
    """

    def __init__(
        self,
        subject: Subject,
        store: Store,
        *,
        command: str,
        versions: Mapping[str, str],
        dependencies_hash: str | None = None,
        config: Mapping[str, Any] | None = None,
        device: str | None = None,
        interval_s: float = INTERVAL_S,
        say: Callable[[str], None],
        quiet: bool = False,
        sums_up: bool = True,
        watch: Watch | None = None,
        run_id: str | None = None,
        decisions: Sequence[Decision] = (),
        asks_policy: bool = False,
    ) -> None:
        """`say` gets every notice; unless it is to be `quiet`, also how the run begins and, where it `sums_up`, what
        it came to. `watch` fills in what the grid emitted; without it that is the subject's trace, where it has one.
        `decisions` are those of the run `run_id` before it began; where nobody has asked the policy of the environment
        by then, it `asks_policy` as it starts."""
        self._asks_policy = asks_policy
        self.id, self._decisions = run_id or new_run_id(), decisions
        self.subject, self.store = subject, store
        self._command, self._versions, self._config = command, dict(versions), dict(config or {})
        self._dependencies_hash = dependencies_hash
        self._device, self._interval_s, self._say = device or "cpu", interval_s, say
        self._is_waited_for = False
        """Whether boundaries wait for the device."""
        self._quiet, self._sums_up = quiet, sums_up
        self._said: set[str] = set()
        self._held = ExitStack()
        """The claim on the run, and the meter."""
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._process: int | None = None
        """Which process it was started in: its forks have neither our threads nor a say."""
        # Behind the lock:
        self._phase: tuple[str, int | None] = (PROGRAM, None)
        self._cut_at = self._written_at = time.monotonic()
        self._pending: list[Stored] = []
        self._num_figures = 0
        self._first_epoch: int | None = None
        self._books = Books(self.id, subject.data.get("num_val"), subject.intensity.g_per_kwh)
        self._watch = watch or accounting.watch_of(subject.asked, subject.intensity, utc_now())
        self._judge = metrics.Judge(subject.metric, subject.goal)

    # -- its life --------------------------------------------------------------------------------------------------

    def start(self) -> Tracker:
        """Claim and store the run, once the meter is ready. Raises StoreError, PolicyError where one is asked and does
        not allow it, and MeterError where a meter is required."""
        from greenml import energy

        if self._asks_policy:
            permission.ask(self.subject, self.store, run_id=self.id, now=utc_now())
        with self._held:
            self._meter: Meter = self._held.enter_context(energy.open_meter(self.id, settings=self.subject.settings))
            self.store.check()  # while the meter wakes up
            self.folder: Path = self._held.enter_context(self.store.claim(self.id))
            git_commit, git_dirty = environment.git()
            self._meter.wait_until_ready()
            self._meter.attach(self._device, lambda: None)
            if self.subject.require_meter:
                self._meter.require()
            self._run = self._describe(git_commit, git_dirty)
            # Without it no other row has a place: what is wrong with it is raised.
            self._store([self._run, *self._decisions])
            self._held = self._held.pop_all()
        self._meter.turn_to(PROGRAM)
        self._cut_at = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="greenml-tracker", daemon=True)
        self._thread.start()
        self._process = os.getpid()
        atexit.register(self.finish, "failed", "left open")
        if not self._quiet:
            self._say(self.opening())
        if ignored := energy.ignored_settings():
            self._once("ignored", ignored)
        if self._meter.unused_tdp:
            self._once("tdp", f"not obeyed: {self._meter.unused_tdp}")
        return self

    def finish(self, status: str = "done", reason: str = "finished") -> None:
        """End the run, store all that is left, and let go of the meter. A second call does nothing."""
        if not self._is_live:
            return
        self._over.set()
        atexit.unregister(self.finish)
        self._thread.join()
        with self._held, self._lock:
            self._meter.finish()
            self._settle(over=True)
            end = self._end(status, reason)
            self._put([*self._artifacts(), end])
            self._write()
            self._say_what_was_wrong()
        if self._sums_up and not self._quiet:
            self._say(self.closing())

    def __enter__(self) -> Tracker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, SystemExit) and error.code in (None, 0):
            error = None
        if error is None:
            self.finish()
        elif isinstance(error, KeyboardInterrupt):
            self.finish("interrupted", "interrupted")
        elif isinstance(error, SystemExit):
            self.finish("failed", f"exit code {error.code}")
        else:
            self.finish("failed", f"exception {type(error).__name__}")

    @property
    def _is_live(self) -> bool:
        return not self._over.is_set() and self._process == os.getpid()

    # -- what a program says ---------------------------------------------------------------------------------------

    def log(self, figures: Mapping[str, object] | None = None, /, **named: object) -> None:
        """Keep figures of this moment; with an `epoch` among them, they end that epoch here.

            run.log(epoch=1, accuracy=0.8, train_loss=0.6)
            run.log({"epoch": 1, "eval/rmse": 3.2})
            run.log(test_accuracy=0.81)

        Accuracies are fractions. What is no finite number is left out and said, never raised. An epoch 0 without
        figures says that the epochs begin here: what came before it is of none.
        """
        self.log_all([{**(figures or {}), **named}])

    def log_all(self, several: Sequence[Mapping[str, object]]) -> None:
        """The same for what came at once: epochs among them share what was used since the one before, evenly."""
        if not self._is_live:
            self._once("over", "what is logged after the end of a run, or by a process it forked, is not kept")
            return
        with self._lock:
            drafts: dict[int, Draft] = {}
            for line in map(metrics.read, several):
                if line.is_beginning and self._first_epoch is None:
                    self._books.set_apart(self._switch(*self._phase))
                else:
                    self._hear(line, drafts)
            if drafts:
                self._books.end(drafts.values(), self._switch(*self._phase))

    @contextmanager
    def phase(self, name: str, epoch: int | None = None) -> Iterator[None]:
        """Book what happens inside under `name`: train, validate, checkpoint, test, setup, or any other."""
        before = self._phase
        self.turn_to(name, epoch)
        try:
            yield
        finally:
            self.turn_to(*before)

    def turn_to(self, name: str = PROGRAM, epoch: int | None = None) -> None:
        """Book under `name` from here on; after the end of the run this does nothing."""
        if self._is_live:
            with self._lock:
                self._switch(name, epoch)

    def begin_epoch(self, epoch: int | None = None) -> None:
        """An epoch begins here: what was used since the last one ended, or the run began, is of no epoch."""
        if self._is_live:
            with self._lock:
                self._books.set_apart(self._switch("train", epoch))

    def device(self, name: str, synchronize: Callable[[], None]) -> None:
        """Name what the program computes on; `synchronize` waits until it has done what it was given."""
        if self._is_live:
            with self._lock:
                self._attach(name, synchronize)

    def energy_j(self) -> float | None:
        """Joules since the start; None while a component is unknown."""
        return self._meter.energy_j()

    def co2_g(self) -> float | None:
        """Grams of CO2e since the start, PUE included; None while a component is unknown."""
        joules = self.energy_j()
        return None if joules is None else self._grams(joules)

    def notice(self, kind: str, text: str) -> None:
        """Say `text`, where nothing of its kind was said before."""
        if self._process in (None, os.getpid()):  # what another thread held when we were forked is never let go
            with self._lock:
                self._once(kind, text)

    # -- figures, behind the lock ----------------------------------------------------------------------------------

    def _hear(self, line: metrics.Line, drafts: dict[int, Draft]) -> None:
        """Keep a line: what has a place in an epoch's row in its draft, all else as figures."""
        for kind, text in line.troubles.items():
            self._once(kind, text)
        self._judge.hear(line)
        draft = None if line.epoch is None else self._draft(line.epoch, drafts)
        epoch = draft.epoch if draft else line.within if line.epoch is None else self._number(line.epoch)
        named = {written: parse(written) for written in line.figures}
        if draft:
            draft.figures |= {named[written]: value for written, value in line.figures.items()}
            draft.schedule_complete |= line.schedule_complete
            draft.is_open = line.is_step
        for written, value in line.figures.items():
            if not (draft and metrics.has_column(named[written])):
                self._keep(written, value, epoch, line.goal)

    def _draft(self, said: int, drafts: dict[int, Draft]) -> Draft | None:
        """The draft of an epoch, put among `drafts`; None where it is stored already."""
        epoch = self._number(said)
        draft = drafts.get(epoch) or self._books.open_draft(epoch)
        if draft is None and epoch > self._books.last_epoch:
            draft = Draft(epoch)
        if draft:
            drafts[epoch] = draft
        else:
            self._once(
                "again",
                f"epoch {said} came after epoch {said + self._books.last_epoch - epoch}: its figures are kept, but as "
                "no epoch; track each training as a run of its own",
            )
        return draft

    def _number(self, said: int) -> int:
        """An epoch as its program counts -> counted from 1."""
        if self._first_epoch is None:
            self._first_epoch = said
            if said == 0:
                self._once("zero", "the program counts its epochs from 0; they are stored from 1 on")
        return said + 1 if self._first_epoch == 0 else said

    def _keep(self, written: str, value: float, epoch: int | None, goal: str | None) -> None:
        base = parse(written).base
        self._put(
            [
                Metric(
                    run_id=self.id,
                    segment=0,
                    seq=self._num_figures,
                    epoch=epoch,
                    name=written,
                    value=value,
                    goal=self._judge.goal if base == self._judge.metric else goal_of(base) or goal,
                    logged_at=utc_now(),
                )
            ]
        )
        self._num_figures += 1

    # -- the meter, behind the lock --------------------------------------------------------------------------------

    def _switch(self, name: str, epoch: int | None) -> int:
        """End the phase that lasts and begin another; the number of the one that ended."""
        self._find_device()
        self._phase = name, epoch
        last_seq = self._meter.turn_to(name, epoch, between=self._phase == (PROGRAM, None))
        self._cut_at = time.monotonic()
        return last_seq

    def _find_device(self) -> None:
        """Wait for GPUs at boundaries, where the program computes on them; torch is looked at, never imported."""
        torch = sys.modules.get("torch")
        cuda = getattr(torch, "cuda", None)
        if torch is None or self._is_waited_for or cuda is None or not cuda.is_initialized():
            return
        from greenml.learn import precision

        gpus = torch.device("cuda")
        self._attach("cuda" if self._device == "cpu" else self._device, lambda: precision.synchronize(gpus))

    def _attach(self, name: str, synchronize: Callable[[], None]) -> None:
        def wait() -> None:
            # Our own thread cuts in the midst of what the program does, perhaps while it records a CUDA graph, which
            # no synchronization survives.
            if threading.current_thread() is not self._thread:
                synchronize()

        self._device, self._is_waited_for = name, True
        self._meter.attach(name, wait)

    def _settle(self, *, over: bool = False) -> None:
        told = [*self._watch.fill(self._meter.phases())] if self._watch else [*self._meter.phases()]
        phases = (record for record in told if isinstance(record, Phase))
        self._put(self._books.settle(phases, self._judge.metric, over=over))
        self._put([record for record in told if not isinstance(record, Phase)])

    def _grams(self, joules: float) -> float:
        """What joules since the start have come to, each at its hour where that is known."""
        intensity = self.subject.intensity
        return self._watch.grams(joules) if self._watch else co2_g(joules, intensity.g_per_kwh, intensity.pue)

    # -- the store -------------------------------------------------------------------------------------------------

    def _put(self, rows: Iterator[Stored] | Sequence[Stored]) -> None:
        self._pending += rows

    def _work(self) -> None:
        """Cut what is long, and store what has become known."""
        while not self._over.wait(TICK_S):
            with self._lock:
                if time.monotonic() - self._cut_at >= self._interval_s:
                    self._switch(*self._phase)
                self._settle()
                is_due = self._pending and time.monotonic() - self._written_at >= WRITE_EVERY_S
            if is_due:
                self._write()

    def _write(self) -> None:
        """Only ever one thread at a time: ours while the run lasts, else the program's."""
        with self._lock:
            rows, self._written_at = [*self._pending], time.monotonic()
        try:
            self._store(rows)
        except Exception:  # noqa: BLE001 - whatever is wrong with one row, it takes no other with it
            self._store_one_by_one(rows)
        with self._lock:
            del self._pending[: len(rows)]  # only now: what is interrupted is written again

    def _store(self, rows: Sequence[Stored]) -> None:
        if not self.store.write(rows):
            self.notice("store", f"{self.store.path} cannot be written now: rows wait beside it")

    def _store_one_by_one(self, rows: Sequence[Stored]) -> None:
        for row in rows:
            try:
                self._store([row])
            except Exception as error:  # noqa: BLE001 - the program goes on
                why = str(error).partition("\n")[0]
                self.notice("row", f"a row ({type(row).__name__.lower()}) cannot be stored, and is left out: {why}")

    # -- records ---------------------------------------------------------------------------------------------------

    def _describe(self, git_commit: str | None, git_dirty: bool | None) -> Run:
        subject, meter = self.subject, self._meter.describe()
        hardware = environment.hardware()
        return Run(
            run_id=self.id,
            kind="track",
            name=subject.name,
            tags=subject.tags,
            parent=None,
            model=subject.model,
            dataset=subject.dataset,
            scope=subject.settings.scope,
            metric=subject.metric or "accuracy",
            goal=subject.goal or "max",
            season=subject.season,
            config=subject.config | {"interval": self._interval_s} | self._config,
            group_hash=self._group_hash(hardware, meter),
            device=self._device,
            hardware=hardware,
            meter=meter,
            intensity=subject.intensity,
            versions=self._versions,
            dependencies_hash=self._dependencies_hash,
            git_commit=git_commit,
            git_dirty=git_dirty,
            command=self._command,
            started_at=self._meter.started_at,
            **subject.data,
        )

    def _group_hash(self, hardware: Mapping[str, Any], meter: Mapping[str, object]) -> str:
        """Equal for runs of one command, or script with one `config`, on the same data, machine and meter."""
        program = self._config if "command" in self._config else {"command": self._command, **self._config}
        machine = [hardware["cpu"], hardware["threads"], meter["gpus"], meter["meter"]]
        return configs.group_hash(self.subject.asked, program, self.subject.season, self.subject.data, *machine)

    def _end(self, status: str, reason: str) -> RunEnd:
        judge, num_test = self._judge, self.subject.data.get("num_test")
        accuracy = judge.result("accuracy")
        metric, goal = judge.metric or "accuracy", judge.goal or "max"
        counted = accuracy is not None and num_test is not None
        value = judge.result(metric)
        if self.subject.metric and value is None:
            self._once("metric", f"no `{metric}` of the test or the whole run was logged: this run has no result")
        return RunEnd(
            run_id=self.id,
            status=status,
            stop_reason=reason,
            ended_at=self._meter.ended_at,
            best_epoch=None,
            val_accuracy=judge.validated("accuracy"),
            test_accuracy=accuracy,
            test_loss=judge.result("loss"),
            test_correct=round(accuracy * num_test) if accuracy is not None and num_test is not None else None,
            test_count=num_test if counted else None,
            metric=metric,
            goal=goal,
            value=None if metric == "accuracy" else value,
            device=None if self._device == self._run.device else self._device,
        )

    def _artifacts(self) -> list[Artifact]:
        """The figures as the program wrote them, where it did so into the run's own folder."""
        file = self.folder / METRICS_FILE
        if not file.exists():
            return []
        path = file.relative_to(self.store.path.parent).as_posix()
        return [Artifact(run_id=self.id, name=file.name, path=path, num_bytes=file.stat().st_size)]

    # -- words -----------------------------------------------------------------------------------------------------

    def opening(self) -> str:
        """Which run this is, whose grid it counts with, and how its energy is known."""
        meter = self._run.meter
        known = f"energy by {meter['meter']}: {environment.provenance(meter)}"
        outer = os.environ.get(RUN_ID)
        inside = f"\ninside run {outer}: both see the whole machine, and neither is ranked" if outer else ""
        return f"run {self.id} · {self.subject.intensity.note}\n{known}{inside}"

    def closing(self) -> str:
        """What the run came to."""
        spent = self._books.spent
        joules = spent.joules
        grams = None if joules is None else self._grams(joules)
        seconds = (self._meter.ended_at - self._meter.started_at).total_seconds()
        energy = f"energy {format_energy(joules)}" + (f" ({spent.source})" if joules is not None else "")
        return f"run {self.id}: {energy}, {format_mass(grams)} CO2e, {format_duration(seconds)}"

    def _once(self, kind: str, text: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self._say(f"greenml: {text}")

    def _say_what_was_wrong(self) -> None:
        meter = self._meter
        if meter.trouble:
            self._once("meter", f"the meter lost something: {meter.trouble}; what it missed is unknown")
        if meter.deaf:
            self._once("deaf", f"whether another run shared this machine is not known: {meter.deaf}")
        if waiting := self.store.unstored():
            self._say(f"greenml: {waiting}\nhint: {waiting.hint}")
