"""`greenml predict`: real images, a real model, and what goes wrong with either."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import DIGITS_RUN, finish, make_end, make_run
from PIL import Image
from torch import nn

from greenml.errors import DataError, UsageError
from greenml.learn import artifact, batches, data
from greenml.learn.models import register_model
from greenml.learn.serving import TorchPredictor, open_torch
from greenml.pictures import normalised, picture
from greenml.records import Artifact

TWO_CLASSES = {
    "format": 1, "greenml": "0", "architecture": "by hand", "model_args": {}, "classes": ["dark", "bright"],
    "in_chans": 3, "image_size": 8, "mean": [127.5] * 3, "std": [50.0] * 3, "precision": "fp32", "backend": "onnx",
}  # fmt: skip


@pytest.fixture
def digits(tmp_path):
    """Ten images of the test split, as files: [(path, class)]."""
    _, (_, images) = finish(data.load("digits", 16, None))
    folder = tmp_path / "the_digits"
    folder.mkdir()
    found = []
    for row in data.split(images, 0.1, 0).test[:10]:
        path = folder / f"{row:04}.png"
        Image.fromarray(images.images[row, :, :, 0]).save(path)
        found.append((path, images.classes[images.labels[row]]))
    return found


def picture_file(path, colour, size=8):
    Image.new("RGB", (size, size), colour).save(path)
    return str(path)


def model_file(db):
    return db.path.parent / "runs" / DIGITS_RUN / "model.pt"


def two_lines(error):
    lines = error.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["greenml", "hint"], error
    return lines[0].removeprefix("greenml: error: "), lines[1].removeprefix("hint: ")


# What it answers


def test_it_answers_what_the_model_that_was_trained_answers(trained, greenml, digits):
    """Through files and NumPy as through the loop that trained it."""
    code, out, err = greenml("predict", DIGITS_RUN[:4], *(str(path) for path, _ in digits), "--json", "--top", "10")

    model, told = artifact.load(model_file(trained))
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(path)))[..., None] for path, _ in digits])
    mean, std = (torch.tensor(told[key]).expand(16, 16, 1) for key in ("mean", "std"))
    part = batches.Part(pixels, torch.zeros(10), torch.arange(10), mean, std)
    [(images, _)] = batches.evaluation_batches(part, 10)
    with torch.inference_mode():
        chances = model(images).softmax(1)
    rows = json.loads(out)
    assert (code, err) == (0, "")
    assert [row["image"] for row in rows] == [str(path) for path, _ in digits]
    for row, expected in zip(rows, chances, strict=True):
        assert [one["class"] for one in row["top"]] == [told["classes"][k] for k in expected.argsort(descending=True)]
        assert [one["probability"] for one in row["top"]] == pytest.approx(
            expected.sort(descending=True).values.tolist(), abs=1e-6
        )
    assert sum(row["class"] == label for row, (_, label) in zip(rows, digits, strict=True)) >= 7


def test_a_row_has_the_image_its_class_and_the_runners_up(trained, greenml, digits):
    _, out, _ = greenml("predict", DIGITS_RUN, str(digits[0][0]), "--json", "--top", "3")

    [row] = json.loads(out)
    assert set(row) == {"image", "class", "probability", "top"}
    assert len(row["top"]) == 3
    assert row["top"][0] == {"class": row["class"], "probability": row["probability"]}
    assert 1 >= row["top"][0]["probability"] >= row["top"][1]["probability"] >= row["top"][2]["probability"] >= 0


def test_more_classes_than_there_are_is_all_of_them(trained, greenml, digits):
    _, out, _ = greenml("predict", DIGITS_RUN, str(digits[0][0]), "--json", "--top", "99")

    [row] = json.loads(out)
    assert sum(one["probability"] for one in row["top"]) == pytest.approx(1)


def test_the_table_names_an_image_once(trained, greenml, digits):
    code, out, _ = greenml("predict", DIGITS_RUN, str(digits[0][0]), "--top", "2", width=200)

    _, rule, first, second = out.rstrip().splitlines()
    assert (code, set(rule.strip())) == (0, {"─"})
    assert first.split()[0] == str(digits[0][0])
    assert len(second.split()) == 2


def test_a_folder_stands_for_its_images_by_name(trained, greenml, digits):
    folder = digits[0][0].parent
    (folder / "notes.txt").write_text("no image")
    (folder / "more").mkdir()

    code, out, _ = greenml("predict", DIGITS_RUN, str(folder), "--json")

    assert (code, [row["image"] for row in json.loads(out)]) == (0, sorted(str(path) for path, _ in digits))


def test_images_of_any_size_and_mode_are_answered(trained, greenml, tmp_path):
    files = []
    for mode, size in (("L", (5, 9)), ("RGBA", (300, 20)), ("P", (16, 16)), ("1", (40, 40)), ("CMYK", (64, 65))):
        files.append(str(tmp_path / f"{mode}.{'tiff' if mode == 'CMYK' else 'png'}"))
        Image.new(mode, size).save(files[-1])

    code, out, _ = greenml("predict", DIGITS_RUN, *files, "--json")

    assert (code, len(json.loads(out))) == (0, 5)


# Images that are none


def test_one_bad_image_keeps_no_answer_from_the_others(trained, greenml, digits):
    good, cut, gone = (path for path, _ in digits[:3])
    cut.write_bytes(cut.read_bytes()[:60])
    gone.unlink()

    code, out, err = greenml("predict", DIGITS_RUN, str(cut), str(good), str(gone), "--json")

    assert (code, [row["image"] for row in json.loads(out)]) == (5, [str(good)])
    error, hint = two_lines(err)
    assert error == f"{gone}: no such file; {cut}: not an image, or a corrupt one"
    assert hint == "all other images are answered"


@pytest.mark.parametrize("content", [b"", b"some text", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_what_is_no_image_is_two_lines(trained, greenml, tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)

    code, out, err = greenml("predict", DIGITS_RUN, str(tmp_path / "x.png"))

    assert (code, out) == (5, "")
    assert two_lines(err)[0] == f"{tmp_path / 'x.png'}: not an image, or a corrupt one"


def test_a_folder_without_images_is_two_lines(trained, greenml, tmp_path):
    (tmp_path / "empty").mkdir()

    code, _, err = greenml("predict", DIGITS_RUN, str(tmp_path / "empty"))

    assert (code, two_lines(err)[0]) == (5, f"{tmp_path / 'empty'}: no image file in this folder")


def test_of_many_bad_images_three_are_named(trained, greenml):
    code, _, err = greenml("predict", DIGITS_RUN, *"abcde")

    assert code == 5
    assert two_lines(err)[0] == "a: no such file; b: no such file; c: no such file; and 2 more"


def test_a_name_that_can_be_none_is_two_lines(trained, greenml):
    code, _, err = greenml("predict", DIGITS_RUN, "x" * 5000)

    assert (code, two_lines(err)[0].endswith("cannot be read: File name too long")) == (5, True)


def test_no_image_is_wrong_use(trained, greenml):
    code, _, err = greenml("predict", DIGITS_RUN)

    assert (code, two_lines(err)[0]) == (2, "no image given")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "AVIF", "BMP", "DDS"])
def test_whatever_is_in_a_file_it_is_an_image_or_none(kind):
    """Broken bytes end in None, not in an exception of some decoder."""
    random = np.random.default_rng(0)
    file = io.BytesIO()
    Image.fromarray(random.integers(0, 255, (24, 30, 3), dtype=np.uint8)).save(file, kind)
    whole = np.frombuffer(file.getvalue(), np.uint8)
    for number in range(200):
        broken = whole.copy()
        broken[random.integers(0, min(len(whole), 400), 8)] = random.integers(0, 256, 8)
        found = picture(broken[: len(whole) if number % 3 else random.integers(len(whole))].tobytes(), 16, 3)
        assert found is None or found.pixels.shape == (16, 16, 3)


# Models that are none


class Bomb:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (self.trace,)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_file_that_would_run_code_runs_none(trained, greenml, digits, tmp_path, how):
    bomb = Bomb(str(tmp_path / "executed"))
    if how == "torch":
        torch.save({"state_dict": bomb}, model_file(trained))
    else:
        model_file(trained).write_bytes(pickle.dumps(bomb))

    code, out, err = greenml("predict", DIGITS_RUN, str(digits[0][0]))

    assert (code, out) == (5, "")
    assert str(model_file(trained)) in two_lines(err)[0]
    assert not (tmp_path / "executed").exists()


def test_a_truncated_model_is_two_lines(trained, greenml, digits):
    whole = model_file(trained).read_bytes()
    model_file(trained).write_bytes(whole[: len(whole) // 2])

    code, _, err = greenml("predict", DIGITS_RUN, str(digits[0][0]))

    assert code == 5
    assert str(model_file(trained)) in two_lines(err)[0]


@pytest.mark.parametrize(
    "said",
    [
        {},
        *({"mean": mean} for mean in (None, 0.5, "127.5", [127.5] * 9, ["much"], [float("nan")])),
        {"mean": [127.5], "std": [0.0]},
    ],
)
def test_a_model_that_does_not_say_how_images_are_normalised_is_two_lines(trained, greenml, digits, said):
    found = artifact.read(model_file(trained))
    del found["mean"]
    found.update(said)
    torch.save(found, model_file(trained))

    code, _, err = greenml("predict", DIGITS_RUN, str(digits[0][0]))

    assert code == 5
    assert two_lines(err)[0] == f"{model_file(trained)}: it does not say how images are normalised"


def test_a_model_file_that_is_gone_is_named(trained, greenml, digits):
    name = f"runs/{DIGITS_RUN}/model.pt"
    trained.write([Artifact(run_id=DIGITS_RUN, name="model.pt", path=name, num_bytes=1)])
    model_file(trained).unlink()

    code, _, err = greenml("predict", DIGITS_RUN, str(digits[0][0]))

    assert code == 5
    assert two_lines(err)[0] == f"{model_file(trained)} is gone, and with it the model of run {DIGITS_RUN}"


@pytest.mark.parametrize(
    ("run", "end", "code", "error", "hint"),
    [
        ({"kind": "sweep"}, {}, 2, "is a sweep, and has no model", "sweep show"),
        ({"kind": "track"}, {}, 2, "is a program that was tracked", "trained itself"),
        ({}, None, 5, "is crashed, and has left no model", "greenml train --resume bbbbbbbb"),
        ({}, {"status": "failed", "stop_reason": "nan-loss"}, 5, "is failed, and has left no model", "runs list"),
    ],
)
def test_a_run_without_a_model_says_why(trained, greenml, digits, run, end, code, error, hint):
    trained.write([make_run("b" * 12, **run), *([] if end is None else [make_end("b" * 12, **end)])])

    ended, _, err = greenml("predict", "bbb", str(digits[0][0]))

    said, way = two_lines(err)
    assert (ended, said.startswith(f"run {'b' * 12} {error}")) == (code, True), said
    assert hint in way


def test_a_crashed_run_answers_with_what_it_left(trained, greenml, digits):
    """Its lock is free, and its row says that it is running."""
    trained.write([make_run("b" * 12)])
    place = trained.path.parent / "runs" / ("b" * 12)
    place.mkdir()
    (place / "model.pt").write_bytes(model_file(trained).read_bytes())

    code, out, err = greenml("predict", "bbb", str(digits[0][0]), "--json")

    assert (code, len(json.loads(out))) == (0, 1)
    assert err == f"run {'b' * 12} is crashed: this is the best model of its epochs so far\n"


def test_an_interrupted_compression_is_not_said_to_have_epochs(trained, greenml, digits):
    end = make_end("b" * 12, status="interrupted", stop_reason="interrupted")
    trained.write([make_run("b" * 12, kind="compress", method="int8", parent=DIGITS_RUN), end])
    place = trained.path.parent / "runs" / ("b" * 12)
    place.mkdir()
    (place / "model.pt").write_bytes(model_file(trained).read_bytes())

    code, _, err = greenml("predict", "bbb", str(digits[0][0]))

    said = f"run {'b' * 12} is interrupted: this is the model that it made, which was not measured to the end\n"
    assert (code, err) == (0, said)


def test_an_unknown_run_is_wrong_use(trained, greenml, digits):
    code, _, err = greenml("predict", "123", str(digits[0][0]))

    assert (code, two_lines(err)[0]) == (2, "no run starts with `123`")


# Exported models

PEEK = """
import sys
from greenml.cli import main
try:
    main(sys.argv[1:])
finally:
    print("loaded:", *sys.modules, file=sys.stderr)
"""
FORBIDDEN = {
    "torch", "torchvision", "timm", "codecarbon", "optuna", "altair", "polars", "pydantic", "sklearn", "scipy", "nncf",
    "onnx", "pandas",
}  # fmt: skip


@pytest.fixture
def exported(db):
    """A run whose model, made by hand and kept as ONNX, tells dark images from bright ones."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from greenml import serve

    db.write([make_run("c" * 12, kind="compress"), make_end("c" * 12)])
    folder = db.path.parent / "runs" / ("c" * 12)
    folder.mkdir(parents=True)
    weights = np.stack([np.full(192, -1 / 192), np.full(192, 1 / 192)]).astype(np.float32)
    value, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["images"], ["flat"]),
            onnx.helper.make_node("Gemm", ["flat", "weights"], ["logits"], transB=1),
        ],
        "brightness",
        [value("images", kind, ["N", 3, 8, 8])],
        [value("logits", kind, ["N", 2])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(
        onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 17)]),
        folder / "model.onnx",
    )
    serve.describe(folder / "model.onnx", TWO_CLASSES)
    return db


def test_an_exported_model_answers_without_torch(exported, tmp_path):
    """As a cold process: by its own arithmetic, and with nothing heavy loaded."""
    files = [picture_file(tmp_path / "black.png", "black"), picture_file(tmp_path / "white.jpg", "white", size=40)]
    command = [sys.executable, "-c", PEEK, "predict", "ccc", *files, "--json", "--store", str(exported.path)]

    done = subprocess.run(command, capture_output=True, text=True)

    loaded = {name.partition(".")[0] for name in done.stderr.partition("loaded:")[2].split()}
    assert done.returncode == 0, done.stderr
    assert loaded & FORBIDDEN == set()
    dark, bright = json.loads(done.stdout)
    expected = 1 / (1 + np.exp(-2 * 127.5 / 50))
    assert (dark["class"], bright["class"]) == ("dark", "bright")
    assert [dark["probability"], bright["probability"]] == pytest.approx([expected, expected], rel=1e-4)


def test_an_exported_model_that_is_cut_off_is_two_lines(exported, greenml, tmp_path):
    file = exported.path.parent / "runs" / ("c" * 12) / "model.onnx"
    file.write_bytes(file.read_bytes()[:-20])

    code, _, err = greenml("predict", "ccc", picture_file(tmp_path / "black.png", "black"))

    assert (code, str(file) in two_lines(err)[0]) == (5, True)


# PyTorch


def test_images_are_normalised_to_the_bit_as_in_training():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    labels, every = np.zeros(5, dtype=np.int64), np.arange(5)
    [part], norm = batches.parts(images, labels, [every], torch.device("cpu"))

    [(expected, _)] = batches.evaluation_batches(part, 5)

    assert np.array_equal(normalised(images, norm.mean, norm.std), expected.numpy())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_narrow_numbers_answer_alike_and_leave_the_model_as_it_was(trained, precision):
    model, told = artifact.load(model_file(trained))
    images = np.random.default_rng(0).standard_normal((4, 1, 16, 16), dtype=np.float32)

    wide, narrow = (TorchPredictor(model, told, "cpu", name)(images) for name in ("fp32", precision))

    assert narrow.dtype == np.float32
    assert not np.array_equal(narrow, wide)
    assert np.allclose(narrow, wide, atol=0.05 * np.abs(wide).max())
    assert all(weights.dtype == torch.float32 for weights in model.parameters())


def test_what_a_predictor_says_of_itself(trained):
    predictor = open_torch(model_file(trained), "cpu")

    assert (predictor.backend, predictor.precision, predictor.device) == ("torch", "fp32", "cpu")
    assert predictor.num_threads == torch.get_num_threads()
    assert predictor.description["classes"] == [str(digit) for digit in range(10)]
    assert (predictor.description["precision"], predictor.description["backend"]) == ("fp32", "torch")


@register_model
def stubborn(pretrained=False, **kwargs):
    """It adds what is always fp32, and so computes in nothing else."""

    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(64, 2)

        def forward(self, images):
            return self.head(images.flatten(1) + torch.zeros(64))

    return Stubborn()


def test_a_model_that_does_not_compute_in_bf16_is_refused_with_the_reason():
    told = {"architecture": "stubborn", "in_chans": 1, "image_size": 8}

    with pytest.raises(UsageError, match=r"stubborn does not compute in bf16 on cpu: .*dtype"):
        TorchPredictor(stubborn(), told, "cpu", "bf16")


def test_a_file_that_is_gone_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"model\.pt"):
        open_torch(tmp_path / "model.pt", "cpu")
