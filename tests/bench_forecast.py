"""How far forecasts are off, over recorded runs, and beside them the forecast that others make.

`tests/data/forecasts.jsonl.gz` holds real runs: `python tests/bench_forecast.py --record STORE...` writes it anew, and
without arguments it prints the table. Others multiply the mean epoch by the number of epochs (carbontracker).
"""

from __future__ import annotations

import dataclasses
import gzip
import math
import statistics
import sys
import tempfile
from collections import defaultdict
from itertools import combinations, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench_store import Figure
from conftest import records

from greenml import config as configs
from greenml import forecast
from greenml.cli import forecasts
from greenml.forecast.history import LEVELS, MICRO_S, TRAINING_PASSES
from greenml.records import Epoch, Phase, Resume, Run, RunEnd, Source, from_json, to_json
from greenml.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from greenml.forecast import Forecast
    from greenml.records import Stored

RECORDED = Path(__file__).parent / "data" / "forecasts.jsonl.gz"
SEEN = 2
"""Epochs that a forecast is made after."""


@dataclasses.dataclass
class Recorded:
    """A run that ended by its last epoch, as its records were."""

    run: Run
    phases: list[Phase]
    epochs: list[Epoch]
    end: RunEnd

    @property
    def energy_j(self) -> float:
        return sum(phase.joules for phase in self.phases)

    @property
    def duration_s(self) -> float:
        return sum(seconds(phase) for phase in self.phases)

    def until(self, epoch: int) -> list[Phase]:
        """The phases that are over when this epoch has ended."""
        last = max(i for i, phase in enumerate(self.phases) if phase.epoch == epoch and phase.name != "record")
        return self.phases[: last + 1]

    def after(self, epoch: int) -> Forecast:
        """The forecast after this epoch."""
        ledger = forecast.Ledger()
        for phase in self.until(epoch):
            ledger.add(phase)
        sizes = {"num_val": self.run.num_val, "num_test": self.run.num_test}
        return forecast.after(ledger, done=epoch, epochs=len(self.epochs), **sizes)

    def linear_j(self, epoch: int) -> float:
        """What others say after this epoch: the mean epoch so far, times the epochs."""
        own = [p.joules for p in self.until(epoch) if p.epoch is not None]
        return sum(own) / epoch * len(self.epochs)


class Errors(NamedTuple):
    """Of forecasts, relative to what came; one a run."""

    energy: list[float]
    duration: list[float]
    linear: list[float]
    inside: list[bool]
    """Whether the energy lay in the interval."""


def recorded() -> list[Recorded]:
    """The runs of the fixture that ended by their last epoch, every joule known, nothing beside them."""
    with gzip.open(RECORDED, "rt", encoding="utf-8") as lines:
        return [*whole_runs(map(from_json, lines))]


def whole_runs(rows: Iterable[Stored]) -> Iterator[Recorded]:
    for _, own in groupby(rows, key=lambda row: row.run_id):
        run, *rest = own
        ends = [row for row in rest if isinstance(row, RunEnd)]
        phases = [row for row in rest if isinstance(row, Phase)]
        known = None not in [phase.joules for phase in phases]
        if known and ends and (ends[0].status, ends[0].stop_reason) == ("done", "epochs") and run.kind == "train":
            yield Recorded(run, phases, [row for row in rest if isinstance(row, Epoch)], ends[0])


def after_epochs(runs: Sequence[Recorded], seen: int = SEEN) -> Errors:
    """Forecasts after `seen` epochs, of the runs that had more."""
    return compared([(run, seen) for run in runs if len(run.epochs) > seen])


def after_all_epochs(runs: Sequence[Recorded]) -> Errors:
    """Forecasts after the last epoch, when only the test is open, and what comes after it."""
    return compared([(run, len(run.epochs)) for run in runs])


def compared(asked: Sequence[tuple[Recorded, int]]) -> Errors:
    """Forecasts of runs after so many epochs."""
    made = [(run, run.after(seen)) for run, seen in asked]
    return Errors(
        [off(one.energy_j.value, run.energy_j) for run, one in made],
        [off(one.duration_s.value, run.duration_s) for run, one in made],
        [off(run.linear_j(seen), run.energy_j) for run, seen in asked],
        [one.energy_j.low <= run.energy_j <= one.energy_j.high for run, one in made],
    )


def before_epochs(runs: Sequence[Recorded], past: Sequence[dict[str, Any]]) -> tuple[Errors, dict[int, Errors]]:
    """Forecasts before the first epoch, each out of all other runs; and the same by level: from the runs that are so
    near at most, as if there were no nearer ones."""
    nearest, by_level = Errors([], [], [], []), defaultdict[int, Errors](lambda: Errors([], [], [], []))
    for run in runs:
        config = configs.validate({key: run.run.config[key] for key in configs.KEYS if key in run.run.config})
        work = forecasts.work_of(dataclasses.asdict(run.run), config)
        levels = {row["run_id"]: work.kind.level(forecast.kind(row)) for row in past}
        others = [row for row in past if row["run_id"] != run.run.run_id]
        for level in sorted({levels[row["run_id"]] for row in others}):
            made = forecast.before(work, [row for row in others if levels[row["run_id"]] >= level])
            own = [by_level[level]] + [nearest] * (level == min(levels[row["run_id"]] for row in others))
            for errors in own:
                errors.energy.append(off(made.energy_j.value, run.energy_j))
                errors.duration.append(off(made.duration_s.value, run.duration_s))
                errors.inside.append(made.energy_j.low <= run.energy_j <= made.energy_j.high)
    return nearest, dict(sorted(by_level.items()))


def history_of(runs: Sequence[Recorded], folder: Path) -> list[dict[str, Any]]:
    """The runs as rows of the history that a store gives of them, for any of them."""
    store = Store(folder / "forecasts.duckdb")
    store.check()
    store.write(row for run in runs for row in [run.run, *run.phases, *run.epochs, run.end])
    return forecasts.history(store, dataclasses.asdict(runs[0].run) | {"run_id": ""})


def spreads(past: Sequence[dict[str, Any]]) -> dict[int, list[float]]:
    """By level, the logarithms of the ratios of joules an operation of any two runs that are so near."""
    found = defaultdict(list)
    for one, other in combinations([row for row in past if row["work_s"] >= MICRO_S], 2):
        rates = [
            row["work_j"] / row["flops_per_sample"] / (TRAINING_PASSES * row["num_trained"] + row["num_evaluated"])
            for row in (one, other)
        ]
        found[forecast.kind(one).level(forecast.kind(other))].append(math.log(rates[0] / rates[1]))
    return dict(sorted(found.items()))


def bench(folder: Path) -> list[Figure]:
    """The forecasts' part of `make bench`."""
    runs = recorded()
    figures = []
    for name, errors in (
        ("after 1 epoch", after_epochs(runs, 1)),
        (f"after {SEEN} epochs", after_epochs(runs)),
        ("after the last epoch", after_all_epochs(runs)),
    ):
        figures += [
            line(f"forecast {name}: energy", errors.energy),
            line("  time", errors.duration),
            line("  energy, mean epoch x epochs, as others do", errors.linear),
            inside(errors),
        ]
    past = history_of(runs, folder)
    nearest, by_level = before_epochs(runs, past)
    named = {LEVELS[level][0]: errors for level, errors in by_level.items()}
    for name, errors in {"the nearest other runs": nearest, **named}.items():
        figures += [line(f"forecast from {name}", errors.energy), inside(errors)]
    for level, logs in spreads(past).items():
        sd = math.sqrt(statistics.fmean(log**2 for log in logs))
        name, expected = LEVELS[level]
        figures.append(Figure(f"spread: {name}", f"{sd:.2f} (log. sd)", len(logs), f"pairs; expected {expected:.2f}"))
    return figures


def line(name: str, errors: Sequence[float]) -> Figure:
    spread = f"p95 {100 * p95(errors):.1f} %, worst {100 * max(errors):.1f} %"
    return Figure(name, f"{100 * statistics.median(errors):.1f} % median error", len(errors), spread)


def inside(errors: Errors) -> Figure:
    share = 100 * statistics.mean(errors.inside)
    return Figure("  energy within the interval (90 % is meant)", f"{share:.0f} %", len(errors.inside), "")


def p95(values: Sequence[float]) -> float:
    """Of the sorted values the one that 95 % do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


def off(said: float, came: float) -> float:
    return abs(said - came) / came


def seconds(phase: Phase) -> float:
    return (phase.ended_at - phase.started_at).total_seconds()


def record(paths: Sequence[Path]) -> None:
    """Every finished and metered run of some stores into the fixture, pieces of a phase put together."""
    with gzip.GzipFile(RECORDED, "wb", mtime=0) as file:
        for path in paths:
            for _, group in groupby(records(Store(path)), key=lambda row: row.run_id):
                own = [from_json(to_json(row)) for row in group]
                if any(isinstance(row, RunEnd) and row.status == "done" for row in own):
                    file.writelines((to_json(row) + "\n").encode() for row in compact(own))


def compact(rows: Sequence[Stored]) -> Iterator[Stored]:
    """Phases that a long one was cut into become one again; what is for people is left out."""
    merged: list[Phase] = []
    for row in rows:
        if isinstance(row, Run):
            yield dataclasses.replace(row, command="", forecast=None)
        if isinstance(row, Resume | Epoch | RunEnd):
            yield row
        if isinstance(row, Phase):
            last = merged[-1] if merged else None
            if last and (last.segment, last.name, last.epoch) == (row.segment, row.name, row.epoch):
                merged[-1] = together(last, row)
            else:
                merged.append(row)
    yield from merged


def together(one: Phase, other: Phase) -> Phase:
    """Two phases that follow each other, as one."""
    changes = {}
    for part in ("cpu", "gpu", "ram"):
        parts = [getattr(phase, f"{part}_j") for phase in (one, other)]
        changes[f"{part}_j"] = None if None in parts else sum(parts)
        changes[f"{part}_source"] = Source.worst([getattr(phase, f"{part}_source") for phase in (one, other)])
    return dataclasses.replace(one, ended_at=other.ended_at, overlap_s=one.overlap_s + other.overlap_s, **changes)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--record"]:
        record([Path(path) for path in sys.argv[2:]])
    else:
        with tempfile.TemporaryDirectory() as folder:
            for figure in bench(Path(folder)):
                print(f"{figure.name:<60}  {figure.value:>22}  n={figure.n:<4} {figure.spread}")
