"""What `grid now`, `forecast` and `plan` have in common: whose grid, who is asked, and what is said of that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from greenml import console, units
from greenml.cli.options import flag
from greenml.config import MOST_G
from greenml.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from greenml.cli.feeds import Asked
    from greenml.grid import Whereabouts
    from greenml.grid.feed import Feed
    from greenml.grid.series import Series
    from greenml.records import Intensity

RegionOption = Annotated[
    str | None, flag("--region", metavar="CODE", help="Whose grid: IN-TN, DE, US-CAL-CISO, GB:RG10, ...")
]
ProviderOption = Annotated[
    str | None,
    flag("--provider", metavar="NAME", help="Who is asked first.", default="electricitymaps, neso, watttime: who can"),
]
IntensityOption = Annotated[
    float | None, typer.Option("--intensity", min=0, metavar="G", help="So many g/kWh, always.", show_default=False)
]
TraceOption = Annotated[
    str | None, flag("--trace", metavar="FILE", help="CSV start,g_per_kwh: the intensity by the hour.")
]
TraceShiftOption = Annotated[
    bool, typer.Option("--trace-shift", help="Replay the trace at any time, by the hour of its week.")
]

NOT_SERVICES = ("store", "learned", "day-curve", "annual", "trace", "fixed")
"""Sources that reach for no network."""
DAY = timedelta(days=1)
WORLDWIDE = "electricitymaps"
"""The one service that knows averages of most places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """Who is asked, about what, as of when."""

    asked: Asked
    feed: Feed
    static: Intensity | None
    """The factor of the region's year; None where the figures were given."""
    where: Whereabouts | None
    now: datetime

    @property
    def place(self) -> str:
        """In words."""
        if self.where:
            return self.where.name
        return self.asked.trace or "the given intensity"

    def nobody(self, what: str) -> DataError | UsageError:
        """The error that nobody knows `what`: "the intensity of now"."""
        if self.asked.trace is not None:
            return UsageError(
                f"{self.asked.trace}: says nothing about {what}",
                hint="--trace-shift replays it by the hour of its week; `grid plan --start` goes to its time",
            )
        return DataError(
            f"{self.place}: nobody who could be asked knows {what}",
            hint="give --trace FILE or --intensity G, or the --region of a neighbour on the same grid",
        )


def inquire(asked: Asked, store: Path | None, now: datetime) -> Inquiry:
    """Whom to ask. Of a service that publishes what was, the last day is remembered: forecasts are learned from it.

    Raises UsageError where nobody said whose grid, or several answers.
    """
    from greenml import grid
    from greenml.cli.feeds import nameless, open_feed
    from greenml.store import Store, resolve_path

    check(asked)
    given = asked.trace is not None or asked.intensity is not None
    if not given and asked.region is None:
        raise nameless()
    static = grid.resolve(None if given else asked.region)
    where = grid.locate(asked.region) if asked.region and not given else None
    db = Store(resolve_path(store))
    feed = open_feed(asked, db, static, clock=lambda: now, may_model=not given)
    if static.level == "world":  # no figure of this place
        feed = feed.only([name for name in feed.names if name != "annual"])
    found = Inquiry(asked=asked, feed=feed, static=None if given else static, where=where, now=now)
    if set(feed.names).difference(NOT_SERVICES):
        feed.only(feed.names).past(now - DAY, now)  # apart: who cannot tell says so where it matters
    return found


def check(asked: Asked) -> None:
    """Raises UsageError for what does not go together."""
    from greenml.grid.trace import refuse_lone_shift

    named = {"--intensity": asked.intensity, "--trace": asked.trace, "--provider": asked.provider}
    given = [name for name, value in named.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)}: two answers to one question", hint=f"give {given[0]} alone")
    check_intensity(asked.intensity)
    refuse_lone_shift(asked.trace, shift=asked.trace_shift)


def check_intensity(g_per_kwh: float | None) -> None:
    """Raises UsageError for what `train` would not take either."""
    # NaN is not between any two numbers, and infinity is not between these.
    if g_per_kwh is not None and not 0 <= g_per_kwh <= MOST_G:
        raise UsageError(f"--intensity {g_per_kwh:g}: not between 0 and {MOST_G:,} g/kWh", hint="as in --intensity 250")


def say_fallbacks(inquiries: Sequence[Inquiry]) -> None:
    """Who could not tell, a line each. Nobody stands in for a trace, and that the store lacks something is no news."""
    told: dict[str, list[str]] = {}
    for inquiry in inquiries:
        for fallback in inquiry.feed.fallbacks():
            if inquiry.where and fallback.source != "store":
                instead = f"; asked instead: {fallback.instead}" if fallback.instead else ""
                told.setdefault(f"{fallback.source}: {fallback.why}{instead}", []).append(inquiry.place)
    for text, places in told.items():
        console.say(f"{text} ({', '.join(places)})" if len(inquiries) > 1 else text)


def say_how_to_know(inquiry: Inquiry) -> None:
    """Where no service was asked: what it would take."""
    from greenml.grid import live, site_of

    if inquiry.where is None or set(inquiry.feed.names).difference(NOT_SERVICES):
        return
    if inquiry.where.way_out:
        console.say(inquiry.where.way_out)
    elif lack := live.create(WORLDWIDE).lack(site_of(inquiry.where)):
        console.say(f"{lack}; {lack.hint}")


def in_words(series: Series) -> str:
    """Who says so: "electricitymaps: Electricity Maps, IN-SO, average, lifecycle"."""
    factors = None if series.factors == "unknown" else series.factors
    what = [series.source, series.zone, series.kind, factors]
    return f"{series.provider}: {', '.join(dict.fromkeys(word for word in what if word))}"


def duration_of(flag: str, text: str, example: str = "4h") -> timedelta:
    """ "4h". Raises UsageError."""
    try:
        return timedelta(seconds=units.parse_quantity(text, units.SECONDS))
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{flag}: {error}", hint=f"as in {flag} {example}") from None


def moment_of(flag: str, text: str, now: datetime) -> datetime:
    """ "08:00", "6h" from `now` on -> naive UTC, as `now` is. Raises UsageError."""
    from greenml.grid import moments

    try:
        return moments.parse(text, now=now)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{flag}: {error}", hint=moments.EXAMPLES) from None


def span(start: datetime, end: datetime, now: datetime) -> str:
    """ "tomorrow 02:00 to 06:00"."""
    from greenml.grid.moments import shown, wall_time

    same_day = wall_time(start).date() == wall_time(end).date()
    return f"{shown(start, now)} to {f'{wall_time(end):%H:%M}' if same_day else shown(end, now)}"


def per_cent(share: float) -> str:
    """ "34 %"; what is near 0 is 0, and not -0."""
    return f"{round(100 * share) + 0} %"
