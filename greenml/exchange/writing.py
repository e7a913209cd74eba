"""Runs out of the store into files that other programs read."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

from greenml.errors import UsageError
from greenml.files import whole
from greenml.records import to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from greenml.records import Stored
    from greenml.store import Merged, Store


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of one view, its columns as the header; unknown is an empty field, a list its parts with spaces between."""
    with whole(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows({name: joined(value) for name, value in row.items()} for row in rows)


def joined(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list) else value


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
