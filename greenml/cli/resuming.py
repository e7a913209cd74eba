"""`greenml train --resume RUN`: what may change, and what the store knows of the lives before."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from greenml import config as configs
from greenml import trackers
from greenml.cli import scheduling
from greenml.cli.jobs import Job
from greenml.errors import UsageError
from greenml.grid.series import now
from greenml.records import Source
from greenml.run import Past, budget_rule, grams_by, limits, stop_rule
from greenml.store import intensity_of
from greenml.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from greenml.store import Store

DIVERGED = "nan-loss"
LIVES = """
    select 1 + coalesce(max(segment), 0) as next
    from (
        select segment from phases where run_id = $1
        union all select segment from resumes where run_id = $1
    )
"""
"""The next life; one that was killed before its first phase counts."""


def refuse(given: Mapping[str, Any], others: Sequence[str]) -> None:
    """Raise UsageError where more is given than rules that stop a run or hold it up: the weights so far came about
    otherwise."""
    names = [f"--{key.replace('_', '-')}" for key in given if key not in (*configs.STOP_RULES, "schedule")]
    names = [{"--model": "a model", "--tags": "--tag", "--model-args": "--model-arg"}.get(name, name) for name in names]
    if wrong := [*names, *others]:
        names = [*configs.STOP_RULES, *scheduling.FLAGS]
        rules = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        raise UsageError(
            f"--resume goes on with a run as it was begun, and {wrong[0]} would change it",
            hint=f"leave it out, or start a new run; what may change: {rules}",
        )


def take_up(store: Store, run_id: str, changes: dict[str, Any]) -> Job:
    """A claimed run of the store -> what is left of it to do. Raises UsageError where nothing is."""
    [run] = store.rows("from runs where run_id = ?", [run_id])
    if run["kind"] != "train":
        raise UsageError(f"run {run_id} is of kind {run['kind']}", hint="only trainings can be resumed")
    if run["stop_reason"] == DIVERGED:
        raise UsageError(
            f"run {run_id} has diverged, and would do so again", hint="start a new one with a smaller --lr"
        )
    stored = {key: run["config"][key] for key in configs.KEYS if key in run["config"]}
    schedule = (stored.get("schedule") or {}) | changes.get("schedule", {})
    config = scheduling.located(configs.validate(stored | changes | {"schedule": schedule}))
    # A deadline that has passed stays: nothing is waited for then.
    if config.schedule.deadline is None or "deadline" in changes.get("schedule", {}):
        config = scheduling.settled(config, now())
    trackers.check(config.log)
    accuracies = {
        row["epoch"]: row["val_accuracy"]
        for row in store.rows("from epochs where run_id = ? and schedule_complete order by epoch", [run_id])
    }
    past = _past(store, run, frozenset(accuracies))
    [spent] = store.rows("select g_per_kwh from run_totals where run_id = ?", [run_id])
    job = Job(run_id=run_id, config=config, intensity=intensity_of(run), past=past, past_g_per_kwh=spent["g_per_kwh"])
    if run["status"] == "done":
        _refuse_what_is_done(job, past, list(accuracies.values()))
    return job


def _past(store: Store, run: Mapping[str, Any], epochs: frozenset[int]) -> Past:
    of_run = [run["run_id"]]
    [lives] = store.rows(LIVES, of_run)
    [totals] = store.rows("from run_totals where run_id = ?", of_run)
    return Past(
        segment=lives["next"],
        data_hash=run["data_hash"],
        split_hash=run["split_hash"],
        versions=run["versions"],
        epochs=epochs,
        duration_s=totals["duration_s"],
        known_j=totals["known_j"],
        cpu_j=totals["cpu_j"],
        gpu_j=totals["gpu_j"],
        ram_j=totals["ram_j"],
        source=Source(totals["source"]),
    )


def _refuse_what_is_done(job: Job, past: Past, accuracies: Sequence[float]) -> None:
    """A run that ended by its rules goes on only where these have changed."""
    intensity = job.intensity
    if job.past_g_per_kwh is not None:
        intensity = dataclasses.replace(intensity, g_per_kwh=job.past_g_per_kwh)
    rule = (
        stop_rule(job.config, accuracies)
        or budget_rule(limits(job.config), grams_by(intensity), past.duration_s, past.known_j)
        or ("epochs" if len(accuracies) >= job.config.epochs else None)
    )
    if rule:
        raise UsageError(
            f"run {job.run_id} is done: {len(accuracies)} epochs, {format_duration(past.duration_s)}, ended by {rule}",
            hint=HINTS[rule],
        )


HINTS = {
    "epochs": "--epochs with a larger number goes on",
    "target-acc": "a higher --target-acc goes on",
    "early-stop": "--no-early-stop or a larger --patience goes on",
    "time-budget": "a larger --time-budget goes on",
    "energy-budget": "a larger --energy-budget goes on",
    "carbon-budget": "a larger --carbon-budget goes on",
}
