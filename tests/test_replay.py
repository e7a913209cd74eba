"""`greenml replay`: the recorded energy of a run at other intensities, and what that assumes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from conftest import STARTED_AT, WORLD, make_end, make_phase, make_resume, make_run

from greenml import grid
from greenml.grid.series import Series, regular
from greenml.units import co2_g, kwh

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from conftest import Greenml

    from greenml.store import Store

A = "a" * 12
HOUR = timedelta(hours=1)
MIDNIGHT = STARTED_AT - 12 * HOUR
INDIA = replace(WORLD, g_per_kwh=713.0, region_asked="IN", region_used="India", pue=1.2)


def write(path: Path, start: datetime, values: list[float]) -> str:
    """A trace, hour by hour."""
    lines = [f"{start + i * HOUR:%Y-%m-%dT%H:%MZ},{each}" for i, each in enumerate(values)]
    path.write_text("\n".join(["start,g_per_kwh", *lines]) + "\n")
    return str(path)


def record(db: Store, *joules: float | None, every: timedelta = timedelta(minutes=20), **run: Any) -> None:
    """A run from noon on, a phase after the other."""
    rows: list[Any] = [make_run(A, **{"intensity": INDIA, "config": {"model": "cnn"}} | run)]
    for seq, joule in enumerate(joules):
        source = {"cpu_source": "unknown"} if joule is None else {}
        times = {"started_at": STARTED_AT + seq * every, "ended_at": STARTED_AT + (seq + 1) * every}
        rows.append(make_phase(A, seq, cpu_j=joule, ram_j=0.0, **source, **times))
    assert db.write([*rows, make_end(A)])


def replayed(greenml: Greenml, *arguments: str) -> list[dict[str, Any]]:
    code, out, err = greenml("replay", A, *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_three_regions_are_the_same_energy_at_their_yearly_averages(db: Store, greenml: Greenml) -> None:
    record(db, 1e6, 2e6)
    actual, *others = replayed(greenml, "--region", "SE,FR", "--region", "IN")
    assert actual["co2_g"] == co2_g(3e6, 713.0, 1.2)
    for row, code in zip(others, ("SE", "FR", "IN"), strict=True):
        factor = grid.resolve(code).g_per_kwh
        assert row["co2_g"] == co2_g(3e6, factor, 1.2)
        assert row["ratio"] == pytest.approx(factor / 713.0)
        assert row["status"] == "assumed"
    assert [row["what"] for row in others] == ["SE, Sweden", "FR, France", "IN, India"]


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_and_says_what_it_assumes(db: Store, greenml: Greenml, width: int) -> None:
    record(db, 1e6)
    code, out, err = greenml("replay", A, "--region", "SE,FR,IN", "--intensity", "50", width=width)
    assert code == 0
    assert max(map(len, out.splitlines())) <= width
    assert len(out.splitlines()) == 7
    assert "50 g/kWh" in out
    for word in ("same energy", "PUE 1.2", "they hide the hours", "left out", "marginal"):
        assert word in err


def test_at_another_hour_every_phase_counts_where_it_would_have_been(
    db: Store, greenml: Greenml, tmp_path: Path
) -> None:
    """Three phases of twenty minutes from 02:30: one and a half in the third hour, the others in the fourth."""
    record(db, 100.0, 200.0, 400.0)
    trace = write(tmp_path / "day.csv", MIDNIGHT, [float(100 + hour) for hour in range(24)])
    actual, at_night = replayed(greenml, "--at", "02:30", "--trace", trace)
    by_hand = kwh(100 * 102 + 200 * (10 * 102 + 10 * 103) / 20 + 400 * 103) * 1.2
    assert at_night["co2_g"] == pytest.approx(by_hand, rel=1e-12)
    assert at_night["start"] == "2026-03-01T02:30:00Z"
    assert at_night["status"] == "actual"
    assert actual["co2_g"] == pytest.approx(kwh(700.0) * 713 * 1.2)
    [_, then] = replayed(greenml, "--trace", trace)
    assert then["co2_g"] == pytest.approx(kwh(700.0) * 112 * 1.2)


def test_a_constant_trace_replays_to_the_last_bit(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    record(db, 0.1, 1e5 / 3, 7.7)
    trace = write(tmp_path / "flat.csv", MIDNIGHT, [250.1] * 24)
    actual, hourly, fixed = replayed(greenml, "--trace", trace, "--intensity", "250.1")[:3]
    assert hourly["co2_g"] == fixed["co2_g"] > 0
    assert hourly["co2_g"] != actual["co2_g"]


def test_of_unknown_joules_grams_are_unknown(db: Store, greenml: Greenml) -> None:
    record(db, 100.0, None)
    for row in replayed(greenml, "--region", "SE"):
        assert (row["co2_g"], row["ratio"]) == (None, None)
    code, out, err = greenml("replay", A, "--region", "SE")
    assert code == 0
    assert "unknown" in out
    assert "partly unknown" in err


def test_hours_that_nobody_told_are_an_error(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    record(db, 100.0, 100.0)
    short = write(tmp_path / "short.csv", STARTED_AT - HOUR, [100.0, 200.0])
    code, _, err = greenml("replay", A, "--trace", short, "--at", "02:00")
    assert code == 2
    assert "short.csv says nothing of 2026-03-01 02:00 to 2026-03-01 02:40 UTC; it covers 2026-03-01 11:00" in err
    code, _, err = greenml("replay", A, "--at", "02:00")
    assert code == 2
    assert "nobody has told the intensity from 2026-03-01 02:00 to 2026-03-01 02:40 UTC" in err


def test_what_a_provider_told_of_that_place_is_used(db: Store, greenml: Greenml) -> None:
    """By its name for it: the zone of Tamil Nadu is that of the south of India."""
    record(db, 100.0, intensity=replace(INDIA, region_asked="IN-TN", region_used="Tamil Nadu"))
    told = Series(
        steps=tuple(regular(MIDNIGHT, HOUR, [50.0] * 24, "estimated")),
        provider="electricitymaps",
        source="Electricity Maps",
        zone="IN-SO",
    )
    db.remember(told, STARTED_AT)
    [_, at_night] = replayed(greenml, "--at", "02:00")
    assert (at_night["intensity_g_per_kwh"], at_night["status"]) == (50.0, "estimated")


def test_a_trace_of_another_week_is_moved_and_says_so(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    record(db, 100.0)
    old = write(tmp_path / "old.csv", MIDNIGHT - timedelta(weeks=10), [100.0 + hour % 24 for hour in range(24 * 14)])
    [_, row] = replayed(greenml, "--trace", old, "--trace-shift", "--at", "03:00")
    assert (row["intensity_g_per_kwh"], row["status"]) == (103.0, "assumed")


def test_a_resumed_run_is_moved_as_a_whole(db: Store, greenml: Greenml, tmp_path: Path) -> None:
    record(db, 100.0)
    later = {"started_at": STARTED_AT + 3 * HOUR, "ended_at": STARTED_AT + 4 * HOUR}
    db.write([make_resume(A), make_phase(A, 0, segment=1, cpu_j=300.0, ram_j=0.0, **later), make_end(A)])
    trace = write(tmp_path / "day.csv", MIDNIGHT, [float(100 + hour) for hour in range(24)])
    [_, row] = replayed(greenml, "--trace", trace, "--at", "01:00")
    assert row["co2_g"] == pytest.approx(kwh(100 * 101 + 300 * 104) * 1.2, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to replay it with"),
        (("--at", "late"), "--at late: no time of day"),
        (("--at", "25:00"), "--at 25:00: no time of day"),
        (("--trace-shift", "--region", "SE"), "--trace-shift without --trace"),
        (("--region", "ZZ"), "ZZ"),
        (("--intensity", "-1"), "-1"),
        (("--intensity", "nan"), "--intensity nan: not between 0 and 10,000 g/kWh"),
        (("--intensity", "inf"), "--intensity inf: not between 0 and 10,000 g/kWh"),
    ],
)
def test_bad_input_is_refused(db: Store, greenml: Greenml, arguments: tuple[str, ...], message: str) -> None:
    record(db, 100.0)
    code, out, err = greenml("replay", A, *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_run_without_power_is_refused(db: Store, greenml: Greenml) -> None:
    db.write([make_run(A), make_end(A)])
    assert greenml("replay", A, "--region", "SE")[::2] == (
        2,
        f"greenml: error: run {A} has no recorded power\nhint: only what was metered can be replayed\n",
    )
