"""Images as arrays: read once, decoded once into a memory-mapped cache, held out honestly.

A data set is a name, or a name and an argument (`folder:PATH`). Adding one is one decorated function, here or in a
package that names its module by an entry point in the group `greenml.datasets`:

    @register_dataset("squares", usage="squares")
    def squares(argument, image_size):
        yield Progress(what="making squares", done=1, total=1)
        return Images(...)
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from filelock import FileLock
from PIL import Image, UnidentifiedImageError

from greenml.errors import DataError, UsageError, nearest
from greenml.records import Notice, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from greenml.config import Augment

CACHE_VERSION = 1
"""Grows when decoding or resizing changes, so that older caches are not read."""

NATIVE_UP_TO_PX = 64
LARGE_PX = 224
TEST_FRACTION = 0.2
CHUNK = 256

Bytes = Callable[[], Sequence[bytes]]


@dataclass(frozen=True, kw_only=True)
class Images:
    """A data set, decoded."""

    images: NDArray[np.uint8]
    """[N, S, S, C], every part after the other."""
    labels: NDArray[np.int64]
    """[N], an index into `classes`."""
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


Loading = Generator[Progress | Notice, None, Images]
Loader = Callable[[str, int | None], Loading]

_LOADERS: dict[str, tuple[Loader, str]] = {}


def register_dataset(name: str, *, usage: str) -> Callable[[Loader], Loader]:
    """Make a data set known under `name`; `usage` shows how it is asked for ("folder:PATH")."""

    def register(loader: Loader) -> Loader:
        _LOADERS[name] = (loader, usage)
        return loader

    return register


def load(dataset: str, image_size: int | None) -> Loading:
    """Read a data set, saying how far it is. Raises UsageError and, for what cannot be read, DataError."""
    for point in entry_points(group="greenml.datasets"):
        point.load()
    name, _, argument = dataset.partition(":")
    if name not in _LOADERS:
        known = ", ".join(usage for _, usage in _LOADERS.values())
        raise UsageError(
            f"unknown dataset `{dataset}`", hint=nearest(name, _LOADERS, otherwise=f"greenml reads {known}")
        )
    loader, usage = _LOADERS[name]
    if bool(argument) != (":" in usage):
        raise UsageError(f"dataset `{dataset}` is not complete", hint=f"it is asked for as `{usage}`")
    return (yield from loader(argument, image_size))


def split(data: Images, val_fraction: float, split_seed: int) -> Splits:
    """Hold out validation, and where the data has no test part also 20 % for test; every class in proportion."""
    random = np.random.default_rng(split_seed)
    train = np.arange(data.num_train)
    test = np.arange(data.num_train, len(data.labels))
    if not len(test):
        train, test = _hold_out(train, data.labels, TEST_FRACTION, random)
    train, val = _hold_out(train, data.labels, val_fraction, random)
    if min(len(train), len(val), len(test)) == 0:
        raise DataError(
            f"{len(data.labels)} images are too few to hold out validation and test",
            hint="give every class at least ten images, or more with --val-fraction in the config",
        )
    digest = hashlib.sha256(b"".join(part.astype("<i8").tobytes() for part in (train, val, test)))
    return Splits(train, val, test, digest.hexdigest()[:16])


def _hold_out(
    index: NDArray[np.int64], labels: NDArray[np.int64], fraction: float, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    held = []
    for label in np.unique(labels[index]):
        members = random.permutation(index[labels[index] == label])
        held.append(members[: round(len(members) * fraction)])
    out = np.sort(np.concatenate(held))
    return np.setdiff1d(index, out), out


# -- the data sets -----------------------------------------------------------------------------------------------------


@register_dataset("digits", usage="digits")
def digits(argument: str, image_size: int | None) -> Loading:  # noqa: ARG001
    """scikit-learn's 1,797 handwritten digits, embedded in the package: no download."""
    from sklearn.datasets import load_digits

    yield Progress(what="reading", done=0, total=1)
    found = load_digits()
    size = image_size or 16
    small = (found.images * (255 / 16)).round().astype(np.uint8)
    images = np.stack(
        [np.asarray(Image.fromarray(one).resize((size, size), Image.Resampling.BILINEAR)) for one in small]
    )
    yield Progress(what="reading", done=1, total=1)
    return Images(
        images=images[..., None],
        labels=found.target.astype(np.int64),
        num_train=len(images),
        classes=[str(name) for name in found.target_names],
        data_hash=_digest(small.tobytes(), found.target.astype("<i8").tobytes()),
        resize=f"8 to {size} px, bilinear",
        augment="crop",
    )


class Shard(NamedTuple):
    """Encoded images that are read together: a parquet file, or some files of a folder."""

    names: Sequence[str]
    """What an image is called in messages."""
    labels: NDArray[np.int64]
    read: Bytes


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A data set before decoding."""

    train: list[Shard]
    test: list[Shard]
    classes: list[str]
    files: list[Path]
    """All that it is made of: the content is hashed once and found again by names, sizes and times."""
    notices: list[str]


@register_dataset("folder", usage="folder:PATH")
def folder(argument: str, image_size: int | None) -> Loading:
    """A folder a class, as torchvision's ImageFolder; or `train` and `test` (or `val`) folders of such."""
    from torchvision.datasets.folder import find_classes, make_dataset

    root = Path(argument).expanduser()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder", hint="folder:PATH wants a folder with one folder of images a class")
    parts = [root / "train" if (root / "train").is_dir() else root]
    parts += [
        root / name for name in ("test", "val", "valid", "validation") if parts[0] != root and (root / name).is_dir()
    ][:1]
    try:
        classes, index = find_classes(str(parts[0]))
        found = [make_dataset(str(part), index, extensions=tuple(Image.registered_extensions())) for part in parts]
    except FileNotFoundError as error:
        raise DataError(
            f"{root}: {str(error).rstrip('.')}", hint="folder:PATH wants a folder with images a class"
        ) from None
    if len(classes) < 2:
        raise DataError(
            f"{root}: only one class, `{classes[0]}`", hint="a classifier needs a folder for each of two classes"
        )
    encoded = Encoded(
        train=_file_shards(found[0]),
        test=_file_shards(found[1]) if found[1:] else [],
        classes=classes,
        files=[Path(path) for part in found for path, _ in part],
        notices=[],
    )
    return (yield from _decode(root, encoded, image_size))


def _file_shards(samples: list[tuple[str, int]]) -> list[Shard]:
    def read(paths: list[str]) -> Bytes:
        return lambda: [Path(path).read_bytes() for path in paths]

    pieces = [samples[start : start + CHUNK] for start in range(0, len(samples), CHUNK)]
    return [
        Shard([path for path, _ in piece], np.array([label for _, label in piece]), read([path for path, _ in piece]))
        for piece in pieces
    ]


@register_dataset("parquet", usage="parquet:PATH")
def parquet(argument: str, image_size: int | None) -> Loading:
    """The Hugging Face image layout: one file, or a folder with `train-*` and `test-*` shards."""
    root = Path(argument).expanduser()
    files = sorted(root.rglob("*.parquet")) if root.is_dir() else [root]
    if not files or not files[0].exists():
        raise DataError(f"{root}: no parquet file there", hint="parquet:PATH wants a .parquet file or a folder of them")
    parts: dict[str, list[Path]] = {"train": [], "test": [], "validation": []}
    for file in files:
        words = [*file.relative_to(root).parts] if root.is_dir() else ["train"]
        part = next(
            (name for name in ("test", "validation", "valid") if any(word.startswith(name) for word in words)), "train"
        )
        parts["validation" if part == "valid" else part].append(file)
    notices = []
    if parts["validation"]:
        use = "is used as the test part" if not parts["test"] else "is not used: validation is held out of train"
        notices.append(f"the validation part of {root} {use}")
        parts["test"] = parts["test"] or parts["validation"]
    if not parts["train"]:
        raise DataError(f"{root}: no train part", hint="name the training shards train-*.parquet")
    classes = _parquet_classes(parts["train"])
    encoded = Encoded(
        train=[_parquet_shard(file, classes) for file in parts["train"]],
        test=[_parquet_shard(file, classes) for file in parts["test"]],
        classes=classes,
        files=parts["train"] + parts["test"],
        notices=notices,
    )
    return (yield from _decode(root, encoded, image_size))


class _Columns(NamedTuple):
    image: str
    label: str
    names: list[str] | None
    """Class names, where the schema's metadata has them."""


def _parquet_columns(file: Path) -> _Columns:
    import polars as pl

    try:
        schema, metadata = pl.read_parquet_schema(file), pl.read_parquet_metadata(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        said = str(error).splitlines()[0]
        raise DataError(f"{file}: not a readable parquet file: {said}", hint="is the download complete?") from None
    features = json.loads(metadata.get("huggingface", "{}")).get("info", {}).get("features", {})
    named = [key for key, kind in features.items() if kind.get("_type") == "ClassLabel" and key in schema]
    images = [key for key, kind in schema.items() if _holds_images(kind)]
    labels = [*named, *(key for key in ("label", "labels", "fine_label", "class") if key in schema)]
    if not images or not labels:
        missing = "image column (bytes)" if not images else "label column"
        raise DataError(
            f"{file}: no {missing} among {', '.join(schema)}",
            hint="the Hugging Face layout has an `image` struct with `bytes`, and an integer `label`",
        )
    label = "fine_label" if "fine_label" in labels else labels[0]
    return _Columns(images[0], label, features.get(label, {}).get("names"))


def _holds_images(kind: object) -> bool:
    import polars as pl

    return kind == pl.Binary or (isinstance(kind, pl.Struct) and any(part.name == "bytes" for part in kind.fields))


def _parquet_classes(files: list[Path]) -> list[str]:
    columns = _parquet_columns(files[0])
    if columns.names:
        return list(columns.names)
    import polars as pl

    values = pl.concat([pl.read_parquet(file, columns=[columns.label]) for file in files]).to_series().unique().sort()
    return [str(value) for value in values]


def _parquet_shard(file: Path, classes: list[str]) -> Shard:
    import polars as pl

    columns = _parquet_columns(file)
    values = pl.read_parquet(file, columns=[columns.label]).to_series()
    known = {name: number for number, name in enumerate(classes)}
    if columns.names is None:
        values = values.cast(pl.String).replace_strict(known, default=-1)
    labels = values.cast(pl.Int64).fill_null(-1).to_numpy()
    if ((labels < 0) | (labels >= len(classes))).any():
        raise DataError(
            f"{file}: labels outside the {len(classes)} classes of the training part",
            hint="are the shards of one data set?",
        )

    def read() -> Sequence[bytes]:
        images = pl.read_parquet(file, columns=[columns.image]).to_series()
        if images.dtype != pl.Binary:
            images = images.struct.field("bytes")
        return [one or b"" for one in images]

    return Shard([f"{file.name} row {row}" for row in range(len(labels))], labels, read)


# -- decoding, once ----------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """`GREENML_CACHE`, or the system's place for caches."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("GREENML_CACHE") or user_cache_path("greenml"))


def _decode(root: Path, encoded: Encoded, image_size: int | None) -> Loading:
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
    with FileLock(folder.with_suffix(".lock")):  # two runs at a time decode once
        if not (folder / "meta.json").exists():
            yield from _fill(folder, shards, size)
    meta = json.loads((folder / "meta.json").read_text())
    bad = set(meta["bad"])
    if bad:
        shown = ", ".join(list(meta["bad"])[:3]) + (", ..." if len(bad) > 3 else "")
        yield Notice(text=f"{len(bad)} corrupt images left out: {shown}")
    names = [name for shard in encoded.train for name in shard.names]
    return Images(
        # Copy-on-write: torch wants a writable array, and the file stays as it is.
        images=np.load(folder / "images.npy", mmap_mode="c"),
        labels=np.load(folder / "labels.npy"),
        num_train=len(names) - len(bad.intersection(names)),
        classes=encoded.classes,
        data_hash=data_hash,
        resize=f"shorter side to {size} px, bicubic, centre crop"
        if meta["resized"]
        else f"none: all images are {size} px",
        augment="crop-flip",
    )


def _content_hash(cache: Path, encoded: Encoded) -> Generator[Progress | Notice, None, str]:
    """SHA-256 of all files, remembered under their names, sizes and times: large folders are read once."""
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in encoded.files]
    remembered = cache / f"{_digest(json.dumps(stats).encode())}.hash"
    if remembered.exists():
        return remembered.read_text()
    digest = hashlib.sha256()
    for number, file in enumerate(encoded.files):
        if number % 100 == 0:
            yield Progress(what="reading", done=number, total=len(encoded.files))
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    for shard in (*encoded.train, *encoded.test):
        digest.update(shard.labels.astype("<i8").tobytes())
    text = digest.hexdigest()[:16]
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
        good, resized, done = np.ones(total, bool), False, 0
        with ThreadPoolExecutor() as pool:
            for shard in shards:
                encoded = shard.read()
                for start in range(0, len(encoded), CHUNK):
                    chunk = encoded[start : start + CHUNK]
                    for image in pool.map(lambda data: _to_array(data, size), chunk):
                        if image is None:
                            good[done] = False
                        else:
                            images[done], resized = image.pixels, resized or image.resized
                        done += 1
                    yield Progress(what="decoding", done=done, total=total)
        if not good.any():
            raise DataError("none of the images can be decoded", hint="are these image files?")
        names = [name for shard in shards for name in shard.names]
        if not good.all():
            np.save(partial / "images.npy", images[good])
        np.save(partial / "labels.npy", np.concatenate([shard.labels for shard in shards])[good])
        meta = {"bad": [names[row] for row in np.flatnonzero(~good)], "resized": resized}
        (partial / "meta.json").write_text(json.dumps(meta))
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
        image = Image.open(io.BytesIO(data)).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    if image.size == (size, size):
        return _Decoded(np.asarray(image), False)
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    scaled = image.resize((width, height), Image.Resampling.BICUBIC)
    return _Decoded(np.asarray(scaled.crop((left, top, left + size, top + size))), True)


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]
