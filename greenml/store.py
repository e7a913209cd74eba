"""The only door to DuckDB: one short transaction at a time, so that trainings write and boards read one file.

Writers take turns on a lock file beside the store; readers open it read-only and wait for their turn. What cannot be
written in time goes to a spool beside the store, which the next writer, of whatever process, drains first.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import re
import shutil
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from greenml import __version__
from greenml.errors import StoreError, UsageError, nearest
from greenml.records import Artifact, Epoch, Intensity, Phase, Resume, Run, RunEnd, from_json, to_json
from greenml.resources import shipped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from greenml.records import Stored

log = logging.getLogger(__name__)

DEFAULT_PATH = Path("store/greenml.duckdb")
POLL_S = 0.005
BUSY = re.compile("Could not set lock|being used by another process")
TABLES = {Run: "run_rows", Resume: "resume_rows", Phase: "phase_rows", Epoch: "epoch_rows", Artifact: "artifact_rows"}
INTENSITY_COLUMNS = {
    "g_per_kwh": "intensity_g_per_kwh",
    "level": "intensity_level",
    "year": "intensity_year",
    "source": "intensity_source",
    "note": "intensity_note",
}


def resolve_path(flag: Path | None) -> Path:
    """The store that was asked for: by flag, by GREENML_STORE, or else the default in this folder."""
    return flag or Path(os.environ.get("GREENML_STORE") or DEFAULT_PATH)


class Store:
    """One DuckDB file and what lies beside it: `runs/RUN/`, the writers' lock, the spool."""

    def __init__(self, path: Path, *, timeout_s: float = 10.0) -> None:
        self.path = path
        self.timeout_s = timeout_s
        self._patience_s = timeout_s
        self._ready = False
        self._held: list[Stored] = []

    # Writing

    def check(self) -> None:
        """Make the store if it is absent, bring it up to date, or raise StoreError: now, before the first batch."""
        folder = self.path.parent
        self._refuse_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder} cannot be made: {error.strerror}", hint="choose another --store") from error
        # DuckDB opens a writable file in a read-only folder, and fails at commit.
        if not all(os.access(path, os.W_OK) for path in (folder, self.path) if path.exists()):
            raise StoreError(f"{self.path} cannot be written", hint="choose another --store, or ask for write access")
        self._bury(self.timeout_s)

    def write(self, records: Iterable[Stored]) -> bool:
        """Store the records, or spool them where that fails; say whether they are in the store.

        Safe to repeat: what is there already stays as it is.
        """
        rows = [*self._held, *records]
        try:
            with self._writing(self._patience_s) as con:
                insert(con, rows)
        except StoreError as error:
            # One wait is enough: a training does not stand still every epoch for as long as somebody holds the store.
            self._patience_s = min(1.0, self.timeout_s)
            log.warning("%s; %d rows wait in the spool", error, len(rows))
            self._spool(rows)
            return False
        self._held = []
        self._patience_s = self.timeout_s
        return True

    @contextmanager
    def claim(self, run_id: str) -> Iterator[Path]:
        """The run's folder, locked while the run lives: a free lock tells everyone that it does not.

        A folder in which nothing was left goes again.
        """
        from filelock import FileLock, Timeout

        folder = self._folder(run_id)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / "lock", timeout=1.0, poll_interval=POLL_S)
            lock.acquire()
        except Timeout as error:
            raise StoreError(f"run {run_id} is alive in another process", hint="wait for it, or stop it") from error
        except OSError as error:
            raise StoreError(f"{folder} cannot be written: {error.strerror}", hint="choose another --store") from error
        try:
            yield folder
        finally:
            lock.release()
            if {file.name for file in folder.iterdir()} <= {"lock"}:
                shutil.rmtree(folder, ignore_errors=True)

    # Reading

    def rows(self, sql: str, params: Sequence[object] = ()) -> list[dict[str, Any]]:
        """What a query answers, as plain Python; nothing where there is no store yet. Also reads read-only stores."""
        if not self.path.exists():
            return []
        self._refuse_folder()
        with self._errors():
            with self._reading() as con:
                if not self._dead(con):
                    return select(con, sql, params)
            with suppress(StoreError):
                self._bury(1.0)
            with self._reading() as con:
                self._show_as_crashed(con, self._dead(con))
                return select(con, sql, params)

    def run_id(self, prefix: str) -> str:
        """The one run whose id starts with `prefix`."""
        known: list[str] = [
            row["run_id"] for row in self.rows("select run_id from runs order by started_at desc, run_id")
        ]
        found = [run_id for run_id in known if run_id.startswith(prefix)]
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
            raise UsageError(f"{len(found)} runs start with `{prefix}`: {some}", hint="give more digits")
        otherwise = "`greenml runs list` shows the runs" if known else f"{self.path} has no runs yet"
        raise UsageError(f"no run starts with `{prefix}`", hint=nearest(prefix, known, otherwise=otherwise))

    def spooled(self) -> int:
        """How many rows wait to be stored."""
        waiting = [
            path.read_bytes().count(b"\n") for path in [self._beside("spool"), *self._draining()] if path.exists()
        ]
        return len(self._held) + sum(waiting)

    # Connections

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{suffix}")

    def _refuse_folder(self) -> None:
        if self.path.is_dir():
            raise StoreError(f"{self.path} is a folder", hint=f"name a file: --store {self.path / 'greenml.duckdb'}")

    def _folder(self, run_id: str) -> Path:
        return self.path.parent / "runs" / run_id

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What DuckDB, the disk and the lock say -> StoreError. Our own mistakes in SQL or values stay as they are."""
        try:
            yield
        except (duckdb.ProgrammingError, duckdb.IntegrityError, duckdb.DataError):
            raise
        except duckdb.Error as error:
            text = str(error).partition("\n")[0].partition(". See also")[0].removeprefix("IO Error: ")
            if BUSY.search(text):
                holder = text.partition("held in ")[2]
                by = f"by {holder}" if holder else "by another program"
                raise StoreError(f"{self.path} is in use {by}", hint="close that program, or try again") from error
            if "not a valid DuckDB database" in text:
                raise StoreError(f"{self.path} is not a DuckDB database", hint="choose another --store") from error
            hint = "free some space, restore the file from a copy, or start a new one with --store"
            raise StoreError(f"{self.path}: {text}", hint=hint) from error
        except OSError as error:
            reason = error.strerror or "its lock is held by another writer"
            raise StoreError(f"{self.path} cannot be written: {reason}", hint="choose another --store") from error

    @contextmanager
    def _open(self, path: Path, *, read_only: bool, timeout_s: float) -> Iterator[duckdb.DuckDBPyConnection]:
        # Without the prefix DuckDB 2.0 reads the headers before it takes the file's lock, and commits get lost
        # (tests/test_store.py: several processes write).
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                con = duckdb.connect(f"duckdb:{path}", read_only=read_only)
                break
            except duckdb.IOException as error:
                if not BUSY.search(str(error)) or time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)
        try:
            yield con
        finally:
            con.close()

    @contextmanager
    def _writing(self, timeout_s: float) -> Iterator[duckdb.DuckDBPyConnection]:
        """A transaction on a store that is up to date and has drained its spool."""
        from filelock import FileLock

        with self._errors(), FileLock(self._beside("lock"), timeout=timeout_s, poll_interval=POLL_S):
            if not self.path.exists() or not self.path.stat().st_size:
                self._create()
            with self._open(self.path, read_only=False, timeout_s=timeout_s) as con:
                if not self._ready:
                    with transaction(con):
                        self._upgrade(con)
                    self._ready = True
                self._drain(con)
                with transaction(con):
                    yield con

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection that sees this version's views."""
        with self._open(self.path, read_only=True, timeout_s=self.timeout_s) as con:
            try:
                stored = con.execute("select hash from schema_views").fetchone()
            except duckdb.CatalogException as error:
                raise self._foreign() from error
            views = view_files()
            if stored != (digest(views),):
                con.execute("".join(views).replace("create or replace ", "create or replace temp "))
            yield con

    def _foreign(self) -> StoreError:
        return StoreError(f"{self.path} is a DuckDB database that greenml did not make", hint="choose another --store")

    def _create(self) -> None:
        """A new store appears under its name complete, or not at all."""
        unborn = self._beside("new")
        unborn.unlink(missing_ok=True)
        self._beside("new.wal").unlink(missing_ok=True)
        with self._open(unborn, read_only=False, timeout_s=0) as con, transaction(con):
            self._upgrade(con)
        unborn.replace(self.path)

    def _upgrade(self, con: duckdb.DuckDBPyConnection) -> None:
        """Apply the migrations and views that this version brings and the file lacks."""
        tables = {name for (name,) in con.execute("select table_name from duckdb_tables()").fetchall()}
        if tables and "schema_migrations" not in tables:
            raise self._foreign()
        done = {row[0] for row in con.execute("select version from schema_migrations").fetchall()} if tables else set()
        migrations = {int(path.name[:4]): path for path in sorted((shipped("sql") / "schema").glob("*.sql"))}
        if unknown := done - set(migrations):
            raise StoreError(
                f"{self.path} was written by a newer greenml (schema {max(unknown)}; this is {__version__})",
                hint="upgrade: pip install --upgrade greenml",
            )
        for version, path in migrations.items():
            if version not in done:
                con.execute(path.read_text(encoding="utf-8"))
                row = [version, path.name, __version__, utc_now()]
                con.execute("insert into schema_migrations values (?, ?, ?, ?)", row)
        views = view_files()
        stored = con.execute("select hash, greenml_version from schema_views").fetchone()
        if stored is None or (stored[0] != digest(views) and numbers(stored[1]) <= numbers(__version__)):
            con.execute("".join(views))
            con.execute("delete from schema_views")
            con.execute("insert into schema_views values (?, ?)", [digest(views), __version__])

    # The spool: rows that could not be stored in time, one JSON line each

    def _spool(self, rows: list[Stored]) -> None:
        """Append and fsync; where not even that works, hold the rows in memory for the next write."""
        try:
            with self._spool_lock(), self._beside("spool").open("ab+") as file:
                cut_torn_line(file)
                file.write("".join(to_json(row) + "\n" for row in rows).encode())
                file.flush()
                os.fsync(file.fileno())
            self._held = []
        except OSError as error:
            log.warning("%s cannot be written: %s; %d rows wait in memory", self._beside("spool"), error, len(rows))
            self._held = rows

    def _spool_lock(self) -> Any:
        from filelock import FileLock

        return FileLock(self._beside("spool.lock"), timeout=10.0, poll_interval=POLL_S)

    def _draining(self) -> list[Path]:
        """Parts of the spool that a writer has taken, oldest first; those of one that was killed or hindered stay."""
        return sorted(self.path.parent.glob(f"{self.path.name}.spool.*.draining"))

    def _drain(self, con: duckdb.DuckDBPyConnection) -> None:
        """Store what waits, under the writers' lock, oldest first; at worst it is stored twice."""
        self._drain_parts(con)
        if self._beside("spool").exists():
            with self._spool_lock(), suppress(FileNotFoundError):
                self._beside("spool").replace(self._beside(f"spool.{time.time_ns():020}.draining"))
            self._drain_parts(con)

    def _drain_parts(self, con: duckdb.DuckDBPyConnection) -> None:
        for part in self._draining():
            lines = part.read_bytes().splitlines(keepends=True)
            if lines and not lines[-1].endswith(b"\n"):
                lines.pop()  # never acknowledged
            try:
                restore(con, lines)
            except UNREADABLE:
                self._set_aside(part.with_suffix(".broken"), [line for line in lines if not restored(con, line)])
            part.unlink()

    def _set_aside(self, path: Path, lines: list[bytes]) -> None:
        with path.open("wb") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        log.warning("%d spooled rows cannot be read, and are kept in %s", len(lines), path)

    # Runs that died without a word

    def _dead(self, con: duckdb.DuckDBPyConnection) -> list[str]:
        """Runs that should be alive, and whose lock is free."""
        alive = con.execute(
            "select run_id from run_rows where status in ('running', 'waiting') order by run_key"
        ).fetchall()
        return [run_id for (run_id,) in alive if not self._lives(run_id)]

    def _lives(self, run_id: str) -> bool:
        from filelock import FileLock, Timeout

        lock = self._folder(run_id) / "lock"
        if not lock.exists():
            return False
        try:
            with FileLock(lock, blocking=False):
                return False
        except (Timeout, OSError):
            return True  # held; or on a disk where nobody can tell, and nothing is claimed

    def _bury(self, timeout_s: float) -> None:
        """Store that dead runs have crashed, and that they used energy nobody read since their last phase."""
        with self._writing(timeout_s) as con:
            for run_id in self._dead(con):
                con.execute(
                    """
                    insert into phase_rows by name
                    with own as (
                        from phase_rows where run_key = (select run_key from run_rows where run_id = $1)
                    ),
                    -- A life that was killed before its first phase was stored has lost all that it used.
                    unread as (
                        from resume_rows
                        where run_key = (select run_key from run_rows where run_id = $1)
                            and segment > (select max(segment) from own)
                        order by segment desc
                        limit 1
                    )
                    select
                        own.run_key,
                        coalesce(any_value(unread.segment), max(own.segment)) as segment,
                        if(any_value(unread.segment) is null, max_by(seq, (own.segment, seq)) + 1, 0) as seq,
                        'lost' as name,
                        coalesce(any_value(unread.epoch), max_by(own.epoch, (own.segment, seq))) as epoch,
                        any_value(device) as device,
                        coalesce(any_value(unread.started_at), max(ended_at)) as started_at,
                        coalesce(any_value(unread.started_at), max(ended_at)) as ended_at,
                        if(max(cpu_source) = 'absent', 0, null) as cpu_j,
                        if(max(gpu_source) = 'absent', 0, null) as gpu_j,
                        if(max(ram_source) = 'absent', 0, null) as ram_j,
                        if(max(cpu_source) = 'absent', 'absent', 'unknown') as cpu_source,
                        if(max(gpu_source) = 'absent', 'absent', 'unknown') as gpu_source,
                        if(max(ram_source) = 'absent', 'absent', 'unknown') as ram_source,
                        'killed: nothing was read after this moment' as method,
                        0 as overlap_s
                    from own left join unread on true
                    group by own.run_key
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

    def _show_as_crashed(self, con: duckdb.DuckDBPyConnection, dead: list[str]) -> None:
        """The same for the eyes of one reader who cannot write. Rows that still wait may tell another story."""
        if dead and not self.spooled():
            names = ", ".join(f"'{run_id}'" for run_id in dead)
            [(catalog,)] = con.execute("select current_database()").fetchall()
            con.execute(
                f"""
                create temp view runs as
                select * replace (if(run_id in ({names}), 'crashed', status) as status)
                from {quoted(catalog)}.main.runs
                """
            )


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
        if not isinstance(row, Run):
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
            into = f"{TABLES[type(row)]} ({', '.join(values)})"
            con.execute(f"insert into {into} values ({marks}) on conflict do nothing", list(values.values()))
        if isinstance(row, Phase):
            metered.add(run_id)
        if isinstance(row, Resume):
            con.execute(
                """
                update run_rows
                set status = 'running', stop_reason = null, epochs_asked = ?, group_hash = ?, config = ?
                where run_key = ?
                """,
                [row.epochs_asked, row.group_hash, json.dumps(row.config), keys[run_id]],
            )
    for run_id in metered:
        total(con, run_id)


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
    return values


def select(con: duckdb.DuckDBPyConnection, sql: str, params: Sequence[object]) -> list[dict[str, Any]]:
    """Rows as dictionaries; JSON columns as what they hold."""
    result = con.execute(sql, list(params))
    names = [name for name, *_ in result.description]
    holds_json = {name for name, kind, *_ in result.description if str(kind) == "JSON"}
    rows = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    for row in rows if holds_json else ():
        row.update({name: json.loads(row[name]) for name in holds_json if row[name] is not None})
    return rows


def cut_torn_line(file: Any) -> None:
    """Forget the line that a killed process left half written: nobody was told that it is safe."""
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)


def view_files() -> list[str]:
    """The views, in the order in which they build on each other."""
    return [path.read_text(encoding="utf-8") for path in sorted((shipped("sql") / "views").glob("*.sql"))]


def digest(texts: list[str]) -> str:
    return hashlib.sha256("".join(texts).encode()).hexdigest()


def numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def utc_now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
