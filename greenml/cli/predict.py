"""`greenml predict RUN IMAGE...`: what a run's own model sees in images."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenml import console
from greenml.cli.options import JsonOption, RunArgument, StoreOption, flag
from greenml.console import Column, percentage
from greenml.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from greenml.serve import Predictor

    Row = dict[str, Any]

AT_ONCE = 64
"""Images a batch."""
MOST_NAMED = 3

COLUMNS = [
    Column("image", lambda row: row["image"], right=False, shrinks=True),
    Column("class", lambda row: row["class"], right=False, shrinks=True),
    Column("prob. %", lambda row: percentage(row["probability"])),
]


def predict(
    run: RunArgument,
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")
    ] = None,
    top: Annotated[
        int, typer.Option("--top", min=1, metavar="N", help="The N most probable classes. [1]", show_default=False)
    ] = 1,
    num_threads: Annotated[
        int | None, flag("--num-threads", metavar="N", min=1, help="CPU threads.", default="as the runtime takes")
    ] = None,
    json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Name what is on images, by a run's own model.

    Images that cannot be read are named at the end, and the exit code is then 5; the others are answered.
    """
    if not images:
        raise UsageError("no image given", hint=f"greenml predict {run} IMAGE..., a file or a folder")
    from greenml.store import Store, resolve_path

    db = Store(resolve_path(store))
    [known] = db.rows("from runs where run_id = ?", [db.run_id(run)])
    troubles: list[str] = []
    rows: list[Row] = []
    if files := found(images, troubles):
        from greenml.cli.opening import open_model

        rows = list(answers(open_model(db, known, num_threads=num_threads), files, top, troubles))
        if json:
            console.print_json(rows)
        elif rows:
            console.out().print(console.table(COLUMNS, [line for row in rows for line in in_lines(row)]))
    if troubles:
        more = len(troubles) - MOST_NAMED
        raise DataError(
            "; ".join(troubles[:MOST_NAMED]) + f"; and {more:,} more" * (more > 0),
            hint="all other images are answered" if rows else "name image files, or a folder of them",
        )


def found(images: Sequence[Path], troubles: list[str]) -> list[Path]:
    """The files that are asked for, those of a folder by name; what is not there is added to `troubles`."""
    files: list[Path] = []
    for path in images:
        try:
            inside = image_files(path) if path.is_dir() else [path] if path.exists() else None
        except OSError as error:
            troubles.append(f"{path}: cannot be read: {error.strerror}")
            continue
        if inside is None:
            troubles.append(f"{path}: no such file")
        elif not inside:
            troubles.append(f"{path}: no image file in this folder")
        else:
            files += inside
    return files


def image_files(folder: Path) -> list[Path]:
    """Files with an image's extension, by name; folders inside are not searched."""
    from PIL import Image

    known = Image.registered_extensions()
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in known and path.is_file())


def answers(predictor: Predictor, files: Sequence[Path], top: int, troubles: list[str]) -> Iterator[Row]:
    """A row an image that can be read, in order; the others are added to `troubles`."""
    import numpy as np

    from greenml.pictures import normalised, picture

    told = predictor.description
    for start in range(0, len(files), AT_ONCE):
        pixels: list[NDArray[np.uint8]] = []
        names: list[str] = []
        for path in files[start : start + AT_ONCE]:
            try:
                data = path.read_bytes()
            except OSError as error:
                troubles.append(f"{path}: cannot be read: {error.strerror}")
                continue
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module="PIL")  # of files that are not whole, which is said below
                decoded = picture(data, told["image_size"], told["in_chans"])
            if decoded is None:
                troubles.append(f"{path}: not an image, or a corrupt one")
                continue
            pixels.append(decoded.pixels)
            names.append(str(path))
        if names:
            logits = predictor(normalised(np.stack(pixels), told["mean"], told["std"]))
            for name, chances in zip(names, probabilities(logits), strict=True):
                best = np.argsort(-chances, kind="stable")[:top]
                ranked = [{"class": told["classes"][k], "probability": float(chances[k])} for k in best]
                yield {"image": name, **ranked[0], "top": ranked}


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """[N, K] -> [N, K], each row of which adds up to 1."""
    import numpy as np

    powers = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def in_lines(row: Row) -> list[Row]:
    """A line a class, the image's name on the first."""
    return [{"image": row["image"] if not rank else "", **one} for rank, one in enumerate(row["top"])]
