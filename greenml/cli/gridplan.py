"""`greenml grid plan`: when to run, and where, and what that saves against starting at once, after all costs."""

from __future__ import annotations

import dataclasses
import math
import shlex
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenml import console, units
from greenml.cli import gridasking
from greenml.cli.gridasking import (
    IntensityOption,
    ProviderOption,
    RegionOption,
    TraceOption,
    TraceShiftOption,
    per_cent,
    span,
)
from greenml.cli.options import JsonOption, StoreOption, flag
from greenml.console import UNKNOWN, Column, figure
from greenml.errors import UsageError
from greenml.units import format_duration, format_mass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from greenml.cli.feeds import Asked
    from greenml.cli.gridasking import Inquiry
    from greenml.errors import GreenMLError
    from greenml.grid.outlook import Offer, Outlook
    from greenml.grid.windows import Load

    Row = dict[str, Any]

EXAMPLES = """\
\b
Examples:
  greenml grid plan --duration 4h --region DE             within the next 24 hours
  greenml grid plan --duration 4h --region DE --deadline tomorrow-08:00 --watts 120
  greenml grid plan --duration 12h --trace de.csv --interruptible --idle-watts 0 --watts 120
  greenml grid plan --duration 4h --regions IN-TN,SE,FR   where, and when there
"""
SLACK = "24h"
RESTART = "30s"


def plan(
    duration: Annotated[str, typer.Option("--duration", metavar="TIME", help="How long it runs: 4h, 90m.")],
    start: Annotated[
        str, typer.Option("--start", metavar="TIME", help="When it could begin: now, 22:00, 2026-11-23T22:00+01:00.")
    ] = "now",
    deadline: Annotated[
        str, typer.Option("--deadline", metavar="TIME", help="When it has to be done, from --start on: 08:00, 6h.")
    ] = SLACK,
    region: RegionOption = None,
    regions: Annotated[
        str | None,
        flag("--regions", metavar="CODES", help="Rank them: IN-TN,SE,FR; savings are against now in the first."),
    ] = None,
    provider: ProviderOption = None,
    trace: TraceOption = None,
    trace_shift: TraceShiftOption = False,
    intensity: IntensityOption = None,
    interruptible: Annotated[bool, typer.Option("--interruptible", help="It may pause: the best pieces.")] = False,
    max_pauses: Annotated[
        int | None, flag("--max-pauses", min=0, metavar="N", help="For --interruptible.", default="as many as pay")
    ] = None,
    watts: Annotated[
        float | None, flag("--watts", metavar="W", help="What it draws while it runs: tells grams, too.")
    ] = None,
    idle_watts: Annotated[
        float | None,
        flag(
            "--idle-watts",
            metavar="W",
            help="What the machine draws while it waits; 0 where it is off.",
            default="a tenth of the run's, assumed",
        ),
    ] = None,
    stays_on: Annotated[
        bool, typer.Option("--stays-on", help="The machine is on anyway: waiting costs nothing.")
    ] = False,
    restart: Annotated[
        str, typer.Option("--restart", metavar="TIME", help="What going on after a pause takes.")
    ] = RESTART,
    json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """When to run within a deadline, or where, and what that saves.

    Exact over the steps of the intensity; against starting at once, without a pause.
    """
    from greenml.cli.feeds import Asked

    job = Job(
        duration=gridasking.duration_of("--duration", duration),
        is_interruptible=interruptible,
        max_pauses=max_pauses,
        watts=watts,
        idle_watts=idle_watts,
        stays_on=stays_on,
        restart=gridasking.duration_of("--restart", restart, RESTART),
    )
    asked = Asked(region=region, provider=provider, trace=trace, intensity=intensity, trace_shift=trace_shift)
    when = times(start, deadline, job, may_be_past=trace is not None or intensity is not None)
    if regions is not None:
        rank(places(asked, regions), job, when, store, json=json)
        return
    inquiry = gridasking.inquire(asked, store, when.now)
    outlook = look(inquiry, job, when)
    gridasking.say_fallbacks([inquiry])
    offer = job.offer(inquiry, outlook)
    if offer is None:
        raise why_not(inquiry, outlook, job)
    if json:
        console.print_json([row(inquiry, outlook, offer, job)])
        return
    show(inquiry, outlook, offer, job, when)


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """Naive UTC."""

    start: datetime
    deadline: datetime
    now: datetime

    @property
    def is_now(self) -> bool:
        """Whether `train` could begin with it: it waits from when it is typed."""
        return self.start == self.now

    @property
    def until(self) -> str:
        """The deadline by this machine's clock, as `train` takes it: a duration would count from when it is typed."""
        from greenml.grid.moments import wall_time

        return wall_time(self.deadline).isoformat(timespec="minutes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be run, and what it costs not to."""

    duration: timedelta
    is_interruptible: bool = False
    max_pauses: int | None = None
    watts: float | None = None
    idle_watts: float | None = None
    stays_on: bool = False
    restart: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        """Raises UsageError."""
        for name, value in (("--watts", self.watts), ("--idle-watts", self.idle_watts)):
            if value is not None and not (0 < value < 1e9 or (value == 0 and name == "--idle-watts")):
                raise UsageError(f"{name} {value:g}: no power in watts", hint=f"as in {name} 120")
        if self.idle_watts and self.watts is None:
            raise UsageError("--idle-watts without --watts: a share of what?", hint="give --watts, too")
        if self.idle_watts and self.stays_on:
            raise UsageError(
                "--idle-watts and --stays-on: a machine that is on anyway costs nothing more", hint="give one of them"
            )
        if self.max_pauses is not None and not self.is_interruptible:
            raise UsageError("--max-pauses without --interruptible: it never pauses", hint="give both")

    @property
    def load(self) -> Load:
        """In watts where these are known; else in multiples of what the run draws."""
        from greenml.grid.planner import ASSUMED_IDLE
        from greenml.grid.windows import Load

        active_w = self.watts or 1.0
        idle_w = 0.0 if self.stays_on else ASSUMED_IDLE * active_w if self.idle_watts is None else self.idle_watts
        return Load(active_w=active_w, idle_w=idle_w, restart_j=self.restart.total_seconds() * active_w)

    @property
    def idle_source(self) -> str:
        return "stays on" if self.stays_on else "assumed" if self.idle_watts is None else "given"

    def offer(self, inquiry: Inquiry, outlook: Outlook) -> Offer | None:
        from greenml.grid import outlook as outlooks

        return outlooks.offer(
            inquiry.feed,
            outlook,
            duration=self.duration,
            load=self.load,
            is_interruptible=self.is_interruptible,
            max_pauses=self.max_pauses,
        )


def times(start: str, deadline: str, job: Job, *, may_be_past: bool) -> When:
    """Raises UsageError for what is no moment, is over, or leaves too little time."""
    from greenml.grid import series
    from greenml.grid.moments import shown

    now = series.now()
    begins = gridasking.moment_of("--start", start, now)
    ends = gridasking.moment_of("--deadline", deadline, begins)
    if begins < now and not may_be_past:
        raise UsageError(
            f"--start {start}: that was {format_duration((now - begins).total_seconds())} ago",
            hint="leave it out to plan from now on; with --trace it may lie in the past",
        )
    if ends <= begins:
        over = ends <= now
        past = f"that was {format_duration((now - ends).total_seconds())} ago" if over else "that is before --start"
        raise UsageError(f"--deadline {deadline}: {past}", hint="give a later one: tomorrow-08:00, 6h")
    if ends - begins < job.duration:
        raise UsageError(
            f"--duration: {format_duration(job.duration.total_seconds())} do not fit between {shown(begins, now)} and "
            f"{shown(ends, now)}",
            hint=f"give a later --deadline, {shown(begins + job.duration, now)} at least, or a shorter --duration",
        )
    return When(start=begins, deadline=ends, now=now)


def look(inquiry: Inquiry, job: Job, when: When) -> Outlook:
    from greenml.grid import outlook

    return outlook.look(inquiry.feed, when.start, when.deadline, duration=job.duration)


def why_not(inquiry: Inquiry, outlook: Outlook, job: Job) -> GreenMLError:
    """The job fits into nothing that is known: nothing is, knowledge ends too soon, or there are gaps."""
    from greenml.errors import DataError

    series, now = outlook.series, inquiry.now
    if not series.steps:
        return inquiry.nobody(f"the time from {span(outlook.start, outlook.end, now)}")
    kind = UsageError if inquiry.asked.trace is not None else DataError
    needs = format_duration(job.duration.total_seconds())
    assert series.start is not None
    assert series.end is not None
    gaps = series.gaps(series.start, series.end)
    known = span(series.start, series.end, now)
    if series.end - series.start < job.duration:
        return kind(
            f"{inquiry.place}: the forecast is shorter than the job: known from {known}, and it runs for {needs}",
            hint="give a shorter --duration, or a --trace that reaches further",
        )
    named = span(*gaps[0], now) if gaps else known
    way = "fill the gap" if job.is_interruptible else "fill it, or say --interruptible: pieces may lie around it"
    return kind(f"{inquiry.place}: no {needs} without a gap in what is known: the first is {named}", hint=way)


def row(inquiry: Inquiry, outlook: Outlook, offer: Offer, job: Job) -> Row:
    """All of it, for machines; grams where watts are known, and never of marginal figures."""
    load, saving = job.load, offer.saving
    used = outlook.series.kind
    in_grams = job.watts is not None and used == "average"
    energy_j = load.active_w * job.duration.total_seconds()
    saved_g = None
    if in_grams and offer.now_g_per_kwh is not None:
        saved_g = units.co2_g(energy_j, offer.now_g_per_kwh) - units.co2_g(energy_j, offer.g_per_kwh)
    return {
        "region": inquiry.asked.region if inquiry.where else None,
        "start": offer.windows[0].start,
        "end": offer.windows[-1].end,
        "deadline": outlook.end,
        "duration_s": job.duration.total_seconds(),
        "intensity_g_per_kwh": offer.g_per_kwh,
        "now_g_per_kwh": offer.now_g_per_kwh,
        "saved_share": offer.saved_share,
        "saved_share_low": offer.low,
        "saved_share_high": offer.high,
        "saved_g": saved_g,
        "net_share": saving.share if saving else None,
        "net_g": saving.saved_g if saving and in_grams else None,
        "then_g": saving.then_g if saving and in_grams else None,
        "now_g": saving.now_g if saving and in_grams else None,
        "watts": job.watts,
        "idle_share": load.idle_w / load.active_w,
        "idle_source": job.idle_source,
        "restart_s": job.restart.total_seconds(),
        "windows": [dataclasses.asdict(window) for window in offer.windows],
        "status": offer.status,
        "provider": offer.provider,
        "source": outlook.series.source,
        "zone": outlook.series.zone,
        "kind": used,
        "factors": outlook.series.factors,
        "known_until": outlook.series.end,
    }


def show(inquiry: Inquiry, outlook: Outlook, offer: Offer, job: Job, when: When) -> None:
    """The plan on stdout, what it rests on on stderr, and what to type."""
    facts = row(inquiry, outlook, offer, job)
    console.out().print(console.facts(told(facts, offer, job, when)))
    for part in outlook.parts:
        console.say(gridasking.in_words(part))
    for line in assumptions(outlook, offer, job, when):
        console.say(line)
    if offer.is_modelled:
        gridasking.say_how_to_know(inquiry)
    if when.is_now and (lack := why_no_command(inquiry.asked, outlook)):
        console.say(lack)
    elif when.is_now:
        print(f"\n  {console.clean(train_command(inquiry.asked, outlook, offer, job, when))}")


def told(facts: Row, offer: Offer, job: Job, when: When) -> Iterator[tuple[str, str]]:
    """Label and text."""
    first = offer.windows[0]
    if len(offer.windows) == 1:
        at_once = ": at once" if first.start == when.start else ""
        yield "run", f"{span(first.start, first.end, when.now)}{at_once}"
    for i, window in enumerate(offer.windows if len(offer.windows) > 1 else ()):
        yield "" if i else "run", f"{span(window.start, window.end, when.now)}, {figure(window.g_per_kwh)} g/kWh"
    then = "now" if when.start == when.now else "at --start"
    against = UNKNOWN if offer.now_g_per_kwh is None else figure(offer.now_g_per_kwh)
    marginal = ", marginal" if facts["kind"] == "marginal" else ""
    yield "intensity", f"{figure(offer.g_per_kwh)} g/kWh against {against} {then}{marginal} ({offer.status})"
    yield "saved", _saved(facts, offer)
    yield "net", _net(facts, job)


def _saved(facts: Row, offer: Offer) -> str:
    share = offer.saved_share
    if share is None:
        return "unknown: nobody knows what starting at once would emit"
    grams = f", {format_mass(facts['saved_g'])}" if facts["saved_g"] else ""
    label = ", modelled" if offer.is_modelled else ""
    if offer.low is None or offer.high is None:
        return f"{per_cent(share)}{grams}{label}" + ("" if share == 0 else "; no interval")
    return f"{per_cent(share)}{grams}{label}; {per_cent(offer.low)} to {per_cent(offer.high)} in 8 of 10 such forecasts"


def _net(facts: Row, job: Job) -> str:
    """After idling and restarts."""
    share = facts["net_share"]
    if share is None:
        return "unknown: nobody knows the intensity all the time that it would wait"
    num_restarts = len(facts["windows"]) - 1
    if job.stays_on:
        idle = "the machine is on anyway"
    elif job.idle_watts == 0:
        idle = "the machine is off while it waits"
    else:
        idle = f"it idles at {per_cent(facts['idle_share'])} of the run's power{', assumed' * (job.idle_watts is None)}"
    restarts = f" and {console.counted(num_restarts, 'restart')}" if num_restarts else ""
    grams = f", {format_mass(facts['net_g'])}" if facts["net_g"] else ""
    return f"{per_cent(share)}{grams}: {idle}{restarts}"


def assumptions(outlook: Outlook, offer: Offer, job: Job, when: When) -> Iterator[str]:
    """What has to be known of the figures."""
    if outlook.left_out:
        yield f"not mixed with these, as on another level: {', '.join(outlook.left_out)}"
    if outlook.series.end is not None and outlook.series.end < outlook.end:
        from greenml.grid.moments import shown

        yield f"nothing is known after {shown(outlook.series.end, when.now)}: later windows were not considered"
    if {step.g_per_kwh for step in outlook.series.steps} == {offer.g_per_kwh}:
        yield "what is known is flat: no hour is better than another"
    if offer.saving and offer.saving.saved_g < 0:
        out = "--idle-watts 0 reckons with a machine that is off"
        yield f"waiting does not pay while the machine idles: start at once, or leave with --exit-on-pause ({out})"
    elif (
        job.is_interruptible and job.load.idle_w and offer.windows[0].start == outlook.start and len(offer.windows) == 1
    ):
        yield "to wait or to pause would save less than idling costs: --idle-watts 0 reckons with a machine that is off"
    if outlook.series.kind == "marginal":
        yield "marginal intensities tell when to run; grams are told by averages alone"


def why_no_command(asked: Asked, outlook: Outlook) -> str | None:
    """What is named to `train` counts there, too, and it refuses to count by marginal figures."""
    if outlook.series.kind != "marginal":
        return None
    if asked.trace is not None:
        return "no command: `train` reckons by its --trace, and marginal intensities account for nothing"
    if asked.provider is not None:
        steers = f"`provider: {asked.provider}` under `schedule:` steers"
        return f"no command: `train` reckons by its --provider, too; {steers}"
    return None


def train_command(asked: Asked, outlook: Outlook, offer: Offer, job: Job, when: When) -> str:
    """What does it, or nearly: `train` plans anew with each forecast, and pauses by a threshold."""
    words = ["greenml", "train", "...", "--when-green", "--deadline", when.until]
    for name in ("region", "provider", "trace", "intensity"):
        if (value := getattr(asked, name)) is not None:
            words += [f"--{name}", str(value)]
    words += ["--trace-shift"] * asked.trace_shift
    if len(offer.windows) > 1:
        run_in = [step for window in offer.windows for step in outlook.series.between(window.start, window.end).steps]
        words += ["--pause-above", str(math.ceil(max(step.g_per_kwh for step in run_in)))]
    if job.stays_on:
        words.append("--stays-on")
    elif job.idle_watts == 0 or (offer.saving and offer.saving.saved_g < 0):
        words.append("--exit-on-pause")
    return shlex.join(words).replace("'...'", "...")


def places(asked: Asked, codes: str) -> list[Asked]:
    """One question a region, `--region` before the others. Raises UsageError."""
    if asked.trace is not None or asked.intensity is not None:
        raise UsageError("--regions with the figures of one place", hint="leave out --trace and --intensity")
    listed = [code.strip() for code in codes.split(",") if code.strip()]
    names = list(dict.fromkeys([asked.region, *listed] if asked.region else listed))
    if not names:
        raise UsageError("--regions: no region in it", hint="as in --regions IN-TN,SE,FR")
    return [dataclasses.replace(asked, region=name) for name in names]


def rank(asked: list[Asked], job: Job, when: When, store: Path | None, *, json: bool) -> None:
    """Where and when, cleanest first; averages and marginal figures apart, and who is unknown last."""
    from greenml import grid

    for one in asked:
        grid.locate(one.region or "")  # a mistyped one is said before anybody is asked
    inquiries = [gridasking.inquire(one, store, when.now) for one in asked]
    found = [_of_region(one, job, when) for one in inquiries]
    gridasking.say_fallbacks(inquiries)
    names = dict.fromkeys(name for one in found for name in one)
    home = found[0].get("now_g_per_kwh")
    for place in found:
        is_alike = home and place.get("kind") == found[0]["kind"]
        place["against_first_share"] = 1 - place["intensity_g_per_kwh"] / home if is_alike else None
    rows: list[Row] = []
    for kind in ("average", "marginal"):
        of_kind = [one for one in found if one.get("kind") == kind]
        of_kind.sort(key=lambda one: float(one["intensity_g_per_kwh"]))
        rows += [one | {"rank": number} for number, one in enumerate(of_kind, start=1)]
    rows += [dict.fromkeys(names) | one | {"rank": None} for one in found if "kind" not in one]
    if json:
        console.print_json(rows)
        return
    show_ranking(rows, asked[0].region or "", when)
    if any(one["status"] in ("modelled", "assumed") for one in rows):
        gridasking.say_how_to_know(inquiries[0])
    if when.is_now and (best := next((one for one in rows if one["kind"]), None)):
        command = ["greenml", "train", "--region", best["region"], "--when-green", "--deadline", when.until]
        print(f"\n  {console.clean(shlex.join(command).replace(' train ', ' train ... '))}")


def _of_region(inquiry: Inquiry, job: Job, when: When) -> Row:
    """A row of `plan`, or why there is none."""
    assert inquiry.where is not None
    named = {"region": inquiry.asked.region, "name": inquiry.where.name, "why": None}
    outlook = look(inquiry, job, when)
    offer = job.offer(inquiry, outlook)
    if offer is None:
        return named | {"why": str(why_not(inquiry, outlook, job))}
    return named | row(inquiry, outlook, offer, job)


def show_ranking(rows: list[Row], home: str, when: When) -> None:
    """A table for each kind of figure, who is unknown below the last, and what they leave out."""
    heads = list(columns(home, when.now))
    known = [one for one in rows if one["kind"]]
    kinds = list(dict.fromkeys(one["kind"] for one in known)) or [None]
    for kind in kinds:
        title = f"{kind} intensities" if len(kinds) > 1 else None
        shown = [one for one in rows if one["kind"] == kind or (kind == kinds[-1] and not one["kind"])]
        console.out().print(console.table(heads, shown, title=title))
    for one in rows:
        if one["why"]:
            console.say(one["why"])
    if "marginal" in kinds:
        console.say("marginal intensities tell when to run: ranked apart, as grams are told by averages alone")
    if len({(one["provider"], one["factors"]) for one in known}) > 1:
        console.say("figures of several sources: these differ by up to a third for one place")
    if any(one["status"] in ("modelled", "assumed") for one in known):
        console.say("modelled: nobody published these hours; they are drawn from what was, or from the mix of a year")
    console.say("left out: moving the data and the job there, and what the machines there draw")


def columns(home: str, now: datetime) -> Iterator[Column]:
    from greenml.grid.moments import shown

    def start(one: Row) -> str:
        return UNKNOWN if one["start"] is None else shown(one["start"], now)

    def share(name: str) -> Any:
        return lambda one: UNKNOWN if one[name] is None else per_cent(one[name])

    yield Column("#", lambda one: UNKNOWN if one["rank"] is None else str(one["rank"]))
    yield Column("region", lambda one: one["region"], right=False)
    yield Column("name", lambda one: one["name"] or UNKNOWN, right=False, wide=True, shrinks=True)
    yield Column("start", start, right=False)
    yield Column("g/kWh", lambda one: figure(one["intensity_g_per_kwh"]))
    yield Column("now", lambda one: figure(one["now_g_per_kwh"]))
    yield Column("saved", share("saved_share"))
    yield Column(f"vs {home} now", share("against_first_share"))
    yield Column("figures", lambda one: one["status"] or "unknown", right=False)
    yield Column("by", lambda one: one["provider"] or UNKNOWN, right=False, wide=True, shrinks=True)
