"""A policy file: what it may say, what its rules say of a moment, and when they next allow a training."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from greenml.errors import UsageError
from greenml.grid import policy as policies
from greenml.grid.policy import Facts, judge, judgements, next_allowed, refusal, validate, week, windows
from greenml.grid.series import Series, Step, regular
from greenml.resources import shipped

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
TUESDAY = datetime(2026, 3, 3, 14, 5)
ZONES = (
    "Europe/Berlin", "America/New_York", "America/Santiago", "Africa/Cairo", "Asia/Kolkata", "Australia/Lord_Howe",
    "Pacific/Chatham", "UTC",
)  # fmt: skip


def policy(**values):
    return validate({"time_zone": "UTC"} | values, file="policy.yaml", name="policy")


def series(*values, start=TUESDAY, every=HOUR, **facts):
    return Series(steps=tuple(regular(start, every, values)), provider="test", source="a test", **facts)


def refused(**values):
    with pytest.raises(UsageError) as error:
        policy(**values)
    return f"{error.value} | {error.value.hint}"


def status(verdict):
    return {rule.rule: rule.status for rule in verdict.rules}


# The file


def test_the_file_that_ships_says_every_key_and_is_a_policy():
    said = yaml.safe_load((shipped("configs") / "policy.yaml").read_text(encoding="utf-8"))
    read = policies.read(Path("policy.yaml"))

    assert list(said) == list(policies.DEFAULTS)
    assert list(said["budget_per_week"]) == list(policies.BUDGETS)
    assert said["when_unknown"] == policies.DEFAULTS["when_unknown"]
    assert said["on_violation"] == policies.DEFAULTS["on_violation"]
    assert (read.name, read.never_above, read.energy_per_week_j, read.co2_per_week_g) == ("modest", 700, 7.2e7, 1e4)
    assert [span.text for span in read.hours] == ["22:00-16:00", "weekends"]


def test_the_file_that_ships_allows_a_night_and_a_weekend_but_no_evening():
    read = dataclasses.replace(policies.read(Path("policy.yaml")), time_zone="UTC")
    clean = {"g_per_kwh": 400.0, "used_j": 0.0, "used_g": 0.0}

    assert judge(read, Facts(now=TUESDAY.replace(hour=23), **clean)).allowed
    assert judge(read, Facts(now=datetime(2026, 3, 7, 18), **clean)).allowed
    assert not judge(read, Facts(now=TUESDAY.replace(hour=18), **clean)).allowed


def test_what_is_null_or_left_out_is_no_rule(tmp_path):
    file = tmp_path / "nights only.yaml"
    file.write_text("never_above: null\nhours: null\nregions: []\nbudget_per_week: {energy: null}\n")

    read = policies.read(file)

    assert read.name == "nights only"
    assert judge(read, Facts(now=TUESDAY)) == policies.Verdict(policy=read, allowed=True, rules=())


def test_one_entry_needs_no_brackets():
    assert policy(hours="weekends", regions="SE") == policy(hours=["weekends"], regions=["SE"])


def test_a_policy_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy().never_above = 1000


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("never_abov: 450", "unknown key `never_abov`", "`never_above`"),
        ("never_above: 450 g", "`never_above`: should be a valid number, not '450 g'", "g CO2e per kWh, as in 450"),
        ("never_above: yes", "`never_above`: should be a valid number, not True", "as in 450"),
        ("never_above: 0", "`never_above`: should be greater than 0", "as in 450"),
        ("never_above: .nan", "`never_above`: ", "as in 450"),
        ("when_unknown: maybe", "`when_unknown`: should be 'forbid' or 'allow', not 'maybe'", "forbid, allow"),
        ("on_violation: stop", "`on_violation`: should be 'wait' or 'refuse', not 'stop'", "wait, refuse"),
        ("hours: {mon: 8}", "`hours`: should be a valid list", '"mon-fri 18:00-08:00"'),
        ("hours: [tuseday]", "`hours`: unknown day `tuseday`", "`tue`"),
        ("hours: [mon-xyz]", "`hours`: unknown day `xyz`", "days are mon, tue"),
        ("hours: ['25:00-26:00']", "`hours`: there is no time `25:00`", "00:00 to 24:00"),
        ("hours: ['08:60-09:00']", "`hours`: there is no time `08:60`", "00:00 to 24:00"),
        ("hours: ['08:00-08:00']", "`hours`: `08:00-08:00` holds no time", "00:00-24:00"),
        ("hours: ['24:00-08:00']", "`hours`: `24:00-08:00` holds no time", "00:00-24:00"),
        ("hours: [22-6]", "`hours`: `22-6` is neither days nor times", "22:00-06:00"),
        ("hours: ['']", "`hours`: `` is neither days nor times", "22:00-06:00"),
        ("hours: [22:00]", "`hours`: `1320` is neither days nor times", "22:00-06:00"),
        ("regions: [SE, NO]", "`regions`: YAML reads NO as false", 'write "NO", in quotes'),
        ("regions: [IN-TX]", "`regions`: unknown region `IN-TX`", "`IN-T"),
        ("time_zone: Europe/Berln", "`time_zone`: unknown time zone `Europe/Berln`", "`Europe/Berlin`"),
        ("time_zone: Europe", "`time_zone`: unknown time zone `Europe`", ""),
        ("time_zone: ../etc/passwd", "`time_zone`: unknown time zone", "as in Europe/Berlin"),
        ("budget_per_week: 5kWh", "`budget_per_week`: should be a valid dictionary", "{energy: 5kWh, co2: 2kg}"),
        ("budget_per_week: {enrgy: 5kWh}", "`budget_per_week`: unknown key `enrgy`", "`energy`"),
        ("budget_per_week: {energy: 5}", "`budget_per_week`: `energy`: `5` has no unit", "5kWh"),
        ("budget_per_week: {co2: 5kWh}", "`budget_per_week`: `co2`: `5kWh` has the unknown unit `kWh`", "2kg"),
        ("- hours", "not a list of keys", "configs/policy.yaml"),
        ("hours: [", "not valid YAML, line 2", "configs/policy.yaml"),
    ],
)
def test_a_bad_file_is_named_with_the_way_out(tmp_path, text, message, hint):
    file = tmp_path / "bad.yaml"
    file.write_text(text + "\n")

    with pytest.raises(UsageError) as error:
        policies.read(file)

    assert str(error.value).startswith(f"{file}: {message}")
    assert hint in error.value.hint


def test_a_missing_file_names_the_nearest():
    with pytest.raises(UsageError, match=r"polcy.yaml: no such policy file") as error:
        policies.read(Path("polcy.yaml"))

    assert "`policy.yaml`" in error.value.hint


# Hours


@pytest.mark.parametrize(
    ("text", "held", "not_held"),
    [
        ("22:00-06:00", ["Mon 22:00", "Mon 23:59", "Mon 00:00", "Sun 05:59"], ["Mon 06:00", "Mon 21:59"]),
        ("weekends", ["Sat 00:00", "Sun 23:59"], ["Fri 23:59", "Mon 00:00"]),
        ("weekdays", ["Mon 00:00", "Fri 23:59"], ["Sat 00:00", "Sun 23:59"]),
        ("fri 22:00-06:00", ["Fri 22:00", "Sat 05:59"], ["Fri 05:59", "Sat 06:00", "Sat 22:00"]),
        ("Mon-Fri 18:00-08:00", ["Mon 18:00", "Sat 07:59"], ["Mon 07:59", "Sat 18:00"]),
        ("sun 20:00-04:00", ["Sun 20:00", "Mon 03:59"], ["Sun 03:59", "Mon 20:00"]),
        ("fri-mon", ["Fri 00:00", "Sat 12:00", "Sun 12:00", "Mon 23:59"], ["Tue 00:00", "Thu 23:59"]),
        ("tuesday, thu 9:00 - 10:00", ["Tue 09:00", "Thu 09:59"], ["Wed 09:00", "Thu 10:00"]),
        ("20:00-24:00", ["Mon 20:00", "Mon 23:59"], ["Mon 00:00", "Mon 19:59"]),
        ("20:00-00:00", ["Mon 20:00", "Mon 23:59"], ["Mon 00:00", "Mon 19:59"]),
        ("sat,sun 00:00-24:00", ["Sat 00:00", "Sun 23:59"], ["Mon 00:00", "Fri 23:59"]),
    ],
)
def test_hours_are_days_and_times(text, held, not_held):
    span = policy(hours=[text]).hours[0]

    def at(said):
        day, clock = said.split()
        return datetime.strptime(f"2026-03-{2 + DAYS.index(day)} {clock}", "%Y-%m-%d %H:%M")

    assert [said for said in held if not span.holds(at(said))] == []
    assert [said for said in not_held if span.holds(at(said))] == []


@pytest.mark.parametrize(
    ("hours", "around", "expected"),
    [
        # The clock jumps from 02:00 to 03:00 at 01:00 UTC: there is no 02:30, and it begins with what comes after.
        ("02:30-06:00", datetime(2026, 3, 29), [("01:00", "04:00")]),
        ("22:00-02:30", datetime(2026, 3, 29), [("00:00", "01:00"), ("20:00", "24:00")]),
        # It goes back from 03:00 to 02:00 at 01:00 UTC: 02:30 is twice, half an hour after midnight and an hour later.
        ("02:30-06:00", datetime(2026, 10, 25), [("00:30", "01:00"), ("01:30", "05:00")]),
        ("22:00-02:30", datetime(2026, 10, 25), [("00:00", "00:30"), ("01:00", "01:30"), ("21:00", "24:00")]),
        ("22:00-06:00", datetime(2026, 10, 25), [("00:00", "05:00"), ("21:00", "24:00")]),
    ],
)
def test_hours_go_by_the_clock_on_the_wall_also_when_it_is_set(hours, around, expected):
    found = windows(policy(hours=[hours], time_zone="Europe/Berlin"), around, around + 24 * HOUR)

    def clock(moment):
        return "24:00" if moment == around + 24 * HOUR else f"{moment:%H:%M}"

    assert [(clock(start), clock(end)) for start, end in found] == expected


def test_a_clock_may_be_set_at_any_minute():
    """Newfoundland did so at 00:01 until 2011: 03:31 UTC, when it became 01:01."""
    rules, start = policy(hours=["00:30-02:00"], time_zone="America/St_Johns"), datetime(2011, 3, 13)

    assert list(windows(rules, start, start + 12 * HOUR)) == [
        (datetime(2011, 3, 13, 3, 31), datetime(2011, 3, 13, 4, 30))
    ]


SPANS = st.builds(
    lambda days, start, length: f"{days} {_clock(start)}-{_clock(start + length)}".strip(),
    st.sampled_from(["", "mon-fri", "weekends", "sun", "sat,mon", "fri-sun"]),
    st.integers(0, 24 * 60 - 1),
    st.integers(1, 24 * 60 - 1),
)


def _clock(minute):
    return f"{minute // 60 % 24:02}:{minute % 60:02}"


def minutes_of_week(hours):
    """The minutes of a week that spans hold, told off one by one: Monday, 00:00, is 0."""
    names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    meant = {"": names, "mon-fri": names[:5], "weekends": names[5:], "sat,mon": ["sat", "mon"], "fri-sun": names[4:]}
    held = set()
    for text in hours:
        days, _, times = text.rpartition(" ")
        start, end = (int(clock[:2]) * 60 + int(clock[3:]) for clock in times.split("-"))
        for day in meant.get(days, [days]):
            for minute in range(start, end if end > start else end + 1440):
                held.add((names.index(day) * 1440 + minute) % (7 * 1440))
    return held


STARTS = st.builds(
    lambda day, minute: datetime(2026, 1, 1) + timedelta(days=day, minutes=minute),
    st.integers(0, 364),
    st.integers(0, 1439),
)


@settings(max_examples=40, deadline=None)
@given(hours=st.lists(SPANS, min_size=1, max_size=3), zone=st.sampled_from(ZONES), start=STARTS)
@example(hours=["02:30-06:00"], zone="Europe/Berlin", start=datetime(2026, 3, 28, 12))
@example(hours=["22:00-02:15"], zone="Australia/Lord_Howe", start=datetime(2026, 4, 4, 0, 7))
@example(hours=["sun 02:30-03:15"], zone="America/New_York", start=datetime(2026, 10, 31))
@example(hours=["23:30-00:30"], zone="Africa/Cairo", start=datetime(2026, 10, 29))
def test_windows_hold_the_minutes_whose_clock_is_in_the_hours_and_no_others(hours, zone, start):
    end = start + 3 * 24 * HOUR
    found = list(windows(policy(hours=hours, time_zone=zone), start, end))

    held = minutes_of_week(hours)
    expected = set()
    for i in range(3 * 1440):
        moment = start + i * MINUTE
        local = moment.replace(tzinfo=UTC).astimezone(ZoneInfo(zone))
        if local.weekday() * 1440 + local.hour * 60 + local.minute in held:
            expected.add(moment)

    minutes = [begin + i * MINUTE for begin, stop in found for i in range(round((stop - begin) / MINUTE))]
    assert set(minutes) == expected
    assert len(minutes) == len(expected)
    assert all(one[1] < other[0] for one, other in pairwise(found))


def test_without_a_time_zone_hours_are_those_of_the_system(monkeypatch):
    import time

    if not hasattr(time, "tzset"):
        pytest.skip("this system has one time zone for all processes")
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        found = list(windows(policy(hours=["22:00-06:00"], time_zone=None), TUESDAY, TUESDAY + 24 * HOUR))
    finally:
        monkeypatch.undo()
        time.tzset()

    assert found == [(datetime(2026, 3, 3, 16, 30), datetime(2026, 3, 4, 0, 30))]


# What the rules say


def test_the_intensity_may_be_as_high_as_the_limit_and_no_higher():
    rules = policy(never_above=450)

    assert judge(rules, Facts(now=TUESDAY, g_per_kwh=450.0)).allowed
    broken = judge(rules, Facts(now=TUESDAY, g_per_kwh=450.001, intensity_status="forecast"))
    assert not broken.allowed
    assert broken.rules[0].words == "450.001 g/kWh (forecast) is above 450 g/kWh"


@pytest.mark.parametrize(
    "rule", [{"never_above": 450}, {"regions": ["SE"]}, {"budget_per_week": {"energy": "5kWh", "co2": "2kg"}}]
)
def test_what_is_unknown_is_forbidden_unless_the_policy_allows_it(rule):
    for when_unknown, allowed in (("forbid", False), ("allow", True)):
        verdict = judge(policy(when_unknown=when_unknown, **rule), Facts(now=TUESDAY))

        assert {rule.status for rule in verdict.rules} == {"unknown"}
        assert {rule.value for rule in verdict.rules} == {None}
        assert verdict.allowed == allowed


@pytest.mark.parametrize(
    ("allowed", "region", "kept"),
    [
        ("IN", "IND", True), ("IND", "India", True), ("IN", "IN-TN", True), ("IN-TN", "IN", False), ("SE", "SE3", True),
        ("SE3", "SE4", False), ("SE", "aws:eu-north-1", True), ("aws:eu-north-1", "SE", False), ("FR", "DE", False),
        ("US-CA", "california", True),
    ],
)  # fmt: skip
def test_regions_are_compared_by_what_they_stand_for(allowed, region, kept):
    verdict = judge(policy(regions=[allowed, "JP"]), Facts(now=TUESDAY, region=region))

    assert status(verdict) == {"regions": "kept" if kept else "broken"}
    assert verdict.allowed == kept


@pytest.mark.parametrize(
    ("used_kwh", "wants_kwh", "expected"),
    [
        (4.9, None, "kept"), (5.0, None, "broken"), (5.0, 0.0, "kept"), (4.0, 1.0, "kept"), (4.0, 1.1, "broken"),
        (None, 5.0, "unknown"), (None, 5.1, "broken"), (6.0, 0.0, "broken"), (None, None, "unknown"),
    ],
)  # fmt: skip
def test_a_budget_is_for_what_was_used_and_what_is_wanted(used_kwh, wants_kwh, expected):
    def joules(kwh):
        return None if kwh is None else kwh * 3.6e6

    rules = policy(budget_per_week={"energy": "5kWh"})

    assert status(judge(rules, Facts(now=TUESDAY, used_j=joules(used_kwh), wants_j=joules(wants_kwh)))) == {
        "budget_per_week.energy": expected
    }


def test_each_budget_has_its_own_unit():
    rules = policy(budget_per_week={"energy": "5kWh", "co2": "2kg"})

    verdict = judge(rules, Facts(now=TUESDAY, used_j=3.6e6, used_g=2500.0))

    assert status(verdict) == {"budget_per_week.energy": "kept", "budget_per_week.co2": "broken"}
    assert verdict.rules[1].words == "2.50 kg used of 2.00 kg a week: nothing is left"


@given(
    st.floats(1, 1000), st.none() | st.floats(0, 2000), st.none() | st.floats(0, 1e8), st.none() | st.floats(0, 1e8),
    st.sampled_from(["forbid", "allow"]), STARTS,
)  # fmt: skip
def test_it_is_allowed_where_no_rule_is_broken_and_none_that_must_be_known_is_not(
    limit, g_per_kwh, used_j, wants_j, when_unknown, now
):
    rules = policy(
        never_above=limit, hours=["08:00-18:00"], budget_per_week={"energy": "5kWh"}, when_unknown=when_unknown
    )

    verdict = judge(rules, Facts(now=now, g_per_kwh=g_per_kwh, used_j=used_j, wants_j=wants_j))

    said = set(status(verdict).values())
    assert verdict.allowed == ("broken" not in said and (when_unknown == "allow" or "unknown" not in said))
    assert bool(verdict.blocking) != verdict.allowed


def test_a_verdict_is_a_row_a_rule():
    rules = policy(
        never_above=450, hours=["22:00-06:00"], regions=["SE", "FR"], budget_per_week={"energy": "0.1Wh"},
    )  # fmt: skip

    verdict = judge(rules, Facts(now=TUESDAY, g_per_kwh=1 / 3, region="FRA"))
    rows = judgements(verdict, run_id="a", command="train", decided_at=TUESDAY, outcome="waited")

    assert [[row.rule, row.bound, row.value, row.unit, row.status] for row in rows] == [
        ["never_above", "450", "0.3333333333333333", "g/kWh", "kept"],
        ["hours", "22:00-06:00", "Tue 14:05", "UTC", "broken"],
        ["regions", "SE, FR", "FRA", None, "kept"],
        ["budget_per_week.energy", "360", None, "J", "unknown"],
    ]
    assert {(row.run_id, row.policy, row.outcome) for row in rows} == {("a", "policy", "waited")}


def test_a_policy_without_rules_has_been_asked_all_the_same():
    verdict = judge(policy(), Facts(now=TUESDAY))
    [row] = judgements(verdict, run_id="a", command="train", decided_at=TUESDAY, outcome="allowed")
    assert (row.rule, row.bound, row.status) == ("none", None, "kept")


def test_a_refusal_says_which_rules_and_since_when_it_would_be_allowed():
    rules = policy(never_above=450, hours=["22:00-06:00"], regions=["SE"], time_zone="Europe/Berlin")
    verdict = judge(rules, Facts(now=TUESDAY, g_per_kwh=512.0, intensity_status="actual", region="SE"))

    error = refusal(verdict, datetime(2026, 3, 3, 21))

    assert (error.exit_code, error.stop_reason) == (6, "policy")
    assert str(error) == (
        "the policy `policy` does not allow it: 512 g/kWh (actual) is above 450 g/kWh; "
        "Tue 15:05 is outside of 22:00-06:00"
    )
    assert (
        error.hint == "allowed from Tue 2026-03-03 22:00 (Europe/Berlin) on; see `never_above`, `hours` in policy.yaml"
    )


def test_a_refusal_for_what_is_unknown_says_how_to_allow_it():
    error = refusal(judge(policy(never_above=450), Facts(now=TUESDAY)))

    assert "the intensity is unknown" in str(error)
    assert "`when_unknown: allow`" in error.hint


# Weeks


@given(STARTS, st.sampled_from(ZONES))
def test_weeks_begin_on_monday_at_midnight_and_follow_each_other(now, zone):
    rules = policy(time_zone=zone)
    start, end = week(rules, now)

    assert start <= now < end
    assert week(rules, end)[0] == end
    assert week(rules, end - timedelta(microseconds=1)) == (start, end)
    for moment in (start, end):
        local = moment.replace(tzinfo=UTC).astimezone(ZoneInfo(zone))
        assert (local.weekday(), f"{local:%H:%M}") == (0, "00:00")


def test_a_week_with_a_clock_change_is_an_hour_longer_or_shorter():
    rules = policy(time_zone="Europe/Berlin")

    lengths = [
        end - start for start, end in (week(rules, datetime(2026, month, day)) for month, day in ((3, 28), (10, 24)))
    ]

    assert lengths == [timedelta(days=7) - HOUR, timedelta(days=7) + HOUR]
    assert week(rules, datetime(2026, 10, 24))[0].date() == date(2026, 10, 18)


# When it is allowed


def allowed_at(rules, moment, known, held):
    """The rules of hours and intensity, from their definition."""
    local = moment.replace(tzinfo=UTC).astimezone(ZoneInfo(rules.time_zone))
    if held and local.weekday() * 1440 + local.hour * 60 + local.minute not in held:
        return False
    if rules.never_above is None:
        return True
    step = known.at(moment) if known else None
    return rules.when_unknown == "allow" if step is None else step.g_per_kwh <= rules.never_above


@settings(max_examples=50, deadline=None)
@given(
    hours=st.lists(SPANS, max_size=2),
    zone=st.sampled_from(ZONES),
    never_above=st.none() | st.just(300),
    when_unknown=st.sampled_from(["forbid", "allow"]),
    levels=st.none()
    | st.lists(st.tuples(st.integers(1, 40), st.sampled_from([None, 200.0, 300.0, 400.0])), max_size=12),
    start=STARTS,
    late_s=st.integers(0, 59),
)
@example([], "UTC", 300, "forbid", [(30, 400.0), (1, None), (1, 200.0)], datetime(2026, 3, 3), 30)
@example(["sun 02:30-03:00"], "Europe/Berlin", None, "forbid", None, datetime(2026, 3, 23), 0)
def test_the_next_allowed_moment_is_allowed_and_nothing_earlier_is(
    hours, zone, never_above, when_unknown, levels, start, late_s
):
    """Against every minute of two weeks."""
    rules = policy(hours=hours, time_zone=zone, never_above=never_above, when_unknown=when_unknown)
    values = [level for length, level in levels or () for _ in range(length)]
    known = None if levels is None else series(*values, start=start - HOUR)
    now, until = start + timedelta(seconds=late_s), start + 14 * 24 * HOUR

    found = next_allowed(rules, now, known, until)

    held = minutes_of_week(hours)
    minutes = (now, *(start + i * MINUTE for i in range(1, 14 * 1440)))
    expected = next((minute for minute in minutes if allowed_at(rules, minute, known, held)), None)
    assert found == expected


def test_a_moment_between_minutes_is_found_to_the_second():
    begins = TUESDAY + timedelta(seconds=90, microseconds=5)
    known = Series(steps=(Step(start=begins, end=begins + HOUR, g_per_kwh=1.0),), provider="test", source="a test")

    assert next_allowed(policy(never_above=450), TUESDAY, known, TUESDAY + HOUR) == begins


def test_a_place_that_is_not_allowed_never_will_be():
    rules = policy(regions=["SE"])

    assert next_allowed(rules, TUESDAY, None, TUESDAY + 99 * HOUR, Facts(now=TUESDAY, region="FR")) is None
    assert next_allowed(rules, TUESDAY, None, TUESDAY + 99 * HOUR, Facts(now=TUESDAY, region="SE")) == TUESDAY


def test_a_spent_budget_is_whole_again_in_the_next_week():
    rules = policy(budget_per_week={"energy": "1kWh"}, hours=["mon 06:00-07:00", "tue"])
    spent = Facts(now=TUESDAY, used_j=3.6e6, wants_j=1.8e6)

    assert next_allowed(rules, TUESDAY, None, TUESDAY + 20 * 24 * HOUR, spent) == datetime(2026, 3, 9, 6)
    assert next_allowed(rules, TUESDAY, None, TUESDAY + 24 * HOUR, spent) is None


def test_a_run_that_wants_more_than_a_week_has_is_never_allowed():
    rules = policy(budget_per_week={"energy": "1kWh"})

    assert (
        next_allowed(rules, TUESDAY, None, TUESDAY + 99 * 24 * HOUR, Facts(now=TUESDAY, used_j=0.0, wants_j=4e6))
        is None
    )


def test_what_was_seen_now_outweighs_what_the_series_says_of_now():
    rules = policy(never_above=450)
    known = series(400.0, 500.0, 420.0)
    until = TUESDAY + 3 * HOUR

    assert next_allowed(rules, TUESDAY, known, until, Facts(now=TUESDAY, g_per_kwh=500.0)) == TUESDAY + 2 * HOUR
    later = TUESDAY + HOUR
    assert next_allowed(rules, later, known, until, Facts(now=later, g_per_kwh=300.0)) == later
    assert next_allowed(rules, TUESDAY, None, until, Facts(now=TUESDAY, g_per_kwh=500.0)) is None


def test_what_is_allowed_from_the_deadline_on_is_too_late():
    rules = policy(hours=["22:00-06:00"])

    assert next_allowed(rules, TUESDAY, None, datetime(2026, 3, 3, 22)) is None
    assert next_allowed(rules, TUESDAY, None, datetime(2026, 3, 3, 22, 1)) == datetime(2026, 3, 3, 22)
    night = datetime(2026, 3, 3, 23)
    assert next_allowed(rules, night, None, night, Facts(now=night)) is None


def test_marginal_intensities_are_not_what_is_limited():
    with pytest.raises(ValueError, match="average"):
        next_allowed(policy(never_above=450), TUESDAY, series(100.0, kind="marginal"), TUESDAY + HOUR)
