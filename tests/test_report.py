"""`greenml report` as texts and as files of rows; the board beside the store after each training."""

from __future__ import annotations

import csv
import json
import os
import re
import string
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import bench_store
import pytest
from conftest import (
    STARTED_AT,
    make_end,
    make_metric,
    make_phase,
    make_run,
    make_study,
    make_sweep,
    make_trial,
    record,
)
from huggingface_hub import ModelCard
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from greenml import console, grid
from greenml.cli import afterwards
from greenml.cli.portrait import everything, everything_of
from greenml.report import latex, markdown, rows

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Greenml

    from greenml.store import Store

A, B, C, D, E = (letter * 12 for letter in "abcde")
NASTY = 'a|b `c` <script>alert("x")</script> \\n \N{SEEDLING} 50 % & $x_1$ ~#^{} [l](http://u) *bold*\nsecond line'
LONG = "a" * 300
"""Longer than any file system lets a name be."""
MD = MarkdownIt("commonmark").enable("table")


def fill(db: Store) -> None:
    """Two configs under two seeds each, which differ in precision alone; one that learned nothing; one that crashed."""
    for i, (run_id, accuracies, joules, changes) in enumerate(
        [
            (A, [0.5, 0.9, 0.95], [1800.0] * 3, {"seed": 0, "group_hash": "fp32"}),
            (B, [0.6, 0.9, 0.93], [1900.0] * 3, {"seed": 1, "group_hash": "fp32"}),
            (C, [0.6, 0.92, 0.94], [900.0] * 3, {"seed": 0, "group_hash": "bf16", "precision": "bf16"}),
            (D, [0.1], [36.0], {"model": "resnet18", "group_hash": "r"}),
        ]
    ):
        config = {
            "model": "cnn",
            "epochs": 3,
            "seed": changes.get("seed"),
            "precision": changes.get("precision", "fp32"),
        }
        record(db, run_id, accuracies, joules, started_at=STARTED_AT + timedelta(hours=i), config=config, **changes)
    record(db, E, [0.8], [3600.0], ended=False, started_at=STARTED_AT + timedelta(hours=9))


def cells(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown text, as who renders it sees them: table, line, cell."""
    found: list[list[list[str]]] = []
    for token in MD.parse(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and found and token.map and "|" in text.splitlines()[token.map[0]]:
            parts = token.children or []
            assert {part.type for part in parts} <= {"text", "text_special"}, [part.type for part in parts]
            found[-1][-1].append("".join(part.content for part in parts))
    return found


# Markdown


def test_markdown_has_every_section_and_the_numbers_of_the_views(db: Store, greenml: Greenml) -> None:
    fill(db)
    code, out, err = greenml("report", "--md")
    assert (code, err) == (0, "")
    headings = re.findall("^## (.+)$", out, re.MULTILINE)
    assert headings == [
        *("Recommendation", "Leaderboard", "Use this instead", "What one change saved", "Method", "Limits")
    ]
    board, *_ = cells(out)
    ranked = db.rows("from leaderboard where rank is not null order by rank")
    column = board[0].index("run")
    assert [line[column] for line in board[1:4]] == [row["run_id"][:8] for row in ranked]
    assert [line[board[0].index("test %")] for line in board[1:4]] == ["94.0", "95.0", "93.0"]
    assert "not clearly above chance" in out
    [totals] = rows.contests(db, [A, B, C, D])
    assert (totals["num_runs"], totals["num_ranked"]) == (4, 3)
    assert totals["total_known_kwh"] == pytest.approx((3 * (1800 + 1900 + 900) + 36) / 3.6e6)
    assert f"Most accurate on validation: cnn (fp32, run {A[:8]}), 95.0 % validation" in out
    assert f"Most accuracy per kWh: cnn (bf16, run {C[:8]})" in out
    assert r"\~3.84 Wh" in out
    [advice] = db.rows("from recommended(null, null, null, null) where place = 1")
    assert f"Use {advice['model']}" in out


def test_the_mark_of_the_front_is_of_one_epoch(db: Store, greenml: Greenml) -> None:
    """The run itself may be beaten in both by another."""
    record(db, A, [0.6, 0.7], [100.0, 10_000.0])
    record(db, B, [0.5, 0.9], [300.0, 300.0], seed=1)
    assert [row["epoch"] for row in db.rows("from pareto_front where run_id = ?", [A])] == [1]
    board = cells(greenml("report", "--md")[1])[0]
    marked = {line[board[0].index("run")]: line[board[0].index("front")] for line in board[1:]}
    assert marked == {A[:8]: "●", B[:8]: "●"}
    for legend in (greenml("report", "--md")[1], greenml("board")[2]):
        assert "● one of its epochs is on the front: no other epoch of any run does better" in legend


def test_markdown_of_an_incomplete_sum_says_so(db: Store, greenml: Greenml) -> None:
    record(db, A, [0.5, 0.95], [1800.0, None])
    record(db, B, [0.95], [None])
    _, out, _ = greenml("report", "--md")
    assert "All of them together took ≥500 mWh" in out
    assert "of 2 runs only a part is known, or nothing" in out
    _, out, _ = greenml("report", "--md", B)
    assert "took an unknown amount of energy" in out
    assert "energy partly unknown" in out


def test_markdown_does_not_count_what_was_not_metered(db: Store, greenml: Greenml) -> None:
    record(db, A, [0.9], [3600.0])
    record(db, B, [0.9], [1e9], kind="estimate")
    _, out, _ = greenml("report", "--md")
    assert "2 runs, 1 ranked" in out
    assert r"Those metered here (1 run) took \~1.00 Wh" in out
    _, out, _ = greenml("report", "--md", B)
    assert "None of them was metered here." in out


def test_tracked_runs_without_accuracy_have_a_table_of_their_own(db: Store, greenml: Greenml) -> None:
    program = {
        "kind": "track",
        "data_hash": None,
        "split_hash": None,
        "num_classes": None,
        "metric": "mae",
        "goal": "min",
    }
    own = {"num_parameters": None, "num_train": None, "num_val": None, "num_test": None, "image_size": None}
    run = make_run(A, **program, **own, model="my script", dataset="prices", precision=None, batch_size=None, seed=None)
    db.write(
        [
            run,
            make_phase(A, 0),
            make_metric(A, 0),
            make_end(A, test_accuracy=None, val_accuracy=None, value=0.5, metric="mae", goal="min"),
        ]
    )
    code, out, _ = greenml("report", "--md")
    assert code == 0
    assert "### prices, by mae (less is better)" in out
    assert "1 run, 0 ranked" in out
    _, card, _ = greenml("report", "--model-card", A)
    assert ModelCard(card).data.to_dict()["metrics"] == ["mae"]
    assert "model-index" not in card
    assert "training_type" not in card
    assert "a mae of 0.500 (less is better)" in card
    assert greenml("report", "--latex")[0] == 0


def test_what_people_named_is_shown_and_never_obeyed(db: Store, greenml: Greenml) -> None:
    fill(db)
    model = f"m|`<b>`\n\n<script>\n# {NASTY}"
    record(db, "f" * 12, [0.97], [100.0], name=NASTY, model=model, started_at=STARTED_AT + timedelta(hours=10))
    for arguments in (["--md"], ["--model-card", "f"]):
        _, out, _ = greenml("report", *arguments)
        rendered = MD.render(out.partition("---\n\n")[2] or out)
        assert "<script" not in rendered
        assert "<b>" not in rendered
        assert "href" not in rendered
        assert rendered.count("<h1>") == 1
    board = cells(greenml("report", "--md")[1])[0]
    assert console.clean(NASTY) in board[1]
    assert {len(line) for line in board} == {len(board[0])}


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=30), min_size=2, max_size=3))
@example(["", "__0__"])
@example(["a__b", "a_b_"])
def test_a_table_shows_any_text_as_it_is(texts: list[str]) -> None:
    [[heads, line]] = cells(markdown.grid(["x"] * len(texts), [texts], [False] * len(texts)))
    assert heads == ["x"] * len(texts)
    assert line == [console.clean(text).strip() for text in texts]


def test_a_command_stays_in_its_fence() -> None:
    [token] = MD.parse(markdown.code("greenml train ``` x\n```"))
    assert token.content == "greenml train ``` x ```\n"


# LaTeX


def plain_latex(text: str) -> str:
    """What LaTeX would show of escaped text: the way back, and an error where a character would do something."""
    back = {shown: letters for letters, shown in latex.ESCAPES.items()}
    pattern = "|".join(map(re.escape, sorted(back, key=len, reverse=True)))
    assert not set(re.sub(pattern, "", text)) & set("\\{}$&#%_^~")
    return re.sub(pattern, lambda found: back[found[0]], text)


@given(st.text(st.one_of(st.sampled_from(string.punctuation), st.characters(codec="utf-8"))))
def test_latex_shows_any_text_as_it_is(text: str) -> None:
    assert plain_latex(latex.escape(text)) == console.clean(text).strip()


def test_latex_has_the_leaderboard_the_front_and_the_leaders(db: Store, greenml: Greenml) -> None:
    fill(db)
    record(db, "f" * 12, [0.97], [90000.0], name=NASTY, started_at=STARTED_AT + timedelta(hours=10))
    code, out, err = greenml("report", "--latex", "--low-carbon", "0.5g")
    assert (code, err) == (0, "")
    for begin in re.findall(r"\\begin\{(\w+)\}", out):
        assert out.count(rf"\begin{{{begin}}}") == out.count(rf"\end{{{begin}}}") == 3
    captions = re.findall(r"\\caption\{(.*)\}", out)
    assert captions == [
        "Leaderboard of digits",
        "The front of digits",
        "Low-carbon leaders of digits: at most 500 mg CO2e",
    ]
    board, front, leaders = (
        [re.split(r"(?<!\\) & ", line.removesuffix(r" \\")) for line in part.splitlines() if line.endswith(r"\\")]
        for part in out.split(r"\begin{table}")[1:]
    )
    for table in (board, front, leaders):
        assert {len(line) for line in table} == {len(table[0])}
    assert len(front) - 1 == len(db.rows("from pareto_front"))
    run = leaders[0].index("run")
    under = db.rows("from leaderboard where rank is not null and co2_g <= 0.5 order by val_accuracy desc")
    assert 0 < len(under) < 4
    assert [line[run] for line in leaders[1:]] == [row["run_id"][:8] for row in under]
    assert r"\textbackslash{}" in out
    assert "\N{SEEDLING}" in out


def test_a_long_table_has_a_float_for_each_page(db: Store, greenml: Greenml, monkeypatch: Any) -> None:
    fill(db)
    whole = greenml("report", "--latex")[1]
    monkeypatch.setattr(latex, "LINES_A_PAGE", 3)
    _, out, _ = greenml("report", "--latex")
    assert re.findall(r"\\caption\{(.*)\}", out)[:2] == ["Leaderboard of digits", "Leaderboard of digits (continued)"]
    lines, whole_lines = ([line for line in text.splitlines() if line.endswith(r"\\")] for text in (out, whole))
    assert list(dict.fromkeys(lines)) == list(dict.fromkeys(whole_lines))
    assert len(set(re.findall(r"\\label.*", out))) == out.count(r"\label")


def test_no_run_under_the_threshold_is_said(db: Store, greenml: Greenml) -> None:
    fill(db)
    code, out, err = greenml("report", "--md", "--low-carbon", "1mg")
    assert (code, err) == (0, "no ranked run took at most 1.00 mg CO2e\n")
    assert "Low-carbon" not in out


# The model card


def test_a_model_card_is_one_for_the_hub(db: Store, greenml: Greenml) -> None:
    fill(db)
    record(db, "f" * 12, [0.97], [9000.0], model="resnet18", name=f"{NASTY}: - no", tags=["yes", "- x: y", "a\n---\nb"])
    code, out, err = greenml("report", "--model-card", "f")
    assert (code, err) == (0, "")
    known = everything(db, "f" * 12)
    data = ModelCard(out).data.to_dict()
    assert data["library_name"] == "timm"
    assert data["tags"] == ["greenml", "image-classification", "yes", "- x: y", "a --- b"]
    assert data["co2_eq_emissions"] == {
        "emissions": known["co2_g"],
        "source": "meter unknown, estimated, through greenml",
        "training_type": "pre-training",
        "hardware_used": "a CPU, 2 threads",
    }
    [index] = data["model-index"]
    assert index["name"] == console.clean(f"{NASTY}: - no")
    assert index["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.97, "name": "Test accuracy"}]
    [total] = db.rows("select sum(known_kwh) * 475 as grams, sum(duration_s) as seconds from leaderboard")
    assert f"≥{total['grams']:.2f} g CO2e" in out  # with the run that crashed, of which nobody knows all
    assert "6 runs in the store, with this one" in out


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"config": {"model_args": {"pretrained": True}}}, "training_type", "fine-tuning"),
        ({"kind": "track"}, "training_type", None),
        ({"model": "cnn"}, "library_name", None),
        ({"dataset": "hf:uoft-cs/cifar10/plain"}, "datasets", ["uoft-cs/cifar10"]),
        ({"dataset": "folder:pets"}, "datasets", None),
    ],
)
def test_a_model_card_says_what_is_known_alone(
    db: Store, greenml: Greenml, changes: dict[str, Any], field: str, value: object
) -> None:
    record(db, A, [0.9], [100.0], **changes)
    data = ModelCard(greenml("report", "--model-card", A)[1]).data.to_dict()
    assert (data | data["co2_eq_emissions"]).get(field) == value


def test_a_model_card_of_unknown_energy_names_no_grams(db: Store, greenml: Greenml) -> None:
    record(db, A, [0.9, 0.95], [100.0, None])
    code, out, _ = greenml("report", "--model-card", A)
    assert code == 0
    assert "co2_eq_emissions" not in ModelCard(out).data.to_dict()
    assert "- **CO2e**: unknown" in out
    assert "This run is not ranked: energy partly unknown." in out


@pytest.mark.parametrize(
    ("asked", "where", "caveat"),
    [
        (None, "unknown", "No region was given: the factor is the average of the world."),
        ("AQ", "AQ", "Nobody publishes a factor of AQ: the factor is the average of the world."),
    ],
)
def test_a_model_card_tells_no_region_from_one_without_a_factor(
    db: Store, greenml: Greenml, asked: str | None, where: str, caveat: str
) -> None:
    record(db, A, [0.9], [100.0], intensity=grid.resolve(asked))
    assert everything(db, A)["intensity_level"] == "world"
    _, out, _ = greenml("report", "--model-card", A)
    assert f"- {caveat}\n" in out
    assert f"| Where were the computations done? | {where} |" in out
    location = ModelCard(out).data.to_dict()["co2_eq_emissions"].get("geographical_location")
    assert location == asked


# Rows


def test_csv_and_parquet_hold_the_views(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    import polars as pl

    fill(db)
    sweep_id = "5" * 12
    db.write([make_sweep(sweep_id), make_study(sweep_id), make_trial(sweep_id, 0, state="complete", attempts=[A])])
    db.write([make_phase(sweep_id, 0), make_end(sweep_id)])
    folder = tmp_path / "new" / "rows"
    code, out, err = greenml("report", "--csv", str(folder), "--parquet", str(folder), "--all")
    assert (code, out) == (0, "")
    assert [line.rpartition(",")[0] for line in err.splitlines()] == [f"{folder}: {len(rows.VIEWS)} files"] * 2
    names = set(rows.VIEWS)
    assert {file.name for file in folder.iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("csv", "parquet")
    }
    for view in rows.views(db, [A, B, C, D, E, sweep_id]):
        expected = [row for part in view.parts for row in part]
        assert bool(expected), view.name
        frame = pl.read_parquet(folder / f"{view.name}.parquet")
        assert not any(kind in (pl.Null, pl.Object) for kind in frame.dtypes)
        assert console.plain(naive(frame.to_dicts())) == console.plain(expected), view.name
        with (folder / f"{view.name}.csv").open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        assert list(lines[0]) == list(expected[0]) == frame.columns
        assert len(lines) == len(expected)
    board = pl.read_parquet(folder / "leaderboard.parquet")
    assert board.schema["started_at"] == pl.Datetime("us", "UTC")
    assert sorted(board["num_parameters"].drop_nulls().to_list()) == [620_362] * 5, "the sweep itself has none"
    with (folder / "leaderboard.csv").open(encoding="utf-8") as file:
        assert next(csv.DictReader(file))["started_at"] == "2026-03-01T14:00:00Z"


def naive(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {key: value.replace(tzinfo=None) if hasattr(value, "tzinfo") else value for key, value in line.items()}
        for line in lines
    ]


def test_a_view_without_rows_has_its_columns(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    import polars as pl

    record(db, A, [0.9], [100.0])
    greenml("report", "--csv", str(tmp_path), "--parquet", str(tmp_path))
    frame = pl.read_parquet(tmp_path / "savings.parquet")
    assert frame.height == 0
    assert frame.schema["from_run_ids"] == pl.List(pl.String())
    assert (tmp_path / "savings.csv").read_text().strip().split(",") == frame.columns


def test_json_is_everything_of_the_runs_asked_for(db: Store, greenml: Greenml, monkeypatch: Any) -> None:
    fill(db)
    monkeypatch.setattr("greenml.cli.report.RUNS_AT_ONCE", 2)
    code, out, err = greenml("report", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == console.plain(everything_of(db, [A, B, C, D]))
    assert [run["run_id"] for run in json.loads(greenml("report", "--json", "--all", "--last", "2")[1])] == [D, E]
    assert [run["run_id"] for run in json.loads(greenml("report", "--json", "e", "a")[1])] == [A, E]


def test_json_without_runs_is_an_empty_array(greenml: Greenml) -> None:
    assert greenml("report", "--json") == (0, "[]\n", "")


# Where things go


def test_texts_go_into_a_file_whole(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    fill(db)
    for arguments in (["--md"], ["--compare", "a", "c"], ["--json", "--limit", "1"]):
        code, shown, _ = greenml("report", *arguments)
        file = tmp_path / "made" / "text"
        assert greenml("report", *arguments, "--output", str(file))[:2] == (0, "")
        dated = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
        assert dated.sub("", file.read_text(encoding="utf-8")) == dated.sub("", shown)
        assert shown
        assert code == 0
    assert [file.name for file in file.parent.iterdir()] == ["text"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_written_to_and_stays_one(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    record(db, A, [0.9], [100.0])
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert greenml("report", "--latex", "-o", str(pipe))[0] == 0
        assert os.read(reader, 20).startswith(b"% written by greenml")
        assert pipe.is_fifo()
    finally:
        os.close(reader)


def test_three_hundred_runs_and_the_best_of_them(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    bench_store.fill(db.path, num_runs=300, num_epochs=2)
    code, out, err = greenml("report", "--md")
    assert (code, err) == (0, "the best 100 of 300 runs: --limit takes more\n")
    assert "300 runs, 300 ranked" in out
    assert "200 more runs" in out
    board = cells(out)[0]
    assert len(board) == 101
    assert (board[1][0], board[100][0]) == ("1", "100")
    greenml("report", "--csv", str(tmp_path))
    assert (tmp_path / "epochs.csv").read_text().count("\n") == 601
    assert len(json.loads(greenml("report", "--json", "--limit", "7")[1])) == 7


@pytest.mark.parametrize(
    ("arguments", "code", "error", "hint"),
    [
        (["--md", "--latex"], 2, "--md and --latex would all go to stdout", "one at a time"),
        (["--md", "--html", "-o", "x.md"], 2, "--html and --md would all go to x.md", "one at a time"),
        (["--csv", "here", "-o", "x"], 2, "nothing goes to --output x", "names of their own"),
        (["--md", "-o", "."], 2, ". is a folder", "name a file"),
        (["--png", "file"], 2, "file is a file", "name a folder"),
        (["--csv", "file"], 2, "file is a file", "name a folder"),
        (["--csv", "file/below"], 3, "file/below cannot be written: Not a directory", "another place"),
        (["--md", "-o", "file/below"], 3, "file/below cannot be written: ", "another place"),
        (["--low-carbon", "20g"], 2, "--low-carbon is a table of --md and --latex", "recommend --low-carbon 20g"),
        (["--md", "--low-carbon", "20"], 2, "--low-carbon: `20` has no unit", "--low-carbon 20g"),
        (["--md", "-o", LONG], 3, f"{LONG} cannot be written: File name too long", "another place"),
        (
            ["--html", "-o", f"{LONG}/x.html"],
            3,
            f"{LONG}/x.html cannot be written: File name too long",
            "another place",
        ),
        (["--png", LONG], 3, f"{LONG} cannot be written: File name too long", "another place"),
        (["--parquet", LONG], 3, f"{LONG} cannot be written: File name too long", "another place"),
        (["--model-card", "zz"], 2, "no run starts with `zz`", "greenml runs list"),
        (["--compare", "a", "zz"], 2, "no run starts with `zz`", "greenml runs list"),
        (["--compare", "a", "--json"], 2, "--compare takes two runs", "--compare RUN RUN"),
        (["--model-card", "a", "--last", "1"], 2, "--model-card names what it is about", "leave out"),
        (["--md", "zz"], 2, "no run starts with `zz`", "greenml runs list"),
        (["--md", "--dataset", "zz"], 2, "no finished run in", "--all"),
        (["--csv", "new", "--dataset", "zz"], 2, "no finished run in", "--all"),
    ],
)
def test_what_cannot_be_is_two_lines(
    db: Store,
    greenml: Greenml,
    tmp_path: Path,
    monkeypatch: Any,
    arguments: list[str],
    code: int,
    error: str,
    hint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    fill(db)
    ended, out, err = greenml("report", *arguments)
    assert (ended, out) == (code, "")
    first, second = err.splitlines()
    assert first.startswith(f"greenml: error: {error}")
    assert second.startswith("hint: ")
    assert hint in second
    assert (tmp_path / "file").read_text() == "mine"
    assert {file.name for file in tmp_path.iterdir()} == {"file", "store"}


def test_no_runs_is_a_first_step(greenml: Greenml) -> None:
    for arguments in ([], ["--md"], ["--csv", "here"]):
        code, _, err = greenml("report", *arguments)
        assert code == 2
        assert "no runs yet in" in err
        assert "hint: greenml train cnn --dataset digits" in err


@pytest.mark.parametrize(
    ("formats", "absent", "error"),
    [
        (["--html"], ["altair"], "--html needs altair, which is not installed"),
        (["--md", "--png", "x"], ["altair", "vl_convert"], "--png needs altair and vl-convert-python, which are not"),
        (["--svg", "x"], ["vl_convert"], "--svg needs vl-convert-python, which is not installed"),
        (["--parquet", "x"], ["polars"], "--parquet needs polars, which is not installed"),
    ],
)
def test_absent_packages_are_named(
    db: Store, greenml: Greenml, monkeypatch: Any, formats: list[str], absent: list[str], error: str
) -> None:
    fill(db)
    for module in absent:
        monkeypatch.setitem(sys.modules, module, None)
    code, out, err = greenml("report", *formats)
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert first.startswith(f"greenml: error: {error}")
    packages = [module.replace("vl_convert", "vl-convert-python") for module in absent]
    assert second == f"hint: python -m pip install {' '.join(packages)}"


def test_pages_charts_and_csv_need_no_polars(db: Store, tmp_path: Path) -> None:
    """In a process of its own: what other tests have opened stays open."""
    record(db, A, [0.9], [100.0])
    code = "import sys; sys.modules['polars'] = None; from greenml.cli import main; main(sys.argv[1:])"
    formats = ["--html", "--svg", str(tmp_path / "svg"), "--csv", str(tmp_path / "csv")]
    done = subprocess.run(
        [sys.executable, "-c", code, "report", *formats, "--store", str(db.path)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert len(done.stderr.splitlines()) > 2


# Beside the store


def test_the_board_beside_the_store_is_rewritten(db: Store) -> None:
    fill(db)
    assert afterwards.leave_board(db) is None
    folder = db.path.parent
    with (folder / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    expected = db.rows("from leaderboard order by rank nulls last, started_at desc")
    assert [line["run_id"] for line in lines] == [row["run_id"] for row in expected]
    assert list(lines[0]) == [*expected[0], "num_parameters", "flops_per_sample"]
    first = (folder / "leaderboard.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    record(db, "f" * 12, [0.97], [9000.0], started_at=STARTED_AT + timedelta(days=1))
    assert afterwards.leave_board(db) is None
    assert (folder / "leaderboard.png").read_bytes() != first
    assert not list(folder.glob("*.partial"))


def test_a_board_that_cannot_be_written_is_a_notice(db: Store, monkeypatch: Any) -> None:
    fill(db)
    (db.path.parent / "leaderboard.csv").mkdir()
    assert "leaderboard beside the store was not written" in (afterwards.leave_board(db) or "")
    (db.path.parent / "leaderboard.csv").rmdir()

    def absent(*_: object) -> None:
        raise ValueError("vl-convert is not there")

    monkeypatch.setattr("greenml.plots.save_png", absent)
    assert (afterwards.leave_board(db) or "").startswith("no leaderboard was drawn: ")
    assert [file.name for file in db.path.parent.glob("leaderboard*")] == ["leaderboard.csv"]


def test_the_picture_shows_the_newest_contests_and_the_best_of_each(db: Store) -> None:
    for i in range(3):
        for j in range(3):
            other = {
                "dataset": f"data {i}",
                "data_hash": f"d{i}",
                "started_at": STARTED_AT + timedelta(days=i, hours=j),
            }
            record(db, f"{i}{j}".ljust(12, "0"), [0.7 + j / 10], [100.0], **other)
    found = [run["run_id"][:2] for run in rows.top(db, 2, 2)]
    assert found == ["22", "21", "12", "11"]
