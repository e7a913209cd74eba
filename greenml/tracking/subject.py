"""What is tracked, as far as somebody said: by flag or argument, by environment variable, or else by default."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from greenml import config as configs
from greenml.environment import printable
from greenml.errors import UsageError
from greenml.tracking import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from greenml.config import Config
    from greenml.energy import Settings
    from greenml.records import Intensity
    from greenml.store import Store

UNKNOWN = "unknown"
"""The data set, or season, of which nothing was said."""

FROM_ENVIRONMENT = {
    "model": "GREENML_MODEL",
    "dataset": "GREENML_DATASET",
    "season": "GREENML_SEASON",
    "region": "GREENML_REGION",
    "name": "GREENML_NAME",
    "tags": "GREENML_TAGS",
}
OF_CONFIG = (
    "model",
    "dataset",
    "name",
    "tags",
    "region",
    "intensity",
    "trace",
    "trace_shift",
    "provider",
    "pue",
    "meter",
    "scope",
    "tdp",
    "sampling_interval",
    "require_meter",
)
"""Keys that mean what they mean in a config, and are held to the same bounds."""
KEYS = (*OF_CONFIG, "season", "metric", "num_classes", "num_val", "num_test", "like")
"""All that can be said."""
OF_LIKE = ("data_hash", "split_hash", "num_classes", "majority_share", "num_train", "num_val", "num_test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is tracked, and how; what nobody said is None."""

    model: str
    dataset: str
    season: str
    name: str | None
    tags: list[str]
    metric: str | None
    goal: str | None
    data: dict[str, Any]
    """What is known of the data: `num_classes`, `num_test`, ..., and of a run that it is like, all of `OF_LIKE`."""
    intensity: Intensity
    settings: Settings
    require_meter: bool
    config: dict[str, Any]
    """For the record: what was asked for, and how it was resolved."""
    asked: Config
    """The same as of a training: what repeats of one run have in common is hashed from it."""


def resolve(given: Mapping[str, Any], store: Store, *, default_model: str) -> Subject:
    """What was said -> Subject. Raises UsageError for what makes no sense, and StoreError.

    `given` has those of `KEYS` that may be said there, None where nothing was: `metric` is "NAME" or "NAME:min", `like`
    a run with the same data and split. What else it has is not looked at.
    """
    from greenml.energy import Settings, survey
    from greenml.grid import accounting
    from greenml.grid.series import now

    said = _from_environment() | _told({key: given.get(key) for key in KEYS})
    for key, least in (("num_classes", 2), ("num_val", 1), ("num_test", 1)):
        if said.get(key) is not None and said[key] < least:
            raise UsageError(f"{key} is {said[key]}", hint=f"it is {least} at least")
    data, dataset = _data(said, store)
    config = configs.validate(
        {"model": default_model, "dataset": dataset} | {key: said[key] for key in OF_CONFIG if key in said}
    )
    intensity = accounting.intensity_of(config)
    accounting.series_of(config, now())
    metric, goal = metrics.asked(said["metric"]) if said.get("metric") else (None, None)
    resolved = {key: getattr(config, key) for key in OF_CONFIG} | {"metric": metric, "goal": goal}
    return Subject(
        model=config.model,
        dataset=config.dataset,
        season=said.get("season") or UNKNOWN,
        name=config.name,
        tags=config.tags,
        metric=metric,
        goal=goal,
        data=data,
        intensity=intensity,
        settings=Settings.of(config, idle=store.idle(survey.machine)),
        require_meter=config.require_meter,
        config=resolved | ({"like": said["like"]} if said.get("like") else {}),
        asked=config,
    )


def _told(given: Mapping[str, Any]) -> dict[str, Any]:
    """What is not left open; text as it can be stored."""

    def storable(value: Any) -> Any:
        if isinstance(value, list):
            return [storable(item) for item in value]
        return printable(value) if isinstance(value, str) else value

    return {key: storable(value) for key, value in given.items() if value not in (None, [], ())}


def _from_environment() -> dict[str, Any]:
    found = _told({key: os.environ.get(name, "").strip() or None for key, name in FROM_ENVIRONMENT.items()})
    if "tags" in found:
        found["tags"] = [tag for tag in re.split(r"[,\s]+", found["tags"]) if tag]
    return found


def _data(said: dict[str, Any], store: Store) -> tuple[dict[str, Any], str]:
    """What is known of the data, and its name. `like` is completed to the whole id of its run."""
    data: dict[str, Any] = {key: said.get(key) for key in ("num_classes", "num_val", "num_test")}
    if not said.get("like"):
        return data, said.get("dataset", UNKNOWN)
    said["like"] = store.run_id(said["like"])
    [like] = store.rows(f"select dataset, {', '.join(OF_LIKE)} from runs where run_id = ?", [said["like"]])
    dataset = like.pop("dataset")
    for key, value in (("dataset", said.get("dataset")), *data.items()):
        known = dataset if key == "dataset" else like[key]
        if value is not None and known is not None and value != known:
            raise UsageError(
                f"{key} is {value}, but {known} in run {said['like']}",
                hint="leave it out; or leave `like` out, where the data are others",
            )
    return {key: data.get(key) if like[key] is None else like[key] for key in OF_LIKE}, dataset
