"""What accuracy costs: the front, where each run ended, and the whole way of the one that is picked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from greenml.plots.sheet import Sheet, Shown, amount, inline, scaled, spent_kwh, value_axis
from greenml.plots.theme import INK, PICKED, SUBTLE, WIDTH_PX, Chart, faded, pickable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Row = Mapping[str, Any]


def tradeoff(sheet: Sheet, front: Sequence[Row]) -> Chart | None:
    """Validation accuracy against energy; `front` are rows of `pareto_front`. None where no run has both."""
    points = [*_on_front(sheet, front), *_ends(sheet)]
    drawn = [number for number, _, _ in sheet.panels if any(point["contest"] == number for point in points)]
    panels = [
        _panel(sheet, number, run, points, title if len(sheet.panels) > 1 else None)
        for number, title, run in sheet.panels
        if number in drawn
    ]
    if not panels:
        return None
    return pickable(panels[0] if len(panels) == 1 else alt.vconcat(*panels, spacing=24))


def ended_runs(sheet: Sheet) -> Shown:
    """Runs whose end has a mark."""
    panels = {number for number, _, _ in sheet.panels}
    ends = _ends(sheet)
    drawn = (point["run_id"] for point in ends if point["contest"] in panels)
    return Shown.first(drawn, {point["run_id"] for point in ends})


def _on_front(sheet: Sheet, front: Sequence[Row]) -> list[dict[str, Any]]:
    numbers = {contest: i for i, (contest, _) in enumerate(sheet.contests)}
    return [
        {
            "run_id": row["run_id"],
            "contest": numbers[row["contest"]],
            "at": "front",
            "epoch": row["epoch"],
            "value": scaled(row["value"]),
            "energy": scaled(row["energy_kwh"], sheet.energy.factor),
        }
        for row in front
        if row["contest"] in numbers
    ]


def _ends(sheet: Sheet) -> list[dict[str, Any]]:
    """The last epoch of each run with all that its epochs took."""
    numbers = {row["run_id"]: row["contest"] for row in sheet.run_rows}
    last = {row["run_id"]: row for row in sorted(sheet.epochs, key=lambda row: int(row["epoch"]))}
    return [
        {
            "run_id": run_id,
            "contest": numbers[run_id],
            "at": "end",
            "epoch": row["epoch"],
            "value": scaled(row["value"]),
            "energy": scaled(spent_kwh(row), sheet.energy.factor),
        }
        for run_id, row in last.items()
        if run_id in numbers and row["value"] is not None and row["energy_total_j"] is not None
    ]


def _panel(sheet: Sheet, number: int, run: Row, points: list[dict[str, Any]], title: str | None) -> Chart:
    name, axis = value_axis(run)
    energies = [point["energy"] for point in points if point["contest"] == number]
    x = alt.X(**amount("energy", f"energy up to this epoch, {sheet.energy.name}", energies))
    y = alt.Y("value:Q", scale=alt.Scale(zero=False, padding=12), axis=alt.Axis(title=name, tickCount=6, **axis))
    said = [
        alt.Tooltip("run:N"),
        alt.Tooltip("epoch:Q"),
        alt.Tooltip("value:Q", title=name, format=".1%" if "%" in axis["format"] else ".4~g"),
        alt.Tooltip("energy:Q", title=f"energy, {sheet.energy.name}", format=".3~r"),
    ]
    known = sheet.lookup("run", "model", "precision", "contest")
    base = alt.Chart(inline(points)).transform_filter(f"datum.contest === {number}")
    steps = (
        base.transform_filter("datum.at === 'front'")
        .mark_line(interpolate="step-after", color=SUBTLE, strokeWidth=1.2, strokeDash=[4, 3])
        .encode(x=x, y=y, order=alt.Order("energy:Q"))
    )
    way = (
        alt.Chart(sheet.epoch_data)
        .transform_filter(f"datum.run_id === {PICKED}")
        .transform_lookup(lookup="run_id", from_=known)
        .transform_filter(f"datum.contest === {number} && isValid(datum.value) && isValid(datum.energy)")
        .mark_line(strokeWidth=1.5)
        .encode(x=x, y=y, color=sheet.coloured())
    )
    met = base.transform_lookup(lookup="run_id", from_=known)
    passed = (
        met.transform_filter("datum.at === 'front'")
        .mark_point(size=28, filled=True)
        .encode(x=x, y=y, color=sheet.coloured(), shape=sheet.shaped(), opacity=faded(0.9), tooltip=said)
    )
    ended = (
        met.transform_filter("datum.at === 'end'")
        .mark_point(size=130, filled=True, stroke=INK, strokeWidth=0.6)
        .encode(x=x, y=y, color=sheet.coloured(), shape=sheet.shaped(), opacity=faded(0.9), tooltip=said)
    )
    drawn: Chart = alt.layer(steps, way, passed, ended).properties(width=WIDTH_PX, height=320)
    return drawn.properties(title=title) if title else drawn
