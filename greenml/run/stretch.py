"""A run between two pauses: from where its checkpoint stands to its end, or to where somebody holds it up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from greenml import environment
from greenml.records import Epoch, Source
from greenml.run.pace import follow
from greenml.run.past import Checkpoint, Choice
from greenml.run.stops import stop_rule

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator
    from pathlib import Path

    from greenml.energy import Meter
    from greenml.learn.loop import Fit, Score
    from greenml.learn.setup import Setup
    from greenml.records import Notice, Record
    from greenml.run.books import Books
    from greenml.run.stops import Budgets
    from greenml.run.waiting import Orders

CHECKPOINT_DUE = "checkpoint"
"""Why an epoch pauses in its midst, and goes on."""


class Stretch:
    """One set-up, and what is trained with it."""

    def __init__(self, setup: Setup, run_id: str, folder: Path, segment: int, *, epoch_s: float = 0.0) -> None:
        self.setup, self._run_id, self._segment = setup, run_id, segment
        self.checkpoint = Checkpoint(folder / "checkpoint.pt", setup, run_id)
        self.model = Choice(folder / "model.pt", setup, run_id)
        self.epoch_s = epoch_s
        """Seconds that the epoch in hand took before this stretch began; when it is over, so far."""

    def load(self, data_hash: str, split_hash: str, epochs: Collection[int]) -> Iterator[Notice]:
        """Go on from the run's files, which are of these data; `epochs` are in the store. Raises DataError."""
        yield from self.checkpoint.load(data_hash, split_hash, epochs)
        self.model.load(needed=bool(self.checkpoint.epochs))

    def go(self, meter: Meter, books: Books, budgets: Budgets, orders: Orders) -> Generator[Record, None, str | None]:
        """Train to the end of the run, to a rule that stops it, or to an order, after a checkpoint; which it was, None
        where all epochs are done. Raises TrainingError and StoreError."""
        from greenml.learn import precision

        setup, learner, config = self.setup, self.setup.learner, self.setup.config
        checkpoint, model = self.checkpoint, self.model
        num_steps = learner.num_steps(setup.train)

        def halt(done: int) -> str | None:
            if (asked := orders.to_pause()) or done == num_steps:
                return asked
            return budgets.spent() or (CHECKPOINT_DUE if checkpoint.is_due(within_epoch=True) else None)

        # A life that was killed in its test had ended its training by a rule, which says so again; a budget that ended
        # it in the midst of an epoch has left what was learned by then.
        reason = stop_rule(config, checkpoint.accuracies)
        if reason is None and model.best and not model.best.complete:
            reason = budgets.spent()
        if reason is None:
            model.forget_parts()
        number = len(checkpoint.epochs)
        while reason is None and number < config.epochs:
            number += 1
            began, fit = time.perf_counter() - self.epoch_s, None
            self.epoch_s = 0.0
            steps = learner.train_epoch(setup.train, number)
            while fit is None and reason is None:
                with meter.window("train", epoch=number):
                    # A loss that has left the numbers ends the run at the next word, not an epoch later.
                    fit, reason = yield from follow(
                        steps, "training", num_steps, number, books, halt, check=learner.fit
                    )
                if reason and reason in (CHECKPOINT_DUE, orders.given):
                    with meter.window("checkpoint", epoch=number):
                        checkpoint.save()
                reason = None if reason == CHECKPOINT_DUE else reason
            if reason and reason == orders.given:
                self.epoch_s = time.perf_counter() - began
                break
            with meter.window("validate", epoch=number):
                scoring = learner.evaluate(setup.val, number)
                score, cut_by = yield from follow(scoring, "validating", len(setup.val), number, books, orders.to_end)
            if score is None:
                reason = cut_by
                with meter.window("checkpoint", epoch=number):
                    checkpoint.save()
                self.epoch_s = time.perf_counter() - began
                break
            # A budget ends an epoch half-way: what it has learned by then counts, but it is no epoch of the schedule.
            epoch = epoch_of(
                number,
                fit or learner.fit(),
                score,
                run_id=self._run_id,
                segment=self._segment,
                duration_s=time.perf_counter() - began,
                complete=fit is not None,
                device_bytes=precision.peak_bytes(setup.device),
            )
            if fit:
                checkpoint.epochs.append(epoch)
                reason = stop_rule(config, checkpoint.accuracies) or budgets.spent()
                # With only the test to come a pause would cost more than it could save.
                reason = reason or (orders.to_pause() if number < config.epochs else orders.to_end())
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
            yield from orders.told()
            yield from budgets.warn()
        return reason


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
