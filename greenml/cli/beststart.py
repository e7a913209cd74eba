"""When to start what is recommended: by what is known of the grid of its runs without asking anybody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greenml.errors import GreenMLError
from greenml.units import co2_g, format_mass, joules_of_kwh

if TYPE_CHECKING:
    from datetime import datetime

    from greenml.cli.feeds import Asked
    from greenml.grid.outlook import Offer
    from greenml.grid.series import Status
    from greenml.recommend import Advice
    from greenml.records import Intensity
    from greenml.store import Store

    Row = dict[str, Any]

SLACK = timedelta(hours=24)
RUNS = "from runs where run_id in (select unnest($1)) order by run_key"
LEAST_SHARE = 0.005
"""A saving of less is none: 0 % in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BestStart:
    """When to begin within a day, and what that saves against now."""

    start: datetime
    """UTC, naive; now where no hour is cleaner."""
    saved_share: float
    saved_g: float | None
    """CO2e, PUE included; None where the energy is not known."""
    status: Status
    """Of the intensities."""
    place: str

    def in_words(self, now: datetime) -> str:
        from greenml.cli.gridasking import per_cent
        from greenml.grid.moments import shown

        known = f"{self.place}, {self.status}"
        if self.start == now:
            return f"Best start: now, as no hour of the next 24 is cleaner ({known})"
        grams = "" if self.saved_g is None else f", about {format_mass(self.saved_g)}"
        saved = f"{per_cent(self.saved_share)} less CO2e than now{grams} ({known})"
        return f"Best start: {shown(self.start, now)}, for {saved}; --when-green waits for it"


def find(db: Store, advice: Advice, now: datetime) -> BestStart | None:
    """When to start what is recommended; None where nothing is, the grid of its runs is not known, or no hour of it is
    known to be better than another."""
    if not advice.is_answer or not (duration_s := advice.rows[0]["duration_s"]):
        return None
    best = advice.rows[0]
    duration = timedelta(seconds=duration_s)
    try:
        found = _asked(db, best["run_ids"])
        offer = found and duration < SLACK and _offer(db, *found, duration, now)
    except GreenMLError:  # a trace that is gone, a place that an imported run calls as it likes: no advice hangs on it
        return None
    if not found or not offer or offer.saved_share is None:
        return None
    return _best(found[0], offer, best, now)


def _asked(db: Store, run_ids: list[str]) -> tuple[Asked, Intensity] | None:
    """Whose grid it was, and its factor; None where nobody said, or the runs were on several."""
    from greenml.cli.feeds import Asked
    from greenml.store import intensity_of

    runs = db.rows(RUNS, [run_ids])
    asked = {
        Asked(region=run["region_asked"], trace=config.get("trace"), trace_shift=bool(config.get("trace_shift")))
        for run in runs
        for config in (_config(run),)
    }
    if len(asked) != 1:
        return None
    [one] = asked
    is_flat = any(_config(run).get("intensity") is not None for run in runs)
    return None if is_flat or (one.region is None and one.trace is None) else (one, intensity_of(runs[-1]))


def _config(run: Row) -> Row:
    config = run["config"]  # of an imported run any JSON
    return config if isinstance(config, dict) else {}


def _offer(db: Store, asked: Asked, static: Intensity, duration: timedelta, now: datetime) -> Offer | None:
    from greenml.cli.feeds import open_feed
    from greenml.cli.gridasking import NOT_SERVICES
    from greenml.grid import outlook
    from greenml.grid.windows import Load

    if asked.trace is not None and not Path(asked.trace).is_file():
        return None
    feed = open_feed(asked, db, static, clock=lambda: now, may_model=asked.trace is None)
    # Of a year's average no hour is better than another, and of the mix of a country alone none is known to be.
    feed = feed.only([name for name in NOT_SERVICES if name not in ("annual", "day-curve")])
    seen = outlook.look(feed, now, now + SLACK, duration=duration)
    return outlook.offer(feed, seen, duration=duration, load=Load(1.0))


def _best(asked: Asked, offer: Offer, best: Row, now: datetime) -> BestStart:
    share, saved_g, pues = offer.saved_share or 0.0, None, best["pues"] or []
    if best["energy_kwh"] is not None and offer.now_g_per_kwh is not None and len(pues) == 1:
        saved_g = co2_g(joules_of_kwh(best["energy_kwh"]), offer.now_g_per_kwh - offer.g_per_kwh, pues[0] or 1.0)
    place = Path(asked.trace).name if asked.trace else str(asked.region)
    if share < LEAST_SHARE:
        none_g = None if saved_g is None else 0.0
        return BestStart(start=now, saved_share=0.0, saved_g=none_g, status=offer.status, place=place)
    return BestStart(start=offer.windows[0].start, saved_share=share, saved_g=saved_g, status=offer.status, place=place)
