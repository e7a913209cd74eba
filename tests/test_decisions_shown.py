"""Decisions and hours are told wherever a run is: `runs show`, the report, the card of a model."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from conftest import (
    WORLD,
    make_decision,
    make_end,
    make_epoch,
    make_inference,
    make_phase,
    make_run,
    make_served,
    record,
)

from greenml.cli import scheduling

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Greenml

    from greenml.store import Store

A = "a" * 12
TRACE = replace(WORLD, level="trace", source="de.csv; in its gaps CodeCarbon", note="by the hour, from de.csv")


@pytest.fixture
def watched(db: Store) -> Store:
    """A run of two epochs at two intensities, which waited, declined to pause, and once knew nothing."""
    rows: list[Any] = [make_run(A, intensity=TRACE)]
    for number, g_per_kwh in ((1, 200.0), (2, 400.0)):
        rows += [
            make_phase(A, number - 1, epoch=number, g_per_kwh=g_per_kwh, intensity_status="actual"),
            make_epoch(A, number, g_per_kwh=g_per_kwh, total_g_per_kwh=100.0 + 100 * number),
        ]
    decline = {"what": "decline", "why": "idling at 40 W takes more than the pause saves", "until_at": None}
    unknown = {"saved_g": None, "saved_share": None, "saved_source": None, "against": None}
    db.write(
        [
            *rows,
            make_decision(A, 0),
            make_decision(A, 1, **decline, **unknown),
            make_decision(A, 2, what="fallback", why="de.csv says nothing", g_per_kwh=None, until_at=None, **unknown),
            make_end(A),
        ]
    )
    return db


@pytest.mark.parametrize(
    ("what", "share", "told"),
    [
        ("wait", 0.665, "; saves 66 % (forecast)"),
        ("saved", 0.21, ", 21 % less (forecast)"),
        ("saved", -0.21, ", 21 % more (forecast)"),
        ("saved", 0.0, ""),
        ("saved", None, ""),
        ("decline", -165.75, ""),
    ],
)
def test_what_a_decision_saves_is_told_as_less_or_more_and_of_none_that_was_declined(
    what: str, share: float | None, told: str
) -> None:
    decision = make_decision(A, 0, what=what, why="so", saved_share=share, saved_source="forecast")
    assert scheduling.in_words(decision).partition(": so")[2] == told


@pytest.mark.parametrize("width", [80, 120])
def test_show_tells_what_was_decided_and_why(watched: Store, greenml: Greenml, width: int) -> None:
    code, out, _ = greenml("runs", "show", A, width=width)
    assert code == 0
    assert "300 g/kWh, the mean of its hours (actual)" in out
    table = out[out.index("decided") :]
    assert max(map(len, table.splitlines())) <= width
    assert "20.0 g, 50 % forecast" in table
    for word in ("wait", "decline", "fallback", "400"):
        assert word in table


def test_show_tells_the_intensity_of_each_epoch_where_it_has_one(watched: Store, greenml: Greenml) -> None:
    out = greenml("runs", "show", A, width=120)[1]
    [head, *lines] = [line.split() for line in out[out.index("epoch  ") :].splitlines()[:4] if line.split()]
    assert "g/kWh" in head
    record(watched, "b" * 12, [0.9], [100.0])
    assert "decided" not in greenml("runs", "show", "b" * 12)[1]
    plain = greenml("runs", "show", "b" * 12, width=120)[1]
    assert "g/kWh" not in plain[plain.index("epoch  ") :].splitlines()[0]
    assert lines


def test_show_hands_decisions_over_as_json(watched: Store, greenml: Greenml) -> None:
    [run] = json.loads(greenml("runs", "show", A, "--json")[1])
    assert [row["what"] for row in run["decisions"]] == ["wait", "decline", "fallback"]
    assert run["decisions"][0]["saved_share"] == 0.5


def test_the_report_has_them_on_its_page_and_in_its_text(watched: Store, greenml: Greenml, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert greenml("report", "--output", str(page))[0] == 0
    text = greenml("report", "--md")[1]
    assert "Decisions for the grid" in page.read_text()
    for told in (page.read_text(), text):
        assert "idling at 40 W takes more than the pause saves" in told
        assert "starting at once" in told


def test_rows_of_decisions_are_handed_over_where_there_are_some(
    watched: Store, greenml: Greenml, tmp_path: Path
) -> None:
    assert greenml("report", "--csv", str(tmp_path / "rows"))[0] == 0
    assert len((tmp_path / "rows" / "decisions.csv").read_text().splitlines()) == 4
    watched.purge([A])
    record(watched, "b" * 12, [0.9], [100.0])
    assert greenml("report", "--csv", str(tmp_path / "others"))[0] == 0
    assert not (tmp_path / "others" / "decisions.csv").exists()


def test_what_a_saving_is_held_against_is_told_in_full(db: Store, greenml: Greenml) -> None:
    saved = {"saved_share": 0.29, "saved_source": "measured"}
    against = "the same work from 08:00 on, without a stop"
    db.write([make_run(A), make_phase(A, 0), make_decision(A, 0, what="saved", against=against, **saved), make_end(A)])
    shown = " ".join(greenml("runs", "show", A)[1].split())
    assert f"; against {against}" in shown


def test_the_time_of_a_run_is_apart_from_that_for_which_it_waited(db: Store, greenml: Greenml) -> None:
    """Forty seconds at 10 W, after ten of waiting at 1 W; what it idles above is what it drew in all of them."""
    idle = {"meter": {"idle": {"watts": 0.5, "source": "measured", "method": "as stored"}}}
    wait = make_phase(A, 0, name="wait", cpu_j=10.0, ram_j=0.0)
    db.write([make_run(A, **idle), wait, *(make_phase(A, seq) for seq in range(1, 5)), make_end(A)])
    [row] = db.rows("select duration_s, above_idle_kwh * 3.6e6 as above_idle_j from leaderboard")
    assert row == {"duration_s": 40.0, "above_idle_j": pytest.approx(410 - 0.5 * 50)}
    assert db.rows("select duration_s, waited_s from run_totals") == [{"duration_s": 40.0, "waited_s": 10.0}]
    assert "40.0 s, and 10.0 s of waiting" in greenml("runs", "show", A)[1]
    assert "10.0 W, mean of CPU, GPU and memory over the run" in greenml("report", "--model-card", A)[1]


def test_what_a_sample_emits_counts_at_the_intensity_of_the_test(db: Store, greenml: Greenml) -> None:
    train, test = {"g_per_kwh": 200.0}, {"g_per_kwh": 3.6, "name": "test"}
    status = {"intensity_status": "actual"}
    phases = [make_phase(A, 0, epoch=1, **train, **status), make_phase(A, 1, **test, **status)]
    db.write([make_run(A, intensity=TRACE), *phases, make_epoch(A, 1), make_end(A, test_count=100)])
    card = greenml("report", "--model-card", A)[1]
    assert r"1.00 µg (\~1.00 J)" in card


def test_what_a_prediction_emits_counts_at_the_mean_of_its_run(db: Store) -> None:
    """As break-even counts it: a thousand of 3.6 J at 100 g/kWh."""
    rows = [make_run(A, kind="compress", intensity=TRACE), make_served(A, "after")]
    hour = {"g_per_kwh": 100.0, "intensity_status": "actual"}
    for number in range(2):
        rows.append(make_phase(A, number, name="infer", cpu_j=3600.0, ram_j=0.0, **hour))
        rows.append(
            make_inference(A, "after", number + 1, number, num_predictions=1000, first_seq=number, last_seq=number)
        )
    db.write([*rows, make_end(A)])
    [row] = db.rows("from inference")
    assert row["co2_g_per_1000"] == pytest.approx(0.1)


def test_the_factor_of_a_trace_is_for_no_place(watched: Store, greenml: Greenml) -> None:
    for out in (greenml("runs", "show", A, width=200)[1], greenml("report", "--model-card", A)[1]):
        assert "de.csv; in its gaps CodeCarbon" in out
        assert "for the trace" not in out
