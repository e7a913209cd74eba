"""Sessions that measured one parent beside its compressed models, and how far apart they lie."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MUCH = 1.25
"""What differs by no more is not worth a word."""


def apart(rows: Iterable[Mapping[str, Any]]) -> float | None:
    """How many times as much a parent took in one session as in another, by the `level` of rows of `break_even`; None
    where that is little."""
    levels: defaultdict[tuple[Any, ...], list[float]] = defaultdict(list)
    for row in rows:
        if row["level"] and row["method"]:
            # The view `lifecycle` holds all of its rows against the parent as it is served.
            levels[row["parent"], row.get("baseline", "before"), row["batch_size"]].append(row["level"])
    most = max((max(each) / min(each) for each in levels.values()), default=1.0)
    return most if most > MUCH else None
