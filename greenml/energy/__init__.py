"""What a run costs in joules, and how that is known."""

from greenml.energy.meter import Meter
from greenml.energy.sensor import Component, Reading, Sensor, SensorError

__all__ = ["Component", "Meter", "Reading", "Sensor", "SensorError", "open_meter"]


def open_meter(run_id: str, *, expect_gpu: bool) -> Meter:
    """The meter of this machine: CodeCarbon, started in the background.

    `expect_gpu` says that the run trains on a GPU: one that CodeCarbon does not see is then unknown, not absent.
    """
    from greenml.energy.codecarbon import CodeCarbonSensor

    return Meter(CodeCarbonSensor(expect_gpu=expect_gpu), run_id=run_id)
