"""How runs learned, epoch by epoch, and what that took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from greenml.plots.sheet import (
    MAX_RUNS,
    Sheet,
    Shown,
    amount,
    energy_unit,
    finite,
    inline,
    price_kwh,
    scaled,
    spent_kwh,
    value_axis,
)
from greenml.plots.theme import BLUE, GREEN, INK, ORANGE, PICKED, SUBTLE, WIDTH_PX, Chart, faded, legible, pickable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Row = Mapping[str, Any]

FEW = 30
"""A lone epoch has no line to draw, so points stay visible where there are few."""
MAX_MARKED = 12
"""Runs whose marks are shown together; of more, only those of the run that is picked."""
TALL_PX, LOW_PX = 190, 110


def curves(epochs: Sequence[Row], *, title: str, subtitle: str, best_epoch: int | None) -> alt.VConcatChart:
    """Loss and accuracy of one run by epoch, cumulative energy beneath; `epochs` are rows of the view of that name.

    Energy that is unknown leaves a gap. The subtitle is where the caller says whether it was measured or estimated.
    """
    unit = energy_unit(map(spent_kwh, epochs))
    splits = inline(
        [
            {
                "epoch": row["epoch"],
                "split": split,
                "accuracy": scaled(row[f"{prefix}_accuracy"]),
                "loss": scaled(row[f"{prefix}_loss"]),
            }
            for row in epochs
            for split, prefix in (("training", "train"), ("validation", "val"))
        ]
    )
    spent = inline([{"epoch": row["epoch"], "energy": scaled(spent_kwh(row), unit.factor)} for row in epochs])
    # Every panel has the same axis of epochs, and only the lowest writes it out.
    scale = alt.Scale(domain=[1, max(2, *(row["epoch"] for row in epochs))])
    bare = by_epoch(scale, labels=False, title=None)
    colour = alt.Color("split:N", scale=alt.Scale(domain=["training", "validation"], range=[ORANGE, BLUE]))
    few = len(epochs) <= FEW
    loss = lines(splits, bare, valued("loss", "loss"), colour, points=few).properties(height=150)
    accuracy = lines(splits, bare, valued("accuracy", "accuracy", format="%"), colour, points=few)
    panels = [loss, accuracy.properties(height=150)]
    if best_epoch is not None:
        chosen = alt.Chart(inline([{"epoch": best_epoch}])).mark_rule(color=SUBTLE, strokeDash=[3, 3])
        panels[1] = alt.layer(panels[1], chosen.encode(x=bare)).properties(height=150)
    energy = (
        alt.Chart(spent)
        .mark_area(
            color=GREEN, opacity=0.25, line={"color": GREEN}, point={"color": GREEN, "size": 40} if few else False
        )
        .encode(x=by_epoch(scale), y=alt.Y("energy:Q", title=f"cumulative {unit.name}", axis=alt.Axis(tickCount=4)))
        .properties(width=WIDTH_PX, height=LOW_PX)
    )
    words = alt.TitleParams(legible(title), subtitle=legible(subtitle), fontSize=15)
    return alt.vconcat(*panels, energy, spacing=8).properties(title=words)


def learning(sheet: Sheet, optimal: Sequence[Row]) -> Chart | None:
    """Validation by epoch and by energy, with the optimal epoch and the knee of each run, and validation loss.

    `optimal` are rows of `optimal_epoch`. One column of panels a contest. None where no epoch was validated.
    """
    drawn = {*learned_runs(sheet).run_ids}
    panels = [
        panel
        for number, title, run in sheet.panels
        if any(row["run_id"] in drawn and row["contest"] == number for row in sheet.run_rows)
        for panel in _of_contest(sheet, number, run, optimal, title if len(sheet.panels) > 1 else None)
    ]
    return pickable(alt.vconcat(*panels, spacing=14)) if panels else None


def learned_runs(sheet: Sheet) -> Shown:
    """Runs with an epoch that was validated, in the contests that have a panel."""
    panels = {number for number, _, _ in sheet.panels}
    numbers = {row["run_id"]: row["contest"] for row in sheet.run_rows}
    validated = (row["run_id"] for row in sheet.drawn_epochs if row["value"] is not None)
    return Shown.first(
        (run_id for run_id in validated if numbers[run_id] in panels),
        {row["run_id"] for row in sheet.epochs if row["value"] is not None},
    )


def marginal(sheet: Sheet) -> Chart | None:
    """Energy per percentage point of validation accuracy gained, by epoch. None where no epoch gained any."""
    if not priced_runs(sheet).run_ids:
        return None
    prices = [price * sheet.per_point.factor for price in finite(map(price_kwh, sheet.marginal))]
    chart = (
        _known(sheet)
        .transform_filter("datum.per_point > 0")
        .encode(
            x=by_epoch(alt.Scale(domain=[1, max(2, *(row["epoch"] for row in sheet.marginal))], padding=8)),
            y=alt.Y(**amount("per_point", f"{sheet.per_point.name} per percentage point gained", prices)),
            color=sheet.coloured(),
            detail="run_id:N",
        )
    )
    price = alt.Tooltip("per_point:Q", title=f"{sheet.per_point.name} per point", format=".3~r")
    said = [alt.Tooltip("run:N"), alt.Tooltip("epoch:Q"), price]
    way = chart.mark_line(strokeWidth=1).encode(opacity=faded(0.35))
    points = chart.mark_point(filled=True, size=34).encode(opacity=faded(0.9), shape=sheet.shaped(), tooltip=said)
    crowded = len(sheet.drawn_epochs) > 600
    drawn: Any = way.encode(opacity=faded(0.7), strokeDash=sheet.dashed()) if crowded else alt.layer(way, points)
    return pickable(drawn.properties(width=WIDTH_PX, height=280))


def priced_runs(sheet: Sheet) -> Shown:
    """Runs with an epoch that has a price."""
    priced = {(row["run_id"], row["epoch"]) for row in sheet.marginal if row["wh_per_point"]}
    drawn = (row["run_id"] for row in sheet.drawn_epochs if (row["run_id"], row["epoch"]) in priced)
    return Shown.first(drawn, {run_id for run_id, _ in priced})


# Building blocks


def by_epoch(scale: alt.Scale | Any = alt.Undefined, **axis: Any) -> alt.X:
    """The axis of epochs: whole numbers."""
    return alt.X("epoch:Q", scale=scale, axis=alt.Axis(tickMinStep=1, **{"format": "d", "title": "epoch"} | axis))


def valued(field: str, title: str, **axis: Any) -> alt.Y:
    """An axis of figures that need not start at 0."""
    return alt.Y(f"{field}:Q", scale=alt.Scale(zero=False), axis=alt.Axis(title=title, tickCount=4, **axis))


def lines(data: Any, x: alt.X, y: alt.Y, colour: alt.Color, *, points: bool, **more: Any) -> Any:
    """One line for each colour (and each `detail`); unknown leaves a gap."""
    chart = data if isinstance(data, alt.Chart) else alt.Chart(data)
    shown = {"filled": True, "size": 34} if points else False
    return chart.mark_line(point=shown).encode(x=x, y=y, color=colour, **more).properties(width=WIDTH_PX)


def _known(sheet: Sheet) -> Any:
    known = sheet.lookup("run", "model", "precision", "contest")
    return alt.Chart(sheet.epoch_data).transform_lookup(lookup="run_id", from_=known)


def _of_contest(sheet: Sheet, number: int, run: Row, optimal: Sequence[Row], title: str | None) -> list[Any]:
    name, axis = value_axis(run)
    base = _known(sheet).transform_filter(f"datum.contest === {number}")
    numbers = {row["run_id"]: row["contest"] for row in sheet.run_rows}
    drawn = [row for row in sheet.drawn_epochs if numbers[row["run_id"]] == number]
    last = max(row["epoch"] for row in drawn)
    epochs = by_epoch(alt.Scale(domain=[1, max(2, last)]))
    metered = [spent * sheet.energy.factor for spent in finite(map(spent_kwh, drawn))]
    spent = alt.X(**amount("energy", f"energy up to this epoch, {sheet.energy.name}", metered))
    how = {
        "detail": "run_id:N",
        "strokeDash": sheet.dashed(),
        "opacity": faded(0.85),
        "tooltip": [alt.Tooltip("run:N")],
    }
    few = len(drawn) <= 10 * FEW
    y = valued("value", name, **axis)
    colour = sheet.coloured()
    marks = _marks(sheet, number, optimal)
    panels = [
        alt.layer(lines(base, epochs, y, colour, points=few, **how), *marks(epochs, y)).properties(height=TALL_PX)
    ]
    if metered:
        # A line whose energy is not known has no place here, and none at 0.
        known = base.transform_filter("datum.energy > 0")
        panels.append(
            alt.layer(lines(known, spent, y, colour, points=few, **how), *marks(spent, y)).properties(height=TALL_PX)
        )
    if any(row["val_loss"] is not None for row in drawn):
        loss = lines(base, epochs, valued("loss", "validation loss"), colour, points=few, **how)
        panels.append(loss.properties(height=LOW_PX))
    if title:
        panels[0] = panels[0].properties(title=title)
    return panels


def _marks(sheet: Sheet, number: int, optimal: Sequence[Row]) -> Any:
    """Rings at the optimal epochs, diamonds at the knees."""
    numbers = {row["run_id"]: row["contest"] for row in sheet.run_rows[:MAX_RUNS]}
    rows = []
    for row in optimal:
        if numbers.get(row["run_id"]) == number:
            places = [("optimal epoch", "", "epoch"), ("knee", "knee_", "knee_epoch")]
            rows += [
                {
                    "run_id": row["run_id"],
                    "mark": mark,
                    "epoch": row[epoch],
                    "value": scaled(row[f"{prefix}accuracy"]),
                    "energy": scaled(row[f"{prefix}energy_kwh"], sheet.energy.factor),
                }
                for mark, prefix, epoch in places
                if row[epoch] is not None
            ]
    if not rows:
        return lambda *_: []
    crowded = len({row["run_id"] for row in rows}) > MAX_MARKED
    shapes = alt.Scale(domain=["optimal epoch", "knee"], range=["circle", "diamond"])
    legend = alt.Legend(symbolStrokeColor=INK, symbolFillColor="transparent", symbolStrokeWidth=1.4)
    data = alt.Chart(inline(rows))
    data = data.transform_filter(f"datum.run_id === {PICKED}") if crowded else data
    chart = data.mark_point(filled=False, size=90, stroke=INK, strokeWidth=1.2)
    said = [alt.Tooltip("mark:N"), alt.Tooltip("epoch:Q"), alt.Tooltip("run_id:N", title="run")]

    def drawn(x: alt.X, y: alt.Y) -> list[Any]:
        shape = alt.Shape("mark:N", scale=shapes, legend=legend)
        return [chart.encode(x=x, y=y, shape=shape, opacity=faded(), tooltip=said)]

    return drawn
