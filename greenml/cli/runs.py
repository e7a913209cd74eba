"""`greenml runs`: what there is, everything known about one, and what people say about it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from greenml import console
from greenml.cli import portrait
from greenml.cli.board import energy
from greenml.cli.options import (
    EVERYTHING,
    FIRST_RUN,
    LIMIT,
    DatasetOption,
    JsonOption,
    LastOption,
    LimitOption,
    ModelOption,
    RunArgument,
    StoreOption,
    TagOption,
    chosen,
)
from greenml.console import Column, local, percentage
from greenml.errors import UsageError, nearest

app = typer.Typer(help="List, show, mark, remove, export and merge runs.", rich_markup_mode=None)

LIST_COLUMNS = [
    Column("run", lambda row: row["run_id"][:8], right=False),
    Column("status", lambda row: row["status"], right=False),
    Column("model", lambda row: named(row), right=False, shrinks=True),
    Column("dataset", lambda row: row["dataset"], right=False, shrinks=True),
    Column("name", lambda row: row["name"] or "", right=False, wide=True, shrinks=True),
    Column("tags", lambda row: " ".join(row["tags"]), right=False, wide=True, shrinks=True),
    Column("ep.", lambda row: str(row["epochs"]), wide=True),
    Column("acc. %", lambda row: percentage(row["accuracy"])),
    Column("Wh", lambda row: energy(row["energy_kwh"], row["source"], row["known_kwh"])),
    Column("started", lambda row: local(row["started_at"]), right=False),
]


def named(row: dict[str, Any]) -> str:
    """The model; a sweep is said to be one, as it has trained none itself."""
    return f"sweep: {row['model']}" if row["kind"] == "sweep" else str(row["model"])


@app.command("list")
def list_runs(
    dataset: DatasetOption = None,
    model: ModelOption = None,
    tag: TagOption = None,
    last: LastOption = None,
    limit: LimitOption = None,
    crashed: Annotated[bool, typer.Option("--crashed", help="Only runs whose process died.")] = False,
    removed: Annotated[bool, typer.Option("--removed", help="Runs that `greenml runs restore` brings back.")] = False,
    json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """List the runs, newest first."""
    from greenml.store import Store, resolve_path

    db = Store(resolve_path(store))
    status = "crashed" if crashed else None
    runs, values = chosen(
        "removed_runs" if removed else "leaderboard", dataset=dataset, model=model, tag=tag, last=last, status=status
    )
    sql = f"select *, count(*) over () as num_runs from ({runs}) order by started_at desc, run_id limit ?"
    rows = db.rows(sql, [*values, limit or (EVERYTHING if json else LIMIT)])
    num_runs = rows[0]["num_runs"] if rows else 0
    for row in rows:
        del row["num_runs"]
    if json:
        console.print_json(rows)
    elif rows:
        console.out().print(console.table(LIST_COLUMNS, rows))
        if num_runs > len(rows):
            console.say(f"{num_runs - len(rows):,} more: --limit")
        portrait.explain_marks({row["source"] for row in rows})
    elif crashed or removed:
        console.say(f"no {'crashed ' if crashed else ''}run {'is removed' if removed else 'is there'}, or none matches")
    else:
        console.say(f"no runs in {db.path}, or none that match")
        console.say(FIRST_RUN)


@app.command()
def show(
    run: RunArgument,
    json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Show everything known about one run."""
    from greenml.store import Store, resolve_path

    db = Store(resolve_path(store))
    known = portrait.everything(db, db.run_id(run))
    if json:
        console.print_json([known])
    else:
        portrait.draw(known)


@app.command()
def tag(
    run: RunArgument,
    tags: Annotated[list[str] | None, typer.Argument(metavar="TAG...", help="Tags to add.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="TAG", help="Repeatable.")] = None,
    store: StoreOption = None,
) -> None:
    """Add tags to a run, or remove them."""
    from greenml.store import Store, resolve_path

    db = Store(resolve_path(store))
    run_id = db.run_id(run)
    [known] = db.rows("select tags from runs where run_id = ?", [run_id])
    before: list[str] = known["tags"]
    tags = [name.strip() for name in tags or [] if name.strip()]
    if not tags and not remove:
        raise UsageError("no tag given", hint=f"greenml runs tag {run} TAG, or --remove TAG")
    for name in remove or []:
        if name not in before:
            otherwise = f"its tags are {', '.join(before)}" if before else "it has no tags"
            raise UsageError(f"run {run_id} has no tag `{name}`", hint=nearest(name, before, otherwise=otherwise))
    after = list(dict.fromkeys(name for name in [*before, *tags] if name not in (remove or [])))
    db.mark([run_id], tags=after)
    console.say(f"{run_id}  tags: {' '.join(after) or 'none'}")


@app.command()
def note(
    run: RunArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help='What to remember about it; "" forgets.')],
    store: StoreOption = None,
) -> None:
    """Write a note on a run, in place of the one that it has."""
    from greenml.store import Store, resolve_path

    db = Store(resolve_path(store))
    run_id = db.run_id(run)
    db.mark([run_id], note=text.strip() or None)
    console.say(f"{run_id}  note: {text.strip() or 'none'}")
