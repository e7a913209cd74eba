"""When a run may train, on a clock that only these tests move."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from test_grid_series import HOUR, NOON, series

from greenml.grid import policy as policies
from greenml.grid.feed import Feed, Known
from greenml.grid.planner import Level, Need, Planner, Rules

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


class Clock:
    """Stands still but for what is slept."""

    def __init__(self, at=NOON):
        self.at = at

    def now(self):
        return self.at

    def sleep(self, seconds):
        self.at += timedelta(seconds=max(seconds, 60.0))


def planner(known, clock=None, *, need=None, how=None, **rules):
    defaults = {"deadline": NOON + DAY, "idle_w": 0.0}
    need = need or Need(remaining=2 * HOUR, active_w=100.0, restart_s=0.0)
    feed = Feed([known if hasattr(known, "past") else Known(known)])
    return Planner(
        Rules(**{**defaults, **rules}), feed, run_id="a", clock=clock or Clock(), need=lambda: need, **(how or {})
    )


def lived(one, clock, *, until):
    """The hours in which it trained, and what it decided; the time passes by the clock's sleep, or a minute a look."""
    trained = set()
    while clock.at < until:
        if one.holds():
            one.rest()
        else:
            trained.add((clock.at - NOON) // HOUR)
            clock.at += MINUTE
    return sorted(trained), [(decision.what, decision.decided_at) for decision in one.decisions()]


def test_it_waits_for_the_cleanest_window_and_says_what_that_saves():
    clock = Clock()
    one = planner(series(300.0, 300.0, 300.0, 100.0, 100.0, 300.0, 300.0, 300.0), clock, when_green=True)

    assert one.holds()
    [wait] = one.decisions()
    assert (wait.what, wait.until_at, wait.expected_g_per_kwh) == ("wait", NOON + 3 * HOUR, 100.0)
    assert wait.saved_g == pytest.approx(0.1 * 2 * 200.0)  # 100 W for 2 h, at 200 g/kWh less
    assert (wait.saved_share, wait.saved_source, wait.status) == (pytest.approx(2 / 3), "forecast", "waiting")
    while one.holds():
        one.rest()
    assert clock.at == NOON + 3 * HOUR
    [start] = one.decisions()
    assert (start.what, start.status, start.g_per_kwh) == ("start", "running", 100.0)


def test_it_waits_no_longer_than_the_deadline_allows():
    one = planner(series(*[300.0] * 20, 1.0, 1.0), when_green=True, deadline=NOON + 3 * HOUR)

    assert not one.holds()


def test_a_run_that_already_is_in_its_best_window_starts_at_once_and_stays_in_it():
    clock = Clock()
    one = planner(series(100.0, 100.0, 300.0, 50.0, 300.0), clock, when_green=True, deadline=NOON + 4 * HOUR)

    assert not one.holds()
    clock.at += 30 * MINUTE
    assert not one.holds()


@pytest.mark.parametrize(("idle_w", "waits"), [(0.0, True), (10.0, False)])
def test_at_a_tenth_of_its_power_when_idle_waiting_does_not_pay_and_at_none_it_does(idle_w, waits):
    day = series(*[300.0] * 10, 210.0, 210.0, *[300.0] * 12)
    one = planner(day, when_green=True, idle_w=idle_w)

    assert one.holds() is waits
    [decision] = one.decisions()
    assert decision.what == ("wait" if waits else "decline")
    if not waits:
        assert "draws 10% of the run's power" in decision.why
        assert decision.saved_g < 0


def test_a_machine_whose_idle_power_nobody_measured_is_held_to_draw_a_tenth():
    one = planner(series(*[300.0] * 10, 210.0, 210.0), when_green=True, idle_w=None)

    assert not one.holds()
    assert "(assumed)" in next(one.decisions()).why


def test_without_a_forecast_of_its_time_it_starts_and_is_planned_when_that_is_known():
    needs = [Need(remaining=None), Need(remaining=2 * HOUR, active_w=100.0)]
    clock = Clock()
    one = planner(series(300.0, 300.0, 100.0, 100.0, 300.0), clock, when_green=True, deadline=NOON + 5 * HOUR)
    one.need = lambda: needs[0]

    assert not one.holds()
    assert "not known yet" in next(one.decisions()).why
    needs.pop(0)
    clock.at += 5 * MINUTE
    assert one.holds()
    [pause] = one.decisions()
    assert (pause.what, pause.until_at) == ("pause", NOON + 2 * HOUR)


@pytest.mark.parametrize(("idle_w", "waits"), [(None, False), (10.0, False), (0.0, True)])
def test_without_a_forecast_of_its_time_it_pauses_only_where_idling_is_free(idle_w, waits):
    clock = Clock()
    rules = {"pause_above": Level(value=400.0), "resume_below": Level(value=350.0), "idle_w": idle_w}
    one = planner(series(*[500.0] * 5, 300.0), clock, need=Need(remaining=None), **rules)

    assert one.holds() is waits
    [decision] = one.decisions()
    assert (decision.what, "after the first epoch" in decision.why) == (("wait", False) if waits else ("start", True))
    clock.at += HOUR
    assert one.holds() is waits
    assert not list(one.decisions())
    one.need = lambda: Need(remaining=HOUR, active_w=100.0, restart_s=0.0)
    clock.at += HOUR
    assert one.holds()


def test_the_simple_policy_waits_below_its_limit_and_so_long_at_most():
    clock = Clock()
    trained, decisions = lived(
        planner(series(400.0, 250.0, 400.0), clock, max_intensity=300.0, max_wait=2 * HOUR), clock,
        until=NOON + 3 * HOUR,
    )  # fmt: skip
    assert trained == [1, 2]
    assert decisions == [("wait", NOON), ("start", NOON + HOUR)]

    clock = Clock()
    trained, _ = lived(
        planner(series(400.0, 400.0, 250.0), clock, max_intensity=300.0, max_wait=HOUR), clock, until=NOON + 3 * HOUR
    )
    assert trained == [1, 2]


def test_it_pauses_above_and_goes_on_below_with_hysteresis():
    clock = Clock()
    hours = series(300.0, 500.0, 380.0, 300.0, 380.0, 500.0, 300.0, 300.0)
    rules = {"pause_above": Level(value=400.0), "resume_below": Level(value=350.0)}
    one = planner(hours, clock, need=Need(remaining=3 * HOUR, active_w=100.0, restart_s=1.0), **rules)

    trained, decisions = lived(one, clock, until=NOON + 8 * HOUR)

    assert trained == [0, 3, 4, 6, 7]
    assert [what for what, _ in decisions] == ["pause", "resume", "pause", "resume"]


def test_a_wait_for_another_rule_is_no_pause_that_has_to_last():
    clock = Clock()
    one = planner(
        series(500.0, 200.0, every=MINUTE),
        clock,
        max_intensity=300.0,
        check_interval=MINUTE,
        pause_above=Level(value=400.0),
        resume_below=Level(value=350.0),
    )
    assert one.holds()
    clock.at += MINUTE

    assert not one.holds()


def test_a_pause_that_would_not_pay_is_declined_once_and_says_why():
    clock = Clock()
    rules = {"pause_above": Level(value=400.0), "resume_below": Level(value=350.0), "idle_w": 90.0}
    one = planner(series(300.0, *[410.0] * 9, 300.0, 300.0), clock, **rules)

    trained, decisions = lived(one, clock, until=NOON + 6 * HOUR)

    assert trained == list(range(6))
    assert [what for what, _ in decisions] == ["decline"]


def test_the_deadline_ends_a_pause_that_would_go_on():
    clock = Clock()
    rules = {"pause_above": Level(value=400.0), "resume_below": Level(value=350.0), "deadline": NOON + 5 * HOUR}
    one = planner(series(500.0, 500.0, 500.0, 420.0, 420.0), clock, **rules)

    trained, decisions = lived(one, clock, until=NOON + 5 * HOUR)

    assert trained == [3, 4]  # two hours are left to do
    assert [what for what, _ in decisions] == ["wait", "deadline", "start"]


@pytest.mark.parametrize(
    ("hours", "deadline", "why"),
    [
        (4, 2, "what is left takes 4:00:00, and the deadline is in 2:00:00: no waiting"),
        (4, -1, "what is left takes 4:00:00, and the deadline was 1:00:00 ago: no waiting"),
        (None, -1, "the deadline was 1:00:00 ago: no waiting"),
        (2, 2, "what is left to do only just fits before the deadline: no more waiting"),
    ],
)
def test_what_does_not_fit_before_the_deadline_is_told_once(hours, deadline, why):
    clock = Clock()
    need = Need(remaining=None if hours is None else hours * HOUR)
    one = planner(series(*[500.0] * 9), clock, need=need, when_green=True, deadline=NOON + deadline * HOUR)

    assert not one.holds()
    clock.at += HOUR
    assert not one.holds()
    assert [(decision.what, decision.why) for decision in one.decisions()] == [("deadline", why)]


def test_percentiles_of_the_last_week_are_levels():
    known = series(*[100.0 + i % 24 for i in range(24 * 10)], start=NOON - 8 * DAY)
    rules = {
        "pause_above": Level(value=75, is_percentile=True),
        "resume_below": Level(value=40, is_percentile=True),
        "deadline": NOON + 2 * DAY,
    }
    clock = Clock()
    trained, decisions = lived(planner(known, clock, **rules), clock, until=NOON + DAY - 2 * HOUR)

    assert decisions
    assert decisions[0][0] == "pause"
    assert 18 not in trained  # of 24 hours that rise by one a quarter lies above 117


def test_a_clock_that_is_set_back_makes_it_look_again():
    clock = Clock()
    one = planner(series(100.0, 300.0, start=NOON - HOUR), clock, max_intensity=200.0, deadline=NOON + DAY)
    assert one.holds()

    clock.at = NOON - HOUR + MINUTE

    assert not one.holds()


def test_a_clock_that_is_set_back_makes_it_wait_no_longer_than_it_may():
    clock = Clock()
    one = planner(series(*[400.0] * 24, start=NOON - 12 * HOUR), clock, max_intensity=300.0, max_wait=HOUR)
    for _ in range(11):
        assert one.holds()
        clock.at += MINUTE
    clock.at -= 5 * HOUR + MINUTE

    assert one.holds()
    assert one.progress() == (600.0, 3600.0)
    clock.at += 50 * MINUTE
    assert not one.holds()
    assert [decision.why for decision in one.decisions()][-1].endswith("after 1:00:00")


def test_a_clock_that_is_set_back_makes_no_pause_longer():
    clock = Clock()
    rules = {"pause_above": Level(value=400.0), "resume_below": Level(value=350.0), "min_dwell": HOUR}
    one = planner(series(*[300.0] * 12, 500.0, 300.0, 300.0, start=NOON - 12 * HOUR), clock, **rules)
    assert one.holds()
    clock.at += 10 * MINUTE
    assert one.holds()
    clock.at -= 5 * HOUR

    assert one.holds()
    clock.at += 61 * MINUTE
    assert not one.holds()


def test_a_clock_that_is_set_forward_ends_the_wait():
    clock = Clock()
    one = planner(series(300.0, 300.0, 100.0, 100.0), clock, when_green=True, deadline=NOON + 4 * HOUR)
    assert one.holds()

    clock.at = NOON + 2 * HOUR + MINUTE

    assert not one.holds()


def test_nothing_left_to_do_is_nothing_to_wait_for():
    one = planner(series(300.0, 300.0, 100.0), when_green=True, need=Need(remaining=timedelta(0), active_w=100.0))

    assert not one.holds()


def test_grams_that_are_saved_are_those_of_the_site():
    one = planner(series(300.0, 300.0, 100.0, 100.0), when_green=True, how={"pue": 1.5})

    assert one.holds()
    assert next(one.decisions()).saved_g == pytest.approx(1.5 * 0.1 * 2 * 200.0)


def test_a_run_that_is_taken_up_again_has_waited_before():
    for how, waits in (({}, True), ({"asked_at": NOON - 2 * HOUR}, False), ({"has_started": True}, False)):
        one = planner(series(*[400.0] * 9), max_intensity=300.0, max_wait=HOUR, how=how)
        assert one.holds() is waits


def test_a_grid_that_takes_long_to_tell_is_asked_less_and_less():
    asked = []

    class Slow(Known):
        def ahead(self, start, end):
            asked.append(clock.at)
            clock.at += timedelta(seconds=20)
            return super().ahead(start, end)

    clock = Clock()
    one = planner(Slow(series(*[200.0] * 30)), clock, max_intensity=300.0)
    while clock.at < NOON + 6 * HOUR:
        one.holds()
        clock.at += MINUTE

    between = [later - earlier for earlier, later in pairwise(asked)]
    assert between[0] < between[1] < between[2]
    assert between[-1] >= HOUR


def test_marginal_figures_steer_and_save_no_grams():
    one = planner(series(300.0, 300.0, 100.0, 100.0, kind="marginal"), when_green=True, deadline=NOON + 4 * HOUR)

    assert one.holds()
    [wait] = one.decisions()
    assert (wait.saved_g, wait.saved_share) == (None, pytest.approx(2 / 3))


def test_where_nobody_knows_anything_it_starts_and_says_so():
    for rules in ({"when_green": True}, {"max_intensity": 200.0}):
        one = planner(series(), **rules)
        assert not one.holds()
        assert [decision.what for decision in one.decisions()] == ["fallback", "start"]


def test_a_policy_holds_a_run_up_and_lets_it_go(tmp_path):
    rules = policies.validate({"never_above": 200}, file="policy.yaml", name="ours")
    clock = Clock()
    one = planner(series(300.0, 100.0, 300.0, 100.0), clock, policy=rules)

    trained, decisions = lived(one, clock, until=NOON + 4 * HOUR)

    assert trained == [1, 3]
    assert [what for what, _ in decisions] == ["wait", "start", "pause", "resume"]


def test_it_asks_the_grid_no_more_often_than_its_interval():
    class Counted(Known):
        times = 0

        def ahead(self, start, end):
            Counted.times += 1
            return super().ahead(start, end)

    clock = Clock()
    one = planner(Counted(series(*[300.0] * 30)), clock, max_intensity=400.0, check_interval=10 * MINUTE)
    for _ in range(1000):
        one.holds()
    assert Counted.times == 1
    clock.at = datetime(2026, 3, 1, 12, 10)
    one.holds()
    assert Counted.times == 2
