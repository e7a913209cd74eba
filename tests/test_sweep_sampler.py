"""The door to Optuna: every draw depends on the seed, the number and what was told before, and on nothing else."""

from __future__ import annotations

import dataclasses
import json
import math

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenml.records import Trial, from_json, to_json
from greenml.sweep import space
from greenml.sweep.front import Point
from greenml.sweep.sampler import POINTS, Asker, Elite

OWN = space.parse(
    {
        "parameters": {
            "model": {"type": "categorical", "choices": ["cnn", "resnet18"]},
            "optimizer": {"type": "categorical", "choices": ["adamw", "sgd"]},
            "lr": [
                {"when": {"optimizer": "adamw"}, "type": "float", "low": 1e-4, "high": 1e-2, "log": True},
                {"when": {"optimizer": "sgd"}, "type": "float", "low": 1e-2, "high": 1.0, "log": True},
            ],
            "batch_size": {"type": "int", "low": 32, "high": 256, "step": 32},
            "warmup_steps": {"type": "int", "low": 1, "high": 1000, "log": True},
            "label_smoothing": {"type": "float", "low": 0.0, "high": 0.2, "step": 0.05},
        }
    }
)
STUDY = "5" * 12
SAMPLERS = ("nsga2", "tpe", "gp", "random")
NUM_TRIALS = 18


def asker(kind="nsga2", *, seed=3, num_trials=NUM_TRIALS, own=OWN):
    return Asker(own, kind, seed=seed, num_trials=num_trials)


def points_for(trial: Trial) -> list[Point]:
    """A training that depends on its config alone: the rate has a summit, and resnet18 costs more for a little more."""
    config = OWN.config(trial.params)
    off = abs(math.log10(config["lr"] / (1e-3 if config["optimizer"] == "adamw" else 0.1)))
    is_large = config["model"] == "resnet18"
    top, step = 0.9 - 0.3 * off + 0.05 * is_large, (10.0 if is_large else 1.0) * (1 + 32 / config["batch_size"])
    return [Point(round(top * epoch / (epoch + 1), 4), epoch * step) for epoch in range(1, 5)]


def go_on(asker, stored, number):
    """Draw and tell trials up to `number`; what a store would hold of them comes with their points."""
    while len(stored) < number:
        trial = asker.ask(STUDY)
        fails = trial.number % 7 == 5
        points = [] if fails else points_for(trial)
        broken = {} if fails else {"min_accuracy": 0.3 - points[-1].accuracy}
        stored.append((asker.tell(trial, points, broken), points))
    return stored


def as_stored(trial: Trial) -> Trial:
    """There and back again through the store's JSON: as rows come out, not as Optuna gave them."""
    return from_json(to_json(dataclasses.replace(trial, attempts=["a" * 12])))


def drawn(stored):
    return [(trial.number, trial.params) for trial, _ in stored]


def generations(stored):
    key = optuna.samplers.NSGAIISampler._get_generation_key()
    return [trial.attrs.get(key) for trial, _ in stored]


@pytest.mark.parametrize("kind", SAMPLERS)
def test_every_sampler_draws_what_lies_in_the_space(kind):
    num = 5 if kind == "gp" else 9  # seconds a draw, once there are as many as its population of 4
    stored = go_on(asker(kind, num_trials=num), [], num)

    assert [trial.number for trial, _ in stored] == list(range(num))
    for trial, _ in stored:
        assert trial.params.keys() == {part.name for part in OWN.parameters}
        assert OWN.locate({"optimizer": None, **OWN.config(trial.params)}) is not None
    assert len({json.dumps(trial.params) for trial, _ in stored}) > num / 2


@pytest.mark.parametrize("kind", ["nsga2", "tpe", "random"])
def test_the_same_seed_draws_the_same_and_another_does_not(kind):
    once, again, other = (go_on(asker(kind, seed=seed), [], NUM_TRIALS) for seed in (3, 3, 4))

    assert drawn(once) == drawn(again)
    assert generations(once) == generations(again)
    assert drawn(once) != drawn(other)


def test_samplers_differ_once_they_have_learned():
    ends = {kind: drawn(go_on(asker(kind), [], NUM_TRIALS))[-4:] for kind in ("nsga2", "tpe", "random")}

    assert ends["nsga2"] != ends["random"]
    assert ends["tpe"] != ends["random"]


@pytest.mark.parametrize("kind", ["nsga2", "tpe", "random"])
@pytest.mark.parametrize("cut", [*range(0, NUM_TRIALS, 3), NUM_TRIALS - 1])
def test_a_study_that_is_taken_up_after_any_trial_draws_the_same(kind, cut):
    whole = go_on(asker(kind), [], NUM_TRIALS)
    second = asker(kind)
    for trial, points in whole[:cut]:
        second.restore(as_stored(trial), points)

    resumed = go_on(second, list(whole[:cut]), NUM_TRIALS)

    assert drawn(resumed) == drawn(whole)
    assert generations(resumed) == generations(whole)


def test_a_gaussian_process_that_is_taken_up_draws_the_same():
    whole = go_on(asker("gp", num_trials=5), [], 5)
    second = asker("gp", num_trials=5)
    for trial, points in whole[:4]:
        second.restore(as_stored(trial), points)

    assert drawn(go_on(second, list(whole[:4]), 5)) == drawn(whole)


@pytest.mark.parametrize("seed", range(3))
def test_parents_stay_who_they_were_when_a_trial_of_their_generation_ends_late(seed):
    """As with several workers: five are drawn at a time, and the fifth ends when the next generation has begun."""
    first, stored = asker(seed=seed), []
    *early, late = [first.ask(STUDY) for _ in range(5)]
    stored += [(first.tell(trial, points_for(trial), {}), points_for(trial)) for trial in early]
    flying = first.ask(STUDY)
    best = [Point(0.99, 0.1)]
    stored += [(first.tell(late, best, {}), best)]
    second = asker(seed=seed)
    for trial, points in [*stored, (flying, [])]:
        second.restore(as_stored(trial), points)

    assert generations([(flying, [])]) == [1]
    assert first.ask(STUDY).params == second.ask(STUDY).params


def test_generations_rise():
    """Else the test of resuming them would compare nothing."""
    found = [one for one in generations(go_on(asker(), [], NUM_TRIALS)) if one is not None]

    assert found == sorted(found)
    assert found[-1] >= 2


def test_a_trial_in_flight_is_taken_up_and_told_later():
    whole = go_on(asker(), [], NUM_TRIALS)
    first = asker()
    stored = go_on(first, [], 8)
    flying = first.ask(STUDY)
    assert flying.state == "running"

    second = asker()
    for trial, points in stored:
        second.restore(as_stored(trial), points)
    second.restore(as_stored(flying), [])
    told = second.tell(as_stored(flying), points_for(flying), {"min_accuracy": 0.3 - points_for(flying)[-1].accuracy})
    resumed = go_on(second, [*stored, (told, points_for(flying))], NUM_TRIALS)

    assert told.params == flying.params
    assert told.state == "complete"
    assert told.attempts == ["a" * 12]
    assert drawn(resumed) == drawn(whole)


def test_draws_of_one_trial_do_not_hang_on_the_others_draws():
    """With two seats a trial is asked for before the last one is told; the seed of a number stays its own."""
    one, other = asker("random"), asker("random")
    go_on(one, [], 3)
    for _ in range(3):
        other.ask(STUDY)

    assert one.ask(STUDY).params == other.ask(STUDY).params


# What is said of the first trials


def test_what_is_enqueued_is_taken_and_the_rest_is_drawn():
    values = {"model": "resnet18", "optimizer": "sgd", "lr (optimizer=sgd)": 0.05}
    trial = asker().ask(STUDY, values)

    assert {name: trial.params[name] for name in values} == values
    assert trial.params.keys() == {part.name for part in OWN.parameters}


def test_after_what_is_enqueued_the_study_goes_on_as_after_any_trial():
    first = asker()
    start = first.ask(STUDY, {"model": "resnet18"})
    stored = [(first.tell(start, points_for(start), {}), points_for(start))]
    second = asker()
    second.restore(as_stored(stored[0][0]), stored[0][1])

    assert drawn(go_on(first, list(stored), 6)) == drawn(go_on(second, list(stored), 6))


def test_two_enqueued_at_once_are_told_apart():
    """Both are asked for before one is told: neither takes the values of the other."""
    own = asker()
    one, two = own.ask(STUDY, {"model": "resnet18"}), own.ask(STUDY, {"model": "cnn"})

    assert (one.params["model"], two.params["model"]) == ("resnet18", "cnn")


def test_an_earlier_run_is_a_parent_of_the_first_generation():
    own = asker()
    params = asker().ask(STUDY).params
    known = own.know(STUDY, params, [Point(0.99, 0.1)], {})

    assert (known.number, known.state, known.params) == (0, "complete", params)
    assert generations([(known, [])]) == [0]
    elite = Elite(1)(own.study, own.study.trials)
    assert [trial.number for trial in elite] == [0]


def test_a_study_with_an_earlier_run_is_taken_up_too():
    params, points = asker().ask(STUDY).params, [Point(0.5, 3.0)]
    first, second = asker(), asker()
    stored = [(first.know(STUDY, params, points, {"max_parameters": -0.5}), points)]
    second.restore(as_stored(stored[0][0]), points)

    assert drawn(go_on(first, list(stored), 10)) == drawn(go_on(second, list(stored), 10))


# Nothing twice


@pytest.mark.parametrize("kind", SAMPLERS)
def test_no_training_is_drawn_twice_and_a_space_has_an_end(kind):
    """Of six trainings: the rate counts for one of the optimizers alone."""
    small = space.parse(
        {
            "parameters": {
                "optimizer": {"type": "categorical", "choices": ["adamw", "sgd"]},
                "lr": [{"when": {"optimizer": "sgd"}, "type": "float", "low": 0.1, "high": 0.5, "step": 0.1}],
            }
        }
    )
    own, drawn_so_far = asker(kind, own=small), []
    while (trial := own.ask(STUDY)) is not None:
        drawn_so_far.append(small.config(trial.params))
        own.tell(trial, [Point(0.5, 1.0)], {})
    assert len(drawn_so_far) == 6
    assert all(drawn_so_far.count(config) == 1 for config in drawn_so_far)
    assert own.ask(STUDY) is None


# How a trial ends


def test_a_trial_without_points_has_failed():
    own = asker()
    told = own.tell(own.ask(STUDY), [], {})

    assert told.state == "failed"
    assert own.study.trials[0].values is None


def test_a_trial_is_told_by_its_last_epoch_and_keeps_all():
    own = asker()
    trial = own.ask(STUDY)
    own.tell(trial, [Point(0.5, 1.0), Point(0.4, 2.0)], {})

    assert own.study.trials[0].values == [0.4, 2.0]
    assert own.study.trials[0].user_attrs[POINTS] == [[0.5, 1.0], [0.4, 2.0]]


def test_a_violation_is_kept_with_the_trial():
    own = asker()
    told = own.tell(own.ask(STUDY), [Point(0.2, 1.0)], {"min_accuracy": 0.4})

    assert told.attrs["constraints:min_accuracy"] == 0.4
    assert own.study.trials[0].constraints == {"min_accuracy": 0.4}


# Who become parents


def frozen(number, points, *, violation=None):
    trial = optuna.trial.create_trial(
        values=list(points[-1]),
        params={},
        distributions={},
        user_attrs={POINTS: [list(point) for point in points]},
        system_attrs={} if violation is None else {"constraints:min_accuracy": violation},
    )
    trial.number = number
    return trial


def elite(size, trials, floor=0.0):
    return [trial.number for trial in Elite(size, floor)(None, trials)]


def test_a_trial_counts_by_its_best_epoch_not_its_last():
    early = frozen(0, [Point(0.6, 1.0), Point(0.61, 50.0)])
    late = frozen(1, [Point(0.3, 2.0), Point(0.7, 10.0)])
    never = frozen(2, [Point(0.5, 3.0), Point(0.6, 20.0)])

    assert elite(2, [early, late, never]) == [0, 1]
    assert elite(3, [early, late, never]) == [0, 1, 2]


def test_what_has_not_learned_is_no_parent_unless_nothing_has():
    cheap, middle = frozen(0, [Point(0.1, 1.0), Point(0.12, 2.0)]), frozen(1, [Point(0.1, 1.5), Point(0.4, 3.0)])
    good = frozen(2, [Point(0.6, 9.0)])

    assert elite(3, [cheap, middle, good]) == [0, 1, 2]
    assert elite(3, [cheap, middle, good], floor=0.15) == [1, 2]
    assert elite(3, [cheap], floor=0.15) == [0]
    assert elite(3, [frozen(0, [Point(0.0, 1.0)])], floor=0.15) == [0]


def test_the_second_front_fills_what_the_first_leaves():
    trials = [frozen(0, [Point(0.9, 1.0)]), frozen(1, [Point(0.5, 2.0)]), frozen(2, [Point(0.8, 1.5)])]

    assert elite(2, trials) == [0, 2]


def test_of_a_crowded_front_the_ends_and_the_emptiest_places_stay():
    trials = [
        frozen(0, [Point(0.50, 1.0)]),
        frozen(1, [Point(0.51, 1.1)]),
        frozen(2, [Point(0.70, 5.0)]),
        frozen(3, [Point(0.90, 9.9)]),
        frozen(4, [Point(0.91, 10.0)]),
    ]

    assert elite(3, trials) == [0, 2, 4]


def test_who_breaks_a_constraint_comes_after_all_others_by_how_far():
    trials = [
        frozen(0, [Point(0.99, 0.1)], violation=0.3),
        frozen(1, [Point(0.98, 0.1)], violation=0.1),
        frozen(2, [Point(0.10, 90.0)], violation=-0.2),
        frozen(3, [Point(0.20, 80.0)], violation=0.0),
    ]

    assert elite(2, trials) == [2, 3]
    assert elite(3, trials) == [1, 2, 3]


@given(
    st.lists(
        st.tuples(
            st.lists(
                st.builds(Point, st.integers(1, 9).map(lambda n: n / 10), st.integers(1, 9).map(float)), min_size=1
            ),
            st.sampled_from([None, -0.1, 0.1, 0.2]),
        ),
        min_size=1,
        max_size=9,
    ),
    st.integers(1, 9),
)
@settings(deadline=None)
def test_the_elite_is_as_large_as_asked_and_of_different_trials(drawn, size):
    trials = [frozen(number, points, violation=violation) for number, (points, violation) in enumerate(drawn)]
    found = elite(size, trials)

    assert len(found) == min(size, len(trials))
    assert found == sorted(set(found))
    if any(violation is None or violation <= 0 for _, violation in drawn):
        good = {n for n, (_, violation) in enumerate(drawn) if violation is None or violation <= 0}
        assert good & set(found)
        assert len(good & set(found)) == min(size, len(good))


@pytest.mark.parametrize(("num_trials", "population"), [(3, 4), (12, 4), (30, 7), (100, 25), (900, 50)])
def test_the_population_follows_the_number_of_trials(num_trials, population):
    own = asker(num_trials=num_trials)

    assert own._sampler(0)._population_size == population


def test_nsga2_comes_nearer_than_chance():
    """On a landscape with one summit, over seeds: the last trials of the search stand nearer to it. Seen over 15 seeds:
    0.65 against 0.60, each with a standard error of 0.01."""

    def mean_of_last(kind):
        ends = []
        for seed in range(15):
            stored = go_on(asker(kind, seed=seed, num_trials=30), [], 30)
            ends += [points[-1].accuracy for _, points in stored[-10:] if points]
        return sum(ends) / len(ends)

    assert mean_of_last("nsga2") > mean_of_last("random") + 0.01
