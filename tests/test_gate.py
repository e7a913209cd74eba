"""What holds a sweep and a tracked program up before they begin. The clock is the tests' own."""

from __future__ import annotations

import json
import shlex
import sys
from datetime import timedelta

import pytest
from conftest import make_end, make_phase, make_run
from test_held_up import store_of, trace
from test_policy_cli import Clock, policy
from test_sweep_cli import seat, sweep  # noqa: F401

from greenml.cli import gate, searchpast
from greenml.grid import planner
from greenml.grid import series as series_module

HOUR = timedelta(hours=1)
A = "a" * 12
PROGRAM = ("--", sys.executable, "-c", "print('trained')")


@pytest.fixture
def clock(monkeypatch):
    own = Clock(series_module.now())
    monkeypatch.setattr(planner, "SystemClock", lambda: own)
    return own


def decided(db):
    return [(row["what"], row["why"]) for row in db.rows("from decisions where what <> 'fallback' order by seq")]


# A program


def test_a_program_waits_below_a_limit_and_its_decisions_are_kept_with_its_run(tmp_path, quick, clock):
    begun = clock.at
    file = trace(tmp_path, 500, 500, *[100] * 8)

    code, _, said = quick("track", "--trace", file, "--max-intensity", "300", "--max-wait", "4h", *PROGRAM)

    assert code == 0, said
    assert HOUR <= clock.at - begun <= 2 * HOUR
    [(wait, why), (start, _)] = decided(store_of(tmp_path))
    assert (wait, start) == ("wait", "start")
    assert why == f"500 g/kWh are above 300; {gate.UNMETERED}"
    assert gate.UNMETERED in said
    [run] = store_of(tmp_path).rows("select status from runs")
    assert run["status"] == "done"


def test_a_program_of_known_duration_begins_in_its_cleanest_window(tmp_path, quick, clock):
    begun = clock.at
    file = trace(tmp_path, *[500] * 5, 100, 100, *[500] * 20)

    code, _, said = quick("track", "--trace", file, "--when-green", "--duration", "90m", "--stays-on", *PROGRAM)

    assert code == 0, said
    assert 4 * HOUR <= clock.at - begun <= 5 * HOUR
    [row] = store_of(tmp_path).rows("select saved_share from decisions where what = 'wait'")
    assert row["saved_share"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--when-green"], "how long it takes is not known"),
        (["--when-green", "--duration", "soon"], "--duration: "),
        (["--duration", "2h"], "--duration without --when-green"),
        (["--stays-on"], "--stays-on without anything to wait for"),
        (["--when-green", "--duration", "2h", "--deadline", "2020-01-01T00:00Z"], "ago"),
    ],
)
def test_what_would_do_nothing_or_cannot_be_done_is_said(tmp_path, quick, clock, flags, why):
    code, _, said = quick("track", *flags, *PROGRAM)
    assert code == 2
    assert why in said
    assert store_of(tmp_path).rows("from runs") == []


def test_who_is_interrupted_while_waiting_leaves_nothing(tmp_path, quick, clock, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(clock, "sleep", interrupt)
    file = trace(tmp_path, *[500] * 8)

    code, out, said = quick("track", "--trace", file, "--max-intensity", "300", *PROGRAM)

    assert (code, out) == (130, "")
    assert "waits until" in said
    assert store_of(tmp_path).rows("from runs") == []
    assert not (tmp_path / "store").exists()


def test_who_leaves_rather_than_waits_says_how_the_very_same_command_is_run_later(tmp_path, quick, clock, monkeypatch):
    file = trace(tmp_path, 500, 500, *[100] * 8)
    words = ["track", "--trace", file, "--max-intensity", "300", "--max-wait", "4h", "--deadline", "6h"]
    words += ["--exit-on-pause", "--", "./train.sh", "--deadline", "9"]
    program = tmp_path / "train.sh"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", ["greenml", *words])

    code, _, said = quick(*words)

    assert code == 75
    at = clock.at + 6 * HOUR
    own = [*words[1:7], "--exit-on-pause", "--", "./train.sh", "--deadline", "9"]
    pinned = ["greenml", "track", "--deadline", f"{at:%Y-%m-%dT%H:%M:%S}+00:00", *own]
    assert shlex.join(pinned) in said
    assert store_of(tmp_path).rows("from runs") == []


def test_a_program_is_refused_by_a_policy(tmp_path, quick, monkeypatch):
    monkeypatch.setenv("GREENML_POLICY", policy(tmp_path, "never_above: 300\non_violation: refuse"))
    code, out, said = quick("track", "--intensity", "475", *PROGRAM)
    assert (code, out) == (6, "")
    assert "above 300 g/kWh" in said
    db = store_of(tmp_path)
    assert db.rows("from runs") == []
    assert db.rows("select command, outcome from audit") == [{"command": "track", "outcome": "refused"}]


def test_the_verdict_on_a_program_bears_the_id_of_its_run(tmp_path, quick, clock):
    file = policy(tmp_path, "never_above: 300")
    code, _, said = quick("track", "--trace", trace(tmp_path, 500, *[100] * 8), "--policy", file, *PROGRAM)
    assert code == 0, said
    assert f"policy ours ({file})" in said
    rows = store_of(tmp_path).rows("select outcome from audit join runs using (run_id) order by decided_at")
    assert [row["outcome"] for row in rows] == ["waited", "allowed"]


# A search


def test_a_search_waits_and_keeps_its_decisions(tmp_path, sweep, db, clock):  # noqa: F811
    begun = clock.at
    file = trace(tmp_path, 500, 500, *[100] * 8)

    code, _, said = sweep("--trials", "2", "--trace", file, "--max-intensity", "300", "--max-wait", "4h")

    assert code == 0, said
    assert clock.at - begun >= HOUR
    kinds = db.rows("select distinct kind from decisions join runs using (run_id) where what <> 'fallback'")
    assert kinds == [{"kind": "sweep"}]
    assert [what for what, _ in decided(db)] == ["wait", "start"]
    assert db.rows("select count(*) as n from trials") == [{"n": 2}]


def test_a_search_with_a_time_budget_takes_so_long_at_most(tmp_path, sweep, db, clock):  # noqa: F811
    begun = clock.at
    file = trace(tmp_path, *[500] * 5, 100, 100, *[500] * 20)
    flags = ("--trace", file, "--when-green", "--stays-on")
    assert sweep("--trials", "1", *flags)[0] == 2
    code, _, said = sweep("--trials", "1", *flags, "--time-budget", "90m")
    assert code == 0, said
    assert 4 * HOUR <= clock.at - begun <= 5 * HOUR


def test_a_search_is_refused_by_a_policy(tmp_path, sweep, db):  # noqa: F811
    file = policy(tmp_path, "never_above: 300")
    code, _, said = sweep("--trials", "1", "--intensity", "475", "--policy", file)
    assert code == 6
    assert "above 300 g/kWh" in said
    assert db.rows("from runs") == []
    assert db.rows("select command, outcome from audit") == [{"command": "sweep", "outcome": "refused"}]


def test_a_broken_policy_holds_the_next_trial_back(tmp_path, sweep, seat, db, clock):  # noqa: F811
    """An hour goes by with every trial, and every other hour is dirty."""

    def pass_an_hour(_):
        clock.at += HOUR

    seat.before = pass_an_hour
    file = policy(tmp_path, "never_above: 300")
    code, _, said = sweep("--trials", "3", "--trace", trace(tmp_path, *[100, 500] * 12), "--policy", file)

    assert code == 0, said
    assert [what for what, _ in decided(db)] == ["pause", "resume"] * 2
    assert "pauses until" in said
    assert db.rows("select count(*) as n from trials where state = 'complete'") == [{"n": 3}]
    assert {row["outcome"] for row in db.rows("from audit")} == {"allowed", "waited"}


def test_a_search_pauses_between_two_trials_above_a_level(tmp_path, sweep, seat, db, clock):  # noqa: F811
    """An hour goes by with every trial. Three are left after the first, so that waiting for 100 g/kWh pays; what it
    draws meanwhile is its own, in a phase that is no time of the search."""

    def pass_an_hour(_):
        clock.at += HOUR

    seat.before = pass_an_hour
    file = trace(tmp_path, 100, *[500] * 3, *[100] * 20)
    code, _, said = sweep("--trials", "4", "--trace", file, "--pause-above", "400", "--stays-on")

    assert code == 0, said
    [(pause, why), (resume, _)] = decided(db)
    assert (pause, resume) == ("pause", "resume")
    assert why == "500 g/kWh are above 400; goes on below 360"
    assert [len(seat.tasks), *db.rows("select count(*) as n from trials where state = 'complete'")] == [4, {"n": 4}]
    [run] = db.rows("select run_id from runs where kind = 'sweep'")
    phases = db.rows("select name, ended_at - started_at as lasted from phases where run_id = ?", [run["run_id"]])
    waited_s = sum(row["lasted"].total_seconds() for row in phases if row["name"] == "wait")
    assert waited_s > 0
    assert db.rows("select waited_s from run_totals where run_id = ?", [run["run_id"]]) == [
        {"waited_s": pytest.approx(waited_s)}
    ]


def test_a_search_that_would_leave_in_its_midst_is_refused(tmp_path, sweep, db):  # noqa: F811
    code, _, said = sweep("--trials", "1", "--intensity", "475", "--pause-above", "400", "--exit-on-pause")
    assert code == 2
    assert "leave out --exit-on-pause or --pause-above" in said


def test_who_may_leave_before_a_search_is_told_that_it_stays_between_two_trials(tmp_path, sweep, db):  # noqa: F811
    file = policy(tmp_path, "never_above: 900")
    code, _, said = sweep("--trials", "1", "--intensity", "475", "--policy", file, "--exit-on-pause")
    assert code == 0, said
    assert "from here on it stays, also between two trials" in said


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--max-intensity", "300"], 0, "grid      waits until"),
        (["--max-intensity", "600"], 0, "grid      starts at once"),
        (["--policy", "strict.yaml"], 6, "the policy `strict` does not allow it"),
        (["--when-green"], 2, "how long it takes is not known"),
        (["--when-green", "--duration", "2h", "--deadline", "2020-01-01T00:00Z"], 2, "ago"),
        (["--resume-below", "3"], 2, "--resume-below without"),
    ],
)
def test_a_dry_run_of_a_search_says_what_it_would_wait_for_or_why_not_and_keeps_nothing(
    tmp_path,
    sweep,  # noqa: F811
    db,
    flags,
    code,
    words,
):
    policy(tmp_path, "never_above: 100\non_violation: refuse", "strict")
    asked = ("--trace", trace(tmp_path, 500, 500, *[200] * 24), *flags, "--dry-run")

    ended, out, said = sweep(*asked)

    assert ended == code, said
    assert words in said
    assert bool(out) == (code == 0)
    if code == 0:
        [plan] = json.loads(sweep(*asked, "--json")[1])
        assert bool(plan["decisions"]) == ("waits" in words)
    assert db.rows("select run_id from runs union all select run_id from audit") == []


def test_what_a_search_waited_is_no_time_that_it_took(db):
    """Ten of thirty seconds."""
    names = ("search", "wait", "search")
    phases = [make_phase(A, seq, name=name) for seq, name in enumerate(names)]
    db.write([make_run(A, kind="sweep"), *phases, make_end(A)])
    assert db.rows(searchpast.DURATION, [A]) == [{"duration_s": 20.0}]
    assert db.rows(searchpast.DURATION, ["none"]) == [{"duration_s": 0.0}]


def test_a_command_is_the_same_but_for_its_deadline():
    words = ["sweep", "--trials", "3", "--deadline=6h"]
    assert gate.again(words, command="sweep", deadline=None) == words
    assert gate.again(words, command="sweep", deadline="T") == ["sweep", "--deadline", "T", "--trials", "3"]
