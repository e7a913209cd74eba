"""What can be asked of a compression, and what is refused before anything begins."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from conftest import WORLD

from greenml.cli.compress import all_chains, make_plan, sparsities
from greenml.compress import METHODS, Parent, Plan, parse_chain
from greenml.compress.plan import refuse_parent
from greenml.config import Config, Schedule
from greenml.errors import DataError, UsageError

CONFIG = Config(model="cnn", epochs=20, lr=2e-3)
ROW = {
    "run_id": "a" * 12,
    "kind": "train",
    "status": "done",
    "model": "cnn",
    "method": None,
    "parent": None,
    "precision": "fp32",
}


PARENT = Parent(run_id="a" * 12, folder=Path("runs/aaaa"), config=CONFIG, row=ROW)
SPARSE = dataclasses.replace(
    PARENT, row=ROW | {"kind": "compress", "method": "distill,prune-unstructured 0.5", "parent": "b" * 12}
)


def plan(*methods, parent=PARENT, **parts):
    return Plan(parent=parent, methods=methods, base=CONFIG, intensity=WORLD, **parts)


def refused(error, function, *arguments, **parts):
    """What is said, and the way out."""
    with pytest.raises(error) as raised:
        function(*arguments, **parts)
    return str(raised.value), raised.value.hint


def test_a_chain_is_read_as_people_write_it():
    assert parse_chain("prune, INT8") == ("prune", "int8")
    assert parse_chain("prune_unstructured") == ("prune-unstructured",)
    assert parse_chain("prune,prune-unstructured,int8") == ("prune", "prune-unstructured", "int8")
    assert {chain for chains in all_chains(PARENT, None) for chain in chains} == METHODS.keys() - {"distill"}
    assert ("distill",) in all_chains(PARENT, "cnn")


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("int9", "--method int9: no such method", "did you mean `int8`"),
        ("", "--method '': no such method", "there are prune"),
        ("int8,prune", "int8 is the last step of a chain", "--method prune,int8"),
        ("int8,bf16", "int8 is the last step of a chain", "choose int8 or bf16"),
        ("prune,prune", "one method twice", "name each once"),
        ("prune-unstructured,qat", "fills the zeros", "prune-unstructured,int8"),
        ("prune-unstructured,prune", "prune trains on, and fills the zeros", "prune,prune-unstructured"),
        ("prune-unstructured,prune,int8", "prune trains on, and fills the zeros", "prune,prune-unstructured"),
        ("distill,prune-unstructured,prune,qat", "prune trains on, and fills the zeros", "prune,prune-unstructured"),
        ("prune,distill", "distill begins with a fresh student", "distill,prune"),
    ],
)
def test_a_chain_that_makes_no_sense_is_refused(text, said, hint):
    message, way_out = refused(UsageError, parse_chain, text)

    assert said in message
    assert hint in way_out


@pytest.mark.parametrize("methods", [("qat",), ("prune", "int8")])
def test_zeros_that_a_command_before_has_made_are_not_filled(methods):
    message, way_out = refused(UsageError, plan, *methods, parent=SPARSE)

    assert f"{methods[0]} trains on, and fills the zeros of prune-unstructured in run aaaaaaaaaaaa" in message
    assert "--method int8" in way_out
    assert "b" * 12 in way_out
    assert plan("prune-unstructured", "int8", parent=SPARSE).methods == ("prune-unstructured", "int8")


def test_all_leaves_out_what_would_fill_them():
    assert all_chains(SPARSE, "resnet18") == [
        ("int8",), ("dynamic",), ("bf16",), ("fp16",), ("prune-unstructured",), ("distill",)
    ]  # fmt: skip


@pytest.mark.parametrize("sparsity", [0, 1, 1.5, -0.1, float("nan")])
def test_a_share_outside_of_0_to_1_is_refused(sparsity):
    assert "a share between 0 and 1" in refused(UsageError, plan, "prune", sparsity=sparsity)[0]
    assert "weights" in refused(UsageError, plan, "prune-unstructured", sparsity=sparsity)[1]
    assert plan("int8", sparsity=sparsity).words == "int8"  # nobody asks it


def test_roundings_are_learned_at_a_tenth_of_the_rate_of_the_training():
    assert plan("prune").lr_of("prune") == CONFIG.lr
    assert plan("qat").lr_of("qat") == CONFIG.lr / 10
    assert plan("qat", lr=0.5).lr_of("qat") == 0.5


def test_a_student_is_smaller_than_its_teacher_or_at_least_another_model():
    assert "needs a --student" in refused(UsageError, plan, "distill")[0]
    assert "same model as its teacher" in refused(UsageError, plan, "distill", student="cnn")[0]
    assert "--student is for --method distill" in refused(UsageError, plan, "prune", student="resnet10t")[0]
    assert plan("distill", "int8", student="resnet10t").words == "distill resnet10t, int8"


def test_what_is_exported_is_a_model_that_has_no_format_of_its_own():
    assert "no such format" in refused(UsageError, plan, "prune", exports=("onx",))[0]
    assert "has its own format" in refused(UsageError, plan, "int8", exports=("onnx",))[0]
    assert "no --method given" in refused(UsageError, plan)[0]
    assert plan(exports=("onnx",)).words == "onnx"
    assert plan("prune", exports=("onnx",)).words == "prune 0.3"


def test_fewer_than_five_repeats_are_refused():
    assert "too few" in refused(UsageError, plan, "int8", repeats=4)[0]


def test_fine_tuning_takes_as_long_as_the_method_wants_or_as_is_asked():
    assert plan("prune").epochs_of("prune") == 5
    assert plan("prune", epochs=1).epochs_of("prune") == 1
    assert plan("distill", student="resnet10t").epochs_of("distill") == 20  # as its teacher
    assert plan("int8").to_plain()["epochs"] == {}
    assert plan("prune", "qat").to_plain()["epochs"] == {"prune": 5, "qat": 2}


def test_several_sparsities_are_as_many_plans():
    assert sparsities("0.1,0.3", ("prune", "int8")) == [{"sparsity": 0.1}, {"sparsity": 0.3}]
    assert sparsities("0.1,0.3", ("int8",)) == [{}]
    assert sparsities(None, ("prune",)) == [{}]
    assert "no number" in refused(UsageError, sparsities, "0.1,much", ("prune",))[0]
    assert "one share twice" in refused(UsageError, sparsities, "0.3,0.1,0.30", ("prune",))[0]


@pytest.mark.parametrize(
    ("changes", "error", "said", "hint"),
    [
        ({"kind": "track"}, UsageError, "of kind track", "choose a training"),
        ({"status": "crashed"}, UsageError, "is crashed", "--resume aaaaaaaa"),
        ({"status": "running"}, UsageError, "is running", "wait for it"),
        ({}, DataError, "model.pt is gone", "train again"),
    ],
)
def test_a_run_without_a_finished_model_is_refused(tmp_path, changes, error, said, hint):
    message, way_out = refused(error, refuse_parent, ROW | changes, tmp_path)

    assert said in message
    assert hint in way_out


def test_what_is_int8_already_points_to_its_parent(tmp_path):
    (tmp_path / "model.json").write_text("{}")
    row = ROW | {"kind": "compress", "method": "int8", "parent": "b" * 12, "precision": "int8"}

    message, way_out = refused(UsageError, refuse_parent, row, tmp_path)

    assert "is int8 already" in message
    assert "b" * 12 in way_out


def of_parent(given=None, **keys):
    config = dataclasses.replace(CONFIG, region="DE", **keys)
    parent = dataclasses.replace(PARENT, config=config)
    return make_plan(parent, given or {}, ("int8",), {})


def test_what_a_kwh_was_said_to_emit_counts_for_the_compression_as_well_but_not_in_another_region():
    made = of_parent(intensity=250.0)
    assert (made.intensity.g_per_kwh, made.intensity.level, made.base.intensity) == (250.0, "fixed", 250.0)
    moved = of_parent({"region": "SE"}, intensity=250.0)
    assert (moved.intensity.level, moved.intensity.region_asked, moved.base.intensity) == ("country", "SE", None)


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ({"trace": "/gone/de.csv", "trace_shift": True}, "de.csv"),
        ({"provider": "electricitymaps"}, "electricitymaps"),
        ({"provider": "electricitymaps", "schedule": Schedule(when_green=True)}, "electricitymaps"),
    ],
)
def test_a_compression_claims_no_hours_that_nobody_follows(keys, name):
    made = of_parent(**keys)
    assert (made.base.trace, made.base.trace_shift, made.base.provider, made.base.schedule.is_on) == (
        None, False, None, False,
    )  # fmt: skip
    assert made.intensity.level == "country"
    assert made.intensity.note.endswith(f"; the yearly factor counts here, and not {name}")


def test_every_choice_is_kept():
    kept = plan("prune", "int8", sparsity=0.5, lr=1e-3).to_plain()

    assert kept["methods"] == ["prune", "int8"]
    assert (kept["sparsity"], kept["lr"], kept["calibration"]) == (0.5, 1e-3, 1024)
    assert set(kept) == {field.name for field in dataclasses.fields(Plan)} - {
        "parent", "base", "intensity", "name", "tags",
    }  # fmt: skip
