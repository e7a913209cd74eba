"""`greenml evaluate RUN`: how well a run's model does, asked through what answers for `predict`."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenml import config as configs
from greenml import console
from greenml.cli.options import DataDirOption, DeviceOption, JsonOption, RunArgument, StoreOption, flag
from greenml.console import counted, figure, percentage
from greenml.errors import DataError, UsageError, nearest
from greenml.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from greenml.learn.data import Images, Splits
    from greenml.serve import Predictor

    Row = dict[str, Any]

SPLITS = ("test", "val", "train")
BATCH_SIZE = 256
Z_95 = 1.959964
"""The 0.975 quantile of the normal distribution."""
MOST_NAMED = 5


def evaluate(
    run: RunArgument,
    dataset: Annotated[
        str | None, flag("--dataset", metavar="NAME", help="Other data, with as many classes.", default="the run's own")
    ] = None,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="test, val or train.")] = "test",
    data_dir: DataDirOption = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, metavar="N", help="Images a prediction.")
    ] = BATCH_SIZE,
    device: DeviceOption = None,
    json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Count what a run's model gets right: of its own data, or of others. Stores nothing."""
    if split not in SPLITS:
        hint = nearest(split, SPLITS, otherwise=f"there are {', '.join(SPLITS)}")
        raise UsageError(f"--split {split}: no such part of the data", hint=hint)
    from greenml.cli.opening import open_model
    from greenml.store import Store, resolve_path

    db = Store(resolve_path(store))
    [known] = db.rows("from runs where run_id = ?", [db.run_id(run)])
    predictor = open_model(db, known, device=device or "auto")
    name, images, splits = read(known, predictor, dataset, data_dir)
    labels = as_named(images, predictor.description["classes"])
    row = {
        "run_id": known["run_id"],
        "model": known["model"],
        "dataset": name,
        "split": split,
        **score(predictor, images.images, labels, getattr(splits, split), batch_size),
        "batch_size": batch_size,
        "backend": predictor.backend,
        "precision": predictor.precision,
        "device": predictor.device,
        "num_threads": predictor.num_threads,
        "data_hash": images.data_hash,
        "split_hash": splits.split_hash,
    }
    if json:
        console.print_json([row])
    else:
        console.out().print(console.facts(in_words(row)))


def read(run: Row, predictor: Predictor, dataset: str | None, data_dir: str | None) -> tuple[str, Images, Splits]:
    """The run's own data, or `dataset`, split as the run was. Raises DataError where the own data have changed."""
    from greenml.learn import data

    config = configs.DEFAULTS | run["config"]
    told = predictor.description
    steps = data.load(dataset or run["dataset"], told["image_size"], data_dir or config["data_dir"])
    name, images = console.told(steps)
    refuse_others(name, images, told)
    splits = data.split(images, config["val_fraction"], config["split_seed"])
    if dataset is None and (images.data_hash, splits.split_hash) != (run["data_hash"], run["split_hash"]):
        raise DataError(
            f"{name} is not what run {run['run_id']} was trained on: it has changed since",
            hint=f"bring the old data back; or `--dataset {name}` evaluates on what is there now",
        )
    return name, images, splits


def refuse_others(name: str, images: Images, told: Row) -> None:
    """Raise UsageError where a model cannot answer for these data."""
    num_classes, channels = len(images.classes), images.images.shape[3]
    if num_classes != len(told["classes"]):
        raise UsageError(
            f"{name} has {num_classes} classes, and the model knows {len(told['classes'])}",
            hint="evaluate on data with the classes that it was trained on",
        )
    if channels != told["in_chans"]:
        raise UsageError(
            f"{name} has images of {channels} channels (3: coloured, 1: grey), and the model takes {told['in_chans']}",
            hint="evaluate on images of the kind that it was trained on",
        )


def as_named(images: Images, classes: Sequence[str]) -> NDArray[np.int64]:
    """The labels [N] as indices into the model's `classes`: by name where all names agree, else as they are, which is
    said."""
    import numpy as np

    if images.classes == list(classes):
        return images.labels
    if set(images.classes) == set(classes):
        order = np.array([*map(list(classes).index, images.classes), -1])  # -1 stays -1: an image that is corrupt
        return order[images.labels]
    console.say(
        f"the classes are named otherwise than the model's, and taken to be the same in this order: "
        f"{_some(images.classes)}; the model's: {_some(classes)}"
    )
    return images.labels


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + ", ..." * (len(names) > MOST_NAMED)


def score(
    predictor: Predictor,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    index: NDArray[np.int64],
    batch_size: int,
) -> Row:
    """Every image of `index` once, in batches: what was right, the mean cross-entropy, and how long the model took.

    The first batch is answered twice, and timed the second time: what a runtime prepares at its first answer is no part
    of its speed.
    """
    import numpy as np

    from greenml.pictures import normalised

    told = predictor.description
    correct, loss, duration_s = 0, 0.0, 0.0
    for start in range(0, len(index), batch_size):
        rows = index[start : start + batch_size]
        batch = normalised(images[rows], told["mean"], told["std"])
        if not start:
            predictor(batch)
        began = time.perf_counter()
        logits = predictor(batch)
        duration_s += time.perf_counter() - began
        correct += int((logits.argmax(axis=1) == labels[rows]).sum())
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        own = shifted[np.arange(len(rows)), labels[rows]]
        loss += float((np.log(np.exp(shifted).sum(axis=1)) - own).sum())
    low, high = wilson(correct, len(index))
    return {
        "accuracy": correct / len(index),
        "accuracy_low": low,
        "accuracy_high": high,
        "correct": correct,
        "count": len(index),
        "loss": loss / len(index),
        "duration_s": duration_s,
        "throughput": len(index) / duration_s,
    }


def wilson(correct: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share: within 0 and 1, also where all or nothing is right."""
    share, z2 = correct / count, Z_95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z_95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def in_words(row: Row) -> list[tuple[str, str]]:
    """What an evaluation came to, line by line."""
    interval = f"{percentage(row['accuracy_low'])} to {percentage(row['accuracy_high'])} %"
    return [
        ("run", f"{row['run_id']}  {row['model']}, {row['precision']} by {row['backend']} on {row['device']}"),
        ("data", f"{row['dataset']}, {row['split']} split"),
        ("accuracy", f"{percentage(row['accuracy'])} %, {row['correct']:,} of {row['count']:,}; 95 %: {interval}"),
        ("loss", figure(row["loss"])),
        (
            "speed",
            f"{figure(row['throughput'])} predictions/s: {format_duration(row['duration_s'])} in batches of "
            f"{row['batch_size']}, {counted(row['num_threads'], 'thread')}",
        ),
    ]
