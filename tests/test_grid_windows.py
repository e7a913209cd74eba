"""Choosing when: exact over continuous time, and never across what nobody knows."""

import math
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenml.grid import pieces, trace
from greenml.grid.series import Series, Step, regular
from greenml.grid.windows import (
    Load,
    Pausing,
    Window,
    best,
    best_interruptible,
    bill,
    first_below,
    level,
    saving,
    would_pay,
)

NOON = datetime(2026, 3, 1, 12)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
MICROSECOND = timedelta(microseconds=1)


def series(*values, every=HOUR, start=NOON):
    return Series(steps=tuple(regular(start, every, values)), provider="test", source="a test")


def by_the_minute(known, duration, earliest, deadline):
    """The lowest mean over starts on whole minutes after `earliest`, by brute force; None where no window is known.

    The intensity changes on whole minutes alone.
    """
    span, length = (deadline - earliest) // MINUTE, duration / MINUTE
    values, is_known = np.zeros(span), np.zeros(span)
    for step in known.between(earliest, deadline).steps:
        within = slice((step.start - earliest) // MINUTE, (step.end - earliest) // MINUTE)
        values[within], is_known[within] = step.g_per_kwh, 1.0
    starts, edges = np.arange(span - math.ceil(length) + 1), np.arange(span + 1)
    sums, counts = (np.concatenate([[0.0], np.cumsum(column)]) for column in (values, is_known))
    over, known_for = (
        np.interp(starts + length, edges, column) - np.interp(starts, edges, column) for column in (sums, counts)
    )
    means = over[known_for > length - 1e-9] / length
    return means.min() if means.size else None


def test_the_best_window_lies_where_it_is_clean():
    known = series(400, 300, 100, 100, 300, 400)

    found = best(known, duration=2 * HOUR, earliest=NOON, deadline=NOON + 6 * HOUR)

    assert found == Window(NOON + 2 * HOUR, NOON + 4 * HOUR, 100.0)


def test_it_may_start_between_the_hours():
    known = series(400, 100, 100, 300, 400)

    found = best(known, duration=2.5 * HOUR, earliest=NOON, deadline=NOON + 5 * HOUR)

    assert found == Window(NOON + HOUR, NOON + 3.5 * HOUR, (2 * 100 + 0.5 * 300) / 2.5)
    found = best(series(400, 300, 100, 100, 500), duration=2.5 * HOUR, earliest=NOON, deadline=NOON + 5 * HOUR)
    assert found.start == NOON + 1.5 * HOUR


def test_of_equals_the_earliest_wins_and_noise_is_no_reason_to_wait():
    assert best(series(7, 7, 7), duration=HOUR, earliest=NOON, deadline=NOON + 3 * HOUR).start == NOON
    assert best(series(0.1 + 0.2, 0.3), duration=HOUR, earliest=NOON, deadline=NOON + 2 * HOUR).start == NOON
    assert best(series(0, 0), duration=HOUR, earliest=NOON, deadline=NOON + 2 * HOUR).start == NOON


@pytest.mark.parametrize("number", [1, 3, 7])
def test_a_constant_comes_back_to_the_last_bit(number):
    known = series(*[0.1] * 9)

    assert best(known, duration=number * HOUR / 3, earliest=NOON, deadline=NOON + 9 * HOUR).g_per_kwh == 0.1


def test_no_window_reaches_over_a_gap_or_past_what_is_known():
    known = series(100, None, 50, 300)

    assert best(known, duration=2 * HOUR, earliest=NOON, deadline=NOON + 9 * HOUR).start == NOON + 2 * HOUR
    assert best(known, duration=3 * HOUR, earliest=NOON, deadline=NOON + 9 * HOUR) is None
    assert best(known, duration=HOUR, earliest=NOON - HOUR, deadline=NOON + HOUR).start == NOON
    assert best(series(), duration=HOUR, earliest=NOON, deadline=NOON + 9 * HOUR) is None


def test_a_job_that_ends_at_the_deadline_fits_and_a_longer_one_does_not():
    known = series(1, 2)

    assert best(known, duration=2 * HOUR, earliest=NOON, deadline=NOON + 2 * HOUR) == Window(NOON, NOON + 2 * HOUR, 1.5)
    assert best(known, duration=2 * HOUR + MICROSECOND, earliest=NOON, deadline=NOON + 2 * HOUR) is None
    assert best(known, duration=HOUR, earliest=NOON + HOUR, deadline=NOON) is None


def test_what_takes_no_time_has_no_window():
    with pytest.raises(ValueError, match="longer than"):
        best(series(1), duration=timedelta(0), earliest=NOON, deadline=NOON + HOUR)


VALUES = st.lists(st.none() | st.integers(0, 900), min_size=1, max_size=30)
LENGTHS = st.integers(1, 600).map(lambda minutes: minutes * MINUTE)


@given(VALUES, LENGTHS, LENGTHS, st.integers(0, 300), st.integers(1, 90))
def test_on_whole_minutes_it_has_brute_forces_value(values, duration, span, late, every):
    known, earliest = series(*values, every=every * MINUTE), NOON + late * MINUTE

    found = best(known, duration=duration, earliest=earliest, deadline=earliest + span)
    expected = by_the_minute(known, duration, earliest, earliest + span)

    assert (found and found.g_per_kwh) == (expected and pytest.approx(expected, rel=1e-12))


@given(st.lists(st.tuples(st.integers(1, 10**10), st.none() | st.floats(0, 1e3)), min_size=1), st.data())
def test_between_minutes_no_other_start_is_better(lasting, data):
    """Steps of any length in microseconds, and any start that fits."""
    steps, at = [], NOON
    for microseconds, value in lasting:
        end = at + microseconds * MICROSECOND
        steps += [Step(start=at, end=end, g_per_kwh=value)] if value is not None else []
        at = end
    known = Series(steps=tuple(steps), provider="test", source="a test")
    duration = data.draw(st.integers(1, (at - NOON) // MICROSECOND)) * MICROSECOND
    found = best(known, duration=duration, earliest=NOON, deadline=at)
    start = NOON + data.draw(st.integers(0, (at - NOON - duration) // MICROSECOND)) * MICROSECOND

    if (other := known.mean(start, start + duration)) is not None:
        assert found.g_per_kwh <= other * (1 + 2e-9)
    if found:
        assert found.g_per_kwh == pytest.approx(known.mean(found.start, found.end), rel=1e-12)


@given(VALUES, LENGTHS, LENGTHS, st.integers(1, 1000))
def test_what_is_added_to_every_hour_changes_nothing_of_the_choice(values, duration, span, more):
    spans = {"duration": duration, "earliest": NOON, "deadline": NOON + span}
    one = best(series(*values), **spans)
    other = best(series(*[None if value is None else value + more for value in values]), **spans)

    assert (one and one.start) == (other and other.start)


@given(VALUES, LENGTHS, LENGTHS, LENGTHS)
def test_a_later_deadline_is_never_worse(values, duration, span, more):
    sooner = best(series(*values), duration=duration, earliest=NOON, deadline=NOON + span)
    later = best(series(*values), duration=duration, earliest=NOON, deadline=NOON + span + more)

    assert sooner is None or later.g_per_kwh <= sooner.g_per_kwh


ZONES = ("Europe/Berlin", "Europe/London", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata")
"""Lord Howe's clocks change by half an hour; Kolkata's never do, and are half an hour off."""
CHANGES = [(3, 28), (10, 24), (3, 7), (10, 31), (4, 4), (10, 3), (6, 1)]
"""Days before clocks change somewhere, and one before which none do."""


def local_trace(chance, file):
    """A CSV in local time of up to three days, with gaps and steps of many lengths; whether clocks change in it."""
    zone, at = ZoneInfo(chance.choice(ZONES)), datetime(2026, *chance.choice(CHANGES), tzinfo=UTC)
    at += chance.randrange(24 * 60) * MINUTE
    every, rows = chance.choice([5, 15, 30, 60, 60, None]), ["start,g_per_kwh,end"]
    for _ in range(chance.randint(2, 72 * 60 // (every or 60))):
        end = at + (every or chance.randint(1, 180)) * MINUTE
        value = "" if rows[1:] and chance.random() < 0.02 else f"{chance.uniform(20, 800):.1f}"
        rows.append(f"{at.astimezone(zone).isoformat()},{value},{end.astimezone(zone).isoformat()}")
        at = end
    file.write_text("\n".join(rows))
    return trace.read(file), len({row[-6:] for row in rows[1:]}) > 1


def test_on_a_thousand_traces_brute_force_by_the_minute_finds_nothing_better(tmp_path):
    """Where all lies on whole minutes, it has exactly that value; half of the jobs last odd seconds."""
    chance, seen = random.Random(8), Counter()
    for _ in range(1000):
        known, is_change = local_trace(chance, tmp_path / "trace.csv")
        minutes = (known.end - known.start) // MINUTE
        earliest = known.start + chance.randint(-60, minutes // 2) * MINUTE
        deadline = earliest + chance.randint(1, minutes + 60) * MINUTE
        odd_s = chance.choice([0, chance.uniform(-59, 59)])
        duration = chance.randint(1, minutes // 3 + 1) * MINUTE + timedelta(seconds=odd_s)
        found = best(known, duration=duration, earliest=earliest, deadline=deadline)
        expected = by_the_minute(known, duration, earliest, deadline)
        seen.update(change=is_change, none=found is None, gap=bool(known.gaps(known.start, known.end)))

        if found is None or expected is None:
            assert expected is None
            assert found is None or odd_s
            continue
        assert found.g_per_kwh <= expected * (1 + 1e-9)
        assert odd_s or found.g_per_kwh == pytest.approx(expected, rel=1e-9)
        assert earliest <= found.start
        assert found.end == found.start + duration <= deadline
        assert found.g_per_kwh == pytest.approx(known.mean(found.start, found.end), rel=1e-12)
        seen["better"] += found.g_per_kwh < expected * (1 - 1e-9)

    assert all(seen[what] > 100 for what in ("change", "none", "gap", "better")), seen


def by_all_subsets(values, number, load, *, cell, min_run, max_pauses):
    """The fewest grams of running in `number` of the cells, by trying all sets of them; None where none is known.

    `values` of each cell, None where unknown; `cell` in hours; `min_run` in cells.
    """
    count = len(values)
    runs = (np.arange(2**count)[:, None] >> np.arange(count) & 1).astype(bool)
    runs = runs[runs.sum(1) == number]
    edges = np.pad(runs, ((0, 0), (1, 1)))
    starts, stops = edges[:, 1:] & ~edges[:, :-1], edges[:, :-1] & ~edges[:, 1:]
    waits = ~runs & (np.cumsum(runs, 1) < number)
    is_known = np.array([value is not None for value in values])
    known = np.array([value if value is not None else np.inf for value in values])
    is_allowed = ~(runs & ~is_known).any(1) & (starts.sum(1) - 1 <= max_pauses)
    if load.idle_w:
        is_allowed &= ~(waits & ~is_known).any(1)
    for before in range(1, min_run):  # what stops must not have begun so few cells ago
        is_allowed &= ~(starts[:, :-before] & stops[:, before:]).any(1)
    if not is_allowed.any():
        return None
    runs, waits, starts = runs[is_allowed], waits[is_allowed], starts[is_allowed, :count]
    filled = np.where(is_known, known, 0.0)
    lower = np.minimum(known, np.concatenate([[np.inf], known[:-1]]))
    restarts = starts & (np.cumsum(starts, 1) > 1)
    watt_hours = runs @ filled * load.active_w * cell + waits @ filled * load.idle_w * cell
    joules = restarts @ np.where(is_known, lower, 0.0) * load.restart_j
    return (watt_hours / 1000 + joules / 3.6e6).min()


@pytest.mark.parametrize("seed", range(8))
def test_no_set_of_cells_beats_the_plan_in_pieces(seed):
    """1200 small instances: steps of any length on a grid of ten minutes, gaps, idling, restarts."""
    chance, cell, count = random.Random(seed), 10 * MINUTE, 12
    for _ in range(150):
        lengths, late = chance.choice([[1], [2], [3], [4], [4], [1, 2, 3]]), chance.randrange(4)
        values, steps = [], []
        while len(values) < late + count:
            length, value = chance.choice(lengths), None if chance.random() < 0.1 else chance.uniform(10, 500)
            start, end = (NOON + number * cell for number in (len(values), len(values) + length))
            steps += [] if value is None else [Step(start=start, end=end, g_per_kwh=value)]
            values += [value] * length
        load = Load(100.0, chance.choice([0.0, 0.0, 3.0, 30.0]), chance.choice([0.0, 5e3, 2e4, 5e4]))
        number, min_run = chance.randint(1, 9), chance.choice([1, 2, 3, lengths[0], lengths[0]])
        max_pauses, earliest = chance.choice([None, None, 0, 1, 2]), NOON + late * cell

        found = best_interruptible(
            Series(steps=tuple(steps), provider="test", source="a test"),
            duration=number * cell, earliest=earliest, deadline=earliest + count * cell, load=load,
            max_pauses=max_pauses, min_run=min_run * cell,
        )  # fmt: skip
        expected = by_all_subsets(
            values[late : late + count], number, load, cell=1 / 6, min_run=min(min_run, number),
            max_pauses=count if max_pauses is None else max_pauses,
        )  # fmt: skip

        assert (found and found.g) == (expected and pytest.approx(expected, rel=5e-9))
        assert found is None or sum((one.end - one.start for one in found.windows), timedelta(0)) == number * cell


SOLAR = tuple(400 + 60 * math.cos((hour - 19) / 24 * 2 * math.pi) - 60 * (10 <= hour <= 15) for hour in range(24))
"""Of a day, hour by hour in UTC, in g/kWh: 460 in the evening, 298 before noon, and 392 in the mean."""
JOB = Load(300.0, restart_j=2 * 60 * 300.0)
"""A restart costs two minutes of running."""


def at_idle(share):
    return Load(JOB.active_w, share * JOB.active_w, JOB.restart_j)


def test_pausing_takes_the_dirty_hours_out():
    known = series(100, 400, 100, 400)

    plan = best_interruptible(known, duration=2 * HOUR, earliest=NOON, deadline=NOON + 4 * HOUR, load=Load(1000.0))

    assert plan.windows == (Window(NOON, NOON + HOUR, 100.0), Window(NOON + 2 * HOUR, NOON + 3 * HOUR, 100.0))
    assert (plan.g, plan.wait_g, plan.restart_g) == (200.0, 0.0, 0.0)


def test_a_plan_pays_for_waiting_and_for_restarts():
    known = series(500, 100, 400, 100, 400)
    load = Load(1000.0, idle_w=10.0, restart_j=3.6e5)

    plan = best_interruptible(known, duration=2 * HOUR, earliest=NOON, deadline=NOON + 5 * HOUR, load=load)

    assert [window.start for window in plan.windows] == [NOON + HOUR, NOON + 3 * HOUR]
    assert plan.wait_g == pytest.approx(0.01 * (500 + 400))
    assert plan.restart_g == pytest.approx(0.1 * 100)
    assert plan.g == pytest.approx(200 + 9 + 10)


def test_it_does_not_pause_where_that_costs_more_than_it_saves():
    spans = {"duration": 2 * HOUR, "earliest": NOON, "deadline": NOON + 3 * HOUR}
    known = series(100, 110, 100)

    assert len(best_interruptible(known, load=Load(1000.0), **spans).windows) == 2
    assert len(best_interruptible(known, load=Load(1000.0, restart_j=1e6), **spans).windows) == 1
    assert len(best_interruptible(known, load=Load(1000.0, idle_w=500.0), **spans).windows) == 1
    assert len(best_interruptible(known, load=Load(1000.0), max_pauses=0, **spans).windows) == 1


def test_of_equal_plans_the_one_wins_that_starts_at_once_and_does_not_pause():
    known = series(*[200] * 6)

    plan = best_interruptible(known, duration=2.5 * HOUR, earliest=NOON, deadline=NOON + 6 * HOUR, load=Load(9.0))

    assert plan.windows == (Window(NOON, NOON + 2.5 * HOUR, 200.0),)


def test_no_piece_is_shorter_than_the_least_run_unless_the_job_is():
    known = series(*[300, 100] * 6, every=3 * MINUTE)
    spans = {"earliest": NOON, "deadline": NOON + 36 * MINUTE, "load": Load(100.0)}

    plan = best_interruptible(known, duration=12 * MINUTE, **spans)

    assert len(plan.windows) == 2
    assert min(window.end - window.start for window in plan.windows) >= 5 * MINUTE
    assert len(best_interruptible(known, duration=12 * MINUTE, min_run=MINUTE, **spans).windows) == 4
    assert len(best_interruptible(known, duration=2 * MINUTE, **spans).windows) == 1


def test_one_piece_reaches_into_a_dear_hour_and_the_last_to_a_deadline_between_the_hours():
    known, deadline = series(10, 100, 300, 50, 5), NOON + 260 * MINUTE

    plan = best_interruptible(
        known, duration=155 * MINUTE, earliest=NOON, deadline=deadline, load=Load(60.0), min_run=HOUR
    )

    assert [(one.start, one.end) for one in plan.windows] == [
        (NOON, NOON + 75 * MINUTE), (NOON + 3 * HOUR, deadline),
    ]  # fmt: skip


def test_a_job_may_pause_over_a_gap_if_idling_is_free():
    known, spans = series(100, None, 200), {"duration": 2 * HOUR, "earliest": NOON, "deadline": NOON + 3 * HOUR}

    assert [one.start for one in best_interruptible(known, load=Load(9.0), **spans).windows] == [NOON, NOON + 2 * HOUR]
    assert best_interruptible(known, load=Load(9.0, idle_w=1.0), **spans) is None
    assert best_interruptible(series(), load=Load(9.0), **spans) is None
    assert best_interruptible(known, load=Load(9.0), **spans | {"duration": 3 * HOUR}) is None


def test_a_grid_that_would_be_too_fine_is_made_coarser_and_still_beats_one_window(monkeypatch):
    """Half a week in steps of odd seconds: they are multiples of nothing longer than a second."""
    chance, steps, at = random.Random(3), [], NOON
    for i in range(84):
        end = NOON + (i + 1) * HOUR + chance.randint(-9, 9) * timedelta(seconds=1)
        steps, at = [*steps, Step(start=at, end=end, g_per_kwh=SOLAR[i % 24])], end
    known = Series(steps=tuple(steps), provider="test", source="a test")
    spans = {"duration": timedelta(hours=12, seconds=5), "earliest": NOON, "deadline": NOON + 80 * HOUR}

    plan, one = best_interruptible(known, load=JOB, **spans), best(known, **spans)

    assert sum((window.end - window.start for window in plan.windows), timedelta(0)) == spans["duration"]
    assert plan.g < 0.97 * bill(known, [one], JOB, earliest=NOON).g
    monkeypatch.setattr(pieces, "MOST_STATES", 10)
    assert plan.g < best_interruptible(known, load=JOB, **spans).g <= bill(known, [one], JOB, earliest=NOON).g


LOADS = st.builds(Load, st.just(100.0), st.sampled_from([0.0, 2.0, 20.0]), st.sampled_from([0.0, 5e3, 9e4]))
KNOWN = st.lists(st.integers(0, 900), min_size=6, max_size=12)


@settings(deadline=None)
@given(KNOWN, st.integers(1, 300), st.integers(0, 59), LOADS)
def test_a_plan_in_pieces_is_never_worse_than_one_window(values, minutes, late, load):
    known, earliest = series(*values), NOON + late * MINUTE
    spans = {"duration": minutes * MINUTE, "earliest": earliest, "deadline": NOON + len(values) * HOUR}

    plan, one = best_interruptible(known, load=load, **spans), best(known, **spans)

    assert plan.g <= bill(known, [one], load, earliest=earliest).g * (1 + 1e-9)
    assert earliest <= plan.windows[0].start
    assert plan.windows[-1].end <= spans["deadline"]
    assert all(piece.end - piece.start >= min(minutes, 5) * MINUTE for piece in plan.windows)


@settings(deadline=None)
@given(KNOWN, st.integers(1, 120), st.integers(1, 200), LOADS)
def test_a_later_deadline_is_never_worse_in_pieces(values, minutes, more, load):
    spans = {"duration": minutes * MINUTE, "earliest": NOON, "load": load}
    sooner = best_interruptible(series(*values), deadline=NOON + 150 * MINUTE, **spans)
    later = best_interruptible(series(*values), deadline=NOON + (150 + more) * MINUTE, **spans)

    assert later.g <= sooner.g * (1 + 2e-9)


@settings(deadline=None)
@given(KNOWN, st.integers(1, 300), st.integers(1, 1000))
def test_what_is_added_to_every_hour_changes_no_pause_where_pausing_is_free(values, minutes, more):
    spans = {"duration": minutes * MINUTE, "earliest": NOON, "deadline": NOON + 6 * HOUR, "load": Load(1000.0)}
    one = best_interruptible(series(*values), **spans)
    other = best_interruptible(series(*[value + more for value in values]), **spans)

    assert other.g == pytest.approx(one.g + more * minutes / 60, rel=1e-8)
    assert [(piece.start, piece.end) for piece in other.windows] == [(piece.start, piece.end) for piece in one.windows]


def test_a_bill_is_the_integral_by_hand():
    known = series(100, 200, 300, 400)
    windows = [Window(NOON + 0.5 * HOUR, NOON + HOUR, 100.0), Window(NOON + 2.5 * HOUR, NOON + 3.5 * HOUR, 350.0)]

    billed = bill(known, windows, Load(1000.0, idle_w=100.0, restart_j=3.6e5), earliest=NOON)

    assert billed.active_g == pytest.approx(0.5 * 100 + 0.5 * 300 + 0.5 * 400)
    assert billed.wait_g == pytest.approx(0.1 * (0.5 * 100 + 200 + 0.5 * 300))
    assert billed.restart_g == pytest.approx(0.1 * 300)
    assert billed.g == billed.active_g + billed.wait_g + billed.restart_g


def test_what_is_unknown_has_no_bill_but_what_idles_for_nothing_may_be():
    known = series(100, None, 300)
    around = [Window(NOON, NOON + HOUR, 100.0), Window(NOON + 2 * HOUR, NOON + 3 * HOUR, 300.0)]

    assert bill(known, [Window(NOON, NOON + 2 * HOUR, 0.0)], JOB, earliest=NOON) is None
    assert bill(known, around, JOB, earliest=NOON).active_g == pytest.approx(0.3 * 400)
    assert bill(known, around, at_idle(0.1), earliest=NOON) is None
    with pytest.raises(ValueError, match="in order"):
        bill(known, around[::-1], JOB, earliest=NOON)


def test_a_saving_is_against_starting_now_with_all_that_waiting_costs():
    known, spans = series(400, 400, 100), {"now": NOON, "duration": HOUR}
    later = [Window(NOON + 2 * HOUR, NOON + 3 * HOUR, 100.0)]

    free = saving(known, later, Load(1000.0), **spans)
    idle = saving(known, later, Load(1000.0, idle_w=500.0), **spans)

    assert (free.now_g, free.then_g, free.saved_g, free.share) == (400.0, 100.0, 300.0, 0.75)
    assert (idle.then_g, idle.share) == (500.0, -0.25)
    assert saving(series(0), [Window(NOON, NOON + HOUR, 0.0)], JOB, **spans).share is None
    assert saving(known, later, JOB, now=NOON, duration=9 * HOUR) is None


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_at_a_tenth_of_idle_power_pausing_does_not_pay_and_at_none_it_does(share):
    """Four hours are left at five in the afternoon, and the clean ones of the next day are seventeen hours away."""
    now, known, load = datetime(2026, 3, 1, 17), series(*SOLAR * 2, start=datetime(2026, 3, 1)), at_idle(share)

    verdict = would_pay(known, now=now, remaining=4 * HOUR, deadline=now + 24 * HOUR, load=load)

    assert verdict.pays is (share == 0.0)
    assert (verdict.saving.saved_g > 0) is verdict.pays
    stopped, later = Window(now, now, 0.0), Window(verdict.resume, verdict.resume + 4 * HOUR, 0.0)
    assert verdict.saving.then_g == bill(known, [stopped, later], load, earliest=now).g


def test_without_a_peak_pausing_does_not_pay():
    known, spans = series(*[200] * 24), {"now": NOON, "remaining": 2 * HOUR, "deadline": NOON + 24 * HOUR}

    assert not would_pay(known, load=Load(300.0), **spans).pays
    assert would_pay(known, load=Load(300.0), **spans).saving.saved_g == 0.0
    assert would_pay(known, load=JOB, **spans).saving.saved_g == pytest.approx(-0.01 * 200)


@given(KNOWN, st.integers(1, 300), st.integers(1, 600), LOADS)
def test_no_later_minute_is_better_to_resume_at(values, minutes, at, load):
    known, left, deadline = series(*values), minutes * MINUTE, NOON + len(values) * HOUR

    verdict = would_pay(known, now=NOON, remaining=left, deadline=deadline, load=load)
    resume = NOON + at * MINUTE

    assert (verdict.resume is None) is (NOON + left == deadline)
    if resume + left <= deadline:
        other = bill(known, [Window(NOON, NOON, 0.0), Window(resume, resume + left, 0.0)], load, earliest=NOON)
        # Or going on is better still: then so is the moment after.
        assert min(verdict.saving.then_g, verdict.saving.now_g) <= other.g * (1 + 1e-9)


def test_who_has_no_time_left_or_knows_nothing_of_later_does_not_pause():
    known, spans = series(400, 400, 100, 100), {"now": NOON, "remaining": 2 * HOUR, "load": JOB}

    verdicts = [
        would_pay(known, deadline=NOON + 2 * HOUR, **spans),
        would_pay(known, deadline=NOON - HOUR, **spans),
        would_pay(series(400, 400), deadline=NOON + 9 * HOUR, **spans),
        would_pay(series(400, None, 100, 100), deadline=NOON + 9 * HOUR, **spans),
    ]

    assert [verdict.pays for verdict in verdicts] == [False] * 4
    assert [verdict.saving for verdict in verdicts] == [None] * 4
    assert [verdict.resume for verdict in verdicts] == [None, None, None, NOON + 2 * HOUR]


def test_the_first_moment_below_a_limit_is_found_up_to_the_last():
    known = series(400, None, 300, 200)
    spans = {"earliest": NOON + 0.5 * HOUR, "latest": NOON + 2 * HOUR}

    assert first_below(known, limit=400, **spans) == NOON + 0.5 * HOUR
    assert first_below(known, limit=300, **spans) == NOON + 2 * HOUR
    assert first_below(known, limit=299, **spans) is None
    assert first_below(known, limit=300, **spans | {"latest": NOON + 2 * HOUR - MICROSECOND}) is None


QUICK = Pausing(pause_above=400, resume_below=350, min_dwell=timedelta(0))


def decisions(policy, values, *, slack=HOUR):
    """What it does at each intensity, a minute apart, running at first."""
    is_running, since, taken = True, NOON, []
    for i, g_per_kwh in enumerate(values, start=1):
        now = NOON + i * MINUTE
        decision = policy.decide(now, g_per_kwh, is_running=is_running, since=since, slack=slack)
        if decision:
            is_running, since = decision == "resume", now
        taken.append(decision)
    return taken


def test_it_pauses_above_one_level_and_resumes_at_a_lower_one():
    assert decisions(QUICK, [400, 401, 380, 351, 350, 380, 400, 500]) == [
        None, "pause", None, None, "resume", None, None, "pause",
    ]  # fmt: skip


def test_it_stays_as_it_is_for_the_least_dwell():
    slow = Pausing(pause_above=400, resume_below=350, min_dwell=3 * MINUTE)

    assert decisions(slow, [500, 500, 500, 100, 100, 100, 500]) == [None, None, "pause", None, None, "resume", None]


def test_before_the_deadline_it_never_pauses_and_resumes_at_once():
    slow, spent = Pausing(pause_above=400, resume_below=350, min_dwell=HOUR), timedelta(0)

    assert slow.decide(NOON, 900, is_running=True, since=NOON - 9 * HOUR, slack=spent) is None
    assert slow.decide(NOON, 900, is_running=False, since=NOON, slack=spent) == "resume"
    assert slow.decide(NOON, None, is_running=False, since=NOON, slack=-HOUR) == "resume"


def test_what_is_unknown_changes_nothing():
    assert decisions(QUICK, [None, 500, None, 100]) == [None, "pause", None, "resume"]


def test_a_clock_that_is_set_back_does_not_hold_up_a_decision():
    slow = Pausing(pause_above=400, resume_below=350, min_dwell=10 * MINUTE)

    assert slow.decide(NOON - HOUR, 500, is_running=True, since=NOON, slack=HOUR) == "pause"


def test_levels_that_would_flutter_are_refused():
    with pytest.raises(ValueError, match="resume at 401 and pause above 400"):
        Pausing(pause_above=400, resume_below=401, min_dwell=HOUR)
    with pytest.raises(ValueError, match="resume at"):
        Pausing(pause_above=math.nan, resume_below=401, min_dwell=HOUR)
    with pytest.raises(ValueError, match="0 or more"):
        Load(-1.0)


@given(st.lists(st.none() | st.integers(0, 900), max_size=40), st.integers(0, 5))
def test_between_two_decisions_lies_at_least_the_dwell(values, minutes):
    policy = Pausing(pause_above=500, resume_below=300, min_dwell=minutes * MINUTE)

    at = [i for i, decision in enumerate(decisions(policy, values)) if decision]

    assert all(later - sooner >= minutes for sooner, later in pairwise(at))


def test_a_level_is_what_was_not_exceeded_for_so_much_of_the_time():
    steps = (*regular(NOON, 30 * HOUR, [100.0]), *regular(NOON + 30 * HOUR, HOUR, [900.0] * 10))
    known, now = Series(steps=steps, provider="test", source="a test"), NOON + 40 * HOUR

    assert [level(known, now, percentile) for percentile in (0, 75, 75.1, 100)] == [100.0, 100.0, 900.0, 900.0]
    assert level(known, now, 60, span=24 * HOUR) == 900.0
    assert level(known, NOON + 24 * HOUR, 50) == 100.0
    assert level(known, NOON + 24 * HOUR - MICROSECOND, 50) is None
    assert level(known, NOON + 200 * HOUR, 50) is None
    with pytest.raises(ValueError, match="between 0 and 100"):
        level(known, now, 101)
