"""Where and when runs drew their electricity: intensity over time, on a map, and the same run elsewhere.

countries-110m.json: country shapes of Natural Earth 1:110m (public domain, naturalearthdata.com) as TopoJSON, out of
world-atlas 2.0.2 (ISC licence, Copyright 2013-2019 Michael Bostock), without Antarctica, names and the land's outline.
Ids are ISO 3166-1 numeric, or a name where ISO gives none.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt

from greenml.plots.sheet import Sheet, amount, inline, looked_up, scaled
from greenml.plots.theme import (
    GREEN,
    INK,
    PICKED,
    SUBTLE,
    UNKNOWN_FILL,
    VERMILION,
    WIDTH_PX,
    Chart,
    faded,
    legible,
    pickable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Row = Mapping[str, Any]

SHAPES = Path(__file__).with_name("countries-110m.json")
GRIDS = ["#e3f1ea", "#f1e3b4", "#dfa35f", "#8f4a2b"]
"""From clean to dirty; each darker than the one before, for eyes that see no hue."""
SAME_KWH = "datum.kwh * datum.pue"


def timeline(sheet: Sheet, images_per_s: Mapping[str, float]) -> Chart | None:
    """Intensity of the grid and speed of training, run by run, by the time it started. None where neither is known."""
    rows = [
        {
            "run_id": row["run_id"],
            "run": known["run"],
            "model": known["model"],
            "precision": known["precision"],
            "began": f"{row['started_at'].isoformat()}Z",
            "g_per_kwh": known["g_per_kwh"],
            "speed": scaled(images_per_s.get(row["run_id"])),
        }
        for row, known in zip(sheet.runs, sheet.run_rows, strict=True)
        if row["started_at"] is not None
    ]
    speeds = [row["speed"] for row in rows]
    panels = [
        (field, title, values, log)
        for field, title, values, log in (
            ("g_per_kwh", "g CO2e per kWh", [row["g_per_kwh"] for row in rows], False),
            ("speed", "training images per second", speeds, True),
        )
        if any(value is not None for value in values)
    ]
    if not panels:
        return None
    # As text: seven significant digits would be a quarter of an hour.
    data = alt.Chart(inline(rows)).transform_calculate(at="toDate(datum.began)")
    starts = [row["started_at"] for row in sheet.runs if row["started_at"] is not None]
    start, end = min(starts), max(starts)
    form = "%H:%M" if start.date() == end.date() else "%d %b %H:%M" if end - start < timedelta(days=5) else "%d %b %Y"
    ticks: dict[str, Any] = {
        "tickCount": 5,
        "labelOverlap": True,
        "format": form,
    }
    title_of_time = (
        f"start of the run (UTC), {start.date()}" if start.date() == end.date() else "start of the run (UTC)"
    )
    drawn = []
    for i, (field, title, values, log) in enumerate(panels):
        is_last = i == len(panels) - 1
        axis = alt.Axis(title=title_of_time if is_last else None, labels=is_last, **ticks)
        # A lone run has no stretch of time: the axis finds one itself.
        scale = alt.Scale(type="utc", padding=14) if start < end else alt.Scale(type="utc")
        y = amount(field, title, values if log else [])
        if not log:
            y["scale"], y["axis"].tickCount = alt.Scale(zero=True), 4
        drawn.append(
            data.transform_filter(f"isValid(datum.{field})")
            .mark_point(filled=True, size=70)
            .encode(
                x=alt.X("at:T", scale=scale, axis=axis),
                y=alt.Y(**y),
                color=sheet.coloured(),
                shape=sheet.shaped(),
                opacity=faded(0.85),
                tooltip=[alt.Tooltip("run:N"), alt.Tooltip(f"{field}:Q", title=title, format=".3~r")],
            )
            .properties(width=WIDTH_PX, height=130)
        )
    return pickable(alt.vconcat(*drawn, spacing=14).resolve_scale(x="shared"))


def world_map(sheet: Sheet, countries: Sequence[Row]) -> Chart:
    """Intensity of each country's grid, those of the runs outlined.

    `countries` have `numeric` (ISO 3166-1), `name`, `g_per_kwh` and `year`.
    """
    ran = {row["country"] for row in sheet.runs}
    factors = looked_up(
        [
            {
                "id": row["numeric"] or row["name"],
                "name": row["name"],
                "g_per_kwh": scaled(row["g_per_kwh"]),
                "year": row["year"],
                "ran": row["name"] in ran,
            }
            for row in countries
        ]
    )
    shapes = alt.InlineData(
        values=SHAPES.read_text(encoding="utf-8"), format=alt.TopoDataFormat(type="topojson", feature="countries")
    )
    known = alt.LookupData(data=factors, key="id", fields=["name", "g_per_kwh", "year", "ran"])
    scale = alt.Scale(range=GRIDS, domain=[0, 800], clamp=True)
    legend = alt.Legend(title="g CO2e per kWh", titleColor=SUBTLE, titleFontWeight="normal", gradientLength=240)
    land = (
        alt.Chart(shapes)
        .transform_lookup(lookup="id", from_=known)
        .mark_geoshape(stroke="white", strokeWidth=0.4)
        .encode(
            color=alt.condition(
                "isValid(datum.g_per_kwh)",
                alt.Color("g_per_kwh:Q", scale=scale, legend=legend),
                alt.value(UNKNOWN_FILL),
            ),
            tooltip=[
                alt.Tooltip("name:N", title="country"),
                alt.Tooltip("g_per_kwh:Q", title="g CO2e per kWh", format=".3~r"),
                alt.Tooltip("year:Q", format="d"),
            ],
        )
    )
    outlined = (
        alt.Chart(shapes)
        .transform_lookup(lookup="id", from_=known)
        .transform_filter("datum.ran")
        .mark_geoshape(fillOpacity=0, stroke=INK, strokeWidth=1.8)
    )
    return alt.layer(land, outlined).project("equalEarth").properties(width=WIDTH_PX + 40, height=290)


def drawn_ids() -> set[str]:
    """ISO 3166-1 numeric codes of the countries that have a shape; the smallest have none."""
    shapes = json.loads(SHAPES.read_text(encoding="utf-8"))
    return {shape["id"] for shape in shapes["objects"]["countries"]["geometries"]}


def elsewhere(sheet: Sheet, factors: Sequence[Row]) -> Chart | None:
    """Grams of CO2e of one run with the grids of other places: the picked one, or else the first of known energy.

    `factors` have `name` and `g_per_kwh`. The product is made in the chart: energy x PUE x factor. If the energy of a
    picked run is unknown, so are its grams, and they are called so.
    """
    known = [row for row in sheet.run_rows if row["kwh"] is not None]
    if not known:
        return None
    first = known[0]["run_id"]
    rows: list[dict[str, Any]] = [
        {"first": first, "place": legible(row["name"], 40), "factor": scaled(row["g_per_kwh"]), "own": False}
        for row in factors
        if row["g_per_kwh"] is not None
    ]
    rows.append({"first": first, "place": "where it ran", "factor": None, "own": True})
    base = (
        alt.Chart(inline(rows))
        .transform_calculate(run_id=f"{PICKED} ? {PICKED} : datum.first")
        .transform_lookup(lookup="run_id", from_=sheet.lookup("run", "kwh", "pue", "g_per_kwh", "region", "mark"))
        .transform_calculate(
            grams=f"isValid(datum.kwh) ? {SAME_KWH} * (datum.own ? datum.g_per_kwh : datum.factor) : null"
        )
        # The run's own country is not shown twice.
        .transform_filter("datum.place !== datum.region")
        .transform_calculate(
            label="!isValid(datum.grams) ? 'unknown' : datum.mark + (datum.grams >= 1000"
            " ? format(datum.grams / 1000, '.3~r') + ' kg' : datum.grams >= 1"
            " ? format(datum.grams, '.3~r') + ' g' : format(datum.grams * 1000, '.3~r') + ' mg')"
        )
    )
    base = base.transform_calculate(
        words="datum.own ? datum.label + '   ' + datum.run + ' in ' + datum.region : datum.label"
    )
    sort = alt.EncodingSortField("grams", op="min")
    y = alt.Y("place:N", sort=sort, axis=alt.Axis(title=None, domain=False, ticks=False, labelColor=INK))
    x = alt.X("grams:Q", axis=None)
    fill = alt.condition("datum.own", alt.value(VERMILION), alt.value(GREEN))
    bars = base.mark_bar(height=13).encode(
        x=x, y=y, color=fill, tooltip=[alt.Tooltip("place:N"), alt.Tooltip("label:N", title="CO2e")]
    )
    said = base.mark_text(align="left", dx=4)
    words = said.transform_filter("isValid(datum.grams)").encode(x=x, y=y, text="words:N")
    # What is unknown has no bar, but its word where the bars begin.
    unknown = said.transform_filter("!isValid(datum.grams)").encode(x=alt.value(0), y=y, text="words:N")
    return pickable(alt.layer(bars, words, unknown).properties(width=WIDTH_PX - 220, height=alt.Step(21)))
