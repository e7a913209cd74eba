"""What the meter costs, and what it says beside CodeCarbon itself; part of `make bench`.

python tests/bench_meter.py runs it alone.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from bench_store import Figure

from greenml import energy

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_S = 0.3
"""Goal: what starting the meter may take longer."""
MOST_PERCENT = 0.1
"""Goal: of a core, while the heart beats once a second."""
MOST_OFF = 0.01
"""Goal: how far from a plain CodeCarbon run, relative to it."""
NUM_WORKERS, NUM_THREADS = 8, 65
"""Of a data loader, and of each of its processes."""

WAIT = """
import sys, time
start = time.perf_counter()
from greenml import energy, run
if sys.argv[1] == "meter":
    meter = energy.open_meter("wait")
    meter.__enter__()
from greenml.learn import artifact, loop, precision, setup
loaded = time.perf_counter()
if sys.argv[1] == "meter":
    meter.wait_until_ready()
ready = time.perf_counter()
print(loaded - start, ready - loaded)
if sys.argv[1] == "meter":
    meter.__exit__(None, None, None)
"""

WORKER = """
import sys, threading
for _ in range(int(sys.argv[1]) - 1):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print(flush=True)
sys.stdin.read()
"""


def bench() -> list[Figure]:
    """All figures of the meter."""
    return [*bench_startup(), *bench_thread(), *bench_against_codecarbon()]


def bench_startup(*, num_pairs: int = 5) -> list[Figure]:
    """What a run waits for the meter once its own libraries are loaded, a process each; and what loading takes longer
    while the meter starts beside it."""
    waits, longer = [], []
    for pair in range(num_pairs):
        took = {}
        for how in ("meter", "none") if pair % 2 else ("none", "meter"):
            done = subprocess.run([sys.executable, "-c", WAIT, how], capture_output=True, text=True, check=True)
            took[how] = [float(word) for word in done.stdout.split()]
        waits.append(took["meter"][1])
        longer.append(sum(took["meter"]) - sum(took["none"]))
    return [
        _seconds("start-up: waiting for the meter when all else is loaded", waits),
        _seconds("start-up: with the meter - without it, until both are ready", longer),
    ]


def bench_thread(*, seconds: float = 5.0, num_times: int = 4) -> list[Figure]:
    """CPU time of the measuring thread, and of the whole process, while the run sleeps and the heart beats.

    What a share of processes costs depends on how many there are, and on their threads.
    """
    figures = []
    for scope, num_workers in (("machine", 0), ("process", 0), ("process", NUM_WORKERS)):
        threads, whole = [], []
        settings = energy.Settings(scope=scope)
        with _workers(num_workers), energy.open_meter("thread", settings=settings) as meter:
            meter.wait_until_ready()
            thread = next(each for each in threading.enumerate() if each.name == "greenml-meter")
            clock = time.pthread_getcpuclockid(thread.ident or 0)
            for _ in range(num_times):
                before = time.clock_gettime(clock), time.process_time(), time.perf_counter()
                time.sleep(seconds)
                after = time.clock_gettime(clock), time.process_time(), time.perf_counter()
                took = [now - then for now, then in zip(after, before, strict=True)]
                threads.append(100 * took[0] / took[2])
                whole.append(100 * took[1] / took[2])
        name = f"meter, scope {scope}" + f", {num_workers} x {NUM_THREADS} threads" * bool(num_workers)
        figures += [
            _percent(f"{name}: its thread, of a core", threads),
            _percent(f"{name}: the process around it, of a core", whole),
        ]
    return figures


@contextmanager
def _workers(number: int) -> Iterator[None]:
    """Children that wait until they are left."""
    with ExitStack() as stack:
        for _ in range(number):
            command = [sys.executable, "-S", "-c", WORKER, str(NUM_THREADS)]
            worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            stack.enter_context(worker).stdout.readline()
        yield


def bench_against_codecarbon(*, seconds: float = 10.0, num_times: int = 5) -> list[Figure]:
    """The same seconds by greenml's meter and by a plain tracker between its start and stop, under a changing load."""
    from codecarbon import OfflineEmissionsTracker

    total, cpu = [], []
    with energy.open_meter("beside") as meter:
        meter.wait_until_ready()
        for number in range(num_times):
            tracker = OfflineEmissionsTracker(
                country_iso_code="USA", output_methods=[], log_level="critical", allow_multiple_runs=True
            )
            tracker._ensure_hardware_ready()  # the second and more that it takes belongs to neither
            tracker.start()
            with meter.window("train", number):
                _work(seconds)
            tracker.stop()
            theirs = tracker.final_emissions_data
            time.sleep(1.1)  # a heartbeat settles what was split
            own = [phase for phase in meter.phases() if phase.name == "train" and phase.epoch == number]
            total.append(sum(phase.joules or 0.0 for phase in own) / (theirs.energy_consumed * 3.6e6))
            cpu.append(sum(phase.cpu_j or 0.0 for phase in own) / (theirs.cpu_energy * 3.6e6))
    return [
        _ratio("greenml / a plain CodeCarbon run beside it, total", total),
        _ratio("greenml / a plain CodeCarbon run beside it, CPU", cpu),
    ]


def _work(seconds: float) -> None:
    """One core busy for a second, then half a second of rest, again and again."""
    end = time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        while time.perf_counter() < min(now + 1.0, end):
            pass
        time.sleep(max(0.0, min(0.5, end - time.perf_counter())))


def _seconds(name: str, values: list[float]) -> Figure:
    return _judged(name, values, "{:.3f} s", f"at most {MOST_S:g} s", statistics.median(values) <= MOST_S)


def _percent(name: str, values: list[float]) -> Figure:
    return _judged(name, values, "{:.3f} %", f"at most {MOST_PERCENT:g} %", statistics.median(values) <= MOST_PERCENT)


def _ratio(name: str, values: list[float]) -> Figure:
    is_within = abs(statistics.median(values) - 1) <= MOST_OFF
    return _judged(name, values, "{:.4f}", f"within {100 * MOST_OFF:g} % of 1", is_within)


def _judged(name: str, values: list[float], form: str, goal: str, is_within: bool) -> Figure:
    """The median, and whether it keeps to its goal."""
    low, median, high = map(form.format, (min(values), statistics.median(values), max(values)))
    return Figure(name, median, len(values), f"{low} to {high}; goal {goal}: {'kept' if is_within else 'MISSED'}")


if __name__ == "__main__":
    for figure in bench():
        print(f"{figure.name:<66}  {figure.value:>10}  n={figure.n:<3} {figure.spread}")
