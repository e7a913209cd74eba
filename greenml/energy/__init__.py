"""What a run costs in joules, and how that is known."""

from dataclasses import dataclass

from greenml.energy.meter import Meter
from greenml.energy.sensor import Component, Reading, Sensor, SensorError

__all__ = ["Component", "Meter", "Reading", "Sensor", "SensorError", "Settings", "open_meter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How energy is to be metered; `configs/base.yaml` explains the keys of the same names."""

    meter: str = "codecarbon"
    scope: str = "machine"
    tdp_w: float | None = None
    interval_s: float = 1.0
    idle: dict[str, object] | None = None
    """What this machine draws when nothing runs, as `greenml doctor` measured and the store keeps it."""


def open_meter(run_id: str, *, segment: int = 0, settings: Settings | None = None) -> Meter:  # noqa: ARG001
    """The meter of this machine: CodeCarbon, started in the background. `segment` counts the lives of the run."""
    from greenml.energy.codecarbon import CodeCarbonSensor

    return Meter(CodeCarbonSensor(), run_id=run_id, segment=segment)
