"""`make bench`: what greenml costs on top of a training, printed with n and spread.

Machines are shared and noisy: what is compared alternates in one process, and what counts is the ratio of neighbours.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import bench_compress
import bench_forecast
import bench_grid
import bench_meter
import bench_store
import bench_stress
import bench_sweep
import numpy as np
import torch
from bench_store import Figure
from conftest import WORLD, finish

from greenml import config as configs
from greenml import energy, run
from greenml.environment import hardware, versions
from greenml.learn import artifact
from greenml.learn.data import Images, register_dataset
from greenml.learn.loop import evaluate
from greenml.learn.setup import prepare
from greenml.records import Notice, Progress, Run
from greenml.store import Store


@register_dataset("noise", usage="noise")
def noise(asked):
    """32,000 random images of 32 px: the cost of a step does not depend on what is in them."""
    yield Progress(what="reading", done=1, total=1)
    random = np.random.default_rng(0)
    return Images(
        images=random.integers(0, 256, (32_000, 32, 32, 3), dtype=np.uint8),
        labels=random.integers(0, 10, 32_000),
        num_train=30_000,
        classes=[str(label) for label in range(10)],
        data_hash="noise",
        resize="none",
        augment="crop-flip",
    )


EPOCHS = 1
CONFIG = configs.validate({"model": "cnn", "dataset": "noise", "epochs": EPOCHS, "device": "cpu"})


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        figures = [
            *bench_loop(Path(folder)),
            *bench_boundary(),
            *bench_meter.bench(),
            bench_allocator(),
            *bench_store.bench(Path(folder)),
            *bench_stress.bench(Path(folder)),
            *bench_forecast.bench(Path(folder)),
            *bench_grid.bench(),
            *bench_sweep.bench(),
            *bench_compress.bench(),
        ]
    width = max(len(figure.name) for figure in figures)
    print(f"{hardware()['cpu']}, {torch.get_num_threads()} threads, {platform.system()}")
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    for figure in figures:
        print(f"{figure.name:<{width}}  {figure.value:>22}  n={figure.n:<5} {figure.spread}")


def spread(values: list[float], unit: str = "") -> str:
    return f"{min(values):.3g} to {max(values):.3g}{unit}"


def bench_loop(folder: Path, *, num_pairs: int = 8) -> list[Figure]:
    """A whole run with meter and store against a bare loop of the same model, data path and precision."""
    store = Store(folder / "loop.duckdb")
    store.check()
    wall, cpu = [], []
    for pair in range(num_pairs + 1):
        if pair % 2:  # whoever comes second finds a warmer machine, so they take turns
            bare, whole = _timed(_bare(folder)), _timed(_with_greenml(store, folder, f"{pair:012x}"))
        else:
            whole, bare = _timed(_with_greenml(store, folder, f"{pair:012x}")), _timed(_bare(folder))
        if pair:  # the first pair warms up
            wall.append(whole[0] / bare[0])
            cpu.append(whole[1] / bare[1])
    between = store.rows(
        """
        select sum(epoch_us(ended_at) - epoch_us(started_at)) filter (name = 'record')
            / sum(epoch_us(ended_at) - epoch_us(started_at)) filter (name != 'setup') as share
        from phases group by run_id order by run_id
        """
    )[1:]
    shares = [100 * row["share"] for row in between]
    name = "a run of one epoch of 27,000 images / a bare loop (cnn)"
    return [
        Figure(f"{name}, wall", f"{statistics.median(wall):.4f}", len(wall), spread(wall)),
        Figure(f"{name}, CPU time", f"{statistics.median(cpu):.4f}", len(cpu), spread(cpu)),
        Figure("of it between the windows (rows)", f"{statistics.median(shares):.2f} %", len(shares), spread(shares)),
    ]


def _timed(steps) -> tuple[float, float]:
    """Wall and CPU seconds of what comes after the first step, which is the set-up."""
    next(steps)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in steps:
        pass
    return time.perf_counter() - wall, time.process_time() - cpu


def _bare(folder: Path):
    setup = finish(prepare(CONFIG, torch.device("cpu")))[1]
    yield
    best = -1.0
    for epoch in range(1, EPOCHS + 1):
        for _ in setup.learner.train_epoch(setup.train, epoch):
            pass
        accuracy = finish(setup.learner.evaluate(setup.val, epoch))[1].accuracy
        if accuracy > best:
            best = accuracy
            artifact.save(folder / "bare.pt", setup.learner.averaged, setup.description)
    model, _ = artifact.load(folder / "bare.pt")
    finish(evaluate(model, setup.test, CONFIG.batch_size, "fp32", torch.device("cpu")))


def _with_greenml(store: Store, folder: Path, run_id: str):
    pending = []
    with energy.open_meter(run_id) as meter:
        for record in run.train(CONFIG, meter, WORLD, run_id=run_id, folder=folder):
            if isinstance(record, Run):
                store.write([record])
                yield
            elif not isinstance(record, Progress | Notice):
                pending.append(record)
                if type(record).__name__ in ("Epoch", "RunEnd"):
                    store.write(pending)
                    pending = []


def bench_boundary(*, num_windows: int = 200) -> list[Figure]:
    """What entering and leaving a window costs, CodeCarbon read at both ends."""
    costs = []

    def timed(step):
        time.sleep(0.055)  # past the 50 ms within which CodeCarbon does not read again
        start = time.perf_counter()
        step()
        costs.append(1000 * (time.perf_counter() - start))

    with energy.open_meter("boundary") as meter, ExitStack() as stack:
        meter.wait_until_ready()
        for epoch in range(num_windows):
            timed(partial(stack.enter_context, meter.window("train", epoch)))
            timed(stack.close)
    p95 = statistics.quantiles(costs, n=20)[-1]
    return [
        Figure("boundary of the meter, median", f"{statistics.median(costs):.2f} ms", len(costs), f"p95 {p95:.2f} ms")
    ]


STEPS = """
import sys, time, torch
from greenml.learn import allocator, models
if sys.argv[1] == "keep":
    allocator.keep_memory()
model, _ = models.create("cnn", num_classes=10, in_chans=3, image_size=32, model_args={})
model = model.to(memory_format=torch.channels_last)
images = torch.randn(128, 3, 32, 32).to(memory_format=torch.channels_last)
for step in range(60):
    if step == 10:
        start = time.perf_counter()
    model(images).square().mean().backward()
    model.zero_grad()
print(time.perf_counter() - start)
"""


def bench_allocator(*, num_pairs: int = 5) -> Figure:
    """Steps with freed memory kept by glibc against steps with its defaults; a process each."""
    ratios = []
    for _ in range(num_pairs):
        keep, default = (
            float(subprocess.run([sys.executable, "-c", STEPS, how], capture_output=True, text=True, check=True).stdout)
            for how in ("keep", "default")
        )
        ratios.append(keep / default)
    return Figure("step with memory kept / default", f"{statistics.median(ratios):.3f}", len(ratios), spread(ratios))


if __name__ == "__main__":
    main()
