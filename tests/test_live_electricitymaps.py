"""Electricity Maps, as documented and as it can go wrong: life-cycle averages, hour by hour, and never made-up ones."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta

import pytest
from live_server import Reply, everything_said_by, serving

from greenml.grid.live import RefusedError, Site, UnavailableError
from greenml.grid.live.electricitymaps import ElectricityMaps

NOW = datetime(2026, 3, 1, 12, 20)
HOUR = timedelta(hours=1)
TOKEN = "em-token-that-nobody-may-see"
GERMANY = Site(electricity_maps="DE")
LATEST, HISTORY, RANGE, FORECAST = (
    f"/carbon-intensity/{what}" for what in ("latest", "history", "past-range", "forecast")
)


@pytest.fixture(autouse=True)
def _places_of_our_own(tmp_path, monkeypatch):
    monkeypatch.setenv("GREENML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("ELECTRICITYMAPS_TOKEN", TOKEN)


@pytest.fixture
def live():
    with serving() as served:
        served.answers[LATEST] = point(noon())
        yield served


@pytest.fixture
def provider(live):
    return ElectricityMaps(**live.settings)


def point(moment, value=322, **changes):
    """As documented for `latest`, and for each hour of `history`."""
    return {
        "zone": "DE",
        "carbonIntensity": value,
        "datetime": f"{moment:%Y-%m-%dT%H:%M}:00.000Z",
        "updatedAt": "2026-03-01T11:46:10.233Z",
        "createdAt": "2026-02-26T15:43:23.481Z",
        "emissionFactorType": "lifecycle",
        "isEstimated": False,
        "estimationMethod": None,
    } | changes


def hours(start, *values, **changes):
    return [point(start + i * HOUR, value, **changes) for i, value in enumerate(values)]


def noon(day=1):
    return datetime(2026, 3, day, 12)


def refused(provider, what="current", *arguments):
    with pytest.raises(UnavailableError) as raised:
        getattr(provider, what)(GERMANY, *(arguments or (NOW,)))
    assert raised.value.hint
    assert str(raised.value).startswith("Electricity Maps: ")
    assert TOKEN not in everything_said_by(raised.value)
    return raised.value


def test_now_is_one_hour_with_all_that_is_known_of_it(live, provider):
    live.answers[LATEST] = point(noon())

    series = provider.current(GERMANY, NOW)

    (step,) = series.steps
    assert (step.start, step.end, step.g_per_kwh, step.status) == (noon(), noon() + HOUR, 322.0, "actual")
    assert (series.provider, series.source, series.zone) == ("electricitymaps", "Electricity Maps", "DE")
    assert (series.kind, series.factors) == ("average", "lifecycle")


def test_the_question_never_lets_the_service_guess_where_we_are(live, provider):
    live.answers[LATEST] = point(noon())

    provider.current(GERMANY, NOW)

    (asked,) = live.asked
    assert asked.params == {"zone": "DE", "emissionFactorType": "lifecycle", "disableCallerLookup": "true"}
    assert asked.headers["auth-token"] == TOKEN


def test_a_place_without_a_zone_of_its_own_is_refused_before_anybody_is_asked(live, provider):
    """India has five: the coordinates of its capital would give the northern one for all of it."""
    india = Site(latitude=28.6, longitude=77.2)

    with pytest.raises(RefusedError, match="no zone of its own"):
        provider.current(india, NOW)
    assert provider.lack(india) is not None
    assert provider.lack(GERMANY) is None
    assert live.asked == []


def test_estimated_hours_are_called_so_and_nulls_are_gaps(live, provider):
    values = [300, None, 310, 320]
    live.answers[HISTORY] = {
        "zone": "DE",
        "history": [
            *hours(noon() - 3 * HOUR, *values[:3]),
            point(noon(), 320, isEstimated=True, estimationMethod="TIME_SLICER_AVERAGE"),
        ],
    }

    series = provider.history(GERMANY, NOW - timedelta(hours=24), NOW, NOW)

    assert [step.g_per_kwh for step in series.steps] == [300, 310, 320]
    assert series.gaps(noon() - 3 * HOUR, noon()) == [(noon() - 2 * HOUR, noon() - HOUR)]
    assert [step.status for step in series.steps] == ["actual", "actual", "estimated"]
    assert series.end == noon() + HOUR


def test_what_does_not_say_whether_it_is_estimated_is_taken_to_be(live, provider):
    measured = point(noon())
    del measured["isEstimated"]
    live.answers[LATEST] = measured

    assert provider.current(GERMANY, NOW).status == "estimated"


def test_the_granularity_says_how_long_a_step_is(live, provider):
    quarters = [point(noon() + i * timedelta(minutes=15), 100 + i) for i in range(3)]
    live.answers[HISTORY] = {"zone": "DE", "history": quarters, "temporalGranularity": "15_minutes"}

    series = provider.history(GERMANY, noon(), NOW, NOW)

    # The third quarter is not within what was asked for; the second is whole, though it is not over.
    assert [(step.start, step.end) for step in series.steps] == [
        (noon() + i * timedelta(minutes=15), noon() + (i + 1) * timedelta(minutes=15)) for i in range(2)
    ]


def test_older_hours_are_asked_for_ten_days_at_a_time(live, provider):
    def past_range(handler):
        start, end = (datetime.fromisoformat(live.asked[-1].params[key][:-1]) for key in ("start", "end"))
        # Both ends, so that the hour between two parts comes twice.
        number = (end - start) // HOUR + 1
        handler.send({"data": hours(start, *range(number))})

    live.answers[RANGE] = past_range
    start = NOW - timedelta(days=25)

    series = provider.history(GERMANY, start, NOW - timedelta(days=1), NOW)

    assert series.covers(start, NOW - timedelta(days=1))
    assert series.start == start.replace(minute=0)
    assert [asked.params["start"] for asked in live.asked if asked.path == RANGE] == [
        "2026-02-04T12:00:00Z", "2026-02-14T12:00:00Z", "2026-02-24T12:00:00Z",
    ]  # fmt: skip


def test_nothing_is_asked_about_no_time(live, provider):
    assert provider.history(GERMANY, NOW, NOW - HOUR, NOW).steps == ()
    assert provider.history(GERMANY, NOW + HOUR, NOW + 2 * HOUR, NOW).steps == ()
    assert live.asked == []


@pytest.mark.parametrize(("wanted", "horizon"), [(4, "6"), (6, "6"), (6.5, "24"), (48, "48"), (72, "72"), (500, "72")])
def test_a_forecast_begins_with_this_hour_and_ends_with_what_was_asked_for(live, provider, wanted, horizon):
    foretold = [
        {"carbonIntensity": 100 + i, "datetime": f"{noon() + i * HOUR:%Y-%m-%dT%H:%M}:00Z"} for i in range(-2, 72)
    ]
    live.answers[FORECAST] = {
        "zone": "DE",
        "forecast": foretold,
        "updatedAt": "2026-03-01T12:10:00Z",
        "temporalGranularity": "hourly",
    }

    series = provider.forecast(GERMANY, NOW, wanted)

    assert series.start == noon()
    assert series.covers(NOW, min(NOW + wanted * HOUR, noon() + 72 * HOUR))
    assert series.end < NOW + wanted * HOUR + HOUR
    assert series.status == "forecast"
    assert live.asked[-1].params["horizonHours"] == horizon


@pytest.mark.parametrize("status", [401, 403])
def test_the_free_plan_has_no_forecast_and_that_is_said(live, provider, status):
    live.answers[FORECAST] = status

    error = refused(provider, "forecast", NOW, 24)

    assert isinstance(error, RefusedError)
    assert str(error) == f"Electricity Maps: no forecast in the plan of this token ({status})"
    assert "the last 24 hours" in error.hint


def test_a_token_that_is_refused_for_everything_is_not_called_a_poor_plan(live, provider):
    live.answers[LATEST] = 401
    live.answers[FORECAST] = 401

    assert str(refused(provider, "forecast", NOW, 24)) == "Electricity Maps: the token is refused for DE (401)"


def test_a_forecast_that_does_not_say_that_it_is_made_up_is_refused_all_the_same(live, provider, tmp_path):
    live.answers[LATEST] = point(noon(), isEstimated=True, estimationMethod="SANDBOX_MODE_DATA")
    live.answers[FORECAST] = {"zone": "DE", "forecast": [{"carbonIntensity": 1, "datetime": "2026-03-01T12:00:00Z"}]}

    assert "sandbox" in str(refused(provider, "forecast", NOW, 24))
    assert FORECAST not in live.paths
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("status", [401, 403])
def test_the_free_plan_has_no_older_history_and_that_is_said(live, provider, status):
    live.answers[RANGE] = status

    error = refused(provider, "history", NOW - timedelta(days=7), NOW, NOW)

    assert isinstance(error, RefusedError)
    assert "no history before 2026-02-28 12:20 UTC" in str(error)


@pytest.mark.parametrize(
    ("status", "words", "hint"),
    [
        (401, "the token is refused for DE", "ELECTRICITYMAPS_TOKEN"),
        (403, "the plan of this token does not cover DE", "one zone"),
        (404, "DE is no zone that it knows", "greenml grid regions"),
        (400, "DE is no zone that it knows", "greenml grid regions"),
    ],
)
def test_a_refusal_says_what_to_do(live, provider, status, words, hint):
    live.answers[LATEST] = Reply({"error": f"Invalid auth-token {TOKEN}"}, status)

    error = refused(provider)

    assert isinstance(error, RefusedError)
    assert str(error) == f"Electricity Maps: {words} ({status})"
    assert hint in error.hint
    assert len(live.asked) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"isEstimated": True, "estimationMethod": "SANDBOX_MODE_DATA"},
        {"_disclaimer": "SANDBOX MODE - this dataset is synthetic."},
    ],
)
@pytest.mark.parametrize("what", ["current", "history", "forecast"])
def test_made_up_data_is_refused_for_everything_and_kept_nowhere(live, provider, tmp_path, what, changes):
    live.answers[LATEST] = point(noon(), **changes)
    live.answers[HISTORY] = {"zone": "DE", "history": [*hours(noon() - HOUR, 1), point(noon(), **changes)]}
    live.answers[FORECAST] = {"zone": "DE", "forecast": hours(noon(), 1, **changes)}
    arguments = {"current": [NOW], "history": [NOW - HOUR, NOW, NOW], "forecast": [NOW, 6]}

    error = refused(provider, what, *arguments[what])

    assert isinstance(error, RefusedError)
    assert "sandbox" in str(error)
    assert not (tmp_path / "cache").exists()


def test_a_disclaimer_of_real_data_is_none(live, provider):
    live.answers[LATEST] = point(noon(), _disclaimer="Data licensed for academic use only.")

    assert provider.current(GERMANY, NOW).steps


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (point(noon(), zone="FR"), "another zone than DE"),
        ({"zone": "DE", "history": hours(noon(), 1, zone="FR")}, "another zone than DE"),
        (point(noon(), emissionFactorType="direct"), "not those of the life cycle"),
        (point(noon(), temporalGranularity="daily"), "`temporalGranularity`"),
        (point(noon(), temporalGranularity=["hourly"]), "`temporalGranularity`"),
        (point(noon(), datetime="2026-03-01T12:00:00"), "`datetime` is no moment"),
        (point(noon(), datetime=TOKEN), "`datetime` is no moment"),
        (point(noon(), datetime=1740830400), "`datetime` is no moment"),
        (point(noon(), datetime="9999-12-31T23:59:00Z"), "after the calendar"),
        (point(noon(), datetime="0001-01-01T00:00:00+14:00"), "`datetime` is no moment"),
        (point(noon(), "322"), "`carbonIntensity` is no number"),
        (point(noon(), TOKEN), "`carbonIntensity` is no number"),
        (point(noon(), -1), "`carbonIntensity` is no number"),
        (point(noon(), True), "`carbonIntensity` is no number"),
        (point(noon(), float("nan")), "`carbonIntensity` is no number"),
        (point(noon(), float("inf")), "`carbonIntensity` is no number"),
        (point(noon(), 10**400), "`carbonIntensity` is no number"),
        ({"zone": "DE", "history": [{"datetime": "2026-03-01T12:00:00Z"}]}, "`carbonIntensity` is no number"),
        ({"zone": "DE", "history": [*hours(noon(), 1), *hours(noon() + HOUR / 2, 2)]}, "steps overlap"),
        ({"zone": "DE", "history": [[]]}, "no object"),
        ({"zone": "DE", "history": "none"}, "no object"),
        ([], "no object"),
        (None, "no object"),
        ("DE", "no object"),
    ],
)
def test_an_answer_that_is_not_as_documented_is_not_believed(live, provider, body, words):
    live.answers[LATEST] = Reply(body)

    error = refused(provider)

    assert words in str(error)
    assert not isinstance(error, RefusedError)
    assert len(live.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"status": "no-data"},
        {"error": f"No recent data for zone {TOKEN}"},
        {"zone": "DE", "history": []},
        {"zone": "DE", "history": None},
        point(noon(), None),
        {},
    ],
)
def test_no_figures_are_none_and_said(live, provider, body):
    live.answers[LATEST] = body
    live.answers[HISTORY] = body
    live.answers[FORECAST] = body

    assert str(refused(provider)) == "Electricity Maps: no figure for DE holds now"
    history = refused(provider, "history", NOW - HOUR, NOW, NOW)
    assert str(history) == "Electricity Maps: no figures for DE from 2026-03-01 11:20 to 2026-03-01 12:20 UTC"
    assert "no figures for DE from now on" in str(refused(provider, "forecast", NOW, 24))


def test_an_hour_that_is_over_is_not_now(live, provider):
    live.answers[LATEST] = point(noon() - HOUR)

    error = refused(provider, "current", noon() + timedelta(minutes=2))

    assert "the newest ended at 2026-03-01 12:00 UTC" in str(error)
    assert error.later == noon() + timedelta(minutes=5)
    assert not isinstance(error, RefusedError)


# -- the cache --


def test_an_hour_is_asked_for_once_also_by_another_process(live, provider):
    live.answers[LATEST] = point(noon())

    first = provider.current(GERMANY, NOW)
    again = provider.current(GERMANY, NOW + timedelta(minutes=39))
    elsewhere = ElectricityMaps(**live.settings).current(GERMANY, NOW)

    assert first == again == elsewhere
    assert len(live.asked) == 1


def test_the_next_hour_is_asked_for_and_once_more_when_it_is_out(live, provider):
    live.answers[LATEST] = point(noon())
    provider.current(GERMANY, NOW)
    live.answers[LATEST] = point(noon() + HOUR, 100, isEstimated=True)
    assert provider.current(GERMANY, noon() + HOUR).status == "estimated"
    assert provider.current(GERMANY, noon() + HOUR + timedelta(minutes=4, seconds=59)).status == "estimated"
    assert len(live.asked) == 2
    live.answers[LATEST] = point(noon() + HOUR, 120)

    assert provider.current(GERMANY, noon() + HOUR + timedelta(minutes=5)).steps[0].g_per_kwh == 120
    assert provider.current(GERMANY, noon() + HOUR + timedelta(minutes=59)).status == "actual"
    assert len(live.asked) == 3


def test_an_answer_that_is_over_is_not_used_when_there_is_no_other(live, provider):
    live.answers[LATEST] = point(noon())
    provider.current(GERMANY, NOW)
    live.answers[LATEST] = 500

    assert refused(provider, "current", NOW + HOUR).status == 500


def test_a_clock_that_went_back_makes_no_answer_of_the_future(live, provider):
    live.answers[LATEST] = point(noon())
    provider.current(GERMANY, NOW)

    refused(provider, "current", NOW - timedelta(days=1))

    assert len(live.asked) == 2


def test_zones_and_horizons_do_not_share_what_is_kept(live, provider):
    live.answers[LATEST] = iter([point(noon()), point(noon(), 20, zone="FR")])

    assert provider.current(GERMANY, NOW).steps[0].g_per_kwh == 322
    assert provider.current(Site(electricity_maps="FR"), NOW).steps[0].g_per_kwh == 20


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[" * 100_000,
        lambda text: "[]",
        lambda text: text.replace("322.0", "NaN"),
        lambda text: text.replace("322.0", "null"),
        lambda text: text.replace('"actual"', '"certain"'),
        lambda text: text.replace('"version": 1', '"version": 0'),
        lambda text: text.replace("2026-03-01T13:00:00", "2026-03-01T11:00:00"),
        lambda text: text.replace('"question": ["electricitymaps"', '"question": ["another"'),
    ],
)
def test_a_damaged_file_is_asked_for_anew_and_written_anew(live, provider, tmp_path, spoil):
    live.answers[LATEST] = point(noon())
    provider.current(GERMANY, NOW)
    (file,) = (tmp_path / "cache" / "grid").iterdir()
    whole = file.read_text()
    file.write_text(spoil(whole))
    assert file.read_text() != whole

    assert provider.current(GERMANY, NOW).steps[0].g_per_kwh == 322

    assert len(live.asked) == 2
    assert file.read_text() == whole


def test_a_disk_that_keeps_nothing_costs_only_another_request(live, provider, tmp_path):
    (tmp_path / "cache").write_text("a file where a folder would be")
    live.answers[LATEST] = point(noon())

    assert provider.current(GERMANY, NOW) == provider.current(GERMANY, NOW)
    assert len(live.asked) == 2


# -- the token --


def test_without_a_token_nobody_is_asked_and_both_ways_to_set_it_are_said(live, provider, monkeypatch):
    monkeypatch.delenv("ELECTRICITYMAPS_TOKEN")
    monkeypatch.setitem(sys.modules, "keyring", None)

    error = refused(provider)

    assert isinstance(error, RefusedError)
    assert str(error) == "Electricity Maps: no token: ELECTRICITYMAPS_TOKEN is not set"
    assert "export ELECTRICITYMAPS_TOKEN=..." in error.hint
    assert "keyring set greenml ELECTRICITYMAPS_TOKEN" in error.hint
    assert str(provider.lack(GERMANY)) == str(error)
    assert live.asked == []


def test_no_token_refuses_what_another_token_was_given_too(live, provider, monkeypatch):
    live.answers[LATEST] = point(noon())
    provider.current(GERMANY, NOW)
    monkeypatch.setenv("ELECTRICITYMAPS_TOKEN", " ")
    monkeypatch.setitem(sys.modules, "keyring", None)

    assert "no token" in str(refused(provider))


@pytest.mark.parametrize("odd", ["two words", "a\nb", "tökén", "a\x7fb"])
def test_what_cannot_be_a_token_is_refused_without_being_printed(live, provider, monkeypatch, odd):
    monkeypatch.setenv("ELECTRICITYMAPS_TOKEN", odd)

    error = refused(provider)

    assert isinstance(error, RefusedError)
    assert odd not in everything_said_by(error)
    assert live.asked == []


def test_the_end_of_a_line_is_no_part_of_a_token(live, provider, monkeypatch):
    monkeypatch.setenv("ELECTRICITYMAPS_TOKEN", f"{TOKEN}\n")
    live.answers[LATEST] = point(noon())

    provider.current(GERMANY, NOW)

    assert live.asked[0].headers["auth-token"] == TOKEN


def test_the_token_is_in_no_log_no_file_and_no_name(live, provider, tmp_path, caplog, capfd):
    caplog.set_level(0)
    live.answers[LATEST] = point(noon(), estimationMethod=TOKEN, note=TOKEN)
    live.answers[HISTORY] = {"zone": "DE", "history": hours(noon(), 1, estimationMethod=TOKEN), TOKEN: TOKEN}

    said = [provider.current(GERMANY, NOW), provider.history(GERMANY, NOW - HOUR, NOW, NOW), provider, vars(provider)]

    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) == 2
    kept = "".join(str(file) + file.read_text() for file in files)
    assert "322.0" in kept
    assert caplog.text, "the log of the connections is not listened to"
    assert TOKEN not in kept + caplog.text + repr(said) + json.dumps(capfd.readouterr())
