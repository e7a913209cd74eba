"""Whether the rows of a file are totals so far or parts: what its kind says, and what the rows themselves show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from greenml.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

CUMULATIVE, PER_ROW = "cumulative", "per-row"
WORDS = {CUMULATIVE: "each row is the total so far", PER_ROW: "each row stands for itself"}
TOLERANCE_S = 2.0
"""Times are written in whole seconds, and a moment after the duration was taken."""
SETTLE = "--columns cumulative (each row the total so far) or --columns per-row (each row for itself) settles it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of a file, in the units of this house."""

    line: int
    ended_at: datetime | None
    """UTC, naive; None where the file gives no time."""
    duration_s: float
    joules: dict[str, float]
    """As the file has them, PUE included: `total`, and those of `cpu`, `gpu`, `ram` that it tells apart."""
    co2_g: float | None
    task: str | None
    cells: dict[str, str] = field(repr=False)
    """As they stand in the file."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the rows of one run show."""

    words: str
    columns: str | None = None
    """The one way in which they can be read, where they prove it."""
    falls: bool = False
    """Whether they cannot be totals."""

    def contradicts(self, columns: str) -> bool:
        return self.columns not in (None, columns) or (self.falls and columns == CUMULATIVE)


def judge(
    path: Path, runs: Sequence[Sequence[Row]], *, kind: str, says: str | None, asked: str | None
) -> tuple[str, str]:
    """How to read the rows of each run of a file, and why, in words. Raises UsageError rather than guess.

    `says` is what a file of this `kind` has; what was `asked` for settles all but what the rows disprove.
    """
    shown = [look(rows) for rows in runs]
    several = [one for rows, one in zip(runs, shown, strict=True) if len(rows) > 1]
    words = several[0].words if several else "one row a run"
    for one in shown:
        if asked and one.contradicts(asked):
            raise UsageError(f"{path}: --columns {asked} cannot be: {one.words}", hint=SETTLE)
        if not asked and says and one.contradicts(says):
            raise UsageError(f"{path}: {kind}: {WORDS[says]}; but {one.words}", hint=SETTLE)
    if asked:
        return asked, f"--columns {asked}; {words}"
    if says:
        return says, f"{kind}: {WORDS[says]}; {words}"
    if not several:
        return PER_ROW, f"{kind}: {words}"
    proven = {one.columns for one in several}
    if proven in ({CUMULATIVE}, {PER_ROW}):
        return proven.pop() or "", f"{kind}, which does not say; {words}"
    unclear = next((one for one in several if not one.columns), several[0])
    raise UsageError(f"{path}: {kind}: totals or parts? {unclear.words}", hint=SETTLE)


def look(rows: Sequence[Row]) -> Shown:
    """What rows show by themselves: totals never fall, and end as long after one beginning as they are long."""
    if len(rows) == 1:
        return Shown("one row")
    fallen = next((rows[i].line for i in range(1, len(rows)) if is_less(rows[i], rows[i - 1])), None)
    undecided = Shown(
        f"line {fallen} is below the line before it"
        if fallen
        else "no row is below the one before it, which alone proves nothing",
        falls=bool(fallen),
    )
    first = rows[0].ended_at
    ends = [(row.ended_at - first).total_seconds() for row in rows if row.ended_at and first]
    if len(ends) < len(rows):
        return undecided
    durations = [row.duration_s for row in rows]
    starts = [end - duration for end, duration in zip(ends, durations, strict=True)]
    slack = TOLERANCE_S + 0.01 * max(durations)
    one_start = max(starts) - min(starts) <= slack
    one_after_another = all(start >= end - TOLERANCE_S for start, end in zip(starts[1:], ends, strict=False))
    if one_start and not one_after_another and not fallen and max(durations) - min(durations) > 3 * TOLERANCE_S:
        return Shown("its rows all count from one start, and none is below the one before it", CUMULATIVE)
    if one_after_another and not one_start and sum(durations[1:]) > 3 * TOLERANCE_S:
        return Shown("each of its rows begins when the one before it has ended", PER_ROW, falls=bool(fallen))
    return undecided


def is_less(row: Row, before: Row) -> bool:
    """Whether `row` cannot be a later total: less time or energy, beyond the last bits."""
    pairs = [(row.duration_s, before.duration_s), *((row.joules[name], before.joules[name]) for name in before.joules)]
    return any(now < then * (1 - 1e-9) for now, then in pairs)
