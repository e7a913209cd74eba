"""YAML and flags -> one config, or a reason why not."""

from __future__ import annotations

import dataclasses

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from greenml import config as configs
from greenml.errors import UsageError
from greenml.resources import shipped


def test_base_yaml_says_what_the_code_does():
    """It is the page that explains every key: none is missing, none differs."""
    said = yaml.safe_load((shipped("configs") / "base.yaml").read_text())

    assert said == configs.DEFAULTS


@pytest.mark.parametrize("name", ["baseline.yaml", "optimized.yaml"])
def test_shipped_configs_are_found_by_name_and_resolve(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    from pathlib import Path

    assert configs.resolve({}, Path(name)).model == "resnet18"


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("model: resnet18\nepochs: 7\nlr: 0.5\n")

    config = configs.resolve({"epochs": 3, "model": None}, file)

    assert (config.model, config.epochs, config.lr, config.batch_size) == ("resnet18", 3, 0.5, 128)


def test_a_dumped_config_resolves_to_itself(tmp_path):
    config = configs.resolve({"model": "cnn", "target_acc": 85, "tags": ["é", 'a"b'], "model_args": {"x": 1.5}})
    (tmp_path / "c.yaml").write_text(configs.dump(config), encoding="utf-8")

    assert configs.resolve({}, tmp_path / "c.yaml") == config


@given(st.floats(0.01, 100))
def test_a_target_up_to_one_is_a_fraction(target):
    fraction = configs.resolve({"model": "cnn", "target_acc": target}).target_acc

    assert fraction == (target if target <= 1 else target / 100)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"num_threads": 0}, "--num-threads: should be greater than or equal to 1, not 0"),
        ({"epochs": 0}, "--epochs: should be greater than or equal to 1, not 0"),
        ({"lr": float("nan")}, "--lr: "),
        ({"lr": float("inf")}, "--lr: "),
        ({"lr": -1.0}, "--lr: "),
        ({"optimizer": "adamm"}, "--optimizer: should be 'adam', 'adamw' or 'sgd', not 'adamm'"),
        ({"target_acc": 101}, "--target-acc: "),
        ({"seed": -1}, "--seed: "),
        ({"image_size": 4}, "--image-size: "),
        ({"time_budget": "30"}, "--time-budget: `30` has no unit: s, m, min, h, d"),
        ({"energy_budget": "-5Wh"}, "--energy-budget: `-5Wh` is not a number above 0"),
        ({"energy_budget": "5Whh"}, "--energy-budget: `5Whh` has the unknown unit `Whh`"),
        ({"carbon_budget": "0g"}, "--carbon-budget: `0g` is not above 0"),
        ({"min_delta": 1.5}, "--min-delta: "),
        ({"grad_accum": 0}, "--grad-accum: "),
    ],
)
def test_a_bad_flag_is_named_with_its_bounds(flags, message):
    with pytest.raises(UsageError) as error:
        configs.resolve({"model": "cnn"} | flags)

    assert str(error.value).startswith(message)
    assert "greenml" not in error.value.hint  # whichever command it was


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("model: cnn\nepoch: 3", "unknown key `epoch`", "did you mean `epochs`?"),
        ("model: cnn\nepochs: many", "`epochs`: should be a valid integer", "the default is 20"),
        ("- a\n- b", "not a list of keys", "`key: value`"),
        ("a: [", "not valid YAML", "`key: value`"),
        ("", "no model given", "greenml train cnn"),
    ],
)
def test_a_bad_file_is_named_with_the_way_out(tmp_path, text, message, hint):
    file = tmp_path / "bad.yaml"
    file.write_text(text)

    with pytest.raises(UsageError) as error:
        configs.resolve({}, file)

    assert message in str(error.value)
    assert hint in error.value.hint


def test_a_missing_file_names_the_nearest():
    from pathlib import Path

    with pytest.raises(UsageError, match=r"basline.yaml: no such config file") as error:
        configs.resolve({}, Path("basline.yaml"))

    assert "`baseline.yaml`" in error.value.hint


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        configs.resolve({"model": "cnn"}).epochs = 3


def test_repeats_share_a_group_and_nothing_else_does():
    one = configs.resolve({"model": "cnn"})
    again = dataclasses.replace(one, seed=1, name="again", tags=["x"])
    other = dataclasses.replace(one, epochs=3)

    assert configs.group_hash(one, "a CPU") == configs.group_hash(again, "a CPU")
    assert (
        len({configs.group_hash(one, "a CPU"), configs.group_hash(other, "a CPU"), configs.group_hash(one, "b")}) == 3
    )
