"""What a run costs in joules, and how that is known."""

from greenml.energy.meter import Meter
from greenml.energy.sensor import Component, Reading, Sensor, SensorError

__all__ = ["Component", "Meter", "Reading", "Sensor", "SensorError", "open_meter"]


def open_meter(run_id: str, *, segment: int = 0) -> Meter:
    """The meter of this machine: CodeCarbon, started in the background. `segment` counts the lives of the run."""
    from greenml.energy.codecarbon import CodeCarbonSensor

    return Meter(CodeCarbonSensor(), run_id=run_id, segment=segment)
