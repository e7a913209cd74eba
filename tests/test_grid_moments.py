"""Moments as people write them."""

import time
from datetime import datetime, timedelta

import pytest

from greenml.grid import moments

NOW = datetime(2026, 3, 28, 16, 30)  # 17:30 in Berlin, the evening before its clocks go forward


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOW),
        ("18:00", datetime(2026, 3, 28, 17)),
        ("17:30", datetime(2026, 3, 29, 15, 30)),  # not now but the next time, in summer time
        ("08:00", datetime(2026, 3, 29, 6)),
        ("tomorrow-08:00", datetime(2026, 3, 29, 6)),
        ("Tomorrow 08:00", datetime(2026, 3, 29, 6)),
        ("today-08:00", datetime(2026, 3, 28, 7)),
        ("6h", NOW + timedelta(hours=6)),
        ("in 90 min", NOW + timedelta(minutes=90)),
        ("+1.5h", NOW + timedelta(minutes=90)),
        ("2026-03-29T08:00", datetime(2026, 3, 29, 6)),
        ("2026-03-29 08:00+05:30", datetime(2026, 3, 29, 2, 30)),
        ("2026-03-29T08:00Z", datetime(2026, 3, 29, 8)),
        ("2026-03-30", datetime(2026, 3, 29, 22)),
    ],
)
def test_a_moment_is_read_as_its_writer_meant_it(text, moment):
    assert moments.parse(text, now=NOW) == moment


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("25:00", "no time of the day"),
        ("tonight", "is no moment"),
        ("4x", "unknown unit `x`"),
        ("0h", "not above 0"),
        ("99999999999h", "too far away"),
        ("", "is no moment"),
        ("2026-13-01", "is no moment"),
    ],
)
def test_what_is_no_moment_is_said_to_be_none(text, words):
    with pytest.raises(ValueError, match=words):
        moments.parse(text, now=NOW)
