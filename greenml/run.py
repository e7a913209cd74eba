"""The life of one run, top to bottom: it yields what happened, and who called it stores, shows or stops."""

from __future__ import annotations

import dataclasses
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from greenml import config as configs
from greenml import environment
from greenml.errors import TrainingError
from greenml.records import Epoch, Phase, Progress, Record, Run, RunEnd, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from greenml.config import Config
    from greenml.energy import Meter
    from greenml.learn.loop import Fit, Score
    from greenml.learn.setup import Setup
    from greenml.records import Intensity

EPOCH_PHASES = frozenset({"train", "validate", "checkpoint"})

TICK_S = 0.25
"""How often a run says how far it is."""


def train(
    config: Config,
    meter: Meter,
    intensity: Intensity,
    *,
    run_id: str,
    folder: Path,
    interrupted: Callable[[], bool] = lambda: False,
) -> Iterator[Record]:
    """Train one model and yield its records as they become known: a Run, Phases and Epochs, a RunEnd.

    Leaves `config.yaml` and `model.pt` (the checkpoint that validation chose) in `folder`. `interrupted` is asked
    after every batch; the run then ends in good order, without a test. Raises UsageError for what cannot be trained and
    DataError for what cannot be read; TrainingError, after the RunEnd, when the loss leaves the numbers or memory ends.
    """
    from greenml.learn import artifact, precision
    from greenml.learn.loop import evaluate
    from greenml.learn.setup import prepare

    meter.wait_until_ready()
    device = precision.pick_device(config.device)
    meter.attach(device.type, lambda: precision.synchronize(device))
    setup = yield from prepare(config, device)
    books = _Books(meter)
    model_file = folder / "model.pt"
    (folder / "config.yaml").write_text(configs.dump(setup.config), encoding="utf-8")
    yield _begin(setup, meter, intensity, run_id)

    best: Epoch | None = None
    test: Score | None = None
    reason: str | None = None
    try:
        for number in range(1, config.epochs + 1):
            began = time.perf_counter()
            with meter.window("train", epoch=number):
                fit = yield from _until_done(setup, number, books, interrupted)
            if fit is None:
                reason = "interrupted"
                break
            with meter.window("validate", epoch=number):
                score = setup.learner.evaluate(setup.val, number)
            if best is None or score.accuracy > best.val_accuracy:
                with meter.window("checkpoint", epoch=number):
                    artifact.save(model_file, setup.learner.averaged, setup.description, run_id=run_id, epoch=number)
            epoch = _epoch(run_id, number, fit, score, time.perf_counter() - began)
            best = max(best or epoch, epoch, key=lambda one: one.val_accuracy)  # the earlier one of equals
            books.expect(epoch, meter.last_seq)
            yield from books.settle()
            if reason := _rule_that_stops(config, epoch, best):
                break
        if reason != "interrupted":
            with meter.window("test"):
                model, _ = artifact.load(model_file)
                test = evaluate(model.to(device), setup.test, config.batch_size, setup.config.precision, device)
    except TrainingError as error:
        yield from books.close()
        yield _end(run_id, meter, "failed", error.stop_reason, best, None)
        raise
    yield from books.close()
    yield _end(run_id, meter, "interrupted" if reason == "interrupted" else "done", reason or "epochs", best, test)


def _until_done(
    setup: Setup, number: int, books: _Books, interrupted: Callable[[], bool]
) -> Generator[Record, None, Fit | None]:
    """Train epoch `number`, saying now and then how far it is; None where it was interrupted."""
    total = setup.learner.num_batches(setup.train)
    steps = setup.learner.train_epoch(setup.train, number)
    said = time.perf_counter()
    while True:
        try:
            done = next(steps)
        except StopIteration as finished:
            fit: Fit = finished.value
            return fit
        if interrupted():
            return None
        if time.perf_counter() - said >= TICK_S:
            said = time.perf_counter()
            yield from books.settle()
            yield books.progress(done, total, number)


def _rule_that_stops(config: Config, epoch: Epoch, best: Epoch) -> str | None:
    """Looks at validation only."""
    if config.target_acc is not None and epoch.val_accuracy >= config.target_acc:
        return "target-acc"
    if config.early_stop and epoch.epoch - best.epoch >= config.patience:
        return "early-stop"
    return None


class _Books:
    """Fills the joules of epochs in when their phases have settled, which may be a moment after they end."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._expected: deque[tuple[Epoch, int]] = deque()
        self._total, self._by_epoch = _Tally(), defaultdict[int | None, _Tally](_Tally)

    def expect(self, epoch: Epoch, last_seq: int) -> None:
        """`epoch` is over but for the joules of its phases up to `last_seq`."""
        self._expected.append((epoch, last_seq))

    def settle(self) -> Iterator[Phase | Epoch]:
        """The phases that have become known, each epoch right after its last."""
        for phase in self._meter.phases():
            self._total.add(phase)
            if phase.name in EPOCH_PHASES:
                self._by_epoch[phase.epoch].add(phase)
            yield phase
            if self._expected and self._expected[0][1] == phase.seq:
                epoch, _ = self._expected.popleft()
                own = self._by_epoch.pop(epoch.epoch)
                yield dataclasses.replace(
                    epoch,
                    cpu_j=own.cpu_j,
                    gpu_j=own.gpu_j,
                    ram_j=own.ram_j,
                    energy_j=own.joules,
                    energy_total_j=self._total.joules,
                    source=self._total.source,
                )

    def close(self) -> Iterator[Phase | Epoch]:
        """The end of the run: everything that is left."""
        self._meter.finish()
        yield from self.settle()

    def progress(self, done: int, total: int, epoch: int) -> Progress:
        """How far the epoch is, with the power and energy of the last reading."""
        return Progress(
            what="training",
            done=done,
            total=total,
            epoch=epoch,
            watts=self._meter.watts(),
            energy_j=self._meter.energy_j(),
        )


@dataclass(slots=True)
class _Tally:
    """A sum over phases: None once a part is unknown, its source as good as the worst part."""

    cpu_j: float | None = 0.0
    gpu_j: float | None = 0.0
    ram_j: float | None = 0.0
    source: Source = Source.ABSENT

    def add(self, phase: Phase) -> None:
        self.cpu_j = _sum(self.cpu_j, phase.cpu_j)
        self.gpu_j = _sum(self.gpu_j, phase.gpu_j)
        self.ram_j = _sum(self.ram_j, phase.ram_j)
        self.source = Source.worst([self.source, phase.source])

    @property
    def joules(self) -> float | None:
        return _sum(self.cpu_j, self.gpu_j, self.ram_j)


def _sum(*parts: float | None) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _begin(setup: Setup, meter: Meter, intensity: Intensity, run_id: str) -> Run:
    config = setup.config
    commit, dirty = environment.git()
    return Run(
        run_id=run_id,
        kind="train",
        name=config.name,
        tags=config.tags,
        parent=None,
        batch_size=config.batch_size,
        epochs_asked=config.epochs,
        seed=config.seed,
        split_seed=config.split_seed,
        config=dataclasses.asdict(config),
        meter=meter.describe(),
        intensity=intensity,
        versions=environment.versions(),
        git_commit=commit,
        git_dirty=dirty,
        command=environment.command(),
        started_at=meter.started_at,
        **setup.facts,
    )


def _epoch(run_id: str, number: int, fit: Fit, score: Score, duration_s: float) -> Epoch:
    """What was learned; the joules follow when their phases have settled."""
    return Epoch(
        run_id=run_id,
        segment=0,
        epoch=number,
        train_loss=fit.loss,
        train_accuracy=fit.accuracy,
        val_loss=score.loss,
        val_accuracy=score.accuracy,
        val_correct=score.correct,
        val_count=score.count,
        lr=fit.lr,
        duration_s=duration_s,
        cpu_j=None,
        gpu_j=None,
        ram_j=None,
        energy_j=None,
        energy_total_j=None,
        source=Source.UNKNOWN,
        schedule_complete=True,  # constant rate, averaged weights: see learn.loop
    )


def _end(run_id: str, meter: Meter, status: str, reason: str, best: Epoch | None, test: Score | None) -> RunEnd:
    return RunEnd(
        run_id=run_id,
        status=status,
        stop_reason=reason,
        ended_at=meter.ended_at,
        best_epoch=best.epoch if best else None,
        val_accuracy=best.val_accuracy if best else None,
        test_accuracy=test.accuracy if test else None,
        test_loss=test.loss if test else None,
        test_correct=test.correct if test else None,
        test_count=test.count if test else None,
    )
