"""What a machine draws when nothing runs: measured once by `greenml doctor`, or what its power models say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenml.records import Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from greenml.energy.sensor import Component


def idle_watts(
    components: Mapping[str, Component], measured: Mapping[str, object] | None = None
) -> dict[str, object] | None:
    """The idle power for the record: `watts` (None where a part is unknown), `cpu_w`, `gpu_w`, `ram_w`, where they are
    from. What was measured wins; a power model says what it gives at no load; None where neither says anything."""
    if measured:
        return dict(measured)
    watts = {f"{name}_w": 0.0 if part.source is Source.ABSENT else part.idle_w for name, part in components.items()}
    modelled = [name for name, part in components.items() if part.idle_w is not None]
    if not modelled:
        return None
    known = [value for value in watts.values() if value is not None]
    return {
        "watts": sum(known) if len(known) == len(watts) else None,
        **watts,
        "source": str(Source.ESTIMATED),
        "method": "power models at no load: " + ", ".join(f"{name}: {components[name].method}" for name in modelled),
        "measured_at": None,
    }
