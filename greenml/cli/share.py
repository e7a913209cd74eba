"""`greenml runs export` and `merge`: runs to other programs, and from one store to another."""

from __future__ import annotations

from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenml import console, exchange
from greenml.cli.options import RunsArgument, StoreOption
from greenml.cli.portrait import everything_of
from greenml.console import counted
from greenml.errors import StoreError, UsageError
from greenml.records import to_json

if TYPE_CHECKING:
    from greenml.store import Merged, Store

WAYS = ".jsonl or .json has everything, .csv a row a run (or --epochs), .duckdb is a store of its own"


def export(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help=f"{WAYS}.")],
    runs: RunsArgument = None,
    epochs: Annotated[bool, typer.Option("--epochs", help="A row an epoch, in .csv.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE.")] = False,
    store: StoreOption = None,
) -> None:
    """Write runs, or all, into a file for other programs."""
    from greenml.store import Store, resolve_path

    db = Store(resolve_path(store))
    suffix = output.suffix.lower()
    if suffix not in (".json", ".jsonl", ".csv", ".duckdb"):
        raise UsageError(f"{output}: no way to write `{suffix or output.name}`", hint=WAYS)
    if epochs and suffix != ".csv":
        raise UsageError(f"--epochs writes .csv, not {suffix}", hint=f"--output {output.with_suffix('.csv')}")
    if output.is_dir() or (output.exists() and not force):
        what = "is a folder" if output.is_dir() else "exists already"
        raise UsageError(f"{output} {what}", hint="choose another file" + (", or --force" if output.is_file() else ""))
    run_ids = chosen_ids(db, runs)
    if suffix == ".duckdb":
        said(exchange.write_store(output, db, run_ids), db.path)
        console.say(f"{output} is a store: --store {output}; the runs' files are in {output.parent / 'runs'}")
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".jsonl":
            exchange.write_jsonl(output, db.records(run_ids))
        elif suffix == ".json":
            exchange.write_json(output, console.plain(with_records(db, run_ids)))
        else:
            exchange.write_csv(output, console.plain(db.rows(EPOCHS if epochs else RUNS, [run_ids])))
    except OSError as error:
        raise StoreError(f"{output} cannot be written: {error.strerror}", hint="choose another file") from error
    console.say(f"{counted(len(run_ids), 'run')} in {output}")


def with_records(db: Store, run_ids: list[str]) -> list[dict[str, Any]]:
    """Runs as people read them, and beside that the records from which `greenml import` makes them again."""
    records: dict[str, list[Any]] = {run_id: [] for run_id in run_ids}
    for record in db.records(run_ids):
        records[record.run_id].append(loads(to_json(record)))
    return [{**run, "records": records[run["run_id"]]} for run in everything_of(db, run_ids)]


RUNS = "from leaderboard where run_id in (select unnest(?)) order by started_at, run_id"
EPOCHS = """
    select epochs.* exclude (run_key)
    from epochs
    join runs using (run_key)
    where runs.run_id in (select unnest(?))
    order by runs.started_at, runs.run_id, epochs.epoch
"""


def merge(
    other: Annotated[Path, typer.Argument(metavar="OTHER.duckdb", help="A store, with its runs/ beside it.")],
    store: StoreOption = None,
) -> None:
    """Bring the runs and files of another store into this one."""
    from greenml.store import Store, resolve_path

    source = Store(other, read_only=True)
    merged = Store(resolve_path(store)).merge(source)
    said(merged, other)
    if waiting := source.spooled():
        console.say(f"{counted(waiting, 'row')} wait beside {other}, and are not in it yet")


def chosen_ids(db: Store, runs: list[str] | None) -> list[str]:
    """The runs asked for, or all of them, oldest first."""
    if runs:
        return list(dict.fromkeys(map(db.run_id, runs)))
    run_ids = [row["run_id"] for row in db.rows("select run_id from runs order by started_at, run_id")]
    if not run_ids:
        raise UsageError(f"{db.path} has no runs yet", hint="greenml train cnn --dataset digits")
    return run_ids


def said(merged: Merged, source: Path) -> None:
    """What came over, and what did not."""
    known = f", {len(merged.known):,} known already" if merged.known else ""
    console.say(f"{counted(len(merged.new), 'run')} came from {source}{known}")
    for run_ids, why in (
        (merged.alive, "still alive; merge again when it has ended"),
        (merged.apart, "taken up again in both stores, which are two runs now; kept as it is here"),
    ):
        for run_id in run_ids:
            console.say(f"skipped {run_id}: {why}")
