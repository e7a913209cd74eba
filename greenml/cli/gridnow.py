"""`greenml grid now`: the intensity that holds now, and how it is known."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from greenml import console
from greenml.cli import gridasking
from greenml.cli.gridasking import IntensityOption, ProviderOption, RegionOption, TraceOption, TraceShiftOption
from greenml.cli.options import JsonOption, StoreOption
from greenml.console import figure

if TYPE_CHECKING:
    from greenml.cli.gridasking import Inquiry
    from greenml.grid.series import Series

    Row = dict[str, Any]

WEEK = timedelta(days=7)
TIMELESS = ("annual", "fixed")
"""Providers whose figure holds from no moment to another."""


def now(
    region: RegionOption = None,
    provider: ProviderOption = None,
    trace: TraceOption = None,
    trace_shift: TraceShiftOption = False,
    intensity: IntensityOption = None,
    json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """The intensity that holds now, how it is known, and how it stands in the last week."""
    from greenml.cli.feeds import Asked
    from greenml.grid import series

    asked = Asked(region=region, provider=provider, trace=trace, intensity=intensity, trace_shift=trace_shift)
    inquiry = gridasking.inquire(asked, store, series.now())
    held = inquiry.feed.holding(inquiry.now)
    gridasking.say_fallbacks([inquiry])
    if not held.steps:
        raise inquiry.nobody("the intensity of now")
    row = described(inquiry, held)
    if json:
        console.print_json([row])
        return
    console.out().print(console.facts(told(inquiry, held, row)))
    if row["status"] in ("modelled", "assumed"):
        gridasking.say_how_to_know(inquiry)


def described(inquiry: Inquiry, series: Series) -> Row:
    """What is known, as one row."""
    [step] = series.steps
    is_timeless = series.provider in TIMELESS
    past = inquiry.feed.only(("store", "trace")).past(inquiry.now - WEEK, inquiry.now)
    is_alike = past.kind == series.kind and series.provider in (past.provider, "learned")
    static = inquiry.static if inquiry.static and inquiry.static.level != "world" else None
    return {
        "region": inquiry.asked.region if inquiry.where else None,
        "g_per_kwh": step.g_per_kwh,
        "status": step.status,
        "start": None if is_timeless else step.start,
        "end": None if is_timeless else step.end,
        "provider": series.provider,
        "source": series.source,
        "zone": series.zone,
        "kind": series.kind,
        "factors": series.factors,
        "percentile": percentile(past, inquiry, step.g_per_kwh) if is_alike else None,
        "annual_g_per_kwh": static and static.g_per_kwh,
        "annual_source": static and static.source,
    }


def percentile(past: Series, inquiry: Inquiry, g_per_kwh: float) -> float | None:
    from greenml.grid import windows

    return windows.standing(past, inquiry.now, g_per_kwh, WEEK)


def told(inquiry: Inquiry, series: Series, row: Row) -> list[tuple[str, str]]:
    """Label and text."""
    when = "" if row["start"] is None else gridasking.span(row["start"], row["end"], inquiry.now)
    standing = row["percentile"]
    static = inquiry.static if row["annual_g_per_kwh"] is not None else None
    return [
        ("now", f"{figure(row['g_per_kwh'])} g/kWh, {row['status']}"),
        ("holds", when),
        ("last week", "" if standing is None else f"higher than {standing:.0f} % of the time that is known"),
        ("place", inquiry.where.name if inquiry.where else ""),
        ("known by", gridasking.in_words(series)),
        ("a year", f"{static.note} ({static.source})" if static and series.provider != "annual" else ""),
    ]
