"""One run: a generator of records, on real data, with a replayed meter."""

from __future__ import annotations

import json
import tempfile
from collections import deque

import pytest
import yaml
from conftest import WORLD

from greenml import config as configs
from greenml import records, run
from greenml.energy import Meter
from greenml.energy.replay import ReplaySensor
from greenml.errors import TrainingError
from greenml.records import Epoch, Notice, Phase, Progress, Run, RunEnd, Source


@pytest.fixture(autouse=True)
def _alone_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def records_of(folder, *, sensor=None, interrupted=lambda: False, **changes):
    config = configs.resolve({"model": "cnn", "epochs": 3, "device": "cpu"} | changes)
    folder.mkdir(exist_ok=True)
    with Meter(sensor or ReplaySensor(), run_id="a") as meter:
        yield from run.train(config, meter, WORLD, run_id="a", folder=folder, interrupted=interrupted)


def only(kind, found):
    return [record for record in found if isinstance(record, kind)]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("tmp")))
        folder = tmp_path_factory.mktemp("run")
        return [*records_of(folder)], folder


def test_a_run_begins_learns_and_ends(found):
    rows = [row for row in found[0] if not isinstance(row, Progress | Notice)]

    assert isinstance(rows[0], Run)
    assert isinstance(rows[-1], RunEnd)
    assert [epoch.epoch for epoch in only(Epoch, rows)] == [1, 2, 3]
    end = rows[-1]
    assert (end.status, end.stop_reason, end.test_count) == ("done", "epochs", 359)
    assert end.test_accuracy == end.test_correct / end.test_count
    assert end.test_accuracy > 0.5


def test_its_phases_tile_it_and_the_epochs_add_up(found):
    phases, epochs = only(Phase, found[0]), only(Epoch, found[0])
    [begin], [end] = only(Run, found[0]), only(RunEnd, found[0])

    assert (phases[0].started_at, phases[-1].ended_at) == (begin.started_at, end.ended_at)
    assert phases[0].name == "setup"
    assert {"train", "validate", "checkpoint", "test"} <= {phase.name for phase in phases}
    for epoch in epochs:
        own = [p for p in phases if p.epoch == epoch.epoch and p.name in run.EPOCH_PHASES]
        until = [p for p in phases if p.seq <= own[-1].seq]
        assert epoch.energy_j == pytest.approx(sum(p.joules for p in own), rel=1e-12)
        assert epoch.energy_total_j == pytest.approx(sum(p.joules for p in until), rel=1e-12)
        assert epoch.source is Source.ESTIMATED  # the replayed memory is an estimate, and a sum is as good as its worst


def test_epochs_come_after_their_phases(found):
    seen = set()
    for record in found[0]:
        if isinstance(record, Phase):
            seen.add((record.name, record.epoch))
        if isinstance(record, Epoch):
            assert {("train", record.epoch), ("validate", record.epoch)} <= seen


def test_records_survive_the_spool(found):
    for row in found[0]:
        if not isinstance(row, Progress | Notice):
            assert records.from_json(records.to_json(row)) == row
            json.loads(records.to_json(row))


def test_its_config_file_repeats_it(found, tmp_path):
    before = only(Epoch, found[0])

    again = only(Epoch, records_of(tmp_path / "b", **yaml.safe_load((found[1] / "config.yaml").read_text())))

    assert [epoch.train_loss for epoch in again] == [epoch.train_loss for epoch in before]
    assert [epoch.val_accuracy for epoch in again] == [epoch.val_accuracy for epoch in before]


def test_it_stops_at_the_target_and_keeps_the_best(tmp_path):
    rows = [*records_of(tmp_path / "r", epochs=20, target_acc=60)]

    end = rows[-1]
    assert end.stop_reason == "target-acc"
    assert only(Epoch, rows)[-1].val_accuracy >= 0.6
    assert len(only(Epoch, rows)) < 20
    assert end.best_epoch == max(only(Epoch, rows), key=lambda epoch: epoch.val_accuracy).epoch


def test_early_stopping_waits_for_patience(tmp_path):
    rows = [*records_of(tmp_path / "r", epochs=30, early_stop=True, patience=2, lr=1e-6)]

    epochs, end = only(Epoch, rows), rows[-1]
    assert end.stop_reason == "early-stop"
    assert epochs[-1].epoch == end.best_epoch + 2


def test_an_interrupted_run_ends_in_good_order_and_tests_nothing(tmp_path):
    asked = iter(range(1000))
    rows = [*records_of(tmp_path / "r", interrupted=lambda: next(asked) > 15)]

    end = rows[-1]
    assert (end.status, end.stop_reason, end.test_accuracy) == ("interrupted", "interrupted", None)
    assert end.best_epoch == 1
    assert ("train", 2) in {(phase.name, phase.epoch) for phase in only(Phase, rows)}  # its energy is not lost
    assert (tmp_path / "r" / "model.pt").exists()


def test_a_diverged_run_says_so_before_it_fails(tmp_path):
    rows = deque()
    with pytest.raises(TrainingError):
        rows.extend(records_of(tmp_path / "r", optimizer="sgd", lr=1e5))

    assert (rows[-1].status, rows[-1].stop_reason) == ("failed", "nan-loss")


def test_a_broken_meter_breaks_no_training(tmp_path):
    rows = [*records_of(tmp_path / "r", sensor=ReplaySensor(broken_after=1), epochs=1)]

    [epoch], end = only(Epoch, rows), rows[-1]
    assert end.status == "done"
    assert (epoch.energy_j, epoch.source) == (None, Source.UNKNOWN)


def test_a_caller_may_close_it_at_any_time(tmp_path):
    stream = records_of(tmp_path / "r")
    for record in stream:
        if isinstance(record, Run):
            break
    stream.close()


def test_sources_are_ordered_from_best_to_worst():
    assert Source.worst([Source.MEASURED, Source.ESTIMATED, Source.ABSENT]) is Source.ESTIMATED
    assert Source.worst([Source.MEASURED, Source.APPORTIONED]) is Source.APPORTIONED
    assert Source.worst([*Source]) is Source.UNKNOWN
