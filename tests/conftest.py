"""Records to fill a store with, and a store to fill."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from greenml import cli, console
from greenml.records import (
    Artifact,
    Decision,
    Epoch,
    Inference,
    Intensity,
    Metric,
    Phase,
    Resume,
    Run,
    RunEnd,
    Served,
    Source,
    Study,
    Trial,
    new_run_id,
)
from greenml.store import Store, intensity_of
from greenml.store.rows import LEARNT, TABLES

# A machine that others use, too, is no reason to fail: what takes how long is for `make bench`.
hypothesis.settings.register_profile("patient", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("patient")

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from greenml.records import Stored

    Greenml = Callable[..., tuple[int, str, str]]

STARTED_AT = datetime(2026, 3, 1, 12)
WORLD = Intensity(
    g_per_kwh=475.0,
    level="world",
    region_asked=None,
    region_used="world",
    year=2023,
    source="CodeCarbon",
    note="no region given: world average, 475 g/kWh, 2023",
)


def finish(steps):
    """Run a generator to its end: what it yielded, and what it returned."""
    said = []
    while True:
        try:
            said.append(next(steps))
        except StopIteration as end:
            return said, end.value


def make_run(run_id: str | None = None, **changes: Any) -> Run:
    """A run on digits, with whatever is changed."""
    values: dict[str, Any] = {
        "run_id": run_id or new_run_id(),
        "kind": "train",
        "name": None,
        "tags": [],
        "parent": None,
        "model": "cnn",
        "dataset": "digits",
        "data_hash": "d1",
        "split_hash": "s1",
        "num_classes": 10,
        "num_train": 1149,
        "num_val": 288,
        "num_test": 360,
        "majority_share": 0.1,
        "image_size": 16,
        "resize": "8 -> 16 px, bilinear",
        "stem": "as published",
        "num_parameters": 620_362,
        "precision_asked": "fp32",
        "precision": "fp32",
        "batch_size": 64,
        "epochs_asked": 3,
        "seed": 0,
        "split_seed": 0,
        "config": {"model": "cnn", "epochs": 3, "lr": 0.001},
        "device": "cpu",
        "hardware": {"cpu": "a CPU", "threads": 2},
        "meter": {"name": "replay", "cpu": "a power model"},
        "intensity": WORLD,
        "versions": {"greenml": "0.1.0", "torch": "2.15.0"},
        "git_commit": None,
        "git_dirty": None,
        "command": "greenml train cnn",
        "started_at": STARTED_AT,
    }
    return Run(**values | changes)


def make_resume(run_id: str, segment: int = 1, **changes: Any) -> Resume:
    """The run goes on in its second epoch, an hour later."""
    values: dict[str, Any] = {
        "run_id": run_id,
        "segment": segment,
        "epoch": 2,
        "step": 0,
        "started_at": STARTED_AT + timedelta(hours=segment),
        "epochs_asked": 3,
        "group_hash": "g1",
        "config": {"model": "cnn", "epochs": 3, "lr": 0.001},
        "hardware": {"cpu": "a CPU", "threads": 2},
        "meter": {"name": "replay", "cpu": "a power model"},
        "versions": {"greenml": "0.1.0", "torch": "2.15.0"},
        "command": "greenml train --resume aaaa",
    }
    return Resume(**values | changes)


def make_phase(run_id: str, seq: int, **changes: Any) -> Phase:
    """Ten seconds of estimated CPU and memory, and no GPU."""
    began = STARTED_AT + timedelta(seconds=10 * seq)
    values: dict[str, Any] = {
        "run_id": run_id,
        "segment": 0,
        "seq": seq,
        "name": "train",
        "epoch": None,
        "device": "cpu",
        "started_at": began,
        "ended_at": began + timedelta(seconds=10),
        "cpu_j": 90.0,
        "gpu_j": 0.0,
        "ram_j": 10.0,
        "cpu_source": Source.ESTIMATED,
        "gpu_source": Source.ABSENT,
        "ram_source": Source.ESTIMATED,
        "method": "replayed",
        "error_j": None,
        "overlap_s": 0.0,
    }
    return Phase(**values | changes)


def make_epoch(run_id: str, epoch: int, **changes: Any) -> Epoch:
    """An epoch of 100 J that gets nine of ten right."""
    values: dict[str, Any] = {
        "run_id": run_id,
        "segment": 0,
        "epoch": epoch,
        "train_loss": 1.0 / epoch,
        "train_accuracy": 0.8,
        "val_loss": 1.1 / epoch,
        "val_accuracy": 0.9,
        "val_correct": 259,
        "val_count": 288,
        "lr": 0.001,
        "duration_s": 10.0,
        "cpu_j": 90.0,
        "gpu_j": 0.0,
        "ram_j": 10.0,
        "energy_j": 100.0,
        "energy_total_j": 100.0 * epoch,
        "source": Source.ESTIMATED,
        "schedule_complete": True,
    }
    return Epoch(**values | changes)


def make_metric(run_id: str, seq: int, **changes: Any) -> Metric:
    """A tracked program says how wrong it is, after its first epoch."""
    values: dict[str, Any] = {
        "run_id": run_id,
        "segment": 0,
        "seq": seq,
        "epoch": 1,
        "name": "mae",
        "value": 0.5,
        "goal": "min",
        "logged_at": STARTED_AT,
    }
    return Metric(**values | changes)


def make_end(run_id: str, **changes: Any) -> RunEnd:
    """A run that did all its epochs."""
    values: dict[str, Any] = {
        "run_id": run_id,
        "status": "done",
        "stop_reason": "epochs",
        "ended_at": STARTED_AT + timedelta(seconds=30),
        "best_epoch": 1,
        "val_accuracy": 0.9,
        "test_accuracy": 0.9,
        "test_loss": 0.3,
        "test_correct": 324,
        "test_count": 360,
    }
    return RunEnd(**values | changes)


def make_sweep(run_id: str, **changes: Any) -> Run:
    """The own run of a sweep: it saw no data."""
    unseen = ("data_hash", "split_hash", "num_classes", "num_train", "num_val", "num_test", "majority_share")
    unsaid = dict.fromkeys((*unseen, "image_size", "resize", "stem", "num_parameters", "precision", "batch_size"))
    return make_run(run_id, **{"kind": "sweep", "model": "cnn, resnet18"} | unsaid | changes)


def make_study(run_id: str, **changes: Any) -> Study:
    """Of two parameters."""
    values: dict[str, Any] = {
        "run_id": run_id,
        "sampler": "nsga2",
        "num_trials": 30,
        "seed": 0,
        "space": {
            "parameters": {
                "model": [{"type": "categorical", "when": {}, "choices": ["cnn", "resnet18"]}],
                "lr": [{"type": "float", "when": {}, "low": 0.0001, "high": 0.1, "log": True, "step": None}],
            },
            "constraints": {"min_accuracy": None, "max_parameters": None},
            "enqueue": [],
        },
        "base": {"model": "cnn", "epochs": 3},
        "limits": {},
        "stops_early": True,
    }
    return Study(**values | changes)


def make_trial(run_id: str, number: int, **changes: Any) -> Trial:
    """A trial of the sweep `run_id` that nobody has tried yet."""
    values: dict[str, Any] = {
        "run_id": run_id,
        "number": number,
        "state": "running",
        "params": {"model": "cnn", "lr": 0.01},
        "distributions": {"lr": {"name": "FloatDistribution", "attributes": {"low": 0.0001, "high": 0.1, "log": True}}},
        "attrs": {"nsga2:generation": 0},
        "attempts": [],
    }
    return Trial(**values | changes)


def make_served(run_id: str, name: str, **changes: Any) -> Served:
    """A model as `run_id` measured it: nine of ten of 10,000 test images right, as its parent has them."""
    values: dict[str, Any] = {
        "run_id": run_id,
        "name": name,
        "model_run": run_id,
        "backend": "torch",
        "precision": "fp32",
        "device": "cpu",
        "num_threads": 2,
        "num_bytes": 2_400_000,
        "memory_bytes": None,
        "num_parameters": 620_362,
        "flops_per_sample": 10_000_000,
        "test_correct": 9000,
        "test_count": 10_000,
        "gained": 0,
        "lost": 0,
    }
    return Served(**values | changes)


def make_inference(run_id: str, name: str, repeat: int, seq: int, **changes: Any) -> Inference:
    """A thousand predictions in two seconds, whose joules are those of the phase with the same number."""
    values: dict[str, Any] = {
        "run_id": run_id,
        "segment": 0,
        "seq": seq,
        "name": name,
        "batch_size": 250,
        "repeat": repeat,
        "num_predictions": 1000,
        "duration_s": 2.0,
        "cpu_s": 4.0,
        "latency_p50_s": 0.5,
        "latency_p95_s": 0.6,
        "first_seq": seq,
        "last_seq": seq,
    }
    return Inference(**values | changes)


def make_decision(run_id: str, seq: int, **changes: Any) -> Decision:
    """A run waits for the night, for which half as much is foretold."""
    values: dict[str, Any] = {
        "run_id": run_id,
        "segment": 0,
        "seq": seq,
        "decided_at": STARTED_AT,
        "what": "wait",
        "why": "200 g/kWh at 02:00 is the least within 24 h",
        "provider": "trace",
        "intensity_status": "forecast",
        "g_per_kwh": 400.0,
        "until_at": STARTED_AT + timedelta(hours=14),
        "expected_g_per_kwh": 200.0,
        "saved_g": 20.0,
        "saved_share": 0.5,
        "saved_source": "forecast",
        "against": "starting at once",
    }
    return Decision(**values | changes)


def record(
    db: Store,
    run_id: str,
    accuracies: Sequence[float],
    joules: Sequence[float | None],
    *,
    ended: bool = True,
    **run: Any,
) -> None:
    """Store a whole run: an epoch and a phase per pair, and its end; the last accuracy is the test's, too."""
    rows: list[Any] = [make_run(run_id, **run)]
    total: float | None = 0.0
    for number, (accuracy, joule) in enumerate(zip(accuracies, joules, strict=True), start=1):
        source = Source.UNKNOWN if joule is None else Source.ESTIMATED
        total = None if total is None or joule is None else total + joule
        energy: dict[str, Any] = {"cpu_j": joule, "gpu_j": 0.0, "ram_j": 0.0}
        rows += [
            make_phase(run_id, number - 1, epoch=number, cpu_source=source, **energy),
            make_epoch(
                run_id, number, val_accuracy=accuracy, energy_j=joule, energy_total_j=total, source=source, **energy
            ),
        ]
    if ended:
        best = max(range(len(accuracies)), key=accuracies.__getitem__)
        rows.append(
            make_end(run_id, best_epoch=best + 1, val_accuracy=accuracies[best], test_accuracy=accuracies[best])
        )
    assert db.write(rows)


def record_compressed(
    db: Store,
    run_id: str,
    parent: str | None,
    making: Sequence[float | None],
    measured: dict[str, Sequence[float | None]],
    *,
    batch_size: int = 250,
    seconds: dict[str, Sequence[float]] | None = None,
    served: dict[str, dict[str, Any]] | None = None,
    overlap_s: float = 0.0,
    **run: Any,
) -> None:
    """Store a run that compressed its parent: the joules of making it, and of a thousand predictions in each repeat.

    `measured` alternates between its models, repeat by repeat, as a session does.
    """
    changes = {"kind": "compress", "parent": parent, "method": "int8", "precision": "int8", "group_hash": None}
    rows: list[Any] = [make_run(run_id, **changes | run)]

    def add_phase(name: str, joule: float | None, **more: Any) -> int:
        seq = sum(isinstance(row, Phase) for row in rows)
        source = Source.UNKNOWN if joule is None else Source.ESTIMATED
        rows.append(make_phase(run_id, seq, name=name, cpu_j=joule, cpu_source=source, ram_j=0.0, **more))
        return seq

    for number, joule in enumerate(making):
        add_phase("calibrate" if number == 0 else "compress", joule)
    seq = 0
    for repeat in range(max(map(len, measured.values()), default=0)):
        for name, joules in measured.items():
            place = add_phase("infer", joules[repeat], overlap_s=overlap_s)
            took = {} if seconds is None else {"duration_s": seconds[name][repeat]}
            phases = {"first_seq": place, "last_seq": place}
            rows.append(make_inference(run_id, name, repeat + 1, seq, batch_size=batch_size, **phases | took))
            seq += 1
    for name in measured:
        model_run = run_id if name == "after" else parent or "0" * 12
        rows.append(make_served(run_id, name, **{"model_run": model_run} | (served or {}).get(name, {})))
    rows.append(make_end(run_id, best_epoch=None, val_accuracy=None))
    assert db.write(rows)


def records(db: Store) -> list[Stored]:
    """Every record in a store, every attempt at an epoch among them, in an order in which they can be written again."""

    def taken(kind: Any, row: dict[str, Any]) -> Any:
        return kind(**{field.name: row[field.name] for field in dataclasses.fields(kind)})

    found: list[Stored] = []
    for run in db.rows("from run_rows order by run_key"):
        found.append(taken(Run, run | {"intensity": intensity_of(run)}))
        for kind, order in (
            (Resume, "segment"),
            (Phase, "segment, seq"),
            (Epoch, "segment, epoch"),
            (Metric, "segment, seq"),
            (Artifact, "name"),
            (Study, "run_key"),
            (Trial, "number"),
            (Served, "name"),
            (Inference, "segment, seq"),
            (Decision, "segment, seq"),
        ):
            rows = db.rows(f"from {TABLES[kind]} where run_key = ? order by {order}", [run["run_key"]])
            found += [taken(kind, row | {"run_id": run["run_id"], "status": None}) for row in rows]
        if run["ended_at"]:
            found.append(taken(RunEnd, run | dict.fromkeys(LEARNT)))
    return found


def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Greenml:
    """The command in this process, where the libraries are loaded already: its exit code, stdout and stderr."""

    def run(*arguments: str, width: int = 80) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", str(width))
        console.out.cache_clear()
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        printed = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, printed.out, printed.err

    return run


@pytest.fixture
def greenml(db: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Greenml:
    """A command on the store."""
    monkeypatch.setenv("GREENML_STORE", str(db.path))
    monkeypatch.setenv("TZ", "UTC")
    return in_process(monkeypatch, capsys)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store that is ready: to copy it takes a hundredth of the time that making it takes."""
    path = tmp_path_factory.mktemp("empty") / "greenml.duckdb"
    Store(path, timeout_s=5).check()
    return path


@pytest.fixture
def db(tmp_path: Path, empty_store: Path) -> Store:
    """An empty store that is ready."""
    path = tmp_path / "store" / "greenml.duckdb"
    path.parent.mkdir()
    shutil.copyfile(empty_store, path)
    return Store(path, timeout_s=5)


# A trained model


def train_digits(db: Store, run_id: str, **changes: Any) -> None:
    """A real run of the cnn on digits, metered by replay, with its files and rows in a store."""
    from greenml import config as configs
    from greenml import run
    from greenml.energy import Meter
    from greenml.energy.replay import ReplaySensor
    from greenml.records import Notice, Progress

    config = configs.resolve({"model": "cnn", "dataset": "digits", "epochs": 2, "device": "cpu"} | changes)
    with db.claim(run_id) as folder, Meter(ReplaySensor(), run_id=run_id) as meter:
        life = run.train(config, meter, WORLD, run_id=run_id, folder=folder)
        assert db.write([record for record in life if not isinstance(record, Notice | Progress)])


DIGITS_RUN = "d161715aaaaa"


@pytest.fixture(scope="session")
def digits_store(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A store with one trained run, DIGITS_RUN; tests that change anything take a copy."""
    folder = tmp_path_factory.mktemp("digits")
    shutil.copyfile(empty_store, folder / "greenml.duckdb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))  # alone on this machine, as meters see it
        train_digits(Store(folder / "greenml.duckdb", timeout_s=5), DIGITS_RUN)
    return folder / "greenml.duckdb"


@pytest.fixture
def trained(db: Store, digits_store: Path) -> Store:
    """The store of `greenml`, with a trained run in it."""
    shutil.copyfile(digits_store, db.path)
    shutil.copytree(digits_store.parent / "runs", db.path.parent / "runs")
    return db


# The machine


def make_powercap(root, domains):
    """A folder as /sys/class/powercap: {"intel-rapl:0": ("package-0", joules), "intel-rapl:0:0": ("core", joules)}."""
    for folder, (name, joules) in domains.items():
        place = root / folder
        place.mkdir(parents=True)
        (place / "name").write_text(f"{name}\n")
        (place / "max_energy_range_uj").write_text("262143328850\n")
        count(place, joules)
    return root


def count(domain, joules):
    """The counter of a domain shows this much."""
    (domain / "energy_uj").write_text(f"{round(joules * 1e6)}\n")


# The command

GREENML = str(Path(sys.executable).with_name("greenml"))


NO_NETWORK = """
import pathlib, socket
def refuse(*arguments, **_):  # libraries swallow exceptions, so it is the file that tells
    pathlib.Path(__file__).with_name("asked").write_text(repr(arguments))
    raise OSError("no network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""


def environment(folder):
    """A place of its own, without a network: no store, cache or meter of this machine is seen, or seen to."""
    (folder / "tmp").mkdir(exist_ok=True)
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site" / "sitecustomize.py").write_text(NO_NETWORK)  # Python runs it in every process that it starts
    own = {"GREENML_STORE": str(folder / "store" / "greenml.duckdb"), "GREENML_CACHE": str(folder / "cache")}
    own |= {"GREENML_DATA": str(folder / "data")}
    path = os.pathsep.join(filter(None, [str(folder / "site"), os.environ.get("PYTHONPATH")]))
    return os.environ | own | {"TMPDIR": str(folder / "tmp"), "PYTHONPATH": path, "COLUMNS": "80"}


def installed(folder, *arguments, check=True):
    done = subprocess.run([GREENML, *arguments], cwd=folder, env=environment(folder), capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture
def replayed(tmp_path, monkeypatch):
    """A store of this test's own, and a meter that needs no hardware: 12 W, always."""
    from greenml.energy import Meter
    from greenml.energy.replay import ReplaySensor

    monkeypatch.setattr(
        "greenml.energy.open_meter", lambda run_id, settings: Meter(ReplaySensor(min_interval_s=0.001), run_id=run_id)
    )
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("GREENML_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GREENML_STORE", str(tmp_path / "store" / "greenml.duckdb"))
    monkeypatch.chdir(tmp_path)
    return Store(tmp_path / "store" / "greenml.duckdb")


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """A command in a place of its own."""
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path)
    return in_process(monkeypatch, capsys)


@pytest.fixture
def quick(here, monkeypatch):
    """The same with a meter that needs no hardware and is ready at once."""
    from greenml import energy
    from greenml.energy import Meter
    from greenml.energy.replay import ReplaySensor

    def open_meter(run_id, *, segment=0, settings=None):
        return Meter(ReplaySensor(min_interval_s=0.001), run_id=run_id, segment=segment)

    monkeypatch.setattr(energy, "open_meter", open_meter)
    monkeypatch.delenv("GREENML_POLICY", raising=False)
    return here
