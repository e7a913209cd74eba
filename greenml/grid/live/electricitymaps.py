"""Electricity Maps, API v4: average intensity over the life cycle, of what is consumed in a zone.

Free tokens are for one zone and give the present and the last 24 hours. Zones and limits: portal.electricitymaps.com.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from greenml.grid.live.answers import Answer, OddAnswerError, facts, figure, listed, moment, ordered, step
from greenml.grid.live.client import with_header
from greenml.grid.live.provider import RefusedError, register_provider
from greenml.grid.live.service import Service, ceiling, chunks, floor
from greenml.grid.live.tokens import header_token, how_to_set

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from greenml.grid.live.provider import Site
    from greenml.grid.live.service import Refusals
    from greenml.grid.series import Factors, Kind, Status, Step

TOKEN = "ELECTRICITYMAPS_TOKEN"  # noqa: S105 - where one is looked for
SANDBOX = "SANDBOX_MODE_DATA"
GRANULARITIES = {
    "hourly": timedelta(hours=1),
    "15_minutes": timedelta(minutes=15),
    "5_minutes": timedelta(minutes=5),
}
HORIZONS_HOURS = (6, 24, 48, 72)
RECENT = timedelta(hours=24)
"""What `history` reaches back, with any token."""
RANGE = timedelta(days=10)
"""The most that `past-range` gives at once, by the hour."""
COMMON = {
    "emissionFactorType": "lifecycle",
    # Else a zone that it does not know becomes, in silence, the one of whoever asks.
    "disableCallerLookup": "true",
}


@register_provider("electricitymaps")
class ElectricityMaps(Service):
    """Client of `/carbon-intensity`."""

    name = "electricitymaps"
    title = "Electricity Maps"
    kind: Kind = "average"
    factors: Factors = "lifecycle"
    step = GRANULARITIES["hourly"]
    grace = timedelta(minutes=5)
    url = "https://api.electricitymaps.com/v4"

    def zone(self, site: Site) -> str | None:
        return site.electricity_maps

    def _prepare(self, site: Site) -> None:
        self._zone(site)
        header_token(TOKEN, title=self.title)

    def _latest(self, site: Site, now: datetime) -> Answer:
        return self._ask("latest", site, now, {}, self._refusals(site))

    def _past(self, site: Site, start: datetime, end: datetime, now: datetime) -> Iterator[Answer]:
        if start >= floor(now, self.step) - RECENT:
            yield self._ask("history", site, now, {}, self._refusals(site))
            return
        words = f"no history before {now - RECENT:%Y-%m-%d %H:%M} UTC in the plan of this token"
        refusals = self._beyond_free(site, now, words)
        for first, last in chunks(floor(start, self.step), ceiling(end, self.step), RANGE):
            span = {"start": f"{first:%Y-%m-%dT%H:%M:%SZ}", "end": f"{last:%Y-%m-%dT%H:%M:%SZ}"}
            yield self._ask("past-range", site, now, span, refusals)

    def _coming(self, site: Site, now: datetime, hours: float) -> Answer:
        horizon = next((enough for enough in HORIZONS_HOURS if enough >= hours), HORIZONS_HOURS[-1])
        refusals = self._beyond_free(site, now, "no forecast in the plan of this token")
        return self._ask("forecast", site, now, {"horizonHours": str(horizon)}, refusals)

    def _ask(self, what: str, site: Site, now: datetime, more: Mapping[str, str], refusals: Refusals) -> Answer:
        zone = self._zone(site)
        params = {"zone": zone, **COMMON, **more}
        return self._answer(f"/carbon-intensity/{what}", params, now, zone=zone, refusals=refusals)

    def _get(self, path: str, params: Mapping[str, str], now: datetime, refusals: Refusals) -> object:
        sign = with_header("auth-token", header_token(TOKEN, title=self.title))
        return self._client.get(path, params, now=now, refusals=refusals, sign=sign)

    def _zone(self, site: Site) -> str:
        """Never found by coordinates: where several zones share a region they are those of one of its towns."""
        if site.electricity_maps is None:
            raise RefusedError(
                f"{self.title}: it has no zone of its own for this place",
                hint="name one of its zones: `greenml grid regions` lists them",
            )
        return site.electricity_maps

    def _beyond_free(self, site: Site, now: datetime, words: str) -> Refusals:
        """What a refusal means of that which not every plan has.

        The present, which every plan has, is asked for first: whoever gets it has a token that is good and that, as no
        forecast says, is not given made-up figures.
        """
        self._latest(site, now)
        lacks = (words, "the free one gives the present and the last 24 hours")
        return self._refusals(site) | {401: lacks, 403: lacks}

    def _refusals(self, site: Site) -> Refusals:
        zone = self._zone(site)
        unknown = (f"{zone} is no zone that it knows", "`greenml grid regions` lists the zones")
        return {
            400: unknown,
            401: (
                f"the token is refused for {zone}",
                f"{how_to_set(TOKEN)}; a free one is for one zone, chosen at portal.electricitymaps.com",
            ),
            403: (
                f"the plan of this token does not cover {zone}",
                "a free one is for one zone, chosen at portal.electricitymaps.com",
            ),
            404: unknown,
        }

    def _read(self, path: str, body: object, zone: str) -> Answer:  # noqa: ARG002
        said = facts(body)
        foretold = "forecast" in said
        key = next((key for key in ("history", "data", "forecast") if key in said), None)
        # `latest` is one point without a list, and an answer of another kind (`{"status": "no-data"}`) has none.
        points = listed(said[key]) if key else [said] if "carbonIntensity" in said else []
        if any(map(_is_made_up, (said, *points))):
            raise RefusedError(
                f"{self.title}: this token gives made-up figures: it is in sandbox mode",
                hint=f"{TOKEN} of a real plan is needed, a free one too; nothing is reckoned with these",
                status=200,
            )
        for one in (said, *points):
            _check(one, zone)
        length = _granularity(said.get("temporalGranularity", "hourly"))
        steps = [read for point in points if (read := _step(point, length, foretold=foretold))]
        return Answer(zone=zone, steps=ordered(steps))


def _is_made_up(point: dict[str, Any]) -> bool:
    return point.get("estimationMethod") == SANDBOX or "sandbox" in str(point.get("_disclaimer")).lower()


def _check(point: dict[str, Any], zone: str) -> None:
    if point.get("zone", zone) != zone:
        raise OddAnswerError(f"it is about another zone than {zone}")
    if point.get("emissionFactorType", "lifecycle") != "lifecycle":
        raise OddAnswerError("its factors are not those of the life cycle")


def _granularity(value: object) -> timedelta:
    if not isinstance(value, str) or value not in GRANULARITIES:
        raise OddAnswerError("`temporalGranularity` is none that was asked for")
    return GRANULARITIES[value]


def _step(point: dict[str, Any], length: timedelta, *, foretold: bool) -> Step | None:
    """A point of an answer; None in a gap."""
    g_per_kwh = figure(point, "carbonIntensity")
    if g_per_kwh is None:
        return None
    # An answer that does not say is not taken for more than it may be.
    status: Status = "forecast" if foretold else "actual" if point.get("isEstimated") is False else "estimated"
    return step(moment(point.get("datetime"), "datetime"), length, g_per_kwh, status)
