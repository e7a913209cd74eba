"""The bench replays what a search does: a real one, whose trials come out of the same surrogate, must agree with it."""

from __future__ import annotations

import dataclasses

import bench_sweep
import pytest
import sweep_world
from conftest import WORLD, make_epoch, make_run
from sweep_world import EPOCHS, NUM_VAL, World

from greenml import config as configs
from greenml import energy
from greenml.records import Trial
from greenml.sweep.search import Plan, Search
from greenml.sweep.worker import Outcome


class RecordedSeat:
    """A seat and its inbox: nothing is trained, epochs come out of a world. It ends after the epoch in hand."""

    is_here = is_crowded = False

    def __init__(self, world: World) -> None:
        self._world, self._off, self._messages = world, False, iter(())
        self.num_epochs: list[int] = []

    def is_open(self):
        return True

    def start(self, task, inbox):
        self._off = False
        self._messages = self._train(task)

    def _train(self, task):
        yield task.run_id, make_run(task.run_id, num_val=NUM_VAL, num_parameters=1)
        self.num_epochs.append(0)
        for epoch, point in enumerate(self._world.train(dataclasses.asdict(task.config)).seen, start=1):
            self.num_epochs[-1] += 1
            yield (
                task.run_id,
                make_epoch(task.run_id, epoch, val_accuracy=point.accuracy, energy_total_j=point.co2_g),
            )
            if self._off:
                break
        yield task.run_id, Outcome()

    def call_off(self):
        self._off = True

    def get(self, timeout_s):
        return next(self._messages)

    def close(self):
        pass


@pytest.mark.parametrize("seed", [0, 1])
def test_the_bench_draws_and_calls_off_what_a_search_does(seed, monkeypatch):
    # Energies tie exactly here, where configs cost the same: rounding is to decide nothing.
    monkeypatch.setattr("greenml.sweep.search.co2_g", lambda joules, *_: joules)
    base = configs.validate({"model": "cnn", "epochs": EPOCHS, "meter": "counters"})
    seat = RecordedSeat(World(seed))
    plan = Plan(
        run_id="a" * 12,
        space=bench_sweep.whole_space(),
        sampler="nsga2",
        num_trials=bench_sweep.NUM_TRIALS,
        seed=seed,
        base=base,
        intensity=WORLD,
        settings=energy.Settings.of(base),
        floor=bench_sweep.FLOOR,
    )
    with energy.open_meter(plan.run_id, settings=plan.settings) as meter:
        search = Search(plan, [seat], meter)
        search._inbox = seat
        trials = [row for row in search.go() if isinstance(row, Trial) and row.state == "complete"]

    replayed = list(bench_sweep.sweep(World(seed), seed))
    assert seat.num_epochs == [len(trial.seen) for trial in replayed]
    assert [trial.params for trial in trials] == [trial.params for trial in replayed]


def test_a_world_gives_the_same_training_again_and_another_world_another():
    config = sweep_world.random_config(0)

    assert World(1).train(config) == World(1).train(config)
    assert World(1).train(config) != World(2).train(config)


def test_the_hypervolume_of_a_front_counts_by_what_is_true():
    """A lucky validation is worth nothing."""
    least = sweep_world.least()
    lucky = bench_sweep.Trained([sweep_world.Point(0.9, least)], [sweep_world.Point(0.5, least)], [], least, {})
    plain = bench_sweep.Trained([sweep_world.Point(0.5, least)], [sweep_world.Point(0.5, least)], [], least, {})

    assert bench_sweep.worth([lucky], 1.0) == bench_sweep.worth([plain], 1.0) == pytest.approx(100 * 0.4 / 0.9)
    assert bench_sweep.worth([plain], 1.0, 0.9 * least) == 0


def test_a_trial_that_would_have_reached_the_front_is_counted_as_called_off_wrongly():
    point = sweep_world.Point
    good = bench_sweep.Trained([point(0.5, 1.0)], [point(0.5, 1.0)], [], 1.0, {})
    off = bench_sweep.Trained([point(0.1, 1.0)], [point(0.1, 1.0)], [point(0.6, 2.0)], 2.0, {})
    rightly = bench_sweep.Trained([point(0.1, 1.0)], [point(0.1, 1.0)], [point(0.4, 2.0)], 3.0, {})

    assert bench_sweep.called([good, off, rightly]) == (2, 1, pytest.approx(1 - 3 / 5))
