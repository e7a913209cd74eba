"""Data sets by name, and how they are split.

A data set is a name, or a name and an argument (`folder:PATH`). Adding one is one decorated function, here or in a
package that names its module by an entry point in the group `greenml.datasets`:

    @register_dataset("squares", usage="squares")
    def squares(asked):
        yield Progress(what="making squares", done=1, total=1)
        return Images(...)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from greenml.errors import DataError, UsageError, nearest
from greenml.records import Notice, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from greenml.config import Augment

TEST_FRACTION = 0.2

AUTO = "auto"
"""Stands for FIRST_CHOICE where that is there or can be downloaded, for LAST_RESORT where not; never recorded."""
FIRST_CHOICE, LAST_RESORT = "cifar10", "digits"


@dataclass(frozen=True, kw_only=True)
class Images:
    """A data set, decoded."""

    images: NDArray[np.uint8]
    """[N, S, S, C], every part after the other."""
    labels: NDArray[np.int64]
    """[N], an index into `classes`; -1 where the image is corrupt, which keeps its row and is in no split."""
    num_train: int
    """The first so many are for training; the rest is the data set's own test part, which may be empty."""
    classes: list[str]
    data_hash: str
    """Of the content before decoding: equal for equal images, whatever their size in training."""
    resize: str
    """The resize policy that was applied, in words."""
    augment: Augment
    """What makes sense for these images: `none`, `crop` or `crop-flip`."""

    @property
    def image_size(self) -> int:
        """Pixels a side."""
        return int(self.images.shape[1])


class Splits(NamedTuple):
    """Indices into an `Images`: three disjoint parts, the same for the same data and split seed."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    split_hash: str


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a loader is told."""

    argument: str
    """What follows the colon of a data set's name; empty where there is none."""
    image_size: int | None
    """Pixels a side; None: what suits the images."""
    data_dir: Path
    """Where downloads are kept. It may not exist yet."""


Loading = Generator[Progress | Notice, None, Images]
Loader = Callable[[Asked], Loading]

MODULES = ("greenml.learn.sources", "greenml.learn.published", "greenml.learn.hub")
"""What registers the data sets that come with greenml."""

_LOADERS: dict[str, tuple[Loader, str]] = {}


def register_dataset(name: str, *, usage: str) -> Callable[[Loader], Loader]:
    """Make a data set known under `name`; `usage` shows how it is asked for ("folder:PATH")."""

    def register(loader: Loader) -> Loader:
        _LOADERS[name] = (loader, usage)
        return loader

    return register


def load(
    dataset: str, image_size: int | None, data_dir: str | None
) -> Generator[Progress | Notice, None, tuple[str, Images]]:
    """Read a data set, saying how far it is: its name, which is never `auto`, and its images.

    `data_dir` None is GREENML_DATA or the system's place. Raises UsageError and, for what cannot be had, DataError.
    """
    for module in MODULES:
        import_module(module)
    for point in entry_points(group="greenml.datasets"):
        point.load()
    folder = data_folder(data_dir)
    if dataset != AUTO:
        return dataset, (yield from _load(dataset, image_size, folder))
    try:
        return FIRST_CHOICE, (yield from _load(FIRST_CHOICE, image_size, folder))
    except DataError as error:
        yield Notice(
            text=f"training on {LAST_RESORT}, NOT on {FIRST_CHOICE}: {error}\n"
            f"to get {FIRST_CHOICE}: run once with a network; or {error.hint}"
        )
    return LAST_RESORT, (yield from _load(LAST_RESORT, image_size, folder))


def data_folder(data_dir: str | None) -> Path:
    """Where downloads are kept: what is asked for, GREENML_DATA, or the system's place for data."""
    from platformdirs import user_data_path

    return Path(data_dir or os.environ.get("GREENML_DATA") or user_data_path("greenml")).expanduser()


def _load(dataset: str, image_size: int | None, data_dir: Path) -> Loading:
    name, _, argument = dataset.partition(":")
    if name not in _LOADERS:
        known = ", ".join(usage for _, usage in _LOADERS.values())
        raise UsageError(
            f"unknown dataset `{dataset}`", hint=nearest(name, [AUTO, *_LOADERS], otherwise=f"greenml reads {known}")
        )
    loader, usage = _LOADERS[name]
    if bool(argument) != (":" in usage):
        raise UsageError(f"dataset `{dataset}` is not complete", hint=f"it is asked for as `{usage}`")
    return (yield from loader(Asked(argument=argument, image_size=image_size, data_dir=data_dir)))


def split(data: Images, val_fraction: float, split_seed: int) -> Splits:
    """Hold out validation, and where the data has no test part also 20 % for test; every class in proportion."""
    random = np.random.default_rng(split_seed)
    sound = np.flatnonzero(data.labels >= 0)
    train, test = sound[sound < data.num_train], sound[sound >= data.num_train]
    if not len(test):
        train, test = _hold_out(train, data.labels, TEST_FRACTION, random)
    train, val = _hold_out(train, data.labels, val_fraction, random)
    if min(len(train), len(val), len(test)) == 0:
        raise DataError(
            f"{len(sound)} images are too few to hold out validation and test",
            hint="give every class at least ten images, or more with --val-fraction",
        )
    return Splits(train, val, test, digest(*(part.astype("<i8").tobytes() for part in (train, val, test))))


def majority_share(data: Images, part: NDArray[np.int64]) -> float:
    """What always naming the most frequent class would score on a part: a fraction of it."""
    counts = np.bincount(data.labels[part], minlength=len(data.classes))
    return float(counts.max() / counts.sum())


def _hold_out(
    index: NDArray[np.int64], labels: NDArray[np.int64], fraction: float, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    held = []
    for label in np.unique(labels[index]):
        members = random.permutation(index[labels[index] == label])
        held.append(members[: round(len(members) * fraction)])
    out = np.sort(np.concatenate(held))
    return np.setdiff1d(index, out), out


def digest(*parts: bytes) -> str:
    """64 bits of SHA-256, in hex: names content, keeps no secret."""
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]
