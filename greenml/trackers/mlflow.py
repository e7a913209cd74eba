"""`--log mlflow`: where MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say, as for any program that logs there."""

from __future__ import annotations

import getpass
import os
import re
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from greenml.errors import UsageError
from greenml.trackers import content
from greenml.trackers.following import SERIES
from greenml.trackers.registry import register_tracker, require

if TYPE_CHECKING:
    from collections.abc import Mapping

    from greenml.records import Epoch, Metric, Run
    from greenml.trackers.registry import Ending

PARAMS_A_BATCH = 100
MAX_PARAM, MAX_TAG, MAX_KEY = 6000, 5000, 250
"""Characters that every server from 2.10 on takes."""
NOT_IN_KEYS = re.compile(r"[^\w\-. :/]", re.ASCII)
STATUS = {"done": "FINISHED", "interrupted": "KILLED", "paused": "KILLED"}
EACH_EPOCH = "duration_s"
"""The metric that no epoch is without."""
SERVERS = ("http", "databricks", "uc")


def _check() -> None:
    require("mlflow")
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri.startswith((*SERVERS, "file:", "/", ".")) and find_spec("sqlalchemy") is None:
        raise UsageError(
            f"--log mlflow: {uri or 'without a server, MLflow'} needs a database, and sqlalchemy is not installed",
            hint="set MLFLOW_TRACKING_URI to a server, or pip install mlflow",
        )


@register_tracker("mlflow", check=_check)
class MLflow:
    """A run in MLflow, found again by its tag `greenml.run_id`."""

    def __init__(self) -> None:
        # MLflow asks a silent server for minutes; here a row that did not get through is told again with the next.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        from mlflow import MlflowClient, entities

        self._entities = entities
        self._connect = MlflowClient
        self._has: set[int] = set()

    def begin(self, run: Run) -> str:
        """In the experiment of the environment; with `--repeats`, as a child of one run for all of them."""
        self._run = run
        self._client = self._connect()
        self._experiment_id = _experiment_id()
        self._series_id = self._series(os.environ.get(SERIES), run)
        found = self._find(run.run_id)
        if found:
            self._id = found.info.run_id
            self._client.update_run(self._id, status="RUNNING")
            self._has = {metric.step for metric in self._client.get_metric_history(self._id, EACH_EPOCH)}
        else:
            self._id = self._create(run.run_id, content.title(run), run)
        self._log_params(dict(content.flat(content.params(run))), found.data.params if found else {})
        self._set_tags(_named(content.tags(run)) | _known_to_mlflow(run) | self._parent(run))
        return self._place()

    def epoch(self, epoch: Epoch, at: datetime | None) -> None:
        """One step of every metric."""
        if epoch.epoch not in self._has:
            self._log(content.epoch_metrics(epoch, self._run), step=epoch.epoch, at=at)
            self._has.add(epoch.epoch)

    def metric(self, metric: Metric) -> None:
        self._log({metric.name: metric.value}, step=metric.epoch or 0, at=metric.logged_at)

    def end(self, ending: Ending) -> None:
        """The figures of the whole run, its files, and its status."""
        if ending.summary:
            final = content.final_metrics(ending.summary)
            self._log(final, step=0, at=ending.ended_at)
            self._set_tags(_named(content.final_tags(ending.summary)))
            if self._series_id:
                self._log(final, step=self._run.seed or 0, at=ending.ended_at, run_id=self._series_id)
        try:
            for file in ending.files:
                self._client.log_artifact(self._id, file)
        finally:  # where files cannot be taken, the run has ended all the same
            status, ended_at = STATUS.get(ending.status, "FAILED"), _milliseconds(ending.ended_at)
            for run_id in filter(None, (self._id, self._series_id)):
                self._client.set_terminated(run_id, status=status, end_time=ended_at)

    def _series(self, series: str | None, run: Run) -> str | None:
        """The run of a whole `--repeats`, made by the first of them; each of them opens and closes it."""
        if series is None:
            return None
        found = self._find(series)
        if found is None:
            return self._create(series, f"{run.name or f'{run.model} {run.dataset}'}, repeats", run)
        self._client.update_run(found.info.run_id, status="RUNNING")
        series_id: str = found.info.run_id
        return series_id

    def _parent(self, run: Run) -> dict[str, str]:
        """The tag by which MLflow shows runs below another."""
        parent_id = self._series_id
        if parent_id is None and run.parent and (parent := self._find(run.parent)):
            parent_id = parent.info.run_id
        return {"mlflow.parentRunId": parent_id} if parent_id else {}

    def _find(self, run_id: str) -> Any:
        """A run of MLflow by greenml's id, or None."""
        condition = f"tags.`greenml.run_id` = '{run_id}'"
        return next(iter(self._client.search_runs([self._experiment_id], condition, max_results=1)), None)

    def _create(self, run_id: str, name: str, run: Run) -> str:
        created = self._client.create_run(
            self._experiment_id, _milliseconds(run.started_at), {"greenml.run_id": run_id}, name
        )
        mlflow_id: str = created.info.run_id
        return mlflow_id

    def _log_params(self, values: Mapping[str, Any], before: Mapping[str, str]) -> None:
        """MLflow never lets a parameter change: what a resumed run has otherwise goes into a tag."""
        texts = {_key(name): _cut(value, MAX_PARAM) for name, value in values.items()}
        new = [self._entities.Param(key, text) for key, text in texts.items() if key not in before]
        for start in range(0, len(new), PARAMS_A_BATCH):
            self._client.log_batch(self._id, params=new[start : start + PARAMS_A_BATCH])
        self._set_tags({f"resumed.{key}": text for key, text in texts.items() if before.get(key, text) != text})

    def _log(self, values: Mapping[str, float], *, step: int, at: datetime | None, run_id: str | None = None) -> None:
        when = _milliseconds(at)
        metrics = [self._entities.Metric(_key(name), float(value), when, step) for name, value in values.items()]
        self._client.log_batch(run_id or self._id, metrics=metrics)

    def _set_tags(self, values: Mapping[str, Any]) -> None:
        tags = [self._entities.RunTag(_key(name), _cut(value, MAX_TAG)) for name, value in values.items()]
        self._client.log_batch(self._id, tags=tags)

    def _place(self) -> str:
        from mlflow import get_tracking_uri

        uri = get_tracking_uri()
        if uri.startswith("http"):
            return f"{uri}/#/experiments/{self._experiment_id}/runs/{self._id}"
        return f"run {self._id} in {uri}"


def _experiment_id() -> str:
    """As MLflow's own `start_run` finds it: by name, made where it is not there; by id; or the default."""
    from mlflow import set_experiment

    if name := os.environ.get("MLFLOW_EXPERIMENT_NAME"):
        experiment_id: str = set_experiment(name).experiment_id
        return experiment_id
    return os.environ.get("MLFLOW_EXPERIMENT_ID", "0")


def _known_to_mlflow(run: Run) -> dict[str, str]:
    """Tags that MLflow's pages have columns for."""
    tags = {"mlflow.source.type": "LOCAL", "mlflow.source.name": run.command}
    with suppress(OSError, KeyError, ImportError):  # a container may run under a number without a name
        tags["mlflow.user"] = getpass.getuser()
    if run.git_commit:
        tags["mlflow.source.git.commit"] = run.git_commit
    if run.note:
        tags["mlflow.note.content"] = run.note
    return tags


def _named(tags: Mapping[str, Any]) -> dict[str, Any]:
    return {f"greenml.{name}": value for name, value in tags.items()}


def _key(name: str) -> str:
    """What MLflow takes as a name."""
    return NOT_IN_KEYS.sub("_", name)[:MAX_KEY]


def _cut(value: object, length: int) -> str:
    text = str(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _milliseconds(moment: datetime | None) -> int:
    """A UTC time without a zone, or None for now -> milliseconds since 1970."""
    return int(1000 * (moment.replace(tzinfo=UTC).timestamp() if moment else time.time()))
