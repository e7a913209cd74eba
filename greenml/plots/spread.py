"""How far equal runs lie apart, and what runs emitted by model, country and season."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import altair as alt

from greenml.plots.sheet import Sheet, Shown, amount, inline, num_digits
from greenml.plots.theme import HUES, INK, ON_FILL, SUBTLE, WIDTH_PX, Chart, faded, legible, pickable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Row = Mapping[str, Any]

MAX_RECIPES = 30
ENOUGH = 3
"""Runs that make a box: of fewer only the points."""
MAX_MODELS = 20
NOT_SAID = "region not said"


def repeats(sheet: Sheet, groups: Sequence[Row]) -> Chart | None:
    """g CO2e of the runs of a recipe that can be compared, and a box of three and more.

    `groups` are rows of `leaderboard_groups`. None where of no such run the CO2e is known.
    """
    rows = _of_recipes(sheet, groups)
    if not rows:
        return None
    data = inline(rows)
    x = alt.X(**amount("grams", f"{sheet.mass.name} CO2e of a run", [row["grams"] for row in rows]))
    sort = alt.EncodingSortField("place", op="min")
    y = alt.Y(
        "recipe:N", sort=sort, axis=alt.Axis(title=None, domain=False, ticks=False, labelColor=INK, labelLimit=380)
    )
    grey = {"color": SUBTLE, "strokeWidth": 1.2}
    boxes = (
        alt.Chart(data)
        .transform_filter(f"datum.n >= {ENOUGH}")
        .mark_boxplot(
            extent="min-max",
            size=14,
            box={"fill": "transparent", "stroke": SUBTLE, "strokeWidth": 1.2},
            median=grey | {"strokeWidth": 2},
            rule=grey,
            ticks=grey | {"size": 8},
        )
        .encode(x=x, y=y)
    )
    points = (
        alt.Chart(data)
        .mark_point(filled=True, size=50)
        .encode(
            x=x,
            y=y,
            color=alt.Color("model:N", scale=sheet.colour, legend=None),
            opacity=faded(0.85),
            tooltip=[alt.Tooltip("run:N"), alt.Tooltip("grams:Q", title=f"{sheet.mass.name} CO2e", format=".3~r")],
        )
    )
    return pickable(alt.layer(boxes, points).properties(width=WIDTH_PX - 140, height=alt.Step(26)))


def repeated_runs(sheet: Sheet, groups: Sequence[Row]) -> Shown:
    """Runs of the first recipes."""
    members = {run_id for group in groups for run_id in group["run_ids"]}
    return Shown.first((row["run_id"] for row in _of_recipes(sheet, groups)), members & _comparable(sheet).keys())


def _of_recipes(sheet: Sheet, groups: Sequence[Row]) -> list[dict[str, Any]]:
    comparable = _comparable(sheet)
    found = [
        (label, [comparable[run_id] for run_id in group["run_ids"] if run_id in comparable])
        for label, group in zip(recipe_labels(groups), groups, strict=True)
    ]
    return [
        {
            "run_id": run["run_id"],
            "run": run["run"],
            "recipe": f"{label}, n = {len(members)}",
            "place": place,
            "n": len(members),
            "model": run["model"],
            "grams": run["grams"],
        }
        for place, (label, members) in enumerate([recipe for recipe in found if recipe[1]][:MAX_RECIPES])
        for run in members
    ]


def _comparable(sheet: Sheet) -> dict[str, dict[str, Any]]:
    """Whose CO2e says something of equal runs: not one that shared its machine, or did not come to its end."""
    return {
        row["run_id"]: known
        for row, known in zip(sheet.runs, sheet.run_rows, strict=True)
        if row["unranked"] is None and known["grams"] is not None
    }


def recipe_labels(groups: Sequence[Row]) -> list[str]:
    """A name for each group, no two alike: "cnn, bf16, 15 epochs"."""
    names = [
        ", ".join(
            filter(
                None,
                [
                    legible(group["model"], 24),
                    legible(group["precision"] or "", 12),
                    f"{group['max_epochs']} epoch{'s' * (group['max_epochs'] != 1)}" if group["max_epochs"] else "",
                ],
            )
        )
        for group in groups
    ]
    often = Counter(names)
    digits = num_digits([group["run_ids"][0] for group in groups])
    return [
        f"{name} ({group['run_ids'][0][:digits]})" if often[name] > 1 else name
        for name, group in zip(names, groups, strict=True)
    ]


def heatmap(sheet: Sheet) -> Chart | None:
    """Mean g CO2e of a run by model and country, one panel a season, or else a tag. None where none is known."""
    drawn = {*emitted_runs(sheet).run_ids}
    rows = [
        {
            "model": known["name"],
            "place": known["place"],
            "country": legible(known["country"] or NOT_SAID, 30),
            "facet": facet,
            "grams": known["grams"],
        }
        for row, known in zip(sheet.runs, sheet.run_rows, strict=True)
        if known["run_id"] in drawn
        for facet in facets_of(row, by_season=has_seasons(sheet))
    ]
    if not rows:
        return None
    facets = list(dict.fromkeys(row["facet"] for row in rows))
    base = alt.Chart(inline(rows)).transform_aggregate(
        mean="mean(grams)", n="count()", place="min(place)", groupby=["model", "country", "facet"]
    )
    y = alt.Y(
        "model:N",
        sort=alt.EncodingSortField("place", op="min"),
        axis=alt.Axis(title=None, domain=False, ticks=False, labelColor=INK),
    )
    x = alt.X(
        "country:N", axis=alt.Axis(title=None, orient="top", domain=False, ticks=False, labelAngle=0, labelLimit=110)
    )
    colour = alt.Color("mean:Q", scale=alt.Scale(range=list(HUES), zero=True), legend=None)
    said = [
        alt.Tooltip("model:N"),
        alt.Tooltip("country:N"),
        alt.Tooltip("mean:Q", title=f"mean {sheet.mass.name} CO2e", format=".3~r"),
        alt.Tooltip("n:Q", title="runs"),
    ]
    cells = base.mark_rect().encode(x=x, y=y, color=colour, tooltip=said)
    words = (
        base.transform_calculate(label="format(datum.mean, '.3~r') + (datum.n > 1 ? '  (n = ' + datum.n + ')' : '')")
        .mark_text(color=ON_FILL, fontSize=12)
        .encode(x=x, y=y, text="label:N")
    )
    panel = alt.layer(cells, words).properties(width=alt.Step(118), height=alt.Step(26))
    if len(facets) < 2:
        return panel
    several: alt.FacetChart = panel.facet(
        row=alt.Row("facet:N", title=None, header=alt.Header(labelOrient="top", labelAnchor="start"))
    )
    return several.resolve_axis(x="independent").resolve_scale(y="independent")


def emitted_runs(sheet: Sheet) -> Shown:
    """Runs of the first models whose CO2e is known."""
    known = [row for row in sheet.run_rows if row["grams"] is not None]
    models = list(dict.fromkeys(row["name"] for row in known))[:MAX_MODELS]
    drawn = (row["run_id"] for row in known if row["name"] in models)
    return Shown.first(drawn, {row["run_id"] for row in known})


def has_seasons(sheet: Sheet) -> bool:
    """Whether runs say their season, which then divides them; else their tags do."""
    return any(row["season"] for row in sheet.runs)


def facets_of(run: Row, *, by_season: bool) -> list[str]:
    """The panels that a run belongs to: its season, or each of its tags."""
    if by_season:
        return [legible(run["season"] or "no season", 40)]
    return [legible(tag, 40) for tag in run["tags"]] or ["no tag"]
