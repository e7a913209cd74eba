"""What a sweep found: its front as it grew, what that took, which parameters mattered, and every trial of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import altair as alt

from greenml.plots.sheet import PLAIN, Sheet, Shown, amount, energy_unit, inline, mass_unit, scaled
from greenml.plots.theme import BLUE, GRID, INK, OTHERS, WIDTH_PX, Chart, faded, legible, pickable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Row = Mapping[str, Any]

MAX_SWEEPS = 3
"""Sweeps that get a panel of their own, the newest."""
MAX_LINES = 300
"""Trials of a sweep that are drawn as lines."""
QUARTERS = {0.25: "a quarter", 0.5: "half", 0.75: "three quarters", 1.0: "all"}
OPACITIES = (0.35, 0.55, 0.75, 1.0)
"""One colour that gets stronger: a ramp to black or to white would vanish in one of a page's two modes."""
OBJECTIVES = {"accuracy": "best validation accuracy", "co2_g": "CO2e of an epoch"}
ROW_PX = 44
ENDS: tuple[tuple[Any, Any, int, int], ...] = (
    ("right", "middle", -6, 0),
    ("center", "bottom", 0, -5),
    ("left", "middle", 6, 0),
)
"""How the words of an axis stand to their place: before its least value, above it, behind its greatest."""
MARGIN = 0.26
"""Beside the axes of trials, of their length: room for the ends of ranges, which no line crosses there."""


def searched(sweeps: Sequence[Row]) -> Shown:
    """The sweeps that have a panel; `sweeps` are rows of the view of that name, the newest first."""
    return Shown.first([row["run_id"] for row in sweeps[:MAX_SWEEPS]], {row["run_id"] for row in sweeps})


def search_front(sheet: Sheet, sweeps: Sequence[Row], points: Sequence[Row], fronts: Sequence[Row]) -> Chart | None:
    """The front after each quarter of the energy, above all epochs of the trials; None where there is none.

    `points` are rows of `sweep_points`, `fronts` of `sweep_fronts`, with the share of the energy in `quarter`.
    """
    mass = mass_unit(row["co2_g"] for row in points)
    panels = []
    for sweep in _drawn(sweeps):
        own = [row for row in points if row["sweep_id"] == sweep["run_id"]]
        reached = [row for row in fronts if row["sweep_id"] == sweep["run_id"]]
        if not reached:
            continue
        panel = _fronts(sheet, own, reached, mass.factor, mass.name)
        panels.append(_named(panel, sweep, sweeps))
    return _stacked(panels)


def _fronts(sheet: Sheet, points: Sequence[Row], fronts: Sequence[Row], factor: float, unit: str) -> Any:
    tried = [
        {
            "run_id": row["run_id"],
            "trial": row["number"],
            "epoch": row["epoch"],
            "value": scaled(row["accuracy"]),
            "grams": scaled(row["co2_g"], factor),
        }
        for row in points
    ]
    steps = [
        {
            "run_id": row["run_id"],
            "trial": row["number"],
            "model": sheet.series(row["model"]),
            "precision": legible(row["precision"] or "unknown", 20),
            "epoch": row["epochs"],
            "spent": QUARTERS[row["quarter"]],
            "value": scaled(row["accuracy"]),
            "grams": scaled(row["co2_g"], factor),
        }
        for row in fronts
    ]
    there = [name for name in QUARTERS.values() if any(row["spent"] == name for row in steps)]
    x = alt.X(**amount("grams", f"CO2e up to this epoch, {unit}", [row["grams"] for row in tried]))
    y = alt.Y(
        "value:Q",
        scale=alt.Scale(zero=False, padding=12),
        axis=alt.Axis(title="validation accuracy", format="%", tickCount=6),
    )
    said = [
        alt.Tooltip("trial:Q"),
        alt.Tooltip("epoch:Q"),
        alt.Tooltip("value:Q", title="validation accuracy", format=".1%"),
        alt.Tooltip("grams:Q", title=f"CO2e, {unit}", format=".3~r"),
    ]
    dots = (
        alt.Chart(inline(tried))
        .mark_point(filled=True, size=16, color=OTHERS)
        .encode(x=x, y=y, opacity=faded(0.55), tooltip=said)
    )
    # Of type ordinal: a point scale, which is what opacity has by itself, knows the two ends of a range alone.
    strength = alt.Scale(type="ordinal", domain=there, range=[*OPACITIES[len(OPACITIES) - len(there) :]])
    legend = alt.Legend(
        symbolType="stroke",
        symbolStrokeColor=BLUE,
        columns=2,
        labelExpr="'after ' + datum.label + ' of the energy'",
    )
    ways = (
        alt.Chart(inline(steps))
        .mark_line(interpolate="step-after", color=BLUE, strokeWidth=2)
        .encode(
            x=x,
            y=y,
            order=alt.Order("grams:Q"),
            opacity=alt.Opacity("spent:N", scale=strength, sort=there, legend=legend),
        )
    )
    ends = (
        alt.Chart(inline([row for row in steps if row["spent"] == there[-1]]))
        .mark_point(filled=True, size=80, stroke=INK, strokeWidth=0.6)
        .encode(
            x=x,
            y=y,
            color=sheet.coloured(),
            shape=sheet.shaped(),
            opacity=faded(),
            tooltip=[alt.Tooltip("model:N"), *said],
        )
    )
    return alt.layer(dots, ways, ends).properties(width=WIDTH_PX, height=300)


def search_gain(sweeps: Sequence[Row], progress: Sequence[Row]) -> Chart | None:
    """Hypervolume against the energy that the search had taken; `progress` are rows of `sweep_progress`."""
    shown = {row["run_id"] for row in _drawn(sweeps)}
    rows = [row for row in progress if row["sweep_id"] in shown and row["hypervolume"] is not None]
    if not rows:
        return None
    unit = energy_unit(row["known_kwh"] for row in rows)
    panels = []
    for sweep in _drawn(sweeps):
        own = [
            {
                "step": row["step"],
                "energy": scaled(row["known_kwh"], unit.factor),
                "volume": scaled(row["hypervolume"]),
            }
            for row in rows
            if row["sweep_id"] == sweep["run_id"]
        ]
        if not own:
            continue
        axis = alt.Axis(title=f"energy of the search so far, {unit.name}", format=PLAIN, tickCount=6)
        x = alt.X("energy:Q", scale=alt.Scale(domainMin=0, nice=False, padding=0), axis=axis)
        y = alt.Y("volume:Q", scale=alt.Scale(zero=False), axis=alt.Axis(title="hypervolume", format="%", tickCount=5))
        said = [
            alt.Tooltip("energy:Q", title=f"energy, {unit.name}", format=".3~r"),
            alt.Tooltip("volume:Q", title="hypervolume", format=".1%"),
        ]
        base = alt.Chart(inline(own)).encode(x=x, y=y, order=alt.Order("step:Q"))
        way = base.mark_line(interpolate="step-after", color=BLUE)
        panel = alt.layer(way, base.mark_point(filled=True, size=26, color=BLUE, opacity=1).encode(tooltip=said))
        panels.append(_named(panel.properties(width=WIDTH_PX, height=200), sweep, sweeps))
    return _stacked(panels, picks=False)


def importance(sweeps: Sequence[Row], rows: Sequence[Row]) -> Chart | None:
    """Which share of the variance goes with each parameter alone; `rows` of `sweep_importance`."""
    panels = []
    for sweep in _drawn(sweeps):
        own = [row for row in rows if row["sweep_id"] == sweep["run_id"] and row["importance"] is not None]
        if own:
            first, *others = _importances(own)
            panels += [_named(first, sweep, sweeps), *others]
    return _stacked(panels, picks=False)


def _importances(rows: Sequence[Row]) -> list[Any]:
    """One below the other, which fits a phone."""
    weights: dict[str, float] = {}
    for row in rows:
        weights[row["key"]] = weights.get(row["key"], 0.0) + row["importance"]
    keys = sorted(weights, key=lambda key: (-weights[key], key))
    bars = [
        {
            "key": legible(row["key"], 30),
            "place": keys.index(row["key"]),
            "objective": row["objective"],
            "share": scaled(row["importance"]),
        }
        for row in rows
    ]
    sides: list[Any] = []
    for objective, title in OBJECTIVES.items():
        own = [bar for bar in bars if bar["objective"] == objective]
        if not own:
            continue
        words = alt.Axis(title=None, domain=False, ticks=False, labelColor=INK)
        y = alt.Y("key:N", sort=alt.EncodingSortField("place", op="min"), axis=words)
        axis = alt.Axis(title=f"{title}: variance explained", format="%", values=[0, 0.25, 0.5, 0.75, 1])
        x = alt.X("share:Q", scale=alt.Scale(domain=[0, 1.08], nice=False), axis=axis)
        base = alt.Chart(inline(own)).encode(x=x, y=y)
        bar = base.mark_bar(height=13, color=BLUE).encode(
            tooltip=[alt.Tooltip("key:N"), alt.Tooltip("share:Q", format=".0%")]
        )
        figure = base.mark_text(align="left", dx=4).encode(text=alt.Text("share:Q", format=".0%"))
        sides.append(alt.layer(bar, figure).properties(width=WIDTH_PX, height=alt.Step(22)))
    return sides


def trials(sheet: Sheet, sweeps: Sequence[Row], rows: Sequence[Row], fronts: Sequence[Row]) -> Chart | None:
    """Parallel coordinates, lying on their side so that they fit a phone: a line a trial, a row a parameter.

    `rows` are those of `trials`, with the config that each was trained with; `fronts` as above. None where none ended.
    """
    panels = []
    for sweep in _drawn(sweeps):
        own = coordinates(sweep, rows)
        if not own:
            continue
        last = {row["run_id"] for row in fronts if row["sweep_id"] == sweep["run_id"] and row["quarter"] == 1.0}
        panels.append(_named(_parallel(sheet, sweep, own[:MAX_LINES], last), sweep, sweeps))
    return _stacked(panels)


def coordinates(sweep: Row, rows: Sequence[Row]) -> list[Row]:
    """The trials of a sweep that have a place on every axis."""
    return [
        row
        for row in rows
        if row["sweep_id"] == sweep["run_id"]
        and row["state"] == "complete"
        and row["config"] is not None
        and row["accuracy"] is not None
        and row["last_co2_g"]
    ]


def _parallel(sheet: Sheet, sweep: Row, rows: Sequence[Row], on_front: set[str]) -> Any:
    mass = mass_unit(row["last_co2_g"] for row in rows)
    lines: list[dict[str, Any]] = []
    marks: list[dict[str, Any]] = []
    axes: list[tuple[str, list[Any], bool, bool, str]] = [
        (
            key,
            [row["config"].get(key) for row in rows],
            cases[0]["type"] != "categorical",
            bool(cases[0].get("log")),
            "~g",
        )
        for key, cases in sweep["space"]["parameters"].items()
    ]
    axes += [
        ("best val. accuracy", [row["accuracy"] for row in rows], True, False, "%"),
        (f"CO2e, {mass.name}", [row["last_co2_g"] * mass.factor for row in rows], True, True, "~g"),
    ]
    for name, values, is_range, is_log, form in axes:
        places, ticks = _axis(values, is_range=is_range, is_log=is_log, form=form)
        marks += [
            {"axis": legible(name, 30), "place": place, "text": text, "side": side} for place, text, side in ticks
        ]
        lines += [
            {
                "axis": legible(name, 30),
                "run_id": row["run_id"],
                "trial": row["number"],
                "model": sheet.series(row["model"] or ""),
                "on": "on the front" if row["run_id"] in on_front else "not",
                "place": scaled(place),
                "number": len(lines) // len(rows),
            }
            for row, place in zip(rows, places, strict=True)
            if place is not None
        ]
    order = [legible(name, 30) for name, *_ in axes]
    y = alt.Y(
        "axis:N",
        sort=order,
        axis=alt.Axis(title=None, domain=False, ticks=False, labelColor=INK),
        scale=alt.Scale(padding=0.6),
    )
    x = alt.X("place:Q", axis=None, scale=alt.Scale(domain=[-MARGIN, 1 + MARGIN], nice=False))
    base = alt.Chart(inline(lines)).encode(
        x=x,
        y=y,
        detail="run_id:N",
        order=alt.Order("number:Q"),
        color=sheet.coloured(),
        tooltip=[alt.Tooltip("trial:Q"), alt.Tooltip("model:N")],
    )
    others = base.transform_filter("datum.on === 'not'").mark_line(strokeWidth=1).encode(opacity=faded(0.3))
    chosen = base.transform_filter("datum.on !== 'not'").mark_line(strokeWidth=2.4).encode(opacity=faded(0.95))
    words = [
        alt.Chart(inline(own))
        .mark_text(align=align, baseline=baseline, dx=dx, dy=dy, fontSize=11, color=INK)
        .encode(x=x, y=y, text="text:N")
        for align, baseline, dx, dy in ENDS
        if (own := [mark for mark in marks if mark["side"] == align])
    ]
    rails = (
        alt.Chart(inline([{"axis": name, "from": 0.0, "to": 1.0} for name in order]))
        .mark_rule(color=GRID)
        .encode(x=alt.X("from:Q", axis=None), x2="to:Q", y=y)
    )
    return alt.layer(rails, others, chosen, *words).properties(width=WIDTH_PX, height=alt.Step(ROW_PX))


def _axis(
    values: Sequence[Any], *, is_range: bool, is_log: bool, form: str
) -> tuple[list[float | None], list[tuple[float, str, str]]]:
    """Where each value lies between 0 and 1, and what is written where: place, text and alignment. What is not said has
    no place."""
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if is_range and numbers:
        low, high = min(numbers), max(numbers)
        bent = is_log and low > 0

        def at(value: Any) -> float | None:
            if isinstance(value, bool) or not isinstance(value, int | float):
                return None
            if high == low:
                return 0.5
            if bent:
                return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
            return (value - low) / (high - low)

        said = [f"{100 * value:.1f} %" if form == "%" else f"{value:.2g}" for value in (low, high)]
        ticks = [(0.5, said[0], "center")] if low == high else [(0.0, said[0], "right"), (1.0, said[1], "left")]
        return [at(value) for value in values], ticks
    names = sorted({str(value) for value in values}, key=lambda name: (_number(name), name))
    step = 1 / max(1, len(names) - 1)
    places = {name: 0.5 if len(names) == 1 else i * step for i, name in enumerate(names)}
    ticks = [(place, legible(name, 24), "center") for name, place in places.items()]
    return [places[str(value)] for value in values], ticks


def _number(name: str) -> float:
    """Sizes in their order; names after them."""
    try:
        return float(name)
    except ValueError:
        return math.inf


def _drawn(sweeps: Sequence[Row]) -> Sequence[Row]:
    return sweeps[:MAX_SWEEPS]


def _named(panel: Any, sweep: Row, sweeps: Sequence[Row]) -> Any:
    """With the sweep's name above it, where there are several."""
    if len(sweeps) < 2:
        return panel
    return panel.properties(
        title=alt.TitleParams(f"sweep {legible(sweep['name'] or '', 40)} {sweep['run_id'][:8]}".replace("  ", " "))
    )


def _stacked(panels: list[Any], *, picks: bool = True) -> Chart | None:
    if not panels:
        return None
    chart = panels[0] if len(panels) == 1 else alt.vconcat(*panels, spacing=24)
    return pickable(chart) if picks else chart
