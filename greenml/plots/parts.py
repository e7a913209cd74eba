"""Where the energy of runs went: by phase, and by component."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from greenml.plots.sheet import PLAIN, Sheet, Shown, inline, scaled
from greenml.plots.theme import INK, OTHERS, Chart, faded, pickable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Row = Mapping[str, Any]

MAX_BARS = 20
BAR_PX = 22
# Apart from the models' colours; each pair of neighbours differs in lightness, for eyes that see no hue.
PHASES = {
    "train": "#5b7a99",
    "validate": "#9db8d2",
    "setup": "#c9a66b",
    "test": "#7d9b76",
    "checkpoint": "#e5d5b0",
    "other": OTHERS,
}
COMPONENTS = {"cpu": "#5b7a99", "gpu": "#c9a66b", "ram": "#9db8d2"}
NAMES = {"cpu": "CPU", "gpu": "GPU", "ram": "RAM"}


def parts(sheet: Sheet, phases: Sequence[Row]) -> Chart | None:
    """Energy by phase, and the share of each component; `phases` have one row per run and name of a phase.

    Only runs whose every phase is known: a stack over a gap is no total. None where there is no such run.
    """
    places = {run_id: place for place, run_id in enumerate(stacked_runs(sheet, phases).run_ids)}
    if not places:
        return None
    by_phase, by_component = [], []
    for row in phases:
        if row["run_id"] not in places:
            continue
        about = {"run_id": row["run_id"], "run": sheet.labels[row["run_id"]], "place": places[row["run_id"]]}
        name = row["name"] if row["name"] in PHASES else "other"
        by_phase.append({**about, "phase": name, "energy": scaled(row["energy_kwh"], sheet.energy.factor)})
        by_component += [
            {**about, "component": NAMES[part], "energy": scaled(row[f"{part}_kwh"], sheet.energy.factor)}
            for part in COMPONENTS
            if row[f"{part}_kwh"]
        ]
    place = alt.EncodingSortField("place", op="min")
    y = alt.Y("run:N", sort=place, axis=alt.Axis(title=None, domain=False, ticks=False, labelColor=INK))
    left = _bars(by_phase, "phase", PHASES, y, f"energy, {sheet.energy.name}", stack="zero")
    bare = alt.Y("run:N", sort=place, axis=None)
    colours = {NAMES[part]: colour for part, colour in COMPONENTS.items()}
    right = _bars(by_component, "component", colours, bare, "share of the energy", stack="normalize")
    both = alt.hconcat(left.properties(width=250), right.properties(width=170), spacing=30)
    return pickable(both.resolve_scale(color="independent"))


def stacked_runs(sheet: Sheet, phases: Sequence[Row]) -> Shown:
    """The first runs of which each phase and component is known."""
    seen = {row["run_id"] for row in phases if row["energy_kwh"]}
    seen -= {row["run_id"] for row in phases if row["energy_kwh"] is None}
    rows = sorted((row for row in sheet.run_rows if row["run_id"] in seen), key=lambda row: int(row["contest"]))
    run_ids = [row["run_id"] for row in rows]
    return Shown.first(run_ids[:MAX_BARS], {*run_ids})


def _bars(rows: list[dict[str, Any]], by: str, colours: dict[str, str], y: alt.Y, title: str, *, stack: Any) -> Any:
    there = [name for name in colours if any(row[by] == name for row in rows)]
    scale = alt.Scale(domain=there, range=[colours[name] for name in there])
    form = "%" if stack == "normalize" else PLAIN
    rows = [row | {"layer": there.index(row[by])} for row in rows]
    return (
        alt.Chart(inline(rows), height=alt.Step(BAR_PX))
        .mark_bar(height=14)
        .encode(
            x=alt.X("sum(energy):Q", stack=stack, axis=alt.Axis(title=title, format=form, tickCount=3)),
            y=y,
            color=alt.Color(f"{by}:N", scale=scale, legend=alt.Legend(columns=3)),
            order=alt.Order("layer:Q"),
            detail="run_id:N",
            opacity=faded(),
            tooltip=[alt.Tooltip("run:N"), alt.Tooltip(f"{by}:N"), alt.Tooltip("sum(energy):Q", format=".3~r")],
        )
    )
