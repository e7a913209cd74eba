"""The ledger on the screen: `board --lifecycle`, and what `runs show` says of compressed models and their parents."""

from __future__ import annotations

import csv
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from conftest import STARTED_AT, record, record_compressed

from greenml.cli import ledger

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Greenml

    from greenml.store import Store

PARENT, INT8, PRUNED, SHARED = "a" * 12, "b" * 12, "c" * 12, "d" * 12
BEFORE, AFTER = [100.0, 104.0, 96.0], [20.0, 22.0, 18.0]


def fill(db: Store) -> None:
    """1 Wh of training; int8, which pays after 50,000 predictions, pruning, which never does, one beside another."""
    record(db, PARENT, [0.8, 0.9], [1800.0, 1800.0], started_at=STARTED_AT)
    lost = {"gained": 30, "lost": 50, "test_correct": 8980, "num_bytes": 600_000, "precision": "int8"}
    record_compressed(
        db, INT8, PARENT, [1000.0, 3000.0],
        {"before": BEFORE, "after": AFTER, "openvino bf16": [24.0, 20.0, 16.0]},
        served={"after": lost | {"backend": "openvino"}},
        started_at=STARTED_AT + timedelta(hours=1),
    )  # fmt: skip
    record_compressed(
        db, PRUNED, PARENT, [7200.0], {"before": BEFORE, "after": [101.0, 104.0, 96.0]},
        method="prune 0.3", precision="fp32", started_at=STARTED_AT + timedelta(hours=2),
    )  # fmt: skip
    record_compressed(
        db, SHARED, PARENT, [10.0], {"before": BEFORE, "after": AFTER}, method="fp16", overlap_s=1.0,
        started_at=STARTED_AT + timedelta(hours=3),
    )  # fmt: skip


def lines_of(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()]


# The board


def test_the_lifecycle_fits_80_columns_and_has_a_line_for_every_model(db: Store, greenml: Greenml) -> None:
    fill(db)
    code, out, err = greenml("board", "--lifecycle")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    lines = lines_of(out)
    # Of a million predictions int8 takes 20 kJ = 5.56 Wh, after 1 Wh of training and 4 kJ = 1.11 Wh of compressing.
    assert ["int8", "89.8", "-0.20", "~1.00", "~1.11", "~20.0", "~50,000", "~7.67"] in lines
    assert ["cnn", "90.0", "~1.00", "0", "~100", "~28.8"] in lines
    assert ["prune", "0.3", "90.0", "+0.00", "~1.00", "~2.00", "~100", "never", "~30.9"] in lines
    assert [line[0] for line in lines[3:]] == ["int8", "cnn", "prune", "fp16"]
    assert "total Wh: training, compressing and 1,000,000 predictions, in batches of 250" in err
    assert "– unknown, shared the machine with another metered run: fp16, cnn dddddddd" in err
    assert "~ estimated by a power model, not measured" in err


def test_a_wide_lifecycle_shows_intervals_and_runs(db: Store, greenml: Greenml) -> None:
    fill(db)
    _, out, _ = greenml("board", "--lifecycle", "--predictions-per-day", "10000", width=120)
    assert max(map(len, out.splitlines())) <= 120
    assert "…" not in out
    assert [
        "cnn",
        "int8",
        "bbbbbbbb",
        "89.8",
        "-0.20±0.18",
        "~1.00",
        "~1.11",
        "~20.0±5.0",
        "~50,000",
        "5.00",
        "~7.67",
    ] in (lines_of(out))


def test_days_and_lifetimes_are_those_asked_for(db: Store, greenml: Greenml) -> None:
    fill(db)
    _, out, err = greenml("board", "--lifecycle", "--predictions-per-day", "10000", "--predictions", "0")
    assert max(map(len, out.splitlines())) <= 80
    assert ["int8", "89.8", "-0.20", "~1.11", "~20.0", "~50,000", "5.00", "~2.11"] in lines_of(out)
    assert "and 0 predictions" in err


def test_json_and_csv_are_the_view_with_days_and_totals(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    fill(db)
    flags = ["--predictions-per-day", "10000", "--predictions", "2000000"]
    code, out, err = greenml("board", "--lifecycle", "--json", *flags)
    rows = json.loads(out)
    assert (code, err) == (0, "")
    assert [row["run_id"] for row in rows] == [INT8, PARENT, PRUNED, SHARED]
    view = set(db.rows("from break_even limit 1")[0]) - {"run_key", "baseline"}
    assert view <= set(rows[0])
    assert not [name for name in rows[0] if name.startswith("_")]
    assert rows[0]["days"] == pytest.approx(5)
    assert rows[0]["total_kwh"] == pytest.approx((3600 + 4000 + 40_000) / 3.6e6)
    assert rows[0]["total_co2_g"] == pytest.approx((3600 + 4000 + 40_000) / 3.6e6 * 475)
    assert (rows[1]["verdict"], rows[2]["verdict"], rows[2]["break_even"]) == (None, "never", None)
    assert (rows[3]["verdict"], rows[3]["days"]) == ("unknown", None)
    path = tmp_path / "lives.csv"
    assert greenml("board", "--lifecycle", "--csv", str(path), *flags)[0] == 0
    with path.open(newline="", encoding="utf-8") as file:
        assert [row["run_id"] for row in csv.DictReader(file)] == [row["run_id"] for row in rows]


def test_models_are_chosen_as_on_the_board(db: Store, greenml: Greenml) -> None:
    fill(db)
    record(db, "e" * 12, [0.9], [3600.0], dataset="pets", data_hash="d2", split_hash="s2", model="resnet18")
    pets: dict[str, Any] = {"dataset": "pets", "data_hash": "d2", "split_hash": "s2", "model": "resnet18"}
    record_compressed(db, "f" * 12, "e" * 12, [10.0], {"before": BEFORE, "after": AFTER}, tags=["mine"], **pets)

    def shown(*flags: str) -> list[str]:
        return [row["run_id"][0] for row in json.loads(greenml("board", "--lifecycle", "--json", *flags)[1])]

    assert shown("--dataset", "pets") == ["f", "e"]
    assert shown("--model", "res*") == ["f", "e"]
    assert shown("--tag", "mine") == ["f"]
    assert shown("--limit", "1") == ["b", "f"]
    _, out, err = greenml("board", "--lifecycle", "--limit", "1")
    assert "3 more on digits: --limit" in err
    assert "pets" in out


@pytest.mark.parametrize(
    ("flags", "error", "hint"),
    [
        (
            ["--predictions", "5"],
            "`--predictions` goes with `--lifecycle`",
            "greenml board --lifecycle --predictions 5",
        ),
        (["--lifecycle", "--grouped"], "`--grouped` goes not with `--lifecycle`", "leave one of them out"),
        (["--lifecycle", "--by", "energy"], "`--by` goes not with `--lifecycle`", "leave one of them out"),
    ],
)
def test_flags_that_do_not_go_together(greenml: Greenml, flags: list[str], error: str, hint: str) -> None:
    assert greenml("board", *flags) == (2, "", f"greenml: error: {error}\nhint: {hint}\n")


def test_an_empty_page_says_how_it_gets_a_line(db: Store, greenml: Greenml) -> None:
    record(db, PARENT, [0.9], [3600.0])
    code, out, err = greenml("board", "--lifecycle")
    assert (code, out) == (0, "")
    assert err.splitlines() == [f"no compressed model in {db.path}", "hint: greenml compress RUN --method int8"]
    assert greenml("board", "--lifecycle", "--json") == (0, "[]\n", "")
    fill(db)
    assert greenml("board", "--lifecycle", "--batch-size", "7")[2].splitlines() == [
        "nothing was measured in batches of 7",
        "hint: --batch-size 250 (measured: 250)",
    ]


def test_the_board_of_runs_says_what_compressed_models_are_charged_with(db: Store, greenml: Greenml) -> None:
    fill(db)
    _, out, err = greenml("board")
    assert ["2", "cnn,", "int8", "int8", "0", "90.0", "~2.23"] in [line[:7] for line in lines_of(out)]
    assert "compressed models are charged with what their parents took: --lifecycle shows when they pay" in err
    assert "compressed" in greenml("board", "--grouped")[2]


# One run


def test_show_tells_the_ledger_of_a_compressed_model(db: Store, greenml: Greenml) -> None:
    fill(db)
    code, out, err = greenml("runs", "show", INT8)
    assert code == 0
    text = " ".join(out.split())
    for words in (
        f"parent {PARENT}",
        "method int8",
        "1.00 Wh of it by its parents, 1.23 Wh by itself",  # 4,000 J of making, 420 J of measuring
        "-0.20 points of accuracy against its parent (-0.38 to -0.02), on the same test images",
        "600 kB, 25.0 % of its parent's 2.40 MB",
        "~1.11 Wh to compress, ~117 mWh to measure",
        "in batches of 250: paid back after ~50.0 thousand predictions (47.1 to 53.3); 0.500 days at 100,000 a day",
        "saves ~80.0 J in 1000 predictions (75.0 to 85.0)",
        "against openvino bf16 in batches of 250: never: the interval of what is saved touches zero",
    ):
        assert words in text, words
    lines = lines_of(out)
    assert ["this", "model", "250", "500", "ms", "600", "ms", "500", "~20.0±5.0", "4.00", "89.80"] in lines
    assert ["openvino", "bf16", "250", "500", "ms", "600", "ms", "500", "~20.0±9.9", "4.00", "90.00"] in lines
    assert "CPU-s/1000" in out
    assert ledger.SPREAD in err
    assert max(map(len, greenml("runs", "show", INT8, width=80)[1].splitlines())) <= 80


def test_show_tells_why_compressing_does_not_pay_or_nobody_knows(db: Store, greenml: Greenml) -> None:
    fill(db)
    assert "never: the interval of what is saved touches zero" in " ".join(greenml("runs", "show", PRUNED)[1].split())
    shared = " ".join(greenml("runs", "show", SHARED)[1].split())
    assert "unknown: shared the machine with another metered run" in shared
    record_compressed(db, "e" * 12, PARENT, [10.0], {"before": AFTER, "after": BEFORE})
    worse = " ".join(greenml("runs", "show", "ee")[1].split())
    assert "never: a prediction takes more than before" in worse
    assert "takes ~80.0 J more in 1000 predictions (75.0 to 85.0)" in worse
    record_compressed(db, "f" * 12, "9" * 12, [10.0], {"before": BEFORE, "after": AFTER})
    assert "what its parents took is unknown, 103 mWh by itself" in " ".join(greenml("runs", "show", "ff")[1].split())


def test_show_lists_what_a_parent_was_compressed_to(db: Store, greenml: Greenml) -> None:
    fill(db)
    _, out, err = greenml("runs", "show", PARENT)
    lines = lines_of(out)
    assert ["int8", "89.8", "-0.20", "600", "kB", "500", "ms", "~20.0±5.0", "~50,000"] in lines
    assert ["prune", "0.3", "90.0", "+0.00", "2.40", "MB", "500", "ms", "~100±10", "never"] in lines
    assert max(map(len, out.splitlines())) <= 80
    assert "– unknown, shared the machine with another metered run: fp16 dddddddd" in err
    assert "break-even" not in greenml("runs", "show", INT8)[1].split("answers of")[1]


def test_show_as_json_has_the_rows_of_the_ledger(db: Store, greenml: Greenml) -> None:
    fill(db)
    [child] = json.loads(greenml("runs", "show", INT8, "--json")[1])
    assert [row["name"] for row in child["inference"]] == ["after", "before", "openvino bf16"]
    assert [(row["baseline"], row["verdict"]) for row in child["break_even"]] == [
        ("before", "pays"),
        ("openvino bf16", "never"),
    ]
    assert child["children"] == []
    assert child["break_even"][0]["break_even"] == pytest.approx(50_000)
    # After 1 Wh of training and 4 kJ of compressing, 20 J in 1000 predictions rather than 100.
    assert child["break_even"][0]["lifetime_predictions"] == 1_000_000
    assert child["break_even"][0]["total_kwh"] == pytest.approx((3600 + 4000 + 20_000) / 3.6e6)
    assert child["break_even"][0]["before_total_kwh"] == pytest.approx((3600 + 100_000) / 3.6e6)
    assert "~7.67 Wh with training and 1,000,000 predictions, its parent's ~28.8 Wh" in " ".join(
        greenml("runs", "show", INT8, width=200)[1].split()
    )
    [parent] = json.loads(greenml("runs", "show", PARENT, "--json")[1])
    assert (parent["inference"], parent["break_even"]) == ([], [])
    assert [row["run_id"] for row in parent["children"]] == [INT8, PRUNED, SHARED]
    record(db, "e" * 12, [0.9], [1.0])
    [alone] = json.loads(greenml("runs", "show", "ee", "--json")[1])
    assert [alone[key] for key in ("inference", "break_even", "children")] == [[], [], []]


# What `greenml compress` says when it is done


def test_a_compression_ends_with_its_ledger(db: Store, capsys: pytest.CaptureFixture[str]) -> None:
    fill(db)
    ledger.show(db, INT8, per_day=50_000)
    out = " ".join(capsys.readouterr().out.split())
    assert "accuracy 89.8 %" in out
    assert "predictions (47.1 to 53.3); 1.00 days at 50,000 a day" in out
    ledger.show(db, INT8, per_day=None)
    assert "a day" not in capsys.readouterr().out


def test_several_compressions_are_one_table_under_their_parent(db: Store, capsys: pytest.CaptureFixture[str]) -> None:
    fill(db)
    record_compressed(db, "e" * 12, PARENT, [10.0], {}, method="qat", started_at=STARTED_AT + timedelta(hours=4))
    ledger.compare(db, PARENT, [INT8, PRUNED, "e" * 12], per_day=50_000)
    printed = capsys.readouterr()
    lines = lines_of(printed.out)
    assert ["as", "it", "is", "90.0", "2.40", "MB", "500", "ms", "~100±9.9"] in lines
    assert [line[0] for line in lines[2:]] == ["as", "int8", "prune", "qat"]
    assert "– qat eeeeeeee: done, not measured" in printed.err
    assert SHARED[:8] not in printed.err


@pytest.mark.parametrize(("count", "text"), [(0.5, "0.50"), (1234.5, "1,230"), (1.2e6, "1.20 M"), (4e9, "4.00 bn")])
def test_counts_are_short_in_a_column(count: float, text: str) -> None:
    assert ledger.short(count) == text
