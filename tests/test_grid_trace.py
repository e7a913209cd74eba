"""Traces: what a file says is read as it is, and what is wrong with it is told with its line and the way out."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenml.errors import UsageError
from greenml.grid import trace
from greenml.grid.series import Series, Step, regular

NOON = datetime(2026, 3, 1, 12)
HOUR = timedelta(hours=1)
WEEK = timedelta(weeks=1)


@pytest.fixture
def write(tmp_path):
    def write(*lines, content=None):
        file = tmp_path / "trace.csv"
        file.write_bytes(content if content is not None else "\n".join(lines).encode())
        return file

    return write


def known(series):
    return [(step.start, step.end, step.g_per_kwh) for step in series.steps]


def test_without_ends_a_step_lasts_until_the_next_and_the_last_as_long_as_the_one_before(write):
    series = trace.read(
        write(
            "start,g_per_kwh",
            "2026-03-01T12:00Z,300",
            "2026-03-01T14:30:00+01:00,0",
            "2026-03-01T14:00:00+00:00,99.5",
        )
    )

    assert known(series) == [
        (NOON, NOON + 1.5 * HOUR, 300.0),
        (NOON + 1.5 * HOUR, NOON + 2 * HOUR, 0.0),
        (NOON + 2 * HOUR, NOON + 2.5 * HOUR, 99.5),
    ]
    assert (series.provider, series.source, series.kind, series.status) == ("trace", "trace.csv", "average", "actual")


def test_columns_come_in_any_order_and_say_what_they_are_of(write):
    series = trace.read(
        write(
            "zone, status ,end,kind,g_per_kwh,start",
            "DE,forecast,2026-03-01T13:00Z,marginal,300,2026-03-01T12:00Z",
            "DE,estimated,2026-03-01T15:00Z,marginal,200,2026-03-01T13:00Z",
        )
    )

    assert known(series) == [(NOON, NOON + HOUR, 300.0), (NOON + HOUR, NOON + 3 * HOUR, 200.0)]
    assert (series.zone, series.kind, series.status) == ("DE", "marginal", "forecast")
    assert series.steps[1].status == "estimated"


def test_the_place_is_the_files_own_or_else_as_told(write):
    assert trace.read(write("start,g_per_kwh,end", "2026-03-01T12Z,1,2026-03-01T13Z"), zone="FR").zone == "FR"
    file = write("start,g_per_kwh,end,zone", "2026-03-01T12Z,1,2026-03-01T13Z,DE")
    assert trace.read(file, zone="FR").zone == "DE"


def test_an_empty_intensity_is_a_gap(write):
    rows = ["2026-03-01T12:00Z,300", "2026-03-01T13:00Z,", "2026-03-01T14:00Z,100"]

    series = trace.read(write("start,g_per_kwh", *rows))

    assert series.gaps(NOON, NOON + 3 * HOUR) == [(NOON + HOUR, NOON + 2 * HOUR)]
    assert series.end == NOON + 3 * HOUR


def test_what_spreadsheets_leave_in_a_file_does_no_harm(write):
    content = b"\xef\xbb\xbfstart,g_per_kwh\r\n\r\n2026-03-01T12:00Z,300\r\n2026-03-01T13:00Z,200\r\n\r\n"

    assert [value for *_, value in known(trace.read(write(content=content)))] == [300.0, 200.0]


def test_a_long_step_without_a_figure_is_a_gap_and_the_last_lasts_as_long_as_most(write):
    rows = [f"2026-03-01T{hour}:00Z,{g}" for hour, g in ((12, 300), (13, 300), (14, ""), (20, 100))]

    series = trace.read(write("start,g_per_kwh", *rows))

    assert series.gaps(NOON, series.end) == [(NOON + 2 * HOUR, NOON + 8 * HOUR)]
    assert series.end == NOON + 9 * HOUR


def test_with_ends_a_step_lasts_as_long_as_it_likes(write):
    hours = (12, 13, 14, 22, 23)
    rows = [f"2026-03-01T{a}:00Z,1,2026-03-01T{b}:00Z" for a, b in pairwise(hours)]

    assert [step.end - step.start for step in trace.read(write("start,g_per_kwh,end", *rows)).steps][2] == 8 * HOUR


def test_hours_of_local_time_are_all_there_when_clocks_change(write):
    rows = [f"2026-03-29T{time},1" for time in ("00:00+01:00", "01:00+01:00", "03:00+02:00", "04:00+02:00")]

    assert {step.end - step.start for step in trace.read(write("start,g_per_kwh", *rows)).steps} == {HOUR}


HEADER, FIRST = "start,g_per_kwh", "2026-03-01T12:00Z,300"
WITH_END, FIRST_WITH_END = "start,g_per_kwh,end", "2026-03-01T12:00Z,300,2026-03-01T13:00Z"


@pytest.mark.parametrize(
    ("lines", "message", "hint"),
    [
        ([], r"trace\.csv: is empty", "start,g_per_kwh"),
        ([""], "is empty", "start,g_per_kwh"),
        ([FIRST], "line 1: no header", "in the first line"),
        (["start;g_per_kwh"], "line 1: its columns are not separated by commas", "start,g_per_kwh"),
        (["start,g_per_kw"], "line 1: unknown column `g_per_kw`", "did you mean `g_per_kwh`?"),
        (["start,g_per_kwh,price"], "line 1: unknown column `price`", "leave others out"),
        (["start,g_per_kwh,start"], "line 1: the column `start` is there twice", "leave one"),
        (["start,end"], "line 1: the column `g_per_kwh` is missing", "start,g_per_kwh"),
        ([HEADER], "there is no step in it", "a step a line"),
        ([HEADER, FIRST], "line 2: how long the only step lasts is not said", "add the column `end`"),
        ([HEADER, FIRST, "2026-03-01T13:00Z"], "line 3: 1 cells under 2 columns", "start,g_per_kwh"),
        ([HEADER, FIRST, "2026-03-01T13:00Z,1,2"], "line 3: 3 cells under 2 columns", "start,g_per_kwh"),
        ([HEADER, FIRST, "2026-03-01T13:00,1"], "line 3: 2026-03-01T13:00 has no offset", "2026-03-01T11:00Z"),
        (
            [HEADER, *(f"2026-03-01T{hour}:00Z,1" for hour in ("00", "01", "09", "10"))],
            "line 3: lasts 8:00:00, and most steps of the file 1:00:00", "empty g_per_kwh",
        ),
        ([HEADER, FIRST, "2026-03-01T13:00Z,1e9"], "line 3: 1e9 g/kWh is more than any plant", "in grams"),
        ([HEADER, FIRST, "2026-03-01,1"], "line 3: 2026-03-01 has no offset", "2026-03-01T12:00"),
        ([HEADER, FIRST, "at one,1"], "line 3: `at one` is no time", "offset"),
        ([HEADER, FIRST, "0001-01-01T00:00+14:00,1"], "line 3: `0001-01-01T00:00.14:00` is no time", "offset"),
        ([HEADER, FIRST, ",1"], "line 3: `start` is empty", "offset"),
        ([HEADER, FIRST, "2026-03-01T12:00Z,1"], "line 3: starts when line 2 does", "leave one"),
        ([HEADER, FIRST, "2026-03-01T13:00+02:00,1"], "line 3: starts before line 2", "sort"),
        ([HEADER, FIRST, "2026-03-01T13:00Z,-1"], "line 3: -1 g/kWh is negative", "0 or more"),
        ([HEADER, FIRST, "2026-03-01T13:00Z,nan"], "line 3: `nan` is no intensity", "empty"),
        ([HEADER, FIRST, "2026-03-01T13:00Z,inf"], "line 3: `inf` is no intensity", "empty"),
        ([HEADER, FIRST, "2026-03-01T13:00Z,1e999"], "line 3: `1e999` is no intensity", "empty"),
        ([HEADER, FIRST, '2026-03-01T13:00Z,"1,5"'], "line 3: `1,5` is no number", "decimal point"),
        ([HEADER, FIRST, '2026-03-01T13:00Z,"1'], "line 3: not CSV", "start,g_per_kwh"),
        ([HEADER, "2026-03-01T12:00Z,", "2026-03-01T13:00Z,"], "every g_per_kwh is empty", "known"),
        ([WITH_END, "2026-03-01T12:00Z,1,2026-03-01T12:00Z"], "line 2: ends at or before its start", "next step"),
        ([WITH_END, "2026-03-01T12:00Z,1,"], "line 2: `end` is empty", "offset"),
        (
            [WITH_END, FIRST_WITH_END, "2026-03-01T14:00Z,1,2026-03-01T15:00Z"],
            "line 3: a gap of 1:00:00 after line 2", "empty g_per_kwh",
        ),
        (
            [WITH_END, FIRST_WITH_END, "2026-03-01T12:30Z,1,2026-03-01T15:00Z"],
            "line 3: overlaps line 2 by 0:30:00", "where the next begins",
        ),
        ([f"{HEADER},kind", f"{FIRST},averag"], "line 2: unknown kind `averag`", "did you mean `average`?"),
        ([f"{HEADER},status", f"{FIRST},good"], "line 2: unknown status `good`", "actual"),
        (
            [f"{HEADER},kind", f"{FIRST},average", "2026-03-01T13:00Z,1,marginal"],
            "line 3: kind `marginal` after kind `average`", "split it",
        ),
        (
            [f"{HEADER},zone", f"{FIRST},DE", "2026-03-01T13:00Z,1,"],
            "line 3: zone none after zone `DE`", "split it",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line_and_the_way_out(write, lines, message, hint):
    with pytest.raises(UsageError, match=message) as caught:
        trace.read(write(*lines))
    assert "trace.csv" in str(caught.value)
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value) + caught.value.hint


def test_a_file_that_is_not_there_or_no_text_is_told(write, tmp_path):
    with pytest.raises(UsageError, match="no such trace file"):
        trace.read(tmp_path / "other.csv")
    with pytest.raises(UsageError, match="cannot be read"):
        trace.read(tmp_path)
    with pytest.raises(UsageError, match="line 2: not UTF-8"):
        trace.read(write(content=b"start,g_per_kwh\n\xff\xfe"))


STARTS = st.datetimes(datetime(2000, 1, 1), datetime(2060, 1, 1))
VALUES = st.lists(st.none() | st.floats(0, 2000), min_size=2, max_size=30).filter(lambda values: set(values) != {None})


@given(STARTS, st.integers(1, 10**10), VALUES, st.integers(-14 * 60, 14 * 60))
def test_what_is_written_is_read_again_whatever_the_offset(tmp_path_factory, start, microseconds, values, minutes):
    every, offset = timedelta(microseconds=microseconds), timezone(timedelta(minutes=minutes))
    rows = [
        f"{(start + i * every).replace(tzinfo=UTC).astimezone(offset).isoformat()},{'' if value is None else value}"
        for i, value in enumerate(values)
    ]
    file = tmp_path_factory.mktemp("written") / "trace.csv"
    file.write_text("\n".join([HEADER, *rows]))

    assert trace.read(file).steps == tuple(regular(start, every, values))


def weeks(number, start=NOON, **changes):
    """Each hour has a value of its own."""
    values = [changes.get(f"hour_{i}", float(i)) for i in range(number * 168)]
    return Series(steps=tuple(regular(start, HOUR, values)), provider="trace", source="a.csv")


@given(st.integers(1, 4), st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)))
def test_a_replayed_trace_keeps_every_hour_on_its_day_of_the_week(number, to):
    recorded = weeks(number)

    replayed = trace.shifted(recorded, to)
    moved = replayed.start - recorded.start

    assert moved % WEEK == timedelta(0)
    assert replayed.at(to).g_per_kwh == recorded.at(to - moved).g_per_kwh
    assert replayed.at(to).status == ("assumed" if moved else "actual")
    assert replayed.covers(to, to + trace.AHEAD + trace.RUN)


@given(st.integers(7 * 24, 30 * 24), st.integers(-60 * 24, 60 * 24), st.integers(0, 16 * 24 - 1))
def test_it_repeats_by_the_hour_of_its_week_as_long_as_a_run_may_take(hours, ahead, later):
    steps = tuple(regular(NOON, HOUR, [float(i % 168) for i in range(hours)]))
    to = NOON + ahead * HOUR

    replayed = trace.shifted(Series(steps=steps, provider="trace", source="a.csv"), to)

    assert replayed.at(to + later * HOUR).g_per_kwh == (ahead + later) % 168


def test_a_week_whose_last_hour_it_is_goes_on_with_its_first_which_is_assumed():
    replayed = trace.shifted(weeks(1), NOON + WEEK - HOUR)

    assert (replayed.at(NOON + WEEK - HOUR).g_per_kwh, replayed.at(NOON + WEEK - HOUR).status) == (167.0, "actual")
    assert (replayed.at(NOON + WEEK).g_per_kwh, replayed.at(NOON + WEEK).status) == (0.0, "assumed")


def test_gaps_are_repeated_and_not_filled():
    replayed = trace.shifted(weeks(1, hour_5=None), NOON + 10 * WEEK)

    assert replayed.at(NOON + 11 * WEEK + 4 * HOUR).g_per_kwh == 4.0
    assert replayed.at(NOON + 11 * WEEK + 5 * HOUR) is None


def test_it_is_moved_by_the_first_week_so_that_the_most_is_left_after(write):
    replayed = trace.shifted(weeks(3), NOON + 10 * WEEK + 5 * HOUR)

    assert replayed.start == NOON + 10 * WEEK
    assert replayed.source == "a.csv, moved by 10 weeks"


def test_a_trace_of_a_year_stays_in_its_season():
    to = NOON + 52 * WEEK + 30 * WEEK

    assert trace.shifted(weeks(53), to).start == NOON + 52 * WEEK


def test_what_covers_the_time_is_not_moved():
    recorded = weeks(4)

    assert trace.shifted(recorded, NOON + WEEK) is recorded


def test_a_gap_is_filled_by_another_week_or_told():
    to = NOON + 20 * WEEK + 5 * HOUR

    assert trace.shifted(weeks(2, hour_5=None), to).at(to).g_per_kwh == 168 + 5
    with pytest.raises(UsageError, match="nothing is known of a Sunday at 17:00 UTC"):
        trace.shifted(weeks(1, hour_5=None), to)


def test_less_than_a_week_is_not_replayed():
    short = Series(steps=(Step(start=NOON, end=NOON + WEEK - HOUR, g_per_kwh=1.0),), provider="trace", source="a.csv")

    with pytest.raises(UsageError, match=r"a\.csv: a trace of less than a week"):
        trace.shifted(short, NOON + 9 * WEEK)
