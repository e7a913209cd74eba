"""What the search of `greenml sweep` is worth, on a surrogate made of recorded learning curves (`sweep_world.py`).

A sweep of 30 trials as it ships sets the energy; the others search until they have used as much. Each seed is another
world. Hypervolume is taken in a rectangle of accuracy above chance and the logarithm of energy; what 1,500 random
trainings reach is 100. A front is chosen by what validation told, and counts by what an endless
validation would: luck is no merit.

    python tests/bench_sweep.py              the table, on seeds that nothing was tuned on
    python tests/bench_sweep.py --tune       what other settings would have given, on seeds apart
"""

from __future__ import annotations

import math
import statistics
import sys
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import optuna
import sweep_world
from bench_store import Figure
from optuna.distributions import IntDistribution
from sweep_world import CHANCE, EPOCHS, NUM_VAL, World

from greenml.sweep import front as fronts
from greenml.sweep import sampler, space
from greenml.sweep.front import Bound, Point, front, hypervolume
from greenml.sweep.sampler import Asker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

    from greenml.sweep.space import Sampler

NUM_TRIALS = 30
FLOOR = CHANCE + 3 * math.sqrt(CHANCE * (1 - CHANCE) / NUM_VAL)
"""What is above has clearly learned."""
REPORTED = range(100, 120)
TUNED = range(40)


class Trained(NamedTuple):
    """A trial as it came."""

    seen: list[Point]
    true: list[Point]
    rest: list[Point]
    """What it would have given had it not been called off."""
    spent: float
    """By all trials until its end."""
    params: Mapping[str, Any]


@cache
def whole_space() -> space.Space:
    return space.read()


def _distributions() -> dict[str, BaseDistribution]:
    return {part.name: sampler._distribution(part) for part in whole_space().parameters}


def sweep(
    world: World,
    seed: int,
    *,
    kind: Sampler = "nsga2",
    num_trials: int = NUM_TRIALS,
    budget: float = math.inf,
    stops_early: bool = True,
    starts: bool = True,
) -> Iterator[Trained]:
    """What `greenml.sweep.search` does with one worker, trial by trial; `test_bench_sweep` holds the two together."""
    own = whole_space()
    asker = Asker(own, kind, seed=seed, num_trials=num_trials, floor=FLOOR)
    points: list[Point] = []
    curves: list[list[float]] = []
    spent, number = 0.0, 0
    while spent < budget and (number < num_trials or budget < math.inf):
        start = own.enqueue[number] if starts and number < len(own.enqueue) else None
        trial = asker.ask("study", start)
        seen, true = world.train({"precision": "fp32", **own.config(trial.params)})
        bound = Bound(curves=curves, horizon=EPOCHS, val_count=NUM_VAL)
        best, done = front(points, FLOOR), EPOCHS
        if stops_early:
            reached = (epoch for epoch in range(1, EPOCHS) if not bound.may_reach(seen[:epoch], best))
            done = next(reached, EPOCHS)
        asker.tell(trial, seen[:done], {})
        points += seen[:done]
        curves.append([point.accuracy for point in seen[:done]])
        spent += seen[done - 1].co2_g
        number += 1
        yield Trained(seen[:done], true[:done], seen[done:], spent, trial.params)


optuna.logging.set_verbosity(optuna.logging.WARNING)


def nsga2(population: int | None) -> Callable[[int], BaseSampler]:
    size = {} if population is None else {"population_size": population}
    return lambda seed: optuna.samplers.NSGAIISampler(seed=seed, **size)


def tpe(seed: int) -> BaseSampler:
    return optuna.samplers.TPESampler(seed=seed)


def gp(seed: int) -> BaseSampler:
    return optuna.samplers.GPSampler(seed=seed)


def at_random(seed: int) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


def plain(world: World, seed: int, maker: Callable[[int], BaseSampler], budget: float) -> Iterator[Trained]:
    """Optuna as its users take it: epochs are one more parameter, and a trial is worth its end."""
    own = whole_space()
    distributions = {**_distributions(), "epochs": IntDistribution(1, EPOCHS)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=maker(seed))
    spent = 0.0
    while spent < budget:
        trial = study.ask(distributions)
        done = trial.params["epochs"]
        seen, true = world.train(own.config(trial.params))
        study.tell(trial, list(seen[done - 1]))
        spent += seen[done - 1].co2_g
        yield Trained([seen[done - 1]], [true[done - 1]], [], spent, trial.params)


def _whole(world: World, seed: int, kind: Sampler, budget: float) -> Iterator[Trained]:
    return sweep(world, seed, kind=kind, budget=budget, stops_early=False, starts=False)


METHODS: dict[str, Callable[[World, int, float], Iterator[Trained]]] = {
    "greenml": lambda world, seed, budget: sweep(world, seed, budget=budget),
    "greenml without its first trials": lambda world, seed, budget: sweep(world, seed, budget=budget, starts=False),
    "greenml without calling off": lambda world, seed, budget: sweep(world, seed, budget=budget, stops_early=False),
    "greenml --sampler random": lambda world, seed, budget: sweep(world, seed, kind="random", budget=budget),
    "greenml --sampler tpe": lambda world, seed, budget: sweep(world, seed, kind="tpe", budget=budget),
    "NSGA-II, epochs a parameter": lambda world, seed, budget: plain(world, seed, nsga2(None), budget),
    "NSGA-II, epochs a parameter, population 10": lambda world, seed, budget: plain(world, seed, nsga2(10), budget),
    "TPE, epochs a parameter": lambda world, seed, budget: plain(world, seed, tpe, budget),
    "GP, epochs a parameter": lambda world, seed, budget: plain(world, seed, gp, budget),
    "random, epochs a parameter": lambda world, seed, budget: plain(world, seed, at_random, budget),
    "random, whole trainings, all epochs counted": lambda world, seed, budget: _whole(world, seed, "random", budget),
}


def worth(trials: Sequence[Trained], reachable: float, spent: float = math.inf) -> float:
    """Points of what could be reached that were reached when so much was used."""
    truth: dict[Point, Point] = {}
    before = 0.0
    for trial in trials:
        pairs = zip(trial.seen, trial.true, strict=True)
        truth |= {seen: true for seen, true in pairs if before + seen.co2_g <= spent}
        before = trial.spent
    return 100 * _volume([truth[point] for point in front(truth)]) / reachable


def _volume(points: Sequence[Point]) -> float:
    return hypervolume(points, least_g=sweep_world.least(), most_g=sweep_world.most(), floor=CHANCE)


def reachable(world: World, *, num: int = 1500) -> float:
    """Hypervolume of the front of very many random trainings: what counts as 100."""
    draws = optuna.create_study(sampler=at_random(0))
    distributions = _distributions()
    configs = (whole_space().config(draws.ask(distributions).params) for _ in range(num))
    points = [point for config in configs for point in world.train(config).true]
    return _volume(points)


def spent_until(trials: Sequence[Trained], reachable: float, reached: float) -> float:
    """What was used when so many points were reached; infinite where they never were."""
    ends = [0.0, *(trial.spent for trial in trials)]
    found = (start + seen.co2_g for start, trial in zip(ends, trials, strict=False) for seen in trial.seen)
    return next((spent for spent in found if worth(trials, reachable, spent) >= reached), math.inf)


class Called(NamedTuple):
    """What calling off did in one study."""

    off: int
    """Trials that were called off."""
    wrong: int
    """Of them, those that would have put a point on the final front."""
    saved: float
    """Share of the energy that whole trials would have used."""


def called(trials: Sequence[Trained]) -> Called:
    """Go on with each trial that was called off, and look whether the final front had taken a point of it."""
    final = front((point for trial in trials for point in trial.seen), FLOOR)
    off = [trial for trial in trials if trial.rest]
    wrong = sum(
        any(not any(own.beats(new) for own in final) for new in trial.rest if new.accuracy > FLOOR) for trial in off
    )
    whole = sum((trial.rest or trial.seen)[-1].co2_g for trial in trials)
    return Called(len(off), wrong, 1 - trials[-1].spent / whole)


class Study(NamedTuple):
    """What one seed gave."""

    worth: dict[str, float]
    """By method, at equal energy."""
    cheaper: dict[str, float]
    """How many times as much energy others used for what they reached in the end."""
    called: Called


def study(seed: int, names: Sequence[str]) -> Study:
    world = World(seed)
    top = reachable(world)
    own = list(sweep(world, seed))
    budget = own[-1].spent
    found, cheaper = {}, {}
    for name in names:
        trials = own if name == OWN else list(METHODS[name](world, seed, budget))
        found[name] = worth(trials, top, budget)
        cheaper[name] = budget / spent_until(own, top, found[name])
    return Study(found, cheaper, called(own))


OWN = "greenml"
SLOW = "GP, epochs a parameter"
RIVALS = ("NSGA-II, epochs a parameter", "random, epochs a parameter", "random, whole trainings, all epochs counted")


def bench(seeds: Sequence[int] = REPORTED) -> list[Figure]:
    """The sweep's part of `make bench`."""
    studies = [study(seed, [name for name in METHODS if name != SLOW]) for seed in seeds]
    studies_slow = [study(seed, [OWN, SLOW]) for seed in seeds[:NUM_SLOW]]
    told_by = f"seeds; replayed by a surrogate of {len(sweep_world.recorded())} recorded trainings, not trained"
    figures = [Figure("sweep of 30 trials, others at equal energy", "100: 1,500 at random", len(studies), told_by)]
    for name in METHODS:
        of = studies_slow if name == SLOW else studies
        values = [one.worth[name] for one in of]
        ahead = [one.worth[OWN] - one.worth[name] for one in of]
        said = "a few seeds; " if name == SLOW else ""
        said += "" if name == OWN else f"greenml {told(ahead, '+.1f')} points ahead"
        figures.append(Figure(f"  {name}", told(values, ".1f"), len(values), said))
    for name in RIVALS:
        ratios = [one.cheaper[name] for one in studies]
        quartiles = statistics.quantiles(ratios, n=4)
        said = f"quartiles {quartiles[0]:.1f} to {quartiles[2]:.1f}"
        figures.append(Figure(f"energy for as much / greenml's: {name}", f"{quartiles[1]:.1f}", len(ratios), said))
    off, wrong = sum(one.called.off for one in studies), sum(one.called.wrong for one in studies)
    saved = [100 * one.called.saved for one in studies]
    figures += [
        Figure(
            "called off though it would have reached the front",
            f"{100 * wrong / max(off, 1):.1f} %",
            off,
            f"{wrong} trials",
        ),
        Figure("  energy that calling off saved", f"{told(saved, '.0f')} %", len(saved), ""),
        *(Figure("  the surrogate", "", len(sweep_world.recorded()), line) for line in sweep_world.errors()),
    ]
    return figures


def told(values: Sequence[float], form: str) -> str:
    return f"{statistics.fmean(values):{form}} ± {statistics.stdev(values):{form.lstrip('+')}}"


NUM_SLOW = 3
"""Seeds of what takes minutes each."""


def tune(seeds: Sequence[int] = TUNED) -> None:
    """What other numbers would have given, each changed alone; on seeds that the table does not report."""
    worlds = [(seed, World(seed)) for seed in seeds]
    tops = [reachable(world) for _, world in worlds]
    budgets = [list(sweep(world, seed))[-1].spent for seed, world in worlds]
    settings: list[tuple[Any, str, float]] = [(fronts, "SLACK", fronts.SLACK)]
    settings += [(fronts, "MIN_CURVES", number) for number in (3, 6, 99)]
    settings += [(fronts, "SLACK", number) for number in (1.0, 2.0, 4.0)]
    settings += [(fronts, "SIGMAS", number) for number in (1.0, 2.0)]
    settings += [(sampler, "GENERATIONS", number) for number in (2, 3, 5, 7)]
    for module, name, number in settings:
        shipped = getattr(module, name)
        setattr(module, name, number)
        found, cases = [], []
        for (seed, world), top, budget in zip(worlds, tops, budgets, strict=True):
            found.append(worth(list(sweep(world, seed, budget=budget)), top, budget))
            cases += [called(list(sweep(world, seed))), called(list(sweep(world, seed, starts=False)))]
        setattr(module, name, shipped)
        off, wrong = sum(case.off for case in cases), sum(case.wrong for case in cases)
        saved = statistics.fmean(case.saved for case in cases)
        mark = " (ships)" if number == shipped else ""
        print(
            f"{name} {number:g}{mark}:".ljust(24),
            f"{told(found, '.1f')} of 100; {wrong} of {off} called off wrongly, {saved:.0%} saved",
            flush=True,
        )


def main() -> None:
    if sys.argv[1:] == ["--tune"]:
        tune()
        return
    for figure in bench():
        print(f"{figure.name:<60}  {figure.value:>16}  n={figure.n:<4} {figure.spread}")


if __name__ == "__main__":
    main()
