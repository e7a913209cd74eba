"""Trackers by name, what they are told, and whether they can be had."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from greenml.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from greenml.records import Epoch, Metric, Run

MODULES = ("greenml.trackers.mlflow", "greenml.trackers.wandb")
"""What registers the trackers that come with greenml."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a run ended, what it came to, and what it leaves."""

    run_id: str
    status: str
    """`done`, `interrupted`, `failed`; `crashed` where nobody said."""
    ended_at: datetime | None
    """UTC, naive; None: just now."""
    summary: dict[str, Any] | None
    """What the store knows of the run, as in `summary.json`; None where it cannot be asked."""
    files: list[str]
    """Paths on this machine."""


class Tracker(Protocol):
    """Is made and called in a process of its own, `begin` first and `end` last.

    An OSError, raised or among the causes of what is raised, means that it may work later: what was to be told is told
    again. After any other exception it is lost, and after one of `begin` nothing more is told.
    """

    def begin(self, run: Run) -> str:
        """Open the run, or open it again where it is known, and say in a few words where it is found."""

    def epoch(self, epoch: Epoch, at: datetime | None) -> None:
        """An epoch that ended `at` a time (UTC, naive), or just now. One that is known already is told again."""

    def metric(self, metric: Metric) -> None:
        """A figure that a tracked program said about itself."""

    def end(self, ending: Ending) -> None:
        """Close the run."""


Check = Callable[[], None]
Maker = Callable[[], Tracker]

_TRACKERS: dict[str, tuple[Maker, Check]] = {}


def register_tracker(name: str, *, check: Check = lambda: None) -> Callable[[Maker], Maker]:
    """Make a tracker known under `name`. `check` raises UsageError where it cannot be had, and imports nothing."""

    def register(maker: Maker) -> Maker:
        _TRACKERS[name] = (maker, check)
        return maker

    return register


def check(names: Iterable[str]) -> None:
    """Raise UsageError for a tracker that is not known, or cannot be had here."""
    for name in names:
        _, check_one = _registered(name)
        check_one()


def create(name: str) -> Tracker:
    """Import what a tracker needs."""
    maker, _ = _registered(name)
    return maker()


def require(package: str) -> None:
    """Raise UsageError unless `package` is installed."""
    # A folder of that name in the working folder, as W&B leaves one, looks like a package without an origin.
    spec = None if sys.modules.get(package, package) is None else find_spec(package)
    if spec is None or spec.origin is None:
        raise UsageError(f"--log {package}: {package} is not installed", hint="pip install greenml[trackers]")


def _registered(name: str) -> tuple[Maker, Check]:
    for module in MODULES:
        import_module(module)
    for point in entry_points(group="greenml.trackers"):
        point.load()
    if name not in _TRACKERS:
        known = " and ".join(sorted(_TRACKERS))
        raise UsageError(
            f"--log {name}: no such tracker", hint=nearest(name, _TRACKERS, otherwise=f"greenml logs to {known}")
        )
    return _TRACKERS[name]
