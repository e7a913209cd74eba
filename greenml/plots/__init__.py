"""Rows -> charts: plain functions, one theme. The only door to Altair."""

from greenml.plots.curves import curves
from greenml.plots.theme import save_png

__all__ = ["curves", "save_png"]
