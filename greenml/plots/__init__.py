"""Rows -> charts: plain functions, one theme. The only door to Altair."""

from greenml.plots.curves import MAX_MARKED, curves, learning, marginal
from greenml.plots.parts import MAX_BARS as MAX_STACKS
from greenml.plots.parts import known_runs, parts
from greenml.plots.places import drawn_ids, elsewhere, timeline, world_map
from greenml.plots.ranking import MAX_BARS, leaderboard, ranking
from greenml.plots.saving import MAX_PAIRS, break_even, count, savings
from greenml.plots.sheet import MAX_RUNS, Sheet
from greenml.plots.spread import has_seasons, heatmap, repeats
from greenml.plots.theme import PICKED, save_png, save_svg, titled, unchecked
from greenml.plots.tradeoff import tradeoff

__all__ = [
    "MAX_BARS",
    "MAX_MARKED",
    "MAX_PAIRS",
    "MAX_RUNS",
    "MAX_STACKS",
    "PICKED",
    "Sheet",
    "break_even",
    "count",
    "curves",
    "drawn_ids",
    "elsewhere",
    "has_seasons",
    "heatmap",
    "known_runs",
    "leaderboard",
    "learning",
    "marginal",
    "parts",
    "ranking",
    "repeats",
    "save_png",
    "save_svg",
    "savings",
    "timeline",
    "titled",
    "tradeoff",
    "unchecked",
    "world_map",
]
