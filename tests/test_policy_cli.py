"""A policy is kept to by whoever trains, and what it said is there for whoever asks. The clocks are the tests' own."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from conftest import STARTED_AT, make_end, make_phase, make_run
from test_held_up import DIGITS, alike, store_of, trace, weights

from greenml import config as configs
from greenml import environment
from greenml.cli import jobs, policing
from greenml.grid import accounting
from greenml.grid import policy as policies
from greenml.grid import series as series_module
from greenml.records import Judgement
from greenml.store import Store

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
A, B, C = "a" * 12, "b" * 12, "c" * 12


class Clock:
    """Passes by `step` whenever somebody looks at it, and by what is slept."""

    def __init__(self, at, step=timedelta(0)):
        self.at, self.step = at, step

    def now(self):
        self.at += self.step
        return self.at

    def sleep(self, seconds):
        self.at += timedelta(seconds=max(seconds, 60.0))


def policy(folder, text, name="ours"):
    file = folder / f"{name}.yaml"
    file.write_text(text)
    return str(file)


def carried_out(folder, clock, **changes):
    """The decisions of a training by a clock, and its store."""
    db = store_of(folder)
    db.check()
    config = configs.resolve({"model": "cnn", "dataset": "digits", "epochs": 2, "device": "cpu"} | changes)
    job = jobs.Job(run_id=A, config=config, intensity=accounting.intensity_of(config), clock=clock)
    with db.claim(A) as run_folder:
        jobs.carry_out(job, db, run_folder, quiet=True, json=False)
    return db, [row["what"] for row in db.rows("from decisions where what <> 'fallback' order by seq")]


# Before it begins


@pytest.mark.parametrize("on_violation", ["refuse", "wait"])
def test_what_will_not_be_allowed_is_refused_before_there_is_a_run(tmp_path, quick, on_violation):
    """Also by one who waits: an intensity that never changes never will be lower."""
    file = policy(tmp_path, f"never_above: 300\non_violation: {on_violation}")

    code, out, said = quick("train", *DIGITS, "--intensity", "475", "--policy", file)

    assert (code, out) == (6, "")
    assert "the policy `ours` does not allow it: 475 g/kWh (assumed) is above 300 g/kWh" in said
    db = store_of(tmp_path)
    assert db.rows("from runs") == []
    assert not list((tmp_path / "store" / "runs").glob("*"))
    [row] = db.rows("from audit")
    assert (row["rule"], row["limit"], row["value"], row["unit"]) == ("never_above", "300", "475", "g/kWh")
    assert (row["command"], row["status"], row["outcome"]) == ("train", "broken", "refused")


def test_a_dry_run_says_what_would_be_waited_for_and_what_is_refused_and_keeps_nothing(tmp_path, quick):
    waits = ("--trace", trace(tmp_path, 500, 500, *[200] * 24), "--max-intensity", "300", "--policy")
    mild, strict = policy(tmp_path, "never_above: 900", "mild"), policy(tmp_path, "regions: [FR]", "strict")

    code, _, said = quick("train", *DIGITS, *waits, mild, "--dry-run")
    assert code == 0, said
    assert "policy mild" in said
    assert "grid    waits until" in said
    assert ": 500 g/kWh are above 300" in said
    assert "starts at once" not in said
    [plan] = json.loads(quick("train", *DIGITS, *waits, mild, "--dry-run", "--json")[1])
    assert [(row["what"], row["g_per_kwh"]) for row in plan["decisions"]] == [("wait", 500.0)]
    code, _, said = quick("train", *DIGITS, *waits, mild, "--max-intensity", "600", "--dry-run")
    assert "grid    starts at once" in said
    code, _, said = quick("train", *DIGITS, *waits, strict, "--region", "DE", "--dry-run")
    assert code == 6
    assert "the policy `strict` does not allow it" in said
    db = store_of(tmp_path)
    assert not db.path.exists() or not (db.rows("from runs") or db.rows("from audit"))


def test_what_is_foretold_is_counted_by_the_trace_of_that_time(tmp_path, quick):
    """And so is what a run wants of the week's grams; without a trace, by the yearly factor."""
    assert quick("train", *DIGITS)[0] == 0
    told = ("train", *[word for word in DIGITS if word != "--quiet"])
    plan = (*told, "--trace", trace(tmp_path, 500, 500, *[50] * 24))
    assert "x 475 g/kWh\n" in quick(*told, "--dry-run")[2]
    said = quick(*plan, "--dry-run")[2]
    assert re.search(r"x 500 g/kWh, the trace's mean from \d\d:\d\d on\n", said), said
    said = quick(*plan, "--max-intensity", "300", "--max-wait", "4h", "--dry-run")[2]
    assert re.search(r"x 50 g/kWh, the trace's mean from (tomorrow )?\d\d:\d\d on\n", said), said
    clean = (*told, "--trace", trace(tmp_path, *[0] * 26))
    assert ", 0.00 mg (0.00 to 0.00), " in quick(*clean)[2].partition("forecast: ")[2].splitlines()[0]
    [used] = store_of(tmp_path).rows("select sum(co2_g) as g from leaderboard")
    tight = policy(tmp_path, f"budget_per_week: {{co2: {1.05 * used['g']}g}}\non_violation: refuse")
    assert quick(*told, "--policy", tight, "--dry-run")[0] == 6
    code, _, said = quick(*clean, "--policy", tight, "--dry-run")
    assert code == 0, said


def test_the_flag_goes_before_the_environment_and_the_run_says_which_holds(tmp_path, quick, monkeypatch):
    strict, mild = policy(tmp_path, "never_above: 100", "strict"), policy(tmp_path, "never_above: 900", "mild")
    monkeypatch.setenv("GREENML_POLICY", strict)
    arguments = ("train", "cnn", "--dataset", "digits", "--device", "cpu", "--epochs", "1", "--intensity", "475")

    code, _, said = quick(*arguments)
    assert code == 6
    assert "the policy `strict`" in said
    code, _, said = quick(*arguments, "--policy", mild)
    assert code == 0, said
    assert f"policy mild ({mild})" in said
    assert store_of(tmp_path).rows("select policy, outcome from audit order by decided_at") == [
        {"policy": "strict", "outcome": "refused"},
        {"policy": "mild", "outcome": "allowed"},
    ]


def test_a_region_that_is_not_named_is_refused_where_regions_are_asked(tmp_path, quick):
    code, _, said = quick("train", *DIGITS, "--policy", policy(tmp_path, "regions: [SE]"))
    assert code == 6
    assert "the region is unknown, SE is allowed" in said
    assert "make it known" in said


def test_a_policy_that_cannot_be_read_is_said_before_anything_else(tmp_path, quick):
    code, _, said = quick("train", *DIGITS, "--policy", policy(tmp_path, "never_abov: 3"))
    assert code == 2
    assert "did you mean `never_above`?" in said


def test_a_deadline_means_nothing_to_a_policy(tmp_path, quick):
    code, _, said = quick("train", *DIGITS, "--policy", policy(tmp_path, "never_above: 900"), "--deadline", "6h")
    assert code == 2
    assert "--deadline without anything to wait for" in said


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        (["--check-interval", "1m"], "give --when-green, --max-intensity or --pause-above, too"),
        (["--max-wait", "2h"], "give --max-intensity, too"),
        (["--resume-below", "200"], "give --pause-above, too"),
    ],
)
def test_what_does_nothing_without_a_rule_is_said_with_the_rule(tmp_path, quick, flags, hint):
    code, _, said = quick("train", *DIGITS, *flags)
    assert code == 2
    assert f"{flags[0]} without anything to wait for" in said
    assert hint in said


# While it lasts


def test_it_waits_until_the_policy_allows_it_whatever_the_deadline(tmp_path, quick):
    clock = Clock(begun := series_module.now())
    file = policy(tmp_path, "never_above: 300")

    db, decisions = carried_out(
        tmp_path, clock, trace=trace(tmp_path, *[500] * 40, *[100] * 8), schedule={"policy": file}
    )

    assert decisions[:2] == ["wait", "start"]
    assert clock.at - begun >= 39 * HOUR
    [wait, *_] = db.rows("from decisions where what = 'wait'")
    assert wait["why"] == "policy ours: 500 g/kWh (actual) is above 300 g/kWh"
    assert db.rows("select status from runs") == [{"status": "done"}]
    assert [row["outcome"] for row in db.rows("from audit order by decided_at")] == ["waited", "allowed"]


def test_it_pauses_while_the_policy_is_broken_and_ends_with_the_same_weights(tmp_path, quick):
    """A minute goes by at every look, so that some hours are over before it is."""
    clock = Clock(series_module.now(), step=5 * MINUTE)
    rules = {"policy": policy(tmp_path, "never_above: 300"), "check_interval": "1m"}

    db, decisions = carried_out(tmp_path, clock, trace=trace(tmp_path, *[100, 500] * 30), schedule=rules)

    assert decisions[:2] == ["pause", "resume"]
    assert set(decisions) <= {"pause", "resume", "saved"}
    assert {row["outcome"] for row in db.rows("from audit")} == {"allowed", "waited"}
    code, _, said = quick("train", *DIGITS)
    assert code == 0, said
    [whole] = db.rows("from runs where run_id <> ?", [A])
    assert alike(weights(db, A), weights(db, whole["run_id"]))


def test_a_run_that_is_taken_up_again_is_judged_again(tmp_path, quick):
    file = policy(tmp_path, "never_above: 900")
    code, _, said = quick("train", *DIGITS, "--intensity", "475", "--policy", file)
    assert code == 0, said
    [run] = store_of(tmp_path).rows("from runs")
    policy(tmp_path, "never_above: 300")  # the same file, and stricter by now

    code, _, said = quick("train", "--resume", run["run_id"], "--epochs", "3")
    assert code == 6, said
    assert store_of(tmp_path).rows("select status from runs") == [{"status": "done"}]
    other = policy(tmp_path, "never_above: 500", "other")
    code, _, said = quick("train", "--resume", run["run_id"], "--epochs", "3", "--policy", other)
    assert code == 0, said
    outcomes = [row["outcome"] for row in store_of(tmp_path).rows("from audit order by decided_at")]
    assert outcomes == ["allowed", "refused", "allowed"]


# What a week has used


SUNDAY = STARTED_AT  # 2026-03-01, 12:00 UTC: the week ends at midnight
RULES = {"budget_per_week": {"energy": "1kWh", "co2": "400g"}, "time_zone": "UTC"}


def used(db: Store, now: datetime):
    rules = policies.validate(RULES, file="policy.yaml", name="ours")
    intensity = accounting.intensity_of(configs.validate({"model": "cnn"}))
    usage = policing.facts_of(rules, db, intensity)(now)
    return usage.used_j, usage.used_g


def here(run_id, **changes):
    return make_run(run_id, hardware=environment.hardware(), **changes)


def test_the_week_counts_what_this_machine_used_since_monday_removed_runs_among_it(db):
    monday = datetime(2026, 2, 23)
    db.write([here(A), make_phase(A, 0), make_phase(A, 1, g_per_kwh=100.0, intensity_status="actual"), make_end(A)])
    # Ten seconds around midnight, half of which are the week before's.
    before = {"started_at": monday - timedelta(seconds=5), "ended_at": monday + timedelta(seconds=5)}
    db.write([here(B), make_phase(B, 0, **before)])
    db.write([make_run(C, hardware={"cpu": "another"}), make_phase(C, 0)])
    db.mark([A], removed_at=SUNDAY)

    joules, grams = used(db, SUNDAY)

    assert joules == pytest.approx(250.0)
    assert grams == pytest.approx((100 * 475 + 100 * 100 + 50 * 475) / 3.6e6)
    assert used(db, SUNDAY + 12 * HOUR) == (0.0, 0.0)  # another week


def test_what_could_not_be_metered_makes_the_week_unknown_and_what_a_killed_run_lost_does_not(db):
    with db.claim(A):
        db.write([here(A), make_phase(A, 0)])
    assert db.rows("select status from runs") == [{"status": "crashed"}]
    assert used(db, SUNDAY)[0] == 100.0
    db.write([here(B), make_phase(B, 0, cpu_j=None, cpu_source="unknown")])
    assert used(db, SUNDAY) == (None, None)


def test_a_week_that_is_used_up_is_waited_for(tmp_path, quick):
    begun = series_module.now()
    db = store_of(tmp_path)
    db.write([here(B), make_phase(B, 0, started_at=begun - MINUTE, ended_at=begun, cpu_j=3.6e6, ram_j=0.0)])
    clock = Clock(begun)

    db, decisions = carried_out(
        tmp_path, clock, schedule={"policy": policy(tmp_path, "budget_per_week: {energy: 1kWh}\ntime_zone: UTC")}
    )

    assert decisions[:2] == ["wait", "start"]
    assert (clock.at.weekday(), clock.at.hour) == (0, 0)


# The table


def judged(run_id, **changes):
    values = {
        "run_id": run_id, "decided_at": STARTED_AT, "command": "train", "policy": "modest", "rule": "never_above",
        "bound": "700", "value": "512.5", "unit": "g/kWh", "status": "kept",
        "words": "512.5 g/kWh (actual) is not above 700 g/kWh", "outcome": "allowed",
    }  # fmt: skip
    return Judgement(**values | changes)


@pytest.fixture
def audited(db):
    """A run that was allowed, one that was refused a day later, and one without a policy."""
    spent = {"rule": "budget_per_week.energy", "bound": "72000000", "value": "72100000.5", "unit": "J"}
    hours = {"rule": "hours", "bound": "22:00-16:00, weekends", "value": "Mon 17:30", "unit": "Europe/Berlin"}
    later = {"decided_at": STARTED_AT + timedelta(days=1), "outcome": "refused", "policy": "nights and weekends"}
    db.write([make_run(A), judged(A), judged(A, **hours), make_end(A)])
    db.write([judged(B, **spent, **later, status="broken"), judged(B, **hours, **later, status="broken")])
    db.write([judged(B, **later, value=None, status="unknown"), make_run(C, started_at=STARTED_AT), make_end(C)])
    return db


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_of_compliance_fits_the_screen(audited, greenml, width):
    code, out, said = greenml("grid", "audit", width=width)

    assert code == 0
    lines = out.splitlines()
    assert max(map(len, lines)) <= width
    assert [line.split()[0] for line in lines[2:]] == ["aaaaaaaa", "never_above", "bbbbbbbb", "hours", "never_above"]
    assert sum("BROKEN" in line for line in lines) == 2
    assert sum("refused" in line for line in lines) == 1
    assert "700.0" in out
    assert "20.00 " in out
    assert "20.03 kWh" in out
    assert ("nights and week" in out) == (width == 120)
    assert "cccccccc" not in out
    assert "2 runs in 5 rows, 1 refused" in said


def test_rows_go_where_they_are_asked_to_go(audited, greenml, tmp_path):
    code, out, _ = greenml("grid", "audit", "--json")
    assert code == 0
    rows = json.loads(out)
    assert [(row["run_id"], row["rule"]) for row in rows] == [
        (A, "hours"), (A, "never_above"), (B, "budget_per_week.energy"), (B, "hours"), (B, "never_above"),
    ]  # fmt: skip
    assert rows[1]["limit"] == "700"
    assert greenml("grid", "audit", "--csv", str(tmp_path / "audit.csv"))[0] == 0
    with (tmp_path / "audit.csv").open(newline="") as file:
        assert [row["limit"] for row in csv.DictReader(file)] == [row["limit"] for row in rows]
    assert greenml("grid", "audit", "--csv", str(tmp_path / "audit.csv"), "--json")[0] == 2


def test_the_newest_or_since_a_day_or_all(audited, greenml):
    def runs(*arguments):
        code, out, said = greenml("grid", "audit", "--json", *arguments)
        assert code == 0, said
        return {row["run_id"] for row in json.loads(out)}

    assert runs("--last", "1") == {B}
    assert runs("--since", "2026-03-02") == {B}
    assert runs("--all") == {A, B, C}
    assert "no policy" in greenml("grid", "audit", "--all")[1]
    assert greenml("grid", "audit", "--since", "lately")[0] == 2


def test_where_nobody_asked_a_policy_it_says_so(greenml):
    code, out, said = greenml("grid", "audit")
    assert (code, out) == (0, "")
    assert "no policy was asked" in said


def test_verdicts_go_over_to_other_stores_and_outlive_their_runs(audited, tmp_path):
    other = Store(tmp_path / "theirs.duckdb")
    other.merge(audited)
    other.merge(audited)
    assert other.rows("from verdict_rows order by all") == audited.rows("from verdict_rows order by all")
    part = Store(tmp_path / "part.duckdb")
    part.merge(audited, [A])
    assert {row["run_id"] for row in part.rows("from verdict_rows")} == {A}
    records = audited.records([A])
    assert judged(A) in records
    audited.replace([*records, replace(judged(A), outcome="waited")])
    assert len(audited.rows("from verdict_rows where run_id = ?", [A])) == 3
    audited.purge([A])
    assert len(audited.rows("from audit where run_id = ?", [A])) == 3
