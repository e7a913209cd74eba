"""`greenml board --lifecycle`: what models take from training through a lifetime of predictions. SQL adds and sorts."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from greenml import console
from greenml.cli import ledger
from greenml.cli.board import energy, some
from greenml.cli.options import chosen
from greenml.console import WIDE, Column, figure, percentage
from greenml.titles import titles_of

if TYPE_CHECKING:
    from rich.table import Table

    from greenml.store import Store

    Row = dict[str, Any]

FIRST_COMPRESSION = "hint: greenml compress RUN --method int8"


def query(
    asked: dict[str, Any], limit: int, *, lifetime: int, per_day: int | None, size: int | None
) -> tuple[str, list[Any]]:
    """The models asked for, `limit` of each data set and split, those first that take least in a lifetime."""
    models, values = chosen("lifecycle(?, ?::bigint, ?::integer)", **asked)
    sql = f"""
        with chosen as ({models})
        select
            chosen.*,
            runs.metric as _metric,
            runs.goal as _goal,
            runs.scope as _scope,
            runs.data_hash as _data_hash,
            runs.split_hash as _split_hash,
            count(*) over own as _in_contest,
            min(chosen.dataset) over own as _dataset,
            -- What was metered beside another run says nothing of its own.
            row_number() over (
                own order by chosen.reason is not null, total_kwh nulls last, chosen.started_at, chosen.run_id
            ) as _place
        from chosen
        join runs using (run_id)
        window own as (partition by chosen.contest)
        qualify _place <= ?
        order by _dataset, chosen.contest, _place
    """
    return sql, [lifetime, per_day, size, *values, limit]


def page(
    db: Store, rows: list[Row], *, lifetime: int, per_day: int | None, size: int | None
) -> tuple[list[Table], list[str]]:
    """A table for each contest, and what is to be said about them all."""
    if not rows:
        return [], nothing(db, size)
    contests = [list(group) for _, group in itertools.groupby(rows, lambda row: row["contest"])]
    firsts = [
        {name: group[0][f"_{name}"] for name in ("dataset", "metric", "goal", "scope", "data_hash", "split_hash")}
        for group in contests
    ]
    tables, notes = [], []
    for group, title in zip(contests, titles_of(firsts), strict=True):
        tables.append(console.table(columns(group, per_day), group, title=title))
        if more := group[0]["_in_contest"] - len(group):
            notes.append(f"{more:,} more on {title}: --limit")
    return tables, [*notes, *about(rows, lifetime)]


def columns(rows: list[Row], per_day: int | None) -> list[Column]:
    """What the board shows of a model; on a narrow screen days take the place of what training took."""
    is_wide = console.out().width >= WIDE
    is_of_one = len({row["model"] for row in rows}) == 1

    def name(row: Row) -> str:
        if is_wide:
            return str(row["model"])
        return str(row["method"]) if is_of_one and row["method"] else named(row)

    return [
        Column("model", name, right=False, shrinks=True),
        Column("method", lambda row: row["method"] or "", right=False, shrinks=True, wide=True),
        Column("run", lambda row: row["run_id"][:8], right=False, wide=True),
        Column("acc. %", lambda row: percentage(row["accuracy"])),
        Column("diff.", lambda row: difference(row, with_interval=is_wide)),
        Column("train Wh", lambda row: energy(row["train_kwh"], row["train_source"]), wide=per_day is not None),
        Column("comp. Wh", lambda row: energy(row["compress_kwh"], row["compress_source"])),
        Column("J/1000", lambda row: ledger.joules(row, with_interval=is_wide)),
        Column("break-even", ledger.break_even),
        *([Column("days", lambda row: figure(row["days"]) if row["days"] is not None else "")] if per_day else []),
        Column("total Wh", lambda row: energy(row["total_kwh"], row["total_source"])),
    ]


def named(row: Row) -> str:
    """The model; of a compressed one, how it was made."""
    return f"{row['method']}, {row['model']}" if row["method"] else str(row["model"])


def difference(row: Row, *, with_interval: bool) -> str:
    """Points of accuracy against the parent, on the same test images."""
    points = ledger.difference(row)
    if not with_interval or not points:
        return points
    return f"{points}±{100 * (row['accuracy_high'] - row['accuracy_difference']):.2f}"


def about(rows: list[Row], lifetime: int) -> list[str]:
    """What the columns mean, and what they cannot say."""
    sizes = sorted({row["batch_size"] for row in rows}, reverse=True)
    batches = f"batches of {' or '.join(f'{size:,}' for size in sizes)}"
    notes = [f"total Wh: training, compressing and {lifetime:,} predictions, in {batches}"]
    notes.append(ledger.SPREAD if console.out().width >= WIDE else ledger.JOULES)
    if said := ledger.levels_in_words(rows):
        notes.append(said)
    if any(row["accuracy_difference"] is not None for row in rows):
        notes.append("diff.: points of accuracy against the parent, on the same test images")
    if len(sizes) > 1:
        notes.append(f"batches differ: --batch-size {sizes[0]} shows what was measured alike")
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["reason"]:
            reasons.setdefault(row["reason"], []).append(f"{named(row)} {row['run_id'][:8]}")
    notes += [f"– unknown, {reason}: {some(models)}" for reason, models in reasons.items()]
    return notes + console.legends(row["total_source"] for row in rows)


def nothing(db: Store, size: int | None) -> list[str]:
    """Why the page is empty, and how it gets a line."""
    sizes = [row["batch_size"] for row in db.rows("select distinct batch_size from inference order by batch_size")]
    if not sizes:
        return [f"no compressed model in {db.path}", FIRST_COMPRESSION]
    if size is not None and size not in sizes:
        measured = ", ".join(map(str, sizes))
        return [f"nothing was measured in batches of {size}", f"hint: --batch-size {sizes[-1]} (measured: {measured})"]
    return ["no compressed model matches", "hint: leave out --dataset, --model or --tag"]
