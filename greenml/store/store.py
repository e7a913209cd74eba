"""The file and what lies beside it: one short transaction at a time, so that trainings write and boards read."""

from __future__ import annotations

import glob
import logging
import os
import re
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from greenml.errors import StoreError, UsageError, nearest
from greenml.records import to_json
from greenml.resources import shipped
from greenml.store import history, schema
from greenml.store.merging import (
    PLAN,
    Merged,
    attach,
    bring_history,
    bring_rows,
    bring_verdicts,
    copy_whole,
    files_in,
)
from greenml.store.rows import (
    CHOSEN,
    OF_A_RUN,
    UNREADABLE,
    bury,
    insert,
    replace,
    restore,
    restored,
    select,
    stored,
    transaction,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from greenml.grid.series import Factors, Kind, Series
    from greenml.records import Stored

log = logging.getLogger(__name__)

DEFAULT_PATH = Path("store/greenml.duckdb")
POLL_S = 0.005
BUSY = re.compile("Could not set lock|being used by another process")


def resolve_path(flag: Path | None) -> Path:
    """The store that was asked for: by flag, by GREENML_STORE, or else the default in this folder."""
    return flag or Path(os.environ.get("GREENML_STORE") or DEFAULT_PATH)


class Store:
    """One DuckDB file and what lies beside it: `runs/RUN/`, the writers' lock, the spool.

    With `read_only` it is somebody else's: nothing in it is changed, also not to bring it up to date.
    """

    def __init__(self, path: Path, *, timeout_s: float = 10.0, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
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
        if not self._may_write():
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

    def replace(self, records: Iterable[Stored]) -> None:
        """Store runs as they are told now, in place of what was told of them before; their notes stay.

        All of them or, with StoreError, none: nothing waits in the spool.
        """
        rows = list(records)
        with self._writing(self.timeout_s) as con:
            replace(con, rows)

    def mark(self, run_ids: Sequence[str], **words: object) -> None:
        """Change what people say about runs: `tags`, `note`, `removed_at`; a note of None is no note."""
        values = ", ".join(f"{name} = ?" for name in words)
        with self._writing(self.timeout_s) as con:
            con.execute(f"update run_rows set {values} where {CHOSEN}", [*words.values(), list(run_ids)])

    def purge(self, run_ids: Sequence[str]) -> None:
        """Remove runs for good: first their files, so that what a file hindered can be tried again, then their rows."""
        for folder in filter(Path.exists, map(self.folder, run_ids)):
            with self.claim(folder.name):
                try:
                    for file in folder.iterdir():
                        if file.is_dir() and not file.is_symlink():
                            shutil.rmtree(file)
                        elif file.name != "lock":  # ours: Windows removes no open file, and `claim` takes it along
                            file.unlink()
                except OSError as error:
                    hint = "close the program that uses it, and purge again"
                    raise StoreError(f"{error.filename} cannot be removed: {error.strerror}", hint=hint) from error
        with self._writing(self.timeout_s) as con:
            for table in OF_A_RUN:
                chosen = f"run_key in (select run_key from run_rows where {CHOSEN})"
                con.execute(f"delete from {table} where {chosen}", [list(run_ids)])
            con.execute(f"delete from run_rows where {CHOSEN}", [list(run_ids)])

    def keep_idle(
        self,
        machine: str,
        *,
        measured_at: datetime,
        seconds: float,
        watts: float | None,
        components: dict[str, object],
    ) -> None:
        """Keep what a machine drew while nothing ran, and what `components` says of its parts. Times are UTC, naive."""
        row = [machine, measured_at, seconds, watts, dumps(components)]
        with self._writing(self.timeout_s) as con:
            con.execute("insert or replace into idle_rows values (?, ?, ?, ?, ?)", row)

    def remember(self, series: Series, fetched_at: datetime) -> None:
        """Keep what a provider has told of an intensity. Raises StoreError where the store is held or full.

        What is known better stays: a forecast never replaces what was published, and of two that are known alike the
        later one counts. Times are UTC, naive.
        """
        with self._writing(self.timeout_s) as con:
            history.remember(con, series, fetched_at)

    def remembered(
        self,
        provider: str,
        zone: str | None,
        kind: Kind = "average",
        since: datetime | None = None,
        *,
        factors: Factors | None = None,
    ) -> Series:
        """What `remember` has kept from `since` on; without steps where that is nothing.

        Of one set of `factors` (lifecycle, direct, unknown), by default those that were told last: a mean over both
        would be of neither.
        """
        if not self.path.exists():
            return history.series_of([], provider, zone, kind, factors)
        rows = self.rows(history.REMEMBERED, [provider, zone or "", kind, since, factors])
        return history.series_of(rows, provider, zone, kind, factors)

    @contextmanager
    def claim(self, run_id: str) -> Iterator[Path]:
        """The run's folder, locked while the run lives: a free lock tells everyone that it does not.

        A folder in which nothing was left goes again.
        """
        from filelock import FileLock, Timeout

        folder = self.folder(run_id)
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
        try:
            return self._rows(sql, params)
        except schema.OlderSchemaError:
            if not self._may_write():
                raise
            self.check()
            return self._rows(sql, params)

    def _rows(self, sql: str, params: Sequence[object]) -> list[dict[str, Any]]:
        with self._errors():
            with self._reading() as con:
                if not self._dead(con):
                    return select(con, sql, params)
            if not self.read_only:
                with suppress(StoreError):
                    self._bury(1.0)
            with self._reading() as con:
                self._show_as_crashed(con, self._dead(con))
                return select(con, sql, params)

    def records(self, run_ids: Sequence[str]) -> list[Stored]:
        """Everything that was ever written of these runs, removed ones too, in an order for writing it again."""
        self.check()  # an older schema lacks columns
        with self._errors(), self._reading() as con:
            return list(stored(con, run_ids))

    def run_id(self, prefix: str, *, of: str = "runs") -> str:
        """The one run whose id starts with `prefix`, of those in the view or table `of`."""
        if not prefix:
            raise UsageError("no run given", hint="`greenml runs list` shows the runs")
        known: list[str] = [
            row["run_id"] for row in self.rows(f"select run_id from {of} order by started_at desc, run_id")
        ]
        found = [run_id for run_id in known if run_id.startswith(prefix)]
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
            raise UsageError(f"{len(found)} runs start with `{prefix}`: {some}", hint="give more digits")
        listing = "greenml runs list --removed" if of == "removed_runs" else "greenml runs list"
        otherwise = f"`{listing}` shows the runs" if known else f"{self.path} has no such runs yet"
        raise UsageError(f"no run starts with `{prefix}`", hint=nearest(prefix, known, otherwise=otherwise))

    def idle(self, machine: Callable[[], str]) -> dict[str, object] | None:
        """What `keep_idle` kept of a machine last, flat and ready for JSON: None where it was never measured.

        Its name is asked for only where something is kept at all: looking for GPUs may take a second.
        """
        if not self.rows("select 1 as one from idle_rows limit 1"):
            return None
        sql = "from idle_rows where machine = ? order by measured_at desc limit 1"
        for row in self.rows(sql, [machine()]):
            measured_at = f"{row['measured_at'].isoformat()}Z"
            return {"watts": row["watts"], **row["components"], "seconds": row["seconds"], "measured_at": measured_at}
        return None

    def living(self, run_ids: Iterable[str]) -> list[str]:
        """Those of the runs that some process holds right now."""
        return [run_id for run_id in run_ids if self._lives(run_id)]

    def num_bytes(self, run_id: str) -> int:
        """Bytes of the files beside the store that belong to a run."""
        return sum(file.stat().st_size for file in files_in(self.folder(run_id)))

    def spooled(self) -> int:
        """How many rows wait to be stored."""
        waiting = [
            path.read_bytes().count(b"\n") for path in [self._beside("spool"), *self._draining()] if path.exists()
        ]
        return len(self._held) + sum(waiting)

    def unstored(self) -> StoreError | None:
        """Which rows wait, where, and how they get into the store, as an error to raise; None where none do.

        What waits in memory alone is put among the system's temporary files first: the process is about to end.
        """
        if not self.spooled():
            return None
        spool = self._beside("spool")
        if not self._held:
            return StoreError(
                f"{self.path}: not all rows are stored yet ({self.spooled()} wait)",
                hint="they wait in the spool beside it: the next greenml command that writes adds them",
            )
        num_rows = len(self._held)
        try:
            handle, name = tempfile.mkstemp(prefix="greenml-", suffix=".jsonl")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.writelines(to_json(row) + "\n" for row in self._held)
        except OSError as error:
            return StoreError(f"{num_rows} rows are lost: no disk takes them: {error}", hint="free some space")
        self._held = []
        return StoreError(
            f"{self.path.parent} takes no more: {num_rows} rows are in {name}",
            hint=f"free some space, then: cat {name} >> {spool}; the next greenml command that writes adds them",
        )

    # Merging

    def merge(self, other: Store, run_ids: Sequence[str] | None = None) -> Merged:
        """Bring runs with their files from another store, all or these; safe to repeat. The other is only read.

        Of a run that both have, what is missing here is added, and its row follows whoever ended later; what was said
        about it here (its name, tags and note, whether it was removed) stays.
        """
        if not other.path.exists():
            raise UsageError(f"{other.path} does not exist", hint="name a store that greenml made")
        if self.path.exists() and self.path.samefile(other.path):
            raise UsageError(f"{other.path} is this store itself", hint="name another store")
        # Before and after, as runs may start or end while the file is copied.
        living = set(other.living(other.folders()))
        with tempfile.TemporaryDirectory(prefix="greenml-") as folder:
            copy = other._copy(Path(folder))
            living |= {*other.living(other.folders()), *self.living(self.folders())}
            self.check()
            with self._errors(), self._reading() as con:
                attach(con, copy)
                plan = [run for run in select(con, PLAN, []) if run_ids is None or run["run_id"] in set(run_ids)]
            alive = [run["run_id"] for run in plan if run["run_id"] in living]
            apart = [run["run_id"] for run in plan if run["went_apart"] and run["run_id"] not in living]
            brought = [run for run in plan if run["run_id"] not in {*alive, *apart}]
            # Files first: no row ever names a file that is not there.
            for run in brought:
                self._bring_files(other.folder(run["run_id"]), run["run_id"], replace=run["ended_later"])
            with self._writing(self.timeout_s) as con:
                attach(con, copy)
                bring_rows(
                    con,
                    [run["run_id"] for run in brought],
                    later=[run["run_id"] for run in brought if run["is_here"] and run["ended_later"]],
                )
                bring_verdicts(con, None if run_ids is None else list(run_ids))
                bring_history(con)
        return Merged(
            new=[run["run_id"] for run in brought if not run["is_here"]],
            known=[run["run_id"] for run in brought if run["is_here"]],
            alive=alive,
            apart=apart,
        )

    def folders(self) -> list[str]:
        """The runs that have a folder beside the store."""
        return [path.name for path in (self.path.parent / "runs").glob("*") if path.name.isalnum()]

    def _copy(self, folder: Path) -> Path:
        """A copy of the store, brought up to date; raises StoreError as for writing where it is of a newer schema."""
        self._refuse_folder()
        copy = folder / "copy.duckdb"
        with self._errors(), self._open(self.path, read_only=True, timeout_s=self.timeout_s) as con:
            schema.refuse_newer(schema.applied(con, self.path), self.path)
            # The log first: on POSIX, closing the file for the first time in this process gives up its lock.
            for suffix in (".wal", ""):
                part = self.path.with_name(self.path.name + suffix)
                if part.exists():
                    shutil.copyfile(part, copy.with_name(copy.name + suffix))
        Store(copy).check()
        return copy

    def _bring_files(self, source: Path, run_id: str, *, replace: bool) -> None:
        if not source.exists() or source.resolve() == self.folder(run_id).resolve():
            return
        with self.claim(run_id) as folder:
            try:
                for file in files_in(source):
                    place = folder / file.relative_to(source)
                    if replace or not place.exists():
                        copy_whole(file, place)
            except OSError as error:
                name = error.filename2 or error.filename
                raise StoreError(f"{name} cannot be copied: {error.strerror}", hint="merge again") from error

    # Connections

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{suffix}")

    def _refuse_folder(self) -> None:
        if self.path.is_dir():
            raise StoreError(f"{self.path} is a folder", hint=f"name a file: --store {self.path / 'greenml.duckdb'}")

    def folder(self, run_id: str) -> Path:
        """Where the files of a run are, or would be. Raises StoreError for what is no id."""
        # Ids come from other people's stores, too, and folders are removed by them.
        if not run_id.isalnum():
            raise StoreError(f"`{run_id}` is no id of a run", hint="was the store changed by hand?")
        return self.path.parent / "runs" / run_id

    def _may_write(self) -> bool:
        # DuckDB opens a writable file in a read-only folder, and fails at commit.
        return not self.read_only and all(
            os.access(path, os.W_OK) for path in (self.path.parent, self.path) if path.exists()
        )

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
                hint = "get it again from where it came" if self.read_only else "choose another --store"
                raise StoreError(f"{self.path} is not a DuckDB database", hint=hint) from error
            hint = "free some space, restore the file from a copy, or start a new one with --store"
            hint = "get it again from where it came: it is not whole" if self.read_only else hint
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
        except RuntimeError as error:
            # What a signal handler raises while DuckDB works comes out as this, whatever it was.
            if str(error) == "Query interrupted":
                raise KeyboardInterrupt from error
            raise
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
                        schema.upgrade(con, self.path)
                    self._ready = True
                self._drain(con)
                with transaction(con):
                    yield con

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection that sees this version's views."""
        with self._open(self.path, read_only=True, timeout_s=self.timeout_s) as con:
            version = max(schema.applied(con, self.path))
            if version < max(schema.migrations()):
                raise schema.OlderSchemaError(
                    f"{self.path} is of an older greenml (schema {version}), and cannot be written to bring it along",
                    hint="copy it to a place that can be written, and give --store the copy",
                )
            stored = con.execute("select hash from schema_views").fetchone()
            views = schema.view_files()
            if stored != (schema.digest(views),):
                con.execute("".join(views).replace("create or replace ", "create or replace temp "))
            yield con

    def _create(self) -> None:
        """A new store appears under its name complete, or not at all."""
        unborn = self._beside("new")
        unborn.unlink(missing_ok=True)
        self._beside("new.wal").unlink(missing_ok=True)
        with self._open(unborn, read_only=False, timeout_s=0) as con, transaction(con):
            schema.upgrade(con, self.path)
        unborn.replace(self.path)

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
        return sorted(self.path.parent.glob(f"{glob.escape(self.path.name)}.spool.*.draining"))

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
        """Runs that should be alive, and whose lock is free. Who has paused and left has ended for now; who pauses in
        its place has not."""
        alive = con.execute(
            """
            select run_id
            from run_rows
            where status in ('running', 'waiting') or (status = 'paused' and ended_at is null)
            order by run_key
            """
        ).fetchall()
        return [run_id for (run_id,) in alive if not self._lives(run_id)]

    def _lives(self, run_id: str) -> bool:
        from filelock import FileLock, Timeout

        lock = self.folder(run_id) / "lock"
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
                bury(con, run_id)

    def _show_as_crashed(self, con: duckdb.DuckDBPyConnection, dead: list[str]) -> None:
        """The same for the eyes of one reader who cannot write. Rows that still wait may tell another story."""
        if dead and not self.spooled():
            names = ", ".join(f"'{run_id}'" for run_id in dead)
            con.execute(
                (shipped("sql") / "views" / "0_runs.sql")
                .read_text(encoding="utf-8")
                .replace("create or replace view", "create or replace temp view")
                .replace(
                    "from run_rows",
                    f"from (select * replace (if(run_id in ({names}), 'crashed', status) as status) from run_rows)",
                )
            )


def cut_torn_line(file: Any) -> None:
    """Forget the line that a killed process left half written: nobody was told that it is safe."""
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)
