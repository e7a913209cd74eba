"""The Carbon Intensity API of NESO, the operator of Great Britain's grid: half-hours, free for all (CC BY 4.0).

Direct emissions of what is generated and imported, losses included. Of regions it says only what it foretold, not what
was.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from greenml.errors import UsageError
from greenml.grid.live.answers import Answer, OddAnswerError, facts, figure, listed, moment, ordered, step
from greenml.grid.live.provider import RefusedError, register_provider
from greenml.grid.live.service import Service, ceiling, chunks, floor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from greenml.grid.live.provider import Site
    from greenml.grid.live.service import Refusals
    from greenml.grid.series import Factors, Kind, Step

COUNTRY = "GB"
NUM_REGIONS = 17
RANGE = timedelta(days=14)
"""The most that is given at once."""


@register_provider("neso")
class Neso(Service):
    """Client of `/intensity` and `/regional/intensity`."""

    name = "neso"
    title = "NESO Carbon Intensity API"
    kind: Kind = "average"
    factors: Factors = "direct"
    step = timedelta(minutes=30)
    grace = timedelta(minutes=1)
    url = "https://api.carbonintensity.org.uk"

    def zone(self, site: Site) -> str | None:
        try:
            return self._place(site)[1]
        except RefusedError:
            return None

    def _prepare(self, site: Site) -> None:
        self._place(site)

    def _latest(self, site: Site, now: datetime) -> Answer:
        # By its time, not as `/intensity`, which in the first seconds of a half-hour still gives the one before.
        start = floor(now, self.step)
        return self._between(site, start, start + self.step, now)

    def _past(self, site: Site, start: datetime, end: datetime, now: datetime) -> Iterator[Answer]:
        for first, last in chunks(floor(start, self.step), ceiling(end, self.step), RANGE):
            yield self._between(site, first, last, now)

    def _coming(self, site: Site, now: datetime, hours: float) -> Answer:
        return self._ask(site, f"{floor(now, self.step):%Y-%m-%dT%H:%MZ}/fw{24 if hours <= 24 else 48}h", now)

    def _between(self, site: Site, start: datetime, end: datetime, now: datetime) -> Answer:
        return self._ask(site, f"{start:%Y-%m-%dT%H:%MZ}/{end:%Y-%m-%dT%H:%MZ}", now)

    def _ask(self, site: Site, span: str, now: datetime) -> Answer:
        where, zone = self._place(site)
        path = f"/regional/intensity/{span}/{where}" if where else f"/intensity/{span}"
        return self._answer(path, {}, now, zone=zone, refusals=_refusals(zone) if where else {})

    def _place(self, site: Site) -> tuple[str, str]:
        """The end of a regional path, "" for the whole country, and the name of the zone."""
        if site.gb_region is not None:
            if not 1 <= site.gb_region <= NUM_REGIONS:
                raise UsageError(f"{self.title}: there is no region {site.gb_region}", hint=f"1 to {NUM_REGIONS}")
            return f"regionid/{site.gb_region}", f"region {site.gb_region}"
        if site.gb_postcode is not None:
            outward = _outward(site.gb_postcode)
            return f"postcode/{outward}", outward
        if site.electricity_maps == COUNTRY:
            return "", COUNTRY
        raise RefusedError(f"{self.title}: it is about Great Britain alone", hint="elsewhere other providers know more")

    def _read(self, path: str, body: object, zone: str) -> Answer:  # noqa: ARG002
        points: list[dict[str, Any]] = []
        for item in listed(facts(body).get("data")):
            if "data" in item:  # of a region; the documents show a list of one, the service gives it without the list
                _check(item, zone)
                points += listed(item["data"])
            else:
                points.append(item)
        steps = [read for point in points if (read := _step(point))]
        return Answer(zone=zone, steps=ordered(steps))


def _outward(postcode: str) -> str:
    """The first half of a postcode, which is what the service knows: "rg10 9aa" -> "RG10"."""
    halves = re.fullmatch(r"([A-Z]{1,2}[0-9][0-9A-Z]?) *([0-9][A-Z]{2})?", postcode.strip().upper())
    if not halves:
        raise UsageError(f"`{postcode}` is no postcode of Great Britain", hint="they look like RG10 or RG10 9AA")
    return halves[1]


def _refusals(zone: str) -> Refusals:
    hint = f"regions are 1 to {NUM_REGIONS}, postcodes are known by their first half: RG10"
    return {400: (f"{zone} is not known", hint), 404: (f"{zone} is not known", hint)}


def _check(region: dict[str, Any], zone: str) -> None:
    if zone not in (f"region {region.get('regionid')}", region.get("postcode")):
        raise OddAnswerError(f"it is not about {zone}")


def _step(point: dict[str, Any]) -> Step | None:
    """A half-hour; None where neither what was nor what was foretold is known."""
    said = facts(point.get("intensity") or {"actual": None, "forecast": None})
    actual = figure({"actual": None} | said, "actual")  # of a region there is none
    g_per_kwh = figure(said, "forecast") if actual is None else actual
    if g_per_kwh is None:
        return None
    start, end = moment(point.get("from"), "from"), moment(point.get("to"), "to")
    return step(start, end - start, g_per_kwh, "forecast" if actual is None else "actual")
