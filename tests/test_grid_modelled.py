"""Intensities that nobody published: learned from the last weeks, and how wrong that was; the curve of a day."""

import dataclasses
import math
import statistics
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import bench_grid
import grid_world
import pytest
from codecarbon.input import DataSource
from conftest import WORLD
from hypothesis import given, settings
from hypothesis import strategies as st

from greenml.grid.factors import mix_of
from greenml.grid.modelled import Spread, backtest, backtest_against_now, day_curve, daylight_h, learned, yearly
from greenml.grid.series import Series, regular

MONDAY = datetime(2026, 2, 2)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
BERLIN = "Europe/Berlin"


def observed(g_per_kwh, *, days, start=MONDAY, every=HOUR / 2, **facts):
    """What a function of the moment gives, step by step."""
    values = [g_per_kwh(start + i * every) for i in range(round(days * DAY / every))]
    return Series(steps=tuple(regular(start, every, values)), provider="test", source="a test", **facts)


def wave(moment):
    """The same every day."""
    return 300.0 + 100.0 * math.sin(2 * math.pi * (moment.hour + moment.minute / 60) / 24)


def local(moment, time_zone=BERLIN):
    return moment.replace(tzinfo=UTC).astimezone(ZoneInfo(time_zone))


# -- learned --


@pytest.mark.parametrize("days", [1, 5, 21, 40])
def test_what_comes_every_day_is_foretold_to_come_again(days):
    now = MONDAY + days * DAY

    foretold = learned(observed(wave, days=days), now=now)

    assert (foretold.start, foretold.end) == (now, now + 48 * HOUR)
    assert [step.g_per_kwh for step in foretold.steps] == pytest.approx([wave(step.start) for step in foretold.steps])


def test_what_is_learned_says_so_and_keeps_what_it_was_learned_from():
    history = observed(wave, days=3, kind="marginal", factors="lifecycle", zone="DE")

    foretold = learned(history, now=MONDAY + 3 * DAY, hours=6)

    assert foretold.status == "modelled"
    assert (foretold.provider, foretold.source) == ("learned", "greenml's model of the last 3 days of a test")
    assert (foretold.kind, foretold.factors, foretold.zone) == ("marginal", "lifecycle", "DE")


def test_less_than_a_day_teaches_nothing():
    history = observed(wave, days=1)

    assert learned(history, now=MONDAY + DAY - timedelta(seconds=1)) is None
    assert learned(history, now=MONDAY + 22 * DAY) is None, "what is three weeks old is forgotten"
    assert learned(history.between(MONDAY, MONDAY), now=MONDAY) is None
    assert learned(history, now=MONDAY + DAY) is not None


def test_a_high_last_observation_lifts_the_next_hours_and_fades():
    now = MONDAY + 10 * DAY
    history = observed(lambda moment: wave(moment) + 100.0 * (moment >= now - HOUR / 2), days=10)

    foretold = learned(history, now=now)

    lifts = [foretold.at(now + lead).g_per_kwh - wave(now + lead) for lead in (HOUR, 13 * HOUR, 25 * HOUR)]
    assert 70 < lifts[0] < 100, "a seventh of it is held to be the half-hour's own"
    assert lifts[1] / lifts[0] == pytest.approx(math.exp(-0.5), rel=0.05)
    assert 0 < lifts[2] < lifts[1]


def test_a_change_that_stays_is_learned_within_days():
    now = MONDAY + 21 * DAY
    history = observed(lambda moment: 200.0 if moment >= now - 10 * DAY else 100.0, days=21)

    assert learned(history, now=now).at(now + 40 * HOUR).g_per_kwh > 175, "equal days would say 158"


def test_weekends_are_foretold_by_weekends():
    friday_noon = MONDAY + 18 * DAY + 12 * HOUR
    history = observed(lambda moment: 100.0 if moment.weekday() >= 5 else 200.0, days=18.5)

    foretold = learned(history, now=friday_noon)

    assert foretold.mean(friday_noon, friday_noon + 12 * HOUR) > 185
    assert foretold.mean(friday_noon + 24 * HOUR, friday_noon + 36 * HOUR) < 155, "of all days it would be 172"


def test_people_get_up_by_the_clock_also_after_it_changed():
    """On 29 March 2026 Berlin's clocks go forward: what rose at 7:00 rises at 7:00, which is an hour earlier by UTC."""
    saturday = datetime(2026, 3, 28, 12)
    history = observed(lambda moment: 200.0 if local(moment).hour < 7 else 400.0, days=21, start=saturday - 21 * DAY)

    by_clock, by_utc = (learned(history, now=saturday, time_zone=zone) for zone in (BERLIN, None))

    for step in by_clock.steps:
        assert step.g_per_kwh == pytest.approx(200.0 if local(step.start).hour < 7 else 400.0)
    monday_at_7 = datetime(2026, 3, 30, 5)
    assert by_utc.at(monday_at_7).g_per_kwh == pytest.approx(200.0)


def test_nothing_is_learned_from_what_comes_after_now():
    now = MONDAY + 5 * DAY + timedelta(minutes=17)
    until_now = observed(wave, days=8).between(MONDAY, now)
    other_future = observed(lambda moment: 900.0, days=3, start=now)

    assert learned(until_now.filled(other_future), now=now).steps == learned(until_now, now=now).steps


@pytest.mark.parametrize("status", ["forecast", "modelled", "assumed"])
def test_nothing_is_learned_from_forecasts_and_models(status):
    history = observed(wave, days=5)
    guessed = Series(steps=tuple(regular(MONDAY + 5 * DAY, HOUR, [900.0] * 24, status)), provider="", source="")
    now = MONDAY + 6 * DAY

    assert learned(history.filled(guessed), now=now).steps == learned(history, now=now).steps
    assert learned(guessed, now=now) is None


@settings(deadline=None, max_examples=25)
@given(st.lists(st.none() | st.floats(0, 2000), min_size=24, max_size=120), st.integers(0, 59))
def test_gaps_teach_nothing_and_what_is_foretold_has_none(values, minutes):
    now = MONDAY + len(values) * HOUR + timedelta(minutes=minutes)
    history = Series(steps=tuple(regular(MONDAY, HOUR, values)), provider="test", source="a test")

    foretold = learned(history, now=now)

    if foretold is None:
        assert sum(value is not None for value in values) < 24
    else:
        assert foretold.covers(now, now + 48 * HOUR)
        assert min(step.g_per_kwh for step in foretold.steps) >= 0


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0, 2000), min_size=24, max_size=60))
def test_how_finely_it_was_published_does_not_matter(values):
    now = MONDAY + len(values) * HOUR
    coarse, fine = (
        learned(observed(lambda moment: values[(moment - MONDAY) // HOUR], days=len(values) / 24, every=every), now=now)
        for every in (HOUR, HOUR / 12)
    )

    assert [step.g_per_kwh for step in fine.steps] == pytest.approx([step.g_per_kwh for step in coarse.steps])


# -- how wrong it was --


def test_where_every_day_was_the_same_the_model_was_right():
    spread = backtest(observed(wave, days=14), now=MONDAY + 14 * DAY, duration=4 * HOUR, lead=6 * HOUR)

    assert (spread.low, spread.high) == (pytest.approx(1.0), pytest.approx(1.0))
    assert spread.num == 12 * 3 + 2, "three a day, from a day on, and windows that are over by now"


def test_a_spread_is_the_middle_of_how_wrong_it_was():
    """Days at 100 and days at 300 by turns: on the level of the last one, the next is a third of it or three times."""
    history = observed(lambda moment: 300.0 if (moment - MONDAY).days % 2 else 100.0, days=28)

    spread = backtest(history, now=MONDAY + 28 * DAY, duration=2 * HOUR, lead=24 * HOUR)

    assert spread.low < 0.6
    assert 1.4 < spread.high < 3.0


def test_a_spread_looks_back_only():
    past, now = observed(wave, days=14), MONDAY + 14 * DAY
    future = observed(lambda moment: 900.0, days=3, start=now)

    asked = {"now": now, "duration": 4 * HOUR, "lead": 6 * HOUR}
    assert backtest(past.filled(future), **asked) == backtest(past, **asked)


def test_of_a_few_days_no_spread_is_told():
    assert backtest(observed(wave, days=2), now=MONDAY + 2 * DAY, duration=4 * HOUR) is None
    assert backtest(observed(wave, days=0), now=MONDAY, duration=4 * HOUR) is None


def test_starting_at_once_saves_nothing_for_certain():
    published = grid_world.year("GB")
    now = published.start + 60 * DAY

    at_once = backtest_against_now(published, now=now, duration=4 * HOUR, lead=0 * HOUR)
    later = backtest_against_now(published, now=now, duration=4 * HOUR, lead=12 * HOUR)

    assert at_once == Spread(low=1.0, high=1.0, num=at_once.num)
    assert later.low < 1.0 < later.high


# -- the curve of a day --

GERMANY = (381.0, 0.12, 0.42, 51.0)


def curve(*facts, start=MONDAY, days=1, **more):
    return day_curve(*facts, start=start, end=start + days * DAY, **more)


@pytest.mark.parametrize("facts", [GERMANY, (56.0, 0.045, 0.87, 47.0), (560.0, 0.15, 0.23, 12.0), (30.0, 0.9, 0.5, 70)])
def test_the_mean_of_a_year_of_day_curves_is_the_annual_average(facts):
    year = curve(*facts, start=datetime(2026, 1, 1), days=365, time_zone=BERLIN)

    assert year.mean(year.start, year.end) == pytest.approx(facts[0], rel=2e-3)
    assert year.status == "modelled"


def test_a_day_curve_is_the_formula_in_its_docstring():
    """At the equator on 22 March: bright from 6 to 18 h, noon at 12. Ratios, for the curve is scaled."""
    day = curve(500.0, 0.1, 0.3, 0.0, start=datetime(2026, 3, 22))

    def by_hand(load, sun):
        fossil = load - 0.3 - 0.1 * math.pi * sun
        return (fossil * 700 + (load - fossil) * 30) / load

    hour = 9.25  # the middle of the half-hour
    load = 1.0 + 0.15 * (hour - 9) / 9.5
    at_night = by_hand(0.8 + 0.2 * (3.75 - 3.5) / 5.5, 0)
    ratio = day.at(day.start + 9 * HOUR).g_per_kwh / day.at(day.start + 3.5 * HOUR).g_per_kwh
    assert ratio == pytest.approx(by_hand(load, math.sin(math.pi * (hour - 6) / 12)) / at_night, rel=1e-6)


def test_noon_is_cleanest_where_the_sun_shines_and_night_where_it_does_not():
    sunny, dark = (curve(500.0, share, 0.3, 40.0, start=datetime(2026, 6, 1)) for share in (0.15, 0.0))

    assert min(sunny.steps, key=lambda step: step.g_per_kwh).start.hour in range(10, 14)
    assert min(dark.steps, key=lambda step: step.g_per_kwh).start.hour in range(2, 5)
    assert max(dark.steps, key=lambda step: step.g_per_kwh).start.hour == 18


def test_the_sun_goes_by_the_longitude_and_people_by_the_clock():
    """Madrid's noon is at 12:15 UTC, Berlin's at 11:06: both have Central European Time."""
    summer = datetime(2026, 6, 1)
    noons = []
    for longitude in (-3.7, 13.4):
        flat = curve(500.0, 0.0, 0.3, 40.0, start=summer, time_zone="Europe/Madrid", longitude=longitude)
        bright = curve(500.0, 0.2, 0.3, 40.0, start=summer, time_zone="Europe/Madrid", longitude=longitude)
        assert max(flat.steps, key=lambda step: step.g_per_kwh).start.hour == 16, "18:30 in summer is 16:30 UTC"
        parts = [one.g_per_kwh / other.g_per_kwh for one, other in zip(bright.steps, flat.steps, strict=True)]
        noons.append(statistics.fmean(i / 2 + 0.25 for i, part in enumerate(parts) if part < min(parts) * 1.02))
    assert noons[0] - noons[1] == pytest.approx((13.4 + 3.7) / 15, abs=0.5)


@pytest.mark.parametrize(
    ("latitude", "day", "expected_h"),
    [
        (0, 100, 12.0),
        (52.5, 172, 16.6),
        (52.5, 355, 7.4),
        (-33.9, 355, 14.3),
        (78, 172, 24.0),
        (78, 355, 0.0),
        (90, 1, 0),
    ],
)
def test_days_are_as_long_as_almanacs_say(latitude, day, expected_h):
    """Within a quarter of an hour: almanacs count the sun's upper rim, and air that bends its light."""
    assert daylight_h(latitude, day) == pytest.approx(expected_h, abs=0.3)


def test_a_day_without_sunrise_has_a_curve():
    for facts in ((400.0, 0.2, 0.3, 80.0), (400.0, 0.2, 0.3, -90.0)):
        assert curve(*facts, start=datetime(2026, 6, 21)).covers(datetime(2026, 6, 21), datetime(2026, 6, 22))


def test_the_annual_average_is_flat_and_assumed():
    flat = yearly(WORLD, MONDAY, MONDAY + DAY)

    assert flat.mean(MONDAY + HOUR, MONDAY + 7 * HOUR) == WORLD.g_per_kwh
    assert (flat.status, flat.provider, flat.source, flat.kind) == ("assumed", "annual", "CodeCarbon", "average")


def test_a_mix_is_codecarbons_own():
    table = DataSource().get_global_energy_mix_data()
    for country in ("DEU", "IND", "FRA", "PRY"):
        row, mix = table[country], mix_of(country)
        assert mix.solar_share * row["total_TWh"] == pytest.approx(row["solar_TWh"])
        low_carbon = (mix.solar_share + mix.other_low_carbon_share) * row["total_TWh"]
        assert low_carbon == pytest.approx(row["low_carbon_TWh"])
        assert mix.year == row["year"]
        assert "Ember" in mix.source
    assert mix_of("XXX") is None


def test_every_mix_has_shares_between_nothing_and_all():
    for country in DataSource().get_global_energy_mix_data():
        mix = mix_of(country)
        assert 0 <= mix.solar_share <= mix.solar_share + mix.other_low_carbon_share + 1e-9 <= 1.001, country


# -- the synthetic years, and what the models save on them --


def test_a_synthetic_year_is_the_same_again_and_another_with_another_seed():
    assert (grid_world.values("DE", 1) == grid_world.values("DE", 1)).all()
    assert not (grid_world.values("DE", 1) == grid_world.values("DE", 2)).any()


@pytest.mark.parametrize("name", grid_world.ZONES)
def test_a_synthetic_year_has_the_mean_of_a_real_one_and_a_shape(name):
    values = grid_world.values(name, 0)
    day = values.reshape(-1, 48).mean(axis=0) / values.mean()

    assert values.mean() == pytest.approx(grid_world.ZONES[name].annual_g_per_kwh, rel=0.15)
    assert 0.2 < day.max() - day.min() < 0.6
    assert values.min() > 0


@pytest.fixture(scope="module")
def some_jobs():
    """Of each zone: `bench_grid` has 800."""
    return {zone: list(bench_grid.jobs(zone, 40)) for zone in grid_world.ZONES}


def test_the_learned_model_saves_most_of_what_can_be_saved_and_never_harms(some_jobs):
    names = ("perfect forecast", "learned", "yesterday repeats", "up to 1 h for < 300 g")
    found = [bench_grid.savings(of, bench_grid.GOAL, names) for of in some_jobs.values()]
    perfect, by_model, by_yesterday, simple = (statistics.fmean(zone[name] for zone in found) for name in names)

    assert by_model >= 0.7 * perfect
    assert by_model > by_yesterday
    assert min(zone["learned"] for zone in found) >= -1.0, "in per cent of starting at once"
    assert abs(simple) < 2


def test_a_machine_that_idles_while_it_waits_eats_what_waiting_saves(some_jobs):
    for of in some_jobs.values():
        found = bench_grid.with_idle(of, bench_grid.GOAL)
        waits, asks = zip(*found.values(), strict=True)
        assert list(waits) == sorted(waits, reverse=True)
        assert waits[0] - waits[-1] > 10
        assert min(asks) >= -1.0, "who asks first whether it pays does not lose"


def test_a_job_is_charged_with_what_came():
    job = bench_grid.Job("", MONDAY, observed(lambda moment: 100.0 + moment.hour, days=1), None, None)
    shape = bench_grid.Shape(2 * HOUR, 24 * HOUR)

    assert bench_grid.emitted(job, MONDAY + 3 * HOUR, shape) == 103 + 104
    assert bench_grid.emitted(job, MONDAY + 3 * HOUR, shape, idle=0.5) == 103 + 104 + 0.5 * (100 + 101 + 102)
    assert bench_grid.saved([150.0, 30.0], [200.0, 40.0]) == pytest.approx(25.0)


def test_only_the_perfect_forecast_looks_ahead(some_jobs):
    job = some_jobs["DE"][0]
    blind = dataclasses.replace(job, published=job.published.between(job.published.start, job.arrives))

    for name in ("learned", "yesterday repeats", "day curve"):
        choose = bench_grid.POLICIES[name]
        assert choose(blind, bench_grid.GOAL) == choose(job, bench_grid.GOAL)
    assert bench_grid.now(job, bench_grid.GOAL) == job.arrives
