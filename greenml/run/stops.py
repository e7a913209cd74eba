"""The rules that end a run before its last epoch: validation, time, energy, carbon."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from greenml import config as configs
from greenml.records import Notice
from greenml.units import co2_g

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from greenml.config import Config
    from greenml.energy import Meter
    from greenml.records import Intensity
    from greenml.run.past import Past

    Grams = Callable[[float], float]
    """All joules of a run so far -> what they have come to."""


def stop_rule(config: Config, accuracies: Sequence[float]) -> str | None:
    """What validation says after these epochs: `target-acc`, `early-stop`, or None to go on."""
    if config.target_acc is not None and accuracies and accuracies[-1] >= config.target_acc:
        return "target-acc"
    best, waited = -math.inf, 0
    for accuracy in accuracies:
        best, waited = (accuracy, 0) if accuracy > best + config.min_delta else (best, waited + 1)
    return "early-stop" if config.early_stop and waited >= config.patience else None


def limits(config: Config) -> dict[str, float]:
    """The budgets that a config sets, by key, in seconds, joules and grams."""
    return {key: limit for key in configs.UNITS if (limit := configs.quantity(config, key)) is not None}


def grams_by(intensity: Intensity) -> Grams:
    """Joules -> grams by one factor, whatever the hour."""
    return lambda joules: co2_g(joules, intensity.g_per_kwh, intensity.pue)


def budget_rule(limits: Mapping[str, float], grams_of: Grams, seconds: float, joules: float | None) -> str | None:
    """Which budget is spent: `time-budget`, `energy-budget`, `carbon-budget`; None while none is, or none can
    be told."""
    grams = None if joules is None else grams_of(joules)
    for key, spent in (("time_budget", seconds), ("energy_budget", joules), ("carbon_budget", grams)):
        if spent is not None and spent >= limits.get(key, math.inf):
            return key.replace("_", "-")
    return None


class Budgets:
    """Time, energy and carbon of all lives of the run, set-up included."""

    def __init__(self, config: Config, meter: Meter, grams_of: Grams, past: Past | None) -> None:
        self._meter, self._grams_of = meter, grams_of
        self._limits = limits(config)
        self._past_s, self._past_j = (past.duration_s, past.known_j) if past else (0.0, 0.0)
        self._waited_s = 0.0
        self._needs_joules = bool(self._limits.keys() & {"energy_budget", "carbon_budget"})

    def spent(self) -> str | None:
        """The rule that ends the run now: time exactly, energy and carbon by the power of the last second."""
        joules = self._meter.energy_j() if self._needs_joules else None
        return budget_rule(
            self._limits,
            self._grams_of,
            self._past_s + self._meter.elapsed_s() - self._waited_s,
            None if joules is None else self._past_j + joules,
        )

    def leave_out(self, seconds: float) -> None:
        """Time that the run stood still counts in no time budget; what it drew meanwhile counts."""
        self._waited_s += seconds

    def warn(self) -> Iterator[Notice]:
        """Said once, when it becomes true: a budget that nobody can watch."""
        if self._needs_joules and self._meter.is_blind:
            self._needs_joules = False
            yield Notice(text="the energy or carbon budget cannot be kept: a part of this machine cannot be metered")
