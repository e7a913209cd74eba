"""`greenml import`: what other programs wrote comes in once, read as what it is, or not at all."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
import time
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import STARTED_AT, make_phase, make_run, record, records
from test_store import of_schema_1

from greenml.exchange import Options, own, survey
from greenml.records import Source

if TYPE_CHECKING:
    from conftest import Greenml

    from greenml.store import Store

A, B = "a" * 12, "b" * 12
GOLDEN = Path(__file__).parent / "data" / "import"
# As CodeCarbon's EmissionsData had them, from the version on that stands before.
HEADERS = dict(line.split(": ") for line in (GOLDEN / "headers.txt").read_text().splitlines())
RUNS = HEADERS["2.7.0"].split(",")
FIGURES = {
    "timestamp": "2024-04-13T21:30:53",
    "project_name": "lstm",
    "run_id": "cc2e23fa-52a8-4ea3-a4dc-f039451bcdc4",
    "experiment_id": "5b0fa12a",
    "duration": "100",
    "emissions": "0.0014",
    "cpu_energy": "0.006",
    "gpu_energy": "0.003",
    "ram_energy": "0.001",
    "energy_consumed": "0.01",
    "country_name": "Spain",
    "country_iso_code": "ESP",
    "region": "catalonia",
    "os": "Linux",
    "python_version": "3.10.6",
    "codecarbon_version": "2.3.4",
    "cpu_count": "8",
    "cpu_model": "AMD Ryzen 5 3500U",
    "gpu_count": "1",
    "gpu_model": "1 x Tesla T4",
    "ram_total_size": "15.6",
    "tracking_mode": "machine",
    "on_cloud": "N",
    "pue": "1.0",
}


def table(file: Path, columns: list[str], *rows: dict[str, Any], delimiter: str = ",") -> Path:
    """A CSV with these columns, its rows over the figures of one run in Spain."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, delimiter=delimiter, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows([{name: FIGURES.get(name, "") for name in columns} | row for row in rows])
    return file


def plain(file: Path, *rows: tuple[Any, ...], columns: str = "emissions,energy_kwh,duration_sec") -> Path:
    return table(file, columns.split(","), *(dict(zip(columns.split(","), row, strict=True)) for row in rows))


def figures(db: Store) -> list[tuple[Any, ...]]:
    """Model, joules and grams of every run, to eight digits."""
    rows = db.rows("select model, energy_kwh * 3.6e6 as j, co2_g from leaderboard order by model, j, run_id")
    return [
        (row["model"], *(None if row[key] is None else float(f"{row[key]:.8g}") for key in ("j", "co2_g")))
        for row in rows
    ]


def refused(greenml: Greenml, *arguments: str) -> tuple[int, str, str]:
    """Exit code, what is wrong and the way out: nothing else is said, and nothing printed."""
    code, out, err = greenml("import", *arguments)
    first, second = err.splitlines()
    assert out == ""
    return code, first.removeprefix("greenml: error: "), second.removeprefix("hint: ")


# What CodeCarbon wrote


def test_flushes_are_totals_and_their_differences_are_phases(db: Store, greenml: Greenml) -> None:
    """Two flushes and a stop of CodeCarbon 3.3.2: the last row is the run, and no row is added to another."""
    assert greenml("import", str(GOLDEN / "emissions.csv"))[0] == 0
    phases = db.rows("select * from phases order by seq")
    assert [round(phase["cpu_j"], 4) for phase in phases] == [12.0358, 16.148, 8.0618]
    assert sum(phase["joules"] for phase in phases) == pytest.approx(3.523348856858752e-05 * 3.6e6, rel=1e-9)
    assert all(before["ended_at"] == after["started_at"] for before, after in pairwise(phases))
    assert {(phase["cpu_source"], phase["gpu_source"], phase["name"]) for phase in phases} == {
        ("estimated", "absent", "run")
    }
    [run] = db.rows("from leaderboard")
    assert (run["model"], run["dataset"], run["kind"], run["country"], run["season"]) == (
        "cnn",
        "unknown",
        "import",
        "India",
        "unknown",
    )
    assert run["duration_s"] == pytest.approx(4.532611539, abs=1e-5)
    assert run["co2_g"] == pytest.approx(0.02513701531786165, rel=1e-9)
    assert run["intensity_g_per_kwh"] == pytest.approx(713.441, abs=0.01)
    assert run["cpu_method"] == "as CodeCarbon 3.3.2 wrote it; the file does not say how"


def test_pue_is_divided_out_of_joules_and_stays_in_grams(db: Store, greenml: Greenml) -> None:
    """The same work under pue=1.5: CodeCarbon's kWh are half as much again, its joules here are not."""
    greenml("import", str(GOLDEN / "emissions.csv"), "--model", "a")
    greenml("import", str(GOLDEN / "pue" / "emissions.csv"), "--model", "b")
    one, other = db.rows("from leaderboard order by model")
    assert (one["pue"], other["pue"]) == (1.0, 1.5)
    assert other["energy_kwh"] == pytest.approx(5.2786506430496184e-05 / 1.5, rel=1e-9)
    assert other["energy_kwh"] == pytest.approx(one["energy_kwh"], rel=0.01)
    assert other["co2_g"] == pytest.approx(0.03766005793427963, rel=1e-9)
    assert other["intensity_g_per_kwh"] == pytest.approx(one["intensity_g_per_kwh"], rel=1e-6)


def test_tasks_are_rows_for_themselves_with_the_pue_that_lies_beside(db: Store, greenml: Greenml) -> None:
    code, out, err = greenml("import", str(GOLDEN / "tasks"))
    assert code == 0
    runs = db.rows("select run_id, energy_kwh, duration_s, co2_g, pue from leaderboard order by started_at")
    assert len(runs) == 2
    # The row of runs has 1.004 s, the last task alone.
    assert runs[0]["duration_s"] == pytest.approx(1.204139 + 2.203735 + 1.003638, abs=1e-5)
    assert runs[0]["energy_kwh"] == pytest.approx(5.145450512000631e-05 / 1.5, rel=1e-9)
    assert runs[0]["pue"] == 1.5
    names = db.rows("select name from phases where run_id = ? order by seq", [runs[0]["run_id"]])
    assert [row["name"] for row in names] == ["load", "fit", "fit2"]
    assert "runs of tasks come from their own files" in err
    assert "per-row" in out


def test_tasks_without_their_runs_say_that_no_pue_is_known(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    [first, _] = sorted((GOLDEN / "tasks").glob("emissions_exp_*"))
    file = Path(shutil.copy(first, tmp_path))
    assert "taken as 1, --pue says otherwise" in greenml("import", str(file))[2]
    [run] = db.rows("from leaderboard")
    assert greenml("import", str(file), "--pue", "1.5")[0] == 0
    [again] = db.rows("from leaderboard")
    assert (run["pue"], again["pue"]) == (1.0, 1.5)
    assert run["energy_kwh"] == pytest.approx(1.5 * again["energy_kwh"], rel=1e-9)
    assert run["co2_g"] == pytest.approx(again["co2_g"], rel=1e-9)


@pytest.mark.parametrize("pue", ["abc", "0.5", "nan"])
def test_a_pue_beside_tasks_is_one_or_is_refused(db: Store, greenml: Greenml, tmp_path: Path, pue: str) -> None:
    file = tasks_under(tmp_path, pue)
    code, what, hint = refused(greenml, str(file))
    assert (code, what, bool(hint)) == (5, f"{tmp_path / 'emissions.csv'}: the PUE is `{pue}`", True)
    assert db.rows("from runs") == []


def test_nobody_is_believed_against_a_stated_pue(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    [log] = (GOLDEN / "carbontracker").glob("*Z_carbontracker_output.log")
    epochs = log.with_name(log.name.replace("_output", ""))
    for file, stating, stated in (
        (tasks_under(tmp_path, "1.5"), tmp_path / "emissions.csv", "1.5"),
        (GOLDEN / "pue" / "emissions.csv", GOLDEN / "pue" / "emissions.csv", "1.5"),
        (epochs, epochs, "1.59"),
        (log, epochs, "1.59"),
    ):
        code, what, hint = refused(greenml, str(file), "--pue", "1.2")
        assert (code, what, hint) == (2, f"{stating} says that its PUE is {stated}", "leave out --pue")
        assert greenml("import", str(file), "--pue", stated)[0] == 0
    assert {row["pue"] for row in db.rows("select pue from runs")} == {1.5, 1.59}


def tasks_under(folder: Path, pue: str) -> Path:
    """A file of tasks, and beside it that of runs, which says its PUE."""
    [tasks, _] = sorted((GOLDEN / "tasks").glob("emissions_exp_*"))
    with (GOLDEN / "tasks" / "emissions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    table(folder / "emissions.csv", list(rows[0]), *(row | {"pue": pue} for row in rows))
    return Path(shutil.copy(tasks, folder))


@pytest.mark.parametrize("version", HEADERS)
def test_every_version_of_the_columns(db: Store, greenml: Greenml, tmp_path: Path, version: str) -> None:
    columns = HEADERS[version].split(",")
    file = table(tmp_path / "emissions.csv", columns, {"pue": "1.25"} if "pue" in columns else {})
    assert greenml("import", str(file), "--dataset", "ETTh1")[0] == 0
    pue = 1.25 if "pue" in columns else 1.0
    assert figures(db) == [("lstm", 36000 / pue, 1.4)]
    [run] = db.rows("from leaderboard")
    assert (run["dataset"], run["country"], run["region_used"], run["pue"]) == (
        "ETTh1",
        "Spain",
        "Catalonia, Spain",
        pue,
    )
    [phase] = db.rows("from phases")
    if version == "1.0.0":
        [stored] = db.rows("select meter from runs")
        assert "the whole total" in stored["meter"]["cpu"]["method"]
        assert "does not tell them apart" in stored["meter"]["ram"]["method"]
    else:
        assert (phase["gpu_j"], phase["gpu_source"], phase["device"]) == (0.003 * 3.6e6 / pue, "estimated", "cuda")
        [stored] = db.rows("select hardware from runs")
        assert stored["hardware"]["gpu"] == "1 x Tesla T4"


def test_every_run_of_a_file_is_its_own(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    file = table(
        tmp_path / "emissions.csv",
        RUNS,
        {"run_id": "one"},
        {"run_id": "two", "project_name": "codecarbon", "tracking_mode": "process"},
        {"run_id": "one", "duration": "160", "timestamp": "2024-04-13T21:31:53", "emissions": "0.0028"}
        | {"cpu_energy": "0.012", "gpu_energy": "0.006", "ram_energy": "0.002", "energy_consumed": "0.02"},
    )
    greenml("import", str(file))
    assert figures(db) == [("lstm", 72000.0, 2.8), ("unknown", 36000.0, 1.4)]
    assert [row["scope"] for row in db.rows("select scope from runs order by model")] == ["machine", "process"]
    _, out, _ = greenml("import", str(file), "--run", "tw", "--model", "gru", "--json")
    assert [run["model"] for file in json.loads(out) for run in file["runs"]] == ["gru"]
    assert figures(db) == [("gru", 36000.0, 1.4), ("lstm", 72000.0, 2.8)]


# Totals or parts: the kind of the file first, the rows second, no guess


def seconds(number: float) -> str:
    return (datetime(2024, 4, 13, 12) + timedelta(seconds=number)).isoformat()


TIMED = "timestamp,emissions,energy_kwh,duration_sec"
TOTALS = [(seconds(10), 1, 0.1, 10), (seconds(20), 2, 0.2, 20), (seconds(30), 3, 0.3, 30)]
PARTS = [(seconds(10), 1, 0.1, 10), (seconds(22), 2, 0.2, 12), (seconds(37), 3, 0.3, 15)]


@pytest.mark.parametrize(
    ("rows", "columns", "energy", "phases"),
    [(TOTALS, "cumulative", 0.3, [0.1, 0.1, 0.1]), (PARTS, "per-row", 0.6, [0.1, 0.2, 0.3])],
    ids=["totals", "rising parts"],
)
def test_times_and_durations_tell_totals_from_parts(
    db: Store, greenml: Greenml, tmp_path: Path, rows: list[Any], columns: str, energy: float, phases: list[float]
) -> None:
    """Both rise from row to row: that alone, and the largest would be taken for the sum."""
    file = plain(tmp_path / "a.csv", *rows, columns=TIMED)
    code, out, _ = greenml("import", str(file), "--json")
    assert (code, json.loads(out)[0]["columns"]) == (0, columns)
    [run] = db.rows("from leaderboard")
    assert (run["energy_kwh"], run["co2_g"]) == (pytest.approx(energy), pytest.approx(energy * 1e4))
    found = db.rows("select joules / 3.6e6 as kwh from phases order by seq")
    assert [row["kwh"] for row in found] == pytest.approx(phases)


@pytest.mark.parametrize(
    ("rows", "columns", "shows"),
    [
        ([(1, 0.1, 10), (2, 0.2, 20)], None, "no row is below the one before it, which alone proves nothing"),
        ([(1, 0.1, 10), (2, 0.2, 5)], None, "line 3 is below the line before it"),
        ([(seconds(1), 1, 0.1, 1), (seconds(2), 2, 0.2, 2)], TIMED, "no row is below"),
        # A total that began again: neither reading is right for all rows.
        ([*TOTALS, (seconds(40), 1, 0.1, 10), (seconds(50), 2, 0.2, 20)], TIMED, "line 5 is below the line before it"),
    ],
    ids=["rising", "falling", "too short to tell", "begun again"],
)
def test_what_the_rows_do_not_prove_is_asked_for(
    db: Store, greenml: Greenml, tmp_path: Path, rows: list[Any], columns: str | None, shows: str
) -> None:
    file = plain(tmp_path / "a.csv", *rows, **({"columns": columns} if columns else {}))
    code, what, hint = refused(greenml, str(file))
    assert (code, what.startswith(f"{file}: emissions table: totals or parts? {shows}")) == (2, True)
    assert hint.startswith("--columns cumulative")
    assert "--columns per-row" in hint
    assert db.rows("from runs") == []


def test_a_plain_table_is_read_as_it_is_said_to_be(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    file = plain(tmp_path / "a.csv", (1, 0.1, 10), (2, 0.2, 20))
    assert greenml("import", str(file), "--columns", "cumulative", "--model", "m")[0] == 0
    assert figures(db) == [("m", 0.2 * 3.6e6, 2000.0)]
    assert greenml("import", str(file), "--columns", "per-row", "--model", "m")[0] == 0
    assert figures(db) == [("m", 0.3 * 3.6e6, 3000.0)]


def test_equal_rows_without_a_time_are_as_many_parts(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    """Three epochs that took the same are no repeats of one; as totals, they are."""
    file = plain(tmp_path / "a.csv", *[(0.0005, 0.001, 10)] * 3)
    code, what, _ = refused(greenml, str(file))
    assert (code, "totals or parts?" in what) == (2, True)
    assert greenml("import", str(file), "--columns", "per-row", "--model", "m")[0] == 0
    assert figures(db) == [("m", 0.003 * 3.6e6, 1.5)]
    assert db.rows("select duration_s from leaderboard") == [{"duration_s": 30}]
    there = type(db)(tmp_path / "there" / "greenml.duckdb")
    greenml("import", str(file), "--columns", "cumulative", "--model", "m", "--store", str(there.path))
    assert figures(there) == [("m", 0.001 * 3.6e6, 0.5)]
    assert there.rows("select count(*) as n from phases") == [{"n": 1}]


def test_a_row_of_the_same_moment_is_a_repeat(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    file = plain(tmp_path / "a.csv", PARTS[0], *PARTS, PARTS[-1], columns=TIMED)
    assert greenml("import", str(file), "--model", "m")[0] == 0
    assert figures(db) == [("m", 0.6 * 3.6e6, 6000.0)]


@pytest.mark.parametrize(
    ("rows", "asked", "error"),
    [
        (TOTALS, "per-row", "--columns per-row cannot be: its rows all count from one start"),
        (
            PARTS,
            "cumulative",
            "--columns cumulative cannot be: each of its rows begins when the one before it has ended",
        ),
        ([*PARTS, (seconds(40), 1, 0.1, 2)], "cumulative", "--columns cumulative cannot be: each of its rows begins"),
    ],
)
def test_nobody_is_believed_against_the_rows(
    greenml: Greenml, tmp_path: Path, rows: list[Any], asked: str, error: str
) -> None:
    file = plain(tmp_path / "a.csv", *rows, columns=TIMED)
    code, what, _ = refused(greenml, str(file), "--columns", asked)
    assert (code, what.startswith(f"{file}: {error}")) == (2, True)


def of_codecarbon(rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    parts = {"cpu_energy": "", "gpu_energy": "", "ram_energy": ""}
    return [
        parts | {"timestamp": at, "emissions": kg, "energy_consumed": kwh, "duration": duration_s}
        for at, kg, kwh, duration_s in rows
    ]


def test_where_kind_and_rows_disagree_nothing_comes_in(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    """A file of runs whose rows fall, or follow each other, is none that CodeCarbon wrote."""
    for rows, shows in (
        (TOTALS[::-1], "line 3 is below the line before it"),
        (PARTS, "each of its rows begins when the one before it has ended"),
    ):
        file = table(tmp_path / "emissions.csv", RUNS, *of_codecarbon(rows))
        code, what, hint = refused(greenml, str(file))
        assert (code, what) == (2, f"{file}: CodeCarbon runs: each row is the total so far; but {shows}")
        assert "--columns" in hint
    assert db.rows("from runs") == []
    assert greenml("import", str(file), "--columns", "per-row")[0] == 0
    assert [row[1] for row in figures(db)] == [pytest.approx(0.6 * 3.6e6)]


# Files that are spoilt


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("emissions,energy_kwh,duration\n", "has a header and no rows"),
        ("emissions,energy_kwh,duration\n1,0.1,10\n1,0.", ", line 3: 2 fields under 3 names: half written?"),
        ("emissions,energy_kwh,duration\n1,nan,10\n", ", line 2: energy_kwh is `nan`"),
        ("emissions,energy_kwh,duration\n1,inf,10\n", ", line 2: energy_kwh is `inf`"),
        ("emissions,energy_kwh,duration\n1,-0.1,10\n", ", line 2: energy_kwh is `-0.1`"),
        ("emissions,energy_kwh,duration\n1,,10\n", ", line 2: no energy or no duration"),
        ("emissions,energy_kwh,duration,timestamp\n1,1,1,yesterday\n", ", line 2: the timestamp is `yesterday`"),
        ("emissions,energy_kwh,duration,cpu_energy\n1,1,1,2\n", ", line 2: its energy is not cpu_energy"),
        ("a,b\n1,2\n", ": no energy and duration among its columns"),
        ("run_id,unranked,acc_per_kwh,energy_kwh,duration_s\n", " is a summary of greenml's runs"),
        (b"PK\x03\x04\xff\xfe\x00", " is no text"),
        ("emissions,energy_kwh,duration\n1,0.1,10\n".encode("utf-16"), " is no text"),
    ],
)
def test_a_spoilt_file_is_named_with_a_way_out(tmp_path: Path, text: str | bytes, error: str) -> None:
    file = tmp_path / "emissions.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    [found] = survey([file], Options())
    assert found.trouble
    assert (found.runs, str(found.trouble).startswith(str(file)), error in str(found.trouble)) == ([], True, True)
    assert found.trouble.hint
    assert found.trouble.exit_code == (2 if "summary" in error else 5)


def test_a_last_line_that_codecarbon_did_not_finish(greenml: Greenml, tmp_path: Path) -> None:
    """Cut in its last field it still has as many fields as names: `1.5` became `1`."""
    text = (GOLDEN / "pue" / "emissions.csv").read_text()
    (tmp_path / "emissions.csv").write_text(text[: text.rindex(".5,0.0")])
    code, what, _ = refused(greenml, str(tmp_path / "emissions.csv"))
    assert (code, "half written?" in what) == (5, True)
    (tmp_path / "emissions.csv").write_text(text.rstrip("\n"))
    assert "its last line has no end: half written?" in refused(greenml, str(tmp_path / "emissions.csv"))[1]


def test_what_spreadsheets_make_of_a_csv(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    """A byte order mark, semicolons and decimal commas mean what they say."""
    (tmp_path / "excel.csv").write_bytes("\ufeffEmissions;Energy_kWh;Duration\r\n0,5;1,25;1e3\r\n".encode())
    greenml("import", str(tmp_path / "excel.csv"))
    assert figures(db) == [("unknown", 1.25 * 3.6e6, 500.0)]


# Trees


def test_a_tree_says_model_country_season_and_run(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    root = tmp_path / "Results" / "emissions"
    plain(root / "DLinear" / "India" / "summer" / "r1_emissions.csv", (0.5, 1, 100))
    plain(root / "DLinear" / "IN" / "winter" / "r1_emissions.csv", (0.5, 1, 100))
    plain(root / "DLinear" / "IN" / "winter" / "r3_emissions.csv", (0.5, 1, 100))
    plain(root / "TFT" / "Germany" / "r2_emissions.csv", (0.4, 1, 100), columns="emissions,energy_consumed,duration")
    (root / "TFT" / "Germany" / "broken_emissions.csv").write_text("emissions,energy_kwh,duration\n1,x,2\n")
    (root / "notes.csv").write_text("a,b\n1,2\n")
    (root / "README.json").write_text("{}")
    for folder in (root, root.parent, root / "DLinear"):
        code, _, err = greenml("import", str(folder))
        assert (code, "broken_emissions.csv, line 2: energy_kwh is `x`" in err) == (
            (0, False) if folder.name == "DLinear" else (5, True)
        )
    found = db.rows("select model, country, season, name, co2_g from leaderboard order by model, season, name")
    assert [tuple(row.values()) for row in found] == [
        ("DLinear", "India", "summer", "r1", 500.0),
        ("DLinear", "India", "winter", "r1", 500.0),
        ("DLinear", "India", "winter", "r3", 500.0),
        ("TFT", "Germany", "unknown", "r2", 400.0),
    ]
    assert "left alone, as nothing that greenml imports" in greenml("import", str(root))[2]


def test_a_folder_of_one_country_and_grams_of_another(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    """CodeCarbon without a network takes Quebec: its grams are not India's."""
    file = table(
        tmp_path / "cnn" / "India" / "summer" / "r1_emissions.csv",
        RUNS,
        {"country_iso_code": "CAN", "country_name": "Canada", "region": "quebec", "emissions": "0.0000394"},
    )
    code, _, err = greenml("import", str(tmp_path))
    assert (code, "its folder says India, and its grams were reckoned for Quebec, Canada" in err) == (5, True)
    assert greenml("import", str(tmp_path), "--region", "IN")[0] == 0
    [run] = db.rows("from leaderboard")
    assert (run["country"], round(run["intensity_g_per_kwh"])) == ("India", 713)
    assert file.exists()


# carbontracker


def test_carbontrackers_epochs_without_its_pue_and_its_predictions(db: Store, greenml: Greenml) -> None:
    code, _, err = greenml("import", str(GOLDEN / "carbontracker"))
    assert code == 0
    assert "they add up to its sum" in err
    run, other = db.rows("from leaderboard order by started_at")
    cpu_j, gpu_j = 13.389104 * 53.25 + 14 * 53.75, 136.86084615 * 53.25 + 140 * 53.75
    assert (run["cpu_kwh"], run["gpu_kwh"]) == (pytest.approx(cpu_j / 3.6e6), pytest.approx(gpu_j / 3.6e6))
    assert (run["pue"], run["intensity_g_per_kwh"], run["country"], run["duration_s"]) == (1.59, 102, "Denmark", 107)
    # It told nothing of memory.
    assert (run["energy_kwh"], run["ram_source"], run["epochs"]) == (None, "unknown", 2)
    epochs = db.rows("select run_id, epoch, gpu_j, source from epochs order by run_id = ?, epoch", [other["run_id"]])
    assert [(row["epoch"], row["source"]) for row in epochs] == [(1, "unknown"), (2, "unknown")] * 2
    assert [row["gpu_j"] for row in epochs][2:] == [pytest.approx(120 * 33.57), None]
    assert (other["cpu_kwh"], other["device"]) == (pytest.approx((6.75 * 33.57 + 6.5 * 0.41) / 3.6e6), "cuda")


def test_a_sum_of_carbontracker_alone_needs_its_pue(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    [log] = (GOLDEN / "carbontracker").glob("*_output.log")
    file = Path(shutil.copy(log, tmp_path))
    code, what, hint = refused(greenml, str(file))
    assert (code, "times a PUE" in what, "--pue" in hint) == (5, True, True)
    assert greenml("import", str(file), "--pue", "1.59")[0] == 0
    [row] = db.rows("select known_kwh, duration_s, intensity_g_per_kwh from leaderboard")
    energy_kwh = ((13.389104 + 136.86084615) * 53.25 + 154 * 53.75) / 3.6e6
    assert (row["known_kwh"], row["duration_s"]) == (pytest.approx(energy_kwh, rel=1e-3), 107)
    assert row["intensity_g_per_kwh"] == pytest.approx(102, rel=1e-3)
    found = db.rows("select cpu_source, cpu_method, gpu_source, gpu_method, ram_source from leaderboard")
    assert [tuple(row.values()) for row in found] == [
        (
            "estimated",
            "the whole sum, components not told apart",
            "estimated",
            "counted with the CPU; the file does not tell them apart",
            "unknown",
        )
    ]


# Again


def test_nothing_is_doubled_by_any_file(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "first")
    plain(tmp_path / "first" / "m" / "FR" / "a_emissions.csv", *TOTALS, columns=TIMED)
    greenml("import", str(tmp_path / "first"))
    before = records(db)
    assert len(db.rows("from runs")) == 7
    assert greenml("import", str(tmp_path / "first"))[0] == 0
    (tmp_path / "second" / "m" / "FR").mkdir(parents=True)
    for file in [*(tmp_path / "first").rglob("emissions*.csv"), *(tmp_path / "first").rglob("*.log")]:
        place = tmp_path / "second" / file.parent.name
        place.mkdir(exist_ok=True)
        shutil.copy(file, place / file.name)
    shutil.copy(
        tmp_path / "first" / "m" / "FR" / "a_emissions.csv", tmp_path / "second" / "m" / "FR" / "b_emissions.csv"
    )
    shutil.move(tmp_path / "second" / "first" / "emissions.csv", tmp_path / "second" / "copy.csv")
    code, _, err = greenml("import", str(tmp_path / "second"))
    assert (code, "0 runs stored, 7 as known" in err) == (0, True)
    assert records(db) == before


def test_a_file_that_has_grown_brings_what_is_new(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    """Appended to, or its one row replaced (`on_csv_write="update"`); and an older copy takes nothing away."""
    lines = (GOLDEN / "emissions.csv").read_text().splitlines(keepends=True)
    file = tmp_path / "emissions.csv"
    file.write_text("".join(lines[:2]))
    greenml("import", str(file), "--dataset", "digits", "--tag", "mine")
    [first] = db.rows("from runs")
    db.mark([first["run_id"]], note="kept")
    file.write_text("".join([lines[0], lines[3]]))
    assert "grown" in greenml("import", str(file))[1]
    [run] = db.rows("from leaderboard")
    assert run["energy_kwh"] == pytest.approx(3.523348856858752e-05, rel=1e-9)
    assert (run["run_id"], run["dataset"], run["tags"], run["note"]) == (first["run_id"], "digits", ["mine"], "kept")
    file.write_text("".join(lines))
    assert "known" in greenml("import", str(file))[1]
    file.write_text("".join(lines[:3]))
    assert "the store keeps the longer" in greenml("import", str(file))[2]
    assert db.rows("select energy_kwh from leaderboard")[0]["energy_kwh"] == run["energy_kwh"]


def test_removed_runs_stay_removed(db: Store, greenml: Greenml) -> None:
    greenml("import", str(GOLDEN / "emissions.csv"))
    [run] = db.rows("from runs")
    greenml("runs", "rm", run["run_id"], "--yes")
    assert "`greenml runs restore` brings it back" in greenml("import", str(GOLDEN / "emissions.csv"))[2]
    assert db.rows("from runs") == []


# What people say, and metrics


def test_said_to_be_like_a_run_it_is_ranked_beside_it(db: Store, greenml: Greenml) -> None:
    record(db, A, [0.9], [1e5])
    file = str(GOLDEN / "emissions.csv")
    greenml("import", file)
    assert greenml("import", file, "--like", "aaa", "--accuracy", "95")[0] == 0
    own, foreign = db.rows("from leaderboard order by rank desc")
    assert (own["rank"], foreign["rank"], foreign["contest"] == own["contest"]) == (2, 1, True)
    for command in (["board"], ["board", "--grouped"]):
        assert f"on their importer's word: cnn {foreign['run_id'][:8]}\n" in greenml(*command)[2]
    assert "_is_imported" not in greenml("board", "--grouped", "--json")[1]
    assert foreign["acc_per_kwh"] == pytest.approx(95 / 3.523348856858752e-05, rel=1e-9)
    [run] = db.rows("from runs where kind = 'import'")
    assert (run["dataset"], run["num_classes"], run["test_count"], run["test_correct"]) == ("digits", 10, 360, 342)
    assert run["config"]["said"]["like"] == A
    # What was said still holds when the file comes again.
    assert "known" in greenml("import", file)[1]
    assert "said anew" in greenml("import", file, "--accuracy", "0.9")[1]
    [run] = db.rows("from leaderboard where kind = 'import'")
    assert (run["accuracy"], run["dataset"], run["rank"]) == (0.9, "digits", 1)


def test_chance_has_to_be_known_for_a_rank(db: Store, greenml: Greenml) -> None:
    file = str(GOLDEN / "emissions.csv")
    greenml("import", file, "--dataset", "mine", "--accuracy", "0.6")
    assert db.rows("select unranked from leaderboard") == [{"unranked": "not known to be above chance"}]
    greenml("import", file, "--num-classes", "2", "--num-test", "1000")
    assert db.rows("select rank, accuracy from leaderboard") == [{"rank": 1, "accuracy": 0.6}]


def test_a_run_may_be_judged_by_something_else(db: Store, greenml: Greenml) -> None:
    file = str(GOLDEN / "emissions.csv")
    assert greenml("import", file, "--dataset", "ETTh1", "--metric", "MAE=3.2")[0] == 0
    [run] = db.rows("from leaderboard")
    assert (run["metric"], run["goal"], run["value"], run["rank"]) == ("mae", "min", 3.2, None)
    assert greenml("import", file, "--metric", "skill=0.4:max")[0] == 0
    [run] = db.rows("from leaderboard")
    assert (run["metric"], run["goal"], run["value"]) == ("skill", "max", 0.4)


def test_what_cannot_be_said(db: Store, greenml: Greenml) -> None:
    record(db, A, [0.9], [1e5])
    for arguments, error in (
        (["--metric", "skill=1", "--dataset", "d"], "is more skill better, or less?"),
        (["--metric", "mae", "--dataset", "d"], "--metric mae: not NAME=VALUE"),
        (["--metric", "mae=nan", "--dataset", "d"], "--metric mae=nan: not NAME=VALUE"),
        (["--metric", "accuracy=1", "--dataset", "d"], "a run is judged by one thing"),
        (["--accuracy", "0.9"], "--accuracy on what data?"),
        (["--accuracy", "high", "--dataset", "d"], "`high` is no accuracy"),
        (["--columns", "sums"], "--columns sums: no such way"),
        (["--region", "Atlantis"], "unknown region `Atlantis`"),
        (["--like", "zzz"], "no run starts with `zzz`"),
        (["--like", "aaa", "--dataset", "mnist"], f"run {A} is on digits, not mnist"),
        (["--run", "nobody"], "no run there begins with `nobody`"),
    ):
        code, what, hint = refused(greenml, str(GOLDEN / "emissions.csv"), *arguments)
        assert (code, what.startswith(error), bool(hint)) == (2, True, True), (arguments, what)


def test_a_run_without_an_id_is_not_called_none(greenml: Greenml, tmp_path: Path) -> None:
    code, what, _ = refused(greenml, str(plain(tmp_path / "a.csv", (1, 0.1, 10))), "--run", "N")
    assert (code, what) == (2, "no run there begins with `N`")


def test_one_accuracy_is_of_one_run(greenml: Greenml) -> None:
    code, what, hint = refused(greenml, str(GOLDEN / "tasks"), "--accuracy", "0.9", "--dataset", "d")
    assert (code, what) == (2, "--accuracy is of one run, and there are 2")
    assert "--run ID" in hint


def test_metrics_are_joined_from_the_left(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    for model in ("DLinear", "TFT"):
        for season in ("summer", "winter"):
            plain(root / model / "India" / season / "r1_emissions.csv", (0.5, 1, 100))
    wide = tmp_path / "wide.csv"
    wide.write_text(
        "model,country,season,MAE,RMSE\nDLinear,IN,summer,3.2,4.0\nTFT,India,,2.5,\nN-Beats,IN,summer,1,1\n"
    )
    code, _, err = greenml("import", str(root), "--metrics", str(wide))
    assert (code, f"{wide}: model N-Beats, country IN, season summer: fits no run here" in err) == (0, True)
    found = db.rows("select model, season, metric, goal, value from leaderboard order by model, season")
    assert [tuple(row.values()) for row in found] == [
        ("DLinear", "summer", "mae", "min", 3.2),
        ("DLinear", "winter", "accuracy", "max", None),
        ("TFT", "summer", "mae", "min", 2.5),
        ("TFT", "winter", "mae", "min", 2.5),
    ]
    assert [row["name"] for row in db.rows("select name from metrics order by run_id, seq")].count("RMSE") == 1
    long = tmp_path / "long.json"
    long.write_text(
        json.dumps([{"model": "DLinear", "season": "winter", "name": "skill", "value": 0.3, "goal": "max"}])
    )
    greenml("import", str(root), "--metrics", str(long))
    assert db.rows("select value, goal from leaderboard where model = 'DLinear' and season = 'winter'") == [
        {"value": 0.3, "goal": "max"}
    ]
    # What was told of the others still holds, and of all of them where nothing is told.
    told = db.rows("from leaderboard order by run_id"), db.rows("from metrics order by run_id, seq")
    assert sum(row["value"] is not None for row in told[0]) == 4
    code, _, err = greenml("import", str(root))
    assert (code, "0 runs stored, 4 as known" in err) == (0, True)
    assert greenml("import", str(root), "--num-test", "100")[0] == 0
    assert (db.rows("from leaderboard order by run_id"), db.rows("from metrics order by run_id, seq")) == told
    assert {row["num_test"] for row in db.rows("select num_test from runs")} == {100}


def test_figures_stay_with_a_run_that_grows(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    lines = (GOLDEN / "emissions.csv").read_text().splitlines(keepends=True)
    (tmp_path / "emissions.csv").write_text("".join(lines[:2]))
    (tmp_path / "metrics.json").write_text('{"accuracy": 0.91, "f1": 0.5}')
    greenml("import", str(tmp_path), "--dataset", "digits")
    (tmp_path / "metrics.json").unlink()
    (tmp_path / "emissions.csv").write_text("".join(lines))
    assert "grown" in greenml("import", str(tmp_path))[1]
    assert db.rows("select accuracy, metric from leaderboard") == [{"accuracy": 0.91, "metric": "accuracy"}]
    assert [row["name"] for row in db.rows("from metrics order by seq")] == ["accuracy", "f1"]


def test_a_figure_that_has_changed_comes_in(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    """Also where what the run is judged by has not."""
    shutil.copy(GOLDEN / "emissions.csv", tmp_path)
    for f1 in (0.5, 0.7):
        (tmp_path / "metrics.json").write_text(json.dumps({"accuracy": 0.91, "f1": f1}))
        greenml("import", str(tmp_path), "--dataset", "digits")
    assert db.rows("select value from metrics where name = 'f1'") == [{"value": 0.7}]
    (tmp_path / "metrics.json").unlink()
    for goal in ("max", "min"):
        (tmp_path / "long.csv").write_text(f"run,name,value,goal\ncc,skill,0.3,{goal}\n")
        run = plain(tmp_path / "m" / "FR" / "cc_emissions.csv", (1, 0.1, 10))
        greenml("import", str(tmp_path / "m"), "--metrics", str(tmp_path / "long.csv"))
    assert run.exists()
    assert db.rows("select goal from leaderboard where metric = 'skill'") == [{"goal": "min"}]


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("a.json", '{"accuracy": "91%"}', "accuracy is `91%`"),
        ("a.json", '{"val_loss": [0.5, 0.4]}', "val_loss is `[0.5, 0.4]`"),
        ("a.csv", "name,value\nskill,high\n", "skill is `high`"),
        ("a.csv", 'run,f1\ncc,"0,9"\n', "f1 is `0,9`"),
    ],
)
def test_a_figure_that_cannot_be_read_is_not_passed_over(
    db: Store, greenml: Greenml, tmp_path: Path, name: str, text: str, error: str
) -> None:
    (tmp_path / name).write_text(text)
    code, what, hint = refused(greenml, str(GOLDEN / "emissions.csv"), "--metrics", str(tmp_path / name))
    assert (code, what, "a number" in hint) == (5, f"{tmp_path / name}: {error}", True)
    assert db.rows("from runs") == []


def test_gaps_and_words_that_are_no_figures_are_passed_over(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"f1": null, "recall": "", "loss": NaN, "optimizer": "adam", "accuracy": 0.9}')
    assert greenml("import", str(GOLDEN / "emissions.csv"), "--metrics", str(file))[0] == 0
    assert [row["name"] for row in db.rows("from metrics")] == ["accuracy"]


def test_spoilt_figures_beside_one_file_do_not_stop_the_others(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    for name in ("a", "b"):
        plain(tmp_path / name / f"{name}_emissions.csv", (1, 0.1, 10))
    (tmp_path / "a" / "metrics.json").write_text("[1,2,3]")
    (tmp_path / "b" / "b_metrics.json").write_text('{"accuracy": 0.9}')
    code, _, err = greenml("import", str(tmp_path))
    assert (code, f"skipped {tmp_path / 'a' / 'metrics.json'} has no names for its figures" in err) == (5, True)
    assert "1 file of 3 could not be imported" in err
    assert db.rows("select name, accuracy from leaderboard order by name") == [
        {"name": "a", "accuracy": None},
        {"name": "b", "accuracy": 0.9},
    ]


def test_a_table_of_metrics_that_is_not_there(greenml: Greenml, tmp_path: Path) -> None:
    file = tmp_path / "nofile.csv"
    code, what, hint = refused(greenml, str(GOLDEN / "emissions.csv"), "--metrics", str(file))
    assert (code, what, bool(hint)) == (2, f"--metrics {file} does not exist", True)


def test_metrics_beside_a_file_are_of_its_run(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "emissions.csv", tmp_path)
    (tmp_path / "metrics.json").write_text('{"accuracy": 0.91, "note": "best so far"}')
    greenml("import", str(tmp_path), "--dataset", "digits")
    assert db.rows("select accuracy from leaderboard") == [{"accuracy": 0.91}]
    (tmp_path / "metrics.json").write_text('{"accuracy": 91}')
    assert "accuracy is 91" in refused(greenml, str(tmp_path))[1]


# greenml's own exports


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".duckdb"])
def test_an_export_comes_back_as_it_was(db: Store, greenml: Greenml, tmp_path: Path, suffix: str) -> None:
    record(db, A, [0.5, 0.9], [1e5, None], note="n", tags=["x"])
    record(db, B, [0.9], [2e5], metric="mae", goal="min")
    db.write([make_phase(B, 7, gpus_j=[1.0, None], gpu_j=1.0, gpu_source=Source.MEASURED, error_j=0.5)])
    file = tmp_path / "share" / f"runs{suffix}"
    assert greenml("runs", "export", "-o", str(file))[0] == 0
    here = ["--store", str(tmp_path / "here" / "greenml.duckdb")]
    assert "nothing is stored" in greenml("import", str(file), "--dry-run", *here)[2]
    assert not (tmp_path / "here").exists()
    for expected in ("2 runs came", "0 runs came"):
        code, _, err = greenml("import", str(file), *here)
        assert (code, expected in err) == (0, True)
    imported = type(db)(tmp_path / "here" / "greenml.duckdb")
    assert records(imported) == records(db) == imported.records([A, B])


def test_what_runs_left_beside_a_store_is_not_looked_at(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    """Curves and summaries of a training are no runs of another program; other folders of that name may hold some."""
    there = type(db)(tmp_path / "there" / "greenml.duckdb")
    record(there, A, [0.9], [1e5])
    with there.claim(A) as folder:
        (folder / "epochs.csv").write_text("run_id,epoch\n")
        (folder / "summary.json").write_text('[{"run_id": "aaaaaaaaaaaa"}]')
    plain(tmp_path / "there" / "runs" / "exp1" / "r_emissions.csv", (1, 0.1, 10))
    code, _, err = greenml("import", str(there.path.parent))
    assert (code, "skipped" in err) == (0, False)
    assert [row["kind"] for row in db.rows("select kind from runs order by kind")] == ["import", "train"]


@pytest.mark.parametrize(
    ("flag", "value", "instead"),
    [
        ("--model", "m", "leave it out"),
        ("--tag", "t", "`greenml runs tag RUN TAG`"),
        ("--region", "FR", "leave it out"),
        ("--accuracy", "0.9", "leave it out"),
        ("--pue", "1.5", "leave it out"),
        ("--run", "aaa", "`greenml runs export -o FILE.jsonl RUN`"),
    ],
)
def test_nothing_is_said_of_what_greenml_recorded(
    db: Store, greenml: Greenml, tmp_path: Path, flag: str, value: str, instead: str
) -> None:
    there = type(db)(tmp_path / "there" / "greenml.duckdb")
    record(there, A, [0.9], [1e5])
    code, what, hint = refused(greenml, str(there.path), flag, value)
    assert (code, what) == (2, f"{there.path} is greenml's own: {flag} is for files of other programs")
    assert instead in hint
    assert db.rows("from runs") == []


def test_a_store_is_read_where_it_lies(
    db: Store, greenml: Greenml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is copied to show it, and nothing in it is changed, not even a run that has died."""
    there = type(db)(tmp_path / "there" / "greenml.duckdb")
    record(there, A, [0.9], [1e5])
    there.write([make_run(B)])
    before = there.path.read_bytes()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    code, out, err = greenml("import", str(there.path), "--dry-run", "--json")
    assert (code, err) == (0, "")
    assert [(run["run_id"], run["state"]) for run in json.loads(out)[0]["runs"]] == [(A, "new"), (B, "new")]
    assert there.path.read_bytes() == before


def test_an_export_is_read_once(db: Store, greenml: Greenml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(db, A, [0.9], [1e5])
    greenml("runs", "export", "-o", str(tmp_path / "runs.jsonl"))
    read, files = own.read_records, []
    monkeypatch.setattr(own, "read_records", lambda path: files.append(path) or read(path))
    here = ["--store", str(tmp_path / "here" / "greenml.duckdb")]
    assert greenml("import", str(tmp_path / "runs.jsonl"), *here)[0] == 0
    assert len(files) == 1


def test_a_store_of_an_older_greenml_stays_as_it_is(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    of_schema_1(tmp_path / "old.duckdb")
    before = (tmp_path / "old.duckdb").read_bytes()
    for arguments in (["--dry-run"], []):
        code, out, _ = greenml("import", str(tmp_path / "old.duckdb"), *arguments)
        assert (code, out.split()[-1]) == (0, "new")
    assert db.rows("select run_id from runs") == [{"run_id": A}]
    assert (tmp_path / "old.duckdb").read_bytes() == before


@pytest.mark.parametrize("num_bytes", [64, 12_345])
def test_a_torn_store_is_to_be_had_again(db: Store, greenml: Greenml, tmp_path: Path, num_bytes: int) -> None:
    there = type(db)(tmp_path / "there" / "greenml.duckdb")
    record(there, A, [0.9], [1e5])
    there.path.write_bytes(there.path.read_bytes()[:num_bytes])
    code, what, hint = refused(greenml, str(there.path))
    assert (code, str(there.path) in what, hint.startswith("get it again from where it came")) == (3, True, True)


@pytest.mark.parametrize("flags", [[], ["--epochs"]])
def test_a_summary_names_the_export_that_has_all(db: Store, greenml: Greenml, tmp_path: Path, flags: list[str]) -> None:
    record(db, A, [0.9], [1e5])
    greenml("runs", "export", "-o", str(tmp_path / "e2.csv"), *flags)
    code, what, hint = refused(greenml, str(tmp_path / "e2.csv"))
    assert (code, what) == (2, f"{tmp_path / 'e2.csv'} is a summary of greenml's runs")
    assert ".jsonl" in hint


def test_a_run_that_had_not_ended_is_named(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    record(db, A, [0.9], [1e5])
    with db.claim(B):
        db.write([make_run(B)])
        greenml("runs", "export", "-o", str(tmp_path / "runs.jsonl"))
    here = ["--store", str(tmp_path / "here" / "greenml.duckdb")]
    assert f"skipped {B}: it had not ended" in greenml("import", str(tmp_path / "runs.jsonl"), *here)[2]


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("a.jsonl", '{"record": "Run"}\n', "record 1 is broken"),
        ("a.json", '[{"run_id": "aaaa"}]', "lacks the records of its runs"),
        ("a.json", '[{"run_id": ', "cannot be read"),
        ("a.txt", "words", "nothing that greenml imports"),
        ("a.duckdb", "words", "nothing that greenml imports"),
    ],
)
def test_an_export_that_is_none(greenml: Greenml, tmp_path: Path, name: str, text: str, error: str) -> None:
    (tmp_path / name).write_text(text)
    code, what, hint = refused(greenml, str(tmp_path / name))
    assert (code, error in what, bool(hint)) == (5, True, True)


# The command


def test_a_dry_run_shows_what_would_come_and_stores_nothing(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    here = ["--store", str(tmp_path / "none" / "greenml.duckdb")]
    code, out, err = greenml("import", str(GOLDEN / "emissions.csv"), "--dry-run", *here, width=120)
    assert (code, not (tmp_path / "none").exists()) == (0, True)
    head, _, row = out.splitlines()
    assert head.split() == ["file", "kind", "rows", "runs", "Wh", "g", "CO2e", "columns", "here"]
    assert row.split()[-8:] == ["CodeCarbon", "runs", "3", "1", "~0.0352", "0.0251", "cumulative", "new"]
    assert "each row is the total so far" in err
    assert "nothing is stored" in err


def test_a_long_file_takes_seconds(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    """A flush every quarter of a minute for three days; rows of one statement each would take minutes."""
    file = tmp_path / "emissions.csv"
    began = STARTED_AT - timedelta(days=100)
    with file.open("w") as stream:
        stream.write("timestamp,run_id,duration,emissions,energy_consumed\n")
        for i in range(1, 20_001):
            stream.write(f"{began + timedelta(seconds=15 * i)},r,{15 * i},{i / 1e4},{i / 1e5}\n")
    begun = time.perf_counter()
    assert greenml("import", str(file))[0] == 0
    assert time.perf_counter() - begun < 15
    assert figures(db) == [("unknown", 0.2 * 3.6e6, 2_000.0)]
    assert db.rows("select count(*) as n from phases") == [{"n": 20_000}]
