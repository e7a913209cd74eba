"""A run that is held up: it lets go, waits, and ends with the weights of one that was not."""

from __future__ import annotations

import itertools
import tempfile
from collections import deque
from datetime import timedelta

import pytest
import torch
from conftest import WORLD, make_phase
from test_run import only, past_of, records_of

from greenml import config as configs
from greenml.cli.forecasts import Outlook
from greenml.errors import StoreError
from greenml.forecast import Forecast, Span
from greenml.learn import setup as setups
from greenml.records import Epoch, Phase, Progress, Run, RunEnd
from greenml.run import past as pasts
from greenml.run.stops import Budgets
from greenml.store import Store

SCALARS = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "num_samples")


@pytest.fixture(autouse=True)
def _alone_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


class Scripted:
    """Holds a run up when it has been asked so often, each time for three looks."""

    def __init__(self, *moments, exits=False):
        self.exits, self._moments = exits, set(moments)
        self._asked, self._left = itertools.count(), 0

    def holds(self):
        if self._left:
            self._left -= 1
            return self._left > 0
        if next(self._asked) in self._moments:
            self._left = 3
        return self._left > 0

    def decisions(self):
        return iter(())

    judgements = decisions

    def progress(self):
        return 1.0, 2.0

    def rest(self):
        pass


def weights(folder):
    return torch.load(folder / "model.pt", weights_only=True)["state_dict"]


def learned(rows):
    return [tuple(getattr(epoch, name) for name in SCALARS) for epoch in only(Epoch, rows)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("tmp")))
        folder = tmp_path_factory.mktemp("whole")
        return [*records_of(folder, model="moody")], folder


@pytest.mark.parametrize("schedule", [{}, {"prefetch": True}])
@pytest.mark.parametrize(
    "moments", [[0], [5], [9, 10], [0, 4, 17, 26]], ids=["before", "within", "twice", "everywhere"]
)
def test_a_paused_run_ends_with_the_weights_of_one_that_was_not(tmp_path, uninterrupted, moments, schedule):
    whole, folder = uninterrupted

    rows = [*records_of(tmp_path / "r", model="moody", planner=Scripted(*moments), schedule=schedule)]

    [end] = only(RunEnd, rows)
    assert (end.status, end.test_accuracy) == ("done", whole[-1].test_accuracy)
    assert learned(rows) == learned(whole)
    expected = weights(folder)
    assert all(torch.equal(value, expected[name]) for name, value in weights(tmp_path / "r").items())


def test_what_it_waits_is_metered_and_its_phases_still_tile_it(tmp_path):
    rows = [*records_of(tmp_path / "r", planner=Scripted(0, 5, 18))]

    phases, [begin], [end] = only(Phase, rows), only(Run, rows), only(RunEnd, rows)
    assert [phase.name for phase in phases].count("wait") == 3
    assert (phases[0].started_at, phases[-1].ended_at) == (begin.started_at, end.ended_at)
    assert all(one.ended_at == other.started_at for one, other in itertools.pairwise(phases))
    assert {phase.segment for phase in phases} == {0}
    until = max(phase.seq for phase in phases if phase.name == "checkpoint")
    total_j = sum(phase.joules for phase in phases if phase.seq <= until)
    assert only(Epoch, rows)[-1].energy_total_j == pytest.approx(total_j, rel=1e-9)
    assert {row.what for row in only(Progress, rows)} >= {"waiting"}


def test_the_energy_of_an_epoch_is_that_of_its_parts_and_not_of_the_wait_between(tmp_path):
    rows = [*records_of(tmp_path / "r", epochs=1, planner=Scripted(4))]

    [epoch], phases = only(Epoch, rows), only(Phase, rows)
    own = [phase for phase in phases if phase.name in ("train", "validate", "checkpoint") and phase.epoch == 1]
    assert [phase.name for phase in own].count("train") == 2
    assert epoch.energy_j == pytest.approx(sum(phase.joules for phase in own), rel=1e-9)
    trained_s = sum((p.ended_at - p.started_at).total_seconds() for p in own if p.name == "train")
    assert epoch.duration_s >= trained_s


def test_the_data_are_read_again_unless_they_are_kept(tmp_path, monkeypatch):
    read, times = setups.read, []
    monkeypatch.setattr(setups, "read", lambda *given: times.append(1) or read(*given))

    list(records_of(tmp_path / "a", epochs=1, planner=Scripted(0)))
    assert len(times) == 2
    list(records_of(tmp_path / "b", epochs=1, planner=Scripted(0), schedule={"prefetch": True}))
    assert len(times) == 3


def test_one_that_exits_is_taken_up_where_it_paused(tmp_path, uninterrupted):
    whole, folder = uninterrupted

    first = [*records_of(tmp_path / "r", model="moody", planner=Scripted(14, exits=True))]
    assert (first[-1].status, first[-1].stop_reason, first[-1].test_accuracy) == ("paused", "paused", None)
    second = [*records_of(tmp_path / "r", model="moody", past=past_of(first), planner=Scripted())]

    assert second[-1].status == "done"
    assert learned(first + second) == learned(whole)
    expected = weights(folder)
    assert all(torch.equal(value, expected[name]) for name, value in weights(tmp_path / "r").items())


def test_who_is_interrupted_while_waiting_ends_as_interrupted(tmp_path):
    asked = itertools.count()
    rows = [*records_of(tmp_path / "r", planner=Scripted(0), interrupted=lambda: next(asked) > 0)]

    assert (rows[-1].status, rows[-1].stop_reason) == ("interrupted", "interrupted")
    assert not only(Epoch, rows)


def test_a_time_budget_does_not_count_what_it_waits():
    class Meter:
        def elapsed_s(self):
            return 100.0

    budgets = Budgets(configs.resolve({"model": "cnn", "time_budget": "60s"}), Meter(), None, None)
    assert budgets.spent() == "time-budget"

    budgets.leave_out(50.0)

    assert budgets.spent() is None


def test_what_is_left_does_not_shrink_while_the_run_waits(tmp_path):
    outlook = Outlook(Store(tmp_path / "x.duckdb"), configs.resolve({"model": "cnn"}), WORLD, "a", resumed=False)
    outlook.latest = Forecast(energy_j=None, duration_s=Span(90.0, 100.0, 110.0), at_most=False, num_epochs=1)

    outlook.hear(make_phase("a", 0, name="setup"))
    assert outlook.remaining() == (timedelta(seconds=100), None)
    for seq in range(1, 100):
        outlook.hear(make_phase("a", seq, name="wait"))
    assert outlook.remaining() == (timedelta(seconds=100), None)
    outlook.hear(make_phase("a", 100, name="train", epoch=1))
    assert outlook.remaining() == (timedelta(seconds=90), None)


def test_a_training_that_fails_keeps_what_validation_had_chosen(tmp_path, monkeypatch):
    save, times = pasts.Checkpoint.save, itertools.count()

    def full(checkpoint):
        if next(times) > 0:
            raise StoreError("checkpoint.pt cannot be written", hint="free some space")
        save(checkpoint)

    monkeypatch.setattr(pasts.Checkpoint, "save", full)
    monkeypatch.setattr(pasts, "CHECKPOINT_AFTER_S", 0.0)
    rows = deque()
    with pytest.raises(StoreError):
        rows.extend(records_of(tmp_path / "r", epochs=4))
    [end] = only(RunEnd, rows)

    assert (end.status, end.best_epoch) == ("failed", 2)  # its model was kept, its checkpoint not
