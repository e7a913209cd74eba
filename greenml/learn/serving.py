"""Predictions from `model.pt` through PyTorch: what `greenml.serve` does for exported models."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from greenml.errors import DataError, UsageError
from greenml.learn import allocator, artifact
from greenml.learn.precision import DTYPES
from greenml.pictures import is_mean, is_std

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn


class TorchPredictor:
    """A model in evaluation mode: normalised images [N, C, S, S] -> logits [N, num_classes], both NumPy's float32.

    In bf16 and fp16 the weights themselves are narrow, in a copy of the model: autocast would narrow them again at
    every call, which makes a single image take a third longer (resnet18). Batch norm keeps fp32, beside narrow images.
    """

    backend = "torch"

    def __init__(
        self, model: nn.Module, description: dict[str, Any], device: torch.device | str, precision: str = "fp32"
    ) -> None:
        """`precision` is fp32, bf16, fp16, or int8 where the model is quantised already.

        Raises UsageError where the model does not compute in it.
        """
        self.precision = precision
        self.num_threads = torch.get_num_threads()
        self.description = {**description, "precision": precision, "backend": self.backend}
        self._device = torch.device(device)
        self.device = self._device.type
        self._dtype = DTYPES.get(precision, torch.float32)
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
        narrow = precision in DTYPES
        self._model = (_narrowed(model, self._dtype) if narrow else model).eval().to(self._device)
        if narrow:
            self._try()

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        batch = torch.from_numpy(images).to(self._device, self._dtype, memory_format=torch.channels_last)
        with torch.inference_mode():
            logits: torch.Tensor = self._model(batch)
            answers: NDArray[np.float32] = logits.float().cpu().numpy()
        return answers

    def _try(self) -> None:
        shape = (1, self.description["in_chans"], self.description["image_size"], self.description["image_size"])
        try:
            self(torch.zeros(shape).numpy())
        except RuntimeError as error:
            raise UsageError(
                f"{self.description['architecture']} does not compute in {self.precision} on {self.device}: "
                + str(error).splitlines()[0],
                hint="it does in fp32",
            ) from error


def open_torch(
    path: Path, device: torch.device | str, *, precision: str | None = None, num_threads: int | None = None
) -> TorchPredictor:
    """The model of a file, in the precision that the file names (fp32 where it names none) or another.

    `num_threads` counts for the whole process. Raises DataError for a file that is spoilt or gone, UsageError for a
    precision that the model does not compute in.
    """
    allocator.keep_memory()
    if num_threads:
        torch.set_num_threads(num_threads)
    model, description = artifact.load(path)
    channels = description["in_chans"]
    if not (is_mean(description.get("mean"), channels) and is_std(description.get("std"), channels)):
        raise DataError(f"{path}: it does not say how images are normalised", hint="train it again, or copy it again")
    if description.get("quantized"):
        device = "cpu"  # int8 layers have kernels there alone
    return TorchPredictor(model, description, device, precision or description.get("precision", "fp32"))


def _narrowed(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    model = copy.deepcopy(model).to(dtype)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.float()
    return model
