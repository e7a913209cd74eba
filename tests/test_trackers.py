"""`--log`: what MLflow and W&B get of a run, and that neither of them can stop or slow a training."""

from __future__ import annotations

import dataclasses
import importlib.machinery
import json
import math
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import requests
from conftest import (
    GREENML,
    STARTED_AT,
    WORLD,
    environment,
    make_end,
    make_epoch,
    make_metric,
    make_phase,
    make_resume,
    make_run,
    record,
)

from greenml.cli import log, portrait, repeating
from greenml.errors import UsageError
from greenml.records import new_run_id
from greenml.store import Store
from greenml.trackers import SERIES, Ending, Following, check, following, registry, worker

LOCAL_ONLY = """
import pathlib, socket
connect, find = socket.socket.connect, socket.getaddrinfo
def known(host):
    if host not in ("127.0.0.1", "localhost"):
        pathlib.Path(__file__).with_name("asked").write_text(repr(host))
        raise OSError("no network")
def connect_here(self, address):
    if self.family != socket.AF_UNIX:
        known(address[0])
    return connect(self, address)
def find_here(host, *arguments, **more):
    known(host)
    return find(host, *arguments, **more)
socket.socket.connect, socket.getaddrinfo = connect_here, find_here
"""
PROBE = '''
"""A tracker that does what it is told."""
import os, pathlib, time
from greenml.trackers import register_tracker

@register_tracker("probe")
class Probe:
    def __init__(self):
        self.told = pathlib.Path(os.environ["PROBE"])
        self.failures = int(os.environ.get("PROBE_FAILURES", "0"))

    def note(self, text):
        with self.told.open("a") as file:
            print(text, file=file)

    def begin(self, run):
        how = os.environ.get("PROBE_DOES", "")
        print("what a library prints")
        if how == "hang":
            time.sleep(600)
        if how == "die":
            os._exit(7)
        if how == "raise":
            raise ValueError("no such project")
        if how == "slow":
            time.sleep(1)
        self.name = run.name
        self.note(f"begin {run.run_id} {run.name} {run.config['epochs']}")
        return "here"

    def epoch(self, epoch, at):
        if self.failures:
            self.failures -= 1
            raise RuntimeError("in vain") from ConnectionRefusedError(111, "Connection refused")
        if epoch.epoch == 13 and self.name == "unlucky":
            raise ValueError("unlucky")
        self.note(f"epoch {epoch.epoch} {epoch.val_accuracy} {at}")

    def metric(self, metric):
        self.note(f"metric {metric.name} {metric.value}")

    def end(self, ending):
        self.note(f"end {ending.status} {ending.summary and ending.summary['energy_kwh']}")
'''


def place(folder):
    """An environment in which this machine, but nothing beyond it, can be reached."""
    env = environment(folder)
    (folder / "site" / "sitecustomize.py").write_text(LOCAL_ONLY)
    for name in [name for name in env if name.startswith(("MLFLOW_", "WANDB_"))]:
        del env[name]
    return env | {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch):
    """MLflow's `set_experiment` also sets the environment."""
    for name in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_URI", SERIES):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(following, "AT_ONCE_S", 60)  # a machine may be busy


# -- The command


@pytest.fixture(scope="module")
def trained(tmp_path_factory, starting):
    """A short run that is logged to both, with MLflow's own store and W&B offline; its folder, and what it said."""
    folder = tmp_path_factory.mktemp("trained")
    done = subprocess.run(
        [GREENML, "train", "cnn", "--dataset", "digits", "--epochs", "2", "--num-threads", "1", "--region", "IN",
         "--log", "mlflow", "--log", "wandb", "--tag", "a"],
        cwd=folder, env=place(folder), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_training_is_in_both_and_asks_no_network(trained):
    from mlflow import MlflowClient

    folder, done = trained
    store = Store(folder / "store" / "greenml.duckdb")
    [row] = store.rows("from leaderboard")
    epochs = store.rows("from epochs order by epoch")
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    [run] = client.search_runs(["0"])
    [page] = map(read_back, (folder / "wandb").glob("offline-run-*"))

    assert run.data.tags["greenml.run_id"] == page.run.run_id == row["run_id"]
    assert (run.info.status, page.exit_code) == ("FINISHED", 0)
    spent = [(epoch["epoch"], pytest.approx(1000 * epoch["energy_kwh"])) for epoch in epochs]
    assert steps(client, run, "energy_wh") == spent
    assert [(line["epoch"], line["energy_wh"]) for line in page.history] == spent
    reached = [(epoch["epoch"], epoch["val_accuracy"]) for epoch in epochs]
    assert steps(client, run, "val_accuracy") == reached
    assert [(line["epoch"], line["val_accuracy"]) for line in page.history] == reached
    for final in (run.data.metrics, page.summary):
        assert final["test_accuracy"] == row["accuracy"]
        assert final["total_energy_wh"] == pytest.approx(1000 * row["energy_kwh"])
        assert final["total_co2_g"] == pytest.approx(row["co2_g"])
    assert run.data.params["grid.region_used"] == page.config["grid"]["region_used"] == "India"
    assert sorted(file.path for file in client.list_artifacts(run.info.run_id)) == sorted(log.FILES)
    assert [(name, sorted(files)) for name, files in page.artifacts] == [
        (f"greenml-{row['run_id']}", sorted(log.FILES))
    ]
    assert f"mlflow: run {run.info.run_id} in sqlite:///{folder}/mlflow.db" in done.stderr
    assert "wandb: offline; to upload: wandb sync" in done.stderr
    assert len(done.stderr.splitlines()) < 15, done.stderr
    assert not (folder / "site" / "asked").exists()


# -- A server of MLflow


@pytest.fixture(scope="module")
def starting(tmp_path_factory):
    """It takes seconds to come up; tests that do not need it run meanwhile."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files"),
    ]  # fmt: skip
    env = place(folder) | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("w") as said:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=said, stderr=said, start_new_session=True)
    yield port, process, folder / "log"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def server(starting):
    """Its address."""
    port, process, said = starting
    until = time.monotonic() + 90
    while time.monotonic() < until and process.poll() is None:
        try:
            requests.get(f"http://127.0.0.1:{port}/health", timeout=1).raise_for_status()
        except requests.RequestException:
            time.sleep(0.1)
        else:
            return f"http://127.0.0.1:{port}"
    raise AssertionError(said.read_text())


@pytest.fixture
def mlflow_at(server, monkeypatch, request):
    """An experiment on that server, under the name of the test: every run in it, by name."""
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", request.node.name)
    client = MlflowClient(server)

    def found():
        experiment = client.get_experiment_by_name(request.node.name)
        return {run.data.tags["mlflow.runName"]: run for run in client.search_runs([experiment.experiment_id])}

    found.client = client
    return found


def steps(client, run, key):
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, key)]


def tell(name, run, epochs=(), ending=None):
    """A tracker in this process, as its own process would use it."""
    tracker = registry.create(name)
    where = tracker.begin(run)
    for epoch in epochs:
        tracker.epoch(epoch, STARTED_AT + timedelta(seconds=10 * epoch.epoch))
    if ending:
        tracker.end(ending)
    return where


def ended(db, run_id, **changes):
    folder = db.path.parent / "runs" / run_id
    return dataclasses.replace(log.ending(portrait.everything(db, run_id), folder), **changes)


def cut_off(run_id, status="interrupted"):
    return Ending(run_id=run_id, status=status, ended_at=STARTED_AT, summary=None, files=[])


def test_mlflow_has_what_the_store_has(mlflow_at, db):
    run_id = new_run_id()
    record(
        db, run_id, [0.5, 0.75], [3600.0, 7200.0], tags=["a", "b c"], note="a note", git_commit="c0ffee",
        meter={"meter": "replay", "cpu": {"source": "estimated", "method": "load model", "tdp_w": 8}},
        intensity=dataclasses.replace(WORLD, pue=2.0),
    )  # fmt: skip
    folder = db.path.parent / "runs" / run_id
    folder.mkdir(parents=True)
    for name in (*log.FILES, "checkpoint.pt"):
        (folder / name).write_text(f"{name} of {run_id}")
    told = log.stored(db, run_id)

    where = tell("mlflow", told[0][0], [epoch for epoch, _ in told[1:]], ended(db, run_id))

    [(name, run)] = mlflow_at().items()
    params, tags, client = run.data.params, run.data.tags, mlflow_at.client
    assert name == f"cnn digits {run_id[:8]}"
    assert where == (
        f"{os.environ['MLFLOW_TRACKING_URI']}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    )
    assert (params["model"], params["lr"], params["num_parameters"]) == ("cnn", "0.001", "620362")
    assert params["energy.cpu.source"], params["energy.cpu.tdp_w"] == ("estimated", "8")
    assert (params["grid.g_per_kwh"], params["grid.level"], params["grid.pue"]) == ("475.0", "world", "2.0")
    assert "grid.country" not in params
    assert (params["grid.year"], params["grid.source"], params["energy.scope"]) == ("2023", "CodeCarbon", "machine")
    assert (params["hardware.cpu"], params["versions.torch"]) == ("a CPU", "2.15.0")
    assert (tags["greenml.run_id"], tags["greenml.tags"], tags["mlflow.note.content"]) == (run_id, "a, b c", "a note")
    assert (tags["greenml.status"], tags["greenml.cpu_source"]) == ("done", "estimated")
    assert tags["mlflow.source.git.commit"] == "c0ffee"
    assert run.info.status == "FINISHED"
    assert datetime.fromtimestamp(run.info.start_time / 1000).astimezone().timestamp() == run.info.start_time / 1000
    assert run.info.end_time - run.info.start_time == 30_000
    assert steps(client, run, "val_accuracy") == [(1, 0.5), (2, 0.75)]
    assert steps(client, run, "energy_wh") == [(1, 1.0), (2, 2.0)]
    assert steps(client, run, "energy_so_far_wh") == [(1, 1.0), (2, 3.0)]
    assert steps(client, run, "watts") == [(1, 360.0), (2, 720.0)]
    assert steps(client, run, "co2_so_far_g") == [(1, pytest.approx(0.95)), (2, pytest.approx(2.85))]
    assert {"train_loss", "train_accuracy", "val_loss", "lr", "duration_s", "cpu_energy_wh"} <= run.data.metrics.keys()
    final = run.data.metrics
    [stored] = db.rows("from leaderboard")
    assert final["total_energy_wh"] == pytest.approx(1000 * stored["energy_kwh"])
    assert final["total_cpu_energy_wh"] + final["total_ram_energy_wh"] == pytest.approx(final["total_energy_wh"])
    assert (final["total_co2_g"], final["acc_per_kwh"]) == (stored["co2_g"], pytest.approx(stored["acc_per_kwh"]))
    assert (final["test_accuracy"], final["best_epoch"], final["total_gpu_energy_wh"]) == (0.75, 2, 0)
    assert sorted(file.path for file in client.list_artifacts(run.info.run_id)) == sorted(log.FILES)
    kept = Path(client.download_artifacts(run.info.run_id, "model.pt", str(db.path.parent)))
    assert kept.read_text() == f"model.pt of {run_id}"


def test_what_is_unknown_is_left_out(mlflow_at, db):
    run_id = new_run_id()
    record(db, run_id, [0.5, 0.75], [3600.0, None])
    told = log.stored(db, run_id)
    tell("mlflow", told[0][0], [epoch for epoch, _ in told[1:]], ended(db, run_id))

    [run] = mlflow_at().values()
    assert [step for step, _ in steps(mlflow_at.client, run, "val_accuracy")] == [1, 2]
    assert steps(mlflow_at.client, run, "energy_wh") == [(1, 1.0)]
    assert steps(mlflow_at.client, run, "watts") == [(1, 360.0)]
    assert not {"total_energy_wh", "total_co2_g", "acc_per_kwh", "total_cpu_energy_wh"} & run.data.metrics.keys()
    assert run.data.tags["greenml.energy_source"] == "unknown"
    assert run.data.tags["greenml.unranked"] == "energy partly unknown"


def test_long_many_and_odd_values_are_taken(mlflow_at):
    odd = {f"key {n} (x=y)": n for n in range(250)} | {"long": "x" * 9000, "nested": {"a": {"b": [1, 2]}}}
    run = make_run(config={"model_args": odd}, note="n" * 9000, metric="mae@5", goal="min")
    epoch = make_epoch(run.run_id, 1, value=0.25, train_loss=math.nan)

    tell("mlflow", run, [epoch], cut_off(run.run_id, "done"))

    [found] = mlflow_at().values()
    assert found.data.params["model_args.key 249 _x_y_"] == "249"
    assert len(found.data.params["model_args.long"]) == 6000
    assert found.data.params["model_args.nested.a.b"] == "[1, 2]"
    assert len(found.data.tags["mlflow.note.content"]) == 5000
    assert found.data.metrics["mae_5"] == 0.25
    assert math.isnan(found.data.metrics["train_loss"])


@pytest.mark.parametrize(
    ("status", "shown"), [("done", "FINISHED"), ("interrupted", "KILLED"), ("failed", "FAILED"), ("crashed", "FAILED")]
)
def test_how_it_ended_and_that_it_went_on(mlflow_at, status, shown):
    """A resumed run goes on where it was: nothing doubled, what changed is said, and it may end otherwise."""
    run = make_run()
    epochs = [make_epoch(run.run_id, number) for number in (1, 2, 3)]
    tell("mlflow", run, epochs[:2], cut_off(run.run_id, status))
    [before] = mlflow_at().values()
    assert before.info.status == shown

    tell("mlflow", dataclasses.replace(run, config=run.config | {"epochs": 4}), epochs)
    [during] = mlflow_at().values()
    assert (during.info.run_id, during.info.status) == (before.info.run_id, "RUNNING")
    tell("mlflow", run, [], cut_off(run.run_id, "done"))

    [after] = mlflow_at().values()
    assert after.info.status == "FINISHED"
    assert [step for step, _ in steps(mlflow_at.client, after, "val_loss")] == [1, 2, 3]
    assert (after.data.params["epochs"], after.data.tags["resumed.epochs"]) == ("3", "4")


def test_repeats_and_children_hang_below_their_parent(mlflow_at, monkeypatch, db):
    monkeypatch.setenv(SERIES, series := new_run_id())
    for seed in (3, 4):
        run_id = new_run_id()
        record(db, run_id, [seed / 10], [3600.0 * seed], seed=seed, name=f"seed {seed}")
        tell("mlflow", log.stored(db, run_id)[0][0], [], ended(db, run_id))
    monkeypatch.delenv(SERIES)
    child = make_run(parent=run_id, name="child")
    tell("mlflow", child)

    found = mlflow_at()
    parent = found.pop("seed 3, repeats")
    parents = {name: run.data.tags["mlflow.parentRunId"] for name, run in found.items()}
    ids = {name: run.info.run_id for name, run in found.items()}
    assert parents == {"seed 3": parent.info.run_id, "seed 4": parent.info.run_id, "child": ids["seed 4"]}
    assert (parent.info.status, parent.data.tags["greenml.run_id"]) == ("FINISHED", series)
    assert sorted(steps(mlflow_at.client, parent, "total_energy_wh")) == [(3, 3.0), (4, 4.0)]
    assert found["child"].data.tags["greenml.parent"] == run_id


def test_repeats_share_what_trackers_know_them_by(db, monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "argv", ["greenml", "train", "cnn", "--repeats", "2"])
    monkeypatch.setattr(repeating, "watched", lambda command, env: (seen.append(env[SERIES]), (0, ""))[1])
    for _ in range(2):
        repeating.repeat(db, range(2), json=True)

    assert seen[0] == seen[1] != seen[2] == seen[3]
    assert re.fullmatch("[0-9a-f]{12}", seen[0])


def test_a_run_has_ended_also_where_its_files_cannot_be_taken(mlflow_at, tmp_path):
    run = make_run()
    with pytest.raises(OSError, match="No such file"):
        tell("mlflow", run, [], dataclasses.replace(cut_off(run.run_id, "done"), files=[str(tmp_path / "gone")]))

    [found] = mlflow_at().values()
    assert found.info.status == "FINISHED"


def test_a_store_of_files_will_do(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri := (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run = make_run(name="in files")

    where = tell("mlflow", run, [make_epoch(run.run_id, 1)], cut_off(run.run_id))

    [found] = MlflowClient(uri).search_runs(["0"])
    assert where == f"run {found.info.run_id} in {uri}"
    assert (found.info.run_name, found.info.status, found.data.metrics["lr"]) == ("in files", "KILLED", 0.001)


def test_wandb_has_what_the_store_has(db, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv(SERIES, series := new_run_id())
    run_id = new_run_id()
    record(db, run_id, [0.5, 0.75], [3600.0, None], tags=["a", "b c" * 40], name="mine", note="a note")
    folder = db.path.parent / "runs" / run_id
    folder.mkdir(parents=True)
    (folder / "model.pt").write_text("weights")

    told = [*log.stored(db, run_id), (ended(db, run_id), None)]
    said, *_ = followed(*(row for row, _ in told), names=["wandb"])

    [where] = [text for text, _ in said if "sync" in text]
    assert not any(matters for _, matters in said)
    synced = re.fullmatch(r"wandb: offline; to upload: wandb sync (.*)", where)
    page = read_back(Path(synced[1]))
    assert (page.run.run_id, page.run.display_name, page.run.notes) == (run_id, "mine", "a note")
    assert (page.run.run_group, page.run.job_type) == (series, "train")
    assert list(page.run.tags) == ["a", ("b c" * 40)[:64]]
    assert (page.config["model"], page.config["lr"]) == ("cnn", 0.001)
    assert page.config["grid"]["g_per_kwh"] == 475.0
    assert page.config["greenml"]["data_hash"] == "d1"
    assert [row["val_accuracy"] for row in page.history] == [0.5, 0.75]
    assert [row.get("energy_wh") for row in page.history] == [1.0, None]
    assert [row["_step"] for row in page.history] == [row["epoch"] for row in page.history] == [1, 2]
    assert (page.summary["test_accuracy"], page.summary["energy_source"]) == (0.75, "unknown")
    assert "total_energy_wh" not in page.summary
    assert [(name, files) for name, files in page.artifacts] == [(f"greenml-{run_id}", ["model.pt"])]
    assert page.exit_code == 0


def read_back(folder):
    """What `wandb sync` would upload."""
    from wandb.proto import wandb_internal_pb2

    page = SimpleNamespace(run=None, config={}, history=[], summary={}, artifacts=[], exit_code=None)
    [file] = folder.glob("*.wandb")
    for data in pieces_joined(file.read_bytes()):
        one = wandb_internal_pb2.Record()
        one.ParseFromString(data)
        match one.WhichOneof("record_type"):
            case "run":
                page.run = one.run
                page.config |= by_key(one.run.config.update)
            case "history":
                page.history.append(by_key(one.history.item))
            case "summary":
                page.summary |= by_key(one.summary.update)
            case "artifact":
                page.artifacts.append((one.artifact.name, [file.path for file in one.artifact.manifest.contents]))
            case "exit":
                page.exit_code = one.exit.exit_code
    return page


def by_key(items):
    return {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}


def pieces_joined(data):
    """LevelDB's log format: blocks of 32 KiB, in which a record has one piece or several."""
    at, whole = 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        _, length, kind = struct.unpack_from("<IHB", data, at)
        if left < 7 or kind == 0:
            at += left
            continue
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # all of it, or its end
            yield whole
            whole = b""


# -- Trackers that fail


@pytest.fixture
def probe(tmp_path, monkeypatch):
    """A tracker of another package, and what it was told."""
    site = tmp_path / "packages"
    (site / "probe-1.dist-info").mkdir(parents=True)
    (site / "probe.py").write_text(PROBE)
    (site / "probe-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: probe\nVersion: 1\n")
    (site / "probe-1.dist-info" / "entry_points.txt").write_text("[greenml.trackers]\nprobe = probe\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PROBE", str(told := tmp_path / "told"))
    monkeypatch.delitem(sys.modules, "probe", raising=False)
    yield told
    registry._TRACKERS.pop("probe", None)


def followed(*records, names=("probe",), pause_s=0.0):
    """What the trackers said; and the seconds that telling, and waiting for them took."""
    said = []
    with Following(names, lambda text, matters: said.append((text, matters))) as trackers:
        began = time.monotonic()
        for one in records:
            trackers.show(one)
            time.sleep(pause_s)
        told = time.monotonic()
    return said, told - began, time.monotonic() - told


def whole_run(num_epochs=3, **run):
    run = make_run(**run)
    epochs = [make_epoch(run.run_id, number) for number in range(1, num_epochs + 1)]
    return [run, make_phase(run.run_id, 0), *epochs, make_end(run.run_id), cut_off(run.run_id, "done")]


def test_a_tracker_of_another_package(probe):
    records = [*whole_run(2, name="näme"), make_metric("a" * 12, 0)]
    records.insert(3, records.pop())
    said, *_ = followed(*records)

    assert said == [("probe: here", False)]
    assert probe.read_text().splitlines() == [
        f"begin {records[0].run_id} näme 3", "epoch 1 0.9 None", "metric mae 0.5", "epoch 2 0.9 None", "end done None",
    ]  # fmt: skip


def test_a_run_that_goes_on_is_told_from_its_beginning(probe):
    """A tracker may have missed some of it."""
    run, epochs = make_run(name="again"), [make_epoch("a" * 12, number) for number in (1, 2)]
    before = [(run, None), (epochs[0], STARTED_AT)]
    with Following(["probe"], lambda *_: None, before) as trackers:
        trackers.show(make_resume(run.run_id, config=run.config | {"epochs": 9}))
        trackers.show(epochs[1])
        trackers.show(cut_off(run.run_id, "done"))

    assert probe.read_text().splitlines() == [
        f"begin {run.run_id} again 9", f"epoch 1 0.9 {STARTED_AT}", "epoch 2 0.9 None", "end done None",
    ]  # fmt: skip


def test_a_tracker_that_hangs_is_left_behind(probe, monkeypatch):
    monkeypatch.setenv("PROBE_DOES", "hang")
    monkeypatch.setattr(following, "PATIENCE_S", 1.0)
    monkeypatch.setattr(following, "AT_ONCE_S", 0.2)
    monkeypatch.setattr(following, "ROOM", 10)

    said, telling_s, waiting_s = followed(*whole_run(1000))

    assert telling_s < 2
    assert 0.9 < waiting_s < 5
    assert said == [
        ("waiting for probe; Ctrl-C goes on without it", False),
        ("probe: no answer within 1 s; given up, and not all of this run is there", True),
    ]


def test_a_tracker_that_is_too_slow_loses_rows_and_says_so(probe, monkeypatch):
    monkeypatch.setenv("PROBE_DOES", "slow")
    monkeypatch.setattr(following, "ROOM", 10)
    said, telling_s, _ = followed(*whole_run(2000))

    assert telling_s < 2
    [lost] = re.findall(r"probe: too slow for this run: (\d+) of its rows are not there", said[-1][0])
    told = probe.read_text().splitlines()
    assert (len(told), told[-1]) == (2002 - int(lost), "end done None")


def test_a_tracker_that_fails_says_so_once(probe, monkeypatch):
    """One row that it does not take is lost, with the next it goes on."""
    records = whole_run(14, name="unlucky")
    said, *_ = followed(*records)
    assert [text for text, matters in said if matters] == [
        "probe: unlucky; the run goes on",
        "probe: not all of this run is there; when that is mended: greenml runs log "
        f"{records[0].run_id[:8]} --to probe",
    ]
    assert [line.split()[1] for line in probe.read_text().splitlines()[1:-1]] == [*map(str, range(1, 13)), "14"]

    monkeypatch.setenv("PROBE_DOES", "raise")
    said, *_ = followed(*whole_run())
    assert said[0] == ("probe: no such project; the run goes on", True)
    assert len(said) == 2


def test_what_cannot_be_reached_is_told_again(probe, monkeypatch):
    monkeypatch.setenv("PROBE_FAILURES", "2")
    said, *_ = followed(*whole_run(4))

    assert [text for text, matters in said if matters] == [
        "probe: Connection refused; the run goes on, and what is missing is sent later"
    ]
    assert [line.split()[1] for line in probe.read_text().splitlines()[1:]] == ["1", "2", "3", "4", "done"]


class Told:
    """A tracker that keeps what it is told, and raises what it is to raise."""

    def __init__(self, *errors):
        self.errors, self.told = list(errors), []

    def begin(self, run):
        return "here"

    def epoch(self, epoch, at):
        if self.errors:
            raise RuntimeError("in vain") from self.errors.pop()
        self.told.append(epoch.epoch)

    def end(self, ending):
        self.told.append(ending.status)


class Said:
    """What a worker has to say that matters."""

    def __init__(self):
        self.texts = []

    def say(self, text, *, matters=False):
        self.texts += [text] * matters

    def complain(self, text):
        self.say(text, matters=True)


def telling(monkeypatch, tracker):
    """The worker of a tracker, in this process, and what it says."""
    monkeypatch.setattr(registry, "create", lambda name: tracker)
    return worker.Teller("probe", said := Said()), said.texts


def answered(status):
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status}", response=response)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionResetError(104, "reset"), [1, 2]),
        (requests.ConnectionError("no route"), [1, 2]),
        (answered(503), [1, 2]),
        (answered(429), [1, 2]),
        (answered(408), [1, 2]),
        (answered(401), [2]),
        (answered(404), [2]),
        (FileNotFoundError(2, "no such folder"), [2]),
        (PermissionError(13, "not yours"), [2]),
        (ValueError("not this one"), [2]),
    ],
)
def test_what_is_refused_for_good_is_not_told_again(monkeypatch, error, told):
    """A row that waits keeps all that come after it waiting."""
    tracker = Told(error)
    teller, said = telling(monkeypatch, tracker)
    for row in (make_run("a" * 12), make_epoch("a" * 12, 1), make_epoch("a" * 12, 2)):
        teller.tell(row)

    assert tracker.told == told
    assert ("sent later" in said[0]) == (told == [1, 2])


def test_no_more_rows_wait_for_a_tracker_than_there_is_room(monkeypatch):
    monkeypatch.setattr(worker, "ROOM", 3)
    tracker = Told(*[ConnectionRefusedError(111, "Connection refused") for _ in range(10)])
    teller, said = telling(monkeypatch, tracker)
    teller.tell(make_run("a" * 12))
    for number in range(1, 11):
        teller.tell(make_epoch("a" * 12, number))
    teller.tell(cut_off("a" * 12, "done"))
    teller.close()

    assert tracker.told == [1, 2, 3, "done"]
    assert said[-1].startswith("not all of this run is there")


def test_a_tracker_that_dies_says_with_what(probe, monkeypatch):
    monkeypatch.setenv("PROBE_DOES", "die")
    said, *_ = followed(*whole_run())

    assert said == [("probe: ended with exit code 7: what a library prints", True)]


def test_a_tracker_that_cannot_be_started(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    said, *_ = followed(*whole_run(), names=["mlflow"])

    assert said == [("mlflow: cannot be started: [Errno 2] No such file or directory: '/nowhere/python'; "
                     "the run goes on without it", True)]  # fmt: skip


FOLLOW = """
import os, sys, time
sys.path.insert(0, {tests!r})
from conftest import make_epoch, make_run
from greenml.trackers import Ending, Following
run = make_run("a" * 12)
with Following({names!r}, lambda text, matters: print(text, flush=True)) as trackers:
    trackers.show(run)
    trackers.show(make_epoch(run.run_id, 1))
    try:
        while True:
            trackers.show(None)
            time.sleep(0.01)
    except KeyboardInterrupt:
        if not {in_good_order}:
            raise
        trackers.show(Ending(run_id=run.run_id, status="interrupted", ended_at=None, summary=None, files=[]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_killed_has_crashed_and_nothing_stays(probe, number):
    script = FOLLOW.format(tests=str(Path(__file__).parent), names=["probe"], in_good_order=False)
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout.readline() == "probe: here\n"
        process.send_signal(number)

    until = time.monotonic() + 10
    while "end" not in probe.read_text() and time.monotonic() < until:
        time.sleep(0.02)
    assert probe.read_text().splitlines()[1:] == ["epoch 1 0.9 None", "end crashed None"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_ctrl_c_reaches_the_training_and_not_its_trackers(mlflow_at, tmp_path):
    """As on a terminal, where every process of the group gets it."""
    script = FOLLOW.format(tests=str(Path(__file__).parent), names=["mlflow", "wandb"], in_good_order=True)
    env = os.environ | {"WANDB_MODE": "offline", "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        heard = [process.stdout.readline(), process.stdout.readline()]
        os.killpg(process.pid, signal.SIGINT)
        heard += process.stdout.readlines()

    [run] = mlflow_at().values()
    [page] = map(read_back, (tmp_path / "wandb").glob("offline-run-*"))
    assert process.returncode == 0
    assert {line.partition(":")[0] for line in heard if "waiting" not in line} == {"mlflow", "wandb"}
    assert (run.info.status, run.data.metrics["val_accuracy"]) == ("KILLED", 0.9)
    assert (page.exit_code, page.summary["val_accuracy"]) == (130, 0.9)
    until = time.monotonic() + 10  # W&B's own service sees that it is no longer needed
    while (left := still_alive(tmp_path)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left


def still_alive(folder):
    """Processes that work in a folder."""
    return [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(folder)]


def test_a_tracker_that_hangs_does_not_outlive_who_was_killed(probe, monkeypatch):
    monkeypatch.setenv("PROBE_DOES", "hang")
    quick = "from greenml.trackers import following, worker; worker.PATIENCE_S = 0.5; worker.main('probe')"
    process = subprocess.Popen([sys.executable, "-c", quick], stdin=subprocess.PIPE, text=True)
    from greenml.trackers import wire

    process.stdin.write(wire.pack(make_run(), None))
    process.stdin.close()  # as the system does for a process that is killed

    assert process.wait(timeout=10) == 1


# -- A server that comes and goes


class Proxy:
    """Stands before the server, and lets through, refuses, or swallows what comes."""

    def __init__(self, server):
        self.clients = []
        self.port = int(server.rpartition(":")[2])
        self.lets_through = True
        self.listener = self.listen(0)
        self.own_port = self.listener.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.own_port}"

    def listen(self, port):
        listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self.accept, args=(listener,), daemon=True).start()
        return listener

    def accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.clients.append(client)
            if self.lets_through:
                server = socket.create_connection(("127.0.0.1", self.port))
                self.clients.append(server)
                for a, b in ((client, server), (server, client)):
                    threading.Thread(target=self.pump, args=(a, b), daemon=True).start()

    @staticmethod
    def pump(a, b):
        with suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)

    def kill(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for client in self.clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            client.close()
        self.clients.clear()

    def come_back(self):
        self.listener = self.listen(self.own_port)


@pytest.fixture
def proxy(server, monkeypatch, mlflow_at):
    proxy = Proxy(server)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.address)
    yield proxy
    proxy.kill()


def test_a_server_that_is_away_for_a_while_has_all_of_it_in_the_end(proxy, mlflow_at):
    run, _, *epochs, end, ending = whole_run(4)
    said = []
    with Following(["mlflow"], lambda text, matters: said.append((text, matters))) as trackers:

        def until(words):
            limit = time.monotonic() + 120
            while not any(words in text for text, _ in said) and time.monotonic() < limit:
                trackers.show(end)
                time.sleep(0.02)

        trackers.show(run)
        until("/runs/")
        proxy.kill()
        trackers.show(epochs[0])
        until("Connection refused")
        proxy.come_back()
        for one in (*epochs[1:], ending):
            trackers.show(one)

    [found] = mlflow_at().values()
    assert [matters for _, matters in said] == [False, True]
    assert [step for step, _ in steps(mlflow_at.client, found, "val_loss")] == [1, 2, 3, 4]
    assert found.info.status == "FINISHED"


def test_a_server_that_accepts_and_never_answers(proxy, monkeypatch):
    proxy.lets_through = False
    monkeypatch.setattr(following, "PATIENCE_S", 0.5)
    run, *rest = whole_run()
    said = []
    with Following(["mlflow"], lambda text, matters: said.append((text, matters))) as trackers:
        trackers.show(run)
        while not proxy.clients:
            time.sleep(0.02)
        for one in rest:
            trackers.show(one)

    assert said == [("mlflow: no answer within 0 s; given up, and not all of this run is there", True)]


# -- Known or not, installed or not, now or later


def test_they_are_looked_for_and_not_imported():
    code = """
import sys
from greenml import trackers
from greenml.cli import jobs, log, resuming
trackers.check(["mlflow", "wandb"])
print(sorted({"mlflow", "wandb"} & {name.partition(".")[0] for name in sys.modules}))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_runs_that_are_stored_can_be_logged_later(probe, db, greenml):
    a, b = new_run_id(), new_run_id()
    judged: dict = {"metric": "mae", "goal": "min"}
    db.write([
        make_run(a, name="first", **judged),
        make_phase(a, 0, name="setup", cpu_j=0.0, ram_j=0.0),
        *(make_phase(a, epoch, epoch=epoch) for epoch in (1, 2)),
        *(make_epoch(a, epoch, value=0.5) for epoch in (1, 2)),
        make_metric(a, 0),  # stands in its epoch already
        make_metric(a, 1, name="r2", value=0.9),
        make_end(a, value=0.5, **judged),
    ])  # fmt: skip
    record(db, b, [0.5], [3600.0], name="second", started_at=STARTED_AT + timedelta(days=1))
    assert greenml("runs", "log", "--to", "probe") == (0, "", "probe: here\nprobe: here\n")
    assert probe.read_text().splitlines() == [
        f"begin {a} first 3",
        "epoch 1 0.9 2026-03-01 12:00:20",
        "metric r2 0.9",
        "epoch 2 0.9 2026-03-01 12:00:30",
        f"end done {200 / 3.6e6}",
        f"begin {b} second 3",
        "epoch 1 0.5 2026-03-01 12:00:10",
        "end done 0.001",
    ]


def test_runs_that_could_not_be_logged_later_are_an_error(probe, db, greenml, monkeypatch):
    monkeypatch.setenv("PROBE_DOES", "raise")
    record(db, run_id := new_run_id(), [0.5], [3600.0])

    code, _, err = greenml("runs", "log", run_id[:6], "--to", "probe")

    assert code == 5
    assert err.splitlines()[0] == f"greenml: error: run {run_id}: probe: no such project; the run goes on"


@pytest.mark.parametrize("arguments", [("train", "cnn"), ("train", "cnn", "--dry-run"), ("runs", "log")])
def test_a_tracker_that_is_not_known(greenml, arguments):
    flag = "--to" if arguments[0] == "runs" else "--log"
    code, _, err = greenml(*arguments, flag, "mlfow")

    assert (code, err.splitlines()) == (
        2, ["greenml: error: --log mlfow: no such tracker", "hint: did you mean `mlflow`?"]
    )  # fmt: skip


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_tracker_that_is_not_installed(greenml, monkeypatch, name, db, tmp_path):
    """A folder of that name, as W&B leaves one, is no package."""
    (tmp_path / "wandb").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "find_spec", lambda _: importlib.machinery.ModuleSpec(name, None))
    code, _, err = greenml("train", "cnn", "--dataset", "digits", "--log", name)

    assert (code, err.splitlines()) == (
        2, [f"greenml: error: --log {name}: {name} is not installed", "hint: pip install greenml[trackers]"]
    )  # fmt: skip
    assert db.rows("from runs") == []


def test_mlflow_without_a_server_needs_its_database(monkeypatch):
    monkeypatch.setattr("greenml.trackers.mlflow.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="without a server, MLflow needs a database") as caught:
        check(["mlflow"])
    assert caught.value.hint == "set MLFLOW_TRACKING_URI to a server, or pip install mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    check(["mlflow"])
