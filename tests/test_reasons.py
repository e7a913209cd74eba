"""Why: on stores small enough to check by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from conftest import WORLD, make_end, make_epoch, make_phase, make_run, record

from greenml import grid
from greenml.recommend import Asked, advise
from greenml.recommend.reasons import Change, Reasons, reasons
from greenml.records import Source

if TYPE_CHECKING:
    from conftest import Greenml

    from greenml.store import Store

A, B, C, D, E, F = (letter * 12 for letter in "abcdef")
SMALL: dict[str, Any] = {"model": "small", "num_parameters": 1000, "flops_per_sample": 2_000_000}
LARGE: dict[str, Any] = {"model": "large", "num_parameters": 5000, "flops_per_sample": 8_000_000}


def why(db: Store) -> Reasons:
    [advice] = advise(db, Asked())
    return reasons(db, advice)


def trained(db: Store, run_id: str, joules: float | None, accuracy: float = 0.9, **run: Any) -> None:
    """Two epochs on 1149 images each, at as many joules each."""
    config = {"model": run.get("model", "cnn"), "epochs": 2, "precision": "fp32", "seed": run.get("seed", 0)}
    config |= run.pop("config", {})
    groups = {"group_hash": "-".join(f"{key}={value}" for key, value in config.items() if key != "seed")}
    record(db, run_id, [accuracy - 0.3, accuracy], [joules, joules], **groups | run, config=config)


# What a model costs


def test_fewer_parameters_that_cost_more_are_found(db: Store) -> None:
    for run_id, seed, joules in ((A, 0, 2298.0), (B, 1, 2298.0)):
        trained(db, run_id, joules, seed=seed, **SMALL)
    for run_id, seed in ((C, 0), (D, 1)):
        trained(db, run_id, 1149.0, seed=seed, **LARGE)
    found = why(db)
    assert [(row["model"], row["joules_per_sample"], row["num_runs"]) for row in found.models] == [
        ("small", 2.0, 2),
        ("large", 1.0, 2),
    ]
    # 2 J for 0.002 GFLOP, 1 J for 0.008.
    assert [row["joules_per_gflop"] for row in found.models] == [1000, 125]
    assert found.fewer is not None
    assert (found.fewer["model"], found.fewer["than_model"]) == ("small", "large")
    assert (found.fewer["energy_ratio"], found.fewer["flops_ratio"]) == (2.0, 0.25)
    assert found.fewer["exceeds_spread"] is True
    assert (found.fewer["run_ids"], found.fewer["than_run_ids"]) == ([A, B], [C, D])


def test_images_are_counted_where_an_epoch_says_so(db: Store) -> None:
    """200 J for 50 images, and not for the 1149 of the whole set."""
    epoch = make_epoch(A, 1, energy_j=200.0, num_samples=50)
    db.write([make_run(A), make_phase(A, 0, epoch=1, cpu_j=190.0), epoch, make_end(A)])
    assert [row["joules_per_sample"] for row in why(db).models] == [4.0]


def test_within_the_spread_of_repeats_nothing_is_claimed(db: Store, greenml: Greenml) -> None:
    trained(db, A, 1200.0, **SMALL)
    for run_id, seed, joules in ((C, 0, 900.0), (D, 1, 1300.0)):
        trained(db, run_id, joules, seed=seed, **LARGE)
    fewer = why(db).fewer
    assert fewer is not None
    assert fewer["exceeds_spread"] is False
    assert "Here they did not beyond the spread" in greenml("recommend", "--why")[1]


@pytest.mark.parametrize(
    "other", [{"precision": "bf16"}, {"batch_size": 8}, {"image_size": 8}, {"hardware": {"cpu": "another"}}]
)
def test_only_models_that_were_trained_alike_are_put_side_by_side(
    db: Store, greenml: Greenml, other: dict[str, Any]
) -> None:
    trained(db, A, 2000.0, **SMALL)
    trained(db, B, 1000.0, **LARGE | other)
    assert why(db).fewer is None
    assert "Nothing to compare" in greenml("recommend", "--why")[1]


def test_fewer_parameters_that_cost_less_are_no_surprise(db: Store, greenml: Greenml) -> None:
    trained(db, A, 500.0, **SMALL)
    trained(db, B, 1000.0, **LARGE)
    assert why(db).fewer is None
    assert "Here they did not:" in greenml("recommend", "--why")[1]


def test_the_words_for_a_pair(db: Store, greenml: Greenml) -> None:
    trained(db, A, 2298.0, **SMALL)
    trained(db, B, 1149.0, **LARGE)
    code, out, err = greenml("recommend", "--why", width=120)
    assert code == 0
    said = " ".join(out.split())
    assert "small has 1,000 parameters and large has 5,000, yet in fp32 it took 2.00 times the energy an image" in said
    assert "runs aaaaaaaa against bbbbbbbb; n = 1 and 1; spread unknown" in said
    assert "It computes 0.25 times the operations." in said
    assert "each operation took 8.0 times the energy here" in said
    assert "one forward pass" in said
    assert "Loading of batches happens within training" in said
    assert "~ estimated" in err


def test_operations_explain_what_they_explain(db: Store, greenml: Greenml) -> None:
    """Four times the operations and twice the energy: nothing is said of how well the machine is used."""
    trained(db, A, 2298.0, **SMALL | {"flops_per_sample": 32_000_000})
    trained(db, B, 1149.0, **LARGE)
    said = " ".join(greenml("recommend", "--why")[1].split())
    assert "It computes 4.00 times the operations. What is computed is operations, not parameters" in said
    assert "each operation took" not in said


def test_a_precision_that_nobody_said_is_not_named(db: Store, greenml: Greenml) -> None:
    trained(db, A, 2298.0, **SMALL, precision=None)
    trained(db, B, 1149.0, **LARGE, precision=None)
    said = " ".join(greenml("recommend", "--why", width=120)[1].split())
    assert "large has 5,000, yet it took 2.00 times the energy an image" in said


@pytest.mark.parametrize("odd", ["null", "[1, 2]", '"text"', "7", '{"num_threads": "many"}'])
def test_a_config_may_be_any_json(db: Store, greenml: Greenml, odd: str) -> None:
    """Files from elsewhere hold what they hold."""
    import duckdb

    trained(db, A, 100.0, **SMALL)
    trained(db, B, 1000.0, **LARGE)
    with duckdb.connect(str(db.path)) as connection:  # noqa: TID251 - as it would be where another program wrote it
        connection.execute("update run_rows set config = ?", [odd])
    assert greenml("recommend", "--why")[0] == 0
    code, out, _ = greenml("report", "--compare", A, B)
    assert code == 0
    assert "small" in out


# Where the energy went


def phases(db: Store, run_id: str, *, gpu: float | None = 0.0, **run: Any) -> None:
    """Set-up 100 J, training 600 J, validation 100 J: ten seconds each."""
    source = Source.UNKNOWN if gpu is None else Source.ABSENT
    rows = [
        make_phase(run_id, seq, name=name, epoch=epoch, cpu_j=joules - 10, gpu_j=gpu, gpu_source=source)
        for seq, (name, epoch, joules) in enumerate((("setup", None, 100), ("train", 1, 600), ("validate", 1, 100)))
    ]
    epoch = make_epoch(run_id, 1, energy_j=None if gpu is None else 700.0, energy_total_j=None if gpu is None else 800)
    db.write([make_run(run_id, config={"model": "cnn"}, **run), *rows, epoch, make_end(run_id)])


def test_the_shares_of_phases_and_components(db: Store) -> None:
    phases(db, A)
    [spent] = why(db).spent
    assert {row["name"]: row["share"] for row in spent.phases} == {"setup": 0.125, "train": 0.75, "validate": 0.125}
    assert [(row["component"], row["share"], row["source"]) for row in spent.components] == [
        ("cpu", pytest.approx(770 / 800), "estimated"),
        ("gpu", 0.0, "absent"),
        ("ram", pytest.approx(30 / 800), "estimated"),
    ]


def test_what_is_idle_is_said_where_it_is_known(db: Store, greenml: Greenml) -> None:
    """30 s at 8 W are 240 of 800 J."""
    phases(db, A, meter={"name": "replay", "idle": {"watts": 8, "source": "estimated"}})
    assert "~30.0 % of it is power that the machine draws when idle" in greenml("recommend", "--why", width=120)[1]


def test_without_an_idle_power_nothing_is_said_of_it(db: Store, greenml: Greenml) -> None:
    phases(db, A)
    assert "when idle" not in greenml("recommend", "--why", width=120)[1]


def test_an_unknown_part_stays_unknown(db: Store, greenml: Greenml) -> None:
    phases(db, A, gpu=None)
    found = why(db)
    assert {row["share"] for row in found.spent[0].phases} == {None}
    assert {row["component"]: row["energy_kwh"] is None for row in found.spent[0].components} == {
        "cpu": False,
        "gpu": True,
        "ram": False,
    }
    assert [change.basis for change in found.changes if change.basis == "at most"] == []
    out = greenml("recommend", "--why")[1]
    assert next(line for line in out.splitlines() if line.startswith("in all")).split() == [
        "in", "all", "unknown", "–", "unknown",
    ]  # fmt: skip


def test_energy_is_a_mean_over_the_finished_runs(db: Store, greenml: Greenml) -> None:
    trained(db, A, 3600.0, seed=0)
    trained(db, B, 1800.0, seed=1)
    record(db, C, [0.5], [99.0], ended=False, group_hash="other")
    assert why(db).spent[0].run_ids == [A, B]
    out = greenml("recommend", "--why", width=120)[1]
    # 2 x 1 Wh and 2 x 0.5 Wh.
    assert next(line for line in out.splitlines() if line.startswith("in all")).split()[2:4] == ["~1.50", "Wh"]
    assert "1 run here crashed or failed" in out


def test_of_tracked_runs_the_whole_contest_is_told(db: Store, greenml: Greenml) -> None:
    told: dict[str, Any] = {"kind": "track", "num_parameters": None, "config": {}, "precision": None}
    for run_id in (A, B):
        end = make_end(run_id, best_epoch=None, val_accuracy=None, test_accuracy=None)
        db.write([make_run(run_id, **told), make_phase(run_id, 0), end])
    found = why(db)
    assert [spent.title for spent in found.spent] == ["all runs"]
    assert found.spent[0].run_ids == [A, B]
    assert (found.models, found.changes) == ([], [])
    code, out, _ = greenml("recommend", "--why")
    assert code == 0
    assert "Nothing to compare" in out


# What could be changed


def changes(db: Store) -> dict[str, Change]:
    return {change.what: change for change in why(db).changes}


def test_what_was_measured_has_its_pairs_and_spread(db: Store) -> None:
    for run_id, seed, joules in ((A, 0, 1000.0), (B, 1, 1000.0)):
        trained(db, run_id, joules, seed=seed)
    for run_id, seed, joules in ((C, 0, 500.0), (D, 1, 600.0)):
        trained(db, run_id, joules, 0.88, seed=seed, precision="bf16", config={"precision": "bf16"})
    found = changes(db)["precision fp32 to bf16 (cnn)"]
    assert (found.basis, found.num_runs, found.effort, found.source) == ("tried", 2, "flag", "estimated")
    assert found.ratio == pytest.approx(0.55)
    assert found.std_ratio == pytest.approx(0.1 / 2**0.5)
    assert found.accuracy_difference == pytest.approx(-0.02)
    assert found.run_ids == (A, B, C, D)


def test_what_made_it_worse_is_said(db: Store, greenml: Greenml) -> None:
    trained(db, A, 1000.0)
    trained(db, B, 1500.0, precision="bf16", config={"precision": "bf16"})
    assert changes(db)["precision fp32 to bf16 (cnn)"].ratio == pytest.approx(1.5)
    line = next(line for line in greenml("recommend", "--why")[1].splitlines() if line.startswith("precision fp32"))
    assert "~+50.0" in line  # its joules are estimated


def test_early_stopping_that_stopped_nothing_saved_nothing(db: Store) -> None:
    trained(db, A, 1000.0, config={"early_stop": False})
    trained(db, B, 900.0, config={"early_stop": True})
    assert changes(db)["early_stop (cnn)"].basis == "chance"


def test_early_stopping_that_stopped(db: Store) -> None:
    record(db, A, [0.8, 0.9, 0.9], [100.0] * 3, config={"model": "cnn", "early_stop": False}, group_hash="g1")
    record(db, B, [0.8, 0.9], [100.0] * 2, config={"model": "cnn", "early_stop": True}, group_hash="g2")
    found = changes(db)["early_stop (cnn)"]
    assert (found.basis, found.ratio) == ("tried", pytest.approx(2 / 3))
    assert found.remark == "against 3 epochs, which somebody chose"


def test_hindsight_is_labelled_so(db: Store) -> None:
    """Within a point of its best after one epoch of four."""
    record(db, A, [0.9, 0.9, 0.9, 0.905], [100.0] * 4)
    found = changes(db)["stop at epoch 1 of 4"]
    assert (found.basis, found.ratio, found.num_runs) == ("hindsight", pytest.approx(0.25), 1)
    assert found.accuracy_difference == pytest.approx(-0.005)


def test_a_mean_of_epochs_is_about_one(db: Store) -> None:
    for run_id, seed, accuracies in ((A, 0, [0.9, 0.9, 0.9, 0.905]), (B, 1, [0.5, 0.6, 0.9, 0.9])):
        record(db, run_id, accuracies, [100.0] * 4, seed=seed, group_hash="g")
    found = changes(db)["stop at about epoch 2 of 4"]
    assert (found.ratio, found.num_runs) == (pytest.approx((0.25 + 0.75) / 2), 2)


def test_hindsight_of_a_run_of_unknown_energy_is_unknown(db: Store) -> None:
    """A mean over the one that is known would be called one of two runs."""
    record(db, A, [0.9, 0.9, 0.905], [100.0] * 3, seed=0, group_hash="g")
    record(db, B, [0.9, 0.9, 0.905], [100.0] * 3, seed=1, group_hash="g")
    db.write([make_phase(B, 9, name="test", cpu_j=None, cpu_source=Source.UNKNOWN)])
    assert db.rows("select total_j from run_figures where run_id = ?", [B]) == [{"total_j": None}]
    assert not [change for change in why(db).changes if change.basis == "hindsight"]


def test_a_share_is_the_most_that_can_be_saved(db: Store) -> None:
    phases(db, A)
    found = changes(db)
    assert (found["less setting up"].basis, found["less setting up"].ratio) == ("at most", 0.875)
    assert found["a smaller val_fraction"].ratio == 0.875


def test_a_cheaper_model_is_a_change(db: Store) -> None:
    trained(db, A, 100.0, **SMALL)
    trained(db, B, 1000.0, **LARGE)
    found = changes(db)["small x 2 for large x 2"]
    assert (found.ratio, found.num_runs) == (pytest.approx(0.1), 1)


def test_another_grid_is_computed_and_not_measured(db: Store) -> None:

    india = grid.resolve("IN-TN")
    record(db, A, [0.9], [100.0], intensity=india)
    found = {change.what: change for change in why(db).changes if change.of == "CO2e"}
    world = found["grid of world average"]
    assert (world.basis, world.effort, world.source) == ("computed", "operations", None)
    assert "at an equal PUE" in world.remark
    assert world.ratio == pytest.approx(grid.resolve(None).g_per_kwh / india.g_per_kwh)
    [cloud] = [change for what, change in found.items() if what != "grid of world average"]
    assert cloud.what.endswith(", India")
    assert cloud.ratio is not None


def test_another_grid_is_held_against_what_counted_by_the_hour(db: Store) -> None:
    """A run that took its joules at 100 g/kWh in a country of about 700."""
    rows = [make_run(A, intensity=replace(grid.resolve("IN-TN"), level="trace")), make_epoch(A, 1)]
    db.write([*rows, make_phase(A, 0, epoch=1, g_per_kwh=100.0, intensity_status="actual"), make_end(A)])
    [world] = [change for change in why(db).changes if change.what == "grid of world average"]
    assert world.ratio == pytest.approx(grid.resolve(None).g_per_kwh / 100)
    assert "100 g/kWh" in world.remark


def test_of_runs_on_two_grids_no_third_is_computed(db: Store) -> None:
    trained(db, A, 100.0)
    trained(db, B, 100.0, seed=1, intensity=replace(WORLD, g_per_kwh=56.0, region_asked="FR", region_used="France"))
    assert not [change for change in why(db).changes if change.of == "CO2e"]


def test_what_was_not_tried_has_a_command_and_no_number(db: Store, greenml: Greenml) -> None:
    trained(db, A, 100.0, config={"dataset": "digits", "batch_size": 64, "image_size": 16, "early_stop": False})
    untried = [change for change in why(db).changes if change.basis == "not tried"]
    assert [change.what for change in untried] == [
        "precision bf16 (cnn)",
        "early_stop true (cnn)",
        "batch_size 128 (cnn)",
        "image_size 8 (cnn)",
        "grad_accum 2, batch_size 32 (cnn)",
    ]
    assert {(change.ratio, change.num_runs) for change in untried} == {(None, None)}
    assert untried[0].command == "greenml train cnn --dataset digits --epochs 2 --precision bf16 --batch-size 64"
    assert untried[0].command in greenml("recommend", "--why", width=120)[1]


def test_of_somebody_elses_program_nothing_is_said_that_it_could_not_do(db: Store) -> None:
    """Its command has no flags of ours: nothing would be measured by it."""
    phases(db, A, kind="track", command="greenml track -- python mine.py")
    found = why(db).changes
    assert [change.what for change in found if change.basis == "at most"] == ["less setting up"]
    assert not [change for change in found if change.basis == "not tried"]


def test_what_was_tried_is_not_asked_for_again(db: Store) -> None:
    trained(db, A, 1000.0)
    trained(db, B, 500.0, precision="bf16", config={"precision": "bf16"})
    assert not [change for change in why(db).changes if change.basis == "not tried" and "precision" in change.what]


# Asked


@pytest.mark.parametrize("flags", [("--json",), ("--low-carbon", "20g")])
def test_why_is_refused_where_there_is_no_sentence(db: Store, greenml: Greenml, flags: tuple[str, ...]) -> None:
    record(db, A, [0.9], [100.0])
    code, _, err = greenml("recommend", "--why", *flags)
    assert (code, err.splitlines()[0]) == (2, "greenml: error: --why goes with a recommendation, in words")


def test_an_empty_store(greenml: Greenml) -> None:
    code, out, err = greenml("recommend", "--why")
    assert (code, out) == (0, "")
    assert "no runs yet" in err


@pytest.mark.parametrize("width", [80, 120])
def test_it_keeps_to_the_screen(db: Store, greenml: Greenml, width: int) -> None:
    trained(db, A, 1000.0, **SMALL | {"model": "[red]a <b>rather</b> long name of a model 🌱"})
    trained(db, B, 500.0, **LARGE)
    out = greenml("recommend", "--why", width=width)[1]
    from rich.cells import cell_len

    own = [line for line in out.splitlines() if "greenml train" not in line]
    assert max(map(cell_len, own)) <= width
    assert "[red]a <b>" in out
