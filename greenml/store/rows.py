"""Records into rows, and rows into plain Python."""

from __future__ import annotations

import dataclasses
import json
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import duckdb

from greenml.errors import StoreError
from greenml.records import (
    Artifact,
    Decision,
    Epoch,
    Inference,
    Intensity,
    Judgement,
    Metric,
    Phase,
    Resume,
    Run,
    RunEnd,
    Served,
    Source,
    Study,
    Trial,
    from_json,
    sources,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from greenml.records import Stored

TABLES = {
    Run: "run_rows",
    Resume: "resume_rows",
    Phase: "phase_rows",
    Epoch: "epoch_rows",
    Metric: "metric_rows",
    Artifact: "artifact_rows",
    Study: "study_rows",
    Trial: "trial_rows",
    Served: "served_rows",
    Inference: "inference_rows",
    Decision: "decision_rows",
    Judgement: "verdict_rows",
}
LEARNT = ("device", "precision", "stem", "num_parameters", "flops_per_sample")
"""What an end of a run says only where the run could not."""
TOLD_AGAIN = (Study, Trial)
"""What is told more than once: the last word counts."""
OF_A_RUN = (
    "resume_rows", "phase_rows", "epoch_rows", "metric_rows", "artifact_rows", "study_rows", "trial_rows",
    "served_rows", "inference_rows", "decision_rows", "totals",
)  # fmt: skip
INTENSITY_COLUMNS = {
    "g_per_kwh": "intensity_g_per_kwh",
    "level": "intensity_level",
    "year": "intensity_year",
    "source": "intensity_source",
    "note": "intensity_note",
}
CHOSEN = "run_id in (select unnest(?))"


class UnknownRunError(StoreError):
    """Rows of a run that the store has never heard of."""


UNREADABLE = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    UnknownRunError,
    duckdb.DataError,
    duckdb.IntegrityError,
)
"""What a line that `to_json` did not write may raise on its way into the store."""


@contextmanager
def transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    con.begin()
    try:
        yield
    except BaseException:
        with suppress(duckdb.Error):  # a failed commit has rolled back already
            con.rollback()
        raise
    con.commit()


def insert(con: duckdb.DuckDBPyConnection, rows: Sequence[Stored]) -> None:
    """Add the rows that are not there yet; an end of a run may be told again."""
    keys: dict[str, int] = {}
    metered = set()
    for row in rows:
        values = columns(row)
        run_id = values["run_id"]
        if not isinstance(row, Run | Judgement):
            if run_id not in keys:
                found = con.execute("select run_key from run_rows where run_id = ?", [run_id]).fetchone()
                if found is None:
                    raise UnknownRunError(f"the store has no run {run_id}", hint="was it moved or replaced meanwhile?")
                keys[run_id] = found[0]
            values = {"run_key": keys[run_id], **values}
            del values["run_id"]
        if isinstance(row, RunEnd):
            key = values.pop("run_key")
            assignments = ", ".join(f"{name} = ?" for name in values)
            con.execute(f"update run_rows set {assignments} where run_key = ?", [*values.values(), key])
        else:
            marks = ", ".join("?" * len(values))
            into = f"{TABLES[type(row)]} ({', '.join(values)}) values ({marks})"
            or_replace = "or replace " if isinstance(row, TOLD_AGAIN) else ""
            otherwise = "" if or_replace else " on conflict do nothing"
            con.execute(f"insert {or_replace}into {into}{otherwise}", list(values.values()))
        if isinstance(row, Phase):
            metered.add(run_id)
        if isinstance(row, Resume):
            con.execute(
                """
                update run_rows
                set status = 'running', stop_reason = null, ended_at = null,
                    test_accuracy = null, test_loss = null, test_correct = null, test_count = null,
                    epochs_asked = ?, group_hash = ?, config = ?
                where run_key = ?
                """,
                [row.epochs_asked, row.group_hash, json.dumps(row.config), keys[run_id]],
            )
        if isinstance(row, Decision) and row.status:
            con.execute("update run_rows set status = ? where run_key = ?", [row.status, keys[run_id]])
    for run_id in metered:
        total(con, run_id)


def replace(con: duckdb.DuckDBPyConnection, rows: Sequence[Stored]) -> None:
    """Runs with all that hangs on them, in place of what was stored of them before; their notes stay."""
    for run in (row for row in rows if isinstance(row, Run)):
        values = columns(run)
        found = con.execute("select run_key from run_rows where run_id = ?", [run.run_id]).fetchone()
        if found:
            del values["note"]
            assignments = ", ".join(f"{name} = ?" for name in values)
            con.execute(f"update run_rows set {assignments} where run_key = ?", [*values.values(), *found])
            for table in OF_A_RUN:
                con.execute(f"delete from {table} where run_key = ?", found)
        else:
            marks = ", ".join("?" * len(values))
            con.execute(f"insert into run_rows ({', '.join(values)}) values ({marks})", list(values.values()))
    insert(con, [row for row in rows if isinstance(row, Resume | RunEnd | Judgement)])
    for kind in (Phase, Epoch, Metric, Artifact, Study, Trial, Served, Inference, Decision):
        insert_many(con, TABLES[kind], [columns(row) for row in rows if isinstance(row, kind)])
    for run_id in {row.run_id for row in rows if isinstance(row, Phase)}:
        total(con, run_id)


def insert_many(con: duckdb.DuckDBPyConnection, table: str, rows: Sequence[dict[str, Any]]) -> None:
    """Rows of one table, a column at a time: a thousandth of the time that one statement a row takes."""
    if not rows:
        return
    kinds = {name: kind for name, kind, *_ in con.execute(f"from {table} limit 0").description}
    names = [name for name in rows[0] if name != "run_id"]
    unnested = ", ".join(
        "unnest($1::text[]) as run_id" if name == "run_id" else f"unnest(${i}::{kinds[name]}[]) as {name}"
        for i, name in enumerate(rows[0], start=1)
    )
    con.execute(
        f"""
        insert into {table} (run_key, {", ".join(names)})
        select run_key, {", ".join("told." + name for name in names)}
        from (select {unnested}) as told
        join run_rows using (run_id)
        """,
        [[row[name] for row in rows] for name in rows[0]],
    )


def stored(con: duckdb.DuckDBPyConnection, run_ids: Sequence[str]) -> Iterator[Stored]:
    """Every record of these runs, in an order in which they can be written again; None is what an older store lacks."""
    for run in select(con, f"from run_rows where {CHOSEN} order by run_key", [list(run_ids)]):
        parts = {name: run[INTENSITY_COLUMNS.get(name, name)] for name in Intensity.__dataclass_fields__}
        yield record(Run, run | {"intensity": Intensity(**parts)})
        for kind, order in (
            (Resume, "segment"),
            (Phase, "segment, seq"),
            (Epoch, "segment, epoch"),
            (Metric, "segment, seq"),
            (Artifact, "name"),
            (Study, "run_key"),
            (Trial, "number"),
            (Served, "name"),
            (Inference, "segment, seq"),
            (Decision, "segment, seq"),
        ):
            rows = select(con, f"from {TABLES[kind]} where run_key = ? order by {order}", [run["run_key"]])
            # The status that a decision brought is the run's.
            yield from (record(kind, row | {"run_id": run["run_id"], "status": None}) for row in rows)
        verdicts = f"from {TABLES[Judgement]} where run_id = ? order by decided_at, outcome, rule"
        yield from (record(Judgement, row) for row in select(con, verdicts, [run["run_id"]]))
        if run["ended_at"]:
            yield record(RunEnd, run | dict.fromkeys(LEARNT))  # the run says it


def record(kind: Any, row: dict[str, Any]) -> Any:
    """Columns -> the record that they are of."""
    values = {field.name: row[field.name] for field in dataclasses.fields(kind)}
    for name in sources(kind):
        values[name] = None if values[name] is None else Source(values[name])
    return kind(**values)


def restore(con: duckdb.DuckDBPyConnection, lines: list[bytes]) -> None:
    """Store lines of the spool, all or none."""
    with transaction(con):
        insert(con, [from_json(line.decode()) for line in lines])


def restored(con: duckdb.DuckDBPyConnection, line: bytes) -> bool:
    try:
        restore(con, [line])
    except UNREADABLE:
        return False
    return True


def total(con: duckdb.DuckDBPyConnection, run_id: str) -> None:
    """Renew what is kept of a run's phases."""
    con.execute(
        """
        insert or replace into totals by name
        from phase_totals where run_key = (select run_key from run_rows where run_id = ?)
        """,
        [run_id],
    )


def columns(row: Stored) -> dict[str, Any]:
    """A record -> its columns, as DuckDB takes them."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if isinstance(value, Intensity):
            for name, part in dataclasses.asdict(value).items():
                values[INTENSITY_COLUMNS.get(name, name)] = part
        else:
            values[field.name] = json.dumps(value) if isinstance(value, dict) else value
    if isinstance(row, Decision):  # the run keeps it
        del values["status"]
    if isinstance(row, RunEnd):  # the run has said it
        values = {name: value for name, value in values.items() if value is not None or name not in LEARNT}
    return values


def intensity_of(run: Mapping[str, Any]) -> Intensity:
    """The columns of a run -> the Intensity that it was stored with."""
    names = [field.name for field in dataclasses.fields(Intensity)]
    return Intensity(**{name: run[INTENSITY_COLUMNS.get(name, name)] for name in names})


def select(con: duckdb.DuckDBPyConnection, sql: str, params: Sequence[object]) -> list[dict[str, Any]]:
    """Rows as dictionaries; JSON columns as what they hold."""
    result = con.execute(sql, list(params))
    names = [name for name, *_ in result.description]
    holds_json = {name for name, kind, *_ in result.description if str(kind) == "JSON"}
    rows = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    for row in rows if holds_json else ():
        row.update({name: json.loads(row[name]) for name in holds_json if row[name] is not None})
    return rows


def bury(con: duckdb.DuckDBPyConnection, run_id: str) -> None:
    """Store that a run has crashed, and that nobody read what it used since its last phase."""
    con.execute(
        """
        insert into phase_rows by name
        with run as (
            from run_rows where run_id = $1
        ),
        own as (
            from phase_rows where run_key = (select run_key from run)
        ),
        -- A life that was killed before its first phase was stored has lost all that it used.
        unread as (
            from resume_rows
            where run_key = (select run_key from run)
                and segment > coalesce((select max(segment) from own), 0)
            order by segment desc
            limit 1
        )
        select
            run.run_key,
            coalesce(any_value(unread.segment), max(own.segment), 0) as segment,
            if(any_value(unread.segment) is null, coalesce(max_by(own.seq, (own.segment, own.seq)) + 1, 0), 0) as seq,
            'lost' as name,
            coalesce(any_value(unread.epoch), max_by(own.epoch, (own.segment, own.seq))) as epoch,
            any_value(run.device) as device,
            coalesce(any_value(unread.started_at), max(own.ended_at), any_value(run.started_at)) as started_at,
            coalesce(any_value(unread.started_at), max(own.ended_at), any_value(run.started_at)) as ended_at,
            if(max(cpu_source) = 'absent', 0, null) as cpu_j,
            if(max(gpu_source) = 'absent', 0, null) as gpu_j,
            if(max(ram_source) = 'absent', 0, null) as ram_j,
            if(max(cpu_source) = 'absent', 'absent', 'unknown') as cpu_source,
            if(max(gpu_source) = 'absent', 'absent', 'unknown') as gpu_source,
            if(max(ram_source) = 'absent', 'absent', 'unknown') as ram_source,
            'killed: nothing was read after this moment' as method,
            0 as overlap_s
        from run left join own on true left join unread on true
        group by run.run_key
        """,
        [run_id],
    )
    con.execute(
        """
        update run_rows
        set status = 'crashed', stop_reason = 'crashed', ended_at = coalesce(
            (select max(lived.ended_at) from phase_rows as lived where lived.run_key = run_rows.run_key),
            started_at
        )
        where run_id = ?
        """,
        [run_id],
    )
    total(con, run_id)
