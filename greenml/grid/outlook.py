"""What is foretold of a stretch of time, by figures that may be held against each other, and the best plan in it.

A forecast that ends early is not gone on with by a model of another level: what would be chosen then is the seam. So it
is one voice: services and what was learned from them, or the shape of a day with nothing measured in it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from greenml.grid import windows
from greenml.grid.series import Series, Status, worst

if TYPE_CHECKING:
    from collections.abc import Iterator

    from greenml.grid.feed import Feed
    from greenml.grid.windows import Load, Saving, Window

DRAWN = ("day-curve", "annual")
"""Sources in which nothing is measured."""
GIVEN = ("trace", "fixed")
ENOUGH = 0.5
"""A forecast that covers so much of the time that was asked for is planned on as far as it goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is known of [start, end)."""

    start: datetime
    """UTC, naive, as is `end`."""
    end: datetime
    parts: tuple[Series, ...]
    """By who knows it; they do not overlap, and are of one kind."""
    series: Series
    """All of them, called as the first is."""
    left_out: tuple[str, ...] = ()
    """Sources that would have known more, or known it better, but on another level."""

    def parts_in(self, start: datetime, end: datetime) -> list[Series]:
        """Those that know some of [start, end)."""
        cut = (part.between(start, end) for part in self.parts)
        return [part for part in cut if part.steps]

    def told_by(self, start: datetime, end: datetime) -> str | None:
        """The names of who knows it; None where that is nobody."""
        names = dict.fromkeys(part.provider for part in self.parts_in(start, end))
        return ", ".join(names) or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """When to run, and what that saves against starting at once, without a pause."""

    windows: tuple[Window, ...]
    """In order; several where it pauses."""
    g_per_kwh: float
    """The mean while it runs."""
    now_g_per_kwh: float | None
    """The mean of starting at once; None where a part of that is unknown."""
    status: Status
    """As good as the worst figure in it."""
    provider: str
    low: float | None
    """Of `saved_share`, as its source was wrong in the past: 80 % lie between this and `high`. None where nobody can
    tell."""
    high: float | None
    saving: Saving | None
    """With idling and restarts."""

    @property
    def saved_share(self) -> float | None:
        """Of what starting at once emits, while it runs; None where that is unknown, or nothing."""
        return 1 - self.g_per_kwh / self.now_g_per_kwh if self.now_g_per_kwh else None

    @property
    def is_modelled(self) -> bool:
        """Whether greenml's own models are in it: nobody published what it is reckoned with."""
        return self.status in ("modelled", "assumed")


def look(feed: Feed, start: datetime, end: datetime, *, duration: timedelta | None = None) -> Outlook:
    """What `feed` knows of it on one level; a job of `duration` should fit in."""
    parts = feed.ahead_by_source(start, end)
    told = [part for part in parts if part.provider not in DRAWN]
    drawn = [part for part in parts if part.provider in DRAWN]
    if not told or not drawn:
        return _outlook(start, end, parts)
    if any(part.provider in GIVEN for part in told):  # what the user gave is meant, however short
        return _outlook(start, end, told, left_out=drawn)
    short = _outlook(start, end, told, left_out=drawn)
    known = sum((step.end - step.start for step in short.series.steps), timedelta(0))
    fits = duration is None or windows.best(short.series, duration=duration, earliest=start, deadline=end) is not None
    if fits and known >= ENOUGH * (end - start):
        return short
    whole = feed.only(DRAWN).ahead_by_source(start, end)
    return _outlook(start, end, whole[:1], left_out=told)


def offer(
    feed: Feed,
    outlook: Outlook,
    *,
    duration: timedelta,
    load: Load,
    is_interruptible: bool = False,
    max_pauses: int | None = None,
) -> Offer | None:
    """The cleanest window in the outlook, or the plan in pieces that emits least with all its idling and restarts; None
    where the job fits into nothing that is known."""
    series, now, deadline = outlook.series, outlook.start, outlook.end
    if is_interruptible:
        plan = windows.best_interruptible(
            series, duration=duration, earliest=now, deadline=deadline, load=load, max_pauses=max_pauses
        )
        chosen = plan.windows if plan else ()
    else:
        window = windows.best(series, duration=duration, earliest=now, deadline=deadline)
        chosen = (window,) if window else ()
    if not chosen:
        return None
    g_per_kwh = math.fsum(one.g_per_kwh * ((one.end - one.start) / duration) for one in chosen)
    now_g_per_kwh = series.mean(now, now + duration)
    if len(chosen) == 1:
        g_per_kwh = series.mean(chosen[0].start, chosen[0].end) or g_per_kwh  # to the last bit as `now_g_per_kwh` is
    used = [part for start, end in _used(chosen, now, duration) for part in outlook.parts_in(start, end)]
    low = high = None
    if now_g_per_kwh and len(chosen) == 1 and any(part.provider == "learned" for part in used):
        spread = feed.doubt(duration=duration, lead=chosen[0].start - now)
        if spread:
            ratio = g_per_kwh / now_g_per_kwh
            low, high = 1 - ratio * spread.high, 1 - ratio * spread.low
    return Offer(
        windows=tuple(chosen),
        g_per_kwh=g_per_kwh,
        now_g_per_kwh=now_g_per_kwh,
        status=worst(part.status for part in used),
        provider=", ".join(dict.fromkeys(part.provider for part in used)),
        low=low,
        high=high,
        saving=windows.saving(series, chosen, load, now=now, duration=duration),
    )


def _outlook(start: datetime, end: datetime, parts: list[Series], *, left_out: list[Series] | None = None) -> Outlook:
    steps = sorted((step for part in parts for step in part.steps), key=lambda step: step.start)
    first = parts[0] if parts else Series(steps=(), provider="none", source="nobody")
    return Outlook(
        start=start,
        end=end,
        parts=tuple(parts),
        series=dataclasses.replace(first, steps=tuple(steps)),
        left_out=tuple(part.provider for part in left_out or ()),
    )


def _used(chosen: tuple[Window, ...], now: datetime, duration: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """The stretches that count for the saving."""
    yield now, now + duration
    for window in chosen:
        yield window.start, window.end
