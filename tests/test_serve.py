"""Exported models, opened: what they answer, in which precision, and what happens to spoilt files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from greenml import serve
from greenml.compress import exporting, quantize
from greenml.errors import DataError, UsageError
from greenml.learn.models import create
from greenml.serve import runtime

SHAPE = (3, 16, 16)
DESCRIPTION = {
    "format": 1, "greenml": "0", "architecture": "cnn", "model_args": {}, "classes": list("0123456789"),
    "in_chans": 3, "image_size": 16, "mean": [127.5] * 3, "std": [50.0] * 3,
}  # fmt: skip


def noise(num, seed=0):
    return np.random.default_rng(seed).standard_normal((num, *SHAPE), dtype=np.float32)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create("cnn", num_classes=10, in_chans=3, image_size=16, model_args={})[0].eval()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """A folder with one folder each: openvino, onnx, int8."""
    folder = tmp_path_factory.mktemp("exported")
    for kind in ("openvino", "onnx"):
        exporting.export(model, kind, folder / kind, DESCRIPTION, noise(4))
    converted = quantize.int8(quantize.to_openvino(model, SHAPE), [noise(100)])
    quantize.save(converted, folder / "int8", DESCRIPTION, "int8")
    return folder


@pytest.fixture
def spoilt(exported, tmp_path):
    """A function that copies a folder and lets something happen to one of its files."""

    def spoil(kind, name, what):
        shutil.copytree(exported / kind, tmp_path / kind)
        what(tmp_path / kind / name)
        return tmp_path / kind

    return spoil


def halve(path):
    os.truncate(path, path.stat().st_size // 2)


def told_right(path):
    """The file halved, and `model.json` as if it had been written so."""
    halve(path)

    def tell(said):
        said["files"][path.name] = path.stat().st_size
        del said["sha256"]

    retell(path.with_name("model.json"), tell)


def retell(path, change):
    """`model.json`, in which something is changed."""
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


def flip(path):
    """A byte in the middle is another one: the file is as long as it was."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


# What they answer


@pytest.mark.parametrize("kind", ["openvino", "onnx"])
@pytest.mark.parametrize("num", [1, 5])
def test_it_answers_as_torch_does_for_any_number_of_images(exported, model, kind, num):
    images = noise(num, seed=num)
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).numpy()

    answered = serve.open_exported(exported / kind, num_threads=1)(images)

    np.testing.assert_allclose(answered, expected, atol=1e-5)
    assert answered.dtype == np.float32


@pytest.mark.parametrize("kind", ["openvino", "onnx"])
def test_an_answer_stays_when_the_next_one_comes(exported, kind):
    predictor = serve.open_exported(exported / kind)
    first = predictor(noise(2, seed=1))
    kept = first.copy()

    predictor(noise(2, seed=2))

    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("kind", ["openvino", "onnx"])
def test_images_may_lie_in_memory_in_any_order(exported, kind):
    """Channels-last, as the loop makes them."""
    predictor = serve.open_exported(exported / kind)
    images = noise(3)
    last = torch.from_numpy(images).to(memory_format=torch.channels_last).numpy()

    np.testing.assert_array_equal(predictor(last), predictor(images))


@pytest.mark.parametrize(("kind", "backend"), [("openvino", "openvino"), ("onnx", "onnx"), ("int8", "openvino")])
def test_it_says_what_it_is(exported, kind, backend):
    predictor = serve.open_exported(exported / kind, num_threads=1)

    assert (predictor.backend, predictor.device, predictor.num_threads) == (backend, "cpu", 1)
    assert predictor.precision == ("int8" if kind == "int8" else "fp32")
    assert predictor.description.items() >= DESCRIPTION.items()


# Precision


@pytest.mark.parametrize("asked", ["bf16", "fp16"])
def test_the_precision_is_the_one_that_this_cpu_computes_in(exported, asked):
    """A CPU without the format takes another: the name and the numbers tell the same."""
    able = runtime.core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    images = noise(8)
    exact = serve.open_exported(exported / "openvino")(images)

    predictor = serve.open_exported(exported / "openvino", precision=asked)

    assert predictor.precision in ("fp32", *(name for name in ("bf16", "fp16") if name.upper() in able))
    assert (predictor.precision == asked) or asked.upper() not in able
    assert np.array_equal(predictor(images), exact) == (predictor.precision == "fp32")


def test_int8_can_be_had_in_no_other_precision_nor_out_of_another(exported):
    with pytest.raises(UsageError, match="int8: it cannot be run in bf16"):
        serve.open_exported(exported / "int8", precision="bf16")
    with pytest.raises(UsageError, match="fp32: it cannot be run in int8"):
        serve.open_exported(exported / "openvino", precision="int8")


def test_onnx_is_run_in_fp32_alone(exported):
    with pytest.raises(UsageError, match="not in bf16"):
        serve.open_exported(exported / "onnx", precision="bf16")


# Spoilt files


@pytest.mark.parametrize(
    ("kind", "name"),
    [("openvino", "model.xml"), ("openvino", "model.bin"), ("onnx", "model.onnx"), ("openvino", "model.json")],
)
@pytest.mark.parametrize("what", [halve, os.unlink])
def test_a_truncated_or_missing_file_is_named(spoilt, kind, name, what):
    folder = spoilt(kind, name, what)

    with pytest.raises(DataError, match=rf"{name}: not a file that greenml exported: .*[^ ]") as caught:
        serve.open_exported(folder)

    assert "\n" not in str(caught.value)
    assert caught.value.hint == "export it again, or copy it again"
    assert serve.is_exported(folder)  # what is left of one


@pytest.mark.parametrize(
    ("kind", "name"), [("openvino", "model.xml"), ("openvino", "model.bin"), ("onnx", "model.onnx")]
)
def test_weights_that_changed_on_the_disk_are_refused(spoilt, kind, name):
    """Most runtimes would answer, and wrongly."""
    with pytest.raises(DataError, match=rf"{name}: not a file that greenml exported: its bytes have changed since"):
        serve.open_exported(spoilt(kind, name, flip))


@pytest.mark.parametrize("kind", ["openvino", "onnx"])
def test_an_export_from_before_files_were_hashed_is_opened(spoilt, kind):
    folder = spoilt(kind, "model.json", lambda path: retell(path, lambda said: said.pop("sha256")))

    assert serve.open_exported(folder)(noise(1)).shape == (1, 10)


@pytest.mark.parametrize(
    ("kind", "name"), [("openvino", "model.xml"), ("openvino", "model.bin"), ("onnx", "model.onnx")]
)
def test_what_the_runtime_refuses_is_told_in_one_line(spoilt, kind, name):
    """Files of the size that `model.json` tells, and spoilt all the same."""
    folder = spoilt(kind, name, told_right)

    with pytest.raises(DataError, match="not a file that greenml exported") as caught:
        serve.open_exported(folder)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"backend": "openvino"}'])
def test_a_description_that_is_none(spoilt, text):
    folder = spoilt("openvino", "model.json", lambda path: path.write_text(text))

    with pytest.raises(DataError, match=r"model\.json"):
        serve.open_exported(folder)


def test_a_backend_that_nobody_knows_is_refused(spoilt):
    def rename(path):
        path.write_text(path.read_text().replace('"openvino"', '"tarot"'))

    with pytest.raises(DataError, match="nothing here runs `tarot`"):
        serve.open_exported(spoilt("openvino", "model.json", rename))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": list("012345678")}, "it tells of classes: 9, and the model of 10"),
        ({"classes": [*"0123456789", "more"]}, "it tells of classes: 11, and the model of 10"),
        ({"classes": []}, r"its `classes` is none: \[\]"),
        ({"classes": "0123456789"}, "its `classes` is none"),
        ({"classes": list(range(10))}, "its `classes` is none"),
        ({"image_size": "16"}, 'its `image_size` is none: "16"'),
        ({"image_size": 0}, "its `image_size` is none: 0"),
        ({"image_size": True}, "its `image_size` is none: true"),
        ({"image_size": 64}, "it tells of images of 3 x 64 x 64, and the model of 3 x 16 x 16"),
        ({"in_chans": 1}, "its `mean` is none"),
        ({"in_chans": 1, "mean": [0], "std": [1]}, "it tells of images of 1 x 16 x 16, and the model of 3 x 16 x 16"),
        ({"in_chans": 2, "mean": [0, 0], "std": [1, 1]}, "its `in_chans` is none: 2"),
        ({"in_chans": None}, "its `in_chans` is none: null"),
        ({"mean": 127.5}, "its `mean` is none"),
        ({"mean": ["0", "0", "0"]}, "its `mean` is none"),
        ({"mean": [0, 0, float("nan")]}, "its `mean` is none"),
        ({"std": [1, 1, 0]}, "its `std` is none"),
        ({"precision": "fp8"}, 'its `precision` is none: "fp8"'),
        ({"precision": []}, "its `precision` is none"),
        ({"backend": []}, "nothing here runs"),
        ({"files": ["model.xml"]}, "."),
        ({"sha256": 1}, "."),
    ],
)
@pytest.mark.parametrize("kind", ["openvino", "onnx"])
def test_a_description_that_does_not_fit_its_model_is_refused(spoilt, kind, change, said):
    folder = spoilt(kind, "model.json", lambda path: retell(path, lambda told: told.update(change)))

    with pytest.raises(DataError, match=rf"model\.json: not a file that greenml exported: {said}") as caught:
        serve.open_exported(folder)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"), [({}, None), ({"image_size": 24}, "."), ({"classes": ["a"]}, "the model of 10")]
)
def test_a_model_that_leaves_sizes_open_is_asked(tmp_path, change, said):
    """What the runtime says of other images is told in one line."""
    layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 10))
    converted = quantize.to_openvino(layers, SHAPE)
    converted.reshape([-1, -1, -1, -1])
    quantize.save(converted, tmp_path, DESCRIPTION | change, "fp32")
    if not said:
        assert serve.open_exported(tmp_path)(noise(2)).shape == (2, 10)
        return

    with pytest.raises(DataError, match=rf"model\.json: .*{said}") as caught:
        serve.open_exported(tmp_path)

    assert "\n" not in str(caught.value)


def test_a_folder_without_an_export_is_not_taken_for_one(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"")

    assert not serve.is_exported(tmp_path)


# Without torch, without a word


@pytest.mark.parametrize("kind", ["openvino", "onnx"])
def test_answering_imports_neither_torch_nor_timm(exported, kind):
    code = (
        "import sys, numpy as np; from greenml import serve\n"
        "assert not {'openvino', 'onnxruntime'} & set(sys.modules)\n"
        f"answer = serve.open_exported(__import__('pathlib').Path({str(exported / kind)!r}))\n"
        "assert answer(np.zeros((1, 3, 16, 16), np.float32)).shape == (1, 10)\n"
        "print(sorted({'torch', 'timm', 'torchvision', 'nncf', 'duckdb', 'polars'} & set(sys.modules)))"
    )

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert (told.stdout.strip(), told.stderr) == ("[]", "")


@pytest.mark.skipif(os.name != "posix", reason="the other systems have no stack for signals")
@pytest.mark.parametrize("first", [0, 1])
def test_ctrl_c_comes_through_when_models_have_been_opened_and_let_go(exported, first):
    code = f"""
import os, signal
from pathlib import Path
from greenml import serve
models = [serve.open_exported(Path({str(exported)!r}) / kind) for kind in ("openvino", "int8")]
del models[{first}]
models.clear()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("told")
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout, told.stderr) == (0, "told\n", "")


def test_nothing_is_reported_to_anyone(tmp_path):
    """Importing openvino looks for www.google-analytics.com, and leaves a client's number at home."""
    code = (
        "import sys\n"
        "def watch(event, args):\n"
        "    if event.startswith(('socket.connect', 'socket.getaddrinfo')):\n"
        "        open('seen', 'a').write(f'{event} {args}\\n')\n"
        "sys.addaudithook(watch)\n"
        "import torch; from greenml.compress import quantize\n"
        "quantize.to_openvino(torch.nn.Flatten(), (3, 8, 8)); quantize._nncf()"
    )
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}

    told = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, **home}, capture_output=True, text=True
    )

    assert (told.returncode, told.stdout) == (0, ""), told.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_that_is_missing_is_named_with_its_extra(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)

    with pytest.raises(UsageError, match="OpenVINO is not here") as caught:
        serve.open_exported(exported / "openvino")

    assert "greenml[compress]" in caught.value.hint
