"""Tables that are made for one contest at a time: only its runs can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenml.report import tables
from greenml.units import MASS, format_mass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenml.report.content import Content
    from greenml.report.tables import Table

    Row = dict[str, Any]


def leaders(runs: Sequence[Row], most_g: float) -> list[Table]:
    """The rows of `rows.low_carbon`, the most accurate on validation first."""
    return [
        tables.leaderboard(f"low-carbon-{i}", f"{title}: at most {format_mass(most_g)} CO2e", group)
        for i, title, group in tables.each_contest(runs)
    ]


def fronts(content: Content) -> list[Table]:
    """The front over every (run, epoch), each point with the run that it is of."""
    runs = {run["run_id"]: run for run in content.runs}
    order = list(dict.fromkeys(run["contest"] for run in content.runs))
    points = [runs[point["run_id"]] | point for point in content.front]
    points.sort(key=lambda point: order.index(point["contest"]))
    return [front(f"front-{i}", title, group) for i, title, group in tables.each_contest(points)]


def front(name: str, title: str, points: Sequence[Row]) -> Table:
    has_accuracy = points[0]["metric"] == "accuracy"
    columns = [
        tables.words("model", "model"),
        tables.words("precision", "precision"),
        tables.Column("run", "run_id", lambda row: row["run_id"][:8], is_number=False),
        tables.count("epoch", "epoch"),
        tables.share("val. %", "accuracy") if has_accuracy else tables.count(points[0]["metric"], "value"),
        tables.quantity("energy", "energy_kwh", points, tables.ENERGY_KWH),
        tables.quantity("CO2e", "co2_g", points, MASS),
    ]
    better = "accuracy" if has_accuracy else points[0]["metric"]
    notes = [f"hindsight: no other epoch is better in {better} on validation for the energy so far, without the test"]
    return tables.draw(name, "pareto_front", f"The front of {title}", columns, points, notes=notes)
