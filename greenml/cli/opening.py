"""From a run to the model that it left, ready to answer: what `predict` and `evaluate` open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenml import console
from greenml.errors import DataError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from greenml.errors import GreenMLError
    from greenml.serve import Predictor
    from greenml.store import Store

    Row = dict[str, Any]

FILES = ("model.xml", "model.onnx", "model.pt")
WITHOUT_A_MODEL = {
    "sweep": ("a sweep", "name one of its trials: `greenml sweep show {run}` lists them"),
    "track": ("a program that was tracked", "greenml has the models that it trained itself"),
    "import": ("imported", "greenml has the models that it trained itself"),
}
GOES_ON = ("crashed", "interrupted", "stopped", "paused")


def open_model(store: Store, run: Row, *, device: str = "cpu", num_threads: int | None = None) -> Predictor:
    """The model of a run, a row of `runs`: an exported one without torch, and on a CPU; else `model.pt` on `device`.

    Says so where the run did not end well. Raises UsageError and DataError where there is none.
    """
    from greenml.compress.footprint import open_any
    from greenml.serve import is_exported

    folder = store.folder(run["run_id"])
    if is_exported(folder):
        if device not in ("auto", "cpu"):
            raise UsageError(
                f"--device {device}: the model of run {run['run_id']} was made for CPUs", hint="leave --device out"
            )
    elif not (folder / "model.pt").exists():
        raise _lack(store, run, folder)
    predictor = open_any(folder, device=device, num_threads=num_threads)
    if run["status"] not in ("done", "stopped"):
        which = "the best model of its epochs so far"
        if run["kind"] == "compress":  # it leaves its model when that is made, and is then measured
            which = "the model that it made, which was not measured to the end"
        console.say(f"run {run['run_id']} is {run['status']}: this is {which}")
    return predictor


def _lack(store: Store, run: Row, folder: Path) -> GreenMLError:
    """Why there is no model, and where there is one."""
    run_id, status = run["run_id"], run["status"]
    if run["kind"] in WITHOUT_A_MODEL:
        what, hint = WITHOUT_A_MODEL[run["kind"]]
        return UsageError(f"run {run_id} is {what}, and has no model", hint=hint.format(run=run_id[:8]))
    sql = "select name from artifacts where run_id = ? and list_contains(?, name)"
    for row in store.rows(sql, [run_id, list(FILES)]):
        return DataError(
            f"{folder / row['name']} is gone, and with it the model of run {run_id}",
            hint="bring the file back, or train the run again",
        )
    hint = "`greenml runs list` shows other runs"
    if status in ("running", "waiting"):
        hint = "wait for its first epoch"
    elif run["kind"] == "train" and status in GOES_ON:
        hint = f"`greenml train --resume {run_id[:8]}` goes on with it"
    return DataError(f"run {run_id} is {status}, and has left no model", hint=hint)
