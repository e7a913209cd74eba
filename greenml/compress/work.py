"""What the steps of a compression share: the data, the parent, the meter, and how a model is fine-tuned."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from greenml.learn import models, precision
from greenml.learn.flops import flops_per_sample
from greenml.learn.loop import Distillation, Learner
from greenml.run.pace import follow
from greenml.run.stretch import epoch_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from greenml.compress.plan import Plan
    from greenml.energy import Meter
    from greenml.learn.setup import Data
    from greenml.records import Record
    from greenml.run.books import Books


class Halted(Exception):  # noqa: N818
    """Somebody asked for the end; the text is the reason."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model on its way to be smaller."""

    model: nn.Module
    """As PyTorch computes it."""
    architecture: str
    model_args: dict[str, Any]
    stem: str
    num_parameters: int
    flops_per_sample: int | None
    precision: str = "fp32"
    converted: Any = None
    """The same as OpenVINO computes it, once a step has made that; from then on it is what counts."""


@dataclass(kw_only=True)
class Work:
    """One compression under way."""

    plan: Plan
    run_id: str
    folder: Path
    device: torch.device
    data: Data
    parent: Candidate
    """What it is made of, and the teacher of what is fine-tuned: steps work on copies of its model."""
    meter: Meter
    books: Books
    halted: Callable[[], str | None]
    num_epochs: int = 0
    """Of fine-tuning, so far."""
    best_epoch: int | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.data.in_chans, self.data.image_size, self.data.image_size

    def counted(self, candidate: Candidate, model: nn.Module) -> Candidate:
        """The candidate with another model in it, whose parameters and operations are counted again."""
        return dataclasses.replace(
            candidate,
            model=model,
            num_parameters=models.num_parameters(model),
            flops_per_sample=flops_per_sample(model, self.data.in_chans, self.data.image_size),
        )

    def halt(self, _: int = 0) -> str | None:
        """Raise Halted where the end is asked for; what `follow` calls after every step."""
        if reason := self.halted():
            raise Halted(reason)
        return None

    def fine_tune(self, model: nn.Module, method: str) -> Generator[Record, None, nn.Module]:
        """Train on, with the parent as the teacher, and give the averaged weights of the epoch that validation chose.

        Raises TrainingError where the loss leaves the numbers, and Halted.
        """
        num_epochs = self.plan.epochs_of(method)
        config = dataclasses.replace(self.plan.base, lr=self.plan.lr_of(method), epochs=num_epochs)
        tuned = Learner(model, config, config.precision, self.device, distillation=Distillation(self.parent.model))
        best_accuracy, best_state = -1.0, dict[str, torch.Tensor]()
        num_steps = tuned.num_steps(self.data.train)
        for _ in range(num_epochs):
            self.num_epochs += 1
            number, began = self.num_epochs, time.perf_counter()
            with self.meter.window("train", epoch=number):
                steps = tuned.train_epoch(self.data.train, number)
                fit, _ = yield from follow(
                    steps, "fine-tuning", num_steps, number, self.books, self.halt, check=tuned.fit
                )
            with self.meter.window("validate", epoch=number):
                scoring = tuned.evaluate(self.data.val, number)
                score, _ = yield from follow(scoring, "validating", len(self.data.val), number, self.books, self.halt)
            assert fit is not None
            assert score is not None
            epoch = epoch_of(
                number,
                fit,
                score,
                run_id=self.run_id,
                segment=0,
                duration_s=time.perf_counter() - began,
                complete=True,
                device_bytes=precision.peak_bytes(self.device),
            )
            if score.accuracy > best_accuracy:
                best_accuracy, self.best_epoch = score.accuracy, number
                best_state = {name: tensor.clone() for name, tensor in tuned.averaged.state_dict().items()}
            self.books.expect(epoch, self.meter.last_seq)
            yield from self.books.settle()
        tuned.averaged.load_state_dict(best_state)
        return tuned.averaged.eval()
