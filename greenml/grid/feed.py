"""What is known of an intensity, from whoever knows it: sources in an order, each filling what those before it lack."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from greenml.grid import modelled
from greenml.grid.live import UnavailableError
from greenml.grid.series import Kind, Series, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from greenml.grid.live import Provider, Site
    from greenml.grid.modelled import Spread
    from greenml.records import Intensity

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
NOTHING = Series(steps=(), provider="none", source="nobody")


class Source(Protocol):
    """Somebody who knows an intensity, or a part of it."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> Kind: ...

    def past(self, start: datetime, end: datetime) -> Series:
        """What is known of [start, end), which lies before now, as far as it is, in whole steps where it can be. Raises
        UnavailableError."""

    def ahead(self, start: datetime, end: datetime) -> Series:
        """The same of what begins now or later."""


class Known:
    """One series for past and future: a trace, a value that the user gave, a yearly average."""

    kind: Kind = "average"

    def __init__(self, series: Series) -> None:
        self.name, self.kind, self._series = series.provider, series.kind, series

    def past(self, start: datetime, end: datetime) -> Series:
        return self._series.reaching(start, end)

    ahead = past


class Live:
    """A service: what it has published, and what it foretells."""

    def __init__(self, provider: Provider, site: Site, *, now: Callable[[], datetime]) -> None:
        self.name, self.kind = provider.name, provider.kind
        self._provider, self._site, self._now = provider, site, now

    def past(self, start: datetime, end: datetime) -> Series:
        return self._provider.history(self._site, start, end, self._now())

    def ahead(self, start: datetime, end: datetime) -> Series:
        """The figure of now from what is current, as forecasts may begin with the next step; what cannot be foretold
        is left to others."""
        now = self._now()
        current = self._provider.current(self._site, now)
        try:
            hours = (end - now) / HOUR
            return current.filled(self._provider.forecast(self._site, now, hours))
        except UnavailableError:
            if end - start > MINUTE and not current.covers(start, min(end, start + MINUTE)):
                raise
            return current


class Refusing:
    """A service that could be asked but for what it lacks, which is told like any other trouble."""

    def __init__(self, provider: Provider, lack: UnavailableError) -> None:
        self.name, self.kind, self._lack = provider.name, provider.kind, lack

    def past(self, start: datetime, end: datetime) -> Series:  # noqa: ARG002
        raise self._lack

    ahead = past


class Remembered:
    """What the store has kept of earlier answers."""

    kind: Kind = "average"

    def __init__(self, recall: Callable[[datetime], Series]) -> None:
        self.name, self._recall = "store", recall

    def past(self, start: datetime, end: datetime) -> Series:
        return self._recall(start).between(start, end)

    def ahead(self, start: datetime, end: datetime) -> Series:  # noqa: ARG002 - what was foretold once may be told anew
        return NOTHING


class Learned:
    """The forecast that is made of what the store has kept. It steers; nothing is accounted by it."""

    name = "learned"
    kind: Kind = "average"

    def __init__(
        self, recall: Callable[[datetime], Series], *, now: Callable[[], datetime], time_zone: str | None
    ) -> None:
        self._recall, self._now, self._time_zone = recall, now, time_zone

    def past(self, start: datetime, end: datetime) -> Series:  # noqa: ARG002
        return NOTHING

    def ahead(self, start: datetime, end: datetime) -> Series:
        now = self._now()
        hours = (end - now) / HOUR
        history = self._recall(now - timedelta(days=modelled.HISTORY_DAYS))
        made = modelled.learned(history, now=now, hours=hours + 1, time_zone=self._time_zone)  # so that steps are whole
        if made is None:
            raise UnavailableError("less than a day of this zone is known so far", hint="it learns with every run")
        return made.reaching(start, end)

    def doubt(self, *, duration: timedelta, lead: timedelta) -> Spread | None:
        """How far off it was on what has been kept, of a window `lead` ahead against starting at once: what
        `window / now` is to be multiplied with. None with too little kept."""
        now = self._now()
        history = self._recall(now - timedelta(days=modelled.HISTORY_DAYS + modelled.BACKTEST_DAYS))
        return modelled.backtest_against_now(history, now=now, duration=duration, lead=lead, time_zone=self._time_zone)


class Drawn:
    """What was never measured: the shape of a day by sun and demand, or the average of a year. It steers, too."""

    kind: Kind = "average"

    def __init__(self, name: str, draw: Callable[[datetime, datetime], Series]) -> None:
        self.name, self._draw = name, draw

    def past(self, start: datetime, end: datetime) -> Series:  # noqa: ARG002
        return NOTHING

    def ahead(self, start: datetime, end: datetime) -> Series:
        return self._draw(start, end + HOUR).reaching(start, end)  # so that steps are whole


def yearly(intensity: Intensity) -> Drawn:
    """The static factor of a place, whenever it is asked for."""
    return Drawn("annual", lambda start, end: modelled.yearly(intensity, start, end))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """A source that did not give all that was wanted of it."""

    source: str
    why: str
    instead: str | None
    """Which source was asked next; None where that was the last."""
    is_lag: bool = False
    """Whether it answered, and knows a part of it alone."""


class Feed:
    """Sources in an order. `hear` is given every answer, to be remembered; each fallback is told once."""

    def __init__(self, sources: Sequence[Source], *, hear: Callable[[Series], None] = lambda _: None) -> None:
        self._sources, self._hear = list(sources), hear
        self._told: set[tuple[str, str]] = set()
        self._untold: list[Fallback] = []

    @property
    def names(self) -> list[str]:
        """Of the sources, in their order."""
        return [source.name for source in self._sources]

    def past(self, start: datetime, end: datetime) -> Series:
        """What is known of [start, end), which lies before now; averages alone, as grams are reckoned with them."""
        recorded = [one for one in self._sources if one.kind == "average" and not isinstance(one, Learned | Drawn)]
        return _merged(self._asked(recorded, start, end, lambda source: source.past(start, end)))

    def ahead(self, start: datetime, end: datetime) -> Series:
        """The same of what is to come, by which runs are steered: of the kind of the first source that knows any."""
        return _merged(self.ahead_by_source(start, end))

    def ahead_by_source(self, start: datetime, end: datetime) -> list[Series]:
        """The same, apart by who knows it: of each source that which those before it lack."""
        return self._asked(self._telling, start, end, lambda source: source.ahead(start, end))

    def averages(self, start: datetime, end: datetime) -> Series:
        """What is to come, of averages alone: policies limit those."""
        telling = [source for source in self._telling if source.kind == "average"]
        return _merged(self._asked(telling, start, end, lambda source: source.ahead(start, end)))

    def at(self, now: datetime) -> Step | None:
        """What holds now; None where nobody knows."""
        return self.ahead(now, now + MINUTE).at(now)

    def holding(self, now: datetime) -> Series:
        """What holds now as one step, from when and until when, and whose it is; no step where nobody knows."""
        for i, source in enumerate(self._telling):
            why, is_lag = "does not know what holds now", True
            try:
                given = source.ahead(now, now + HOUR)
                self._hear(given)
                if step := given.at(now):
                    return dataclasses.replace(given, steps=(step,))
            except UnavailableError as error:
                why, is_lag = str(error), False
            instead = next((one.name for one in self._telling[i + 1 :]), None)
            self._note(Fallback(source=source.name, why=why, instead=instead, is_lag=is_lag))
        return NOTHING

    def only(self, names: Collection[str]) -> Feed:
        """The sources of these names alone."""
        return Feed([source for source in self._sources if source.name in names], hear=self._hear)

    def doubt(self, *, duration: timedelta, lead: timedelta) -> Spread | None:
        """`Learned.doubt`; None where nothing is learned."""
        learned = (source for source in self._sources if isinstance(source, Learned))
        return next((source.doubt(duration=duration, lead=lead) for source in learned), None)

    def fallbacks(self) -> Iterator[Fallback]:
        """Those since the last call."""
        while self._untold:
            yield self._untold.pop(0)

    @property
    def _telling(self) -> list[Source]:
        """Who may know what is to come."""
        return [source for source in self._sources if not isinstance(source, Remembered)]

    def _asked(
        self, sources: Sequence[Source], start: datetime, end: datetime, ask: Callable[[Source], Series]
    ) -> list[Series]:
        found, parts = NOTHING, []
        for i, source in enumerate(sources):
            if found.steps and source.kind != found.kind:
                continue
            why, is_lag = "does not know all of that time", True
            try:
                given = ask(source)
                self._hear(given)
                added = given.outside(found, start, end)
                if added.steps:
                    parts.append(added)
                    found = _merged(parts)
            except UnavailableError as error:
                why, is_lag = str(error), False
            if found.covers(start, end):
                break
            instead = sources[i + 1].name if i + 1 < len(sources) else None
            if instead or not found.steps:  # who is asked last may end where knowledge does
                self._note(Fallback(source=source.name, why=why, instead=instead, is_lag=is_lag))
        return parts

    def _note(self, fallback: Fallback) -> None:
        # Errors name the hour: the same one an hour later is no news.
        key = fallback.source, "".join(sign for sign in fallback.why if not sign.isdigit())
        if key not in self._told:
            self._told.add(key)
            self._untold.append(fallback)


def _merged(parts: Sequence[Series]) -> Series:
    """One series of all, which is called as the first of them."""
    found = NOTHING
    for part in parts:
        found = found.filled(part) if found.steps else part
    return found
