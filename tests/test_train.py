"""The installed `greenml train`, with the real meter: what people run, what they get, what goes wrong."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import time
from itertools import pairwise

import pytest
import torch
from conftest import GREENML, environment, installed

from greenml.store import Store


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One short run, asked for as people would."""
    folder = tmp_path_factory.mktemp("trained")
    done = installed(
        folder, "train", "cnn", "--dataset", "digits", "--fp16", "--epochs", "3", "--batch_size", "64",
        "--region", "IN-TN", "--name", "first [bold]", "--tag", "a", "--tag", "b",
    )  # fmt: skip
    store = Store(folder / "store" / "greenml.duckdb")
    [row] = store.rows("select * from leaderboard")
    return done, store, row, folder / "store" / "runs" / row["run_id"]


def test_it_says_what_it_does_and_how_it_knows(trained):
    done, _, row, _ = trained

    assert "IN-TN: no state factor; India, 713 g/kWh, 2023" in done.stderr
    assert "precision: fp16 asked" in done.stderr
    assert "CPU estimated" in done.stderr or "CPU measured" in done.stderr
    assert done.stderr.count("epoch ") >= 3
    assert "% test" in done.stdout
    assert "estimated" in done.stdout
    assert row["name"] == "first [bold]"
    assert row["tags"] == ["a", "b"]


def test_it_is_ranked_and_it_learned(trained):
    _, _, row, _ = trained

    assert row["status"] == "done"
    assert row["accuracy"] > 0.6
    assert (row["rank"], row["unranked"]) == (1, None)
    assert row["acc_per_kwh"] == pytest.approx(100 * row["accuracy"] / row["energy_kwh"])


def test_its_energy_adds_up_to_the_last_joule(trained):
    _, store, row, _ = trained

    [sums] = store.rows(
        """
        select
            (select sum(joules) from phases where run_id = $1) as phases_j,
            (select total_j from run_totals where run_id = $1) as total_j,
            (select kwh(total_j) from run_totals where run_id = $1) as kwh,
            (select max(energy_total_j) from epochs where run_id = $1) as until_last_epoch_j,
            (
                select sum(joules) from phases
                where run_id = $1 and seq <= (
                    select max(seq) from phases where run_id = $1 and epoch = 3 and name != 'record'
                )
            ) as phases_until_last_epoch_j,
            (select sum(energy_j) from epochs where run_id = $1) as epochs_j,
            (
                select sum(joules) from phases where run_id = $1 and name in ('train', 'validate', 'checkpoint')
            ) as learning_j
        """,
        [row["run_id"]],
    )

    assert sums["phases_j"] == pytest.approx(sums["total_j"], rel=1e-12)
    assert row["energy_kwh"] == pytest.approx(sums["kwh"], rel=1e-12)
    assert sums["until_last_epoch_j"] == pytest.approx(sums["phases_until_last_epoch_j"], rel=1e-12)
    assert sums["epochs_j"] == pytest.approx(sums["learning_j"], rel=1e-12)
    assert row["co2_g"] == pytest.approx(sums["total_j"] / 3.6e6 * 713.441, rel=1e-9)


def test_its_phases_tile_its_time(trained):
    _, store, row, _ = trained
    phases = store.rows("select * from phases where run_id = ? order by seq", [row["run_id"]])

    assert phases[0]["started_at"] == row["started_at"]
    assert phases[-1]["ended_at"] == row["ended_at"]
    assert all(a["ended_at"] == b["started_at"] for a, b in pairwise(phases))


def test_it_asked_no_network(trained):
    _, store, *_ = trained

    assert not (store.path.parent.parent / "site" / "asked").exists()


def test_it_leaves_its_files(trained):
    _, store, row, folder = trained

    names = [
        "checkpoint.pt",
        "config.yaml",
        "curves.png",
        "epochs.csv",
        "epochs.json",
        "model.pt",
        "run.log",
        "summary.json",
    ]
    assert sorted(file.name for file in folder.iterdir() if file.name != "lock") == names
    assert [file["path"] for file in store.rows("from artifacts order by name")] == [
        f"runs/{row['run_id']}/{name}" for name in names
    ]
    with (folder / "epochs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(one["epoch"]) for one in rows] == [1, 2, 3]
    assert [one["epoch"] for one in json.loads((folder / "epochs.json").read_text())] == [1, 2, 3]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["accuracy"] == row["accuracy"]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "epoch 3/3" in (folder / "run.log").read_text()


def test_it_renews_the_board_beside_the_store(trained):
    _, store, row, _ = trained

    with (store.path.parent / "leaderboard.csv").open() as file:
        assert [one["run_id"] for one in csv.DictReader(file)] == [row["run_id"]]
    assert (store.path.parent / "leaderboard.png").read_bytes().startswith(b"\x89PNG")


def test_its_model_loads_with_weights_only(trained):
    *_, folder = trained

    found = torch.load(folder / "model.pt", weights_only=True)

    assert (found["architecture"], found["image_size"], len(found["classes"])) == ("cnn", 16, 10)
    assert found["state_dict"]["head.weight"].shape == (10, 256)


def test_its_config_repeats_it_and_json_is_one_array(trained, here):
    _, _, row, folder = trained

    _, out, err = here("train", "--config", str(folder / "config.yaml"), "--json", "--quiet")

    [again] = json.loads(out)
    assert err == ""
    assert again["run_id"] != row["run_id"]
    assert (again["accuracy"], again["val_accuracy"]) == (row["accuracy"], row["val_accuracy"])


def test_a_dry_run_resolves_everything_and_stores_nothing(tmp_path, here):
    _, out, _ = here("train", "cnn", "--dataset", "digits", "--dry-run", "--json")

    [plan] = json.loads(out)
    assert (plan["lr"], plan["image_size"], plan["num_parameters"]) == (0.002, 16, 226_570)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["train"], 2, "no model given", "greenml train cnn"),
        (["train", "cnnn"], 2, "unknown model `cnnn`", "`cnn`"),
        (["train", "cnn", "--epochs", "0"], 2, "--epochs", "default is 20"),
        (["train", "cnn", "--epoch", "3"], 2, "--epoch", "`--epochs`"),
        (["train", "cnn", "--lr", "nan"], 2, "--lr", "--help"),
        (["train", "cnn", "--fp16", "--bf16"], 2, "two precisions", "one of"),
        (["train", "cnn", "--region", "XX-YY"], 2, "XX-YY", "IN"),
        (["train", "cnn", "--dataset", "digit"], 2, "unknown dataset", "`digits`"),
        (["train", "cnn", "--dataset", "folder:nowhere"], 5, "no such folder", "folder:PATH"),
        (["train", "cnn", "--dataset", "hf:mnist"], 2, "names no data set", "hf:OWNER/NAME"),
        (["train", "cnn", "--model-arg", "x"], 2, "not KEY=VALUE", "drop_rate=0.2"),
        (["train", "cnn", "--store", "."], 3, "is a folder", "--store"),
        (["train", "cnn", "--config", "none.yaml"], 2, "no such config", "yaml"),
        (["train", "cnn", "--dataset", "digits", "--batch-size", "5000"], 2, "more than the 1295", "--batch-size"),
    ],
)
def test_bad_input_gets_two_lines_and_leaves_nothing(tmp_path, here, arguments, code, message, hint):
    ended, _, err = here(*arguments, "--quiet")

    assert ended == code, err
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("greenml: error: ")
    assert message in lines[0]
    assert lines[1].startswith("hint: ")
    assert hint in lines[1]
    assert not list((tmp_path / "store").glob("runs/*"))


def start(folder, *arguments):
    return subprocess.Popen(
        [GREENML, "train", *arguments], cwd=folder, env=environment(folder), stderr=subprocess.PIPE, text=True
    )


def wait_for(process, words):
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it ended without saying {words!r}")


def weights(store, run_id, name="checkpoint.pt", part="averaged"):
    return torch.load(store.path.parent / "runs" / run_id / name, weights_only=True)[part]


def test_interrupted_and_uninterrupted_runs_end_in_the_same_tensors(tmp_path):
    """Ctrl-C, then SIGTERM, then kill -9: each time it is taken up again, and nothing is counted twice or lost."""
    how = ["cnn", "--dataset", "digits", "--batch-size", "32"]
    process = start(tmp_path, *how, "--epochs", "100000")
    store = Store(tmp_path / "store" / "greenml.duckdb")
    last = 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        wait_for(process, f"epoch {last:>6}/100000")
        process.send_signal(number)
        _, said = process.communicate(timeout=240)
        [row] = store.rows("from leaderboard")
        assert row["status"] == ("crashed" if number == signal.SIGKILL else "interrupted")
        assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130), said
        last = row["epochs"] + 2
        if number != signal.SIGKILL:
            process = start(tmp_path, "--resume", row["run_id"][:6], "--epochs", "100000")
    installed(tmp_path, "train", "--resume", row["run_id"], "--epochs", str(last))
    installed(tmp_path, "train", *how, "--epochs", str(last), "--name", "whole", "--quiet")

    [cut, whole] = store.rows("from leaderboard order by started_at")
    assert (cut["status"], cut["epochs"], cut["accuracy"]) == ("done", last, whole["accuracy"])
    for name, part in (("model.pt", "state_dict"), ("checkpoint.pt", "model"), ("checkpoint.pt", "averaged")):
        one, other = (weights(store, row["run_id"], name, part) for row in (cut, whole))
        assert all(torch.equal(one[key], other[key]) for key in one), (name, part)

    losses = [
        [(row["epoch"], row["train_loss"], row["val_loss"]) for row in store.rows(sql, [run["run_id"]])]
        for sql in ["select epoch, train_loss, val_loss from epochs where run_id = ? order by epoch"]
        for run in (cut, whole)
    ]
    assert losses[0] == losses[1]
    phases = store.rows("from phases where run_id = ? order by segment, seq", [cut["run_id"]])
    assert {phase["segment"] for phase in phases} == {0, 1, 2, 3}
    assert [phase["segment"] for phase in phases if phase["name"] == "lost"] == [2]
    assert all(a["ended_at"] == b["started_at"] for a, b in pairwise(phases) if a["segment"] == b["segment"])
    [total] = store.rows("from run_totals where run_id = ?", [cut["run_id"]])
    known = sum(phase["joules"] for phase in phases if phase["joules"] is not None)
    assert total["known_j"] == pytest.approx(known, rel=1e-12)
    assert (total["total_j"], cut["unranked"]) == (None, "energy partly unknown")  # what was lost, nobody knows
    assert len(store.rows("from resumes")) == 3


def test_a_training_that_is_stopped_before_it_begins_leaves_nothing(tmp_path):
    process = start(tmp_path, "cnn", "--dataset", "digits", "--epochs", "10000")
    wait_for(process, "run ")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=240)

    assert process.returncode == 130
    assert "Traceback" not in said
    assert not list((tmp_path / "store" / "runs").iterdir())


def test_resume_takes_only_rules_that_stop(trained, here, monkeypatch):
    _, store, row, _ = trained
    monkeypatch.setenv("GREENML_STORE", str(store.path))

    for arguments, message, hint in (
        (["--lr", "0.1"], "--lr would change it", "--epochs, --early-stop"),
        (["--seed", "1"], "--seed would change it", "new run"),
        (["--dry-run"], "--dry-run", "leave it out"),
        ([], "is done: 3 epochs", "--epochs with a larger number"),
        (["--epochs", "9", "--target-acc", "0.01"], "ended by target-acc", "--target-acc"),
        (["--epochs", "9", "--time-budget", "1s"], "ended by time-budget", "--time-budget"),
    ):
        code, _, err = here("train", "--resume", row["run_id"], *arguments)
        assert code == 2, err
        first, second = err.splitlines()
        assert message in first
        assert hint in second


def test_a_finished_run_goes_on_when_it_is_given_more_epochs(tmp_path, here):
    here("train", "cnn", "--dataset", "digits", "--epochs", "1", "--quiet")
    store = Store(tmp_path / "store" / "greenml.duckdb")
    [before] = store.rows("from leaderboard")
    code, _, err = here("train", "--resume", before["run_id"], "--epochs", "3", "--quiet")

    [row] = store.rows("from leaderboard")
    assert (code, row["epochs"], row["status"], row["rank"]) == (0, 3, "done", 1), err
    assert row["energy_kwh"] > before["energy_kwh"]
    assert store.rows("select epochs_asked from runs") == [{"epochs_asked": 3}]


def test_a_budget_is_no_failure(tmp_path, here):
    code, out, err = here("train", "cnn", "--dataset", "digits", "--epochs", "500", "--energy-budget", "1J", "--json")

    [row] = json.loads(out)
    assert err.count("greenml recommend: ") == 1
    assert (code, row["status"], row["stop_reason"], row["epochs"]) == (0, "done", "energy-budget", 1)
    assert row["accuracy"] is not None


def test_a_diverged_run_leaves_its_files_and_is_not_resumed(tmp_path, here):
    code, _, err = here("train", "cnn", "--dataset", "digits", "--optimizer", "sgd", "--lr", "100000", "--quiet")

    assert code == 5
    assert err.splitlines()[-2].startswith("greenml: error: ")
    [row] = Store(tmp_path / "store" / "greenml.duckdb").rows("from leaderboard")
    assert (row["status"], row["stop_reason"]) == ("failed", "nan-loss")
    assert (tmp_path / "store" / "runs" / row["run_id"] / "summary.json").exists()
    assert here("train", "--resume", row["run_id"])[0] == 2


def test_repeats_are_a_run_a_seed_and_one_group(tmp_path):
    done = installed(
        tmp_path,
        "train",
        "cnn",
        "--dataset",
        "digits",
        "--epochs",
        "1",
        "--seed=4",
        "--repeats",
        "2",
        "--json",
    )

    rows = json.loads(done.stdout)
    assert done.stderr.count("greenml recommend: ") == 1
    assert [row["seed"] for row in rows] == [4, 5]
    assert len({row["group_hash"] for row in rows}) == 1
    commands = Store(tmp_path / "store" / "greenml.duckdb").rows("select command from runs order by seed")
    assert commands[1]["command"].endswith("train --json --seed 5 cnn --dataset digits --epochs 1 --json")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_repeats_pass_on_what_stops_them(tmp_path, number):
    """The run at work leaves its checkpoint, and none comes after it."""
    process = start(tmp_path, "cnn", "--dataset", "digits", "--epochs", "100000", "--repeats", "2")
    wait_for(process, "epoch      2/100000")
    process.send_signal(number)
    _, said = process.communicate(timeout=240)

    assert process.returncode == 130, said
    [row] = Store(tmp_path / "store" / "greenml.duckdb").rows("from leaderboard")
    assert row["status"] == "interrupted"
    assert (tmp_path / "store" / "runs" / row["run_id"] / "checkpoint.pt").exists()


@pytest.mark.gpu
def test_a_gpu_trains_in_fp16_and_is_measured(tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")
    installed(tmp_path, "train", "cnn", "--dataset", "digits", "--fp16", "--device", "cuda", "--epochs", "3")

    store = Store(tmp_path / "store" / "greenml.duckdb")
    [row] = store.rows("select * from leaderboard join run_totals using (run_id)")
    assert (row["precision"], row["device"]) == ("fp16", "cuda")
    assert row["gpu_source"] in ("measured", "apportioned")
    assert row["gpu_kwh"] > 0
    assert row["accuracy"] > 0.6


def test_two_at_once_share_a_store_and_a_killed_one_shows_as_crashed(tmp_path):
    """Both see the whole machine, so neither is ranked; the board works meanwhile."""
    killed = start(tmp_path, "cnn", "--dataset", "digits", "--epochs", "10000")
    wait_for(killed, "epoch     1/10000")
    other = start(tmp_path, "cnn", "--dataset", "digits", "--epochs", "2", "--seed", "1")
    deadline = time.monotonic() + 240
    while installed(tmp_path, "board", "--all", "--json").stdout.count('"running"') < 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    _, said = other.communicate(timeout=240)
    killed.kill()
    killed.communicate()

    assert other.returncode == 0, said
    rows = json.loads(installed(tmp_path, "board", "--all", "--json").stdout)
    by_status = {row["status"]: row for row in rows}
    assert set(by_status) == {"done", "crashed"}
    assert by_status["done"]["unranked"] == "shared the machine with another metered run"
    assert by_status["done"]["overlap_s"] > 0
    assert by_status["crashed"]["epochs"] > 1
