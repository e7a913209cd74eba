"""What kills and crowds do to a store and to trainings: nothing that was said to be safe may be lost.

`make bench` runs it; `python tests/bench_stress.py` runs this part alone. Every figure is a count, and 0 is the goal,
but for the time that a write takes.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from bench_store import Figure
from conftest import GREENML, environment, make_epoch, make_run

from greenml.cli.board import REFRESH_S
from greenml.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

NUM_WRITERS = 8
NUM_EPOCHS = 200
NUM_STORE_KILLS = 50
NUM_TRAINING_KILLS = 100
EPOCH_S = 0.5


def write_epochs(path: str, run_id: str, num_epochs: str, first: str = "1") -> None:
    """Write an epoch each half a second; print each one that was acknowledged, and the milliseconds it took."""
    store = Store(Path(path))
    with store.claim(run_id):
        store.write([make_run(run_id)])
        for epoch in range(int(first), int(num_epochs) + 1):
            time.sleep(EPOCH_S)
            began = time.perf_counter()
            if store.write([make_epoch(run_id, epoch)]):
                print(epoch, 1e3 * (time.perf_counter() - began), flush=True)


def read_always(path: str) -> None:
    """A board that is drawn again and again, as `board --watch` does, until it is told to stop."""
    store = Store(Path(path))
    while True:
        store.rows("from leaderboard")
        time.sleep(REFRESH_S)


def started(function: str, *arguments: str, **how: object) -> subprocess.Popen[str]:
    code = f"import sys, bench_stress as b; b.{function}(*sys.argv[1:])"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True, **how
    )


def bench_crowd(folder: Path) -> list[Figure]:
    """Eight writers, a reader, and a kill -9 every other second; whoever is killed goes on where it was."""
    store = Store(folder / "crowd.duckdb")
    store.check()
    names = [f"{number:012x}" for number in range(NUM_WRITERS)]
    path, told, took = str(store.path), {name: set() for name in names}, []
    live = {name: started("write_epochs", path, name, str(NUM_EPOCHS)) for name in names}
    reader = started("read_always", path)

    def hear(name: str) -> None:
        for line in live[name].communicate()[0].splitlines():
            epoch, ms = line.split()
            told[name].add(int(epoch))
            took.append(float(ms))

    for _ in range(NUM_STORE_KILLS):
        time.sleep(random.uniform(0.5, 2.0))
        name = random.choice(names)
        if live[name].poll() is None:
            live[name].send_signal(signal.SIGKILL)
            hear(name)
            first = str(max(told[name], default=0) + 1)
            live[name] = started("write_epochs", path, name, str(NUM_EPOCHS), first)
    for name in names:
        hear(name)
    reader.kill()
    reader.communicate()
    kept = {name: set() for name in names}
    for row in store.rows("select run_id, epoch from epochs"):
        kept[row["run_id"]].add(row["epoch"])
    lost = sum(len(told[name] - kept[name]) for name in names)
    took.sort()
    what = f"{NUM_WRITERS} writers x {NUM_EPOCHS} epochs, a reader, {NUM_STORE_KILLS} kills"
    return [
        Figure(f"{what}: acknowledged rows lost", str(lost), sum(map(len, told.values())), ""),
        Figure(
            f"{what}: write", f"{statistics.median(took):.0f} ms, p95 {took[int(0.95 * len(took))]:.0f} ms", len(took),
            f"{took[0]:.0f} to {took[-1]:.0f} ms",
        ),
    ]  # fmt: skip


def bench_delay(folder: Path) -> list[Figure]:
    """Each process is held up where DuckDB takes the file's lock: what it read of the file before would be stale."""
    if shutil.which("strace") is None:
        return [Figure("delay at the lock: acknowledged rows lost", "strace is not here", 0, "")]
    store = Store(folder / "delay.duckdb")
    store.check()
    names, num_epochs = [f"{number:012x}" for number in range(4)], 15
    code = "import sys, bench_stress as b; b.EPOCH_S = 0; b.write_epochs(*sys.argv[1:])"
    held_up = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=fcntl", "-e", "inject=fcntl:delay_enter=20000"]
    writers = [
        subprocess.Popen(
            [*held_up, sys.executable, "-c", code, str(store.path), name, str(num_epochs)],
            cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True,
        )
        for name in names
    ]  # fmt: skip
    told = {
        (name, int(line.split()[0]))
        for name, one in zip(names, writers, strict=True)
        for line in one.communicate()[0].splitlines()
    }
    kept = {(row["run_id"], row["epoch"]) for row in store.rows("select run_id, epoch from epochs")}
    return [
        Figure("4 writers, 20 ms delay at every fcntl: acknowledged rows lost", str(len(told - kept)), len(told), "")
    ]


LAST_EPOCH = 30
# One thread: several trainings at a time would otherwise stand in each other's way.
TRAIN = ["train", "cnn", "--dataset", "digits", "--epochs", str(LAST_EPOCH), "--num-threads", "1", "--quiet"]


def bench_kills(folder: Path, *, at_once: int = 2) -> list[Figure]:
    """Real trainings on digits, killed at random, resumed to the end, and compared with one that nobody disturbed."""
    whole = trained(folder / "whole")
    with ThreadPoolExecutor(at_once) as pool:
        verdicts = [
            *pool.map(lambda number: killed_and_resumed(folder / str(number), whole), range(NUM_TRAINING_KILLS))
        ]
    faults = [fault for verdict in verdicts for fault in verdict]
    name = "trainings killed at random and resumed: other weights, gaps, doubled or missing rows"
    return [Figure(name, str(len(faults)), len(verdicts), "; ".join(faults))]


def trained(folder: Path) -> dict[str, torch.Tensor]:
    folder.mkdir()
    subprocess.run([GREENML, *TRAIN], cwd=folder, env=environment(folder), check=True, capture_output=True)
    return final_weights(folder)


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    [run] = (folder / "store" / "runs").iterdir()
    return {
        f"{name}:{part}:{key}": tensor
        for name, part in (("model.pt", "state_dict"), ("checkpoint.pt", "model"), ("checkpoint.pt", "averaged"))
        for key, tensor in torch.load(run / name, weights_only=True)[part].items()
    }


def killed_and_resumed(folder: Path, whole: dict[str, torch.Tensor]) -> list[str]:
    """One training, killed between the first row of its run and its end; then resumed, and looked at closely."""
    folder.mkdir()
    env, store = environment(folder), Store(folder / "store" / "greenml.duckdb")
    process = subprocess.Popen(
        [GREENML, *TRAIN], cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not store.rows("from runs"):
        time.sleep(0.05)
    time.sleep(random.uniform(0, 6))  # thirty epochs take six seconds and more
    process.kill()
    process.wait()
    [run] = store.rows("from runs")
    faults = []
    if run["status"] != "done":  # it was killed before its end
        again = [GREENML, "train", "--resume", run["run_id"], "--quiet"]
        done = subprocess.run(again, cwd=folder, env=env, capture_output=True, text=True)
        if done.returncode:
            faults.append(f"resume ended with {done.returncode}: {done.stderr[-300:]}")
    found = final_weights(folder)
    if found.keys() != whole.keys() or not all(torch.equal(found[key], whole[key]) for key in whole):
        faults.append(f"{run['run_id']}: other weights")
    phases = store.rows("from phases order by segment, seq")
    if {phase["segment"] for phase in phases if phase["name"] == "lost"} != set(range(phases[-1]["segment"])):
        faults.append(f"{run['run_id']}: a killed life whose end is not marked as lost")
    for a, b in pairwise(phases):
        if a["segment"] == b["segment"] and (a["ended_at"] != b["started_at"] or a["seq"] + 1 != b["seq"]):
            faults.append(f"{run['run_id']}: a gap after phase {a['segment']}.{a['seq']}")
    epochs = [row["epoch"] for row in store.rows("select epoch from epochs order by epoch")]
    if epochs != list(range(1, LAST_EPOCH + 1)):
        faults.append(f"{run['run_id']}: epochs {epochs}")
    [total] = store.rows("from run_totals")
    known = sum(phase["joules"] for phase in phases if phase["joules"] is not None)
    if abs(total["known_j"] - known) > 1e-6 * known:
        faults.append(f"{run['run_id']}: {total['known_j']} J are not {known} J")
    shutil.rmtree(folder)
    return faults


def bench(folder: Path) -> Iterator[Figure]:
    """All of it: half an hour."""
    random.seed(0)
    kills = folder / "kills"
    kills.mkdir()
    yield from bench_crowd(folder)
    yield from bench_delay(folder)
    yield from bench_kills(kills)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        for figure in bench(Path(place)):
            print(f"{figure.name}  {figure.value}  n={figure.n}  {figure.spread}", flush=True)
