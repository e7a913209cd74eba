"""Intensities that nobody published: foretold from the last weeks, drawn from a country's annual mix, or the annual
average itself.

`learned` needs a day of history and is best with three weeks; `backtest` says how wrong it was on that history;
`day_curve` needs no history at all; `yearly` is flat. What they say may steer; nothing here was measured.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from greenml.grid.series import Series, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from greenml.records import Intensity

HISTORY_DAYS = 21
"""Days that are learned from: three weekends. With 7, weekends have nothing of their own to learn from."""
MIN_HISTORY = timedelta(hours=24)
"""Less than this, and there is no model."""
HALF_LIFE_DAYS = 5.0
"""A day that lies so much further back counts half."""
POOLED_DAYS = 2.0
"""Days of all kinds that weigh with the workdays', and with the weekends', own: a weekend has few."""
PERSISTENCE_H = 24.0
"""Hours in which what the last observation was off the mean day decays to 1/e. Weather lasts: on real traces of 2020
(DE, GB, FR; Wiesner et al., Middleware 2021) 24 h foretold better than 6 h at every lead up to two days."""

BACKTEST_DAYS = 28
"""Forecasts made so long ago are not asked any more: seasons change."""
BACKTEST_ASIDE_H = (-2, 0, 2)
"""Of each day, the forecasts made so many hours from this time of day: a noon under changing skies is foretold worse
than a night."""
MIN_COMPARED = 10
"""Fewer windows than that tell no 80 %."""

FOSSIL_G_PER_KWH = 700.0
LOW_CARBON_G_PER_KWH = 30.0
"""What both emit, before the curve is scaled to the annual mean: between coal's 820 and gas's 490, and between
nuclear's 12 and solar's 48 (IPCC 2014, AR5 WG III, table A.III.2, medians over the life cycle). The ratio stays."""
MIN_FOSSIL = 0.02
"""Of the mean load; something always keeps the frequency."""
LOAD = ((-5.5, 1.15), (3.5, 0.80), (9.0, 1.00), (18.5, 1.15), (27.5, 0.80))
"""Hour of the day by the clock, and load over its mean; straight lines between them."""

_CELL = timedelta(minutes=30)
_CELLS_A_DAY = 48
_ORIGIN = datetime(1970, 1, 1)
"""Cells are numbered from here: half-hours of UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The middle 80 % of how much came for what the model said: factors, 1 where it was right."""

    low: float
    high: float
    num: int
    """Windows compared. They overlap: it counts for less than as many draws."""


def learned(history: Series, *, now: datetime, hours: float = 48, time_zone: str | None = None) -> Series | None:
    """The next `hours` from `now`, half-hour by half-hour, out of what was observed until `now`; None with less than a
    day of it.

    The mean of each half-hour of the day, workdays and weekends apart, recent days counting more; and on top what the
    last observation was off that, fading. `time_zone` (`Europe/Berlin`; UTC where it is None) says which half-hour of
    the day it is: people get up by the clock, also when it changes. Forecasts and models in `history` teach nothing.
    """
    last = _cell(now)
    model = _learn(_observed(history, now - timedelta(days=HISTORY_DAYS), now), last + 1, _Clock(time_zone))
    if model is None:
        return None
    end = now + timedelta(hours=hours)
    steps = (
        Step(start=_moment(cell), end=_moment(cell + 1), g_per_kwh=model.at(cell), status="modelled")
        for cell in range(last, _cell(end) + 1)
    )
    source = f"greenml's model of the last {model.days:.0f} days of {history.source}"
    return dataclasses.replace(history, steps=tuple(steps), provider="learned", source=source).between(now, end)


def backtest(
    history: Series,
    *,
    now: datetime,
    duration: timedelta,
    lead: timedelta = timedelta(0),
    time_zone: str | None = None,
) -> Spread | None:
    """How far off `learned` was: what a window of `duration`, `lead` ahead, had in the end, over what was foretold of
    it, walking through `history` with nothing known but what came before. None with too little of it.

    To be multiplied with a window's foretold g/kWh.
    """
    walked = _walk(history, now, time_zone, _Stretch.of(lead, duration))
    return _spread(window.actual / window.foretold for (window,) in walked if window.foretold > 0)


def backtest_against_now(
    history: Series, *, now: datetime, duration: timedelta, lead: timedelta, time_zone: str | None = None
) -> Spread | None:
    """The same of a window against starting at once, both foretold: what is to be multiplied with
    `window / now`, which is 1 - saving. Exactly 1 where `lead` is 0. None with too little history."""
    at_once = _Stretch.of(timedelta(0), duration)
    return _spread(
        (window.actual / first.actual) / (window.foretold / first.foretold)
        for first, window in _walk(history, now, time_zone, at_once, _Stretch.of(lead, duration))
        if min(window.foretold, first.foretold, first.actual) > 0
    )


def day_curve(
    annual_g_per_kwh: float,
    solar_share: float,
    other_low_carbon_share: float,
    latitude: float,
    *,
    start: datetime,
    end: datetime,
    time_zone: str | None = None,
    longitude: float | None = None,
    zone: str | None = None,
) -> Series:
    """A clear average day of each season, from nothing but a country's annual mix, in half-hours from `start` to `end`.

    What sun and other low-carbon plants leave of the load is met by burning something:

        fossil(t) = max(load(t) - other_low_carbon_share - solar_share * pi * sun(t), MIN_FOSSIL)
        g(t)      = (fossil(t) * FOSSIL_G_PER_KWH + (load(t) - fossil(t)) * LOW_CARBON_G_PER_KWH) / load(t)

    scaled so that its mean over the year is `annual_g_per_kwh`. `sun` is half a sine between sunrise and sunset: with
    pi its mean over a day of twelve bright hours is 1. `load` is LOAD, by the clock of `time_zone`. Shares are of the
    year's electricity, 0 to 1; `latitude` and `longitude` in degrees, north and east. Without `longitude` noon is at
    twelve of `time_zone`'s standard time; without `time_zone` too, of UTC. There is no weather in it, and no wind.
    """
    curve = _Curve(solar_share, other_low_carbon_share, latitude, longitude, time_zone)
    scale = annual_g_per_kwh / curve.mean_of(start.year)
    steps = (
        Step(start=_moment(cell), end=_moment(cell + 1), g_per_kwh=scale * curve.at(cell), status="modelled")
        for cell in range(_cell(start), _cell(end) + 1)
    )
    source = (
        f"greenml's model of a day at {abs(latitude):.0f}° {'N' if latitude >= 0 else 'S'}: {solar_share:.0%} solar, "
        f"{other_low_carbon_share:.0%} other low-carbon, {annual_g_per_kwh:.0f} g/kWh a year"
    )
    return Series(steps=tuple(steps), provider="day-curve", source=source, zone=zone).between(start, end)


def yearly(intensity: Intensity, start: datetime, end: datetime) -> Series:
    """The annual average, flat from `start` to `end`."""
    step = Step(start=start, end=end, g_per_kwh=intensity.g_per_kwh, status="assumed")
    return Series(steps=(step,), provider="annual", source=intensity.source, zone=intensity.region_used)


def daylight_h(latitude: float, day_of_year: int) -> float:
    """Hours between sunrise and sunset, 0 to 24: the sunset equation over Cooper's declination (Duffie and Beckman,
    Solar Engineering of Thermal Processes, eq. 1.6.1a and 1.6.11)."""
    declination = math.radians(23.45) * math.sin(2 * math.pi * (284 + day_of_year) / 365)
    cosine = -math.tan(math.radians(latitude)) * math.tan(declination)
    return 24 / math.pi * math.acos(min(max(cosine, -1.0), 1.0))


class _Stretch(NamedTuple):
    """A window as seen from where it is foretold, in cells."""

    ahead: int
    num: int

    @classmethod
    def of(cls, lead: timedelta, duration: timedelta) -> _Stretch:
        return cls(round(lead / _CELL), max(round(duration / _CELL), 1))


class _Compared(NamedTuple):
    """The mean of a window that is over, in g/kWh."""

    foretold: float
    actual: float


def _walk(
    history: Series, now: datetime, time_zone: str | None, *stretches: _Stretch
) -> Iterator[tuple[_Compared, ...]]:
    """Forecasts made at about this time of earlier days, and what came: of each all `stretches`, where all of them are
    known by now."""
    known = _observed(history, now - timedelta(days=HISTORY_DAYS + BACKTEST_DAYS), now)
    if not known:
        return
    clock = _Clock(time_zone)
    days = range(_cell(now) - BACKTEST_DAYS * _CELLS_A_DAY, _cell(now) + 1, _CELLS_A_DAY)
    for made in (day + aside * 2 for day in days for aside in BACKTEST_ASIDE_H):
        windows = [range(made + ahead, made + ahead + num) for ahead, num in stretches]
        if not all(cell in known for window in windows for cell in window):
            continue
        if model := _learn(known, made, clock):
            yield tuple(
                _Compared(
                    statistics.fmean(model.at(cell) for cell in window),
                    statistics.fmean(known[cell].g_per_kwh for cell in window),
                )
                for window in windows
            )


def _spread(factors: Iterable[float]) -> Spread | None:
    compared = list(factors)
    if len(compared) < MIN_COMPARED:
        return None
    deciles = statistics.quantiles(compared, n=10, method="inclusive")
    return Spread(low=deciles[0], high=deciles[-1], num=len(compared))


class _Observed(NamedTuple):
    """Of a cell, what was seen in it."""

    g_per_kwh: float
    seconds: float


class _Clock(dict[int, tuple[bool, int]]):
    """Cell -> whether it lies on a weekend, and which half-hour of the day it is there."""

    def __init__(self, time_zone: str | None) -> None:
        super().__init__()
        self._zone = ZoneInfo(time_zone) if time_zone else UTC

    def __missing__(self, cell: int) -> tuple[bool, int]:
        local = _moment(cell).replace(tzinfo=UTC).astimezone(self._zone)
        self[cell] = local.weekday() >= 5, local.hour * 2 + local.minute // 30
        return self[cell]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """Of any cell, what it foretells."""

    profile: Mapping[tuple[bool, int], float]
    last: int
    """The last cell that was observed."""
    off: float
    """What was observed there, less the profile, in g/kWh."""
    days: float
    """Of history."""
    clock: _Clock

    def at(self, cell: int) -> float:
        fading = math.exp(-(cell - self.last) / (PERSISTENCE_H * 2))
        return max(self.profile[self.clock[cell]] + self.off * fading, 0.0)


def _learn(known: Mapping[int, _Observed], end: int, clock: _Clock) -> _Model | None:
    """The model that whoever knows the cells before `end` has; None with less than a day of them."""
    cells = [cell for cell in range(end - HISTORY_DAYS * _CELLS_A_DAY, end) if cell in known]
    seen = timedelta(seconds=sum(known[cell].seconds for cell in cells))
    if seen < MIN_HISTORY:
        return None
    weights: dict[tuple[bool, int], float] = defaultdict(float)
    sums: dict[tuple[bool, int], float] = defaultdict(float)
    for cell in cells:
        (g_per_kwh, seconds), half_hour_of = known[cell], clock[cell]
        weight = seconds / _CELL.seconds * 0.5 ** ((end - cell) / (HALF_LIFE_DAYS * _CELLS_A_DAY))
        weights[half_hour_of] += weight
        sums[half_hour_of] += weight * g_per_kwh
    overall = sum(sums.values()) / sum(weights.values())
    profile = {}
    for half_hour in range(_CELLS_A_DAY):
        workday, weekend = (False, half_hour), (True, half_hour)
        weight = weights[workday] + weights[weekend]
        pooled = (sums[workday] + sums[weekend]) / weight if weight else overall
        for kind in (workday, weekend):
            profile[kind] = (sums[kind] + POOLED_DAYS * pooled) / (weights[kind] + POOLED_DAYS)
    last = cells[-1]
    off = known[last].g_per_kwh - profile[clock[last]]
    return _Model(profile=profile, last=last, off=off, days=seen / timedelta(days=1), clock=clock)


def _observed(history: Series, start: datetime, end: datetime) -> dict[int, _Observed]:
    """By cell, what was observed between `start` and `end`."""
    seconds: dict[int, float] = defaultdict(float)
    sums: dict[int, float] = defaultdict(float)
    for step in history.between(start, end).steps:
        if step.status not in ("actual", "estimated"):
            continue
        reached, cell = step.start, _cell(step.start)
        while reached < step.end:
            until = min(_moment(cell + 1), step.end)
            length = (until - reached).total_seconds()
            seconds[cell] += length
            sums[cell] += length * step.g_per_kwh
            reached, cell = until, cell + 1
    return {cell: _Observed(sums[cell] / seconds[cell], seconds[cell]) for cell in sums}


def _cell(moment: datetime) -> int:
    return (moment - _ORIGIN) // _CELL


def _moment(cell: int) -> datetime:
    return _ORIGIN + cell * _CELL


@dataclass(frozen=True)
class _Curve:
    """The curve before it is scaled."""

    solar_share: float
    other_low_carbon_share: float
    latitude: float
    longitude: float | None
    time_zone: str | None

    def at(self, cell: int) -> float:
        """In the middle of a cell, in g/kWh."""
        middle = (_moment(cell) + _CELL / 2).replace(tzinfo=UTC)
        local = middle.astimezone(_zone_info(self.time_zone)) if self.time_zone else middle
        if self.longitude is None:
            solar = local.replace(tzinfo=None) - (local.dst() or timedelta(0))
        else:
            solar = middle.replace(tzinfo=None) + timedelta(hours=self.longitude / 15)
        load = _load(_hour(local.replace(tzinfo=None) if self.time_zone else solar))
        sun = _sun(_hour(solar), daylight_h(self.latitude, solar.timetuple().tm_yday))
        fossil = max(load - self.other_low_carbon_share - self.solar_share * math.pi * sun, MIN_FOSSIL)
        return (fossil * FOSSIL_G_PER_KWH + (load - fossil) * LOW_CARBON_G_PER_KWH) / load

    def mean_of(self, year: int) -> float:
        """Over a year; every fifth day speaks for its neighbours."""
        return _mean_of(self, year)


@cache
def _mean_of(curve: _Curve, year: int) -> float:
    days = range(_cell(datetime(year, 1, 3)), _cell(datetime(year + 1, 1, 1)), 5 * _CELLS_A_DAY)
    return statistics.fmean(curve.at(day + half_hour) for day in days for half_hour in range(_CELLS_A_DAY))


_zone_info = cache(ZoneInfo)


def _load(hour: float) -> float:
    """Over its mean."""
    for (before, low), (after, high) in pairwise(LOAD):
        if hour <= after:
            return low + (high - low) * (hour - before) / (after - before)
    raise ValueError(f"no hour of a day: {hour}")


def _sun(hour: float, daylight_h: float) -> float:
    """0 at sunrise and sunset, 1 at noon, by solar time."""
    risen_h = hour - (12 - daylight_h / 2)
    return math.sin(math.pi * risen_h / daylight_h) if 0 < risen_h < daylight_h else 0.0


def _hour(moment: datetime) -> float:
    return moment.hour + moment.minute / 60 + moment.second / 3600
