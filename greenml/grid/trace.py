"""Intensities from a CSV file: `start,g_per_kwh[,end,kind,zone,status]`, in any order of columns.

    start,g_per_kwh
    2026-03-01T12:00+01:00,312
    2026-03-01T13:00+01:00,298.5

Times are ISO 8601 and carry their offset from UTC, so that no hour is there twice or not at all when clocks change.
Without `end` a step lasts until the next start, and the last as long as the one before; one that would last twice as
long as most, or longer, is refused, as there are some missing. With it each has to begin where the one before ends. An
empty `g_per_kwh` says that nothing is known of a step: gaps are told, never guessed.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import math
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, get_args

from greenml.errors import UsageError, nearest
from greenml.grid.series import MAX_FIGURE, STATUSES, Kind, Series, Status, Step, utc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REQUIRED = ("start", "g_per_kwh")
COLUMNS = (*REQUIRED, "end", "kind", "zone", "status")
KINDS: tuple[Kind, ...] = get_args(Kind)
WEEK = timedelta(weeks=1)
YEAR = timedelta(weeks=52)
"""Of whole weeks: that is nearest to the same season."""
AHEAD = timedelta(hours=48)
"""What a forecast reaches, and a replayed trace should."""
RUN = timedelta(weeks=2)
"""How long a run may take after that, by whose end a replayed trace is not to be over."""

LAYOUT = "a trace is `start,g_per_kwh` in the first line, then a step a line, as in `2026-03-01T12:00+01:00,312`"
OFFSETS = "write times with their offset from UTC, as in 2026-03-01T12:00+01:00 or 2026-03-01T11:00Z"


def read(file: Path, *, zone: str | None = None) -> Series:
    """The steps of a trace file; `zone` is the place where the file names none. Raises UsageError, with the line."""
    series = _series(file, _text(file))
    return dataclasses.replace(series, zone=series.zone or zone)


@functools.lru_cache(maxsize=4)  # one command asks for its trace several times, and a year of hours takes long to parse
def _series(file: Path, text: str) -> Series:
    rows = list(_rows(file, text))
    if not rows:
        raise UsageError(f"{file}: there is no step in it", hint=LAYOUT)
    _check_one(file, "kind", [(row.line, row.kind) for row in rows])
    _check_one(file, "zone", [(row.line, row.zone) for row in rows])
    steps = tuple(_steps(file, rows))
    if not steps:
        raise UsageError(f"{file}: every g_per_kwh is empty", hint="at least one step has to be known")
    return Series(steps=steps, provider="trace", source=file.name, zone=rows[0].zone, kind=rows[0].kind)


def refuse_lone_shift(file: Path | str | None, *, shift: bool) -> None:
    """Raise UsageError where no trace is named that could be `shifted`."""
    if shift and file is None:
        raise UsageError("--trace-shift without --trace", hint="name the trace that is to be replayed")


def averages(file: Path, at: datetime, *, shift: bool) -> Series:
    """The trace by which grams are reckoned, `shifted` to `at` (UTC, naive) where that was asked for.

    Raises UsageError as `read` and `shifted` do, and for marginal intensities.
    """
    series = read(file)
    if series.kind != "average":
        raise UsageError(
            f"{file}: {series.kind} intensities account for nothing",
            hint="they may steer; account with a trace of average ones",
        )
    return shifted(series, at) if shift else series


def shifted(series: Series, to: datetime) -> Series:
    """The trace as if it had been recorded around `to` (UTC, naive): moved by whole weeks, so that every hour stays on
    its day of the week, by whole years of 52 where that leaves two days after `to`. Where it would end before a run
    may, its whole weeks are repeated, or its year where it has one.

    In UTC, so that no change of clocks makes or loses an hour. What has been moved or repeated is `assumed`, whatever
    it was. Raises UsageError for less than a week, and where nothing is known of that hour of the week.
    """
    if series.start is None or series.end is None or series.end - series.start < WEEK:
        raise UsageError(
            f"{series.source}: a trace of less than a week cannot be replayed at another time",
            hint="give a trace of a week or longer, or times that it covers",
        )
    move = timedelta(0) if series.covers(to, to + AHEAD) else _move(series, to)
    return _repeated(_moved(series, move), to + AHEAD + RUN)


def _move(series: Series, to: datetime) -> timedelta:
    """By how many weeks `series`, which has one at least, is to be moved so that it knows `to`. Raises UsageError."""
    assert series.start is not None
    assert series.end is not None
    yearly = (to - series.start) // YEAR * YEAR
    weekly = (to - series.start) // WEEK * WEEK
    ahead = series.end + yearly - to
    moves = [yearly] if ahead >= AHEAD else []
    moves += [weekly - i * WEEK for i in range((series.end - series.start) // WEEK + 1)]
    for move in moves:
        if series.at(to - move):
            return move
    raise UsageError(
        f"{series.source}: nothing is known of a {to:%A} at {to:%H:%M} UTC",
        hint="the trace has a gap there in each of its weeks; fill it, or replay another hour",
    )


def _moved(series: Series, move: timedelta) -> Series:
    if not move:
        return series
    steps = tuple(
        dataclasses.replace(step, start=step.start + move, end=step.end + move, status="assumed")
        for step in series.steps
    )
    return dataclasses.replace(series, steps=steps, source=f"{series.source}, moved by {move // WEEK} weeks")


def _repeated(series: Series, until: datetime) -> Series:
    """Its whole weeks or year once more after its end, and again, until then; its gaps stay what they are."""
    assert series.start is not None
    assert series.end is not None
    span = series.end - series.start
    period = YEAR if span >= YEAR else span // WEEK * WEEK
    steps, end, move = list(series.steps), series.end, period
    while end < until:
        steps += _moved(series, move).between(end, until).steps
        end, move = series.end + move, move + period
    return dataclasses.replace(series, steps=tuple(steps)) if move > period else series


class _Row(NamedTuple):
    line: int
    start: datetime
    """UTC, naive, as is `end`."""
    end: datetime | None
    g_per_kwh: float | None
    """None where nothing is known."""
    kind: Kind
    zone: str | None
    status: Status


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{file}: no such trace file", hint=LAYOUT) from None
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}", hint="a trace is a CSV file") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{file}, line {line}: not UTF-8", hint="save it as CSV in UTF-8") from None


def _rows(file: Path, text: str) -> Iterator[_Row]:
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next((cells for cells in lines if cells), [])]
        _check_header(f"{file}, line {lines.line_num}" if header else f"{file}", header)
        for cells in lines:
            if cells:
                yield _row(f"{file}, line {lines.line_num}", lines.line_num, header, cells)
    except csv.Error as error:
        raise UsageError(f"{file}, line {lines.line_num}: not CSV: {error}", hint=LAYOUT) from None


def _check_header(where: str, header: list[str]) -> None:
    if not header:
        raise UsageError(f"{where}: is empty", hint=LAYOUT)
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise UsageError(f"{where}: its columns are not separated by commas", hint=LAYOUT)
    missing = [name for name in REQUIRED if name not in header]
    if missing and not set(header) & set(COLUMNS):
        raise UsageError(f"{where}: no header", hint=LAYOUT)
    for i, name in enumerate(header):
        if name not in COLUMNS:
            known = [column for column in COLUMNS if column not in header]
            otherwise = f"a trace has the columns {', '.join(COLUMNS)}; leave others out"
            raise UsageError(f"{where}: unknown column `{name}`", hint=nearest(name, known, otherwise=otherwise))
        if name in header[:i]:
            raise UsageError(f"{where}: the column `{name}` is there twice", hint="leave one of them out")
    if missing:
        raise UsageError(f"{where}: the column `{missing[0]}` is missing", hint=LAYOUT)


def _row(where: str, line: int, header: list[str], cells: list[str]) -> _Row:
    if len(cells) != len(header):
        raise UsageError(f"{where}: {len(cells)} cells under {len(header)} columns", hint=LAYOUT)
    values = dict(zip(header, map(str.strip, cells), strict=True))
    kind, status = values.get("kind") or "average", values.get("status") or "actual"
    if kind not in KINDS:
        raise UsageError(f"{where}: unknown kind `{kind}`", hint=nearest(kind, KINDS, otherwise=_either(KINDS)))
    if status not in STATUSES:
        hint = nearest(status, STATUSES, otherwise=_either(STATUSES))
        raise UsageError(f"{where}: unknown status `{status}`", hint=hint)
    return _Row(
        line=line,
        start=_moment(where, "start", values["start"]),
        end=_moment(where, "end", values["end"]) if "end" in values else None,
        g_per_kwh=_intensity(where, values["g_per_kwh"]),
        kind=kind,
        zone=values.get("zone") or None,
        status=status,
    )


def _either(words: tuple[str, ...]) -> str:
    return f"one of {', '.join(words)}"


def _intensity(where: str, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise UsageError(
            f"{where}: `{text}` is no number of g/kWh", hint="a decimal point, no unit; empty where it is unknown"
        ) from None
    if not math.isfinite(value):
        raise UsageError(f"{where}: `{text}` is no intensity", hint="leave g_per_kwh empty where it is unknown")
    if value < 0:
        raise UsageError(f"{where}: {text} g/kWh is negative", hint="an intensity is 0 or more")
    if value > MAX_FIGURE:
        raise UsageError(f"{where}: {text} g/kWh is more than any plant emits", hint="in grams per kWh, as in 312")
    return value


def _moment(where: str, column: str, text: str) -> datetime:
    if not text:
        raise UsageError(f"{where}: `{column}` is empty", hint=OFFSETS)
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo:
            return utc(moment)
    except (ValueError, OverflowError):
        raise UsageError(f"{where}: `{text}` is no time", hint=OFFSETS) from None
    raise UsageError(f"{where}: {text} has no offset from UTC", hint=OFFSETS)


def _check_one(file: Path, column: str, values: list[tuple[int, str | None]]) -> None:
    [(_, expected), *others] = values
    for line, value in others:
        if value != expected:
            one, other = (f"`{value}`" if value else "none" for value in (expected, value))
            raise UsageError(
                f"{file}, line {line}: {column} {other} after {column} {one}",
                hint=f"one file has one {column}; split it",
            )


def _steps(file: Path, rows: list[_Row]) -> Iterator[Step]:
    """Those that are known, each checked against the one before it."""
    before, until, usual = None, None, _usual(rows)
    for i, row in enumerate(rows):
        where = f"{file}, line {row.line}"
        if before and row.start == before.start:
            raise UsageError(f"{where}: starts when line {before.line} does", hint="leave one of the two out")
        if before and row.start < before.start:
            raise UsageError(f"{where}: starts before line {before.line}", hint="sort the rows by their start")
        end = row.end or (rows[i + 1].start if i + 1 < len(rows) else _last_end(before, row, usual))
        if end is None:
            raise UsageError(f"{where}: how long the only step lasts is not said", hint="add the column `end`")
        if row.end and row.end <= row.start:
            raise UsageError(f"{where}: ends at or before its start", hint="`end` is when the next step begins")
        if before and until and row.end and row.start != until:
            raise _apart(where, row.start - until, before.line)
        if row.g_per_kwh is not None and row.end is None and usual and end - row.start >= 2 * usual:
            raise UsageError(
                f"{where}: lasts {end - row.start}, and most steps of the file {usual}: are there some missing?",
                hint="an empty g_per_kwh says that nobody knows; a column `end` says how long each lasts",
            )
        if row.g_per_kwh is not None:
            yield Step(start=row.start, end=end, g_per_kwh=row.g_per_kwh, status=row.status)
        before, until = row, end


def _last_end(before: _Row | None, last: _Row, usual: timedelta | None) -> datetime | None:
    """It lasts as long as the one before, or as most where that was a long one of which nothing is known."""
    if before is None or usual is None:
        return None
    span = last.start - before.start
    return last.start + (span if span < 2 * usual else usual)


def _usual(rows: list[_Row]) -> timedelta | None:
    """How long most steps last, of equals the longest; None where the file has one alone."""
    lasting = Counter(later.start - earlier.start for earlier, later in pairwise(rows) if later.start > earlier.start)
    return max(lasting, key=lambda span: (lasting[span], span), default=None)


def _apart(where: str, gap: timedelta, line: int) -> UsageError:
    if gap < timedelta(0):
        return UsageError(f"{where}: overlaps line {line} by {-gap}", hint="steps end where the next begins")
    return UsageError(
        f"{where}: a gap of {gap} after line {line}", hint="add the step with an empty g_per_kwh if it is unknown"
    )
