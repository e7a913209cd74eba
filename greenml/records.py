"""The nouns that travel: what a run yields, the store keeps and the screen shows."""

from __future__ import annotations

import dataclasses
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, get_args


class Source(StrEnum):
    """Where joules come from, best first: an aggregate is as good as its worst part.

    `sql/schema/` declares an enum in the same order; a test holds the two together.
    """

    ABSENT = "absent"
    """No such device in this machine: exactly 0 J."""
    MEASURED = "measured"
    """A hardware energy counter."""
    APPORTIONED = "apportioned"
    """A counter's joules split by time, where a window was too short to read it twice, or by CPU time and memory, where
    the scope is one process."""
    ESTIMATED = "estimated"
    """A power model."""
    UNKNOWN = "unknown"
    """The device is there and cannot be read: the joules are None, never 0."""

    @classmethod
    def worst(cls, sources: list[Source]) -> Source:
        """The source of a sum over `sources`."""
        order = list(cls)
        return max(sources, key=order.index)


SIGNS: dict[str, str] = {Source.APPORTIONED: "÷", Source.ESTIMATED: "~", Source.UNKNOWN: "≥"}
"""What stands before a figure whose joules were not all measured, by their source."""


def total(*parts: float | None) -> float | None:
    """The sum; None where a part is unknown: a sum over a gap is no total."""
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def new_run_id() -> str:
    """12 hex digits, globally unique in practice (48 random bits)."""
    return uuid.uuid4().hex[:12]


def utc_now() -> datetime:
    """This moment: UTC, naive, as are all that are kept."""
    return datetime.now(UTC).replace(tzinfo=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intensity:
    """Grams of CO2e per kWh, and how much there is behind the figure."""

    g_per_kwh: float
    level: str
    """What the factor covers: `cloud`, `subdivision`, `zone`, `country` or `world`; `file` where an imported file gave
    grams and joules, and not what lies between them; `fixed` where the user gave it; `trace` and `live` where
    phases have intensities of their own, and the factor counts in their gaps alone."""
    region_asked: str | None
    """As the user wrote it; None where nothing was asked."""
    region_used: str
    """The region whose factor it is, in words: "India", "California, United States"."""
    year: int | None
    source: str
    """Who publishes the factor."""
    note: str
    """One line for people: "IN-TN: no state factor; India, 713 g/kWh, 2023"."""
    country: str | None = None
    """The everyday name of the country; None where it is the average of the world."""
    pue: float = 1.0
    """Power usage effectiveness of the site; multiplies joules into grams, never into joules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as it starts: everything asked, resolved and found, before the first batch.

    A run that greenml did not train itself knows what it was told, and None of the rest.
    """

    run_id: str
    kind: str
    """`train`, `trial` or `compress`; `sweep` for what a search took beside its trials; `track` and `import` for what
    others trained; `calibrate` for a few steps that a forecast needs, `estimate` for what was never metered."""
    name: str | None
    tags: list[str]
    note: str | None = None
    parent: str | None
    """The sweep of a trial; the run out of whose model a compressed one was made."""
    method: str | None = None
    """How a compressed model was made of its parent's: `prune 0.3, int8`; None for what was trained."""
    model: str
    dataset: str
    data_hash: str | None = None
    split_hash: str | None = None
    num_classes: int | None = None
    num_train: int | None = None
    num_val: int | None = None
    num_test: int | None = None
    majority_share: float | None = None
    """Share of the most frequent class in the test split, 0 to 1: what no learning at all would score."""
    image_size: int | None = None
    resize: str | None = None
    """The resize policy that was applied, in words."""
    stem: str | None = None
    """How the first layers were adapted to small images, in words; `as published` where they were not."""
    num_parameters: int | None = None
    precision_asked: str | None = None
    precision: str | None = None
    batch_size: int | None = None
    grad_accum: int = 1
    """Batches whose gradients make one step."""
    accumulation: str | None = None
    """In words, whether that equals a step on one large batch; None where nothing is accumulated."""
    epochs_asked: int | None = None
    seed: int | None = None
    split_seed: int | None = None
    flops_per_sample: int | None = None
    """Floating-point operations of one forward pass for one sample; a multiplication and an addition are two."""
    scope: str = "machine"
    """What the meter counts: the whole `machine`, or the share of this `process` and its children."""
    metric: str = "accuracy"
    """What the run is judged by, ..."""
    goal: str = "max"
    """... and whether more of it is better (`max`) or less (`min`)."""
    season: str | None = None
    config: dict[str, Any]
    """Every key, resolved: running it again repeats the run."""
    group_hash: str | None = None
    """Equal for runs of one config under several seeds, on equal machines."""
    device: str
    """`cpu`, `cuda`, `mps`; `unknown` for a command, whose devices nobody sees."""
    hardware: dict[str, Any]
    """What the machine is: CPU, threads, memory, GPUs."""
    meter: dict[str, Any]
    """How the energy is known: meter and version, method and source per component."""
    intensity: Intensity
    versions: dict[str, str]
    dependencies_hash: str | None = None
    """Of every installed package and its version."""
    git_commit: str | None
    git_dirty: bool | None
    command: str
    started_at: datetime
    """UTC, naive."""
    forecast: dict[str, Any] | None = None
    """What it was expected to take before its first epoch (`forecast.Forecast`), in joules and seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of a run between two readings of the meter. Phases tile the run; their sum is its total."""

    run_id: str
    segment: int
    """Counts the process lives of a run: 0, and one more with every resume."""
    seq: int
    """Counts the phases of a segment, from 0, without gaps."""
    name: str
    """setup, train, validate, checkpoint, record, test, ..."""
    epoch: int | None
    device: str
    started_at: datetime
    """UTC, naive."""
    ended_at: datetime
    cpu_j: float | None
    gpu_j: float | None
    ram_j: float | None
    cpu_source: Source
    gpu_source: Source
    ram_source: Source
    method: str
    """How the joules are known, in one line."""
    error_j: float | None
    """Bound on the error of those components that a counter gave; None where there are none: a model has no bound."""
    cpu_error_j: float | None = None
    """The same of one component."""
    gpu_error_j: float | None = None
    ram_error_j: float | None = None
    gpus_j: list[float | None] | None = None
    """Joules of each GPU, in the order of the run's `meter["gpus"]`; None where no counter tells them apart."""
    overlap_s: float
    """Seconds of this phase during which another greenml meter ran on this machine."""
    g_per_kwh: float | None = None
    """Mean intensity of the grid meanwhile; None where nobody knew it, and the run's own factor applies."""
    intensity_status: str | None = None
    """How that is known: one of `grid.series.STATUSES`."""

    @property
    def joules(self) -> float | None:
        """All components, in joules; None where one of them is unknown."""
        return total(self.cpu_j, self.gpu_j, self.ram_j)

    @property
    def source(self) -> Source:
        """As good as the worst component."""
        return Source.worst([self.cpu_source, self.gpu_source, self.ram_source])


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One pass over the training set: what it learned, and what it cost.

    Of a run that greenml did not train itself, what its program did not say is None.
    """

    run_id: str
    segment: int
    epoch: int
    """From 1."""
    train_loss: float | None
    train_accuracy: float | None
    """Fraction of the augmented training images classified correctly while training, 0 to 1."""
    val_loss: float | None
    val_accuracy: float | None
    """Fraction of the validation split that the averaged weights classify correctly, 0 to 1."""
    val_correct: int | None
    val_count: int | None
    lr: float | None
    duration_s: float
    """Training and validation."""
    cpu_j: float | None
    gpu_j: float | None
    ram_j: float | None
    energy_j: float | None
    """Training, validation and checkpoint of this epoch; None where a component could not be read."""
    energy_total_j: float | None
    """From the start of the run to the end of this epoch, set-up included."""
    source: Source
    """Of `energy_total_j`."""
    energy_source: Source | None = None
    """Of `energy_j`; None in records from before."""
    error_j: float | None = None
    """Bound on the error of `energy_j`, as for phases."""
    value: float | None = None
    """The run's metric, where that is not accuracy."""
    schedule_complete: bool
    """Whether a run of this many epochs would have ended with this checkpoint."""
    num_samples: int | None = None
    """Training images seen in this epoch."""
    peak_host_bytes: int | None = None
    """Most memory that the process has held so far; None where the system does not say."""
    peak_device_bytes: int | None = None
    """Most memory that tensors have held on the GPU so far; None on a CPU."""
    g_per_kwh: float | None = None
    """Mean intensity of the grid over the phases of this epoch, weighted by their joules; None where nobody knew any of
    it, and the run's own factor applies."""
    total_g_per_kwh: float | None = None
    """The same from the start of the run to the end of this epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """A run is taken up again, from a checkpoint, in a new process."""

    run_id: str
    segment: int
    """From 1: the life of the process that begins."""
    epoch: int
    """The epoch in which it goes on."""
    step: int
    """Steps of that epoch which the checkpoint already has."""
    started_at: datetime
    """UTC, naive."""
    epochs_asked: int
    group_hash: str | None
    config: dict[str, Any]
    hardware: dict[str, Any]
    meter: dict[str, Any]
    versions: dict[str, str]
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What a sweep searches and how; told again where it is taken up again with more trials."""

    run_id: str
    """Of the sweep's own run, whose phases are what it took beside its trials."""
    sampler: str
    num_trials: int
    seed: int
    space: dict[str, Any]
    """As `sweep.space.Space.to_plain` gives it."""
    base: dict[str, Any]
    """The config that all trials share."""
    limits: dict[str, float]
    """Of the whole search, in seconds, joules and grams."""
    stops_early: bool
    floor: float = 0.0
    """Validation accuracy above which a training has clearly learned: what did not is on no front."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One draw of a sweep: told when it is sent out, and again when it has ended."""

    run_id: str
    """Of the sweep's own run."""
    number: int
    """From 0, in the order in which they were drawn."""
    state: str
    """`running`, `complete` or `failed`."""
    params: dict[str, Any]
    """Values by Optuna's names."""
    distributions: dict[str, Any]
    """By the same names, as Optuna writes them."""
    attrs: dict[str, Any]
    """What the sampler keeps with a trial: its generation, constraints."""
    attempts: list[str]
    """Ids of the runs that tried it, the last one last; empty where an earlier run stands for it, see `origin`."""
    origin: str | None = None
    """The earlier run whose epochs it takes over, at no cost; None where it was trained for this sweep."""
    reason: str | None = None
    """Why it ended before its last epoch, or failed, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure that a program said about itself while it was tracked."""

    run_id: str
    segment: int
    seq: int
    """Counts the figures of a segment, from 0."""
    epoch: int | None
    name: str
    value: float
    goal: str | None
    """`max` where more is better, `min` where less is; None where nobody said."""
    logged_at: datetime
    """UTC, naive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A model as it answered while its inference was measured: in which runtime and format, and how well."""

    run_id: str
    """Of the run that measured it, ..."""
    name: str
    """... where it is `after` (the run's own model), `before` (its parent's, as `greenml predict` serves it), or the
    parent's in another runtime or precision, by their names: `openvino fp32`."""
    model_run: str
    """The run whose weights it has."""
    backend: str
    """`torch`, `openvino`, `onnx`."""
    precision: str
    """In which it computes: fp32, bf16, fp16, int8."""
    device: str
    num_threads: int
    num_bytes: int
    """Of its files."""
    memory_bytes: int | None
    """Resident memory that loading it and its first answer added to a fresh process; None where nobody could tell."""
    num_parameters: int
    flops_per_sample: int | None
    """As in `Run`; of int8, operations all the same."""
    test_correct: int
    test_count: int
    gained: int
    """Test images that it classifies correctly and `before` does not, ..."""
    lost: int
    """... and the other way round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """One repeat of a measurement: predictions in batches of one size, between two readings of the meter."""

    run_id: str
    segment: int
    seq: int
    """Counts the repeats of a segment, from 0, in the order in which they were taken."""
    name: str
    """Which model, as in `Served`."""
    batch_size: int
    repeat: int
    """From 1. Equal repeats of two models lie beside each other in time: they are compared pair by pair."""
    num_predictions: int
    duration_s: float
    cpu_s: float
    """CPU time of this process, whose threads answer."""
    latency_p50_s: float
    """Of a batch."""
    latency_p95_s: float
    first_seq: int
    """Its joules are those of the phases of this segment from here ..."""
    last_seq: int
    """... to here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a run did for the sake of the grid, why, and what that saved."""

    run_id: str
    segment: int
    seq: int
    """Counts the decisions of a segment, from 0."""
    decided_at: datetime
    """UTC, naive."""
    what: str
    """`wait`, `start`, `pause`, `resume`, `decline`, `fallback`, `policy`."""
    why: str
    """One line for people."""
    provider: str | None = None
    """Whose figures it rests on."""
    intensity_status: str | None = None
    """How they are known, as in `Phase`."""
    g_per_kwh: float | None = None
    """The intensity at that moment."""
    until_at: datetime | None = None
    """When it ends, as far as was known then: a wait, a pause. UTC, naive."""
    expected_g_per_kwh: float | None = None
    """The intensity for which it was done."""
    saved_g: float | None = None
    """Grams; below 0 where it cost more. None where nothing was to be saved, or nobody knows."""
    saved_share: float | None = None
    """The same as a fraction of what it would have been otherwise."""
    saved_source: str | None = None
    """On what the saving rests: `measured`, `forecast` or `modelled`."""
    against: str | None = None
    """What it is measured against, in words."""
    status: str | None = None
    """What the run is from here on: `waiting`, `running` or `paused`; None where that does not change. Storing the
    decision sets it, and keeps it with the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one rule of a policy said of a run at a moment. It outlives the run, and is there where none came about."""

    run_id: str
    decided_at: datetime
    """UTC, naive."""
    command: str
    """Who asked: `train`, `sweep`, `track`."""
    policy: str
    """Its name."""
    rule: str
    """As the file of the policy has it, `budget_per_week.energy`; `none` of a policy without any."""
    bound: str | None
    """What the rule allows; as `value`, a number to its last digit."""
    value: str | None
    """What was held against it; None where nobody knew."""
    unit: str | None
    status: str
    """`kept`, `broken` or `unknown`."""
    words: str
    """One line for people."""
    outcome: str
    """What the whole policy came to: `allowed`, `waited` or `refused`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file a run leaves beside the store."""

    run_id: str
    name: str
    path: str
    """Relative to the folder of the store, with forward slashes."""
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """How a run ended, and what its chosen checkpoint scored on the test split."""

    run_id: str
    status: str
    """`done`, `interrupted`, `stopped` (a trial that was called off), `paused` (for the sake of the grid), `failed`,
    `crashed`."""
    stop_reason: str
    """`epochs`, `early-stop`, `target-acc`, `time-budget`, `interrupted`, `nan-loss`, ..."""
    ended_at: datetime
    best_epoch: int | None = None
    """The epoch that validation chose."""
    val_accuracy: float | None = None
    """Of `best_epoch`."""
    test_accuracy: float | None = None
    test_loss: float | None = None
    test_correct: int | None = None
    test_count: int | None = None
    metric: str = "accuracy"
    """What the run is judged by; a tracked run may learn that from its program."""
    goal: str = "max"
    value: float | None = None
    """Of `metric` on the test split or of the whole run, where that is not accuracy."""
    device: str | None = None
    """Where it became known on the way: what the run computed on, ..."""
    precision: str | None = None
    """... in which numbers its model computes, ..."""
    stem: str | None = None
    num_parameters: int | None = None
    """... and how large that became."""
    flops_per_sample: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far something is. Shown, never stored."""

    what: str
    done: int
    total: int
    epoch: int | None = None
    watts: float | None = None
    """Power at the last reading."""
    energy_j: float | None = None
    """From the start of the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something the user should know. Said on stderr and in run.log, never stored."""

    text: str


Stored = (
    Run
    | Resume
    | Phase
    | Epoch
    | Metric
    | Artifact
    | Study
    | Trial
    | Served
    | Inference
    | Decision
    | Judgement
    | RunEnd
)
Record = Stored | Progress | Notice

_BY_NAME: dict[str, Any] = {kind.__name__: kind for kind in get_args(Stored)}


def sources(kind: Any) -> set[str]:
    """The fields of a kind of record that hold a Source."""
    return {field.name for field in dataclasses.fields(kind) if str(field.type).startswith("Source")}


def to_json(record: Stored) -> str:
    """A record -> one line of JSON that `from_json` turns back into an equal record."""
    return json.dumps({"record": type(record).__name__, **dataclasses.asdict(record)}, default=datetime.isoformat)


def from_json(line: str) -> Stored:
    """The line that `to_json` wrote -> the record. Raises ValueError, KeyError or TypeError on anything else."""
    values = json.loads(line)
    kind = _BY_NAME[values.pop("record")]
    named = sources(kind)
    for key, value in values.items():
        if key.endswith("_at") and value is not None:
            values[key] = datetime.fromisoformat(value)
        elif key in named and value is not None:
            values[key] = Source(value)
    if "intensity" in values:
        values["intensity"] = Intensity(**values["intensity"])
    record: Stored = kind(**values)
    return record
