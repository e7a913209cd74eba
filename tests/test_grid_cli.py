"""`greenml grid now`, `forecast` and `plan`: through the app, on traces and services of the test's own, at noon."""

from __future__ import annotations

import json
import math
import time
from datetime import datetime, timedelta

import pytest

from greenml import config as configs
from greenml import grid
from greenml.cli import feeds, gridasking
from greenml.cli.feeds import Asked
from greenml.errors import UsageError
from greenml.grid import moments, outlook, windows
from greenml.grid.feed import Feed, Known, Live
from greenml.grid.live import RefusedError, Site, UnavailableError, provider
from greenml.grid.series import Series, regular
from greenml.grid.windows import Load

NOW = datetime(2026, 3, 3, 12)
HOUR = timedelta(hours=1)
DAY = [
    300,
    300,
    200,
    100,
    100,
    200,
    400,
    400,
    400,
    300,
    300,
    300,
    300,
    300,
    300,
    300,
    300,
    300,
    300,
    300,
    300,
    300,
    300,
    300,
]
"""From noon to noon; the cleanest four hours are those from 14:00 on, of 150 g/kWh."""


@pytest.fixture(autouse=True)
def at_noon(monkeypatch, tmp_path):
    """It is noon, in UTC; nobody has a token, and whatever reaches for a network fails the test."""
    monkeypatch.setattr("greenml.grid.series.now", lambda: NOW)
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("GREENML_CACHE", str(tmp_path / "cache"))
    for name in ("ELECTRICITYMAPS_TOKEN", "WATTTIME_USER", "WATTTIME_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("greenml.grid.live.tokens._from_keyring", lambda name: "")
    monkeypatch.setattr("greenml.grid.live.client.Client.get", refuse_network)
    provider.known()
    monkeypatch.setattr(provider, "_MAKERS", dict(provider._MAKERS))
    monkeypatch.chdir(tmp_path)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def refuse_network(*arguments, **_):
    raise AssertionError(f"asked for {arguments}")


def trace(tmp_path, values, *, name="trace.csv", start=NOW, kind=None):
    """A CSV by the hour; None is a gap."""
    lines = [f"{(start + i * HOUR).isoformat()}Z,{'' if value is None else value}" for i, value in enumerate(values)]
    head = "start,g_per_kwh"
    if kind:
        head, lines = f"{head},kind", [f"{line},{kind}" for line in lines]
    (tmp_path / name).write_text("\n".join([head, *lines, ""]))
    return name


def series(values, *, start=NOW, status="actual", **facts):
    values = {"provider": "here", "source": "A service", "zone": "DE", "factors": "lifecycle"} | facts | {
        "steps": tuple(regular(start, HOUR, values, status))
    }  # fmt: skip
    return Series(**values)


def wave(hours, *, start):
    """Hours from `start` on; what repeats every day, noon 100 g/kWh less than midnight."""
    return [
        300 + 50 * math.cos(2 * math.pi * ((start + i * HOUR).hour) / 24) + i % 3  # i % 3: forecasts are never perfect
        for i in range(hours)
    ]


class Service:
    """Answers what it is given, and errors by raising them; `zones` are those that it knows."""

    title, factors, step = "A service", "lifecycle", HOUR

    def __init__(self, name="here", *, zones=("DE",), kind="average", current=None, forecast=None, history=None):
        self.name, self.kind, self.zones = name, kind, zones
        self.answers = {"current": current, "forecast": forecast, "history": history}
        self.asked = []

    def lack(self, site):
        if site.electricity_maps in self.zones:
            return None
        return RefusedError(f"{self.name}: does not know this place", hint="name another")

    def zone(self, site):
        return site.electricity_maps

    def current(self, site, now):
        return self._answer("current")

    def history(self, site, start, end, now):
        return self._answer("history").between(start, end)

    def forecast(self, site, now, hours):
        return self._answer("forecast")

    def _answer(self, what):
        self.asked.append(what)
        answer = self.answers[what]
        if answer is None:
            raise UnavailableError(f"{self.name}: no {what} in its plan", hint="another plan has")
        return answer


@pytest.fixture
def serve(monkeypatch):
    """Make a service known that a place is asked about."""

    def add(service):
        monkeypatch.setitem(provider._MAKERS, service.name, lambda: service)
        return service

    return add


def rows(greenml, *arguments):
    code, out, err = greenml("grid", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


# now


def test_now_says_how_it_is_known_from_when_to_when_and_how_it_stands_in_the_week(greenml, tmp_path):
    past = [100.0] * 36 + [500.0] * 12
    trace(tmp_path, [*past, 300.0, 200.0], start=NOW - 48 * HOUR)

    [row] = rows(greenml, "now", "--trace", "trace.csv")

    assert (row["g_per_kwh"], row["status"], row["provider"], row["kind"]) == (300.0, "actual", "trace", "average")
    assert (row["start"], row["end"]) == ("2026-03-03T12:00:00Z", "2026-03-03T13:00:00Z")
    assert row["percentile"] == 75.0
    _, out, _ = greenml("grid", "now", "--trace", "trace.csv")
    assert [line.rstrip() for line in out.splitlines()[:3]] == [
        "now        300 g/kWh, actual",
        "holds      12:00 to 13:00",
        "last week  higher than 75 % of the time that is known",
    ]


def test_a_model_is_called_one_and_a_token_is_what_it_lacks(greenml, db):
    db.path.unlink()
    code, out, err = greenml("grid", "now", "--region", "DE")

    assert code == 0
    assert "g/kWh, modelled" in out
    assert "day-curve" in out
    assert "learned: less than a day of this zone is known so far; asked instead: day-curve" in err
    assert "ELECTRICITYMAPS_TOKEN is not set" in err
    assert not db.path.exists(), "asking makes no store"


def test_a_given_figure_holds_from_no_moment_to_another(greenml):
    [row] = rows(greenml, "now", "--intensity", "250")

    assert (row["g_per_kwh"], row["status"], row["start"], row["percentile"]) == (250.0, "assumed", None, None)


def test_a_service_that_is_down_is_a_line_on_stderr_and_another_answers(greenml, serve):
    serve(Service(current=None))
    code, out, err = greenml("grid", "now", "--region", "DE")

    assert code == 0
    assert "modelled" in out
    assert "here: here: no current in its plan; asked instead: learned" in err


def test_what_a_service_publishes_is_remembered_and_is_the_week_that_now_stands_in(greenml, db, serve):
    past = series([100.0] * 8 + [500.0] * 8, start=NOW - 40 * HOUR)
    db.remember(past, NOW)
    serve(Service(current=series([300.0]), history=series([100.0] * 24, start=NOW - 24 * HOUR)))

    [row] = rows(greenml, "now", "--region", "DE")

    assert (row["g_per_kwh"], row["status"], row["provider"], row["zone"]) == (300.0, "actual", "here", "DE")
    assert row["percentile"] == 80.0
    assert len(db.remembered("here", "DE").steps) == 41
    assert row["annual_g_per_kwh"] == grid.resolve("DE").g_per_kwh


# forecast


def test_the_chart_is_golden_at_80_columns(greenml, tmp_path):
    trace(tmp_path, [400, 300, None, 100, 150, 200])
    code, out, err = greenml("grid", "forecast", "--trace", "trace.csv", "--hours", "6", "--duration", "2h")

    assert (code, out.splitlines()) == (0, CHART.strip("\n").splitlines())
    assert "▶ the cleanest 2h: 15:00 to 17:00, 125 g/kWh" in err
    assert "unknown: 14:00 to 15:00" in err


CHART = """
                g/kWh
Tue 03  12:00     400  actual     █████████████████████████████████████████████
        13:00     300  actual     █████████████████████████████████▊
        14:00       –  –
        15:00     100  actual    ▶███████████▎
        16:00     150  actual    ▶████████████████▉
        17:00     200  actual     ██████████████████████▌
"""


@pytest.mark.parametrize("width", [80, 120])
def test_the_chart_fits_the_screen_and_two_days_take_a_line_for_two_hours(greenml, tmp_path, width):
    trace(tmp_path, [100.0 * (1 + i % 7) for i in range(48)])
    _, out, _ = greenml("grid", "forecast", "--trace", "trace.csv", "--hours", "48", width=width)

    assert len(out.splitlines()) == 1 + 24
    assert max(map(len, out.splitlines())) <= width
    assert "\x1b" not in out, "no colours where it is piped"


def test_the_chart_is_by_the_clock_of_this_machine(greenml, tmp_path, monkeypatch):
    trace(tmp_path, [100.0] * 6)
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    _, out, _ = greenml("grid", "forecast", "--trace", "trace.csv", "--hours", "3")

    assert [line[8:13] for line in out.splitlines()[1:]] == ["17:00", "18:00", "19:00", "20:00"]


def test_rows_of_a_forecast_are_steps_and_gaps_are_null(greenml, tmp_path):
    trace(tmp_path, [400, None, 100])
    found = rows(greenml, "forecast", "--trace", "trace.csv", "--hours", "4")

    assert [(row["g_per_kwh"], row["status"], row["provider"]) for row in found] == [
        (400, "actual", "trace"), (None, None, None), (100, "actual", "trace"), (None, None, None),
    ]  # fmt: skip
    assert [row["end"] for row in found[:-1]] == [row["start"] for row in found[1:]]


# plan


def test_the_plan_is_the_best_window_and_says_what_it_saves_by_hand(greenml, tmp_path):
    trace(tmp_path, DAY)
    [row] = rows(greenml, "plan", "--duration", "4h", "--trace", "trace.csv", "--watts", "1000", "--idle-watts", "50")

    assert (row["start"], row["end"]) == ("2026-03-03T14:00:00Z", "2026-03-03T18:00:00Z")
    assert (row["intensity_g_per_kwh"], row["now_g_per_kwh"]) == (150.0, 225.0)
    assert row["saved_share"] == pytest.approx(1 / 3)
    assert row["saved_g"] == pytest.approx(4 * (225 - 150))
    # Two hours of 50 W at 300 g/kWh before it.
    assert row["net_g"] == pytest.approx(4 * (225 - 150) - 0.1 * 300)
    assert row["net_share"] == pytest.approx((300 - 30) / 900)
    assert (row["status"], row["provider"], row["saved_share_low"]) == ("actual", "trace", None)
    assert row["windows"] == [{"start": row["start"], "end": row["end"], "g_per_kwh": 150.0}]


def test_the_screen_of_a_plan_is_golden_and_ends_with_the_command(greenml, tmp_path):
    trace(tmp_path, DAY)
    code, out, err = greenml("grid", "plan", "--duration", "4h", "--trace", "trace.csv", "--deadline", "tomorrow-08:00")

    assert (code, [line.rstrip() for line in out.splitlines()]) == (0, PLAN.strip("\n").splitlines())
    assert err.splitlines() == ["trace: trace.csv, average"]


PLAN = """
run        14:00 to 18:00
intensity  150 g/kWh against 225 now (actual)
saved      33 %; no interval
net        27 %: it idles at 10 % of the run's power, assumed

  greenml train ... --when-green --deadline 2026-03-04T08:00+00:00 --trace trace.csv
"""


def test_the_command_of_a_plan_has_the_deadline_as_a_moment_whenever_it_is_typed(greenml, tmp_path, monkeypatch):
    trace(tmp_path, [*DAY, *DAY])
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    arguments = ("--duration", "2h", "--deadline", "8h")
    _, out, _ = greenml("grid", "plan", *arguments, "--trace", "trace.csv")
    assert "--deadline 2026-03-04T01:30+05:30" in out
    assert moments.parse("2026-03-04T01:30+05:30", now=NOW + 3 * HOUR) == NOW + 8 * HOUR
    _, ranked, _ = greenml("grid", "plan", *arguments, "--regions", "DE,FR")
    assert "--deadline 2026-03-04T01:30+05:30" in ranked


def test_a_plan_for_later_has_no_command_as_train_would_begin_sooner(greenml, tmp_path):
    trace(tmp_path, [*DAY, *DAY])
    later = ("--duration", "2h", "--start", "22:00", "--deadline", "8h")
    code, out, _ = greenml("grid", "plan", *later, "--trace", "trace.csv")
    assert code == 0
    assert "greenml train" not in out
    code, ranked, _ = greenml("grid", "plan", *later, "--regions", "DE,FR")
    assert code == 0
    assert "greenml train" not in ranked


def test_what_idles_loses_what_it_would_save_and_is_told_to_leave(greenml, tmp_path):
    trace(tmp_path, [110.0] * 20 + [100.0] * 4)
    code, out, err = greenml("grid", "plan", "--duration", "4h", "--trace", "trace.csv")

    assert code == 0
    assert "saved      9 %" in out
    assert "net        -41 %" in out
    assert "waiting does not pay while the machine idles" in err
    assert out.rstrip().endswith("--exit-on-pause")
    [stays] = rows(greenml, "plan", "--duration", "4h", "--trace", "trace.csv", "--stays-on")
    assert stays["net_share"] == pytest.approx(stays["saved_share"])
    assert (stays["idle_share"], stays["idle_source"]) == (0.0, "stays on")


def test_a_job_that_may_pause_runs_in_pieces_where_that_pays(greenml, tmp_path):
    trace(tmp_path, [100, 900, 100, 900, 100, 900] + [900] * 18)
    arguments = ("plan", "--duration", "3h", "--trace", "trace.csv", "--interruptible", "--watts", "100")

    [off] = rows(greenml, *arguments, "--idle-watts", "0")
    assert [(window["start"][11:16], window["g_per_kwh"]) for window in off["windows"]] == [
        ("12:00", 100), ("14:00", 100), ("16:00", 100),
    ]  # fmt: skip
    assert off["saved_share"] == pytest.approx(1 - 300 / 1100)
    # Two restarts of 30 s at 100 W, at 100 g/kWh.
    assert off["saved_g"] - off["net_g"] == pytest.approx(2 * 100 * 30 / 3.6e6 * 100)
    [once] = rows(greenml, *arguments, "--idle-watts", "0", "--max-pauses", "1")
    assert len(once["windows"]) <= 2
    [idle] = rows(greenml, *arguments, "--idle-watts", "100")
    assert (len(idle["windows"]), idle["start"]) == (1, "2026-03-03T12:00:00Z")

    _, out, _ = greenml("grid", *arguments, "--idle-watts", "0")
    assert "--pause-above 100" in out
    assert "off while it waits and 2 restarts" in out


def test_the_plan_counts_from_its_start_and_a_trace_may_lie_in_the_past(greenml, tmp_path):
    trace(tmp_path, DAY, start=datetime(2020, 1, 1, 12))
    found = rows(
        greenml, "plan", "--duration", "4h", "--trace", "trace.csv", "--start", "2020-01-01T12:00Z", "--deadline", "12h"
    )

    assert (found[0]["start"], found[0]["saved_share"]) == ("2020-01-01T14:00:00Z", pytest.approx(1 / 3))
    _, out, _ = greenml(
        "grid", "plan", "--duration", "4h", "--trace", "trace.csv", "--start", "2020-01-01T12:00Z", "--deadline", "12h"
    )
    assert "greenml train" not in out, "nothing waits for what is over"


def test_a_learned_forecast_has_an_interval_from_how_wrong_it_was(greenml, db):
    start = NOW - 50 * 24 * HOUR
    db.remember(series(wave(50 * 24, start=start), start=start, provider="electricitymaps"), NOW)

    [row] = rows(greenml, "plan", "--duration", "4h", "--region", "DE", "--start", "now", "--watts", "100")

    # Noon is the cleanest: at once, or tomorrow before noon; the deadline of 24 h leaves the one.
    assert (row["status"], row["provider"], row["zone"]) == ("modelled", "learned", "DE")
    [evening] = rows(greenml, "plan", "--duration", "4h", "--region", "DE", "--start", "18:00", "--deadline", "24h")
    assert evening["saved_share"] > 0.1
    assert evening["saved_share_low"] < evening["saved_share"] < evening["saved_share_high"]
    assert evening["saved_g"] is None, "no grams without watts"


def test_a_model_of_another_level_does_not_go_on_with_what_a_service_told(greenml, serve):
    """Else the cleanest window is where the two meet."""
    serve(Service(current=series([900.0]), forecast=None))
    [row] = rows(greenml, "plan", "--duration", "2h", "--region", "DE")

    assert row["provider"] == "day-curve"
    assert row["now_g_per_kwh"] < 900
    assert (
        "not mixed with these, as on another level: here"
        in greenml("grid", "plan", "--duration", "2h", "--region", "DE")[2]
    )


def test_a_forecast_that_ends_early_is_planned_on_as_far_as_it_goes(greenml, serve):
    serve(Service(current=series([300.0]), forecast=series([300.0] * 10 + [200.0] * 6, status="forecast")))
    arguments = ("plan", "--duration", "2h", "--region", "DE")
    [row] = rows(greenml, *arguments)

    assert (row["start"], row["provider"], row["status"]) == ("2026-03-03T22:00:00Z", "here", "forecast")
    assert row["known_until"] == "2026-03-04T04:00:00Z"
    assert "nothing is known after tomorrow 04:00" in greenml("grid", *arguments)[2]


# where


def test_regions_are_ranked_and_who_is_unknown_is_listed(greenml):
    found = rows(greenml, "plan", "--duration", "4h", "--regions", "IN-TN,SE,FR,AQ")

    assert [row["rank"] for row in found] == [1, 2, 3, None]
    assert [row["region"] for row in found][2:] == ["IN-TN", "AQ"]
    assert found[-1]["intensity_g_per_kwh"] is None
    assert "Antarctica" in found[-1]["why"]
    home = next(row for row in found if row["region"] == "IN-TN")
    assert found[0]["against_first_share"] == pytest.approx(1 - found[0]["intensity_g_per_kwh"] / home["now_g_per_kwh"])
    assert len({tuple(row) for row in found}) == 1, "every row has every field"

    code, out, err = greenml("grid", "plan", "--duration", "4h", "--regions", "IN-TN,SE,FR,AQ")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()[2:6]] == [
        ["1", found[0]["region"]], ["2", found[1]["region"]], ["3", "IN-TN"], ["–", "AQ"],
    ]  # fmt: skip
    assert max(map(len, out.splitlines())) <= 80
    assert "left out: moving the data and the job there" in err
    assert f"--region {found[0]['region']} --when-green" in out


def test_averages_and_marginal_figures_are_never_ranked_in_one_table(greenml, serve):
    serve(Service("marginal", zones=("FR",), kind="marginal", current=series([10.0], kind="marginal"),
                  forecast=series([10.0] * 24, kind="marginal", status="forecast")))  # fmt: skip
    found = rows(greenml, "plan", "--duration", "4h", "--regions", "DE,FR", "--watts", "100")

    assert [(row["region"], row["kind"], row["rank"]) for row in found] == [
        ("DE", "average", 1), ("FR", "marginal", 1),
    ]  # fmt: skip
    assert found[1]["against_first_share"] is None
    assert (found[1]["saved_g"], found[1]["net_g"]) == (None, None), "averages alone account"
    _, out, _ = greenml("grid", "plan", "--duration", "4h", "--regions", "DE,FR")
    assert out.index("average intensities") < out.index(" DE ") < out.index("marginal intensities") < out.index(" FR ")


def test_marginal_figures_end_in_no_command_that_train_would_refuse(greenml, tmp_path, serve):
    trace(tmp_path, DAY, kind="marginal")
    code, out, err = greenml("grid", "plan", "--duration", "4h", "--trace", "trace.csv")
    assert (code, "greenml train" in out) == (0, False)
    assert "no command: `train` reckons by its --trace, and marginal intensities account for nothing" in err

    serve(Service("marginal", kind="marginal", current=series([10.0], kind="marginal"),
                  forecast=series([10.0] * 24, kind="marginal", status="forecast")))  # fmt: skip
    code, out, err = greenml("grid", "plan", "--duration", "4h", "--region", "DE", "--provider", "marginal")
    assert (code, "greenml train" in out) == (0, False)
    assert "no command: `train` reckons by its --provider" in err
    assert "`provider: marginal` under `schedule:` steers" in err


# wrong use

ON_TRACE = "plan --duration 4h --trace t.csv"
BAD = [
    ("now", 2, "whose grid is not known"),
    ("forecast", 2, "whose grid is not known"),
    ("plan --duration 4h", 2, "whose grid is not known"),
    ("now --region Atlantis", 2, "Atlantis"),
    ("now --region AQ", 5, "Antarctica: nobody who could be asked knows the intensity of now"),
    ("now --trace t.csv --intensity 250", 2, "--intensity and --trace: two answers"),
    ("now --intensity nan", 2, "--intensity nan: not between 0 and 10,000 g/kWh"),
    ("forecast --intensity inf", 2, "--intensity inf: not between"),
    ("plan --duration 4h --intensity 10001", 2, "--intensity 10001: not between"),
    ("now --region DE --provider electricity", 2, "unknown provider `electricity`"),
    ("now --region DE --provider electricitymaps", 5, "ELECTRICITYMAPS_TOKEN is not set"),
    ("now --region DE --trace-shift", 2, "--trace-shift without --trace"),
    ("now --trace past.csv", 2, "says nothing about the intensity of now"),
    ("forecast --trace t.csv --hours 2 --duration 3h", 2, "more than the 2 hours"),
    ("plan --duration 4 --trace t.csv", 2, "--duration: `4` has no unit"),
    (ON_TRACE + " --deadline noonish", 2, "--deadline: `noonish` is no moment"),
    (ON_TRACE + " --deadline 2026-03-03T08:00Z", 2, "that was 4:00:00 ago"),
    ("plan --duration 4h --region DE --start 2026-03-03T08:00Z", 2, "--start 2026-03-03T08:00Z: that was 4:00:00 ago"),
    (ON_TRACE + " --start 20:00 --deadline 2026-03-03T18:00Z", 2, "before --start"),
    (ON_TRACE + " --deadline 3h", 2, "do not fit between 12:00 and 15:00"),
    ("plan --duration 4h --trace short.csv", 2, "the forecast is shorter than the job: known from 12:00 to 15:00"),
    ("plan --duration 4h --trace gaps.csv", 2, "without a gap in what is known: the first is 14:00 to 15:00"),
    ("plan --duration 4h --trace past.csv", 2, "says nothing about the time from 12:00 to tomorrow 12:00"),
    ("plan --duration 4h --trace naive.csv", 2, "has no offset from UTC"),
    ("plan --duration 4h --trace overlap.csv", 2, "overlaps line 2"),
    ("plan --duration 4h --trace negative.csv", 2, "is negative"),
    ("plan --duration 4h --trace nowhere.csv", 2, "no such trace file"),
    ("plan --duration 4h --region AQ", 5, "Antarctica: nobody"),
    ("plan --duration 4h --regions DE,Atlantis", 2, "Atlantis"),
    ("plan --duration 4h --regions ,", 2, "no region in it"),
    ("plan --duration 4h --regions DE --trace t.csv", 2, "--regions with the figures of one place"),
    (ON_TRACE + " --idle-watts 5", 2, "--idle-watts without --watts"),
    (ON_TRACE + " --watts 0", 2, "--watts 0"),
    (ON_TRACE + " --watts nan", 2, "--watts nan"),
    (ON_TRACE + " --max-pauses 1", 2, "--max-pauses without --interruptible"),
    (ON_TRACE + " --restart soon", 2, "--restart: `soon`"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "code", "words"), BAD, ids=[bad[0] for bad in BAD])
def test_wrong_use_is_two_lines_and_a_way_out(greenml, tmp_path, arguments, code, words):
    trace(tmp_path, DAY, name="t.csv")
    trace(tmp_path, [100.0] * 3, name="short.csv")
    trace(tmp_path, [100.0, 100.0, None] * 8, name="gaps.csv")
    trace(tmp_path, DAY, name="past.csv", start=datetime(2020, 1, 1))
    (tmp_path / "naive.csv").write_text("start,g_per_kwh\n2026-03-03T12:00,100\n")
    (tmp_path / "negative.csv").write_text("start,g_per_kwh\n2026-03-03T12:00Z,-5\n2026-03-03T13:00Z,5\n")
    (tmp_path / "overlap.csv").write_text(
        "start,end,g_per_kwh\n2026-03-03T12:00Z,2026-03-03T14:00Z,5\n2026-03-03T13:00Z,2026-03-03T15:00Z,5\n"
    )
    done, out, err = greenml("grid", *arguments.split())

    assert (done, out) == (code, "")
    error, hint = [line for line in err.splitlines() if not line.startswith("learned: ")]
    assert error.startswith("greenml: error: ")
    assert words in error
    assert hint.startswith("hint: ")


# what it is made of


def test_a_window_saves_what_it_saves_whoever_reckons():
    known = Known(series([float(value) for value in DAY]))
    seen = outlook.look(Feed([known]), NOW, NOW + 24 * HOUR)
    offer = outlook.offer(Feed([known]), seen, duration=4 * HOUR, load=Load(2.0, 1.0, 60.0))

    assert offer.windows == (windows.best(seen.series, duration=4 * HOUR, earliest=NOW, deadline=NOW + 24 * HOUR),)
    assert offer.saving == windows.saving(seen.series, offer.windows, Load(2.0, 1.0, 60.0), now=NOW, duration=4 * HOUR)


def test_what_each_source_adds_makes_the_whole():
    feed = Feed([Known(series([1.0, None, 3.0])), Known(series([7.0] * 5, provider="other"))])
    parts = feed.ahead_by_source(NOW, NOW + 5 * HOUR)

    assert [[step.g_per_kwh for step in part.steps] for part in parts] == [[1.0, 3.0], [7.0, 7.0, 7.0]]
    assert feed.ahead(NOW, NOW + 5 * HOUR).steps == tuple(
        sorted((step for part in parts for step in part.steps), key=lambda step: step.start)
    )


def test_what_holds_now_is_told_whole_by_who_knows_it():
    down = Live(Service(), Site(), now=lambda: NOW)
    feed = Feed([down, Known(series([1.0, 2.0], start=NOW - HOUR / 2))])
    held = feed.holding(NOW)

    assert [(step.start, step.end) for step in held.steps] == [(NOW - HOUR / 2, NOW + HOUR / 2)]
    assert [fallback.instead for fallback in feed.fallbacks()] == ["here"]


def test_how_now_stands_is_a_share_of_the_time_that_is_known():
    past = series([100.0] * 12 + [None] * 5 + [300.0] * 12, start=NOW - 29 * HOUR)

    assert windows.standing(past, NOW, 200.0) == 50.0
    assert windows.standing(past, NOW, 100.0) == 0.0
    assert windows.standing(past, NOW, 301.0) == 100.0
    assert windows.standing(past.between(NOW - 20 * HOUR, NOW), NOW, 200.0) is None, "less than a day says nothing"


def test_an_inquiry_learns_from_the_last_day_of_a_service(db, serve):
    service = serve(Service(current=series([300.0]), history=series([100.0] * 24, start=NOW - 24 * HOUR)))
    gridasking.inquire(Asked(region="DE"), db.path, NOW)

    assert service.asked == ["history"]
    assert len(db.remembered("here", "DE").steps) == 24


def test_feeds_of_a_place_ask_only_who_can(db, serve):
    serve(Service("elsewhere", zones=("FR",)))
    assert "elsewhere" not in feeds.open_feed(Asked(region="DE"), db, grid.resolve("DE"), clock=lambda: NOW).names


def test_an_intensity_that_is_given_is_as_high_as_train_takes():
    for check in (gridasking.check_intensity, lambda given: configs.validate({"model": "cnn", "intensity": given})):
        check(10_000)
        with pytest.raises(UsageError, match="--intensity"):
            check(10_001)
