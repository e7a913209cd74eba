"""Pruning: real models lose channels or weights, work on, can be trained on, and come back from their file."""

from __future__ import annotations

import dataclasses
import sys
from copy import deepcopy

import pytest
import torch
from conftest import finish
from torch import nn

from greenml import config as configs
from greenml.compress.prune import structured, unstructured
from greenml.errors import DataError, UsageError
from greenml.learn import artifact, models
from greenml.learn.batches import Normalisation
from greenml.learn.loop import Learner
from greenml.learn.setup import read

ARCHITECTURES = ["cnn", "resnet18", "mobilenetv2_100", "convnext_atto", "efficientnet_b0", "regnety_002"]
CLASSES = ["no", "yes", "perhaps"]
SIZE = 32


def fresh(name, in_chans=3, size=SIZE, num_classes=3):
    """A model whose batch norms have seen something."""
    torch.manual_seed(0)
    model, _ = models.create(name, num_classes=num_classes, in_chans=in_chans, image_size=size, model_args={})
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(4, in_chans, size, size))
    return model.eval().to(memory_format=torch.channels_last)


def described(name):
    return artifact.describe(
        architecture=name,
        model_args={},
        classes=CLASSES,
        in_chans=3,
        image_size=SIZE,
        norm=Normalisation([0.0] * 3, [1.0] * 3),
    )


def images(num=4):
    return torch.randn(num, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)).to(
        memory_format=torch.channels_last
    )


def answers(model, images):
    with torch.inference_mode():
        return model(images)


# -- channels --


@pytest.mark.parametrize("name", [*ARCHITECTURES, "vit_tiny_patch16_224"])
def test_a_pruned_model_comes_back_from_its_file_and_answers_to_the_bit_as_before(name, tmp_path):
    model = fresh(name)

    pruned = structured(model, 0.3, (3, SIZE, SIZE), len(CLASSES))
    artifact.verified_save(tmp_path / "model.pt", pruned.model, described(name))
    loaded, _ = artifact.load(tmp_path / "model.pt")

    assert answers(pruned.model, images()).shape == (4, len(CLASSES))
    assert torch.equal(answers(loaded, images()), answers(pruned.model, images()))
    assert pruned.num_parameters == models.num_parameters(loaded) < 0.75 * models.num_parameters(model)
    assert pruned.macs < 0.75 * pruned.macs_before


def test_the_model_that_is_pruned_stays_what_it_is():
    """It is the teacher of what comes out."""
    model = fresh("cnn")
    before = answers(model, images())

    structured(model, 0.5, (3, SIZE, SIZE), len(CLASSES))
    unstructured(model, 0.5)

    assert torch.equal(answers(model, images()), before)


def test_widths_are_the_nearest_that_kernels_like_and_what_is_reached_is_told():
    """30 % of 32, 64, 128 and 256 channels leave 22.4, 44.8, 89.6 and 179.2."""
    pruned = structured(fresh("cnn", num_classes=10), 0.3, (3, SIZE, SIZE), 10)

    layers = [layer for layer in pruned.model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert [len(layer.weight) for layer in layers] == [16, 48, 96, 176, 10]
    assert pruned.macs_before == (27 * 32 + 9 * 32 * 64 / 4 + 9 * 64 * 128 / 16) * 1024 + 2048 * 256 + 2560
    assert pruned.macs == (27 * 16 + 9 * 16 * 48 / 4 + 9 * 48 * 96 / 16) * 1024 + 1536 * 176 + 1760
    assert str(pruned) == "2.11x fewer multiplications, 1.93x fewer parameters"


def test_the_channels_with_the_smallest_weights_go():
    model = fresh("cnn")
    with torch.no_grad():
        model.features[3].weight[::4] *= 1e-3
        model.features[3].bias.copy_(torch.arange(64.0))

    pruned = structured(model, 0.25, (3, SIZE, SIZE), len(CLASSES))

    assert pruned.model.features[3].bias.tolist() == [number for number in range(64) if number % 4]


def test_heads_get_narrower_and_none_is_lost():
    model = fresh("vit_tiny_patch16_224")

    pruned = structured(model, 0.3, (3, SIZE, SIZE), len(CLASSES)).model

    attention = pruned.blocks[0].attn
    assert (attention.num_heads, attention.head_dim, attention.attn_dim) == (3, 48, 144)
    assert pruned.embed_dim == 192
    assert pruned.pos_embed.shape[-1] == pruned.norm.normalized_shape[0] == 128


@pytest.mark.parametrize(("sparsity", "said"), [(0.001, "removes no channel"), (0.999, "less than one channel")])
def test_nothing_to_prune_and_nothing_to_keep_are_refused(sparsity, said):
    with pytest.raises(UsageError, match=said):
        structured(fresh("cnn"), sparsity, (3, SIZE, SIZE), len(CLASSES))


@pytest.mark.parametrize("name", ["poolformer_s12", "xcit_nano_12_p16_224"])
def test_an_architecture_that_cannot_be_followed_is_refused_with_the_reason(name):
    with pytest.raises(UsageError, match=r"cannot be pruned by channels: .*shape") as caught:
        structured(fresh(name), 0.3, (3, SIZE, SIZE), len(CLASSES))
    assert "int8" in caught.value.hint


def test_channels_that_multiply_without_end_are_refused_before_the_memory_is_gone():
    """torch-pruning misreads a reshape of this one: it took 20 GB in ten minutes."""
    with pytest.raises(UsageError, match="cannot follow its channels"):
        structured(fresh("efficientformerv2_s0", size=64), 0.3, (3, 64, 64), len(CLASSES))


def test_without_torch_pruning_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)

    with pytest.raises(UsageError, match="torch-pruning, which is not installed") as caught:
        structured(fresh("cnn"), 0.3, (3, SIZE, SIZE), len(CLASSES))
    assert caught.value.hint == "pip install 'greenml[compress]'"


# -- what a file may say --


def kept(tmp_path, model, name, **facts):
    path = tmp_path / "model.pt"
    artifact.save(path, model, described(name), **facts)
    return path


def test_a_model_that_its_tensors_do_not_describe_is_refused_and_leaves_no_file(tmp_path):
    """A slope that no tensor holds: what is read again answers otherwise."""
    model = fresh("cnn")
    model.features[1] = nn.LeakyReLU(0.3)

    with pytest.raises(UsageError, match="cnn cannot be kept as it has become: read again, it gives other answers"):
        artifact.verified_save(tmp_path / "model.pt", model, described("cnn"))
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_read_again_is_refused_and_leaves_no_file(tmp_path):
    model = fresh("cnn")
    model.head = nn.Sequential(model.head, nn.Linear(len(CLASSES), len(CLASSES)))

    with pytest.raises(UsageError, match="cnn cannot be kept as it has become: it cannot be read again: Error"):
        artifact.verified_save(tmp_path / "model.pt", model, described("cnn"))
    assert list(tmp_path.iterdir()) == []


def test_widths_that_do_not_fit_each_other_are_a_spoilt_file(tmp_path):
    model = fresh("cnn")
    model.features[0].weight = nn.Parameter(model.features[0].weight[:16])
    model.features[0].bias = nn.Parameter(model.features[0].bias[:16])

    with pytest.raises(DataError, match="not a file that greenml wrote"):
        artifact.load(kept(tmp_path, model, "cnn"))


def test_a_few_bytes_cannot_ask_for_a_terabyte(tmp_path):
    """A tensor of one number can claim any shape; only widths up to the architecture's own are taken on."""
    path = kept(tmp_path, fresh("cnn"), "cnn")
    content = torch.load(path, weights_only=True)
    content["state_dict"]["hidden.weight"] = torch.zeros(1).expand(1 << 20, 1 << 18)
    torch.save(content, path)

    with pytest.raises(DataError, match="not a file that greenml wrote"):
        artifact.load(path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["cnn", "mobilenetv2_100"])
def test_half_precision_stays_half_precision(name, dtype, tmp_path):
    model = structured(fresh(name), 0.3, (3, SIZE, SIZE), len(CLASSES)).model.to(dtype)

    artifact.verified_save(tmp_path / "model.pt", model, described(name))
    loaded, _ = artifact.load(tmp_path / "model.pt")

    logits = answers(loaded, images().to(dtype))
    assert logits.dtype == dtype
    assert torch.equal(logits, answers(model, images().to(dtype)))


# -- single weights --


def weights(model):
    return torch.cat([one.weight.flatten() for one in model.modules() if isinstance(one, nn.Conv2d | nn.Linear)])


def test_the_weights_next_to_zero_go_wherever_they_are():
    model = fresh("cnn")
    limit = weights(model).abs().sort().values[int(0.7 * len(weights(model)))]

    thinned = unstructured(model, 0.7)

    assert torch.equal(weights(thinned.model), torch.where(weights(model).abs() < limit, 0, weights(model)))
    assert thinned.num_zeros == round(0.7 * thinned.num_weights)
    assert str(thinned).startswith(f"70.0% of {thinned.num_weights:,} weights are zero; dense kernels get no faster")


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_zeros_stay_zeros_in_training_and_in_the_average(optimizer):
    """Decay, momentum and the moving average included; all other weights go on learning."""
    config = configs.resolve(
        {"model": "cnn", "dataset": "digits", "device": "cpu", "batch_size": 64, "optimizer": optimizer}
    )
    config = dataclasses.replace(config, lr=0.01, weight_decay=0.1, augment="crop")
    data = finish(read(config, torch.device("cpu")))[1]
    model = unstructured(fresh("cnn", in_chans=1, size=16, num_classes=10), 0.6).model
    before = deepcopy(model)

    learner = Learner(model, config, "fp32", torch.device("cpu"))
    finish(learner.train_epoch(data.train, 1))

    for after in (learner.model, learner.averaged):
        assert torch.equal(weights(after) == 0, weights(before) == 0)
        assert (weights(after) != weights(before)).sum() > 0.9 * (weights(before) != 0).sum()


@pytest.mark.parametrize(
    ("sparsity", "said"), [(1e-8, "is none"), (0.99999, "leaves nothing of the layer features.3: every image")]
)
def test_no_weight_and_a_whole_layer_are_refused(sparsity, said):
    with pytest.raises(UsageError, match=said):
        unstructured(fresh("cnn"), sparsity)
