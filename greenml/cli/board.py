"""`greenml board`: which run earned its energy. SQL ranks and sorts; what is here draws."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenml import console, exchange
from greenml.cli.options import (
    EVERYTHING,
    FIRST_RUN,
    LIMIT,
    DatasetOption,
    JsonOption,
    LastOption,
    LimitOption,
    ModelOption,
    StoreOption,
    TagOption,
    chosen,
)
from greenml.console import UNKNOWN, Column, figure, percentage
from greenml.errors import StoreError, UsageError, nearest
from greenml.units import JOULES_PER_KWH, JOULES_PER_WH, format_duration

if TYPE_CHECKING:
    from rich.table import Table

    from greenml.store import Store

    Row = dict[str, Any]

REFRESH_S = 2.0
UNFINISHED = "status in ('running', 'waiting', 'paused', 'crashed', 'failed')"
COUNTS = f"""
    (select count(*) from runs) as _num_runs,
    (select count(*) from runs where {UNFINISHED}) as _num_unfinished
"""
ORDER = {
    "acc-per-kwh": "rank nulls last, accuracy desc nulls last",
    "accuracy": "accuracy desc nulls last",
    "energy": "energy_kwh nulls last",
    "co2": "co2_g nulls last",
    "time": "duration_s nulls last",
    "model": "model",
    "started": "started_at desc",
    "energy-to-acc": "energy_to_acc_kwh nulls last",
}
SOURCES = {
    "apportioned": ("÷", "÷ split by time: the meter's reading was too coarse"),
    "estimated": ("~", "~ estimated by a power model, not measured"),
    "unknown": ("≥", "≥ the known part: a device could not be read"),
}
FRONT = "● on the front: no run has more validation accuracy for less energy"


def board(
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help=f"Sort by {', '.join(ORDER)}=85 (what it took to reach 85 %). Give it again for the next key.",
            show_default="acc-per-kwh",
        ),
    ] = None,
    dataset: DatasetOption = None,
    model: ModelOption = None,
    tag: TagOption = None,
    last: LastOption = None,
    limit: LimitOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also runs that still run, crashed or failed.")] = False,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the rows to FILE instead.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Draw it again every two seconds, until Ctrl-C.")] = False,
    json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Rank runs by what they reached for their energy, within each data set and split."""
    from greenml.store import Store, resolve_path

    db = Store(resolve_path(store))
    order, target = parse_keys(by or ["acc-per-kwh"])
    runs, values = chosen("leaderboard", dataset=dataset, model=model, tag=tag, last=last)
    limit = limit or (EVERYTHING if json or csv_file else LIMIT)
    reached = "(select run_id, energy_kwh as energy_to_acc_kwh from energy_to_accuracy(?))"
    joined = "" if target is None else f"left join {reached} as reached using (run_id)"
    sql = f"""
        with chosen as ({runs})
        select
            chosen.*,
            {"" if target is None else "reached.energy_to_acc_kwh,"}
            count(*) over contest as _in_contest,
            min(dataset) over contest as _title,
            {COUNTS},
            row_number() over (contest order by {order}, started_at desc, run_id) as _place
        from chosen {joined}
        where {"true" if everything else f"not {UNFINISHED}"}
        window contest as (partition by data_hash, split_hash)
        qualify _place <= ?
        order by _title, data_hash, split_hash, _place
    """
    binds = [*values, *([] if target is None else [target]), limit]

    if json:
        console.print_json([public(row) for row in db.rows(sql, binds)])
    elif csv_file:
        write_csv(csv_file, [public(row) for row in db.rows(sql, binds)])
    elif watch:
        if not sys.stdout.isatty():
            raise UsageError("`--watch` needs a terminal", hint="leave it out, or use --json")
        keep_drawing(lambda: page(db, db.rows(sql, binds), target, everything))
    else:
        tables, notes = page(db, db.rows(sql, binds), target, everything)
        for i, table in enumerate(tables):
            console.out().print(*[""] * (i > 0), table, sep="\n")
        for note in notes:
            console.say(note)


def parse_keys(keys: list[str]) -> tuple[str, float | None]:
    """`--by` -> an `order by`, and the validation accuracy that `energy-to-acc` names, as a fraction."""
    order, target = [], None
    for key in keys:
        name, has_value, value = key.lower().replace("_", "-").partition("=")
        if name not in ORDER or bool(has_value) != (name == "energy-to-acc"):
            example = f"`{name}=85` is 85 %" if name == "energy-to-acc" else f"the keys are {', '.join(ORDER)}=85"
            hint = example if name in ORDER else nearest(name, ORDER, otherwise=example)
            raise UsageError(f"cannot sort by `{key}`", hint=hint)
        if has_value:
            if target is not None:
                raise UsageError("`energy-to-acc` was given twice", hint="give one target")
            target = parse_target(value)
        order.append(ORDER[name])
    return ", ".join(order), target


def parse_target(text: str) -> float:
    """Up to 1 is a fraction, above it per cent."""
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = 0.0
    if not 0 < number <= 100:
        raise UsageError(f"`{text}` is no accuracy", hint="85 and 0.85 both mean 85 %")
    return number if number <= 1 else number / 100


def public(row: Row) -> Row:
    """Without what only the screen needs."""
    return {key: value for key, value in row.items() if not key.startswith("_")}


def write_csv(path: Path, rows: list[Row]) -> None:
    try:
        exchange.write_csv(path, [{**console.plain(row), "tags": " ".join(row["tags"])} for row in rows])
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}", hint="choose another file for --csv") from error
    console.say(f"{len(rows)} runs are in {path}")


def keep_drawing(draw: Any) -> None:
    """The page, again and again; Ctrl-C is the way out, and no error."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    with Live(console=console.out(), auto_refresh=False) as live:
        try:
            while True:
                tables, notes = draw()
                live.update(Group(*tables, *(Text(note, style="dim") for note in notes)), refresh=True)
                time.sleep(REFRESH_S)
        except KeyboardInterrupt:
            return


def page(db: Store, rows: list[Row], target: float | None, everything: bool) -> tuple[list[Table], list[str]]:
    """A table for each data set and split, and what is to be said about them."""
    contests = [list(group) for _, group in itertools.groupby(rows, lambda row: contest(row))]
    names = [group[0]["_title"] for group in contests]
    tables, notes = [], []
    for group in contests:
        title, first = group[0]["_title"], group[0]
        if names.count(title) > 1:
            title += f" (data {first['data_hash'][:6]}, split {first['split_hash'][:6]})"
        tables.append(console.table(columns(target), group, title=title))
        if more := first["_in_contest"] - len(group):
            notes.append(f"{more:,} more on {title}: --limit")
    sources = {row["source"] for row in rows}
    notes += [legend for source, (_, legend) in SOURCES.items() if source in sources]
    notes += [FRONT] if any(row["on_front"] for row in rows) else []
    notes += unranked(rows)
    notes += left_out(db, rows, everything)
    return tables, notes


def contest(row: Row) -> tuple[str, str]:
    """Runs are compared on the same images, split in the same way, whatever their data set was called."""
    return row["data_hash"], row["split_hash"]


def columns(target: float | None) -> list[Column]:
    """What the board shows of a run."""
    reached = Column(f"Wh to {100 * (target or 0):g} %", lambda row: energy(row["energy_to_acc_kwh"], row["source"]))
    return [
        Column("#", lambda row: str(row["rank"] or UNKNOWN)),
        Column("", lambda row: "●" if row["on_front"] else ""),
        Column("model", lambda row: row["model"], right=False, shrinks=True),
        Column("name", lambda row: row["name"] or "", right=False, wide=True, shrinks=True),
        Column("run", lambda row: row["run_id"][:8], right=False, wide=True),
        Column("prec.", lambda row: row["precision"], right=False),
        Column("ep.", lambda row: str(row["epochs"])),
        Column("val %", lambda row: percentage(row["val_accuracy"]), wide=True),
        Column("acc. %", lambda row: percentage(row["accuracy"])),
        *([reached] if target else []),
        Column("Wh", lambda row: energy(row["energy_kwh"], row["source"], row["known_kwh"])),
        Column("g CO2e", lambda row: figure(row["co2_g"])),
        Column("time", lambda row: UNKNOWN if row["duration_s"] is None else format_duration(row["duration_s"])),
        Column("acc/kWh", lambda row: figure(row["acc_per_kwh"] if row["rank"] else None)),
    ]


def energy(kwh: float | None, source: str, known_kwh: float | None = None) -> str:
    """Watt-hours with the mark of their source: of an incomplete sum, the part that is known."""
    shown = known_kwh if kwh is None else kwh
    mark = SOURCES.get(source, ("", ""))[0]
    return UNKNOWN if shown is None else mark + figure(shown * JOULES_PER_KWH / JOULES_PER_WH)


def unranked(rows: list[Row]) -> list[str]:
    """Why runs have no rank, a line for each reason."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["unranked"]:
            reasons.setdefault(row["unranked"], []).append(f"{row['model']} {row['run_id'][:8]}")
    return [
        f"– unranked, {reason}: {', '.join(runs[:3])}" + (f" and {len(runs) - 3} more" if len(runs) > 3 else "")
        for reason, runs in reasons.items()
    ]


def left_out(db: Store, rows: list[Row], everything: bool) -> list[str]:
    """What is not on the page, and how to get there."""
    counts = next(iter(rows or db.rows(f"select {COUNTS}")), {"_num_runs": 0, "_num_unfinished": 0})
    notes = []
    if not counts["_num_runs"]:
        notes += [f"no runs yet in {db.path}", FIRST_RUN]
    elif not rows:
        notes.append("no finished run matches")
    if counts["_num_unfinished"] and not everything:
        notes.append(f"{counts['_num_unfinished']} running, crashed or failed: --all shows them")
    if waiting := db.spooled():
        notes.append(f"{waiting} rows wait beside the store; the next training stores them")
    return notes
