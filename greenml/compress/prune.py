"""Pruning: whole channels, by which a model gets smaller and faster, or single weights, by which it does not."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils import prune

from greenml.errors import UsageError
from greenml.learn import reshape
from greenml.learn.flops import flops_per_sample
from greenml.learn.models import num_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCKS = (16, 8)
"""Widths are rounded to the nearest multiple of the first that fits: kernels for CPUs and tensor cores take channels in
blocks. On a CPU with AVX-512, `cnn` with channels 16, 48, 96 and 176 takes in 3.1 times as many images a second as
before, with 22, 44, 89 and 179 (as many as 30 % come to) 1.3 times; both have half of the multiplications."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """A model with fewer channels, and what that came to."""

    model: nn.Module
    """In evaluation mode, channels last."""
    num_parameters_before: int
    num_parameters: int
    macs_before: int | None
    """Multiplications with their additions for one image; None where they cannot be counted."""
    macs: int | None

    def __str__(self) -> str:
        """What was reached, in words: the sparsity asked for is of channels, and says little of the rest."""
        parameters = f"{self.num_parameters_before / self.num_parameters:.2f}x fewer parameters"
        if self.macs is None or self.macs_before is None:
            return parameters
        return f"{self.macs_before / self.macs:.2f}x fewer multiplications, {parameters}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinned:
    """A model some of whose weights are zero."""

    model: nn.Module
    """Its zeros stay zeros while it is trained on."""
    num_zeros: int
    num_weights: int
    """Of convolutions and linear layers, biases left out."""

    def __str__(self) -> str:
        share = self.num_zeros / self.num_weights
        return f"{share:.1%} of {self.num_weights:,} weights are zero; dense kernels get no faster by that"


def structured(model: nn.Module, sparsity: float, image_shape: tuple[int, int, int], num_classes: int) -> Pruned:
    """A copy of `model` for images [C, S, S] in which each layer has about `sparsity` of its channels less.

    Those with the smallest weights go (torch-pruning, group magnitude), together with all that depends on them; the
    classifier keeps its outputs. Widths are rounded (BLOCKS), so what is reached is told apart from what was asked. In
    attention, heads get narrower and keep their number.

    Raises UsageError where torch-pruning is not installed, cannot follow the channels of the architecture or leaves
    something that does not work, and where no channel or all of them would go.
    """
    try:
        import torch_pruning
    except ImportError as error:
        raise UsageError(
            "--method prune needs torch-pruning, which is not installed", hint="pip install 'greenml[compress]'"
        ) from error

    image = torch.zeros(1, *image_shape, device=next(model.parameters()).device)
    pruned = deepcopy(model).eval().to(memory_format=torch.contiguous_format)
    layers = [layer for layer in pruned.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    answers = [layer for layer in layers if _width(layer) == num_classes]
    answers = [layer for layer in answers if isinstance(layer, nn.Linear)] or answers
    heads = reshape.attentions(pruned)
    widths = {layer: _width(layer) for layer in layers} | {one.qkv: int(one.head_dim) for one in heads}
    if max(widths.values()) * (1 - sparsity) < 1:
        raise UsageError(
            f"--sparsity {sparsity:g} leaves less than one channel of {max(widths.values())}",
            hint="0.5 is much already: multiplications fall by the square",
        )
    try:
        with _bounded(pruned), warnings.catch_warnings():
            # What it says of positions and class tokens: that it prunes them along their last dimension, as is right.
            warnings.filterwarnings("ignore", "Unwrapped parameters detected", UserWarning)
            torch_pruning.pruner.BasePruner(
                pruned,
                image,
                importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
                # It keeps the whole part of what a ratio leaves: half a channel more makes that the width wanted.
                pruning_ratio_dict={
                    layer: 1 - (_kept(width, sparsity) + 0.5) / width for layer, width in widths.items()
                },
                ignored_layers=answers,
                num_heads={one.qkv: one.num_heads for one in heads},
                in_channel_groups={},
                out_channel_groups={},
            ).step()
        reshape.settle(heads)
        _check(pruned, image, num_classes)
    except Exception as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"{type(model).__name__} cannot be pruned by channels: {said}",
            hint="`--method int8` and `--method prune-unstructured` leave the shapes as they are",
        ) from error
    if num_parameters(pruned) == num_parameters(model):
        raise UsageError(
            f"--sparsity {sparsity:g} removes no channel: widths are rounded to multiples of {BLOCKS[0]}",
            hint="try --sparsity 0.3",
        )
    flops_before, flops = (flops_per_sample(one, image_shape[0], image_shape[1]) for one in (model, pruned))
    return Pruned(
        model=pruned.to(memory_format=torch.channels_last),
        num_parameters_before=num_parameters(model),
        num_parameters=num_parameters(pruned),
        macs_before=None if flops_before is None else flops_before // 2,
        macs=None if flops is None else flops // 2,
    )


def unstructured(model: nn.Module, sparsity: float) -> Thinned:
    """A copy of `model` with the share `sparsity` of the weights of its convolutions and linear layers set to zero.

    Those next to zero in the whole model go. Gradients of zeros are zero from now on, which holds them through every
    optimizer of `learn.loop`, and through the moving average. Raises UsageError where no weight would go, or all of a
    layer.
    """
    thinned = deepcopy(model).to(memory_format=torch.contiguous_format)  # PyTorch's pruning knows no other
    layers = {name: layer for name, layer in thinned.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    num_weights = sum(layer.weight.numel() for layer in layers.values())
    if not round(sparsity * num_weights):
        raise UsageError(f"--sparsity {sparsity:g} of {num_weights:,} weights is none", hint="try --sparsity 0.7")
    weights = [(layer, "weight") for layer in layers.values()]
    prune.global_unstructured(weights, pruning_method=prune.L1Unstructured, amount=sparsity)
    for name, layer in layers.items():
        prune.remove(layer, "weight")  # type: ignore[no-untyped-call]
        if not layer.weight.any():
            raise UsageError(
                f"--sparsity {sparsity:g} leaves nothing of the layer {name}: every image would get the same answer",
                hint="try --sparsity 0.7",
            )
    thinned.to(memory_format=torch.channels_last)
    for layer in layers.values():
        _hold_zeros(layer.weight)
    num_zeros = sum(int((layer.weight == 0).sum()) for layer in layers.values())
    return Thinned(model=thinned, num_zeros=num_zeros, num_weights=num_weights)


def _hold_zeros(weight: torch.Tensor) -> None:
    # Without a gradient, Adam and SGD leave a zero what it is, decay included (tests/test_prune.py).
    weight.register_hook(lambda gradient: gradient.masked_fill(weight == 0, 0))  # type: ignore[no-untyped-call]


def _width(layer: nn.Conv2d | nn.Linear) -> int:
    """Channels that can be chosen among; in a grouped convolution those of a group, since all groups stay as wide."""
    if isinstance(layer, nn.Linear):
        return layer.out_features
    return layer.out_channels if layer.groups == layer.out_channels else layer.out_channels // layer.groups


def _kept(width: int, sparsity: float) -> int:
    """Channels that are left of `width`."""
    left = width * (1 - sparsity)
    block = next((block for block in BLOCKS if left >= block), 1)
    return min(width, max(1, round(left / block) * block))


def _check(model: nn.Module, image: torch.Tensor, num_classes: int) -> None:
    """Raise ValueError where an image [1, C, S, S] is not answered with a number for each class."""
    with torch.no_grad():
        logits = model(image)
    if logits.shape != (1, num_classes):
        raise ValueError(f"it then answers with shape {tuple(logits.shape)}")
    if not logits.isfinite().all():
        raise ValueError("its answers are then no numbers")


@contextmanager
def _bounded(model: nn.Module) -> Iterator[None]:
    """End it where torch-pruning loses its way: it follows the indices of channels from layer to layer, and where it
    misreads a reshape they multiply without end (efficientformerv2_s0: 20 GB after ten minutes)."""
    from torch_pruning.dependency.group import Group

    widest = max(max(weights.shape, default=1) for weights in model.parameters())
    add_dep = Group.add_dep

    def bounded(group: Any, dep: Any, idxs: list[Any]) -> None:
        if len(idxs) > 2 * widest:
            raise ValueError("torch-pruning cannot follow its channels through a reshape")
        add_dep(group, dep, idxs)

    Group.add_dep = bounded
    try:
        yield
    finally:
        Group.add_dep = add_dep
