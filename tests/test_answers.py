"""What the views answer people with, by hand on a few rows, and on 1000 random contests against plain Python."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
import statistics
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from conftest import STARTED_AT, WORLD, make_end, make_epoch, make_phase, make_run, record

from greenml.config import METERED_BY, OF_ONE_RUN
from greenml.records import Source
from greenml.resources import shipped
from greenml.store import schema
from greenml.store.rows import OF_A_RUN, columns, insert, insert_many, select
from greenml.units import kwh

if TYPE_CHECKING:
    from collections.abc import Iterator

    Row = dict[str, Any]

A, B, C, D = "a" * 12, "b" * 12, "c" * 12, "d" * 12
KWH = 3.6e6
FULL = {"model": "cnn", "precision": "fp32", "early_stop": False, "patience": 5, "min_delta": 0.0, "target_acc": None}


class Rows:
    """The tables and views in memory: a tenth of the time that a file takes."""

    def __init__(self) -> None:
        self.con = duckdb.connect(config={"threads": 2})  # noqa: TID251 - no file that could be opened wrongly
        schema.upgrade(self.con, Path("memory"))

    def write(self, rows: list[Any]) -> bool:
        insert(self.con, rows)
        return True

    def rows(self, sql: str) -> list[Row]:
        return select(self.con, sql, [])

    def clear(self) -> None:
        for table in ("run_rows", *OF_A_RUN):
            self.con.execute(f"delete from {table}")


@pytest.fixture(scope="module")
def memory() -> Iterator[Rows]:
    opened = Rows()
    yield opened
    opened.con.close()


@pytest.fixture
def db(memory: Rows) -> Rows:
    """Nothing stored yet."""
    memory.clear()
    return memory


# Recipes, by hand


def test_a_recipe_is_the_mean_of_its_seeds_while_all_of_them_run(db: Rows) -> None:
    record(db, A, [0.50, 0.70, 0.80], [KWH, KWH, KWH], group_hash="g", seed=0)
    record(db, B, [0.54, 0.74], [KWH, 3 * KWH], group_hash="g", seed=1)

    first, second = db.rows("from recipe_epochs order by epoch")
    assert (first["accuracy"], first["energy_kwh"], first["co2_g"]) == (pytest.approx(0.52), 1.0, 475.0)
    assert (second["accuracy"], second["energy_kwh"], second["co2_g"]) == (pytest.approx(0.72), 3.0, 3 * 475.0)
    assert second["std_accuracy"] == pytest.approx(0.04 / math.sqrt(2))
    assert (second["num_runs"], second["num_seeds"], second["is_learned"]) == (2, 2, True)
    [recipe] = db.rows("from recipes")
    assert (recipe["run_ids"], recipe["seeds"], recipe["site_g_per_kwh"]) == ([A, B], [0, 1], 475.0)


def test_one_seed_twice_has_no_spread(db: Rows) -> None:
    record(db, A, [0.50], [KWH], group_hash="g")
    record(db, B, [0.60], [KWH], group_hash="g")

    [row] = db.rows("from recipe_epochs")
    assert (row["num_runs"], row["num_seeds"], row["std_accuracy"]) == (2, 1, None)


def test_a_crashed_run_counts_only_where_none_is_finished(db: Rows) -> None:
    record(db, A, [0.50], [KWH], group_hash="g", ended=False)
    assert db.rows("select num_runs, accuracy from recipe_epochs") == [{"num_runs": 1, "accuracy": 0.5}]

    record(db, B, [0.60, 0.70], [KWH, KWH], group_hash="g", seed=1)
    rows = db.rows("select epoch, num_runs, accuracy from recipe_epochs order by epoch")
    assert [tuple(row.values()) for row in rows] == [(1, 1, 0.6), (2, 1, 0.7)]
    assert db.rows("select run_ids from recipes") == [{"run_ids": [B]}]


def test_a_recipe_is_told_by_the_oldest_run_that_counts(db: Rows) -> None:
    france = replace(WORLD, region_used="FR", pue=1.5)
    record(db, A, [0.50], [KWH], group_hash="g", model="vit", ended=False)
    record(db, B, [0.50], [KWH], group_hash="g", seed=1, model="cnn", config=FULL)
    record(db, C, [0.50], [KWH], group_hash="g", seed=2, model="resnet18", intensity=france, kind="import")

    [recipe] = db.rows("from recipes")
    assert (recipe["model"], recipe["kind"], recipe["config"]) == ("cnn", "train", FULL)
    assert (recipe["regions"], recipe["pues"]) == (["FR", WORLD.region_used], [1.0, 1.5])
    assert (recipe["is_any_imported"], recipe["run_ids"], recipe["site_g_per_kwh"]) == (True, [B, C], None)


@pytest.mark.parametrize("joules", [[KWH, None], [0.0, 0.0]])
def test_a_recipe_with_a_run_of_unknown_energy_has_no_mean_energy(db: Rows, joules: list[float | None]) -> None:
    """Zero joules are no energy that was metered."""
    record(db, A, [0.50, 0.60], [KWH, KWH], group_hash="g")
    record(db, B, [0.50, 0.60], joules, group_hash="g", seed=1)

    row = db.rows("from recipe_epochs order by epoch")[1]
    assert (row["accuracy"], row["energy_kwh"], row["co2_g"]) == (0.6, None, None)
    assert db.rows("from swaps") == []


def test_what_ties_on_paper_ties_each_time(db: Rows) -> None:
    """Sums come in any order, and 0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1 in binary."""
    for group, joules in (("a", [0.1, 0.2, 0.3]), ("b", [0.3, 0.2, 0.1])):
        for seed, joule in enumerate(joules):
            record(db, f"{group}{seed}", [0.5 + joule], [joule], group_hash=group, seed=seed)

    first, second = db.rows("from recipe_epochs order by recipe_key")
    assert (first["energy_kwh"], first["accuracy"]) == (second["energy_kwh"], second["accuracy"])


# Swaps, by hand


def test_a_swap_is_the_cheapest_that_is_good_enough(db: Rows) -> None:
    """B ran three epochs for 12 kWh and got to 87 % in its second; A is at 86.5 % after 4 kWh."""
    for seed, off in enumerate((-0.01, 0.01)):
        record(db, f"a{seed}", [0.60 + off, 0.865 + off, 0.87], [KWH, 3 * KWH, KWH], group_hash="a", seed=seed)
        record(
            db, f"b{seed}", [0.80, 0.87 + off, 0.84], [4 * KWH] * 3, group_hash="b", seed=seed, model="resnet18",
            intensity=replace(WORLD, pue=2.0),
        )  # fmt: skip

    found = {row["model"]: row for row in db.rows("from swaps")}
    row = found["resnet18"]
    assert (row["use_model"], row["use_epochs"], row["use_energy_kwh"], row["use_run_ids"]) == (
        "cnn", 2, 4.0, ["a0", "a1"],
    )  # fmt: skip
    assert (row["epochs"], row["best_epoch"], row["energy_kwh"], row["run_ids"]) == (3, 2, 12.0, ["b0", "b1"])
    assert (row["use_accuracy"], row["accuracy"]) == (pytest.approx(0.865), pytest.approx(0.87))
    assert row["accuracy_difference"] == pytest.approx(-0.005)
    assert (row["energy_ratio"], row["co2_ratio"]) == (pytest.approx(4 / 12), pytest.approx(4 / 24))
    assert (row["is_within_spread"], row["is_same_recipe"], row["is_same_intensity"]) == (True, False, False)
    assert (row["use_num_runs"], row["use_num_seeds"], row["num_runs"], row["num_seeds"]) == (2, 2, 2, 2)

    row = found["cnn"]  # itself, an epoch earlier: half a point less, which is no less than its seeds differ
    assert (row["use_epochs"], row["epochs"], row["is_same_recipe"], row["is_within_spread"]) == (2, 3, True, True)
    assert row["energy_ratio"] == 4 / 5
    assert {row["model"]: row["use_epochs"] for row in db.rows("from swaps_within(0.001)")} == {"resnet18": 3}


def test_nobody_knows_the_spread_of_one_seed(db: Rows) -> None:
    record(db, A, [0.87], [KWH], seed=0)
    record(db, B, [0.87], [2 * KWH], seed=0, model="resnet18")

    [row] = db.rows("from swaps")
    assert (row["use_run_ids"], row["run_ids"], row["is_within_spread"]) == ([A], [B], None)


def test_who_may_not_be_used_instead(db: Rows) -> None:
    """Guessing, runs of other data, runs that shared the machine, and schedules that were cut short."""
    record(db, A, [0.87], [4 * KWH])
    record(db, B, [0.12, 0.12], [KWH, KWH])  # it would do with half of itself
    record(db, C, [0.87], [KWH], data_hash="d2")
    record(db, D, [0.87], [KWH], meter={"replayed": True})
    db.write([make_run("e" * 12), make_phase("e" * 12, 0, overlap_s=1.0), make_epoch("e" * 12, 1), make_end("e" * 12)])
    cut = make_epoch("f" * 12, 1, schedule_complete=False)
    db.write([make_run("f" * 12), make_phase("f" * 12, 0), cut, make_end("f" * 12)])

    assert db.rows("from swaps") == []


@pytest.mark.parametrize(
    ("difference", "a_std", "b_std", "verdict"),
    [
        (0.05, 0.03, 0.04, True),  # 0.05 exactly, and in binary a little less or more
        (-0.05, 0.04, 0.03, True),
        (0.0501, 0.03, 0.04, False),
        (0.3 - 0.2, 0.1, 0.0, True),
        (3e9, 3e9, 0.0, True),
        (3e9 + 1, 3e9 - 9, 0.0, False),
        (0.0, 0.0, 0.0, True),
        (0.0, None, 0.0, None),
        (0.0, 0.0, None, None),
        (None, 0.0, 0.0, None),
    ],
)
def test_one_verdict_on_differences(
    db: Rows, difference: float | None, a_std: float | None, b_std: float | None, verdict: bool | None
) -> None:
    found = db.con.execute("select within_spread(?::double, ?::double, ?::double)", [difference, a_std, b_std])
    assert found.fetchone() == (verdict,)


# Savings, by hand


def test_precision_saved_what_the_paired_runs_say(db: Rows) -> None:
    for seed in (0, 1):
        common: Row = {"seed": seed, "group_hash": "32"}
        record(db, f"a{seed}", [0.80, 0.82 + seed / 100], [4 * KWH, 4 * KWH], config=FULL | {"seed": seed}, **common)
        half = FULL | {"precision": "bf16", "seed": seed, "name": "half", "region": "FR"}
        record(db, f"b{seed}", [0.80, 0.81], [2 * KWH, 2 * KWH], config=half, **common | {"group_hash": "16"})
    sql = "update epoch_rows set duration_s = 5 from runs where runs.run_key = epoch_rows.run_key and group_hash = '16'"
    db.con.execute(sql)
    record(db, "c0", [0.80, 0.99], [9 * KWH, 9 * KWH], config=half | {"seed": 9}, seed=9, group_hash="16")

    [row] = db.rows("from savings")
    assert (row["key"], row["from_value"], row["to_value"], row["num_pairs"]) == ("precision", "fp32", "bf16", 2)
    assert (row["from_run_ids"], row["to_run_ids"]) == (["a0", "a1"], ["b0", "b1"])
    assert (row["from_accuracy"], row["to_accuracy"]) == (pytest.approx(0.825), pytest.approx(0.81))
    assert row["accuracy_difference"] == pytest.approx(-0.015)
    assert row["std_accuracy_difference"] == pytest.approx(0.01 / math.sqrt(2))
    assert (row["from_energy_kwh"], row["to_energy_kwh"], row["energy_ratio"], row["co2_ratio"]) == (8, 4, 0.5, 0.5)
    assert (row["std_energy_ratio"], row["speed_up"], row["epoch_reduction"]) == (0.0, 2.0, 0.0)
    assert (row["is_same_intensity"], row["source"]) == (True, "estimated")


def test_early_stopping_comes_with_its_settings(db: Rows) -> None:
    """It saved two of five epochs; how long a run would have waited says nothing where it never stops."""
    record(db, A, [0.5, 0.7, 0.8, 0.8, 0.8], [KWH] * 5, config=FULL)
    record(db, B, [0.5, 0.7, 0.8], [KWH] * 3, config=FULL | {"early_stop": True, "patience": 2})
    record(db, C, [0.5, 0.7, 0.8, 0.8, 0.8], [KWH] * 5, config=FULL | {"patience": 9})

    rows = db.rows("from savings order by from_run_ids")
    assert [(row["key"], row["from_run_ids"], row["to_run_ids"]) for row in rows] == [
        ("early_stop", [A], [B]),
        ("early_stop", [C], [B]),
    ]
    row = rows[0]
    assert (row["from_value"], row["to_value"], row["from_epochs"], row["to_epochs"]) == ("false", "true", 5, 3)
    assert (row["energy_ratio"], row["epoch_reduction"], row["std_energy_ratio"]) == (0.6, pytest.approx(0.4), None)
    assert row["speed_up"] == 1.0, "an epoch took as long: stopping early is not faster"


@pytest.mark.parametrize(
    ("first", "second", "run", "said"),
    [
        ({}, {"target_acc": 0.8}, {}, ("target_acc", None, "0.8")),
        ({"target_acc": 0.8}, {}, {}, ("target_acc", None, "0.8")),
        ({"lr": 0.1}, {}, {}, ("lr", None, "0.1")),
        ({"lr": 0.1}, {"lr": 0.2}, {}, ("lr", "0.1", "0.2")),
        ({"precision": "fp16"}, {"precision": "bf16"}, {}, ("precision", "fp16", "bf16")),
        ({"precision": "fp16"}, {}, {}, ("precision", "fp32", "fp16")),
        ({"model_args": {"width": 1}}, {"model_args": {"width": [2]}}, {}, ("model_args", '{"width":1}', None)),
        ({"lr": 0.1}, {"lr": 0.2, "precision": "bf16"}, {}, None),
        ({"lr": 0.1}, {"batch_size": 8}, {}, None),
        ({}, {"tdp": 15}, {}, None),
        ({}, {"region": "FR", "tags": ["x"]}, {}, None),
        ({}, {"lr": 0.1}, {"hardware": {"cpu": "another CPU", "threads": 2}}, None),
        ({}, {"lr": 0.1}, {"seed": 1}, None),
        ({}, {"lr": 0.1}, {"model": "resnet18"}, None),
        ({}, {"lr": 0.1}, {"kind": "track"}, None),
        ({}, {"lr": 0.1}, {"split_hash": "s2"}, None),
    ],
)
def test_what_is_a_difference_in_one_key(db: Rows, first: Row, second: Row, run: Row, said: Any) -> None:
    record(db, A, [0.8], [KWH], config=FULL | first)
    record(db, B, [0.8], [KWH], config=FULL | second, **run)

    rows = db.rows("select key, from_value, to_value from savings")
    if said and said[2] is None:  # spacing within a value is the store's own
        assert json.loads(rows[0]["from_value"]) == json.loads(said[1])
    else:
        assert [tuple(row.values()) for row in rows] == ([said] if said else [])


@pytest.mark.parametrize("odd", ["null", "[1, 2]", '"text"', "7", "{}", '{"a": {"b": [null]}}'])
def test_a_config_may_be_any_json(db: Rows, odd: str) -> None:
    """Files from elsewhere hold what they hold."""
    record(db, A, [0.8], [KWH], config=FULL)
    record(db, B, [0.8], [KWH], config={})
    db.con.execute("update run_rows set config = ? where run_id = ?", [odd, B])

    assert db.rows("from savings") == []
    assert len(db.rows("from recipes")) == 2


@pytest.mark.parametrize("component", ["cpu", "gpu", "ram"])
def test_measured_and_estimated_joules_are_no_pair(db: Rows, component: str) -> None:
    """Between the two, another meter is most of the difference."""
    for seed in (0, 1):
        record(db, f"a{seed}", [0.8], [2 * KWH], config=FULL, group_hash="a", seed=seed)
        record(db, f"b{seed}", [0.8], [KWH], config=FULL | {"lr": 0.1}, group_hash="b", seed=seed)
    of_b1 = "run_key = (select run_key from runs where run_id = 'b1')"
    db.con.execute(f"update totals set {component}_source = 'measured' where {of_b1}")

    [row] = db.rows("from savings")
    assert (row["from_run_ids"], row["to_run_ids"]) == (["a0"], ["b0"])


def test_savings_know_which_keys_tell_no_recipes_apart() -> None:
    sql = (shipped("sql") / "views" / "7_savings.sql").read_text()
    lists = [set(re.findall(r"'(\w+)'", found)) for found in re.findall(r"key not in \(([^)]*)\)", sql)]
    assert set(OF_ONE_RUN) in lists
    assert set(METERED_BY) in lists


# Marginal cost and hindsight, by hand


def test_the_first_epoch_gains_on_guessing(db: Rows) -> None:
    record(db, A, [0.30, 0.20, 0.35], [KWH, KWH, None], majority_share=0.2)
    record(db, B, [0.30], [KWH], num_classes=None)
    record(db, C, [0.05, 0.15], [0.0, KWH])

    rows = db.rows("from marginal order by run_id, epoch")
    assert [row["gained_points"] for row in rows] == [pytest.approx(points) for points in (10, 0, 5, 30, 0, 5)]
    assert [row["wh_per_point"] for row in rows] == [
        pytest.approx(100), None, None, pytest.approx(1000 / 30), None, pytest.approx(200),
    ]  # fmt: skip
    assert rows[0]["g_per_point"] == pytest.approx(47.5)


@pytest.mark.parametrize(
    ("accuracies", "joules", "knee"),
    [
        ([0.2, 0.6, 0.7, 0.8], [1, 1, 1, 1], 2),  # above the line by 0, 1/3, 1/6 and 0
        ([0.2, 0.5, 0.8], [1, 1, 1], None),  # a straight line
        ([0.2, 0.3, 0.8], [1, 1, 1], None),  # always below it
        ([0.2, 0.8, 0.8], [1, 1, 1], 2),
        ([0.2, 0.6, 0.75, 0.8], [1, 8, 4, 8], 3),  # dear epochs are far along the line
        ([0.5, 0.5], [1, 1], None),
        ([0.5], [1], None),
        ([0.2, 0.6, 0.8], [1, 1, None], None),
        ([0.2, 0.6, 0.8], [0, 0, 0], None),
    ],
)
def test_the_knee_is_where_accuracy_is_highest_above_the_line(
    db: Rows, accuracies: list[float], joules: list[float | None], knee: int | None
) -> None:
    record(db, A, accuracies, joules)

    [row] = db.rows("from optimal_epoch")
    assert row["knee_epoch"] == knee
    assert row["knee_accuracy"] == (knee and accuracies[knee - 1])
    assert (row["knee_energy_kwh"] is None) == (knee is None)


def test_the_knee_of_a_very_long_run(db: Rows) -> None:
    record(db, A, [0.2, 0.6, 0.7, 0.8], [1, 1, 1, 1])
    db.con.execute("update epoch_rows set epoch = epoch + 2_000_000")

    [row] = db.rows("from optimal_epoch")
    assert (row["knee_epoch"], row["knee_accuracy"], row["best_epoch"]) == (2_000_002, 0.6, 2_000_004)


def test_hindsight_knows_no_savings_behind_a_gap(db: Rows) -> None:
    record(db, A, [0.5, 0.8, 0.8], [KWH, KWH, None])

    [row] = db.rows("from optimal_epoch")
    assert (row["epoch"], row["energy_kwh"], row["energy_saved_kwh"]) == (2, 2.0, None)


# Random contests. Accuracies are 64ths and joules are whole, so that sums are exact and what ties on paper ties in SQL.

NUM_CONTESTS = 1000
COUNT = 64
PLACES = [3, 6, 7, 20, 20, 40, 40, 41, 42, 43, 60]
"""How many of 64 are right: two that guess, and some near and some far from each other."""
VALUES: dict[str, list[Any]] = {
    "precision": ["bf16", "fp16"],
    "early_stop": [True, True, None],
    "patience": [2],
    "target_acc": [0.5, 0.6],
    "tdp": [15],
}
"""What a recipe may have instead of what is in `FULL`."""


@dataclass
class Lap:
    """An epoch as its run knows it in the end."""

    epoch: int
    accuracy: float | None
    used_j: float | None
    total_j: float | None
    complete: bool
    attempts: list[float | None]
    """Joules of each attempt at it, in the life that it belongs to."""


@dataclass
class Contender:
    """A run of a random contest: what makes it a competitor, and what it did."""

    key: int
    contest: int
    group: str | None
    seed: int | None
    model: str
    config: Row
    cpu: str
    kind: str
    status: str
    metric: str
    num_classes: int | None
    removed: bool
    replayed: bool
    overlap_s: float
    site: float
    test_accuracy: float | None
    laps: list[Lap] = field(default_factory=list)

    @property
    def run_id(self) -> str:
        return f"{self.key:012x}"

    @property
    def competes(self) -> bool:
        return not (self.removed or self.replayed or self.overlap_s or self.kind == "calibrate")

    @property
    def recipe(self) -> tuple[str, str]:
        return self.metric, self.group or self.run_id

    @property
    def guessed(self) -> float | None:
        return None if self.num_classes is None else 1 / self.num_classes

    @property
    def learned_laps(self) -> list[Lap]:
        return [lap for lap in self.laps if lap.complete and lap.accuracy is not None]


def random_contest(dice: random.Random, contest: int, keys: Iterator[int]) -> list[Contender]:
    """Up to four recipes with up to three runs each."""
    num_classes = dice.choice([*[10] * 8, 2, None])
    runs = []
    for group in range(dice.randint(1, 4)):
        config = FULL | {"model": dice.choice(["cnn", "cnn", "cnn", "vit"]), "region": dice.choice([None, "FR"])}
        for name in dice.sample([*VALUES], k=dice.choice([0, 1, 1, 1, 2])):
            config[name] = dice.choice(VALUES[name])
        for name in dice.sample([*VALUES], k=dice.choice([0, 0, 0, 1])):
            config.pop(name, None)
        cuts_short = dice.random() < 0.2
        places = dice.choice([PLACES, PLACES, [20, 40, 41], [40, 41], [42, 43]])
        common: Row = {
            "contest": contest,
            "group": dice.choice([*[f"g{group}"] * 7, None]),
            "model": config.get("model", "cnn"),
            "cpu": dice.choice([*["one"] * 9, "two"]),
            "kind": dice.choice([*["train"] * 8, "trial", "track"]),
            "num_classes": num_classes,
        }
        for seed in dice.choice([[0], [0, 1], [0, 1], [1, 0, 0], [0, 1, 2], [None, None]]):
            kind = "calibrate" if dice.random() < 0.02 else common["kind"]
            run = Contender(
                key=next(keys),
                seed=seed,
                config=config | {"seed": seed},
                status=dice.choice([*["done"] * 12, "crashed", "interrupted", "paused"]),
                metric="mae" if dice.random() < 0.03 else "accuracy",
                removed=dice.random() < 0.03,
                replayed=dice.random() < 0.03,
                overlap_s=float(dice.random() < 0.03),
                site=dice.choice([475.0, 475.0, 475.0, 950.0]),
                test_accuracy=dice.choice([None, *[place / COUNT for place in PLACES[2:]] * 2]),
                **common | {"kind": kind},
            )
            run.laps = random_laps(dice, places, cuts_short=cuts_short)
            runs.append(run)
    return runs


def random_laps(dice: random.Random, places: list[int], *, cuts_short: bool) -> list[Lap]:
    """Up to five epochs; a few runs were not metered, lost a reading, or were resumed in their last epoch."""
    num_laps = dice.choice([0, 1, 1, 1, 2, 3, 3, 4, 5, 5])
    powered = dice.random() > 0.04
    resumed = dice.random() < 0.1
    laps: list[Lap] = []
    total: float | None = 0.0
    for epoch in range(1, num_laps + 1):
        again = resumed and epoch == num_laps
        attempts = [
            None if dice.random() < 0.02 else dice.choice([1.0, 1.0, 2.0, 3.0]) * powered for _ in range(1 + again)
        ]
        used = None if None in attempts else math.fsum(joule for joule in attempts if joule is not None)
        total = None if total is None or used is None else total + used
        laps.append(
            Lap(
                epoch=epoch,
                accuracy=None if dice.random() < 0.02 else dice.choice(places) / COUNT,
                used_j=used,
                total_j=total,
                complete=not cuts_short or epoch == num_laps,
                attempts=attempts,
            )
        )
    return laps


def store_runs(con: duckdb.DuckDBPyConnection, runs: list[Contender]) -> None:
    """All of them at once: one statement a table."""
    insert(con, [make_run("template")])  # its key is 1
    told = {
        "run_key": [run.key for run in runs],
        "run_id": [run.run_id for run in runs],
        "kind": [run.kind for run in runs],
        "status": [run.status for run in runs],
        "data_hash": [str(run.contest) for run in runs],
        "group_hash": [run.group for run in runs],
        "seed": [run.seed for run in runs],
        "model": [run.model for run in runs],
        "config": [json.dumps(run.config) for run in runs],
        "hardware": [json.dumps({"cpu": run.cpu, "gpu": None}) for run in runs],
        "meter": [json.dumps({"replayed": run.replayed}) for run in runs],
        "metric": [run.metric for run in runs],
        "num_classes": [run.num_classes for run in runs],
        "intensity_g_per_kwh": [run.site for run in runs],
        "removed_at": [STARTED_AT if run.removed else None for run in runs],
        "test_accuracy": [run.test_accuracy for run in runs],
        "test_count": [COUNT for _ in runs],
    }
    types = {name: kind for name, kind, *_ in con.execute("from run_rows limit 0").description}
    changed = ", ".join(f"unnest(?::{types[name]}[]) as {name}" for name in told)
    con.execute(
        f"""
        insert into run_rows by name
        select template.* replace ({", ".join(f"told.{name} as {name}" for name in told)})
        from (select {changed}) as told, (from run_rows limit 1) as template
        """,
        [*told.values()],
    )
    con.execute("delete from run_rows where run_id = 'template'")
    laps = [(run, lap) for run in runs for lap in run.laps]
    insert_many(con, "epoch_rows", [columns(row) for run, lap in laps for row in epochs_of(run, lap)])
    insert_many(con, "phase_rows", [columns(row) for run in runs for row in phases_of(run)])
    con.execute("insert into totals by name from phase_totals")
    con.execute(
        """
        insert into resume_rows
        select distinct run_key, 1, 1, 0, ?::timestamp, 3, null, '{}', '{}', '{}', '{}', ''
        from epoch_rows
        where segment = 1
        """,
        [STARTED_AT],
    )


def epochs_of(run: Contender, lap: Lap) -> list[Any]:
    """A row for each attempt at an epoch; earlier ones had learned nothing yet."""
    last = len(lap.attempts) - 1
    return [
        make_epoch(
            run.run_id,
            lap.epoch,
            segment=segment,
            val_accuracy=lap.accuracy if segment == last else 1.0,
            val_count=COUNT,
            energy_j=joule,
            energy_total_j=lap.total_j if segment == last else 0.5,
            source=Source.UNKNOWN if lap.total_j is None else Source.ESTIMATED,
            schedule_complete=lap.complete,
            duration_s=seconds(run),
        )
        for segment, joule in enumerate(lap.attempts)
    ]


def seconds(run: Contender) -> float:
    """What every epoch of it took, as its row says."""
    return 10.0 * run.key % 7 + 1


def phases_of(run: Contender) -> Iterator[Any]:
    seqs = [itertools.count(), itertools.count()]
    known = {"gpu_j": 0.0, "ram_j": 0.0}
    if not run.laps:
        yield make_phase(run.run_id, 0, cpu_j=0.0, overlap_s=run.overlap_s, **known)
    for lap in run.laps:
        for segment, joule in enumerate(lap.attempts):
            yield make_phase(
                run.run_id,
                next(seqs[segment]),
                segment=segment,
                epoch=lap.epoch,
                cpu_j=joule,
                cpu_source=Source.UNKNOWN if joule is None else Source.ESTIMATED,
                overlap_s=run.overlap_s,
                **known,
            )


class World(Rows):
    """A thousand contests in one store."""

    def __init__(self, runs: list[Contender]) -> None:
        super().__init__()
        self.runs = runs
        self.present = [run for run in runs if not run.removed]
        store_runs(self.con, runs)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    dice = random.Random(5)
    keys = itertools.count(2)
    opened = World([run for contest in range(NUM_CONTESTS) for run in random_contest(dice, contest, keys)])
    yield opened
    opened.con.close()


# Brute force


def recipes_of(runs: list[Contender]) -> dict[tuple[int, tuple[str, str]], list[Contender]]:
    """Those that count, by contest and recipe; the key of a recipe is that of its oldest competitor."""
    found: dict[tuple[int, tuple[str, str]], list[Contender]] = {}
    for run in runs:
        if run.competes:
            found.setdefault((run.contest, run.recipe), []).append(run)
    return found


def counting(members: list[Contender]) -> list[Contender]:
    return [run for run in members if run.status == "done"] or members


def is_learned(accuracy: float, guessed: float | None) -> bool:
    return guessed is not None and accuracy > guessed + 3 * math.sqrt(guessed * (1 - guessed) / COUNT)


def spread(values: list[float], seeds: set[int | None]) -> float | None:
    return statistics.stdev(values) if len(seeds - {None}) > 1 else None


def recipe_points(runs: list[Contender]) -> dict[int, dict[int, Row]]:
    """Rows of `recipe_epochs`, by recipe and epoch."""
    found = {}
    for (_, (metric, _)), members in recipes_of(runs).items():
        those = counting(members)
        if metric != "accuracy":
            continue
        curves = [{lap.epoch: lap for lap in run.learned_laps} for run in those]
        found[members[0].key] = {
            epoch: point(those, [curve[epoch] for curve in curves]) for epoch in set.intersection(*map(set, curves))
        }
    return {key: points for key, points in found.items() if points}


def point(runs: list[Contender], laps: list[Lap]) -> Row:
    accuracies = [lap.accuracy for lap in laps if lap.accuracy is not None]
    totals = [lap.total_j for lap in laps if lap.total_j]
    whole = len(totals) == len(laps)
    seeds = {run.seed for run in runs}
    accuracy = sum(accuracies) / len(accuracies)
    grams = [kwh(total) * run.site for run, total in zip(runs, totals, strict=False)]
    return {
        "num_runs": len(runs),
        "num_seeds": len(seeds - {None}),
        "accuracy": accuracy,
        "std_accuracy": spread(accuracies, seeds),
        "energy_kwh": kwh(sum(totals) / len(totals)) if whole else None,
        "co2_g": sum(grams) / len(grams) if whole else None,
        "source": "unknown" if any(lap.total_j is None for lap in laps) else "estimated",
        "is_learned": is_learned(accuracy, runs[0].guessed),
    }


def best_swaps(runs: list[Contender], tolerance: float) -> dict[int, Row]:
    """Rows of `swaps_within`, by the recipe that is given up: every point of its contest is tried."""
    points = recipe_points(runs)
    contest = {run.key: run.contest for run in runs}
    rivals: dict[int, list[tuple[int, int, Row]]] = {}
    for key, curve in points.items():
        usable = [(key, epoch, row) for epoch, row in curve.items() if row["energy_kwh"] and row["is_learned"]]
        rivals.setdefault(contest[key], []).extend(usable)
    found = {}
    for key, curve in points.items():
        if any(row["energy_kwh"] is None for row in curve.values()):
            continue
        epochs = max(curve)
        spent = curve[epochs]["energy_kwh"]
        best_epoch = min(curve, key=lambda epoch: (-curve[epoch]["accuracy"], epoch))
        best = curve[best_epoch]
        enough = [
            (row["energy_kwh"], -row["accuracy"], epoch, rival)
            for rival, epoch, row in rivals[contest[key]]
            if row["accuracy"] >= best["accuracy"] - tolerance - 1e-9 and row["energy_kwh"] < spent
        ]
        if not enough:
            continue
        energy, _, use_epochs, rival = min(enough)
        use = points[rival][use_epochs]
        spreads = [use["std_accuracy"], best["std_accuracy"]]
        difference = use["accuracy"] - best["accuracy"]
        found[key] = {
            "use_recipe_key": rival,
            "use_epochs": use_epochs,
            "use_accuracy": use["accuracy"],
            "use_energy_kwh": energy,
            "use_num_runs": use["num_runs"],
            "epochs": epochs,
            "best_epoch": best_epoch,
            "accuracy": best["accuracy"],
            "std_accuracy": best["std_accuracy"],
            "energy_kwh": spent,
            "accuracy_difference": difference,
            "energy_ratio": energy / spent,
            "co2_ratio": use["co2_g"] / curve[epochs]["co2_g"],
            "is_within_spread": None if None in spreads else abs(difference) <= math.hypot(*spreads) + 1e-9,
            "is_same_recipe": key == rival,
        }
    return found


def hindsight(run: Contender, tolerance: float) -> Row | None:
    """A row of `optimal_epoch_within`."""
    laps = run.learned_laps
    if not laps:
        return None
    accuracies = [lap.accuracy for lap in laps if lap.accuracy is not None]
    best, least = max(accuracies), min(accuracies)
    chosen = next(lap for lap, accuracy in zip(laps, accuracies, strict=True) if accuracy >= best - tolerance - 1e-9)
    totals = [lap.total_j for lap in laps]
    spent = None if None in totals else totals[-1]
    row: Row = {
        "epoch": chosen.epoch,
        "accuracy": chosen.accuracy,
        "energy_kwh": None if chosen.total_j is None else kwh(chosen.total_j),
        "best_epoch": laps[accuracies.index(best)].epoch,
        "best_accuracy": best,
        "energy_saved_kwh": None if spent is None or chosen.total_j is None else kwh(spent - chosen.total_j),
        "knee_epoch": None,
    }
    first = totals[0]
    if spent is not None and first is not None and spent > first and best > least:
        heights = [
            round((accuracy - least) / (best - least) - ((lap.total_j or 0.0) - first) / (spent - first), 9)
            for lap, accuracy in zip(laps, accuracies, strict=True)
        ]
        if max(heights) > 0:
            row["knee_epoch"] = laps[heights.index(max(heights))].epoch
    return row


def prices(run: Contender) -> dict[int, Row]:
    """Rows of `marginal`, by epoch."""
    found: dict[int, Row] = {}
    best = run.guessed or 0.0
    for lap in run.laps:
        if lap.accuracy is None:
            continue
        points = max(0.0, 100 * (lap.accuracy - best))
        price = 1000 * kwh(lap.used_j) / points if lap.used_j and points else None
        grams = None if price is None else price / 1000 * run.site
        found[lap.epoch] = {"gained_points": points, "wh_per_point": price, "g_per_point": grams}
        best = max(best, lap.accuracy)
    return found


def unbeaten(runs: list[Contender]) -> set[tuple[str, int]]:
    """(run, epoch) on the front of one contest."""
    candidates = {
        (run.run_id, lap.epoch): (lap.accuracy, lap.total_j)
        for run in runs
        for lap in run.learned_laps
        if run.competes and run.metric == "accuracy" and lap.total_j is not None
        if is_learned(lap.accuracy or 0.0, run.guessed)
    }
    return {
        key
        for key, (accuracy, joules) in candidates.items()
        if not any(a >= accuracy and j <= joules and (a, j) != (accuracy, joules) for a, j in candidates.values())
    }


def differences(first: Row, second: Row) -> set[str]:
    """Keys in which two configs differ; what is null is not there, and early stopping comes with its settings."""
    keys = {*first, *second} - {*OF_ONE_RUN}
    found = {key for key in keys if first.get(key) != second.get(key)}
    stops = [config.get("early_stop") is True for config in (first, second)]
    if not all(stops):
        found -= {"patience", "min_delta"}
    return found


def is_onward(key: str, first: Contender, second: Contender) -> bool:
    values = first.config.get(key), second.config.get(key)
    if None in values:
        return values[0] is None
    usual = [value is False or value == "fp32" for value in values]
    return usual[0] if usual[0] != usual[1] else first.key < second.key


def mean_epoch_s(run: Contender) -> float:
    """Seconds of an epoch: its own, or those of all attempts at it (10 s each) where the run was resumed."""
    resumed = any(len(lap.attempts) > 1 for lap in run.laps)
    return statistics.mean(10 * len(lap.attempts) if resumed else seconds(run) for lap in run.laps)


def paired_runs(runs: list[Contender], ranked: set[str]) -> dict[tuple[int, int, str], list[tuple[int, int]]]:
    """Pairs of runs behind the rows of `savings`, by the two recipes and the key."""
    found: dict[tuple[int, int, str], list[tuple[int, int]]] = {}
    recipes = [members for members in recipes_of(runs).values() if members[0].metric == "accuracy"]
    firsts = []
    for members in recipes:
        of_seed: dict[int | None, int] = {}
        for run in members:
            if run.status == "done" and run.kind in ("train", "trial") and run.run_id in ranked and run.laps:
                of_seed.setdefault(run.seed, run.key)
        firsts.append(of_seed)
    for (a, seeds_a), (b, seeds_b) in itertools.permutations(zip(recipes, firsts, strict=True), 2):
        first, second = a[0], b[0]
        keys = differences(first.config, second.config)
        if (first.contest, first.model, first.cpu) != (second.contest, second.model, second.cpu) or len(keys) != 1:
            continue
        [key] = keys
        pairs = [(seeds_a[seed], seeds_b[seed]) for seed in seeds_a if seed in seeds_b]
        if pairs and key not in METERED_BY and is_onward(key, first, second):
            found[first.key, second.key, key] = sorted(pairs)
    return found


# The views against it


def by_contest(runs: list[Contender]) -> list[list[Contender]]:
    found: dict[int, list[Contender]] = {}
    for run in runs:
        found.setdefault(run.contest, []).append(run)
    return [*found.values()]


def assert_alike(found: dict[Any, Any], expected: dict[Any, Any]) -> None:
    """Rows by the same keys; numbers to nine digits, all else exactly."""
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        different = {
            name: (found[key][name], value) for name, value in row.items() if not same(found[key][name], value)
        }
        assert not different, f"{key}: (found, expected) {different}"


def same(found: Any, expected: Any) -> bool:
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)
    return bool(found == expected)


def test_the_random_contests_hold_what_is_rare(world: World) -> None:
    """Ties, nulls and single epochs in numbers that mean something."""
    laps = [lap for run in world.present for lap in run.laps]
    assert len(by_contest(world.runs)) == NUM_CONTESTS
    assert sum(len(run.laps) == 1 for run in world.present) > 500
    assert sum(lap.total_j is None for lap in laps) > 200
    assert sum(lap.total_j == 0 for lap in laps) > 200
    assert sum(len(lap.attempts) > 1 for lap in laps) > 200
    swapped = best_swaps(world.present, 0.01)
    assert len(swapped) > 500
    assert {row["is_within_spread"] for row in swapped.values()} == {None, True, False}
    same = [row for row in swapped.values() if row["is_same_recipe"]]
    assert 100 < len(same) < len(swapped) - 100


def test_recipe_epochs_are_means_over_their_runs(world: World) -> None:
    found = {(row["recipe_key"], row["epoch"]): row for row in world.rows("from recipe_epochs")}
    points = recipe_points(world.present)
    assert_alike(found, {(key, epoch): row for key, curve in points.items() for epoch, row in curve.items()})


@pytest.mark.parametrize("tolerance", [0.0, 0.01, 1 / COUNT, 0.5])
def test_no_cheaper_point_is_good_enough_than_the_swap(world: World, tolerance: float) -> None:
    rows = world.rows(f"from swaps_within({tolerance})")
    assert_alike({row["recipe_key"]: row for row in rows}, best_swaps(world.present, tolerance))
    assert len(rows) == len({row["recipe_key"] for row in rows})
    assert all(len(row["run_ids"]) == row["num_runs"] for row in rows)
    assert all(len(row["use_run_ids"]) == row["use_num_runs"] for row in rows)


@pytest.mark.parametrize("tolerance", [0.0, 0.01, 1 / COUNT, 0.5])
def test_hindsight_is_the_first_epoch_that_is_good_enough_and_the_knee(world: World, tolerance: float) -> None:
    found = {row["run_id"]: row for row in world.rows(f"from optimal_epoch_within({tolerance})")}
    expected = {run.run_id: hindsight(run, tolerance) for run in world.present}
    assert_alike(found, {run_id: row for run_id, row in expected.items() if row})


def test_marginal_cost_is_that_of_every_gain(world: World) -> None:
    found = {(row["run_id"], row["epoch"]): row for row in world.rows("from marginal")}
    expected = {(run.run_id, epoch): row for run in world.present for epoch, row in prices(run).items()}
    assert_alike(found, expected)


def test_the_front_holds_what_nothing_beats(world: World) -> None:
    rows = world.rows("select run_id, epoch from pareto_front where metric = 'accuracy'")
    expected = set().union(*map(unbeaten, by_contest(world.present)))
    assert {(row["run_id"], row["epoch"]) for row in rows} == expected
    assert len(rows) == len(expected)


def test_savings_are_all_pairs_that_differ_in_one_key(world: World) -> None:
    """Which pairs there are; their figures are those of the leaderboard's rows."""
    sql = "from leaderboard where unranked is null and val_accuracy is not null"
    ranked = {row["run_id"]: row for row in world.rows(sql)}
    pairs: dict[Any, Any] = {}
    for runs in by_contest(world.present):
        pairs |= paired_runs(runs, {*ranked})
    found = {(row["from_recipe_key"], row["to_recipe_key"], row["key"]): row for row in world.rows("from savings")}
    epoch_s = {run.run_id: mean_epoch_s(run) for run in world.present if run.laps}
    expected = {}
    for names, of_two in pairs.items():
        before, after = [[ranked[f"{pair[side]:012x}"] for pair in of_two] for side in (0, 1)]
        gains = [y["val_accuracy"] - x["val_accuracy"] for x, y in zip(before, after, strict=True)]
        ratios = [y["energy_kwh"] / x["energy_kwh"] for x, y in zip(before, after, strict=True)]
        expected[names] = {
            "num_pairs": len(of_two),
            "accuracy_difference": statistics.mean(gains),
            "std_accuracy_difference": statistics.stdev(gains) if len(gains) > 1 else None,
            "energy_ratio": sum(y["energy_kwh"] for y in after) / sum(x["energy_kwh"] for x in before),
            "std_energy_ratio": statistics.stdev(ratios) if len(ratios) > 1 else None,
            "co2_ratio": sum(y["co2_g"] for y in after) / sum(x["co2_g"] for x in before),
            "speed_up": sum(epoch_s[x["run_id"]] for x in before) / sum(epoch_s[y["run_id"]] for y in after),
            "epoch_reduction": 1 - sum(y["epochs"] for y in after) / sum(x["epochs"] for x in before),
        }
        assert sorted(found[names]["from_run_ids"]) == sorted(row["run_id"] for row in before)
        assert sorted(found[names]["to_run_ids"]) == sorted(row["run_id"] for row in after)
    assert_alike(found, expected)
    assert len(expected) > 100
    for figure in ("std_energy_ratio", "co2_ratio", "speed_up"):
        assert len({row[figure] for row in expected.values()} - {None, 0.0, 1.0}) > 2
    assert {key for *_, key in expected} >= {"precision", "early_stop", "patience", "target_acc"}
