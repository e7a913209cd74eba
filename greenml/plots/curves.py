"""How a run learned, epoch by epoch, and what that took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import polars as pl

from greenml.plots.theme import BLUE, GREEN, GREY, ORANGE, WIDTH_PX
from greenml.units import wh

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def curves(epochs: Sequence[Mapping[str, Any]], *, title: str, subtitle: str, best_epoch: int) -> alt.VConcatChart:
    """Loss and accuracy by epoch, cumulative energy beneath; `epochs` are rows of the view of that name.

    Energy that is unknown leaves a gap. The subtitle is where the caller says whether it was measured or estimated.
    """
    frame = pl.DataFrame(
        {
            "epoch": [row["epoch"] for row in epochs],
            "train loss": [row["train_loss"] for row in epochs],
            "validation loss": [row["val_loss"] for row in epochs],
            "training": [row["train_accuracy"] for row in epochs],
            "validation": [row["val_accuracy"] for row in epochs],
            "Wh": [None if row["energy_total_j"] is None else wh(row["energy_total_j"]) for row in epochs],
        }
    )
    # A lone epoch has no line to draw, so points stay visible where there are few.
    points = {"filled": True, "size": 40} if len(epochs) <= 30 else False
    scale = alt.Scale(domain=[1, max(2, len(epochs))])
    at = alt.X("epoch:Q", scale=scale, axis=alt.Axis(tickMinStep=1, format="d"))
    bare = alt.X("epoch:Q", scale=scale, axis=alt.Axis(tickMinStep=1, labels=False, title=None))
    colour = alt.Color("split:N", scale=alt.Scale(domain=["training", "validation"], range=[ORANGE, BLUE]))

    def pair(train: str, val: str, name: str, **axis: Any) -> alt.Chart:
        long = frame.select("epoch", pl.col(train).alias("training"), pl.col(val).alias("validation"))
        long = long.unpivot(index="epoch", variable_name="split", value_name=name)
        y = alt.Y(f"{name}:Q", axis=alt.Axis(tickCount=4, **axis), scale=alt.Scale(zero=False))
        chart: alt.Chart = alt.Chart(long).mark_line(point=points).encode(x=bare, y=y, color=colour)
        return chart.properties(width=WIDTH_PX, height=150)

    chosen = (
        alt.Chart(pl.DataFrame({"epoch": [best_epoch]})).mark_rule(color=GREY, strokeDash=[3, 3]).encode(x="epoch:Q")
    )
    loss = pair("train loss", "validation loss", "loss")
    accuracy = pair("training", "validation", "accuracy", format="%") + chosen
    energy = (
        alt.Chart(frame)
        .mark_area(
            color=GREEN, opacity=0.25, line={"color": GREEN}, point={"color": GREEN, "size": 40} if points else False
        )
        .encode(x=at, y=alt.Y("Wh:Q", title="cumulative Wh", axis=alt.Axis(tickCount=4)))
        .properties(width=WIDTH_PX, height=110)
    )
    return alt.vconcat(loss, accuracy, energy, spacing=8).properties(title=alt.TitleParams(title, subtitle=subtitle))
