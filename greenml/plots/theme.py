"""One theme for every chart, and how a chart becomes a file.

Text is INK or SUBTLE, lines between are GRID, and the background is transparent: a page in dark mode gives these three
hex values others by CSS. Every other colour is data, and is left as it is; ON_FILL is text upon a filled cell, which
stays pale in the dark, too.
"""

from __future__ import annotations

import textwrap
import unicodedata
from typing import TYPE_CHECKING, Any, TypeAlias

import altair as alt
from altair.utils import schemapi

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

INK, SUBTLE, GRID = "#333333", "#6b6b6b", "#e4e4e4"
ON_FILL = "#1a1a1a"

# Okabe and Ito's colours, told apart by colour-blind eyes too; yellow is too pale for a thin line on white.
BLUE, ORANGE, GREEN, VERMILION, SKY, PINK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
# Beyond those six, a brown and an olive as dark as these keep their distance.
PALETTE = (BLUE, ORANGE, GREEN, VERMILION, SKY, PINK, "#8C6D46", "#9A9A2E")
OTHERS = "#9c9c9c"
"""Models that have no colour of their own, as nobody tells more than eight apart."""
HUES = ("#f3f7f4", "#7fcdb0")
"""From little to much, pale enough for text upon them."""
UNKNOWN_FILL = "#d5d5d5"
TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
"""What Unicode calls marks that turn the text behind them around. Letters that run from right to left do not."""

WIDTH_PX = 560
FADED = 0.15
LINE = 96
"""Letters on a line above a chart."""

Chart: TypeAlias = Any
"""One of Altair's, whichever: its kinds of charts share no type that has all their methods."""

PICKED = "picked"
"""The variable of every chart whose marks belong to runs: the run_id that a page has picked, or null."""


@alt.theme.register("greenml", enable=True)
def _theme() -> alt.theme.ThemeConfig:
    return alt.theme.ThemeConfig(
        config={
            "font": "sans-serif",
            "background": "transparent",
            "view": {"stroke": None},
            "axis": {
                "labelColor": SUBTLE,
                "titleColor": SUBTLE,
                "gridColor": GRID,
                "domainColor": GRID,
                "tickColor": GRID,
                "titleFontWeight": "normal",
                "labelFontSize": 12,
                "titleFontSize": 12,
                "labelLimit": 260,
            },
            "legend": {
                "title": None,
                "orient": "bottom",
                "labelColor": INK,
                "labelFontSize": 12,
                "labelLimit": 240,
                "symbolStrokeWidth": 3,
                "symbolOpacity": 1,
                "columns": 5,
                "columnPadding": 16,
                "layout": {"bottom": {"anchor": "start", "direction": "vertical", "margin": 4}},
            },
            "title": {
                "anchor": "start",
                "frame": "group",
                "color": INK,
                "subtitleColor": SUBTLE,
                "fontSize": 13,
                "subtitleFontSize": 12,
                "subtitlePadding": 4,
            },
            "header": {"labelColor": INK, "titleColor": SUBTLE, "labelFontSize": 12},
            "text": {"color": INK, "fontSize": 12},
            "line": {"strokeWidth": 2},
        }
    )


def unchecked() -> AbstractContextManager[None]:
    """Within, Altair takes our own charts at their word: to check each part as it is made takes most of the time."""
    return schemapi.debug_mode(False)


def pickable(chart: Any) -> Any:
    """The chart with the variable by which a page says which run is picked: once, also above concatenated charts."""
    chart = chart.copy(deep=False)
    chart.params = [alt.VariableParameter(name=PICKED, value=None)]
    return chart


def faded(opacity: float = 1.0) -> Any:
    """Opacity of a mark of a run: as given, and nearly none where another run is picked."""
    shown = {"test": f"!{PICKED} || datum.run_id === {PICKED}", "value": opacity}
    return alt.OpacityValue(FADED * opacity, condition=shown)


def legible(text: object, width: int = 200) -> str:
    """What users named, on one line, cut in the middle beyond `width`.

    Without characters that no picture can hold, and without those that turn the direction of writing.
    """
    kept = "".join(
        " " if unicodedata.category(c) in ("Cc", "Cs") or unicodedata.bidirectional(c) in TURNS else c
        for c in str(text)
    )
    line = " ".join(kept.split())
    return line if len(line) <= width else f"{line[: width // 2]}…{line[-(width - width // 2 - 1) :]}"


def titled(chart: Any, title: str, caption: str = "") -> Any:
    """The chart on white with words above it, as it is mailed without its page."""
    words = alt.TitleParams(
        legible(title),
        subtitle=textwrap.wrap(legible(caption, 2000), LINE),
        fontSize=15,
        subtitleFontSize=12,
        frame="bounds",
        offset=14,
    )
    # Panels that are aligned to each other stay so beneath the words.
    return chart.properties(title=words, background="white")


def save_png(chart: Any, path: Path) -> None:
    """At twice the size, for sharp text; without a browser."""
    chart.properties(background="white").save(str(path), format="png", scale_factor=2)


def save_svg(chart: Any, path: Path) -> None:
    """As letters and lines; without a browser."""
    chart.properties(background="white").save(str(path), format="svg")
