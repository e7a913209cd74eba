"""What a sweep may try: a file that cannot be searched is refused in two lines, another comes out as it went in."""

from __future__ import annotations

import pytest
import yaml

from greenml.errors import UsageError
from greenml.sweep import space

LR = {"type": "float", "low": 0.001, "high": 0.1, "log": True}
TWO = {"type": "categorical", "choices": ["cnn", "resnet18"]}
OPTIMIZER = {"type": "categorical", "choices": ["adamw", "sgd"]}


def of(*, constraints=None, enqueue=None, **parameters):
    return space.parse({"parameters": parameters, "constraints": constraints, "enqueue": enqueue}, where="space.yaml")


def refused(content):
    """The two lines a user sees."""
    with pytest.raises(UsageError) as caught:
        space.parse(content, where="space.yaml")
    message, hint = str(caught.value), caught.value.hint
    assert message.startswith("space.yaml: ")
    assert hint
    assert "\n" not in message + hint
    return message.removeprefix("space.yaml: "), hint


def refused_parameter(key, entry):
    message, hint = refused({"parameters": {"model": TWO, key: entry}})
    return message.removeprefix(f"`{key}`: "), hint


LIKE = "as in configs/sweep.yaml, which `greenml sweep --dry-run` shows"


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (None, "not a list of keys", LIKE),
        ([1], "not a list of keys", LIKE),
        ({}, "`parameters`: not a list of keys", LIKE),
        ({"parameter": {}}, "unknown key `parameter`", "did you mean `parameters`?"),
        ({"parameters": {}}, "the space is empty: there is nothing to search", LIKE),
        ({"parameters": {"model": {"type": "categorical", "choices": ["cnn"]}}},
         "the space holds one point only: there is nothing to search", LIKE),
        ({"parameters": {"lr": {"type": "float", "low": 0.1, "high": 0.1}}},
         "the space holds one point only: there is nothing to search", LIKE),
        ({"parameters": {"model": TWO}, "enqueue": "cnn"}, "`enqueue` is not a list of trials", LIKE),
        ({"parameters": {"model": TWO}, "enqueue": ["cnn"]}, "trial 1 of `enqueue`: not a list of keys", LIKE),
        ({"parameters": {"model": TWO}, "enqueue": [{"model": "cnn"}, {"mode": "cnn"}]},
         "trial 2 of `enqueue`: unknown key `mode`", "did you mean `model`?"),
        ({"parameters": {"model": TWO}, "enqueue": [{"model": "vgg11"}]},
         "trial 1 of `enqueue`: `model` vgg11 is not in the space", LIKE),
        ({"parameters": {"model": TWO}, "constraints": [1]}, "`constraints`: not a list of keys", LIKE),
        ({"parameters": {"model": TWO}, "constraints": {"min_acuracy": 1}},
         "`constraints`: unknown key `min_acuracy`", "did you mean `min_accuracy`?"),
        ({"parameters": {"model": TWO}, "constraints": {"min_accuracy": 101}},
         "`min_accuracy` 101", "a fraction, or above 1 per cent: 0.6 or 60"),
        ({"parameters": {"model": TWO}, "constraints": {"min_accuracy": "good"}},
         "`min_accuracy`: 'good' is no number", LIKE),
        ({"parameters": {"model": TWO}, "constraints": {"max_parameters": 1.5}},
         "`max_parameters`: 1.5 is no whole number", LIKE),
        ({"parameters": {"lr": {**LR, "when": {"optimizer": "sgd"}}, "optimizer": OPTIMIZER}},
         "`lr` counts when optimizer is sgd, which never is", "put `optimizer` above it, with that among its values"),
        ({"parameters": {"optimizer": OPTIMIZER, "lr": {**LR, "when": {"optimizer": ["lion", "muon"]}}}},
         "`lr` counts when optimizer is lion or muon, which never is",
         "put `optimizer` above it, with that among its values"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_searched_is_refused_with_a_way_out(content, message, hint):
    assert refused(content) == (message, hint)


@pytest.mark.parametrize(
    ("entry", "message", "hint"),
    [
        (3, "not a list of keys", LIKE),
        ({}, "type `None`", f"one of categorical, int, float, {LIKE}"),
        ({"type": "real"}, "type `real`", f"one of categorical, int, float, {LIKE}"),
        ({**LR, "hihg": 1}, "unknown key `hihg`", "did you mean `high`?"),
        ({**LR, "choices": [1]}, "float takes no `choices`", "it takes high, log, low, step"),
        ({"type": "categorical", "choices": [0.1], "low": 1}, "categorical takes no `low`", "it takes choices"),
        ({"type": "categorical"}, "choices must be a list of different values", LIKE),
        ({"type": "categorical", "choices": []}, "choices must be a list of different values", LIKE),
        ({"type": "categorical", "choices": 0.1}, "choices must be a list of different values", LIKE),
        ({"type": "categorical", "choices": [0.1, 0.1]}, "choices must be a list of different values", LIKE),
        ({"type": "float", "low": 0.1}, "float needs `low` and `high`, the lower one first", LIKE),
        ({"type": "float", "low": 0.1, "high": 0.01}, "float needs `low` and `high`, the lower one first", LIKE),
        ({"type": "float", "low": "slow", "high": 1}, "`low`: 'slow' is no number", LIKE),
        ({"type": "float", "low": 0, "high": 0.1, "log": True},
         "`log` needs a low above 0 and no step; a step is above 0", LIKE),
        ({**LR, "step": 0.1}, "`log` needs a low above 0 and no step; a step is above 0", LIKE),
        ({**LR, "log": "yes"}, "`log` needs a low above 0 and no step; a step is above 0", LIKE),
        ({"type": "float", "low": 0.1, "high": 0.2, "step": 0},
         "`log` needs a low above 0 and no step; a step is above 0", LIKE),
        ({**LR, "when": "sgd"}, "`when`: not a list of keys", LIKE),
    ],
)  # fmt: skip
def test_a_parameter_that_makes_no_range_is_refused(entry, message, hint):
    assert refused_parameter("lr", entry) == (message, hint)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), ".nan", "-.inf", "nan", True])
def test_what_is_no_finite_number_bounds_no_range(number):
    message, _ = refused_parameter("lr", {"type": "float", "low": 0.001, "high": number})

    assert message == f"`high`: {number!r} is no number"


@pytest.mark.parametrize("number", [1e400, 3.5])
def test_a_whole_number_is_whole_and_finite(number):
    message, hint = refused_parameter("batch_size", {"type": "int", "low": 1, "high": number})

    assert message in ("`high`: inf is no number", "`high`: 3.5 is no whole number")
    assert hint


@pytest.mark.parametrize("choices", [[[1], [2]], [None, 1], [{"a": 1}, 2], [True, False]])
def test_choices_are_words_and_numbers(choices):
    message, hint = refused_parameter("precision", {"type": "categorical", "choices": choices})

    assert message == "choices must be words or numbers"
    assert hint


def test_two_cases_of_a_key_that_can_both_count_are_refused():
    """Which of the two would hold the value?"""
    both = [{**LR, "when": {"optimizer": ["adamw", "sgd"]}}, {**LR, "when": {"optimizer": "sgd"}}]

    message, hint = refused({"parameters": {"optimizer": OPTIMIZER, "lr": both}})

    assert message == "`lr` has two entries that count at once"
    assert hint == "give each a `when` that rules the others out"


def test_an_empty_list_of_cases_is_refused():
    assert refused({"parameters": {"model": TWO, "lr": []}}) == ("`lr`: no entry", LIKE)


@pytest.mark.parametrize(
    ("key", "hint"),
    [("lrr", "did you mean `lr`?"), ("seed", f"what can be searched: {', '.join(space.SEARCHABLE)}")],
)
def test_what_cannot_be_searched_is_said(key, hint):
    """A typing error, and a key of a config that is given, not searched."""
    assert refused({"parameters": {key: LR}}) == (f"`{key}` cannot be searched", hint)


@pytest.mark.parametrize(
    ("key", "entry"),
    [
        ("optimizer", {"type": "categorical", "choices": ["adamw", "adamm"]}),
        ("batch_size", {"type": "int", "low": 0, "high": 64}),
        ("label_smoothing", {"type": "float", "low": 0.0, "high": 2.0}),
        ("lr", {"type": "categorical", "choices": [0.1, "fast"]}),
    ],
)
def test_values_that_no_training_takes_are_refused_before_any_is_trained(key, entry):
    """The same check as of a config: its words, at this place of the file."""
    message, hint = refused({"parameters": {"model": TWO, key: entry}})

    assert key in message
    assert hint


# Files


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="no such file") as caught:
        space.read(tmp_path / "mine.yaml")
    assert "configs/sweep.yaml" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"parameters: {", "not valid YAML, line 1"),
        (b"a: 1\nb: [\x01]", "not valid YAML"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_file_that_is_no_yaml(tmp_path, content, message):
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)

    with pytest.raises(UsageError, match=message) as caught:
        space.read(file)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        space.read(tmp_path)


def test_a_file_says_where_it_is_wrong(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("parameters: {lr: {type: real}}")

    with pytest.raises(UsageError) as caught:
        space.read(file)
    assert str(caught.value) == f"{file}: `lr`: type `real`"


def test_numbers_that_yaml_reads_as_words_are_numbers(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("parameters: {lr: {type: float, low: 1e-5, high: 1e-1, log: true}}")

    (lr,) = space.read(file).parameters

    assert (lr.low, lr.high) == (1e-5, 0.1)


# The space that ships


def test_what_ships_is_searched_as_the_issue_says():
    own = space.read()

    keys = {part.key for part in own.parameters}
    assert keys == {
        "model", "batch_size", "lr", "optimizer", "weight_decay", "label_smoothing", "precision", "augment",
    }  # fmt: skip
    assert own.models == ("cnn", "resnet18", "mobilenetv2_100")
    assert len(own.enqueue) == 2


def test_a_space_goes_into_yaml_and_comes_out_the_same():
    own = space.read()

    assert space.parse(yaml.safe_load(yaml.safe_dump(own.to_plain(), sort_keys=False))) == own


def test_constraints_come_out_the_same_and_per_cent_become_a_fraction():
    own = of(model=TWO, constraints={"min_accuracy": 60, "max_parameters": 1_000_000})

    assert (own.min_accuracy, own.max_parameters) == (0.6, 1_000_000)
    assert space.parse(own.to_plain()) == own


# Conditions


def conditional():
    return of(
        optimizer=OPTIMIZER,
        lr=[{**LR, "when": {"optimizer": "adamw"}}, {**LR, "high": 0.5, "when": {"optimizer": "sgd"}}],
    )


def test_a_case_counts_where_its_condition_holds():
    values = {"optimizer": "sgd", "lr (optimizer=adamw)": 0.002, "lr (optimizer=sgd)": 0.2}

    assert conditional().config(values) == {"optimizer": "sgd", "lr": 0.2}
    assert conditional().config({**values, "optimizer": "adamw"}) == {"optimizer": "adamw", "lr": 0.002}


def test_a_parameter_whose_condition_fails_is_left_to_the_base():
    own = of(optimizer=OPTIMIZER, weight_decay={**LR, "when": {"optimizer": "adamw"}})

    assert own.config({"optimizer": "sgd", "weight_decay (optimizer=adamw)": 0.01}) == {"optimizer": "sgd"}


def test_a_condition_on_a_parameter_that_does_not_count_fails():
    own = of(
        model=TWO,
        optimizer={**OPTIMIZER, "when": {"model": "cnn"}},
        lr={**LR, "when": {"optimizer": "sgd"}},
    )
    values = {"model": "resnet18", "optimizer (model=cnn)": "sgd", "lr (optimizer=sgd)": 0.1}

    assert own.config(values) == {"model": "resnet18"}


def test_what_is_enqueued_goes_by_the_names_of_its_cases():
    own = of(
        optimizer=OPTIMIZER,
        lr=[{**LR, "when": {"optimizer": "adamw"}}, {**LR, "when": {"optimizer": "sgd"}}],
        enqueue=[{"optimizer": "sgd", "lr": 0.05}, {"optimizer": "adamw"}],
    )

    assert own.enqueue == ({"optimizer": "sgd", "lr (optimizer=sgd)": 0.05}, {"optimizer": "adamw"})


def test_what_is_enqueued_but_does_not_count_is_refused():
    """It would be drawn in silence."""
    message, hint = refused(
        {
            "parameters": {"optimizer": OPTIMIZER, "lr": {**LR, "when": {"optimizer": "sgd"}}},
            "enqueue": [{"lr": 0.05}],
        }
    )

    assert message == "trial 1 of `enqueue`: `lr` does not count there"
    assert hint == "it depends on optimizer: say it too"


# Earlier runs


def test_a_condition_on_a_key_that_does_not_count_fails_where_a_run_is_located_too():
    own = of(
        model=TWO,
        optimizer={**OPTIMIZER, "when": {"model": "cnn"}},
        lr={**LR, "when": {"optimizer": "sgd"}},
    )

    assert own.locate({"model": "resnet18", "optimizer": "sgd", "lr": 9.0}) == {"model": "resnet18"}


def test_a_rate_that_went_through_a_logarithm_is_the_same_rate():
    assert conditional().config({"optimizer": "sgd", "lr (optimizer=sgd)": 0.30000000000000004}) == {
        "optimizer": "sgd",
        "lr": 0.3,
    }


def test_a_config_inside_is_found_where_it_stands():
    assert conditional().locate({"model": "cnn", "optimizer": "sgd", "lr": 0.3}) == {
        "optimizer": "sgd",
        "lr (optimizer=sgd)": 0.3,
    }


@pytest.mark.parametrize(
    "config", [{"optimizer": "adamw", "lr": 0.3}, {"optimizer": "muon", "lr": 0.01}, {"optimizer": "sgd"}, {}]
)
def test_a_config_outside_is_not_found(config):
    assert conditional().locate(config) is None


@pytest.mark.parametrize(("size", "inside"), [(32, True), (48, True), (40, False), (32.5, False), (112, False)])
def test_a_value_between_the_steps_lies_outside(size, inside):
    """Optuna would take it for another value than it is."""
    own = of(batch_size={"type": "int", "low": 32, "high": 96, "step": 16})

    assert (own.locate({"batch_size": size}) is not None) == inside


def test_steps_of_a_float_are_found_in_spite_of_rounding():
    own = of(label_smoothing={"type": "float", "low": 0.0, "high": 0.2, "step": 0.05})

    assert own.locate({"label_smoothing": 3 * 0.05}) == {"label_smoothing": 3 * 0.05}
    assert own.locate({"label_smoothing": 0.12}) is None


def test_true_is_no_number():
    assert of(lr={"type": "float", "low": 0.1, "high": 1.0}).locate({"lr": True}) is None


@pytest.mark.parametrize(
    ("entry", "count"),
    [
        ({"type": "int", "low": 1, "high": 5}, 5),
        ({"type": "int", "low": 1, "high": 6, "step": 2}, 3),
        ({"type": "int", "low": 4, "high": 4}, 1),
        ({"type": "int", "low": 1, "high": 64, "log": True}, float("inf")),
        ({"type": "categorical", "choices": [32, 64]}, 2),
    ],
)
def test_values_are_counted(entry, count):
    own = of(model=TWO, batch_size=entry)

    assert own.parameters[1].num_values == count
