"""`greenml import`: what other programs wrote comes in once, read as what it is, or not at all."""

from __future__ import annotations

import csv
import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

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
