"""Models for OpenVINO, int8 after training and while fine-tuning, and exports that are checked."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from conftest import finish
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from greenml import serve
from greenml.compress import exporting, quantize
from greenml.compress.rounding import Rounding
from greenml.config import Config
from greenml.errors import StoreError, UsageError
from greenml.learn.batches import Part
from greenml.learn.loop import Learner
from greenml.learn.models import create

SHAPE = (1, 8, 8)
DESCRIPTION = {
    "format": 1, "greenml": "0", "architecture": "cnn", "model_args": {}, "classes": list("0123456789"),
    "in_chans": 1, "image_size": 8, "mean": [0.0], "std": [1.0],
}  # fmt: skip


class Unheard(nn.Module):
    """An operation that no runtime but torch has."""

    def forward(self, images):
        return torch.special.bessel_j0(images).flatten(1)[:, :10]


class Deciding(nn.Module):
    """Two images are negated, three are not."""

    def forward(self, images):
        return (-images if images.shape[0] == 2 else images).flatten(1)[:, :10]


@pytest.fixture(scope="module")
def digits():
    """Normalised images [N, 1, 8, 8] and labels [N], as NumPy's."""
    pixels, labels = load_digits(return_X_y=True)
    return ((pixels.reshape(-1, *SHAPE) - 4.9) / 6).astype(np.float32), labels.astype(np.int64)


@pytest.fixture(scope="module")
def trained(digits):
    """A cnn that knows the first 1,500 digits."""
    torch.manual_seed(0)
    model, _ = create("cnn", num_classes=10, in_chans=1, image_size=8, model_args={})
    images, labels = (torch.from_numpy(one[:1500]) for one in digits)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(4):
        for rows in torch.randperm(1500).split(64):
            F.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.eval()


def answers(model, images):
    with torch.inference_mode():
        return model(torch.from_numpy(images)).numpy()


def num_bytes(folder):
    return sum(file.stat().st_size for file in folder.iterdir())


def part(digits, first, last):
    images, labels = digits
    flat = torch.ones(8, 8, 1)
    pixels = torch.from_numpy((images * 6 + 4.9).round().astype(np.uint8)).permute(0, 2, 3, 1).contiguous()
    return Part(pixels, torch.from_numpy(labels), torch.arange(first, last), flat * 4.9, flat * 6)


# int8


def test_int8_is_a_third_of_the_size_and_puts_nearly_all_images_into_the_same_class(trained, digits, tmp_path):
    images, _ = digits
    converted = quantize.to_openvino(trained, SHAPE)
    quantize.save(converted, tmp_path / "fp32", DESCRIPTION, "fp32")

    quantize.save(quantize.int8(converted, [images[:64], images[64:300]]), tmp_path / "int8", DESCRIPTION, "int8")

    predictor = serve.open_exported(tmp_path / "int8")
    same = predictor(images[1500:]).argmax(1) == answers(trained, images[1500:]).argmax(1)
    assert same.mean() > 0.97
    assert num_bytes(tmp_path / "int8") < 0.4 * num_bytes(tmp_path / "fp32")
    assert predictor.precision == "int8"


def test_convolutions_are_quantised_not_only_linear_layers(trained, digits):
    quantized = quantize.int8(quantize.to_openvino(trained, SHAPE), [digits[0][:100]])

    convolutions = [node for node in quantized.get_ops() if node.get_type_name() == "Convolution"]
    rounded = [
        node
        for node in convolutions
        if "FakeQuantize" in {node.input_value(0).get_node().get_type_name(), before(node, 2)}
    ]
    assert len(convolutions) == len(rounded) == 3


def before(node, steps):
    for _ in range(steps):
        node = node.input_value(0).get_node()
    return node.get_type_name()


def test_attention_is_told_from_convolution():
    models = [
        create(name, num_classes=10, in_chans=1, image_size=16, model_args=args)[0]
        for name, args in (("vit_tiny_patch16_224", {"patch_size": 8, "depth": 1}), ("cnn", {}))
    ]

    assert [quantize._has_attention(model) for model in models] == [True, False]
    assert [quantize._attends(quantize.to_openvino(model, (1, 16, 16))) for model in models] == [True, False]


@pytest.mark.parametrize("num", [0, 99])
def test_a_calibration_set_that_is_too_small_is_refused(trained, digits, num):
    images = digits[0][:num]

    for refused in (
        lambda: quantize.int8(quantize.to_openvino(trained, SHAPE), [images]),
        lambda: quantize.prepare_qat(trained, [images]),
    ):
        with pytest.raises(UsageError, match=f"{num} images are too few to calibrate with") as caught:
            refused()
        assert "bf16" in caught.value.hint


def test_the_batches_of_calibration_may_have_any_size(digits):
    sizes = [len(group) for group in quantize._groups(digits[0][:128][i : i + 64] for i in (0, 64))]

    assert sum(sizes) == 128
    assert max(sizes) == quantize.GROUP


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_halves_the_file(trained, tmp_path, precision):
    converted = quantize.to_openvino(trained, SHAPE)
    for name in ("fp32", precision):
        quantize.save(converted, tmp_path / name, DESCRIPTION, name)

    sizes = [(tmp_path / name / "model.bin").stat().st_size for name in (precision, "fp32")]
    assert sizes[0] / sizes[1] == pytest.approx(0.5, abs=0.01)
    assert json.loads((tmp_path / precision / "model.json").read_text())["precision"] == precision


def test_what_openvino_lacks_is_named_with_a_way_out():
    with pytest.raises(UsageError, match=r"OpenVINO cannot run this model: .*bessel_j0") as caught:
        quantize.to_openvino(Unheard(), SHAPE)

    assert "\n" not in str(caught.value)
    assert "--method prune" in caught.value.hint


def test_a_model_that_decides_by_its_input_is_refused():
    """Conversion follows one image: what others would have gone through is not in it."""
    with pytest.raises(UsageError, match="the model in OpenVINO answers otherwise than PyTorch"):
        quantize.to_openvino(Deciding(), SHAPE)


def test_converting_leaves_the_model_as_it_was(trained):
    model = copy.deepcopy(trained).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    quantize.to_openvino(model, SHAPE)

    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_full_disk_leaves_no_file(trained, tmp_path):
    """A limit on the size of a file stands in for it: both let a write fail in the middle."""
    resource = pytest.importorskip("resource", reason="this system has no limit on the size of a file")
    converted = quantize.to_openvino(trained, SHAPE)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StoreError, match=r"model\.xml cannot be written"):
            quantize.save(converted, tmp_path / "run", DESCRIPTION, "fp32")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert list((tmp_path / "run").iterdir()) == []


# Fine-tuning with int8 in the forward pass


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_was_fine_tuned_with_rounding_is_int8_and_answers_the_same(trained, digits, tmp_path, precision):
    """The moving average of the loop, converted, against itself in torch."""
    images, _ = digits
    config = Config(
        model="cnn", lr=3e-4, weight_decay=0.0, batch_size=64, augment="none", optimizer="adam", warmup_steps=1
    )
    rounding = quantize.prepare_qat(trained, [images[:300]])
    learner = Learner(rounding, config, precision, torch.device("cpu"))
    before = {name: tensor.clone() for name, tensor in learner.averaged.state_dict().items()}
    fits = [finish(learner.train_epoch(part(digits, 0, 1500), epoch))[1] for epoch in (1, 2)]
    tuned = learner.averaged.eval()

    quantize.save(quantize.to_openvino(tuned, SHAPE), tmp_path, DESCRIPTION, "int8")

    assert fits[1].loss < fits[0].loss
    changed = {name for name, tensor in tuned.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {"features.0.weight", "head.bias"} <= changed
    assert not any(name.endswith(("scale", "zero_point")) for name in changed)  # ranges stay
    expected, found = answers(tuned, images[1500:]), serve.open_exported(tmp_path)(images[1500:])
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.99
    assert num_bytes(tmp_path) < 2 * sum(weights.numel() for weights in trained.parameters())


def test_a_copy_of_it_rounds_alike_and_learns_apart(trained, digits):
    """As the loop copies for its average."""
    images, _ = digits
    rounding = quantize.prepare_qat(trained, [images[:100]])
    replica = copy.deepcopy(rounding)
    same = answers(replica, images[:8])
    with torch.no_grad():
        rounding.head.weight.zero_()

    np.testing.assert_array_equal(answers(replica, images[:8]), same)
    assert not np.array_equal(answers(rounding, images[:8]), same)


def test_no_compiler_is_needed(trained, digits, tmp_path, monkeypatch):
    """NNCF would compile an extension for minutes, at first use."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))

    rounding = quantize.prepare_qat(trained, [digits[0][:100]])
    rounding(torch.zeros(2, *SHAPE)).sum().backward()

    assert list(tmp_path.iterdir()) == []
    assert sum(isinstance(module, Rounding) for module in rounding.modules()) == 10  # weights and inputs of 5 layers


def test_rounding_goes_to_the_nearest_step_and_lets_gradients_through():
    rounding = Rounding(-128, 127, torch.tensor([0.5]), torch.tensor([0]), None)
    values = torch.tensor([0.2, 0.3, -3.1, 1000.0], requires_grad=True)

    rounded = rounding(values)
    rounded.sum().backward()

    assert rounded.tolist() == [0.0, 0.5, -3.0, 63.5]
    assert values.grad.tolist() == [1.0, 1.0, 1.0, 0.0]


# Exports


@pytest.mark.parametrize(("kind", "name"), [("onnx", "model.onnx"), ("openvino", "model.xml")])
def test_an_export_is_one_model_that_answers_as_the_original(trained, digits, tmp_path, kind, name):
    images = digits[0][:20]

    found = exporting.export(trained, kind, tmp_path / "run", DESCRIPTION, images)

    others = {"model.xml": {"model.bin"}}.get(name, set())
    assert {file.name for file in (tmp_path / "run").iterdir()} == {name, "model.json", *others}
    assert found.path == tmp_path / "run" / name
    assert found.num_bytes == num_bytes(tmp_path / "run") - (tmp_path / "run" / "model.json").stat().st_size
    assert found.agreement == 1
    difference = np.abs(serve.open_exported(tmp_path / "run")(images) - answers(trained, images)).max()
    assert found.largest_difference == pytest.approx(difference, abs=1e-6)
    assert "on 20 images" in found.words


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_an_export_that_answers_otherwise_is_refused_and_leaves_no_file(trained, digits, tmp_path, kind, monkeypatch):
    """One bias is another one in the exported model."""
    owner, name = {"onnx": (torch.onnx, "export"), "openvino": (quantize, "to_openvino")}[kind]
    converted = getattr(owner, name)

    def another(model, *rest, **more):
        model = copy.deepcopy(model)
        with torch.no_grad():
            model.head.bias[3] += 0.1
        return converted(model, *rest, **more)

    monkeypatch.setattr(owner, name, another)

    with pytest.raises(UsageError, match=f"the model as {kind} answers otherwise than PyTorch"):
        exporting.export(trained, kind, tmp_path / "run", DESCRIPTION, digits[0][:8])

    assert list((tmp_path / "run").iterdir()) == []


def test_what_onnx_lacks_is_named(digits, tmp_path):
    with pytest.raises(UsageError, match="cannot be exported to ONNX: ") as caught:
        exporting.export(Unheard(), "onnx", tmp_path / "run", DESCRIPTION, digits[0][:2])

    assert "\n" not in str(caught.value)
    assert list((tmp_path / "run").iterdir()) == []


def test_tflite_is_refused_with_the_reason_and_what_to_take(trained, digits, tmp_path):
    with pytest.raises(UsageError, match=r"litert-torch.*torch < 2\.15") as caught:
        exporting.export(trained, "tflite", tmp_path, DESCRIPTION, digits[0][:2])

    assert "--export executorch" in caught.value.hint


def test_a_converter_that_is_missing_is_named_with_its_extra(trained, digits, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(UsageError, match="--export executorch needs executorch") as caught:
        exporting.export(trained, "executorch", tmp_path, DESCRIPTION, digits[0][:2])

    assert "greenml[phone]" in caught.value.hint


def test_executorch_takes_an_image_at_a_time_and_is_not_what_greenml_serves(trained, digits, tmp_path):
    pytest.importorskip("executorch", reason="pip install 'greenml[phone]' brings ExecuTorch")

    found = exporting.export(trained, "executorch", tmp_path, DESCRIPTION, digits[0][:8])

    assert found.agreement == 1
    assert found.largest_difference < 1e-4
    assert {file.name for file in tmp_path.iterdir()} == {"model.pte", "model.pte.json"}
    assert not serve.is_exported(tmp_path)
