"""`greenml sweep`: what people type, what they get, what is stored. Trials replay curves: training is not the point."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import signal
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from conftest import STARTED_AT, WORLD, make_end, make_epoch, make_phase, make_resume, make_run, record

from greenml.cli import searchpast, searchscreen
from greenml.cli import sweep as command
from greenml.records import Study, Trial
from greenml.store import Store
from greenml.sweep import space as spaces
from greenml.sweep.crew import DIED
from greenml.sweep.front import Point, front
from greenml.sweep.worker import Began, Outcome
from greenml.units import format_mass

SPACE = {
    "parameters": {
        "model": {"type": "categorical", "choices": ["cnn", "resnet18"]},
        "lr": {"type": "float", "low": 0.001, "high": 0.1, "log": True},
        "batch_size": {"type": "categorical", "choices": [32, 64]},
    },
    "enqueue": [{"model": "cnn", "lr": 0.002, "batch_size": 64}],
}
DATA = searchpast.Data(
    name="digits",
    data_hash="d1",
    split_hash="s1",
    image_size=16,
    augment="crop",
    num_train=1149,
    num_val=144,
    guessed=0.1,
)
NUM_EPOCHS = 4
OF_RATES = {"parameters": {"lr": {"type": "float", "low": 0.01, "high": 1.0}}}


class ReplayingSeat:
    """A trial is over as soon as it is sent out: its curve follows from its config alone."""

    is_here = True
    is_crowded = False

    def __init__(self, fails=lambda task: None, before=lambda task: None):
        self.fails, self.before = fails, before
        self.tasks = []

    def start(self, task, inbox):
        self.tasks.append(task)
        self.before(task)
        inbox.put(task.run_id, began(task))
        failure = self.fails(task)
        if failure is None or failure == DIED:
            for row in replayed(task, num_epochs=1 if failure else NUM_EPOCHS, ended=failure is None):
                inbox.put(task.run_id, row)
        files = {} if failure else {"config.yaml": b"model: cnn\n", "model.pt": b"weights"}
        inbox.put(task.run_id, Outcome(failure=failure, may_retry=failure == DIED, files=files))

    def is_open(self):
        return True

    def call_off(self):
        pass

    def close(self):
        pass


def began(task):
    return Began(run_id=task.run_id, meter={}, hardware={}, started_at=STARTED_AT)


def replayed(task, *, num_epochs, ended):
    """What such a training would have yielded."""
    config = task.config
    step_j = (100.0 if config.model == "cnn" else 400.0) * 64 / config.batch_size
    top = (0.9 if config.model == "cnn" else 0.97) - 0.05 * abs(math.log10(config.lr / 0.01))
    yield make_run(
        task.run_id, kind="trial", parent=task.study, model=config.model, batch_size=config.batch_size,
        config=dataclasses.asdict(config), intensity=task.intensity, hardware={"cpu": "a CPU"},
        command="greenml sweep --trials 6",
    )  # fmt: skip
    best = 0.0
    for epoch in range(1, num_epochs + 1):
        best = top * (1 - 0.5**epoch)
        energy = {"cpu_j": step_j, "gpu_j": 0.0, "ram_j": 0.0}
        yield make_phase(task.run_id, epoch - 1, epoch=epoch, **energy)
        yield make_epoch(
            task.run_id, epoch, val_accuracy=best, energy_j=step_j, energy_total_j=epoch * step_j, **energy
        )
    if ended:
        yield make_end(task.run_id, best_epoch=num_epochs, val_accuracy=best, test_accuracy=best)


@pytest.fixture
def seat():
    return ReplayingSeat()


@pytest.fixture
def sweep(greenml, seat, tmp_path, monkeypatch):
    """`greenml sweep` on the store, with a meter that needs no hardware; data and models are not opened."""
    from greenml.energy import Meter
    from greenml.energy.replay import ReplaySensor

    def open_meter(run_id, *, segment=0, settings=None, driver=None):
        return Meter(ReplaySensor(min_interval_s=0.001), run_id=run_id, segment=segment)

    @contextmanager
    def open_seats(num=None, *, device=None, cluster=None):
        yield [seat]

    monkeypatch.setattr("greenml.energy.open_meter", open_meter)
    monkeypatch.setattr("greenml.sweep.crew.open_seats", open_seats)
    monkeypatch.setattr(command, "_refuse_unknown_models", lambda space: None)
    monkeypatch.setattr(searchpast, "look_at", lambda base, say: DATA)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "space.yaml"

    def run(*arguments, trials=6, space=SPACE, **options):
        file.write_text(yaml.safe_dump(space, sort_keys=False))
        asked = ("--space", str(file), "--dataset", "digits", "--epochs-max", str(NUM_EPOCHS), "--trials", str(trials))
        return greenml("sweep", *asked, *arguments, **options)

    return run


def only(rows):
    [row] = rows
    return row


# What a search leaves


def test_a_search_stores_every_trial_and_its_front(sweep, db):
    code, out, _ = sweep("--json")
    points = json.loads(out)
    search = only(db.rows("from sweeps"))
    trials = db.rows("from trials order by number")

    assert code == 0
    assert (search["status"], search["num_complete"], search["num_failed"]) == ("done", 6, 0)
    assert [trial["state"] for trial in trials] == ["complete"] * 6
    assert {row["epochs"] for row in trials} == {NUM_EPOCHS}
    every = db.rows("select val_accuracy, energy_total_j / 3.6e6 * 475 as g from epochs")
    best = front(Point(row["val_accuracy"], row["g"]) for row in every)
    assert [point["accuracy"] for point in points] == pytest.approx([point.accuracy for point in best])
    assert [point["co2_g"] for point in points] == pytest.approx([point.co2_g for point in best])


def test_the_search_is_charged_for_all_that_it_took(sweep, db):
    sweep()
    search = only(db.rows("from sweeps"))
    used = only(db.rows("select sum(joules) / 3.6e6 as kwh from phases"))

    assert search["overhead_kwh"] > 0
    assert search["energy_kwh"] == pytest.approx(used["kwh"], rel=1e-9)
    assert search["energy_kwh"] == pytest.approx(search["trials_kwh"] + search["overhead_kwh"], rel=1e-12)


def test_a_search_ends_where_everything_was_tried(sweep, db):
    choices = {"model": ["cnn", "resnet18"], "lr": [0.01, 0.02]}
    parameters = {key: {"type": "categorical", "choices": values} for key, values in choices.items()}
    code, out, _ = sweep(trials=9, space={"parameters": parameters})

    assert code == 0
    assert only(db.rows("select status, stop_reason from sweeps")) == {"status": "done", "stop_reason": "space"}
    assert len({str(row["params"]) for row in db.rows("from trials")}) == len(db.rows("from trials")) == 4
    assert "4 trials, all that the space has" in " ".join(out.split())


def test_a_trial_leaves_its_files_and_no_lock_that_is_held(sweep, db):
    sweep(trials=2)

    for trial in db.rows("from trials"):
        folder = db.path.parent / "runs" / trial["run_id"]
        assert (folder / "model.pt").read_bytes() == b"weights"
        named = db.rows("select name, path from artifacts where run_id = ? order by name", [trial["run_id"]])
        assert [row["name"] for row in named] == ["config.yaml", "model.pt"]
        assert all((db.path.parent / row["path"]).exists() for row in named)
    assert db.living(db.folders()) == []


def test_the_end_says_what_to_take_what_it_cost_and_when_that_has_paid(sweep, db):
    code, out, err = sweep(width=200)
    saving = only(db.rows("from sweep_savings"))
    chosen = only(db.rows("from sweep_choice join sweep_front using (sweep_id, number, epochs)"))
    text = " ".join(out.split())

    assert code == 0
    assert f"trial {chosen['number']}: {chosen['model']} in {chosen['precision']}" in text
    assert saving["base_number"] == 0
    if saving["saved_kwh"]:
        assert saving["num_trainings"] == math.ceil(saving["search_kwh"] / saving["saved_kwh"])
        assert f"paid after {saving['num_trainings']:,} such training" in text
    else:
        assert "not yet: no trial reaches" in text
    points = db.rows("from sweep_front order by co2_g")
    lasts = {point["run_id"]: point["epochs"] for point in points}
    wanted = dict.fromkeys([(chosen["run_id"], chosen["epochs"]), *lasts.items()])
    configs_of = {row["run_id"]: row["config"] for row in db.rows("from runs")}
    found = [line.strip() for line in out.splitlines() if line.startswith("  greenml train ")]
    assert len(found) == len(wanted)
    for line, (run_id, epochs) in zip(found, wanted, strict=True):
        assert f" --epochs {epochs} " in line
        assert f"--lr {configs_of[run_id]['lr']}" in line
    assert err.count("trial ") >= 6
    assert "~ estimated by a power model" in err


def test_the_recommended_point_is_the_cheapest_within_a_point_of_the_best(sweep, db):
    sweep(trials=8)
    points = db.rows("from sweep_front order by co2_g")
    close = [row for row in points if row["accuracy"] >= points[-1]["accuracy"] - 0.01]

    chosen = only(db.rows("from sweep_choice"))
    assert (chosen["number"], chosen["epochs"]) == (close[0]["number"], close[0]["epochs"])


def test_savings_hold_the_front_against_the_baseline(db):
    """A found config that is as good for 60 J less has paid for a search of 300 J after five trainings."""
    record_search(db, [([0.5, 0.8], [50.0, 50.0], True), ([0.85], [40.0], False)], own_j=160.0)
    saving = only(db.rows("from sweep_savings"))

    assert (saving["base_accuracy"], saving["base_epochs"]) == (0.8, 2)
    assert saving["saved_kwh"] == pytest.approx(60 / 3.6e6)
    assert saving["num_trainings"] == 5


def test_the_same_config_once_more_saves_nothing(greenml, db):
    record_search(db, [([0.8], [50.0], True), ([0.8], [40.0], False)], own_j=10.0, group_hash="9" * 16)
    saving = only(db.rows("from sweep_savings"))
    _, out, _ = greenml("sweep", "show", "5ea5")

    assert (saving["base_number"], saving["number"], saving["saved_kwh"]) == (0, None, None)
    assert "not yet: no trial reaches" in " ".join(out.split())


def test_without_a_baseline_nothing_is_claimed(db):
    record_search(db, [([0.5, 0.8], [50.0, 50.0], False)], own_j=10.0)

    assert db.rows("from sweep_savings") == []


def test_an_unknown_joule_leaves_the_break_even_open(db):
    record_search(db, [([0.8], [100.0], True), ([0.85], [40.0], False), ([0.1], [None], False)], own_j=10.0)
    saving = only(db.rows("from sweep_savings"))

    assert saving["saved_kwh"] > 0
    assert saving["num_trainings"] is None


def test_a_trial_that_breaks_a_constraint_is_not_on_the_front(db):
    trials = [([0.8], [100.0], True), ([0.9], [10.0], False)]
    record_search(db, trials, own_j=10.0, space={"constraints": {"min_accuracy": 0.85}})

    assert [row["number"] for row in db.rows("from sweep_front")] == [1]
    assert db.rows("from sweep_savings") == []  # the baseline is none


def record_search(db, trials, *, own_j, space=None, group_hash=None):
    """A search with these trials: accuracies and joules of each, and whether the space named it."""

    db.write([
        make_run("5ea5c4", kind="sweep", model="cnn", data_hash=None, split_hash=None),
        make_phase("5ea5c4", 0, name="search", cpu_j=own_j, ram_j=0.0),
        Study(
            run_id="5ea5c4", sampler="random", num_trials=len(trials), seed=0, space=space or OF_RATES, base={},
            limits={}, stops_early=True,
        ),
        make_end("5ea5c4", best_epoch=None),
    ])  # fmt: skip
    for number, (accuracies, joules, is_named) in enumerate(trials):
        run_id = f"7e57{number}"
        record(db, run_id, accuracies, joules, kind="trial", parent="5ea5c4", group_hash=group_hash or run_id)
        own = {"fixed_params": {"lr": 1}} if is_named else {}
        db.write([
            Trial(
                run_id="5ea5c4", number=number, state="complete", params={"lr": 0.1}, distributions={},
                attrs=own, attempts=[run_id],
            )
        ])  # fmt: skip


# Going on


def test_a_killed_search_goes_on_as_if_nothing_had_happened(sweep, greenml, seat, db, tmp_path, monkeypatch):
    """Same draws, in the same order; only the trial in flight is tried twice."""
    sweep(trials=9)
    whole = [row["params"] for row in db.rows("from trials order by number")]
    again = tmp_path / "again" / "greenml.duckdb"
    monkeypatch.setenv("GREENML_STORE", str(again))

    class Killed(BaseException):
        pass

    def die(task):
        if len(seat.tasks) == 14:  # nine of the first search, and four that end well
            raise Killed

    seat.before = die
    with pytest.raises(Killed):
        sweep(trials=9)
    seat.before = lambda task: None
    killed = Store(again)
    study = only(killed.rows("select run_id, status from sweeps"))
    assert study["status"] == "crashed"
    assert len(killed.rows("from trials where state = 'complete'")) == 4

    code, _, _ = greenml("sweep", "--resume", study["run_id"][:6])

    rows = killed.rows("from trials order by number")
    assert code == 0
    assert [row["params"] for row in rows] == whole
    assert [len(row["attempts"]) for row in rows] == [1, 1, 1, 1, 2, 1, 1, 1, 1]
    assert len(seat.tasks) == 9 + 5 + 5
    assert only(killed.rows("from sweeps"))["status"] == "done"


def test_ctrl_c_ends_it_in_good_order_and_says_how_to_go_on(sweep, greenml, seat, db):
    seat.before = lambda task: os.kill(os.getpid(), signal.SIGINT) if len(seat.tasks) == 3 else None
    code, _, err = sweep(trials=5)
    study = only(db.rows("from sweeps"))

    assert code == 130
    assert (study["status"], study["stop_reason"]) == ("interrupted", "interrupted")
    assert f"to go on from here: greenml sweep --resume {study['run_id'][:8]}" in err
    assert db.rows("select number from trials where state = 'running'") == [{"number": 2}]

    assert greenml("sweep", "--resume", study["run_id"])[0] == 0
    assert only(db.rows("from sweeps"))["num_complete"] == 5


@pytest.mark.parametrize("is_purged", [False, True])
def test_a_search_goes_on_without_the_rows_of_a_trial(sweep, greenml, db, is_purged):
    sweep(trials=4)
    study = only(db.rows("from sweeps"))["run_id"]
    lost = db.rows("from trials where number = 1")[0]["run_id"]
    if is_purged:
        db.purge([lost])
    else:
        db.mark([lost], removed_at=STARTED_AT)

    assert greenml("sweep", "--resume", study, "--trials", "6")[0] == 0
    assert [row["number"] for row in db.rows("from trials where state = 'complete' order by number")] == [*range(6)]


def test_a_trial_that_takes_the_search_along_three_times_is_not_tried_again(sweep, greenml, db):
    sweep(trials=2)
    study = only(db.rows("from sweeps"))["run_id"]
    crashed = [f"dead{number}" for number in range(3)]
    db.write([row for run_id in crashed for row in (
        make_run(run_id, kind="trial", parent=study), make_end(run_id, status="crashed", best_epoch=None),
    )])  # fmt: skip
    known = db.rows("from trial_rows where number = 1")[0]
    names = [field.name for field in dataclasses.fields(Trial)]
    poison = known | {"run_id": study, "number": 2, "state": "running", "attempts": crashed}
    db.write([Trial(**{name: poison[name] for name in names})])

    assert greenml("sweep", "--resume", study, "--trials", "4")[0] == 0
    rows = db.rows("from trials order by number")
    assert [row["state"] for row in rows] == ["complete", "complete", "failed", "complete"]
    assert rows[2]["reason"] == "died 3 times, with the search"


def test_a_search_does_not_go_on_under_another_meter(sweep, greenml, seat, db):
    sweep(trials=2)
    study = only(db.rows("from sweeps"))["run_id"]
    seat.is_crowded = True
    code, _, err = greenml("sweep", "--resume", study, "--trials", "4")

    assert code == 2
    assert "meters the machine for each trial, and would now meter the process" in err
    assert only(db.rows("from sweeps"))["num_drawn"] == 2


def test_more_trials_go_on_with_a_search_that_is_done(sweep, greenml, db):
    sweep(trials=3)
    study = only(db.rows("from sweeps"))["run_id"]
    code, _, err = greenml("sweep", "--resume", study)
    assert (code, "is done: 3 trials" in err, "--trials with a larger number" in err) == (2, True, True)

    assert greenml("sweep", "--resume", study, "--trials", "5")[0] == 0
    assert only(db.rows("from sweeps"))["num_complete"] == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "cnn"], "has another space"),
        (["--sampler", "tpe"], "draws by nsga2, not tpe"),
        (["--seed", "7"], "--seed 7"),
        (["--epochs-max", "9"], "--epochs-max 9"),
        (["--dataset", "cifar10"], "was begun with digits"),
        (["--dry-run"], "--dry-run"),
    ],
)
def test_it_does_not_go_on_as_another_search(sweep, greenml, db, arguments, message):
    sweep(trials=2)
    study = only(db.rows("from sweeps"))["run_id"]
    code, _, err = greenml("sweep", "--resume", study, "--trials", "4", *arguments)

    assert code == 2
    assert message in err
    assert "hint:" in err
    assert only(db.rows("from sweeps"))["num_drawn"] == 2


def test_a_name_comes_before_an_id_that_begins_alike(sweep, greenml, db):
    sweep(trials=2)
    study = only(db.rows("from sweeps"))["run_id"]
    sweep("--name", study[:4], trials=2)
    _, out, _ = greenml("sweep", "show", study[:4], "--json")

    assert json.loads(out)[0]["name"] == study[:4]


def test_a_flag_before_a_subcommand_is_not_dropped(greenml):
    code, _, err = greenml("sweep", "--store", "other.duckdb", "list")

    assert code == 2
    assert "--store does nothing before `list`" in err
    assert "hint:" in err


def test_two_drivers_on_one_study(sweep, greenml, db):
    sweep(trials=2)
    study = only(db.rows("from sweeps"))["run_id"]
    with db.claim(study):
        code, _, err = greenml("sweep", "--resume", study, "--trials", "4")

    assert code == 3
    assert f"run {study} is alive in another process" in err


def test_the_time_of_earlier_lives_counts(db):
    """A search of 100 s, and of 20 s after a night: 120 s, whoever metered them."""
    record_search(db, [([0.8], [100.0], True)], own_j=10.0)
    began = datetime(2026, 3, 2, 8)
    later = {"started_at": began, "ended_at": began + timedelta(seconds=20)}
    first_end = STARTED_AT + timedelta(seconds=100)
    db.write([
        make_phase("5ea5c4", 1, name="search", started_at=first_end - timedelta(seconds=40), ended_at=first_end),
        make_resume("5ea5c4", started_at=began),
        make_phase("5ea5c4", 0, segment=1, name="search", **later),
    ])  # fmt: skip
    past = searchpast.past(db, "5ea5c4", WORLD, NUM_EPOCHS)
    assert (past.segment, past.duration_s) == (2, 120.0)
    assert past.joules == pytest.approx(10 + 100 + 2 * 100)


# Earlier runs


@pytest.fixture
def trained(db, monkeypatch):
    """Trainings of the store, with whatever is changed of one that lies in the space."""
    from greenml import config as configs
    from greenml import environment

    monkeypatch.setattr(environment, "hardware", lambda: {"cpu": "a CPU"})
    base = configs.validate({"model": "cnn", "dataset": "digits", "lr": 0.004, "batch_size": 64})
    resolved = dataclasses.asdict(base) | {"weight_decay": 0.01, "image_size": 16, "augment": "crop", "device": "cpu"}

    def train(run_id, accuracies, joules, *, config=None, **run):
        config = resolved | (config or {})
        hardware = {"hardware": {"cpu": "a CPU", "gpu": None}, "meter": {"meter": "counters"}}
        record(db, run_id, accuracies, joules, **{"config": config, **hardware, **run})

    return train


def test_earlier_runs_that_lie_in_the_space_are_trials_that_cost_nothing(sweep, trained, db):
    trained("aaaa", [0.6, 0.995], [5.0, 5.0])
    sweep(trials=12)
    [known] = db.rows("from trials where origin is not null")
    search = only(db.rows("from sweeps"))

    assert (known["run_id"], known["number"], known["energy_kwh"]) == ("aaaa", 0, 0)
    assert known["params"] == {"model": "cnn", "lr": 0.004, "batch_size": 64}
    assert (search["num_known"], search["num_drawn"], search["num_complete"]) == (1, 12, 12)
    assert db.rows("select run_id from sweep_front where epochs = 2") == [{"run_id": "aaaa"}]


@pytest.mark.parametrize(
    "change",
    [
        {"data_hash": "d2"},
        {"split_hash": "s2"},
        {"scope": "process"},
        {"device": "cuda"},
        {"hardware": {"cpu": "another"}},
        {"config": {"lr": 0.5}},
        {"config": {"weight_decay": 0.3}},
        {"config": {"image_size": 8}},
        {"config": {"ema_decay": 0.5}},
        {"precision_asked": "bf16"},
        {"ended": False},
        {"meter": {"replayed": True}},
    ],
    ids=str,
)
def test_what_could_not_have_been_a_trial_is_not_taken_for_one(trained, db, change):
    from greenml import config as configs

    base = configs.validate({"model": "cnn", "dataset": "digits"})
    trained("aaaa", [0.6, 0.995], [5.0, 5.0])
    trained("bbbb", [0.6, 0.999], [5.0, 5.0], **change)
    if not change.get("ended", True):
        db.rows("from runs")  # whose process is dead

    found = searchpast.known(db, spaces.parse(SPACE), base, DATA, WORLD, scope="machine", most=5)
    assert [each.run_id for each in found] == ["aaaa"]


def test_the_best_earlier_runs_come_first_and_one_config_once(trained, db):
    from greenml import config as configs

    base = configs.validate({"model": "cnn", "dataset": "digits"})
    trained("aaaa", [0.5], [9.0], config={"lr": 0.003})
    trained("bbbb", [0.6], [5.0], config={"lr": 0.005, "seed": 1})
    trained("cccc", [0.7], [5.0], config={"lr": 0.005, "seed": 2})
    trained("dddd", [0.8], [8.0], config={"lr": 0.006})

    found = searchpast.known(db, spaces.parse(SPACE), base, DATA, WORLD, scope="machine", most=2)
    assert sorted(each.run_id for each in found) == ["cccc", "dddd"]
    [point] = next(each for each in found if each.run_id == "cccc").points
    assert point == Point(0.7, pytest.approx(5.0 / 3.6e6 * 475))


# What goes wrong


def test_every_trial_fails(sweep, seat, db):
    seat.fails = lambda task: "Traceback\n  somewhere\nValueError: no such thing"
    code, _, err = sweep(trials=30)

    assert code == 5
    assert "every trial failed (5 of 30), the last one: ValueError: no such thing" in err
    assert "hint:" in err
    assert only(db.rows("from sweeps"))["status"] == "failed"


def test_two_trials_that_fail_are_all_of_two(sweep, seat, db):
    seat.fails = lambda task: "too large"
    code, _, err = sweep(trials=2)

    assert code == 5
    assert "every trial failed (2 of 2), the last one: too large" in err
    assert only(db.rows("select status, stop_reason from sweeps")) == {"status": "failed", "stop_reason": "failures"}


def test_a_failed_trial_is_recorded_and_the_search_goes_on(sweep, seat, db):
    seat.fails = lambda task: "too large" if len(seat.tasks) == 2 else None
    code, _, err = sweep(trials=4)

    assert code == 0
    assert "2/4  trial 1  failed: too large" in err
    assert [row["state"] for row in db.rows("from trials order by number")] == [
        "complete", "failed", "complete", "complete",
    ]  # fmt: skip


def test_what_a_dead_worker_used_is_counted_as_wasted(sweep, seat, db):
    seat.fails = lambda task: DIED if len(seat.tasks) == 2 else None
    code, _, err = sweep(trials=3)
    search = only(db.rows("from sweeps"))
    second = db.rows("from trials order by number")[1]

    assert code == 0
    assert "it is tried again" in err
    assert (second["state"], second["num_attempts"]) == ("complete", 2)
    assert search["wasted_kwh"] > 0
    assert search["energy_kwh"] is None  # what it used after its last word nobody knows
    assert search["known_kwh"] >= search["wasted_kwh"]


def test_a_budget_smaller_than_one_trial(sweep, seat, db, monkeypatch):
    monkeypatch.setattr(seat, "start", lambda task, inbox: stopped(task, inbox))

    def stopped(task, inbox):
        inbox.put(task.run_id, began(task))
        run, phase, *_ = replayed(task, num_epochs=1, ended=False)
        for row in (run, phase, make_end(task.run_id, status="stopped", best_epoch=None)):
            inbox.put(task.run_id, row)
        inbox.put(task.run_id, Outcome())

    code, _, err = sweep("--time-budget", "1e-6s")
    study = only(db.rows("from sweeps"))

    assert code == 2
    assert "time budget ended the search before one trial had a whole epoch" in err
    assert f"hint: give more: greenml sweep --resume {study['run_id'][:8]} --time-budget" in err


@pytest.mark.parametrize(
    ("arguments", "file", "message"),
    [
        ([], "parameters: {}", "is empty"),
        ([], "parameters: {rl: {type: float, low: 1, high: 2}}", "`rl` cannot be searched"),
        ([], "parameters: {model: {type: categorical, choices: [cnn]}}", "holds one point only"),
        ([], "parameters: {lr: {type: float, low: 0.1, high: 0.2}}", "names no model"),
        (["--sampler", "nsga3"], None, "unknown sampler `nsga3`"),
        (["--models", "cnn,cnn"], None, "not a list of different models"),
        (["--time-budget", "soon"], None, "--time-budget"),
        (["--region", "XX-YY"], None, "unknown region"),
        (["--meter", "nothing"], None, "unknown meter"),
        (["--resume", "ffff"], None, "no search starts with `ffff`"),
        (["--scope", "machine", "--workers", "2"], None, "each count the whole machine"),
    ],
)
def test_bad_input(sweep, db, tmp_path, arguments, file, message):
    if file is not None:
        (tmp_path / "bad.yaml").write_text(file)
        arguments = [*arguments, "--space", "bad.yaml"]
    code, out, err = sweep(*arguments)

    assert code == 2
    assert message in err
    assert err.count("\n") >= 2
    assert "hint:" in err
    assert out == ""
    assert db.rows("from runs") == []


def test_a_mistyped_model_is_said_before_the_first_trial(here):
    code, _, err = here("sweep", "--models", "cnn,resnet81", "--dataset", "digits")

    assert code == 2
    assert "unknown model `resnet81`" in err
    assert "`resnet18`" in err


# What is said beforehand, and afterwards


def test_a_dry_run_prints_the_space_as_a_file(sweep, db, tmp_path):
    code, out, err = sweep("--dry-run", "--carbon-budget", "2kg")
    assert code == 0
    assert spaces.parse(yaml.safe_load(out)) == spaces.parse(SPACE)
    assert "6 by nsga2, 4 a generation, up to 4 epochs each, seed 0" in err
    assert "carbon budget 2000" in err
    assert db.rows("from runs") == []


def test_a_dry_run_needs_no_store_and_makes_none(sweep, tmp_path):
    code, out, err = sweep("--dry-run", "--store", str(tmp_path / "none" / "greenml.duckdb"))
    assert code == 0, err
    assert spaces.parse(yaml.safe_load(out)) == spaces.parse(SPACE)
    assert not (tmp_path / "none").exists()


def test_the_line_of_a_trial_has_the_grams_that_are_stored(sweep, db, tmp_path):
    """By the trace, whose factor is not that of the plan; the front holds trials against each other by one factor."""
    until = datetime.now(UTC) + timedelta(days=1)
    rows = ["start,g_per_kwh,end", f"{STARTED_AT:%Y-%m-%dT%H:%M}Z,100,{until:%Y-%m-%dT%H:%M}Z"]
    (tmp_path / "trace.csv").write_text("\n".join(rows) + "\n")

    code, _, err = sweep("--trace", "trace.csv", trials=1)

    assert code == 0, err
    trial = only(db.rows("from leaderboard where kind = 'trial'"))
    assert trial["co2_g"] == pytest.approx(100 * trial["energy_kwh"])
    [line] = [line for line in err.splitlines() if line.startswith("1/1  trial 0")]
    assert f"  {format_mass(trial['co2_g'])}  " in line


def test_other_models_take_the_place_of_those_of_the_space():
    conditional = {
        **SPACE["parameters"],
        "lr": [
            {"when": {"model": "cnn"}, "type": "float", "low": 0.001, "high": 0.1},
            {"when": {"model": "resnet18"}, "type": "float", "low": 0.01, "high": 0.1},
        ],
    }
    found = spaces.with_models(spaces.parse({**SPACE, "parameters": conditional}), ["resnet18", "vgg11"])

    assert found.models == ("resnet18", "vgg11")
    assert [part.when for part in found.parameters if part.key == "lr"] == [{"model": ("resnet18",)}]
    assert found.enqueue == ()


def test_list_and_show(sweep, greenml, db):
    sweep("--name", "first")
    search = only(db.rows("from sweeps"))

    assert search["run_id"][:8] in greenml("sweep", "list")[1]
    [row] = json.loads(greenml("sweep", "list", "--json")[1])
    assert row["run_id"] == search["run_id"]
    code, out, _ = greenml("sweep", "show", "first", width=160)
    assert code == 0
    assert out.count("complete") == 6
    [shown] = json.loads(greenml("sweep", "show", search["run_id"][:5], "--json")[1])
    assert len(shown["trials"]) == 6
    assert shown["front"]
    assert shown["savings"]["base_number"] == 0


def test_an_exported_study_opens_in_optuna(sweep, greenml, db, tmp_path):
    import optuna

    sweep("--name", "first")
    code, _, err = greenml("sweep", "export", "first", "study.db")
    assert code == 0
    assert "optuna-dashboard sqlite:///study.db" in err

    study = optuna.load_study(study_name="first", storage=f"sqlite:///{tmp_path / 'study.db'}")
    rows = db.rows("from trials order by number")
    assert [trial.params for trial in study.trials] == [row["params"] for row in rows]
    assert [trial.values[0] for trial in study.trials] == pytest.approx([row["accuracy"] for row in rows])
    assert [trial.user_attrs["run_id"] for trial in study.trials] == [row["run_id"] for row in rows]
    assert len(study.trials[0].user_attrs["points"]) == NUM_EPOCHS
    code, _, err = greenml("sweep", "export", "first", "study.db")
    assert (code, "study.db is already there" in err) == (2, True)


def test_the_other_commands_behave_with_searches_in_the_store(sweep, greenml, db):
    sweep()
    search = only(db.rows("from sweeps"))["run_id"]

    for arguments in (
        ("board",), ("board", "--grouped"), ("board", "--json"), ("recommend",), ("recommend", "--json"),
        ("runs", "list"), ("runs", "list", "--json"), ("runs", "show", search), ("report", "--md"),
    ):  # fmt: skip
        code, _, err = greenml(*arguments)
        assert code in (0, 2) if arguments[0] == "recommend" else code == 0, (arguments, err)
    ranked = db.rows("select run_id, rank, unranked from leaderboard where kind = 'sweep'")
    assert db.rows("select count(distinct contest) as n from leaderboard") == [{"n": 1}]
    assert "set-up took more than half" not in greenml("board")[2]
    assert ranked == [{"run_id": search, "rank": None, "unranked": "a search, not a training"}]


# The picture


def test_the_plot_shows_the_front_above_the_rest():
    points = [Point(0.5, 1.0), Point(0.9, 100.0), Point(0.4, 10.0)]
    lines = searchscreen.plot(points, front(points), 21, 5)

    assert lines[0] == f"{'90.0 %':>7} │{' ' * 20}●"
    assert lines[4] == f"{'40.0 %':>7} │{' ' * 10}·"
    assert lines[-1].split() == ["1.00", "g", "100", "g", "CO2e"]
    assert searchscreen.plot([], [], 10, 5) == []


def test_the_best_at_each_of_a_few_amounts_of_carbon():
    assert searchscreen.best_at([Point(0.5, 1.0), Point(0.9, 1000.0)]) == (
        "best for 1.00 g 50.0 %, 10.0 g 50.0 %, 100 g 50.0 %, 1.00 kg 90.0 %"
    )
    assert searchscreen.best_at([Point(0.5, 2.0)]) == "best for 2.00 g 50.0 %"
    assert searchscreen.best_at([]) == ""


def test_on_a_terminal_it_draws_the_front(sweep, monkeypatch):
    """The picture as a terminal would get it, at the end of a search."""
    from rich.console import Console

    drawn = []
    original = searchscreen.SearchScreen.show

    def show(screen, row):
        original(screen, row)
        screen_of = Console(width=80, record=True, file=io.StringIO())
        screen_of.print(screen._picture())
        drawn.append(screen_of.export_text())

    monkeypatch.setattr(searchscreen.SearchScreen, "show", show)
    sweep(trials=3)

    assert "3/3 trials" in drawn[-1]
    assert "●" in drawn[-1]
    assert "best for" in drawn[-1]
    assert "~" in drawn[-1]
