"""One image, as it comes -> pixels for a model: the same for training, for predictions and for whatever serves them."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

UNREADABLE = (OSError, ValueError, SyntaxError, RuntimeError, Image.DecompressionBombError)
"""What Pillow raises for images that are none; the decoders of AVIF and DDS know RuntimeError alone."""


class Picture(NamedTuple):
    """An image that was decoded."""

    pixels: NDArray[np.uint8]
    """[S, S, C]"""
    resized: bool


def picture(data: bytes | NDArray[np.uint8], size: int, channels: int) -> Picture | None:
    """A file's bytes, or an array [H, W] or [H, W, 3] -> [S, S, C]: shorter side to `size`, centre crop.

    None where it is corrupt. One channel is grey, three are RGB.
    """
    try:
        image = _open(data)
        if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would clip to white
            image = Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8))
        image = image.convert("RGB" if channels == 3 else "L")
    except UNREADABLE:
        return None
    shape = (size, size, channels)
    if image.size == (size, size):
        return Picture(np.asarray(image).reshape(shape), False)
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    scaled = image.resize((width, height), Image.Resampling.BICUBIC)
    return Picture(np.asarray(scaled.crop((left, top, left + size, top + size))).reshape(shape), True)


def size_of(data: bytes | NDArray[np.uint8]) -> tuple[int, int] | None:
    """Width and height in pixels; None where the image is corrupt."""
    try:
        return _open(data).size
    except UNREADABLE:
        return None


def normalised(images: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """[N, S, S, C], and for each channel what training took off and divided by -> [N, C, S, S]; channels stay last in
    memory. To the bit what models are trained on (tests/test_predict.py)."""
    values = images.astype(np.float32)
    values -= np.asarray(mean, np.float32)
    values /= np.asarray(std, np.float32)
    return values.transpose(0, 3, 1, 2)


def is_mean(values: Any, channels: int) -> bool:
    """Whether what a file says is a mean that `normalised` can take: a finite number for each channel."""
    return (
        isinstance(values, list)
        and len(values) == channels
        and all(type(value) in (int, float) and math.isfinite(value) for value in values)
    )


def is_std(values: Any, channels: int) -> bool:
    """Whether it is a standard deviation to divide by."""
    return is_mean(values, channels) and min(values) > 0


def _open(data: bytes | NDArray[np.uint8]) -> Image.Image:
    return Image.open(io.BytesIO(data)) if isinstance(data, bytes) else Image.fromarray(data)
