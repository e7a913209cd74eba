"""Whole batches out of memory: gathered, shifted, mirrored and normalised without touching single images in Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

STATISTICS_VALUES = 10_000_000
"""Enough for four digits, and 80 MB while they are counted."""

RESIDENT_SHARE = 0.4
"""Data up to this share of a GPU's free memory moves there as a whole."""


class Normalisation(NamedTuple):
    """Per channel, for pixels 0..255; computed on the training split."""

    mean: list[float]
    std: list[float]


@dataclass(frozen=True, slots=True)
class Part:
    """The images [N, S, S, C] uint8 and labels [N] int64 of a data set, and the indices [M] of one split of it."""

    images: torch.Tensor
    labels: torch.Tensor
    index: torch.Tensor
    mean: torch.Tensor
    """[S, S, C] on the device: spread over the whole image, since an inner dimension of 3 would not vectorise."""
    std: torch.Tensor

    def __len__(self) -> int:
        return len(self.index)


def parts(
    images: NDArray[np.uint8], labels: NDArray[np.int64], splits: list[NDArray[np.int64]], device: torch.device
) -> tuple[list[Part], Normalisation]:
    """One Part a split; the first is the training split, whose statistics normalise all."""
    pixels, targets = torch.from_numpy(images), torch.from_numpy(labels)
    statistics = normalisation(pixels, torch.from_numpy(splits[0]))
    mean, std = (torch.tensor(one, device=device).expand(pixels.shape[1:]).contiguous() for one in statistics)
    if device.type == "cuda" and pixels.nbytes < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
        pixels, targets = pixels.to(device), targets.to(device)
    indices = [torch.from_numpy(split).to(pixels.device) for split in splits]
    return [Part(pixels, targets, index, mean, std) for index in indices], statistics


def normalisation(images: torch.Tensor, index: torch.Tensor) -> Normalisation:
    """Mean and standard deviation per channel, over training images evenly spread that make up STATISTICS_VALUES."""
    num = max(1, STATISTICS_VALUES // images[0].numel())
    some = images[index[:: -(-len(index) // num)]].double()
    return Normalisation(some.mean((0, 1, 2)).tolist(), some.std((0, 1, 2)).clamp_min(1e-3).tolist())


def training_steps(
    part: Part, batch_size: int, grad_accum: int, augment: str, seed: int, *, start: int = 0
) -> Iterator[Iterator[tuple[torch.Tensor, torch.Tensor]]]:
    """A shuffled epoch from step `start` on, step by step.

    A step is `grad_accum` batches of images [B, C, S, S] (channels-last, float32) and labels [B]. What is random is
    drawn for the step as a whole, so that accumulated batches hold what one large batch would. The last, smaller step
    is left out: batch norm cannot train on a rest of one.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(part), generator=generator)
    together = batch_size * grad_accum
    for step, rows in enumerate(torch.split(order[: num_steps(part, batch_size, grad_accum) * together], together)):
        draws = _draw(part, together, augment, generator)  # also for steps that are left out: the stream goes on
        if step >= start:
            yield _batches(part, rows, draws, batch_size)


def _batches(
    part: Part, rows: torch.Tensor, draws: list[torch.Tensor], batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for picked, *moves in zip(*(torch.split(one, batch_size) for one in (rows, *draws)), strict=True):
        index = part.index[picked.to(part.index.device)]
        if moves:
            shifts, flips = (one.to(part.images.device) for one in moves)
            images = crop_and_flip(part.images, index, shifts, flips)
        else:
            images = part.images[index]
        yield _normalised(images, part), part.labels[index].to(part.mean.device)


def evaluation_batches(part: Part, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Every image once, in order, as it is: [B, C, S, S] and [B]."""
    for index in torch.split(part.index, batch_size):
        yield _normalised(part.images[index], part), part.labels[index].to(part.mean.device)


def num_steps(part: Part, batch_size: int, grad_accum: int) -> int:
    """Training steps an epoch."""
    return len(part) // (batch_size * grad_accum)


def _draw(part: Part, num: int, augment: str, generator: torch.Generator) -> list[torch.Tensor]:
    """Shifts [num, 2] in pixels and flips [num]; nothing where images stay as they are."""
    if augment == "none":
        return []
    reach = max(1, part.images.shape[1] // 16)
    shifts = torch.randint(-reach, reach + 1, (num, 2), generator=generator)
    flips = torch.rand(num, generator=generator) < 0.5 if augment == "crop-flip" else torch.zeros(num, dtype=torch.bool)
    return [shifts, flips]


def crop_and_flip(images: torch.Tensor, index: torch.Tensor, shifts: torch.Tensor, flips: torch.Tensor) -> torch.Tensor:
    """images [N, S, S, C], index [B], shifts [B, 2] in pixels (down, right), flips [B] -> [B, S, S, C].

    Edges are reflected. One gather of whole pixels straight from the data set: no padded copy is ever made.
    """
    size, channels = images.shape[1], images.shape[3]
    steps = torch.arange(size, device=images.device)
    rows = _reflect(steps + shifts[:, :1], size)
    columns = _reflect(steps + shifts[:, 1:], size)
    columns = torch.where(flips[:, None], columns.flip(1), columns)
    pixels = (index[:, None, None] * size + rows[:, :, None]) * size + columns[:, None, :]
    return images.view(-1, channels).index_select(0, pixels.flatten()).view(len(index), size, size, channels)


def _reflect(position: torch.Tensor, size: int) -> torch.Tensor:
    position = position.abs()
    return torch.where(position >= size, 2 * (size - 1) - position, position)


def _normalised(images: torch.Tensor, part: Part) -> torch.Tensor:
    """[B, S, S, C] uint8 -> [B, C, S, S] float32 on the device; channels stay last in memory."""
    images = images.to(part.mean.device).float()
    return images.sub_(part.mean).div_(part.std).permute(0, 3, 1, 2)
