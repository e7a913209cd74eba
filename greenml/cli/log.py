"""`greenml runs log`: runs that are stored, told to MLflow or W&B afterwards; and what a tracker is told of a run."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenml import console
from greenml.cli import portrait
from greenml.cli.options import RunsArgument, StoreOption
from greenml.cli.share import chosen_ids
from greenml.errors import DataError
from greenml.records import Epoch, Metric, Run

if TYPE_CHECKING:
    from pathlib import Path

    from greenml.store import Store
    from greenml.trackers import Ending
    from greenml.trackers.wire import Dated

FILES = ("config.yaml", "summary.json", "epochs.csv", "curves.png", "model.pt")
"""What a tracker keeps of a run's folder: all that matters to who did not train it."""


def log(
    to: Annotated[list[str], typer.Option("--to", metavar="NAME", help="mlflow or wandb. Repeatable.")],
    runs: RunsArgument = None,
    store: StoreOption = None,
) -> None:
    """Log stored runs, or all, to MLflow or W&B; what is there already stays as it is."""
    from greenml import trackers
    from greenml.store import Store, resolve_path

    trackers.check(to)
    db = Store(resolve_path(store))
    run_ids = chosen_ids(db, runs)
    alive = db.living(run_ids)
    for run_id in run_ids:
        if run_id in alive:
            console.say(f"skipped {run_id}: still alive; log it again when it has ended")
            continue
        troubles: list[str] = []
        with trackers.Following(to, lambda text, matters: (troubles.append if matters else console.say)(text)) as told:  # noqa: B023 - called within the loop
            for record, at in stored(db, run_id):
                told.show(record, at)
            told.show(ending(portrait.everything(db, run_id), db.folder(run_id)))
        if troubles:
            raise DataError(
                f"run {run_id}: {troubles[0]}", hint="nothing is lost here: log it again when that is mended"
            )


def stored(db: Store, run_id: str) -> list[Dated]:
    """What the store knows of a run, as it was told when it happened, with the times at which its epochs ended."""
    from greenml.store import intensity_of

    of_run = [run_id]
    [row] = db.rows("from runs where run_id = ?", of_run)
    ended = db.rows("select epoch, max(ended_at) as ended_at from phases where run_id = ? group by epoch", of_run)
    ends = {phase["epoch"]: phase["ended_at"] for phase in ended}
    run = _taken(Run, row | {"intensity": intensity_of(row)})
    epochs = [_taken(Epoch, epoch) for epoch in db.rows("from epochs where run_id = ?", of_run)]
    metrics = [
        _taken(Metric, metric) for metric in db.rows("from metrics where run_id = ? order by segment, seq", of_run)
    ]
    # What a run is judged by stands in its epochs, too.
    known = {(run.metric, epoch.epoch) for epoch in epochs if epoch.value is not None}
    rows = [*epochs, *(metric for metric in metrics if (metric.name, metric.epoch) not in known)]
    rows.sort(key=lambda row: math.inf if row.epoch is None else row.epoch)  # W&B takes no step that lies behind
    return [(run, None), *((row, ends.get(row.epoch)) for row in rows)]


def ending(known: dict[str, Any], folder: Path) -> Ending:
    """The last that a tracker is told: what the store knows of the whole run, and which files there are."""
    from greenml.trackers import Ending

    many = ("epoch_rows", "phases", "artifacts")
    return Ending(
        run_id=known["run_id"],
        status=known["status"],
        ended_at=known["ended_at"],
        summary={key: value for key, value in console.plain(known).items() if key not in many},
        files=[str(folder / name) for name in FILES if (folder / name).exists()],
    )


def _taken(kind: Any, row: dict[str, Any]) -> Any:
    return kind(**{field.name: row[field.name] for field in dataclasses.fields(kind)})
