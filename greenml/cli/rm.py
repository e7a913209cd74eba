"""`greenml runs rm` and `restore`: out of every ranking and back again, or gone for good."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenml import console
from greenml.cli.options import RunsArgument, StoreOption
from greenml.console import counted, percentage
from greenml.errors import UsageError
from greenml.records import utc_now
from greenml.units import format_bytes

if TYPE_CHECKING:
    from greenml.store import Store

    Row = dict[str, Any]

MOST_NAMED = 20
TRIALS = """
    select run_id, parent
    from {of}
    where kind = 'trial'
        and parent in (select run_id from run_rows where kind = 'sweep' and run_id in (select unnest(?)))
    order by started_at, run_id
"""
REMOVED_WITH = """
    select trials.run_id
    from removed_runs as trials
    join run_rows as own using (run_id)
    join removed_runs as sweeps on sweeps.run_id = own.parent and sweeps.kind = 'sweep'
    where trials.removed_at = sweeps.removed_at and sweeps.run_id in (select unnest(?))
"""
"""The trials that went with these sweeps, and not before them."""
ALONE = """
    select run_id
    from run_rows
    where kind = 'trial'
        and run_id in (select unnest($1))
        and parent not in (select unnest($1))
        and parent in (select run_id from run_rows where kind = 'sweep')
"""


def rm(
    runs: RunsArgument = None,
    crashed: Annotated[bool, typer.Option("--crashed", help="All runs whose process died.")] = False,
    purge: Annotated[bool, typer.Option("--purge", help="For good: rows and files, also of removed runs.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreOption = None,
) -> None:
    """Take runs out of every ranking; `restore` undoes it.

    Their files stay until --purge. A sweep takes its trials along.
    """
    from greenml.store import Store, resolve_path

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
    run_ids = with_trials(db, run_ids, of=of)
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
    named = [db.run_id(run, of="removed_runs") for run in runs]
    run_ids = list(dict.fromkeys([*named, *(row["run_id"] for row in db.rows(REMOVED_WITH, [named]))]))
    db.mark(run_ids, removed_at=None)
    console.say(f"{counted(len(run_ids), 'run')} restored")


def with_trials(db: Store, run_ids: list[str], *, of: str) -> list[str]:
    """And the trials of the sweeps among them: without their sweep they would be runs that nobody asked for."""
    trials = db.rows(TRIALS.format(of=of), [run_ids])
    more = [row["run_id"] for row in trials if row["run_id"] not in set(run_ids)]
    if more:
        sweeps = counted(len({row["parent"] for row in trials}), "sweep")
        console.say(f"the {counted(len(more), 'trial')} of {sweeps} with it")
    return [*run_ids, *more]


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
    if purge and (alone := db.rows(ALONE, [run_ids])):
        trials = counted(len(alone), "trial")
        console.say(f"{trials} of a sweep: what that took is then known in part only")
    runs = f"{counted(len(rows), 'run')} with {counted(sum(row['num_epochs'] for row in rows), 'epoch')}"
    if purge:
        return f"purge {runs} and {format_bytes(sum(map(db.num_bytes, run_ids)))} of files for good"
    return f"remove {runs}"
