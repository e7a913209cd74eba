"""Synthetic years of carbon intensity, half-hour by half-hour, with the shapes that real ones have.

A kWh emits what the plants that run at that moment emit:

    demand   1 on average: a curve of the local hour for workdays, one for weekends, a season, noise that lasts a day
    sun      the sine of its elevation at the zone's latitude and longitude, times a clearness that lasts two days
    wind     a logistic curve of a noise that lasts 30 h and is smooth over 3 h, more of it in winter
    plants   the rest, in the order of `Zone.plants`, each up to its capacity and never below its minimum; fossil ones
             emit up to PART_LOAD more per kWh the less they run; what no plant is left for is imported at IMPORT g
    noise    of the intensity itself, for all that is missing above: 2 %, lasting 2 h

`ar` is the one source of chance: a first-order autoregressive Gaussian of standard deviation 1 whose correlation falls
to 1/e in so many hours. A zone and a seed make a year; two seeds are two years with other weather.

Shares of a year's electricity are those of 2023 that greenml reads in CodeCarbon's tables (Our World in Data, Ember)
for DE, GB and FR; IN is a round southern India, out of no table: more sun and wind than the country has. Plants'
grams are medians over the life cycle (IPCC 2014, AR5 WG III, table A.III.2; lignite and hard coal are one). Demand
curves, seasons, weather and minima are round figures for what such grids do, chosen before any model was run on them,
and are not to be changed because a model does badly. For comparison, traces of 2020 (Wiesner et al., Middleware 2021)
have a spread of 0.31 to 0.35 of their mean, 0.25 to 0.33 of days' means, 0.10 to 0.17 within days: what is here is
harder to foretell from the days before, for there is more sun and wind in it.

    python tests/grid_world.py       the zones' means, spreads and days
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np

from greenml.grid.series import Series, regular

YEAR = 2025
STEP = timedelta(minutes=30)
START = datetime(YEAR, 1, 1)
NUM = 365 * 48

SUN_G, WIND_G = 48, 11
IMPORT_G = 490
PART_LOAD = 0.1
CLEARNESS_H, CLEAREST, DULLEST = 48, 1.0, 0.2
WIND_H, WIND_SMOOTH_H = 30, 3
WIND_STEEPNESS, WIND_MIDDLE = 1.1, -0.9
"""Of the logistic curve: capacity factors between 0.05 and 0.8, 0.3 on average, before they are scaled to a share."""
DEMAND_NOISE, DEMAND_NOISE_H = 0.025, 24
NOISE, NOISE_H = 0.02, 2
HOURS = (0, 3.5, 7, 9, 12, 15, 18.5, 21, 24)
"""Of the day, by the clock, at which the curves of demand are given; straight lines between them."""


@dataclass(frozen=True, kw_only=True)
class Plant:
    """What is run for the rest, in shares of the mean demand."""

    g_per_kwh: float
    capacity: float
    minimum: float = 0.0
    season: float = 0.0
    """Capacity in January over that in July, as a deviation from their mean."""
    outage: float = 0.0
    """Standard deviation of its capacity, as a share of it; outages last ten days."""


@dataclass(frozen=True, kw_only=True)
class Zone:
    time_zone: str
    latitude: float
    longitude: float
    sun: float
    """Share of the year's demand, as is `wind`."""
    wind: float
    wind_season: float
    """In January over the mean, less 1, as is `demand_season`; negative where the monsoon brings it."""
    demand_season: float
    workday: tuple[float, ...]
    """Demand at HOURS."""
    weekend: tuple[float, ...]
    plants: tuple[Plant, ...]
    annual_g_per_kwh: float
    """What `day_curve` is told, as are the shares: what CodeCarbon's tables give (IN: the round figures)."""
    other_low_carbon: float


NUCLEAR, HYDRO, BIOMASS, COAL, GAS = 12, 24, 230, 820, 490

ZONES = {
    # sun .122, wind .272, nuclear .017, hydro .039, biomass .092; coal .268, gas .151, oil .040; 381 g/kWh
    "DE": Zone(
        time_zone="Europe/Berlin",
        latitude=51,
        longitude=10,
        sun=0.122,
        wind=0.272,
        wind_season=0.35,
        demand_season=0.08,
        workday=(0.85, 0.80, 1.00, 1.15, 1.18, 1.12, 1.15, 1.05, 0.87),
        weekend=(0.80, 0.72, 0.74, 0.84, 0.94, 0.88, 0.98, 0.93, 0.80),
        plants=(
            Plant(g_per_kwh=NUCLEAR, capacity=0.017, minimum=0.017),
            Plant(g_per_kwh=HYDRO, capacity=0.039, minimum=0.039),
            Plant(g_per_kwh=BIOMASS, capacity=0.092, minimum=0.092),
            Plant(g_per_kwh=COAL, capacity=0.42, minimum=0.08, outage=0.05),
            Plant(g_per_kwh=GAS, capacity=0.60, minimum=0.04),
        ),
        annual_g_per_kwh=381,
        other_low_carbon=0.419,
    ),
    # sun .046, wind .281, nuclear .141, hydro .018, biomass .115; gas .343, coal .014, oil .043; 238 g/kWh
    "GB": Zone(
        time_zone="Europe/London",
        latitude=53,
        longitude=-1.5,
        sun=0.046,
        wind=0.281,
        wind_season=0.35,
        demand_season=0.12,
        workday=(0.82, 0.75, 0.98, 1.10, 1.12, 1.10, 1.30, 1.12, 0.84),
        weekend=(0.80, 0.71, 0.76, 0.92, 1.01, 0.97, 1.15, 1.02, 0.80),
        plants=(
            Plant(g_per_kwh=NUCLEAR, capacity=0.141, minimum=0.141, outage=0.10),
            Plant(g_per_kwh=HYDRO, capacity=0.018, minimum=0.018),
            Plant(g_per_kwh=BIOMASS, capacity=0.16, minimum=0.06),
            Plant(g_per_kwh=GAS, capacity=0.80, minimum=0.08),
            Plant(g_per_kwh=COAL, capacity=0.10),
        ),
        annual_g_per_kwh=238,
        other_low_carbon=0.555,
    ),
    # sun .045, wind .095, nuclear .653, hydro .103, biomass .018; gas .061, oil .019, coal .004; 56 g/kWh
    "FR": Zone(
        time_zone="Europe/Paris",
        latitude=47,
        longitude=2.5,
        sun=0.045,
        wind=0.095,
        wind_season=0.35,
        demand_season=0.22,
        workday=(0.95, 0.85, 0.98, 1.08, 1.10, 1.04, 1.10, 1.05, 0.96),
        weekend=(0.92, 0.80, 0.82, 0.92, 0.98, 0.90, 0.98, 0.96, 0.92),
        plants=(
            Plant(g_per_kwh=BIOMASS, capacity=0.018, minimum=0.018),
            Plant(g_per_kwh=NUCLEAR, capacity=0.69, minimum=0.35, season=0.14, outage=0.05),
            Plant(g_per_kwh=HYDRO, capacity=0.25, minimum=0.04),
            Plant(g_per_kwh=GAS, capacity=0.20, minimum=0.05),
            Plant(g_per_kwh=COAL, capacity=0.03),
        ),
        annual_g_per_kwh=56,
        other_low_carbon=0.871,
    ),
    # round: sun .15, wind .10, nuclear .05, hydro .08; coal .60, gas .02
    "IN": Zone(
        time_zone="Asia/Kolkata",
        latitude=12,
        longitude=78,
        sun=0.15,
        wind=0.10,
        wind_season=-0.6,
        demand_season=-0.05,
        workday=(0.92, 0.84, 0.98, 1.08, 1.08, 1.06, 1.08, 1.06, 0.94),
        weekend=(0.90, 0.82, 0.94, 1.02, 1.00, 0.98, 1.03, 1.02, 0.91),
        plants=(
            Plant(g_per_kwh=NUCLEAR, capacity=0.05, minimum=0.05),
            Plant(g_per_kwh=COAL, capacity=0.62, minimum=0.30, outage=0.04),
            Plant(g_per_kwh=HYDRO, capacity=0.20, minimum=0.02),
            Plant(g_per_kwh=GAS, capacity=0.15),
        ),
        annual_g_per_kwh=560,
        other_low_carbon=0.23,
    ),
}


@cache
def year(name: str, seed: int = 0) -> Series:
    """A year of a zone from 1 January, UTC, as if somebody had published it."""
    steps = regular(START, STEP, values(name, seed).tolist())
    return Series(steps=tuple(steps), provider="synthetic", source=f"a synthetic year of {name}", zone=name)


def values(name: str, seed: int) -> np.ndarray:
    """[NUM] g/kWh."""
    zone, random = ZONES[name], np.random.default_rng([seed, *name.encode()])
    demand = _demand(zone, random)
    sun, wind = zone.sun * _sun(zone, random), zone.wind * _wind(zone, random)
    rest = demand - sun - wind
    emitted = SUN_G * sun + WIND_G * wind
    used = sun + wind
    rest = rest - sum(plant.minimum for plant in zone.plants)
    for plant in zone.plants:
        capacity = np.maximum(
            plant.capacity * (1 + plant.season * _winter() + plant.outage * ar(random, 240)), plant.minimum
        )
        more = np.clip(rest, 0, capacity - plant.minimum)
        rest = rest - more
        runs = plant.minimum + more
        fossil = plant.g_per_kwh in (COAL, GAS)
        emitted = emitted + runs * plant.g_per_kwh * (1 + fossil * PART_LOAD * (1 - runs / capacity))
        used = used + runs
    imported = np.maximum(rest, 0)
    # Where sun, wind and minima are more than the demand, the rest of the mix is exported or curtailed as it is.
    return (emitted + imported * IMPORT_G) / (used + imported) * np.exp(NOISE * ar(random, NOISE_H))


def ar(random: np.random.Generator, hours: float) -> np.ndarray:
    """[NUM], standard deviation 1, correlation 1/e after so many hours."""
    keep = np.exp(-0.5 / hours)
    shocks = random.standard_normal(NUM) * np.sqrt(1 - keep**2)
    found = np.empty(NUM)
    level = random.standard_normal()
    for i, shock in enumerate(shocks):
        found[i] = level = keep * level + shock
    return found


def _demand(zone: Zone, random: np.random.Generator) -> np.ndarray:
    hours, weekend = _clock(zone.time_zone)
    shape = np.where(weekend, np.interp(hours, HOURS, zone.weekend), np.interp(hours, HOURS, zone.workday))
    demand = shape * (1 + zone.demand_season * _winter()) * (1 + DEMAND_NOISE * ar(random, DEMAND_NOISE_H))
    return demand / demand.mean()


def _sun(zone: Zone, random: np.random.Generator) -> np.ndarray:
    """Mean 1."""
    days = np.arange(NUM) / 48
    declination = np.radians(23.45) * np.sin(2 * np.pi * (284 + 1 + days) / 365)
    angle = 2 * np.pi * (days + 0.25 / 24 + zone.longitude / 360 - 0.5)
    latitude = np.radians(zone.latitude)
    elevation = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(angle)
    clearness = DULLEST + (CLEAREST - DULLEST) / (1 + np.exp(-1.5 * ar(random, CLEARNESS_H)))
    sun = np.maximum(elevation, 0) * clearness
    return sun / sun.mean()


def _wind(zone: Zone, random: np.random.Generator) -> np.ndarray:
    """Mean 1."""
    width = 2 * WIND_SMOOTH_H
    rough = ar(random, WIND_H)
    smooth = np.convolve(np.concatenate([rough[: width - 1], rough]), np.ones(width) / width, mode="valid")
    wind = (1 + zone.wind_season * _winter()) / (1 + np.exp(-(WIND_MIDDLE + WIND_STEEPNESS * smooth)))
    return wind / wind.mean()


def _winter() -> np.ndarray:
    """1 in the middle of January, -1 in that of July."""
    return np.cos(2 * np.pi * (np.arange(NUM) / 48 - 15) / 365)


@cache
def _clock(time_zone: str) -> tuple[np.ndarray, np.ndarray]:
    """The local hour of each half-hour's middle, and whether it lies on a weekend."""
    zone = ZoneInfo(time_zone)
    local = [(START + (i + 0.5) * STEP).replace(tzinfo=UTC).astimezone(zone) for i in range(NUM)]
    hours = np.array([moment.hour + moment.minute / 60 for moment in local])
    return hours, np.array([moment.weekday() >= 5 for moment in local])


def main() -> None:
    print("zone   mean   spread: all  of days' means  within days   mean day: lowest, highest (UTC)")
    for name in ZONES:
        trace = values(name, 0)
        days, mean = trace.reshape(-1, 48), trace.mean()
        means, day = days.mean(axis=1, keepdims=True), days.mean(axis=0) / mean
        low, high = day.argmin(), day.argmax()
        print(
            f"{name}    {mean:5.0f}  {trace.std() / mean:11.2f}  {means.std() / mean:14.2f}"
            f"  {(days - means).std() / mean:11.2f}"
            f"   {day[low]:.2f} at {low / 2:4.1f} h, {day[high]:.2f} at {high / 2:4.1f} h"
        )


if __name__ == "__main__":
    main()
