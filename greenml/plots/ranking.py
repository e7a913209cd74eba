"""The leaderboard as bars: what each run reached for its energy, and its accuracy beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from greenml.plots.sheet import Sheet, Shown, inline, scaled
from greenml.plots.theme import INK, SUBTLE, Chart, faded, legible, pickable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Row = Mapping[str, Any]

MAX_BARS = 30
BAR_PX = 22


def leaderboard(rows: Sequence[Row]) -> Chart | None:
    """Accuracy points per kWh and test accuracy, the best of each contest; `rows` of `leaderboard`, as ranked."""
    return ranking(Sheet(runs=rows))


def ranking(sheet: Sheet) -> Chart | None:
    """The same from a sheet, so that a page's colours hold. None where no run of a contest has an accuracy."""
    panels = [
        _panel(sheet, rows, title if len(sheet.panels) > 1 else None)
        for _, title, run in sheet.panels
        if (rows := _reached(sheet, run["contest"])[:MAX_BARS])
    ]
    if not panels:
        return None
    return pickable(panels[0] if len(panels) == 1 else alt.vconcat(*panels, spacing=24))


def ranked_runs(sheet: Sheet) -> Shown:
    """The first of each contest that has a panel."""
    drawn = (row["run_id"] for _, _, run in sheet.panels for row in _reached(sheet, run["contest"])[:MAX_BARS])
    return Shown.first(drawn, {row["run_id"] for row in sheet.runs if row["accuracy"] is not None})


def _reached(sheet: Sheet, contest: str) -> list[Row]:
    return [row for row in sheet.runs if row["contest"] == contest and row["accuracy"] is not None]


def _panel(sheet: Sheet, rows: Sequence[Row], title: str | None) -> alt.HConcatChart:
    known = {row["run_id"]: row for row in sheet.run_rows}
    bars = [
        {
            "run_id": row["run_id"],
            "run": f"{row['rank']}. {sheet.labels[row['run_id']]}" if row["rank"] else sheet.labels[row["run_id"]],
            "place": place,
            "model": known[row["run_id"]]["model"],
            # Who is not ranked has no bar, but the reason in its place.
            "ratio": scaled(row["acc_per_kwh"]) if row["rank"] else None,
            "accuracy": scaled(row["accuracy"]),
            "said": known[row["run_id"]]["mark"] if row["rank"] else "",
            "why": "" if row["rank"] else f"unranked: {legible(row['unranked'] or 'no accuracy', 40)}",
        }
        for place, row in enumerate(rows)
    ]
    base = alt.Chart(inline(bars)).properties(height=alt.Step(BAR_PX))
    place = alt.EncodingSortField("place", op="min")
    y = alt.Y("run:N", sort=place, axis=alt.Axis(title=None, domain=False, ticks=False, labelLimit=260, labelColor=INK))
    ratio = alt.X("ratio:Q", axis=None, scale=alt.Scale(domainMin=0, padding=0))
    heads: dict[str, Any] = {"fontWeight": "normal", "color": SUBTLE, "fontSize": 12}
    lefts = alt.layer(
        base.mark_bar(height=13).encode(
            x=ratio, y=y, color=alt.Color("model:N", scale=sheet.colour, legend=None), opacity=faded()
        ),
        base.transform_filter("isValid(datum.ratio)")
        .transform_calculate(label="(datum.said || '') + format(datum.ratio, '.3~s')")
        .mark_text(align="left", dx=4)
        .encode(x=ratio, y=y, text="label:N", opacity=faded()),
        base.transform_filter("!isValid(datum.ratio)")
        .mark_text(align="left", dx=2, color=SUBTLE, fontStyle="italic")
        .encode(x=alt.value(0), y=y, text="why:N", opacity=faded()),
    ).properties(width=230, title=alt.TitleParams("accuracy points per kWh", **heads))
    bare = alt.Y("run:N", sort=place, axis=None)
    reached = alt.X("accuracy:Q", axis=None, scale=alt.Scale(domain=[0, 1]))
    rights = alt.layer(
        base.mark_rule(strokeWidth=1.5).encode(
            x=reached,
            x2=alt.X2Datum(0),
            y=bare,
            color=alt.Color("model:N", scale=sheet.colour, legend=None),
            opacity=faded(0.6),
        ),
        base.mark_point(filled=True, size=60, opacity=1).encode(
            x=reached, y=bare, color=alt.Color("model:N", scale=sheet.colour, legend=None), opacity=faded()
        ),
        base.mark_text(align="left", dx=8).encode(
            x=reached, y=bare, text=alt.Text("accuracy:Q", format=".1%"), opacity=faded()
        ),
    ).properties(width=110, title=alt.TitleParams("test accuracy", **heads))
    drawn: alt.HConcatChart = alt.hconcat(lefts, rights, spacing=60)
    return drawn.properties(title=title) if title else drawn
