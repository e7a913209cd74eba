"""WattTime, API v3: the marginal operating emissions rate (`co2_moer`), direct CO2, in steps of five minutes.

It may steer when and where to run, and is never added to averages. Free accounts are for CAISO_NORTH.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from greenml.grid.live.answers import Answer, OddAnswerError, facts, figure, listed, moment, ordered, step
from greenml.grid.live.client import TOO_OLD, with_header
from greenml.grid.live.provider import RefusedError, UnavailableError, register_provider
from greenml.grid.live.service import Service, ceiling, chunks, floor
from greenml.grid.live.tokens import fits_header, how_to_set, token
from greenml.units import g_per_kwh_of_lbs_per_mwh

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from greenml.grid.live.client import Sign
    from greenml.grid.live.provider import Site
    from greenml.grid.live.service import Refusals
    from greenml.grid.series import Factors, Kind, Status

USER = "WATTTIME_USER"
PASSWORD = "WATTTIME_PASSWORD"  # noqa: S105 - where one is looked for
SIGNAL = "co2_moer"
UNITS = "lbs_co2_per_mwh"
FORECAST, HISTORICAL, REGION = "/v3/forecast", "/v3/historical", "/v3/region-from-loc"
MAX_HOURS = 72
RANGE = timedelta(days=30)
"""What is asked for at once; the service gives a little more."""
REGION_HOLDS = timedelta(days=7)
"""How long a region that was found for coordinates is not looked up again."""
LOGIN_HOLDS = timedelta(minutes=28)
"""A login is good for 30."""
FREE = "free accounts are for CAISO_NORTH: watttime.org/docs-dev/data-plans"


@register_provider("watttime")
class WattTime(Service):
    """Client of the forecast and what was."""

    name = "watttime"
    title = "WattTime"
    kind: Kind = "marginal"
    factors: Factors = "direct"
    step = timedelta(minutes=5)
    grace = timedelta(minutes=1)
    url = "https://api.watttime.org"

    _bearer: tuple[str, datetime] | None = None
    """What the last login gave, and when; in memory alone."""

    def zone(self, site: Site) -> str | None:
        return site.watttime

    def _prepare(self, site: Site) -> None:
        if site.watttime is None and (site.latitude is None or site.longitude is None):
            raise RefusedError(
                f"{self.title}: neither a region nor coordinates are known for this place",
                hint="`greenml grid regions` lists the places",
            )
        token(USER, title=self.title)
        token(PASSWORD, title=self.title)

    def _latest(self, site: Site, now: datetime) -> Answer:
        # What was comes minutes late; the forecast begins with now.
        return self._coming(site, now, 1)

    def _past(self, site: Site, start: datetime, end: datetime, now: datetime) -> Iterator[Answer]:
        region = self._region(site, now)
        for first, last in chunks(floor(start, self.step), ceiling(end, self.step), RANGE):
            span = {"start": f"{first:%Y-%m-%dT%H:%M}+00:00", "end": f"{last:%Y-%m-%dT%H:%M}+00:00"}
            yield self._ask(HISTORICAL, region, now, span)

    def _coming(self, site: Site, now: datetime, hours: float) -> Answer:
        horizon = {"horizon_hours": str(min(math.ceil(hours), MAX_HOURS))}
        return self._ask(FORECAST, self._region(site, now), now, horizon)

    def _ask(self, path: str, region: str, now: datetime, more: Mapping[str, str]) -> Answer:
        params = {"region": region, "signal_type": SIGNAL, **more}
        return self._answer(path, params, now, zone=region, refusals=_refusals(region))

    def _region(self, site: Site, now: datetime) -> str:
        if site.watttime is not None:
            return site.watttime
        params = {"latitude": f"{site.latitude:.4f}", "longitude": f"{site.longitude:.4f}", "signal_type": SIGNAL}
        nowhere = (
            "no region of its is at these coordinates",
            "`--provider` takes another, `greenml grid regions` lists",
        )
        refusals = _refusals("this place") | {400: nowhere, 404: nowhere}
        until = now + REGION_HOLDS
        return self._answer(REGION, params, now, zone="", refusals=refusals, until=until).zone

    def _get(self, path: str, params: Mapping[str, str], now: datetime, refusals: Refusals) -> object:
        kept = self._bearer
        if kept is not None and kept[1] <= now < kept[1] + LOGIN_HOLDS:
            try:
                return self._client.get(path, params, now=now, refusals=refusals, sign=_sign(kept[0]))
            except RefusedError as error:
                if error.status != 401:
                    raise
        # The first one, or another after one that was over sooner than it said.
        bearer = self._login(now)
        self._bearer = (bearer, now)
        return self._client.get(path, params, now=now, refusals=refusals, sign=_sign(bearer))

    def _login(self, now: datetime) -> str:
        from requests.auth import HTTPBasicAuth

        # As bytes: what is no Latin-1 would end in an error that prints it.
        user, password = (token(name, title=self.title).encode(errors="surrogateescape") for name in (USER, PASSWORD))
        refused = ("user or password are refused", how_to_set(USER, PASSWORD))
        said = self._client.get(
            "/login", {}, now=now, refusals={401: refused, 403: refused}, sign=HTTPBasicAuth(user, password)
        )
        bearer = said.get("token") if isinstance(said, dict) else None
        if not isinstance(bearer, str) or not bearer or not fits_header(bearer):
            raise UnavailableError(f"{self.title}: the login gives no token", hint=TOO_OLD, status=200)
        return bearer

    def _read(self, path: str, body: object, zone: str) -> Answer:
        said = facts(body)
        if path == REGION:
            return Answer(zone=_region_of(said))
        meta = facts(said.get("meta"))
        for key, wanted in (("region", zone), ("signal_type", SIGNAL), ("units", UNITS)):
            if meta.get(key) != wanted:
                raise OddAnswerError(f"its `{key}` is not {wanted}")
        length = _period(meta.get("data_point_period_seconds", 300))
        status: Status = "forecast" if path == FORECAST else "actual"
        steps = []
        for point in listed(said.get("data")):
            value = figure(point, "value")
            start = moment(point.get("point_time"), "point_time")
            if value is not None:
                steps.append(step(start, length, g_per_kwh_of_lbs_per_mwh(value), status))
        return Answer(zone=zone, steps=ordered(steps))


def _refusals(region: str) -> Refusals:
    return {
        400: (f"the question about {region} is refused", TOO_OLD),
        401: ("the login is refused", how_to_set(USER, PASSWORD)),
        403: (f"the plan of this account does not cover {region}", FREE),
        404: (f"{region} is no region that it knows", "`greenml grid regions` lists the places"),
    }


def _region_of(said: dict[str, Any]) -> str:
    region = said.get("region")
    if not isinstance(region, str) or not re.fullmatch(r"[A-Z][A-Z0-9_]{1,39}", region):
        raise OddAnswerError("`region` is none")
    return region


def _period(value: object) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 3600:
        raise OddAnswerError("`data_point_period_seconds` is no number of seconds")
    return timedelta(seconds=value)


def _sign(bearer: str) -> Sign:
    return with_header("Authorization", f"Bearer {bearer}")
