"""Epochs: constant rate after warm-up, averaged weights, nothing per image in Python."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from greenml.errors import TrainingError
from greenml.learn.batches import Part, evaluation_batches, num_batches, training_batches
from greenml.learn.models import SMALL_PX
from greenml.learn.precision import autocast, scaler

if TYPE_CHECKING:
    from collections.abc import Generator

    from greenml.config import Config

Tensors = tuple[torch.Tensor, ...] | list[torch.Tensor]

EVALUATION_BATCH = 500

DEFAULT_LR = {"adam": 2e-3, "adamw": 2e-3, "sgd": 0.05}
DEFAULT_WEIGHT_DECAY = {"adam": 0.0, "adamw": 0.01, "sgd": 5e-4}


class Fit(NamedTuple):
    """What an epoch of training looked like from inside."""

    loss: float
    accuracy: float
    """Fraction of the augmented images that were classified correctly while training."""
    lr: float
    """At the end of the epoch."""


@dataclass(frozen=True, slots=True)
class Score:
    """What the averaged weights make of a split."""

    loss: float
    """Cross-entropy without label smoothing."""
    correct: int
    count: int

    @property
    def accuracy(self) -> float:
        """Fraction classified correctly."""
        return self.correct / self.count


class Learner:
    """A model in training: its weights, their moving average, the optimizer and where the schedule stands.

    The rate is constant after warm-up and the average is what counts, so the checkpoint of epoch n is what a run of n
    epochs would have given.
    """

    def __init__(self, model: nn.Module, config: Config, precision: str, device: torch.device) -> None:
        """`config` is resolved: no rate or weight decay is None."""
        self.model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._config, self._precision, self._device = config, precision, device
        self._num_steps = 0
        self._averaged = AveragedModel(self.model, multi_avg_fn=self._average, use_buffers=True)
        self._optimizer = _optimizer(self.model, config)
        self._scaler = scaler(device, precision)

    def num_batches(self, part: Part) -> int:
        """Batches an epoch of `part`."""
        return num_batches(part, self._config.batch_size)

    @property
    def averaged(self) -> nn.Module:
        """The moving average: what is validated, kept and tested."""
        averaged: nn.Module = self._averaged.module
        return averaged

    def train_epoch(self, part: Part, epoch: int) -> Generator[int, None, Fit]:
        """One pass over `part`, yielding the number of batches done. Raises TrainingError on NaN loss."""
        config = self._config
        # Seeded by epoch, not once: the stream of an epoch does not depend on how the ones before it were run.
        torch.manual_seed(config.seed + 1_000_003 * epoch)
        generator = torch.Generator().manual_seed(config.seed + 1_000_003 * epoch)
        warmup = min(config.warmup_steps, num_batches(part, config.batch_size))
        loss_sum, correct = torch.zeros((), device=self._device), torch.zeros((), device=self._device)
        count, lr = 0, 0.0
        self.model.train()
        batches = training_batches(part, config.batch_size, config.augment, generator)
        for done, (images, labels) in enumerate(batches, start=1):
            lr = _known(config.lr) * min(1.0, (self._num_steps + 1) / max(1, warmup))
            for group in self._optimizer.param_groups:
                group["lr"] = lr
            with autocast(self._device, self._precision):
                logits = self.model(images)
                loss = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            self._scaler.step(self._optimizer)
            self._scaler.update()
            self._optimizer.zero_grad(set_to_none=True)
            self._num_steps += 1
            self._averaged.update_parameters(self.model)
            loss_sum += loss.detach() * len(labels)
            correct += (logits.detach().argmax(1) == labels).sum()
            count += len(labels)
            yield done
        mean_loss = loss_sum.item() / count
        self._refuse_nan(mean_loss, "training", epoch)
        return Fit(mean_loss, correct.item() / count, lr)

    def evaluate(self, part: Part, epoch: int) -> Score:
        """The averaged weights on every image of `part`. Raises TrainingError on NaN loss."""
        score = evaluate(self.averaged, part, self._config.batch_size, self._precision, self._device)
        self._refuse_nan(score.loss, "validation", epoch)
        return score

    def _refuse_nan(self, loss: float, where: str, epoch: int) -> None:
        if not math.isfinite(loss):
            kept = "; the best checkpoint so far is kept" if epoch > 1 else ""
            raise TrainingError(
                f"the {where} loss is {loss} in epoch {epoch}: the training has diverged",
                hint=f"try a smaller rate, as --lr {_known(self._config.lr) / 10:g}{kept}",
                stop_reason="nan-loss",
            )

    def _average(self, averaged: Tensors, current: Tensors, _: object) -> None:
        """Exponential moving average whose decay grows from 0.25 to `ema_decay`, so that early epochs count too."""
        decay = min(self._config.ema_decay, (1 + self._num_steps) / (10 + self._num_steps))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - decay)
        else:  # batch norm counts its batches
            torch._foreach_copy_(averaged, current)


@torch.inference_mode()
def evaluate(model: nn.Module, part: Part, batch_size: int, precision: str, device: torch.device) -> Score:
    """Any model on every image of `part`; batches are larger than in training only while images are small."""
    model.eval()
    at_once = min(EVALUATION_BATCH, max(batch_size, EVALUATION_BATCH * SMALL_PX**2 // part.images.shape[1] ** 2))
    loss_sum, correct = torch.zeros((), device=device), torch.zeros((), dtype=torch.long, device=device)
    for images, labels in evaluation_batches(part, at_once):
        with autocast(device, precision):
            logits = model(images)
        loss_sum += F.cross_entropy(logits.float(), labels, reduction="sum")
        correct += (logits.argmax(1) == labels).sum()
    return Score(loss_sum.item() / len(part), int(correct.item()), len(part))


def _optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    lr, decay = _known(config.lr), _known(config.weight_decay)
    if config.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=decay)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(model.parameters(), lr=lr, weight_decay=decay)


def _known(value: float | None) -> float:
    if value is None:
        raise ValueError("the config is not resolved")
    return value
