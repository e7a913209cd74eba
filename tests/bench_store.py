"""How fast the store is: views warm, `board` and `report` cold, epochs written by one and by eight processes.

`greenml.store` alone opens DuckDB, this file apart: it fills a store with a million epochs at once.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import duckdb
from conftest import make_end, make_epoch, make_phase, make_run, make_study, make_sweep, make_trial

from greenml.config import Config
from greenml.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VIEWS = {
    "leaderboard": "from leaderboard",
    "leaderboard_groups": "from leaderboard_groups",
    "run_totals": "from run_totals",
    "pareto_front": "from pareto_front",
    "optimal_epoch": "from optimal_epoch",
    "recipes": "from recipes",
    # Hundreds of thousands of rows and more: what it takes to bring them to Python is not the view's.
    "recipe_epochs": "select sum(accuracy), max(std_accuracy), sum(energy_kwh), sum(co2_g) from recipe_epochs",
    "swaps": "from swaps",
    "savings": "from savings",
    "marginal": "select sum(gained_points), sum(wh_per_point), sum(g_per_point) from marginal",
    "marginal, one run": "from marginal where run_id = (select min(run_id) from runs) order by epoch",
    "energy_to_accuracy": "from energy_to_accuracy(0.8)",
    "epochs": "select sum(energy_j), max(val_accuracy), sum(co2_g) from epochs",
    "epochs, one run": "from epochs where run_id = (select min(run_id) from runs) order by epoch",
    "phases": "select name, sum(joules), max(source) from phases group by name",
}

SWEEP_VIEWS = {
    name: f"from {name}" for name in ("trials", "sweeps", "sweep_front", "sweep_progress", "sweep_importance")
}
"""Beside the others: of a search of 300 of the runs."""


class Figure(NamedTuple):
    """One line of the bench table."""

    name: str
    value: str
    n: int
    spread: str


def fill(path: Path, *, num_runs: int = 10_000, num_epochs: int = 100) -> None:
    """A store of `num_runs` x `num_epochs` epochs and three phases for each: recipes of four seeds in grids."""
    store = Store(path)
    store.check()
    store.write([make_run("template0000", config=dataclasses.asdict(Config(model="cnn", epochs=num_epochs)))])
    con = duckdb.connect(f"duckdb:{path}")  # noqa: TID251
    con.execute("pragma threads=2; set preserve_insertion_order=true; select setseed(0.5)")
    con.execute(
        f"""
        insert into run_rows by name
        select template.* replace (
            nextval('run_keys') as run_key, format('{{:012x}}', i) as run_id, 'done' as status,
            ['cnn', 'resnet18', 'mobilenetv2_050'][1 + i % 3] as model,
            ['digits', 'cifar10', 'folder:pets'][1 + i % 3] as dataset,
            started_at + to_minutes(i) as started_at, started_at + to_minutes(i + 1) as ended_at,
            {num_epochs} as best_epoch, 0.5 + random() / 2 as val_accuracy, 0.5 + random() / 2 as test_accuracy,
            360 as test_count, 200 as test_correct,
            i % 4 as seed, format('{{:04x}}', i // 12 * 3 + i % 3) as group_hash,
            json_merge_patch(config, json_object(
                'precision', ['fp32', 'bf16'][1 + i // 12 % 2], 'early_stop', i // 24 % 2 = 1,
                'batch_size', 32 << (i // 48 % 4), 'lr', 0.001 + i // 192 / 1e4, 'weight_decay', 0.01 + i // 192 / 1e3,
                'seed', i % 4
            )) as config
        )
        from range({num_runs}) as t(i), (from run_rows limit 1) as template;
        delete from run_rows where run_id = 'template0000';
        insert into epoch_rows by name
        select
            run_key, 0 as segment, epoch, 1 / epoch as train_loss, 0.8 as train_accuracy, 1 / epoch as val_loss,
            round(288 * (1 - 0.9 / sqrt(epoch) * (0.7 + random() / 3))) / 288 as val_accuracy,
            200 as val_correct, 288 as val_count, 0.001 as lr, 10 as duration_s, 50 as cpu_j, 0 as gpu_j, 10 as ram_j,
            60 as energy_j, 60 * epoch * (0.5 + run_key % 100 / 100) as energy_total_j, 'estimated' as source,
            true as schedule_complete, 1149 as num_samples, 500000000 as peak_host_bytes
        from runs, range(1, {num_epochs} + 1) as t(epoch)
        order by run_key, epoch;
        insert into phase_rows by name
        select
            run_key, 0 as segment, seq, ['train', 'validate', 'checkpoint'][1 + seq % 3] as name, 1 + seq // 3 as epoch,
            'cpu' as device, started_at + to_seconds(seq) as started_at, started_at + to_seconds(seq + 1) as ended_at,
            random() * 100 as cpu_j, 0 as gpu_j, random() * 5 as ram_j, 'estimated' as cpu_source,
            'absent' as gpu_source, 'estimated' as ram_source, 'replayed' as method, 0 as overlap_s
        from runs, range(3 * {num_epochs}) as t(seq)
        order by run_key, seq;
        insert into totals by name from phase_totals
        """
    )
    con.close()


def timed(name: str, once: Callable[[], object], n: int) -> Figure:
    """Median and range of `n` calls, in milliseconds."""
    took = []
    for _ in range(n):
        began = time.perf_counter()
        once()
        took.append(1e3 * (time.perf_counter() - began))
    return Figure(name, f"{statistics.median(took):.0f} ms", n, f"{min(took):.0f} to {max(took):.0f} ms")


def search(path: Path, *, num_trials: int = 300) -> None:
    """Make the first runs of a store the trials of a sweep."""
    store, sweep_id = Store(path), "5" * 12
    ids = [row["run_id"] for row in store.rows("select run_id from runs order by run_id limit ?", [num_trials])]
    trials = [make_trial(sweep_id, i, state="complete", attempts=[run_id]) for i, run_id in enumerate(ids)]
    store.write([make_sweep(sweep_id), make_study(sweep_id), make_phase(sweep_id, 0), *trials, make_end(sweep_id)])


def bench_views(path: Path, views: dict[str, str] = VIEWS, *, n: int = 9) -> list[Figure]:
    """Each view over the store at `path`, on an open connection."""
    con = duckdb.connect(f"duckdb:{path}", read_only=True)  # noqa: TID251
    for sql in views.values():
        con.execute(sql).fetchall()
    return [timed(f"view {name}, warm", lambda sql=sql: con.execute(sql).fetchall(), n) for name, sql in views.items()]


def bench_board(path: Path, *, n: int = 9) -> list[Figure]:
    """`greenml board`, `recommend` and `--help` as processes."""
    return [
        timed("greenml board, cold", lambda: run("board", "--store", str(path)), n),
        timed("greenml recommend, cold", lambda: run("recommend", "--store", str(path)), n),
        timed("greenml --help, cold", lambda: run("--help"), n),
    ]


def bench_report(folder: Path, *, n: int = 9) -> list[Figure]:
    """`greenml report` as a process, of 100 runs of 100 epochs, and how large its page is."""
    path, page = folder / "report.duckdb", folder / "report.html"
    fill(path, num_runs=100)
    took = timed("greenml report of 100 runs, cold", lambda: run("report", "--store", str(path), "-o", str(page)), n)
    return [took, Figure("its page", f"{page.stat().st_size / 1e6:.2f} MB", 1, "may have 2.5 MB")]


def run(*arguments: str) -> None:
    """greenml as a process, unheard."""
    command = [sys.executable, "-m", "greenml", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def write_epochs(path: Path, run_id: str, num_epochs: int | str) -> list[float]:
    """Milliseconds of every write; an epoch each 0.5 s, as small trainings have."""
    store = Store(path)
    store.write([make_run(run_id)])
    took = []
    for epoch in range(1, int(num_epochs) + 1):
        time.sleep(0.5)
        began = time.perf_counter()
        assert store.write([make_epoch(run_id, epoch)])
        took.append(1e3 * (time.perf_counter() - began))
    return took


def bench_writes(path: Path, *, num_epochs: int = 20) -> list[Figure]:
    """Epoch writes with 1 and 8 processes at once."""
    code = "import sys, pathlib, bench_store as b; print(*b.write_epochs(pathlib.Path(sys.argv[1]), *sys.argv[2:]))"
    figures = []
    for num_writers in (1, 8):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(path), os.urandom(6).hex(), str(num_epochs)],
                cwd=os.path.dirname(__file__),
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(num_writers)
        ]
        took = sorted(float(word) for writer in writers for word in writer.communicate()[0].split())
        assert len(took) == num_writers * num_epochs
        figures += [
            Figure(
                f"epoch write, {num_writers} writer{'s' * (num_writers > 1)}",
                f"{statistics.median(took):.0f} ms, p95 {took[int(0.95 * len(took))]:.0f} ms",
                len(took),
                f"{took[0]:.0f} to {took[-1]:.0f} ms",
            )
        ]
    return figures


def bench(folder: Path) -> list[Figure]:
    """All of it, in a folder that may be filled."""
    path = folder / "million.duckdb"
    fill(path)
    figures = [*bench_views(path), *bench_board(path), *bench_report(folder), *bench_writes(folder / "writes.duckdb")]
    search(path)
    return [*figures, *bench_views(path, SWEEP_VIEWS, n=3)]
