"""The most accurate of the runs that took little."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from greenml.report.tables import leaderboard, titles_of
from greenml.units import format_mass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenml.report.tables import Table

    Row = dict[str, Any]


def tables(runs: Sequence[Row], most_g: float) -> list[Table]:
    """One a contest, of the rows of `rows.low_carbon`."""
    contests = [list(group) for _, group in itertools.groupby(runs, lambda run: run["contest"])]
    titles = titles_of([group[0] for group in contests])
    return [
        leaderboard(f"low-carbon-{i}", f"{title}: at most {format_mass(most_g)} CO2e", group)
        for i, (title, group) in enumerate(zip(titles, contests, strict=True), 1)
    ]
