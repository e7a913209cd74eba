"""Rows -> charts: plain functions, one theme. The only door to Altair."""

from greenml.plots.curves import MAX_MARKED, curves, learned_runs, learning, marginal, priced_runs
from greenml.plots.lifecycle import (
    MAX_LINES,
    MAX_PARENTS,
    by_phase,
    compressed_runs,
    families,
    lifecycle,
    predictions,
    pruned,
    sparsity_series,
)
from greenml.plots.parts import MAX_BARS as MAX_STACKS
from greenml.plots.parts import parts, stacked_runs
from greenml.plots.places import drawn_ids, elsewhere, timeline, world_map
from greenml.plots.ranking import MAX_BARS, leaderboard, ranked_runs, ranking
from greenml.plots.saving import MAX_PAIRS, break_even, count, paired, savings
from greenml.plots.search import (
    MAX_SWEEPS,
    QUARTERS,
    coordinates,
    importance,
    search_front,
    search_gain,
    searched,
    trials,
)
from greenml.plots.sheet import MAX_RUNS, Sheet, Shown
from greenml.plots.spread import MAX_MODELS, MAX_RECIPES, emitted_runs, has_seasons, heatmap, repeated_runs, repeats
from greenml.plots.theme import PICKED, save_png, save_svg, titled, unchecked
from greenml.plots.tradeoff import ended_runs, tradeoff

__all__ = [
    "MAX_BARS",
    "MAX_LINES",
    "MAX_MARKED",
    "MAX_MODELS",
    "MAX_PAIRS",
    "MAX_PARENTS",
    "MAX_RECIPES",
    "MAX_RUNS",
    "MAX_STACKS",
    "MAX_SWEEPS",
    "PICKED",
    "QUARTERS",
    "Sheet",
    "Shown",
    "break_even",
    "by_phase",
    "compressed_runs",
    "coordinates",
    "count",
    "curves",
    "drawn_ids",
    "elsewhere",
    "emitted_runs",
    "ended_runs",
    "families",
    "has_seasons",
    "heatmap",
    "importance",
    "leaderboard",
    "learned_runs",
    "learning",
    "lifecycle",
    "marginal",
    "paired",
    "parts",
    "predictions",
    "priced_runs",
    "pruned",
    "ranked_runs",
    "ranking",
    "repeated_runs",
    "repeats",
    "save_png",
    "save_svg",
    "savings",
    "search_front",
    "search_gain",
    "searched",
    "sparsity_series",
    "stacked_runs",
    "timeline",
    "titled",
    "tradeoff",
    "trials",
    "unchecked",
    "world_map",
]
