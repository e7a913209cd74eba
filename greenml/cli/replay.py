"""`greenml replay RUN`: what a run would have emitted elsewhere or at another time, by the energy that it took."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenml import console
from greenml.cli.gridasking import TraceShiftOption, check_intensity
from greenml.cli.options import JsonOption, RunArgument, StoreOption
from greenml.console import Column, figure, local
from greenml.errors import UsageError
from greenml.units import co2_g, format_mass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime, timedelta

    from greenml.grid.series import Series
    from greenml.store import Store

    Row = dict[str, Any]

EXAMPLES = """\
\b
Examples:
  greenml replay 3f2a --region SE,FR,IN           the same energy on other grids
  greenml replay 3f2a --at 02:00 --trace de.csv   begun at two at night instead
"""
PHASES = "select started_at, ended_at, joules from phases where run_id = ? order by segment, seq"

COLUMNS = [
    Column("replayed", lambda row: row["what"], right=False, shrinks=True),
    Column("start", lambda row: local(row["start"]), right=False, wide=True),
    Column("g/kWh", lambda row: figure(row["intensity_g_per_kwh"])),
    Column("CO2e", lambda row: format_mass(row["co2_g"])),
    Column("of actual", lambda row: "" if row["ratio"] is None else f"{100 * row['ratio']:.0f} %"),
    Column("figures", lambda row: row["status"], right=False),
    Column("source", lambda row: row["source"], right=False, shrinks=True, wide=True),
]


@dataclass(frozen=True, kw_only=True)
class _Recorded:
    """What a run took, and when."""

    run: Row
    """Its row of `run_totals`, and `started_at`, `pue`, `config` and more of its row of `runs`."""
    phases: list[Row]
    """Moments and joules, in their order."""

    @property
    def start(self) -> datetime:
        moments: list[datetime] = [phase["started_at"] for phase in self.phases]
        return min(moments)

    @property
    def end(self) -> datetime:
        moments: list[datetime] = [phase["ended_at"] for phase in self.phases]
        return max(moments)

    def row(self, what: str, g_per_kwh: float | None, status: str, source: str, moved: timedelta | None = None) -> Row:
        """What it would have been, `moved` in time: grams are unknown where joules are."""
        joules, actual = self.run["total_j"], self.run["co2_g"]
        grams = None if joules is None or g_per_kwh is None else co2_g(joules, g_per_kwh, self.run["pue"])
        return {
            "what": what,
            "start": self.start + moved if moved else self.start,
            "intensity_g_per_kwh": g_per_kwh,
            "co2_g": grams,
            "ratio": grams / actual if grams is not None and actual else None,
            "status": status,
            "source": source,
        }


def replay(
    run: RunArgument,
    region: Annotated[
        list[str] | None,
        typer.Option("--region", metavar="CODES", help="On other grids: SE,FR,IN. Repeatable."),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="HH:MM", help="Begun at this time of its day; needs a trace.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", metavar="FILE", help="By the hour, from a CSV start,g_per_kwh.", show_default=False),
    ] = None,
    trace_shift: TraceShiftOption = False,
    intensity: Annotated[
        float | None, typer.Option("--intensity", min=0, metavar="G", help="At so many g/kWh.", show_default=False)
    ] = None,
    json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """What a run would have emitted elsewhere, or at another time.

    Its recorded energy, phase by phase, times another intensity.
    """
    from greenml.grid.trace import refuse_lone_shift
    from greenml.store import Store, resolve_path

    codes = [code.strip() for codes in region or [] for code in codes.split(",") if code.strip()]
    if not (codes or at or trace or intensity is not None):
        raise UsageError("nothing to replay it with", hint="--region SE,FR, --at 02:00, --trace FILE or --intensity 50")
    check_intensity(intensity)
    refuse_lone_shift(trace, shift=trace_shift)
    db = Store(resolve_path(store))
    recorded = _recorded(db, db.run_id(run))
    totals = recorded.run
    rows = [
        recorded.row("actual", totals["intensity_g_per_kwh"], totals["intensity_status"], totals["intensity_source"]),
        *_elsewhere(recorded, codes),
    ]
    if intensity is not None:
        rows.append(recorded.row(f"{intensity:g} g/kWh", intensity, "assumed", "as given with --intensity"))
    if trace is not None or at is not None:
        rows.append(_by_the_hour(db, recorded, trace, at, shift=trace_shift))
    if json:
        console.print_json(rows)
        return
    console.out().print(console.table(COLUMNS, rows))
    for note in _assumed(recorded, rows):
        console.say(note)


def _recorded(db: Store, run_id: str) -> _Recorded:
    """Raises UsageError for a run whose hours nobody knows."""
    phases = db.rows(PHASES, [run_id])
    if not phases:
        raise UsageError(f"run {run_id} has no recorded power", hint="only what was metered can be replayed")
    [row] = db.rows(
        "select run_totals.*, runs.* exclude (run_key, run_id, intensity_g_per_kwh) "
        "from run_totals join runs using (run_id) where run_id = ?",
        [run_id],
    )
    return _Recorded(run=row, phases=phases)


def _elsewhere(recorded: _Recorded, codes: Sequence[str]) -> Iterator[Row]:
    """On the grids of other places, by their yearly averages."""
    from greenml import grid

    for code in codes:
        there = grid.resolve(code, pue=recorded.run["pue"])
        yield recorded.row(f"{code}, {there.region_used}", there.g_per_kwh, "assumed", there.source)


def _by_the_hour(db: Store, recorded: _Recorded, file: Path | None, at: str | None, *, shift: bool) -> Row:
    """At the hours of a trace, or of what a provider has told, from the run's own begin or the time of day `at` on."""
    from greenml.grid.trace import averages
    from greenml.grid.watch import Mean

    moved = _moved(recorded.start, at)
    start, end = recorded.start + moved, recorded.end + moved
    series = averages(file, start, shift=shift) if file else _history(db, recorded, start, end)
    if not series.covers(start, end):
        _refuse(series, start, end)
    mean = Mean(0.0)
    for phase in recorded.phases:
        mean.add(phase["joules"], series.mean(phase["started_at"] + moved, phase["ended_at"] + moved))
    what = f"begun at {at}, {series.source}" if at else series.source
    return recorded.row(what, mean.g_per_kwh, series.between(start, end).status, series.source, moved)


def _moved(start: datetime, at: str | None) -> timedelta:
    """From when a run began to the time of day `at`, on that day, by the clock of this machine."""
    from datetime import datetime, time, timedelta

    from greenml.grid.moments import wall_time
    from greenml.grid.series import utc

    if at is None:
        return timedelta(0)
    try:
        asked = datetime.strptime(at.strip(), "%H:%M").time()
    except ValueError:
        raise UsageError(f"--at {at}: no time of day", hint="as in 02:00") from None
    there = datetime.combine(wall_time(start).date(), time(asked.hour, asked.minute)).astimezone()
    return utc(there) - start


def _history(db: Store, recorded: _Recorded, start: datetime, end: datetime) -> Series:
    """What counted in the run: its trace, or what the store has kept of its provider. Raises UsageError."""
    from greenml.grid.trace import averages

    config = recorded.run["config"]
    if config.get("trace"):
        return averages(Path(config["trace"]), start, shift=bool(config.get("trace_shift")))
    for series in _remembered(db, recorded.run["region_asked"]):
        if series.covers(start, end):
            return series
    raise UsageError(
        f"nobody has told the intensity from {_shown(start)} to {_shown(end)} UTC",
        hint="--trace FILE with the hours of that day, and --trace-shift where they are of another week",
    )


def _remembered(db: Store, region: str | None) -> Iterator[Series]:
    """What the store has kept of a place, by the name that each service has for it."""
    from greenml import grid
    from greenml.grid import live

    if not region:
        return
    site = grid.site_of(grid.locate(region))
    for provider in map(live.create, live.known()):
        if provider.kind == "average" and (zone := provider.zone(site)):
            yield db.remembered(provider.name, zone)


def _refuse(series: Series, start: datetime, end: datetime) -> None:
    """Raise UsageError: hours of which nothing is known make no total."""
    [(gap, until), *_] = series.gaps(start, end)
    raise UsageError(
        f"{series.source} says nothing of {_shown(gap)} to {_shown(until)} UTC; it covers {_shown(series.start)} to "
        f"{_shown(series.end)}",
        hint="--trace-shift replays it at any time, by the hour of its week",
    )


def _shown(moment: datetime | None) -> str:
    """To the minute, or to the second where that says more."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}".removesuffix(":00")


def _assumed(recorded: _Recorded, rows: Sequence[Row]) -> Iterator[str]:
    """What these figures rest on, in plain sentences."""
    run = recorded.run
    yield f"assumed: the same energy, machine and PUE {run['pue']:g} everywhere; only the intensity is another"
    if run["total_j"] is None:
        yield "its energy is partly unknown, and so are grams"
    if any(row["status"] == "assumed" for row in rows):
        yield "assumed figures are yearly averages, or were given or moved in time: they hide the hours"
    if run["kind"] == "compress":
        yield "its own energy alone: what its parents took was taken where they were trained"
    yield "left out: making the hardware, moving the data, and how plants would have answered (marginal emissions)"
