"""The only conversions. After one of them the number has a new name."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

JOULES_PER_WH = 3.6e3
JOULES_PER_KWH = 3.6e6
GRAMS_PER_KG = 1e3
GRAMS_PER_LB = 453.59237  # exact, by definition
KWH_PER_MWH = 1e3


def wh(joules: float) -> float:
    """Joules -> watt-hours."""
    return joules / JOULES_PER_WH


def kwh(joules: float) -> float:
    """Joules -> kilowatt-hours."""
    return joules / JOULES_PER_KWH


def joules_of_kwh(energy_kwh: float) -> float:
    """Kilowatt-hours -> joules."""
    return energy_kwh * JOULES_PER_KWH


def co2_g(joules: float, intensity_g_per_kwh: float, pue: float = 1.0) -> float:
    """Joules at the device, g CO2e per kWh, power usage effectiveness -> grams of CO2e."""
    return kwh(joules) * pue * intensity_g_per_kwh


def g_per_kwh_of_lbs_per_mwh(intensity_lbs_per_mwh: float) -> float:
    """Pounds per megawatt-hour -> grams per kilowatt-hour."""
    return intensity_lbs_per_mwh * GRAMS_PER_LB / KWH_PER_MWH


SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
JOULES = {"J": 1.0, "kJ": 1e3, "MJ": 1e6, "mWh": 3.6, "Wh": JOULES_PER_WH, "kWh": JOULES_PER_KWH}
GRAMS = {"mg": 1e-3, "g": 1.0, "kg": GRAMS_PER_KG, "t": 1e6}


def parse_quantity(text: str, units: dict[str, float]) -> float:
    """ "1.5h", "0.2 kWh", "20g" -> the value in the base unit of `units`. Raises ValueError, in words.

    Case matters only where it tells units apart: "50wh" is 50 Wh, "5 MJ" is not "5 mJ".
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if not match:
        raise ValueError(f"`{text}` is not a number above 0 with a unit")
    number, name = match.groups()
    folded = [unit for unit in units if unit.lower() == name.lower()]
    unit = name if name in units else folded[0] if len(folded) == 1 else None
    if unit is None:
        lacks = f"has the unknown unit `{name}`" if name else "has no unit"
        raise ValueError(f"`{text}` {lacks}: {', '.join(units)}")
    value = float(number) * units[unit]
    if not 0 < value < math.inf:
        raise ValueError(f"`{text}` is not above 0")
    return value


def format_quantity(value: float | None, units: tuple[tuple[float, str], ...]) -> str:
    """A value in the base unit -> three significant digits in the largest unit that fits."""
    if value is None:
        return "unknown"
    size, name = next((unit for unit in units if abs(value) >= unit[0]), units[-1])
    scaled = value / size
    digits = 2 if abs(scaled) < 10 else 1 if abs(scaled) < 100 else 0
    return f"{scaled:,.{digits}f} {name}"


ENERGY = ((3.6e6, "kWh"), (3.6e3, "Wh"), (3.6, "mWh"))
MASS = ((1e3, "kg"), (1.0, "g"), (1e-3, "mg"))


def format_energy(joules: float | None) -> str:
    """Joules -> "12.3 Wh", "1.20 kWh", "45.0 mWh"; None -> "unknown"."""
    return format_quantity(joules, ENERGY)


def format_mass(grams: float | None) -> str:
    """Grams -> "1.20 kg", "12.3 g", "45.0 mg"; None -> "unknown"."""
    return format_quantity(grams, MASS)


def unit_of(values: Sequence[float], units: Sequence[tuple[float, str]]) -> tuple[float, str]:
    """The size and name of the one unit that fits the largest of the values in the base unit."""
    largest = max(map(abs, values), default=0.0)
    return next((unit for unit in units if largest >= unit[0]), units[-1])


def format_alike(values: Sequence[float], units: tuple[tuple[float, str], ...]) -> tuple[list[str], str]:
    """Values in the base unit -> figures in the one unit that fits the largest, as many digits each, and its name."""
    size, name = unit_of(values, units)
    largest = max(map(abs, values)) / size
    digits = 2 if largest < 10 else 1 if largest < 100 else 0
    return [f"{value / size:,.{digits}f}" for value in values], name


def format_bytes(num_bytes: float | None) -> str:
    """Bytes -> "620 MB", "1.20 GB", "12 bytes"; None -> "unknown"."""
    if num_bytes is not None and num_bytes < 1e3:
        return f"{num_bytes:.0f} bytes"
    return format_quantity(num_bytes, ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")))


def format_flops(num_flops: float | None) -> str:
    """Floating-point operations -> "38.2 MFLOPs", "1.82 GFLOPs"; None -> "unknown"."""
    return format_quantity(num_flops, ((1e12, "TFLOPs"), (1e9, "GFLOPs"), (1e6, "MFLOPs"), (1e3, "kFLOPs")))


def format_duration(seconds: float | None) -> str:
    """Seconds -> "850 ms", "42.0 s", "3:07", "1:02:45"; None -> "unknown"."""
    if seconds is None:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
