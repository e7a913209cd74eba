"""Whether a store can be read and written now, and what waits or died in it. Changes nothing."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from greenml.errors import StoreError
from greenml.store import schema

if TYPE_CHECKING:
    from pathlib import Path

    from greenml.store.store import Store

PATIENCE_S = 1.0
"""A training holds the file for some hundredths of a second: who holds it for longer is somebody else."""

PROBE_BYTES = 1 << 16


@dataclass(slots=True, kw_only=True)
class Health:
    """What was found; None where it could not be looked at."""

    path: Path
    exists: bool
    schema_version: int | None = None
    num_runs: int | None = None
    """None in a store of an older greenml, too, which the next command brings up to date."""
    num_removed: int | None = None
    alive: list[str] | None = None
    """Runs that some process trains right now."""
    crashed: list[str] | None = None
    """Runs whose process died, whether that has been stored yet or not."""
    num_spooled: int | None = None
    """Rows that wait beside the store."""
    is_writable: bool = False
    trouble: StoreError | None = None
    """Why it cannot be read or written."""


def examine(store: Store) -> Health:
    """Look at a store, and try a transaction on it that is taken back. Raises nothing."""
    health = Health(path=store.path, exists=False)
    try:
        with store._errors():
            health.exists = store.path.exists()
        store._refuse_folder()
        if health.exists:
            _read(store, health)
        _probe_disk(store.path)
        if health.exists:
            _probe_file(store)
        health.is_writable = True
    except StoreError as error:
        health.trouble = error
    except duckdb.ProgrammingError:  # tables that are not ours, or that somebody changed
        health.trouble = schema.foreign(store.path)
    return health


def _read(store: Store, health: Health) -> None:
    with store._errors(), store._open(store.path, read_only=True, timeout_s=PATIENCE_S) as con:
        done = schema.applied(con, store.path)
        if not done:
            raise schema.foreign(store.path)
        health.schema_version = max(done)
        schema.refuse_newer(done, store.path)
        if health.schema_version < max(schema.migrations()):
            return  # other tables: the next reader brings them up to date
        counted = con.execute("select count(*) filter (removed_at is null), count(removed_at) from run_rows").fetchone()
        crashed = con.execute("select run_id from run_rows where status = 'crashed' and removed_at is null").fetchall()
        dead = store._dead(con)
    health.num_runs, health.num_removed = counted or (0, 0)
    health.crashed = sorted({*dead, *(run_id for (run_id,) in crashed)})
    with store._errors():
        health.alive = store.living(store.folders())
        health.num_spooled = store.spooled()


def _probe_disk(path: Path) -> None:
    """Write beside the store, or where its folder would be made, a file that is gone at once."""
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        if not folder.is_dir():
            raise NotADirectoryError(0, "is not a folder")
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror}", hint="choose another --store") from error


def _probe_file(store: Store) -> None:
    """A transaction as every write makes one, taken back."""
    from filelock import FileLock

    if not os.access(store.path, os.W_OK):
        raise StoreError(f"{store.path} cannot be written", hint="choose another --store, or ask for write access")
    with (
        store._errors(),
        FileLock(store._beside("lock"), timeout=PATIENCE_S),
        store._open(store.path, read_only=False, timeout_s=PATIENCE_S) as con,
    ):
        con.begin()
        con.execute("create table probe as select 1 as one")
        con.rollback()
