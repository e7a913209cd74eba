"""How far forecasts are off, over recorded runs, and beside them the forecast that others make.

`tests/data/forecasts.jsonl.gz` holds real runs: `python tests/bench_forecast.py --record STORE...` writes it anew, and
without arguments it prints the table. Others multiply the mean epoch by the number of epochs (carbontracker).
"""

from __future__ import annotations

import dataclasses
import gzip
import re
import statistics
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench_store import Figure
from conftest import records

from greenml import config as configs
from greenml import forecast
from greenml.cli import forecasts
from greenml.records import Epoch, Phase, Resume, Run, RunEnd, Source, from_json, to_json
from greenml.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from greenml.forecast import Forecast
    from greenml.records import Stored

RECORDED = Path(__file__).parent / "data" / "forecasts.jsonl.gz"
SEEN = 2
"""Epochs that a forecast is made after."""
STEADY = 0.08
"""Runs whose epochs differ less than this are also shown apart: what nobody could foresee did not happen to them."""
BUSY = 5.0
"""The fixture was recorded on two CPUs that others used, too, and runs say in their notes how much. Above this load
average epochs took up to ten times as long as the ones before, and history says nothing."""


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

    @property
    def unsteadiness(self) -> float:
        """Standard deviation of the energy of its epochs after the first, relative to their mean."""
        own = [sum(p.joules for p in self.phases if p.epoch == epoch.epoch) for epoch in self.epochs[1:]]
        return statistics.pstdev(own) / statistics.fmean(own)

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
    longer = [run for run in runs if len(run.epochs) > seen]
    made = [run.after(seen) for run in longer]
    return Errors(
        [off(one.energy_j.value, run.energy_j) for one, run in zip(made, longer, strict=True)],
        [off(one.duration_s.value, run.duration_s) for one, run in zip(made, longer, strict=True)],
        [off(run.linear_j(seen), run.energy_j) for run in longer],
        [one.energy_j.low <= run.energy_j <= one.energy_j.high for one, run in zip(made, longer, strict=True)],
    )


def unhurried(runs: Sequence[Recorded]) -> list[Recorded]:
    """Those during which the machine was not overloaded."""
    return [run for run in runs if max(map(float, re.findall(r"\d+\.\d+", run.run.note or "")), default=0.0) <= BUSY]


def steady(runs: Sequence[Recorded]) -> list[Recorded]:
    """Those that had the machine to themselves, as far as their epochs tell."""
    return [run for run in runs if len(run.epochs) > SEEN and run.unsteadiness < STEADY]


def before_epochs(folder: Path) -> dict[str, Errors]:
    """Forecasts before the first epoch, each from all other runs: by how near the runs are that they rest on."""
    store = Store(folder / "forecasts.duckdb")
    store.check()
    runs = unhurried(recorded())
    store.write(row for run in runs for row in [run.run, *run.phases, *run.epochs, run.end])
    found: dict[str, Errors] = {}
    for run in runs:
        config = configs.validate({key: run.run.config[key] for key in configs.KEYS if key in run.run.config})
        made = forecasts.before(store, dataclasses.asdict(run.run), config, run.run.intensity)
        if made is None:
            continue
        own = found.setdefault(made.level, Errors([], [], [], []))
        own.energy.append(off(made.energy_j.value, run.energy_j))
        own.duration.append(off(made.duration_s.value, run.duration_s))
        own.inside.append(made.energy_j.low <= run.energy_j <= made.energy_j.high)
    return found


def bench(folder: Path) -> list[Figure]:
    """The forecasts' part of `make bench`."""
    runs = recorded()
    figures = []
    for name, seen, chosen in (
        ("after 1 epoch", 1, runs),
        (f"after {SEEN} epochs", SEEN, runs),
        (f"after {SEEN} epochs, load average up to {BUSY:g}", SEEN, unhurried(runs)),
        (f"after {SEEN} epochs, these differ by less than {100 * STEADY:.0f} %", SEEN, steady(runs)),
    ):
        errors = after_epochs(chosen, seen)
        figures += [
            line(f"forecast {name}: energy", errors.energy),
            line("  time", errors.duration),
            line("  energy, mean epoch x epochs, as others do", errors.linear),
            inside(errors),
        ]
    for level, errors in sorted(before_epochs(folder).items()):
        figures += [line(f"forecast from {level}", errors.energy), inside(errors)]
    return figures


def line(name: str, errors: Sequence[float]) -> Figure:
    spread = f"p95 {100 * p95(errors):.1f} %, worst {100 * max(errors):.1f} %"
    return Figure(name, f"{100 * statistics.median(errors):.1f} % median error", len(errors), spread)


def inside(errors: Errors) -> Figure:
    share = 100 * statistics.mean(errors.inside)
    return Figure("  energy within the interval (90 % promised)", f"{share:.0f} %", len(errors.inside), "")


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
