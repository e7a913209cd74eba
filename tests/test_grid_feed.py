"""Sources in an order: each fills what those before it lack, and every fallback is told once."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from test_grid_series import HOUR, NOON, series

from greenml import grid
from greenml.grid import feed as feeds
from greenml.grid.feed import Feed, Known, Learned, Live, Remembered
from greenml.grid.live import RefusedError, Site, UnavailableError


class Service:
    """Answers what it is given; where that is an error, by it."""

    name, title, kind, factors, step = "service", "A service", "average", "lifecycle", HOUR

    def __init__(self, *, current=None, forecast=None, history=None):
        self.current = lambda site, now: _given(current)
        self.forecast = lambda site, now, hours: _given(forecast)
        self.history = lambda site, start, end, now: _given(history)


def _given(answer):
    if isinstance(answer, Exception):
        raise answer
    return answer


DOWN = UnavailableError("service: no network", hint="try again")


def live(**answers):
    return Live(Service(**answers), Site(), now=lambda: NOON)


def values(found):
    return [step.g_per_kwh for step in found.steps]


def test_the_first_source_that_knows_all_is_asked_alone():
    feed = Feed([Known(series(1.0, 2.0)), live(current=AssertionError(), history=AssertionError())])

    assert values(feed.ahead(NOON, NOON + 2 * HOUR)) == [1.0, 2.0]
    assert values(feed.past(NOON, NOON + HOUR)) == [1.0]
    assert not list(feed.fallbacks())


def test_each_source_fills_what_those_before_it_lack_and_says_so_once():
    feed = Feed([live(current=series(1.0), forecast=DOWN), Known(series(7.0, 8.0, 9.0))])

    for _ in range(2):
        assert values(feed.ahead(NOON, NOON + 3 * HOUR)) == [1.0, 8.0, 9.0]
    [fallback] = feed.fallbacks()
    assert (fallback.source, fallback.why, fallback.instead) == ("service", "does not know all of that time", "test")
    assert not list(feed.fallbacks())


def test_a_service_that_is_down_is_told_by_its_own_words():
    feed = Feed([live(current=DOWN), feeds.yearly(grid.resolve("FR"))])

    assert feed.at(NOON).g_per_kwh == grid.resolve("FR").g_per_kwh
    assert feed.at(NOON).status == "assumed"
    [fallback] = feed.fallbacks()
    assert (fallback.why, fallback.instead) == ("service: no network", "annual")


def test_a_service_without_forecasts_still_says_what_holds_now():
    refused = RefusedError("service: its plan has no forecasts", hint="another plan has")
    feed = Feed([live(current=series(1.0), forecast=refused)])

    assert feed.at(NOON).g_per_kwh == 1.0


def test_marginal_figures_may_steer_and_never_account():
    marginal = Known(series(900.0, 100.0, kind="marginal"))
    feed = Feed([marginal, Known(series(5.0, 6.0, 7.0))])

    assert feed.ahead(NOON, NOON + 2 * HOUR).kind == "marginal"
    assert values(feed.past(NOON, NOON + 2 * HOUR)) == [5.0, 6.0]
    # Nor are they mixed where the first source knows a part alone.
    assert values(feed.ahead(NOON, NOON + 3 * HOUR)) == [900.0, 100.0]


def test_what_was_heard_is_handed_on_to_be_remembered():
    heard = []
    Feed([live(history=series(1.0))], hear=heard.append).past(NOON, NOON + HOUR)

    assert [values(each) for each in heard] == [[1.0]]


def test_what_nobody_knows_is_a_gap():
    feed = Feed([live(history=DOWN, current=DOWN)])

    assert feed.past(NOON, NOON + HOUR).mean(NOON, NOON + HOUR) is None
    assert feed.at(NOON) is None


def test_the_learned_forecast_steers_and_accounts_for_nothing():
    days = series(*[100.0 + (i % 24) * 10 for i in range(24 * 21)], start=NOON - timedelta(days=21))
    learned = Learned(lambda since: days.between(since, NOON), now=lambda: NOON, time_zone="UTC")

    ahead = Feed([learned]).ahead(NOON, NOON + 24 * HOUR)
    assert ahead.covers(NOON, NOON + 24 * HOUR)
    assert (ahead.status, ahead.provider) == ("modelled", "learned")
    assert not Feed([learned]).past(NOON - HOUR, NOON).steps


def test_less_than_a_day_of_history_teaches_nothing():
    learned = Learned(lambda since: series(1.0), now=lambda: NOON, time_zone=None)
    feed = Feed([learned, Known(series(5.0))])

    assert feed.at(NOON).g_per_kwh == 5.0
    assert "less than a day" in next(feed.fallbacks()).why


def test_what_the_store_remembers_is_past():
    feed = Feed([Remembered(lambda since: series(1.0, 2.0))])

    assert values(feed.past(NOON, NOON + HOUR)) == [1.0]
    assert feed.at(NOON) is None


@pytest.mark.parametrize("moment", [datetime(1, 1, 1), datetime(2026, 7, 1), datetime(9999, 12, 30)])
def test_a_yearly_factor_holds_at_any_time(moment):
    known = feeds.yearly(grid.resolve("SE"))

    assert known.ahead(moment, moment + HOUR).mean(moment, moment + HOUR) == grid.resolve("SE").g_per_kwh
    assert not known.past(moment, moment + HOUR).steps
