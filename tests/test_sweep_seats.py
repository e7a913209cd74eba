"""Who trains for a sweep: threads, processes and the workers of a cluster, and what happens when they die."""

from __future__ import annotations

import dataclasses
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import trainings
from conftest import WORLD

from greenml import config as configs
from greenml import energy
from greenml.energy.meter import Meter
from greenml.energy.presence import Presence
from greenml.energy.process import ProcessShare, ProcessTree
from greenml.energy.replay import ReplaySensor
from greenml.errors import ClusterError, UsageError
from greenml.records import Epoch, Notice, Phase, Progress, Run, RunEnd, Source, Trial, new_run_id
from greenml.sweep import crew, space
from greenml.sweep.crew import Inbox, ProcessSeat, open_seats
from greenml.sweep.search import MAX_ATTEMPTS, MAX_FAILURES, Files, Plan, Search, open_meter
from greenml.sweep.worker import Outcome, Task, folder_of, train

KINDS = ["threads", "processes", "dask"]
MORTAL = ["processes", "dask"]

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def notes(tmp_path, monkeypatch):
    """Where fake trainings leave who runs them."""
    folder = tmp_path / "notes"
    folder.mkdir()
    monkeypatch.setenv(trainings.FOLDER, str(folder))
    monkeypatch.setattr(crew, "visible_gpus", lambda _: [])
    return folder


@contextmanager
def seats_of(kind, num, training=trainings.fake):
    """So many of a kind."""
    if kind == "threads":
        with open_seats(1, training=training) as seats:
            yield seats
    elif kind == "processes":
        seats = [ProcessSeat(training=training) for _ in range(num)]
        try:
            yield seats
        finally:
            for seat in seats:
                seat.close()
    else:
        with open_seats(num, cluster="local", training=training) as seats:
            yield seats


def make_plan(lrs, **changes):
    """A search that tries these learning rates, one a trial."""
    choices = sorted({*lrs, 0.001, 0.002})
    parsed = space.parse(
        {
            "parameters": {"lr": {"type": "categorical", "choices": choices}},
            "enqueue": [{"lr": lr} for lr in lrs],
        }
    )
    base = configs.validate({"model": "cnn", "dataset": "digits", "epochs": trainings.EPOCHS})
    values = {
        "run_id": new_run_id(),
        "space": parsed,
        "sampler": "random",
        "num_trials": len(lrs),
        "seed": 0,
        "base": base,
        "intensity": WORLD,
        "settings": energy.Settings.of(base),
        "stops_early": False,
    }
    return Plan(**values | changes)


def make_task(lr=0.001, **changes):
    config = configs.validate({"model": "cnn", "dataset": "digits", "lr": lr})
    values = {
        "run_id": new_run_id(),
        "study": "5" * 12,
        "config": config,
        "intensity": WORLD,
        "settings": energy.Settings.of(config),
    }
    return Task(**values | changes)


def go(plan, seats, *, on=lambda record: None, **changes):
    """Everything that a search says."""
    said = []
    with Meter(ReplaySensor(), run_id=plan.run_id) as meter:
        for record in Search(plan, seats, meter, **changes).go():
            said.append(record)
            on(record)
    return said


def told(said):
    """The last word on each trial."""
    return {record.number: record for record in said if isinstance(record, Trial)}


def store(db, said):
    assert db.write([record for record in said if not isinstance(record, Files | Progress | Notice)])


def attempt(seat, task=None, timeout_s=60.0):
    """Let one seat train, and everything that it says."""
    inbox, said = Inbox(), []
    seat.start(task or make_task(), inbox)
    while not said or not isinstance(said[-1], Outcome):
        heard = inbox.get(timeout_s)
        assert heard is not None, "no word"
        said.append(heard[1])
    return said


def worker_of(notes, run_id):
    return int((notes / run_id).read_text().split()[0])


def wait_until(happens, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not happens():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_every_trial_says_everything(kind, db, notes):
    plan = make_plan([0.001, 0.002, 0.003, 0.004])
    with seats_of(kind, 2) as seats:
        said = go(plan, seats)
    trials = told(said)
    assert [trial.state for trial in trials.values()] == ["complete"] * 4
    for trial in trials.values():
        (run_id,) = trial.attempts
        own = [record for record in said if getattr(record, "run_id", None) == run_id]
        kinds = [type(record) for record in own if not isinstance(record, Progress)]
        assert kinds == [Run, *[Phase, Epoch] * trainings.EPOCHS, RunEnd, Files]
        assert own[-1].content == {"model.pt": b"weights of " + run_id.encode()}
        assert not folder_of(run_id).exists()
    store(db, said)
    (row,) = db.rows("from sweeps")
    assert (row["num_complete"], row["num_failed"], row["wasted_kwh"]) == (4, 0, 0)
    assert row["trials_kwh"] * 3.6e6 == pytest.approx(4 * trainings.EPOCHS * trainings.WATTS)
    assert db.rows("select count(*) as n from epochs join trials using (run_id)") == [{"n": 4 * trainings.EPOCHS}]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_called_off_ends_after_the_step_in_hand(kind):
    plan, began = make_plan([trainings.LONG]), time.monotonic()
    epochs = []
    with seats_of(kind, 1) as seats:
        said = go(
            plan,
            seats,
            on=lambda record: epochs.append(time.monotonic()) if isinstance(record, Epoch) else None,
            interrupted=lambda: len(epochs) > 1,
        )
    assert time.monotonic() - epochs[1] < 15, began
    ends = {record.run_id: record for record in said if isinstance(record, RunEnd)}
    assert [end.stop_reason for end in ends.values()] == ["interrupted"] * 2
    assert told(said)[0].state == "running"  # and is tried again when the search goes on


@pytest.mark.parametrize("kind", KINDS)
def test_a_bug_in_a_training_fails_its_trial_with_the_reason(kind):
    with seats_of(kind, 1, trainings.broken) as seats:
        said = go(make_plan([0.001]), seats)
    trial = told(said)[0]
    assert trial.state == "failed"
    assert "ZeroDivisionError" in trial.reason


def test_trials_that_are_too_large_do_not_count_as_failures():
    plan = make_plan([trainings.LONG] * (MAX_FAILURES + 1))
    plan = dataclasses.replace(plan, space=dataclasses.replace(plan.space, max_parameters=1))
    with open_seats(1, training=trainings.fake) as seats:
        said = go(plan, seats)

    assert [trial.state for trial in told(said).values()] == ["failed"] * (MAX_FAILURES + 1)
    assert all("parameters are more than 1" in trial.reason for trial in told(said).values())
    (end,) = [record for record in said if isinstance(record, RunEnd) and record.run_id == plan.run_id]
    assert (end.status, end.stop_reason) == ("done", "trials")


@pytest.mark.parametrize("kind", MORTAL)
def test_two_of_four_workers_are_killed(kind, db, notes):
    """All trials complete with all their epochs; the attempts that died are said, and what is known of their energy."""
    killed = []

    def kill(record):
        if isinstance(record, Epoch) and record.epoch == 2 and len(killed) < 2 and record.run_id not in killed:
            killed.append(record.run_id)
            os.kill(worker_of(notes, record.run_id), signal.SIGKILL)

    plan = make_plan([0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007, 0.008])
    with seats_of(kind, 4) as seats:
        said = go(plan, seats, on=kill)
    trials = told(said)
    assert [trial.state for trial in trials.values()] == ["complete"] * 8
    assert sum(len(trial.attempts) for trial in trials.values()) == 10
    store(db, said)
    rows = db.rows("from trials order by number")
    assert [row["epochs"] for row in rows] == [trainings.EPOCHS] * 8
    assert sorted(row["num_attempts"] for row in rows) == [1] * 6 + [2] * 2
    for row in rows:
        is_whole = row["num_attempts"] == 1
        assert (row["energy_kwh"] is not None) == is_whole  # nobody read what a dead worker used last
        assert (row["wasted_kwh"] == 0) == is_whole
        assert row["known_kwh"] >= trainings.EPOCHS * trainings.WATTS / 3.6e6 + row["wasted_kwh"] - 1e-12
    dead = db.rows("select run_id, status, stop_reason from runs where status <> 'done' and kind = 'trial'")
    assert {row["run_id"] for row in dead} == set(killed)
    assert {(row["status"], row["stop_reason"]) for row in dead} == {("crashed", "crashed")}
    lost = db.rows("select run_id, cpu_j, gpu_j, cpu_source, gpu_source from phases where name = 'lost'")
    assert {row["run_id"] for row in lost} == set(killed)
    assert {(row["cpu_j"], row["gpu_j"], row["gpu_source"]) for row in lost} == {(None, 0, "absent")}
    (row,) = db.rows("from sweeps")
    assert row["num_complete"] == 8
    assert row["energy_kwh"] is None
    assert row["wasted_kwh"] * 3.6e6 >= 2 * 2 * trainings.WATTS - 1e-6
    assert not any(folder_of(run_id).exists() for run_id in killed)


@pytest.mark.parametrize("kind", MORTAL)
def test_a_trial_that_kills_every_worker_fails_and_the_others_complete(kind, db):
    plan = make_plan([0.001, trainings.POISON, 0.002])
    with seats_of(kind, 2) as seats:
        said = go(plan, seats)
    trials = told(said)
    assert [trials[number].state for number in range(3)] == ["complete", "failed", "complete"]
    assert len(trials[1].attempts) == MAX_ATTEMPTS
    assert trials[1].reason.startswith("its worker died")
    assert trials[1].reason.endswith(f"{MAX_ATTEMPTS} times")
    store(db, said)
    row = db.rows("from trials where number = 1")[0]
    assert (row["num_attempts"], row["energy_kwh"]) == (MAX_ATTEMPTS, None)
    # Two epochs in each attempt, the last one included: a trial that fails has wasted all of it.
    assert row["wasted_kwh"] * 3.6e6 == pytest.approx(MAX_ATTEMPTS * 2 * trainings.WATTS)


@pytest.mark.parametrize("kind", MORTAL)
def test_a_worker_killed_between_two_trials_costs_no_attempt(kind, notes):
    with seats_of(kind, 1) as (seat,):
        first = attempt(seat, task := make_task())
        assert first[-1].failure is None
        pid = worker_of(notes, task.run_id)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        wait_until(seat.is_open)
        time.sleep(0.5)
        wait_until(seat.is_open)
        second = attempt(seat, task := make_task())
    assert second[-1].failure is None
    assert worker_of(notes, task.run_id) != pid


def test_a_worker_killed_at_its_start_is_tried_again_and_has_no_run():
    plan, pids = make_plan([0.001]), []

    def kill(record):
        if isinstance(record, Trial) and len(record.attempts) == 2 and record.state == "running":
            assert [type(each) for each in said_before if getattr(each, "run_id", "") == record.attempts[0]] == [Files]
        said_before.append(record)

    said_before = []
    seat = ProcessSeat(training=trainings.slow_start)
    start = seat.start

    def start_and_die(task, inbox):
        start(task, inbox)
        if not pids:
            pids.append(seat.pid)
            os.kill(seat.pid, signal.SIGKILL)

    seat.start = start_and_die
    try:
        said = go(plan, [seat], on=kill)
    finally:
        seat.close()
    assert told(said)[0].state == "complete"
    assert len(told(said)[0].attempts) == 2
    notices = [record.text for record in said if isinstance(record, Notice)]
    assert notices == ["trial 0: its worker died (SIGKILL); it is tried again"]


def test_an_attempt_that_dies_in_its_setup_has_a_run_with_what_is_known(db):
    plan = make_plan([0.001])
    search = Search(plan, [seat := ProcessSeat(training=setup_dies)], Meter(ReplaySensor(), run_id=plan.run_id))
    with search._meter:
        said = list(search.go())
    seat.close()
    trial = told(said)[0]
    assert (trial.state, len(trial.attempts)) == ("failed", MAX_ATTEMPTS)
    store(db, said)
    rows = db.rows("select run_id, status, model, parent from runs where kind = 'trial'")
    assert [(row["status"], row["model"], row["parent"]) for row in rows] == [("crashed", "cnn", plan.run_id)] * 3
    assert db.rows("select energy_kwh, wasted_kwh from trials") == [{"energy_kwh": None, "wasted_kwh": 0}]


def setup_dies(task, folder, halted):
    yield next(trainings.fake(task, folder, halted))
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)


DRIVER = """
import sys, time
sys.path.insert(0, {tests!r})
import test_sweep_seats as seats_test, trainings
from greenml.sweep.crew import Inbox, ProcessSeat
from greenml.sweep.cluster import Cluster

def main(kind, address, lr):
    if kind == "processes":
        seat = ProcessSeat(training=trainings.fake)
    else:
        (seat,) = Cluster(address, training=trainings.fake).seats
    if lr == trainings.LONG:
        seat.start(seats_test.make_task(lr), Inbox())
    else:
        seats_test.attempt(seat, seats_test.make_task(lr))
    print("ready", flush=True)
    time.sleep(600)

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
"""


def driver(tmp_path, kind, address, lr):
    """A driver in a process of its own, once it has a worker."""
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.format(tests=str(Path(__file__).parent)))
    process = subprocess.Popen([sys.executable, str(script), kind, address, str(lr)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("lr", [trainings.LONG, 0.001], ids=["in training", "between trials"])
def test_workers_end_by_themselves_when_their_driver_is_killed(tmp_path, notes, lr):
    process = driver(tmp_path, "processes", "none", lr)
    wait_until(lambda: any(file.read_text() for file in notes.iterdir()))
    (note,) = notes.iterdir()
    pid = worker_of(notes, note.name)
    assert psutil.pid_exists(pid)
    process.kill()
    process.wait()
    process.stdout.close()
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    assert not folder_of(note.name).exists()


def test_a_worker_of_a_cluster_stops_training_when_the_driver_is_killed(tmp_path, notes):
    """The cluster is somebody else's and goes on; the trial does not."""
    from greenml.sweep.cluster import _local_cluster

    cluster = _local_cluster(1)
    try:
        process = driver(tmp_path, "dask", cluster.scheduler_address, trainings.LONG)
        wait_until(lambda: any(file.read_text() for file in notes.iterdir()))
        (note,) = notes.iterdir()
        process.kill()
        process.wait()
        process.stdout.close()
        wait_until(lambda: time.time() - note.stat().st_mtime > 2)
        wait_until(lambda: not folder_of(note.name).exists())
        assert psutil.pid_exists(worker_of(notes, note.name))
    finally:
        cluster.close()


def test_an_address_that_does_not_answer_is_said_within_seconds():
    began = time.monotonic()
    with (
        pytest.raises(ClusterError, match=r"no cluster answers at tcp://127\.0\.0\.1:9") as error,
        open_seats(cluster="tcp://127.0.0.1:9"),
    ):
        pass
    assert time.monotonic() - began < 15
    assert "dask scheduler" in error.value.hint
    with pytest.raises(ClusterError, match="no cluster answers at nonsense://x"), open_seats(cluster="nonsense://x"):
        pass


def test_a_cluster_without_dask_is_two_lines():
    code = """
import sys
import tempfile
sys.modules["distributed"] = None
from greenml.errors import UsageError
from greenml.sweep.crew import open_seats
try:
    with open_seats(cluster="local"):
        pass
except UsageError as error:
    print(error, error.hint, sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "a cluster needs Dask, which is not installed",
        'pip install "greenml[cluster]", here and where it works',
    ]


# Whose energy is whose


def test_each_of_several_seats_has_a_gpu_and_its_part_of_the_threads(notes, monkeypatch):
    monkeypatch.setattr(crew, "visible_gpus", lambda _: ["GPU-a", "GPU-b"])
    monkeypatch.setattr(crew, "num_cpus", lambda: 6)
    with open_seats(training=trainings.fake) as seats:
        tasks = [make_task() for _ in seats]
        for seat, task in zip(seats, tasks, strict=True):
            attempt(seat, task)
    found = [(notes / task.run_id).read_text().split()[1:] for task in tasks]
    assert found == [["GPU-a", "3"], ["GPU-b", "3"]]
    with pytest.raises(UsageError, match="3 workers on 2 GPUs"), open_seats(3):
        pass


def test_several_trials_on_a_machine_have_shares_and_the_rows_say_so(db):
    plan = make_plan([0.001, 0.002])
    with seats_of("processes", 2) as seats:
        said = go(plan, seats)
        with open_meter(plan, seats) as meter:
            meter.wait_until_ready()
            described = meter.describe()
            meter.finish()
    store(db, said)
    assert {row["scope"] for row in db.rows("select scope from runs where kind = 'trial'")} == {"process"}
    assert described["scope"] == "process"
    assert "without its workers" in described["cpu"]["method"]
    assert described["gpu"]["source"] == "absent"
    with seats_of("threads", 1) as seats, open_meter(plan, seats) as meter:
        meter.wait_until_ready()
        assert meter.describe()["scope"] == "machine"


def test_a_share_without_children_leaves_theirs_out():
    alone, all_of_it = ProcessTree(with_children=False), ProcessTree()
    before, before_all = alone.look()[0], all_of_it.look()[0]
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-S", "-c", burn], check=True)
    assert alone.look()[0] - before < 0.3
    assert all_of_it.look()[0] - before_all >= 0.45
    share = ProcessShare(ReplaySensor(lambda name, seconds: 100.0 * seconds), alone)
    share.start()
    assert share.components()["gpu"].source is Source.ABSENT
    assert share.read().joules["gpu"] == 0


def test_a_search_and_its_trials_are_no_two_runs_but_its_trials_are():
    began = time.time()
    names = [("d1", None), ("t1", "d1"), ("t2", "d1"), ("other", None)]
    here = {run_id: Presence(run_id, driver=driver) for run_id, driver in names}

    def heard(run_id):
        return here[run_id].overlap_s(began, time.time()) > 0.1

    try:
        here["d1"].announce()
        here["t1"].announce()
        time.sleep(0.3)
        assert (heard("d1"), heard("t1")) == (False, False)
        here["t2"].announce()
        time.sleep(0.3)
        assert (heard("d1"), heard("t1"), heard("t2")) == (False, True, True)
        here["other"].announce()
        time.sleep(0.3)
        assert (heard("d1"), heard("other")) == (True, True)
    finally:
        for each in here.values():
            each.leave()


def test_a_search_that_is_broken_off_leaves_nobody_waiting():
    """Its meter closes before its trial does, which then still wants to say that it ends."""
    plan = make_plan([trainings.LONG])

    def search():
        meter = Meter(ReplaySensor(), run_id=plan.run_id)
        with suppress(KeyboardInterrupt), open_seats(1, training=trainings.fake) as seats, meter:
            for record in Search(plan, seats, meter).go():
                if isinstance(record, Epoch):
                    raise KeyboardInterrupt

    searching = threading.Thread(target=search, daemon=True)
    searching.start()
    searching.join(30)
    assert not searching.is_alive()


@pytest.fixture
def constant(tmp_path, monkeypatch):
    """Searches at a constant power of 50 W, one seat on this machine, where nobody else meters."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    watts = tmp_path / "watts.csv"
    watts.write_text("seconds,cpu_w,gpu_w,ram_w\n0,40,0,10\n")

    def search(lrs, **base):
        """What is said, its phases, and how many joules went by."""
        plan = make_plan(lrs)
        settings = dataclasses.replace(plan.settings, meter=f"replay:{watts}")
        plan = dataclasses.replace(
            plan, settings=settings, base=dataclasses.replace(plan.base, epochs=1, image_size=8, **base)
        )
        with open_seats(1) as seats, open_meter(plan, seats) as meter:
            meter.wait_until_ready()
            said = list(Search(plan, seats, meter).go())
            total_s = (meter.ended_at - meter.started_at).total_seconds()
        return said, [record for record in said if isinstance(record, Phase)], 50.0 * total_s

    return search


def test_trials_and_overhead_are_the_whole_search(constant):
    """Joules are watts times the seconds of the search, to 1 %. Between two trials lies less than half a second."""
    said, phases, joules = constant([0.001, 0.002, 0.003])
    assert [trial.state for trial in told(said).values()] == ["complete"] * 3
    assert sum(phase.joules for phase in phases) == pytest.approx(joules, rel=0.01)
    sweep_id = next(record.run_id for record in said if isinstance(record, Run))
    assert sum(phase.joules for phase in phases if phase.run_id == sweep_id) > 0
    assert {phase.overlap_s for phase in phases} == {0.0}
    between = [(phase.ended_at - phase.started_at).total_seconds() for phase in phases if phase.name == "search"]
    assert statistics.median(between) < 0.5


def test_what_a_trial_used_until_it_broke_counts(constant, tmp_path, db):
    """In its set-up, before it was a run."""
    said, phases, joules = constant([0.001], dataset=f"folder:{tmp_path / 'none'}")
    assert sum(phase.joules for phase in phases) == pytest.approx(joules, abs=1.0)  # 20 ms of handing over
    store(db, said)
    (trial,) = db.rows("from trials")
    assert trial["state"] == "failed"
    assert "none" in trial["reason"]
    assert trial["energy_kwh"] == trial["wasted_kwh"] > 0
    (row,) = db.rows("from sweeps")
    assert row["energy_kwh"] == pytest.approx(joules / 3.6e6, abs=1.0 / 3.6e6)
    assert db.rows("select status from runs where kind = 'trial'") == [{"status": "failed"}]


@pytest.mark.parametrize("kind", KINDS)
def test_a_real_training_in_every_kind_of_seat(kind, db):
    """Digits for one epoch, with the real meter."""
    plan = make_plan([0.002])
    plan = dataclasses.replace(plan, base=dataclasses.replace(plan.base, epochs=1, image_size=8))
    with seats_of(kind, 1, train) as seats, open_meter(plan, seats) as meter:
        said = list(Search(plan, seats, meter).go())
    store(db, said)
    assert told(said)[0].reason is None
    (trial,) = db.rows("from trials")
    assert (trial["state"], trial["epochs"], trial["num_attempts"]) == ("complete", 1, 1)
    assert trial["accuracy"] > 0.1
    (files,) = [record for record in said if isinstance(record, Files)]
    assert set(files.content) == {"model.pt", "config.yaml"}
    (row,) = db.rows("from sweeps")
    assert row["energy_kwh"] == pytest.approx(row["trials_kwh"] + row["overhead_kwh"])
    assert row["overhead_kwh"] > 0
