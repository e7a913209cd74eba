"""`model.pt`: a model with all that is needed to use it, in tensors and plain Python only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from greenml import __version__
from greenml.errors import DataError
from greenml.learn.models import create

if TYPE_CHECKING:
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


def save(path: Path, model: nn.Module, description: dict[str, Any], **facts: str | float) -> None:
    """Write the file whole or not at all."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    partial = path.with_name(path.name + ".partial")
    torch.save({**description, **facts, "state_dict": weights}, partial)
    partial.replace(path)


def load(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The model in evaluation mode, and what the file says of it. Nothing in it is executed. Raises DataError."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        model, _ = create(
            found["architecture"],
            num_classes=len(found["classes"]),
            in_chans=found["in_chans"],
            image_size=found["image_size"],
            model_args={key: value for key, value in found["model_args"].items() if key != "pretrained"},
        )
        model.load_state_dict(found.pop("state_dict"))
    except Exception as error:  # a tampered file can fail anywhere in there
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path}: not a model that greenml wrote: {said}", hint="train it again, or copy it again"
        ) from error
    return model.eval().to(memory_format=torch.channels_last), found
