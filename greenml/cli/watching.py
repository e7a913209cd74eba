"""Who fills in what the grid emitted while a run lasted: its trace, or the services that publish it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from greenml.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from datetime import datetime

    from greenml.config import Config
    from greenml.grid.feed import Feed
    from greenml.grid.series import Series
    from greenml.grid.watch import Watch
    from greenml.records import Intensity
    from greenml.store import Store


def watch_of(
    config: Config,
    intensity: Intensity,
    store: Store,
    *,
    epoch_phases: Collection[str] = (),
    taken: Mapping[str, tuple[float, float | None]] | None = None,
    numbers: Iterator[int] | None = None,
) -> Watch | None:
    """None where one factor counts for all of it. `taken` has what earlier lives took and `numbers` counts decisions,
    as `Watch` takes them.

    Services are asked where `intensity`, as `accounting.intensity_of` made it, says so: grams are stored under its
    name. Raises UsageError for a trace that does not reach to now and for a provider that is not known, and
    RefusedError where the one that was named will not answer.
    """
    from greenml.grid import accounting
    from greenml.grid.series import now
    from greenml.grid.watch import Watch

    if intensity.level != "live":
        return accounting.watch_of(config, intensity, now(), epoch_phases=epoch_phases, before=taken, numbers=numbers)
    from greenml.cli.feeds import Asked, open_feed

    asked = dataclasses.replace(Asked.of(config), provider=accounting.provider_of(config))
    feed = open_feed(asked, store, intensity, may_model=False)
    published = _Published(feed)
    return Watch(
        published,
        intensity,
        epoch_phases=epoch_phases,
        before=taken,
        numbers=numbers,
        is_live=True,
        fallbacks=published.fallbacks,
    )


class _Published:
    """What services have published, as a watch asks for it; where none of them has, why."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._untold: list[str] = []

    def past(self, start: datetime, end: datetime) -> Series:
        told = self._feed.past(start, end)
        fallbacks = [one for one in self._feed.fallbacks() if one.source != "store"]
        if not told.steps and fallbacks:
            raise DataError("; ".join(one.why for one in fallbacks), hint="the yearly average counts instead")
        # That a service publishes late is no news: its last figure holds on.
        self._untold += [
            f"{one.source}: {one.why}; asked instead for what was emitted: {one.instead}"
            for one in fallbacks
            if not one.is_lag
        ]
        return told

    def fallbacks(self) -> Iterator[str]:
        """Who could not be asked since the last call, where somebody else answered."""
        while self._untold:
            yield self._untold.pop(0)
