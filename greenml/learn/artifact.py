"""`model.pt`, a model with all that is needed to use it, and `checkpoint.pt`, what training goes on from.

Both hold tensors and plain Python only.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch

from greenml import __version__
from greenml.errors import DataError, StoreError
from greenml.files import whole
from greenml.learn.models import create

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import nn

    from greenml.learn.batches import Normalisation

FORMAT = 1


def describe(
    *,
    architecture: str,
    model_args: dict[str, Any],
    classes: list[str],
    in_chans: int,
    image_size: int,
    norm: Normalisation,
) -> dict[str, Any]:
    """What a file says of its model beside the weights; pixels are 0..255 before normalisation."""
    return {
        "format": FORMAT,
        "greenml": __version__,
        "architecture": architecture,
        "model_args": model_args,
        "classes": classes,
        "in_chans": in_chans,
        "image_size": image_size,
        "mean": norm.mean,
        "std": norm.std,
    }


def save(path: Path, model: nn.Module, description: dict[str, Any], **facts: str | float | bool) -> None:
    """Write the model and what is said of it."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write(path, {**description, **facts, "state_dict": weights})


def load(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The model in evaluation mode, and what the file says of it. Raises DataError."""
    found = read(path)
    with as_written(path):
        model, _ = create(
            found["architecture"],
            num_classes=len(found["classes"]),
            in_chans=found["in_chans"],
            image_size=found["image_size"],
            model_args={key: value for key, value in found["model_args"].items() if key != "pretrained"},
        )
        model.load_state_dict(found.pop("state_dict"))
    return model.eval().to(memory_format=torch.channels_last), found


def write(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain Python, whole or not at all. Raises StoreError."""
    with _writing(path) as partial:
        torch.save(content, partial)


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all. Raises StoreError."""
    with _writing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def copy(path: Path, to: Path) -> None:
    """Write a copy, whole or not at all. Raises StoreError."""
    with _writing(to) as partial:
        shutil.copyfile(path, partial)


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    try:
        with whole(path) as partial:
            yield partial
    except (OSError, RuntimeError) as error:  # RuntimeError is how torch says that a disk is full
        raise StoreError(
            f"{path} cannot be written: {getattr(error, 'strerror', None) or 'is the disk full?'}",
            hint="free some space; `greenml train --resume RUN` then goes on from the last checkpoint",
        ) from error


def read(path: Path) -> dict[str, Any]:
    """What `write` wrote. Nothing in the file is executed. Raises DataError."""
    with as_written(path):
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return found


@contextmanager
def as_written(path: Path) -> Iterator[None]:
    """A file that is not as `write` left it can fail anywhere in here: that is a DataError."""
    try:
        yield
    except Exception as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, UnpicklingError):  # torch's own words are how to run what is in there
            said = "it holds more than tensors and plain values"
        raise DataError(
            f"{path}: not a file that greenml wrote: {said}", hint="train it again, or copy it again"
        ) from error
