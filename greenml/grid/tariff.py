"""What running, waiting and restarting emit under an intensity that changes: exact sums over a step function.

Within this module and its two users time is whole microseconds after an origin.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate
from typing import TYPE_CHECKING

from greenml import units

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from greenml.grid.series import Step

MICROSECOND = timedelta(microseconds=1)
MICROSECONDS_PER_S = 10**6


@dataclass(frozen=True, slots=True)
class Load:
    """What a job draws, and what it costs not to run it."""

    active_w: float
    idle_w: float = 0.0
    """Of a machine that waits for it; 0 where that is off, or would be on anyway."""
    restart_j: float = 0.0
    """To stop once and to start again: a checkpoint written and read, imports, data opened."""

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) and value >= 0 for value in (self.active_w, self.idle_w, self.restart_j)):
            raise ValueError(f"a load is 0 or more: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Grams of CO2e, by what they were for."""

    active_g: float
    wait_g: float
    """Idle before the first window and between two."""
    restart_g: float

    @property
    def g(self) -> float:
        return self.active_g + self.wait_g + self.restart_g


class Integral:
    """Of an intensity over time, exactly: a whole number, in g/kWh times microseconds times `denominator`."""

    def __init__(self, origin: datetime, steps: Sequence[Step]) -> None:
        ratios = [step.g_per_kwh.as_integer_ratio() for step in steps]
        self.denominator = max((denominator for _, denominator in ratios), default=1)  # each is a power of two
        self.values = [numerator * (self.denominator // denominator) for numerator, denominator in ratios]
        self.starts = [(step.start - origin) // MICROSECOND for step in steps]
        self.ends = [(step.end - origin) // MICROSECOND for step in steps]
        self.known, self.sums = [0], [0]
        """Microseconds that are known, and the integral over them, before each step."""
        for start, end, value in zip(self.starts, self.ends, self.values, strict=True):
            self.known.append(self.known[-1] + end - start)
            self.sums.append(self.sums[-1] + (end - start) * value)
        lowest = accumulate((value / self.denominator for value in reversed(self.values)), min, initial=math.inf)
        self._lowest = list(lowest)[::-1]
        """In g/kWh, of each step and all after it."""

    @property
    def moments(self) -> set[int]:
        """At which the intensity may change, or begins or ceases to be known."""
        return {*self.starts, *self.ends}

    def over(self, start: int, end: int) -> int | None:
        """The integral over [start, end); None where a part is unknown."""
        (known_before, sum_before), (known_after, sum_after) = self._until(start), self._until(end)
        return sum_after - sum_before if known_after - known_before == end - start else None

    def _until(self, moment: int) -> tuple[int, int]:
        step = bisect_right(self.starts, moment) - 1
        if step < 0:
            return 0, 0
        inside = min(moment, self.ends[step]) - self.starts[step]
        return self.known[step] + inside, self.sums[step] + inside * self.values[step]

    @property
    def mean(self) -> float:
        """Of all that is known."""
        return self.sums[-1] / (self.known[-1] * self.denominator)

    def lowest_after(self, moment: int) -> float:
        """Of all that is known of what comes; infinite where nothing is."""
        return self._lowest[bisect_right(self.ends, moment)]

    def lowest_at(self, moment: int) -> float:
        """Where two steps meet, the lower; infinite where nothing is known."""
        step = bisect_right(self.starts, moment) - 1
        around = [i for i in (step - 1, step) if i >= 0 and self.starts[i] <= moment <= self.ends[i]]
        return min((self.values[i] / self.denominator for i in around), default=math.inf)


class Tariff:
    """What running, waiting and restarting emit, in watts times g/kWh times microseconds."""

    def __init__(self, integral: Integral, load: Load) -> None:
        self.integral, self.load = integral, load

    def running(self, start: int, end: int) -> float | None:
        """None where a part is unknown."""
        total = self.integral.over(start, end)
        return None if total is None else self.load.active_w * (total / self.integral.denominator)

    def waiting(self, start: int, end: int) -> float | None:
        """None where a part is unknown, unless waiting is free."""
        if not self.load.idle_w or start == end:
            return 0.0
        total = self.integral.over(start, end)
        return None if total is None else self.load.idle_w * (total / self.integral.denominator)

    def restart(self, moment: int) -> float:
        if not self.load.restart_j:
            return 0.0
        return self.load.restart_j * MICROSECONDS_PER_S * self.integral.lowest_at(moment)

    def bill(self, pieces: Sequence[tuple[int, int]]) -> Bill | None:
        """Of running in these, and waiting from 0 on, in grams; None where a part is unknown."""
        ends = [0, *(end for _, end in pieces)]
        running = [self.running(*piece) for piece in pieces]
        waiting = [self.waiting(end, start) for end, (start, _) in zip(ends, pieces, strict=False)]
        if None in running or None in waiting:
            return None
        return Bill(
            active_g=_grams(running),
            wait_g=_grams(waiting),
            restart_g=_grams([self.restart(start) for start, _ in pieces[1:]]),
        )


def _grams(amounts: Sequence[float | None]) -> float:
    return units.kwh(math.fsum(amount for amount in amounts if amount is not None) / MICROSECONDS_PER_S)
