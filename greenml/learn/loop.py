"""Epochs: constant rate after warm-up, averaged weights, nothing per image in Python."""

from __future__ import annotations

import dataclasses
import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from greenml.errors import TrainingError
from greenml.learn.batches import Part, evaluation_batches, num_steps, training_steps
from greenml.learn.models import SMALL_PX
from greenml.learn.precision import autocast, scaler

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from greenml.config import Config

Tensors = tuple[torch.Tensor, ...] | list[torch.Tensor]

EVALUATION_BATCH = 500

DEFAULT_LR = {"adam": 2e-3, "adamw": 2e-3, "sgd": 0.05}
DEFAULT_WEIGHT_DECAY = {"adam": 0.0, "adamw": 0.01, "sgd": 5e-4}


class Fit(NamedTuple):
    """What an epoch of training, or a part of one, looked like from inside."""

    loss: float
    """What was minimised: with label smoothing, and with the teacher's share where there is one."""
    accuracy: float
    """Fraction of the augmented images that were classified correctly while training."""
    lr: float
    """Of the last step."""
    num_samples: int


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


@dataclass(slots=True)
class _Pass:
    """The latest epoch: under way, or over."""

    epoch: int
    loss_sum: torch.Tensor
    correct: torch.Tensor
    num_steps: int = 0
    num_samples: int = 0


@dataclass(frozen=True, slots=True)
class Distillation:
    """A teacher, and how much a student listens to it.

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015 (arXiv:1503.02531). The loss is
    (1 - alpha) CE + alpha T^2 KL(teacher || student), with both sides of KL softened by the temperature T. Its
    gradients shrink as 1 / T^2, which the factor makes good: alpha means the same at every temperature.
    """

    teacher: Callable[[torch.Tensor], torch.Tensor]
    """Images [B, C, S, S] -> logits [B, num_classes]: a module in evaluation mode on the device, or its like."""
    alpha: float = 0.5
    """Share of the teacher in the loss, 0 to 1; the labels have the rest.

    Papers give teachers that have converged 0.9, which holds back whoever comes near a teacher that has not."""
    temperature: float = 4.0

    def loss(self, images: torch.Tensor, logits: torch.Tensor, hard: torch.Tensor) -> torch.Tensor:
        """The loss [] of logits [B, num_classes] that have the cross-entropy `hard` [] against the labels."""
        with torch.inference_mode():
            told = self.teacher(images)
        soft = F.kl_div(
            F.log_softmax(logits.float() / self.temperature, dim=1),
            F.softmax(told.float() / self.temperature, dim=1),
            reduction="batchmean",
        )
        return (1 - self.alpha) * hard + self.alpha * self.temperature**2 * soft


class Learner:
    """A model in training: its weights, their moving average, the optimizer and where the schedule stands.

    The rate is constant after warm-up and the average is what counts, so the checkpoint of epoch n is what a run of n
    epochs would have given.
    """

    def __init__(
        self,
        model: nn.Module,
        config: Config,
        precision: str,
        device: torch.device,
        *,
        distillation: Distillation | None = None,
    ) -> None:
        """`config` is resolved: no rate or weight decay is None. A teacher is no part of the state."""
        self.model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._config, self._precision, self._device = config, precision, device
        self._distillation = distillation
        self._num_steps = 0
        self._pass: _Pass | None = None
        self._averaged = AveragedModel(self.model, multi_avg_fn=self._average, use_buffers=True)
        self._optimizer = _optimizer(self.model, config)
        self._scaler = scaler(device, precision)

    def num_steps(self, part: Part) -> int:
        """Steps of an epoch of `part`."""
        return num_steps(part, self._config.batch_size, self._config.grad_accum)

    @property
    def averaged(self) -> nn.Module:
        """The moving average: what is validated, kept and tested."""
        averaged: nn.Module = self._averaged.module
        return averaged

    def steps_done(self, epoch: int) -> int:
        """Steps done of this epoch; 0 where it has not begun."""
        return self._pass.num_steps if self._pass and self._pass.epoch == epoch else 0

    def train_epoch(self, part: Part, epoch: int) -> Generator[int, None, Fit]:
        """One pass over `part`, or what a checkpoint left of it, yielding the number of steps done.

        Raises TrainingError on NaN loss and where memory does not suffice.
        """
        config = self._config
        # Seeded by epoch, not once: the stream of an epoch does not depend on how the ones before it were run.
        seed = config.seed + 1_000_003 * epoch
        if self._pass is None or self._pass.epoch != epoch:
            torch.manual_seed(seed)
            self._pass = _Pass(epoch, torch.zeros((), device=self._device), torch.zeros((), device=self._device))
        now = self._pass
        self.model.train()
        steps = training_steps(part, config.batch_size, config.grad_accum, config.augment, seed, start=now.num_steps)
        with _enough_memory(config):
            for batches in steps:
                for group in self._optimizer.param_groups:
                    group["lr"] = self._rate(part)
                for images, labels in batches:
                    with autocast(self._device, self._precision):
                        logits = self.model(images)
                        loss = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
                        if self._distillation:
                            loss = self._distillation.loss(images, logits, loss)
                    self._scaler.scale(loss / config.grad_accum).backward()  # type: ignore[no-untyped-call]
                    now.loss_sum += loss.detach() * len(labels)
                    now.correct += (logits.detach().argmax(1) == labels).sum()
                    now.num_samples += len(labels)
                self._scaler.step(self._optimizer)
                self._scaler.update()
                self._optimizer.zero_grad(set_to_none=True)
                self._num_steps += 1
                now.num_steps += 1
                self._averaged.update_parameters(self.model)
                yield now.num_steps
        return self.fit()

    def fit(self) -> Fit:
        """The latest epoch, so far. Raises TrainingError on NaN loss."""
        if self._pass is None or not self._pass.num_samples:
            raise ValueError("no epoch has begun")
        now = self._pass
        mean_loss = now.loss_sum.item() / now.num_samples
        self._refuse_nan(mean_loss, "training", now.epoch)
        lr = self._optimizer.param_groups[0]["lr"]
        return Fit(mean_loss, now.correct.item() / now.num_samples, lr, now.num_samples)

    def evaluate(self, part: Part, epoch: int) -> Generator[int, None, Score]:
        """The averaged weights on every image of `part`, yielding images done. Raises TrainingError on NaN loss."""
        with _enough_memory(self._config):
            score = yield from evaluate(self.averaged, part, self._config.batch_size, self._precision, self._device)
        self._refuse_nan(score.loss, "validation", epoch)
        return score

    def state(self) -> dict[str, Any]:
        """All that training goes on from, in tensors and plain Python; `load_state` takes it back.

        Raises TrainingError where the weights have left the numbers: nothing would go on from there.
        """
        now = self._pass
        if not all(torch.isfinite(weights).all() for weights in self.model.parameters()):
            self._refuse_nan(math.nan, "training", now.epoch if now else 1)
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "num_averaged": self._averaged.n_averaged,
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "num_steps": self._num_steps,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None,
            "pass": None if now is None else dataclasses.asdict(now),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken: on a CPU, to the bit."""
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self._averaged.n_averaged.copy_(state["num_averaged"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self._num_steps = state["num_steps"]
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None and self._device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"], self._device)
        if state["pass"] is not None:
            self._pass = _Pass(**state["pass"])
            self._pass.loss_sum, self._pass.correct = (
                one.to(self._device) for one in (self._pass.loss_sum, self._pass.correct)
            )

    def _rate(self, part: Part) -> float:
        """Linear warm-up, at most over one epoch, then constant."""
        warmup = min(self._config.warmup_steps, self.num_steps(part))
        return _known(self._config.lr) * min(1.0, (self._num_steps + 1) / max(1, warmup))

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


def evaluate(
    model: nn.Module, part: Part, batch_size: int, precision: str, device: torch.device
) -> Generator[int, None, Score]:
    """Any model on every image of `part`, yielding images done; batches are larger than in training only while images
    are small."""
    model.eval()
    at_once = min(EVALUATION_BATCH, max(batch_size, EVALUATION_BATCH * SMALL_PX**2 // part.images.shape[1] ** 2))
    loss_sum, correct = torch.zeros((), device=device), torch.zeros((), dtype=torch.long, device=device)
    count = 0
    for images, labels in evaluation_batches(part, at_once):
        with torch.inference_mode(), autocast(device, precision):
            logits = model(images)
            loss_sum += F.cross_entropy(logits.float(), labels, reduction="sum")
            correct += (logits.argmax(1) == labels).sum()
        count += len(labels)
        yield count
    return Score(loss_sum.item() / len(part), int(correct.item()), len(part))


@contextmanager
def _enough_memory(config: Config) -> Iterator[None]:
    """What PyTorch says where memory ends -> TrainingError, with a smaller batch as the way out."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; on a CPU there is only the text
        if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
            raise
        half = max(1, config.batch_size // 2)
        raise TrainingError(
            f"batches of {config.batch_size} do not fit into memory",
            hint=f"--batch-size {half} --grad-accum {2 * config.grad_accum} makes the same steps in less",
            stop_reason="out-of-memory",
        ) from error


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
