"""What people see: `board` and `runs`, on the screen and as JSON."""

from __future__ import annotations

import csv
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from conftest import STARTED_AT, make_end, make_epoch, make_phase, make_resume, make_run, record

from greenml import console
from greenml.records import Artifact, Source

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Greenml

    from greenml.store import Store

A, B, C, D = "a" * 12, "b" * 12, "c" * 12, "d" * 12


def fill(db: Store) -> None:
    """Two ranked runs, one that learned nothing, one on other data, one that crashed."""
    record(db, A, [0.5, 0.95], [1800.0, 1800.0], name="first [bold]try[/bold]", tags=["mine"])
    record(
        db, B, [0.9], [7200.0], model="mobilenetv2_050", precision="bf16", started_at=STARTED_AT + timedelta(hours=1)
    )
    record(db, C, [0.1], [36.0], started_at=STARTED_AT + timedelta(hours=2))
    pets = {"dataset": "folder:/a rather/long path/to some pets", "data_hash": "d2", "split_hash": "s2"}
    record(db, D, [0.8], [36e6], started_at=STARTED_AT, **pets)
    record(db, "e" * 12, [0.8], [3600.0], ended=False)


def test_the_board_fits_80_columns_and_says_everything(db: Store, greenml: Greenml) -> None:
    fill(db)
    code, out, err = greenml("board")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    lines = [line.split() for line in out.splitlines()]
    assert ["1", "●", "cnn", "fp32", "2", "95.0", "~1.00", "0.475", "20.0", "s", "95,000"] in lines
    assert ["2", "mobilenetv2_050", "bf16", "1", "90.0", "~2.00", "0.950", "10.0", "s", "45,000"] in lines
    assert ["–", "cnn", "fp32", "1", "10.0", "~0.0100", "0.00475", "10.0", "s", "–"] in lines
    assert "…" not in out
    assert err.splitlines() == [
        "~ estimated by a power model, not measured",
        console.FRONT,
        "– unranked, not clearly above chance: cnn cccccccc",
        "1 running, crashed or failed: --all shows them",
    ]


def test_a_wide_board_shows_more_and_users_words_as_they_are(db: Store, greenml: Greenml) -> None:
    fill(db)
    _, out, _ = greenml("board", "--all", width=120)
    assert max(map(len, out.splitlines())) <= 120
    assert "first [bold]try[/bold]" in out
    assert A[:8] in out
    assert "≥1.00" in out  # the crashed run: what is known of it


def test_json_is_the_leaderboard(db: Store, greenml: Greenml) -> None:
    fill(db)
    code, out, err = greenml("board", "--json", "--all")
    rows = json.loads(out)
    assert (code, err) == (0, "")
    assert list(rows[0]) == list(db.rows("from leaderboard")[0])
    assert [row["run_id"] for row in rows] == [A, B, C, "e" * 12, D]
    assert rows[2]["rank"] is None
    assert rows[3]["energy_kwh"] is None
    assert rows[0]["started_at"] == "2026-03-01T12:00:00Z"


def test_a_loss_that_left_the_numbers_is_null(db: Store, greenml: Greenml) -> None:
    db.write([make_run(A), make_epoch(A, 1, train_loss=float("nan")), make_end(A, test_loss=float("inf"))])
    [run] = json.loads(greenml("runs", "show", A, "--json")[1])
    assert (run["test_loss"], run["epoch_rows"][0]["train_loss"]) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--by", "acc-per-kwh"], [A, B, C]),
        (["--by", "accuracy"], [A, B, C]),
        (["--by", "energy"], [C, A, B]),
        (["--by", "co2"], [C, A, B]),
        (["--by", "time"], [C, B, A]),
        (["--by", "started"], [C, B, A]),
        (["--by", "model", "--by", "accuracy"], [A, C, B]),
        (["--by", "model", "--by", "energy"], [C, A, B]),
        (["--by", "energy_to_acc=0.9"], [A, B, C]),
        (["--by", "energy-to-acc=95"], [A, C, B]),
        (["--last", "2"], [B, C]),
        (["--model", "mobile*"], [B]),
        (["--tag", "mine"], [A]),
        (["--limit", "1"], [A]),
        (["--tag", "nobody's"], []),
    ],
)
def test_sorting_and_choosing(db: Store, greenml: Greenml, arguments: list[str], expected: list[str]) -> None:
    fill(db)
    rows = json.loads(greenml("board", "--json", "--dataset", "digits", *arguments)[1])
    assert [row["run_id"] for row in rows] == expected


def test_energy_to_accuracy_stands_beside(db: Store, greenml: Greenml) -> None:
    fill(db)
    _, out, _ = greenml("board", "--by", "energy-to-acc=90")
    assert "Wh to 90 %" in out
    assert max(map(len, out.splitlines())) <= 80
    [row, *_] = json.loads(greenml("board", "--by", "energy-to-acc=90", "--json")[1])
    assert row["energy_to_acc_kwh"] == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("acuracy", "did you mean `accuracy`?"),
        ("energy-to-acc", "`energy-to-acc=85` is 85 %"),
        ("energy-to-acc=much", "85 and 0.85 both mean 85 %"),
        ("energy-to-acc=185", "85 and 0.85 both mean 85 %"),
        ("zzz", "the keys are acc-per-kwh"),
    ],
)
def test_a_wrong_key_names_the_way_out(greenml: Greenml, key: str, hint: str) -> None:
    code, out, err = greenml("board", "--by", key)
    assert (code, out) == (2, "")
    error, way_out = err.splitlines()
    assert error.startswith("greenml: error: ")
    assert way_out.startswith(f"hint: {hint}")


def test_a_long_board_says_how_much_more_there_is(db: Store, greenml: Greenml) -> None:
    db.write(
        [row for n in range(25) for row in (make_run(f"{n:012x}"), make_phase(f"{n:012x}", 0), make_end(f"{n:012x}"))]
    )
    _, out, err = greenml("board")
    assert out.count("cnn") == 20
    assert "5 more on digits: --limit" in err
    assert len(json.loads(greenml("board", "--json")[1])) == 25


def test_splits_are_told_apart(db: Store, greenml: Greenml) -> None:
    record(db, A, [0.9], [1e5])
    record(db, B, [0.9], [1e5], split_hash="another")
    _, out, _ = greenml("board")
    assert "digits (data d1, split s1)" in out
    assert "digits (data d1, split anothe)" in out


def test_the_same_images_are_one_contest_whatever_they_were_called(db: Store, greenml: Greenml) -> None:
    record(db, A, [0.9], [1e5], dataset="parquet:here")
    record(db, B, [0.9], [2e5], dataset="parquet:/elsewhere/here")
    rows = json.loads(greenml("board", "--json")[1])
    assert {row["run_id"]: row["rank"] for row in rows} == {A: 1, B: 2}


def test_csv_holds_the_same_rows(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    fill(db)
    code, out, err = greenml("board", "--csv", str(tmp_path / "board.csv"))
    assert (code, out) == (0, "")
    assert "4 runs are in" in err
    with (tmp_path / "board.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["run_id"] for row in rows] == [A, B, C, D]
    assert rows[0]["tags"] == "mine"
    assert rows[2]["rank"] == ""
    assert greenml("board", "--csv", str(tmp_path / "no" / "board.csv"))[0] == 3


def test_an_empty_store_says_what_to_do_first(greenml: Greenml, tmp_path: Path) -> None:
    for store in ([], ["--store", str(tmp_path / "none.duckdb")]):
        code, out, err = greenml("board", *store)
        assert (code, out) == (0, "")
        assert err.splitlines()[-1] == "hint: greenml train cnn --dataset digits"
        assert greenml("board", "--json", *store) == (0, "[]\n", "")
        assert greenml("runs", "list", *store)[0] == 0


def test_rows_that_wait_are_announced(db: Store, greenml: Greenml) -> None:
    record(db, A, [0.9], [1e5])
    db.path.with_name("greenml.duckdb.spool").write_text("{}\n{}\n")
    assert "2 rows wait beside the store" in greenml("board")[2]


def test_watching_needs_a_terminal(greenml: Greenml) -> None:
    assert greenml("board", "--watch")[0] == 2


def test_the_list_is_newest_first_and_holds_every_status(db: Store, greenml: Greenml) -> None:
    fill(db)
    code, out, _ = greenml("runs", "list")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    shown = [line.split()[:2] for line in out.splitlines()[2:]]
    assert shown[:2] == [[C[:8], "done"], [B[:8], "done"]]
    assert ["eeeeeeee", "crashed"] in shown
    assert len(json.loads(greenml("runs", "list", "--json")[1])) == 5


def test_everything_known_about_one_run(db: Store, greenml: Greenml) -> None:
    record(db, A, [0.5, 0.95], [1800.0, 1800.0], ended=False, tags=["[red]mine"])
    db.write([Artifact(run_id=A, name="model.pt", path=f"runs/{A}/model.pt", num_bytes=2_481_448), make_end(A)])
    code, out, err = greenml("runs", "show", A[:3])
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    for text in (
        A,
        "[red]mine",
        "620,362 parameters",
        "CPU 1.00 Wh, estimated",
        "world average, 475 g/kWh, 2023",
        "▁█ 95.0 %",
        "██ ~500 mWh",
        f"runs/{A}/model.pt  2,481,448 bytes",
    ):
        assert text in out, text
    assert err == "~ estimated by a power model, not measured\n"

    [run] = json.loads(greenml("runs", "show", A[:3], "--json")[1])
    assert run["config"] == {"model": "cnn", "epochs": 3, "lr": 0.001}
    assert [row["epoch"] for row in run["epoch_rows"]] == [1, 2]
    assert run["artifacts"][0]["path"] == f"runs/{A}/model.pt"
    assert run["rank"] == 1


def test_what_is_unknown_is_never_zero(db: Store, greenml: Greenml) -> None:
    unknown: dict[str, Any] = {"cpu_j": None, "cpu_source": Source.UNKNOWN, "ram_j": None, "ram_source": Source.UNKNOWN}
    epoch = make_epoch(A, 1, cpu_j=None, ram_j=None, energy_j=None, energy_total_j=None, source=Source.UNKNOWN)
    db.write([make_run(A), make_phase(A, 0, **unknown), epoch, make_end(A)])
    _, out, _ = greenml("runs", "show", A)
    assert "energy     unknown" in out
    assert "CPU unknown" in out
    assert "CO2e       unknown" in out


def test_a_run_that_has_only_begun_can_be_shown(db: Store, greenml: Greenml) -> None:
    with db.claim(A):
        db.write([make_run(A)])
        assert greenml("runs", "show", A)[0] == greenml("board", "--all")[0] == 0


def test_an_unknown_run_names_the_way_out(db: Store, greenml: Greenml) -> None:
    record(db, A, [0.9], [1e5])
    code, _, err = greenml("runs", "show", "zzz")
    assert (code, err.splitlines()[1]) == (2, "hint: `greenml runs list` shows the runs")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345.6, "12,346"),
        (123.4, "123"),
        (1.234, "1.23"),
        (0.01234, "0.0123"),
        (0, "0"),
        (None, "–"),
        (9.999, "10.00"),
    ],
)
def test_figures_have_three_digits(value: float | None, text: str) -> None:
    assert console.figure(value) == text


def test_bars_leave_gaps_where_nothing_is_known() -> None:
    assert console.bars([0.0, None, 1.0], 10) == "▁ █"
    assert console.bars([2.0, 2.0], 10) == "▁▁"
    assert console.bars([2.0, 2.0], 10, from_zero=True) == "██"
    assert console.bars([float(n) for n in range(100)], 10)[-1] == "█"
    assert console.bars([], 10) == ""


NASTY = 'it\'s "[red]mine[/red]"\n\tyours \x1b[31m\x9b2J 🌱\u202e'


def test_no_name_breaks_a_table_or_reaches_the_terminal_raw(db: Store, greenml: Greenml) -> None:
    record(db, A, [0.9], [1e5], name=NASTY, tags=[NASTY], note=NASTY, dataset=NASTY, model=NASTY)
    record(db, B, [0.1], [1e5], model=NASTY, dataset=NASTY)
    db.write([Artifact(run_id=A, name=NASTY, path=f"runs/{A}/{NASTY}", num_bytes=1)])
    for width in (80, 120):
        for command in ("board", "board --grouped", "runs list", f"runs show {A}", f"runs tag {A} --remove no"):
            _, out, err = greenml(*command.split(), width=width)
            assert not console.UNSAFE.search(out + err), command
            assert (
                max((console_width(line) for line in out.splitlines() if not line.startswith("runs/")), default=0)
                <= width
            )
    tables = greenml("board", width=120)[1].splitlines()
    assert len(tables) == 5
    assert 'it\'s "[red]mine[/red]"  yours \N{REPLACEMENT CHARACTER}[31m' in tables[0]
    text = greenml("board", "--json")[1]
    assert not console.UNSAFE.search(text)
    assert json.loads(text)[0]["name"] == NASTY


def console_width(line: str) -> int:
    from rich.cells import cell_len

    return cell_len(line)


def repeats(db: Store) -> None:
    """A config under three seeds, one of them unranked, another that ran once, and a run from before groups."""
    for number, (run_id, accuracy) in enumerate(((A, 0.90), (B, 0.92), (C, 0.1))):
        record(db, run_id, [accuracy], [3600.0 * (1 + number)], seed=number, group_hash="g1", tags=[f"t{number}"])
    record(db, D, [0.8], [3600.0], group_hash="g2", model="resnet18", started_at=STARTED_AT + timedelta(hours=1))
    record(db, "e" * 12, [0.8], [7200.0], model="mobilenetv2_050")


def test_repeats_are_one_row_with_mean_and_spread(db: Store, greenml: Greenml) -> None:
    repeats(db)
    code, out, err = greenml("board", "--grouped")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    rows = [line.split() for line in out.splitlines()[3:]]
    assert rows == [
        ["1", "resnet18", "fp32", "1", "80.0", "–", "~1.00", "–", "0.475", "10.0", "s", "80,000"],
        ["2", "cnn", "fp32", "2", "91.0", "1.4", "~1.50", "0.71", "0.713", "10.0", "s", "60,667"],
        ["3", "mobilenetv2_050", "fp32", "1", "80.0", "–", "~2.00", "–", "0.950", "10.0", "s", "40,000"],
    ]
    assert err.splitlines() == [
        "~ estimated by a power model, not measured",
        "± standard deviation (n - 1) over the n runs of a group; – where one run, or one seed, says nothing of it",
        "1 run of these groups is unranked and does not count: `greenml board --all` says why",
    ]
    assert "0, 1, 2" in greenml("board", "--grouped", width=120)[1]
    plain = greenml("board")[2]
    assert "3 runs are repeats of one config: --grouped shows mean and spread" in plain
    assert "repeats" not in greenml("board", "--last", "1")[2]


def test_repeats_without_a_rank_still_show_their_energy(db: Store, greenml: Greenml) -> None:
    repeats(db)
    for number, run_id in enumerate(("f" * 12, "9" * 12)):
        record(db, run_id, [0.1], [7200.0], seed=number, group_hash="g3", model="vgg11")
    code, out, err = greenml("board", "--grouped")
    assert code == 0
    assert out.splitlines()[-1].split() == ["–", "vgg11", "fp32", "0", "–", "–", "~2.00", "–", "–", "–", "–"]
    note = "n 0: no run of the group is ranked; its Wh is the mean of its finished runs"
    assert note in err.splitlines()
    assert note not in greenml("board", "--grouped", "--model", "cnn")[2]


def test_groups_as_json_and_csv_are_the_view(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    repeats(db)
    code, out, err = greenml("board", "--grouped", "--json")
    assert (code, err) == (0, "")
    rows = json.loads(out)
    assert list(rows[0]) == list(db.rows("from leaderboard_groups")[0])
    assert [row["num_runs"] for row in rows] == [1, 3, 1]
    assert (
        greenml("board", "--grouped", "--csv", str(tmp_path / "groups.csv"))[2]
        == f"3 groups are in {tmp_path}/groups.csv\n"
    )
    with (tmp_path / "groups.csv").open() as file:
        assert [row["seeds"] for row in csv.DictReader(file)] == ["0", "0 1 2", "0"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--by", "accuracy"], ["cnn", "resnet18", "mobilenetv2_050"]),
        (["--by", "energy"], ["resnet18", "cnn", "mobilenetv2_050"]),
        (["--by", "model"], ["cnn", "mobilenetv2_050", "resnet18"]),
        (["--by", "started"], ["resnet18", "cnn", "mobilenetv2_050"]),
        (["--model", "*net*"], ["resnet18", "mobilenetv2_050"]),
        (["--tag", "t1"], ["cnn"]),
        (["--last", "1"], ["resnet18"]),
        (["--dataset", "none"], []),
    ],
)
def test_groups_are_sorted_and_chosen(db: Store, greenml: Greenml, arguments: list[str], expected: list[str]) -> None:
    repeats(db)
    rows = json.loads(greenml("board", "--grouped", "--json", *arguments)[1])
    assert [row["model"] for row in rows] == expected


def test_groups_have_no_energy_to_accuracy(db: Store, greenml: Greenml) -> None:
    code, _, err = greenml("board", "--grouped", "--by", "energy-to-acc=85")
    assert code == 2
    assert err.splitlines()[1] == "hint: the keys are acc-per-kwh, accuracy, energy, co2, time, model, started"


def test_show_tells_what_only_some_runs_have(db: Store, greenml: Greenml) -> None:
    words = "equals one large batch: no BatchNorm"
    rows = [
        make_run(A, note="try again", grad_accum=4, accumulation=words),
        make_phase(A, 0, epoch=1),
        make_epoch(A, 1, num_samples=1000, peak_host_bytes=620_000_000, peak_device_bytes=1_234_000_000),
        make_end(A, status="interrupted"),
        make_resume(A),
        make_phase(A, 0, segment=1, epoch=2),
        make_epoch(A, 2, segment=1, num_samples=1000, peak_host_bytes=500_000_000),
        make_end(A),
    ]
    db.write(rows)
    out = " ".join(greenml("runs", "show", A)[1].split())
    for text in (
        "note try again",
        f"batch 64 x 4 = 256 images a step; {words}",
        "memory up to 620 MB in the host, up to 1.23 GB on the GPU",
        "0.100 J per training image",
        "resumed 1 time: in epoch 2 (2026-03-01 13:00)",
    ):
        assert text in out, text
    [run] = json.loads(greenml("runs", "show", A, "--json")[1])
    assert (run["note"], run["resumes"][0]["epoch"]) == ("try again", 2)


def test_groups_that_look_alike_are_told_apart(greenml: Greenml, db: Store) -> None:
    for name, lr in (("a", 0.1), ("b", 0.2)):
        for seed in (0, 1):
            own = {"model": "cnn", "lr": lr, "patience": 5, "seed": seed}
            record(db, f"{name}{seed}" * 6, [0.9], [1e4 * lr], seed=seed, config=own, group_hash=name)
    assert "cnn fp32: #1 lr 0.1; #2 lr 0.2\n" in greenml("board", "--grouped")[2]
    assert "_config" not in greenml("board", "--grouped", "--json")[1]
