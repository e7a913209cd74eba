"""`greenml recommend`: the right choice, in a true sentence, with a command that runs."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
import shlex
import sys
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from conftest import STARTED_AT, WORLD, make_end, make_epoch, make_phase, make_run, record
from test_answers import Contender, World, assert_alike, counting, random_contest, recipe_points, recipes_of

from greenml import cli
from greenml import config as configs
from greenml.cli import afterwards, repeating
from greenml.cli import train as training
from greenml.errors import StoreError
from greenml.recommend import Asked, advise
from greenml.records import Source
from greenml.resources import shipped
from greenml.units import JOULES_PER_KWH, kwh

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from conftest import Greenml

    from greenml.store import Store

    Row = dict[str, Any]

WH = 3600.0


@pytest.fixture(autouse=True)
def default_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The one that commands look into by themselves is that of the fixture `db`."""
    monkeypatch.setenv("GREENML_STORE", str(tmp_path / "store" / "greenml.duckdb"))


def trained(
    db: Store,
    run_id: str,
    model: str,
    accuracies: Sequence[float],
    joules: float | Sequence[float | None],
    *,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    **run: Any,
) -> None:
    """A run of `greenml train`, which repeats whatever has its model, length and other settings."""
    own = settings or {}
    config = {"model": model, "dataset": run.get("dataset", "digits"), "epochs": len(accuracies), "seed": seed, **own}
    flags = shlex.join(word for key, value in own.items() for word in (f"--{key.replace('_', '-')}", str(value)))
    values: dict[str, Any] = {
        "model": model,
        "seed": seed,
        "config": config,
        "command": f"greenml train {model} {flags}",
        "precision": own.get("precision", "fp32"),
        "group_hash": f"{model} {len(accuracies)} {own}",
    }
    used = [joules] * len(accuracies) if isinstance(joules, float) else joules
    record(db, run_id * 12, accuracies, used, **values | run)


def seeds(db: Store, run_ids: str, model: str, curves: Sequence[Sequence[float]], joules: float, **run: Any) -> None:
    """The same recipe under a seed for each curve."""
    for seed, (run_id, curve) in enumerate(zip(run_ids, curves, strict=True)):
        trained(db, run_id, model, curve, joules, seed=seed, **run)


def two_recipes(db: Store) -> None:
    """Three seeds each: a small model that comes within a point of a large one, for a quarter of its energy."""
    seeds(db, "abc", "mobilenetv2_100", [[0.6, 0.86], [0.6, 0.87], [0.6, 0.88]], 5 * WH)
    seeds(db, "def", "resnet18", [[0.5, 0.7, 0.86, 0.87], [0.5, 0.7, 0.87, 0.875], [0.5, 0.7, 0.88, 0.88]], 10 * WH)


def only(db: Store, **asked: Any) -> Any:
    """The one piece of advice."""
    [advice] = advise(db, Asked(**asked))
    return advice


# What it says


def test_a_sentence_that_a_person_would_say(db: Store, greenml: Greenml) -> None:
    two_recipes(db)

    code, out, err = greenml("recommend", width=400)

    assert code == 0
    assert out.splitlines() == [
        "Use mobilenetv2_100 for 2 epochs instead of resnet18 for 4: 87.0 % against 87.5 % on validation, at ~25 % of "
        "the CO2 (runs aaaaaaaa, bbbbbbbb, cccccccc against dddddddd, eeeeeeee, ffffffff; 3 seeds each, difference "
        "within the spread)",
        "",
        "  greenml train mobilenetv2_100 --dataset digits --epochs 2",
    ]
    assert err.splitlines() == [
        "mobilenetv2_100 for 2 epochs: 87.0 ± 1.0 %, ~10.0 Wh, ~4.75 g CO2e, 20.0 s; n = 3, seeds 0, 1, 2; "
        "runs aaaaaaaa, bbbbbbbb, cccccccc",
        "resnet18 for 4 epochs: 87.5 ± 0.5 %, ~40.0 Wh, ~19.0 g CO2e, 40.0 s; n = 3, seeds 0, 1, 2; "
        "runs dddddddd, eeeeeeee, ffffffff",
        "accuracy is that on validation; a recipe is one config under any seed",
        "energy is that of a run until then, setting up included; time is that of training and validation alone",
        "~ estimated by a power model, not measured",
    ]


def test_it_fits_80_columns(db: Store, greenml: Greenml) -> None:
    two_recipes(db)
    _, out, _ = greenml("recommend")
    assert max(map(len, out.splitlines())) <= 80


def test_a_difference_beyond_the_spread_is_called_that(db: Store) -> None:
    seeds(db, "ab", "cnn", [[0.850], [0.851]], 1 * WH)
    seeds(db, "cd", "resnet18", [[0.858], [0.859]], 9 * WH)
    assert only(db).sentence.endswith("2 seeds each, difference beyond the spread)")


def test_fewer_epochs_of_the_best_itself_are_hindsight(db: Store) -> None:
    trained(db, "a", "resnet18", [0.5, 0.88, 0.885, 0.88], 10 * WH)

    advice = only(db)

    assert advice.sentence == (
        "Use resnet18 for 2 of its 4 epochs: 88.0 % against 88.5 % on validation, at ~50 % of the CO2, in hindsight "
        "(run aaaaaaaa; 1 run, the spread is unknown)"
    )
    assert advice.command == "greenml train resnet18 --dataset digits --epochs 2"
    assert any(line.startswith("in hindsight: its runs went on to epoch 4") for line in advice.evidence)
    assert "resnet18 was there after epoch 3 of 4: against that, ~67 % of the CO2" in advice.evidence


@pytest.mark.parametrize(("off", "verdict"), [(0.01, "within"), (0.001, "beyond")])
def test_hindsight_has_a_spread_too(db: Store, off: float, verdict: str) -> None:
    seeds(db, "ab", "resnet18", [[0.5, 0.88 - off, 0.885 - off], [0.5, 0.88 + off, 0.885 + off]], 10 * WH)
    assert only(db).sentence.endswith(
        f", in hindsight (runs aaaaaaaa, bbbbbbbb; 2 seeds, difference {verdict} the spread)"
    )


def test_epochs_that_somebody_chose_afterwards_are_hindsight_against_another_too(db: Store) -> None:
    trained(db, "a", "cnn", [0.5, 0.9, 0.89], 1 * WH)
    trained(db, "b", "resnet18", [0.5, 0.905], 9 * WH)
    assert "at ~11 % of the CO2, in hindsight (run aaaaaaaa against bbbbbbbb;" in only(db).sentence


def test_epochs_that_bought_the_other_nothing_are_said(db: Store) -> None:
    """It had its accuracy after two epochs of ten."""
    trained(db, "a", "cnn", [0.7, 0.9], 4.5 * WH)
    trained(db, "b", "resnet18", [0.7, 0.905, *[0.8] * 8], 5 * WH)

    advice = only(db)

    assert "instead of resnet18 for 10" in advice.sentence
    assert "at ~18 % of the CO2 (" in advice.sentence
    assert "resnet18 was there after epoch 2 of 10: against that, ~90 % of the CO2" in advice.evidence
    assert not any("was there after" in line for line in only(db, target_accuracy=0.9).evidence)


def test_energies_that_are_not_known_alike_are_said(db: Store) -> None:
    cnn = make_epoch("a" * 12, 1, source=Source.MEASURED, energy_j=9.0, energy_total_j=9.0)
    db.write([make_run("a" * 12), make_phase("a" * 12, 0, cpu_source=Source.MEASURED), cnn, make_end("a" * 12)])
    trained(db, "b", "resnet18", [0.905], 100.0)
    assert "energy is not known alike: of cnn measured, of the other estimated" in only(db).evidence


def test_a_recipe_of_which_no_run_has_finished_is_called_that(db: Store) -> None:
    trained(db, "a", "cnn", [0.5, 0.9], 1 * WH, ended=False)
    trained(db, "b", "resnet18", [0.5, 0.905], 9 * WH)
    assert "no run of it has finished: cnn" in only(db).evidence


def test_of_equally_cheap_ones_the_most_accurate(db: Store) -> None:
    """As in `swaps`, and not the one with fewer epochs."""
    trained(db, "a", "cnn", [0.9], 2 * WH)
    trained(db, "b", "lenet", [0.5, 0.905], 1 * WH)
    trained(db, "c", "resnet18", [0.5, 0.905], 9 * WH)

    [swap] = db.rows("from swaps where model = 'resnet18'")
    assert (only(db).rows[0]["model"], swap["use_model"]) == ("lenet", "lenet")


def test_the_spread_is_that_of_the_first_of_equally_accurate_epochs(db: Store) -> None:
    seeds(db, "ab", "cnn", [[0.88], [0.9]], 1 * WH)
    seeds(db, "cd", "resnet18", [[0.85, 0.9, 0.89], [0.86, 0.9, 0.91]], 9 * WH)
    row = only(db).rows[0]
    assert (row["against_accuracy"], row["against_best_epoch"], row["against_std_accuracy"]) == (0.9, 2, 0.0)


def test_where_nothing_is_cheaper_it_says_so(db: Store) -> None:
    seeds(db, "ab", "cnn", [[0.5, 0.9], [0.5, 0.91]], 1 * WH)
    seeds(db, "cd", "resnet18", [[0.5, 0.6], [0.5, 0.6]], 9 * WH)

    advice = only(db)

    assert advice.sentence == (
        "Use cnn for 2 epochs: 90.5 % on validation for ~2.00 Wh, ~950 mg CO2e, 20.0 s; nothing cheaper comes within "
        "1 percentage point of it (runs aaaaaaaa, bbbbbbbb; 2 seeds)"
    )
    assert advice.runners_up == [
        "resnet18 for 2 epochs: 60.0 ± 0.0 % for ~18.0 Wh, ~8.55 g CO2e, 20.0 s (n = 2; runs cccccccc, dddddddd); "
        "instead of its 2 epochs, cnn for 2: 90.5 % against 60.0 % at ~11 % of the CO2, difference beyond the spread"
    ]
    assert advice.next_command is None


def test_recipes_of_one_model_are_told_apart(db: Store) -> None:
    trained(db, "a", "cnn", [0.9], 1 * WH, settings={"precision": "bf16", "lr": 0.01})
    trained(db, "b", "cnn", [0.9, 0.905], 9 * WH, settings={"lr": 0.002})

    advice = only(db)

    assert advice.sentence.startswith(
        "Use cnn in bf16 with lr 0.01 for 1 epoch instead of cnn in fp32 with lr 0.002 for 2: 90.0 % against 90.5 %"
    )
    assert advice.command == "greenml train cnn --dataset digits --epochs 1 --precision bf16 --lr 0.01"


def test_another_grid_is_said_with_both_ratios(db: Store) -> None:
    france = replace(WORLD, g_per_kwh=50.0, region_used="FRA", pue=1.2)
    trained(db, "a", "cnn", [0.9], 5 * WH, intensity=france)
    trained(db, "b", "resnet18", [0.905], 10 * WH)

    advice = only(db)

    assert "at ~50 % of the energy and ~6.3 % of the CO2 (" in advice.sentence
    assert "CO2 differs for the grid, too: cnn in FRA, PUE 1.2 against resnet18 in world" in advice.evidence


def test_another_machine_is_said(db: Store) -> None:
    trained(db, "a", "cnn", [0.9], 5 * WH, hardware={"cpu": "small", "gpu": None})
    trained(db, "b", "resnet18", [0.905], 10 * WH, hardware={"cpu": "large", "gpu": "H200"})
    assert "not on one machine: cnn on small, resnet18 on H200" in only(db).evidence


def test_runners_up_say_what_would_have_served_in_their_place(db: Store) -> None:
    trained(db, "a", "cnn", [0.5, 0.7, 0.9], 1 * WH)
    trained(db, "b", "resnet18", [0.5, 0.705, 0.7], 9 * WH)
    trained(db, "c", "lenet", [0.3], 0.4 * WH)

    advice = only(db)

    assert advice.runners_up == [
        "resnet18 for 2 epochs: 70.5 % for ~18.0 Wh, ~8.55 g CO2e, 20.0 s (n = 1; run bbbbbbbb); "
        "instead of its 3 epochs, cnn for 2: 70.0 % against 70.5 % at ~7.4 % of the CO2, in hindsight, "
        "the spread is unknown",
        "lenet for 1 epoch: 30.0 % for ~400 mWh, ~190 mg CO2e, 10.0 s (n = 1; run cccccccc)",
    ]


def test_a_training_under_several_rules_that_stop_it_is_one_choice(db: Store, greenml: Greenml) -> None:
    """Its epochs are the same ones; who was trained otherwise is another choice."""
    trained(db, "a", "cnn", [0.5, 0.7, 0.9], 1 * WH, settings={"lr": 0.1})
    trained(db, "b", "resnet18", [0.5, 0.7], 9 * WH, settings={"lr": 0.002})
    trained(db, "c", "resnet18", [0.5, 0.7, 0.7], 9 * WH, settings={"lr": 0.002, "early_stop": True, "seed": 3})
    trained(db, "d", "resnet18", [0.4, 0.6], 9 * WH, settings={"lr": 0.01})

    said = [line.partition(" for")[0] for line in only(db).runners_up]

    assert said == ["resnet18 with lr 0.002", "resnet18 with lr 0.01"]
    assert len(only(db, num_runners_up=1).runners_up) == 1
    assert len(json.loads(greenml("recommend", "--json")[1])) == 4
    assert len(json.loads(greenml("recommend", "--low-carbon", "20g", "--json")[1])) == 3


def test_what_stops_a_training_is_said_alike_in_sql() -> None:
    text = (shipped("sql") / "views" / "8_recommended.sql").read_text(encoding="utf-8")
    [named] = re.findall(r"json_extract_string\(known_config, \[(.*?)\]\)", text, re.DOTALL)
    assert set(re.findall(r"'(\w+)'", named)) == {*configs.KEYS} - {*configs.STOP_RULES, *configs.OF_ONE_RUN}


def test_what_runners_up_are_told_keeps_to_the_limits(db: Store) -> None:
    """Nine grams are two epochs of cnn, and it takes three for what resnet18 reached at its end."""
    trained(db, "a", "cnn", [0.5, 0.7, 0.9], 9 * WH)
    trained(db, "b", "resnet18", [0.6, 0.905], 18 * WH)
    trained(db, "c", "lenet", [0.5, 0.89, 0.89], 18 * WH)
    asked = {"max_co2_g": 9.0, "tolerance": 0.02}

    assert not any("instead of" in line for line in only(db, **asked).runners_up)
    assert any("instead of its 3 epochs, cnn for 3" in line for line in only(db, tolerance=0.02).runners_up)


# A target, and limits


def test_a_target_is_reached_by_the_cheapest_and_held_against_the_next(db: Store) -> None:
    two_recipes(db)
    advice = only(db, target_accuracy=0.86)
    assert advice.sentence.startswith(
        "To reach 86 %, use mobilenetv2_100 for 2 epochs instead of resnet18 for 3: 87.0 % against 87.0 % on "
        "validation, at ~33 % of the CO2 ("
    )
    [alone] = advise(db, Asked(target_accuracy=0.873))
    assert alone.sentence.startswith("To reach 87.3 %, use resnet18 for 4 epochs: 87.5 %")
    assert "nothing cheaper reached that" in alone.sentence


def test_a_target_that_nothing_reached_says_what_came_closest_and_what_to_run(db: Store) -> None:
    two_recipes(db)

    advice = only(db, target_accuracy=0.95)

    assert advice.sentence.startswith("Nothing on digits reached 95 %: resnet18 for 4 epochs came closest, 87.5 % on")
    assert (advice.is_answer, advice.command) == (False, None)
    assert advice.next_command == "greenml train resnet18 --dataset digits --epochs 8 --target-acc 0.95"
    assert "4 epochs took ~40.0 Wh, ~19.0 g CO2e, 40.0 s" in advice.next_reason


def test_limits_allow_the_most_accurate_within_them(db: Store) -> None:
    two_recipes(db)
    by_mass, by_time = only(db, max_co2_g=10.0), only(db, max_time_s=35.0)

    assert by_mass.sentence.startswith(
        "Within 10.0 g CO2e, use mobilenetv2_100 for 2 epochs instead of resnet18 for 4: 87.0 % against 87.5 %"
    )
    assert by_time.rows[0]["model"] == "mobilenetv2_100"
    assert by_time.rows[0]["accuracy"] == pytest.approx(by_time.rows[1]["accuracy"])  # and resnet18 for 3 costs more
    assert only(db, max_time_s=40.0).rows[0]["model"] == "resnet18"
    assert only(db, max_time_s=40.0, tolerance=0.01).rows[0]["model"] == "mobilenetv2_100"


def test_limits_that_nothing_keeps_are_said_with_a_training_that_does(db: Store) -> None:
    two_recipes(db)

    advice = only(db, max_co2_g=1.0, max_time_s=300.0)

    assert advice.sentence.startswith(
        "Nothing on digits kept within 1.00 g CO2e and 5:00: mobilenetv2_100 for 1 epoch took the least energy, ~5.00"
    )
    assert advice.next_command == "greenml train cnn --dataset digits --epochs 2 --time-budget 300s --carbon-budget 1g"


def test_time_counts_the_epochs_of_an_unfinished_schedule_too(db: Store) -> None:
    """Only the last epoch of a decaying rate is a point: it has the time of all."""
    rows = [make_epoch("a" * 12, epoch, schedule_complete=epoch == 3) for epoch in (1, 2, 3)]
    db.write([make_run("a" * 12), *(make_phase("a" * 12, n, epoch=n + 1) for n in range(3)), *rows, make_end("a" * 12)])

    [row] = only(db).rows

    assert (row["epochs"], row["duration_s"], row["trained_duration_s"]) == (3, 30.0, 30.0)
    assert only(db, max_time_s=29.0).rows[0]["shortfall"] == "outside the limits"
    assert only(db, max_time_s=30.0).rows[0]["shortfall"] is None


# Too little, or nothing


def test_one_run_each_asks_for_the_second_seed_of_the_cheaper(db: Store) -> None:
    trained(db, "a", "cnn", [0.5, 0.9], 2 * WH, seed=3)
    trained(db, "b", "resnet18", [0.5, 0.905], 9 * WH)

    advice = only(db)

    assert advice.sentence.endswith("(run aaaaaaaa against bbbbbbbb; 1 run each, the spread is unknown)")
    assert advice.next_command == "greenml train cnn --dataset digits --epochs 2 --seed 4"
    assert "takes what its run took, ~4.00 Wh, ~1.90 g CO2e, 20.0 s" in advice.next_reason


def test_one_seed_twice_is_no_spread(db: Store) -> None:
    trained(db, "a", "cnn", [0.9], 1 * WH)
    trained(db, "b", "cnn", [0.9], 1 * WH)
    seeds(db, "cd", "resnet18", [[0.903], [0.905]], 9 * WH)

    advice = only(db)

    assert advice.sentence.endswith("the spread is unknown)")
    assert advice.next_reason.startswith("cnn ran under one seed: the same under seed 1 shows the spread")
    assert advice.next_command == "greenml train cnn --dataset digits --epochs 1 --seed 1"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("resnet18", "greenml train cnn --dataset digits --epochs 2 --precision bf16"),
        ("cnn", "greenml train cnn --dataset digits --epochs 2 --seed 1 --precision bf16"),
    ],
)
def test_one_recipe_alone_asks_for_the_cheapest_run_that_tells_more(db: Store, model: str, expected: str) -> None:
    trained(db, "a", model, [0.5, 0.9], 2 * WH, settings={"precision": "bf16"})
    advice = only(db)
    assert advice.next_command == expected
    assert ("what it takes is not known yet" in advice.next_reason) == (model == "resnet18")


def test_the_model_that_was_not_tried_yet_is_named(db: Store) -> None:
    trained(db, "a", "cnn", [0.9], 1 * WH)
    trained(db, "b", "resnet18", [0.5, 0.905, *[0.9] * 6], 9 * WH)
    trained(db, "c", "cnn", [0.4, 0.4], 1 * WH)

    advice = only(db, target_accuracy=0.95)

    assert advice.next_reason.startswith("its accuracy peaked at epoch 2 of 8: another model may get there; what it")
    assert advice.next_command == "greenml train mobilenetv2_100 --dataset digits --epochs 8"


def test_where_all_have_been_tried_more_epochs_are_left(db: Store) -> None:
    for run_id, model in (("a", "cnn"), ("b", "resnet18"), ("c", "mobilenetv2_100")):
        trained(db, run_id, model, [0.905, *[0.9] * 6], 1 * WH)
    assert only(db, target_accuracy=0.95).next_reason.startswith("more epochs may get there")


def test_what_ended_a_run_early_does_not_end_the_longer_one(db: Store) -> None:
    rules = {"early_stop": True, "patience": 2, "time_budget": "30s", "target_acc": 0.9}
    trained(db, "a", "cnn", [0.5, 0.9], 1 * WH, settings=rules)

    assert only(db, target_accuracy=0.95).next_command == (
        "greenml train cnn --dataset digits --epochs 4 --target-acc 0.95"
    )
    own = configs.validate({"model": "cnn", "dataset": "digits", "epochs": 2, "warmup_steps": 7, **rules})
    folder = db.path.parent / "runs" / ("b" * 12)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(configs.dump(own))
    record(
        db, "b" * 12, [0.5, 0.91], [1e3, 1e3], config=asdict(own), command="greenml train --config x", data_hash="d2"
    )
    by_file = {one.contest[:2]: one for one in advise(db, Asked(target_accuracy=0.95))}["d2"]
    assert by_file.next_command is None  # no flag takes a budget back
    without = replace(own, time_budget=None)
    (folder / "config.yaml").write_text(configs.dump(without))
    record(
        db,
        "c" * 12,
        [0.5, 0.92],
        [1e3, 1e3],
        config=asdict(without),
        command="greenml train --config x",
        data_hash="d3",
    )
    folder.rename(folder.with_name("c" * 12))
    by_file = {one.contest[:2]: one for one in advise(db, Asked(target_accuracy=0.95))}["d3"]
    assert parsed(by_file.next_command or "") == replace(
        without, epochs=4, target_acc=0.95, early_stop=False, patience=5
    )
    assert "--no-early-stop" in (by_file.next_command or "")


def test_beyond_the_limits_more_epochs_are_no_way_out(db: Store) -> None:
    """One epoch of resnet18 keeps to the limit and got nowhere near; the rest of its run is not asked for again."""
    trained(db, "a", "resnet18", [0.5, 0.7, 0.9], 10 * WH)
    advice = only(db, target_accuracy=0.85, max_co2_g=5.0)
    assert (advice.rows[0]["shortfall"], advice.rows[0]["epochs"]) == ("not accurate enough", 1)
    assert advice.next_command == "greenml train cnn --dataset digits --epochs 3 --carbon-budget 5g"
    trained(db, "b", "cnn", [0.6, 0.9], 10 * WH)
    assert only(db, target_accuracy=0.85, max_co2_g=5.0).next_command is None


def test_what_learned_nothing_is_never_recommended(db: Store) -> None:
    """It wins every ratio."""
    trained(db, "a", "cnn", [0.12], 0.001 * WH)
    trained(db, "b", "resnet18", [0.9], 100 * WH)

    assert only(db).rows[0]["model"] == "resnet18"
    assert only(db, tolerance=0.9).rows[0]["model"] == "resnet18"
    assert only(db, max_co2_g=1.0).is_answer is False
    assert only(db, target_accuracy=0.05).rows[0]["model"] == "resnet18"


def test_where_nothing_learned_there_is_no_recommendation(db: Store) -> None:
    trained(db, "a", "cnn", [0.1, 0.12], 1 * WH)
    advice = only(db)
    assert advice.sentence.startswith("No recommendation for digits: nothing is clearly above guessing yet")
    assert advice.next_command == "greenml train cnn --dataset digits --epochs 4"


def test_where_all_energy_is_unknown_there_is_no_recommendation(db: Store) -> None:
    trained(db, "a", "cnn", [0.5, 0.9], [None, None])

    advice = only(db)

    assert advice.sentence == (
        "No recommendation for digits: what its runs took is not known in full. The most accurate is cnn for 2 epochs, "
        "90.0 % on validation (run aaaaaaaa; 1 run)"
    )
    assert (advice.command, advice.next_command) == (None, "greenml doctor")
    assert advice.rows[0]["energy_kwh"] is None


def test_a_gap_after_the_point_leaves_the_ratio_unknown(db: Store) -> None:
    trained(db, "a", "cnn", [0.895], 1 * WH)
    trained(db, "b", "resnet18", [0.9, 0.9], [9 * WH, None])
    assert "for ~1.00 Wh, ~475 mg CO2e, 10.0 s; what the other took is not known in full (" in only(db).sentence


def test_what_cannot_be_metered_is_counted_out_aloud(db: Store) -> None:
    trained(db, "a", "cnn", [0.8], 1 * WH)
    trained(db, "b", "resnet18", [0.9], [None])
    advice = only(db)
    assert advice.rows[0]["model"] == "cnn"
    assert "1 recipe does not count: what it took is not known in full" in advice.evidence


def test_other_metrics_get_no_recommendation(db: Store) -> None:
    none = dict.fromkeys(("val_accuracy", "test_accuracy", "test_count"), None)
    run = make_run("a" * 12, kind="track", dataset="power", data_hash=None, split_hash=None)
    db.write([run, make_phase("a" * 12, 0), make_epoch("a" * 12, 1, val_accuracy=None, value=0.5)])
    db.write([make_end("a" * 12, metric="mae", goal="min", value=0.5, **none)])

    advice = only(db)

    assert (
        advice.sentence
        == "No recommendation for power, by mae (less is better): only accuracy is ranked against energy"
    )
    assert (advice.next_command, advice.rows) == (None, [])


def test_a_run_without_an_epoch_says_what_to_run(db: Store) -> None:
    db.write([make_run("a" * 12), make_phase("a" * 12, 0), make_end("a" * 12, status="failed")])
    advice = only(db)
    assert advice.sentence.startswith("No recommendation for digits: no run counts yet")
    assert advice.next_command == "greenml train cnn --dataset digits"


def test_an_empty_store_says_where_to_begin(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    for arguments in ([], ["--store", str(tmp_path / "none.duckdb")]):
        code, out, err = greenml("recommend", *arguments)
        assert (code, out) == (0, "")
        assert err.splitlines()[1:] == ["hint: greenml train cnn --dataset digits"]
        assert greenml("recommend", "--json", *arguments)[:2] == (0, "[]\n")


# Several contests


def test_each_contest_has_its_block_the_newest_first(db: Store, greenml: Greenml) -> None:
    for n in range(7):
        began = STARTED_AT + timedelta(hours=n)
        trained(db, str(n), "cnn", [0.9], 1 * WH, dataset=f"pets{n}", data_hash=f"d{n}", started_at=began)

    _, out, err = greenml("recommend")

    assert [line for line in out.splitlines() if line.startswith("pets")] == [f"pets{n}:" for n in (6, 5, 4, 3, 2)]
    assert err.splitlines()[-1] == "not looked at, as they are older: pets1, pets0; --dataset asks for them"
    assert greenml("recommend", "--dataset", "pets[01]")[1].count("Use cnn") == 2
    assert len(json.loads(greenml("recommend", "--json")[1])) == 7
    listed = greenml("recommend", "--low-carbon", "20g")
    assert [listed[1].count(f"pets{n}") for n in range(7)] == [1] * 7
    assert "is known to learn" not in listed[2]
    assert greenml("recommend", "--dataset", "dogs") == (
        0, "", "no run on a data set like `dogs` counts: `greenml board --all` shows all runs\n",
    )  # fmt: skip


def test_contests_on_one_data_set_are_told_apart(db: Store) -> None:
    trained(db, "a", "cnn", [0.9], 1 * WH)
    trained(db, "b", "cnn", [0.9], 1 * WH, split_hash="s2")
    trained(db, "c", "cnn", [0.9], 1 * WH, scope="process")
    assert sorted(advice.title for advice in advise(db, Asked())) == [
        "digits (data d1, split s1)", "digits (data d1, split s2)", "digits, metered as the share of its processes",
    ]  # fmt: skip


# Whose runs


def test_a_tracked_program_is_run_by_its_own_command(db: Store) -> None:
    trained(db, "a", "mine", [0.5, 0.9], 1 * WH, kind="track", command="greenml track -- python 'my script.py'")
    advice = only(db)
    assert advice.command == advice.next_command == "greenml track -- python 'my script.py'"
    assert not any(line.startswith("its own command") for line in advice.evidence)
    longer = {"dataset": "other", "data_hash": "d2", "command": "greenml track -- python b.py"}
    trained(db, "b", "mine", [0.5, 0.9, 0.9], 1 * WH, kind="track", **longer)
    advice = only(db, dataset="other")
    assert advice.sentence.startswith("Use mine for 2 of its 3 epochs")
    assert advice.command == "greenml track -- python b.py"
    assert "its own command: epochs are set in the program, which ran 3" in advice.evidence


def test_an_imported_run_is_on_its_importers_word(db: Store) -> None:
    trained(db, "a", "theirs", [0.9], 1 * WH, kind="import", command="greenml import log.csv")
    advice = only(db)
    assert (advice.command, advice.next_command) == (None, None)
    assert "accuracy and data of imported runs are on their importer's word: theirs" in advice.evidence


NAMES = [
    'it\'s "quoted"',
    "[bold]loud[/bold]",
    "two\nlines",
    "\N{SEEDLING}\N{ZERO WIDTH JOINER}",
    "\x1b[31mred",
    "$(ls)",
]


@pytest.mark.parametrize("name", NAMES)
def test_whatever_people_call_things(db: Store, greenml: Greenml, name: str) -> None:
    trained(db, "a", name, [0.9], 1 * WH, dataset=name)

    code, out, _ = greenml("recommend", width=200)

    assert code == 0
    assert "\x1b" not in out
    assert len(out.splitlines()) == 3
    if name.isprintable():
        assert name in out.splitlines()[0]
    command = only(db).command
    assert shlex.split(command) == ["greenml", "train", name, "--dataset", name, "--epochs", "1"]


# The command


def parsed(command: str) -> configs.Config:
    """What `greenml train` makes of a command line."""
    program, name, *arguments = shlex.split(command)
    assert (program, name) == ("greenml", "train")
    context = typer.main.get_command(cli.app).commands["train"].make_context("train", arguments)  # type: ignore[attr-defined]
    file = context.params["config"]
    return configs.resolve(training.keys(context.params), file and Path(file))


CONFIGS: list[dict[str, Any]] = [
    {},
    {"precision": "bf16", "seed": 4, "lr": 0.01, "region": "IN-TN", "batch_size": 64},
    {"early_stop": True, "patience": 2, "min_delta": 0.001, "target_acc": 0.9, "carbon_budget": "20 g"},
    {"model_args": {"drop_rate": 0.2, "act_layer": "it's a 'name'", "flag": True}, "optimizer": "sgd"},
    {"dataset": "folder:/with a space/and 'quotes'", "data_dir": "/some where", "log": ["mlflow", "wandb"]},
    {"num_threads": 2, "image_size": 32, "weight_decay": 0.0, "val_fraction": 0.2, "pue": 1.5, "require_meter": True},
]


@pytest.mark.parametrize("changes", CONFIGS)
def test_the_command_resolves_to_the_config_of_the_run(db: Store, changes: dict[str, Any]) -> None:
    """What it was called apart, and what it settles by itself where nobody asked for it."""
    asked = configs.validate({"model": "cnn", "dataset": "digits", "epochs": 3, **changes})
    given = " ".join(f"--{key.replace('_', '-')}=x" for key in changes)
    own = {**asdict(asked), "name": "mine", "tags": ["a"]}
    settled = {"lr": 0.002, "image_size": 16, "augment": "crop", "device": "cpu", "num_threads": 8}
    own |= {key: value for key, value in settled.items() if key not in changes}
    record(
        db, "a" * 12, [0.5, 0.9], [1e3, 1e3], config=own, dataset=asked.dataset, command=f"greenml train cnn {given}"
    )

    assert parsed(only(db).command) == replace(asked, epochs=2)


def test_a_config_that_flags_cannot_give_is_taken_from_the_runs_own_file(db: Store) -> None:
    own = configs.Config(model="cnn", dataset="digits", epochs=3, warmup_steps=7, augment="none", lr=0.01)
    command = "greenml train --config mine.yaml"
    record(db, "a" * 12, [0.5, 0.9], [1e3, 1e3], config=asdict(own), command=command)
    folder = db.path.parent / "runs" / ("a" * 12)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(configs.dump(own))

    assert parsed(only(db).command) == replace(own, epochs=2)
    (folder / "config.yaml").unlink()
    advice = only(db)
    assert parsed(advice.command) == replace(own, epochs=2, warmup_steps=100, augment="auto")
    assert "no flag gives augment none, warmup_steps 7: put it into a file for --config" in advice.evidence


def test_another_store_is_named(db: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(db, "a", "cnn", [0.9], 1 * WH)
    monkeypatch.delenv("GREENML_STORE", raising=False)
    assert only(db).command.endswith(f" --store {db.path}")


# JSON and the list of leaders


def test_json_is_the_macro_and_the_best_start(db: Store, greenml: Greenml) -> None:
    two_recipes(db)
    code, out, err = greenml("recommend", "--json", "--target-acc", "86")
    rows = json.loads(out)
    assert (code, err) == (0, "")
    [expected, *_] = db.rows("from recommended(0.86, 0.0, null, null) order by place")
    assert list(rows[0]) == [*expected, "best_start"]
    assert [(row["place"], row["model"], row["shortfall"]) for row in rows] == [
        (1, "mobilenetv2_100", None), (2, "resnet18", None),
    ]  # fmt: skip
    assert rows[0]["energy_ratio"] == pytest.approx(1 / 3)
    assert rows[0]["started_at"] == "2026-03-01T12:00:00Z"
    assert len(json.loads(greenml("recommend", "--json", "--limit", "1")[1])) == 1


def test_low_carbon_leaders(db: Store, greenml: Greenml) -> None:
    two_recipes(db)
    trained(db, "9", "cnn", [0.12], 0.1 * WH)

    code, out, err = greenml("recommend", "--low-carbon", "15g")

    lines = [line.split() for line in out.splitlines()]
    assert (code, max(map(len, out.splitlines())) <= 80) == (0, True)
    assert [line[0] for line in lines[3:]] == ["mobilenetv2_100", "resnet18"]
    assert lines[4][:10] == ["resnet18", "fp32", "3", "3", "87.0", "1.0", "~30.0", "14.2", "30.0", "s"]
    assert "val % is the accuracy on validation" in err
    assert "time is that of training and validation alone" in err
    models = [row["model"] for row in json.loads(greenml("recommend", "--low-carbon", "15g", "--json")[1])]
    assert models == ["mobilenetv2_100", "resnet18"]
    assert greenml("recommend", "--low-carbon", "1mg")[1] == ""


def test_low_carbon_counts_what_it_does_not_list(db: Store, greenml: Greenml) -> None:
    for number in range(12):
        trained(db, f"{number:x}", f"net{number}", [0.5 + number / 100], 1 * WH)
    _, out, err = greenml("recommend", "--low-carbon", "20g", "--limit", "5")
    assert out.count("net") == 5
    assert "7 more on digits: --limit" in err


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--target-acc", "much"], "`much` is no accuracy"),
        (["--target-acc", "101"], "`101` is no accuracy"),
        (["--max-co2", "20"], "--max-co2: `20` has no unit: mg, g, kg, t"),
        (["--max-time", "10 apples"], "--max-time: `10 apples` has the unknown unit `apples`"),
        (["--max-time", "0s"], "--max-time: `0s` is not above 0"),
        (["--low-carbon", "-1g"], "--low-carbon: `-1g` is not a number above 0 with a unit"),
        (["--tolerance", "-1"], "--tolerance: `-1` is no number of percentage points"),
        (["--tolerance", "nan"], "--tolerance: `nan` is no number of percentage points"),
        (["--tolerance", "1", "--target-acc", "85"], "--tolerance is about the most accurate"),
        (["--low-carbon", "1g", "--max-co2", "2g"], "--low-carbon is itself the limit"),
    ],
)
def test_wrong_words_name_the_way_out(greenml: Greenml, arguments: list[str], error: str) -> None:
    code, out, err = greenml("recommend", *arguments)
    assert (code, out) == (2, "")
    wrong, way_out = err.splitlines()
    assert wrong.startswith(f"greenml: error: {error}")
    assert way_out.startswith("hint: ")


# After a training


def test_a_training_ends_with_one_line_of_advice(db: Store, capsys: pytest.CaptureFixture[str]) -> None:
    two_recipes(db)
    trained(db, "9", "cnn", [0.9], 1 * WH, data_hash="d2")
    [contest] = {row["contest"] for row in db.rows("from leaderboard where model = 'resnet18'")}

    afterwards.say_advice(db, contest)

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("greenml recommend: Use mobilenetv2_100 for 2 epochs instead of resnet18 for 4")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(("as_json", "quiet", "times"), [(False, False, 1), (True, False, 1), (False, True, 0)])
def test_repeats_end_with_one_line_for_all(
    db: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    as_json: bool,
    quiet: bool,
    times: int,
) -> None:
    seeds(db, "ab", "cnn", [[0.5, 0.9], [0.5, 0.91]], 1 * WH)
    printed = iter([json.dumps([{"run_id": letter * 12}]) for letter in "ab"])
    monkeypatch.setattr(sys, "argv", ["greenml", "train", "cnn", "--repeats", "2"])
    monkeypatch.setattr(repeating, "watched", lambda *_: (0, next(printed)))

    repeating.repeat(db, range(2), json=as_json, quiet=quiet)

    assert capsys.readouterr().err.count("greenml recommend: Use cnn for 2 epochs") == times


def test_a_training_never_fails_for_want_of_advice(
    db: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(error: Exception) -> Any:
        def advise(*_: object) -> None:
            raise error

        return advise

    monkeypatch.setattr("greenml.recommend.advise", failing(StoreError("the store is busy", hint="wait")))
    afterwards.say_advice(db, "any")
    assert capsys.readouterr().err == "no recommendation: the store is busy\n"
    monkeypatch.setattr("greenml.recommend.advise", failing(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):  # a bug keeps its traceback
        afterwards.say_advice(db, "any")


def test_of_a_tracked_program_only_an_answer_is_said(db: Store, capsys: pytest.CaptureFixture[str]) -> None:
    trained(db, "a", "mine", [0.1], 1 * WH, kind="track")
    [row] = db.rows("select contest from runs")
    afterwards.say_advice(db, row["contest"], answers_only=True)
    assert capsys.readouterr().err == ""
    afterwards.say_advice(db, row["contest"])
    assert capsys.readouterr().err.startswith("greenml recommend: No recommendation for digits")


# The choice itself, against brute force

ASKED = [
    Asked(target_accuracy=target, tolerance=tolerance, max_co2_g=max_co2_g, max_time_s=max_time_s, num_contests=10**6)
    for target, tolerance, max_co2_g, max_time_s in [
        (None, None, None, None),
        (None, 0.05, None, None),
        (None, None, 9.5, None),
        (None, 0.05, None, 25.0),
        (0.05, None, None, None),
        (0.85, None, None, None),
        (0.85, None, 14.25, 30.0),
        (0.95, None, None, None),
    ]
]


class Pile:
    """Takes records as a store does, to be written at once."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def write(self, rows: list[Any]) -> bool:
        self.rows += rows
        return True


def random_contests(db: Store, num_contests: int) -> dict[str, list[dict[str, Any]]]:
    """Runs with ties, gaps and single epochs -> by data hash, every (run, epoch) that may be recommended."""
    chance, pile, points = random.Random(0), Pile(), {}
    for contest in range(num_contests):
        data_hash = f"d{contest}"
        points[data_hash] = []
        for number in range(chance.randint(1, 5)):
            run_id = f"{contest:06x}{number:06x}"
            length = chance.randint(1, 4)
            accuracies = [chance.choice([0.1, 0.2, 0.3, 0.8, 0.85, 0.86, 0.9]) for _ in range(length)]
            joules = [chance.choice([1, 1, 2, 5, None]) for _ in range(length)]
            used = [None if joule is None else 10 * WH * joule for joule in joules]
            run = {"run_id": run_id, "data_hash": data_hash, "group_hash": run_id}
            record(pile, accuracies=accuracies, joules=used, **run)  # type: ignore[arg-type]
            total_j: float | None = 0.0
            for epoch, (accuracy, joule) in enumerate(zip(accuracies, used, strict=True), start=1):
                total_j = None if total_j is None or joule is None else total_j + joule
                if total_j is not None and accuracy > 0.1:
                    kwh = total_j / JOULES_PER_KWH
                    point = {"run_ids": [run_id], "epochs": epoch, "accuracy": accuracy, "energy_kwh": kwh}
                    points[data_hash].append(point | {"co2_g": 475 * kwh, "duration_s": 10.0 * epoch})
    db.write(pile.rows)
    return points


def test_nothing_that_serves_is_cheaper(db: Store) -> None:
    """And without limits it is the swap of the most accurate: `recommended` and `swaps_within` agree."""
    points = random_contests(db, 30)
    for asked in ASKED:
        advice = {one.contest.split()[0]: one for one in advise(db, asked)}
        for data_hash, all_points in points.items():
            inside = [
                point
                for point in all_points
                if (asked.max_co2_g is None or point["co2_g"] <= asked.max_co2_g + 1e-9)
                and (asked.max_time_s is None or point["duration_s"] <= asked.max_time_s)
            ]
            most = max((point["accuracy"] for point in inside), default=0.0)
            least = most - asked.tolerance_or_default if asked.target_accuracy is None else asked.target_accuracy
            serving = [point for point in inside if point["accuracy"] >= least - 1e-9]
            one = advice[data_hash]
            assert one.is_answer == bool(serving)
            if serving:
                best = {key: one.rows[0][key] for key in serving[0]}
                cheapest = min(point["energy_kwh"] for point in serving)
                assert best["energy_kwh"] == pytest.approx(cheapest)
                assert best["accuracy"] == max(
                    point["accuracy"] for point in serving if point["energy_kwh"] == pytest.approx(cheapest)
                )
                assert best in [point | {"energy_kwh": best["energy_kwh"], "co2_g": best["co2_g"]} for point in serving]

    swaps = {row["recipe_key"]: row for row in db.rows("from swaps_within(0.01)")}
    answers = [one.rows[0] for one in advise(db, ASKED[0]) if one.is_answer]
    pairs = [(best, swaps[best["against_recipe_key"]]) for best in answers if best["against_recipe_key"] in swaps]
    assert len(pairs) > 5
    for best, swap in pairs:
        assert swap["accuracy"] == best["against_accuracy"]
        assert (swap["use_recipe_key"], swap["use_accuracy"]) == (best["recipe_key"], best["accuracy"])
        assert swap["use_energy_kwh"] == pytest.approx(best["energy_kwh"])
        assert swap["energy_ratio"] == pytest.approx(best["energy_ratio"])


# The same over means of seeds, crashed runs and cut schedules, in the random contests of the other views


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    dice, keys = random.Random(11), itertools.count(2)
    opened = World([run for contest in range(300) for run in random_contest(dice, contest, keys)])
    yield opened
    opened.con.close()


def judged(curve: dict[int, Row], least: float | None, most_co2_g: float | None) -> tuple[int, int]:
    """(rung, epoch) of a recipe: 0 serves; else the nearest that it comes to serving."""
    learned = {epoch: row for epoch, row in curve.items() if row["is_learned"]}
    eligible = {epoch: row for epoch, row in learned.items() if row["energy_kwh"] is not None}
    inside = {epoch: row for epoch, row in eligible.items() if most_co2_g is None or row["co2_g"] <= most_co2_g}
    serving = [epoch for epoch, row in inside.items() if least is not None and row["accuracy"] >= least - 1e-9]
    if serving:
        return 0, min(serving)
    if inside:
        return 1, most_accurate(inside)
    if eligible:
        return 2, min(eligible)
    return (3, most_accurate(learned)) if learned else (4, most_accurate(curve))


def most_accurate(curve: dict[int, Row]) -> int:
    """The first of the most accurate epochs."""
    return min(curve, key=lambda epoch: (-curve[epoch]["accuracy"], epoch))


def spent(curve: dict[int, Row]) -> float:
    """What all of it took; more than anything where that is unknown."""
    energies = [row["energy_kwh"] for row in curve.values()]
    return math.inf if None in energies else max(energies)


def training_of(recipe: int, run: Contender) -> object:
    """The same for recipes that differ in nothing but what stops them."""
    searched = sorted({*configs.KEYS} - {*configs.STOP_RULES, *configs.OF_ONE_RUN})
    return (run.cpu, *(run.config.get(key) for key in searched)) if run.kind in ("train", "trial") else recipe


def best_recommended(
    curves: dict[int, dict[int, Row]],
    trainings: dict[int, object],
    target: float | None,
    tolerance: float,
    most_co2_g: float | None,
) -> dict[int, Row]:
    """Rows of `recommended` for one contest, by recipe: every point is tried."""
    usable = {
        key: [row["accuracy"] for row in curve.values() if row["is_learned"] and row["energy_kwh"] is not None]
        for key, curve in curves.items()
    }
    inside = [
        row["accuracy"]
        for curve in curves.values()
        for row in curve.values()
        if row["is_learned"] and row["energy_kwh"] and (most_co2_g is None or row["co2_g"] <= most_co2_g)
    ]
    least = target if target is not None else max(inside) - tolerance if inside else None
    chosen = {key: judged(curve, least, most_co2_g) for key, curve in curves.items()}

    def order(key: int) -> tuple[Any, ...]:
        rung, epoch = chosen[key]
        row = curves[key][epoch]
        energy = math.inf if row["energy_kwh"] is None else row["energy_kwh"]
        accuracy = round(row["accuracy"], 9)
        return rung, energy if rung in (0, 2) else -accuracy, -accuracy, energy, epoch, key

    ranked = sorted(curves, key=order)
    firsts = [key for i, key in enumerate(ranked) if trainings[key] not in {trainings[other] for other in ranked[:i]}]
    first, at_its_epoch = ranked[0], False
    if target is None:
        able = [key for key in curves if usable[key]]
        other = min(able, key=lambda key: (-round(max(usable[key]), 9), spent(curves[key]), key), default=first)
    else:
        at_its_epoch = len(firsts) > 1 and chosen[firsts[1]][0] == 0
        other = firsts[1] if at_its_epoch else first
    peak = curves[other][chosen[other][1] if at_its_epoch else most_accurate(curves[other])]
    last = curves[other][chosen[other][1] if at_its_epoch else max(curves[other])]
    known = at_its_epoch or spent(curves[other]) < math.inf
    alone = [
        key for key in {first, other} if 1 in (peak_of(curves[key])["num_runs"], peak_of(curves[key])["num_seeds"])
    ]
    again = min(alone, key=lambda key: (spent(curves[key]), key), default=None)
    rows = {}
    for place, key in enumerate(ranked, start=1):
        rung, epoch = chosen[key]
        enough = [
            n
            for n, row in curves[first].items()
            if row["is_learned"] and row["energy_kwh"] and (most_co2_g is None or row["co2_g"] <= most_co2_g)
            and row["accuracy"] >= peak_of(curves[key])["accuracy"] - tolerance - 1e-9
        ]  # fmt: skip
        has_instead = chosen[first][0] == 0 and key != first and enough
        row = curves[key][epoch]
        rows[key] = {
            "place": place,
            "training_place": firsts.index(key) + 1 if key in firsts else None,
            "epochs": epoch,
            "is_answer": rung == 0,
            "accuracy": row["accuracy"],
            "std_accuracy": row["std_accuracy"],
            "energy_kwh": row["energy_kwh"],
            "co2_g": row["co2_g"],
            "num_runs": row["num_runs"],
            "best_epoch": most_accurate(curves[key]),
            "against_recipe_key": other,
            "against_epochs": chosen[other][1] if at_its_epoch else max(curves[other]),
            "against_best_epoch": chosen[other][1] if at_its_epoch else most_accurate(curves[other]),
            "against_accuracy": peak["accuracy"],
            "against_std_accuracy": peak["std_accuracy"],
            "against_energy_kwh": last["energy_kwh"] if known else None,
            "is_worth_repeating": key == again,
            "instead_epochs": min(enough) if has_instead else None,
        }
    return rows


def peak_of(curve: dict[int, Row]) -> Row:
    return curve[most_accurate(curve)]


@pytest.mark.parametrize(
    ("target", "tolerance", "most_co2_g"),
    [
        (None, 0.01, None),
        (None, 0.05, None),
        (None, 0.0, 475 * kwh(3.4)),
        (0.64, 0.01, None),
        (0.9, 0.01, None),
        (0.3, 0.01, 475 * kwh(1.25)),
    ],
)
def test_recipes_of_several_seeds_against_every_point(
    world: World, target: float | None, tolerance: float, most_co2_g: float | None
) -> None:
    points, contest = recipe_points(world.present), {run.key: run.contest for run in world.present}
    contests: dict[int, dict[int, dict[int, Row]]] = {}
    for key, curve in points.items():
        contests.setdefault(contest[key], {})[key] = curve
    expected: dict[int, Row] = {}
    trainings = {
        members[0].key: training_of(members[0].key, counting(members)[0])
        for members in recipes_of(world.present).values()
    }
    for curves in contests.values():
        expected |= best_recommended(curves, trainings, target, tolerance, most_co2_g)
    asks = ", ".join("null" if ask is None else repr(ask) for ask in (target, tolerance, most_co2_g, None))
    rows = world.rows(f"select *, shortfall is null as is_answer from recommended({asks})")

    assert_alike({row["recipe_key"]: row for row in rows}, expected)
    assert 0 < sum(row["is_answer"] for row in expected.values()) < len(expected)
    assert {row["is_worth_repeating"] for row in expected.values()} == {False, True}
    assert any(row["instead_epochs"] for row in expected.values())
    assert any(row["training_place"] is None for row in expected.values())
    assert any(row["against_std_accuracy"] for row in expected.values())
