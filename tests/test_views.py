"""What the views claim, on rows small enough to check by hand, and on random ones against a brute force."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from conftest import (
    STARTED_AT,
    WORLD,
    make_decision,
    make_end,
    make_epoch,
    make_metric,
    make_phase,
    make_resume,
    make_run,
    make_study,
    make_sweep,
    make_trial,
    record,
    record_compressed,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenml import units
from greenml.records import Artifact, Source
from greenml.resources import shipped

if TYPE_CHECKING:
    from greenml.store import Store

A, B, C, D = "a" * 12, "b" * 12, "c" * 12, "d" * 12


# What SQL and Python both know


def test_the_factor_in_sql_is_the_factor_in_python(db: Store) -> None:
    record(db, A, [0.9], [units.JOULES_PER_KWH])
    assert db.rows("select energy_kwh from epochs") == [{"energy_kwh": units.kwh(units.JOULES_PER_KWH)}]
    assert sum(path.read_text().count("3.6e6 ") + path.read_text().count("3.6e6;") for path in views()) == 1


def test_the_enum_in_sql_is_the_enum_in_python(db: Store) -> None:
    """The order, too: max() is the source of a sum."""
    [row] = db.rows("select enum_range(null::energy_source) as names") or [{}]
    assert row["names"] == [str(source) for source in Source]


@pytest.mark.parametrize(("first", "second"), itertools.combinations(Source, 2))
def test_a_phase_is_as_good_as_its_worst_part(db: Store, first: Source, second: Source) -> None:
    known: dict[Source, Any] = dict.fromkeys(Source, 1.0) | {Source.UNKNOWN: None, Source.ABSENT: 0.0}
    phase = make_phase(
        A, 0, cpu_source=first, cpu_j=known[first], gpu_source=second, gpu_j=known[second], ram_source=first,
        ram_j=known[first],
    )  # fmt: skip
    db.write([make_run(A), phase])
    [row] = db.rows("from phases where seq = 0")
    assert (row["joules"], row["source"]) == (phase.joules, phase.source)


def test_views_say_their_grain_first() -> None:
    for path in views():
        assert path.read_text().startswith(("-- One row per ", "-- No rows: ")), path


def views() -> list[Any]:
    return sorted((shipped("sql") / "views").glob("*.sql"))


# Energy


def test_a_gap_makes_the_total_unknown(db: Store) -> None:
    """One unmeasured epoch, and the run's energy and CO2 are null rather than low."""
    record(db, A, [0.5, 0.9], [1.8e6, None])
    [row] = db.rows("from leaderboard")
    assert (row["energy_kwh"], row["co2_g"], row["acc_per_kwh"], row["rank"]) == (None, None, None, None)
    assert (row["known_kwh"], row["source"], row["unranked"]) == (0.5, "unknown", "energy partly unknown")


def test_grams_are_kwh_times_pue_times_intensity(db: Store) -> None:
    record(db, A, [0.9], [3.6e6], intensity=replace(WORLD, pue=1.5, g_per_kwh=400.0))
    for view in ("epochs", "leaderboard", "pareto_front", "energy_to_accuracy(0.9)"):
        assert db.rows(f"select energy_kwh, co2_g from {view}") == [{"energy_kwh": 1.0, "co2_g": 600.0}], view


def test_what_is_kept_of_the_phases_is_their_sum(db: Store) -> None:
    """Also where rows come late, twice, or with a gap."""
    db.write([make_run(A), make_run(B), make_phase(A, 0), make_phase(B, 0)])
    db.write([make_phase(A, 1, cpu_j=0.1), make_phase(A, 0)])
    db.write([make_phase(A, 2, cpu_j=None, cpu_source=Source.UNKNOWN), make_end(A)])
    assert db.rows("from phase_totals order by run_key") == db.rows("from totals order by run_key")


def test_a_repeated_epoch_costs_twice_and_learned_last(db: Store) -> None:
    """The first life of the run died in epoch 2, before it had a row; the second did 2 again: both spent joules."""
    db.write(
        [
            make_run(A),
            make_phase(A, 0, name="setup"),
            make_phase(A, 1, epoch=1),
            make_epoch(A, 1),
            make_phase(A, 2, epoch=2),
            make_end(A, status="interrupted"),
            make_resume(A),
            make_phase(A, 0, name="setup", segment=1),
            make_phase(A, 1, epoch=2, segment=1),
            make_epoch(A, 2, segment=1, val_accuracy=0.7, energy_total_j=300.0),
            make_phase(A, 2, epoch=3, segment=1),
            make_epoch(A, 3, segment=1, energy_total_j=400.0),
            make_end(A),
        ]
    )
    rows = db.rows("select epoch, segment, val_accuracy, energy_j, energy_total_j from epochs order by epoch")
    assert [tuple(row.values()) for row in rows] == [
        (1, 0, 0.9, 100.0, 100.0),
        (2, 1, 0.7, 200.0, 300.0),
        (3, 1, 0.9, 100.0, 400.0),
    ]


# Rankings


def test_the_rank_counts_percentage_points_for_energy(db: Store) -> None:
    record(db, A, [0.863], [0.42 * 3.6e6])
    record(db, B, [0.95], [0.84 * 3.6e6])
    rows = db.rows("select run_id, rank, acc_per_kwh, acc_per_kg from leaderboard order by rank")
    assert [(row["run_id"], row["rank"]) for row in rows] == [(A, 1), (B, 2)]
    assert round(rows[0]["acc_per_kwh"]) == 205
    assert rows[0]["acc_per_kg"] == pytest.approx(86.3 / (0.42 * 0.475))


def test_runs_are_ranked_where_data_and_split_agree(db: Store) -> None:
    record(db, A, [0.9], [1e5])
    record(db, B, [0.9], [2e5], split_hash="s2")
    record(db, C, [0.9], [3e5], data_hash="d2")
    record(db, D, [0.9], [4e5])
    ranks = {row["run_id"]: row["rank"] for row in db.rows("select run_id, rank from leaderboard")}
    assert ranks == {A: 1, B: 1, C: 1, D: 2}


def test_why_a_run_has_no_rank(db: Store) -> None:
    cases: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
        "not clearly above chance": ({}, {"test_accuracy": 0.14}),
        "no test accuracy": ({}, {"test_accuracy": None, "status": "interrupted"}),
        "failed": ({}, {"status": "failed"}),
        "shared the machine with another metered run": ({"overlap_s": 0.5}, {}),
        "no energy was metered": ({"cpu_j": 0.0, "ram_j": 0.0}, {}),
        "energy partly unknown": ({"ram_j": None, "ram_source": Source.UNKNOWN}, {}),
        "crashed": ({}, None),
    }
    for number, (reason, (phase, end)) in enumerate(cases.items()):
        run_id = f"{number:012x}"
        db.write([make_run(run_id, name=reason), make_phase(run_id, 0, **phase)])
        if end is not None:
            db.write([make_end(run_id, **end)])
    with db.claim(A):
        db.write([make_run(A, name="still running")])
        rows = db.rows("select name, unranked, rank from leaderboard")
    assert len(rows) == len(cases) + 1
    for row in rows:
        assert (row["unranked"], row["rank"]) == (row["name"], None)


def test_an_interrupted_run_with_a_test_accuracy_is_ranked(db: Store) -> None:
    db.write([make_run(A), make_phase(A, 0), make_end(A, status="interrupted", stop_reason="interrupted")])
    assert db.rows("select rank, unranked from leaderboard") == [{"rank": 1, "unranked": None}]


@pytest.mark.parametrize(
    ("accuracy", "count", "majority", "ranked"),
    [
        (0.1474, 360, 0.1, False),  # 0.1 + 3 * sqrt(0.1 * 0.9 / 360) = 0.14743
        (0.1475, 360, 0.1, True),
        (0.90, 10_000, 0.9, False),  # nine of ten are one class
        (0.91, 10_000, 0.9, True),
    ],
)
def test_clearly_above_chance_and_majority(
    db: Store, accuracy: float, count: int, majority: float, ranked: bool
) -> None:
    end = make_end(A, test_accuracy=accuracy, test_count=count)
    db.write([make_run(A, majority_share=majority), make_phase(A, 0), end])
    [row] = db.rows("select rank from leaderboard")
    assert (row["rank"] is not None) == ranked


# Fronts and hindsight

Points = list[list[tuple[int, float]]]
points = st.lists(
    st.lists(st.tuples(st.integers(60, 70), st.sampled_from([1.0, 2.0, 3.0])), min_size=1, max_size=5),
    min_size=1,
    max_size=4,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(points)
def test_nothing_on_the_front_is_beaten_and_nothing_else_is_on_it(db: Store, runs: Points) -> None:
    """Accuracies and energies from few values, so that ties are many."""
    contest = f"{next(example)}"
    rows: list[Any] = []
    total: dict[tuple[int, int], tuple[float, float]] = {}
    for number, epochs in enumerate(runs):
        run = make_run(data_hash=contest, name=str(number))
        rows += [run, make_phase(run.run_id, 0), make_end(run.run_id)]
        spent = 0.0
        for epoch, (correct, joules) in enumerate(epochs, start=1):
            spent += joules
            accuracy = correct / 100
            total[number, epoch] = (accuracy, spent)
            rows.append(
                make_epoch(
                    run.run_id, epoch, val_accuracy=accuracy, val_count=100, energy_j=joules, energy_total_j=spent
                )
            )
    assert db.write(rows)

    def beaten(accuracy: float, joules: float) -> bool:
        return any(a >= accuracy and j <= joules and (a, j) != (accuracy, joules) for a, j in total.values())

    front = db.rows(
        "select name, epoch from pareto_front join runs using (run_id) where pareto_front.data_hash = ?", [contest]
    )
    on_board = db.rows("select name from leaderboard where on_front and data_hash = ?", [contest])
    expected = {key for key, point in total.items() if not beaten(*point)}
    assert {(int(row["name"]), row["epoch"]) for row in front} == expected
    assert len(front) == len(expected)
    assert {int(row["name"]) for row in on_board} == {number for number, _ in expected}


example = itertools.count()


def test_who_may_not_be_on_the_front(db: Store) -> None:
    def add(run_id: str, phase: dict[str, Any], **epoch: Any) -> None:
        db.write([make_run(run_id), make_phase(run_id, 0, **phase), make_epoch(run_id, 1, **epoch), make_end(run_id)])

    add(A, {}, energy_total_j=1000.0)
    add(B, {"overlap_s": 1.0}, energy_total_j=1.0)
    add(C, {}, energy_total_j=None)
    add(D, {}, energy_total_j=1.0, schedule_complete=False)
    add("e" * 12, {}, energy_total_j=1.0, val_accuracy=0.1)
    assert db.rows("select run_id from pareto_front") == [{"run_id": A}]


def test_the_optimal_epoch_is_the_first_within_a_point_of_the_best(db: Store) -> None:
    record(db, A, [0.5, 0.89, 0.90, 0.88], [100.0, 100.0, 100.0, 100.0])
    [row] = db.rows("from optimal_epoch")
    assert (row["epoch"], row["accuracy"], row["best_epoch"], row["best_accuracy"]) == (2, 0.89, 3, 0.90)
    assert row["energy_saved_kwh"] == pytest.approx(units.kwh(200))


def test_energy_to_accuracy_is_what_it_took_until_it_got_there(db: Store) -> None:
    record(db, A, [0.5, 0.85, 0.9], [1e5, 2e5, 3e5])
    record(db, B, [0.5, 0.6], [1e5, 1e5])
    record(db, C, [0.5, 0.95, 0.96], [1e5, None, 1e5])
    rows = db.rows("select run_id, epoch, energy_kwh from energy_to_accuracy(?) order by run_id", [0.85])
    assert [tuple(row.values()) for row in rows] == [(A, 2, units.kwh(3e5)), (C, 2, None)]


# Repeats


def test_a_group_is_the_mean_and_spread_of_its_ranked_runs(db: Store) -> None:
    for seed, (run_id, accuracy, joules) in enumerate(((A, 0.90, 3.6e6), (B, 0.92, 7.2e6), (C, 0.1, 3.6e9))):
        record(db, run_id, [accuracy], [joules], seed=seed, group_hash="g", intensity=replace(WORLD, g_per_kwh=100.0))
    [row] = db.rows("from leaderboard_groups")
    assert (row["num_runs"], row["num_ranked"], row["num_unranked"], row["rank"]) == (3, 2, 1, 1)
    assert (row["seeds"], row["run_ids"]) == ([0, 1, 2], [A, B, C])
    assert row["mean_accuracy"] == pytest.approx(0.91)
    assert row["std_accuracy"] == pytest.approx(0.02 / 2**0.5)
    assert (row["min_accuracy"], row["max_accuracy"]) == (0.90, 0.92)
    assert (row["mean_energy_kwh"], row["mean_co2_g"], row["mean_duration_s"]) == (1.5, 150.0, 10.0)
    assert row["std_energy_kwh"] == pytest.approx(1 / 2**0.5)
    assert row["std_co2_g"] == pytest.approx(100 / 2**0.5)
    assert row["acc_per_kwh"] == pytest.approx(91 / 1.5)


def test_a_group_is_as_good_as_its_worst_run(db: Store) -> None:
    record(db, A, [0.9], [1e5], group_hash="g")
    db.write([make_run(B, group_hash="g", seed=1)])
    measured = {"cpu_source": Source.MEASURED, "ram_source": Source.MEASURED, "name": "train"}
    db.write([make_phase(B, 0, **measured), make_epoch(B, 1), make_end(B)])
    assert db.rows("select source from leaderboard order by run_id") == [
        {"source": "estimated"},
        {"source": "measured"},
    ]
    assert db.rows("select source, num_ranked from leaderboard_groups") == [{"source": "estimated", "num_ranked": 2}]


def test_joules_per_image_count_every_attempt(db: Store) -> None:
    """The life before died in the midst of epoch 1: its joules are in what an image of the run cost."""
    db.write(
        [
            make_run(A),
            make_phase(A, 0, epoch=1),
            make_end(A, status="interrupted"),
            make_resume(A, epoch=1),
            make_phase(A, 0, epoch=1, segment=1),
            make_epoch(A, 1, segment=1, num_samples=1000),
            make_end(A),
        ]
    )
    assert db.rows("select joules_per_sample from epochs") == [{"joules_per_sample": 0.2}]
    assert db.rows("select joules_per_sample from leaderboard") == [{"joules_per_sample": 0.2}]


def test_one_seed_twice_says_nothing_about_the_spread_of_accuracy(db: Store) -> None:
    record(db, A, [0.9], [1e5], group_hash="g")
    record(db, B, [0.9], [2e5], group_hash="g")
    [row] = db.rows("from leaderboard_groups")
    assert (row["num_ranked"], row["std_accuracy"]) == (2, None)
    assert row["std_energy_kwh"] > 0


def test_groups_keep_to_their_data_their_split_and_their_config(db: Store) -> None:
    """A run from before groups stands alone; one run has no spread, and what is unranked has no figures."""
    record(db, A, [0.9], [1e5], group_hash="g")
    record(db, B, [0.9], [2e5], group_hash="g", split_hash="s2")
    record(db, C, [0.9], [3e5])
    record(db, D, [0.1], [3e5])
    rows = db.rows("from leaderboard_groups order by run_ids")
    assert [row["run_ids"] for row in rows] == [[A], [B], [C], [D]]
    assert [row["rank"] for row in rows] == [1, 1, 2, None]
    assert {row["std_accuracy"] for row in rows} == {None}
    assert (rows[3]["mean_accuracy"], rows[3]["acc_per_kwh"], rows[3]["source"]) == (None, None, "estimated")


@pytest.mark.parametrize(("joules", "mean_kwh"), [([3.6e6, 7.2e6], 1.5), ([3.6e6, None], None)], ids=["known", "a gap"])
def test_a_group_without_a_ranked_run_has_the_energy_of_its_finished_ones(
    db: Store, joules: list[float | None], mean_kwh: float | None
) -> None:
    for seed, (run_id, joule) in enumerate(zip((A, B), joules, strict=True)):
        record(db, run_id, [0.1], [joule], seed=seed, group_hash="g")
    db.write([make_run(C, group_hash="g"), make_phase(C, 0, cpu_j=3.6e9), make_end(C, status="failed")])
    [row] = db.rows("from leaderboard_groups")
    assert (row["num_ranked"], row["num_unfinished"], row["rank"]) == (0, 1, None)
    assert (row["mean_energy_kwh"], row["mean_unranked_kwh"]) == (None, mean_kwh)

    record(db, D, [0.9], [3.6e6], seed=3, group_hash="g")
    [row] = db.rows("from leaderboard_groups")
    assert (row["num_ranked"], row["mean_energy_kwh"], row["mean_unranked_kwh"]) == (1, 1.0, None)


def test_what_was_removed_is_in_no_view(db: Store) -> None:
    record(db, A, [0.9], [1e5])
    record(db, B, [0.9], [2e5], config={"model": "cnn", "epochs": 3, "lr": 0.01}, num_parameters=1000)
    gpus = make_phase(A, 1, cpu_j=0, ram_j=0, gpus_j=[0.0, 0.0])
    artifact = Artifact(run_id=A, name="a", path="a", num_bytes=1)
    db.write([make_resume(A), gpus, make_metric(A, 0), make_decision(A, 0), artifact, make_end(A)])
    db.write(
        [
            make_sweep(C),
            make_study(C),
            make_trial(C, 0, state="complete", attempts=[B], attrs={"fixed_params": {"lr": 0.01}}),
            make_end(C),
        ]
    )
    record_compressed(db, D, A, [10.0], {"before": [2.0, 3.0], "after": [1.0, 2.0]})
    names = [row["view_name"] for row in db.rows("select view_name from duckdb_views() where not internal")]
    kept = {"removed_runs", "phase_totals", "resumed_keys", "resumed_attempts", "last_attempts", "all_epochs"}
    kept |= {"model_totals"}
    assert all(db.rows(f"from {name}") for name in {*names} - kept)
    db.mark([A, B, C, D], removed_at=STARTED_AT)
    assert [name for name in {*names} - kept if db.rows(f"from {name}")] == []
    assert db.rows("from energy_to_accuracy(0.1)") == []
    assert db.rows("from lifecycle(1000, null, null)") == []
    assert db.rows("select run_id, epochs, accuracy, energy_kwh from removed_runs where run_id = ?", [A]) == [
        {"run_id": A, "epochs": 1, "accuracy": 0.9, "energy_kwh": units.kwh(1e5)}
    ]


# Provenance, and runs that are judged by something else than accuracy

UNSAID = dict.fromkeys(
    ("data_hash", "split_hash", "num_classes", "num_train", "num_val", "num_test", "majority_share", "image_size"), None
) | dict.fromkeys(("resize", "stem", "num_parameters", "precision", "precision_asked", "batch_size", "seed"), None)
"""What a tracked run knows of its data and model, where nobody told it."""


def tracked(db: Store, run_id: str, maes: list[float], joules: list[float], **run: Any) -> None:
    """A run of somebody else's program that says how wrong it is."""
    rows: list[Any] = [make_run(run_id, kind="track", dataset="power", **UNSAID | run)]
    for number, (mae, used_j) in enumerate(zip(maes, joules, strict=True), start=1):
        total_j = sum(joules[:number])
        said = {"val_accuracy": None, "val_count": None, "value": mae, "energy_total_j": total_j}
        rows += [make_phase(run_id, number - 1, cpu_j=used_j, ram_j=0.0), make_epoch(run_id, number, **said)]
    end = {"metric": "mae", "goal": "min", "value": maes[-1], "best_epoch": None}
    rows.append(make_end(run_id, **end, **dict.fromkeys(("test_accuracy", "test_count", "val_accuracy"), None)))
    assert db.write(rows)


def test_less_of_an_error_is_better_and_never_ranked_per_kwh(db: Store) -> None:
    """A run that emits more has a better MAE per kg: the ratio ranks nothing, the front does."""
    tracked(db, A, [0.5, 0.3], [100.0, 100.0])
    tracked(db, B, [0.4, 0.35], [150.0, 900.0])
    record(db, C, [0.9], [1e3], dataset="power")

    rows = db.rows("select run_id, rank, acc_per_kwh, acc_per_kg, value, unranked from leaderboard order by run_id")
    assert [tuple(row.values())[1:] for row in rows[:2]] == [
        (None, None, None, 0.3, None),
        (None, None, None, 0.35, None),
    ]
    assert rows[2]["rank"] == 1
    front = db.rows("select run_id, epoch, value, goal, accuracy from pareto_front where metric = 'mae' order by value")
    assert [(row["run_id"], row["epoch"], row["value"]) for row in front] == [(A, 2, 0.3), (B, 1, 0.4), (A, 1, 0.5)]
    assert {(row["goal"], row["accuracy"]) for row in front} == {("min", None)}


def test_only_what_can_be_compared_is_one_contest(db: Store) -> None:
    record(db, A, [0.9], [1e3])
    record(db, B, [0.9], [1e3], scope="process")
    record(db, C, [0.9], [1e3], data_hash=None, split_hash=None)
    tracked(db, D, [0.5], [1.0])

    assert len(db.rows("select distinct contest from leaderboard")) == 4
    assert [row["rank"] for row in db.rows("from leaderboard order by run_id")] == [1, 1, 1, None]
    assert len(db.rows("from pareto_front")) == 4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_classes": None}, "not known to be above chance"),
        ({"kind": "calibrate"}, "a calibration, not a training"),
        ({"kind": "estimate"}, "never metered"),
        ({"meter": {"meter": "replay of watts.csv", "replayed": True}}, "replayed power"),
        ({"meter": {"meter": "replay of watts.csv", "replayed": True}, "metric": "mae"}, "replayed power"),
    ],
)
def test_what_is_no_evidence_is_unranked(db: Store, changes: dict[str, Any], reason: str) -> None:
    record(db, A, [0.9], [1e3], **changes)

    [row] = db.rows("from leaderboard")
    assert (row["rank"], row["unranked"], row["on_front"]) == (None, reason, False)


def test_the_error_of_a_run_is_that_of_its_ends(db: Store) -> None:
    """A counter read at every boundary adds up: only its first and its last reading count, in each life."""
    lives = [(0, seq) for seq in range(4)] + [(1, seq) for seq in range(3)]
    phases = [make_phase(A, seq, segment=life, cpu_source=Source.MEASURED, error_j=2.0) for life, seq in lives]
    phases[4] = replace(phases[4], error_j=None)  # before the counter was found again
    db.write([make_run(A), *phases])

    [row] = db.rows("select error_j from run_totals")
    assert row["error_j"] == 8.0
    assert db.rows("select error_kwh from leaderboard") == [{"error_kwh": units.kwh(8.0)}]


def test_a_run_says_how_its_joules_are_known_and_what_setting_up_took(db: Store) -> None:
    meter = {"cpu": {"method": "RAPL"}, "gpu": {"method": "NVML"}, "idle": {"watts": 2.0}}
    db.write([make_run(A, meter=meter), make_phase(A, 0, name="setup"), make_phase(A, 1), make_end(A)])

    [row] = db.rows("from leaderboard")
    assert (row["cpu_method"], row["gpu_method"], row["ram_method"]) == ("RAPL", "NVML", None)
    assert (row["cpu_source"], row["gpu_source"], row["source"]) == ("estimated", "absent", "estimated")
    assert row["setup_share"] == 0.5
    assert row["above_idle_kwh"] == pytest.approx(units.kwh(200 - 20 * 2.0))


def test_every_gpu_has_its_row(db: Store) -> None:
    measured, split = {"gpu_source": Source.MEASURED}, {"method": "gpu: NVML energy counters; split by time"}
    db.write(
        [
            make_run(A, meter={"gpus": ["one", "two"]}),
            make_phase(A, 0, gpu_j=3.0, gpus_j=[1.0, 2.0], **measured),
            make_phase(A, 1, gpu_j=None, gpus_j=[1.0, None], gpu_source=Source.UNKNOWN),
            make_phase(A, 2, gpu_j=3.0, gpus_j=[1.0, 2.0], gpu_source=Source.APPORTIONED, **split),
            make_phase(A, 3, gpu_j=None, gpus_j=[1.0, None], gpu_source=Source.UNKNOWN, **split),
        ]
    )

    rows = db.rows("select seq, device, joules, source from gpu_phases order by seq, gpu")
    assert [tuple(row.values()) for row in rows] == [
        (0, "one", 1.0, "measured"),
        (0, "two", 2.0, "measured"),
        (1, "one", 1.0, "measured"),
        (1, "two", None, "unknown"),
        (2, "one", 1.0, "apportioned"),
        (2, "two", 2.0, "apportioned"),
        (3, "one", 1.0, "apportioned"),
        (3, "two", None, "unknown"),
    ]


def test_pue_multiplies_grams_and_never_joules(db: Store) -> None:
    record(db, A, [0.9], [3.6e6])
    record(db, B, [0.9], [3.6e6], intensity=replace(WORLD, pue=1.5))

    rows = db.rows("select energy_kwh, co2_g, pue from leaderboard order by run_id")
    assert [tuple(row.values()) for row in rows] == [(1.0, 475.0, 1.0), (1.0, 712.5, 1.5)]
    assert [row["co2_g"] for row in db.rows("from epochs order by run_id")] == [475.0, 712.5]


@pytest.mark.parametrize("seqs", [(0, 3), (1, 2)])
def test_a_phase_that_is_missing_makes_the_total_unknown(db: Store, seqs: tuple[int, ...]) -> None:
    db.write([make_run(A), *(make_phase(A, seq) for seq in seqs), make_end(A)])

    [row] = db.rows("select total_j, known_j, source, gpu_source from run_totals")
    assert tuple(row.values()) == (None, 200.0, "unknown", "absent")
    assert db.rows("select unranked from leaderboard") == [{"unranked": "energy partly unknown"}]


def test_more_and_less_of_one_name_are_two_contests(db: Store) -> None:
    tracked(db, A, [0.5], [1.0])
    db.write([make_run(B, kind="track", dataset="power", **UNSAID), make_phase(B, 0)])
    db.write([make_epoch(B, 1, val_accuracy=None, value=0.9), make_end(B, metric="mae", goal="max", value=0.9)])

    assert len(db.rows("select distinct contest from leaderboard")) == 2
    assert [row["run_id"] for row in db.rows("from pareto_front order by run_id")] == [A, B]


def test_an_epoch_that_was_tried_twice_has_the_bounds_of_both(db: Store) -> None:
    """And the source of its own joules, whatever was lost before it."""
    counted: dict[str, Any] = {"cpu_source": Source.MEASURED, "error_j": 5.0}
    db.write(
        [
            make_run(A),
            make_resume(A, epoch=1),
            make_phase(A, 0, epoch=1, **counted),
            make_phase(A, 0, segment=1, epoch=1, **counted),
            make_phase(A, 1, segment=1, epoch=2, cpu_j=None, cpu_source=Source.UNKNOWN),
            make_phase(A, 2, segment=1, epoch=3, **counted),
            *(make_epoch(A, epoch, segment=1, error_j=5.0) for epoch in (1, 2)),
            make_epoch(A, 3, segment=1, error_j=5.0, source=Source.UNKNOWN, energy_total_j=None),
            make_end(A),
        ]
    )

    rows = db.rows("select energy_j, error_j, energy_source, source from epochs order by epoch")
    assert tuple(rows[0].values())[:3] == (200.0, 10.0, "estimated")
    assert tuple(rows[1].values())[:3] == (None, None, "unknown")
    assert tuple(rows[2].values()) == (100.0, 5.0, "estimated", "unknown")
