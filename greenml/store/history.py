"""What providers told of the grid's intensity, step by step and of no run: what is known better stays."""

from __future__ import annotations

import dataclasses
from itertools import groupby
from typing import TYPE_CHECKING, Any

from greenml.store.rows import select

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    import duckdb

    from greenml.grid.series import Factors, Kind, Series, Step

    Row = Mapping[str, Any]

KEY = ("provider", "zone", "kind", "factors")
OF_ONE = "provider = $1 and zone = $2 and kind = $3"
REMEMBERED = f"""
    from grid_history
    where {OF_ONE}
        and ($4::timestamp is null or end_at > $4)
        and factors = coalesce(
            $5, (select factors from grid_history where {OF_ONE} order by fetched_at desc, start_at desc limit 1)
        )
    order by start_at
"""


def remember(con: duckdb.DuckDBPyConnection, series: Series, fetched_at: datetime) -> None:
    """Put the steps among those that are known: of a stretch of time the better status counts, then the later word."""
    from greenml.grid.series import STATUSES

    if not series.steps:
        return
    among = f"{OF_ONE} and factors = $4 and start_at < $6 and end_at > $5"
    here = [series.provider, series.zone or "", series.kind, series.factors, series.start, series.end]
    known = select(con, f"from grid_history where {among} order by start_at", here)
    told: list[Step] = []
    for rank, status in enumerate(STATUSES):
        better = _stretches(
            _step(row)
            for row in known
            if STATUSES.index(row["status"]) < rank or (row["status"] == status and row["fetched_at"] > fetched_at)
        )
        told += [piece for step in series.steps if step.status == status for piece in _outside(step, better)]
    told.sort(key=lambda step: step.start)
    fresh = _stretches(told)
    rows = [_row(series, step, series.source, fetched_at) for step in told]
    rows += [
        _row(series, piece, row["source"], row["fetched_at"]) for row in known for piece in _outside(_step(row), fresh)
    ]
    con.execute(f"delete from grid_history where {among}", here)
    _insert(con, rows)


def all_of(con: duckdb.DuckDBPyConnection, table: str) -> Iterator[tuple[Series, datetime]]:
    """Everything in a table like `grid_history`, by what was told at once."""
    of_one = (*KEY, "source", "fetched_at")
    order = ", ".join((*of_one, "start_at"))
    rows = select(con, f"from {table} order by {order}", [])
    for (*_, fetched_at), told in groupby(rows, key=lambda row: tuple(row[name] for name in of_one)):
        steps = list(told)
        yield series_of(steps, *(steps[0][name] for name in KEY)), fetched_at


def series_of(rows: Sequence[Row], provider: str, zone: str | None, kind: Kind, factors: Factors | None) -> Series:
    """Rows of one key, in order -> the steps; who publishes them is what the last of them says."""
    from greenml.grid.series import Series

    return Series(
        steps=tuple(map(_step, rows)),
        provider=provider,
        source=rows[-1]["source"] if rows else provider,
        zone=zone or None,
        kind=kind,
        factors=rows[-1]["factors"] if rows else factors or "unknown",
    )


def _step(row: Row) -> Step:
    from greenml.grid.series import Step

    return Step(start=row["start_at"], end=row["end_at"], g_per_kwh=row["g_per_kwh"], status=row["status"])


def _stretches(steps: Iterable[Step]) -> Series:
    """Steps as the time that they take, for its gaps."""
    from greenml.grid.series import Series

    return Series(steps=tuple(steps), provider="", source="")


def _outside(step: Step, others: Series) -> list[Step]:
    """What is left of a step where there are no others."""
    return [dataclasses.replace(step, start=start, end=end) for start, end in others.gaps(step.start, step.end)]


def _row(series: Series, step: Step, source: str, fetched_at: datetime) -> Row:
    return {
        "provider": series.provider,
        "zone": series.zone or "",
        "kind": series.kind,
        "factors": series.factors,
        "start_at": step.start,
        "end_at": step.end,
        "g_per_kwh": step.g_per_kwh,
        "status": step.status,
        "source": source,
        "fetched_at": fetched_at,
    }


def _insert(con: duckdb.DuckDBPyConnection, rows: Sequence[Row]) -> None:
    """A column at a time: a year of hours as one statement."""
    if not rows:
        return
    kinds = {name: kind for name, kind, *_ in con.execute("from grid_history limit 0").description}
    columns = ", ".join(f"unnest(${i}::{kinds[name]}[])" for i, name in enumerate(rows[0], start=1))
    con.execute(
        f"insert into grid_history ({', '.join(rows[0])}) select {columns}",
        [[row[name] for row in rows] for name in rows[0]],
    )
