"""Units are parsed as people write them, and refused where they could mean two things."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenml import units


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("90s", units.SECONDS, 90),
        ("1.5h", units.SECONDS, 5400),
        (" 30 min ", units.SECONDS, 1800),
        ("0.2kWh", units.JOULES, 720_000),
        ("50wh", units.JOULES, 180_000),
        ("5MJ", units.JOULES, 5e6),
        ("5g", units.GRAMS, 5),
        ("1e-1kg", units.GRAMS, 100),
    ],
)
def test_a_quantity_is_read_in_its_unit(text, kind, value):
    assert units.parse_quantity(text, kind) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "30", "0s", "-1s", "nan s", "inf s", "1e999s", "s", "3 parsecs", "1h30m", "1,5h"])
def test_what_is_no_quantity_is_refused_in_words(text):
    with pytest.raises(ValueError, match="`"):
        units.parse_quantity(text, units.SECONDS)


@given(st.floats(1e-6, 1e9), st.sampled_from(sorted(units.JOULES)))
def test_there_and_back(value, unit):
    assert units.parse_quantity(f"{value!r}{unit}", units.JOULES) == value * units.JOULES[unit]
