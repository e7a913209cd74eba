"""Before the first epoch: what runs on this machine took for each operation that they computed.

A run's work is counted in floating-point operations: one forward pass for each image that is validated or tested,
three for each that is trained on, as a backward pass computes twice what a forward pass does. Joules and seconds per
operation differ tenfold between architectures, so the nearest runs decide: the same model, else its family, else any.
What they took is pooled (sums over sums), so that runs of a second weigh as little as they worked.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from greenml.forecast.spans import Budgets, Costs, Forecast, Span, around, total

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

Row = Mapping[str, Any]

COMPONENTS = ("cpu", "gpu", "ram")

TRAINING_PASSES = 3
"""Forward passes that training on a sample is worth."""

NEWEST = 20
"""So many of the nearest runs count: what a machine did long ago says less."""

LEVELS = (
    ("this model, batch and image size", 0.50),
    ("this model with another batch or image size", 0.50),
    ("this model with another precision or number of threads", 0.60),
    ("other models of its family", 0.80),
    ("other models of its family with another precision or number of threads", 0.90),
    ("models of other families", 2.50),
    ("models of other families with another precision or number of threads", 2.50),
)
"""How near a run is, best first, and the spread (standard deviation of logarithms) to expect between two runs that are
so near, before this history shows its own; it counts as much as PRIOR_COUNT pairs of runs. Between the recorded runs it
was 0.39, 0.41, 0.53, 0.56, 2.1 and 2.3, from the second level on (tests/bench_forecast.py); what is here is rounded up
until about nine in ten of them ended in their intervals. No two of them are of the first level."""
PRIOR_COUNT = 10
"""Pairs share their runs: ten pairs are five runs."""
MICRO_S = 5.0
"""Runs that worked less than this say nothing of the spread; pooled with others, they say something of the mean."""
SPREAD_RUNS = 50
SETUP_SD = 0.4
"""The same of two set-ups."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What decides how near two runs are."""

    model: str
    family: str
    """Of architectures."""
    how: tuple[object, ...]
    """Precision and CPU threads."""
    shape: tuple[object, ...]
    """Batch and image size."""

    def level(self, other: Kind) -> int:
        """How near the other is, as an index into LEVELS."""
        if self.model == other.model:
            return 2 if self.how != other.how else int(self.shape != other.shape)
        return (3 if self.family == other.family else 5) + (self.how != other.how)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be trained and where, as far as a forecast must know it."""

    kind: Kind
    dataset: str
    machine: tuple[object, ...]
    """What must be equal for a run of the past to count: see `machine`, ..."""
    metering: tuple[object, ...]
    """... and `metering`."""
    methods: tuple[object, ...] | None
    """How its joules are known; None before its meter has started: then as those of the newest run here."""
    flops_per_sample: int | None
    num_train: int
    """Images of an epoch that are trained on."""
    num_val: int
    num_test: int
    epochs: int

    def training_flops(self, per_sample: float) -> float:
        """Of all epochs, validation included."""
        return per_sample * self.epochs * (TRAINING_PASSES * self.num_train + self.num_val)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Past:
    """A run of the history."""

    run_id: str
    started_at: datetime
    kind: Kind
    dataset: str
    flops: float
    """Of its whole epochs and its test."""
    seconds: float
    """The same."""
    joules: float | None
    num_setups: int
    setup_s: float
    setup_j: float | None
    metered: dict[str, dict[str, object]]


def machine(run: Row) -> tuple[object, ...]:
    """What must be equal for runs to be comparable: processors and device."""
    hardware = run["hardware"]
    return (hardware.get("cpu"), hardware.get("threads"), hardware.get("gpu"), run["device"])


def metering(run: Row) -> tuple[object, ...]:
    """How it was asked to be metered: the scope, the meter, and the TDP that its model is given."""
    config = run["config"]
    return (run["scope"], config.get("meter", "codecarbon"), config.get("tdp"))


def methods(run: Row) -> tuple[object, ...]:
    """How the joules of each component are known."""
    return tuple((run["meter"].get(part) or {}).get("method") for part in COMPONENTS)


def kind(run: Row) -> Kind:
    """Of a row of `runs` with its `family`."""
    how, shape = (run["precision"], run["hardware"].get("torch_threads")), (run["batch_size"], run["image_size"])
    return Kind(run["model"], run["family"], how, shape)


def before(work: Work, history: Sequence[Row], budgets: Budgets | None = None) -> Forecast | None:
    """The forecast before the first epoch; None where this machine has no history, or the model cannot be counted.

    A row of `history` is a run: the columns of `runs`, its `family`, and from its phases `num_lives`, `setup_s`,
    `setup_j`, `work_s`, `work_j` (its whole epochs and its test) and the samples `num_trained` and `num_evaluated` in
    them. Joules are None where a component could not be read.
    """
    alike = [row for row in history if (machine(row), metering(row)) == (work.machine, work.metering)]
    alike.sort(key=itemgetter("started_at"), reverse=True)
    # A driver or a permission changes what joules mean: those of before are another meter's.
    runs = [_past(row, work) for row in alike if methods(row) == (work.methods or methods(alike[0]))]
    usable = [run for run in runs if run.flops and run.seconds]
    usable = [run for run in usable if run.joules and run.setup_j] or usable
    if not usable or not work.flops_per_sample:
        return None
    level = min(work.kind.level(run.kind) for run in usable)
    nearest = [run for run in usable if work.kind.level(run.kind) == level][:NEWEST]
    setups = ([run for run in usable if run.dataset == work.dataset] or usable)[:NEWEST]
    rate = _rate(usable, nearest, level)
    whole = total(
        _setup(setups),
        rate.scaled(work.training_flops(work.flops_per_sample)),
        rate.scaled(work.num_test * work.flops_per_sample),
        budgets or Budgets(),
    )
    return Forecast(
        energy_j=whole.joules,
        duration_s=whole.seconds,
        at_most=budgets is not None and budgets.is_any,
        num_epochs=0,
        level=LEVELS[level][0],
        run_ids=tuple(run.run_id for run in nearest),
        newest_at=nearest[0].started_at,
        metered=nearest[0].metered,
    )


def _past(row: Row, work: Work) -> _Past:
    per_sample = row["flops_per_sample"]
    if per_sample is None and (row["model"], row["image_size"]) == (work.kind.model, work.kind.shape[1]):
        per_sample = work.flops_per_sample  # it began before operations were counted
    return _Past(
        run_id=row["run_id"],
        started_at=row["started_at"],
        kind=kind(row),
        dataset=row["dataset"],
        flops=(per_sample or 0) * (TRAINING_PASSES * row["num_trained"] + row["num_evaluated"]),
        seconds=row["work_s"],
        joules=row["work_j"],
        num_setups=row["num_lives"],
        setup_s=row["setup_s"],
        setup_j=row["setup_j"],
        metered={part: _known_by(row["meter"].get(part) or {}) for part in COMPONENTS},
    )


def _known_by(component: Row) -> dict[str, object]:
    """What the meter said of a component, without its constants."""
    return {"source": component.get("source"), "method": component.get("method")}


def _rate(usable: Sequence[_Past], nearest: Sequence[_Past], level: int) -> Costs:
    """Seconds and joules for each operation: pooled over the nearest runs, with the spread of all that are so near."""
    flops = sum(run.flops for run in nearest)
    pairs = [
        (one, other)
        for one, other in itertools.combinations([run for run in usable if run.seconds >= MICRO_S][:SPREAD_RUNS], 2)
        if one.kind.level(other.kind) == level
    ]

    def pooled(values: Sequence[float], logs: Sequence[float]) -> Span:
        squares = sum(log**2 for log in logs) + PRIOR_COUNT * LEVELS[level][1] ** 2
        # `squares` is of two single runs; the mean of n runs lies nearer.
        sd = math.sqrt(squares / (len(logs) + PRIOR_COUNT) * (1 + 1 / len(values)) / 2)
        return around(sum(values) / flops, sd)

    seconds = pooled(
        [run.seconds for run in nearest],
        [math.log(one.seconds / one.flops / other.seconds * other.flops) for one, other in pairs],
    )
    joules = [run.joules for run in nearest if run.joules]
    if len(joules) < len(nearest):
        return Costs(seconds, None)
    logs = [
        math.log(one.joules / one.flops / other.joules * other.flops)
        for one, other in pairs
        if one.joules and other.joules
    ]
    return Costs(seconds, pooled(joules, logs))


def _setup(runs: Sequence[_Past]) -> Costs:
    """What a set-up takes: one for each life of a process."""
    num_setups = [run.num_setups for run in runs]

    def one(values: Sequence[float]) -> Span:
        mean = sum(values) / sum(num_setups)
        logs = [math.log(value / num / mean) for value, num in zip(values, num_setups, strict=True)]
        spread = (sum(log**2 for log in logs) + PRIOR_COUNT * SETUP_SD**2) / (len(logs) - 1 + PRIOR_COUNT)
        return around(mean, math.sqrt(spread * (1 + 1 / len(logs))))

    joules = [run.setup_j for run in runs if run.setup_j]
    return Costs(one([run.setup_s for run in runs]), one(joules) if len(joules) == len(runs) else None)
