"""What people see of a sweep: in the report, in lists and portraits, and when it is removed; no joule of it twice."""

from __future__ import annotations

import json
import math
import random
from typing import TYPE_CHECKING, Any

import pytest
from conftest import STARTED_AT, make_end, make_trial, record
from test_report_page import Page, drawn, read_rows, same
from test_sweep_store import KWH, S, minutes, small, sweep, trial_of

from greenml import plots
from greenml.report import rows
from greenml.report.content import gather
from greenml.report.figures import figures
from greenml.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Greenml

    from greenml.report.content import Content

MODELS = {"cnn": (1.0, 0.6), "resnet18": (6.0, 0.85), "mobilenetv2_100": (3.0, 0.75)}


def fill(db: Store, *, sweep_id: str = S, num_trials: int = 16, seed: int = 1, **study: Any) -> None:
    """A search over three models and the rate, whose accuracy hangs on the model; one trial failed, one was retried."""
    dice = random.Random(seed)
    trials = []
    for number in range(num_trials):
        run_id = f"{sweep_id[0]}{number:011x}"
        model = dice.choice([*MODELS])
        cost, best = MODELS[model]
        lr = 10 ** dice.uniform(-4, -1)
        accuracies = [round(best * (1 - 0.5**epoch) + dice.uniform(0, 0.1), 3) for epoch in (1, 2, 3)]
        config = {"model": model, "lr": lr, "precision": "fp32", "epochs": 3}
        about: dict[str, Any] = {
            "kind": "trial",
            "command": "greenml sweep --trials 16",
            "parent": sweep_id,
            "model": model,
            "config": config,
            "group_hash": run_id,
        }
        record(db, run_id, accuracies, [cost * KWH / 1000] * 3, **about)
        state = "failed" if number == 3 else "complete"
        attempts = [run_id]
        if number == 5:
            lost = f"{sweep_id[0]}{999:011x}"
            record(db, lost, [0.2], [cost * KWH / 1000], **about | {"group_hash": lost})
            attempts = [lost, run_id]
        params = {"model": model, "lr": lr}
        trials.append(trial_of(number, *attempts, sweep_id=sweep_id, state=state, params=params))
    sweep(db, sweep_id, own_j=KWH / 500, trials=trials, num_trials=num_trials, **study)
    for number in range(num_trials):
        run_id = f"{sweep_id[0]}{number:011x}"
        [row] = db.rows("select best_epoch, val_accuracy, test_accuracy from runs where run_id = ?", [run_id])
        db.write([make_end(run_id, ended_at=minutes(number + 1), **row)])  # one after the other


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("swept") / "store" / "greenml.duckdb", timeout_s=5)
    store.check()
    fill(store)
    return store


@pytest.fixture(scope="module")
def read(filled: Store) -> tuple[Page, Content]:
    return drawn(filled)


# The page


@pytest.mark.parametrize("view", ["sweeps", "sweep_front"])
def test_a_table_holds_what_its_view_answers(filled: Store, read: tuple[Page, Content], view: str) -> None:
    parsed, content = read
    [shown] = [read_rows(table) for table in parsed.drawn if table.view == view]
    answered = filled.rows(f"from {view} order by {'run_id' if view == 'sweeps' else 'co2_g'}")
    assert len(shown) == len(answered) == len(getattr(content, view)) > 0
    for row, answer in zip(shown, answered, strict=True):
        same(row, answer)


def chart_rows(parsed: Page, name: str, *fields: str, without: str = "") -> list[dict[str, Any]]:
    """The rows of the largest data set of a chart that has all of these fields, and not that other one."""
    text = json.dumps(parsed.charts["specs"][name])
    sets = [parsed.dataset(data) for data in parsed.charts["datasets"] if f'"{data}"' in text]
    return max((rows for rows in sets if {*fields} <= rows[0].keys() and without not in rows[0]), key=len)


def test_the_front_is_drawn_as_the_views_answer_it(filled: Store, read: tuple[Page, Content]) -> None:
    parsed, content = read
    points = filled.rows("from sweep_points order by number, epoch")
    unit = plots.Sheet(runs=content.runs).mass
    tried = chart_rows(parsed, "sweep-front", "trial", "epoch", "grams", "value", without="spent")
    assert len(tried) == len(points)
    for row, answer in zip(tried, points, strict=True):
        assert (row["run_id"], row["trial"], row["epoch"]) == (answer["run_id"], answer["number"], answer["epoch"])
        assert math.isclose(row["value"], answer["accuracy"], rel_tol=1e-6)
        assert math.isclose(row["grams"], answer["co2_g"] * unit.factor, rel_tol=1e-6)
    fronts = filled.rows("select step, number, epochs, accuracy from sweep_fronts order by step, co2_g")
    spent = {row["step"]: row["known_kwh"] for row in filled.rows("from sweep_progress")}
    shown = chart_rows(parsed, "sweep-front", "spent", "model")
    for share, name in plots.QUARTERS.items():
        step = max(step for step, known in spent.items() if known <= share * max(spent.values()) * (1 + 1e-9))
        expected = [(row["number"], row["epochs"], row["accuracy"]) for row in fronts if row["step"] == step]
        assert [(row["trial"], row["epoch"], row["value"]) for row in shown if row["spent"] == name] == expected


def test_the_gain_is_drawn_as_the_view_answers_it(filled: Store, read: tuple[Page, Content]) -> None:
    steps = filled.rows("from sweep_progress order by step")
    shown = chart_rows(read[0], "sweep-gain", "step", "energy", "volume")
    assert [row["step"] for row in shown] == [row["step"] for row in steps]
    factor = shown[-1]["energy"] / steps[-1]["known_kwh"]
    assert factor == pytest.approx(1000), "Wh"
    for row, answer in zip(shown, steps, strict=True):
        assert math.isclose(row["volume"], answer["hypervolume"], rel_tol=1e-6)
        assert math.isclose(row["energy"], answer["known_kwh"] * 1000, rel_tol=1e-6)
    [total] = filled.rows("select energy_kwh from sweeps")
    assert steps[-1]["energy_kwh"] == pytest.approx(total["energy_kwh"]), "all of it, retries and failures too"


def test_importance_is_drawn_as_the_view_answers_it(filled: Store, read: tuple[Page, Content]) -> None:
    parsed, _ = read
    answered = {(row["key"], row["objective"]): row for row in filled.rows("from sweep_importance")}
    text = json.dumps(parsed.charts["specs"]["sweep-importance"])
    shown = [row for data in parsed.charts["datasets"] if f'"{data}"' in text for row in parsed.dataset(data)]
    assert len(shown) == len(answered) == 4
    for row in shown:
        assert math.isclose(
            row["share"], answered[row["key"], row["objective"]]["importance"], rel_tol=1e-6, abs_tol=1e-9
        )
    assert answered["model", "accuracy"]["importance"] > 0.5 > answered["lr", "accuracy"]["importance"]
    assert "n = 15 trials" in parsed.words
    assert "An estimate" in parsed.words


def test_every_trial_that_ended_has_a_line(filled: Store, read: tuple[Page, Content]) -> None:
    lines = chart_rows(read[0], "sweep-trials", "axis", "place", "trial")
    trials = filled.rows("from trials where state = 'complete' order by number")
    assert {row["trial"] for row in lines} == {row["number"] for row in trials}
    assert {row["axis"] for row in lines} >= {"model", "lr", "best val. accuracy"}
    on_front = {row["number"] for row in filled.rows("from sweep_front")}
    assert {row["trial"] for row in lines if row["on"] == "on the front"} == on_front
    reached = {row["trial"]: row["place"] for row in lines if row["axis"] == "best val. accuracy"}
    low, high = (bound(row["accuracy"] for row in trials) for bound in (min, max))
    for row in trials:
        assert math.isclose(reached[row["number"]], (row["accuracy"] - low) / (high - low), abs_tol=1e-6)
    rates = {row["trial"]: row["place"] for row in lines if row["axis"] == "lr"}
    logs = {row["number"]: math.log(row["params"]["lr"]) for row in trials}
    span = max(logs.values()) - min(logs.values())
    for number, log in logs.items():
        assert math.isclose(rates[number], (log - min(logs.values())) / span, abs_tol=1e-6), "as it was searched"


def test_a_store_without_a_sweep_has_nothing_of_it(db: Store) -> None:
    record(db, "a" * 12, [0.9], [100.0])
    parsed, content = drawn(db)
    assert not any(figure.is_of_sweeps for figure in figures(content))
    assert 'id="sweeps"' not in parsed.text
    assert content.totals["num_sweeps"] == 0


def test_sweeps_of_other_runs_are_not_on_the_page(filled: Store, db: Store) -> None:
    record(db, "e" * 12, [0.9], [100.0])
    small(db)
    assert gather(db, ["e" * 12]).sweeps == []
    assert [row["run_id"] for row in gather(db, ["b" * 12]).sweeps] == [S]


def test_too_little_for_a_chart_is_said(db: Store) -> None:
    """Three trials, of which one epoch is a point."""
    record(db, "a" * 12, [0.5], [KWH], kind="trial", parent=S)
    sweep(db, trials=[trial_of(0, "a" * 12), make_trial(S, 1, attempts=["b" * 12])])
    parsed, content = drawn(db)
    captions = {figure.name: figure for figure in figures(content) if figure.is_of_sweeps}
    assert captions["sweep-importance"].chart is None
    assert captions["sweep-gain"].chart is None
    assert "fewer say nothing" in parsed.words
    assert "1 epoch of 1 trial" in captions["sweep-front"].caption
    assert "1 more failed, did not end" in captions["sweep-trials"].caption


def test_several_sweeps_have_a_panel_each(db: Store) -> None:
    for number in range(5):
        fill(db, sweep_id=str(number) * 12, num_trials=2, seed=number)
    _, content = drawn(db)
    for figure in figures(content):
        if figure.is_of_sweeps and figure.chart is not None:
            assert "newest 3 sweeps; 2 more left out" in figure.caption, figure.name


def test_charts_of_a_sweep_are_files_too(filled: Store, greenml: Greenml, tmp_path: Path) -> None:
    store = str(filled.path)
    assert greenml("report", "--svg", str(tmp_path / "svg"), "--store", store)[0] == 0
    names = {path.stem for path in (tmp_path / "svg").glob("*.svg") if path.stem.startswith("sweep-")}
    assert names == {"sweep-front", "sweep-gain", "sweep-importance", "sweep-trials"}
    assert greenml("report", "--csv", str(tmp_path / "csv"), "--store", store)[0] == 0
    assert (tmp_path / "csv" / "trials.csv").read_text().count("\n") == 1 + 16
    code, out, _ = greenml("report", "--md", "--store", store)
    assert (code, "## Sweeps" in out) == (0, True)


# No joule twice


def test_no_sum_counts_a_sweep_twice(filled: Store, read: tuple[Page, Content]) -> None:
    """Trials are runs, and the sweep's own run has only what it took beside them."""
    phases = filled.rows("select sum(joules) / 3.6e6 as kwh from phases")[0]["kwh"]
    ids = [row["run_id"] for row in filled.rows("select run_id from runs")]
    [total] = filled.rows("select energy_kwh, num_drawn from sweeps")
    assert total["energy_kwh"] == pytest.approx(phases)
    assert rows.totals(filled, ids)["total_kwh"] == pytest.approx(phases)
    assert filled.rows("select sum(energy_kwh) as kwh from leaderboard")[0]["kwh"] == pytest.approx(phases)
    [contest] = rows.contests(filled, ids)
    assert contest["total_kwh"] == pytest.approx(phases), "what it took beside its trials stands with them"
    assert (contest["num_runs"], rows.totals(filled, ids)["num_runs"]) == (17, 17)
    assert rows.totals(filled, ids)["num_contests"] == 1
    assert rows.all_of_contest(filled, contest["contest"])["total_kwh"] == pytest.approx(phases)
    for row in rows.break_even(filled, ids):
        assert (row["tried_kwh"], row["num_tried"], row["num_sweeps"]) == (pytest.approx(phases), 17, 1)
    parsed, content = read
    assert "sweep" not in {row["kind"] for row in content.runs}
    assert sum(len(of) for view, of in parsed.tables if view == "leaderboard") == 17


def test_a_sweep_is_in_no_ranking_and_its_trials_are(filled: Store, greenml: Greenml) -> None:
    store = str(filled.path)
    code, out, _ = greenml("board", "--json", "--store", store)
    board = {row["run_id"]: row for row in json.loads(out)}
    assert (code, len(board)) == (0, 18)
    assert (board[S]["rank"], board[S]["unranked"]) == (None, "a search, not a training")
    assert sum(row["rank"] is not None for row in board.values()) > 10
    code, out, _ = greenml("recommend", "--json", "--store", store)
    assert code == 0
    assert f'"{S}"' not in out
    code, out, _ = greenml("recommend", "--store", store, width=200)
    [row] = filled.rows("select params ->> '$.lr' as lr from sweep_front order by accuracy desc limit 1")
    assert f"greenml train resnet18 --dataset digits --epochs 3 --lr {row['lr']}" in " ".join(out.split()), out


# Lists, portraits, and what is removed


def test_a_list_says_what_is_a_sweep(filled: Store, greenml: Greenml) -> None:
    code, out, _ = greenml("runs", "list", "--limit", "50", "--store", str(filled.path))
    [line] = [line for line in out.splitlines() if line.startswith(S[:8])]
    assert (code, "sweep" in line) == (0, True), line


def test_a_sweep_is_shown_with_its_trials(filled: Store, greenml: Greenml) -> None:
    code, out, _ = greenml("runs", "show", S, "--store", str(filled.path), width=120)
    assert code == 0
    assert "16 drawn, 15 complete, 1 failed" in out
    assert "nsga2" in out
    told = " ".join(out.split())
    assert "beside them 2.00 Wh (estimated)" in told, "what stands as the energy of its own run"
    [row] = filled.rows("select round(energy_kwh * 1000, 1) as wh from sweeps")
    assert f"{row['wh']:.0f}" in told
    code, out, _ = greenml("runs", "show", f"{S[0]}{5:011x}", "--store", str(filled.path))
    assert (code, f"of sweep {S}, trial 5" in out) == (0, True), out
    code, out, _ = greenml("runs", "show", S, "--json", "--store", str(filled.path))
    [known] = json.loads(out)
    assert len(known["trials"]) == 16
    assert known["sweep"]["num_drawn"] == 16


def test_who_removes_a_sweep_removes_its_trials(db: Store, greenml: Greenml) -> None:
    """And brings them back with it, but no trial that was removed before."""
    small(db)
    db.mark(["c" * 12], removed_at=STARTED_AT)
    code, _, err = greenml("runs", "rm", S, "--yes")
    assert (code, "the 2 trials of 1 sweep with it" in err) == (0, True), err
    assert [row["run_id"] for row in db.rows("from runs")] == ["0" * 12], "an earlier run is nobody's trial"
    assert db.rows("from trials") == []
    assert greenml("runs", "restore", S)[0] == 0
    assert {row["run_id"] for row in db.rows("from runs")} == {"0" * 12, "a" * 12, "b" * 12, S}


def test_purging_a_sweep_purges_its_trials(db: Store, greenml: Greenml) -> None:
    small(db)
    assert greenml("runs", "rm", S, "--purge", "--yes")[0] == 0
    assert [row["run_id"] for row in db.rows("from run_rows")] == ["0" * 12]
    assert db.rows("select run_key from trial_rows union all select run_key from study_rows") == []


def test_a_trial_that_is_removed_was_paid_all_the_same(db: Store, greenml: Greenml) -> None:
    small(db)
    before = db.rows("select energy_kwh from sweeps")
    code, _, _ = greenml("runs", "rm", "b" * 12, "--yes")
    assert (code, db.rows("select energy_kwh from sweeps")) == (0, before)
    assert "b" * 12 not in {row["run_id"] for row in db.rows("from sweep_front")}
    code, _, err = greenml("runs", "rm", "b" * 12, "--purge", "--yes")
    assert (code, "1 trial of a sweep: what that took is then known in part only" in err) == (0, True), err
    [row] = db.rows("select energy_kwh, known_kwh from sweeps")
    assert (row["energy_kwh"], row["known_kwh"]) == (None, pytest.approx(1 + 3 + 0.5))
