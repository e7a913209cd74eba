"""`model.pt`, a model with all that is needed to use it, and `checkpoint.pt`, what training goes on from.

Both hold tensors and plain Python only. A model that was pruned, quantised dynamically or cast to half precision is
kept in the same way: its architecture is built afresh and takes on what the tensors say (`learn.reshape`).
"""

from __future__ import annotations

import shutil
import zipfile
from contextlib import contextmanager
from copy import deepcopy
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch

from greenml import __version__
from greenml.errors import DataError, UsageError
from greenml.files import storing, whole
from greenml.learn import models, reshape

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import nn

    from greenml.learn.batches import Normalisation

FORMAT = 1

DYNAMIC = "dynamic"
"""What `quantized` says of a model whose linear layers are int8, their inputs quantised as they come."""


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
    weights = model.state_dict()  # not a plain dict: it has the versions that int8 layers are read by
    for name, value in weights.items():
        weights[name] = _kept(value)
    if any(name.endswith(reshape.PACKED) for name in weights):
        facts["quantized"] = DYNAMIC
    write(path, {**description, **facts, "state_dict": weights})


def verified_save(path: Path, model: nn.Module, description: dict[str, Any], **facts: str | float | bool) -> None:
    """Write the model, and make sure that what `load` makes of the file answers to the bit as it does, on a CPU.

    Raises UsageError where it does not: then the architecture holds something that its tensors do not say. No file is
    left.
    """
    save(path, model, description, **facts)
    try:
        loaded, _ = load(path)
    except DataError as error:
        path.unlink()
        raise _not_kept(description, f"it cannot be read again: {error.__cause__}".splitlines()[0]) from error
    own = deepcopy(model).eval().to("cpu", memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not torch.equal(_answer(loaded, description), _answer(own, description)):
        path.unlink()
        raise _not_kept(description, "read again, it gives other answers")


def _not_kept(description: dict[str, Any], why: str) -> UsageError:
    return UsageError(
        f"{description['architecture']} cannot be kept as it has become: {why}",
        hint="another --method may do: int8 leaves the widths as they are",
    )


def load(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The model in evaluation mode, and what the file says of it; its weights have the precision that they were kept
    in. Raises DataError, and UsageError where this PyTorch cannot do what the model needs."""
    found = read(path)
    with as_written(path):
        dynamic = found.get("quantized") == DYNAMIC
    quantise = reshape.dynamic_quantiser() if dynamic else None
    with as_written(path):
        model, _ = models.create(
            found["architecture"],
            num_classes=len(found["classes"]),
            in_chans=found["in_chans"],
            image_size=found["image_size"],
            model_args=without_sources(found["model_args"]),
        )
        weights = found.pop("state_dict")
        narrower = reshape.like(model, weights)
        if quantise:
            model = quantise(model)
        with reshape.expected_end():
            model.load_state_dict(weights)
        model.eval().to(memory_format=torch.channels_last)
        if narrower:  # layers that do not fit each other show here, and not in somebody's hands
            _answer(model, found)
    return model, found


def without_sources(model_args: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an architecture but those that name where weights come from: those in the file are the model's,
    and opening it reads no other and downloads nothing."""
    return {
        key: value
        for key, value in model_args.items()
        if key not in ("checkpoint_path", "cache_dir") and not key.startswith("pretrained")
    }


def _kept(value: Any) -> Any:
    """A part of a state dict as it is written; int8 layers have pairs of tensors, and plain values."""
    if isinstance(value, tuple):
        return tuple(_kept(one) for one in value)
    return value.detach().cpu().contiguous() if isinstance(value, torch.Tensor) else value


def _answer(model: nn.Module, description: dict[str, Any]) -> torch.Tensor:
    """Logits [1, num_classes] for an image of noise, always the same."""
    size = description["image_size"]
    image = torch.randn(1, description["in_chans"], size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits: torch.Tensor = model(image.to(reshape.dtype(model), memory_format=torch.channels_last))
    if logits.shape != (1, len(description["classes"])):
        raise ValueError(f"it answers with shape {tuple(logits.shape)}")
    return logits


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
    hint = "free some space and do it again; a training goes on by `greenml train --resume RUN`"
    with storing(path, hint=hint), whole(path) as partial:
        yield partial


def read(path: Path) -> dict[str, Any]:
    """What `write` wrote. Nothing in the file is executed. Raises DataError."""
    with as_written(path), reshape.expected_end():
        # torch does not look at the checksums: weights that are others now would answer, and wrongly. 10 ms for 46 MB,
        # a third of what loading it takes.
        with zipfile.ZipFile(path) as parts:
            if (spoilt := parts.testzip()) is not None:
                raise ValueError(f"{spoilt} has changed since")
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
