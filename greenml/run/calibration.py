"""A few steps of a training, metered: enough to tell what a whole one takes."""

from __future__ import annotations

import dataclasses
import itertools
import time
from typing import TYPE_CHECKING

from greenml.errors import GreenMLError
from greenml.run.books import Books
from greenml.run.life import begin, end_of
from greenml.run.stretch import epoch_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from greenml.config import Config
    from greenml.energy import Meter
    from greenml.learn.loop import Fit, Score
    from greenml.learn.setup import Setup
    from greenml.records import Intensity, Record

WARM_UP_STEPS = 3
"""The first steps also find memory and choose kernels: they are a phase of their own."""
MIN_STEPS, MIN_S, MAX_S = 24, 3.0, 60.0
"""Then so many steps and seconds at least, and so many seconds at most."""
VALIDATION_SHARE = 0.2
"""Of the time of the steps; one batch at least, the split at most."""


def calibrate(config: Config, meter: Meter, intensity: Intensity, *, run_id: str) -> Iterator[Record]:
    """Train for a few seconds and validate on a part: a Run of kind `calibrate`, its Phases, an Epoch that is not
    complete, a RunEnd. Raises what `run.train` raises; leaves no files."""
    from greenml.learn import precision
    from greenml.learn.setup import prepare

    meter.wait_until_ready()
    device = precision.pick_device(config.device)
    meter.attach(device.type, lambda: precision.synchronize(device))
    setup = yield from prepare(config, device)
    books = Books(meter, None)
    yield dataclasses.replace(begin(setup, meter, intensity, run_id), kind="calibrate", group_hash=None)

    began = time.perf_counter()
    try:
        fit = _few_steps(setup, meter)
        score = _part_of_validation(setup, meter, fit.num_samples)
    except GreenMLError as error:
        yield from books.close()
        yield end_of(run_id, meter, "failed", error.stop_reason, None, None)
        raise
    epoch = epoch_of(
        1,
        fit,
        score,
        run_id=run_id,
        segment=0,
        duration_s=time.perf_counter() - began,
        complete=False,
        device_bytes=precision.peak_bytes(device),
    )
    books.expect(epoch, meter.last_seq)
    yield from books.close()
    yield end_of(run_id, meter, "done", "calibrated", None, None)


def _few_steps(setup: Setup, meter: Meter) -> Fit:
    """Train, where data are few over several epochs; the Fit counts the samples of the window `train` alone."""
    config, learner = setup.config, setup.learner
    steps = itertools.chain.from_iterable(learner.train_epoch(setup.train, epoch) for epoch in itertools.count(1))
    with meter.window("warm-up", epoch=1):
        for _ in range(WARM_UP_STEPS):
            next(steps)
    with meter.window("train", epoch=1):
        start, num_steps = time.perf_counter(), 0
        for _ in steps:
            num_steps += 1
            passed_s = time.perf_counter() - start
            if passed_s >= MAX_S or (passed_s >= MIN_S and num_steps >= MIN_STEPS):
                break
    return learner.fit()._replace(num_samples=num_steps * config.batch_size * config.grad_accum)


def _part_of_validation(setup: Setup, meter: Meter, num_trained: int) -> Score:
    """Validate on so much that it takes a fifth of the steps' time: a sample takes a third of its training."""
    num_samples = max(min(setup.config.batch_size, len(setup.val)), round(3 * VALIDATION_SHARE * num_trained))
    some = dataclasses.replace(setup.val, index=setup.val.index[:num_samples])
    with meter.window("validate", epoch=1):
        scoring = setup.learner.evaluate(some, 1)
        while True:
            try:
                next(scoring)
            except StopIteration as finished:
                score: Score = finished.value
                return score
