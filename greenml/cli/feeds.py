"""Who is asked for the intensity of the grid, in which order: flags and keys in, a feed out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from greenml import grid
from greenml.errors import StoreError, UsageError
from greenml.grid.feed import Drawn, Feed, Known, Learned, Live, Refusing, Remembered, Source, yearly
from greenml.grid.live import NoTokenError
from greenml.grid.series import Series, Step, now

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenml.config import Config
    from greenml.grid import Whereabouts
    from greenml.grid.live import Provider, Site
    from greenml.records import Intensity
    from greenml.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked for; at most one of the first three."""

    intensity: float | None = None
    trace: str | None = None
    provider: str | None = None
    region: str | None = None
    trace_shift: bool = False

    @classmethod
    def of(cls, config: Config) -> Asked:
        """As a run's config has it."""
        return cls(
            intensity=config.intensity,
            trace=config.trace,
            provider=config.provider or config.schedule.provider,
            region=config.region,
            trace_shift=config.trace_shift,
        )


def open_feed(
    asked: Asked,
    store: Store,
    static: Intensity,
    *,
    clock: Callable[[], datetime] = now,
    may_model: bool = True,
    remembers: bool = True,
    tells_lacks: bool = False,
) -> Feed:
    """The sources for a place in their order: what was given, what the store remembers, services, what it has taught,
    the shape of a day, the factor of the year. Without `may_model` only what somebody has published counts; unless it
    `remembers`, the store is read and never written. Where it `tells_lacks`, a service that knows the place and lacks a
    token alone is a fallback.

    Raises UsageError for a provider that is not known or a place without a name, and RefusedError where the provider
    that was named will not answer, however often it is asked.
    """
    if asked.intensity is not None:
        whole = Step(start=datetime.min, end=datetime.max, g_per_kwh=asked.intensity, status="assumed")
        return Feed([Known(Series(steps=(whole,), provider="fixed", source="as given with --intensity"))])
    if asked.trace is not None:
        given = Known(read_trace(asked, clock()))
        return Feed([given, yearly(static)] if may_model else [given])
    where = grid.locate(asked.region) if asked.region else None
    if where is None:
        if asked.provider is not None:
            raise nameless()
        return Feed([yearly(static)])
    site = grid.site_of(where)
    providers = _providers(asked.provider, site)

    def recall(since: datetime) -> Series:
        zones = {one.name: one.zone(site) for one in providers if one.kind == "average"}
        try:
            kept = [store.remembered(name, zone, "average", since) for name, zone in zones.items() if zone]
        except StoreError:  # held by somebody else: no training ends for want of what was once heard
            kept = []
        return max(kept, key=lambda series: len(series.steps), default=Series(steps=(), provider="store", source="-"))

    def remember(series: Series) -> None:
        published = any(step.status in ("actual", "estimated") for step in series.steps)
        if remembers and published and series.provider in {one.name for one in providers}:
            try:
                store.remember(series, clock())
            except StoreError:  # what is not remembered can be asked for again
                return

    live: list[Source] = []
    for one in providers:
        lack = one.lack(site)
        if lack is None:
            live.append(Live(one, site, now=clock))
        elif tells_lacks and isinstance(lack, NoTokenError) and one.zone(site):
            live.append(Refusing(one, lack))
    models: list[Source] = [
        Learned(recall, now=clock, time_zone=where.time_zone),
        *_curve(where, static),
        yearly(static),
    ]
    return Feed([Remembered(recall), *live, *(models if may_model else [])], hear=remember)


def nameless() -> UsageError:
    """Nobody said whose grid it is, and nobody guesses."""
    hint = "give --region (IN-SO, DE, US-CAL-CISO, ...), or --trace FILE, or --intensity 250"
    return UsageError("whose grid is not known", hint=hint)


def read_trace(asked: Asked, at: datetime) -> Series:
    """The trace that was asked for, moved to `at` by hours of the week where that was, too. Raises UsageError."""
    from greenml.grid.trace import read, shifted

    assert asked.trace is not None
    series = read(Path(asked.trace))
    return shifted(series, at) if asked.trace_shift else series


def _providers(named: str | None, site: Site) -> list[Provider]:
    from greenml.grid import live

    if named is None:
        return [live.create(name) for name in live.known()]
    provider = live.create(named)
    if refused := provider.lack(site):
        raise refused
    return [provider]


def _curve(where: Whereabouts, static: Intensity) -> list[Source]:
    """The shape of a day, where the mix of the country and the place are known."""
    from greenml.grid import factors, modelled

    mix = factors.mix_of(where.country)
    if mix is None or where.latitude is None:
        return []
    latitude = where.latitude

    def draw(start: datetime, end: datetime) -> Series:
        return modelled.day_curve(
            static.g_per_kwh,
            mix.solar_share,
            mix.other_low_carbon_share,
            latitude,
            start=start,
            end=end,
            time_zone=where.time_zone,
            longitude=where.longitude,
            zone=static.region_used,
        )

    return [Drawn("day-curve", draw)]
