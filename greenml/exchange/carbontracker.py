"""Logs of carbontracker, 1.x and 2.x: `X_carbontracker.log` has the epochs, `X_carbontracker_output.log` the sum.

The first has the mean power of every component over each epoch, without PUE; the second what the epochs took together,
times a PUE that only the first names. Predictions are no consumption, and nothing here reads them. Memory is in none
of its figures but where RAPL counts it with the CPU, so that the whole stays unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from greenml.errors import DataError
from greenml.exchange.foreign import COMPONENTS, Foreign, Piece, Reading, pue_of
from greenml.records import Source
from greenml.units import JOULES_PER_KWH

if TYPE_CHECKING:
    from pathlib import Path

    from greenml.exchange.foreign import Options, Where

EPOCHS, SUM = "_carbontracker.log", "_carbontracker_output.log"
KIND = "carbontracker"
WHOLE = "the whole sum, components not told apart"
COUNTED = "counted with the CPU; the file does not tell them apart"
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
EPOCH = re.compile(rf"^({TIME}) - Epoch (\d+):\s*$", re.MULTILINE)
LASTED = re.compile(r"Duration:\s*(\d+):(\d\d):(\d\d(?:\.\d+)?)")
# Many GPUs fill more than one line.
POWER = re.compile(r"Average power usage \(W\) for (\w+):\s*(\[[^\]]*\]|\S+)")
PUE = re.compile(r"PUE coefficient of ([\d.]+\d)")
VERSION = re.compile(r"carbontracker version (\S+)")
FOUND = re.compile(r"The following components were found:(.*)")
DEVICES = re.compile(r"(\w+) with device\(s\) (.*?)\.(?= [A-Z]+ with|\s*$)")
INTENSITY = re.compile(r"Average carbon intensity during training was ([\d.]+\d) gCO2(?:eq)?/kWh")
PLACE = re.compile(r"at detected location:? (.+?)(?:: ?\[|\.\s|\.?$)", re.MULTILINE)
ACTUAL = re.compile(
    rf"({TIME}) - CarbonTracker:\s*Actual consumption(?: for (\d+) epoch\(s\))?:\s*"
    r"Time:\s*(\d+):(\d\d):(\d\d(?:\.\d+)?)\s*Energy:\s*(\S+) kWh\s*CO2eq:\s*(\S+) g"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """What the output log says that all epochs took together."""

    ended_at: datetime
    """UTC, naive."""
    duration_s: float
    written_j: float
    """Times PUE."""
    co2_g: float


def read(path: Path, where: Where, options: Options) -> Reading:
    """Either log of a pair -> its kind, how it is read and why, and its one run. Raises DataError."""
    stem = path.name.removesuffix(SUM).removesuffix(EPOCHS)
    epochs, total = (text_of(path.with_name(stem + suffix)) for suffix in (EPOCHS, SUM))
    pue = pue_of(path.with_name(stem + EPOCHS), PUE.findall(epochs), options) or options.pue
    version = f"carbontracker {match[1]}" if (match := VERSION.search(epochs)) else "carbontracker"
    summed = actual(total)
    found = pieces_of(epochs)
    if not found and not summed:
        raise DataError(f"{path}: no epoch has ended in it", hint="a prediction is no consumption")
    if pue is None:
        raise DataError(
            f"{path}: its energy is times a PUE that only {stem}{EPOCHS} names",
            hint=f"put {stem}{EPOCHS} beside it, or give --pue",
        )
    why = f"{KIND}: an epoch a row"
    power = f"mean power that {version} read, times duration"
    known = {name: power for name in COMPONENTS if any(joules(piece, name) is not None for piece in found)}
    if summed and found:
        why += f"; {difference(found, summed, pue)}"
    if not found and summed:
        why = f"{KIND}: one sum; {stem}{EPOCHS} with the epochs is not there"
        found = [whole(summed, pue)]
        known = {"cpu": WHOLE, "gpu": COUNTED}
    devices = {name.lower(): what for name, what in DEVICES.findall((FOUND.search(epochs + total) or [""] * 2)[1])}
    intensity = INTENSITY.search(epochs) or INTENSITY.search(total)
    place = PLACE.search(epochs) or PLACE.search(total)
    g_per_kwh = float(intensity[1]) if intensity else None
    if g_per_kwh is None and summed and summed.written_j:
        g_per_kwh = summed.co2_g / (summed.written_j / JOULES_PER_KWH)
    run = Foreign(
        identity=("carbontracker", stem, f"{found[0].started_at:%Y-%m-%dT%H:%M:%S}"),
        tool=version,
        path=path,
        label=stem,
        name=where.name or stem,
        model=where.model,
        country=where.country or country_in(place[1] if place else ""),
        season=where.season,
        pieces=found,
        sources=sources(version, known),
        co2_g=summed.co2_g if summed else None,
        g_per_kwh=g_per_kwh,
        place=place[1].strip() if place else where.country,
        pue=pue,
        device="cuda" if "gpu" in devices else "cpu",
        hardware={name: what for name, what in devices.items() if what},
        versions={"carbontracker": version.partition(" ")[2]} if " " in version else {},
        columns="per-row",
        rows=len(found),
        why=why,
    )
    return Reading(kind=KIND, columns=run.columns, why=why, runs=[run])


def text_of(path: Path) -> str:
    """Nothing where the other log of a pair is not there."""
    if not path.exists():
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text", hint="it is not as carbontracker left it") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", hint="ask for read access") from error


def pieces_of(text: str) -> list[Piece]:
    """The epochs of a standard log. One that was cut off while it was written is left to its program."""
    found = []
    for begin in EPOCH.finditer(text):
        after = EPOCH.search(text, begin.end())
        part = text[begin.end() : after.start() if after else len(text)]
        lasted = LASTED.search(part)
        powers = {name.lower(): watts(power) for name, power in POWER.findall(part)}
        if not lasted or not powers:
            continue
        duration_s, ended_at = seconds(*lasted.groups()), utc(begin[1])
        energy = {name: None if power is None else power * duration_s for name, power in powers.items()}
        found.append(
            Piece(
                name="train",
                epoch=int(begin[2]),
                started_at=ended_at - timedelta(seconds=duration_s),
                ended_at=ended_at,
                cpu_j=energy.get("cpu"),
                gpu_j=energy.get("gpu"),
                ram_j=None,
            )
        )
    return found


def watts(text: str) -> float | None:
    """`[136.8 12.1]`, a figure a device -> their sum; None where none was read in time."""
    figures = text.strip("[]").split()
    try:
        return sum(map(float, figures)) if figures else None
    except ValueError:  # None, as Python prints it
        return None


def seconds(hours: str, minutes: str, rest: str) -> float:
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def utc(text: str) -> datetime:
    """The clock on the wall, taken for that of this machine."""
    return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)


def actual(text: str) -> Sum | None:
    """The last of the sums that an output log has; what is predicted is none."""
    found = ACTUAL.findall(text)
    if not found:
        return None
    at, _, hours, minutes, rest, energy, co2 = found[-1]
    return Sum(
        ended_at=utc(at),
        duration_s=seconds(hours, minutes, rest),
        written_j=float(energy) * JOULES_PER_KWH,
        co2_g=float(co2),
    )


def whole(summed: Sum, pue: float) -> Piece:
    """All epochs in one, the components not told apart."""
    return Piece(
        name="train",
        started_at=summed.ended_at - timedelta(seconds=summed.duration_s),
        ended_at=summed.ended_at,
        cpu_j=summed.written_j / pue,
        gpu_j=0.0,
        ram_j=None,
    )


def difference(pieces: list[Piece], summed: Sum, pue: float) -> str:
    """How far the epochs are from the sum in the other log, in words."""
    own_j = sum(joules(piece, name) or 0.0 for piece in pieces for name in COMPONENTS)
    theirs_j = summed.written_j / pue
    if not theirs_j:
        return "its sum is 0"
    off = own_j / theirs_j - 1
    return "they add up to its sum" if abs(off) < 0.01 else f"they are {100 * off:+.1f} % off its sum"


def joules(piece: Piece, component: str) -> float | None:
    value: float | None = getattr(piece, f"{component}_j")
    return value


def sources(tool: str, known: dict[str, str]) -> dict[str, tuple[Source, str]]:
    """Of what it told, and how, and of what it may not have been asked to look at."""
    return {
        name: (Source.ESTIMATED, known[name]) if name in known else (Source.UNKNOWN, f"{tool} told nothing of it")
        for name in COMPONENTS
    }


def country_in(place: str) -> str | None:
    """The code at the end of "Copenhagen, Capital Region, DK"."""
    code = place.strip().rpartition(" ")[2]
    return code if re.fullmatch("[A-Z]{2}", code) else None
