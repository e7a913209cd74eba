"""What a run costs in joules, and how that is known."""

from greenml.energy.ledger import UNKNOWN_DEVICE
from greenml.energy.meter import Meter
from greenml.energy.sensor import Component, Reading, Sensor, SensorError
from greenml.energy.settings import Settings

__all__ = [
    "UNKNOWN_DEVICE",
    "Component",
    "Meter",
    "Reading",
    "Sensor",
    "SensorError",
    "Settings",
    "ignored_settings",
    "open_meter",
]


def open_meter(run_id: str, *, segment: int = 0, settings: Settings | None = None, driver: str | None = None) -> Meter:
    """The meter that `settings` ask for, not yet started. `segment` counts the lives of the run; `driver` is the run
    of the search whose trial this is: the two are one, and share no machine.

    Raises UsageError for a meter that is not known, or not as asked for.
    """
    from greenml.energy.meters import open_sensor

    settings = settings or Settings()
    return Meter(
        open_sensor(settings),
        run_id=run_id,
        segment=segment,
        heartbeat_s=settings.interval_s,
        idle=settings.idle,
        tdp_w=settings.tdp_w,
        driver=driver,
    )


def ignored_settings() -> str | None:
    """What is set for CodeCarbon here and not obeyed, and greenml's own keys, in words; None where nothing is."""
    from greenml.energy import codecarbon

    found = codecarbon.ignored_settings()
    if not found:
        return None
    said = "; ".join(f"{place}: {', '.join(keys) or 'unreadable'}" for place, keys in found.items())
    prefixed = {key.lower().removeprefix("codecarbon_") for keys in found.values() for key in keys}
    own = sorted({f"`{own}`" for key, own in codecarbon.KEYS.items() if key in prefixed})
    instead = f"; greenml's own keys are {', '.join(own)}" if own else ""
    return f"set for CodeCarbon and not obeyed: {said}{instead}"
