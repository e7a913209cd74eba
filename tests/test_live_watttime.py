"""WattTime's marginal rates: one login for half an hour, pounds become grams, and the password stays unseen."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta

import pytest
from live_server import Reply, everything_said_by, serving

from greenml.grid.live import RefusedError, Site, UnavailableError
from greenml.grid.live.watttime import WattTime

NOW = datetime(2026, 3, 1, 12, 2)
NOON = datetime(2026, 3, 1, 12)
STEP = timedelta(minutes=5)
USER, PASSWORD, BEARER = "somebody", "pässword-that-nobody-may-see", "jwt.that.nobody-may-see"
CALIFORNIA = Site(watttime="CAISO_NORTH")
COORDINATES = Site(latitude=38.0, longitude=-121.5)
LOGIN, FORECAST, HISTORICAL, REGION = "/login", "/v3/forecast", "/v3/historical", "/v3/region-from-loc"


@pytest.fixture(autouse=True)
def _places_of_our_own(tmp_path, monkeypatch):
    monkeypatch.setenv("GREENML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("WATTTIME_USER", USER)
    monkeypatch.setenv("WATTTIME_PASSWORD", PASSWORD)


@pytest.fixture
def live():
    with serving() as served:
        served.answers[LOGIN] = {"token": BEARER}
        served.answers[FORECAST] = rates(NOON, *range(900, 900 + 12 * 72))
        yield served


@pytest.fixture
def provider(live):
    return WattTime(**live.settings)


def rates(start, *values, **meta):
    """As documented: pounds per MWh."""
    points = [
        {"point_time": f"{start + i * STEP:%Y-%m-%dT%H:%M:%S}+00:00", "value": value} for i, value in enumerate(values)
    ]
    facts = {
        "region": "CAISO_NORTH",
        "signal_type": "co2_moer",
        "units": "lbs_co2_per_mwh",
        "data_point_period_seconds": 300,
        "generated_at": "2026-03-01T12:00:00+00:00",
        "model": {"date": "2023-03-01"},
        "warnings": [],
    }
    return {"data": points, "meta": facts | meta}


def refused(provider, site=CALIFORNIA):
    with pytest.raises(UnavailableError) as raised:
        provider.current(site, NOW)
    assert raised.value.hint
    said = everything_said_by(raised.value)
    assert PASSWORD not in said
    assert BEARER not in said
    return raised.value


def test_pounds_per_megawatt_hour_become_grams_per_kilowatt_hour(live, provider):
    live.answers[FORECAST] = rates(NOON, 1000.0, 2000.0)

    series = provider.current(CALIFORNIA, NOW)

    (step,) = series.steps
    assert step.g_per_kwh == pytest.approx(453.59237, rel=1e-15)
    assert (step.start, step.end, step.status) == (NOON, NOON + STEP, "forecast")
    assert (series.provider, series.zone, series.kind, series.factors) == (
        "watttime", "CAISO_NORTH", "marginal", "direct",
    )  # fmt: skip


def test_a_login_is_basic_and_what_it_gives_is_the_bearer(live, provider):
    provider.current(CALIFORNIA, NOW)

    login, forecast = live.asked
    assert login.path == LOGIN
    assert base64.b64decode(login.headers["Authorization"].removeprefix("Basic ")).decode() == f"{USER}:{PASSWORD}"
    assert forecast.headers["Authorization"] == f"Bearer {BEARER}"
    assert forecast.params == {"region": "CAISO_NORTH", "signal_type": "co2_moer", "horizon_hours": "1"}


def test_one_login_lasts_half_an_hour(live, provider):
    for minutes in (0, 5, 10, 25, 29, 34):
        live.answers[FORECAST] = rates(NOON + timedelta(minutes=minutes), 900)
        provider.current(CALIFORNIA, NOW + timedelta(minutes=minutes))

    assert live.paths.count(LOGIN) == 2
    assert live.paths.count(FORECAST) == 6


def test_a_login_that_is_over_early_is_made_again_once(live, provider):
    provider.current(CALIFORNIA, NOW)
    live.answers[LOGIN] = {"token": "the.next.one"}
    live.answers[FORECAST] = iter([401, rates(NOON + STEP, 900)])

    provider.current(CALIFORNIA, NOW + STEP)

    assert live.paths == [LOGIN, FORECAST, FORECAST, LOGIN, FORECAST]
    assert live.asked[-1].headers["Authorization"] == "Bearer the.next.one"


def test_a_login_that_is_never_good_is_not_made_for_ever(live, provider):
    live.answers[FORECAST] = 401

    assert isinstance(refused(provider), RefusedError)
    assert live.paths == [LOGIN, FORECAST]


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_password_is_refused(live, provider, status):
    live.answers[LOGIN] = Reply({"error": f"no {PASSWORD}"}, status)

    error = refused(provider)

    assert isinstance(error, RefusedError)
    assert str(error) == f"WattTime: user or password are refused ({status})"
    assert "WATTTIME_PASSWORD" in error.hint
    assert live.paths == [LOGIN]


@pytest.mark.parametrize("missing", ["WATTTIME_USER", "WATTTIME_PASSWORD"])
def test_without_an_account_nobody_is_asked(live, provider, monkeypatch, missing):
    monkeypatch.delenv(missing)

    error = refused(provider)

    assert isinstance(error, RefusedError)
    assert str(error) == f"WattTime: no token: {missing} is not set"
    assert live.asked == []


@pytest.mark.parametrize("body", [{}, [], {"token": None}, {"token": ""}, {"token": "a\nb"}, {"token": "tökén"}, 7])
def test_a_login_without_a_token_is_odd(live, provider, body):
    live.answers[LOGIN] = Reply(body)

    assert str(refused(provider)) == "WattTime: the login gives no token"


def test_a_plan_without_the_region_is_said(live, provider):
    live.answers[FORECAST] = 403

    error = refused(provider)

    assert isinstance(error, RefusedError)
    assert "does not cover CAISO_NORTH (403)" in str(error)
    assert "CAISO_NORTH" in error.hint


def test_coordinates_are_turned_into_a_region_once(live, provider):
    live.answers[REGION] = {"region": "CAISO_NORTH", "region_full_name": "California ISO", "signal_type": "co2_moer"}

    assert provider.current(COORDINATES, NOW).zone == "CAISO_NORTH"
    live.answers[FORECAST] = rates(NOON + STEP, 900)
    WattTime(**live.settings).current(COORDINATES, NOW + STEP)

    assert live.paths == [LOGIN, REGION, FORECAST, LOGIN, FORECAST]
    assert live.asked[1].params == {"latitude": "38.0000", "longitude": "-121.5000", "signal_type": "co2_moer"}


@pytest.mark.parametrize("status", [400, 404])
def test_coordinates_in_no_region_are_refused(live, provider, status):
    live.answers[REGION] = status

    error = refused(provider, COORDINATES)

    assert isinstance(error, RefusedError)
    assert f"no region of its is at these coordinates ({status})" in str(error)


@pytest.mark.parametrize("region", [None, 7, BEARER, "", "a/../b"])
def test_a_region_that_is_none_is_odd(live, provider, region):
    live.answers[REGION] = {"region": region}

    assert "`region` is none" in str(refused(provider, COORDINATES))


@pytest.mark.parametrize("site", [Site(), Site(latitude=1.0), Site(electricity_maps="DE")])
def test_a_place_without_either_is_not_asked_about(live, provider, site):
    assert isinstance(refused(provider, site), RefusedError)
    assert live.asked == []


def test_a_long_past_is_asked_for_a_month_at_a_time_and_its_ends_come_twice(live, provider):
    def historical(handler):
        start, end = (datetime.fromisoformat(live.asked[-1].params[key]) for key in ("start", "end"))
        assert start.utcoffset() == timedelta(0)
        number = (end - start) // STEP + 1
        handler.send(rates(start.replace(tzinfo=None), *[900 + i % 5 for i in range(number)]))

    live.answers[HISTORICAL] = historical
    start, end = NOON - timedelta(days=40), NOON - timedelta(days=1)

    series = provider.history(CALIFORNIA, start, end, NOW)

    assert live.paths == [LOGIN, HISTORICAL, HISTORICAL]
    assert (series.start, series.end) == (start, end)
    assert series.covers(start, end)
    assert series.status == "actual"


def test_nulls_are_gaps_and_the_period_says_how_long_a_step_is(live, provider):
    answer = rates(NOON, 900, None, 910, data_point_period_seconds=150)
    live.answers[HISTORICAL] = answer

    series = provider.history(CALIFORNIA, NOON, NOON + 3 * STEP, NOON + timedelta(hours=1))

    assert [(step.start, step.end - step.start) for step in series.steps] == [
        (NOON, STEP / 2), (NOON + 2 * STEP, STEP / 2),
    ]  # fmt: skip


@pytest.mark.parametrize(("hours", "horizon"), [(1, "1"), (4.5, "5"), (72, "72"), (100, "72")])
def test_a_forecast_reaches_as_far_as_asked_or_three_days(live, provider, hours, horizon):
    series = provider.forecast(CALIFORNIA, NOW, hours)

    assert live.asked[-1].params["horizon_hours"] == horizon
    assert series.start == NOON
    assert series.covers(NOW, min(NOW + timedelta(hours=hours), NOON + timedelta(hours=72)))
    assert series.end < NOW + timedelta(hours=hours) + STEP
    assert series.status == "forecast"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"region": "ERCOT"}, "`region` is not CAISO_NORTH"),
        ({"signal_type": "co2_aoer"}, "`signal_type` is not co2_moer"),
        ({"units": "g_co2_per_kwh"}, "`units` is not lbs_co2_per_mwh"),
        ({"units": None}, "`units` is not lbs_co2_per_mwh"),
        ({"data_point_period_seconds": 0}, "no number of seconds"),
        ({"data_point_period_seconds": "300"}, "no number of seconds"),
        ({"data_point_period_seconds": 10**30}, "no number of seconds"),
        ({"data_point_period_seconds": 3600}, "steps overlap"),
    ],
)
def test_another_signal_unit_or_region_is_not_believed(live, provider, changes, words):
    live.answers[FORECAST] = rates(NOON, 900, 901, **changes)

    assert words in str(refused(provider))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"data": []}, "no object"),
        ({"data": [{"value": 1}], "meta": rates(NOON)["meta"]}, "`point_time` is no moment"),
        (rates(NOON, BEARER), "`value` is no number"),
        (rates(NOON, {}), "`value` is no number"),
        (rates(NOON), "no figure for CAISO_NORTH holds now"),
        (rates(NOON, None), "no figure for CAISO_NORTH holds now"),
    ],
)
def test_an_answer_that_is_not_as_documented_is_not_believed(live, provider, body, words):
    live.answers[FORECAST] = body

    assert words in str(refused(provider))


def test_neither_password_nor_bearer_are_in_a_file_or_a_log(live, provider, tmp_path, caplog):
    caplog.set_level(0)
    live.answers[FORECAST] = rates(NOON, 900, note=BEARER, model=PASSWORD)
    live.answers[REGION] = {"region": "CAISO_NORTH", "region_full_name": BEARER}

    said = repr([provider.current(COORDINATES, NOW), provider])

    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) == 2
    kept = "".join(str(file) + file.read_text() for file in files)
    assert "CAISO_NORTH" in kept
    assert caplog.text, "the log of the connections is not listened to"
    for secret in (PASSWORD, BEARER, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()):
        assert secret not in kept + caplog.text + said
