"""`greenml evaluate`: what it counts is what the run counted, and it says which data it is about."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
from conftest import DIGITS_RUN, finish, make_end, records
from scipy.stats import binomtest

from greenml.cli.evaluate import wilson
from greenml.learn import artifact, data
from greenml.learn.data import Images, register_dataset
from greenml.records import Run

KEYS = {
    "run_id", "model", "dataset", "split", "accuracy", "accuracy_low", "accuracy_high", "correct", "count", "loss",
    "duration_s", "throughput", "batch_size", "backend", "precision", "device", "num_threads", "data_hash",
    "split_hash",
}  # fmt: skip


@register_dataset("digits-backwards", usage="digits-backwards")
def digits_backwards(asked):
    """The same images; the classes are listed the other way round."""
    _, (_, found) = finish(data.load("digits", asked.image_size, None))
    yield from ()
    return dataclasses.replace(found, labels=9 - found.labels, classes=found.classes[::-1], data_hash="backwards")


@register_dataset("digits-in-words", usage="digits-in-words")
def digits_in_words(asked):
    """The same images; the classes have other names."""
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    _, (_, found) = finish(data.load("digits", asked.image_size, None))
    yield from ()
    return dataclasses.replace(found, classes=words, data_hash="words")


@register_dataset("noise", usage="noise:CLASSES,CHANNELS")
def noise(asked):
    num_classes, channels = map(int, asked.argument.split(","))
    size = asked.image_size or 16
    yield from ()
    return Images(
        images=np.zeros((30 * num_classes, size, size, channels), np.uint8),
        labels=np.repeat(np.arange(num_classes), 30),
        num_train=30 * num_classes,
        classes=[str(k) for k in range(num_classes)],
        data_hash="noise",
        resize="none",
        augment="none",
    )


def evaluated(greenml, *arguments):
    code, out, err = greenml("evaluate", DIGITS_RUN[:5], *arguments, "--json")
    assert code == 0, err
    [row] = json.loads(out)
    return row, err


def two_lines(error):
    lines = error.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["greenml", "hint"], error
    return lines[0].removeprefix("greenml: error: "), lines[1].removeprefix("hint: ")


def test_it_counts_what_the_run_counted(trained, greenml):
    """The same images, the same weights: the test at the end of the training, to the image."""
    row, err = evaluated(greenml)

    [run] = trained.rows("from runs where run_id = ?", [DIGITS_RUN])
    assert set(row) == KEYS
    assert (row["correct"], row["count"]) == (run["test_correct"], run["test_count"])
    assert row["accuracy"] == pytest.approx(run["test_accuracy"])
    assert row["loss"] == pytest.approx(run["test_loss"], rel=1e-4)
    assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]
    assert (row["run_id"], row["dataset"], row["split"], row["backend"]) == (DIGITS_RUN, "digits", "test", "torch")
    assert row["throughput"] == pytest.approx(row["count"] / row["duration_s"])
    assert err == ""


def test_the_validation_split_is_the_one_that_chose_the_model(trained, greenml):
    row, _ = evaluated(greenml, "--split", "val", "--batch-size", "7")

    [run] = trained.rows("from runs where run_id = ?", [DIGITS_RUN])
    assert (row["count"], row["accuracy"]) == (run["num_val"], pytest.approx(run["val_accuracy"]))


def test_nothing_is_stored(trained, greenml):
    before = list(records(trained))
    evaluated(greenml, "--split", "train")

    assert list(records(trained)) == before


def test_on_screen_it_says_what_was_right_and_within_what(trained, greenml):
    code, out, _ = greenml("evaluate", DIGITS_RUN, width=120)

    [run] = trained.rows("from runs where run_id = ?", [DIGITS_RUN])
    assert code == 0
    assert f"{run['test_correct']} of {run['test_count']}; 95 %: " in out
    assert "digits, test split" in out
    assert "predictions/s" in out


@pytest.mark.parametrize(("correct", "count"), [(0, 10), (10, 10), (347, 360), (1, 3), (9_417, 10_000)])
def test_the_interval_is_wilsons(correct, count):
    known = binomtest(correct, count).proportion_ci(method="wilson")

    assert wilson(correct, count) == pytest.approx((known.low, known.high), abs=1e-6)


def test_classes_in_another_order_are_told_by_their_names(trained, greenml):
    row, err = evaluated(greenml, "--dataset", "digits-backwards", "--split", "val")
    own, _ = evaluated(greenml, "--split", "val")

    assert (row["count"], err) == (own["count"], "")
    assert row["accuracy"] == pytest.approx(own["accuracy"], abs=0.05)  # another tenth of the images validates


def test_classes_of_other_names_are_said(trained, greenml):
    row, err = evaluated(greenml, "--dataset", "digits-in-words")
    own, _ = evaluated(greenml)

    assert row["correct"] == own["correct"]
    assert "zero, one, two, three, four, ...; the model's: 0, 1, 2, 3, 4, ..." in err


@pytest.mark.parametrize(
    ("other", "error"),
    [
        ("noise:2,1", "noise:2,1 has 2 classes, and the model knows 10"),
        ("noise:10,3", "noise:10,3 has images of 3 channels (3: coloured, 1: grey), and the model takes 1"),
    ],
)
def test_data_that_the_model_cannot_answer_for_are_wrong_use(trained, greenml, other, error):
    code, out, err = greenml("evaluate", DIGITS_RUN, "--dataset", other)

    assert (code, out, two_lines(err)[0]) == (2, "", error)


@pytest.mark.parametrize("changed", [{"data_hash": "other"}, {"split_seed": 7}])
def test_data_that_have_changed_are_an_error_unless_they_are_asked_for(trained, greenml, changed):
    """A run that was trained on data that are no longer there, or split otherwise than it says."""
    [run] = [record for record in records(trained) if isinstance(record, Run)]
    config = run.config | ({"split_seed": 7} if "split_seed" in changed else {})
    trained.write([dataclasses.replace(run, run_id="b" * 12, config=config, **changed), make_end("b" * 12)])
    shutil.copytree(trained.path.parent / "runs" / DIGITS_RUN, trained.path.parent / "runs" / ("b" * 12))

    code, out, err = greenml("evaluate", "bbb")
    asked, _, _ = greenml("evaluate", "bbb", "--dataset", "digits")

    error, hint = two_lines(err)
    assert (code, out, asked) == (5, "", 0)
    assert error == f"digits is not what run {'b' * 12} was trained on: it has changed since"
    assert "--dataset digits" in hint


def test_a_split_that_is_none_is_wrong_use(trained, greenml):
    code, _, err = greenml("evaluate", DIGITS_RUN, "--split", "tests")

    assert (code, two_lines(err)) == (2, ("--split tests: no such part of the data", "did you mean `test`?"))


def test_a_run_without_a_model_is_said_before_any_data_are_read(trained, greenml):
    (trained.path.parent / "runs" / DIGITS_RUN / "model.pt").unlink()

    code, _, err = greenml("evaluate", DIGITS_RUN, "--dataset", "no-such-data")

    assert (code, "has left no model" in two_lines(err)[0]) == (5, True)


def test_an_exported_model_is_asked_where_there_is_one(trained, greenml):
    """What `predict` would open: here one made by hand, which always says nine."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from greenml import serve

    folder = trained.path.parent / "runs" / DIGITS_RUN
    told = artifact.read(folder / "model.pt")
    del told["state_dict"]
    value, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    weights, bias = np.zeros((10, 256), np.float32), np.eye(10, dtype=np.float32)[9]
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["images"], ["flat"]),
            onnx.helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"], transB=1),
        ],
        "nine",
        [value("images", kind, ["N", 1, 16, 16])],
        [value("logits", kind, ["N", 10])],
        [onnx.numpy_helper.from_array(weights, "weights"), onnx.numpy_helper.from_array(bias, "bias")],
    )
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 17)])
    onnx.save(model, folder / "model.onnx")
    serve.describe(folder / "model.onnx", told | {"precision": "fp32"})

    row, _ = evaluated(greenml)

    _, (_, images) = finish(data.load("digits", 16, None))
    nines = int((images.labels[data.split(images, 0.1, 0).test] == 9).sum())
    assert (row["backend"], row["device"], row["correct"]) == ("onnx", "cpu", nines)
    assert row["loss"] == pytest.approx(np.log(9 + np.e) - nines / row["count"], rel=1e-6)
