"""One factory for every architecture: timm's, greenml's `cnn`, and those of other packages.

Adding a model is one decorated function, here or elsewhere:

    from greenml.learn.models import register_model

    @register_model
    def tiny(pretrained=False, **kwargs):
        return Tiny(num_classes=kwargs["num_classes"], in_chans=kwargs["in_chans"])

A package makes its models known by an entry point in the group `greenml.models` that names the module.
"""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from itertools import pairwise
from typing import Any

import timm
import torch
from timm.models import register_model
from torch import nn

from greenml.errors import UsageError, nearest

__all__ = ["ALIASES", "Cnn", "cnn", "create", "register_model", "resolve_name"]

ALIASES = {"mobilenet_v2": "mobilenetv2_100", "mobilenetv2": "mobilenetv2_100"}

SMALL_PX = 64
"""Up to this image size stems keep the resolution: an ImageNet stem would leave 32 px images 8 px wide."""


class Cnn(nn.Module):
    """Three 3x3 convolutions (32, 64, 128; padding 1), ReLU and max-pooling each, then a hidden layer of 256.

    620,362 parameters at 32 px, 3 channels and 10 classes. Images [N, C, S, S] -> logits [N, num_classes].
    """

    def __init__(self, num_classes: int = 10, in_chans: int = 3, img_size: int = 32) -> None:
        super().__init__()
        if img_size < 8:
            raise ValueError("three poolings need at least 8 px")
        widths = (in_chans, 32, 64, 128)
        self.features = nn.Sequential(
            *(
                layer
                for narrow, wide in pairwise(widths)
                for layer in (nn.Conv2d(narrow, wide, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2))
            )
        )
        self.hidden = nn.Linear(widths[-1] * (img_size // 8) ** 2, 256)
        self.head = nn.Linear(256, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(torch.relu(self.hidden(self.features(images).flatten(1))))
        return logits


@register_model
def cnn(pretrained: bool = False, **kwargs: Any) -> Cnn:
    """The small network that people start with."""
    if pretrained:
        raise ValueError("there are no pretrained weights for `cnn`")
    known = {"num_classes", "in_chans", "img_size"}
    if unknown := kwargs.keys() - known - {"pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}:
        raise TypeError(f"unexpected argument {', '.join(sorted(unknown))}")
    return Cnn(**{key: value for key, value in kwargs.items() if key in known})


def resolve_name(name: str) -> str:
    """What the user typed -> a registered name. Raises UsageError with the nearest."""
    for point in entry_points(group="greenml.models"):
        point.load()
    resolved = ALIASES.get(name, name)
    if not timm.is_model(resolved):
        hint = nearest(
            name, [*timm.list_models(), *ALIASES], otherwise="`greenml train cnn` is a start; any timm name works"
        )
        raise UsageError(f"unknown model `{name}`", hint=hint)
    return resolved


def family(name: str) -> str:
    """Which architectures a model is akin to: the module of timm that builds it ("resnet", "efficientnet").

    Models from elsewhere, and names that nobody knows here, are akin to those of the same name up to its first digit.
    """
    resolved = ALIASES.get(name, name)
    module = timm.models.model_entrypoint(resolved).__module__ if timm.is_model(resolved) else ""
    place, _, own = module.rpartition(".")
    return own if place == "timm.models" else re.split(r"[\d.]", resolved)[0].rstrip("_")


def create(
    name: str, *, num_classes: int, in_chans: int, image_size: int, model_args: dict[str, Any]
) -> tuple[nn.Module, str]:
    """A fresh model for square images of `image_size` px, and in words how its stem was adapted to them.

    Raises UsageError for unknown names, for arguments the architecture does not take and for images it cannot take.
    """
    resolved = resolve_name(name)
    arguments = {"num_classes": num_classes, "in_chans": in_chans} | model_args
    if _takes_size(resolved):
        arguments.setdefault("img_size", image_size)
    try:
        model: nn.Module = timm.create_model(resolved, **arguments)
        stem = adapt_stem(model) if image_size <= SMALL_PX else "as published"
        _try(model, in_chans, image_size, num_classes)
    except (TypeError, ValueError, RuntimeError, AssertionError, OSError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"{resolved} cannot be built for {image_size} px images: {said}",
            hint="another --image-size or --model-arg may do; `greenml train cnn` takes any image of 8 px and more",
        ) from error
    return model, stem


def adapt_stem(model: nn.Module) -> str:
    """Keep the resolution of small images in the first layers; say in words what was changed.

    ResNet-like: the first convolution becomes 3x3 with stride 1 and the max-pooling goes. MobileNet-like: the stem's
    stride becomes 1. Other architectures stay as they are.
    """
    first, pool = getattr(model, "conv1", None), getattr(model, "maxpool", None)
    if (
        isinstance(first, nn.Sequential) and isinstance(first[0], nn.Conv2d) and pool is not None
    ):  # a deep stem (resnet18d)
        first[0].stride, model.maxpool = (1, 1), nn.Identity()
        return "3x3 stride 1, no max-pool"
    if isinstance(first, nn.Conv2d) and pool is not None:
        model.conv1 = nn.Conv2d(first.in_channels, first.out_channels, 3, 1, 1, bias=first.bias is not None)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        model.maxpool = nn.Identity()
        return "3x3 stride 1, no max-pool"
    stem = getattr(model, "conv_stem", None)
    if isinstance(stem, nn.Conv2d) and stem.stride != (1, 1):
        stem.stride = (1, 1)
        return "stride 1"
    return "as published"


def num_parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def mixes_batches(model: nn.Module) -> bool:
    """Whether what an image gives depends on its batch: then accumulated gradients are not those of a large batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def _takes_size(name: str) -> bool:
    """Whether the architecture is built for one image size (cnn, vision transformers) and must be told it."""
    if name == "cnn":
        return True
    published = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return bool(published and published.fixed_input_size)


def _try(model: nn.Module, in_chans: int, image_size: int, num_classes: int) -> None:
    """Two images through the model, as in evaluation, so that what does not fit fails before training."""
    model.eval()
    with torch.no_grad():
        logits = model(torch.zeros(2, in_chans, image_size, image_size))
    if logits.shape != (2, num_classes):
        raise ValueError(f"it answers with shape {tuple(logits.shape)}")
    model.train()
