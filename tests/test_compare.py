"""Two runs side by side, on stores small enough to check by hand."""

from __future__ import annotations

import json
import math
import random
import statistics
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from conftest import STARTED_AT, WORLD, make_end, make_epoch, make_phase, make_resume, make_run, record

from greenml import console
from greenml.errors import UsageError
from greenml.report.compare import compare, show

if TYPE_CHECKING:
    from collections.abc import Iterable

    from greenml.store import Store

A, B, C, D, E, F = (letter * 12 for letter in "abcdef")
FP32 = {"model": "cnn", "epochs": 2, "precision": "fp32", "seed": 0}
BF16 = FP32 | {"precision": "bf16"}
KWH = 3.6e6


class Batch:
    """Takes what is written to a store, to write all of it at once."""

    def __init__(self) -> None:
        self.records: list[Any] = []

    def write(self, records: Iterable[Any]) -> bool:
        self.records += records
        return True


def pair(db: Store) -> None:
    """Two recipes under two seeds each: 4 kWh and 2 kWh, give or take."""
    for run_id, seed, joules in ((A, 0, 4.0), (B, 1, 4.2)):
        record(db, run_id, [0.8, 0.9], [joules / 2 * KWH] * 2, group_hash="g1", seed=seed, config=FP32 | {"seed": seed})
    for run_id, seed, joules in ((C, 0, 2.0), (D, 1, 2.4)):
        record(
            db, run_id, [0.7, 0.85], [joules / 2 * KWH] * 2, group_hash="g2", seed=seed, config=BF16 | {"seed": seed}
        )


def figures(db: Store, first: str, second: str) -> dict[str, dict[str, Any]]:
    return {row["figure"]: row for row in compare(db, first, second).rows}


def test_a_difference_is_held_against_the_spread_of_repeats(db: Store) -> None:
    pair(db)
    energy = figures(db, A, C)["energy_kwh"]
    assert (energy["first"], energy["second"], energy["difference"]) == (4.0, 2.0, -2.0)
    assert energy["relative_difference"] == -0.5
    # Two values that lie d apart deviate by d / sqrt(2).
    assert energy["first_std"] == pytest.approx(0.2 / math.sqrt(2))
    assert energy["spread"] == pytest.approx(math.sqrt((0.2**2 + 0.4**2) / 2))
    assert (energy["first_num_repeats"], energy["second_num_repeats"]) == (2, 2)
    assert energy["exceeds_spread"] is True
    # Both seeds of each learned the same: any difference exceeds a spread of 0.
    assert figures(db, A, C)["accuracy"]["difference"] == pytest.approx(-0.05)


def test_grams_follow_each_runs_own_grid(db: Store) -> None:
    pair(db)
    co2 = figures(db, A, C)["co2_g"]
    assert (co2["first"], co2["second"]) == (4 * WORLD.g_per_kwh, 2 * WORLD.g_per_kwh)


def test_two_runs_of_one_config_lie_within_their_own_spread(db: Store) -> None:
    pair(db)
    compared = compare(db, A, B)
    assert compared.alone == "seed"
    assert "repeat each other" in compared.notes[0]
    assert {row["exceeds_spread"] for row in compared.rows if row["difference"]} == {False}


def test_one_run_each_says_nothing_of_the_spread(db: Store) -> None:
    record(db, A, [0.9], [100.0], config=FP32, group_hash="g1")
    record(db, B, [0.8], [50.0], config=BF16, group_hash="g2")
    compared = compare(db, A, B)
    assert {row["exceeds_spread"] for row in compared.rows} == {None}
    assert any(note.startswith("spread unknown: one run each") for note in compared.notes)


def test_one_seed_twice_says_nothing_of_the_spread_of_accuracy_but_of_energy(db: Store) -> None:
    for run_id, joules in ((A, 100.0), (B, 110.0)):
        record(db, run_id, [0.9], [joules], config=FP32, group_hash="g1")
    for run_id, joules in ((C, 50.0), (D, 52.0)):
        record(db, run_id, [0.8], [joules], config=BF16, group_hash="g2")
    rows = figures(db, A, C)
    assert rows["accuracy"]["exceeds_spread"] is None
    assert rows["energy_kwh"]["exceeds_spread"] is True


def test_only_finished_runs_are_repeats(db: Store) -> None:
    pair(db)
    record(db, E, [0.8], [1.0], ended=False, group_hash="g1", seed=2, config=FP32 | {"seed": 2})
    assert figures(db, A, C)["energy_kwh"]["first_num_repeats"] == 2
    rows = compare(db, E, C)
    assert rows.rows[0]["first_num_repeats"] == 2
    assert any("is unranked" in note for note in rows.notes)


def test_convergence_is_to_the_lower_of_the_two_best(db: Store) -> None:
    record(db, A, [0.5, 0.7, 0.9], [1.0 * KWH, 2.0 * KWH, 3.0 * KWH], config=FP32)
    record(db, B, [0.6, 0.7], [1.0 * KWH] * 2, config=BF16)
    rows = figures(db, A, B)
    assert rows["target_epoch"]["target_accuracy"] == 0.7
    assert (rows["target_epoch"]["first"], rows["target_epoch"]["second"]) == (2, 2)
    assert (rows["target_kwh"]["first"], rows["target_kwh"]["second"]) == (3.0, 2.0)
    assert any("hindsight" in note for note in compare(db, A, B).notes)


def test_a_repeat_that_never_got_there_leaves_the_spread_of_convergence_unknown(db: Store) -> None:
    pair(db)
    record(db, E, [0.6, 0.6], [KWH] * 2, group_hash="g1", seed=2, config=FP32 | {"seed": 2})
    rows = figures(db, A, C)
    assert rows["target_epoch"]["exceeds_spread"] is None
    assert rows["energy_kwh"]["exceeds_spread"] is not None


def test_unknown_energy_stays_unknown(db: Store) -> None:
    record(db, A, [0.8, 0.9], [100.0, None], config=FP32)
    record(db, B, [0.8, 0.9], [100.0, 100.0], config=BF16)
    rows = figures(db, A, B)
    for name in ("energy_kwh", "co2_g", "joules_per_sample", "epoch_kwh", "target_kwh"):
        assert (rows[name]["first"], rows[name]["difference"]) == (None, None)
    assert rows["accuracy"]["difference"] == 0
    assert rows["epoch_s"]["difference"] == 0


def test_time_that_was_waited_and_time_between_two_lives(db: Store) -> None:
    """Ten seconds a phase: one of waiting; and a second life that began half a minute after the first had ended."""
    late = STARTED_AT + timedelta(seconds=60)
    resumed = make_phase(A, 0, segment=1, started_at=late, ended_at=late + timedelta(seconds=10))
    db.write([make_run(A), make_phase(A, 0), make_phase(A, 1, name="wait"), make_phase(A, 2), resumed, make_end(A)])
    record(db, B, [0.9], [100.0])
    rows = figures(db, A, B)
    assert [rows[name]["first"] for name in ("wall_s", "waited_s", "paused_s")] == [70, 10, 30]
    assert [rows[name]["second"] for name in ("wall_s", "waited_s", "paused_s")] == [10, 0, 0]


@pytest.mark.parametrize("changes", [{"data_hash": "d2"}, {"split_hash": "s2"}])
def test_accuracies_of_two_contests_are_not_compared(db: Store, changes: dict[str, Any]) -> None:
    record(db, A, [0.9], [100.0])
    record(db, B, [0.8], [50.0], **changes)
    compared = compare(db, A, B)
    rows = {row["figure"]: row for row in compared.rows}
    for name in ("accuracy", "val_accuracy", "target_epoch", "target_kwh"):
        assert rows[name]["difference"] is None
        assert not rows[name]["is_comparable"]
    assert rows["energy_kwh"]["difference"] == pytest.approx(-50 / KWH)
    assert any("accuracies are not compared" in note for note in compared.notes)


def test_runs_that_are_judged_by_an_error(db: Store) -> None:
    for run_id, value in ((A, 0.5), (B, 0.4)):
        end = make_end(run_id, test_accuracy=None, val_accuracy=None, metric="mae", goal="min", value=value)
        db.write([make_run(run_id, metric="mae", goal="min"), make_phase(run_id, 0), end])
    record(db, C, [0.9], [100.0])
    assert figures(db, A, B)["value"]["difference"] == pytest.approx(-0.1)
    assert figures(db, A, B)["accuracy"]["first"] is None
    assert figures(db, A, C)["value"]["difference"] is None
    assert not figures(db, A, C)["accuracy"]["is_comparable"]


def test_a_share_of_a_machine_is_not_compared_with_a_machine(db: Store) -> None:
    record(db, A, [0.9], [100.0])
    record(db, B, [0.8], [50.0], scope="process")
    compared = compare(db, A, B)
    rows = {row["figure"]: row for row in compared.rows}
    assert rows["energy_kwh"]["difference"] is None
    assert rows["accuracy"]["difference"] == pytest.approx(-0.1)
    assert any("as a process" in note for note in compared.notes)


def test_joules_of_a_shared_machine_are_not_compared(db: Store) -> None:
    record(db, A, [0.9], [100.0])
    db.write([make_run(B), make_phase(B, 0, overlap_s=1.0), make_epoch(B, 1), make_end(B)])
    compared = compare(db, A, B)
    assert next(row for row in compared.rows if row["figure"] == "energy_kwh")["difference"] is None
    assert any("not its own" in note for note in compared.notes)


def test_random_pairs_against_plain_python(db: Store) -> None:
    """Fifteen pairs of forty runs, with gaps, repeats of one seed, runs that did not finish and two sets of data."""
    dice = random.Random(7)
    runs: dict[str, dict[str, Any]] = {}
    for number in range(40):
        joules = [dice.choice([None, 0.5, 1.0, 2.0, 2.5]) if dice.random() < 0.1 else dice.random() for _ in range(2)]
        runs[f"{number:012x}"] = {
            "recipe": dice.randrange(11),
            "seed": dice.randrange(3),
            "joules": joules,
            "accuracies": [dice.choice([0.5, 0.6, 0.7, 0.8]) for _ in range(2)],
            "ended": dice.random() < 0.8,
        }
    batch = Batch()
    for run_id, run in runs.items():
        record(
            batch, run_id, run["accuracies"], run["joules"], ended=run["ended"], seed=run["seed"],
            group_hash=str(run["recipe"]), data_hash=str(run["recipe"] % 2),
        )  # fmt: skip
    assert db.write(batch.records)

    def repeats(run: dict[str, Any]) -> list[dict[str, Any]]:
        return [other for other in runs.values() if other["recipe"] == run["recipe"] and other["ended"]]

    def energy(run: dict[str, Any]) -> float | None:
        known = [joules for joules in run["joules"] if joules is not None]
        # A run that nobody ended was killed, and what it used at last nobody read.
        return sum(known) / KWH if len(known) == 2 and run["ended"] else None

    def accuracy(run: dict[str, Any]) -> float:
        return float(max(run["accuracies"]))

    def spread(run: dict[str, Any], value: Any, *, by_seed: bool) -> float | None:
        values = [value(other) for other in repeats(run)]
        num_seeds = len({other["seed"] for other in repeats(run)})
        if None in values or len(values) < 2 or (by_seed and num_seeds < 2):
            return None
        return statistics.stdev(values)

    for _ in range(15):
        first, second = dice.sample(sorted(runs), 2)
        x, y = runs[first], runs[second]
        rows = {row["figure"]: row for row in db.rows("from compared(?, ?)", [first, second])}
        assert rows["energy_kwh"]["first_num_repeats"] == len(repeats(x))
        is_one_contest = x["recipe"] % 2 == y["recipe"] % 2
        for name, value, by_seed in (("energy_kwh", energy, False), ("val_accuracy", accuracy, True)):
            row, spreads = rows[name], [spread(run, value, by_seed=by_seed) for run in (x, y)]
            known = value(x) is not None and value(y) is not None and (is_one_contest or not by_seed)
            assert row["difference"] == (pytest.approx(value(y) - value(x)) if known else None)
            both = None if None in spreads else math.hypot(*spreads)
            assert row["spread"] == (None if both is None else pytest.approx(both))
            if not known or both is None:
                assert row["exceeds_spread"] is None
            elif abs(abs(value(y) - value(x)) - both) > 1e-9:
                assert row["exceeds_spread"] == (abs(value(y) - value(x)) > both)


# What they differ in


def differing(db: Store, **changes: Any) -> Any:
    record(db, A, [0.9], [100.0], config=FP32)
    record(db, B, [0.8], [50.0], **{"config": FP32} | changes)
    return compare(db, A, B)


def test_what_differs_alone_is_named(db: Store) -> None:
    compared = differing(db, config=BF16)
    assert compared.alone == "precision"
    assert compared.notes[0] == "they differ in precision alone"
    [row] = compared.differing
    assert (row["of"], row["key"], row["first"], row["second"]) == ("config", "precision", "fp32", "bf16")


def test_nothing_is_attributed_where_more_than_one_thing_differs(db: Store) -> None:
    compared = differing(db, config=BF16 | {"lr": 0.01}, hardware={"cpu": "another", "threads": 4})
    assert compared.alone is None
    assert compared.notes[0].startswith("they differ in 3 things (precision, lr, machine): nothing is attributed")
    assert next(row for row in compared.differing if row["key"] == "lr")["first"] is None


def test_nothing_differs(db: Store) -> None:
    compared = differing(db, config=FP32 | {"name": "again", "tags": ["x"], "log": ["mlflow"]}, name="again")
    assert (compared.alone, compared.differing) == (None, [])
    assert compared.notes[0].startswith("nothing on record differs")


@pytest.mark.parametrize(
    ("changes", "alone"),
    [
        ({"hardware": {"cpu": "another", "threads": 4}}, "machine"),
        ({"versions": {"greenml": "0.1.0", "torch": "2.16.0"}}, "torch"),
        ({"meter": {"meter": "counters", "cpu": {"source": "measured", "method": "RAPL"}}}, None),
        ({"data_hash": "d2"}, "data_hash"),
        ({"config": FP32 | {"split_seed": 1}, "split_hash": "s2"}, "split_seed"),
    ],
)
def test_what_follows_from_another_difference_is_no_second_one(
    db: Store, changes: dict[str, Any], alone: str | None
) -> None:
    assert differing(db, **changes).alone == alone


def test_a_region_brings_its_intensity_along(db: Store) -> None:
    from dataclasses import replace

    france = replace(WORLD, g_per_kwh=56.0, region_asked="FR", region_used="France")
    compared = differing(db, config=FP32 | {"region": "FR"}, intensity=france)
    assert compared.alone == "region"
    follows = {row["key"]: row["follows"] for row in compared.differing}
    assert follows == {"region": None, "region_used": "region", "intensity_g_per_kwh": "region"}


def test_seeds_at_other_hours_of_one_trace_repeat_each_other(db: Store) -> None:
    from dataclasses import replace

    for run_id, seed, g_per_kwh in ((A, 0, 100.0), (B, 1, 500.0)):
        run = make_run(run_id, config=FP32 | {"seed": seed}, seed=seed, intensity=replace(WORLD, level="trace"))
        db.write([run, make_phase(run_id, 0, g_per_kwh=g_per_kwh, intensity_status="actual"), make_end(run_id)])
    assert compare(db, A, B).alone == "seed"


def test_a_second_life_is_a_difference(db: Store) -> None:
    record(db, A, [0.9], [100.0], config=FP32)
    db.write([make_run(B, config=FP32), make_resume(B, config=FP32), make_phase(B, 0), make_end(B)])
    assert compare(db, A, B).alone == "resumes"


def test_another_package_is_listed_and_counts_for_nothing(db: Store) -> None:
    compared = differing(db, config=BF16, dependencies_hash="another")
    assert [row["key"] for row in compared.differing] == ["precision", "dependencies_hash"]
    assert compared.alone == "precision"


def test_of_somebody_elses_program_nothing_is_attributed(db: Store) -> None:
    told: dict[str, Any] = {"kind": "track", "command": "python a.py", "config": {"interval": 5}, "precision": None}
    for run_id, command, joules in ((A, "python a.py", 90.0), (B, "python b.py", 40.0)):
        end = make_end(run_id, best_epoch=None, val_accuracy=None, test_accuracy=None)
        db.write([make_run(run_id, **told | {"command": command}), make_phase(run_id, 0, cpu_j=joules), end])
    compared = compare(db, A, B)
    assert compared.alone is None
    assert [row["key"] for row in compared.differing] == ["command"]
    assert compared.notes[0].endswith("nothing is attributed")
    rows = {row["figure"]: row for row in compared.rows}
    assert rows["energy_kwh"]["difference"] == pytest.approx(-50 / KWH)
    assert rows["accuracy"]["first"] is rows["epochs"]["first"] is rows["target_kwh"]["first"] is None


# Asked and shown


def test_a_run_is_not_compared_with_itself(db: Store) -> None:
    record(db, A, [0.9], [100.0])
    with pytest.raises(UsageError, match="with itself"):
        compare(db, "a", A)
    with pytest.raises(UsageError, match="no run starts with"):
        compare(db, A, "0")


@pytest.mark.parametrize("width", [80, 120])
def test_on_screen(db: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int) -> None:
    pair(db)
    monkeypatch.setenv("COLUMNS", str(width))
    console.out.cache_clear()
    show(compare(db, A, C))
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert max(map(len, lines)) <= width
    energy = next(line for line in lines if line.startswith("energy "))
    spread = ["316", "Wh"] if width == 120 else []
    assert energy.split() == ["energy", "~4.00", "kWh", "~2.00", "kWh", "-2.00", "kWh", "-50.0", *spread, "yes"]
    accuracy = next(line for line in lines if line.startswith("test accuracy"))
    spread = ["0.0", "pp"] if width == 120 else []
    assert accuracy.split()[2:] == ["90.0", "%", "85.0", "%", "-5.0", "pp", "-5.6", *spread, "yes"]
    assert "they differ in precision alone" in printed.err
    assert "~ estimated" in printed.err


def test_as_json(db: Store, capsys: pytest.CaptureFixture[str]) -> None:
    pair(db)
    console.print_json(compare(db, A, C).as_json())
    [said] = json.loads(capsys.readouterr().out)
    assert (said["first"]["run_id"], said["second"]["run_id"], said["differs_alone"]) == (A, C, "precision")
    energy = next(row for row in said["figures"] if row["figure"] == "energy_kwh")
    assert energy["difference"] == -2.0
    assert next(row for row in said["figures"] if row["figure"] == "peak_host_bytes")["first"] is None
