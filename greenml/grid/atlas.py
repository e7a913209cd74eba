"""The one table of regions, `regions.csv`: where they lie and on whose grid. Its head says what the columns mean, and
from where they are; grams are not its business."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A point that stands for a region."""

    place: str
    """The town there."""
    latitude: float
    """Degrees north, as is `longitude` degrees east."""
    longitude: float
    time_zone: str
    """IANA: `Asia/Kolkata`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table."""

    code: str
    kind: str
    """`country`, `zone`, `subdivision`, `gb` or `cloud`."""
    iso: str
    """ISO 3166-1 alpha-2 or ISO 3166-2: the smallest that holds all of it."""
    name: str
    """In words; empty where ISO 3166 has them."""
    zones: tuple[str, ...] | None
    """Of Electricity Maps: one, or several to choose from, or none; None where what holds it has them."""
    spot: Spot | None
    """None where nobody lives, or where nobody says where it is."""


@cache
def rows() -> dict[str, Row]:
    """The table by code, in its order."""
    text = files("greenml.grid").joinpath("regions.csv").read_text(encoding="utf-8")
    lines = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {line["code"]: _row(line) for line in lines}


def of_kind(kind: str) -> list[Row]:
    """The rows of one kind."""
    return [row for row in rows().values() if row.kind == kind]


@cache
def zones_in(country: str) -> tuple[str, ...]:
    """ISO 3166-1 alpha-2 -> the zones of Electricity Maps there: one alone, or the parts that it keeps apart."""
    whole = rows()[country].zones
    return whole or tuple(row.code for row in of_kind("zone") if row.iso[:2] == country)


def _row(line: dict[str, str]) -> Row:
    return Row(
        code=line["code"],
        kind=line["kind"],
        iso=line["iso"],
        name=line["name"],
        zones=tuple(key for key in line["zones"].split() if key != "-") if line["zones"] else None,
        spot=_spot(line) if line["place"] else None,
    )


def _spot(line: dict[str, str]) -> Spot:
    return Spot(
        place=line["place"],
        latitude=float(line["latitude"]),
        longitude=float(line["longitude"]),
        time_zone=line["time_zone"],
    )
