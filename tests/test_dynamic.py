"""Dynamic quantisation, as tutorials show it: smaller files, and hardly a difference in speed."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from greenml.compress.dynamic import dynamic
from greenml.errors import UsageError
from greenml.learn import artifact, models
from greenml.learn.batches import Normalisation

MIB = 2**20


@pytest.fixture
def cnn():
    torch.manual_seed(0)
    return models.create("cnn", num_classes=10, in_chans=3, image_size=32, model_args={})[0].eval()


DESCRIPTION = artifact.describe(
    architecture="cnn",
    model_args={},
    classes=list("0123456789"),
    in_chans=3,
    image_size=32,
    norm=Normalisation([0.0] * 3, [1.0] * 3),
)


def test_the_cnn_goes_from_2_37_to_0_86_mib(cnn, tmp_path):
    """What the tutorials claim of the network of 620,362 parameters."""
    torch.save(cnn.state_dict(), tmp_path / "fp32.pt")
    torch.save(dynamic(cnn).state_dict(), tmp_path / "int8.pt")

    sizes = [(tmp_path / name).stat().st_size / MIB for name in ("fp32.pt", "int8.pt")]
    assert models.num_parameters(cnn) == 620_362
    assert sizes == pytest.approx([2.37, 0.864], abs=0.01)


def test_convolutions_stay_as_they_are_and_the_model_too(cnn):
    before = {name: tensor.clone() for name, tensor in cnn.state_dict().items()}

    quantised = dynamic(cnn)

    assert all(torch.equal(tensor, before[name]) for name, tensor in cnn.state_dict().items())
    assert torch.equal(quantised.features[0].weight, cnn.features[0].weight)
    assert not isinstance(quantised.hidden, nn.Linear)
    images = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(quantised(images), cnn(images), atol=0.02)


def test_it_comes_back_from_its_file_to_the_bit(cnn, tmp_path):
    quantised = dynamic(cnn)

    artifact.verified_save(tmp_path / "model.pt", quantised, DESCRIPTION)
    loaded, said = artifact.load(tmp_path / "model.pt")

    images = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(loaded(images), quantised.to(memory_format=torch.channels_last)(images))
    assert said["quantized"] == "dynamic"
    assert (tmp_path / "model.pt").stat().st_size < 0.37 * 2.37 * MIB


def test_pruned_and_then_quantised_it_comes_back_too(cnn, tmp_path):
    pytest.importorskip("torch_pruning")
    from greenml.compress.prune import structured

    quantised = dynamic(structured(cnn, 0.3, (3, 32, 32), 10).model)

    artifact.verified_save(tmp_path / "model.pt", quantised, DESCRIPTION)
    loaded, _ = artifact.load(tmp_path / "model.pt")

    assert loaded.hidden.weight().shape == (176, 1536)


def test_a_model_without_linear_layers_is_refused():
    with pytest.raises(UsageError, match="this model has none"):
        dynamic(nn.Conv2d(3, 10, 32))


def test_where_pytorch_has_it_no_more_that_is_said(cnn, tmp_path, monkeypatch):
    """Of a file, too: it is not the file that is wrong."""
    artifact.save(tmp_path / "model.pt", dynamic(cnn), DESCRIPTION)
    monkeypatch.setitem(sys.modules, "torch.ao.quantization", None)

    for attempt in (lambda: dynamic(cnn), lambda: artifact.load(tmp_path / "model.pt")):
        with pytest.raises(UsageError, match="has no dynamic quantisation any more"):
            attempt()
