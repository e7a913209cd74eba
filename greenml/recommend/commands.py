"""Commands that are ready to run: a recipe again, and the cheapest run that would tell more."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from greenml import config as configs
from greenml.console import counted
from greenml.recommend import words
from greenml.store import resolve_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from greenml.recommend.advice import Asked
    from greenml.store import Store

    Row = dict[str, Any]

TRAINED_HERE = ("train", "trial")
"""Kinds of runs that greenml trained: a trial of a search is a training like any other."""
ARCHITECTURES = ("cnn", "mobilenetv2_100", "resnet18")
"""What to compare with, the smallest first."""
UNSTOPPED = {key: configs.DEFAULTS[key] for key in configs.STOP_RULES if key != "epochs"}
"""No rule that ends a training before its last epoch."""
WITHOUT_FLAG = ("augment", "split_seed", "warmup_steps", "ema_decay")
SETTLED = ("augment", "image_size", "lr", "weight_decay", "device", "num_threads")
"""What a training settles by itself, and would settle so again; also on another machine, in its own way."""
FIRST = ("model", "dataset", "epochs")
NOT_AGAIN = ("name", "tags", "schedule")
"""What a run was called, and until when it had to be done, is not so of the next one."""


def again(db: Store, row: Row, **changes: Any) -> str | None:
    """The command that trains a recipe again, with some keys of its config changed; None where nobody knows one.

    What is not greenml's own is run by its own command, whatever the changes. Also None where its config can only be
    given as a file: no flag takes back a budget that is in it, or names another model.
    """
    if row["kind"] == "track":
        return row["command"] or None
    if row["kind"] not in TRAINED_HERE:
        return None
    config = {key: row[key] for key in ("model", "dataset")}
    config |= {key: value for key, value in row["config"].items() if key in configs.KEYS and key not in NOT_AGAIN}
    file = _own_file(db, row)
    if file and _without_flag(row):
        changed = {key: value for key, value in changes.items() if value != config.get(key, configs.DEFAULTS.get(key))}
        if None in changed.values() or "model" in changed:
            return None
        return _line(["--config", str(file)], _flags(changed), _store(db))
    asked = {key: value for key, value in config.items() if key not in SETTLED or key in _asked(row)}
    return train(db, asked | changes)


def train(db: Store, config: Mapping[str, Any]) -> str:
    """`greenml train` with a flag for each key that is not as it is by default; the data set and epochs always."""
    given = {key: value for key, value in config.items() if key not in FIRST and value != configs.DEFAULTS[key]}
    head = {key: config[key] for key in FIRST[1:] if key in config}
    return _line([config["model"]], _flags(head), _flags(given), _store(db))


def next_step(db: Store, asked: Asked, best: Row, other: Row) -> tuple[str, str | None]:
    """The cheapest run that would tell more, as (why, and what it would cost; its command); empty where none would."""
    if best["shortfall"] == "energy unknown":
        return "what can be measured here, and what would help:", "greenml doctor"
    if best["kind"] not in TRAINED_HERE:
        return _once_more(db, best, other) if best["shortfall"] is None else ("", None)
    if best["shortfall"] == "outside the limits":
        return _within_limits(db, asked, best)
    if best["shortfall"]:
        return _further(db, asked, best)
    smallest = best["model"] == ARCHITECTURES[0]
    if best["num_recipes"] == 1 and not (smallest and best["is_worth_repeating"]):
        why = f"only {best['model']} has been tried: another model gives something to compare"
        if compared := _compared(db, best, why):
            return compared
    return _once_more(db, best, other)


def _once_more(db: Store, best: Row, other: Row) -> tuple[str, str | None]:
    """A second seed for whichever ran under one, the cheaper first (`is_worth_repeating`); else nothing."""
    row = next((row for row in (best, other) if row["is_worth_repeating"]), None)
    if row is None:
        return "", None
    seed = max(row["seeds"], default=0) + 1
    command = again(db, row, seed=seed)
    if command is None:
        return "", None
    which = words.name(row, other if row is best else best)
    under = f"seed {seed}" if row["kind"] in TRAINED_HERE else "another seed"
    often = "once" if row["trained_num_runs"] == 1 else "under one seed"
    return f"{which} ran {often}: the same under {under} shows the spread, and {_took(row)}:", command


def _further(db: Store, asked: Asked, best: Row) -> tuple[str, str | None]:
    """Twice the epochs where they still taught something at the end, else another architecture."""
    if best["best_epoch"] < 0.75 * best["trained_epochs"]:
        peak = f"its accuracy peaked at epoch {best['best_epoch']} of {best['trained_epochs']}"
        why = f"{peak}: another model may get there"
        if compared := _compared(db, best, why):
            return compared
    if best["epochs"] < best["trained_epochs"] and asked.has_limits:  # more epochs take more than the limits leave
        return ("", None) if best["model"] == ARCHITECTURES[0] else _within_limits(db, asked, best)
    changes = UNSTOPPED | {"epochs": 2 * best["trained_epochs"]} | _budgets(asked)
    stop = ""
    if asked.target_accuracy is not None:
        changes["target_acc"] = asked.target_accuracy
        stop = "; it stops once it is there"
    command = again(db, best, **changes)
    if command is None:
        return "", None
    return f"more epochs may get there: {counted(best['trained_epochs'], 'epoch')} took {_cost(best)}{stop}:", command


def _within_limits(db: Store, asked: Asked, best: Row) -> tuple[str, str | None]:
    """The same, told to stop in time; smaller where there is something smaller."""
    model = ARCHITECTURES[0]
    changes = UNSTOPPED | {"epochs": best["trained_epochs"]} | _budgets(asked)
    if best["model"] != model:
        changes |= {"model": model, "model_args": {}}
    command = again(db, best, **changes)
    if command is None:
        return "", None
    return f"a training of {model} that ends at the limit shows what it reaches by then:", command


def _budgets(asked: Asked) -> dict[str, str]:
    """The limits that were asked for, as rules that end a training."""
    budgets = {}
    if asked.max_co2_g is not None:
        budgets["carbon_budget"] = f"{asked.max_co2_g:g}g"
    if asked.max_time_s is not None:
        budgets["time_budget"] = f"{asked.max_time_s:g}s"
    return budgets


def _compared(db: Store, best: Row, why: str) -> tuple[str, str | None] | None:
    """An architecture that was not tried, in the same way. What it would cost nobody knows yet, and nobody says."""
    model = next((model for model in ARCHITECTURES if model not in best["tried_models"]), None)
    command = None if model is None else again(db, best, model=model, model_args={}, epochs=best["trained_epochs"])
    if command is None:
        return None
    return f"{why}; what it takes is not known yet, `greenml estimate` with the same flags may say:", command


def _took(row: Row) -> str:
    return f"takes what its run took, {_cost(row)}"


def _cost(row: Row) -> str:
    return words.cost(row["trained_energy_kwh"], row["trained_co2_g"], row["trained_duration_s"], row["trained_source"])


def _asked(row: Row) -> set[str]:
    """The keys that the command of a run gave by flag; all keys where it may have had others from a file."""
    try:
        given = shlex.split(row["command"])
    except ValueError:  # a command that nobody can read
        return set(configs.KEYS)
    flags = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in given if word.startswith("--")}
    return set(configs.KEYS) if given[:2] != ["greenml", "train"] or "config" in flags else flags


def lost(db: Store, row: Row) -> list[str]:
    """What `again` cannot ask for, as "warmup_steps 7": keys without a flag, of a run whose own file is gone."""
    if row["kind"] not in TRAINED_HERE or _own_file(db, row):
        return []
    return [f"{key} {row['config'][key]}" for key in _without_flag(row)]


def _without_flag(row: Row) -> list[str]:
    """Keys for which there is no flag, and which the run had from a file."""
    if not _asked(row) >= set(WITHOUT_FLAG):
        return []
    config = row["config"]
    return [key for key in WITHOUT_FLAG if config.get(key, configs.DEFAULTS[key]) != configs.DEFAULTS[key]]


def _own_file(db: Store, row: Row) -> Path | None:
    """The config that a run left beside the store."""
    file = db.path.parent / "runs" / row["run_ids"][0] / "config.yaml"
    return file if file.exists() else None


def _flags(config: Mapping[str, Any]) -> list[str]:
    """Keys of a config -> the words that give them; what has no flag is left out."""
    found: list[str] = []
    for key, value in config.items():
        if key in WITHOUT_FLAG or value is None:
            continue
        if key == "model_args":
            found += [word for name, one in value.items() for word in ("--model-arg", f"{name}={json.dumps(one)}")]
        elif isinstance(value, list):
            found += [word for one in value for word in (f"--{key}", str(one))]
        elif isinstance(value, bool):
            found.append(f"--{'' if value else 'no-'}{key.replace('_', '-')}")
        else:
            found += [f"--{key.replace('_', '-')}", str(value)]
    return found


def _store(db: Store) -> list[str]:
    """The store by name, where it is not the one that commands look into by themselves."""
    return [] if db.path == resolve_path(None) else ["--store", str(db.path)]


def _line(*words: Sequence[str]) -> str:
    return shlex.join(["greenml", "train", *(word for part in words for word in part)])
