"""One function a method: the candidate so far -> the candidate that it makes of it, yielding what happens meanwhile.

Libraries are loaded inside the windows: that is a part of what a method takes.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING

import torch

from greenml.learn import models
from greenml.learn.batches import evaluation_batches
from greenml.learn.precision import DTYPES
from greenml.records import Notice

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from greenml.compress.work import Candidate, Work
    from greenml.records import Record

    Step = Callable[[Work, Candidate], Generator[Record, None, Candidate]]

CALIBRATION_BATCH = 64

STEPS: dict[str, Step] = {}


def step(name: str) -> Callable[[Step], Step]:
    """Make a method known by its name."""

    def register(function: Step) -> Step:
        STEPS[name] = function
        return function

    return register


@step("prune")
def prune(work: Work, candidate: Candidate) -> Generator[Record, None, Candidate]:
    """Whole channels go; what is left is fine-tuned, with the parent as its teacher."""
    with work.meter.window("compress"):
        from greenml.compress.prune import structured

        pruned = structured(candidate.model, work.plan.sparsity, work.image_shape, len(work.data.classes))
    yield Notice(text=f"pruned: {pruned}")
    model = yield from work.fine_tune(pruned.model, "prune")
    return work.counted(candidate, model)


@step("prune-unstructured")
def prune_unstructured(work: Work, candidate: Candidate) -> Generator[Record, None, Candidate]:
    """Single weights become zero, and stay so while the others are fine-tuned."""
    with work.meter.window("compress"):
        from greenml.compress.prune import unstructured

        pruned = unstructured(candidate.model, work.plan.sparsity)
    yield Notice(text=f"pruned: {pruned}")
    model = yield from work.fine_tune(pruned.model, "prune-unstructured")
    return work.counted(candidate, model)


@step("distill")
def distill(work: Work, candidate: Candidate) -> Generator[Record, None, Candidate]:
    """A fresh student learns from labels and from what the parent answers."""
    plan, data = work.plan, work.data
    assert plan.student is not None
    with work.meter.window("compress"):
        torch.manual_seed(plan.base.seed)
        student, stem = models.create(
            plan.student,
            num_classes=len(data.classes),
            in_chans=data.in_chans,
            image_size=data.image_size,
            model_args={},
        )
    architecture = models.resolve_name(plan.student)
    candidate = dataclasses.replace(candidate, architecture=architecture, model_args={}, stem=stem)
    model = yield from work.fine_tune(student, "distill")
    return work.counted(candidate, model)


@step("int8")
def int8(work: Work, candidate: Candidate) -> Generator[Record, None, Candidate]:
    """Static quantisation after training: ranges are read off training images."""
    yield from ()
    with work.meter.window("compress"):
        from greenml.compress import quantize

        converted = quantize.to_openvino(candidate.model, work.image_shape)
    with work.meter.window("calibrate"):
        converted = quantize.int8(converted, _calibration(work))
    return dataclasses.replace(candidate, converted=converted, precision="int8")


@step("qat")
def qat(work: Work, candidate: Candidate) -> Generator[Record, None, Candidate]:
    """The same, and then fine-tuned with its rounding in the forward pass."""
    with work.meter.window("calibrate"):
        from greenml.compress import quantize

        rounding = quantize.prepare_qat(candidate.model, _calibration(work))
    model = yield from work.fine_tune(rounding, "qat")
    with work.meter.window("compress"):
        converted = quantize.to_openvino(model, work.image_shape)
    return dataclasses.replace(candidate, converted=converted, precision="int8")


@step("dynamic")
def dynamic(work: Work, candidate: Candidate) -> Generator[Record, None, Candidate]:
    """Linear layers alone, whose inputs are quantised as they come: known from tutorials, kept for comparison."""
    yield from ()
    with work.meter.window("compress"):
        from greenml.compress.dynamic import dynamic as quantized

        model = quantized(candidate.model)
    return dataclasses.replace(candidate, model=model, precision="int8")


@step("bf16")
def bf16(work: Work, candidate: Candidate) -> Generator[Record, None, Candidate]:
    """bfloat16, by OpenVINO on a CPU and by PyTorch on a GPU."""
    yield from ()
    return _half(work, candidate, "bf16")


@step("fp16")
def fp16(work: Work, candidate: Candidate) -> Generator[Record, None, Candidate]:
    """Half precision, by OpenVINO on a CPU and by PyTorch on a GPU."""
    yield from ()
    return _half(work, candidate, "fp16")


def _half(work: Work, candidate: Candidate, name: str) -> Candidate:
    with work.meter.window("compress"):
        if work.device.type == "cpu":
            from greenml.compress import quantize

            converted = quantize.to_openvino(candidate.model, work.image_shape)
            return dataclasses.replace(candidate, converted=converted, precision=name)
        model = copy.deepcopy(candidate.model).to(DTYPES[name])
        return dataclasses.replace(candidate, model=model, precision=name)


def _calibration(work: Work) -> Iterator[NDArray[np.float32]]:
    """Training images, evenly spread, as the model gets them: [B, C, S, S]."""
    index = work.data.train.index
    wanted = min(work.plan.calibration, len(index))
    # Splits keep the order of the data, which may be that of the classes: no part of it may be left out.
    spread = torch.arange(wanted, device=index.device) * len(index) // wanted
    some = dataclasses.replace(work.data.train, index=index[spread])
    for images, _ in evaluation_batches(some, CALIBRATION_BATCH):
        yield images.cpu().numpy()
