"""`greenml runs rm` and `restore`: out of every ranking and back again, or gone for good."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenml import console
from greenml.cli.options import RunsArgument, StoreOption
from greenml.console import counted, percentage
from greenml.errors import UsageError
from greenml.units import format_bytes

if TYPE_CHECKING:
    from greenml.store import Store

    Row = dict[str, Any]

MOST_NAMED = 20


def rm(
    runs: RunsArgument = None,
    crashed: Annotated[bool, typer.Option("--crashed", help="All runs whose process died.")] = False,
    purge: Annotated[bool, typer.Option("--purge", help="For good: rows and files, also of removed runs.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreOption = None,
) -> None:
    """Take runs out of every ranking; `restore` undoes it.

    Their files stay until --purge.
    """
    from greenml.store import Store, resolve_path, utc_now

    db = Store(resolve_path(store))
    if not runs and not crashed:
        raise UsageError("no run given", hint="greenml runs rm RUN, or --crashed")
    of = "run_rows" if purge else "runs"
    run_ids = [db.run_id(run, of=of) for run in runs or []]
    if crashed:
        run_ids += [row["run_id"] for row in db.rows(f"select run_id from {of} where status = 'crashed'")]
    run_ids = list(dict.fromkeys(run_ids))
    if not run_ids:
        console.say("no run has crashed")
        return
    if alive := db.living(run_ids):
        raise UsageError(f"run {alive[0]} is alive in another process", hint="wait for it, or stop it")
    what = name_them(db, run_ids, purge=purge)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"nobody is there to ask whether to {what}", hint="give --yes")
        if not console.agrees(f"{what}?"):
            console.say("nothing was removed")
            return
    if purge:
        db.purge(run_ids)
        console.say(f"{counted(len(run_ids), 'run')} purged")
    else:
        db.mark(run_ids, removed_at=utc_now())
        console.say(f"{counted(len(run_ids), 'run')} removed; `greenml runs restore` brings back what is not purged")


def restore(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="The first digits of their ids.")],
    store: StoreOption = None,
) -> None:
    """Bring back what `rm` took out; `list --removed` shows it."""
    from greenml.store import Store, resolve_path

    db = Store(resolve_path(store))
    run_ids = list(dict.fromkeys(db.run_id(run, of="removed_runs") for run in runs))
    db.mark(run_ids, removed_at=None)
    console.say(f"{counted(len(run_ids), 'run')} restored")


def name_them(db: Store, run_ids: list[str], *, purge: bool) -> str:
    """Say which runs it is about; what is to be done with them, in words."""
    rows = db.rows(
        """
        select run_id, name, model, dataset, test_accuracy, count(epoch_rows.epoch) as num_epochs
        from run_rows
        left join epoch_rows using (run_key)
        where run_id in (select unnest(?))
        group by all
        order by any_value(started_at), run_id
        """,
        [run_ids],
    )
    for row in rows[:MOST_NAMED]:
        accuracy = "" if row["test_accuracy"] is None else f", {percentage(row['test_accuracy'])} %"
        name = f"  {row['name']}" if row["name"] else ""
        epochs = counted(row["num_epochs"], "epoch")
        console.say(console.clean(f"{row['run_id']}  {row['model']} on {row['dataset']}, {epochs}{accuracy}{name}"))
    if len(rows) > MOST_NAMED:
        console.say(f"and {len(rows) - MOST_NAMED:,} more")
    runs = f"{counted(len(rows), 'run')} with {counted(sum(row['num_epochs'] for row in rows), 'epoch')}"
    if purge:
        return f"purge {runs} and {format_bytes(sum(map(db.num_bytes, run_ids)))} of files for good"
    return f"remove {runs}"
