"""One run: a generator of records, on real data, with a replayed meter."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections import deque
from itertools import pairwise

import pytest
import torch
import yaml
from conftest import WORLD, finish, make_epoch, make_phase
from torch import nn

from greenml import config as configs
from greenml import records, run
from greenml.energy import Meter
from greenml.energy.replay import ReplaySensor
from greenml.errors import DataError, StoreError, TrainingError
from greenml.learn import artifact
from greenml.learn.models import register_model
from greenml.learn.setup import prepare
from greenml.records import Epoch, Notice, Phase, Progress, Resume, Run, RunEnd, Source
from greenml.run import past as pasts
from greenml.run.books import Books


@pytest.fixture(autouse=True)
def _alone_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@register_model
def moody(pretrained=False, **kwargs):
    """Batch norm and dropout: all that makes going on to the same bits hard."""
    pixels = 16 * 16 * kwargs["in_chans"]
    body = (nn.Flatten(), nn.Linear(pixels, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.3))
    return nn.Sequential(*body, nn.Linear(64, kwargs["num_classes"]))


def records_of(
    folder, *, sensor=None, interrupted=lambda: False, reason="interrupted", past=None, planner=None, **changes
):
    config = configs.resolve({"model": "cnn", "dataset": "digits", "epochs": 3, "device": "cpu"} | changes)
    folder.mkdir(exist_ok=True)
    with Meter(sensor or ReplaySensor(), run_id="a", segment=past.segment if past else 0) as meter:
        yield from run.train(
            config,
            meter,
            WORLD,
            run_id="a",
            folder=folder,
            past=past,
            halted=lambda: reason if interrupted() else None,
            planner=planner,
        )


def past_of(rows):
    """What the store would know of these records."""
    begin, phases = only(Run, rows)[0], only(Phase, rows)
    sums = {name: sum(getattr(phase, name) for phase in phases) for name in ("cpu_j", "gpu_j", "ram_j")}
    return run.Past(
        segment=phases[-1].segment + 1,
        data_hash=begin.data_hash,
        split_hash=begin.split_hash,
        versions=begin.versions,
        epochs=frozenset(epoch.epoch for epoch in only(Epoch, rows)),
        duration_s=sum((phase.ended_at - phase.started_at).total_seconds() for phase in phases),
        known_j=sum(sums.values()),
        source=Source.worst([phase.source for phase in phases]),
        **sums,
    )


def after(num_steps):
    """Interrupts when it has been asked so often: once a step, once in validation, once at the end of an epoch."""
    asked = iter(range(1, 10**9))
    return lambda: next(asked) >= num_steps


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


@pytest.mark.parametrize(
    ("phases", "error_j"),
    [
        ([("train", 2.0), ("validate", 3.0), ("checkpoint", 5.0)], 7.0),  # what lies between cancels
        ([("train", 2.0), ("record", 9.0), ("validate", 3.0), ("checkpoint", 5.0)], 2.0 + 8.0),
        ([("train", 2.0)], 2.0),
        ([("train", 2.0), ("validate", None)], None),
    ],
)
def test_an_epoch_is_as_uncertain_as_the_ends_of_its_stretches(phases, error_j):
    class Played:
        def phases(self):
            rows = [make_phase("a", 0, name="setup", error_j=100.0)]
            for seq, (name, error) in enumerate(phases, start=1):
                rows.append(make_phase("a", seq, name=name, epoch=1, error_j=error))
            return iter(rows)

    books = Books(Played(), None)
    books.expect(make_epoch("a", 1), len(phases))
    [epoch] = only(Epoch, books.settle())

    assert epoch.error_j == error_j


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


def test_a_run_that_is_told_to_stop_keeps_the_reason_and_tests_nothing(tmp_path):
    rows = [*records_of(tmp_path / "r", interrupted=after(15), reason="dominated")]

    assert (rows[-1].status, rows[-1].stop_reason, rows[-1].test_accuracy) == ("stopped", "dominated", None)
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


@pytest.mark.parametrize("num_steps", [1, 7, 10, 11, 12, 13, 27], ids="at step {}".format)
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, num_steps):
    """Ten steps an epoch: in the first one, in the middle, in the last, in validation, after it, in the next ones."""
    how = {"model": "moody", "augment": "crop-flip", "ema_decay": 0.9}
    whole = [*records_of(tmp_path / "whole", **how)]
    first = [*records_of(tmp_path / "cut", interrupted=after(num_steps), **how)]
    second = [*records_of(tmp_path / "cut", past=past_of(first), **how)]

    assert (first[-1].status, second[-1].status) == ("interrupted", "done")
    for name, parts in (("model.pt", ["state_dict"]), ("checkpoint.pt", ["model", "averaged"])):
        one, other = (torch.load(tmp_path / folder / name, weights_only=True) for folder in ("whole", "cut"))
        for part in parts:
            assert all(torch.equal(one[part][key], other[part][key]) for key in one[part]), (name, part)
    learned = [(e.epoch, e.train_loss, e.train_accuracy, e.val_loss, e.num_samples) for e in only(Epoch, whole)]
    assert [
        (e.epoch, e.train_loss, e.train_accuracy, e.val_loss, e.num_samples) for e in only(Epoch, first + second)
    ] == learned
    assert second[-1].test_accuracy == whole[-1].test_accuracy


def test_a_life_after_the_first_counts_on_from_it(tmp_path):
    first = [*records_of(tmp_path / "r", interrupted=after(25))]
    past = past_of(first)
    second = [*records_of(tmp_path / "r", past=past)]

    [resume], phases = only(Resume, second), only(Phase, second)
    assert (resume.segment, resume.epoch, resume.step) == (1, 3, 1)
    assert {phase.segment for phase in phases} == {1}
    assert [phase.seq for phase in phases] == list(range(len(phases)))
    [epoch] = only(Epoch, second)
    until = [phase.joules for phase in phases if phase.seq <= max(p.seq for p in phases if p.name == "checkpoint")]
    assert epoch.energy_total_j == pytest.approx(past.known_j + sum(until), rel=1e-9)


def test_epochs_that_a_killed_process_did_not_store_are_told_again(tmp_path):
    first = [*records_of(tmp_path / "r", interrupted=after(25))]
    past = dataclasses.replace(past_of(first), epochs=frozenset({1}))

    told = only(Epoch, records_of(tmp_path / "r", past=past))[0]

    was = only(Epoch, first)[1]
    assert (told.epoch, told.segment, told.val_accuracy) == (2, 0, was.val_accuracy)
    assert (told.energy_j, told.source) == (None, Source.UNKNOWN)


@pytest.mark.parametrize("rule", [{"target_acc": 30}, {"time_budget": "0.001s"}, {"epochs": 1}])
def test_a_life_that_was_killed_in_its_test_only_tests_again(tmp_path, monkeypatch, rule):
    def kill(path):
        raise KeyboardInterrupt

    first = deque()
    with monkeypatch.context() as killed:
        killed.setattr(artifact, "load", kill)
        with pytest.raises(KeyboardInterrupt):
            first.extend(records_of(tmp_path / "r", **rule))
    second = [*records_of(tmp_path / "r", past=past_of(first), **rule)]

    assert "train" not in {phase.name for phase in only(Phase, second)}
    assert (second[-1].status, second[-1].best_epoch, second[-1].test_count) == ("done", 1, 359)


def test_without_a_checkpoint_it_begins_anew(tmp_path):
    first = [*records_of(tmp_path / "r", interrupted=after(3))]
    (tmp_path / "r" / "checkpoint.pt").unlink()

    second = [*records_of(tmp_path / "r", past=past_of(first))]

    [resume] = only(Resume, second)
    assert (resume.epoch, resume.step) == (1, 0)
    assert second[-1].status == "done"


def test_it_does_not_go_on_with_other_data_or_a_tampered_file(tmp_path):
    past = past_of([*records_of(tmp_path / "r", interrupted=after(3))])
    with pytest.raises(DataError, match="has changed since"):
        list(records_of(tmp_path / "r", past=dataclasses.replace(past, data_hash="other")))

    (tmp_path / "r" / "checkpoint.pt").write_bytes(b"something else")
    with pytest.raises(DataError, match="not a file that greenml wrote"):
        list(records_of(tmp_path / "r", past=past))


@pytest.mark.parametrize("content", [{"a": 1}, [1]])
def test_a_model_that_is_none_is_refused(tmp_path, content):
    past = past_of([*records_of(tmp_path / "r", interrupted=after(15))])
    torch.save(content, tmp_path / "r" / "model.pt")
    with pytest.raises(DataError, match="not a file that greenml wrote"):
        list(records_of(tmp_path / "r", past=past))


def test_it_does_not_go_on_from_another_run(tmp_path):
    past = past_of([*records_of(tmp_path / "r", interrupted=after(15))])
    found = artifact.read(tmp_path / "r" / "checkpoint.pt")
    artifact.write(tmp_path / "r" / "checkpoint.pt", {**found, "run_id": "b"})
    with pytest.raises(DataError, match="is of run b"):
        list(records_of(tmp_path / "r", past=past))


def test_what_is_gone_is_said(tmp_path):
    past = past_of([*records_of(tmp_path / "r", interrupted=after(15))])
    (tmp_path / "r" / "model.pt").unlink()
    with pytest.raises(DataError, match="best weights so far"):
        list(records_of(tmp_path / "r", past=past))

    (tmp_path / "r" / "checkpoint.pt").unlink()
    notices = only(Notice, records_of(tmp_path / "r", past=past))
    assert any("begins anew" in notice.text for notice in notices)


def test_a_budget_that_grows_ends_in_the_same_weights(tmp_path):
    """The part of an epoch that the budget left was tested; going on, it does not compete with whole epochs."""
    whole = [*records_of(tmp_path / "whole", epochs=2)]
    first = [*records_of(tmp_path / "cut", epochs=2, time_budget="0.001s")]
    second = [*records_of(tmp_path / "cut", epochs=2, past=past_of(first))]

    assert (first[-1].stop_reason, second[-1].stop_reason) == ("time-budget", "epochs")
    one, other = (artifact.read(tmp_path / folder / "model.pt") for folder in ("whole", "cut"))
    assert (one["epoch"], one["complete"]) == (other["epoch"], other["complete"])
    assert all(torch.equal(one["state_dict"][key], other["state_dict"][key]) for key in one["state_dict"])
    assert [(e.epoch, e.num_samples) for e in only(Epoch, second)] == [
        (e.epoch, e.num_samples) for e in only(Epoch, whole)
    ]


def test_a_better_part_of_an_epoch_gives_way_when_it_goes_on(tmp_path):
    config = configs.resolve({"model": "cnn", "dataset": "digits", "device": "cpu"})
    _, setup = finish(prepare(config, torch.device("cpu")))
    model = pasts.Choice(tmp_path / "model.pt", setup, "a")
    model.save(1, 0.5, complete=True)
    model.save(2, 0.6, complete=False)
    later = pasts.Choice(tmp_path / "model.pt", setup, "a")
    later.load(needed=True)

    assert (later.best.epoch, later.best.complete) == (2, False)
    later.forget_parts()
    assert (later.best.epoch, artifact.read(tmp_path / "model.pt")["epoch"]) == (1, 1)


def test_ctrl_c_in_a_checkpoint_leaves_nothing_half_written(tmp_path, monkeypatch):
    def stopped(content, path):
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    artifact.write(tmp_path / "model.pt", {"epoch": 1})
    monkeypatch.setattr(torch, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        artifact.write(tmp_path / "model.pt", {"epoch": 2})

    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]
    assert artifact.read(tmp_path / "model.pt") == {"epoch": 1}


def test_long_epochs_leave_checkpoints_on_their_way(tmp_path, monkeypatch):
    monkeypatch.setattr(pasts, "CHECKPOINT_WITHIN_S", 0.0)
    often = [*records_of(tmp_path / "often", epochs=1)]
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    whole = [*records_of(tmp_path / "whole", epochs=1)]

    names = [phase.name for phase in only(Phase, often)]
    assert names.count("checkpoint") > 3
    assert all(a.ended_at == b.started_at for a, b in pairwise(only(Phase, often)))
    assert only(Epoch, often)[0].train_loss == only(Epoch, whole)[0].train_loss


def test_a_time_budget_ends_it_at_once_and_what_it_learned_is_tested(tmp_path):
    rows = [*records_of(tmp_path / "r", time_budget="0.001s")]

    [epoch], end = only(Epoch, rows), rows[-1]
    assert (end.status, end.stop_reason, end.best_epoch) == ("done", "time-budget", 1)
    assert (epoch.num_samples, epoch.schedule_complete) == (128, False)
    assert end.test_count == 359


@pytest.mark.parametrize(("budget", "watts"), [({"energy_budget": "30J"}, 20), ({"carbon_budget": "4mg"}, 20)])
def test_energy_and_carbon_budgets_go_by_the_last_power(tmp_path, budget, watts):
    """4 mg at 475 g/kWh are 30 J: a second and a half at 20 W."""
    sensor = ReplaySensor(lambda name, s: watts * s if name == "cpu" else 0.0)
    rows = [*records_of(tmp_path / "r", sensor=sensor, epochs=1000, **budget)]

    [key] = budget
    trained = [phase for phase in only(Phase, rows) if phase.name != "test"]
    assert rows[-1].stop_reason == key.replace("_", "-")
    assert 30 <= sum(phase.joules for phase in trained) < 30 + watts * 2


def test_a_budget_that_nobody_can_watch_is_said(tmp_path):
    sensor = ReplaySensor(lambda name, s: None if name == "gpu" else s, sources={"gpu": Source.UNKNOWN})
    rows = [*records_of(tmp_path / "r", sensor=sensor, epochs=1, energy_budget="1kWh")]

    assert sum("budget cannot be kept" in notice.text for notice in only(Notice, rows)) == 1


def test_min_delta_is_what_counts_as_improved():
    config = configs.resolve({"model": "cnn", "early_stop": True, "patience": 2, "min_delta": 0.01})

    assert run.stop_rule(config, [0.5, 0.6, 0.605]) is None
    assert run.stop_rule(config, [0.5, 0.6, 0.605, 0.609]) == "early-stop"
    assert run.stop_rule(config, [0.5, 0.6, 0.605, 0.62]) is None


def test_memory_and_samples_are_on_every_epoch(found):
    for epoch in only(Epoch, found[0]):
        assert epoch.num_samples == 1280
        assert epoch.peak_host_bytes > 50e6
        assert epoch.peak_device_bytes is None


def test_accumulated_batches_say_whether_they_equal_large_ones(tmp_path):
    plain, split, mixed = (
        only(Run, records_of(tmp_path / name, epochs=1, **how))[0].accumulation
        for name, how in (
            ("a", {}),
            ("b", {"batch_size": 32, "grad_accum": 4}),
            ("c", {"batch_size": 32, "grad_accum": 4, "model": "moody"}),
        )
    )

    assert plain is None
    assert split == "equal to batches of 128"
    assert mixed == "not equal to batches of 128: batch norm sees 32 images at a time"


def test_a_full_disk_ends_it_with_its_rows_and_without_half_a_file(tmp_path, monkeypatch):
    rows = deque()
    save = torch.save

    def full(content, path):
        if rows and any(isinstance(row, Epoch) and row.epoch == 2 for row in rows):
            path.write_bytes(b"half of it")
            raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")
        save(content, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StoreError, match="cannot be written"):
        rows.extend(records_of(tmp_path / "r", epochs=50))

    assert (rows[-1].status, rows[-1].stop_reason) == ("failed", "disk")
    assert not list((tmp_path / "r").glob("*.partial"))
    assert torch.load(tmp_path / "r" / "model.pt", weights_only=True)["epoch"] <= 3


def test_a_diverged_run_keeps_its_last_good_checkpoint(tmp_path, monkeypatch):
    from torch.nn import functional

    real, steps = functional.cross_entropy, iter(range(10**9))

    def spoiled(logits, *rest, **more):
        loss = real(logits, *rest, **more)
        return loss * float("nan") if logits.requires_grad and next(steps) == 13 else loss

    monkeypatch.setattr(functional, "cross_entropy", spoiled)
    rows = deque()
    with pytest.raises(TrainingError):
        rows.extend(records_of(tmp_path / "r"))

    kept = torch.load(tmp_path / "r" / "checkpoint.pt", weights_only=True)
    assert rows[-1].stop_reason == "nan-loss"
    assert len(kept["epochs"]) == 1
    assert all(torch.isfinite(weights).all() for weights in kept["model"].values())


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
