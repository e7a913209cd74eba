"""One trial where it runs: its records go to the driver as they come, its files at the end."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from greenml import environment
from greenml.errors import GreenMLError
from greenml.records import Record, Run, RunEnd

if TYPE_CHECKING:
    from datetime import datetime

    from greenml.config import Config
    from greenml.energy import Settings
    from greenml.records import Intensity

KEPT = ("model.pt", "config.yaml")
"""What a trial leaves. It has no checkpoint: an attempt that dies is trained anew."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a worker needs to know of a trial."""

    run_id: str
    study: str
    """Id of the sweep's run."""
    config: Config
    intensity: Intensity
    settings: Settings


@dataclass(frozen=True, kw_only=True)
class Began:
    """The meter of a trial reads from here on: who dies after this has used what nobody else counts."""

    run_id: str
    meter: dict[str, object]
    hardware: dict[str, object]
    started_at: datetime
    """UTC, naive."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of an attempt, after its last record."""

    failure: str | None = None
    """In words; None where it ended well."""
    may_retry: bool = False
    """The worker died, and it need not be by what it was doing."""
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)


class Line(Protocol):
    """Between a worker and the driver."""

    def send(self, message: Message) -> None:
        """To the driver, in order."""

    def is_called_off(self) -> bool:
        """Whether the trial is to end now; why, the driver knows."""


Message = Record | Began | Outcome
Training = Callable[["Task", Path, Callable[[], str | None]], Iterator[Record | Began]]
"""What a worker does with a task, a folder for its files, and a function that says whether it is to end, and why."""


def train(task: Task, folder: Path, halted: Callable[[], str | None]) -> Iterator[Record | Began]:
    """Train one trial under a meter of its own."""
    from greenml import energy, run

    with energy.open_meter(task.run_id, settings=task.settings, driver=task.study) as meter:
        meter.wait_until_ready()
        yield Began(
            run_id=task.run_id,
            meter=meter.describe(),
            hardware=environment.hardware(),
            started_at=meter.started_at,
        )
        life = run.train(task.config, meter, task.intensity, run_id=task.run_id, folder=folder, halted=halted)
        has_ended = False
        try:
            for record in life:
                has_ended = isinstance(record, RunEnd)
                if isinstance(record, Run):
                    record = dataclasses.replace(record, kind="trial", parent=task.study)
                yield record
        except Exception:
            if not has_ended:  # what breaks in the set-up, or by a bug, has used something, too
                meter.finish()
                yield from meter.phases()
            raise


def carry_out(task: Task, line: Line, training: Training = train) -> None:
    """Train one trial. What goes wrong with it is sent in words: exceptions do not survive every journey."""
    folder, files = folder_of(task.run_id), dict[str, bytes]()
    failure: str | None = None
    try:
        folder.mkdir(mode=0o700)
        for record in training(task, folder, lambda: "called off" if line.is_called_off() else None):
            line.send(record)
        files = {file: (folder / file).read_bytes() for file in KEPT if (folder / file).exists()}
    except GreenMLError as error:
        failure = str(error)
    except Exception:  # noqa: BLE001 (a bug in one trial ends no search; it is kept with the trial)
        failure = traceback.format_exc()
    finally:
        forget(task.run_id)
    line.send(Outcome(failure=failure, files=files))


def folder_of(run_id: str) -> Path:
    """Where a trial keeps its files while it runs."""
    return Path(tempfile.gettempdir()) / f"greenml-trial-{run_id}"


def forget(run_id: str) -> None:
    """Remove that folder, also for a worker that was killed, where it worked on this machine."""
    shutil.rmtree(folder_of(run_id), ignore_errors=True)
