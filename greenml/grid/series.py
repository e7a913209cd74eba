"""Carbon intensity over time: a step function on [start, end), and who says so.

Moments are naive UTC, as everywhere in greenml: `utc` is the way in for what carries an offset.
"""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from greenml.records import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

now = utc_now
"""This moment, naive UTC."""
Kind = Literal["average", "marginal"]
"""What one more kWh is held to emit: as the mix of all plants (`average`), or as the plant that answers it."""
Factors = Literal["lifecycle", "direct", "unknown"]
"""Whether building plants and bringing them fuel is counted in."""
Status = Literal["actual", "estimated", "forecast", "modelled", "assumed"]
"""How a figure is known, best first: published as it was; published while data were missing; foretold by who publishes
it; greenml's own model of it; a yearly average or what the user said."""
MAX_FIGURE = 1e5
"""Grams per kWh or pounds per MWh: fifty times what the worst fuel comes to. NaN and infinity are not below it."""
STATUSES: tuple[Status, ...] = ("actual", "estimated", "forecast", "modelled", "assumed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An intensity that holds from `start` until `end`."""

    start: datetime
    """UTC, naive, as is `end`."""
    end: datetime
    g_per_kwh: float
    status: Status = "actual"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Steps in order that do not overlap, of one kind; there may be gaps between them, about which nothing is known."""

    steps: tuple[Step, ...]
    provider: str
    """The name under which greenml knows it: `electricitymaps`, `trace`, `learned`, ..."""
    source: str
    """Who publishes it, in words."""
    zone: str | None = None
    """As the provider calls the place; None where it names none."""
    kind: Kind = "average"
    factors: Factors = "unknown"

    def __post_init__(self) -> None:
        for step in self.steps:
            if step.end <= step.start:
                raise ValueError(f"a step ends before it begins: {step.start} to {step.end}")
        for one, other in zip(self.steps, self.steps[1:], strict=False):
            if other.start < one.end:
                raise ValueError(f"steps overlap at {other.start}")

    @property
    def start(self) -> datetime | None:
        """Where knowledge begins; None where there is none."""
        return self.steps[0].start if self.steps else None

    @property
    def end(self) -> datetime | None:
        """Where it ends; None where there is none."""
        return self.steps[-1].end if self.steps else None

    @property
    def status(self) -> Status:
        """As good as the worst step."""
        return worst(step.status for step in self.steps)

    def at(self, moment: datetime) -> Step | None:
        """The step that holds at `moment`; None in a gap."""
        index = bisect_right(self.steps, moment, key=lambda step: step.start) - 1
        return self.steps[index] if index >= 0 and moment < self.steps[index].end else None

    def between(self, start: datetime, end: datetime) -> Series:
        """What is known of [start, end): the steps that reach into it, cut at its ends."""
        return dataclasses.replace(self, steps=tuple(self._cut(start, end)))

    def reaching(self, start: datetime, end: datetime) -> Series:
        """The same with whole steps: those that reach into [start, end)."""
        steps = (step for step in self.steps if step.end > start and step.start < end)
        return dataclasses.replace(self, steps=tuple(steps))

    def outside(self, other: Series, start: datetime, end: datetime) -> Series:
        """What is known of [start, end) where `other` knows nothing."""
        added = (step for gap in other.gaps(start, end) for step in self._cut(*gap))
        return dataclasses.replace(self, steps=tuple(added))

    def gaps(self, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
        """The stretches of [start, end) about which nothing is known."""
        found, reached = [], start
        for step in self._cut(start, end):
            if step.start > reached:
                found.append((reached, step.start))
            reached = step.end
        return [*found, (reached, end)] if reached < end else found

    def covers(self, start: datetime, end: datetime) -> bool:
        """Whether all of [start, end) is known."""
        return not self.gaps(start, end)

    def mean(self, start: datetime, end: datetime) -> float | None:
        """Of [start, end), weighted by time, in g/kWh; at the moment itself where both are the same; None where a part
        is unknown. What is constant comes back to the last bit."""
        if start == end:
            step = self.at(start)
            return step.g_per_kwh if step else None
        if not self.covers(start, end):
            return None
        steps = list(self._cut(start, end))
        if len({step.g_per_kwh for step in steps}) == 1:
            return steps[0].g_per_kwh
        weighted = (step.g_per_kwh * (step.end - step.start).total_seconds() for step in steps)
        return math.fsum(weighted) / (end - start).total_seconds()

    def filled(self, other: Series) -> Series:
        """This series, and `other` in its gaps, before and after it. Raises ValueError where they are of two kinds."""
        if other.kind != self.kind:
            raise ValueError(f"{self.kind} and {other.kind} intensities cannot be mixed")
        if not self.steps or not other.steps:
            return self if self.steps else dataclasses.replace(self, steps=other.steps)
        own_start, own_end = self.steps[0].start, self.steps[-1].end
        start, end = min(own_start, other.steps[0].start), max(own_end, other.steps[-1].end)
        added = [step for gap in self.gaps(start, end) for step in other._cut(*gap)]
        return dataclasses.replace(self, steps=tuple(sorted([*self.steps, *added], key=lambda step: step.start)))

    def _cut(self, start: datetime, end: datetime) -> Iterator[Step]:
        first = max(bisect_right(self.steps, start, key=lambda step: step.start) - 1, 0)
        for step in self.steps[first:]:
            if step.start >= end:
                return
            if step.end > start:
                whole = step.start >= start and step.end <= end
                yield step if whole else dataclasses.replace(step, start=max(step.start, start), end=min(step.end, end))


def regular(start: datetime, every: timedelta, values: Sequence[float | None], status: Status = "actual") -> list[Step]:
    """Equally long steps from `start` on; None is a gap."""
    return [
        Step(start=start + i * every, end=start + (i + 1) * every, g_per_kwh=value, status=status)
        for i, value in enumerate(values)
        if value is not None
    ]


def worst(statuses: Iterable[Status]) -> Status:
    """The status of what is made of all of these; `actual` of nothing."""
    return max(statuses, key=STATUSES.index, default="actual")


def utc(moment: datetime) -> datetime:
    """A moment with an offset -> naive UTC. Raises ValueError for one without, whose offset nobody knows."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no offset from UTC")
    return moment.astimezone(UTC).replace(tzinfo=None)
