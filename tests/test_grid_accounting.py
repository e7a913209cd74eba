"""What counts in a run, as people ask for it: `--intensity`, `--trace`, or the yearly average of their region."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from conftest import make_end, make_phase, make_run

import greenml as library
from greenml import config as configs
from greenml.cli import resuming, watching
from greenml.errors import PolicyError, UsageError
from greenml.grid import live
from greenml.grid.accounting import intensity_of, series_of
from greenml.grid.live import RefusedError, UnavailableError, provider
from greenml.grid.series import Series, now, regular
from greenml.units import co2_g

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from conftest import Greenml

    from greenml.config import Config
    from greenml.grid.live import Site
    from greenml.store import Store

A = "aaaa00000000"
HOUR = timedelta(hours=1)
DIGITS = ("train", "cnn", "--dataset", "digits", "--device", "cpu", "--region", "IN", "-q")


def asked(**keys: Any) -> Config:
    return configs.validate({"model": "cnn", **keys})


def write(path: Path, start: datetime, values: Sequence[float | None]) -> str:
    """A trace, hour by hour."""
    lines = [f"{start + i * HOUR:%Y-%m-%dT%H:%MZ},{'' if each is None else each}" for i, each in enumerate(values)]
    path.write_text("\n".join(["start,g_per_kwh", *lines]) + "\n")
    return str(path)


@pytest.fixture
def flat(tmp_path: Path) -> str:
    """250 g/kWh from two hours ago to two hours from now."""
    return write(tmp_path / "flat.csv", now().replace(minute=0) - 2 * HOUR, [250.0] * 5)


def spent(db: Store) -> dict[str, Any]:
    [run] = db.rows("from leaderboard order by started_at desc limit 1")
    return run


def test_one_of_two_says_what_a_kwh_emits() -> None:
    with pytest.raises(UsageError, match="--intensity and --trace: both say what a kWh emits"):
        intensity_of(asked(intensity=250, trace="de.csv"))
    with pytest.raises(UsageError, match="--trace-shift without --trace"):
        intensity_of(asked(trace_shift=True))


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 20_000])
def test_an_intensity_that_cannot_be_is_refused(value: float) -> None:
    with pytest.raises(UsageError, match="--intensity"):
        asked(intensity=value)


def test_how_intensity_is_known_does_not_tell_repeats_apart() -> None:
    hashes = {configs.group_hash(asked(**keys)) for keys in ({}, {"intensity": 250}, {"trace": "a.csv"})}
    assert len(hashes) == 1


def test_a_trace_of_another_time_says_what_it_covers(tmp_path: Path) -> None:
    file = write(tmp_path / "old.csv", now().replace(year=2020, month=3, day=2, hour=0, minute=0), [300.0] * 200)
    with pytest.raises(UsageError, match="covers 2020-03-02 00:00 to 2020-03-10 08:00 UTC, and not now") as caught:
        series_of(asked(trace=file), now())
    assert "--trace-shift" in caught.value.hint
    shifted = series_of(asked(trace=file, trace_shift=True), now())
    assert shifted is not None
    assert (shifted.at(now()) or shifted.steps[0]).status == "assumed"


def test_marginal_traces_may_steer_and_never_account(tmp_path: Path) -> None:
    file = tmp_path / "marginal.csv"
    file.write_text("start,g_per_kwh,end,kind\n2026-03-01T12:00Z,300,2026-03-01T13:00Z,marginal\n")
    with pytest.raises(UsageError, match="marginal intensities account for nothing"):
        series_of(asked(trace=str(file)), now())


def test_a_training_under_a_constant_trace_has_the_grams_of_that_intensity(
    db: Store, greenml: Greenml, flat: str
) -> None:
    """Every epoch, every phase, and the whole; a resumed life goes on with the trace."""
    code, out, err = greenml(*DIGITS, "--epochs", "1", "--trace", flat, "--json")
    assert (code, err) == (0, "")
    [run] = json.loads(out)
    assert run["co2_g"] == co2_g(run["energy_kwh"] * 3.6e6, 250.0) == pytest.approx(run["energy_kwh"] * 250)
    assert (run["intensity_g_per_kwh"], run["intensity_level"], run["intensity_status"]) == (250.0, "trace", "actual")
    assert run["intensity_source"].startswith("flat.csv; in its gaps Our World in Data")
    assert {row["g_per_kwh"] for row in db.rows("from phases")} == {250.0}
    [epoch] = db.rows("from epochs")
    assert (epoch["g_per_kwh"], epoch["total_g_per_kwh"]) == (250.0, 250.0)
    [stored] = db.rows("from runs")
    assert stored["intensity_g_per_kwh"] == pytest.approx(713.0, abs=1)

    assert greenml("train", "--resume", run["run_id"], "--epochs", "2", "-q")[0] == 0
    assert spent(db)["co2_g"] == pytest.approx(spent(db)["energy_kwh"] * 250)
    assert spent(db)["intensity_g_per_kwh"] == 250.0


def test_a_given_intensity_counts_at_all_times(db: Store, greenml: Greenml) -> None:
    code, _, err = greenml(*DIGITS[:-1], "--epochs", "1", "--intensity", "250")
    assert code == 0
    assert "250 g/kWh at all times, as given with --intensity" in err
    run = spent(db)
    assert run["co2_g"] == pytest.approx(run["energy_kwh"] * 250)
    assert (run["intensity_level"], run["intensity_source"]) == ("fixed", "as given with --intensity")
    assert {row["g_per_kwh"] for row in db.rows("from phases")} == {None}


def test_a_carbon_budget_is_spent_at_the_intensity_of_the_hour(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    """At 140 times the average of India the first batch spends what is no hundredth of it otherwise."""
    dirty = write(tmp_path / "dirty.csv", now().replace(minute=0) - 2 * HOUR, [1e5] * 5)
    assert greenml(*DIGITS, "--epochs", "3", "--trace", dirty, "--carbon-budget", "100mg")[0] == 0
    assert spent(db)["stop_reason"] == "carbon-budget"


def test_what_a_resumed_run_has_spent_counts_at_its_hours(db: Store, greenml: Greenml, flat: str) -> None:
    assert greenml(*DIGITS, "--epochs", "1", "--trace", flat)[0] == 0
    run_id, grams = spent(db)["run_id"], spent(db)["co2_g"]
    with pytest.raises(UsageError, match="ended by carbon-budget"):
        resuming.take_up(db, run_id, {"epochs": 5, "carbon_budget": f"{0.99 * grams:.9f}g"})
    job = resuming.take_up(db, run_id, {"epochs": 5, "carbon_budget": f"{1.01 * grams:.9f}g"})
    assert job.past_g_per_kwh == 250.0


def test_what_a_resumed_run_has_waited_is_no_time_that_it_has_spent(db: Store) -> None:
    """40 s of work and 10 s of waiting: a time budget of 41 s goes on with it, one of 40 s does not."""
    phases = [make_phase(A, seq, name="wait" if seq == 2 else "train") for seq in range(5)]
    db.write([make_run(A, epochs_asked=9, config={"model": "cnn", "epochs": 9}), *phases])
    assert resuming.take_up(db, A, {}).past.duration_s == 40
    db.write([make_end(A, status="done", stop_reason="time-budget")])
    assert resuming.take_up(db, A, {"time_budget": "41s"}).past.duration_s == 40
    with pytest.raises(UsageError, match="ended by time-budget"):
        resuming.take_up(db, A, {"time_budget": "40s"})


def test_what_is_tracked_counts_by_the_trace_too(replayed: Store, flat: str) -> None:
    with library.track(region="IN", trace=flat, quiet=True) as run:
        run.log(epoch=1, val_accuracy=0.5)
        assert run.co2_g() is not None
    row = spent(replayed)
    assert row["co2_g"] == pytest.approx(row["energy_kwh"] * 250)
    [epoch] = replayed.rows("from epochs")
    assert (epoch["g_per_kwh"], epoch["total_g_per_kwh"]) == (250.0, 250.0)
    assert epoch["co2_g"] == pytest.approx(epoch["energy_kwh"] * 250)


def test_a_gap_in_the_trace_of_a_tracked_program_is_a_decision(replayed: Store, tmp_path: Path) -> None:
    start = now().replace(minute=0) - HOUR
    gap = write(tmp_path / "gap.csv", start, [250.0, None, None, 250.0])
    with library.track(region="IN", trace=gap, quiet=True):
        pass
    [decision] = replayed.rows("from decisions")
    assert (decision["what"], decision["intensity_status"]) == ("fallback", "assumed")
    assert "gap.csv says nothing of" in decision["why"]
    row = spent(replayed)
    assert row["co2_g"] == pytest.approx(row["energy_kwh"] * 713, rel=0.01)


def test_a_policy_holds_for_a_program_that_tracks_itself(
    replayed: Store, tmp_path: Path, flat: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it would have a command wait; the intensity is that of the trace, or the yearly one."""
    (tmp_path / "ours.yaml").write_text("never_above: 300\nregions: [IN]\nbudget_per_week: {energy: 1kWh}\n")
    monkeypatch.setenv("GREENML_POLICY", str(tmp_path / "ours.yaml"))
    for refused, words in (({"region": "IN"}, "713.4 g/kWh .assumed. is above"), ({"region": "DE"}, "DE is not in IN")):
        with pytest.raises(PolicyError, match=words):
            library.track(**refused, quiet=True).start()
    assert replayed.rows("from runs") == []
    with library.track(region="IN", trace=flat, quiet=True) as run:
        pass
    [mine] = replayed.rows("select distinct run_id, command from audit where outcome = 'allowed'")
    assert mine == {"run_id": run.id, "command": "track"}
    assert replayed.rows("select count(distinct run_id) as n from audit where outcome = 'refused'") == [{"n": 2}]


def test_a_sweep_counts_its_trials_at_their_hours(db: Store, greenml: Greenml, flat: str) -> None:
    """And holds them against each other by one factor, whatever the hour."""
    code, _, err = greenml(
        "sweep", "--models", "cnn", "--dataset", "digits", "--trials", "1", "--epochs-max", "1", "--device", "cpu",
        "--region", "IN", "--trace", flat, "-q",
    )  # fmt: skip
    assert code == 0, err
    [sweep] = db.rows("from sweeps")
    assert sweep["co2_g"] == pytest.approx(sweep["energy_kwh"] * 250)
    [point] = db.rows("from sweep_points")
    assert point["co2_g"] == pytest.approx(point["energy_kwh"] * 713, rel=0.01)


# Services


class Somewhere:
    """A service that has published what `told` says, and may be away."""

    name, title, kind, factors, step = "somewhere", "Somewhere", "average", "lifecycle", HOUR
    told = (250.0,)
    is_away = False

    def lack(self, site: Site) -> RefusedError | None:
        return None

    def zone(self, site: Site) -> str | None:
        return "DE"

    def current(self, site: Site, now: datetime) -> Series:
        return self.history(site, now - HOUR, now, now)

    def history(self, site: Site, start: datetime, end: datetime, now: datetime) -> Series:
        if self.is_away:
            raise UnavailableError("somewhere does not answer", hint="later")
        begin = now.replace(minute=0, second=0, microsecond=0) - len(self.told) * HOUR
        steps = tuple(regular(begin, HOUR, self.told))
        return Series(steps=steps, provider=self.name, source=self.title, zone="DE", factors="lifecycle")

    def forecast(self, site: Site, now: datetime, hours: float) -> Series:
        raise UnavailableError("nothing is foretold", hint="later")


class Steering(Somewhere):
    """The same, with marginal intensities."""

    name, kind = "steering", "marginal"


@pytest.fixture
def somewhere(monkeypatch: pytest.MonkeyPatch) -> type[Somewhere]:
    """The service, known by its name, beside one that steers."""
    monkeypatch.setitem(provider._MAKERS, "somewhere", Somewhere)
    monkeypatch.setitem(provider._MAKERS, "steering", Steering)
    for module in (live, provider):
        monkeypatch.setattr(module, "known", lambda: ["somewhere", "steering"])
    monkeypatch.setattr(Somewhere, "is_away", False)
    return Somewhere


def test_a_service_is_asked_while_it_trains_and_what_it_told_is_kept(
    db: Store, greenml: Greenml, somewhere: type[Somewhere]
) -> None:
    """Its last hour has ended: what it said of that holds on, as an estimate."""
    code, _, err = greenml(*DIGITS[:-2], "DE", "-q", "--epochs", "1", "--provider", "somewhere")
    assert (code, err) == (0, "")
    run = spent(db)
    assert run["co2_g"] == pytest.approx(run["energy_kwh"] * 250)
    assert (run["intensity_status"], run["intensity_level"]) == ("estimated", "live")
    assert db.remembered("somewhere", "DE").steps[-1].g_per_kwh == somewhere.told[-1]


def test_a_dry_run_keeps_nothing_of_what_a_service_told(
    db: Store, greenml: Greenml, somewhere: type[Somewhere]
) -> None:
    db.path.unlink()
    # The day curve, which stands in for what is not foretold, is below that at every hour.
    flags = ("--provider", "somewhere", "--max-intensity", "2000", "--dry-run")
    code, _, err = greenml(*DIGITS[:-2], "DE", "-q", "--epochs", "1", *flags)
    assert code == 0, err
    assert "asked instead: day-curve" in err
    assert "grid    starts at once" in err
    assert not db.path.exists()


GREEN = {"when_green": True}


@pytest.mark.parametrize(
    ("keys", "level", "source"),
    [
        ({"provider": "somewhere"}, "live", "somewhere; what it does not know, "),
        ({"schedule": GREEN | {"provider": "somewhere"}}, "live", "somewhere; what it does not know, "),
        ({"schedule": GREEN}, "live", "somewhere; what it does not know, "),
        ({"schedule": GREEN | {"provider": "steering"}}, "live", "somewhere; what it does not know, "),
        ({"schedule": {"provider": "somewhere"}}, "country", ""),
        ({"intensity": 250, "schedule": GREEN}, "fixed", "as given"),
        ({}, "country", ""),
    ],
)
def test_who_is_asked_by_the_hour_is_who_the_run_is_stored_with(
    db: Store, somewhere: type[Somewhere], keys: dict[str, Any], level: str, source: str
) -> None:
    config = asked(region="DE", **keys)
    intensity = intensity_of(config)
    assert intensity.level == level
    assert intensity.source.startswith(source)
    assert (watching.watch_of(config, intensity, db) is not None) == (level == "live")


def test_where_no_service_can_be_asked_the_yearly_average_counts_under_its_name(
    db: Store, somewhere: type[Somewhere], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(somewhere, "lack", lambda self, site: RefusedError("no token", hint="set it"))
    config = asked(region="DE", schedule=GREEN)
    assert intensity_of(config).level == "country"
    assert watching.watch_of(config, intensity_of(config), db) is None


def test_a_service_that_lacks_a_token_alone_is_told_once_where_a_run_may_wait(
    db: Store, greenml: Greenml, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WattTime has no name for the place, and NESO does not know it: of these there is nothing to tell."""
    for name in ("ELECTRICITYMAPS_TOKEN", "WATTTIME_USER", "WATTTIME_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("greenml.grid.live.tokens._from_keyring", lambda name: "")
    flags = ("--epochs", "2", "--max-intensity", "2000", "--check-interval", "0.001s")
    code, _, err = greenml(*DIGITS[:-2], "DE", "-q", *flags)
    assert code == 0, err
    why = "electricitymaps: Electricity Maps: no token: ELECTRICITYMAPS_TOKEN is not set; asked instead: learned"
    assert err.count(why) == err.count("no token") == 1
    told = [row["why"] for row in db.rows("from decisions where what = 'fallback' order by seq")]
    assert told[0] == why
    assert len(told) == len(set(told))


def test_a_service_of_marginal_intensities_steers_and_is_refused_where_it_should_account(
    db: Store, greenml: Greenml, somewhere: type[Somewhere]
) -> None:
    code, _, err = greenml(*DIGITS, "--epochs", "1", "--provider", "steering")
    assert code == 2
    assert "--provider steering tells marginal intensities, which account for nothing" in err
    assert "`provider: steering` under `schedule:`" in err
    assert db.rows("from runs") == []


def test_a_service_that_is_away_leaves_the_yearly_average_and_says_so(
    db: Store, greenml: Greenml, somewhere: type[Somewhere], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(somewhere, "is_away", True)
    code, _, err = greenml(*DIGITS[:-2], "DE", "-q", "--epochs", "1", "--provider", "somewhere")
    assert code == 0
    assert err.count("somewhere does not answer") == 1
    [decision] = db.rows("from decisions")
    assert decision["what"] == "fallback"
    [stored] = db.rows("from runs")
    assert spent(db)["intensity_g_per_kwh"] == stored["intensity_g_per_kwh"]
    assert spent(db)["intensity_status"] == "assumed"


def test_who_answers_in_place_of_a_service_that_is_away_is_a_decision_once(
    db: Store, greenml: Greenml, somewhere: type[Somewhere], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away(Somewhere):
        name, is_away = "away", True

    monkeypatch.setitem(provider._MAKERS, "away", Away)
    for module in (live, provider):
        monkeypatch.setattr(module, "known", lambda: ["away", "somewhere"])
    code, _, err = greenml(*DIGITS[:-2], "DE", "-q", "--epochs", "2", "--max-intensity", "900")
    assert code == 0, err
    why = "away: somewhere does not answer; asked instead for what was emitted: somewhere"
    assert err.count(why) == 1
    assert db.rows("select count(*) as n from decisions where what = 'fallback' and why = ?", [why]) == [{"n": 1}]
    assert spent(db)["co2_g"] == pytest.approx(spent(db)["energy_kwh"] * 250)


def test_a_service_that_nobody_knows_is_refused_before_anything_begins(db: Store, greenml: Greenml) -> None:
    code, _, err = greenml(*DIGITS, "--epochs", "1", "--provider", "nesso")
    assert code == 2
    assert "unknown provider `nesso`" in err
    assert db.rows("from runs") == []
