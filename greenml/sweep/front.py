"""Points of accuracy and carbon, the front of them, and whether a training can still reach it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MIN_CURVES = 4
"""Trainings that must have gone on from an epoch to a later one before a bound is put on what that may gain."""
SLACK = 3.0
"""The largest gain of n that were seen counts 1 + SLACK / n times: of few, the next one easily exceeds it."""
SIGMAS = 3.0
"""Standard errors of a validation accuracy, on top."""


class Point(NamedTuple):
    """An epoch of a training: a fraction of the validation split, and grams of CO2e up to there, set-up included."""

    accuracy: float
    co2_g: float

    def beats(self, other: Point) -> bool:
        """As good in both, and better in one."""
        return self != other and self.accuracy >= other.accuracy and self.co2_g <= other.co2_g


def front(points: Iterable[Point], floor: float = -math.inf) -> list[Point]:
    """Those above a `floor` of accuracy that no other beats, cheapest first."""
    best: list[Point] = []
    for point in sorted(set(points), key=lambda point: (point.co2_g, -point.accuracy)):
        if point.accuracy > (best[-1].accuracy if best else floor):
            best.append(point)
    return best


def hypervolume(points: Iterable[Point], *, least_g: float, most_g: float, floor: float = 0.0) -> float:
    """Share of the rectangle from `floor` to 1 and, on a logarithmic scale, from `least_g` to `most_g` that is beaten.

    Grams count by their logarithm: half of much and half of little are worth the same. 0 to 1.
    """
    width, area, reached = math.log(most_g / least_g), 0.0, math.log(most_g)
    for accuracy, co2_g in reversed(front(points)):
        at = math.log(min(max(co2_g, least_g), most_g))
        if at < reached:
            area += (reached - at) * max(accuracy - floor, 0.0)
            reached = at
    return area / (width * (1 - floor))


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The most that a training may still gain: the more of what others gained between the same two epochs, and of what
    it gains itself if it goes on as so far.

    An optimist's rule, so that it seldom stops what would have paid (`make bench` counts how often, at most 1 %): the
    largest gain that any training so far had from this epoch to a later one, with SLACK; or its own mean gain an epoch,
    which falls as a rule, held to the end; and SIGMAS standard errors of the validation on top. Where fewer than
    MIN_CURVES trainings went that far, anything is possible.
    """

    curves: Sequence[Sequence[float]]
    """Validation accuracies of the trainings so far, epoch by epoch."""
    horizon: int
    """The last epoch that a training may reach."""
    val_count: int

    def may_reach(self, points: Sequence[Point], front: Sequence[Point]) -> bool:
        """Whether a training with these points, one an epoch, may still have one that nothing on the front beats."""
        now, best = len(points), max(point.accuracy for point in points)
        steps = [after.co2_g - before.co2_g for before, after in itertools.pairwise(points)]
        step_g = min(steps, default=0.0)
        own = (best - points[0].accuracy) / max(now - 1, 1)
        error = SIGMAS * math.sqrt(best * (1 - best) / self.val_count)
        for epoch in range(now + 1, self.horizon + 1):
            gain = max(self._gain(now, epoch), own * (epoch - now))
            hoped = Point(best + gain + error, points[-1].co2_g + (epoch - now) * step_g)
            if not any(point.beats(hoped) for point in front):
                return True
        return False

    def _gain(self, now: int, then: int) -> float:
        gains = [max(curve[:then]) - max(curve[:now]) for curve in self.curves if len(curve) >= then]
        return (1 + SLACK / len(gains)) * max(gains) if len(gains) >= MIN_CURVES else math.inf
