"""What a choice saved against its pair, and after how many trainings finding it out has paid for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from greenml.plots.sheet import PLAIN, energy_unit, inline, scaled
from greenml.plots.theme import GREEN, INK, SUBTLE, VERMILION, WIDTH_PX, Chart, legible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Row = Mapping[str, Any]

MAX_PAIRS = 20
KEEP, SWAP = "go on as before", "find out, then swap"


def savings(rows: Sequence[Row]) -> Chart | None:
    """Energy ratio and accuracy difference of paired recipes, with their spread; `rows` of the view of that name."""
    pairs = [
        {
            "place": place,
            "pair": f"{_pair(row)}, n = {row['num_pairs']}",
            "ratio": scaled(row["energy_ratio"]),
            "low": _end(row["energy_ratio"], row["std_energy_ratio"], -1),
            "high": _end(row["energy_ratio"], row["std_energy_ratio"], 1),
            "points": scaled(row["accuracy_difference"], 100),
            "points_low": _end(row["accuracy_difference"], row["std_accuracy_difference"], -1, 100),
            "points_high": _end(row["accuracy_difference"], row["std_accuracy_difference"], 1, 100),
        }
        for place, row in enumerate(paired(rows)[:MAX_PAIRS])
    ]
    if not pairs:
        return None
    return alt.hconcat(
        _differences(pairs, "ratio", "low", "high", "energy, new / old", 1, GREEN, labels=True, form="%"),
        _differences(pairs, "points", "points_low", "points_high", "accuracy, points", 0, SUBTLE, form="+.1~f"),
        spacing=34,
    )


def paired(rows: Sequence[Row]) -> list[Row]:
    """Those whose energy ratio is known."""
    return [row for row in rows if row["energy_ratio"] is not None]


def _pair(row: Row) -> str:
    return legible(f"{row['model']}, {row['key']}: {row['from_value']} → {row['to_value']}", 60)


def _end(value: float | None, std: float | None, side: int, factor: float = 1.0) -> float | None:
    """Where the spread of a value ends; one pair has none."""
    return None if value is None or std is None else scaled(value + side * std, factor)


def _differences(
    pairs: list[dict[str, Any]],
    field: str,
    low: str,
    high: str,
    title: str,
    same: float,
    colour: str,
    *,
    form: str,
    labels: bool = False,
) -> Any:
    """Points with their spread, and a line where nothing would differ."""
    known = [pair[name] for pair in pairs for name in (field, low, high) if pair[name] is not None]
    around = alt.Scale(domain=[min(same, *known), max(same, *known)], nice=True, padding=14)
    if field == "ratio":
        around = alt.Scale(domain=[0, max(1.1, *known)])
    x = alt.X(f"{field}:Q", scale=around, axis=alt.Axis(title=title, format=form, tickCount=3))
    words = alt.Axis(title=None, domain=False, ticks=False, labelColor=INK, labelLimit=300)
    y = alt.Y("pair:N", sort=alt.EncodingSortField("place", op="min"), axis=words if labels else None)
    base = alt.Chart(inline(pairs))
    line = alt.Chart(inline([{"same": same}])).mark_rule(color=SUBTLE, strokeDash=[3, 3]).encode(x="same:Q")
    spread = base.mark_rule(strokeWidth=2, color=colour).encode(x=alt.X(f"{low}:Q"), x2=f"{high}:Q", y=y)
    said = [alt.Tooltip("pair:N"), alt.Tooltip(f"{field}:Q", title=title, format=form if "f" in form else ".1%")]
    points = base.mark_point(filled=True, size=80, color=colour, opacity=1).encode(x=x, y=y, tooltip=said)
    return alt.layer(line, spread, points).properties(width=200, height=alt.Step(28))


def break_even(swap: Row) -> Chart:
    """Energy of N later trainings, as before or after the swap, on top of what it took to find out.

    `swap` is a row of `swaps` with `known_tried_kwh`, the energy of all runs of its contest, and `num_trainings`, after
    how many trainings it has saved as much.
    """
    spent_kwh, trainings = swap["known_tried_kwh"], swap["num_trainings"]
    reach = 2 * max(1.0, trainings)
    unit = energy_unit([reach * swap["energy_kwh"]])
    rows = [
        {"choice": choice, "trainings": scaled(n), "energy": scaled(start + n * each, unit.factor)}
        for choice, start, each in ((KEEP, 0.0, swap["energy_kwh"]), (SWAP, spent_kwh, swap["use_energy_kwh"]))
        for n in (0.0, reach)
    ]
    crossing = [
        {
            "trainings": scaled(trainings),
            "energy": scaled(trainings * swap["energy_kwh"], unit.factor),
            "said": f"paid back after {count(trainings)}",
        }
    ]
    x = alt.X(
        "trainings:Q", axis=alt.Axis(title="later trainings", format=PLAIN, tickCount=6), scale=alt.Scale(nice=False)
    )
    y = alt.Y("energy:Q", axis=alt.Axis(title=f"energy together, {unit.name}", format=PLAIN, tickCount=5))
    scale = alt.Scale(domain=[KEEP, SWAP], range=[VERMILION, GREEN])
    ways = (
        alt.Chart(inline(rows))
        .mark_line()
        .encode(
            x=x,
            y=y,
            color=alt.Color("choice:N", scale=scale),
            strokeDash=alt.StrokeDash("choice:N", scale=alt.Scale(domain=[KEEP, SWAP], range=[[6, 3], [1, 0]])),
        )
    )
    even = alt.Chart(inline(crossing))
    point = even.mark_point(filled=True, size=90, color=INK, opacity=1).encode(x=x, y=y)
    words = even.mark_text(align="left", baseline="top", dx=8, dy=8).encode(x=x, y=y, text="said:N")
    return alt.layer(ways, point, words).properties(width=WIDTH_PX, height=240)


def count(trainings: float) -> str:
    """ "4 trainings": the first whole number of them that pays."""
    number = -int(-trainings // 1)
    return f"{number:,} training{'s' * (number != 1)}"
