"""Which policy holds, and what it asks of the store: what runs of this machine have used since the week began."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from greenml.cli.options import flag
from greenml.errors import PolicyError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from greenml.grid.planner import Planner
    from greenml.grid.policy import Facts, Policy
    from greenml.records import Intensity
    from greenml.store import Store

PolicyOption = Annotated[
    str | None,
    flag(
        "--policy", metavar="FILE", help="When, where and how much may be trained.", default="$GREENML_POLICY, or none"
    ),
]


def whole_path(file: str) -> str:
    """Of a file that is here, so that it is found from anywhere later; one that ships is found by its name."""
    return str(Path(file).resolve()) if Path(file).exists() else file


def in_words(policy: Policy) -> str:
    """Which policy holds."""
    return f"policy {policy.name} ({policy.file})"


def admit(planner: Planner, store: Store) -> None:
    """Ask the policy before anything begins, and keep what it says. Raises PolicyError."""
    try:
        planner.admit()
    except PolicyError:
        store.write(planner.judgements())
        raise
    if said := [*planner.judgements()]:
        store.write(said)


def facts_of(
    policy: Policy | None,
    store: Store,
    intensity: Intensity,
    *,
    wants_j: Callable[[], float | None] = lambda: None,
    factor: Callable[[datetime], float] | None = None,
) -> Callable[[datetime], Facts]:
    """What a policy asks of a run beside the intensity, whenever it asks. Where the store is held at that moment, what
    it said last stands. `wants_j` says what the run is still going to use, `factor` by how many g/kWh that is counted;
    without it, by those of `intensity`."""
    from greenml import environment
    from greenml.grid.policy import Facts, week
    from greenml.store.usage import used_since
    from greenml.units import co2_g

    used: list[tuple[float | None, float | None]] = []

    def ask(now: datetime) -> Facts:
        if policy and policy.has_budget:
            try:
                used[:] = [used_since(store, week(policy, now)[0], environment.hardware()["cpu"])]
            except StoreError:
                if not used:
                    raise
        used_j, used_g = used[0] if used else (None, None)
        wants = wants_j()
        g_per_kwh = factor(now) if factor else intensity.g_per_kwh
        return Facts(
            now=now,
            region=intensity.region_asked,
            used_j=used_j,
            used_g=used_g,
            wants_j=wants,
            wants_g=None if wants is None else co2_g(wants, g_per_kwh, intensity.pue),
        )

    return ask
