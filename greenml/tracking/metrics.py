"""What programs say about themselves: names, directions, fractions, and which figure a run is judged by."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from greenml.errors import UsageError, nearest
from greenml.goals import LESS, MORE, Name, goal_of, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

PER_CENT = re.compile(r"_(percent|pct)$")
STEPS = frozenset({"step", "global_step", "iteration", "iter", "batch"})
"""A line with one of them tells how far a training is, not how it ended."""
WORDS = frozenset({"epoch", "goal", "schedule_complete"}) | STEPS
"""Keys that say what a line is about."""
MAX_EPOCH = 2**31 - 2


@dataclass(frozen=True, slots=True)
class Line:
    """What a program said at one moment."""

    figures: dict[str, float] = field(default_factory=dict)
    """By their name as it was written; accuracies are fractions."""
    epoch: int | None = None
    """The epoch that these figures end, from 0 or 1, as the program counts."""
    within: int | None = None
    """The epoch, from 1, in whose midst they were taken: 0.3 is in the first."""
    is_step: bool = False
    goal: str | None = None
    """Of the figures whose direction nobody knows by their name."""
    schedule_complete: bool = False
    troubles: dict[str, str] = field(default_factory=dict)
    """What was left out: one sentence for each kind of reason."""

    @property
    def is_beginning(self) -> bool:
        """Whether it says no more than that the epochs begin: `{"epoch": 0}`."""
        return self.epoch == 0 and not self.figures and not self.troubles

    def named(self) -> dict[Name, float]:
        """The figures by split and base name."""
        return {parse(name): value for name, value in self.figures.items()}


def read(values: Mapping[str, object]) -> Line:
    """What a program wrote or logged -> figures that can be kept, and why the others cannot."""
    figures: dict[str, float] = {}
    troubles: dict[str, str] = {}
    for written, value in values.items():
        if written in WORDS:
            continue
        if not _is_name(written):
            troubles.setdefault("name", f"{written!r} is no name in UTF-8, and its figure is not kept")
            continue
        number = _number(value)
        name = written
        if number is None:
            troubles.setdefault("words", f"`{written}` is no number, and is not kept")
            continue
        if not math.isfinite(number):
            troubles.setdefault("nan", f"`{written}` is {number}: what left the numbers is not kept")
            continue
        if PER_CENT.search(name) and goal_of(parse(PER_CENT.sub("", name)).base):
            name, number = PER_CENT.sub("", name), number / 100
        if parse(name).base == "accuracy" and not 0 <= number <= 1:
            troubles.setdefault("fraction", _no_fraction(written, name, number))
            continue
        figures[name] = number
    epoch, within = _epoch(values.get("epoch"), troubles)
    goal = values.get("goal")
    if goal not in (None, "max", "min"):
        troubles.setdefault("goal", f"`goal` is {goal!r}: it is max or min")
    return Line(
        figures=figures,
        epoch=epoch,
        within=within,
        is_step=not STEPS.isdisjoint(values),
        goal=str(goal) if goal in ("max", "min") else None,
        schedule_complete=values.get("schedule_complete") is True,
        troubles=troubles,
    )


def _is_name(written: object) -> bool:
    """Whether it is text that can be stored: JSON knows halves of characters, as `\\ud800` is."""
    try:
        return isinstance(written, str) and bool(written.encode())
    except UnicodeEncodeError:
        return False


def _number(value: object) -> float | None:
    """What Python, NumPy and tensors of one element call a number; None for all else."""
    if isinstance(value, str | bytes | bool) or not hasattr(value, "__float__"):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # arrays, tensors of several elements, 10**400
        return None


def _no_fraction(written: str, name: str, number: float) -> str:
    if written != name or not 1 < number <= 100:
        return f"`{written}` is outside 0 to 1, and is not kept as an accuracy"
    return f"`{written}`: {number:g} is no fraction: log {number / 100:g}, or {written}_percent"


def _epoch(value: object, troubles: dict[str, str]) -> tuple[int | None, int | None]:
    """The epoch that ended, or the one in whose midst the figures were taken."""
    if value is None:
        return None, None
    number = _number(value)
    if number is None or not 0 <= number <= MAX_EPOCH:
        troubles.setdefault("epoch", f"`epoch` is {value!r}, which is no epoch")
        return None, None
    return (int(number), None) if number == int(number) else (None, math.ceil(number))


def asked(text: str) -> tuple[str, str]:
    """`--metric NAME[:max|min]` -> the name's base and its goal. Raises UsageError."""
    name, _, goal = text.partition(":")
    base = parse(name).base
    known = goal_of(base)
    if not base or goal not in ("", "max", "min"):
        raise UsageError(f"--metric {text}: not NAME, NAME:max or NAME:min", hint="as in --metric rmse or elo:max")
    if not goal and known is None:
        otherwise = f"--metric {name}:max where more of it is better, {name}:min where less is"
        raise UsageError(
            f"--metric {name}: nobody knows whether more of it is better",
            hint=nearest(base, MORE | LESS, otherwise=otherwise),
        )
    if base == "accuracy" and goal == "min":
        raise UsageError(f"--metric {text}: more accuracy is better", hint="leave `:min` out")
    return base, goal or known or ""


class Judge:
    """By what a run is judged: what was asked for, else accuracy where there is one, else the first known name.

    A loss is chosen only where its line has nothing better, a figure of the training split never. A loss on the way
    that names no split is the training's, as in the rows of epochs.
    """

    def __init__(self, metric: str | None, goal: str | None) -> None:
        self._is_asked = metric is not None
        self.metric, self.goal = metric, goal
        self._results: dict[Name, float] = {}

    def hear(self, line: Line) -> None:
        """Choose, where there is something to choose from, and keep what may be the result of the run."""
        # A figure without a split, an epoch or a step is what it all came to.
        is_result = line.epoch is None and line.within is None and not line.is_step
        named = line.named()
        figures = {name: value for name, value in named.items() if name.split != "train"}
        if not is_result and Name("train", "loss") not in named:
            figures.pop(Name("", "loss"), None)
        if not self._is_asked and self.metric != "accuracy":
            self._choose([name.base for name in figures], line.goal)
        for name, value in figures.items():
            if name.split == "test" or is_result:
                self._results[name] = value

    def _choose(self, bases: list[str], goal: str | None) -> None:
        known = {base: goal_of(base) or goal for base in bases}
        candidates = [base for base in bases if known[base]]
        if "accuracy" in candidates:
            self.metric, self.goal = "accuracy", "max"
        elif self.metric is None and candidates:
            self.metric = next((base for base in candidates if base != "loss"), "loss")
            self.goal = known[self.metric]

    def result(self, base: str) -> float | None:
        """On the test split, or of the whole run where no split was named; None where neither was said."""
        found = self._results.get(Name("test", base))
        return self._results.get(Name("", base)) if found is None else found

    def validated(self, base: str) -> float | None:
        """On the validation split, said without an epoch."""
        return self._results.get(Name("val", base))


def columns(figures: Mapping[Name, float], metric: str | None) -> dict[str, float | None]:
    """The figures of one epoch -> those that an epoch's row has a place for.

    Where nothing says whose they are, accuracy is of the validation and loss of the training split, until the program
    names that split too.
    """
    accuracies = _by_split(figures, "accuracy", first="val", second="train")
    losses = _by_split(figures, "loss", first="train", second="val")
    validated = {"accuracy": None, "loss": losses["val"]}.get(
        metric or "", figures.get(Name("val", metric or ""), figures.get(Name("", metric or "")))
    )
    return {
        "train_accuracy": accuracies["train"],
        "val_accuracy": accuracies["val"],
        "train_loss": losses["train"],
        "val_loss": losses["val"],
        "lr": figures.get(Name("", "lr")),
        "value": validated,
    }


def has_column(name: Name) -> bool:
    """Whether an epoch's row has a place for a figure."""
    return name == Name("", "lr") or (name.base in ("accuracy", "loss") and name.split != "test")


def _by_split(figures: Mapping[Name, float], base: str, *, first: str, second: str) -> dict[str, float | None]:
    found = {split: figures.get(Name(split, base)) for split in (first, second)}
    plain = figures.get(Name("", base))
    free = next((split for split, value in found.items() if value is None), None)
    if plain is not None and free:
        found[free] = plain
    return found
