"""A fresh model takes on what tensors say of another: widths that were pruned, precision, int8 linear layers.

Nothing is executed and no class is named by a file: the architecture is greenml's own, the file only has tensors.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from greenml.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Quantiser = Callable[[nn.Module], nn.Module]

PACKED = "._packed_params._packed_params"
"""How the name of an int8 linear layer's weight and bias ends, which its state dict keeps as one pair."""


def like(model: nn.Module, state: dict[str, Any]) -> bool:
    """Give the parameters and buffers of `model` the shapes and precisions that they have in `state`, and say whether
    a shape changed. Their values are for `load_state_dict`, and so are all complaints.

    Widths only shrink: what a file of a few bytes says of its tensors never makes this take more memory than the
    architecture does.
    """
    narrower = False
    heads = attentions(model)
    wanted = _plain(state)
    for path, module in list(model.named_modules()):
        for name, tensor in _own(module):
            other = wanted.get(f"{path}.{name}" if path else name)
            if other is None or not _fits(other, tensor):
                continue
            if other.shape != tensor.shape or other.dtype != tensor.dtype:
                narrower |= other.shape != tensor.shape
                fresh = torch.empty(other.shape, dtype=other.dtype)
                setattr(module, name, nn.Parameter(fresh) if isinstance(tensor, nn.Parameter) else fresh)
        _agree(module)
    settle(heads)
    return narrower


def attentions(model: nn.Module) -> list[Any]:
    """The self-attentions of timm whose queries, keys and values come out of one layer: all its heads are as wide."""
    return [
        module
        for module in model.modules()
        if isinstance(qkv := getattr(module, "qkv", None), nn.Linear)
        and qkv.out_features == 3 * getattr(module, "num_heads", 0) * getattr(module, "head_dim", 0)
    ]


def settle(heads: list[Any]) -> None:
    """What attentions say of their width is what it has become; the number of heads stays."""
    for attention in heads:
        attention.head_dim = attention.qkv.out_features // (3 * attention.num_heads)
        attention.attn_dim = attention.num_heads * attention.head_dim


def dtype(model: nn.Module) -> torch.dtype:
    """The precision of the weights, in which it wants its images; fp32 where all of them are int8."""
    return next((one.dtype for one in model.parameters() if one.is_floating_point()), torch.float32)


def dynamic_quantiser() -> Quantiser:
    """What makes the linear layers of a model int8, in a copy; the inputs of each are quantised as they come.

    Raises UsageError where PyTorch has it no more.
    """
    try:
        from torch.ao.quantization import quantize_dynamic
    except ImportError as error:
        raise UsageError(
            f"PyTorch {torch.__version__} has no dynamic quantisation any more",
            hint="`--method int8` quantises convolutions, too, and is faster",
        ) from error

    def quantise(model: nn.Module) -> nn.Module:
        with expected_end():
            quantised: nn.Module = quantize_dynamic(model.eval(), {nn.Linear}, dtype=torch.qint8)  # type: ignore[no-untyped-call]
        return quantised

    return quantise


@contextmanager
def expected_end() -> Iterator[None]:
    """Keep from the user that PyTorch has announced the end of its quantised tensors and what makes them.

    Their heir is torchao: quantize_(model, Int8DynamicActivationInt8WeightConfig()). Its weights are tensors of classes
    of its own; those here are what `weights_only=True` reads without naming any, for as long as they last.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"torch\.ao\.quantization is deprecated", DeprecationWarning)
        warnings.filterwarnings("ignore", r"torch\.quantize_per_tensor.* are deprecated", UserWarning)
        warnings.filterwarnings("ignore", "TypedStorage is deprecated", UserWarning)
        yield


def _own(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from list(module.named_parameters(recurse=False))
    yield from list(module.named_buffers(recurse=False))


def _fits(other: Any, tensor: torch.Tensor) -> bool:
    return (
        isinstance(other, torch.Tensor)
        and other.dim() == tensor.dim()
        and other.is_floating_point() == tensor.is_floating_point()
        and all(0 < new <= old for new, old in zip(other.shape, tensor.shape, strict=True))
    )


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """The state dict as it would be without quantisation; of int8 tensors only the shapes count."""
    plain = dict(state)
    for name in state:
        if name.endswith(PACKED):
            weight, bias = state[name]
            layer = name.removesuffix(PACKED)
            plain[f"{layer}.weight"], plain[f"{layer}.bias"] = torch.empty(weight.shape, device="meta"), bias
    return plain


def _agree(module: nn.Module) -> None:
    """What a layer says of its widths is what its tensors have."""
    match module:
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            # Depthwise convolutions have a group for every channel that is left; all others keep their groups.
            if module.groups == module.out_channels == module.in_channels:
                module.groups = len(module.weight)
            module.out_channels, module.in_channels = len(module.weight), module.weight.shape[1] * module.groups
        case nn.Linear():
            module.out_features, module.in_features = module.weight.shape
        case nn.modules.batchnorm._NormBase() if (known := _first(module.running_mean, module.weight)) is not None:
            module.num_features = len(known)
        case nn.GroupNorm() if module.affine:
            module.num_channels = len(module.weight)
        case nn.LayerNorm() if module.elementwise_affine:
            module.normalized_shape = tuple(module.weight.shape)


def _first(*tensors: torch.Tensor | None) -> torch.Tensor | None:
    return next((tensor for tensor in tensors if tensor is not None), None)
