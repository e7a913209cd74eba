"""Which files of a folder are to be imported, what each of them is, and what they hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from greenml.errors import DataError, GreenMLError, UsageError
from greenml.exchange import carbontracker, emissions
from greenml.exchange.foreign import Where, is_region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from greenml.exchange.foreign import Foreign, Options, Reading

STORE, RECORDS = "greenml store", "greenml export"
TREE = "_emissions.csv"
TABLES = (".csv", ".bak")
STORE_SUFFIX = ".duckdb"
RUN_ID = re.compile("[0-9a-f]{12}")
WAYS = "it takes CodeCarbon's emissions.csv, logs of carbontracker, and greenml's .jsonl, .json and .duckdb"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file, and what came of reading it: an export of greenml, what another program wrote, or trouble."""

    path: Path
    export: str | None = None
    reading: Reading | None = None
    trouble: GreenMLError | None = None
    is_foreign: bool = False
    """Nobody named it, and it is none of what greenml imports."""

    @property
    def runs(self) -> list[Foreign]:
        return self.reading.runs if self.reading else []


def survey(paths: Sequence[Path], options: Options) -> list[File]:
    """Every file that was named or lies in a folder that was, read. Raises UsageError where there is none."""
    found: list[File] = []
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist", hint="name a file or a folder")
        if path.is_dir():
            found += [look_at(file, place_in(path, file), options, named=False) for file in candidates(path)]
        else:
            found.append(look_at(path, Where(), options, named=True))
    if not found:
        raise UsageError(f"nothing to import in {', '.join(map(str, paths))}", hint=WAYS)
    return found


def candidates(folder: Path) -> Iterator[Path]:
    """What may be something, in a fixed order: the logs of one run once, and nothing of `runs/` beside a store."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    run_folders = {path.with_name("runs") for path in paths if path.suffix.lower() == STORE_SUFFIX and is_store(path)}
    for path in paths:
        name = path.name
        if any(RUN_ID.fullmatch(parent.name) and parent.parent in run_folders for parent in path.parents):
            continue
        if name.endswith("_carbontracker_err.log") or "metrics" in name:
            continue
        if name.endswith(carbontracker.SUM):
            if not path.with_name(name.removesuffix(carbontracker.SUM) + carbontracker.EPOCHS).exists():
                yield path
        elif path.suffix.lower() in (*TABLES, ".jsonl", ".json", STORE_SUFFIX) or name.endswith(carbontracker.EPOCHS):
            yield path


def look_at(path: Path, where: Where, options: Options, *, named: bool) -> File:
    """A file that cannot be read is trouble of its own, not of those beside it."""
    try:
        if export := own_kind(path):
            return File(path=path, export=export)
        if reader := reader_of(path):
            return File(path=path, reading=reader(path, where, options))
    except OSError as error:
        what = DataError(f"{path} cannot be read: {error.strerror}", hint="ask for read access")
        return File(path=path, trouble=what)
    except GreenMLError as error:
        return File(path=path, trouble=error)
    what = DataError(f"{path}: nothing that greenml imports", hint=WAYS)
    return File(path=path, trouble=what, is_foreign=not named)


def is_store(path: Path) -> bool:
    """One that cannot be read is told of later, as any such file."""
    try:
        return own_kind(path) == STORE
    except OSError:
        return False


def own_kind(path: Path) -> str | None:
    """Whether greenml itself made the file: by its first bytes, not by its name."""
    with path.open("rb") as file:
        first = file.read(64)
    if first[8:12] == b"DUCK":
        return STORE
    if first.startswith(b'{"record": "') or (path.suffix == ".json" and b'"run_id"' in first):
        return RECORDS
    return None


def reader_of(path: Path) -> Callable[[Path, Where, Options], Reading] | None:
    if path.name.endswith((carbontracker.EPOCHS, carbontracker.SUM)):
        return carbontracker.read
    return emissions.read if path.suffix.lower() in TABLES else None


def place_in(root: Path, path: Path) -> Where:
    """What `MODEL/COUNTRY/SEASON/RUN_emissions.csv` says; nothing of a file that lies otherwise.

    The country is the folder that is named like one, so that the root may be any folder above it.
    """
    if not path.name.endswith(TREE):
        return Where()
    parts = [root.resolve().name, *path.relative_to(root).parts[:-1]]
    for i in range(len(parts) - 1, 0, -1):
        if i >= len(parts) - 2 and is_region(parts[i]):
            season = parts[i + 1] if i + 1 < len(parts) else None
            return Where(model=parts[i - 1], country=parts[i], season=season, name=path.name.removesuffix(TREE))
    return Where(name=path.name.removesuffix(TREE))


def unique(files: Iterable[File]) -> list[Foreign]:
    """Each run once, as the file tells it that has most of it."""
    longest: dict[str, Foreign] = {}
    for run in (run for file in files for run in file.runs):
        known = longest.get(run.run_id)
        if known is None or run.duration_s > known.duration_s:
            longest[run.run_id] = run
    return list(longest.values())
