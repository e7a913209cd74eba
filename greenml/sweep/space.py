"""What a sweep may try: a YAML file in Optuna's terms -> parameters with their ranges, or a reason why not."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from greenml import config as configs
from greenml.errors import UsageError, nearest
from greenml.resources import shipped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SEARCHABLE = (
    "model", "image_size", "augment", "batch_size", "grad_accum", "optimizer", "lr", "weight_decay", "label_smoothing",
    "warmup_steps", "ema_decay", "precision",
)  # fmt: skip
"""Keys of a config that make another recipe. Seeds, splits and stop rules are not searched but given."""

Value = str | int | float
Sampler = Literal["nsga2", "tpe", "gp", "random"]
SAMPLERS = get_args(Sampler)
"""How a space may be searched; only `sampler` opens Optuna."""
Kind = Literal["categorical", "int", "float"]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One key of a config, and what it may be; of a key that depends on others, one of its cases."""

    key: str
    type: Kind
    choices: tuple[Value, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    """Values of other keys under which it counts; it always counts where nothing is said."""

    @property
    def name(self) -> str:
        """What Optuna knows it by: the key and, in a case of several, the condition."""
        condition = ", ".join(f"{key}={'|'.join(map(str, values))}" for key, values in self.when.items())
        return f"{self.key} ({condition})" if condition else self.key

    def counts(self, values: Mapping[str, Any]) -> bool:
        """Whether the condition holds among the values of a config."""
        return all(values.get(key) in allowed for key, allowed in self.when.items())

    def holds(self, value: Any) -> bool:
        """Whether it may be this."""
        if self.type == "categorical":
            return value in self.choices
        if self.low is None or self.high is None or isinstance(value, bool) or not isinstance(value, int | float):
            return False
        step = self.step or (1 if self.type == "int" else None)
        on_step = step is None or math.isclose(
            (value - self.low) / step, round((value - self.low) / step), abs_tol=1e-9
        )
        return self.low <= value <= self.high and on_step

    @property
    def num_values(self) -> float:
        """How many values there are to choose from; infinitely many for a range without steps."""
        if self.type == "categorical":
            return len(self.choices)
        assert self.low is not None
        assert self.high is not None
        if self.low == self.high:
            return 1
        step = self.step or (1 if self.type == "int" and not self.log else None)
        return float("inf") if step is None else int((self.high - self.low) / step + 1e-9) + 1


@dataclass(frozen=True, kw_only=True)
class Space:
    """What is searched, in the order of the file, and what a trial must keep to count."""

    parameters: tuple[Parameter, ...]
    min_accuracy: float | None = None
    """Of validation, a fraction."""
    max_parameters: int | None = None
    enqueue: tuple[Mapping[str, Value], ...] = ()
    """Values, by Optuna's names, of the trials that come first; what one does not say is drawn."""

    def config(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """Values by Optuna's names -> keys of a config: what counts under these values, in six digits. What went
        through a logarithm and back comes out a little different, and would be another training."""
        chosen: dict[str, Any] = {}
        for parameter in self.parameters:  # a condition names keys that stand above it
            if parameter.name in values and parameter.counts(chosen):
                value = values[parameter.name]
                chosen[parameter.key] = float(f"{value:.6g}") if parameter.type == "float" else value
        return chosen

    def locate(self, config: Mapping[str, Any]) -> dict[str, Value] | None:
        """Keys of a config -> values by Optuna's names; None where it lies outside."""
        values: dict[str, Value] = {}
        chosen: dict[str, Value] = {}
        for parameter in self.parameters:
            if parameter.counts(chosen):
                if not parameter.holds(config.get(parameter.key)):
                    return None
                values[parameter.name] = chosen[parameter.key] = config[parameter.key]
        return values or None

    @property
    def models(self) -> tuple[str, ...]:
        """The architectures that are compared; none where the space leaves that to others."""
        return tuple(str(choice) for part in self.parameters if part.key == "model" for choice in part.choices)

    def to_plain(self) -> dict[str, Any]:
        """As a file holds it: `parse` gives an equal space."""
        cases: dict[str, list[dict[str, Any]]] = {}
        for parameter in self.parameters:
            terms = {"type": parameter.type, "when": {key: list(values) for key, values in parameter.when.items()}}
            own = {term: getattr(parameter, term) for term in sorted(TERMS[parameter.type])}
            own |= {"choices": list(parameter.choices)} if parameter.choices else {}
            cases.setdefault(parameter.key, []).append(terms | own)
        return {
            "parameters": cases,
            "constraints": {"min_accuracy": self.min_accuracy, "max_parameters": self.max_parameters},
            "enqueue": [self.config(values) for values in self.enqueue],
        }


def read(file: Path | None = None) -> Space:
    """A file, or else the space that ships. Raises UsageError."""
    import yaml

    path = file or shipped("configs") / "sweep.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file", hint="without --space it is configs/sweep.yaml that ships") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}", hint="a search space is a YAML text file") from None
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        at = "" if line is None else f", line {line + 1}"
        raise UsageError(f"{path}: not valid YAML{at}", hint="as in configs/sweep.yaml") from None
    return parse(content, where=str(path))


def with_models(space: Space, models: Sequence[str]) -> Space:
    """The same with other architectures; what was said of one that is left out falls away."""
    plain = space.to_plain()
    cases: dict[str, list[dict[str, Any]]] = {"model": [{"type": "categorical", "choices": list(models)}]}
    for key, entries in plain["parameters"].items():
        for entry in entries if key != "model" else ():
            allowed = entry["when"].get("model")
            if allowed is not None:
                allowed = [name for name in allowed if name in models]
                entry["when"] = {**entry["when"], "model": allowed}
            if allowed != []:
                cases.setdefault(key, []).append(entry)
    enqueued = [trial for trial in plain["enqueue"] if trial.get("model", models[0]) in models]
    return parse({**plain, "parameters": cases, "enqueue": enqueued}, where="--models")


TERMS = {
    "categorical": {"choices"},
    "int": {"low", "high", "log", "step"},
    "float": {"low", "high", "log", "step"},
}
HINT = "as in configs/sweep.yaml, which `greenml sweep --dry-run` shows"


def parse(content: Any, *, where: str = "the space") -> Space:
    """What a YAML file holds, or what `Space.to_plain` gave -> a space. Raises UsageError, which names `where`."""
    sections = _mapping(content, where, {"parameters", "constraints", "enqueue"})
    parameters: list[Parameter] = []
    for key, entry in _mapping(sections.get("parameters"), f"{where}: `parameters`", None).items():
        if key not in SEARCHABLE:
            otherwise = f"what can be searched: {', '.join(SEARCHABLE)}"
            hint = otherwise if key in configs.KEYS else nearest(str(key), SEARCHABLE, otherwise=otherwise)
            raise UsageError(f"{where}: `{key}` cannot be searched", hint=hint)
        cases = entry if isinstance(entry, list) else [entry]
        if not cases:
            raise UsageError(f"{where}: `{key}`: no entry", hint=HINT)
        parameters += [_parameter(key, case, f"{where}: `{key}`") for case in cases]
    _refuse_conditions_on_what_follows(parameters, where)
    _refuse_cases_that_overlap(parameters, where)
    for parameter in parameters:
        _refuse_values_of_another_kind(parameter, where)
    space = Space(
        parameters=tuple(parameters),
        enqueue=_enqueue(sections.get("enqueue") or [], parameters, where),
        **_constraints(sections.get("constraints") or {}, where),
    )
    if all(parameter.num_values == 1 for parameter in parameters):
        said = "holds one point only" if parameters else "is empty"
        raise UsageError(f"{where}: the space {said}: there is nothing to search", hint=HINT)
    return space


def _parameter(key: str, entry: Any, where: str) -> Parameter:
    given = _mapping(entry, where, {"type", "when", *TERMS["categorical"], *TERMS["float"]})
    kind = given.get("type")
    if kind not in TERMS:
        raise UsageError(f"{where}: type `{kind}`", hint=f"one of {', '.join(TERMS)}, {HINT}")
    if wrong := given.keys() - TERMS[kind] - {"type", "when"}:
        raise UsageError(f"{where}: {kind} takes no `{min(wrong)}`", hint=f"it takes {', '.join(sorted(TERMS[kind]))}")
    when = {
        name: tuple(value) if isinstance(value, list) else (value,)
        for name, value in _mapping(given.get("when") or {}, f"{where}: `when`", None).items()
    }
    if kind == "categorical":
        choices = given.get("choices")
        if not isinstance(choices, list) or not choices or len(set(map(str, choices))) < len(choices):
            raise UsageError(f"{where}: choices must be a list of different values", hint=HINT)
        if any(isinstance(choice, bool) or not isinstance(choice, Value) for choice in choices):
            raise UsageError(f"{where}: choices must be words or numbers", hint=HINT)
        return Parameter(key=key, type=kind, choices=tuple(choices), when=when)
    low, high, step = (_number(given.get(term), kind, f"{where}: `{term}`") for term in ("low", "high", "step"))
    is_log = given.get("log", False)
    if low is None or high is None or low > high:
        raise UsageError(f"{where}: {kind} needs `low` and `high`, the lower one first", hint=HINT)
    if not isinstance(is_log, bool) or (is_log and (low <= 0 or step is not None)) or (step is not None and step <= 0):
        raise UsageError(f"{where}: `log` needs a low above 0 and no step; a step is above 0", hint=HINT)
    return Parameter(key=key, type=kind, low=low, high=high, log=is_log, step=step, when=when)


def _number(value: Any, kind: str, where: str) -> float | None:
    if value is None:
        return None
    try:  # PyYAML reads 1e-5 as text
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{where}: {value!r} is no number", hint=HINT)
    if kind == "int" and number != int(number):
        raise UsageError(f"{where}: {value!r} is no whole number", hint=HINT)
    return int(number) if kind == "int" else number


def _constraints(content: Any, where: str) -> dict[str, Any]:
    given = _mapping(content, f"{where}: `constraints`", {"min_accuracy", "max_parameters"})
    floor = _number(given.get("min_accuracy"), "float", f"{where}: `min_accuracy`")
    ceiling = _number(given.get("max_parameters"), "int", f"{where}: `max_parameters`")
    if floor is not None and not 0 <= floor <= 100:
        raise UsageError(f"{where}: `min_accuracy` {floor:g}", hint="a fraction, or above 1 per cent: 0.6 or 60")
    if ceiling is not None and ceiling < 1:
        raise UsageError(f"{where}: `max_parameters` {ceiling}", hint="a number of parameters, as in 1000000")
    return {"min_accuracy": floor / 100 if floor and floor > 1 else floor, "max_parameters": ceiling}


def _enqueue(content: Any, parameters: list[Parameter], where: str) -> tuple[dict[str, Value], ...]:
    """Keys and values of the first trials -> values by Optuna's names."""
    if not isinstance(content, list):
        raise UsageError(f"{where}: `enqueue` is not a list of trials", hint=HINT)
    trials = []
    for number, entry in enumerate(content, start=1):
        place = f"{where}: trial {number} of `enqueue`"
        given = _mapping(entry, place, {part.key for part in parameters})
        values: dict[str, Value] = {}
        counted = set()
        for part in parameters:
            if part.key in given and part.counts(given):
                if not part.holds(given[part.key]):
                    raise UsageError(f"{place}: `{part.key}` {given[part.key]} is not in the space", hint=HINT)
                values[part.name] = given[part.key]
                counted.add(part.key)
        if idle := given.keys() - counted:
            needed = {key for part in parameters if part.key in idle for key in part.when}
            raise UsageError(
                f"{place}: `{min(idle)}` does not count there",
                hint=f"it depends on {', '.join(sorted(needed))}: say it too",
            )
        trials.append(values)
    return tuple(trials)


def _mapping(value: Any, where: str, known: set[str] | None) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: not a list of keys", hint=HINT)
    for key in value:
        if known is not None and key not in known:
            raise UsageError(f"{where}: unknown key `{key}`", hint=nearest(str(key), known, otherwise=HINT))
    return value


def _refuse_conditions_on_what_follows(parameters: list[Parameter], where: str) -> None:
    """A condition looks at values that are chosen by then, and can hold."""
    above: list[Parameter] = []
    for parameter in parameters:
        for key, allowed in parameter.when.items():
            holders = [other for other in above if other.key == key and key != parameter.key]
            if not holders or not any(other.holds(value) for other in holders for value in allowed):
                raise UsageError(
                    f"{where}: `{parameter.key}` counts when {key} is {' or '.join(map(str, allowed))}, which never is",
                    hint=f"put `{key}` above it, with that among its values",
                )
        above.append(parameter)


def _refuse_cases_that_overlap(parameters: list[Parameter], where: str) -> None:
    """Of a key's cases one counts at most: else one would hide what another drew."""
    for one, other in itertools.combinations(parameters, 2):
        shared = one.when.keys() & other.when.keys()
        if one.key == other.key and all(set(one.when[key]) & set(other.when[key]) for key in shared):
            raise UsageError(
                f"{where}: `{one.key}` has two entries that count at once",
                hint="give each a `when` that rules the others out",
            )


def _refuse_values_of_another_kind(parameter: Parameter, where: str) -> None:
    """Every end of a range, and every choice, must do as the key of a config."""
    ends = parameter.choices or (parameter.low, parameter.high)
    for value in ends:
        configs.validate({"model": "cnn", parameter.key: value}, where={parameter.key: f"{where}: `{parameter.key}`"})
