"""How energy is to be metered, as asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from greenml.config import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How energy is to be metered; `configs/base.yaml` explains the keys of the same names."""

    meter: str = "codecarbon"
    scope: str = "machine"
    with_children: bool = True
    """Whether the scope `process` has what the process starts: the driver of a search leaves that to its trials."""
    tdp_w: float | None = None
    interval_s: float = 1.0
    idle: dict[str, object] | None = None
    """What this machine draws when nothing runs, as `greenml doctor` measured and the store keeps it."""

    @classmethod
    def of(cls, config: Config, *, idle: dict[str, object] | None = None) -> Settings:
        """As a config asks for it, on a machine whose idle power is known or not."""
        return cls(
            meter=config.meter,
            scope=config.scope,
            tdp_w=config.tdp,
            interval_s=config.sampling_interval,
            idle=idle,
        )
