"""Rows -> charts: plain functions, one theme. The only door to Altair."""

from greenml.plots.curves import curves, learning, marginal
from greenml.plots.ranking import leaderboard, ranking
from greenml.plots.sheet import Sheet
from greenml.plots.theme import PICKED, save_png, save_svg, titled
from greenml.plots.tradeoff import tradeoff

__all__ = [
    "PICKED",
    "Sheet",
    "curves",
    "leaderboard",
    "learning",
    "marginal",
    "ranking",
    "save_png",
    "save_svg",
    "titled",
    "tradeoff",
]
