"""What a kWh emits at a place: the annual averages that CodeCarbon ships, and nothing from the network.

Read from CodeCarbon's tables without CodeCarbon, which brings pandas and takes 2 s of CPU to open. Each figure is the
one that it computes itself (tests/test_grid.py), but a region that is not in a table is None here, and not the average
of another.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from greenml.grid import iso
from greenml.units import g_per_kwh_of_lbs_per_mwh

if TYPE_CHECKING:
    from greenml.grid.regions import Place

COUNTRIES = "global_energy_mix.json"
USA = "2023/usa_emissions.json"
CANADA = "2023/canada_energy_mix.json"
CHINA = "2023/china_provincial_emissions.json"
FOSSIL_G_PER_KWH = {"coal": 995.725971, "petroleum": 816.6885263, "naturalGas": 743.8415916}
"""As in `codecarbon.core.emissions`; all other sources count as zero there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """Grams of CO2e per kWh, of which region, and who says so."""

    g_per_kwh: float
    level: str
    """`cloud`, `zone`, `subdivision`, `country` or `world`."""
    region: str
    """In words."""
    year: int | None
    """None where the table does not give it."""
    source: str
    remark: str = ""
    """What a reader of one line should know of the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Country:
    """The annual average of a country's grid."""

    alpha3: str
    """ISO 3166-1."""
    numeric: str
    """The three digits of ISO 3166-1, for maps."""
    name: str
    """In everyday English, as runs have it."""
    g_per_kwh: float
    year: int | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """What a country's electricity was made from, as shares of a year's."""

    solar_share: float
    """0 to 1."""
    other_low_carbon_share: float
    """Nuclear, hydro, wind, biofuels and what else burns nothing fossil, without the sun."""
    year: int
    source: str


def nearest_to(place: Place) -> Factor:
    """The factor that covers the least around `place`."""
    return of_cloud(place) or of_zone(place) or of_subdivision(place) or of_country(place) or of_world()


def of_cloud(place: Place) -> Factor | None:
    """Google's own figure for a region of its cloud; other providers publish none."""
    provider, _, region = (place.cloud or "").partition(":")
    if provider != "gcp" or region not in gcp():
        return None
    row = gcp()[region]
    country = country_name(place.country)
    return Factor(
        g_per_kwh=float(row["impact"]),
        level="cloud",
        region=country if row["city"] == country else f"{row['city']}, {country}",
        year=None,
        source=_source(f"Google Cloud, {row['source']}"),
        remark="Google Cloud, year not stated",
    )


def of_zone(place: Place) -> Factor | None:
    """A Nordic bidding zone."""
    if place.zone is None:
        return None
    zone, metadata = zones()[place.zone], _table("nordic_emissions.json")["metadata"]
    return Factor(
        g_per_kwh=float(zone["emission_factor"]),
        level="zone",
        region=f"bidding zone {place.zone}, {country_name(place.country)}",
        year=zone["year"],
        source=_source(" ".join(filter(None, [metadata["source"], zone.get("note")]))),
        # The metadata name ENTSO-E for the zones whose coverage is given; for FI they keep "prior value".
        remark="ENTSO-E" if "coverage" in zone else "publisher not stated",
    )


def of_subdivision(place: Place) -> Factor | None:
    """A state of the United States, or a province of Canada or China: nobody else's are in the tables."""
    of = {"USA": _us_state, "CAN": _canadian_province, "CHN": _chinese_province}.get(place.country)
    return of(place.subdivision) if of and place.subdivision else None


def _us_state(code: str) -> Factor | None:
    table, name = _table(USA), str(iso.subdivision(code).name)
    if name.lower() not in table:
        return None
    published = table["_source"]
    return Factor(
        g_per_kwh=_rounded(g_per_kwh_of_lbs_per_mwh(table[name.lower()]["emissions"])),
        level="subdivision",
        region=f"{name}, {country_name('USA')}",
        year=published["year"],
        source=_source(published["name"]),
        remark=published["name"].partition(",")[0],
    )


def _canadian_province(code: str) -> Factor | None:
    table, name = _table(CANADA), str(iso.subdivision(code).name)
    if name.lower() not in table:
        return None
    mix = table[name.lower()]
    return Factor(
        g_per_kwh=_rounded(sum(mix[fuel] / mix["total"] * grams for fuel, grams in FOSSIL_G_PER_KWH.items())),
        level="subdivision",
        region=f"{name}, {country_name('CAN')}",
        # The file names neither publisher nor year, but it lies in a folder that is called after one.
        year=int(PurePosixPath(CANADA).parent.name),
        source=_source("mix of sources, publisher not stated; coal, petroleum and gas count, all others as zero"),
        remark="fossil part of the mix",
    )


def _chinese_province(code: str) -> Factor | None:
    table = _table(CHINA)
    if code not in table["data"]:
        return None
    entry = table["data"][code]
    return Factor(
        g_per_kwh=float(entry["emission_factor"]),
        level="subdivision",
        region=f"{entry['description']}, {country_name('CHN')}",
        year=entry["year"],
        source=_source(f"{table['metadata']['source']} CO2 only"),
        remark="MEE/NBS, CO2 only",
    )


def of_country(place: Place) -> Factor | None:
    """The average of a country, of the last year that its table has."""
    return _of_code(place.country)


def _of_code(country: str) -> Factor | None:
    row = _table(COUNTRIES).get(country)
    if row is None:
        return None
    g_per_kwh = float(row["carbon_intensity"])
    return Factor(
        g_per_kwh=g_per_kwh,
        level="country",
        region=country_name(country),
        year=row["year"],
        source=_source("Our World in Data (Ember), carbon intensity of electricity"),
        # The Central African Republic: 0.15 TWh of hydropower, rounded down to nothing.
        remark="" if g_per_kwh else "as published; no grid emits nothing",
    )


def mix_of(country: str) -> Mix | None:
    """ISO 3166-1 alpha-3 -> what its electricity was made from; None where the table does not have it."""
    row = _table(COUNTRIES).get(country)
    if row is None or not row["total_TWh"]:
        return None
    solar, low_carbon, total = row["solar_TWh"], row["low_carbon_TWh"], row["total_TWh"]
    return Mix(
        solar_share=solar / total,
        other_low_carbon_share=(low_carbon - solar) / total,
        year=row["year"],
        source=_source("Our World in Data (Ember), electricity by source"),
    )


def of_countries() -> list[Country]:
    """Every country of ISO 3166-1 that the table has a factor of, by name."""
    entries = {code: iso.country(code) for code in _table(COUNTRIES)}
    found = [
        Country(
            alpha3=code,
            numeric=str(entry.numeric),
            name=factor.region,
            g_per_kwh=factor.g_per_kwh,
            year=factor.year,
            source=factor.source,
        )
        for code, entry in entries.items()
        if entry and (factor := _of_code(code))
    ]
    return sorted(found, key=lambda country: country.name)


def of_world() -> Factor:
    """The average of the world, for places unknown or not in the tables."""
    per_source = _table("carbon_intensity_per_source.json")
    return Factor(
        g_per_kwh=float(per_source["world_average"]),
        level="world",
        region="world average",
        year=None,
        source=_source(f"IEA, {per_source['world_average_source']}"),
    )


def country_name(country: str) -> str:
    """ISO 3166-1 alpha-3 -> the everyday English name."""
    if row := _table(COUNTRIES).get(country):
        return str(row["country_name"])
    entry = iso.country(country)
    return str(getattr(entry, "common_name", entry.name))


def zones() -> dict[str, Any]:
    """The Nordic bidding zones and what the table says of each."""
    zones: dict[str, Any] = _table("nordic_emissions.json")["data"]
    return zones


@cache
def gcp() -> dict[str, Any]:
    """The regions of Google Cloud and their rows in the table."""
    with (_folder() / "cloud" / "impact.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row["region"]: row for row in csv.DictReader(file) if row["provider"] == "gcp"}
    # CodeCarbon 3.3 misspells Doha's.
    return {region.replace("cenrtal", "central"): row for region, row in rows.items()} | rows


def _rounded(g_per_kwh: float) -> float:
    """Without the noise in the last bits of a product."""
    return round(g_per_kwh, 9)


@cache
def _source(publisher: str) -> str:
    return f"{publisher} (in CodeCarbon {version('codecarbon')})"


@cache
def _table(name: str) -> Any:
    return json.loads((_folder() / "private_infra" / name).read_text(encoding="utf-8"))


@cache
def _folder() -> Path:
    """Where CodeCarbon's tables lie; it is found, not imported."""
    package = find_spec("codecarbon")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("CodeCarbon, whose tables greenml reads, is not installed")
    return Path(package.origin).parent / "data"
