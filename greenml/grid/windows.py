"""When to run: the cleanest window or windows before a deadline, when to pause, and what that saves after its costs.

Intensity is a step function, so that the mean of a window is piecewise linear in where it starts: the best start is
among the ends of the span, the moments at which the intensity changes, and those a duration earlier. No raster is laid
over time, and nothing is rounded before the end: moments are whole microseconds, and a float is a whole number over a
power of two.

Whoever pauses pays: the machine idles while it waits, if it is not off, and to stop and start again takes energy. A
restart is billed at the intensity when it resumes, and between two steps at the lower: an instant sooner or later it is
the same restart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from greenml.grid import pieces
from greenml.grid.pieces import TIE
from greenml.grid.tariff import MICROSECOND, Bill, Integral, Load, Tariff

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from greenml.grid.series import Series

__all__ = [
    "Bill",
    "Load",
    "Pausing",
    "Plan",
    "Saving",
    "Verdict",
    "Window",
    "best",
    "best_interruptible",
    "bill",
    "first_below",
    "level",
    "saving",
    "standing",
    "would_pay",
]

MIN_RUN = timedelta(minutes=5)
LEAST_PAST = timedelta(hours=24)
"""A percentile of less than a day says what time of day it is, and not what is high."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, and its mean intensity."""

    start: datetime
    """UTC, naive, as is `end`."""
    end: datetime
    g_per_kwh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Windows in order, and what running in them emits."""

    windows: tuple[Window, ...]
    g: float
    """All of it, with what follows."""
    wait_g: float
    restart_g: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """What running later emits against starting now without a pause: grams, each with all idling and restarts."""

    now_g: float
    then_g: float

    @property
    def saved_g(self) -> float:
        """Below 0 where waiting costs more than it saves."""
        return self.now_g - self.then_g

    @property
    def share(self) -> float | None:
        """Of what starting now emits; None where that is nothing."""
        return self.saved_g / self.now_g if self.now_g else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether to pause now."""

    pays: bool
    resume: datetime | None
    """The best moment to go on from, even where it does not pay; None where no time is left to pause, or nothing is
    known of a later window."""
    saving: Saving | None
    """Of pausing until then, against going on; None where either is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pausing:
    """Pauses where it is dirty and goes on where it is clean, and knows nothing of what comes."""

    pause_above: float
    """g/kWh, as is `resume_below`, which is not above it."""
    resume_below: float
    min_dwell: timedelta
    """How long it goes on running, or stays paused, before it thinks again."""

    def __post_init__(self) -> None:
        if not self.resume_below <= self.pause_above:
            raise ValueError(f"it would resume at {self.resume_below:g} and pause above {self.pause_above:g} g/kWh")

    def decide(
        self, now: datetime, g_per_kwh: float | None, *, is_running: bool, since: datetime, slack: timedelta
    ) -> Literal["pause", "resume"] | None:
        """What to do now; None to leave it as it is, which has been so `since`.

        `slack` is the time until the deadline less what is left to do: when it is used up, the job runs, whatever the
        intensity. Where that is unknown (None), nothing changes.
        """
        if slack <= timedelta(0):
            return None if is_running else "resume"
        # Negative after a clock was set back: that must not hold up the next decision by as much.
        if g_per_kwh is None or timedelta(0) <= now - since < self.min_dwell:
            return None
        if is_running:
            return "pause" if g_per_kwh > self.pause_above else None
        return "resume" if g_per_kwh <= self.resume_below else None


def best(series: Series, *, duration: timedelta, earliest: datetime, deadline: datetime) -> Window | None:
    """The window of the lowest mean among all that lie within [earliest, deadline]; of equals the earliest.

    None where none is known from end to end. Raises ValueError for a duration that is not above 0.
    """
    if duration <= timedelta(0):
        raise ValueError(f"a window lasts longer than {duration}")
    integral = Integral(earliest, series.between(earliest, deadline).steps)
    length, span = duration // MICROSECOND, (deadline - earliest) // MICROSECOND
    totals = {
        start: total
        for start in _starts(integral, length, 0, span)
        if (total := integral.over(start, start + length)) is not None
    }
    if not totals:
        return None
    least = min(totals.values())
    start = next(start for start, total in totals.items() if (total - least) * TIE <= least)
    return _window(integral, earliest, start, start + length)


def best_interruptible(
    series: Series,
    *,
    duration: timedelta,
    earliest: datetime,
    deadline: datetime,
    load: Load,
    max_pauses: int | None = None,
    min_run: timedelta = MIN_RUN,
) -> Plan | None:
    """The plan of the fewest grams among all that pause at most `max_pauses` times, and run `min_run` or more at once.

    Of equals it is the one that pauses less, then the one that runs sooner. A job shorter than `min_run` runs in one
    piece. None where none is known: what runs has to be, and where idling is not free, what idles, too.

    It is the optimum over continuous time, if what all steps and `min_run` are multiples of is not too short. The grams
    are linear in every start and stop while these stay in their steps, so that a best plan lies on the grid of these
    multiples, but for the first start, the last stop, what is `min_run` away from these, and one more that makes up the
    duration: all such plans are gone through. A grid of more than `pieces.MOST_STATES` is made coarser, by the most
    frequent step: then it is the optimum over starts and stops there. In each case it is no worse than without a pause.
    """
    if duration <= timedelta(0) or min_run < timedelta(0):
        raise ValueError(f"a job lasts longer than {duration}, and runs for {min_run} at once")
    if max_pauses is not None and max_pauses < 0:
        raise ValueError(f"a job cannot pause {max_pauses} times")
    integral = Integral(earliest, series.between(earliest, deadline).steps)
    length, span = duration // MICROSECOND, (deadline - earliest) // MICROSECOND
    if span < length or not integral.starts:
        return None
    tariff = Tariff(integral, load)
    whole = _without_a_pause(tariff, length, 0, span)
    least = min(min_run // MICROSECOND, length)
    found = pieces.best(tariff, length, span, min_run=least, max_pauses=max_pauses, whole=whole)
    if not found:
        return None
    billed = tariff.bill(found)
    assert billed is not None  # every piece and every wait has been priced on the way here
    windows = [_window(integral, earliest, *piece) for piece in found]
    return Plan(windows=tuple(windows), g=billed.g, wait_g=billed.wait_g, restart_g=billed.restart_g)


def bill(series: Series, windows: Sequence[Window], load: Load, *, earliest: datetime) -> Bill | None:
    """What running in `windows`, and waiting from `earliest` on, emits; None where a part of it is unknown.

    What idles for nothing may be unknown. Raises ValueError for windows that are not in order.
    """
    moments = [earliest, *(moment for window in windows for moment in (window.start, window.end))]
    if moments != sorted(moments):
        raise ValueError("windows come in order, after `earliest`")
    integral = Integral(earliest, series.between(earliest, moments[-1]).steps)
    return Tariff(integral, load).bill(
        [((one.start - earliest) // MICROSECOND, (one.end - earliest) // MICROSECOND) for one in windows]
    )


def saving(
    series: Series, windows: Sequence[Window], load: Load, *, now: datetime, duration: timedelta
) -> Saving | None:
    """Of running in `windows` against starting now without a pause; None where a part of either is unknown."""
    at_once = bill(series, [Window(now, now + duration, math.nan)], load, earliest=now)
    then = bill(series, windows, load, earliest=now)
    return Saving(now_g=at_once.g, then_g=then.g) if at_once and then else None


def would_pay(series: Series, *, now: datetime, remaining: timedelta, deadline: datetime, load: Load) -> Verdict:
    """Whether to pause what runs, and to go on in one piece at the best later moment, emits less than to go on now."""
    if remaining <= timedelta(0):
        raise ValueError(f"what is left lasts longer than {remaining}")
    length, span = remaining // MICROSECOND, (deadline - now) // MICROSECOND
    integral = Integral(now, series.between(now, max(deadline, now + remaining)).steps)
    tariff = Tariff(integral, load)
    later = _without_a_pause(tariff, length, 1, span, is_restart=True)
    if later is None:
        return Verdict(pays=False, resume=None, saving=None)
    resume = now + later[0] * MICROSECOND
    going_on, pausing = tariff.bill([(0, length)]), tariff.bill([(0, 0), later])
    if going_on is None or pausing is None:
        return Verdict(pays=False, resume=resume, saving=None)
    saved = Saving(now_g=going_on.g, then_g=pausing.g)
    return Verdict(pays=saved.saved_g * TIE > going_on.g, resume=resume, saving=saved)


def first_below(series: Series, *, limit: float, earliest: datetime, latest: datetime) -> datetime | None:
    """The first moment of [earliest, latest] at which the intensity is `limit` g/kWh or less; None where there is none
    that is known."""
    for step in series.between(earliest, latest + MICROSECOND).steps:
        if step.g_per_kwh <= limit:
            return step.start
    return None


def level(series: Series, now: datetime, percentile: float, span: timedelta = timedelta(days=7)) -> float | None:
    """The intensity, in g/kWh, that was not exceeded for `percentile` % of the time of the last `span` that is known.

    None where less than a day of it is.
    """
    if not 0 <= percentile <= 100:
        raise ValueError(f"a percentile lies between 0 and 100, not at {percentile:g}")
    steps = sorted(series.between(now - span, now).steps, key=lambda step: step.g_per_kwh)
    known = sum((step.end - step.start for step in steps), timedelta(0))
    if known < LEAST_PAST:
        return None
    reached = timedelta(0)
    for step in steps:
        reached += step.end - step.start
        # Not reached / known >= percentile / 100, which has been rounded when it is compared.
        if reached // MICROSECOND * 100 >= percentile * (known // MICROSECOND):
            break
    return step.g_per_kwh


def standing(series: Series, now: datetime, g_per_kwh: float, span: timedelta = timedelta(days=7)) -> float | None:
    """For how many % of the time of the last `span` that is known the intensity was below `g_per_kwh`.

    None where less than a day of it is.
    """
    steps = series.between(now - span, now).steps
    known = sum((step.end - step.start for step in steps), timedelta(0))
    if known < LEAST_PAST:
        return None
    lower = sum((step.end - step.start for step in steps if step.g_per_kwh < g_per_kwh), timedelta(0))
    return 100 * (lower / known)


def _window(integral: Integral, origin: datetime, start: int, end: int) -> Window:
    total = integral.over(start, end)
    assert total is not None
    return Window(
        origin + start * MICROSECOND, origin + end * MICROSECOND, total / ((end - start) * integral.denominator)
    )


def _starts(integral: Integral, length: int, first: int, span: int) -> list[int]:
    """Where a window of `length` within [first, span] may begin so that no other is better."""
    last = span - length
    moments = {0, last, *integral.moments, *(moment - length for moment in integral.moments)}
    return sorted(moment for moment in moments if first <= moment <= last)


def _without_a_pause(
    tariff: Tariff, length: int, first: int, span: int, *, is_restart: bool = False
) -> tuple[int, int] | None:
    """The window within [first, span] that emits least with the wait before it; of equals the earliest."""
    costs = {}
    for start in _starts(tariff.integral, length, first, span):
        waiting, running = tariff.waiting(0, start), tariff.running(start, start + length)
        if waiting is not None and running is not None:
            costs[start] = waiting + running + (tariff.restart(start) if is_restart else 0.0)
    if not costs:
        return None
    least = min(costs.values())
    start = next(start for start, cost in costs.items() if (cost - least) * TIE <= least)
    return start, start + length
