"""What a run goes on from: its rows in the store, and its checkpoint beside it."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from greenml.errors import DataError
from greenml.records import Epoch, Notice, Source, from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from greenml.learn.setup import Setup

CHECKPOINT_AFTER_S = 10.0
"""An epoch that ends so long after the last checkpoint leaves one."""

CHECKPOINT_WITHIN_S = 300.0
"""A longer epoch leaves checkpoints on its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What is known of a run that is taken up again: everything that its earlier lives left in the store."""

    segment: int
    """The life that begins, from 1."""
    data_hash: str
    split_hash: str
    versions: dict[str, str]
    epochs: frozenset[int]
    """Those that are stored."""
    duration_s: float
    """Without what it waited for the grid."""
    known_j: float
    cpu_j: float | None
    gpu_j: float | None
    ram_j: float | None
    source: Source


class Checkpoint:
    """`checkpoint.pt`. The epochs so far travel with it, should a killed process not have stored their rows."""

    def __init__(self, path: Path, setup: Setup, run_id: str) -> None:
        self._path, self._setup, self._run_id = path, setup, run_id
        self._saved_at = time.monotonic()
        self.epochs: list[Epoch] = []
        """Complete ones, without their joules."""

    @property
    def accuracies(self) -> list[float]:
        """On validation, epoch by epoch."""
        return [epoch.val_accuracy for epoch in self.epochs if epoch.val_accuracy is not None]

    def is_due(self, *, within_epoch: bool) -> bool:
        """Often enough that little is lost, seldom enough that it costs nothing beside the training."""
        age_s = time.monotonic() - self._saved_at
        if within_epoch:
            return age_s > CHECKPOINT_WITHIN_S
        return age_s > CHECKPOINT_AFTER_S or not self._path.exists()

    def save(self) -> None:
        """Write it, whole or not at all. Raises StoreError, and TrainingError rather than keep a diverged state."""
        from greenml.learn import artifact

        content = {"run_id": self._run_id, "epochs": [*map(to_json, self.epochs)], **self._setup.learner.state()}
        artifact.write(self._path, content)
        self._saved_at = time.monotonic()

    def load(self, data_hash: str, split_hash: str, epochs: Collection[int]) -> Iterator[Notice]:
        """Take the run up, which saw these data, where it was left; at its beginning where it left no checkpoint,
        whatever `epochs` of it are stored. Raises DataError."""
        from greenml.learn import artifact

        facts = self._setup.facts
        if (facts["data_hash"], facts["split_hash"]) != (data_hash, split_hash):
            raise DataError(
                f"{facts['dataset']} is not what run {self._run_id} was trained on: it has changed since",
                hint="bring the old data back, or start a new run on the new data",
            )
        if not self._path.exists():
            if epochs:
                yield Notice(text=f"{self._path} is gone: the training begins anew, on top of what it has used so far")
            return
        found = artifact.read(self._path)
        with artifact.as_written(self._path):
            run_id, self.epochs = found["run_id"], [cast("Epoch", from_json(line)) for line in found["epochs"]]
            self._setup.learner.load_state(found)
        if run_id != self._run_id:
            raise DataError(
                f"{self._path} is of run {run_id}", hint="bring this run's own back; without one it begins anew"
            )


@dataclass(frozen=True, slots=True)
class Chosen:
    """What validation chose so far."""

    epoch: int
    val_accuracy: float
    complete: bool
    """Whether the epoch ran to its end; a budget may stop in its midst."""


class Choice:
    """`model.pt`, the weights that validation chose. The file is the truth, whenever the process before was killed."""

    def __init__(self, path: Path, setup: Setup, run_id: str) -> None:
        self._path, self._setup, self._run_id = path, setup, run_id
        self._complete = path.with_name("model.complete.pt")
        """The choice among whole epochs, where a part of one was better: a run that goes on goes on from it."""
        self.best: Chosen | None = None

    def improves(self, accuracy: float) -> bool:
        """Whether this is better than all before; the earlier one of equals stays."""
        return self.best is None or accuracy > self.best.val_accuracy

    def save(self, epoch: int, accuracy: float, *, complete: bool) -> None:
        """Keep the averaged weights as they are now. Raises StoreError."""
        from greenml.learn import artifact

        if self.best and not complete:
            artifact.copy(self._path, self._complete)
        self.best = Chosen(epoch, accuracy, complete)
        setup = self._setup
        artifact.save(
            self._path,
            setup.learner.averaged,
            setup.description,
            run_id=self._run_id,
            **dataclasses.asdict(self.best),
        )

    def load(self, *, needed: bool) -> None:
        """What an earlier life chose. Raises DataError where the file is spoilt, or `needed` and gone."""
        from greenml.learn import artifact

        if not self._path.exists():
            if needed:
                raise DataError(
                    f"{self._path} is gone, and with it the best weights so far",
                    hint="bring it back, or move checkpoint.pt away too: `--resume` then begins the training anew",
                )
            return
        found = artifact.read(self._path)
        with artifact.as_written(self._path):
            self.best = Chosen(found["epoch"], found["val_accuracy"], found["complete"])

    def forget_parts(self) -> None:
        """The run goes on: what counts from here is the best of its whole epochs."""
        if self.best and not self.best.complete:
            self.best = None
            if self._complete.exists():
                self._complete.replace(self._path)
                self.load(needed=True)
