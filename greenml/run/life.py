"""The life of one run, top to bottom: it yields what happened, and who called it stores, shows or stops."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from greenml import config as configs
from greenml import environment
from greenml.errors import GreenMLError
from greenml.records import Epoch, Notice, Record, Resume, Run, RunEnd, Source
from greenml.run.books import Books
from greenml.run.pace import follow
from greenml.run.past import Checkpoint, Choice, Chosen, Past
from greenml.run.stops import Budgets, stop_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from greenml.config import Config
    from greenml.energy import Meter
    from greenml.learn.loop import Fit, Score
    from greenml.learn.setup import Setup
    from greenml.records import Intensity

CHECKPOINT_DUE = "checkpoint"
"""Why an epoch pauses in its midst, and goes on."""


def train(
    config: Config,
    meter: Meter,
    intensity: Intensity,
    *,
    run_id: str,
    folder: Path,
    past: Past | None = None,
    halted: Callable[[], str | None] = lambda: None,
) -> Iterator[Record]:
    """Train one model and yield its records as they become known: a Run or Resume, Phases and Epochs, a RunEnd.

    Leaves in `folder` `config.yaml`, `model.pt` (the weights that validation chose) and `checkpoint.pt`, from which
    the run goes on when it is called with its `past`. `halted` is asked after every batch; where it gives a reason the
    run ends in good order, without a test: `interrupted` where that is the reason, `stopped` for any other. Raises
    UsageError for what cannot be trained, MeterError for what cannot be metered and must be, and DataError for what
    cannot be read; after the RunEnd, TrainingError when the loss leaves the numbers or memory ends, StoreError when the
    disk is full.
    """
    from greenml.learn import artifact, precision
    from greenml.learn.loop import evaluate
    from greenml.learn.setup import prepare

    meter.wait_until_ready()
    device = precision.pick_device(config.device)
    meter.attach(device.type, lambda: precision.synchronize(device))
    if config.require_meter:
        meter.require()
    setup = yield from prepare(config, device)
    learner, books = setup.learner, Books(meter, past)
    budgets = Budgets(config, meter, intensity, past)
    checkpoint = Checkpoint(folder / "checkpoint.pt", setup, run_id)
    model = Choice(folder / "model.pt", setup, run_id)
    if past is None:
        artifact.write_text(folder / "config.yaml", configs.dump(setup.config))
        yield begin(setup, meter, intensity, run_id)
    else:
        yield from checkpoint.load(past)
        model.load(needed=bool(checkpoint.epochs))
        artifact.write_text(folder / "config.yaml", configs.dump(setup.config))
        yield _resume(setup, meter, run_id, past, checkpoint)
        yield from _differences(past)
        yield from (epoch for epoch in checkpoint.epochs if epoch.epoch not in past.epochs)
    yield from budgets.warn()

    num_steps = learner.num_steps(setup.train)

    order: str | None = None

    def asked_to_stop(_: int = 0) -> str | None:
        nonlocal order
        order = order or halted()
        return order

    def halt(done: int) -> str | None:
        if (asked := asked_to_stop()) or done == num_steps:
            return asked
        return budgets.spent() or (CHECKPOINT_DUE if checkpoint.is_due(within_epoch=True) else None)

    test: Score | None = None
    # A life that was killed in its test had ended its training by a rule, which says so again; a budget that ended it
    # in the midst of an epoch has left what was learned by then.
    reason = stop_rule(config, checkpoint.accuracies)
    if reason is None and model.best and not model.best.complete:
        reason = budgets.spent()
    if reason is None:
        model.forget_parts()
    number = len(checkpoint.epochs)
    try:
        while reason is None and number < config.epochs:
            number += 1
            began, fit = time.perf_counter(), None
            steps = learner.train_epoch(setup.train, number)
            while fit is None and reason is None:
                with meter.window("train", epoch=number):
                    # A loss that has left the numbers ends the run at the next word, not an epoch later.
                    fit, reason = yield from follow(
                        steps, "training", num_steps, number, books, halt, check=learner.fit
                    )
                if reason and reason in (CHECKPOINT_DUE, order):
                    with meter.window("checkpoint", epoch=number):
                        checkpoint.save()
                reason = None if reason == CHECKPOINT_DUE else reason
            if reason and reason == order:
                break
            with meter.window("validate", epoch=number):
                scoring = learner.evaluate(setup.val, number)
                score, cut_by = yield from follow(scoring, "validating", len(setup.val), number, books, asked_to_stop)
            if score is None:
                reason = cut_by
                with meter.window("checkpoint", epoch=number):
                    checkpoint.save()
                break
            # A budget ends an epoch half-way: what it has learned by then counts, but it is no epoch of the schedule.
            epoch = epoch_of(
                number,
                fit or learner.fit(),
                score,
                run_id=run_id,
                segment=past.segment if past else 0,
                duration_s=time.perf_counter() - began,
                complete=fit is not None,
                device_bytes=precision.peak_bytes(device),
            )
            if fit:
                checkpoint.epochs.append(epoch)
                reason = stop_rule(config, checkpoint.accuracies) or budgets.spent()
                reason = reason or asked_to_stop()
            improved = model.improves(score.accuracy)
            due = reason or number == config.epochs or checkpoint.is_due(within_epoch=False)
            if improved or due:
                with meter.window("checkpoint", epoch=number):
                    if improved:
                        model.save(number, score.accuracy, complete=fit is not None)
                    if due:
                        checkpoint.save()
            books.expect(epoch, meter.last_seq)
            yield from books.settle()
            yield from budgets.warn()
        if order is None:
            with meter.window("test"):
                chosen, _ = artifact.load(folder / "model.pt")
                scoring = evaluate(chosen.to(device), setup.test, config.batch_size, setup.config.precision, device)
                test, cut_by = yield from follow(scoring, "testing", len(setup.test), None, books, asked_to_stop)
            reason = cut_by or reason
    except GreenMLError as error:
        yield from books.close()
        yield end_of(run_id, meter, "failed", error.stop_reason, model.best, None)
        raise
    yield from books.close()
    status = "done" if order is None else "interrupted" if order == "interrupted" else "stopped"
    yield end_of(run_id, meter, status, reason or "epochs", model.best, test)


def begin(setup: Setup, meter: Meter, intensity: Intensity, run_id: str) -> Run:
    config = setup.config
    commit, dirty = environment.git()
    return Run(
        run_id=run_id,
        kind="train",
        name=config.name,
        tags=config.tags,
        parent=None,
        batch_size=config.batch_size,
        grad_accum=config.grad_accum,
        epochs_asked=config.epochs,
        seed=config.seed,
        split_seed=config.split_seed,
        config=dataclasses.asdict(config),
        scope=config.scope,
        meter=meter.describe(),
        intensity=intensity,
        versions=environment.versions(),
        dependencies_hash=environment.dependencies_hash(),
        git_commit=commit,
        git_dirty=dirty,
        command=environment.command(),
        started_at=meter.started_at,
        **setup.facts,
    )


def _resume(setup: Setup, meter: Meter, run_id: str, past: Past, checkpoint: Checkpoint) -> Resume:
    return Resume(
        run_id=run_id,
        segment=past.segment,
        epoch=(epoch := len(checkpoint.epochs) + 1),
        step=setup.learner.steps_done(epoch),
        started_at=meter.started_at,
        epochs_asked=setup.config.epochs,
        group_hash=setup.facts["group_hash"],
        config=dataclasses.asdict(setup.config),
        hardware=setup.facts["hardware"],
        meter=meter.describe(),
        versions=environment.versions(),
        command=environment.command(),
    )


def _differences(past: Past) -> Iterator[Notice]:
    """What may make this life's arithmetic differ in the last bits from that of the one before."""
    now = environment.versions()
    changed = [
        f"{name} {now[name]} (was {past.versions[name]})"
        for name in past.versions
        if name in now and now[name] != past.versions[name]
    ]
    if changed:
        yield Notice(text=f"not the versions that the run began with: {', '.join(changed)}; its last bits may differ")


def epoch_of(
    number: int,
    fit: Fit,
    score: Score,
    *,
    run_id: str,
    segment: int,
    duration_s: float,
    complete: bool,
    device_bytes: int | None,
) -> Epoch:
    """What was learned; the joules follow when their phases have settled."""
    return Epoch(
        run_id=run_id,
        segment=segment,
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
        schedule_complete=complete,  # constant rate, averaged weights (learn.loop): so is every epoch that ended
        num_samples=fit.num_samples,
        peak_host_bytes=environment.peak_memory_bytes(),
        peak_device_bytes=device_bytes,
    )


def end_of(run_id: str, meter: Meter, status: str, reason: str, best: Chosen | None, test: Score | None) -> RunEnd:
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
