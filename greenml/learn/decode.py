"""Images as they come -> one memory-mapped array: decoded once, found again by content."""

from __future__ import annotations

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from greenml.errors import DataError
from greenml.files import cache_folder, whole
from greenml.learn.data import Images, Loading, digest
from greenml.learn.locks import held
from greenml.pictures import picture, size_of
from greenml.records import Notice, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from greenml.config import Augment

CACHE_VERSION = 2
"""Grows when decoding, resizing or the choice of a size changes, so that older caches are not read."""

NATIVE_UP_TO_PX = 64
LARGE_PX = 224

CHUNK = 256
"""Images decoded between two words about how far it is."""


class Shard(NamedTuple):
    """Images that are read together: a parquet file, some files of a folder, an array."""

    names: Sequence[str]
    """What an image is called in messages."""
    labels: NDArray[np.int64]
    read: Callable[[], Sequence[bytes] | NDArray[np.uint8]]
    """Files' bytes, or images that are arrays already: [N, H, W] grey or [N, H, W, 3]."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A data set before decoding."""

    train: list[Shard]
    test: list[Shard]
    classes: list[str]
    files: list[Path]
    """All that it is made of: the content is hashed once and found again by names, sizes and times."""
    notices: list[str]
    channels: int = 3
    """1 keeps grey images grey."""
    augment: Augment = "crop-flip"


def decode(root: Path, encoded: Encoded, image_size: int | None) -> Loading:
    """The decoded data set out of the cache, or into it."""
    for notice in encoded.notices:
        yield Notice(text=notice)
    shards = [*encoded.train, *encoded.test]
    if not sum(len(shard.labels) for shard in encoded.train):
        raise DataError(f"{root}: no images", hint="a data set of 0 rows teaches nothing")
    cache = cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{cache}: cannot be made: {error}", hint="GREENML_CACHE names another folder for decoded data"
        ) from None
    try:
        data_hash = yield from _content_hash(cache, encoded)
        size = image_size or _native_size(root, encoded.train, cache / f"{data_hash}-v{CACHE_VERSION}.size")
    except OSError as error:
        raise DataError(
            f"{error.filename or root}: {error.strerror}", hint="every image file must be readable"
        ) from None
    folder = cache / f"{data_hash}-{size}px-v{CACHE_VERSION}"
    lock = yield from held(folder.with_suffix(".lock"), "another process is decoding these images: waiting for it")
    with lock:
        if not (folder / "meta.json").exists():
            yield from _fill(folder, shards, (size, encoded.channels))
    meta = json.loads((folder / "meta.json").read_text())
    labels = np.concatenate([shard.labels for shard in shards])
    if bad := meta["bad_rows"]:
        labels[bad] = -1
        names = [name for shard in shards for name in shard.names]
        shown = ", ".join(names[row] for row in bad[:3]) + (", ..." if len(bad) > 3 else "")
        yield Notice(text=f"{len(bad)} corrupt images left out: {shown}")
    return Images(
        # Copy-on-write: torch wants a writable array, and the file stays as it is.
        images=np.load(folder / "images.npy", mmap_mode="c"),
        labels=labels,
        num_train=sum(len(shard.labels) for shard in encoded.train),
        classes=encoded.classes,
        data_hash=data_hash,
        resize=f"shorter side to {size} px, bicubic, centre crop" if meta["resized"] else f"none: all are {size} px",
        augment=encoded.augment,
    )


def _content_hash(cache: Path, encoded: Encoded) -> Generator[Progress | Notice, None, str]:
    """SHA-256 of all files, remembered under their names, sizes and times: large folders are read once."""
    labels = [shard.labels.astype("<i8").tobytes() for shard in (*encoded.train, *encoded.test)]
    stats = [(str(file.absolute()), stat.st_size, stat.st_mtime_ns) for file in encoded.files if (stat := file.stat())]
    remembered = cache / f"{digest(json.dumps(stats).encode(), *labels)}.hash"
    if remembered.exists():
        return remembered.read_text()
    content = hashlib.sha256()
    for number, file in enumerate(encoded.files):
        if number % 100 == 0:
            yield Progress(what="reading", done=number, total=len(encoded.files))
        with file.open("rb") as stream:
            content.update(hashlib.file_digest(stream, "sha256").digest())
    content.update(b"".join(labels))
    text = content.hexdigest()[:16]
    with whole(remembered, shared=True) as partial:
        partial.write_text(text)
    return text


def _native_size(root: Path, shards: list[Shard], remembered: Path) -> int:
    """The images' own size where it is small and square (judged by the first few), otherwise 224.

    In `remembered` from then on: for its first few images a shard is read whole, and one of parquet can be large.
    """
    if remembered.exists():
        return int(remembered.read_text())
    every = (size_of(data) for shard in shards for data in shard.read())
    sizes = set(islice((size for size in every if size), 16))
    if not sizes:
        raise DataError(f"{root}: none of the images can be read", hint="are these image files?")
    width, height = sizes.pop()
    size = width if not sizes and width == height <= NATIVE_UP_TO_PX else LARGE_PX
    with whole(remembered, shared=True) as partial:
        partial.write_text(str(size))
    return size


def _fill(folder: Path, shards: list[Shard], shape: tuple[int, int]) -> Generator[Progress | Notice, None, None]:
    """Decode every image to `shape` (pixels a side, channels) into `folder`, which appears only when it is whole."""
    total = sum(len(shard.labels) for shard in shards)
    size, channels = shape
    need, free = total * size * size * channels, shutil.disk_usage(folder.parent).free
    if need > free:
        raise DataError(
            f"the decoded images need {need / 1e9:.1f} GB, and {folder.parent} has {free / 1e9:.1f} GB free",
            hint="GREENML_CACHE names another folder, --image-size a smaller size",
        )
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a killed process: we hold the lock
    partial.mkdir()
    try:
        images = np.lib.format.open_memmap(partial / "images.npy", "w+", np.uint8, (total, size, size, channels))
        bad_rows, resized, row = [], False, 0
        with ThreadPoolExecutor() as pool:
            for shard in shards:
                given = shard.read()
                for start in range(0, len(given), CHUNK):
                    for image in pool.map(lambda data: picture(data, *shape), given[start : start + CHUNK]):
                        if image is None:
                            bad_rows.append(row)
                        else:
                            images[row], resized = image.pixels, resized or image.resized
                        row += 1
                    yield Progress(what="decoding", done=row, total=total)
        if len(bad_rows) == total:
            raise DataError("none of the images can be decoded", hint="are these image files?")
        images.flush()
        del images  # Windows renames nothing that is open
        (partial / "meta.json").write_text(json.dumps({"bad_rows": bad_rows, "resized": resized}))
        partial.replace(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
