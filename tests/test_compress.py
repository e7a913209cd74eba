"""`greenml compress`, from a trained model to a smaller one that was measured."""

from __future__ import annotations

import errno
import json
import os
import pickle
from itertools import groupby, pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import DIGITS_RUN, make_end, make_phase, make_run
from PIL import Image
from torch import nn

from greenml import energy
from greenml.cli import compressing
from greenml.compress import inference, life, quantize
from greenml.compress.steps import _calibration
from greenml.energy import Meter
from greenml.energy.replay import ReplaySensor
from greenml.learn import artifact
from greenml.learn.batches import Part
from greenml.learn.models import register_model
from greenml.records import Source

CALIBRATION = "select run_id, config.compress.calibration::int as num from runs where kind = 'compress'"
FAST = ("--repeats", "5", "--batch-size", "32", "--num-threads", "1")


class Tiny(nn.Module):
    """A student with little to learn with."""

    def __init__(self, num_classes, in_chans):
        super().__init__()
        self.conv = nn.Conv2d(in_chans, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8, num_classes)

    def forward(self, images):
        return self.head(torch.relu(self.conv(images)).mean((2, 3)))


@register_model
def tiny_student(pretrained=False, **kwargs):
    return Tiny(kwargs["num_classes"], kwargs["in_chans"])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """12 W, always; repeats of a few milliseconds; what a process of its own would say of memory."""
    monkeypatch.setattr(
        energy,
        "open_meter",
        lambda run_id, **_: Meter(ReplaySensor(min_interval_s=0.001, sources={"cpu": Source.ESTIMATED}), run_id=run_id),
    )
    monkeypatch.setattr(inference, "MIN_S", 0.01)
    monkeypatch.setattr(inference, "WARM_UP_S", 0.0)
    monkeypatch.setattr(life, "memory_bytes", lambda folder, precision: 1_000_000)


def compressed(db, greenml, *arguments):
    """The run that a command leaves, and the rows that it prints."""
    code, out, err = greenml("compress", DIGITS_RUN[:6], *FAST, *arguments, "--json")
    assert code == 0, err
    rows = json.loads(out)
    [run] = db.rows("from runs where run_id = ?", [rows[0]["run_id"]])
    return run, rows


def refused(greenml, *arguments, run=DIGITS_RUN):
    code, out, err = greenml("compress", run, *FAST, *arguments)
    assert out == ""
    *_, wrong, hint = err.strip().splitlines()
    assert wrong.startswith("greenml: error: ")
    assert hint.startswith("hint: ")
    return code, wrong, hint


def folder(db, run):
    return db.path.parent / "runs" / run["run_id"]


def test_int8_leaves_a_smaller_model_its_rows_and_its_ledger(trained, greenml, tmp_path):
    run, rows = compressed(trained, greenml, "--method", "int8")

    assert (run["kind"], run["parent"], run["method"], run["status"]) == ("compress", DIGITS_RUN, "int8", "done")
    assert (run["model"], run["precision"], run["num_parameters"]) == ("cnn", "int8", 226_570)
    measured = trained.rows("from inference where run_id = ?", [run["run_id"]])
    assert {(row["name"], row["batch_size"]) for row in measured} >= {
        (name, size) for name in ("before", "after", "openvino fp32") for size in (1, 32)
    }
    assert {row["num_repeats"] for row in measured} == {5}
    assert {row["memory_bytes"] for row in measured} == {1_000_000}
    by_name = {row["name"]: row for row in measured}
    assert by_name["after"]["num_bytes"] < 0.35 * by_name["before"]["num_bytes"]
    assert abs(by_name["after"]["accuracy_difference"]) < 0.03
    assert {row["baseline"] for row in rows} == {row["name"] for row in measured} - {"after"}
    assert {file.name for file in folder(trained, run).iterdir()} >= {"model.xml", "model.bin", "model.json"}
    assert not (folder(trained, run) / "model.pt").exists()


@pytest.mark.parametrize("num", [100, 1024, 1500, 2047, 5000])
def test_calibration_sees_all_of_the_training_split(num):
    """Also where classes follow each other in it, and whatever part of it is asked for."""
    index, unused = torch.arange(0, 2 * num, 2), torch.zeros(1)
    images = torch.arange(2 * num).reshape(-1, 1, 1, 1)
    data = SimpleNamespace(train=Part(images, torch.zeros(2 * num), index, unused, unused + 1))

    seen = np.concatenate(list(_calibration(SimpleNamespace(data=data, plan=SimpleNamespace(calibration=1024)))))

    assert len(seen) == min(1024, num)
    gaps = np.diff([*seen.ravel() / 2, num])
    assert seen[0] == 0
    assert set(gaps) <= {num // len(seen), -(-num // len(seen))}


def test_fewer_images_than_calibration_asks_for_are_said_and_kept(trained, greenml):
    code, out, err = greenml("compress", DIGITS_RUN, *FAST, "--method", "int8", "--calibration", "100000", "--json")

    [(run_id, num)] = {(row["run_id"], row["num"]) for row in trained.rows(CALIBRATION)}
    assert (code, json.loads(out)[0]["run_id"]) == (0, run_id)
    assert 1024 < num < 1797
    assert f"calibrating with {num:,} images, not 100,000: there are no more" in err


def test_phases_tile_a_compression_and_its_ledger_counts_all_but_the_measuring(trained, greenml):
    run, rows = compressed(trained, greenml, "--method", "int8")

    phases = trained.rows("from phases where run_id = ? order by seq", [run["run_id"]])
    assert [phase["seq"] for phase in phases] == list(range(len(phases)))
    assert all(one["ended_at"] == two["started_at"] for one, two in pairwise(phases))
    assert {phase["name"] for phase in phases} >= {
        "setup",
        "compress",
        "calibrate",
        "export",
        "validate",
        "test",
        "infer",
    }
    began = next(phase["seq"] for phase in phases if phase["name"] == "infer")
    measuring = [
        phase for phase in phases if phase["name"] == "infer" or (phase["name"] == "record" and phase["seq"] > began)
    ]
    assert len(measuring) > sum(phase["name"] == "infer" for phase in phases)
    own = sum(phase["joules"] for phase in phases if phase not in measuring)
    assert rows[0]["compress_kwh"] == pytest.approx(own / 3.6e6)
    [parent] = trained.rows("from leaderboard where run_id = ?", [DIGITS_RUN])
    [child] = trained.rows("from leaderboard where run_id = ?", [run["run_id"]])
    whole = parent["energy_kwh"] + sum(phase["joules"] for phase in phases) / 3.6e6
    assert child["energy_kwh"] == pytest.approx(whole)
    assert child["inherited_kwh"] == pytest.approx(parent["energy_kwh"])


@pytest.mark.parametrize(
    ("arguments", "words", "precision"),
    [
        (["--method", "prune", "--sparsity", "0.5", "--epochs", "1"], "prune 0.5", "fp32"),
        (["--method", "prune-unstructured", "--epochs", "1"], "prune-unstructured 0.3", "fp32"),
        (["--method", "distill", "--student", "tiny_student", "--epochs", "1"], "distill tiny_student", "fp32"),
        (["--method", "qat", "--epochs", "1"], "qat", "int8"),
        (["--method", "dynamic"], "dynamic", "int8"),
        (["--method", "bf16"], "bf16", None),
        (["--method", "fp16"], "fp16", None),
        (["--method", "prune,int8", "--epochs", "1"], "prune 0.3, int8", "int8"),
    ],
)
def test_every_method_leaves_a_model_that_answers_as_it_was_tested(trained, greenml, arguments, words, precision):
    run, _ = compressed(trained, greenml, *arguments)

    assert run["method"] == words
    assert precision in (None, run["precision"])
    code, out, err = greenml("evaluate", run["run_id"], "--json")
    assert code == 0, err
    [told] = json.loads(out)
    assert told["correct"] == run["test_correct"]
    epochs = trained.rows("from epochs where run_id = ?", [run["run_id"]])
    assert len(epochs) == run["config"]["compress"]["epochs"].get(run["config"]["compress"]["methods"][0], 0)
    assert all(epoch["energy_j"] > 0 for epoch in epochs)


def test_a_pruned_model_is_smaller_and_zeros_are_not(trained, greenml):
    pruned, _ = compressed(trained, greenml, "--method", "prune", "--sparsity", "0.5", "--epochs", "1")
    sparse, _ = compressed(trained, greenml, "--method", "prune-unstructured", "--sparsity", "0.5", "--epochs", "1")

    assert pruned["num_parameters"] < 0.6 * 226_570
    assert sparse["num_parameters"] == 226_570
    model, _ = artifact.load(folder(trained, sparse) / "model.pt")
    weights = [one.weight for one in model.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    zeros = sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)
    assert zeros == pytest.approx(0.5, abs=0.01)  # fine-tuning has not filled them


def test_what_is_compressed_twice_inherits_from_both(trained, greenml):
    first, _ = compressed(trained, greenml, "--method", "prune", "--epochs", "1")
    code, out, err = greenml("compress", first["run_id"], *FAST, "--method", "int8", "--json")
    assert code == 0, err
    second = json.loads(out)[0]

    spent = {row["run_id"]: row["total_j"] / 3.6e6 for row in trained.rows("from run_totals")}
    assert second["train_kwh"] == pytest.approx(spent[DIGITS_RUN] + spent[first["run_id"]])
    [child] = trained.rows("from runs where run_id = ?", [second["run_id"]])
    assert child["num_parameters"] == first["num_parameters"]


def test_an_export_is_what_predict_opens(trained, greenml, tmp_path):
    run, _ = compressed(trained, greenml, "--export", "onnx")

    assert run["method"] == "onnx"
    phases = trained.rows("from phases where run_id = ? order by seq", [run["run_id"]])
    stages = [name for name, _ in groupby(phase["name"] for phase in phases)]
    assert stages.count("export") == 1  # nothing is written before it
    assert not (folder(trained, run) / "model.pt").exists()
    Image.new("L", (16, 16), 128).save(tmp_path / "grey.png")
    answers = [
        json.loads(greenml("predict", run_id, str(tmp_path / "grey.png"), "--json")[1])[0]
        for run_id in (DIGITS_RUN, run["run_id"])
    ]
    assert answers[0]["class"] == answers[1]["class"]
    assert answers[0]["probability"] == pytest.approx(answers[1]["probability"], abs=1e-4)


def test_training_goes_on_to_compression_in_one_command(db, greenml):
    code, out, err = greenml(
        "train", "cnn", "--dataset", "digits", "--epochs", "1", "--num-threads", "1", "--then", "int8", "--json"
    )

    assert code == 0, err
    assert [(row["kind"], row["method"]) for row in json.loads(out)] == [("train", None), ("compress", "int8")]


@pytest.mark.parametrize(
    ("then", "said"), [("int9", "no such method"), ("distill", "needs a student"), ("int8,prune", "last step")]
)
def test_a_chain_that_cannot_be_is_refused_before_the_training(db, greenml, then, said):
    code, _, err = greenml("train", "cnn", "--dataset", "digits", "--then", then)

    assert code == 2
    assert said in err
    assert db.rows("from runs") == []


def test_a_series_has_a_process_a_member_and_goes_on_past_what_does_not_apply(trained, greenml, monkeypatch):
    run, _ = compressed(trained, greenml, "--method", "int8")
    asked = []

    def watched(command):
        asked.append(command[3:])
        return (2, "") if "dynamic" in command else (0, json.dumps([{"run_id": run["run_id"]}]))

    arguments = ["compress", DIGITS_RUN, "--all", "--sparsity", "0.2,0.4", "--student", "tiny_student", "--tag", "x"]
    arguments += ["--epochs", "1", "--calibration=300", "--export", "onnx", "--export=openvino"]
    monkeypatch.setattr(compressing, "watched", watched)
    monkeypatch.setattr("sys.argv", ["greenml", *arguments])
    code, out, err = greenml(*arguments, width=120)

    assert code == 0, err
    methods = [words[words.index("--method") + 1] for words in asked]
    assert methods == [
        "int8", "qat", "dynamic", "bf16", "fp16", "prune", "prune", "prune-unstructured", "prune-unstructured",
        "prune,int8", "prune,int8", "distill",
    ]  # fmt: skip
    assert [words[words.index("--sparsity") + 1] for words in asked[5:7]] == ["0.2", "0.4"]
    assert [words.count("--sparsity") for words in asked] == [0] * 5 + [1] * 6 + [0]
    assert all("--json" in words and "--all" not in words for words in asked)
    assert not any("--student" in words for words in asked[:-1])
    assert "--student" in asked[-1]
    assert [words.count("--epochs") for words in asked] == [0, 1, 0, 0, 0, *[1] * 7]
    assert [words.count("--calibration=300") for words in asked] == [1, 1, *[0] * 7, 1, 1, 0]
    takes_exports = [0] * 5 + [1] * 4 + [0] * 2 + [1]
    assert [words.count("--export") for words in asked] == takes_exports
    assert [words.count("--export=openvino") for words in asked] == takes_exports
    assert all("x" in words for words in asked)
    assert "int8" in out


def test_a_series_of_which_nothing_works_fails(trained, greenml, monkeypatch):
    monkeypatch.setattr(compressing, "watched", lambda command: (2, ""))
    monkeypatch.setattr("sys.argv", ["greenml", "compress", DIGITS_RUN, "--all"])

    assert greenml("compress", DIGITS_RUN, "--all")[0] == 2


def test_who_interrupts_gets_130_and_the_run_says_so(trained, greenml, monkeypatch):
    def halt_soon(plan, meter, *, run_id, folder, halted):
        asked = iter([None, None])
        yield from compress(
            plan, meter, run_id=run_id, folder=folder, halted=lambda: next(asked, "interrupted") or halted()
        )

    compress = life.compress
    monkeypatch.setattr(life, "compress", halt_soon)

    code, _, err = greenml("compress", DIGITS_RUN, *FAST, "--method", "int8")

    assert code == 130
    assert "start it again" in err
    [run] = trained.rows("from runs where kind = 'compress'")
    assert (run["status"], run["stop_reason"], run["test_accuracy"]) == ("interrupted", "interrupted", None)
    assert trained.rows("from break_even") == []


# What is refused


def test_flags_that_contradict_each_other_are_refused(trained, greenml):
    assert refused(greenml, "--all", "--method", "int8")[0] == 2
    assert refused(greenml)[0] == 2
    assert refused(greenml, "--method", "distill", "--student", "cnn")[0] == 2
    code, wrong, hint = refused(greenml, "--method", "distill", "--student", "resnet1O")
    assert (code, "unknown model `resnet1O`" in wrong) == (2, True)
    assert "did you mean `resnet" in hint
    assert "99 images" in refused(greenml, "--method", "int8", "--calibration", "99")[1]
    assert trained.rows("from runs where kind = 'compress'") == []


def test_a_method_that_breaks_leaves_a_run_that_failed(trained, greenml, monkeypatch):
    monkeypatch.setattr(quantize, "MIN_CALIBRATION", 2_000)  # more than digits have for training

    code, wrong, _ = refused(greenml, "--method", "int8")

    assert code == 2
    assert "images are too few" in wrong
    [run] = trained.rows("from runs where kind = 'compress'")
    assert run["status"] == "failed"


def test_a_run_that_crashed_or_left_nothing_is_refused(trained, greenml):
    trained.write([make_run("c" * 12), make_end("c" * 12, status="crashed", stop_reason="crashed")])
    trained.write([make_run("e" * 12), make_end("e" * 12)])

    assert "is crashed" in refused(greenml, "--method", "int8", run="cccc")[1]
    code, wrong, _ = refused(greenml, "--method", "int8", run="eeee")
    assert code == 5
    assert "model.pt is gone" in wrong


class Evil:
    """What makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_a_file_that_was_tampered_with_is_refused_and_nothing_in_it_runs(trained, greenml, tmp_path):
    file = trained.path.parent / "runs" / DIGITS_RUN / "model.pt"
    torch.save({"format": 1, "state_dict": Evil(tmp_path / "ran")}, file)

    code, wrong, _ = refused(greenml, "--method", "int8")

    assert code == 5
    assert "more than tensors and plain values" in wrong
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Evil(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()  # where somebody unpickles it, it does run


def test_a_file_that_was_cut_off_is_refused(trained, greenml):
    file = trained.path.parent / "runs" / DIGITS_RUN / "model.pt"
    file.write_bytes(file.read_bytes()[:-1000])

    assert refused(greenml, "--method", "int8")[0] == 5


def test_data_that_changed_since_are_refused(trained, greenml, monkeypatch):
    with trained._writing(5) as con:
        con.execute("update run_rows set data_hash = 'other' where run_id = ?", [DIGITS_RUN])

    code, wrong, _ = refused(greenml, "--method", "int8")

    assert code == 5
    assert "it has changed since" in wrong


def test_a_full_disk_fails_the_run_and_leaves_no_half_of_a_model(trained, greenml, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)

    code, wrong, hint = refused(greenml, "--method", "dynamic")

    assert code == 3
    assert "No space left on device" in wrong
    assert "free some space" in hint
    [run] = trained.rows("from runs where kind = 'compress'")
    assert (run["status"], run["stop_reason"]) == ("failed", "disk")
    assert not list(folder(trained, run).glob("model*"))


def test_a_loss_that_leaves_the_numbers_fails_the_run(trained, greenml):
    code, wrong, _ = refused(greenml, "--method", "prune", "--epochs", "2", "--lr", "1e5")

    assert code == 5
    assert "diverged" in wrong
    [run] = trained.rows("from runs where kind = 'compress'")
    assert (run["status"], run["stop_reason"]) == ("failed", "nan-loss")


def test_memory_is_asked_of_a_process_of_its_own(trained, greenml, monkeypatch):
    from greenml.compress.footprint import memory_bytes

    found = memory_bytes(trained.path.parent / "runs" / DIGITS_RUN, "fp32")

    assert found is not None
    assert 900_000 < found < 500_000_000
    assert memory_bytes(trained.path.parent, "fp32") is None


def test_a_stage_that_the_meter_split_is_told_once(tmp_path, capsys):
    screen = compressing.CompressScreen(tmp_path, None, quiet=False)
    phases = ("setup", "calibrate", "calibrate", "calibrate", "train", "export")

    with screen:
        for seq, name in enumerate(phases):
            screen.show(make_phase("a" * 12, seq, name=name))
        screen.show(make_end("a" * 12))

    assert capsys.readouterr().err.splitlines() == ["calibrate  30.0 s  ~83.3 mWh", "export  10.0 s  ~27.8 mWh"]
