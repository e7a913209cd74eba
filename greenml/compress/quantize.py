"""Models for OpenVINO, in 8 bits where asked: quantised after training, or while fine-tuning."""

from __future__ import annotations

import copy
import logging
import shutil
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch import nn

from greenml import serve
from greenml.compress.converting import largest_difference, quietly, refusals
from greenml.compress.plan import MIN_CALIBRATION, few_images
from greenml.compress.rounding import Rounding
from greenml.errors import UsageError
from greenml.files import storing
from greenml.learn.precision import DTYPES
from greenml.serve import runtime

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import numpy as np
    import openvino as ov
    from numpy.typing import NDArray

    Images = NDArray[np.float32]

GROUP = 10
"""Images that are calibrated with together. A range is the mean of those of the groups: with single images it cuts off
more, so 98.7 % of the cnn's test images kept their class, with 10 or 50 together 99.2 %, in half of the time."""

WAY_OUT = "`--method prune` and `--method distill --student cnn` need no other runtime than torch"


def to_openvino(model: nn.Module, image_shape: tuple[int, int, int]) -> ov.Model:
    """The same model for OpenVINO, in fp32: images [N, C, S, S] of any N -> logits.

    `image_shape` is (C, S, S). What `prepare_qat` made becomes int8. Raises UsageError for what OpenVINO lacks, and
    where it answers otherwise than PyTorch.
    """
    openvino = runtime.openvino()
    replica = copy.deepcopy(model).cpu().float().eval()
    images = torch.randn(3, *image_shape, generator=torch.Generator().manual_seed(0))
    with refusals("OpenVINO cannot run this model", hint=WAY_OUT), quietly():
        converted = openvino.convert_model(replica, example_input=images[:2], input=[-1, *image_shape])
        answered = runtime.core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images.numpy())
    # Roundings that fall to the other side make int8 models differ by more, so that nothing can be told of them here.
    if not any(isinstance(module, Rounding) for module in replica.modules()):
        with torch.inference_mode():
            expected = replica(images).numpy()
        largest_difference(answered[0], expected, "the model in OpenVINO", hint=WAY_OUT)
    return converted


def int8(ov_model: ov.Model, images: Iterable[Images]) -> ov.Model:
    """Weights and activations in 8 bits, convolutions included; ranges are read off batches [n, C, S, S] of `images`.

    Raises UsageError for fewer images than MIN_CALIBRATION and for what NNCF cannot quantise.
    """
    groups = _groups(images)
    nncf = _nncf()
    with refusals("NNCF cannot quantise this model", hint=WAY_OUT), quietly():
        return nncf.quantize(
            ov_model,
            nncf.Dataset(groups),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            model_type=nncf.ModelType.TRANSFORMER if _attends(ov_model) else None,
            subset_size=len(groups),
        )


def prepare_qat(model: nn.Module, images: Iterable[Images]) -> nn.Module:
    """A copy that rounds weights and activations to 8 bits as `int8` would, and can be trained; on the CPU.

    The ranges are read off batches [n, C, S, S] of `images` and stay; the weights learn to live with them. Raises
    UsageError for fewer images than MIN_CALIBRATION and for what NNCF cannot quantise.
    """
    groups = [torch.from_numpy(group) for group in _groups(images)]
    nncf = _nncf()
    replica = copy.deepcopy(model).cpu().eval()
    with refusals("NNCF cannot quantise this model", hint=WAY_OUT), quietly(), _no_compiler():
        quantized: nn.Module = nncf.quantize(
            replica,
            nncf.Dataset(groups),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            model_type=nncf.ModelType.TRANSFORMER if _has_attention(model) else None,
            subset_size=len(groups),
        )
        _round_natively(quantized)
    return quantized


def save(ov_model: ov.Model, folder: Path, description: dict[str, Any], precision: str) -> Path:
    """Write `model.xml`, `model.bin` and `model.json` into `folder`, whole or not at all; the path of the first.

    Weights take 2 bytes on disk for fp16 and bf16, 4 for fp32, and 1 where they are int8. Raises StoreError.
    """
    openvino = runtime.openvino()
    partial, path = folder / "model.partial", folder / "model.xml"
    shutil.rmtree(partial, ignore_errors=True)  # of a killed process
    try:
        with storing(path):
            partial.mkdir(parents=True)
            written = partial / path.name
            openvino.save_model(ov_model, written, compress_to_fp16=precision in DTYPES)
            runtime.core().read_model(written)  # a full disk goes unnoticed by save_model
            for name in ("model.bin", "model.xml"):
                (partial / name).replace(folder / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    serve.describe(path, {**description, "precision": precision})
    return path


def _groups(images: Iterable[Images]) -> list[Images]:
    """Batches of any size -> groups of GROUP and rests. Raises UsageError for fewer images than MIN_CALIBRATION."""
    groups = [batch[i : i + GROUP] for batch in images for i in range(0, len(batch), GROUP)]
    num_images = sum(map(len, groups))
    if num_images < MIN_CALIBRATION:
        raise few_images(num_images)
    return groups


def _nncf() -> ModuleType:
    """The package, which then says nothing. Raises UsageError where it is not installed."""
    runtime.openvino()  # first, for its ways with telemetry, which NNCF shares
    with quietly():
        try:
            import nncf
        except ImportError as error:
            raise UsageError(
                f"NNCF is not here to quantise with: {error}", hint="pip install 'greenml[compress]' brings it"
            ) from error
        # Not by `nncf.set_log_level`: that sets the handlers, too, which others may have hung there.
        logging.getLogger("nncf").setLevel(logging.ERROR)
    found: ModuleType = nncf
    return found


def _attends(ov_model: ov.Model) -> bool:
    """Whether the model is a transformer: NNCF then keeps apart what attention multiplies."""
    return any(
        node.get_type_name() == "ScaledDotProductAttention"
        or (
            node.get_type_name() == "Softmax"
            and any(to.get_node().get_type_name() == "MatMul" for to in node.output(0).get_target_inputs())
        )
        for node in ov_model.get_ops()
    )


def _has_attention(model: nn.Module) -> bool:
    """The same of a torch module, by the names of its parts."""
    return any("attention" in type(module).__name__.lower() for module in model.modules())


@contextmanager
def _no_compiler() -> Iterator[None]:
    """NNCF rounds by an extension that it compiles at first use: minutes, and a compiler that may not be there.

    Calibration alone needs it (training uses `Rounding`), so its own code in plain torch does.
    """
    from nncf.torch.quantization.extensions import QuantizedFunctionsCPU
    from nncf.torch.quantization.reference import ReferenceBackendType, ReferenceQuantize

    plain = ReferenceQuantize(ReferenceBackendType.TORCH)
    functions = SimpleNamespace(Quantize_forward=plain.forward, Quantize_backward=plain.backward)
    with patch.object(QuantizedFunctionsCPU, "get", lambda name: getattr(functions, name)):
        yield


def _round_natively(quantized: nn.Module) -> None:
    """Put torch's own rounding, which has a fast kernel on every device, in place of NNCF's."""
    from nncf.torch.function_hook.wrapper import get_hook_storage
    from nncf.torch.quantization.layers import BaseQuantizer

    hooks = get_hook_storage(quantized)
    for name, quantizer in list(hooks.named_hooks()):
        if isinstance(quantizer, BaseQuantizer):
            low, high, scale, zero_point = quantizer.get_parameters_for_torch_fq()
            shape = quantizer.scale_shape
            axis = max(range(len(shape)), key=lambda i: shape[i]) if quantizer.per_channel else None
            hooks.set_submodule(name, Rounding(low, high, scale, zero_point, axis))
