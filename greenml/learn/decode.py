"""Encoded images -> one memory-mapped array: decoded once, found again by content."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image, UnidentifiedImageError

from greenml.errors import DataError
from greenml.learn.data import Images, Loading, digest
from greenml.records import Notice, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from numpy.typing import NDArray

CACHE_VERSION = 2
"""Grows when decoding or resizing changes, so that older caches are not read."""

NATIVE_UP_TO_PX = 64
LARGE_PX = 224

CHUNK = 256
"""Images decoded between two words about how far it is."""


class Shard(NamedTuple):
    """Encoded images that are read together: a parquet file, or some files of a folder."""

    names: Sequence[str]
    """What an image is called in messages."""
    labels: NDArray[np.int64]
    read: Callable[[], Sequence[bytes]]


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A data set before decoding."""

    train: list[Shard]
    test: list[Shard]
    classes: list[str]
    files: list[Path]
    """All that it is made of: the content is hashed once and found again by names, sizes and times."""
    notices: list[str]


def cache_folder() -> Path:
    """`GREENML_CACHE`, or the system's place for caches."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("GREENML_CACHE") or user_cache_path("greenml"))


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
    data_hash = yield from _content_hash(cache, encoded)
    size = image_size or _native_size(root, encoded.train[0])
    folder = cache / f"{data_hash}-{size}px-v{CACHE_VERSION}"
    lock = FileLock(folder.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield Notice(text="another process is decoding these images: waiting for it")
        lock.acquire()
    try:
        if not (folder / "meta.json").exists():
            yield from _fill(folder, shards, size)
    finally:
        lock.release()
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
        augment="crop-flip",
    )


def _content_hash(cache: Path, encoded: Encoded) -> Generator[Progress | Notice, None, str]:
    """SHA-256 of all files, remembered under their names, sizes and times: large folders are read once."""
    labels = [shard.labels.astype("<i8").tobytes() for shard in (*encoded.train, *encoded.test)]
    stats = [(str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns) for file in encoded.files]
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
    partial = remembered.with_suffix(f".{os.getpid()}")
    partial.write_text(text)
    partial.replace(remembered)
    return text


def _native_size(root: Path, shard: Shard) -> int:
    """The images' own size where it is small and square (judged by the first few), otherwise 224."""
    sizes = set()
    for data in list(shard.read())[:16]:
        try:
            sizes.add(Image.open(io.BytesIO(data)).size)
        except (UnidentifiedImageError, OSError):
            continue
    if not sizes:
        raise DataError(f"{root}: the first images cannot be read", hint="are these image files?")
    width, height = sizes.pop()
    return width if not sizes and width == height <= NATIVE_UP_TO_PX else LARGE_PX


def _fill(folder: Path, shards: list[Shard], size: int) -> Generator[Progress | Notice, None, None]:
    """Decode every image into `folder`, which appears only when it is whole."""
    total = sum(len(shard.labels) for shard in shards)
    need, free = total * size * size * 3, shutil.disk_usage(folder.parent).free
    if need > free:
        raise DataError(
            f"the decoded images need {need / 1e9:.1f} GB, and {folder.parent} has {free / 1e9:.1f} GB free",
            hint="GREENML_CACHE names another folder, --image-size a smaller size",
        )
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a killed process: we hold the lock
    partial.mkdir()
    try:
        images = np.lib.format.open_memmap(partial / "images.npy", "w+", np.uint8, (total, size, size, 3))
        bad_rows, resized, row = [], False, 0
        with ThreadPoolExecutor() as pool:
            for shard in shards:
                encoded = shard.read()
                for start in range(0, len(encoded), CHUNK):
                    for image in pool.map(lambda data: _to_array(data, size), encoded[start : start + CHUNK]):
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


class _Decoded(NamedTuple):
    pixels: NDArray[np.uint8]
    resized: bool


def _to_array(data: bytes, size: int) -> _Decoded | None:
    """An encoded image -> [S, S, 3]: shorter side to `size`, centre crop. None where it is corrupt."""
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
        if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would clip to white
            image = Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8))
        image = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    if image.size == (size, size):
        return _Decoded(np.asarray(image), False)
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    scaled = image.resize((width, height), Image.Resampling.BICUBIC)
    return _Decoded(np.asarray(scaled.crop((left, top, left + size, top + size))), True)
