"""Programs that greenml did not write, under its meter: as a command and as a library."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest
from conftest import GREENML, STARTED_AT, environment, make_phase, record

import greenml
from greenml import cli
from greenml.errors import StoreError, UsageError
from greenml.records import Epoch, Source, utc_now
from greenml.store import Store
from greenml.tracking import files, metrics, tracker
from greenml.tracking.books import Books, Draft
from greenml.tracking.files import JsonFile, JsonLines
from greenml.tracking.metrics import Judge, Name

# Names and figures


@pytest.mark.parametrize(
    ("written", "name", "goal"),
    [
        ("accuracy", Name("", "accuracy"), "max"),
        ("val_acc", Name("val", "accuracy"), "max"),
        ("eval/F1-macro", Name("val", "f1_macro"), "max"),
        ("Test RMSE", Name("test", "rmse"), "min"),
        ("training_loss", Name("train", "loss"), "min"),
        ("mean_absolute_error", Name("", "mae"), "min"),
        ("top5_accuracy", Name("", "top5_accuracy"), "max"),
        ("box_loss", Name("", "box_loss"), "min"),
        ("test", Name("", "test"), None),
        ("elo", Name("", "elo"), None),
        ("neg_mean_squared_error", Name("", "neg_mean_squared_error"), "max"),
        ("val_neg_root_mean_squared_error", Name("val", "neg_root_mean_squared_error"), "max"),
        ("negative_log_loss", Name("", "negative_log_loss"), "max"),
        ("negative_recall", Name("", "negative_recall"), None),
    ],
)
def test_names_say_their_split_and_their_direction(written, name, goal):
    assert metrics.parse(written) == name
    assert metrics.goal_of(name.base) == goal


def test_a_line_keeps_numbers_and_says_what_it_leaves_out():
    line = metrics.read(
        {"epoch": 3.0, "val_acc_percent": 86.3, "loss": 1, "rmse": math.nan, "note": "x", "ok": True, "goal": "max"}
    )
    assert (line.epoch, line.within, line.goal) == (3, None, "max")
    assert line.figures == {"val_acc": pytest.approx(0.863), "loss": 1.0}
    assert set(line.troubles) == {"nan", "words"}


@pytest.mark.parametrize("value", [86.3, 100.0, -0.1, 1.01])
def test_an_accuracy_is_a_fraction_or_is_refused(value):
    line = metrics.read({"accuracy": value})
    assert line.figures == {}
    assert ("log 0.863, or accuracy_percent" in line.troubles["fraction"]) == (value == 86.3)
    assert metrics.read({"accuracy_pct": 101.0}).figures == {}


def test_a_name_is_text_that_can_be_stored():
    line = metrics.read({"bad\ud800": 1, 2: 3, "": 4, "größe": 5})
    assert line.figures == {"größe": 5.0}
    assert line.troubles["name"].startswith("'bad\\ud800' is no name")


def test_numbers_are_what_python_numpy_and_tensors_call_so():
    import numpy as np
    import torch

    line = metrics.read(
        {"a": np.float32(0.5), "b": torch.tensor(0.25), "c": torch.ones(3), "d": np.ones(2), "e": 10**400}
    )
    assert line.figures == {"a": 0.5, "b": 0.25}


@pytest.mark.parametrize("epoch", [-1, "three", math.nan, 2**31, [1]])
def test_what_is_no_epoch_is_said_and_its_figures_are_kept(epoch):
    line = metrics.read({"epoch": epoch, "mae": 2})
    assert (line.epoch, line.figures, list(line.troubles)) == (None, {"mae": 2.0}, ["epoch"])


def test_figures_without_a_split_find_their_column():
    def columns(**figures):
        found = metrics.columns(metrics.read(figures).named(), "rmse")
        return {name: value for name, value in found.items() if value is not None}

    assert columns(accuracy=0.8, loss=0.5) == {"val_accuracy": 0.8, "train_loss": 0.5}
    assert columns(accuracy=0.8, val_accuracy=0.7) == {"train_accuracy": 0.8, "val_accuracy": 0.7}
    assert columns(train_loss=0.4, loss=0.5) == {"train_loss": 0.4, "val_loss": 0.5}
    assert columns(val_rmse=3, train_rmse=1, learning_rate=0.1) == {"value": 3.0, "lr": 0.1}
    assert columns(test_accuracy=0.9, test_loss=0.1) == {}


def test_a_loss_is_judged_where_it_is_validations():
    def value(**figures):
        return metrics.columns(metrics.read(figures).named(), "loss")["value"]

    assert (value(loss=0.5), value(loss=0.5, val_loss=0.6), value(loss=0.5, train_loss=0.4)) == (None, 0.6, 0.5)


def test_metrics_that_are_asked_for():
    assert metrics.asked("val_rmse") == ("rmse", "min")
    assert metrics.asked("elo:max") == ("elo", "max")
    for wrong, hint in (("elo", "--metric elo:max where"), ("rsme", "did you mean `rmse`"), ("x:up", "as in --metric")):
        with pytest.raises(UsageError) as refused:
            metrics.asked(wrong)
        assert hint in refused.value.hint
    with pytest.raises(UsageError):
        metrics.asked("accuracy:min")


def judged(*lines, metric=None, goal=None):
    judge = Judge(metric, goal)
    for line in lines:
        judge.hear(metrics.read(line))
    return judge.metric, judge.goal, judge.metric and judge.result(judge.metric)


def test_a_run_is_judged_by_accuracy_or_else_by_the_first_known_name():
    assert judged({"epoch": 1, "elo": 1500, "loss": 0.5, "rmse": 3}, {"mae": 2}) == ("rmse", "min", None)
    assert judged({"rmse": 3}, {"accuracy": 0.5}) == ("accuracy", "max", 0.5)
    assert judged({"train_rmse": 3, "elo": 2}) == (None, None, None)
    assert judged({"elo": 1500, "goal": "max"}) == ("elo", "max", 1500.0)
    assert judged({"accuracy": 0.5, "elo": 9}, metric="elo", goal="max") == ("elo", "max", 9.0)
    assert judged({"loss": 0.5}) == ("loss", "min", 0.5)
    assert judged({"epoch": 1, "val_loss": 0.5}, {"test_loss": 0.4}) == ("loss", "min", 0.4)


@pytest.mark.parametrize("on_the_way", [{"epoch": 2}, {"epoch": 0.5}, {"step": 7}])
def test_a_loss_on_the_way_judges_nothing(on_the_way):
    assert judged({"loss": 0.4} | on_the_way) == (None, None, None)
    assert judged({"loss": 0.4, "train_loss": 0.3} | on_the_way)[0] == "loss"


# Epochs out of phases


def phases(*names):
    """One of 100 J for each name."""
    return iter([make_phase("a" * 12, seq, name=name) for seq, name in enumerate(names)])


def rows(books, settled, over=True):
    return [row for row in books.settle(settled, "accuracy", over=over) if isinstance(row, Epoch)]


def test_an_epoch_is_everything_since_the_one_before_but_set_up_and_test():
    books = Books("a" * 12, num_val=10, factor=475.0)
    books.end([Draft(1, {Name("", "accuracy"): 0.5})], last_seq=1)
    books.end([Draft(2)], last_seq=4)
    first, second = rows(books, phases("setup", "program", "program", "test", "validate", "program"))
    assert (first.energy_j, first.energy_total_j, first.duration_s) == (100.0, 200.0, 10.0)
    assert (second.energy_j, second.energy_total_j, second.source) == (200.0, 500.0, Source.ESTIMATED)
    assert (first.val_accuracy, first.val_correct, first.val_count) == (0.5, 5, 10)
    assert (second.val_accuracy, second.val_count) == (None, None)
    assert books.spent.joules == 600.0


def test_epochs_that_came_at_once_share_and_say_so():
    books = Books("a" * 12, None, factor=475.0)
    books.end([Draft(2), Draft(1)], last_seq=1)
    measured = {"cpu_source": Source.MEASURED, "ram_j": 0.0, "ram_source": Source.ABSENT, "error_j": 1.0}
    first, second = rows(books, iter([make_phase("a" * 12, seq, name="program", **measured) for seq in range(2)]))
    assert (first.epoch, first.energy_j, first.energy_total_j) == (1, 90.0, 90.0)
    assert (second.epoch, second.energy_j, second.energy_total_j) == (2, 90.0, 180.0)
    assert (first.source, second.error_j) == (Source.APPORTIONED, 2.0 + 180.0)
    assert second.source is Source.MEASURED, "where both end, the counter was read"


def test_epochs_have_the_intensity_of_their_own_stretch_and_of_all_so_far():
    """Set-up at 100, an epoch at 200 and one, in equal shares, at 400 g/kWh and where nobody knew it."""
    books = Books("a" * 12, None, factor=475.0)
    books.end([Draft(1)], last_seq=1)
    books.end([Draft(2), Draft(3)], last_seq=3)
    hours = [("setup", 100.0), ("program", 200.0), ("program", 400.0), ("program", None)]
    told = [make_phase("a" * 12, seq, name=name, g_per_kwh=g) for seq, (name, g) in enumerate(hours)]
    found = [(epoch.g_per_kwh, epoch.total_g_per_kwh) for epoch in rows(books, iter(told))]
    both = (400 + 475) / 2
    assert found == [(200.0, 150.0), (both, (300 + both) / 3), (both, (300 + 2 * both) / 4)]


@pytest.mark.parametrize(
    ("names", "errors", "error_j"),
    [
        (["program"] * 3, [2.0, 3.0, 5.0], 7.0),  # what lies between cancels
        (["program", "test", "program"], [2.0, 9.0, 5.0], 7.0),
        (["program", "program", "test", "program"], [2.0, 3.0, 9.0, 5.0], 10.0),
        (["program"], [2.0], 2.0),
        (["program"] * 2, [2.0, None], None),
    ],
)
def test_an_epoch_is_as_uncertain_as_the_ends_of_its_stretches(names, errors, error_j):
    books = Books("a" * 12, None, factor=475.0)
    books.end([Draft(1)], last_seq=len(names) - 1)
    told = [
        make_phase("a" * 12, seq, name=name, error_j=error)
        for seq, (name, error) in enumerate(zip(names, errors, strict=True))
    ]
    [epoch] = rows(books, iter(told))
    assert epoch.error_j == error_j


def test_an_unknown_part_makes_the_epoch_unknown():
    books = Books("a" * 12, None, factor=475.0)
    books.end([Draft(1)], last_seq=0)
    books.end([Draft(2)], last_seq=1)
    lost = {"gpu_j": None, "gpu_source": Source.UNKNOWN}
    first, second = rows(books, iter([make_phase("a" * 12, 0), make_phase("a" * 12, 1, error_j=1.0, **lost)]))
    assert first.energy_total_j == 100.0
    assert (second.energy_j, second.energy_total_j, second.source) == (None, None, Source.UNKNOWN)
    assert (second.cpu_j, second.error_j) == (90.0, None)


def test_a_row_waits_for_the_figures_that_the_one_before_had(monkeypatch):
    books, now = Books("a" * 12, None, factor=475.0), [100.0]
    monkeypatch.setattr("greenml.tracking.books.time.monotonic", lambda: now[0])
    books.end([Draft(1, {Name("train", "loss"): 1.0})], last_seq=0)
    settled = phases(*["program"] * 9)
    now[0] += 60
    assert rows(books, settled, over=False) == [], "its validation may follow"
    draft = books.open_draft(1)
    draft.figures[Name("val", "loss")] = 1.1
    books.end([draft], last_seq=2)
    assert rows(books, settled, over=False) == [], "so may more lines"
    now[0] += 2
    [first] = rows(books, settled, over=False)
    assert (first.energy_j, first.train_loss, first.val_loss) == (300.0, 1.0, 1.1)
    books.end([Draft(2, {Name("train", "loss"): 1.0})], last_seq=4)
    now[0] += 60
    assert rows(books, settled, over=False) == []
    books.end([Draft(3, {Name("train", "loss"): 1.0, Name("val", "loss"): 1.0})], last_seq=5)
    now[0] += 2
    second, third = rows(books, settled, over=False)
    assert (second.energy_j, second.val_loss, third.energy_j) == (200.0, None, 100.0)


# Files that grow


def test_lines_are_read_once_whole_and_broken_ones_said(tmp_path):
    file = tmp_path / "m.jsonl"
    file.write_text('{"of": "somebody before"}\n')
    lines = JsonLines(file)
    with file.open("a") as out:
        out.write('{"a": 1}\n\n{"b"')
        out.flush()
        assert lines.read() == [{"a": 1}]
        out.write(": 2}\nnonsense\n[1]\n")
        out.flush()
        assert lines.read() == [{"b": 2}]
        assert lines.trouble == "m.jsonl: `nonsense` is no JSON object, and is not kept"
        out.write('{"c": 3}')
        out.flush()
        assert lines.read() == []
    assert lines.read(final=True) == [{"c": 3}]
    file.write_text('{"anew": 1}\n')
    assert lines.read() == [{"anew": 1}]
    file.unlink()
    assert lines.read() == []


def test_what_cannot_be_read_is_said_and_waited_for_by_nobody(tmp_path):
    lines = JsonLines(tmp_path / "m.jsonl")
    (tmp_path / "m.jsonl").mkdir()
    (tmp_path / "m.jsonl" / "file").touch()

    assert (lines.read(), lines.has_more, lines.read(final=True)) == ([], False, [])
    assert lines.trouble == "m.jsonl cannot be read: Is a directory"


def test_more_than_is_read_at_once_is_read_on(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "AT_ONCE_BYTES", 10)
    lines = JsonLines(tmp_path / "m.jsonl")
    (tmp_path / "m.jsonl").write_text('{"a": 1}\n{"b": 2}\n')

    assert (lines.read(), lines.has_more) == ([{"a": 1}], True)
    assert (lines.read(), lines.has_more) == ([{"b": 2}], False)


def test_a_file_is_read_when_it_was_written_since(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"old": 1}')
    file = JsonFile(path)
    assert file.read() == []
    path.write_text('[{"epoch": 1}, {"ep')
    assert file.read() == []
    assert "holds no JSON object" in file.trouble
    path.write_text('[{"epoch": 1}]')
    assert (file.read(), file.trouble) == ([{"epoch": 1}], None)
    assert file.read() == []
    path.write_text('[{"epoch": 1}, {"epoch": 2, "x": NaN}]')
    [new] = file.read()
    assert new["epoch"] == 2
    path.write_text('{"accuracy": 0.5}')
    assert file.read() == [{"accuracy": 0.5}]


@pytest.mark.parametrize(
    ("before", "written", "ours"),
    [
        ("[1, 2]", "[1, 2, 3]", [3]),
        ("[1, 2, 3]", "[1, 2, 3]", [1, 2, 3]),  # a program that is run again, and says the same
        ("[1, 2]", "[1]", [1]),
        ("[1, 2]", "[1, 3, 4]", [1, 3, 4]),
        ("nonsense", "[1]", [1]),
    ],
)
def test_what_a_file_held_before_the_run_is_not_of_it(tmp_path, before, written, ours):
    def figures(text):
        return re.sub(r"\d", r'{"epoch": \g<0>}', text)

    path = tmp_path / "metrics.json"
    path.write_text(figures(before))
    file = JsonFile(path)
    path.write_text(figures(written))
    os.utime(path, (1, 1))
    assert [found["epoch"] for found in file.read()] == ours


# The library


def only(store, sql, *values):
    [row] = store.rows(sql, values)
    return row


def test_a_program_logs_what_it_learns_and_gets_what_it_used(replayed, capsys):
    with greenml.track(
        model="mlp", dataset="wine", season="spring", tags=["a"], region="IN", num_classes=3, num_val=30, num_test=36,
        config={"lr": 0.1},
    ) as run:  # fmt: skip
        for epoch in (1, 2):
            time.sleep(0.02)
            with run.phase("validate", epoch=epoch):
                time.sleep(0.02)
            run.log(epoch=epoch, accuracy=0.6 + epoch / 10, loss=1 / epoch, f1=0.5, schedule_complete=True)
        assert run.energy_j() > 0.4
        assert run.co2_g() == pytest.approx(run.energy_j() * 713.441 / 3.6e6, rel=0.05)
        run.log(test_accuracy=0.75)

    board = only(replayed, "from leaderboard")
    assert (board["run_id"], board["kind"], board["status"]) == (run.id, "track", "done")
    assert (board["country"], board["season"], board["tags"]) == ("India", "spring", ["a"])
    assert (board["accuracy"], board["val_accuracy"], board["rank"], board["on_front"]) == (0.75, 0.8, 1, True)
    row = only(replayed, "from runs")
    assert (row["test_correct"], row["test_count"], row["config"]["program"]) == (27, 36, {"lr": 0.1})
    first, second = replayed.rows("from epochs order by epoch")
    assert (first["train_loss"], first["val_accuracy"], first["val_correct"]) == (1.0, 0.7, 21)
    of_phases = replayed.rows("select sum(joules) as j from phases where name <> 'setup' and seq <= 4")
    assert first["energy_j"] + second["energy_j"] == pytest.approx(of_phases[0]["j"], rel=1e-9)
    assert [m["epoch"] for m in replayed.rows("from metrics where name = 'f1' order by seq")] == [1, 2]
    phases = replayed.rows("from phases order by seq")
    assert [phase["name"] for phase in phases] == ["setup", *["program", "validate"] * 2, "program"]
    assert all(a["ended_at"] == b["started_at"] for a, b in pairwise(phases))
    assert second["energy_total_j"] == pytest.approx(sum(phase["joules"] for phase in phases[:5]), rel=1e-9)
    said = capsys.readouterr()
    assert said.out == ""
    assert "India, 713 g/kWh" in said.err
    assert f"run {run.id}: energy" in said.err


@pytest.mark.parametrize("begin", [lambda run: run.log(epoch=0), lambda run: run.begin_epoch()])
def test_set_up_can_be_left_out_of_the_first_epoch(replayed, begin):
    with greenml.track(dataset="x", quiet=True) as run:
        time.sleep(0.2)
        begin(run)
        time.sleep(0.02)
        run.log(epoch=1, accuracy=0.5)
    epoch = only(replayed, "from epochs")
    assert epoch["epoch"] == 1
    assert epoch["energy_j"] < 12 * 0.2 < epoch["energy_total_j"]


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ValueError("x"), "failed", "exception ValueError"),
        (KeyboardInterrupt(), "interrupted", "interrupted"),
        (SystemExit(3), "failed", "exit code 3"),
        (SystemExit(0), "done", "finished"),
    ],
)
def test_how_a_block_ends_is_stored_and_raised_again(replayed, error, status, reason):
    def training():
        with greenml.track(quiet=True) as run:
            run.log(rmse=3)
            raise error

    with pytest.raises(type(error)):
        training()
    row = only(replayed, "from runs")
    assert (row["status"], row["stop_reason"]) == (status, reason)
    assert (row["metric"], row["goal"], row["value"]) == ("rmse", "min", 3.0)


def test_trouble_is_said_once_and_never_raised(replayed, capsys):
    with greenml.track(dataset="x", quiet=True) as run:
        for step in range(3):
            run.log({"step": step, "accuracy": 86.3, "loss": math.inf})
        run.log(epoch=0, train_loss=1)
        run.log(epoch=1, train_loss=1)
        run.log(epoch=0, train_loss=2)
    run.log(accuracy=1)
    err = capsys.readouterr().err
    for said in ("is no fraction", "is inf", "from 0; they are stored from 1 on", "epoch 0 came after epoch 1"):
        assert err.count(said) == 1, said
    assert [row["epoch"] for row in replayed.rows("from epochs order by epoch")] == [1, 2]
    assert [(m["name"], m["epoch"]) for m in replayed.rows("from metrics")] == [("train_loss", 1)]
    assert only(replayed, "from runs")["test_accuracy"] is None


def test_a_store_that_breaks_breaks_no_training(replayed, capsys, monkeypatch):
    with greenml.track(quiet=True) as run:
        intact = replayed.path.read_bytes()
        replayed.path.write_bytes(b"no database" * 1000)
        run.log(epoch=1, accuracy=0.5)
        time.sleep(2.5)
        run.log(epoch=2, accuracy=0.6)
    err = capsys.readouterr().err
    assert err.count("rows wait beside it") == 1
    assert "not all rows are stored yet" in err
    replayed.path.write_bytes(intact)
    replayed.check()
    assert only(replayed, "from runs")["status"] == "done"
    assert len(replayed.rows("from epochs")) == 2


def test_what_cannot_be_stored_takes_nothing_else_with_it(replayed, capsys, monkeypatch):
    from greenml.store import store

    insert = store.insert

    def picky(con, rows):
        if any(getattr(row, "name", None) == "odd" for row in rows):
            raise duckdb.InvalidInputException("not this")
        insert(con, rows)

    monkeypatch.setattr(store, "insert", picky)
    with greenml.track(quiet=True) as run:
        run.log({"epoch": 1, "accuracy": 0.5, "odd": 1, "rmse": 3, "bad\ud800": 1})
        time.sleep(1.6)
        run.log({"odd": 2})
        assert "greenml-tracker" in {thread.name for thread in threading.enumerate()}
    assert only(replayed, "from runs")["status"] == "done"
    assert (len(replayed.rows("from epochs")), [m["name"] for m in replayed.rows("from metrics")]) == (1, ["rmse"])
    assert [phase["seq"] for phase in replayed.rows("from phases order by seq")] == [0, 1, 2]
    err = capsys.readouterr().err
    assert err.count("cannot be stored, and is left out: not this") == 1
    assert err.count("is no name in UTF-8") == 1


def test_lines_about_steps_end_no_epoch(replayed, monkeypatch):
    """Three steps an epoch, each longer than an epoch waits for more lines about itself."""
    monkeypatch.setattr("greenml.tracking.books.GRACE_S", 0.02)
    monkeypatch.setattr(tracker, "TICK_S", 0.02)
    with greenml.track(dataset="x", quiet=True) as run:
        for epoch in (1, 2, 3):
            for step in range(3):
                time.sleep(0.1)
                run.log(epoch=epoch, step=step, loss=1 / (3 * epoch + step))
    epochs = replayed.rows("from epochs order by epoch")
    assert [epoch["energy_j"] for epoch in epochs] == [pytest.approx(12 * 0.3, rel=0.3)] * 3
    assert [epoch["train_loss"] for epoch in epochs] == [1 / 5, 1 / 8, 1 / 11]


def test_a_loss_of_the_training_is_on_no_front(replayed):
    with greenml.track(dataset="x", metric="loss", quiet=True) as run:
        run.log(epoch=1, loss=0.5, schedule_complete=True)
    assert only(replayed, "from epochs")["train_loss"] == 0.5
    assert replayed.rows("from pareto_front") == []


def test_validation_alone_is_no_result(replayed, capsys):
    with greenml.track(dataset="x", metric="rmse", quiet=True) as run:
        run.log(epoch=1, val_rmse=3, schedule_complete=True)
    row = only(replayed, "from leaderboard")
    assert (row["metric"], row["value"], row["unranked"], row["on_front"]) == ("rmse", None, "no test rmse", True)
    assert "no `rmse` of the test or the whole run was logged" in capsys.readouterr().err


@pytest.mark.parametrize(("is_used", "device", "waited_for"), [(False, "cpu", []), (True, "cuda", [0, 2])])
def test_a_gpu_is_what_the_program_is_seen_to_use(replayed, monkeypatch, is_used, device, waited_for):
    """Of three GPUs two: the boundaries wait for both, as the meter books all."""
    import torch

    waits = []
    with greenml.track(dataset="x", quiet=True) as run:
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: is_used)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda index: 100 * (index == 2))
        monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
        run.log(epoch=1, accuracy=0.5)
        waits.clear()
        run.log(epoch=2, accuracy=0.5)
        assert waits == waited_for
    assert only(replayed, "from runs")["device"] == device
    assert replayed.rows("select device from phases order by seq desc limit 1") == [{"device": device}]


def test_repeats_are_one_group(replayed):
    def run(tag, **about):
        with greenml.track(**{"dataset": "x", "tags": [tag], "quiet": True} | about) as run:
            run.log(test_rmse=3)

    run("a")
    run("b", region="IN")
    run("c", config={"lr": 0.1})
    run("d", dataset="y")
    groups = replayed.rows("from leaderboard_groups order by num_runs desc")
    assert [group["num_runs"] for group in groups] == [2, 1, 1]
    assert sorted(groups[0]["tags"]) == ["a", "b"]
    assert groups[0]["mean_energy_kwh"] > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are POSIX")
def test_a_fork_waits_for_nobody(replayed):
    """It has the locks of its parent as they were, and none of the threads that would let them go."""
    held, over = threading.Event(), threading.Event()

    def hold(run):
        with run._lock:
            held.set()
            over.wait(10)

    with greenml.track(dataset="x", quiet=True) as run:
        holder = threading.Thread(target=hold, args=[run])
        holder.start()
        held.wait(10)
        if (child := os.fork()) == 0:
            signal.alarm(5)
            run.device("cuda", lambda: None)
            run.notice("x", "from a fork")
            run.turn_to("test")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        over.set()
        holder.join()
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_program_may_change_its_folder_and_fork(replayed, monkeypatch, capfd):
    Path("elsewhere").mkdir()
    with greenml.track(dataset="x", store="here.duckdb", quiet=True) as run:
        monkeypatch.chdir("elsewhere")
        if (child := os.fork()) == 0:
            run.log(accuracy=1)
            run.finish()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        run.log(test_accuracy=0.5)
    assert only(Store(Path("../here.duckdb")), "from runs")["test_accuracy"] == 0.5
    assert list(Path().iterdir()) == []
    assert "by a process it forked" in capfd.readouterr().err


def test_a_run_that_is_left_open_ends_with_its_process(replayed):
    code = """
from greenml import energy, track
from greenml.energy.replay import ReplaySensor
energy.open_meter = lambda run_id, settings: energy.Meter(ReplaySensor(), run_id=run_id)
track(dataset="x", quiet=True).start().log(rmse=1)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    row = only(replayed, "from runs")
    assert (row["status"], row["stop_reason"], row["value"]) == ("failed", "left open", 1.0)


def test_two_at_a_time_are_both_marked(replayed):
    with greenml.track(dataset="x", quiet=True) as outer, greenml.track(dataset="x", quiet=True) as inner:
        inner.log(accuracy=0.5)
        outer.log(accuracy=0.5)
        time.sleep(0.05)
    assert outer.id != inner.id
    found = replayed.rows("from leaderboard")
    assert all(row["overlap_s"] > 0 and row["status"] == "done" for row in found)
    assert [row["unranked"] for row in found] == ["shared the machine with another metered run"] * 2


def test_like_says_that_the_data_are_those_of_another_run(replayed):
    replayed.check()
    record(replayed, "a" * 12, [0.9], [1e5])
    with greenml.track(like="aaaa", quiet=True) as run:
        run.log(test_accuracy=0.8)
    row = only(replayed, "from leaderboard where run_id = ?", run.id)
    assert (row["dataset"], row["rank"]) == ("digits", 1)
    kept = only(replayed, "from runs where run_id = ?", run.id)
    assert (kept["config"]["like"], kept["num_test"], kept["majority_share"]) == ("a" * 12, 360, 0.1)
    for wrong in ({"dataset": "wine"}, {"num_test": 2}):
        with pytest.raises(UsageError, match="in run aaaaaaaaaaaa"):
            greenml.track(like="aaaa", **wrong)


def test_who_says_nothing_of_the_data_is_not_compared(replayed):
    with greenml.track(num_classes=2, num_val=50, num_test=50, quiet=True) as run:
        run.log(epoch=1, accuracy=0.9, schedule_complete=True)
        run.log(test_accuracy=0.9)
    row = only(replayed, "from leaderboard")
    assert (row["dataset"], row["rank"], row["unranked"], row["on_front"]) == (
        "unknown", None, "data set not said", False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"region": "XXX"}, "XXX"),
        ({"pue": 0.5}, "pue"),
        ({"scope": "galaxy"}, "scope"),
        ({"num_classes": 1}, "num_classes"),
        ({"like": "none"}, "none"),
        ({"metric": "elo"}, "elo"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(replayed, wrong, said):
    with pytest.raises(UsageError, match=said):
        greenml.track(**wrong)
    assert not replayed.path.exists()


def test_it_is_light_until_it_is_used():
    code = "import sys, greenml; print(greenml.__version__, {'duckdb', 'typer', 'numpy', 'psutil'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith(" set()\n")
    with pytest.raises(AttributeError, match="no attribute 'trakc'"):
        greenml.trakc  # noqa: B018


# The command, in this process


@pytest.fixture
def track(replayed, capfd):
    """`greenml track` with a meter that needs no hardware: its exit code, and what both programs wrote."""

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main(["track", *map(str, arguments)])
        said = capfd.readouterr()
        return ended.value.code or 0, said.out, said.err

    return call


PROGRAM = """
import json, os, sys, time
with open(os.environ["GREENML_METRICS"], "a", buffering=1) as file:
    for epoch in (1, 2):
        time.sleep(0.25)
        print(json.dumps({"epoch": epoch, "val_rmse": 4 - epoch, "train_loss": 1 / epoch}), file=file)
    file.write('{"broken')
json.dump({"test_rmse": 1.5, "run": 1}, open("metrics.json", "w"))
print(sys.argv[1:], os.environ["GREENML_RUN_ID"])
"""


def test_a_program_is_run_as_it_is_and_its_figures_are_read(track, replayed, monkeypatch):
    Path("fit.py").write_text(PROGRAM)
    monkeypatch.setenv("GREENML_TAGS", "a, b")
    monkeypatch.setenv("GREENML_REGION", "IN")
    monkeypatch.setenv("GREENML_DATASET", "houses")
    code, out, err = track("--season", "winter", sys.executable, "fit.py", "--batch_size", "--json", "--")
    row = only(replayed, "from leaderboard")
    assert (code, out) == (0, f"['--batch_size', '--json', '--'] {row['run_id']}\n")
    assert (row["model"], row["dataset"], row["country"]) == ("fit.py", "houses", "India")
    assert (row["season"], row["tags"]) == ("winter", ["a", "b"])
    assert (row["metric"], row["goal"], row["value"], row["status"]) == ("rmse", "min", 1.5, "done")
    assert [epoch["value"] for epoch in replayed.rows("from epochs order by epoch")] == [3.0, 2.0]
    first, second = replayed.rows("from epochs order by epoch")
    assert second["energy_j"] == pytest.approx(12 * 0.25, rel=0.6), "to a tenth of a second, on a busy machine"
    assert first["energy_total_j"] < second["energy_total_j"] < row["energy_kwh"] * 3.6e6
    assert {(m["name"], m["goal"]) for m in replayed.rows("from metrics")} == {
        ("val_rmse", "min"), ("test_rmse", "min"), ("run", None),
    }  # fmt: skip
    assert err.count('`{"broken` is no JSON object') == 1
    assert "1.50 (less is better)" in err
    assert only(replayed, "from artifacts")["path"] == f"runs/{row['run_id']}/metrics.jsonl"


def test_a_program_inside_another_run_has_its_own_figures(track, replayed, monkeypatch, tmp_path):
    write = """echo '{"mae": 2}' >> "$GREENML_METRICS" """
    monkeypatch.setenv("GREENML_METRICS", str(tmp_path / "mine.jsonl"))
    track("-q", "--", "sh", "-c", write)
    assert (tmp_path / "mine.jsonl").read_text() == '{"mae": 2}\n'
    assert replayed.rows("from artifacts") == []
    monkeypatch.setenv("GREENML_RUN_ID", "b" * 12)
    err = track("--", "sh", "-c", write)[2]
    assert (tmp_path / "mine.jsonl").read_text() == '{"mae": 2}\n'
    assert "inside run bbbbbbbbbbbb" in err
    assert [row["value"] for row in replayed.rows("from runs")] == [2.0, 2.0]


def test_a_pipeline_keeps_its_streams_and_its_exit_code(track, replayed):
    code, out, err = track("-q", "--", "sh", "-c", "echo hello | tr a-z A-Z; echo oops >&2; exit 7")
    assert (code, out, err) == (7, "HELLO\n", "oops\n")
    row = only(replayed, "from runs")
    assert (row["model"], row["dataset"], row["status"], row["stop_reason"]) == (
        "sh",
        "unknown",
        "failed",
        "exit code 7",
    )
    assert row["season"] == "unknown"


def test_a_signal_that_ends_a_program_is_told(track, replayed):
    assert track("-q", "--", "sh", "-c", "kill -SEGV $$")[0] == 128 + signal.SIGSEGV
    assert only(replayed, "select status, stop_reason from runs") == {
        "status": "failed",
        "stop_reason": "signal SIGSEGV",
    }


@pytest.mark.skipif(sys.platform == "win32", reason="arguments are bytes on POSIX")
def test_words_that_are_no_utf_8_are_kept_readable(track, replayed):
    odd = os.fsdecode(b"caf\xe9")
    code, out, _ = track("--name", odd, "--json", "--", "sh", "-c", "echo ran", odd)
    assert (code, out.partition("\n")[0]) == (0, "ran")
    row = only(replayed, "from runs")
    assert (row["name"], row["config"]["command"][-1]) == (r"caf\udce9", r"caf\udce9")
    assert row["device"] == "unknown"


def test_a_file_that_is_asked_for_is_missed(track, replayed):
    assert "nofile.json was not written" in track("-q", "--metrics-file", "nofile.json", "--", "true")[2]
    assert track("-q", "--", "true")[2] == ""
    write = """echo '{"mae": 2}' > nofile.json"""
    assert track("-q", "--metrics-file", "nofile.json", "--", "sh", "-c", write)[2] == ""


def test_the_same_command_is_one_group(track, replayed):
    for name in ("a", "b"):
        track("-q", "--name", name, "--", "true")
    track("-q", "--", "true", "otherwise")
    assert [row["num_runs"] for row in replayed.rows("from leaderboard_groups order by num_runs")] == [1, 2]


@pytest.mark.parametrize("flags", [[], ["--json"], ["--quiet"]])
def test_a_run_is_followed_by_the_board_and_by_advice(track, replayed, flags):
    figures = '{"epoch": 1, "val_accuracy": 0.9, "schedule_complete": true}'
    write = f"""echo '{figures}' >> "$GREENML_METRICS"; echo hello; exit 7"""
    known = ["--dataset", "beans", "--num-classes", "2", "--num-val", "1000", "--num-test", "1000"]
    code, out, err = track(*flags, *known, "--", "sh", "-c", write)
    assert (code, out.splitlines()[0]) == (7, "hello")
    assert len(json.loads(out.partition("\n")[2])) == 1 if flags == ["--json"] else out == "hello\n"
    assert err.count("greenml recommend: Use sh for 1 epoch") == (flags != ["--quiet"])
    assert "sh" in (replayed.path.parent / "leaderboard.csv").read_text()


def test_where_nothing_can_be_recommended_a_tracked_run_says_nothing_of_it(track, replayed):
    assert "recommend" not in track("--dataset", "beans", "--", "true")[2]


def test_a_store_that_breaks_afterwards_leaves_the_exit_code(track, replayed, monkeypatch):
    def busy(*_, **__):
        raise StoreError("the store is busy", hint="wait")

    monkeypatch.setattr("greenml.cli.afterwards.leave_board", busy)
    code, _, err = track("--", "sh", "-c", "exit 7")
    assert (code, err.splitlines()[-2]) == (7, "greenml: error: the store is busy")


def test_help_says_what_is_on_the_front(track):
    assert '"schedule_complete": true' in track("--help")[1]


def test_the_run_as_json_comes_after_what_the_program_prints(track, replayed):
    code, out, _ = track("--json", "--quiet", "--", "echo", "hello")
    first, _, rest = out.partition("\n")
    assert (code, first) == (0, "hello")
    assert [row["model"] for row in json.loads(rest)] == ["echo"]


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["nowhere"], 127, "nowhere: no such command"),
        (["./plain"], 126, "./plain may not be executed"),
        (["--interval", "9s", "true"], 2, "--interval 9s: not between 1s and 8s"),
        (["--interval", "9", "true"], 2, "--interval: `9` has no unit"),
        (["--metric", "elo", "true"], 2, "--metric elo: nobody knows"),
        (["--like", "aaaa", "true"], 2, "no run starts with `aaaa`"),
        (["--pue", "0.1", "true"], 2, "--pue: should be greater than"),
        (["--store", ".", "true"], 3, ". is a folder"),
        (["--", ""], 127, ": no such command"),
        ([], 2, "missing argument"),
    ],
)
def test_what_cannot_be_tracked_is_two_lines(track, replayed, arguments, code, error):
    Path("plain").write_text("echo")
    ended, out, err = track(*arguments)
    first, second = err.splitlines()
    assert (ended, out) == (code, "")
    assert first.startswith(f"greenml: error: {error}")
    assert second.startswith("hint: ")
    assert not replayed.path.exists()


def test_the_meter_is_the_one_that_is_asked_for(here):
    Path("watts.csv").write_text("seconds,cpu_w,gpu_w,ram_w\n0,10,0,2\n")
    asked = ("--meter", "replay:watts.csv", "--pue", "1.5", "--region", "IN", "--sampling-interval", "0.5")
    code, out, _ = here("track", "-q", "--json", *asked, "--dataset", "x", "--", "sleep", "0.5")
    [row] = json.loads(out)
    assert (code, row["gpu_source"], row["pue"]) == (0, "absent", 1.5)
    assert row["energy_kwh"] * 3.6e6 == pytest.approx(12 * row["duration_s"], rel=1e-3)
    assert row["co2_g"] == pytest.approx(row["energy_kwh"] * 1.5 * 713.441, rel=1e-4)


def test_a_tdp_that_has_no_effect_is_said_and_kept(here):
    Path("watts.csv").write_text("seconds,cpu_w,gpu_w,ram_w\n0,10,0,2\n")
    code, _, said = here("track", "--meter", "replay:watts.csv", "--tdp", "65", "--", "true")
    [run] = Store(Path("store/greenml.duckdb")).rows("from runs")
    [kept] = run["meter"]["ignored"]

    assert (code, kept.partition(":")[0]) == (0, "tdp 65")
    assert f"not obeyed: {kept}" in " ".join(said.split())


def test_a_component_that_must_be_metered(track, replayed, monkeypatch):
    from greenml.energy import Meter
    from greenml.energy.replay import ReplaySensor

    blind = ReplaySensor(lambda name, seconds: None if name == "gpu" else seconds, sources={"gpu": Source.UNKNOWN})
    monkeypatch.setattr("greenml.energy.open_meter", lambda run_id, settings: Meter(blind, run_id=run_id))
    assert track("--require-meter", "--", "touch", "started")[0] == 4
    assert not Path("started").exists()
    assert replayed.rows("from runs") == []
    assert track("-q", "--", "true")[0] == 0
    assert only(replayed, "from leaderboard")["unranked"] == "no test accuracy"


# The installed command, with the real meter

COUNTING = """
import json, os, signal, sys, time
heard = []
def note(number, frame):
    heard.append(number)
    if len(heard) == 2:
        print("heard", *heard, flush=True)
        sys.exit(9)
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    signal.signal(getattr(signal, name), note)
file = open(os.environ["GREENML_METRICS"], "a", buffering=1)
print("begun", os.getpid(), flush=True)
for epoch in range(100):
    time.sleep(0.2)
    print(json.dumps({"epoch": epoch + 1, "val_mae": 1 / (epoch + 1)}), file=file)
"""


def start(folder, **more):
    """The program under `greenml track`, once it has begun, the number of its process, and the store."""
    (folder / "counting.py").write_text(COUNTING)
    process = subprocess.Popen(
        [GREENML, "track", "--dataset", "x", "--interval", "1s", "--", sys.executable, "counting.py"],
        cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, **more,
    )  # fmt: skip
    begun, number = process.stdout.readline().split()
    assert begun == "begun"
    return process, int(number), Store(folder / "store" / "greenml.duckdb")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_signals_reach_the_program_once_each(tmp_path):
    process, _, store = start(tmp_path, start_new_session=True)
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (9, f"heard {int(signal.SIGTERM)} {int(signal.SIGINT)}\n"), err
    row = only(store, "from leaderboard")
    assert (row["status"], row["stop_reason"]) == ("interrupted", "signal SIGINT")
    assert (row["metric"], row["source"]) == ("mae", "estimated")
    assert row["epochs"] >= 4
    assert "energy by " in err


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_kill_9_leaves_a_crashed_run_with_what_it_had(tmp_path):
    process, program, store = start(tmp_path)
    time.sleep(3.5)
    process.kill()
    process.wait()
    os.kill(program, signal.SIGKILL)  # it knows nothing of us, and would go on
    process.communicate()
    row = only(store, "from leaderboard")
    assert (row["status"], row["source"], row["energy_kwh"]) == ("crashed", "unknown", None)
    assert row["epochs"] >= 4
    known_s = sum((phase["ended_at"] - phase["started_at"]).total_seconds() for phase in store.rows("from phases"))
    assert known_s > 1.5
    assert only(store, "select count(*) as n from phases where name = 'program'")["n"] >= 2
    assert store.rows("select name from phases order by seq desc limit 1") == [{"name": "lost"}]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_what_a_silent_run_loses_to_kill_9(tmp_path):
    """Its interval, and what it takes to look and to write: with the 8 s that are the default, 10 s at most."""
    process = subprocess.Popen(
        [GREENML, "track", "--dataset", "x", "--interval", "1s", "--", "sh", "-c", "echo $$; exec sleep 60"],
        cwd=tmp_path, env=environment(tmp_path), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    program = int(process.stdout.readline())
    begun_at = utc_now()
    time.sleep(5)
    process.kill()
    killed_at = utc_now()
    os.kill(program, signal.SIGKILL)
    process.communicate()
    store = Store(tmp_path / "store" / "greenml.duckdb")
    assert only(store, "from runs")["status"] == "crashed"
    [kept] = store.rows("select max(ended_at) as until from phases where name = 'program'")
    assert begun_at < kept["until"]
    assert killed_at - kept["until"] < timedelta(seconds=1 + 10 - tracker.INTERVAL_S)


@pytest.mark.skipif(sys.platform != "linux", reason="pseudo-terminals are POSIX; only Linux says who sent a signal")
def test_ctrl_c_in_a_terminal_reaches_the_program_once(tmp_path):
    import pty

    (tmp_path / "counting.py").write_text(COUNTING)
    command = [GREENML, "track", "--dataset", "x", "-q", "--", sys.executable, "counting.py"]
    env = environment(tmp_path)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execve(command[0], command, env)
    said = b""

    def until(word):
        nonlocal said
        while word not in said:
            said += os.read(terminal, 1024)

    until(b"begun")
    os.write(terminal, b"\x03")
    time.sleep(1)
    assert b"heard" not in said
    os.write(terminal, b"\x03")
    until(b"heard")
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 9
    os.close(terminal)
    row = only(Store(tmp_path / "store" / "greenml.duckdb"), "from runs")
    assert (row["status"], row["stop_reason"]) == ("interrupted", "signal SIGINT")
    assert row["ended_at"] - row["started_at"] > timedelta(seconds=1)
    assert row["started_at"] > STARTED_AT
