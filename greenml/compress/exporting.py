"""Models for other runtimes: each is run against the original before it may lie under its name."""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from greenml import serve
from greenml.compress import quantize
from greenml.compress.converting import largest_difference, quietly, refusals
from greenml.compress.plan import refuse_missing
from greenml.files import storing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Images = NDArray[np.float32]
    Logits = NDArray[np.float32]

NUM_CHECKED = 32
"""Images that an export is run on beside the original."""

FILES = {"onnx": "model.onnx", "openvino": "model.xml", "executorch": "model.pte"}

_AT_ONCE = 16
"""Images, while an export is checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A model in another format, as it answered beside the original."""

    kind: str
    path: Path
    num_bytes: int
    """Of the model: `model.json` is left out."""
    largest_difference: float
    """Of any logit of any image."""
    agreement: float
    """Fraction of the images that both put into the same class."""
    num_checked: int

    @property
    def words(self) -> str:
        """Which file, and how it was checked."""
        return (
            f"{self.path.name}: {self.num_bytes / 1e6:.2f} MB; on {self.num_checked} images its logits differ by at "
            f"most {self.largest_difference:.1e} from PyTorch's, {self.agreement:.0%} get the same class"
        )


def export(model: nn.Module, kind: str, folder: Path, description: dict[str, Any], check_images: Images) -> Export:
    """Write a model in fp32 into `folder`, with its description, after running it on `check_images` [N, C, S, S].

    `kind` is onnx or openvino, which take any number of images at once, or executorch, which takes one. Raises
    UsageError for a format that cannot be had or that refuses the model, and where the answers differ: then no file is
    left. Raises StoreError.
    """
    refuse_missing((), (kind,))
    partial, path = folder / f"{kind}.partial", folder / FILES[kind]
    shutil.rmtree(partial, ignore_errors=True)  # of a killed process
    original = copy.deepcopy(model).cpu().float().eval()
    try:
        with storing(partial):
            partial.mkdir(parents=True)
        answer = _WRITERS[kind](original, partial / path.name, check_images[:1].shape[1:], description)
        difference, agreement = _compare(kind, original, answer, check_images)
        del answer  # Windows moves no file that is open
        with storing(path):
            written = sorted(partial.glob("model.*"), key=lambda file: file.suffix == ".json")  # what describes, last
            num_bytes = sum(file.stat().st_size for file in written if file.suffix != ".json")
            for file in written:
                file.replace(folder / file.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Export(
        kind=kind,
        path=path,
        num_bytes=num_bytes,
        largest_difference=difference,
        agreement=agreement,
        num_checked=len(check_images),
    )


def _onnx(
    model: nn.Module, path: Path, shape: tuple[int, ...], description: dict[str, Any]
) -> Callable[[Images], Logits]:
    batch = torch.export.Dim("batch")
    with refusals("this model cannot be exported to ONNX", hint="--export openvino may take it"), quietly():
        program = torch.onnx.export(
            model,
            (torch.zeros(2, *shape),),
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: batch},),
            verbose=False,
        )
    assert program is not None
    with storing(path):
        program.save(path, external_data=False)
    serve.describe(path, {**description, "precision": "fp32"})
    return serve.open_exported(path.parent)


def _openvino(
    model: nn.Module, path: Path, shape: tuple[int, ...], description: dict[str, Any]
) -> Callable[[Images], Logits]:
    channels, height, width = shape
    converted = quantize.to_openvino(model, (channels, height, width))
    quantize.save(converted, path.parent, description, "fp32")
    return serve.open_exported(path.parent)


def _executorch(
    model: nn.Module, path: Path, shape: tuple[int, ...], description: dict[str, Any]
) -> Callable[[Images], Logits]:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime

    with refusals("this model cannot be exported for ExecuTorch", hint="--export onnx may take it"), quietly():
        exported = torch.export.export(model, (torch.zeros(1, *shape),))
        lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
        buffer = lowered.to_executorch().buffer
    with storing(path):
        path.write_bytes(buffer)
    serve.describe(path, {**description, "precision": "fp32"})
    loaded = Runtime.get().load_program(path)
    forward = loaded.load_method("forward")

    def answer(images: Images, _: object = loaded) -> Logits:  # a method whose program is gone crashes the process
        return np.concatenate([forward.execute([torch.from_numpy(image[None])])[0].numpy() for image in images])

    return answer


_WRITERS = {"onnx": _onnx, "openvino": _openvino, "executorch": _executorch}


def _compare(kind: str, original: nn.Module, answer: Callable[[Images], Logits], images: Images) -> tuple[float, float]:
    """The largest difference of logits, and the fraction of equal classes. Raises UsageError where they disagree."""
    batches = [images[i : i + _AT_ONCE] for i in range(0, len(images), _AT_ONCE)]
    with torch.inference_mode():
        expected = np.concatenate([original(torch.from_numpy(batch)).numpy() for batch in batches])
    with refusals(f"the model as {kind} does not run", hint="another --export may do"):
        found = np.concatenate([answer(np.ascontiguousarray(batch)) for batch in batches])
    difference = largest_difference(found, expected, f"the model as {kind}", hint="another --export may do")
    return difference, float((found.argmax(1) == expected.argmax(1)).mean())
