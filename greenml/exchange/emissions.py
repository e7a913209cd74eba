"""CSV files of CodeCarbon, of every version, and plainer ones like them: emissions, energy and duration a row.

CodeCarbon multiplies energy by the PUE (columns `..._energy`, `energy_consumed`); from 2.2.3 on it writes the PUE
beside it, but never into a file of tasks. Grams over those kWh are the intensity of the grid, whatever the PUE.
Its totals fall nowhere: each flush and the stop append a row with everything since the start of the `run_id`. A
tracker that ran tasks writes them into a file of their own, and one row into the file of runs that has the right
energy and the duration of the last task alone (3.3.2).
"""

from __future__ import annotations

import csv
import io
import math
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from greenml.errors import DataError, UsageError
from greenml.exchange.evidence import CUMULATIVE, PER_ROW, Row, judge
from greenml.exchange.foreign import COMPONENTS, Foreign, Options, Piece, Reading, Where, country_name, pue_of
from greenml.records import Source, total
from greenml.units import GRAMS_PER_KG, JOULES_PER_KWH

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ENERGY = ("energy_consumed", "energy_kwh")
DURATION = ("duration", "duration_sec")
RUNS, TASKS, PLAIN = "CodeCarbon runs", "CodeCarbon tasks", "emissions table"
SUMMARIES = ({"run_id", "acc_per_kwh", "unranked"}, {"run_id", "epoch", "energy_total_j", "schedule_complete"})
"""Columns of `greenml runs export -o FILE.csv`, and of that with `--epochs`."""
EXCEL_NUMBER = re.compile(r"-?\d+,\d+(?:[eE][+-]?\d+)?")


def read(path: Path, where: Where, options: Options) -> Reading:
    """A CSV -> its kind, how its rows are read and why, and its runs. Raises DataError and UsageError."""
    header, lines, is_whole = cells(path)
    kind = kind_of(path, header)
    if kind != PLAIN and not is_whole:
        raise torn(path, len(lines) + 1, "its last line has no end")
    rows = [parse(path, number, values) for number, values in enumerate(lines, start=2)]
    if not rows:
        raise DataError(f"{path} has a header and no rows", hint="a run that was never stopped or flushed leaves none")
    groups = grouped(rows, kind)
    says = {RUNS: CUMULATIVE, TASKS: PER_ROW}.get(kind)
    columns, why = judge(path, list(groups.values()), kind=kind, says=says, asked=options.columns)
    beside = tasks_beside(path) if kind == RUNS else {}
    found = []
    for label, group in groups.items():
        if label in beside:
            found += read(beside[label], where, options).runs
        else:
            found.append(told(path, label, group, kind, columns, why, where, options))
    if any(label in beside for label in groups):
        why += "; runs of tasks come from their own files, as the row here has the time of the last task only"
    if kind == TASKS and not options.pue and not all(run.says_pue for run in found):
        why += "; no file says its PUE: taken as 1, --pue says otherwise"
    return Reading(kind=kind, columns=columns, why=why, runs=found)


# The file


def cells(path: Path) -> tuple[list[str], list[dict[str, str]], bool]:
    """Names of the columns, the rows by name, and whether the last line is finished."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text", hint="export it again as CSV in UTF-8") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", hint="ask for read access") from error
    if not text.strip():
        raise DataError(f"{path} is empty", hint="a run that was never stopped or flushed leaves no rows")
    first = text.partition("\n")[0]
    delimiter = ";" if ";" in first and "," not in first else ","
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = [name.strip().lower() for name in next(lines)]
    rows = []
    for values in lines:
        if not values:
            continue
        if len(values) != len(header):
            raise torn(path, lines.line_num, f"{len(values)} fields under {len(header)} names")
        if delimiter == ";":  # as spreadsheets of half of Europe write them
            values = [value.replace(",", ".") if EXCEL_NUMBER.fullmatch(value) else value for value in values]
        rows.append(dict(zip(header, values, strict=True)))
    return header, rows, text.endswith("\n")


def torn(path: Path, line: int, what: str) -> DataError:
    return DataError(
        f"{path}, line {line}: {what}: half written?", hint="let its program finish, or take that line out"
    )


def kind_of(path: Path, header: Sequence[str]) -> str:
    """What the header says the file is. Raises DataError where that is nothing to be imported."""
    names = set(header)
    if any(names >= summary for summary in SUMMARIES):
        raise UsageError(f"{path} is a summary of greenml's runs", hint="greenml runs export -o FILE.jsonl has all")
    if not names & set(ENERGY) or not names & set(DURATION):
        raise DataError(
            f"{path}: no energy and duration among its columns",
            hint=f"it takes {' or '.join(ENERGY)} (kWh), {' or '.join(DURATION)} (s), and emissions (kg)",
        )
    if "task_name" in names:
        return TASKS
    return RUNS if {"run_id", "timestamp"} <= names else PLAIN


def parse(path: Path, line: int, values: dict[str, str]) -> Row:
    """The figures of a row. Raises DataError where one is none."""

    def number(*names: str) -> float | None:
        text = next((values[name].strip() for name in names if name in values), "")
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            name = next(name for name in names if name in values)
            raise DataError(f"{path}, line {line}: {name} is `{text}`", hint="correct it, or take that line out")
        return value

    used_kwh, duration_s, kg = number(*ENERGY), number(*DURATION), number("emissions")
    if used_kwh is None or duration_s is None:
        raise DataError(f"{path}, line {line}: no energy or no duration", hint="correct it, or take that line out")
    parts = {name: number(f"{name}_energy") for name in COMPONENTS}
    joules = {name: part * JOULES_PER_KWH for name, part in parts.items() if part is not None}
    joules["total"] = used_kwh * JOULES_PER_KWH
    rest = joules["total"] - sum(joules[name] for name in COMPONENTS if name in joules)
    if rest < -1e-6 * joules["total"] or (len(joules) == 4 and rest > 1e-6 * joules["total"]):
        names = " + ".join(f"{name}_energy" for name in COMPONENTS if name in joules)
        raise DataError(f"{path}, line {line}: its energy is not {names}", hint="correct it, or take that line out")
    return Row(
        line=line,
        ended_at=moment(path, line, values.get("timestamp", "")),
        duration_s=duration_s,
        joules=joules,
        co2_g=None if kg is None else kg * GRAMS_PER_KG,
        task=values.get("task_name") or None,
        cells=values,
    )


def moment(path: Path, line: int, text: str) -> datetime | None:
    """A time -> UTC, naive. CodeCarbon writes the clock on the wall, which is taken for that of this machine."""
    if not text.strip():
        return None
    try:
        return datetime.fromisoformat(text.strip()).astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError) as error:
        raise DataError(
            f"{path}, line {line}: the timestamp is `{text}`", hint="correct it, or take that line out"
        ) from error


def grouped(rows: Sequence[Row], kind: str) -> dict[str | None, list[Row]]:
    """The rows of each run, without those that say the same moment again; a plain table is one run.

    Without a time, equal rows may be equal parts, as those of epochs are.
    """
    groups: dict[str | None, list[Row]] = {}
    for row in rows:
        group = groups.setdefault(None if kind == PLAIN else row.cells["run_id"], [])
        if not group or not row.ended_at or row.cells != group[-1].cells:
            group.append(row)
    return groups


def tasks_beside(path: Path) -> dict[str | None, Path]:
    """The files of tasks in the same folder, by the id of the run that ends their names."""
    return {file.stem.rpartition("_")[2]: file for file in path.parent.glob("emissions_*_*.csv")}


def pue_in(path: Path, rows: Sequence[Row], label: str | None, kind: str, options: Options) -> float | None:
    """What its energy was multiplied by, as the file says, or that of runs beside its tasks; None where none does."""
    own = pue_of(path, [row.cells.get("pue", "") for row in rows], options)
    runs = path.with_name("emissions.csv")
    if own is not None or kind != TASKS or not runs.exists():
        return own
    return pue_of(runs, [row.get("pue", "") for row in cells(runs)[1] if row.get("run_id") == label], options)


# A run


def told(
    path: Path,
    label: str | None,
    rows: list[Row],
    kind: str,
    columns: str,
    why: str,
    where: Where,
    options: Options,
) -> Foreign:
    last = rows[-1].cells
    is_total = columns == CUMULATIVE
    pue = pue_in(path, rows, label, kind, options)
    tool = f"CodeCarbon {last['codecarbon_version']}" if last.get("codecarbon_version") else "CodeCarbon"
    tool = path.name if kind == PLAIN else tool
    counted = rows[-1:] if is_total else rows
    written_j = sum(row.joules["total"] for row in counted)
    co2_g = total(*(row.co2_g for row in counted))
    country, place = place_of(last)
    if not options.region and where.country and country and country_name(where.country) != country_name(country):
        raise DataError(
            f"{path}: its folder says {where.country}, and its grams were reckoned for {place}",
            hint="--region settles whose grid it was",
        )
    model = last.get("project_name") or last.get("experiment_name")
    return Foreign(
        identity=identity(rows[0], label, where),
        tool=tool,
        path=path,
        label=label,
        name=where.name,
        model=where.model or (model if model != "codecarbon" else None),
        country=where.country or country,
        season=where.season,
        pieces=pieces(rows, is_total, pue or 1.0, path),
        sources=sources(rows, tool),
        co2_g=co2_g,
        g_per_kwh=co2_g / (written_j / JOULES_PER_KWH) if co2_g is not None and written_j else None,
        place=place or where.country,
        pue=pue or 1.0,
        says_pue=pue is not None,
        scope="process" if last.get("tracking_mode") == "process" else "machine",
        device="cuda" if has_gpu(last) else "cpu",
        hardware=hardware(last),
        versions={
            name: last[column]
            for name, column in (("python", "python_version"), ("codecarbon", "codecarbon_version"))
            if last.get(column)
        },
        columns=columns,
        rows=len(rows),
        why=why,
    )


def identity(first: Row, label: str | None, where: Where) -> tuple[str, ...]:
    """The id that CodeCarbon gave the run; in a plain table, its first row and whose run it is.

    Without a time, two runs may begin with the same rounded figures: then their names in a tree tell them apart.
    """
    if label:
        return ("codecarbon", label)
    name = "" if first.ended_at else where.name or ""
    figures = [f"{name}={value}" for name, value in sorted(first.cells.items()) if value]
    return ("table", where.model or "", where.country or "", where.season or "", name, *figures)


def pieces(rows: Sequence[Row], is_total: bool, pue: float, path: Path) -> list[Piece]:
    """The stretches between the rows where they are totals; else a stretch a row."""
    if is_total:
        started_at = (rows[0].ended_at or modified(path)) - timedelta(seconds=rows[0].duration_s)
        nothing = dict.fromkeys((*COMPONENTS, "total"), 0.0)
        stretches = [(0.0, nothing, rows[0])]
        stretches += [
            (before.duration_s, before.joules, row) for before, row in pairwise(rows) if row.cells != before.cells
        ]
        return [
            piece(
                row,
                started_at + timedelta(seconds=seconds),
                started_at + timedelta(seconds=row.duration_s),
                {name: row.joules[name] - joules[name] for name in row.joules},
                pue,
            )
            for seconds, joules, row in stretches
        ]
    found, clock = [], modified(path) - timedelta(seconds=sum(row.duration_s for row in rows))
    for row in rows:
        ended_at = row.ended_at or clock + timedelta(seconds=row.duration_s)
        found.append(piece(row, ended_at - timedelta(seconds=row.duration_s), ended_at, row.joules, pue))
        clock = ended_at
    return sorted(found, key=lambda part: part.started_at)


def modified(path: Path) -> datetime:
    """When the file was last written, where it gives no times: UTC, naive."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None)


def piece(row: Row, started_at: datetime, ended_at: datetime, joules: dict[str, float], pue: float) -> Piece:
    """Joules as written -> without PUE. What no column has is the rest of the total."""
    parts = {name: joules.get(name) for name in COMPONENTS}
    rest = joules["total"] - sum(part for part in parts.values() if part is not None)
    for name in without(joules):
        parts[name], rest = max(rest, 0.0), 0.0
    own = {name: (part or 0.0) / pue for name, part in parts.items()}
    return Piece(
        name=row.task or "run",
        started_at=started_at,
        ended_at=ended_at,
        cpu_j=own["cpu"],
        gpu_j=own["gpu"],
        ram_j=own["ram"],
    )


def without(joules: dict[str, float]) -> list[str]:
    """Components that have no column of their own; the first of them gets the rest of the total."""
    return [name for name in COMPONENTS if name not in joules]


def sources(rows: Sequence[Row], tool: str) -> dict[str, tuple[Source, str]]:
    """No file says whether anything was measured."""
    written = f"as {tool} wrote it; the file does not say how"
    found = dict.fromkeys(COMPONENTS, (Source.ESTIMATED, written))
    gpu_j = sum(row.joules.get("gpu", 0.0) for row in rows)
    if "gpu_count" in rows[-1].cells and not has_gpu(rows[-1].cells) and not gpu_j:
        found["gpu"] = (Source.ABSENT, "no GPU in the file")
    lacking = without(rows[-1].joules)
    for name in lacking[:1]:
        of = "the whole total" if len(lacking) == len(COMPONENTS) else "the rest of the total"
        found[name] = (Source.ESTIMATED, f"{of}, {written}")
    for name in lacking[1:]:
        found[name] = (Source.ESTIMATED, f"counted with the {lacking[0].upper()}; the file does not tell them apart")
    return found


def has_gpu(values: dict[str, str]) -> bool:
    return values.get("gpu_count", "").strip() not in ("", "0", "0.0") or bool(values.get("gpu_model", "").strip())


def hardware(values: dict[str, str]) -> dict[str, Any]:
    """What the row says of the machine, under the names that greenml gives it."""

    def size(name: str) -> float | None:
        try:
            return float(values.get(name, ""))
        except ValueError:
            return None

    threads, memory_gb = size("cpu_count"), size("ram_total_size")
    found = {
        "cpu": values.get("cpu_model"),
        "threads": None if threads is None else int(threads),
        "memory_gb": None if memory_gb is None else round(memory_gb, 1),
        "gpu": values.get("gpu_model"),
        "system": values.get("os"),
    }
    return {name: value for name, value in found.items() if value}


def place_of(values: dict[str, str]) -> tuple[str | None, str | None]:
    """Country, as a code where there is one, and the place in words: "California, United States"."""
    country = values.get("country_iso_code") or values.get("country_name") or None
    name = country_name(country) or values.get("country_name")
    cloud = " ".join(filter(None, (values.get("cloud_provider"), values.get("cloud_region"))))
    region = values.get("region", "")
    parts = [cloud, region.title() if region.islower() else region, name]
    return country, ", ".join(part for part in parts if part) or None
