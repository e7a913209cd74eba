"""A value with the interval in which it is expected, and what is made of such values."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

Z = 1.645
"""Nine tenths of a normal distribution lie within so many standard deviations. Runs are not normal, and their spread is
known from few: how many of the recorded ones did end inside is what tests/bench_forecast.py prints."""

PARTS = tuple(map(attrgetter, ("low", "value", "high")))


@dataclass(frozen=True, slots=True)
class Span:
    """`low` <= `value` <= `high`: the interval is meant to hold nine times out of ten (see Z); never negative."""

    low: float
    value: float
    high: float

    def scaled(self, factor: float) -> Span:
        """All of it `factor` times; `factor` is 0 or more."""
        return Span(self.low * factor, self.value * factor, self.high * factor)

    def plus(self, other: Span) -> Span:
        return Span(self.low + other.low, self.value + other.value, self.high + other.high)


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds, and joules; None where these cannot be metered."""

    seconds: Span
    joules: Span | None

    def scaled(self, factor: float) -> Costs:
        """All of it `factor` times."""
        return Costs(self.seconds.scaled(factor), self.joules and self.joules.scaled(factor))

    def plus(self, other: Costs) -> Costs:
        """Both. What is long in one is taken to be long in the other: the intervals add up."""
        joules = self.joules and other.joules and self.joules.plus(other.joules)
        return Costs(self.seconds.plus(other.seconds), joules)


def exactly(value: float) -> Span:
    """What has been spent already."""
    return Span(value, value, value)


def around(value: float, log_sd: float) -> Span:
    """A value that may be wrong by a factor, whose logarithm has this standard deviation."""
    factor = math.exp(Z * log_sd)
    return Span(value / factor, value, value * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Rules that end a run before its last epoch."""

    seconds: float | None = None
    joules: float | None = None
    """An energy budget, or a carbon budget at the intensity and PUE of the run."""
    may_stop_early: bool = False
    """By validation accuracy: early stopping, or a target."""

    @property
    def is_any(self) -> bool:
        return self.may_stop_early or self.seconds is not None or self.joules is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What the whole run will have taken when it ends, what it has taken already included."""

    energy_j: Span | None
    """None where a component cannot be metered."""
    duration_s: Span
    at_most: bool
    """Whether a rule may end the run sooner."""
    num_epochs: int
    """Of this run that it rests on; 0 before the first one has ended."""
    level: str | None = None
    """How near the runs are that it rests on, in words; None where it rests on its own epochs."""
    run_ids: tuple[str, ...] = ()
    """Those runs, newest first."""
    newest_at: datetime | None = None
    """When the newest of them began, UTC."""
    metered: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """`source` and `method` of `cpu`, `gpu` and `ram` in those runs; empty where it rests on its own epochs."""

    @property
    def power_w(self) -> float | None:
        """The mean; None where a component cannot be metered."""
        return self.energy_j.value / self.duration_s.value if self.energy_j and self.duration_s.value else None

    def to_plain(self) -> dict[str, object]:
        """As JSON holds it."""
        newest_at = self.newest_at and self.newest_at.isoformat()
        return dataclasses.asdict(self) | {"run_ids": [*self.run_ids], "newest_at": newest_at}


def total(spent: Costs, training: Costs, closing: Costs, budgets: Budgets) -> Costs:
    """What a run takes: what is spent (or its set-up), the training that is left, and its test.

    A budget ends the training where it is spent; the test comes on top.
    """
    shares = [
        min(
            _share(budgets.seconds, spent.seconds, training.seconds, part),
            _share(budgets.joules, spent.joules, training.joules, part),
        )
        for part in PARTS
    ]

    def added(begin: Span | None, rest: Span | None, end: Span | None) -> Span | None:
        if begin is None or rest is None or end is None:
            return None
        low, value, high = (
            part(begin) + share * part(rest) + part(end) for part, share in zip(PARTS, shares, strict=True)
        )
        return Span(min(low, value), value, max(value, high))

    seconds = added(spent.seconds, training.seconds, closing.seconds)
    assert seconds is not None
    return Costs(seconds, added(spent.joules, training.joules, closing.joules))


def _share(budget: float | None, spent: Span | None, rest: Span | None, part: Callable[[Span], float]) -> float:
    """How much of the rest a budget lets pass, 0 to 1; all of it where nobody can tell."""
    if budget is None or spent is None or rest is None or not part(rest):
        return 1.0
    return min(1.0, max(0.0, budget - part(spent)) / part(rest))
