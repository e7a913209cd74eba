"""The charts of a report: which there are, what they are called, and what is said beneath them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from greenml import plots

if TYPE_CHECKING:
    from greenml.report.content import Content


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart and the words about it."""

    name: str
    """Short, for file names and anchors: `tradeoff`."""
    title: str
    caption: str
    """What it shows, how it is known, and of how many runs; where there is no chart, why not."""
    chart: Any
    """An Altair chart, or None where no row can be drawn."""


def figures(content: Content) -> list[Figure]:
    """Every chart of a report, in the order of the page; also those that nothing can be drawn for, with the reason.

    A chart whose marks belong to runs has `run_id` in its rows and the variable `plots.PICKED`.
    """
    sheet = plots.Sheet(
        runs=content.runs,
        epochs=content.epochs,
        marginal=content.marginal,
        kept=[
            *((row["run_id"], row["epoch"]) for row in content.front),
            *((row["run_id"], row["epoch"]) for row in content.optimal),
            *((row["run_id"], row["knee_epoch"]) for row in content.optimal),
        ],
    )
    return [
        Figure(
            name="leaderboard",
            title="What each run reached for its energy",
            caption="",
            chart=plots.ranking(sheet),
        ),
        Figure(
            name="tradeoff",
            title="Accuracy against energy",
            caption="",
            chart=plots.tradeoff(sheet, content.front),
        ),
        Figure(
            name="learning",
            title="How the runs learned",
            caption="",
            chart=plots.learning(sheet, content.optimal),
        ),
        Figure(
            name="marginal",
            title="What one more percentage point cost",
            caption="",
            chart=plots.marginal(sheet),
        ),
    ]
