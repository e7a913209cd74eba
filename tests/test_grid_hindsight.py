"""What standing still has saved, by hand."""

from __future__ import annotations

import pytest
from test_grid_series import HOUR, NOON, series

from greenml.grid.hindsight import Stretch, saved, without_waiting

KWH = 3.6e6


def phase(name, start, hours, kwh, g_per_kwh, status="actual"):
    joules = None if kwh is None else kwh * KWH
    return Stretch(
        name=name,
        start=NOON + start * HOUR,
        end=NOON + (start + hours) * HOUR,
        joules=joules,
        g_per_kwh=g_per_kwh,
        status=status,
    )


GRID = series(500.0, 400.0, 100.0, 100.0)
HELD_UP = [
    phase("setup", 0, 0.5, 0.1, 500.0),
    phase("wait", 0.5, 1.5, 0.2, 450.0),
    phase("setup", 2, 0.5, 0.1, 100.0),
    phase("train", 2.5, 1, 2.0, 100.0),
]


def told(known=GRID):
    return lambda start, end: known.between(start, end)


def test_the_work_moves_up_to_where_it_would_have_been():
    work = [
        (stretch.name, (start - NOON) / HOUR, (end - NOON) / HOUR) for stretch, start, end in without_waiting(HELD_UP)
    ]

    assert work == [("setup", 0.0, 0.5), ("train", 0.5, 1.5)]


@pytest.mark.parametrize(("idles", "wait_g"), [(True, 90.0), (False, 0.0)])
def test_it_is_the_grams_of_the_same_work_at_once_less_those_of_the_run(idles, wait_g):
    saving, status = saved(HELD_UP, told(), idles=idles, pue=1.5)

    assert saving.now_g == pytest.approx(1.5 * (0.1 * 500 + 2.0 * 450))
    assert saving.then_g == pytest.approx(1.5 * (50 + wait_g + 10 + 200))
    assert status == "actual"


def test_a_gap_that_nobody_waited_in_stays_as_long_as_it_was():
    away = [HELD_UP[0], HELD_UP[3]]

    assert [(start - NOON) / HOUR for _, start, _ in without_waiting(away)] == [0.0, 2.5]


def test_what_is_not_known_makes_no_saving():
    assert saved([*HELD_UP[:3], phase("train", 2.5, 1, None, 100.0)], told()) is None
    assert saved(HELD_UP, told(series(500.0))) is None


def test_a_saving_is_as_well_known_as_its_worst_intensity():
    assumed = [*HELD_UP[:3], phase("train", 2.5, 1, 2.0, 100.0, status="assumed")]

    assert saved(assumed, told())[1] == "assumed"
