"""A training that is held up by the grid and dies, or leaves: `--resume` ends it as if nothing had been. The trainings
are real; what they wait for lies hours ahead, and nobody waits that long."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest
import torch
from conftest import GREENML, environment

from greenml.store import Store

DIGITS = ("cnn", "--dataset", "digits", "--device", "cpu", "--epochs", "2", "--quiet")
LONGER = (*DIGITS, "--epochs", "12")
"""Its first epoch is known to the planner some epochs later, when its joules have settled."""
OFTEN = ("--check-interval", "0.001s")
linux = pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL elsewhere")


def trace(folder, *values):
    """A file with a figure an hour, of which the first counts for half an hour to come."""
    start = datetime.now(UTC) - timedelta(minutes=30)
    hours = [f"{start + i * timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ},{value}" for i, value in enumerate(values)]
    file = folder / "trace.csv"
    file.write_text("\n".join(["start,g_per_kwh", *hours]) + "\n")
    return str(file)


def weights(db, run_id):
    return torch.load(db.folder(run_id) / "model.pt", weights_only=True)["state_dict"]


def alike(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def store_of(folder):
    return Store(folder / "store" / "greenml.duckdb")


def done(outcome):
    code, _, said = outcome
    assert code == 0, said


def killed_once_it_stands_still(folder, *arguments):
    """The run of a command that was killed when its store said that it waits, or has paused; and its decisions."""
    db = store_of(folder)
    process = subprocess.Popen([GREENML, *arguments], cwd=folder, env=environment(folder), stderr=subprocess.PIPE)
    try:
        until = time.monotonic() + 120
        while not (found := db.rows("select run_id from runs where status = 'waiting'")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < until
            time.sleep(0.5)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    return found[0]["run_id"], [row["what"] for row in db.rows("from decisions order by seq")]


@linux
def test_a_run_that_is_killed_while_it_waits_is_crashed_and_goes_on(tmp_path, quick):
    waits = ("--trace", trace(tmp_path, *[500] * 48), "--max-intensity", "300", "--check-interval", "1s")

    run_id, decisions = killed_once_it_stands_still(tmp_path, "train", *LONGER, *waits)

    db = store_of(tmp_path)
    assert decisions == ["wait"]
    [run] = db.rows("select status, epochs_asked from runs where run_id = ?", [run_id])
    assert run["status"] == "crashed"
    assert not db.rows("from epochs")
    done(quick("train", "--resume", run_id[:6], "--max-intensity", "600"))
    [run] = db.rows("select status, stop_reason from runs where run_id = ?", [run_id])
    assert (run["status"], run["stop_reason"]) == ("done", "epochs")
    assert [row["epoch"] for row in db.rows("from epochs order by epoch")] == list(range(1, 13))


@linux
def test_a_run_that_is_killed_while_it_pauses_goes_on_to_the_same_weights(tmp_path, quick):
    """How long it takes is known after its first epoch only: then it sees that the next hour is the better one."""
    file = trace(tmp_path, 500, 500, *[20] * 24)
    pauses = ("--trace", file, "--when-green", "--stays-on", *OFTEN)

    run_id, decisions = killed_once_it_stands_still(tmp_path, "train", *LONGER, *pauses)

    db = store_of(tmp_path)
    assert decisions[-1] == "pause"
    assert db.rows("select status from runs") == [{"status": "crashed"}]
    done(quick("train", "--resume", run_id, "--deadline", "1m"))
    done(quick("train", *LONGER))
    [run, whole] = db.rows("from runs order by started_at")
    assert (run["status"], run["test_accuracy"]) == ("done", whole["test_accuracy"])
    assert alike(weights(db, run_id), weights(db, whole["run_id"]))


def test_one_that_leaves_where_it_pauses_says_how_to_go_on_and_goes_on_to_the_same_weights(tmp_path, quick):
    file = trace(tmp_path, 500, 500, *[20] * 24)

    code, _, said = quick("train", *LONGER, "--trace", file, "--when-green", "--exit-on-pause", *OFTEN)

    db = store_of(tmp_path)
    assert code == 75
    [run] = db.rows("from runs")
    assert (run["status"], run["stop_reason"], run["test_accuracy"]) == ("paused", "paused", None)
    lines = (db.folder(run["run_id"]) / "wake.txt").read_text().splitlines()
    assert lines[1] == f"greenml train --resume {run['run_id'][:8]}"
    assert lines[1] in said
    done(quick("train", "--resume", run["run_id"], "--deadline", "1m"))
    done(quick("train", *LONGER))
    [run, whole] = db.rows("from runs order by started_at")
    assert (run["status"], run["test_accuracy"]) == ("done", whole["test_accuracy"])
    assert alike(weights(db, run["run_id"]), weights(db, whole["run_id"]))
