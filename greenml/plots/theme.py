"""One theme for every chart, and how a chart becomes a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt

if TYPE_CHECKING:
    from pathlib import Path

# Okabe and Ito's colours, told apart by colour-blind eyes too.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#6b6b6b"

WIDTH_PX = 560


@alt.theme.register("greenml", enable=True)
def _theme() -> alt.theme.ThemeConfig:
    return alt.theme.ThemeConfig(
        config={
            "font": "sans-serif",
            "background": "white",
            "view": {"stroke": None},
            "axis": {"labelColor": GREY, "titleColor": GREY, "gridColor": "#e8e8e8", "titleFontWeight": "normal"},
            "legend": {"title": None, "labelColor": GREY, "symbolType": "stroke", "symbolStrokeWidth": 3},
            "title": {"anchor": "start", "fontSize": 15, "subtitleColor": GREY, "subtitlePadding": 4},
            "line": {"strokeWidth": 2},
        }
    )


def save_png(chart: alt.TopLevelMixin, path: Path) -> None:
    """At twice the size, for sharp text."""
    chart.save(str(path), format="png", scale_factor=2)
