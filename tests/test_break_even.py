"""The ledger of compressed models: what the views say, against sums done by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from conftest import (
    STARTED_AT,
    WORLD,
    make_end,
    make_epoch,
    make_inference,
    make_phase,
    make_run,
    make_served,
    record,
    record_compressed,
    records,
)

from greenml import levels
from greenml.records import Source, from_json, to_json
from greenml.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Greenml

PARENT, CHILD, GRANDCHILD, OTHER = "a" * 12, "b" * 12, "c" * 12, "d" * 12
BEFORE, AFTER = [100.0, 104.0, 96.0], [20.0, 22.0, 18.0]
"""Joules of a thousand predictions: 80, 82 and 78 J saved, which is 80 +- 2."""
HALF = 4.3026527 * 2 / math.sqrt(3)
"""Of the interval of what is saved, in joules: t for two degrees of freedom x standard deviation / sqrt(n), 4.968."""


def pair(db: Store, **changes: Any) -> None:
    """A training of 3.6 MJ, and its int8 child, which took 4,000 J."""
    record(db, PARENT, [0.8, 0.9], [1.8e6, 1.8e6])
    values = {"making": [1000.0, 3000.0], "measured": {"before": BEFORE, "after": AFTER}} | changes
    record_compressed(db, CHILD, PARENT, **values)


def ledger(db: Store, **conditions: Any) -> dict[str, Any]:
    """The one row of `break_even` of which this is true."""
    where = " and ".join(f"{name} = ?" for name in conditions) or "true"
    [row] = db.rows(f"from break_even where {where}", list(conditions.values()))
    return row


# The quantile


def test_the_quantile_in_sql_is_students(db: Store) -> None:
    stats = pytest.importorskip("scipy.stats")
    asked = [*range(1, 121), 1000, 10**6]
    rows = db.rows("select n, t_quantile(n) as t from (select unnest(?) as n)", [asked])
    assert {row["n"]: row["t"] for row in rows} == pytest.approx({n: stats.t.ppf(0.975, n) for n in asked}, abs=1e-7)


def test_one_repeat_has_no_interval(db: Store) -> None:
    assert db.rows("select t_quantile(0) as t, half_width(1.0, 1) as one, half_width(2.0, 3) as three") == [
        {"t": None, "one": None, "three": pytest.approx(HALF)}
    ]


# The ledger, by hand


def test_the_ledger_is_the_calculation_on_paper(db: Store) -> None:
    """Made for 1000 + 3000 J. 80 J saved in a thousand: paid after 4000 / 0.080 = 50,000 predictions, at best after
    4000 / 0.0849683 = 47,076, at worst after 4000 / 0.0750317 = 53,311."""
    seconds = {"before": [2.0, 2.0, 2.0], "after": [0.5, 0.4, 0.625]}  # 4, 5 and 3.2 times as fast
    pair(db, seconds=seconds, served={"after": {"num_bytes": 600_000, "gained": 30, "lost": 50, "test_correct": 8980}})
    row = ledger(db)
    assert (row["run_id"], row["parent"], row["method"], row["baseline"], row["batch_size"]) == (
        CHILD, PARENT, "int8", "before", 250,
    )  # fmt: skip
    assert (row["train_kwh"], row["train_source"]) == (1.0, "estimated")  # 3.6 MJ
    assert row["compress_kwh"] == pytest.approx(4000 / 3.6e6)
    assert row["measuring_kwh"] == pytest.approx((300 + 60) / 3.6e6)
    assert (row["before_j_per_1000"], row["after_j_per_1000"]) == (pytest.approx(100), pytest.approx(20))
    assert row["saved_j_per_1000"] == pytest.approx(80)
    assert row["saved_low_j_per_1000"] == pytest.approx(80 - HALF)
    assert row["saved_high_j_per_1000"] == pytest.approx(80 + HALF)
    assert (row["verdict"], row["reason"]) == ("pays", None)
    assert row["break_even"] == pytest.approx(50_000)
    assert row["break_even_low"] == pytest.approx(47_076, abs=1)
    assert row["break_even_high"] == pytest.approx(53_311, abs=1)
    # 4, 5 and 3.2: mean 4.0667, standard deviation 0.90185.
    assert row["speedup"] == pytest.approx(12.2 / 3)
    assert row["speedup_high"] - row["speedup"] == pytest.approx(4.3026527 * 0.901850 / math.sqrt(3), abs=1e-5)
    # 30 - 50 of 10,000; sqrt(80 - 400 / 10000) / 10000 = 0.00089420, x 1.96 = 0.0017526.
    assert row["accuracy"] == 0.898
    assert row["accuracy_difference"] == pytest.approx(-0.002)
    assert row["accuracy_low"] == pytest.approx(-0.0037526, abs=1e-7)
    assert row["accuracy_high"] == pytest.approx(-0.0002474, abs=1e-7)
    assert (row["num_bytes"], row["before_num_bytes"], row["source"]) == (600_000, 2_400_000, "estimated")


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        ([95.0, 104.0, 97.0], "never"),  # 5, 0, -1 saved: 1.33 +- 7.99
        ([110.0, 114.0, 106.0], "never"),  # costs more, and always does
        ([100.0, 104.0, 96.0], "never"),  # saves nothing, exactly
        ([98.0, 102.0, 94.0], "pays"),  # 2 J each time: the interval is a point
        ([99.0, 102.0, 93.0], "never"),  # 1, 2, 3 saved: 2 +- 2.48 touches zero
        ([98.0, 102.0, 93.0], "pays"),  # 2, 2, 3 saved: 2.33 +- 1.43
    ],
)
def test_never_where_the_interval_touches_zero(db: Store, after: list[float], verdict: str) -> None:
    pair(db, measured={"before": BEFORE, "after": after})
    row = ledger(db)
    assert (row["verdict"], row["reason"]) == (verdict, None)
    assert (row["saved_low_j_per_1000"] > 0) == (verdict == "pays")
    figures = [row[name] for name in ("break_even", "break_even_low", "break_even_high")]
    assert (None in figures) == (figures == [None] * 3) == (verdict == "never")


def test_what_drifts_together_is_compared_pair_by_pair(db: Store) -> None:
    """The machine slows down to half: unpaired the intervals would overlap, in pairs the saving is plain."""
    pair(db, measured={"before": [100.0, 150.0, 200.0], "after": [90.0, 139.0, 191.0]})
    row = ledger(db)
    assert (row["verdict"], row["saved_j_per_1000"]) == ("pays", pytest.approx(10))
    [before] = db.rows("from inference where role = 'before'")
    assert before["energy_low_j_per_1000"] < row["after_j_per_1000"]


def test_every_baseline_and_batch_size_has_its_row(db: Store) -> None:
    measured = {"before": BEFORE, "after": AFTER, "openvino bf16": [24.0, 20.0, 16.0]}
    pair(db, measured=measured, served={"openvino bf16": {"backend": "openvino", "precision": "bf16"}})
    phase = make_phase(CHILD, 11, name="infer", cpu_j=400.0, ram_j=0.0)
    one = [
        make_inference(CHILD, name, 1, 100 + i, batch_size=1, first_seq=11, last_seq=11, num_predictions=number)
        for i, (name, number) in enumerate({"before": 1000, "after": 4000}.items())
    ]
    db.write([phase, *one])
    rows = db.rows("select baseline, batch_size, verdict, reason from break_even order by baseline, batch_size")
    assert [tuple(row.values()) for row in rows] == [
        ("before", 1, "unknown", "measured once: nobody knows the spread"),
        ("before", 250, "pays", None),
        ("openvino bf16", 250, "never", None),
    ]
    assert ledger(db, batch_size=1)["saved_j_per_1000"] == pytest.approx(300)  # 400 J a thousand, and 100
    assert ledger(db, batch_size=1)["saved_low_j_per_1000"] is None
    roles = db.rows("select distinct name, role, backend, model_run from inference order by name")
    assert [tuple(row.values()) for row in roles] == [
        ("after", "after", "torch", CHILD),
        ("before", "before", "torch", PARENT),
        ("openvino bf16", "peer", "openvino", PARENT),
    ]


# What is not known


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"measured": {"before": [100.0, None, 96.0], "after": AFTER}}, "energy of the measurement partly unknown"),
        ({"measured": {"before": BEFORE, "after": [20.0, 22.0, None]}}, "energy of the measurement partly unknown"),
        ({"making": [1000.0, None]}, "energy of the compression partly unknown"),
        ({"measured": {"before": BEFORE[:1], "after": AFTER[:1]}}, "measured once: nobody knows the spread"),
        ({"measured": {"before": [0.0] * 3, "after": [0.0] * 3}}, "no energy was metered"),
        ({"overlap_s": 0.5}, "shared the machine with another metered run"),
        ({"meter": {"replayed": True}}, "replayed power"),
    ],
)
def test_what_is_unknown_has_no_break_even(db: Store, changes: dict[str, Any], reason: str) -> None:
    pair(db, **changes)
    row = ledger(db)
    assert (row["verdict"], row["reason"]) == ("unknown", reason)
    assert [row[name] for name in ("break_even", "break_even_low", "break_even_high")] == [None] * 3
    assert "making" in changes or reason in {row["reason"] for row in db.rows("select reason from inference")}


def test_a_phase_that_is_missing_makes_the_mean_unknown_and_not_lower(db: Store) -> None:
    pair(db)
    db.write([make_inference(CHILD, name, 4, 10 + i, first_seq=7, last_seq=8) for i, name in enumerate(["before"])])
    [before] = db.rows("from inference where role = 'before'")
    assert (before["energy_j_per_1000"], before["source"], before["num_repeats"]) == (None, "unknown", 4)
    # The fourth repeat has no twin: the pairs are as they were.
    assert ledger(db)["saved_j_per_1000"] == pytest.approx(80)


def test_a_gap_in_the_phases_leaves_what_it_took_unknown(db: Store) -> None:
    pair(db)
    db.write([make_phase(CHILD, 9, name="record")])
    row = ledger(db)
    assert (row["compress_kwh"], row["measuring_kwh"], row["compress_source"]) == (None, None, "unknown")
    assert row["verdict"] == "unknown"


def test_what_saves_nothing_never_pays_whatever_it_took(db: Store) -> None:
    pair(db, making=[None], measured={"before": AFTER, "after": BEFORE})
    assert (ledger(db)["verdict"], ledger(db)["compress_kwh"]) == ("never", None)


def test_inference_is_the_mean_of_its_repeats(db: Store) -> None:
    """Before: 100 +- 4 J (96, 100, 104); 4.3027 x 4 / sqrt(3) = 9.9365. 3000 predictions in 2 + 1 + 2 s, 12 CPU-s."""
    grid = replace(WORLD, pue=1.5, g_per_kwh=400.0)
    pair(db, intensity=grid, seconds={"before": [2.0, 1.0, 2.0], "after": [1.0] * 3})
    [row] = db.rows("from inference where role = 'before'")
    assert row["energy_j_per_1000"] == pytest.approx(100)
    assert row["std_energy_j_per_1000"] == pytest.approx(4)
    assert row["energy_low_j_per_1000"] == pytest.approx(100 - 9.9365, abs=1e-4)
    assert row["energy_high_j_per_1000"] == pytest.approx(100 + 9.9365, abs=1e-4)
    assert row["co2_g_per_1000"] == pytest.approx(100 / 3.6e6 * 600)
    assert row["co2_high_g_per_1000"] == pytest.approx(109.9365 / 3.6e6 * 600, rel=1e-6)
    assert (row["throughput"], row["cpu_s_per_1000"]) == (pytest.approx(600), pytest.approx(4))
    assert (row["latency_p50_s"], row["latency_p95_s"], row["num_repeats"]) == (0.5, pytest.approx(0.6), 3)
    assert (row["test_accuracy"], row["accuracy_difference"], row["source"]) == (0.9, None, "estimated")


# Lineage: without its parent's training there is no compressed model


def family(db: Store) -> None:
    """1 kWh of training, 0.1 kWh of pruning, 0.01 kWh of quantising what was pruned; measuring takes 360 J each."""
    record(db, PARENT, [0.9], [3.6e6], started_at=STARTED_AT)
    session = {"before": BEFORE, "after": AFTER}
    record_compressed(db, CHILD, PARENT, [3.6e5 - 360], session, method="prune 0.3", precision="fp32")
    record_compressed(db, GRANDCHILD, CHILD, [3.6e4 - 360], session, method="prune 0.3, int8")


def test_a_compressed_model_inherits_what_all_its_ancestors_took(db: Store) -> None:
    family(db)
    rows = db.rows("select run_id, ancestor from lineage order by run_id, ancestor")
    assert [tuple(row.values()) for row in rows] == [(CHILD, PARENT), (GRANDCHILD, PARENT), (GRANDCHILD, CHILD)]
    board = db.rows("select run_id, energy_kwh, inherited_kwh, own_kwh, co2_g, method from leaderboard order by run_id")
    assert [tuple(row.values()) for row in board] == [
        (PARENT, 1.0, 0.0, 1.0, pytest.approx(475), None),
        (CHILD, pytest.approx(1.1), 1.0, pytest.approx(0.1), pytest.approx(522.5), "prune 0.3"),
        (GRANDCHILD, pytest.approx(1.11), pytest.approx(1.1), pytest.approx(0.01), pytest.approx(527.25),
         "prune 0.3, int8"),
    ]  # fmt: skip
    assert ledger(db, run_id=GRANDCHILD)["train_kwh"] == pytest.approx(1.1)
    ranks = db.rows("select run_id, acc_per_kwh, acc_per_kg from leaderboard order by rank")
    assert [row["run_id"] for row in ranks] == [PARENT, CHILD, GRANDCHILD]
    assert ranks[1]["acc_per_kwh"] == pytest.approx(90 / 1.1)
    assert ranks[1]["acc_per_kg"] == pytest.approx(90 / 0.5225)


def test_the_parts_of_a_compressed_model_add_up_to_what_is_shown(db: Store) -> None:
    """As good as the worst of its line, and off by what the bounds of both come to; grams are each place's own."""
    measured: dict[str, Any] = {"cpu_source": Source.MEASURED, "ram_source": Source.MEASURED}
    training = make_phase(PARENT, 0, cpu_j=1.8e6, ram_j=1.8e6, error_j=10.0, **measured)
    db.write([make_run(PARENT, intensity=replace(WORLD, g_per_kwh=50.0)), training, make_end(PARENT)])
    record_compressed(db, CHILD, PARENT, [3.6e5], {"after": [0.0]})
    [row] = db.rows("from leaderboard where run_id = ?", [CHILD])
    assert (row["cpu_kwh"], row["gpu_kwh"], row["ram_kwh"]) == (pytest.approx(0.6), 0.0, 0.5)
    assert row["energy_kwh"] == pytest.approx(row["cpu_kwh"] + row["gpu_kwh"] + row["ram_kwh"])
    assert (row["source"], row["cpu_source"], row["ram_source"]) == ("estimated",) * 3
    assert row["error_kwh"] == pytest.approx(20.0 / 3.6e6)  # the training began with one reading, and ended with one
    assert row["co2_g"] == pytest.approx(1.0 * 50 + 0.1 * 475)
    [parent] = db.rows("from leaderboard where run_id = ?", [PARENT])
    assert (parent["source"], parent["co2_g"]) == ("measured", pytest.approx(50))


def test_a_removed_ancestor_still_counts_and_a_purged_one_is_unknown(db: Store) -> None:
    family(db)
    db.mark([PARENT], removed_at=STARTED_AT)
    assert ledger(db, run_id=GRANDCHILD)["train_kwh"] == pytest.approx(1.1)
    db.purge([PARENT])
    assert ledger(db, run_id=GRANDCHILD)["train_kwh"] is None
    assert ledger(db, run_id=GRANDCHILD)["verdict"] == "pays"  # it does not ask what the training took
    assert db.rows("select ancestor, ancestor_key from lineage where run_id = ?", [CHILD]) == [
        {"ancestor": PARENT, "ancestor_key": None}
    ]
    rows = db.rows(
        "select energy_kwh, known_kwh, inherited_kwh, own_kwh, unranked, rank from leaderboard order by run_id"
    )
    assert [tuple(row.values()) for row in rows] == [
        (None, pytest.approx(0.1), None, pytest.approx(0.1), "energy partly unknown", None),
        (None, pytest.approx(0.11), None, pytest.approx(0.01), "energy partly unknown", None),
    ]


@pytest.mark.parametrize(
    ("training", "run", "reason"),
    [
        ({"overlap_s": 1.0}, {}, "shared the machine with another metered run"),
        ({"cpu_j": None, "cpu_source": Source.UNKNOWN}, {}, "energy partly unknown"),
        ({}, {"meter": {"replayed": True}}, "replayed power"),
    ],
)
def test_what_keeps_a_parent_from_a_rank_keeps_its_children_from_one(
    db: Store, training: dict[str, Any], run: dict[str, Any], reason: str
) -> None:
    db.write([make_run(PARENT, **run), make_phase(PARENT, 0, **training), make_end(PARENT)])
    record_compressed(db, CHILD, PARENT, [10.0], {"before": BEFORE, "after": AFTER})
    assert {row["unranked"] for row in db.rows("select unranked from leaderboard")} == {reason}


def test_lines_that_go_in_circles_end(db: Store) -> None:
    """Nobody makes such rows; files from elsewhere hold what they hold."""
    record_compressed(db, CHILD, GRANDCHILD, [10.0], {"after": AFTER})
    record_compressed(db, GRANDCHILD, CHILD, [10.0], {"after": AFTER})
    assert len(db.rows("from lineage")) == 4


def test_a_compressed_run_is_no_training_and_no_evidence(db: Store) -> None:
    """Its epochs are few and good, as it began with what its parent had learned: no front, no advice, no price."""
    record(db, PARENT, [0.5, 0.9], [1e6, 1e6])
    record_compressed(db, CHILD, PARENT, [100.0], {"before": BEFORE, "after": AFTER})
    db.write([make_epoch(CHILD, 1, val_accuracy=0.95, energy_total_j=100.0)])
    views = ("contestants", "pareto_front", "marginal", "recipes")
    found = {view: {str(row.get("run_id", row.get("run_ids"))) for row in db.rows(f"from {view}")} for view in views}
    assert not any(CHILD in name for names in found.values() for name in names)
    assert all(any(PARENT in name for name in names) for names in found.values())
    assert [row["model"] for row in db.rows("from recommended(null, 0.01, null, null)")] == ["cnn"]
    rows = db.rows("select run_id, energy_kwh from energy_to_accuracy(0.9) order by energy_kwh")
    assert [tuple(row.values()) for row in rows] == [
        (PARENT, pytest.approx(2e6 / 3.6e6)),
        (CHILD, pytest.approx(2e6 / 3.6e6 + 100 / 3.6e6)),
    ]
    groups = db.rows("select method, mean_energy_kwh from leaderboard_groups order by mean_energy_kwh")
    assert [row["method"] for row in groups] == [None, "int8"]


def test_the_card_of_a_compressed_model_says_what_it_is_made_of_and_what_a_prediction_takes(
    db: Store, greenml: Greenml
) -> None:
    pair(db)
    card = greenml("report", "--model-card", CHILD)[1]
    assert "**compressed by**: int8" in card
    assert f"**made of**: run {PARENT}" in card
    assert "to compress it, after the training of what it was made of" in card
    # 20 J in 1000 predictions at 475 g/kWh.
    assert r"2.64 µg (\~0.0200 J), measured in batches of 250 images" in card


# A lifetime


def lifetime(db: Store, *values: Any) -> dict[str, dict[str, Any]]:
    return {row["run_id"]: row for row in db.rows("from lifecycle(?, ?, ?)", values)}


def test_a_lifetime_is_training_and_compressing_and_answering(db: Store) -> None:
    """A million predictions: 100 kJ before, 20 kJ after; 50,000 predictions at 10,000 a day are five days."""
    pair(db)
    rows = lifetime(db, 1_000_000, 10_000, None)
    assert rows[PARENT]["total_kwh"] == pytest.approx((3.6e6 + 1e5) / 3.6e6)
    assert rows[CHILD]["total_kwh"] == pytest.approx((3.6e6 + 4000 + 2e4) / 3.6e6)
    assert rows[CHILD]["total_co2_g"] == pytest.approx((3.6e6 + 4000 + 2e4) / 3.6e6 * 475)
    assert (rows[CHILD]["days"], rows[PARENT]["days"]) == (pytest.approx(5), None)
    assert (rows[CHILD]["verdict"], rows[PARENT]["verdict"], rows[PARENT]["compress_kwh"]) == ("pays", None, 0)
    nobody_said = lifetime(db, 0, None, None)
    assert nobody_said[CHILD]["days"] is None
    assert nobody_said[PARENT]["total_kwh"] == pytest.approx(1.0)


def test_at_break_even_both_lifetimes_have_taken_the_same(db: Store) -> None:
    pair(db)
    rows = lifetime(db, 50_000, None, None)
    assert rows[CHILD]["total_kwh"] == pytest.approx(rows[PARENT]["total_kwh"], rel=1e-12)


def test_a_parent_has_the_figures_of_its_newest_session_and_one_line(db: Store) -> None:
    pair(db)
    newer = make_run().started_at.replace(year=2027)
    record_compressed(
        db, OTHER, PARENT, [10.0], {"before": [50.0, 50.0], "after": AFTER[:2]}, started_at=newer, batch_size=1000
    )
    rows = lifetime(db, 1000, None, None)
    assert {run_id: row["batch_size"] for run_id, row in rows.items()} == {PARENT: 1000, CHILD: 250, OTHER: 1000}
    assert (rows[PARENT]["energy_j_per_1000"], rows[PARENT]["measured_by"]) == (50.0, OTHER)
    rows = lifetime(db, 1000, None, 250)
    assert (set(rows), rows[PARENT]["energy_j_per_1000"]) == ({PARENT, CHILD}, pytest.approx(100))
    assert lifetime(db, 1000, None, 7) == {}


def test_sessions_on_a_busier_machine_are_brought_to_the_median_of_their_parent(db: Store) -> None:
    """Three sessions of one parent at 0.1 J a prediction, and one in which everything took three times as much."""
    others = [letter * 12 for letter in "cde"]
    pair(db)
    for i, run_id in enumerate(others):
        dear = 3 if i == 2 else 1
        joules = {"before": [dear * each for each in BEFORE], "after": [dear * each for each in AFTER]}
        record_compressed(db, run_id, PARENT, [4000.0], joules)
    rows = lifetime(db, 50_000, None, None)
    assert rows[PARENT]["energy_j_per_1000"] == pytest.approx(100)
    for run_id in (CHILD, *others):
        assert rows[run_id]["energy_j_per_1000"] == pytest.approx(20)
        assert rows[run_id]["break_even"] == pytest.approx(50_000)
        assert rows[run_id]["total_kwh"] == pytest.approx(rows[PARENT]["total_kwh"])
    levels = {row["run_id"]: row["level"] for row in db.rows("from break_even")}
    assert levels == {run_id: pytest.approx(1 / 3 if run_id == others[2] else 1) for run_id in levels}
    assert db.rows("select break_even from break_even where run_id = ?", [others[2]]) == [
        {"break_even": pytest.approx(50_000 / 3)}
    ]


def test_a_compressed_parent_has_one_line_with_its_own_ledger(db: Store) -> None:
    family(db)
    rows = lifetime(db, 1_000_000, None, None)
    assert set(rows) == {PARENT, CHILD, GRANDCHILD}
    assert (rows[CHILD]["verdict"], rows[CHILD]["train_kwh"]) == ("pays", 1.0)


# The store


def test_what_was_measured_comes_back_and_goes_with_its_run(db: Store, tmp_path: Path) -> None:
    pair(db)
    told = records(db)
    assert sum(isinstance(row, type(make_served(CHILD, "after"))) for row in told) == 2
    assert [from_json(to_json(row)) for row in told] == told
    assert db.records([PARENT, CHILD]) == told

    db.write(told)  # twice is once
    assert records(db) == told
    db.replace(told)
    assert records(db) == told

    other = Store(tmp_path / "other" / "greenml.duckdb")
    other.check()
    for _ in range(2):
        other.merge(db)
        assert records(other) == told
    assert other.rows("from break_even") == db.rows("from break_even")

    db.purge([CHILD])
    assert {row["run_key"] for table in ("served_rows", "inference_rows") for row in db.rows(f"from {table}")} == set()
    assert len(db.rows("from runs")) == 1


def test_a_model_that_was_measured_again_is_told_by_whoever_ended_later(db: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other" / "greenml.duckdb")
    for store, num_bytes in ((db, 1), (other, 2)):
        record_compressed(store, CHILD, PARENT, [10.0], {"after": AFTER}, served={"after": {"num_bytes": num_bytes}})
    other.write([make_end(CHILD, ended_at=STARTED_AT.replace(year=2027))])
    db.merge(other)
    assert db.rows("select num_bytes from served_rows") == [{"num_bytes": 2}]


def test_how_far_sessions_lie_apart_is_told_of_one_parent_alone() -> None:
    def row(parent: str, level: float | None, method: str | None = "int8", batch_size: int = 256) -> dict[str, Any]:
        return {"parent": parent, "level": level, "method": method, "batch_size": batch_size}

    assert levels.apart([]) is None
    assert levels.apart([row("a", 1.0), row("b", 9.0), row("a", None), row("a", 5.0, None)]) is None
    assert levels.apart([row("a", 1.0), row("a", 1.25)]) is None
    assert levels.apart([row("a", 1.0), row("a", 9.0, batch_size=1)]) is None
    assert levels.apart([row("a", 0.5), row("a", 1.0), row("b", 1.0)]) == 2.0
