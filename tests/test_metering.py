"""`greenml train` under the meter that is asked for."""

from __future__ import annotations

from pathlib import Path

import bench_meter
import pytest

from greenml.energy import nvml, rapl
from greenml.store import Store

TRAIN = ("train", "cnn", "--dataset", "digits", "--epochs", "2", "--num-threads", "1", "--quiet")


@pytest.fixture
def rows(tmp_path):
    """What the command has stored."""
    return lambda sql: Store(tmp_path / "store" / "greenml.duckdb").rows(sql)


@pytest.fixture
def watts(tmp_path):
    def write(*lines):
        (tmp_path / "watts.csv").write_text("\n".join(["seconds,cpu_w,gpu_w,ram_w,cpu_source,ram_source", *lines]))
        return "replay:watts.csv"

    return write


def test_a_replayed_meter_is_found_again_in_every_row(here, rows, watts):
    code, _, _ = here(*TRAIN, "--meter", watts("0,40,0,10,measured,measured"), "--sampling-interval", "0.5")

    assert code == 0
    [run] = rows("from run_rows")
    assert (run["meter"]["meter"], run["meter"]["interval_s"], run["scope"]) == ("replay of watts.csv", 0.5, "machine")
    for phase in rows("from phases"):
        seconds = (phase["ended_at"] - phase["started_at"]).total_seconds()
        assert phase["cpu_j"] == pytest.approx(40 * seconds, rel=0.01, abs=0.5)  # a busy machine reads 10 ms late
        assert phase["ram_j"] == pytest.approx(10 * seconds, rel=0.01, abs=0.5)
        assert str(phase["cpu_source"]) in ("measured", "apportioned")
        assert phase["gpu_source"] == "absent"


def test_a_replayed_run_is_not_ranked_among_those_that_used_what_they_say(here, rows, watts):
    assert here(*TRAIN, "--meter", watts("0,40,0,10,measured,measured"), "--tdp", "65")[0] == 0

    [run] = rows("from leaderboard")
    assert (run["rank"], run["unranked"], run["on_front"]) == (None, "replayed power", False)
    assert run["energy_kwh"] > 0
    assert rows("from pareto_front") == []


@pytest.mark.parametrize("more", [(), ("--scope", "process")])
def test_a_tdp_that_has_no_effect_is_said_and_kept(here, rows, watts, more):
    code, _, said = here(*TRAIN, *more, "--meter", watts("0,40,0,10,,"), "--tdp", "65")

    assert code == 0
    [line] = [line for line in said.splitlines() if "tdp" in line]
    assert line.startswith("not obeyed: tdp 65: the CPU is not metered by a model that takes one")
    [run] = rows("from run_rows")
    assert run["config"]["tdp"] == 65
    assert [f"not obeyed: {each}" for each in run["meter"]["ignored"]] == [line]


def test_a_bench_says_which_figures_keep_to_their_goal():
    figures = [
        bench_meter._ratio("total", [0.97, 0.98, 1.0]),
        bench_meter._ratio("total", [0.97, 0.992, 1.0]),
        bench_meter._seconds("start-up", [0.1, 0.2, 0.5]),
        bench_meter._percent("thread", [0.09, 0.11, 0.2]),
    ]

    assert [figure.spread.rpartition(": ")[2] for figure in figures] == ["MISSED", "kept", "kept", "MISSED"]
    assert figures[2].spread == "0.100 s to 0.500 s; goal at most 0.3 s: kept"


def test_a_run_of_one_process_says_so_and_costs_less_than_the_machine(here, rows, watts):
    code, _, _ = here(*TRAIN, "--meter", watts("0,40,0,10,measured,"), "--scope", "process")

    assert code == 0
    [run] = rows("from run_rows")
    assert (run["scope"], run["meter"]["scope"], run["meter"]["idle"]) == ("process", "process", None)
    assert run["meter"]["cpu"]["source"] == "apportioned"
    assert run["meter"]["ram"]["method"].startswith("share of the memory in use")
    for phase in rows("from phases"):
        seconds = (phase["ended_at"] - phase["started_at"]).total_seconds()
        seconds += 0.05  # a busy machine may take its time between reading the watts and the clock
        assert 0 <= phase["cpu_j"] <= 40 * seconds
        assert 0 < phase["ram_j"] < 10 * seconds


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
@pytest.mark.parametrize("meter", ["counterz", "replay", "replay:none.csv"])
def test_a_meter_that_is_not_there_ends_it_before_it_begins(here, meter, more):
    code, _, said = here(*TRAIN, *more, "--meter", meter)

    assert code == 2
    assert said.count("\n") == 2
    assert said.startswith("greenml: error: ")
    assert "hint: " in said


def test_what_cannot_be_metered_ends_it_before_the_first_batch_where_a_meter_is_required(here, rows, monkeypatch):
    monkeypatch.setattr(rapl, "open_counters", lambda: None)
    monkeypatch.setattr(nvml, "open_counters", lambda **_: None)
    code, _, said = here(*TRAIN, "--meter", "counters", "--require-meter")

    assert code == 4
    assert said.count("\n") == 2
    assert "cpu: no counter of the processor" in said
    assert rows("from runs") == []


def test_a_required_meter_that_breaks_on_the_way_lets_the_run_finish_and_fails_it(here, rows, watts):
    meter = watts("0,40,0,10,,", "0.05,,0,10,,")

    code, _, said = here(*TRAIN, "--meter", meter, "--require-meter")

    assert code == 4
    assert "cpu: watts.csv does not say" in said
    [run] = rows("from runs")
    assert run["status"] == "done"
    assert [epoch["energy_j"] for epoch in rows("from epochs")] == [None, None]
    assert (Path.cwd() / "store" / "runs" / run["run_id"] / "summary.json").exists()
    assert here(*TRAIN, "--meter", meter)[0] == 0


def test_what_is_set_for_codecarbon_is_reported(here, watts, monkeypatch):
    monkeypatch.setenv("CODECARBON_PUE", "3")

    _, _, said = here(*TRAIN, "--meter", watts("0,40,0,10,,"))

    assert "CODECARBON_PUE; greenml's own keys are `pue`" in said
