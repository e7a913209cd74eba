"""The meters by name: CodeCarbon's models beside counters, counters alone, a replay, and those of other packages.

Adding a meter is one decorated function, here or elsewhere:

    from greenml.energy.meters import register_meter

    @register_meter("wall-plug", usage="wall-plug:ADDRESS")
    def wall_plug(argument, settings):
        return WallPlugSensor(argument)

It gets what follows the colon, and the settings, and gives a `Sensor`. A package makes its meters known by an entry
point in the group `greenml.meters` that names the module.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from greenml.energy.machine import MachineSensor
from greenml.energy.replay import FileSensor
from greenml.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenml.energy.sensor import Sensor
    from greenml.energy.settings import Settings

    Factory = Callable[[str, Settings], Sensor]

_FACTORIES: dict[str, tuple[Factory, str]] = {}


def register_meter(name: str, *, usage: str) -> Callable[[Factory], Factory]:
    """Make a meter known as `name`; `usage` says how it is asked for."""

    def register(factory: Factory) -> Factory:
        _FACTORIES[name] = factory, usage
        return factory

    return register


def open_sensor(settings: Settings) -> Sensor:
    """What `settings.meter` names, cut down to this process where that is the scope. It has not started yet.

    Raises UsageError for a name that is not known, and for an argument that does not do.
    """
    from greenml.energy.process import ProcessShare, ProcessTree

    for point in entry_points(group="greenml.meters"):
        point.load()
    name, _, argument = settings.meter.partition(":")
    if name not in _FACTORIES:
        known = ", ".join(usage for _, usage in _FACTORIES.values())
        raise UsageError(
            f"unknown meter `{settings.meter}`", hint=nearest(name, _FACTORIES, otherwise=f"greenml knows {known}")
        )
    factory, usage = _FACTORIES[name]
    if bool(argument) != (":" in usage):
        raise UsageError(f"meter `{settings.meter}` is not complete", hint=f"it is asked for as `{usage}`")
    sensor = factory(argument, settings)
    if settings.scope != "process":
        return sensor
    return ProcessShare(sensor, ProcessTree(with_children=settings.with_children))


@register_meter("codecarbon", usage="codecarbon")
def codecarbon(argument: str, settings: Settings) -> Sensor:  # noqa: ARG001
    """Hardware counters where they can be read, CodeCarbon's power models for the rest."""
    from greenml.energy.codecarbon import CodeCarbonSensor, version_name

    return MachineSensor(
        version_name(),
        lambda wanted: CodeCarbonSensor(wanted, tdp_w=settings.tdp_w),
        visible_only=settings.scope == "process",
    )


@register_meter("counters", usage="counters")
def counters(argument: str, settings: Settings) -> Sensor:  # noqa: ARG001
    """Hardware counters alone: what has none is unknown."""
    return MachineSensor("hardware counters", visible_only=settings.scope == "process")


@register_meter("replay", usage="replay:FILE")
def replay(argument: str, settings: Settings) -> Sensor:  # noqa: ARG001
    """Watts over time from a file."""
    return FileSensor(Path(argument))
