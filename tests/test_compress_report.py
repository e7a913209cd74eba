"""What the report says of compressed models: tables, charts and sentences are what the views answer."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
import test_report_page
from conftest import STARTED_AT, make_end, make_epoch, make_inference, make_phase, make_run, make_served, record
from test_report_page import Page, drawn, fetches_nothing, read_rows, same

from greenml.records import Source
from greenml.report import compression, rows
from greenml.report.content import gather
from greenml.report.figures import figures
from greenml.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Greenml

    from greenml.report.content import Content

PARENT, INT8, DYNAMIC, PRUNED, PRUNED_MORE = (letter * 12 for letter in "abcde")
REPEATS = 5
BATCH = 256


def compress(
    db: Store,
    run_id: str,
    method: str,
    *,
    making: dict[str, float | None],
    before_j: float,
    after_j: float,
    backend: str = "openvino",
    precision: str = "int8",
    correct: int = 8990,
    gained: int = 40,
    lost: int = 50,
    peers: dict[str, float] | None = None,
    noise: float = 0.02,
    served: dict[str, Any] | None = None,
    **run: Any,
) -> None:
    """A compressed run whose phases took so many joules, and whose models take so many for 1000 predictions."""
    dice = random.Random(run_id)
    phases = [
        make_phase(run_id, seq, name=name, cpu_j=joules, ram_j=0.0, cpu_source=source_of(joules))
        for seq, (name, joules) in enumerate(making.items())
    ]
    models = {"before": ("torch", "fp32", before_j), "after": (backend, precision, after_j)}
    models |= {name: (name.split()[0], name.split()[1], each) for name, each in (peers or {}).items()}
    files: list[Any] = []
    for name, (runtime, kind, _) in models.items():
        about: dict[str, Any] = {"model_run": run_id if name == "after" else run.get("parent", PARENT)}
        if name == "after":
            about |= {"test_correct": correct, "gained": gained, "lost": lost, "num_bytes": 700_000} | (served or {})
        files.append(make_served(run_id, name, backend=runtime, precision=kind, memory_bytes=12_000_000, **about))
    answers: list[Any] = []
    for batch_size, number, slower in ((1, 100, 3.0), (BATCH, 2560, 1.0)):
        for repeat in range(1, REPEATS + 1):
            for name, (_, _, each) in models.items():
                seq, factor = len(phases), slower * dice.uniform(1 - noise, 1 + noise)
                phases.append(make_phase(run_id, seq, name="infer", cpu_j=each * factor * number / 1000, ram_j=0.0))
                answers.append(
                    make_inference(
                        run_id, name, repeat, len(answers), batch_size=batch_size, num_predictions=number,
                        duration_s=each * factor * number / 1000 / 20, cpu_s=each * factor * number / 1000 / 10,
                        latency_p50_s=each * factor * batch_size / 1000 / 20, first_seq=seq, last_seq=seq,
                    )
                )  # fmt: skip
    about = {"parent": PARENT, "kind": "compress", "command": f"greenml compress {PARENT} --method {method}"} | run
    started = make_run(run_id, method=method, precision=precision, group_hash=run_id, **about)
    epochs = [make_epoch(run_id, 1)] if "train" in making else []
    end = make_end(run_id, test_accuracy=correct / 10_000, test_correct=correct, test_count=10_000)
    assert db.write([started, *phases, *epochs, *files, *answers, end])


def source_of(joules: float | None) -> Source:
    return Source.UNKNOWN if joules is None else Source.ESTIMATED


def fill(db: Store) -> None:
    """A trained cnn, and four smaller ones: one that pays at once, one that never does, two that were pruned."""
    record(db, PARENT, [0.5, 0.8, 0.9], [900.0, 900.0, 900.0], group_hash="g")
    made = {"setup": 10.0, "calibrate": 30.0, "compress": 350.0, "export": 15.0, "test": 15.0}
    tuned: dict[str, float | None] = {**made, "train": 1200.0, "validate": 60.0}
    peers = {"openvino fp32": 1.0, "openvino bf16": 0.28}
    compress(db, INT8, "int8", making={**made}, before_j=2.6, after_j=0.24, peers=peers)
    compress(
        db, DYNAMIC, "dynamic", making={"setup": 10.0, "compress": 20.0}, before_j=2.6, after_j=2.45, noise=0.08,
        backend="torch", gained=3, lost=4, correct=8999, started_at=STARTED_AT.replace(hour=13),
    )  # fmt: skip
    for run_id, sparsity, left, correct in ((PRUNED, 0.3, 0.4, 8800), (PRUNED_MORE, 0.5, 0.2, 8500)):
        compress(
            db, run_id, f"prune {sparsity}", making=tuned, before_j=2.6, after_j=2.6 * left, correct=correct,
            gained=100, lost=9100 - correct, backend="torch", precision="fp32",
            served={"flops_per_sample": int(left * 10_000_000), "num_parameters": int(left * 620_362)},
            started_at=STARTED_AT.replace(hour=14 if sparsity == 0.3 else 15),
        )  # fmt: skip


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("compressed") / "store" / "greenml.duckdb", timeout_s=5)
    store.check()
    fill(store)
    return store


@pytest.fixture(scope="module")
def read(filled: Store) -> tuple[Page, Content]:
    return drawn(filled)


# The page


@pytest.fixture
def bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one of a unit of these tables is."""
    more = {"MB": 1e6, "kB": 1e3, "MFLOPs": 1e6, "thousand": 1e3, "µs": 1e-6}
    monkeypatch.setattr(test_report_page, "SIZES", test_report_page.SIZES | more)


@pytest.mark.usefixtures("bytes_too")
def test_the_table_of_models_holds_what_the_view_answers(filled: Store, read: tuple[Page, Content]) -> None:
    parsed, content = read
    [shown] = [read_rows(table) for table in parsed.drawn if table.view == "inference"]
    assert len(shown) == len(content.served) == 1 + 2 + 4, "the parent, in three runtimes, and what was made of it"
    for row, kept in zip(shown, content.served, strict=True):
        [answer] = filled.rows(
            "from inference where run_id = ? and name = ? and batch_size = ?", [kept["run_id"], kept["name"], BATCH]
        )
        [single] = filled.rows(
            "from inference where run_id = ? and name = ? and batch_size = 1", [kept["run_id"], kept["name"]]
        )
        words = {"name": row.pop("name"), "backend": row.pop("backend")}
        assert words["backend"][1] == f"{answer['backend']} {answer['precision']}"
        assert words["name"][0] == kept["name"]
        same(row, answer | {"single_p50_s": single["latency_p50_s"]})
    names = [row["name"] for row in content.served]
    assert names == ["before", "openvino bf16", "openvino fp32", *["after"] * 4], "each baseline by its name"
    assert content.served[0]["run_id"] == PRUNED_MORE, "as the newest session says"


@pytest.mark.usefixtures("bytes_too")
def test_the_table_of_break_evens_holds_what_the_view_answers(filled: Store, read: tuple[Page, Content]) -> None:
    parsed, content = read
    [shown] = [read_rows(table) for table in parsed.drawn if table.view == "break_even" and "break_even" in table.heads]
    assert len(shown) == len(content.compressed) == 2 * (4 + 2), "two batch sizes, four models, two peers of one"
    three = {"break_even", "break_even_low", "break_even_high"}
    for row, kept in zip(shown, content.compressed, strict=True):
        key = [kept["run_id"], kept["baseline"], kept["batch_size"]]
        [answer] = filled.rows("from break_even where run_id = ? and baseline = ? and batch_size = ?", key)
        for field in three:
            value, text, _ = row.pop(field)
            assert value == answer[field]
            told = None if text == "–" else float(text.strip("~").replace(",", ""))
            assert told == (None if value is None else pytest.approx(value, rel=0.005)), field
        for field in ("saved_j_per_1000", "saved_low_j_per_1000", "saved_high_j_per_1000"):
            value, text, _ = row.pop(field)
            assert value == answer[field]
            assert float(text.strip("~")) == pytest.approx(value, rel=0.005), field
        assert row.pop("baseline")[1] == f"parent, {kept['before_backend']} {kept['before_precision']}"
        value, _, _ = row.pop("million_kwh")
        spent = (answer["train_kwh"], answer["compress_kwh"], answer["after_j_per_1000"])
        assert value == (None if None in spent else pytest.approx(spent[0] + spent[1] + spent[2] / 3600))
        same(row, answer)
    assert {row["verdict"] for row in content.compressed} == {"pays", "never"}


def test_the_page_is_still_complete(read: tuple[Page, Content]) -> None:
    parsed, _ = read
    fetches_nothing(parsed)
    assert 'href="#compression"' in parsed.text
    for said in ("is inherited", "counts only what compression itself took", "power model", "torch fp32; parent, open"):
        assert said in " ".join(parsed.words.split()), said


def test_a_store_without_compressed_models_has_nothing_of_them(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    record(db, PARENT, [0.9], [100.0])
    parsed, content = drawn(db)
    assert not any(figure.is_of_compression for figure in figures(content))
    assert 'id="compression"' not in parsed.text
    assert "compressed by" not in parsed.words
    assert greenml("report", "--csv", str(tmp_path / "csv"))[0] == 0
    assert not {"inference.csv", "break_even.csv"} & {path.name for path in (tmp_path / "csv").iterdir()}


def test_compressed_models_of_other_runs_are_not_on_the_page(filled: Store) -> None:
    content = gather(filled, [PARENT])
    assert (content.compressed, content.served, content.compress_phases) == ([], [], [])


def test_the_leaderboard_says_what_was_made_how_and_inherited_what(filled: Store, read: tuple[Page, Content]) -> None:
    parsed, _ = read
    [board] = [table for table in parsed.drawn if table.view == "leaderboard"]
    trained = filled.rows("select energy_kwh from leaderboard where run_id = ?", [PARENT])[0]["energy_kwh"]
    for row, texts in zip(board.rows, board.texts, strict=True):
        if row["run_id"] == PARENT[:8] or row["run_id"] == PARENT:
            assert (texts["method"], texts["inherited_kwh"]) == ("–", "–")
        else:
            assert row["method"]
            assert row["inherited_kwh"] == trained
            assert row["energy_kwh"] > trained


# No joule twice


def test_what_was_inherited_is_in_no_sum_twice(filled: Store, read: tuple[Page, Content]) -> None:
    """Each row of the leaderboard holds its parent's training, and the sums over rows hold it once."""
    [spent] = filled.rows("select sum(joules) / 3.6e6 as kwh from phases")
    _, content = read
    assert content.totals["total_kwh"] == pytest.approx(spent["kwh"])
    assert content.totals["total_co2_g"] == pytest.approx(spent["kwh"] * 475)
    [contest] = rows.contests(filled, [row["run_id"] for row in content.runs])
    assert contest["total_kwh"] == pytest.approx(spent["kwh"])
    assert rows.all_of_contest(filled, contest["contest"])["total_known_kwh"] == pytest.approx(spent["kwh"])
    assert sum(row["energy_kwh"] for row in content.meters) == pytest.approx(spent["kwh"])
    assert sum(row["energy_kwh"] for row in content.runs) > 1.5 * spent["kwh"], "as rankings count it"


@pytest.mark.parametrize(
    ("name", "field"), [("learning", "loss"), ("parts", "phase"), ("repeats", "recipe"), ("heatmap", "grams")]
)
def test_charts_of_trainings_have_no_compressed_model_in_them(
    filled: Store, read: tuple[Page, Content], name: str, field: str
) -> None:
    """Its epochs begin with what the parent learned: they would seem to reach it for nothing."""
    drawn = chart_rows(read[0], name, field)
    if field == "grams":
        assert len(drawn) == 1, "the parent's alone: what it inherited is in the CO2e of each compressed model"
    else:
        assert {row["run_id"] for row in drawn} == {PARENT}
    assert len(filled.rows("select run_id from leaderboard")) == 5


# Charts


def chart_rows(parsed: Page, name: str, *fields: str) -> list[dict[str, Any]]:
    """The rows of the data set of a chart that has all of these fields."""
    text = json.dumps(parsed.charts["specs"][name])
    sets = [parsed.dataset(data) for data in parsed.charts["datasets"] if f'"{data}"' in text]
    return max((found for found in sets if {*fields} <= found[0].keys()), key=len)


def test_crossings_stand_where_the_view_says(filled: Store, read: tuple[Page, Content]) -> None:
    crossed = {row["run_id"]: row for row in chart_rows(read[0], "lifecycle", "predictions", "from", "to", "said")}
    answered = filled.rows("from lifecycle(null, null, ?) where verdict = 'pays'", [BATCH])
    assert crossed.keys() == {row["run_id"] for row in answered} == {INT8, PRUNED, PRUNED_MORE}
    for answer in answered:
        row = crossed[answer["run_id"]]
        assert row["predictions"] == pytest.approx(answer["break_even"], rel=1e-5)
        assert (row["from"], row["to"]) == (
            pytest.approx(answer["break_even_low"], rel=1e-5), pytest.approx(answer["break_even_high"], rel=1e-5),
        )  # fmt: skip
        wh = 1000 * answer["compress_kwh"] + answer["break_even"] * answer["after_j_per_1000"] / 3.6e6
        assert row["energy"] == pytest.approx(wh, rel=1e-5)
        parent_wh = answer["break_even"] * answer["before_j_per_1000"] / 3.6e6
        assert row["energy"] == pytest.approx(parent_wh, rel=1e-5), "there both have taken as much"


def test_the_section_is_a_file_too(filled: Store, greenml: Greenml, tmp_path: Path) -> None:
    store = str(filled.path)
    assert greenml("report", "--svg", str(tmp_path / "svg"), "--store", store)[0] == 0
    assert {"lifecycle", "compress-phases", "sparsity"} <= {path.stem for path in (tmp_path / "svg").glob("*.svg")}
    assert greenml("report", "--csv", str(tmp_path / "csv"), "--store", store)[0] == 0
    assert (tmp_path / "csv" / "break_even.csv").read_text().count("\n") == 1 + 12
    code, out, _ = greenml("report", "--md", "--store", store)
    assert (code, "## Compression" in out) == (0, True)
    assert "that a prediction saves anything may be chance" in out
    assert "has paid for itself after \\~" in out


# Sentences


def test_a_sentence_says_what_the_view_answers(filled: Store, read: tuple[Page, Content]) -> None:
    [answer] = filled.rows("from break_even where run_id = ? and baseline = 'before' and batch_size = ?", [INT8, BATCH])
    [said] = [line for line in compression.sentences(read[1]) if line.startswith("int8 of cnn")]
    assert f"{answer['speedup']:.1f} x the predictions per second of the parent, torch fp32" in said
    assert "accuracy 89.9 %, -0.10 points (-0.29 to +0.09)" in said
    assert f"~{round(answer['break_even'], -3):,.0f} predictions" in said, "three digits"
    assert "700 kB instead of 2.40 MB" in said


def test_what_is_unknown_is_said_and_has_no_line(db: Store) -> None:
    """A phase of the compression could not be read: no break-even, no line, and the reason beside it."""
    record(db, PARENT, [0.9], [900.0])
    compress(db, INT8, "int8", making={"setup": 10.0, "compress": None}, before_j=2.6, after_j=0.24)
    parsed, content = drawn(db)
    found = {figure.name: figure for figure in figures(content) if figure.is_of_compression}
    assert found["lifecycle"].chart is None
    assert "Of no model both" in found["lifecycle"].caption
    assert "sparsity" not in found, "nothing was pruned twice"
    assert "nobody knows whether it pays: energy of the compression partly unknown" in parsed.words


def test_a_model_that_takes_more_than_its_parent_is_said_to(db: Store) -> None:
    record(db, PARENT, [0.9], [900.0])
    compress(db, DYNAMIC, "dynamic", making={"setup": 10.0}, before_j=2.6, after_j=3.6)
    [said] = compression.sentences(drawn(db)[1])
    assert "never pays for itself: a prediction takes more than before" in said


def test_names_in_a_method_are_words_and_nothing_else(db: Store) -> None:
    hostile = test_report_page.HOSTILE
    record(db, PARENT, [0.9], [900.0], model=hostile)
    compress(db, INT8, hostile, making={"setup": 10.0}, before_j=2.6, after_j=0.24, model=hostile, backend="openvino")
    parsed, _ = drawn(db)
    assert [name for name, _ in parsed.tags if name == "img"] == []
    assert len(parsed.scripts) == 3
    assert "🌱{{ 7 * 7 }}" in parsed.words
