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
    from. What was measured wins; of the rest a power model says what it gives at no load; None where nothing is known.
    """
    if measured and measured.get("watts") is not None:
        return dict(measured)
    parts = dict[str, float | None]()
    models = list[str]()
    for name, part in components.items():
        found = (measured or {}).get(f"{name}_w")
        if isinstance(found, int | float):
            parts[name] = float(found)
        elif part.source is Source.ABSENT:
            parts[name] = 0.0
        else:
            parts[name] = part.idle_w
            models += [f"{name}: {part.method}"] if part.idle_w is not None else []
    if not models and not measured:
        return None
    known = [watts for watts in parts.values() if watts is not None]
    methods = [str(measured["method"])] if measured and "method" in measured else []
    methods += ["power models at no load: " + ", ".join(models)] if models else []
    return {
        **(measured or {"measured_at": None}),
        "watts": sum(known) if len(known) == len(parts) else None,
        **{f"{name}_w": watts for name, watts in parts.items()},
        "source": str(Source.ESTIMATED if models else Source.MEASURED),
        "method": "; ".join(methods),
    }
