"""Trainings that take no time and no library, for tests of who runs them. Workers import this module."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

from greenml.records import Progress, Source
from greenml.sweep.worker import Began

FOLDER = "GREENML_TEST_FOLDER"
"""Where a training leaves who runs it: a file a trial, named by its run, with the number of its process."""
EPOCHS = 4
POISON = 0.5
"""A learning rate that kills whoever trains with it."""
LONG = 0.25
"""One that goes on until it is called off."""
WATTS = 10.0


def fake(task, folder, halted):
    """Four epochs of 10 J each, a little better with every one."""
    from conftest import STARTED_AT, make_end, make_epoch, make_phase, make_run

    config, run_id = task.config, task.run_id
    yield Began(
        run_id=run_id, meter={"cpu": {"source": "estimated"}, "gpu": {"source": "absent"}, "ram": {"source": "absent"}},
        hardware={}, started_at=STARTED_AT,
    )  # fmt: skip
    note = Path(os.environ[FOLDER]) / run_id
    note.write_text(f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')} {config.num_threads}")
    yield make_run(
        run_id, kind="trial", parent=task.study, scope=config.scope, config={"lr": config.lr}, epochs_asked=EPOCHS
    )
    (folder / "model.pt").write_bytes(b"weights of " + run_id.encode())
    number = 0
    while number < EPOCHS or config.lr == LONG:
        number += 1
        for _ in range(10 if number > 1 or config.lr == LONG else 1):
            time.sleep(0.02)
            note.touch()
            if halted():
                yield make_end(run_id, status="interrupted", stop_reason="called off")
                return
        joules = {"cpu_j": WATTS, "ram_j": 0.0, "ram_source": Source.ABSENT}
        yield make_phase(run_id, number - 1, epoch=number, **joules)
        yield make_epoch(
            run_id, number, val_accuracy=0.5 + config.lr / 10 + number / 100, energy_j=WATTS,
            energy_total_j=WATTS * number, cpu_j=WATTS, ram_j=0.0,
        )  # fmt: skip
        yield Progress(what="training", done=1, total=1, epoch=number, energy_j=WATTS * number)
        if config.lr == POISON and number == 2:
            time.sleep(0.2)  # what it said is on its way by then
            os.kill(os.getpid(), signal.SIGKILL)
    yield make_end(run_id, best_epoch=number, ended_at=STARTED_AT + timedelta(seconds=number))


def slow_start(task, folder, halted):
    """A worker that takes its time before it meters anything."""
    time.sleep(1.0)
    yield from fake(task, folder, halted)


def broken(task, folder, halted):
    """A bug."""
    yield from ()
    raise ZeroDivisionError(folder.name)
