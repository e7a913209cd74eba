"""Runs of one store into another: rows by SQL over both files, and the files of the runs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from greenml.files import whole
from greenml.store import history
from greenml.store.rows import CHOSEN

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

WORDS = ("name", "tags", "note", "removed_at")
"""What people said about a run, as `runs tag`, `note` and `rm` do."""

PLAN = """
    with lives as (
        select run_id, segment, min(phase_rows.started_at) as began_at
        from phase_rows
        join run_rows using (run_key)
        group by run_id, segment
    ),
    their_lives as (
        select run_id, segment, min(phase_rows.started_at) as began_at
        from other.phase_rows
        join other.run_rows using (run_key)
        group by run_id, segment
    )
    select
        theirs.run_id,
        ours.run_id is not null as is_here,
        coalesce(theirs.ended_at > ours.ended_at, ours.ended_at is null) as ended_later,
        -- One run, taken up again in two places: two lives, and no way to add them up.
        theirs.run_id in (
            select run_id
            from lives
            join their_lives using (run_id, segment)
            where lives.began_at <> their_lives.began_at
        ) as went_apart
    from other.run_rows as theirs
    left join run_rows as ours using (run_id)
    order by theirs.run_key
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What became of the runs of another store."""

    new: list[str]
    known: list[str]
    """In both; what was missing has been added."""
    alive: list[str]
    """Skipped: some process holds them."""
    apart: list[str]
    """Skipped: taken up again in both places, they are no longer one run."""


def attach(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Make the tables of another store readable as `other.run_rows`, ..."""
    name = str(path).replace("'", "''")
    con.execute(f"attach '{name}' as other (type duckdb, read_only)")


def bring_rows(con: duckdb.DuckDBPyConnection, run_ids: list[str], *, later: list[str]) -> None:
    """Add what `other` has of these runs, and follow it where its end is the later one.

    SQL, not records: those take 3 ms a row, and a store has hundreds of rows a run.
    """
    con.execute(
        f"""
        insert into run_rows by name
        select * exclude (run_key) from other.run_rows as theirs
        where {CHOSEN} and run_id not in (select run_id from run_rows)
        order by theirs.run_key
        """,
        [run_ids],
    )
    con.execute(
        f"update run_rows set note = theirs.note from other.run_rows as theirs "
        f"where run_rows.run_id = theirs.run_id and run_rows.note is null and theirs.{CHOSEN}",
        [run_ids],
    )
    stays = {"run_key", "run_id", *WORDS}
    follows = [name for name, *_ in con.execute("from run_rows limit 0").description if name not in stays]
    con.execute(
        f"update run_rows set {', '.join(f'{name} = theirs.{name}' for name in follows)} "
        f"from other.run_rows as theirs where run_rows.run_id = theirs.run_id and theirs.{CHOSEN}",
        [later],
    )
    keys = """
        select ours.run_key, theirs.run_key as their_key
        from run_rows as ours join other.run_rows as theirs using (run_id)
    """
    # What this store took for the end of a killed run, and the other knows more of.
    con.execute(
        f"""
        delete from phase_rows
        where name = 'lost' and (run_key, segment, seq) in (
            select keys.run_key, segment, seq
            from other.phase_rows as theirs
            join ({keys} where {CHOSEN}) as keys on theirs.run_key = keys.their_key
            where theirs.name <> 'lost'
        )
        """,
        [run_ids],
    )
    # A trial is told again when it has ended, and a model when it is measured again: who ended later knows more.
    for table in ("study_rows", "trial_rows", "served_rows"):
        con.execute(f"delete from {table} where run_key in (select run_key from run_rows where {CHOSEN})", [later])
    for table, computed, chosen, or_else in (
        ("resume_rows", "", run_ids, "on conflict do nothing"),
        ("phase_rows", ", joules, source", run_ids, "on conflict do nothing"),
        ("epoch_rows", "", run_ids, "on conflict do nothing"),
        ("metric_rows", "", run_ids, "on conflict do nothing"),
        ("study_rows", "", run_ids, "on conflict do nothing"),
        ("trial_rows", "", run_ids, "on conflict do nothing"),
        ("served_rows", "", run_ids, "on conflict do nothing"),
        ("inference_rows", "", run_ids, "on conflict do nothing"),
        ("decision_rows", "", run_ids, "on conflict do nothing"),
        ("artifact_rows", "", later, "on conflict do update set path = excluded.path, num_bytes = excluded.num_bytes"),
        ("artifact_rows", "", run_ids, "on conflict do nothing"),
    ):
        con.execute(
            f"""
            insert into {table} by name
            select keys.run_key, theirs.* exclude (run_key{computed})
            from other.{table} as theirs
            join ({keys} where {CHOSEN}) as keys on theirs.run_key = keys.their_key
            {or_else}
            """,
            [chosen],
        )
    con.execute(
        f"""
        insert or replace into totals by name
        from phase_totals where run_key in (select run_key from run_rows where {CHOSEN})
        """,
        [run_ids],
    )


def bring_verdicts(con: duckdb.DuckDBPyConnection, run_ids: list[str] | None) -> None:
    """Add what policies have said over there of all runs, or these; also of runs that were refused, which are none."""
    con.execute(
        f"insert into verdict_rows by name from other.verdict_rows where ?::text[] is null or {CHOSEN} "
        "on conflict do nothing",
        [run_ids, run_ids],
    )


def bring_history(con: duckdb.DuckDBPyConnection) -> None:
    """Add what `other` was told of intensities, as if it were told here: it is of no run."""
    for series, fetched_at in history.all_of(con, "other.grid_history"):
        history.remember(con, series, fetched_at)


def files_in(folder: Path) -> list[Path]:
    """What a run left, without its lock and without what a killed process was still copying."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.name != "lock" and path.suffix != ".partial"
    ]


def copy_whole(source: Path, place: Path) -> None:
    """A copy, whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with whole(place) as partial:
        shutil.copyfile(source, partial)
