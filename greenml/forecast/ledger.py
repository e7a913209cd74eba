"""After the first epochs: the rest of a run out of what its own epochs took."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from greenml.forecast.spans import Budgets, Costs, Forecast, Span, around, exactly, total

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from greenml.records import Phase

FIRST_AT_MOST = 1.1
"""The first epoch also finds memory, fills caches and chooses kernels: what it takes beyond so many times the mean of
the others will not come again."""
PRIOR_SD = 0.15
"""How far epochs of one run lie apart, relative to their mean, before it is seen; it counts as much as ..."""
PRIOR_COUNT = 2
"""... so many epochs beyond the first. The recorded runs, which had their machine to themselves, then all end within
the interval of their second epoch (tests/bench_forecast.py); on a machine that others use epochs differ by more."""

CLOSING_SD = 1.0
"""How far what comes with and after the test lies from what it is expected to be, by the logarithm: 0.85 in the
recorded runs. 28 of 29 then end within the interval of their last epoch (tests/test_forecast.py); where nothing is
expected, 2 do."""


@dataclass(slots=True)
class Cost:
    """Seconds, and joules; None once a part of them is unknown."""

    seconds: float = 0.0
    joules: float | None = 0.0

    def add(self, seconds: float, joules: float | None) -> None:
        self.seconds += seconds
        self.joules = None if self.joules is None or joules is None else self.joules + joules


@dataclass(slots=True)
class _Epoch:
    whole: Cost = field(default_factory=Cost)
    validation: Cost = field(default_factory=Cost)
    segments: set[int] = field(default_factory=set)


class Ledger:
    """What a run has spent, phase by phase, and epoch by epoch."""

    def __init__(self) -> None:
        self.spent = Cost()
        self.between: list[Cost] = []
        """What was neither trained nor validated after the set-up, oldest first: files and rows that were written."""
        self._epochs: dict[int, _Epoch] = defaultdict(_Epoch)

    def add(self, phase: Phase) -> None:
        """Book a phase."""
        self.book(phase.name, phase.epoch, phase.segment, phase.started_at, phase.ended_at, phase.joules)

    def book(
        self,
        name: str,
        epoch: int | None,
        segment: int,
        started_at: datetime,
        ended_at: datetime,
        joules: float | None,
    ) -> None:
        """The same out of the columns of its row."""
        seconds = (ended_at - started_at).total_seconds()
        self.spent.add(seconds, joules)
        if epoch is None:
            return
        if name in ("checkpoint", "record"):
            self.between.append(Cost(seconds, joules))
        own = self._epochs[epoch]
        own.whole.add(seconds, joules)
        own.segments.add(segment)
        if name == "validate":
            own.validation.add(seconds, joules)

    def whole_epochs(self, until: int) -> list[_Epoch]:
        """Those up to `until` that one process life trained from their first step to their last; oldest first."""
        return [own for number, own in sorted(self._epochs.items()) if number <= until and len(own.segments) == 1]


def after(
    ledger: Ledger, *, done: int, epochs: int, num_val: int, num_test: int, budgets: Budgets | None = None
) -> Forecast | None:
    """The forecast when epoch `done` of `epochs` has ended and its phases are booked; None without a whole epoch."""
    seen = ledger.whole_epochs(done)
    if not seen:
        return None
    budgets = budgets or Budgets()
    training = _rest([own.whole for own in seen], epochs - done)
    closing = _rest([own.validation for own in seen], num_test / num_val).plus(_last(ledger.between))
    spent_j = ledger.spent.joules
    spent = Costs(exactly(ledger.spent.seconds), None if spent_j is None else exactly(spent_j))
    costs = total(spent, training, closing, budgets)
    return Forecast(
        energy_j=costs.joules, duration_s=costs.seconds, at_most=budgets.is_any and done < epochs, num_epochs=len(seen)
    )


def _last(between: Sequence[Cost]) -> Costs:
    """What a run does after its last epoch besides testing: it loads the weights that are tested, and closes its books;
    each takes about as long as writing something has."""
    joules = [cost.joules for cost in between if cost.joules is not None]

    def twice(values: Sequence[float]) -> Span:
        return around(2 * statistics.fmean(values), CLOSING_SD) if values else exactly(0.0)

    seconds = twice([cost.seconds for cost in between])
    return Costs(seconds, twice(joules) if len(joules) == len(between) else None)


def _rest(seen: Sequence[Cost], factor: float) -> Costs:
    """`factor` times more of what was seen so far, oldest first."""
    joules = [cost.joules for cost in seen if cost.joules is not None]
    seconds = [cost.seconds for cost in seen]
    return Costs(_more(seconds, factor), _more(joules, factor) if len(joules) == len(seen) else None)


def _more(values: Sequence[float], factor: float) -> Span:
    """`factor` times more of the values, oldest first."""
    if not factor:
        return exactly(0.0)
    first, *others = values
    counted = [min(first, FIRST_AT_MOST * statistics.fmean(others)), *others] if others else [first]
    mean, num = statistics.fmean(counted), len(counted)
    squares = sum((value / mean - 1) ** 2 for value in counted) if mean else 0.0
    spread = (squares + PRIOR_COUNT * PRIOR_SD**2) / (num - 1 + PRIOR_COUNT)
    # The mean of those seen, that of those to come, and how far a machine's pace drifts in between: as far as an epoch.
    return around(mean * factor, math.sqrt(spread * (1 / num + 1 / max(1.0, factor) + 1)))
