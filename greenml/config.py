"""YAML and flags -> one frozen, validated `Config`, or a reason why not."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from greenml import units
from greenml.errors import UsageError, nearest
from greenml.resources import shipped

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

Optimizer = Literal["adam", "adamw", "sgd"]
Precision = Literal["fp32", "fp16", "bf16"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Augment = Literal["auto", "none", "crop", "crop-flip"]
Scope = Literal["machine", "process"]
MOST_G = 10_000
"""g CO2e per kWh: an intensity that is given is no higher."""


def bounded(default: Any = dataclasses.MISSING, **bounds: float) -> Any:
    """A key with its default, and the bounds that pydantic holds it to."""
    return field(default=default, metadata=bounds)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The keys under `schedule`: what a run waits and pauses for. Durations as in `30m`, moments as in `08:00`."""

    enabled: bool | None = None
    """None: where a rule is given. True without a rule is `when_green`."""
    when_green: bool = False
    deadline: str | None = None
    threshold: float | None = None
    max_wait: str = "1h"
    check_interval: str = "5m"
    pause_above: str | None = None
    resume_below: str | None = None
    min_dwell: str = "10m"
    exit_on_pause: bool = False
    stays_on: bool = False
    prefetch: bool = False
    provider: str | None = None
    policy: str | None = None
    """A file, which holds also where no rule is given here."""

    @property
    def is_on(self) -> bool:
        """Whether the run may have to wait."""
        has_rule = self.when_green or self.threshold is not None or self.pause_above is not None
        return has_rule if self.enabled is None else self.enabled


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that makes a run what it is. `configs/base.yaml` explains every key; a test holds the two together."""

    model: str = bounded(min_length=1)
    model_args: dict[str, Any] = field(default_factory=dict)
    dataset: str = bounded("auto", min_length=1)
    data_dir: str | None = None
    image_size: int | None = bounded(None, ge=8, le=1024)
    augment: Augment = "auto"
    val_fraction: float = bounded(0.1, ge=0.01, le=0.5)
    split_seed: int = bounded(0, ge=0, lt=2**32)

    epochs: int = bounded(20, ge=1)
    batch_size: int = bounded(128, ge=1)
    grad_accum: int = bounded(1, ge=1)
    optimizer: Optimizer = "adamw"
    lr: float | None = bounded(None, gt=0, lt=1e6)
    weight_decay: float | None = bounded(None, ge=0, lt=1e6)
    label_smoothing: float = bounded(0.1, ge=0, lt=1)
    warmup_steps: int = bounded(100, ge=0)
    ema_decay: float = bounded(0.99, ge=0, lt=1)
    seed: int = bounded(0, ge=0, lt=2**32)

    precision: Precision = "fp32"
    device: Device = "auto"
    num_threads: int | None = bounded(None, ge=1, le=1024)

    early_stop: bool = False
    patience: int = bounded(5, ge=1)
    min_delta: float = bounded(0.0, ge=0, lt=1)
    target_acc: float | None = bounded(None, gt=0, le=100)
    time_budget: str | None = None
    energy_budget: str | None = None
    carbon_budget: str | None = None

    region: str | None = None
    intensity: float | None = bounded(None, ge=0, le=MOST_G)
    trace: str | None = bounded(None, min_length=1)
    trace_shift: bool = False
    provider: str | None = bounded(None, min_length=1)
    pue: float = bounded(1.0, ge=1, le=10)
    meter: str = bounded("codecarbon", min_length=1)
    scope: Scope = "machine"
    tdp: float | None = bounded(None, gt=0, le=100_000)
    sampling_interval: float = bounded(1.0, ge=0.1, le=2)
    require_meter: bool = False

    schedule: Schedule = field(default_factory=Schedule)

    log: list[str] = field(default_factory=list)
    name: str | None = None
    tags: list[str] = field(default_factory=list)


SCHEDULE_KEYS = tuple(key.name for key in dataclasses.fields(Schedule))
KEYS = tuple(key.name for key in dataclasses.fields(Config))
STOP_RULES = (
    "epochs", "early_stop", "patience", "min_delta", "target_acc", "time_budget", "energy_budget", "carbon_budget",
)  # fmt: skip
"""What may change when a run is taken up again."""
OF_ONE_RUN = (
    "seed",
    "name",
    "tags",
    "region",
    "intensity",
    "trace",
    "trace_shift",
    "provider",
    "pue",
    "data_dir",
    "sampling_interval",
    "require_meter",
    "log",
    "schedule",
)
"""What repeats of one training may differ in."""
METERED_BY = ("meter", "scope", "tdp")
"""What repeats share; left out of their hash where it is the default, which it was before there was a choice."""
UNITS = {"time_budget": units.SECONDS, "energy_budget": units.JOULES, "carbon_budget": units.GRAMS}
EXAMPLES = {"time_budget": "30m", "energy_budget": "50Wh", "carbon_budget": "20g"}
DEFAULTS: dict[str, Any] = {key: value for key, value in dataclasses.asdict(Config(model="")).items() if key != "model"}


def resolve(flags: Mapping[str, Any], file: Path | None = None) -> Config:
    """Defaults, then the keys of a YAML file, then flags that are not None. Raises UsageError."""
    from_file = read_yaml(file) if file else {}
    given = {key: value for key, value in flags.items() if value is not None}
    if "schedule" in given and isinstance(from_file.get("schedule"), dict):
        given["schedule"] = from_file["schedule"] | given["schedule"]
    if "model" not in given | from_file:
        raise UsageError("no model given", hint="try `greenml train cnn`, or set `model:` in the config file")
    return validate(from_file | given, where={key: f"{file}: `{key}`" for key in from_file.keys() - given.keys()})


def validate(values: Mapping[str, Any], where: Mapping[str, str] | None = None) -> Config:
    """Values by key -> Config; `where` names the origin of a key in messages. Raises UsageError."""
    from pydantic import ConfigDict, Field, ValidationError, create_model

    if isinstance(values.get("schedule"), dict):
        _refuse_unknown(values["schedule"], SCHEDULE_KEYS, f"{_place('schedule', where)}: ")
    types = get_type_hints(Config)
    keys: dict[str, Any] = {
        key.name: (types[key.name], Field(DEFAULTS.get(key.name, ...), **key.metadata))
        for key in dataclasses.fields(Config)
    }
    kind = ConfigDict(protected_namespaces=(), coerce_numbers_to_str=True)
    try:
        checked = create_model("Config", __config__=kind, **keys)(**{"schedule": {}, **values})
        config = Config(**{key: getattr(checked, key) for key in KEYS})
    except ValidationError as error:
        first = error.errors()[0]
        key, *inner = map(str, first["loc"])
        default = DEFAULTS.get(key)
        place = _place(key, where) + "".join(f", `{name}`" for name in inner if name in SCHEDULE_KEYS)
        raise UsageError(
            f"{place}: {first['msg'].replace('Input should', 'should')}, not {shorten(first['input'])}",
            hint="`--help` explains every flag" if default is None or inner else f"the default is {default}",
        ) from None
    for key in UNITS:
        try:
            quantity(config, key)
        except ValueError as error:
            raise UsageError(f"{_place(key, where)}: {error}", hint=f"as in {EXAMPLES[key]}") from None
    if config.target_acc is not None and config.target_acc > 1:
        return dataclasses.replace(config, target_acc=config.target_acc / 100)
    return config


def quantity(config: Config, key: str) -> float | None:
    """A budget in seconds, joules or grams; None where there is none. Raises ValueError, in words."""
    text = getattr(config, key)
    return None if text is None else units.parse_quantity(text, UNITS[key])


def group_hash(config: Config, *machine: object) -> str:
    """Equal for configs that differ in nothing but their seed and what they are called, on equal machines."""
    own = {
        key: value
        for key, value in dataclasses.asdict(config).items()
        if key not in OF_ONE_RUN and not (key in METERED_BY and value == DEFAULTS[key])
    }
    return hashlib.sha256(json.dumps([own, *machine], sort_keys=True).encode()).hexdigest()[:16]


def dump(config: Config) -> str:
    """A config as YAML that `resolve` turns back into an equal one."""
    import yaml

    text: str = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)
    return text


def read_yaml(
    file: Path, *, known: Collection[str] = KEYS, example: str = "configs/base.yaml", kind: str = "config"
) -> dict[str, Any]:
    """The keys of a file, all of them `known`, and what they hold. Raises UsageError."""
    import yaml

    # A bare name may also be one of the files that ship: `--config optimized.yaml`.
    path = file if file.exists() or file.parent.name else shipped("configs") / file.name
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        ships = [example.rpartition("/")[2]]
        if kind == "config":
            ships = sorted(found.name for found in shipped("configs").glob("*.yaml"))
        raise UsageError(
            f"{file}: no such {kind} file",
            hint=nearest(file.name, ships, otherwise=f"greenml ships {', '.join(ships)}"),
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read: {error}", hint=f"a {kind} is a YAML text file") from None
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        at = "" if line is None else f", line {line + 1}"
        raise UsageError(f"{file}: not valid YAML{at}", hint=f"one `key: value` a line, as in {example}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{file}: not a list of keys", hint=f"one `key: value` a line, as in {example}")
    _refuse_unknown(values, known, f"{file}: ")
    return values


def _refuse_unknown(values: Mapping[str, Any], known: Collection[str], place: str) -> None:
    for key in values:
        if key not in known:
            hint = nearest(str(key), known, otherwise=f"known keys: {', '.join(known)}")
            raise UsageError(f"{place}unknown key `{key}`", hint=hint)


def shorten(value: object) -> str:
    """A value as Python writes it, cut where a message would not hold it."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _place(key: str, where: Mapping[str, str] | None) -> str:
    return (where or {}).get(key, f"--{key.replace('_', '-')}")
