"""Models, data, batches and the loop: real models, two-epoch trainings on the CPU."""

from __future__ import annotations

import io
import json
import shutil
from collections import namedtuple

import numpy as np
import polars as pl
import pytest
import torch
from conftest import finish
from PIL import Image
from torch import nn

from greenml import config as configs
from greenml.errors import DataError, TrainingError, UsageError
from greenml.learn import artifact, batches, data, decode, models, precision
from greenml.learn.setup import prepare
from greenml.records import Notice, Progress


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GREENML_CACHE", str(tmp_path / "cache"))


def load(dataset, image_size=None):
    return finish(data.load(dataset, image_size, None))[1][1]


def ready(**changes):
    config = configs.resolve({"model": "cnn", "dataset": "digits", "device": "cpu", "batch_size": 64} | changes)
    return finish(prepare(config, torch.device("cpu")))[1]


# -- models --


def test_the_small_network_is_the_one_that_is_promised():
    model, stem = models.create("cnn", num_classes=10, in_chans=3, image_size=32, model_args={})

    assert models.num_parameters(model) == 620_362
    assert stem == "as published"


@pytest.mark.parametrize(
    ("name", "stem", "side"),
    [
        ("resnet18", "3x3 stride 1, no max-pool", 4),
        ("resnet18d", "3x3 stride 1, no max-pool", 4),
        ("mobilenetv2_050", "stride 1", 2),
        ("convnext_atto", "as published", 1),
    ],
)
def test_stems_keep_the_resolution_of_small_images(name, stem, side):
    model, said = models.create(name, num_classes=10, in_chans=3, image_size=32, model_args={})

    assert said == stem
    assert model.forward_features(torch.zeros(2, 3, 32, 32)).shape[-1] == side


def test_large_images_meet_the_published_stem():
    model, said = models.create("resnet18", num_classes=10, in_chans=3, image_size=128, model_args={})

    assert said == "as published"
    assert model.conv1.kernel_size == (7, 7)


@pytest.mark.parametrize("alias", ["mobilenet_v2", "mobilenetv2"])
def test_the_names_people_use_are_known(alias):
    assert models.resolve_name(alias) == "mobilenetv2_100"


def test_arguments_reach_the_architecture():
    model, _ = models.create("resnet10t", num_classes=10, in_chans=1, image_size=16, model_args={"drop_rate": 0.2})

    assert model.drop_rate == 0.2


@pytest.mark.parametrize(
    ("name", "arguments", "message", "hint"),
    [
        ("resnet81", {}, "unknown model `resnet81`", "resnet18"),
        ("resnet18", {"drop": 0.2}, "drop", "--model-arg"),
        ("cnn", {"drop_rate": 0.2}, "drop_rate", "--model-arg"),
    ],
)
def test_what_cannot_be_built_says_why(name, arguments, message, hint):
    with pytest.raises(UsageError, match=message) as error:
        models.create(name, num_classes=10, in_chans=3, image_size=32, model_args=arguments)

    assert hint in error.value.hint


def test_a_model_from_elsewhere_is_one_decorated_function():
    @models.register_model
    def tiny_from_elsewhere(pretrained=False, **kwargs):
        return nn.Sequential(nn.Flatten(), nn.Linear(16 * 16, kwargs["num_classes"]))

    setup = ready(model="tiny_from_elsewhere")

    assert setup.facts["num_parameters"] == 16 * 16 * 10 + 10


# -- data --


NAMES = ["red", "blue"]


def png(colour, size=(8, 8)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def parquet(path, num, *, names=NAMES, size=(8, 8)):
    colours = [(255, 0, 0), (0, 0, 255)]
    frame = pl.DataFrame(
        {
            "img": [{"bytes": png(colours[i % 2], size), "path": None} for i in range(num)],
            "label": [i % 2 for i in range(num)],
        },
        schema={"img": pl.Struct({"bytes": pl.Binary, "path": pl.String}), "label": pl.Int64},
    )
    features = {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if names else None
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(path, metadata=metadata)


def folder(root, num=12, sizes=((8, 8),)):
    for label, colour in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
        (root / label).mkdir(parents=True)
        for i in range(num):
            (root / label / f"{i:02}.png").write_bytes(png(colour, sizes[i % len(sizes)]))


def test_digits_are_embedded_and_resized():
    digits = load("digits")

    assert digits.images.shape == (1797, 16, 16, 1)
    assert digits.num_train == 1797
    assert digits.resize == "8 to 16 px, bilinear"
    assert digits.augment == "crop"  # a mirrored 2 is no 2
    assert load("digits", 8).data_hash == digits.data_hash


def test_parquet_shards_have_names_parts_and_pixels(tmp_path):
    parquet(tmp_path / "d" / "train-00000-of-00002.parquet", 20)
    parquet(tmp_path / "d" / "train-00001-of-00002.parquet", 10)
    parquet(tmp_path / "d" / "test-00000-of-00001.parquet", 6)

    found = load(f"parquet:{tmp_path / 'd'}")

    assert found.classes == ["red", "blue"]
    assert (found.num_train, len(found.labels), found.image_size) == (30, 36, 8)
    assert found.resize == "none: all are 8 px"
    assert found.images[0].tolist() == [[[255, 0, 0]] * 8] * 8
    assert found.images[1, 0, 0].tolist() == [0, 0, 255]
    assert found.labels[:4].tolist() == [0, 1, 0, 1]


def test_one_parquet_file_without_names_holds_out_its_own_test(tmp_path):
    parquet(tmp_path / "all.parquet", 40, names=None)

    found = load(f"parquet:{tmp_path / 'all.parquet'}")
    splits = data.split(found, 0.1, 0)

    assert found.classes == ["0", "1"]
    assert [len(part) for part in splits[:3]] == [28, 4, 8]


def test_a_folder_of_mixed_sizes_is_cropped_square(tmp_path):
    folder(tmp_path / "f", sizes=((40, 20), (10, 30)))

    found = load(f"folder:{tmp_path / 'f'}", 16)

    assert found.classes == ["blue", "red"]
    assert found.images.shape == (24, 16, 16, 3)
    assert found.resize == "shorter side to 16 px, bicubic, centre crop"
    assert load(f"folder:{tmp_path / 'f'}").image_size == decode.LARGE_PX


def test_a_test_folder_is_the_test_part(tmp_path):
    folder(tmp_path / "f" / "train")
    folder(tmp_path / "f" / "test", num=3)

    found = load(f"folder:{tmp_path / 'f'}")

    assert (found.num_train, len(found.labels)) == (24, 30)


def test_images_are_decoded_once(tmp_path, monkeypatch):
    folder(tmp_path / "f")
    said, (_, first) = finish(data.load(f"folder:{tmp_path / 'f'}", None, None))
    assert any(isinstance(word, Progress) and word.what == "decoding" for word in said)

    monkeypatch.setattr(decode, "picture", None)  # whoever decodes now, fails
    second = load(f"folder:{tmp_path / 'f'}")

    assert isinstance(second.images, np.memmap)
    assert second.data_hash == first.data_hash
    assert (second.images == first.images).all()


def test_other_content_is_another_cache(tmp_path):
    folder(tmp_path / "f")
    before = load(f"folder:{tmp_path / 'f'}").data_hash

    (tmp_path / "f" / "red" / "00.png").write_bytes(png((250, 0, 0)))

    assert load(f"folder:{tmp_path / 'f'}").data_hash != before


def test_corrupt_images_are_named_and_in_no_split(tmp_path):
    folder(tmp_path / "f" / "train", num=20)
    folder(tmp_path / "f" / "test")
    (tmp_path / "f" / "train" / "red" / "05.png").write_bytes(b"not an image")
    (tmp_path / "f" / "test" / "red" / "06.png").write_bytes(png((255, 0, 0))[:40])

    said, (_, found) = finish(data.load(f"folder:{tmp_path / 'f'}", None, None))
    splits = data.split(found, 0.1, 0)

    [notice] = [word for word in said if isinstance(word, Notice)]
    assert "2 corrupt images left out" in notice.text
    assert "05.png" in notice.text
    assert found.num_train == 40
    assert len(splits.train) + len(splits.val) == 39
    assert len(splits.test) == 23
    assert (found.labels[np.concatenate(splits[:3])] >= 0).all()
    assert splits.test.min() >= 40


def test_a_cache_is_found_again_under_another_name(tmp_path, monkeypatch):
    """The content is what names it; what is corrupt in it stays out, whatever the files are called now."""
    folder(tmp_path / "f")
    (tmp_path / "f" / "red" / "05.png").write_bytes(b"not an image")
    first = load(f"folder:{tmp_path / 'f'}")
    (tmp_path / "f").rename(tmp_path / "g")
    monkeypatch.setattr(decode, "picture", None)

    second = load(f"folder:{tmp_path / 'g'}")

    assert second.data_hash == first.data_hash
    assert second.labels.tolist() == first.labels.tolist()


def test_deep_images_keep_their_shades(tmp_path):
    folder(tmp_path / "f")
    deep = np.full((8, 8), 100 * 256, np.uint16)
    Image.fromarray(deep).save(tmp_path / "f" / "blue" / "00.png")

    assert load(f"folder:{tmp_path / 'f'}").images[0].tolist() == [[[100] * 3] * 8] * 8


@pytest.mark.parametrize("names", [("a_train", "a_test"), ("train/0000", "test/0000"), ("train-0", "validation-0")])
def test_parts_are_known_by_their_names(tmp_path, names):
    parquet(tmp_path / "d" / f"{names[0]}.parquet", 30)
    parquet(tmp_path / "d" / f"{names[1]}.parquet", 10)

    said, (_, found) = finish(data.load(f"parquet:{tmp_path / 'd'}", None, None))

    assert (found.num_train, len(found.labels)) == (30, 40)
    assert any(isinstance(word, Notice) and "used as the test part" in word.text for word in said) == (
        "validation" in names[1]
    )


def test_the_cache_must_fit_the_disk(tmp_path, monkeypatch):
    folder(tmp_path / "f")
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))

    with pytest.raises(DataError, match=r"need .* GB"):
        load(f"folder:{tmp_path / 'f'}")
    assert not list((tmp_path / "cache").glob("*.partial"))


def test_decoding_that_is_stopped_leaves_nothing_half_written(tmp_path):
    folder(tmp_path / "f", num=decode.CHUNK)
    steps = data.load(f"folder:{tmp_path / 'f'}", None, None)
    for word in steps:
        if word.what == "decoding":
            break
    steps.close()

    assert not [found for found in (tmp_path / "cache").iterdir() if found.is_dir()]
    assert len(load(f"folder:{tmp_path / 'f'}").labels) == 2 * decode.CHUNK


@pytest.mark.parametrize(
    ("dataset", "error", "message"),
    [
        ("digitss", UsageError, "unknown dataset"),
        ("digits:16", UsageError, "not complete"),
        ("folder", UsageError, "not complete"),
        ("folder:{}/none", DataError, "no such folder"),
        ("folder:{}/empty", DataError, "any class folder"),
        ("folder:{}/one", DataError, "only one class"),
        ("parquet:{}/none.parquet", DataError, "no parquet file"),
        ("parquet:{}/text.parquet", DataError, "not a readable parquet"),
        ("parquet:{}/columns.parquet", DataError, "no image column"),
        ("parquet:{}/rows.parquet", DataError, "no images"),
    ],
)
def test_data_that_cannot_be_had_is_named(tmp_path, dataset, error, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "one" / "class").mkdir(parents=True)
    (tmp_path / "one" / "class" / "a.png").write_bytes(png((1, 2, 3)))
    (tmp_path / "text.parquet").write_text("hello")
    pl.DataFrame({"a": [1], "label": [0]}).write_parquet(tmp_path / "columns.parquet")
    parquet(tmp_path / "rows.parquet", 0)

    with pytest.raises(error, match=message):
        load(dataset.format(tmp_path))


def test_splits_are_disjoint_in_proportion_and_apart_from_the_seed():
    digits = load("digits")
    splits = data.split(digits, 0.1, 0)

    everything = np.concatenate(splits[:3])
    assert len(everything) == len(np.unique(everything)) == 1797
    shares = np.bincount(digits.labels[splits.val]) / len(splits.val)
    assert shares == pytest.approx(np.bincount(digits.labels) / 1797, abs=0.01)
    assert data.split(digits, 0.1, 0).split_hash == splits.split_hash
    assert data.split(digits, 0.1, 1).split_hash != splits.split_hash
    assert ready(seed=1).facts["split_hash"] == ready(seed=2).facts["split_hash"]


# -- batches --


def test_crop_and_flip_is_what_numpy_would_do():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    index, shifts, flips = random.integers(0, 5, 20), random.integers(-2, 3, (20, 2)), random.random(20) < 0.5

    got = batches.crop_and_flip(*(torch.from_numpy(array) for array in (images, index, shifts, flips)))

    for out, i, (down, right), flip in zip(got.numpy(), index, shifts, flips, strict=True):
        padded = np.pad(images[i], ((2, 2), (2, 2), (0, 0)), mode="reflect")
        want = padded[2 + down : 10 + down, 2 + right : 10 + right]
        assert (out == (want[:, ::-1] if flip else want)).all()


def test_batches_are_normalised_and_channels_last():
    setup = ready(model="cnn")
    images, labels = next(batches.evaluation_batches(setup.train, 2000))

    assert images.shape == (1295, 1, 16, 16)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert (images.mean().item(), images.std().item()) == pytest.approx((0, 1), abs=1e-3)
    assert labels.dtype == torch.long


# -- the loop --


def train(epochs, *, epochs_asked=None, **changes):
    setup = ready(epochs=epochs_asked or epochs, **changes)
    fits = [finish(setup.learner.train_epoch(setup.train, epoch))[1] for epoch in range(1, epochs + 1)]
    return fits, setup


def test_same_seed_same_losses():
    assert train(2)[0] == train(2)[0]
    assert train(1)[0] != train(1, seed=1)[0]


def test_every_epoch_counts():
    """The checkpoint of epoch 2 in a longer run is exactly what a 2-epoch run gives: no schedule looks ahead."""
    _, short = train(2, epochs_asked=2)
    _, long = train(2, epochs_asked=50)

    for one, other in zip(short.learner.averaged.parameters(), long.learner.averaged.parameters(), strict=True):
        assert torch.equal(one, other)
    assert finish(short.learner.evaluate(short.val, 1))[1].accuracy > 0.6


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_it_learns(optimizer):
    fits, setup = train(3, optimizer=optimizer)

    assert fits[-1].loss < fits[0].loss
    assert finish(setup.learner.evaluate(setup.test, 1))[1].accuracy > 0.6


def test_without_averaging_the_weights_are_the_raw_ones():
    _, setup = train(1, ema_decay=0.0)

    for averaged, raw in zip(setup.learner.averaged.parameters(), setup.learner.model.parameters(), strict=True):
        assert torch.equal(averaged, raw)


def test_a_loss_that_leaves_the_numbers_stops_the_training():
    with pytest.raises(TrainingError, match="diverged"):
        train(3, optimizer="sgd", lr=1e5)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(UsageError, match="more than the 1295"):
        ready(batch_size=2000)


# -- precision --


@pytest.mark.parametrize(("fp32_s", "bf16_s", "runs"), [(1.0, 0.5, "bf16"), (0.5, 1.0, "fp32")])
def test_fp16_on_a_cpu_means_what_is_faster_here(monkeypatch, fp32_s, bf16_s, runs):
    monkeypatch.setattr(precision, "probe", lambda *_: (fp32_s, bf16_s))

    choice = precision.choose("fp16", torch.device("cpu"), nn.Identity(), torch.zeros(1))

    assert choice.precision == runs
    assert "2.0x" in choice.why


def test_the_probe_changes_nothing_that_follows():
    model, _ = models.create("cnn", num_classes=10, in_chans=1, image_size=16, model_args={})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = torch.rand(8, 1, 16, 16)
    state = torch.get_rng_state()

    seconds = precision.probe(model, images)

    assert min(seconds) > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_what_is_asked_and_what_runs_are_both_told():
    setup = ready(precision="fp16")

    assert setup.facts["precision_asked"] == "fp16"
    assert setup.facts["precision"] in ("fp32", "bf16")
    assert setup.config.precision == setup.facts["precision"]


def test_a_device_that_is_not_here_is_an_error():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(UsageError, match="no cuda here"):
        precision.pick_device("cuda")


# -- the artifact --


def test_a_model_comes_back_as_it_was_saved(tmp_path):
    setup = ready()
    artifact.save(tmp_path / "model.pt", setup.learner.averaged, setup.description, run_id="a", epoch=1)

    model, said = artifact.load(tmp_path / "model.pt")

    images, _ = next(batches.evaluation_batches(setup.val, 8))
    setup.learner.averaged.eval()
    assert torch.equal(model(images), setup.learner.averaged(images))
    assert said["architecture"] == "cnn"
    assert said["classes"] == [str(digit) for digit in range(10)]
    assert (said["image_size"], said["epoch"]) == (16, 1)
    assert len(said["mean"]) == len(said["std"]) == 1


def test_nothing_in_a_tampered_file_is_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"architecture": Evil()}, tmp_path / "model.pt")

    with pytest.raises(DataError, match="not a file that greenml wrote"):
        artifact.load(tmp_path / "model.pt")


def test_weights_that_changed_on_the_disk_are_refused(tmp_path):
    """The file is as long as it was, and torch would load it."""
    setup = ready()
    file = tmp_path / "model.pt"
    artifact.save(file, setup.learner.averaged, setup.description)
    weights = setup.learner.averaged.state_dict()["hidden.weight"].numpy().tobytes()
    content = file.read_bytes()
    assert content.count(weights) == 1
    file.write_bytes(content.replace(weights, weights[::-1]))

    with pytest.raises(DataError, match=r"not a file that greenml wrote: model\.pt/data/\d+ has changed") as caught:
        artifact.load(file)

    assert caught.value.hint == "train it again, or copy it again"


@pytest.mark.parametrize(
    "source",
    [
        {"checkpoint_path": "elsewhere.pt"},
        {"pretrained": True},
        {"pretrained": True, "pretrained_cfg_overlay": {"file": "elsewhere.pt"}},
        {"cache_dir": "elsewhere"},
        {"pretrained_cfg": "some_tag"},
    ],
)
def test_opening_a_model_reads_no_other_file(tmp_path, monkeypatch, source):
    """Whatever its arguments say: its weights are in it."""
    asked = []
    create_model = models.timm.create_model
    monkeypatch.setattr(models.timm, "create_model", lambda *_, **more: asked.append(more) or create_model(*_, **more))
    setup = ready(model="resnet18")
    description = setup.description | {"model_args": {"drop_rate": 0.1, **source}}
    artifact.save(tmp_path / "model.pt", setup.learner.averaged, description)

    asked.clear()
    model, _ = artifact.load(tmp_path / "model.pt")

    assert [set(arguments) for arguments in asked] == [{"num_classes", "in_chans", "drop_rate"}]
    assert torch.equal(model.fc.weight, setup.learner.averaged.fc.weight)


def one_epoch(**changes):
    torch.manual_seed(0)
    setup = ready(epochs=1, **changes)
    finish(setup.learner.train_epoch(setup.train, 1))
    return setup.learner.model.state_dict()


def test_accumulated_gradients_are_those_of_the_large_batch():
    """Also with augmentation, whose draws are the large batch's; not with batch norm, which sees the small ones."""
    large = one_epoch(model="cnn", batch_size=128)
    split = one_epoch(model="cnn", batch_size=32, grad_accum=4)

    assert all(torch.allclose(large[key], split[key], atol=1e-4) for key in large)

    large = one_epoch(model="test_byobnet", batch_size=128)
    split = one_epoch(model="test_byobnet", batch_size=32, grad_accum=4)
    assert not all(torch.allclose(large[key], split[key], atol=1e-4) for key in large)
