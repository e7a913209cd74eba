"""Intensity as a step function: gaps stay gaps, means are weighted by time, constants are exact."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenml.grid.series import Series, Step, regular, utc, worst

NOON = datetime(2026, 3, 1, 12)
HOUR = timedelta(hours=1)


def series(*values, every=HOUR, start=NOON, **facts):
    return Series(steps=tuple(regular(start, every, values)), provider="test", source="a test", **facts)


def test_a_step_holds_from_its_start_until_before_its_end():
    known = series(100.0, None, 300.0)

    assert known.at(NOON).g_per_kwh == 100.0
    assert known.at(NOON + HOUR) is None
    assert known.at(NOON + 2 * HOUR).g_per_kwh == 300.0
    assert known.at(NOON + 3 * HOUR) is None
    assert known.at(NOON - timedelta(microseconds=1)) is None


def test_a_mean_is_weighted_by_time():
    known = series(100.0, 400.0)

    assert known.mean(NOON + 0.5 * HOUR, NOON + 1.25 * HOUR) == (0.5 * 100.0 + 0.25 * 400.0) / 0.75
    assert known.mean(NOON, NOON) == 100.0


def test_a_mean_over_a_gap_is_unknown():
    known = series(100.0, None, 300.0)

    assert known.mean(NOON, NOON + 3 * HOUR) is None
    assert known.gaps(NOON - HOUR, NOON + 4 * HOUR) == [
        (NOON - HOUR, NOON), (NOON + HOUR, NOON + 2 * HOUR), (NOON + 3 * HOUR, NOON + 4 * HOUR),
    ]  # fmt: skip
    assert known.covers(NOON, NOON + HOUR)


@given(st.floats(1e-3, 2e3), st.integers(1, 50), st.integers(0, 49), st.integers(1, 10**9))
def test_what_is_constant_stays_so_to_the_last_bit(g_per_kwh, number, first, microseconds):
    known = series(*[g_per_kwh] * (number + 1))
    start = NOON + min(first, number - 1) * HOUR

    assert known.mean(start, start + timedelta(microseconds=microseconds) % HOUR) == g_per_kwh


@given(st.lists(st.none() | st.floats(0, 1000), max_size=20), st.lists(st.none() | st.floats(0, 1000), max_size=20))
def test_a_filled_series_keeps_its_own_and_takes_the_others_where_it_has_none(own, others):
    both = series(*own).filled(series(*others, start=NOON - 5 * HOUR))

    for i in range(-6, 21):
        moment = NOON + i * HOUR
        expected = series(*own).at(moment) or series(*others, start=NOON - 5 * HOUR).at(moment)
        assert (both.at(moment) and both.at(moment).g_per_kwh) == (expected and expected.g_per_kwh)


def test_kinds_are_never_mixed():
    with pytest.raises(ValueError, match="average and marginal"):
        series(1.0).filled(series(2.0, kind="marginal"))


def test_what_overlaps_or_runs_backwards_is_no_series():
    with pytest.raises(ValueError, match="overlap"):
        Series(steps=(*regular(NOON, HOUR, [1.0]), *regular(NOON, HOUR, [1.0])), provider="test", source="a test")
    with pytest.raises(ValueError, match="ends before"):
        Series(steps=(Step(start=NOON, end=NOON, g_per_kwh=1.0),), provider="test", source="a test")


def test_a_series_is_as_good_as_its_worst_step():
    assert worst(["actual", "modelled", "forecast"]) == "modelled"
    assert worst([]) == "actual"


def test_moments_come_in_by_their_offset_or_not_at_all():
    assert utc(datetime(2026, 3, 1, 17, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))) == NOON
    assert utc(NOON.replace(tzinfo=UTC)) == NOON
    with pytest.raises(ValueError, match="no offset"):
        utc(NOON)
