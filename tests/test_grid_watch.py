"""Grams are a power trace times an intensity trace: exactly, and where nobody knows the intensity, by the factor."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from conftest import STARTED_AT, WORLD, make_end, make_epoch, make_phase, make_resume, make_run, record
from hypothesis import given
from hypothesis import strategies as st

from greenml.errors import DataError, UsageError
from greenml.grid.feed import Known
from greenml.grid.series import Series, regular
from greenml.grid.watch import Mean, Watch, mean_of
from greenml.records import Decision, Epoch, Phase, Source
from greenml.run import EPOCH_PHASES
from greenml.units import co2_g, kwh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenml.records import Record, Stored
    from greenml.store import Store

A, B, C = "a" * 12, "b" * 12, "c" * 12
MINUTE = timedelta(minutes=1)
FACTOR = WORLD.g_per_kwh


def series(*values: float | None, every: timedelta = MINUTE, start: datetime = STARTED_AT, **changes: Any) -> Series:
    """Values from noon on."""
    steps = tuple(regular(start, every, values, changes.pop("status", "actual")))
    return Series(**{"steps": steps, "provider": "trace", "source": "de.csv"} | changes)


def watched(source: Series | Any, records: Sequence[Record], **changes: Any) -> list[Any]:
    """What a watch makes of these records."""
    source = Known(source) if isinstance(source, Series) else source
    return list(Watch(source, WORLD, epoch_phases=EPOCH_PHASES, **changes).fill(records))


def life(run_id: str, joules: Sequence[float | None], **run: Any) -> list[Stored]:
    """A set-up of ten seconds, an epoch of ten seconds per value, and the end."""
    rows: list[Stored] = [make_run(run_id, **run)]
    total: float | None = 0.0
    for seq, joule in enumerate(joules):
        known = {"cpu_j": joule, "ram_j": 0.0, "cpu_source": Source.UNKNOWN if joule is None else Source.ESTIMATED}
        total = None if total is None or joule is None else total + joule
        rows.append(make_phase(run_id, seq, name="train" if seq else "setup", epoch=seq or None, **known))
        if seq:
            rows.append(make_epoch(run_id, seq, energy_j=joule, energy_total_j=total))
    return [*rows, make_end(run_id)]


class Service:
    """A live service that publishes late; counts how often it is asked."""

    def __init__(self, told: Series, *, is_away: bool = False) -> None:
        self.told, self.is_away, self.asked = told, is_away, list[tuple[datetime, datetime]]()

    def past(self, start: datetime, end: datetime) -> Series:
        self.asked.append((start, end))
        if self.is_away:
            raise DataError("the service does not answer", hint="later")
        return self.told.between(start, end)


# Exactly


def test_a_step_in_the_trace_is_integrated_by_hand(db: Store) -> None:
    """Twenty seconds at 100, then 400 g/kWh: the third phase of ten seconds lies across, by half."""
    trace = series(100.0, 400.0, every=timedelta(seconds=25))
    db.write(watched(trace, life(A, [100.0, 200.0, 300.0, 400.0])))
    third = (5 * 100.0 + 5 * 400.0) / 10
    by_hand = [200.0 * 100, 300.0 * third, 400.0 * 400]
    grams = [row["co2_g"] for row in db.rows("from epochs order by epoch")]
    assert grams == pytest.approx([kwh(each) for each in by_hand], rel=1e-12)
    whole = kwh(100.0 * 100 + sum(by_hand))
    for view in ("leaderboard", "run_totals"):
        assert db.rows(f"select co2_g from {view}") == [{"co2_g": pytest.approx(whole, rel=1e-12)}], view
    assert db.rows("select co2_g from pareto_front") == [
        {"co2_g": pytest.approx(kwh(100 * 100 + by_hand[0]), rel=1e-12)}
    ]
    so_far = [row["total_co2_g"] for row in db.rows("from epochs order by epoch")]
    assert so_far == pytest.approx([kwh(100 * 100 + sum(by_hand[:n])) for n in (1, 2, 3)], rel=1e-12)
    [row] = db.rows("from leaderboard")
    assert row["co2_g"] == pytest.approx(kwh(1000.0) * row["intensity_g_per_kwh"])
    assert row["intensity_status"] == "actual"


@given(st.lists(st.floats(0.001, 1e6), min_size=2, max_size=20), st.floats(0.001, 2000.0))
def test_the_mean_of_what_is_constant_is_that_to_the_last_bit(joules: list[float], g_per_kwh: float) -> None:
    mean = Mean(FACTOR)
    for joule in joules:
        mean.add(joule, g_per_kwh)
    assert mean.g_per_kwh == g_per_kwh
    assert mean.grams(1.3) == co2_g(mean.joules, g_per_kwh, 1.3)


@pytest.mark.parametrize("g_per_kwh", [250.0, 0.1 + 0.2, 1 / 3])
def test_a_constant_trace_gives_exactly_the_grams_of_the_static_factor(db: Store, g_per_kwh: float) -> None:
    joules = [0.1, 33.3, 1e5 / 3, 7.7]
    db.write(watched(series(g_per_kwh, g_per_kwh, g_per_kwh), life(A, joules, group_hash="traced")))
    db.write(life(B, joules, intensity=replace(WORLD, g_per_kwh=g_per_kwh), group_hash="static"))
    for view in ("leaderboard", "run_totals", "leaderboard_groups"):
        column = "mean_co2_g" if view == "leaderboard_groups" else "co2_g"
        one, other = db.rows(f"select {column} as grams from {view}")
        assert one == other, view
    epochs = "select epoch, co2_g, total_co2_g, intensity_g_per_kwh from epochs where run_id = ? order by epoch"
    assert db.rows(epochs, [A]) == db.rows(epochs, [B])
    curves = "select epoch, co2_g from recipe_epochs where recipe_key = (select run_key from runs where run_id = ?)"
    assert db.rows(f"{curves} order by epoch", [A]) == db.rows(f"{curves} order by epoch", [B])
    assert len(db.rows("select distinct co2_g from energy_to_accuracy(0.9)")) == 1
    assert [row["intensity_status"] for row in db.rows("from leaderboard order by run_id")] == ["actual", "assumed"]


def test_of_unknown_joules_the_grams_are_unknown(db: Store) -> None:
    db.write(watched(series(100.0, 400.0), life(A, [100.0, None, 100.0])))
    rows = db.rows("select co2_g, total_co2_g from epochs order by epoch")
    assert [row["co2_g"] for row in rows] == [None, pytest.approx(kwh(100.0) * 100)]
    assert [row["total_co2_g"] for row in rows] == [None, None]
    assert db.rows("select co2_g from leaderboard") == [{"co2_g": None}]


def test_the_pue_multiplies_them(db: Store) -> None:
    intensity = replace(WORLD, pue=1.5)
    records = life(A, [100.0, 100.0], intensity=intensity)
    db.write(Watch(Known(series(100.0)), intensity, epoch_phases=EPOCH_PHASES).fill(records))  # type: ignore[arg-type]
    assert db.rows("select co2_g from leaderboard") == [{"co2_g": kwh(200.0) * 1.5 * 100}]


# Where nobody knows


def test_in_a_gap_the_factor_counts_for_the_gap_alone_and_that_is_said_once(db: Store) -> None:
    ten = timedelta(seconds=10)
    rows = watched(series(100.0, None, None, 400.0, every=ten), life(A, [100.0, 200.0, 300.0, 400.0]))
    db.write(rows)
    assert [row.g_per_kwh for row in rows if isinstance(row, Phase)] == [100.0, None, None, 400.0]
    assert [row.g_per_kwh for row in rows if isinstance(row, Epoch)] == [None, None, 400.0]
    by_hand = kwh(100 * 100 + 200 * FACTOR + 300 * FACTOR + 400 * 400)
    [row] = db.rows("from leaderboard")
    assert (row["co2_g"], row["intensity_status"]) == (pytest.approx(by_hand, rel=1e-12), "assumed")
    totals = [row["total_co2_g"] for row in db.rows("from epochs order by epoch")]
    assert totals == pytest.approx([kwh(100 * 100 + 200 * FACTOR), kwh(100 * 100 + 500 * FACTOR), by_hand], rel=1e-12)
    [fallback] = db.rows("from decisions")
    assert (fallback["what"], fallback["g_per_kwh"], fallback["intensity_status"]) == ("fallback", FACTOR, "assumed")
    assert fallback["decided_at"] == STARTED_AT + ten
    assert fallback["why"] == "de.csv says nothing of 2026-03-01 12:00 UTC: 475 g/kWh counts there, world"


def test_a_phase_half_in_a_gap_is_not_known() -> None:
    phase, fallback = watched(series(100.0, every=timedelta(seconds=5)), [make_phase(A, 0)])
    assert (phase.g_per_kwh, fallback.what) == (None, "fallback")


def test_a_trace_that_knows_nothing_leaves_a_run_as_it_was(db: Store) -> None:
    records = life(A, [100.0, 100.0])
    rows = watched(Series(steps=(), provider="trace", source="de.csv"), records)
    assert [row for row in rows if not isinstance(row, Decision)] == records
    db.write(rows)
    assert db.rows("select co2_g from leaderboard") == [{"co2_g": kwh(200.0) * FACTOR}]


def test_a_service_that_is_away_ends_no_training() -> None:
    rows = watched(Service(series(), is_away=True), life(A, [100.0, 100.0]))
    assert [row.why for row in rows if isinstance(row, Decision)] == [
        "the service does not answer: 475 g/kWh counts there, world"
    ]


def test_marginal_figures_account_for_nothing() -> None:
    with pytest.raises(UsageError, match="marginal"):
        watched(series(100.0, kind="marginal"), life(A, [100.0]))


# Live services


def test_what_is_published_late_holds_on_as_an_estimate() -> None:
    """Noon to 12:01 is known, and asked for at most every minute; what was published since is heard of then."""
    service = Service(series(100.0, 200.0))
    rows = watched(service, [make_phase(A, seq) for seq in range(24)], is_live=True)
    first, second = [(100.0, "actual")] + [(100.0, "estimated")] * 5, [(200.0, "actual")] + [(200.0, "estimated")] * 17
    assert [(row.g_per_kwh, row.intensity_status) for row in rows] == first + second
    assert len(service.asked) == 4


def test_what_was_published_long_ago_says_nothing_of_now() -> None:
    service = Service(series(100.0, start=STARTED_AT - timedelta(hours=4)))
    phase, fallback = watched(service, [make_phase(A, 0)], is_live=True)
    assert (phase.g_per_kwh, fallback.what) == (None, "fallback")


def test_a_forecast_that_holds_on_is_still_a_forecast() -> None:
    service = Service(series(100.0, start=STARTED_AT - MINUTE, status="forecast"))
    [phase] = watched(service, [make_phase(A, 0)], is_live=True)
    assert (phase.g_per_kwh, phase.intensity_status) == (100.0, "forecast")


def test_a_trace_is_asked_for_a_day_at_a_time() -> None:
    service = Service(series(*[100.0] * 60))
    watched(service, [make_phase(A, seq) for seq in range(300)])
    assert len(service.asked) == 1


# Lives


def test_a_resumed_run_counts_every_attempt_at_its_own_time(db: Store) -> None:
    """Epoch 2 was begun at 100 and done again at 400 g/kWh, an hour later; both attempts are its grams."""
    hour = timedelta(hours=1)
    trace = Series(
        steps=(*regular(STARTED_AT, hour, [100.0]), *regular(STARTED_AT + hour, hour, [400.0])),
        provider="trace",
        source="de.csv",
    )
    later = {"segment": 1, "started_at": STARTED_AT + hour, "ended_at": STARTED_AT + hour + timedelta(seconds=10)}
    db.write(
        watched(
            trace,
            [
                make_run(A),
                make_phase(A, 0, epoch=1),
                make_epoch(A, 1),
                make_phase(A, 1, epoch=2),
                make_end(A, status="interrupted"),
            ],
        )
    )
    again = [
        make_resume(A),
        make_phase(A, 0, epoch=2, **later),
        make_epoch(A, 2, segment=1, energy_total_j=300.0),
        make_end(A),
    ]
    db.write(watched(trace, again, before={A: (200.0, 100.0)}))
    rows = db.rows("select epoch, co2_g, total_co2_g, g_per_kwh from epochs order by epoch")
    assert [row["co2_g"] for row in rows] == pytest.approx([kwh(100 * 100), kwh(100 * 100 + 100 * 400)], rel=1e-12)
    assert rows[1]["total_co2_g"] == pytest.approx(kwh(200 * 100 + 100 * 400), rel=1e-12)
    assert db.rows("select co2_g from leaderboard") == [{"co2_g": pytest.approx(kwh(60_000.0), rel=1e-12)}]


def test_a_budget_reckons_with_the_intensity_of_the_moment() -> None:
    watch = Watch(Known(series(100.0, 400.0, every=timedelta(seconds=10))), WORLD, before={A: (50.0, 200.0)})
    assert watch.grams(50.0) == pytest.approx(kwh(50 * 200))
    list(watch.fill([make_phase(A, 0)]))
    assert watch.grams(160.0) == pytest.approx(kwh(50 * 200 + 100 * 100 + 10 * 100))
    list(watch.fill([make_phase(A, 1)]))
    assert watch.grams(260.0) == pytest.approx(kwh(50 * 200 + 100 * 100 + 100 * 400 + 10 * 400))


@given(st.lists(st.tuples(st.floats(0, 1e6), st.none() | st.floats(1, 1000)), max_size=10))
def test_the_mean_times_the_joules_is_the_sum_of_the_products(parts: list[tuple[float, float | None]]) -> None:
    phases = [make_phase(A, i, cpu_j=joules, ram_j=0.0, g_per_kwh=g) for i, (joules, g) in enumerate(parts)]
    mean = mean_of(phases, FACTOR)
    by_hand = math.fsum(joules * (FACTOR if g is None else g) for joules, g in parts)
    assert mean.grams(1.0) == pytest.approx(kwh(by_hand), rel=1e-9, abs=1e-12)


def test_two_hours_cost_what_they_did_in_every_comparison(db: Store) -> None:
    """The same joules by night and by day: half the grams, another intensity, and no better ratio of energy."""
    db.write(watched(series(200.0), life(A, [0.0, 1e5])))
    db.write(watched(series(400.0), life(B, [0.0, 1e5])))
    grams = {row["run_id"]: row["co2_g"] for row in db.rows("from leaderboard")}
    assert grams[B] == 2 * grams[A]
    site = {row["run_id"]: row["site_g_per_kwh"] for row in db.rows("from contestants")}
    assert site == {A: 200.0, B: 400.0}
    record(db, C, [0.9], [1e5])
    assert {row["run_id"]: row["site_g_per_kwh"] for row in db.rows("from contestants")}[C] == FACTOR
