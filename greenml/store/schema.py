"""Which tables and views a file has, and which this version brings."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import duckdb

from greenml import __version__
from greenml.errors import StoreError
from greenml.records import utc_now
from greenml.resources import shipped

if TYPE_CHECKING:
    from pathlib import Path


class OlderSchemaError(StoreError):
    """A store that a reader would have to bring up to date first."""


def upgrade(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Apply the migrations and views that this version brings and the file lacks."""
    done = applied(con, path) if con.execute("from duckdb_tables() limit 1").fetchone() else set()
    refuse_newer(done, path)
    for version, file in migrations().items():
        if version not in done:
            con.execute(file.read_text(encoding="utf-8"))
            row = [version, file.name, __version__, utc_now()]
            con.execute("insert into schema_migrations values (?, ?, ?, ?)", row)
    views = view_files()
    stored = con.execute("select hash, greenml_version from schema_views").fetchone()
    if stored is None or (stored[0] != digest(views) and numbers(stored[1]) <= numbers(__version__)):
        con.execute("".join(views))
        con.execute("delete from schema_views")
        con.execute("insert into schema_views values (?, ?)", [digest(views), __version__])


def applied(con: duckdb.DuckDBPyConnection, path: Path) -> set[int]:
    """The numbers of the migrations that the file has had."""
    try:
        return {version for (version,) in con.execute("select version from schema_migrations").fetchall()}
    except duckdb.CatalogException as error:
        raise foreign(path) from error


def refuse_newer(done: set[int], path: Path) -> None:
    if unknown := done - set(migrations()):
        raise StoreError(
            f"{path} was written by a newer greenml (schema {max(unknown)}; this is {__version__})",
            hint="upgrade: pip install --upgrade greenml",
        )


def foreign(path: Path) -> StoreError:
    return StoreError(f"{path} is a DuckDB database that greenml did not make", hint="name a store that greenml made")


def migrations() -> dict[int, Path]:
    """The numbered files that this version brings, in order."""
    return {int(path.name[:4]): path for path in sorted((shipped("sql") / "schema").glob("*.sql"))}


def view_files() -> list[str]:
    """The views, in the order in which they build on each other."""
    return [path.read_text(encoding="utf-8") for path in sorted((shipped("sql") / "views").glob("*.sql"))]


def digest(texts: list[str]) -> str:
    return hashlib.sha256("".join(texts).encode()).hexdigest()


def numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]
