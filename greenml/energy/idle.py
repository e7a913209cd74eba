"""What a machine draws when nothing runs: measured once by `greenml doctor`, or what its power models say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenml.records import Source, total

if TYPE_CHECKING:
    from collections.abc import Mapping

    from greenml.energy.sensor import Component


def idle_watts(
    components: Mapping[str, Component], measured: Mapping[str, object] | None = None
) -> dict[str, object] | None:
    """The idle power for the record, part by part: `watts` (None where a part is unknown), `cpu_w`, `gpu_w`, `ram_w`,
    and where they are from.

    A part that is counted now has what was `measured` of it; one that is modelled has what its model gives at no load,
    so that nothing measured is taken off a modelled total. None where no part says anything.
    """
    parts_w = {f"{name}_w": _part_w(name, part, measured or {}) for name, part in components.items()}
    present = [name for name, part in components.items() if part.source is not Source.ABSENT]
    if all(parts_w[f"{name}_w"] is None for name in present):
        return None
    is_measured = any(_is_counted(components[name]) and parts_w[f"{name}_w"] is not None for name in present)
    modelled = [name for name in present if components[name].idle_w is not None and not _is_counted(components[name])]
    methods = [str(measured["method"])] if measured and is_measured else []
    if modelled:
        methods.append("power models at no load: " + ", ".join(f"{n}: {components[n].method}" for n in modelled))
    return {
        "watts": total(*parts_w.values()),
        **parts_w,
        "source": str(Source.ESTIMATED if modelled else Source.MEASURED),
        "method": "; ".join(methods),
        "measured_at": measured["measured_at"] if measured and is_measured else None,
    }


def _part_w(name: str, part: Component, measured: Mapping[str, object]) -> float | None:
    if part.source is Source.ABSENT:
        return 0.0
    if not _is_counted(part):
        return part.idle_w
    watts = measured.get(f"{name}_w")
    return float(watts) if isinstance(watts, int | float) else None


def _is_counted(part: Component) -> bool:
    return part.source in (Source.MEASURED, Source.APPORTIONED)
