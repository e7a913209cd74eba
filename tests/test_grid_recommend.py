"""`greenml recommend` says when to start, where the grid of its runs is known, and asks nobody for it."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from conftest import WORLD, record
from test_grid_cli import DAY, HOUR, NOW, Service, at_noon, series, serve, trace, wave  # noqa: F401

from greenml import grid

WH = 3600.0


def two_runs(db, *, intensity=WORLD, regions=None, **config):
    """A recipe under two seeds: two epochs of 500 Wh and 10 s each."""
    for i, letter in enumerate("ab"):
        own = intensity if regions is None else grid.resolve(regions[i])
        settings = {"model": "cnn", "epochs": 2, "seed": i} | config
        used = [500 * WH, 500 * WH]
        record(db, letter * 12, [0.8, 0.9], used, seed=i, config=settings, intensity=own, group_hash="g")


def line(out):
    """What it says of the start."""
    found = [line for line in out.splitlines() if line.startswith("Best start")]
    return found[0] if found else None


def test_the_best_start_is_that_of_the_trace_its_runs_were_counted_by(db, greenml, tmp_path):
    trace(tmp_path, DAY)
    two_runs(db, trace="trace.csv")
    _, out, _ = greenml("recommend", width=300)

    # 1 kWh at 100 rather than 300 g/kWh.
    assert line(out) == (
        "Best start: 15:00, for 67 % less CO2e than now, about 200 g (trace.csv, actual); --when-green waits for it"
    )


def remember(db, values=None):
    """A month of Germany and of France, whose nights are cleaner than their noons."""
    start = NOW - 30 * 24 * HOUR
    for zone in ("DE", "FR"):
        known = series(values or night_is_clean(start), start=start, provider="electricitymaps", zone=zone)
        db.remember(known, NOW)


def night_is_clean(start):
    return [100.0 if (start + i * HOUR).hour < 6 else 300.0 for i in range(30 * 24)]


def test_what_the_store_remembers_is_learned_from_and_nobody_is_asked(db, greenml, serve):  # noqa: F811
    service = serve(Service(current=series([1.0]), forecast=series([1.0] * 24)))
    remember(db)
    two_runs(db, intensity=grid.resolve("DE"))
    _, out, _ = greenml("recommend", width=300)

    assert line(out) == (
        "Best start: tomorrow 00:00, for 67 % less CO2e than now, about 200 g (DE, modelled); --when-green waits for it"
    )
    assert service.asked == []


def test_where_all_hours_are_alike_it_is_now(db, greenml):
    remember(db, [300.0] * 24 * 30)
    two_runs(db, intensity=grid.resolve("DE"))
    _, out, _ = greenml("recommend", width=300)

    assert line(out) == "Best start: now, as no hour of the next 24 is cleaner (DE, modelled)"


@pytest.mark.parametrize(
    "runs",
    [
        {},
        {"regions": ("DE", "FR")},
        {"trace": "nowhere.csv"},
        {"intensity": grid.resolve("PL")},
        {"trace": "past.csv"},
    ],
    ids=["no region", "several", "a trace that is gone", "a region of which no hour is known", "a trace that is over"],
)
def test_where_the_grid_is_not_known_nothing_is_said(db, greenml, tmp_path, runs):
    trace(tmp_path, DAY, name="past.csv", start=NOW - timedelta(days=30))
    remember(db)
    two_runs(db, **runs)
    code, out, err = greenml("recommend", width=300)

    assert (code, line(out)) == (0, None)
    assert "Use cnn" in out
    assert "error" not in err


def test_a_given_intensity_is_the_same_at_all_hours(db, greenml):
    remember(db)
    given = {"model": "cnn", "epochs": 2, "intensity": 250.0}
    record(db, "c" * 12, [0.8, 0.9], [500 * WH, 500 * WH], config=given, intensity=grid.resolve("DE"))
    assert line(greenml("recommend", width=300)[1]) is None


def test_json_tells_the_best_start_of_what_is_recommended(db, greenml):
    remember(db)
    two_runs(db, intensity=grid.resolve("DE"))
    other = {"model": "resnet18", "epochs": 2}
    record(db, "c" * 12, [0.5, 0.6], [500 * WH, 500 * WH], model="resnet18", config=other, intensity=grid.resolve("DE"))
    code, out, _ = greenml("recommend", "--json")

    assert code == 0
    best, *others = json.loads(out)
    assert best["best_start"] == {
        "start": "2026-03-04T00:00:00Z",
        "saved_share": pytest.approx(2 / 3),
        "saved_g": pytest.approx(200.0),
        "status": "modelled",
        "place": "DE",
    }
    assert others
    assert all(row["best_start"] is None for row in others)


def test_json_knows_of_no_best_start_where_the_grid_is_not_known(db, greenml):
    two_runs(db)
    [best, *_] = json.loads(greenml("recommend", "--json")[1])
    assert best["best_start"] is None


def test_json_has_no_row_where_no_run_is_ranked(greenml):
    assert greenml("track", "--dataset", "sales", "-q", "--", "true")[0] == 0
    code, out, _ = greenml("recommend", "--json")
    assert (code, json.loads(out)) == (0, [])


def test_where_all_hours_are_alike_nothing_is_saved_unless_nobody_knows_what_it_takes(db, greenml):
    remember(db, [300.0] * 24 * 30)
    config = {"model": "cnn", "epochs": 2}
    for letter, pue, saved_g in (("a", 1.0, 0.0), ("b", 1.5, None)):  # under two PUEs: of the site nothing is known
        used = [500 * WH, 500 * WH]
        record(db, letter * 12, [0.8, 0.9], used, config=config, intensity=grid.resolve("DE", pue=pue), group_hash="g")
        [best, *_] = json.loads(greenml("recommend", "--json")[1])
        assert (best["best_start"]["saved_share"], best["best_start"]["saved_g"]) == (0.0, saved_g)
