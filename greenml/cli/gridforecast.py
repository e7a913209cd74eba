"""`greenml grid forecast`: the next hours of the grid as a chart."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenml import console
from greenml.cli import gridasking
from greenml.cli.gridasking import IntensityOption, ProviderOption, RegionOption, TraceOption, TraceShiftOption
from greenml.cli.options import JsonOption, StoreOption
from greenml.console import UNKNOWN, figure
from greenml.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from greenml.grid.outlook import Outlook
    from greenml.grid.windows import Window

    Row = dict[str, Any]

HOURS, MOST_HOURS = 24, 48
BY_THE_HOUR = 24
"""So many lines show an hour each; of more hours a line shows two."""
HOUR = timedelta(hours=1)
EIGHTHS = " ▏▎▍▌▋▊▉█"
MARK = "▶"
MOST_WIDE = 60
"""Columns of a bar: wider ones say no more."""


def forecast(
    hours: Annotated[
        int, typer.Option("--hours", min=1, max=MOST_HOURS, metavar="N", help="How far to look: 1 to 48.")
    ] = HOURS,
    duration: Annotated[
        str | None, typer.Option("--duration", metavar="TIME", help="Mark the cleanest 4h, 90m.", show_default=False)
    ] = None,
    region: RegionOption = None,
    provider: ProviderOption = None,
    trace: TraceOption = None,
    trace_shift: TraceShiftOption = False,
    intensity: IntensityOption = None,
    json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """The intensity of the next hours, as a chart by the clock of this machine."""
    from greenml.cli.feeds import Asked
    from greenml.grid import outlook as outlooks
    from greenml.grid import series, windows

    length = None if duration is None else gridasking.duration_of("--duration", duration)
    if length is not None and length > hours * HOUR:
        raise UsageError(f"--duration {duration}: more than the {hours} hours that are shown", hint="give more --hours")
    asked = Asked(region=region, provider=provider, trace=trace, intensity=intensity, trace_shift=trace_shift)
    inquiry = gridasking.inquire(asked, store, series.now())
    until = inquiry.now + hours * HOUR
    outlook = outlooks.look(inquiry.feed, inquiry.now, until, duration=length)
    gridasking.say_fallbacks([inquiry])
    if not outlook.series.steps:
        raise inquiry.nobody(f"the intensity of the next {hours} hours")
    if json:
        console.print_json(rows(outlook))
        return
    best = length and windows.best(outlook.series, duration=length, earliest=inquiry.now, deadline=until)
    draw(outlook, best or None)
    for part in outlook.parts:
        console.say(gridasking.in_words(part))
    say_the_rest(outlook, best or None, duration)
    if outlook.series.status in ("modelled", "assumed"):
        gridasking.say_how_to_know(inquiry)


def rows(outlook: Outlook) -> list[Row]:
    """A row a step, each with who says so; a gap is one whose figure is null."""
    found: list[Row] = [
        {
            "start": step.start,
            "end": step.end,
            "g_per_kwh": step.g_per_kwh,
            "status": step.status,
            "provider": part.provider,
            "kind": part.kind,
            "zone": part.zone,
        }
        for part in outlook.parts
        for step in part.steps
    ]
    for start, end in outlook.series.gaps(outlook.start, outlook.end):
        found.append({"start": start, "end": end} | dict.fromkeys(("g_per_kwh", "status", "provider", "kind", "zone")))
    return sorted(found, key=lambda row: row["start"])


def draw(outlook: Outlook, best: Window | None) -> None:
    """A line an hour or two: day, time, figure, how it is known, bar."""
    from rich.text import Text

    from greenml.grid.moments import wall_time

    lines = list(_lines(outlook))
    known = [g_per_kwh for *_, g_per_kwh in lines if g_per_kwh is not None]
    top = max(known, default=0.0)
    statuses = {start: outlook.series.between(start, end).status for start, end, _ in lines}
    width = min(console.out().width - len("Sun 22  14:00  12,345  estimated   "), MOST_WIDE)
    out = console.out()
    out.print(Text(f"{'g/kWh':>21}", style="dim"))
    day = ""
    for start, end, g_per_kwh in lines:
        clock = wall_time(start)
        named = f"{clock:%a %d}"
        is_best = best is not None and min(best.end, end) - max(best.start, start) > (end - start) / 2
        status = UNKNOWN if g_per_kwh is None else statuses[start]
        text = Text(f"{named if named != day else '':6}  {clock:%H:%M}  {figure(g_per_kwh):>6}  ")
        text.append(f"{status:9} {MARK if is_best else ' '}", style="" if is_best else "dim")
        if g_per_kwh is not None:
            text.append(bar(g_per_kwh / top if top else 0.0, width), style="green" if is_best else "")
        text.rstrip()
        out.print(text, no_wrap=True)
        day = named


def bar(share: float, width: int) -> str:
    """In eighths of a column, so that an hour that differs looks different."""
    eighths = round(share * width * 8)
    return EIGHTHS[-1] * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def say_the_rest(outlook: Outlook, best: Window | None, duration: str | None) -> None:
    """What the chart does not say: the best window, and where knowledge ends."""
    if best is not None:
        when = gridasking.span(best.start, best.end, outlook.start)
        console.say(f"{MARK} the cleanest {duration}: {when}, {figure(best.g_per_kwh)} g/kWh")
    elif duration is not None:
        console.say(f"no stretch of {duration} is known without a gap")
    lacks = outlook.series.gaps(outlook.start, outlook.end)
    if lacks:
        named = ", ".join(gridasking.span(*lack, outlook.start) for lack in lacks[:3])
        console.say(f"unknown: {named}{', ...' if len(lacks) > 3 else ''}")


def _lines(outlook: Outlook) -> Iterator[tuple[datetime, datetime, float | None]]:
    """By full hours of this machine's clock: where a part of one is unknown, all of it is."""
    from greenml.grid.moments import wall_time

    num = 1 if outlook.end - outlook.start <= BY_THE_HOUR * HOUR else 2
    local = wall_time(outlook.start)
    start = outlook.start - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    while start < outlook.end:
        end = start + num * HOUR
        inside = max(start, outlook.start), min(end, outlook.end)
        yield start, end, outlook.series.mean(*inside)
        start = end
