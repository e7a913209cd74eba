"""NESO's half-hours of Great Britain, its regions and postcodes, in both shapes that it gives."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from live_server import serving

from greenml.errors import UsageError
from greenml.grid.live import RefusedError, Site, UnavailableError
from greenml.grid.live.neso import Neso

NOW = datetime(2026, 3, 1, 12, 10)
HALF_HOUR = timedelta(minutes=30)
NOON = datetime(2026, 3, 1, 12)
BRITAIN = Site(electricity_maps="GB", latitude=51.5, longitude=-0.1)
LONDON = Site(electricity_maps="GB", gb_region=13)
READING = Site(electricity_maps="GB", gb_postcode="RG10")


@pytest.fixture(autouse=True)
def _places_of_our_own(tmp_path, monkeypatch):
    monkeypatch.setenv("GREENML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def live():
    with serving() as served:
        yield served


@pytest.fixture
def provider(live):
    return Neso(**live.settings)


def at(moment):
    return f"{moment:%Y-%m-%dT%H:%MZ}"


def half_hour(start, forecast, actual=..., **changes):
    """As documented; of a region there is no `actual`."""
    intensity = {"forecast": forecast, "index": "moderate"} | ({} if actual is ... else {"actual": actual})
    return {"from": at(start), "to": at(start + HALF_HOUR), "intensity": intensity} | changes


def region(*half_hours, **facts):
    return {"regionid": 13, "dnoregion": "UKPN London", "shortname": "London", "data": list(half_hours)} | facts


def half_hours(live, start, end, *, of=half_hour):
    """What lies between, and the one that ends at its beginning, which the service gives, too."""
    number = (end - start) // HALF_HOUR
    return [of(start + i * HALF_HOUR, 200 + i % 7) for i in range(-1, number)]


def test_now_is_what_was_measured_or_else_what_was_foretold(live, provider):
    path = f"/intensity/{at(NOON)}/{at(NOON + HALF_HOUR)}"
    live.answers[path] = iter(
        [
            {"data": [half_hour(NOON - HALF_HOUR, 260, 250), half_hour(NOON, 266, 263)]},
            {"data": [half_hour(NOON, 266, None)]},
        ]
    )

    measured = provider.current(BRITAIN, NOON)
    foretold = provider.current(BRITAIN, NOW)  # the first was asked for before it was out

    assert [(step.start, step.g_per_kwh, step.status) for step in measured.steps] == [(NOON, 263.0, "actual")]
    assert [(step.start, step.g_per_kwh, step.status) for step in foretold.steps] == [(NOON, 266.0, "forecast")]
    assert (measured.provider, measured.zone, measured.kind, measured.factors) == ("neso", "GB", "average", "direct")
    assert live.asked[0].headers["Accept"] == "application/json"


@pytest.mark.parametrize("wrap", [lambda found: found, lambda found: [found]], ids=["object", "list"])
@pytest.mark.parametrize(
    ("site", "where", "zone", "facts"),
    [
        (LONDON, "regionid/13", "region 13", {}),
        (LONDON, "regionid/13", "region 13", {"regionid": "13"}),
        (READING, "postcode/RG10", "RG10", {"regionid": 12, "postcode": "RG10"}),
    ],
)
def test_regions_come_as_an_object_or_in_a_list_and_are_forecasts_alone(live, provider, wrap, site, where, zone, facts):
    span = f"{at(NOON)}/{at(NOON + HALF_HOUR)}"
    live.answers[f"/regional/intensity/{span}/{where}"] = {"data": wrap(region(half_hour(NOON, 80), **facts))}
    live.answers[f"/regional/intensity/{at(NOON)}/fw48h/{where}"] = {
        "data": wrap(region(*[half_hour(NOON + i * HALF_HOUR, 80 + i) for i in range(-1, 96)], **facts))
    }

    now, coming = provider.current(site, NOW), provider.forecast(site, NOW, 48)

    assert now.zone == coming.zone == zone
    assert now.status == coming.status == "forecast"
    assert coming.start == NOON
    assert coming.end == NOON + timedelta(hours=48)


def test_one_half_hour_may_stand_without_its_list(live, provider):
    live.answers[f"/intensity/{at(NOON)}/{at(NOON + HALF_HOUR)}"] = {"data": half_hour(NOON, 266, 263)}

    assert provider.current(BRITAIN, NOW).steps[0].g_per_kwh == 263


def test_half_hours_of_which_nothing_is_known_are_gaps(live, provider):
    live.answers[f"/intensity/{at(NOON - 2 * HALF_HOUR)}/{at(NOON + HALF_HOUR)}"] = {
        "data": [
            half_hour(NOON - 2 * HALF_HOUR, 200, 210),
            half_hour(NOON - HALF_HOUR, None, None),
            half_hour(NOON, 220, None, intensity=None),
        ]
    }

    series = provider.history(BRITAIN, NOON - 2 * HALF_HOUR, NOW, NOW)

    assert [step.g_per_kwh for step in series.steps] == [210]


def test_a_long_past_is_asked_for_two_weeks_at_a_time(live, provider):
    start, middle, end = NOON - timedelta(days=20), NOON - timedelta(days=6), NOON + HALF_HOUR
    for first, last in ((start, middle), (middle, end)):
        live.answers[f"/intensity/{at(first)}/{at(last)}"] = {"data": half_hours(live, first, last)}

    series = provider.history(BRITAIN, start, NOW + timedelta(days=1), NOW)

    assert series.covers(start, NOW)
    assert series.start == start
    assert series.end == end, "the future is no history"
    assert len(live.asked) == 2


@pytest.mark.parametrize(("hours", "span"), [(4, "fw24h"), (24, "fw24h"), (25, "fw48h"), (72, "fw48h")])
def test_a_forecast_is_of_one_day_or_two(live, provider, hours, span):
    live.answers[f"/intensity/{at(NOON)}/{span}"] = {
        "data": half_hours(live, NOON, NOON + timedelta(hours=int(span[2:4])))
    }

    series = provider.forecast(BRITAIN, NOW, hours)

    assert series.start == NOON
    assert series.covers(NOW, min(NOW + timedelta(hours=hours), NOON + timedelta(hours=int(span[2:4]))))
    assert series.end < NOW + timedelta(hours=hours) + HALF_HOUR


def test_a_half_hour_is_asked_for_when_it_begins_and_when_it_is_out_and_no_more(live, provider):
    span = f"/intensity/{at(NOON)}/fw24h"
    live.answers[span] = {"data": half_hours(live, NOON, NOON + timedelta(days=1))}

    for seconds in (0, 30, 59, 60, 61, 600, 1799):
        provider.forecast(BRITAIN, NOON + timedelta(seconds=seconds), 24)

    assert live.paths == [span, span]


@pytest.mark.parametrize("written", ["RG10", "rg10", " rg10 9aa ", "RG109AA"])
def test_of_a_postcode_the_first_half_is_asked_for(live, provider, written):
    path = f"/regional/intensity/{at(NOON)}/{at(NOON + HALF_HOUR)}/postcode/RG10"
    live.answers[path] = {"data": region(half_hour(NOON, 80), postcode="RG10")}

    assert provider.current(Site(gb_postcode=written), NOW).zone == "RG10"


@pytest.mark.parametrize("written", ["", "RG", "10", "RG10/../../x", "RG10 9A", "RG10 9AA?x=1", "ＲＧ10"])
def test_what_is_no_postcode_is_refused_before_anybody_is_asked(live, provider, written):
    with pytest.raises(UsageError, match="no postcode"):
        provider.current(Site(gb_postcode=written), NOW)
    assert live.asked == []


@pytest.mark.parametrize("number", [0, 18, -1])
def test_there_are_seventeen_regions(provider, number):
    with pytest.raises(UsageError, match=f"no region {number}"):
        provider.lack(Site(gb_region=number))


@pytest.mark.parametrize("site", [Site(), Site(electricity_maps="DE"), Site(electricity_maps="GB-NIR")])
def test_elsewhere_it_is_not_asked(live, provider, site):
    with pytest.raises(RefusedError, match="Great Britain"):
        provider.forecast(site, NOW, 24)
    assert provider.lack(site) is not None
    assert provider.lack(BRITAIN) is None
    assert live.asked == []


@pytest.mark.parametrize("status", [400, 404])
def test_an_unknown_postcode_is_refused(live, provider, status):
    live.answers[f"/regional/intensity/{at(NOON)}/fw24h/postcode/RG10"] = status

    with pytest.raises(RefusedError) as raised:
        provider.forecast(READING, NOW, 24)
    assert str(raised.value) == f"NESO Carbon Intensity API: RG10 is not known ({status})"
    assert "first half" in raised.value.hint


@pytest.mark.parametrize(
    "body",
    [
        {"data": []},
        {"data": None},
        {"data": [half_hour(NOON, None, None)]},
        {"error": {"code": "400 Bad Request", "message": "Please enter a valid date"}},
    ],
)
def test_an_empty_answer_is_no_figures(live, provider, body):
    live.answers[f"/intensity/{at(NOON)}/fw24h"] = body

    with pytest.raises(UnavailableError, match="no figures for GB from now on") as raised:
        provider.forecast(BRITAIN, NOW, 24)
    assert raised.value.later == NOON + HALF_HOUR


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"data": region(half_hour(NOON, 80), regionid=12)}, "not about region 13"),
        ({"data": [half_hour(NOON, "80")]}, "`forecast` is no number"),
        ({"data": [half_hour(NOON, 80, -2)]}, "`actual` is no number"),
        ({"data": [{"from": at(NOON), "to": at(NOON), "intensity": {"forecast": 1}}]}, "ends before it begins"),
        ({"data": [{"from": at(NOON), "to": None, "intensity": {"forecast": 1}}]}, "`to` is no moment"),
        ({"data": [{"from": at(NOON)[:-1], "to": at(NOON), "intensity": {"forecast": 1}}]}, "`from` is no moment"),
        ({"data": [half_hour(NOON, 80, intensity=80)]}, "no object"),
        ({"data": [half_hour(NOON, 80, intensity={"index": "low"})]}, "`forecast` is no number"),
        ({"data": "none"}, "no object"),
        ([half_hour(NOON, 80)], "no object"),
    ],
)
def test_an_answer_that_is_not_as_documented_is_not_believed(live, provider, body, words):
    live.answers[f"/regional/intensity/{at(NOON)}/fw24h/regionid/13"] = body

    with pytest.raises(UnavailableError, match=words):
        provider.forecast(LONDON, NOW, 24)
