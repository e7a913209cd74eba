"""The life of one run, top to bottom: it yields what happened, and who called it stores, shows or stops."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from greenml import config as configs
from greenml import environment
from greenml.errors import GreenMLError
from greenml.records import Notice, Record, Resume, Run, RunEnd
from greenml.run.books import Books
from greenml.run.pace import follow
from greenml.run.stops import Budgets, grams_by
from greenml.run.stretch import Stretch
from greenml.run.waiting import PAUSED, Orders

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from greenml.config import Config
    from greenml.energy import Meter
    from greenml.grid.planner import Planner
    from greenml.learn.loop import Score
    from greenml.learn.setup import Setup
    from greenml.records import Intensity
    from greenml.run.past import Checkpoint, Chosen, Past

ENDED = {None: "done", "interrupted": "interrupted", PAUSED: PAUSED}
"""The status of a run by what was ordered; any other order is `stopped`."""


def train(
    config: Config,
    meter: Meter,
    intensity: Intensity,
    *,
    run_id: str,
    folder: Path,
    past: Past | None = None,
    halted: Callable[[], str | None] = lambda: None,
    planner: Planner | None = None,
    grams_of: Callable[[float], float] | None = None,
) -> Iterator[Record]:
    """Train one model and yield its records as they become known: a Run or Resume, Phases and Epochs, a RunEnd.

    Leaves in `folder` `config.yaml`, `model.pt` (the weights that validation chose) and `checkpoint.pt`, from which
    the run goes on when it is called with its `past`. `halted` is asked after every batch; where it gives a reason the
    run ends in good order, without a test: `interrupted` where that is the reason, `stopped` for any other. A `planner`
    may hold it up while electricity is dirty: the run then leaves a checkpoint, lets go of the device and waits, or
    ends as `paused`. `grams_of` says for a carbon budget what the joules of all lives have come to; where it is None,
    the factor of `intensity` does. Raises UsageError for what cannot be trained, MeterError for what cannot be metered
    and must be, and DataError for what cannot be read; after the RunEnd, TrainingError when the loss leaves the numbers
    or memory ends, StoreError when the disk is full, PolicyError where a policy does not let it begin.
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
    segment = past.segment if past else 0
    books, budgets = Books(meter, past), Budgets(config, meter, grams_of or grams_by(intensity), past)
    stretch = Stretch(setup, run_id, folder, segment)
    if past is None:
        artifact.write_text(folder / "config.yaml", configs.dump(setup.config))
        yield begin(setup, meter, intensity, run_id)
    else:
        yield from stretch.load(past.data_hash, past.split_hash, past.epochs)
        artifact.write_text(folder / "config.yaml", configs.dump(setup.config))
        yield _resume(setup, meter, run_id, past, stretch.checkpoint)
        yield from _differences(past)
        yield from (epoch for epoch in stretch.checkpoint.epochs if epoch.epoch not in past.epochs)
    yield from budgets.warn()

    orders, best, test = Orders(halted, planner), stretch.model.best, None

    def trained(stretch: Stretch) -> Generator[Record, None, str | None]:
        nonlocal best
        try:
            return (yield from stretch.go(meter, books, budgets, orders))
        finally:  # also of a training that fails it is told what validation had chosen
            best = stretch.model.best

    try:
        reason = orders.to_pause() if planner else None
        yield from orders.told()
        reason = reason or (yield from trained(stretch))
        while orders.given == PAUSED and planner and not planner.exits:
            known, number, epoch_s = setup.facts, len(stretch.checkpoint.epochs), stretch.epoch_s
            data = setup.data if config.schedule.prefetch else None
            del setup, stretch  # device and memory are others' until it goes on
            precision.release(device)
            began_s = meter.elapsed_s()
            yield from orders.wait(meter, books)
            budgets.leave_out(meter.elapsed_s() - began_s)
            if reason := orders.given:
                break
            with meter.window("setup"):
                setup = yield from prepare(config, device, data)
                stretch = Stretch(setup, run_id, folder, segment, epoch_s=epoch_s)
                yield from stretch.load(known["data_hash"], known["split_hash"], range(1, number + 1))
            reason = yield from trained(stretch)
        yield from orders.told()
        if orders.given is None:
            with meter.window("test"):
                chosen, _ = artifact.load(folder / "model.pt")
                scoring = evaluate(chosen.to(device), setup.test, config.batch_size, setup.config.precision, device)
                test, cut_by = yield from follow(scoring, "testing", len(setup.test), None, books, orders.to_end)
            reason = cut_by or reason
    except GreenMLError as error:
        yield from orders.told()
        yield from books.close()
        yield end_of(run_id, meter, "failed", error.stop_reason, best, None)
        raise
    yield from books.close()
    yield end_of(run_id, meter, ENDED.get(orders.given, "stopped"), reason or "epochs", best, test)


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
