"""What a run will have cost when it ends, with an interval: from this machine's history, then from its own epochs.

Arithmetic over plain values: who calls brings the rows, and no library is opened.
"""

from greenml.forecast.history import Kind, Work, before, kind, machine, metering, methods
from greenml.forecast.ledger import Ledger, after
from greenml.forecast.spans import Budgets, Forecast, Span

__all__ = [
    "Budgets",
    "Forecast",
    "Kind",
    "Ledger",
    "Span",
    "Work",
    "after",
    "before",
    "kind",
    "machine",
    "metering",
    "methods",
]
