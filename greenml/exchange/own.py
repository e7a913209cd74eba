"""What greenml itself has exported, back into a store: nothing doubled, as with `greenml runs merge`."""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from greenml.errors import DataError
from greenml.exchange.survey import STORE
from greenml.records import Artifact, Run, RunEnd, from_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from greenml.records import Stored
    from greenml.store import Store


@contextmanager
def opened(path: Path, export: str) -> Iterator[tuple[Store, list[str]]]:
    """An export as a store to read from, and which runs it lacks, as they had not ended. Raises DataError, StoreError.

    A store is read where it lies, and stays as it is; only what needs other tables first is copied for a while.
    """
    from greenml.store import Store

    source = Store(path, read_only=True)
    if export == STORE and is_up_to_date(source):
        yield source, []
        return
    with tempfile.TemporaryDirectory(prefix="greenml-") as folder:
        place = Store(Path(folder) / "staged.duckdb")
        unended: list[str] = []
        if export == STORE:
            place.merge(source)
        else:
            place.replace(list(ended(read_records(path), unended)))
        yield place, unended


def is_up_to_date(store: Store) -> bool:
    from greenml.store import OlderSchemaError

    try:
        store.rows("select run_id from runs limit 0")
    except OlderSchemaError:
        return False
    return True


def ended(records: list[Stored], unended: list[str]) -> Iterator[Stored]:
    """Without runs that were alive when they were exported (named in `unended`), and files that did not come along."""
    over = {record.run_id for record in records if isinstance(record, RunEnd)}
    unended += [record.run_id for record in records if isinstance(record, Run) and record.run_id not in over]
    return (record for record in records if record.run_id in over and not isinstance(record, Artifact))


def read_records(path: Path) -> list[Stored]:
    """The records of a .jsonl, or of the runs in a .json. Raises DataError where one cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines() if text.startswith('{"record"') else lines_of(path, text)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="export it again") from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(from_json(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: record {number} is broken", hint="export it again") from error
    if not any(isinstance(record, Run) for record in records):
        raise DataError(f"{path} has no run", hint="export it again")
    return records


def lines_of(path: Path, text: str) -> list[str]:
    """The records that `greenml runs export -o FILE.json` puts beside what people read."""
    runs = json.loads(text)
    if not isinstance(runs, list) or not all(isinstance(run, dict) and run.get("records") for run in runs):
        hint = "export it again: a .json or .jsonl of this version has all"
        raise DataError(f"{path} is a summary: it lacks the records of its runs", hint=hint)
    return [json.dumps(record) for run in runs for record in run["records"]]
