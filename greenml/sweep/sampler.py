"""The only door to Optuna: a study in memory that is asked for trials, and told every epoch of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.trial import TrialState, create_trial

from greenml.records import Trial
from greenml.sweep.front import Point, front

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

    from greenml.sweep.space import Parameter, Sampler, Space, Value

POINTS = "points"
"""Of a trial's user attributes: accuracy and grams of each of its epochs."""
POPULATION = (4, 50)
"""At least, and Optuna's own, which at 30 trials would be random search."""
PARENTS = "greenml:parents"
"""Of a trial's attributes: the numbers of its generation's parents."""
CONSTRAINT = "constraints:"
"""How Optuna's own keys for the constraints of a trial begin."""
GENERATIONS = 4
"""Of so many a search consists, the first one random; `tests/bench_sweep.py --tune` tells what fewer or more give."""

MAX_REDRAWS = 1000
"""So often a draw that was tried already is changed; then the space is exhausted."""


class Asker:
    """An Optuna study that lives in memory; what it is told can be told to another one, which then goes on from there.

    Every draw depends on the seed, the trial's number and the trials before it alone, so that a study which is taken
    up again draws what it would have drawn.
    """

    def __init__(self, space: Space, sampler: Sampler, *, seed: int, num_trials: int, floor: float = 0.0) -> None:
        """What has no accuracy above `floor` has not learned."""
        self._space, self._kind, self._seed, self._floor = space, sampler, seed, floor
        self._population = population(num_trials)
        self._distributions = {part.name: _distribution(part) for part in space.parameters}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study: Study = optuna.create_study(directions=["maximize", "minimize"])

    def ask(self, study_id: str, values: Mapping[str, Value] | None = None) -> Trial | None:
        """The next trial; what `values` say of it is not drawn. None where everything has been tried: the same training
        twice would teach nothing."""
        if values:
            self.study.enqueue_trial(dict(values))
        self.study.sampler = self._sampler(len(self.study.get_trials(deepcopy=False)) - bool(values))
        number = self.study.ask(self._distributions).number
        if not values and not self._is_new(number):
            self.study.tell(number, state=TrialState.FAIL)
            return None
        self._keep_parents(self._trial(number))
        return _record(self._trial(number), study_id)

    def tell(self, trial: Trial, points: Sequence[Point], violations: Mapping[str, float]) -> Trial:
        """How a trial ended: with its epochs, or without any and failed; with a violation above 0 it does not count."""
        storage, frozen = self.study._storage, self._trial(trial.number)
        storage.set_trial_user_attr(frozen._trial_id, POINTS, [list(point) for point in points])
        for key, violation in violations.items():
            storage.set_trial_system_attr(frozen._trial_id, CONSTRAINT + key, violation)
        end = {"values": list(points[-1])} if points else {"state": TrialState.FAIL}
        return dataclasses.replace(_record(self.study.tell(trial.number, **end), trial.run_id), attempts=trial.attempts)

    def know(
        self, study_id: str, params: Mapping[str, Value], points: Sequence[Point], violations: Mapping[str, float]
    ) -> Trial:
        """Take an earlier run as a trial of the first generation."""
        attrs = {CONSTRAINT + key: violation for key, violation in violations.items()}
        attrs[optuna.samplers.NSGAIISampler._get_generation_key()] = 0
        self._add("COMPLETE", params, {name: self._distributions[name] for name in params}, points, attrs)
        return _record(self._trial(-1), study_id)

    def restore(self, trial: Trial, points: Sequence[Point]) -> None:
        """Take over what another study told, in the order of the numbers; one whose rows are gone counts no more."""
        distributions = {name: json_to_distribution(json.dumps(kind)) for name, kind in trial.distributions.items()}
        state = {"complete": "COMPLETE" if points else "FAIL", "failed": "FAIL", "running": "RUNNING"}[trial.state]
        self._add(state, trial.params, distributions, points, trial.attrs)
        if (parents := trial.attrs.get(PARENTS)) is not None:
            self.study._storage.set_study_system_attr(self.study._study_id, _parents_key(trial.attrs), parents)

    def _trial(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]  # `trials` copies all of them each time

    def _keep_parents(self, trial: FrozenTrial) -> None:
        """With the trial: Optuna keeps them in the study, which is not stored. Chosen anew they might be others, as
        trials of the generation before may have ended since."""
        attrs = self.study._storage.get_study_system_attrs(self.study._study_id)
        if (parents := attrs.get(_parents_key(trial.system_attrs))) is not None:
            # In a study that is alone in its storage a trial's id is its number.
            self.study._storage.set_trial_system_attr(trial._trial_id, PARENTS, parents)

    def _is_new(self, number: int) -> bool:
        """Whether a draw is one that was not tried, where need be after changing some of it at random: NSGA-II crosses
        what it has, and often gives it again."""
        *others, trial = self.study.get_trials(deepcopy=False)
        tried = {self._training(other) for other in others}
        kinds = list(self._distributions.items())
        dice = np.random.default_rng(self._digest(number))
        at_random = optuna.samplers.RandomSampler(seed=self._digest(number))
        for _ in range(MAX_REDRAWS):
            if self._training(trial) not in tried:
                return True
            name, kind = kinds[dice.integers(len(kinds))]
            value = at_random.sample_independent(self.study, trial, name, kind)
            self.study._storage.set_trial_param(trial._trial_id, name, kind.to_internal_repr(value), kind)
            trial = self._trial(number)
        return False

    def _training(self, trial: FrozenTrial) -> frozenset[tuple[str, Value]]:
        """What a draw comes to: conditions leave out what does not count."""
        return frozenset(self._space.config(trial.params).items())

    def _add(
        self,
        state: str,
        params: Mapping[str, Value],
        distributions: dict[str, BaseDistribution],
        points: Sequence[Point],
        attrs: dict[str, Any],
    ) -> None:
        self.study.add_trial(
            create_trial(
                state=TrialState[state],
                params=dict(params),
                distributions=distributions,
                values=list(points[-1]) if state == "COMPLETE" else None,
                system_attrs=attrs,
                user_attrs={POINTS: [list(point) for point in points]},
            )
        )

    def _digest(self, number: int) -> int:
        """A seed for one draw."""
        return int.from_bytes(hashlib.sha256(f"{self._seed}/{number}".encode()).digest()[:4], "big")

    def _sampler(self, number: int) -> BaseSampler:
        seed = self._digest(number)
        if self._kind == "nsga2":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.samplers.NSGAIISampler(
                    population_size=self._population,
                    seed=seed,
                    elite_population_selection_strategy=Elite(self._population, self._floor),
                )
        if self._kind == "tpe":
            return optuna.samplers.TPESampler(seed=seed, n_startup_trials=self._population)
        if self._kind == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=self._population)
        return optuna.samplers.RandomSampler(seed=seed)


@dataclass(frozen=True, slots=True)
class Elite:
    """Who become parents in NSGA-II, where every epoch of a trial is a point: a trial counts by its best one.

    Points are sorted into fronts as usual, and trials taken from the first front on; of a front that has too many,
    those that stand in its emptiest places. What has not learned costs next to nothing, and would be on every front:
    it is left out, unless nothing has. Trials that break a constraint come last, by how far they break it.
    """

    size: int
    floor: float = 0.0

    def __call__(self, study: Study, population: list[FrozenTrial]) -> list[FrozenTrial]:  # noqa: ARG002
        feasible = [trial for trial in population if _violation(trial) <= 0]
        broken = sorted((trial for trial in population if _violation(trial) > 0), key=_violation)
        owners: dict[Point, list[FrozenTrial]] = {}
        for trial in feasible:
            for point in points_of(trial):
                owners.setdefault(point, []).append(trial)
        chosen: dict[int, FrozenTrial] = {}
        left = {point for point in owners if point.accuracy > self.floor} or set(owners)
        while left and len(chosen) < self.size:
            layer = front(left)
            left -= set(layer)
            for point in sorted(layer, key=_crowding(layer), reverse=True):
                for trial in owners[point]:
                    if len(chosen) < self.size:
                        chosen.setdefault(trial.number, trial)
        elite = [*chosen.values(), *broken][: self.size]
        # As Optuna gives them when it is asked again: the next draw depends on their order.
        return sorted(elite, key=lambda trial: trial.number)


def violations_of(trial: Trial) -> dict[str, float]:
    """By how much a trial that was told breaks each constraint; what is not above 0 is kept."""
    return {key.removeprefix(CONSTRAINT): value for key, value in trial.attrs.items() if key.startswith(CONSTRAINT)}


def population(num_trials: int) -> int:
    """How many trials make a generation."""
    return min(max(num_trials // GENERATIONS, POPULATION[0]), POPULATION[1])


def export(file: Path, name: str, trials: Sequence[tuple[Trial, Sequence[Point], Mapping[str, Any]]]) -> None:
    """Write a search as an Optuna study into a new SQLite file, each trial with what else is known of it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
    try:
        study = optuna.create_study(study_name=name, storage=storage, directions=["maximize", "minimize"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(["val_accuracy", "co2_g"])
        for trial, points, facts in trials:
            is_complete = trial.state == "complete" and bool(points)
            study.add_trial(
                create_trial(
                    state={"complete": TrialState.COMPLETE, "failed": TrialState.FAIL}.get(
                        trial.state, TrialState.RUNNING
                    ),
                    params=dict(trial.params),
                    distributions={
                        key: json_to_distribution(json.dumps(kind)) for key, kind in trial.distributions.items()
                    },
                    values=list(points[-1]) if is_complete else None,
                    system_attrs=trial.attrs,
                    user_attrs={POINTS: [list(point) for point in points], **facts},
                )
            )
    finally:
        storage.remove_session()
        storage.engine.dispose()


def points_of(trial: FrozenTrial) -> list[Point]:
    """The epochs of a trial."""
    return [Point(*pair) for pair in trial.user_attrs.get(POINTS, [])]


def _crowding(layer: Sequence[Point]) -> Any:
    """Of a front in order: how far apart the neighbours of each point stand; its ends have nobody beside them."""
    first, last = layer[0], layer[-1]
    height, width = (last.accuracy - first.accuracy) or 1.0, (last.co2_g - first.co2_g) or 1.0
    room = {first: float("inf"), last: float("inf")}
    for before, point, after in zip(layer, layer[1:], layer[2:], strict=False):
        room[point] = (after.accuracy - before.accuracy) / height + (after.co2_g - before.co2_g) / width
    return room.__getitem__


def _parents_key(attrs: Mapping[str, Any]) -> str:
    """Where Optuna's NSGA-II keeps the parents of a trial's generation."""
    kind = optuna.samplers.NSGAIISampler
    return f"{kind._get_parent_cache_key_prefix()}{attrs.get(kind._get_generation_key())}"


def _violation(trial: FrozenTrial) -> float:
    return sum(max(value, 0.0) for value in trial.constraints.values())


def _distribution(part: Parameter) -> BaseDistribution:
    if part.type == "categorical":
        return CategoricalDistribution(part.choices)
    assert part.low is not None
    assert part.high is not None
    if part.type == "int":
        return IntDistribution(int(part.low), int(part.high), log=part.log, step=int(part.step or 1))
    return FloatDistribution(part.low, part.high, log=part.log, step=part.step)


def _record(trial: FrozenTrial, study_id: str) -> Trial:
    return Trial(
        run_id=study_id,
        number=trial.number,
        state={"COMPLETE": "complete", "FAIL": "failed"}.get(trial.state.name, "running"),
        params=dict(trial.params),
        distributions={name: json.loads(distribution_to_json(kind)) for name, kind in trial.distributions.items()},
        attrs=dict(trial.system_attrs),
        attempts=[],
    )
