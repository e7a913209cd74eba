"""From a config to everything that a training needs, each open choice made and written down."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from greenml import config as configs
from greenml import environment
from greenml.errors import UsageError
from greenml.learn import allocator, artifact, batches, data, models, precision
from greenml.learn.flops import flops_per_sample
from greenml.learn.loop import DEFAULT_LR, DEFAULT_WEIGHT_DECAY, Learner
from greenml.records import Notice, Progress

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import nn

    from greenml.config import Augment, Config, Device
    from greenml.learn.batches import Normalisation, Part


@dataclass(frozen=True, kw_only=True)
class Data:
    """A data set, split, on its device."""

    train: Part
    val: Part
    test: Part
    norm: Normalisation
    classes: list[str]
    in_chans: int
    image_size: int
    augment: Augment
    """What makes sense for these images."""
    facts: dict[str, Any]
    """The fields of `records.Run` that data decide."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A training that is ready to begin."""

    config: Config
    """Resolved: nothing is `auto` or None that has a value."""
    device: torch.device
    data: Data
    learner: Learner
    facts: dict[str, Any]
    """The fields of `records.Run` that data and model decide."""
    description: dict[str, Any]
    """What `model.pt` says beside the weights."""

    @property
    def train(self) -> Part:
        return self.data.train

    @property
    def val(self) -> Part:
        return self.data.val

    @property
    def test(self) -> Part:
        return self.data.test


def read(config: Config, device: torch.device) -> Generator[Progress | Notice, None, Data]:
    """Read the data and split them, once the process is set up for work. Raises UsageError and DataError."""
    allocator.keep_memory()
    torch.backends.cudnn.deterministic = True  # same seed, device and config: same losses
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
        if config.num_threads > (num_cpus := os.cpu_count() or 1):
            yield Notice(text=f"--num-threads {config.num_threads} on {num_cpus} CPUs: they will wait for each other")
    models.resolve_name(config.model)  # a mistyped name is said before anything is downloaded
    dataset, images = yield from data.load(config.dataset, config.image_size, config.data_dir)
    splits = data.split(images, config.val_fraction, config.split_seed)
    if config.batch_size * config.grad_accum > len(splits.train):
        asked = f"--batch-size {config.batch_size}" + f" x --grad-accum {config.grad_accum}" * (config.grad_accum > 1)
        raise UsageError(
            f"{asked} is more than the {len(splits.train)} training images",
            hint=f"try --batch-size {max(1, len(splits.train) // 10 // config.grad_accum)}",
        )
    (train, val, test), norm = batches.parts(images.images, images.labels, list(splits[:3]), device)
    return Data(
        train=train,
        val=val,
        test=test,
        norm=norm,
        classes=images.classes,
        in_chans=images.images.shape[3],
        image_size=images.image_size,
        augment=images.augment,
        facts={
            "dataset": dataset,
            "data_hash": images.data_hash,
            "split_hash": splits.split_hash,
            "num_classes": len(images.classes),
            "num_train": len(train),
            "num_val": len(val),
            "num_test": len(test),
            "majority_share": data.majority_share(images, splits.test),
            "image_size": images.image_size,
            "resize": images.resize,
        },
    )


def prepare(
    config: Config, device: torch.device, data: Data | None = None
) -> Generator[Progress | Notice, None, Setup]:
    """Read the data, unless they were read before, build the model, choose the precision. Raises UsageError and
    DataError."""
    found = data or (yield from read(config, device))
    shape = {"num_classes": len(found.classes), "in_chans": found.in_chans, "image_size": found.image_size}
    torch.manual_seed(config.seed)
    model, stem = models.create(config.model, model_args=config.model_args, **shape)
    flops = flops_per_sample(model, shape["in_chans"], shape["image_size"])
    if flops is None:
        yield Notice(text=f"the operations of {config.model} cannot be counted")
    probe_batch, _ = next(batches.evaluation_batches(found.train, precision.PROBE_BATCH))
    choice = precision.choose(config.precision, device, model, probe_batch)
    if choice.why:
        yield Notice(text=f"precision: {config.precision} asked, {choice.precision} runs: {choice.why}")

    resolved = dataclasses.replace(
        config,
        model=models.resolve_name(config.model),
        dataset=found.facts["dataset"],
        image_size=found.image_size,
        augment=found.augment if config.augment == "auto" else config.augment,
        lr=DEFAULT_LR[config.optimizer] if config.lr is None else config.lr,
        weight_decay=DEFAULT_WEIGHT_DECAY[config.optimizer] if config.weight_decay is None else config.weight_decay,
        precision=choice.precision,
        device=cast("Device", device.type),
        num_threads=torch.get_num_threads(),
    )
    hardware = hardware_of(device)
    return Setup(
        config=resolved,
        device=device,
        data=found,
        learner=Learner(model, resolved, choice.precision, device),
        facts={
            **found.facts,
            "model": resolved.model,
            "stem": stem,
            "num_parameters": models.num_parameters(model),
            "flops_per_sample": flops,
            "precision_asked": config.precision,
            "precision": choice.precision,
            "device": device.type,
            "hardware": hardware,
            "group_hash": configs.group_hash(resolved, hardware["cpu"], hardware["gpu"]),
            "accumulation": _accumulation(resolved, model),
        },
        description=artifact.describe(
            architecture=resolved.model,
            model_args=resolved.model_args,
            classes=found.classes,
            in_chans=found.in_chans,
            image_size=found.image_size,
            norm=found.norm,
        ),
    )


def hardware_of(device: torch.device) -> dict[str, Any]:
    """The machine, with what PyTorch uses of it."""
    return {
        **environment.hardware(),
        "gpu": precision.device_name(device),
        "torch_threads": torch.get_num_threads(),
    }


def _accumulation(config: Config, model: nn.Module) -> str | None:
    """Whether accumulated gradients are those of a large batch, in words (tests/test_learn.py holds them to it)."""
    if config.grad_accum == 1:
        return None
    together = config.batch_size * config.grad_accum
    if models.mixes_batches(model):
        return f"not equal to batches of {together}: batch norm sees {config.batch_size} images at a time"
    return f"equal to batches of {together}"
