"""What choosing the hour saves: jobs replayed over synthetic years (`grid_world`), by policy, against starting at once.

Jobs arrive on workdays between 9 and 17 by the local clock, run for so many hours at constant power, and their start
may wait for so many. Every policy sees what was published until then and nothing after it, but for the perfect
forecast, and is charged with what came. A zone's saving is that of all its jobs' grams together; that of all zones is
the mean of theirs.

    python tests/bench_grid.py       this part of `make bench` alone
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

import grid_world
import numpy as np
from bench_store import Figure
from grid_world import ZONES

from greenml.grid.modelled import HISTORY_DAYS, backtest_against_now, day_curve, learned
from greenml.grid.series import Series, Step, regular
from greenml.grid.windows import best

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

HOUR = timedelta(hours=1)
NUM_JOBS = 800
SEED = 0
SIMPLE_G, SIMPLE_WAIT, SIMPLE_CHECK = 300, HOUR, timedelta(minutes=5)
"""The policy that people know: wait up to an hour for under 300 g."""
IDLE = (0.0, 0.02, 0.05, 0.10)
"""What the waiting machine draws, over what it draws at work."""
NUM_INTERVALS = 50
"""Jobs of a zone whose interval is looked at: each is a walk through four weeks."""


class Shape(NamedTuple):
    """How long jobs run, and for how long their start may wait."""

    duration: timedelta
    slack: timedelta

    def __str__(self) -> str:
        return f"{self.duration / HOUR:g} h within {self.slack / HOUR:g} h"


GOAL = Shape(4 * HOUR, 24 * HOUR)
SHAPES = (GOAL, Shape(12 * HOUR, 24 * HOUR), Shape(HOUR, 12 * HOUR))


@dataclass(frozen=True)
class Job:
    """One that arrives, and what its planner may look at."""

    zone: str
    arrives: datetime
    published: Series
    """The whole year: only `perfect` looks past `arrives`."""
    curve: Series
    """The year that `day_curve` draws."""
    foretold: Series
    """By `learned`."""


def jobs(zone: str, num: int = NUM_JOBS, seed: int = SEED) -> Iterator[Job]:
    """Of a zone's year, from when there is enough history to three days before the end."""
    facts, published, random = ZONES[zone], grid_world.year(zone, seed), np.random.default_rng([seed, 1])
    start, end = published.start + timedelta(days=HISTORY_DAYS), published.end - timedelta(days=3)
    curve = day_curve(
        facts.annual_g_per_kwh, facts.sun, facts.other_low_carbon, facts.latitude,
        start=published.start, end=published.end, time_zone=facts.time_zone, longitude=facts.longitude,
    )  # fmt: skip
    slack = max(shape.duration + shape.slack for shape in SHAPES)
    while num:
        arrives = start + timedelta(minutes=5) * int(random.integers((end - start) // timedelta(minutes=5)))
        local = arrives.replace(tzinfo=UTC).astimezone(ZoneInfo(facts.time_zone))
        if local.weekday() < 5 and 9 <= local.hour < 17:
            foretold = learned(published, now=arrives, hours=slack / HOUR, time_zone=facts.time_zone)
            yield Job(zone, arrives, published, curve, foretold)
            num -= 1


def now(job: Job, shape: Shape) -> datetime:
    return job.arrives


def perfect(job: Job, shape: Shape) -> datetime:
    return _best(job.published, job, shape)


def by_learned(job: Job, shape: Shape) -> datetime:
    return _best(job.foretold, job, shape)


def by_yesterday(job: Job, shape: Shape) -> datetime:
    """The last 24 h come again, and again."""
    day = job.published.between(job.arrives - 24 * HOUR, job.arrives).steps
    again = (
        Step(start=step.start + days * 24 * HOUR, end=step.end + days * 24 * HOUR, g_per_kwh=step.g_per_kwh)
        for days in (1, 2)
        for step in day
    )
    return _best(Series(steps=tuple(again), provider="yesterday", source="the last 24 h"), job, shape)


def by_day_curve(job: Job, shape: Shape) -> datetime:
    return _best(job.curve, job, shape)


def simple(job: Job, shape: Shape) -> datetime:
    """As soon as it is low, looking every few minutes; after an hour in any case."""
    looks = (job.arrives + i * SIMPLE_CHECK for i in range(SIMPLE_WAIT // SIMPLE_CHECK))
    return next((at for at in looks if job.published.at(at).g_per_kwh < SIMPLE_G), job.arrives + SIMPLE_WAIT)


def at_p25(job: Job, shape: Shape) -> datetime:
    """As soon as it is among the lowest quarter of the last seven days; at the end of the slack in any case."""
    week = [step.g_per_kwh for step in job.published.between(job.arrives - timedelta(days=7), job.arrives).steps]
    low, last = statistics.quantiles(week, n=4)[0], job.arrives + shape.slack
    steps = job.published.between(job.arrives, last).steps
    return next((step.start for step in steps if step.g_per_kwh <= low), last)


POLICIES: Mapping[str, Callable[[Job, Shape], datetime]] = {
    "perfect forecast": perfect,
    "learned": by_learned,
    "yesterday repeats": by_yesterday,
    "day curve": by_day_curve,
    "p25 start": at_p25,
    "up to 1 h for < 300 g": simple,
}


def _best(series: Series, job: Job, shape: Shape) -> datetime:
    deadline = job.arrives + shape.slack + shape.duration
    window = best(series, duration=shape.duration, earliest=job.arrives, deadline=deadline)
    assert window is not None
    return window.start


def emitted(job: Job, start: datetime, shape: Shape, idle: float = 0.0) -> float:
    """Of a job that draws 1 kW: its own grams, and those of the machine that waited for it at `idle` kW."""
    own = job.published.mean(start, start + shape.duration) * (shape.duration / HOUR)
    return own + idle * job.published.mean(job.arrives, start) * ((start - job.arrives) / HOUR)


def saved(grams: Sequence[float], at_once: Sequence[float]) -> float:
    """In per cent."""
    return 100 * (1 - sum(grams) / sum(at_once))


def savings(of: Sequence[Job], shape: Shape, policies: Sequence[str] = tuple(POLICIES)) -> dict[str, float]:
    """By policy, in per cent of starting at once."""
    at_once = [emitted(job, job.arrives, shape) for job in of]
    return {name: saved([emitted(job, POLICIES[name](job, shape), shape) for job in of], at_once) for name in policies}


def with_idle(of: Sequence[Job], shape: Shape) -> dict[float, tuple[float, float]]:
    """By idle power: saved where the machine waits for the window of `learned`, and where it starts at once if waiting
    is not expected to pay."""
    at_once = [emitted(job, job.arrives, shape) for job in of]
    starts = [by_learned(job, shape) for job in of]
    found = {}
    for idle in IDLE:
        waits = [emitted(job, start, shape, idle) for job, start in zip(of, starts, strict=True)]
        asks = [grams if _pays(job, start, shape, idle) else once
                for job, start, grams, once in zip(of, starts, waits, at_once, strict=True)]  # fmt: skip
        found[idle] = saved(waits, at_once), saved(asks, at_once)
    return found


def _pays(job: Job, start: datetime, shape: Shape, idle: float) -> bool:
    """Whether the forecast says so."""
    as_foretold = dataclasses.replace(job, published=job.foretold)
    return emitted(as_foretold, start, shape, idle) < emitted(as_foretold, job.arrives, shape)


def inside(of: Sequence[Job], shape: Shape) -> float:
    """How often, in per cent, what a window saved lay within the 80 % that its interval said."""
    hits = []
    for job in of:
        start = by_learned(job, shape)
        if start == job.arrives:
            continue
        spread = backtest_against_now(
            job.published, now=job.arrives, duration=shape.duration, lead=start - job.arrives,
            time_zone=ZONES[job.zone].time_zone,
        )  # fmt: skip
        ratios = [series.mean(start, start + shape.duration) / series.mean(job.arrives, job.arrives + shape.duration)
                  for series in (job.published, job.foretold)]  # fmt: skip
        hits.append(spread.low <= ratios[0] / ratios[1] <= spread.high)
    return 100 * statistics.fmean(hits)


def bench(num: int = NUM_JOBS, seed: int = SEED) -> list[Figure]:
    """The grid's part of `make bench`."""
    figures, names = [], "/".join(ZONES)
    by_zone = {zone: list(jobs(zone, num, seed)) for zone in ZONES}
    total = num * len(ZONES)
    for shape in SHAPES:
        by_policy = defaultdict(list)
        for of in by_zone.values():
            for name, saving in savings(of, shape).items():
                by_policy[name].append(saving)
        reached = by_policy["perfect forecast"]
        for name, values in by_policy.items():
            share = statistics.fmean(values) / statistics.fmean(reached)
            shares = "/".join(f"{100 * value / most:.0f}" for value, most in zip(values, reached, strict=True))
            said = "" if name == "perfect forecast" else f"; {share:.0%} of the perfect saving ({shares})"
            figures.append(Figure(f"saved, {shape}: {name}", f"{_row(values)} %", total, f"{names}{said}"))
    idle = [with_idle(of, GOAL) for of in by_zone.values()]
    for share in IDLE:
        waits, asks = zip(*(found[share] for found in idle), strict=True)
        name = f"saved, {GOAL}: learned, idle at {share:.0%}"
        figures.append(Figure(name, f"{_row(waits)} %", total, f"{_row(asks)} where it waits only if that should pay"))
    hits = [inside(of[:NUM_INTERVALS], GOAL) for of in by_zone.values()]
    figures.append(Figure("  in the 80 % interval of the saving", f"{_row(hits)} %", NUM_INTERVALS * len(ZONES), names))
    return [*figures, _cost()]


def _cost(num: int = 50) -> Figure:
    """Of one forecast out of 14 days at 5 minutes."""
    every, moment = timedelta(minutes=5), grid_world.START + timedelta(days=30)
    values = grid_world.values("DE", SEED).tolist()
    steps = regular(moment - 14 * 24 * HOUR, every, values[: 14 * 24 * HOUR // every])
    history, costs = Series(steps=tuple(steps), provider="synthetic", source="every 5 minutes"), []
    for _ in range(num):
        start = time.perf_counter()
        learned(history, now=moment, time_zone=ZONES["DE"].time_zone)
        costs.append(1000 * (time.perf_counter() - start))
    said = f"{min(costs):.0f} to {max(costs):.0f} ms; 4,032 steps"
    return Figure("learned, out of 14 days at 5 min", f"{statistics.median(costs):.0f} ms", num, said)


def _row(values: Sequence[float]) -> str:
    return "/".join(f"{value:.1f}" for value in values)


def main() -> None:
    for figure in bench():
        print(f"{figure.name:<52}  {figure.value:>22}  n={figure.n:<5} {figure.spread}")


if __name__ == "__main__":
    main()
