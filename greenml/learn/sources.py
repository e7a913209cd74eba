"""The data sets that come with greenml: embedded digits, folders of images, Hugging Face parquet."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from greenml.errors import DataError
from greenml.learn.data import Asked, Images, Loading, digest, register_dataset
from greenml.learn.decode import CHUNK, Encoded, Shard, decode
from greenml.records import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import polars as pl


@register_dataset("digits", usage="digits")
def digits(asked: Asked) -> Loading:
    """scikit-learn's 1,797 handwritten digits, embedded in the package: no download."""
    from sklearn.datasets import load_digits

    yield Progress(what="reading", done=0, total=1)
    found = load_digits()
    size = asked.image_size or 16
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
        data_hash=digest(small.tobytes(), found.target.astype("<i8").tobytes()),
        resize=f"8 to {size} px, bilinear",
        augment="crop",
    )


PARTS = {"train": "train", "test": "test", "val": "validation", "valid": "validation", "validation": "validation"}
"""How files and folders name their part."""


EXTENSIONS = tuple(Image.registered_extensions())


@register_dataset("folder", usage="folder:PATH")
def folder(asked: Asked) -> Loading:
    """A folder a class, as torchvision's ImageFolder; or `train` and `test` (or `val`) folders of such."""
    from torchvision.datasets.folder import find_classes, make_dataset

    root = Path(asked.argument).expanduser()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder", hint="folder:PATH wants a folder with one folder of images a class")
    parts: dict[str, list[Path]] = {"train": [], "test": [], "validation": []}
    if (root / "train").is_dir():
        for inside in root.iterdir():
            if inside.is_dir() and inside.name in PARTS:
                parts[PARTS[inside.name]].append(inside)
    else:
        parts["train"].append(root)
    tests, notices = _tests(root, parts)
    try:
        classes, index = find_classes(str(parts["train"][0]))
        train, test = (
            [sample for part in some for sample in make_dataset(str(part), index, extensions=EXTENSIONS)]
            for some in (parts["train"], tests)
        )
    except FileNotFoundError as error:
        said = str(error).rstrip(".")
        raise DataError(f"{root}: {said}", hint="folder:PATH wants a folder with images a class") from None
    if len(classes) < 2:
        only = f"{root}: only one class, `{classes[0]}`"
        raise DataError(only, hint="a classifier needs a folder for each of two classes")
    encoded = Encoded(
        train=_file_shards(train),
        test=_file_shards(test),
        classes=classes,
        files=[Path(path) for path, _ in (*train, *test)],
        notices=notices,
    )
    return (yield from decode(root, encoded, asked.image_size))


def _tests(root: Path, parts: dict[str, list[Path]]) -> tuple[list[Path], list[str]]:
    """What serves as the test part, and in words what becomes of a validation part that comes with the data."""
    if not parts["validation"]:
        return parts["test"], []
    if parts["test"]:
        return parts["test"], [f"the validation part of {root} is not used: validation is held out of training"]
    return parts["validation"], [f"the validation part of {root} is used as the test part: it has no other"]


def _file_shards(samples: list[tuple[str, int]]) -> list[Shard]:
    def read(paths: list[str]) -> Callable[[], Sequence[bytes]]:
        return lambda: [Path(path).read_bytes() for path in paths]

    pieces = [samples[start : start + CHUNK] for start in range(0, len(samples), CHUNK)]
    return [
        Shard([path for path, _ in piece], np.array([label for _, label in piece]), read([path for path, _ in piece]))
        for piece in pieces
    ]


@register_dataset("parquet", usage="parquet:PATH")
def parquet(asked: Asked) -> Loading:
    """The Hugging Face image layout: one file, or a folder with `train-*` and `test-*` shards."""
    root = Path(asked.argument).expanduser()
    files = sorted(root.rglob("*.parquet")) if root.is_dir() else [root]
    if not files or not files[0].exists():
        raise DataError(f"{root}: no parquet file there", hint="parquet:PATH wants a .parquet file or a folder of them")
    return (yield from read_parquet(root, files, asked.image_size))


def read_parquet(root: Path, files: list[Path], image_size: int | None) -> Loading:
    """Parquet files under `root`, whose names below it say which part they are."""
    parts: dict[str, list[Path]] = {"train": [], "test": [], "validation": []}
    for file in files:
        name = str(file.relative_to(root)) if root.is_dir() else "train"
        named = [PARTS[word] for word in re.split("[^a-z]+", name.lower()) if word in PARTS]
        parts[named[-1] if named else "train"].append(file)
    if not parts["train"]:
        raise DataError(f"{root}: no train part", hint="name the training shards train-*.parquet")
    tests, notices = _tests(root, parts)
    classes = _parquet_classes(parts["train"])
    encoded = Encoded(
        train=[_parquet_shard(file, classes) for file in parts["train"]],
        test=[_parquet_shard(file, classes) for file in tests],
        classes=classes,
        files=parts["train"] + tests,
        notices=notices,
    )
    return (yield from decode(root, encoded, image_size))


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
        raise _unreadable(file, error) from None
    features = json.loads(metadata.get("huggingface", "{}")).get("info", {}).get("features", {})
    # A list stands for a sequence: no label of one image.
    features = {key: kind for key, kind in features.items() if isinstance(kind, dict)}
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

    values = pl.concat([_parquet_column(file, columns.label) for file in files]).unique().drop_nulls().sort()
    return [str(value) for value in values]


def _parquet_column(file: Path, name: str) -> pl.Series:
    import polars as pl

    try:
        return pl.read_parquet(file, columns=[name]).to_series()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception) -> DataError:
    said = str(error).splitlines()[0]
    return DataError(f"{file}: not a readable parquet file: {said}", hint="is the download complete?")


def _parquet_shard(file: Path, classes: list[str]) -> Shard:
    import polars as pl

    columns = _parquet_columns(file)
    values = _parquet_column(file, columns.label)
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
        images = _parquet_column(file, columns.image)
        if images.dtype != pl.Binary:
            images = images.struct.field("bytes")
        return [one or b"" for one in images]

    return Shard([f"{file.name} row {row}" for row in range(len(labels))], labels, read)
