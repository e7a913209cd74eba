"""Moments as people write them: `08:00`, `tomorrow-08:00`, `in 4h`, `2026-11-23T08:00+01:00`."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from greenml.grid.series import utc
from greenml.units import SECONDS, parse_quantity

EXAMPLES: Final = "as in 08:00, tomorrow-08:00, 6h or 2026-11-23T08:00+01:00"
DAYS = {"today": 0, "tomorrow": 1}


def parse(text: str, *, now: datetime) -> datetime:
    """A moment, naive UTC. Clock times are this machine's and mean the next time it shows them; a duration counts from
    `now` (naive UTC). Raises ValueError, in words."""
    words = text.strip()
    if words.lower() == "now":
        return now
    if clock := re.fullmatch(r"(?:(today|tomorrow)[-\s]+)?(\d{1,2}):(\d{2})", words, flags=re.IGNORECASE):
        return _clock_time(text, clock, now)
    if re.fullmatch(r"(?:in\s+|\+)?[0-9.]+\s*[A-Za-z]+", words):
        try:
            return now + timedelta(seconds=parse_quantity(re.sub(r"^(in\s+|\+)", "", words), SECONDS))
        except ValueError as error:
            raise ValueError(f"`{text}` is no moment: {error}") from None
        except OverflowError:
            raise ValueError(f"`{text}` is no moment: too far away") from None
    try:
        found = datetime.fromisoformat(words.replace(" ", "T"))
    except ValueError:
        raise ValueError(f"`{text}` is no moment") from None
    return utc(found if found.tzinfo else _of_this_machine(found))


def _clock_time(text: str, clock: re.Match[str], now: datetime) -> datetime:
    day, hour, minute = clock.groups()
    try:
        at = time(int(hour), int(minute))
    except ValueError:
        raise ValueError(f"`{text}` is no time of the day") from None
    here = wall_time(now).date()
    if day:
        return _utc_of(here + timedelta(days=DAYS[day.lower()]), at)
    today = _utc_of(here, at)
    return today if today > now else _utc_of(here + timedelta(days=1), at)


def _utc_of(day: date, at: time) -> datetime:
    return utc(_of_this_machine(datetime.combine(day, at)))


def _of_this_machine(naive: datetime) -> datetime:
    """With this machine's offset; of a time that its clocks skip, the one that they show instead."""
    return naive.astimezone()


def wall_time(moment: datetime) -> datetime:
    """Naive UTC -> as the clock on the wall shows it, with its offset."""
    return moment.replace(tzinfo=UTC).astimezone()


def shown(moment: datetime, now: datetime) -> str:
    """As this machine's clocks show it: "02:00", "tomorrow 02:00", "2026-11-25 02:00"."""
    here = wall_time(moment)
    days = (here.date() - wall_time(now).date()).days
    day = {0: "", 1: "tomorrow "}.get(days, f"{here:%Y-%m-%d} ")
    return f"{day}{here:%H:%M}"
