"""What the meter costs, and what it says beside CodeCarbon itself; part of `make bench`.

python tests/bench_meter.py runs it alone.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time

from bench_store import Figure

from greenml import energy

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
    """CPU time of the measuring thread, and of the whole process, while the run sleeps and the heart beats."""
    figures = []
    for scope in ("machine", "process"):
        threads, whole = [], []
        with energy.open_meter("thread", settings=energy.Settings(scope=scope)) as meter:
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
        figures += [
            _percent(f"meter, scope {scope}: its thread, of a core", threads),
            _percent(f"meter, scope {scope}: the process around it, of a core", whole),
        ]
    return figures


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
    return Figure(name, f"{statistics.median(values):.3f} s", len(values), f"{min(values):.3f} to {max(values):.3f} s")


def _percent(name: str, values: list[float]) -> Figure:
    return Figure(name, f"{statistics.median(values):.3f} %", len(values), f"{min(values):.3f} to {max(values):.3f} %")


def _ratio(name: str, values: list[float]) -> Figure:
    return Figure(name, f"{statistics.median(values):.4f}", len(values), f"{min(values):.4f} to {max(values):.4f}")


if __name__ == "__main__":
    for figure in bench():
        print(f"{figure.name:<66}  {figure.value:>10}  n={figure.n:<3} {figure.spread}")
