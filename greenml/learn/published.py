"""CIFAR-10, CIFAR-100, MNIST and Fashion-MNIST: torchvision's classes, files and checksums, downloaded once."""

from __future__ import annotations

import contextlib
import shutil
import sys
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from greenml.errors import DataError
from greenml.learn.data import Asked, Loading, register_dataset
from greenml.learn.decode import Encoded, Shard, decode
from greenml.learn.fetch import UnavailableError, fetch
from greenml.learn.locks import held
from greenml.records import Notice, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from greenml.config import Augment

WAYS_OUT = (
    "name the folder that has it by --data-dir, or other data by --dataset parquet:PATH or folder:PATH; "
    "`--dataset digits` needs no download"
)


class _Archive(NamedTuple):
    path: str
    """Where torchvision looks for it, below the data folder."""
    md5: str
    urls: list[str]


class _Layout(NamedTuple):
    """Where torchvision keeps a data set, below the data folder."""

    folder: str
    """Appears when it is whole, and not before."""
    files: list[str]
    archives: list[_Archive]


class _Parts(NamedTuple):
    """torchvision's data sets: `data` [N, S, S] or [N, S, S, 3] uint8, `targets` [N], `classes`."""

    train: Any
    test: Any


def _cifar(kind: Any) -> _Layout:
    """A tar of pickled batches."""
    names = [*(name for name, _ in kind.train_list + kind.test_list), kind.meta["filename"]]
    return _Layout(
        folder=kind.base_folder,
        files=[f"{kind.base_folder}/{name}" for name in names],
        archives=[_Archive(kind.filename, kind.tgz_md5, [kind.url])],
    )


def _mnist(kind: Any) -> _Layout:
    """Four gzipped files, on one mirror or several."""
    raw = f"{kind.__name__}/raw"
    return _Layout(
        folder=kind.__name__,
        files=[f"{raw}/{name.removesuffix('.gz')}" for name, _ in kind.resources],
        archives=[
            _Archive(f"{raw}/{name}", md5, [f"{mirror}{name}" for mirror in kind.mirrors])
            for name, md5 in kind.resources
        ],
    )


class _Published(NamedTuple):
    name: str
    kind: str
    """torchvision's class."""
    layout: Callable[[Any], _Layout]
    channels: int
    augment: Augment


PUBLISHED = (
    _Published("cifar10", "CIFAR10", _cifar, 3, "crop-flip"),
    _Published("cifar100", "CIFAR100", _cifar, 3, "crop-flip"),
    _Published("mnist", "MNIST", _mnist, 1, "crop"),  # a mirrored 2 is no 2
    _Published("fashion-mnist", "FashionMNIST", _mnist, 1, "crop-flip"),
)


def _load(published: _Published, asked: Asked) -> Loading:
    from torchvision import datasets

    kind = getattr(datasets, published.kind)
    root, layout = asked.data_dir, published.layout(kind)
    try:
        parts = yield from _obtain(published.name, kind, layout, root)
    except UnavailableError as error:
        raise DataError(f"{published.name} is not in {root} and cannot be downloaded: {error}", hint=WAYS_OUT) from None
    except OSError as error:
        raise DataError(
            f"{published.name}: {error.filename or root}: {error.strerror or error}", hint=WAYS_OUT
        ) from None
    encoded = Encoded(
        train=[_shard("training", parts.train)],
        test=[_shard("test", parts.test)],
        classes=list(parts.train.classes),
        files=[root / file for file in layout.files],
        notices=[],
        channels=published.channels,
        augment=published.augment,
    )
    return (yield from decode(root / layout.folder, encoded, asked.image_size))


for _one in PUBLISHED:
    register_dataset(_one.name, usage=_one.name)(partial(_load, _one))


def _shard(part: str, dataset: Any) -> Shard:
    images = np.asarray(dataset.data)
    names = [f"{part} image {number}" for number in range(len(images))]
    return Shard(names, np.asarray(dataset.targets, np.int64), lambda: images)


def _obtain(name: str, kind: Any, layout: _Layout, root: Path) -> Generator[Progress | Notice, None, _Parts]:
    """What is in `root`, downloaded if it is not there. Raises UnavailableError, DataError and OSError."""
    if not (root / layout.folder).exists():
        yield from _download_once(name, kind, layout, root)
    yield Progress(what=f"reading {name}", done=0, total=1)
    parts = _read(kind, layout, root)
    if parts is None:
        raise DataError(
            f"{root / layout.folder}: not whole: a file is missing or is not what was published",
            hint="move it away, and it is downloaded again; or name another folder by --data-dir",
        )
    return parts


def _read(kind: Any, layout: _Layout, root: Path) -> _Parts | None:
    """What is in `root`; None where it is not whole. torchvision compares checksums before it unpickles."""
    if not all((root / file).is_file() for file in layout.files):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy 2.4.0 to 2.4.4 warn of pickles as old as CIFAR's
        try:
            parts = _Parts(kind(root, train=True), kind(root, train=False))
        except (RuntimeError, ValueError, TypeError, LookupError, AssertionError):  # of files that are cut short
            return None
    return parts if all(len(part.data) == len(part.targets) for part in parts) else None


def _download_once(name: str, kind: Any, layout: _Layout, root: Path) -> Generator[Progress | Notice, None, None]:
    """Put the data set under its name in `root` by one rename, when it is whole. Who is second waits and finds it."""
    root.mkdir(parents=True, exist_ok=True)
    waiting = f"another process is downloading {name} to {root}: waiting for it"
    with (yield from held(root / f"{layout.folder}.lock", waiting)):
        if (root / layout.folder).exists():
            return
        unfinished = root / f"{layout.folder}.partial"
        shutil.rmtree(unfinished, ignore_errors=True)  # of a killed process: we hold the lock
        try:
            for archive in layout.archives:
                file = unfinished / archive.path
                file.parent.mkdir(parents=True, exist_ok=True)
                yield from fetch(name, file, archive.urls, archive.md5)
            yield Progress(what=f"unpacking {name}", done=0, total=1)
            with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():  # older torchvision prints
                warnings.simplefilter("ignore")
                kind(unfinished, download=True)  # finds the archives in place
            for archive in layout.archives:
                (unfinished / archive.path).unlink()
            (unfinished / layout.folder).replace(root / layout.folder)
            yield Notice(text=f"{name} is in {root} from now on")
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
