"""Runs out of the store into files that other programs read."""

from __future__ import annotations

import csv
import json
from itertools import chain
from typing import TYPE_CHECKING, Any

from greenml.errors import UsageError
from greenml.files import whole
from greenml.records import to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import polars as pl

    from greenml.records import Stored
    from greenml.store import Merged, Store


def write_csv(
    path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = (), *, shared: bool = False
) -> None:
    """Rows of one view, its columns as the header; unknown is an empty field, a list its parts with spaces between.

    `columns` are the header where there may be no row to take it from. A `shared` file may have several writers.
    """
    remaining = iter(rows)
    first = next(remaining, None)
    with whole(path, shared=shared) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns or list(first or ()))
        writer.writeheader()
        if first is not None:
            writer.writerows({name: joined(value) for name, value in row.items()} for row in chain([first], remaining))


def joined(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list) else value


def write_parquet(path: Path, parts: Iterable[Sequence[Mapping[str, Any]]], types: Mapping[str, str]) -> None:
    """The rows of a view, some at a time; `types` are its columns, and what DuckDB calls their types. Times are UTC."""
    import polars as pl

    schema = {name: _polars_type(kind) for name, kind in types.items()}
    frame = pl.concat([pl.DataFrame(schema=schema), *(pl.DataFrame(part, schema=schema) for part in parts)])
    with whole(path) as partial:
        frame.with_columns(pl.col(pl.Datetime).dt.replace_time_zone("UTC")).write_parquet(partial)


def _polars_type(kind: str) -> pl.DataType:
    """What DuckDB calls a type -> what polars does; what neither has in common is kept as text."""
    import polars as pl

    if kind.endswith("[]"):
        return pl.List(_polars_type(kind.removesuffix("[]")))
    types = {
        "BOOLEAN": pl.Boolean(),
        "INTEGER": pl.Int32(),
        "BIGINT": pl.Int64(),
        "DOUBLE": pl.Float64(),
        "TIMESTAMP": pl.Datetime("us"),
    }
    return types.get(kind, pl.String())


def write_json(path: Path, content: object) -> None:
    """Plain values (see `console.plain`); unknown is null."""
    with whole(path) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def write_jsonl(path: Path, records: Iterable[Stored]) -> None:
    """One record a line, as `records.from_json` reads it: nothing is lost but the files of the runs."""
    with whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(to_json(record) + "\n" for record in records)


def write_store(path: Path, db: Store, run_ids: Sequence[str]) -> Merged:
    """A store with only these runs, and their files beside it. Raises UsageError where the files are the same ones."""
    from greenml.store import Store

    if path.parent.resolve() == db.path.parent.resolve():
        hint = "name a file in another folder"
        raise UsageError(f"{path} lies beside {db.path}, and would share its runs/", hint=hint)
    with whole(path) as partial:
        try:
            return Store(partial).merge(db, run_ids)
        finally:
            partial.with_name(f"{partial.name}.lock").unlink(missing_ok=True)
