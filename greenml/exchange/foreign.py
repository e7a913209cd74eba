"""What another program's file tells of a run, and the records that this makes here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from greenml import environment, grid
from greenml.errors import DataError, UsageError
from greenml.goals import parse
from greenml.records import Epoch, Intensity, Metric, Phase, Run, RunEnd, Source, total

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from pathlib import Path

    from greenml.records import Stored

COMPONENTS = ("cpu", "gpu", "ram")
LIKE = (
    "dataset",
    "data_hash",
    "split_hash",
    "num_classes",
    "num_train",
    "num_val",
    "num_test",
    "majority_share",
)
"""What a run has in common with the one that it is said to be like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of a foreign run, without what other pieces have already."""

    name: str
    started_at: datetime
    """UTC, naive."""
    ended_at: datetime
    cpu_j: float | None
    gpu_j: float | None
    ram_j: float | None
    epoch: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """One run, as a file of another program tells it. Joules are without PUE."""

    identity: tuple[str, ...]
    """What stays the same when the file is copied or grows."""
    tool: str
    """Who wrote it: `CodeCarbon 3.3.2`."""
    path: Path
    label: str | None = None
    """The id that the run has there."""
    name: str | None = None
    model: str | None = None
    country: str | None = None
    season: str | None = None
    pieces: list[Piece]
    sources: dict[str, tuple[Source, str]]
    """Of each component: where its joules come from, and how."""
    co2_g: float | None
    """As written there."""
    g_per_kwh: float | None
    """What they were reckoned with."""
    place: str | None
    """Whose grid that is, in words."""
    pue: float = 1.0
    says_pue: bool = True
    scope: str = "machine"
    device: str = "cpu"
    hardware: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    columns: str = ""
    rows: int = 0
    why: str = ""

    @property
    def run_id(self) -> str:
        return hashlib.sha256(json.dumps(self.identity).encode()).hexdigest()[:12]

    @property
    def joules(self) -> float | None:
        """All components; None where one is unknown."""
        return total(*map(self.sum_of, COMPONENTS))

    @property
    def known_j(self) -> float:
        return sum((piece.cpu_j or 0.0) + (piece.gpu_j or 0.0) + (piece.ram_j or 0.0) for piece in self.pieces)

    @property
    def duration_s(self) -> float:
        return sum((piece.ended_at - piece.started_at).total_seconds() for piece in self.pieces)

    def under(self, pue: float | None) -> Foreign:
        """The same, where the file is silent and its energy was multiplied by this PUE: its grams stay."""
        if self.says_pue or pue in (None, self.pue):
            return self
        factor = self.pue / (pue or 1.0)

        def scaled(joules: float | None) -> float | None:
            return None if joules is None else joules * factor

        pieces = [
            dataclasses.replace(piece, cpu_j=scaled(piece.cpu_j), gpu_j=scaled(piece.gpu_j), ram_j=scaled(piece.ram_j))
            for piece in self.pieces
        ]
        return dataclasses.replace(self, pue=pue or 1.0, pieces=pieces)

    def sum_of(self, component: str) -> float | None:
        return total(*(getattr(piece, f"{component}_j") for piece in self.pieces))


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What the place of a file in a tree says about its run."""

    model: str | None = None
    country: str | None = None
    season: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the user wants files to be read."""

    columns: str | None = None
    """`cumulative` or `per-row`."""
    pue: float | None = None
    """What their energy was multiplied by, where they do not say."""
    region: str | None = None
    """Whose grid it was, whatever they say."""


def pue_of(path: Path, written: Iterable[str], options: Options) -> float | None:
    """What the energy of a run was multiplied by, as its file says; None where it does not.

    Raises DataError where that is none, and UsageError where the user says otherwise.
    """
    stated = {text.strip() for text in written} - {""}
    if len(stated) > 1:
        raise DataError(f"{path}: one run with several PUEs: {', '.join(sorted(stated))}", hint="import them apart")
    if not stated:
        return None
    text = stated.pop()
    try:
        pue = float(text)
    except ValueError:
        pue = math.nan
    if not 1 <= pue < math.inf:
        raise DataError(f"{path}: the PUE is `{text}`", hint="it is 1 or more; correct it")
    if options.pue and options.pue != pue:
        raise UsageError(f"{path} says that its PUE is {pue:g}", hint="leave out --pue")
    return pue


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a file turned out to be."""

    kind: str
    columns: str
    """`cumulative` or `per-row`, ..."""
    why: str
    """... and how that is known."""
    runs: list[Foreign]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the user says of a run, and no file does. None is not said."""

    model: str | None = None
    dataset: str | None = None
    region: str | None = None
    season: str | None = None
    tags: tuple[str, ...] = ()
    accuracy: float | None = None
    """Of the test split, 0 to 1."""
    metric: str | None = None
    """What the run is judged by instead, ..."""
    value: float | None = None
    goal: str | None = None
    num_classes: int | None = None
    num_test: int | None = None
    pue: float | None = None
    """What its energy was multiplied by, where its file does not say."""
    like: str | None = None
    """The run with the same data and split, ..."""
    shared: dict[str, Any] | None = None
    """... and what it has in common with that one."""

    def over(self, earlier: dict[str, Any]) -> Said:
        """What was said `earlier` (as `told` gives it) still holds unless it is said anew."""
        new = self.told()
        values: dict[str, Any] = earlier | new
        if "accuracy" in new or "metric" in new:
            judged = {"accuracy", "metric", "value", "goal"}
            values = {name: value for name, value in values.items() if name not in judged or name in new}
        values["tags"] = tuple(dict.fromkeys([*earlier.get("tags", ()), *self.tags]))
        return Said(**values)

    def told(self) -> dict[str, Any]:
        """Only what was said, as JSON holds it."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        values["tags"] = list(self.tags)
        return {name: value for name, value in values.items() if value not in (None, [])}


def to_records(run: Foreign, said: Said, metrics: Sequence[tuple[str, float, str | None]]) -> list[Stored]:
    """A foreign run with what was said about it -> a run, its phases, its figures (name, value, goal) and its end."""
    shared = said.shared or {}
    metric, goal, value, accuracy = judged_by(said, metrics)
    count = said.num_test or shared.get("num_test")
    started_at = run.pieces[0].started_at
    ended_at = max(piece.ended_at for piece in run.pieces)
    began = Run(
        run_id=run.run_id,
        kind="import",
        name=run.name,
        tags=list(said.tags),
        parent=None,
        model=said.model or run.model or "unknown",
        dataset=said.dataset or shared.get("dataset") or "unknown",
        data_hash=shared.get("data_hash"),
        split_hash=shared.get("split_hash"),
        num_classes=said.num_classes or shared.get("num_classes"),
        num_train=shared.get("num_train"),
        num_val=shared.get("num_val"),
        num_test=count,
        majority_share=shared.get("majority_share"),
        scope=run.scope,
        metric=metric,
        goal=goal,
        season=said.season or run.season or "unknown",
        config={
            "import": {
                "file": run.path.name,
                "tool": run.tool,
                "label": run.label,
                "rows": run.rows,
                "columns": run.columns,
                "why": run.why,
                "co2_g": run.co2_g,
            },
            "said": said.told(),
        },
        device=run.device,
        hardware=run.hardware,
        meter={"meter": run.tool, "scope": run.scope}
        | {name: {"source": str(source), "method": method} for name, (source, method) in run.sources.items()},
        intensity=intensity(run, said.region),
        versions=run.versions,
        git_commit=None,
        git_dirty=None,
        command=environment.command(),
        started_at=started_at,
    )
    source = Source.worst([source for source, _ in run.sources.values()])
    phases = [
        Phase(
            run_id=run.run_id,
            segment=0,
            seq=seq,
            name=piece.name,
            epoch=piece.epoch,
            device=run.device,
            started_at=piece.started_at,
            ended_at=piece.ended_at,
            cpu_j=piece.cpu_j,
            gpu_j=piece.gpu_j,
            ram_j=piece.ram_j,
            cpu_source=known(run.sources["cpu"][0], piece.cpu_j),
            gpu_source=known(run.sources["gpu"][0], piece.gpu_j),
            ram_source=known(run.sources["ram"][0], piece.ram_j),
            method=f"as {run.tool} wrote it",
            error_j=None,
            overlap_s=0.0,
        )
        for seq, piece in enumerate(run.pieces)
    ]
    figures = [
        Metric(
            run_id=run.run_id, segment=0, seq=seq, epoch=None, name=name, value=number, goal=goal, logged_at=ended_at
        )
        for seq, (name, number, goal) in enumerate(metrics)
    ]
    end = RunEnd(
        run_id=run.run_id,
        status="done",
        stop_reason="imported",
        ended_at=ended_at,
        best_epoch=None,
        val_accuracy=None,
        test_accuracy=accuracy,
        test_loss=None,
        test_correct=None if accuracy is None or not count else round(accuracy * count),
        test_count=None if accuracy is None else count,
        metric=metric,
        goal=goal,
        value=value,
    )
    return [began, *phases, *epochs(run, phases, source), *figures, end]


def known(source: Source, joules: float | None) -> Source:
    return Source.UNKNOWN if joules is None else source


def epochs(run: Foreign, phases: Sequence[Phase], source: Source) -> list[Epoch]:
    """Of pieces that are epochs: what each took. What it learned, no file says."""
    found, so_far_j = [], 0.0 if run.joules is not None else None
    for phase in phases:
        so_far_j = total(so_far_j, phase.joules)
        if phase.epoch is not None:
            found.append(
                Epoch(
                    run_id=run.run_id,
                    segment=0,
                    epoch=phase.epoch,
                    train_loss=None,
                    train_accuracy=None,
                    val_loss=None,
                    val_accuracy=None,
                    val_correct=None,
                    val_count=None,
                    lr=None,
                    duration_s=(phase.ended_at - phase.started_at).total_seconds(),
                    cpu_j=phase.cpu_j,
                    gpu_j=phase.gpu_j,
                    ram_j=phase.ram_j,
                    energy_j=phase.joules,
                    energy_total_j=so_far_j,
                    source=source if so_far_j is not None else Source.UNKNOWN,
                    energy_source=phase.source,
                    schedule_complete=False,
                )
            )
    return found


def judged_by(
    said: Said, metrics: Sequence[tuple[str, float, str | None]]
) -> tuple[str, str, float | None, float | None]:
    """The metric of a run, its goal and its value, and its test accuracy: what was said, or else what lay beside it."""
    if said.accuracy is not None:
        return "accuracy", "max", None, said.accuracy
    if said.metric and said.goal:
        return said.metric, said.goal, said.value, None
    final = [(parse(name).base, value, goal) for name, value, goal in metrics if parse(name).split in ("", "test")]
    accuracy = next((value for base, value, _ in final if base == "accuracy"), None)
    if accuracy is not None:
        return "accuracy", "max", None, accuracy
    for base, value, goal in final:
        if goal:
            return base, goal, value, None
    return "accuracy", "max", None, None


def intensity(run: Foreign, region: str | None) -> Intensity:
    """The factor of the region that was said, or else the one that the file itself reckoned with."""
    if region or run.g_per_kwh is None:
        return grid.resolve(region or (run.country if is_region(run.country) else None), pue=run.pue)
    place = run.place or "a place that it does not name"
    return Intensity(
        g_per_kwh=run.g_per_kwh,
        level="file",
        region_asked=None,
        region_used=place,
        year=None,
        source=run.tool,
        note=f"{place}, {run.g_per_kwh:.4g} g/kWh, as {run.tool} reckoned",
        country=country_name(run.country),
        pue=run.pue,
    )


def is_region(word: str | None) -> bool:
    """Whether greenml knows a place by that name."""
    return bool(word) and _country(str(word)) is not None


def country_name(word: str | None) -> str | None:
    """The everyday name of the country in which a region lies; a word that is no region stays as it is."""
    return (_country(word) or word) if word else None


@cache
def _country(region: str) -> str | None:
    try:
        return grid.resolve(region).country
    except UsageError:
        return None
