"""Decisions are kept with their run, and what providers told of the grid is kept with none."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import duckdb
import pytest
from conftest import STARTED_AT, make_decision, make_end, make_phase, make_resume, make_run, records
from hypothesis import given
from hypothesis import strategies as st

from greenml.grid.series import STATUSES, Series, Step, regular
from greenml.records import from_json, to_json
from greenml.resources import shipped
from greenml.store import Store
from greenml.store.history import all_of, remember

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

A, B = "a" * 12, "b" * 12
HOUR = timedelta(hours=1)
LATER = STARTED_AT + 24 * HOUR


def told(*values: float | None, start: datetime = STARTED_AT, every: timedelta = HOUR, **changes: str) -> Series:
    """Values from noon on, hour by hour, as a live service tells them."""
    status = changes.pop("status", "actual")
    about = {"provider": "electricitymaps", "source": "Electricity Maps", "zone": "DE", "factors": "lifecycle"}
    return Series(steps=tuple(regular(start, every, values, status)), **about | changes)


def values(series: Series) -> list[float]:
    return [step.g_per_kwh for step in series.steps]


# Decisions


def test_a_decision_comes_out_as_it_went_in(db: Store) -> None:
    db.write([make_run(A), make_decision(A, 0), make_decision(A, 1, saved_g=None, until_at=None)])
    assert [row["what"] for row in db.rows("from decisions where run_id = ?", [A])] == ["wait", "wait"]
    decision = make_decision(A, 0, status="waiting")
    assert from_json(to_json(decision)) == decision
    assert db.records([A]) == records(db)
    assert replace(decision, status=None) in db.records([A])


def test_what_a_decision_makes_of_a_run_is_its_status(db: Store) -> None:
    with db.claim(A):
        for seq, status in enumerate(("waiting", "running", "paused", None)):
            db.write([make_run(A), make_decision(A, seq, status=status)])
            assert db.rows("select status from runs") == [{"status": status or "paused"}]


@pytest.mark.parametrize("status", ["waiting", "running", "paused"])
def test_who_waits_or_pauses_in_its_place_and_lets_go_of_its_lock_has_crashed(db: Store, status: str) -> None:
    with db.claim(A):
        db.write([make_run(A), make_phase(A, 0), make_decision(A, 0, status=status)])
    assert db.rows("select status from runs") == [{"status": "crashed"}]
    assert db.rows("select total_j from run_totals") == [{"total_j": None}]


def test_who_has_paused_and_left_has_not_crashed(db: Store) -> None:
    with db.claim(A):
        db.write([make_run(A), make_phase(A, 0), make_decision(A, 0), make_end(A, status="paused")])
    assert db.rows("select status, unranked from leaderboard") == [{"status": "paused", "unranked": "paused"}]
    assert db.rows("select total_j from run_totals") == [{"total_j": 100.0}]
    with db.claim(A):
        db.write([make_resume(A)])
        assert db.rows("select status from runs") == [{"status": "running"}]


def test_decisions_go_where_their_run_goes(db: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other.duckdb")
    other.write([make_run(A), make_decision(A, 0), make_end(A)])
    db.merge(other)
    db.merge(other)
    assert [row["run_id"] for row in db.rows("from decisions")] == [A]
    db.replace(other.records([A]))
    assert len(db.rows("from decision_rows")) == 1
    db.purge([A])
    assert db.rows("from decision_rows") == []


# History


def test_the_statuses_in_sql_are_the_statuses_in_python(db: Store) -> None:
    """The order, too: max() is the status of a mean."""
    [row] = db.rows("select enum_range(null::intensity_status) as names") or [{}]
    assert tuple(row["names"]) == STATUSES


def test_what_was_told_is_remembered(db: Store) -> None:
    series = told(300.0, None, 100.5)
    assert db.remembered("electricitymaps", "DE").steps == ()
    db.remember(series, LATER)
    assert db.remembered("electricitymaps", "DE") == series
    assert values(db.remembered("electricitymaps", "DE", since=STARTED_AT + 2 * HOUR)) == [100.5]
    for provider, zone, kind in (("trace", "DE", "average"), ("electricitymaps", "FR", "average")):
        assert db.remembered(provider, zone, kind).steps == ()
    assert db.remembered("electricitymaps", "DE", "marginal").steps == ()


def test_a_place_without_a_name_has_a_history_too(db: Store) -> None:
    db.remember(told(1.0, zone=None), LATER)
    assert db.remembered("electricitymaps", None).zone is None
    assert values(db.remembered("electricitymaps", None)) == [1.0]


def test_lifecycle_and_direct_figures_are_never_one_series(db: Store) -> None:
    db.remember(told(300.0, 310.0), LATER)
    db.remember(told(200.0, factors="direct"), LATER + HOUR)
    assert values(db.remembered("electricitymaps", "DE")) == [200.0]
    assert values(db.remembered("electricitymaps", "DE", factors="lifecycle")) == [300.0, 310.0]


def test_a_forecast_never_replaces_what_was_published(db: Store) -> None:
    db.remember(told(300.0, 300.0, status="forecast"), LATER)
    db.remember(told(250.0, status="estimated"), LATER)
    db.remember(told(240.0), LATER)
    db.remember(told(1.0, 2.0, status="forecast"), LATER + HOUR)
    db.remember(told(3.0, status="estimated"), LATER + HOUR)
    kept = db.remembered("electricitymaps", "DE")
    assert [(step.g_per_kwh, step.status) for step in kept.steps] == [(240.0, "actual"), (2.0, "forecast")]


def test_of_two_that_are_known_alike_the_later_one_counts(db: Store) -> None:
    db.remember(told(300.0), LATER)
    db.remember(told(310.0), LATER + HOUR)
    db.remember(told(290.0), LATER - HOUR)
    assert values(db.remembered("electricitymaps", "DE")) == [310.0]


def test_five_minutes_within_a_forecast_hour_cut_it(db: Store) -> None:
    db.remember(told(300.0, status="forecast"), LATER)
    db.remember(told(240.0, start=STARTED_AT + timedelta(minutes=20), every=timedelta(minutes=5)), LATER)
    steps = db.remembered("electricitymaps", "DE").steps
    assert [(step.g_per_kwh, (step.end - step.start).seconds // 60) for step in steps] == [
        (300, 20),
        (240, 5),
        (300, 35),
    ]


def test_history_goes_along_when_stores_are_merged(db: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other.duckdb")
    other.write([make_run(A), make_end(A)])
    other.remember(told(100.0, None, 300.0), LATER)
    db.remember(told(99.0, 200.0, status="forecast"), LATER + HOUR)
    db.merge(other)
    assert values(db.remembered("electricitymaps", "DE")) == [100.0, 200.0, 300.0]


MINUTES = st.integers(0, 30)
TOLD = st.tuples(MINUTES, st.integers(1, 10), st.sampled_from(STATUSES), st.integers(0, 3))


@given(st.lists(TOLD, max_size=8))
def test_of_every_minute_the_best_known_and_then_the_latest_word_is_kept(
    words: list[tuple[int, int, str, int]],
) -> None:
    """Against a brute force, minute by minute; each word is a step with a value of its own."""
    minute = timedelta(minutes=1)
    con = duckdb.connect()  # noqa: TID251 - no file that could be opened wrongly
    schema = (shipped("sql") / "schema" / "0006_grid.sql").read_text()
    con.execute(schema[schema.index("create type") : schema.index("-- The mean over the phase")])
    con.execute(schema[schema.index("create table grid_history") :])
    expected: dict[int, tuple[tuple[int, int], int]] = {}
    for value, (start, length, status, hour) in enumerate(words):
        step = Step(start=STARTED_AT + start * minute, end=STARTED_AT + (start + length) * minute,
                    g_per_kwh=float(value), status=status)  # fmt: skip
        remember(con, Series(steps=(step,), provider="p", source="s", zone="z"), STARTED_AT + hour * HOUR)
        for at in range(start, start + length):
            rank = (-STATUSES.index(status), hour)
            if at not in expected or rank >= expected[at][0]:
                expected[at] = (rank, value)
    found = {}
    for series, _ in all_of(con, "grid_history"):
        for step in series.steps:
            for at in range((step.start - STARTED_AT) // minute, (step.end - STARTED_AT) // minute):
                assert at not in found
                found[at] = step.g_per_kwh
    assert found == {at: value for at, (_, value) in expected.items()}
