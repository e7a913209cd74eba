"""What a kWh emits at a place: the annual averages that CodeCarbon ships, and nothing from the network.

CodeCarbon computes every figure. It turns a region that it does not know into the average of the country or of the
world without a word, so each function here first looks into the table, and answers None where the place is not in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from greenml.grid import iso
from greenml.units import GRAMS_PER_KG

if TYPE_CHECKING:
    from greenml.grid.regions import Place


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


def nearest_to(place: Place) -> Factor:
    """The factor that covers the least around `place`."""
    return of_cloud(place) or of_zone(place) or of_subdivision(place) or of_country(place) or of_world()


def of_cloud(place: Place) -> Factor | None:
    """Google's own figure for a region of its cloud; other providers publish none."""
    provider, _, region = (place.cloud or "").partition(":")
    if provider != "gcp" or region not in gcp():
        return None
    from codecarbon.core.units import Energy
    from codecarbon.external.geography import CloudMetadata

    row = gcp()[region]
    kg = _emissions().get_cloud_emissions(Energy(1.0), CloudMetadata(provider, row["region"]))
    return Factor(
        g_per_kwh=_grams(kg),
        level="cloud",
        region=f"{row['city']}, {country_name(place.country)}",
        year=None,
        source=_source(f"Google Cloud, {row['source']}"),
        remark="Google Cloud, year not stated",
    )


def of_zone(place: Place) -> Factor | None:
    """A Nordic bidding zone."""
    if place.zone is None:
        return None
    zone, metadata = zones()[place.zone], _data().get_nordic_country_energy_mix_data()["metadata"]
    return Factor(
        g_per_kwh=_private(place.country, place.zone),
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
    table, name = _data().get_country_emissions_data("usa"), str(iso.subdivision(code).name)
    if name.lower() not in table:
        return None
    published = table["_source"]
    return Factor(
        g_per_kwh=_private("USA", name.lower()),
        level="subdivision",
        region=f"{name}, {country_name('USA')}",
        year=published["year"],
        source=_source(published["name"]),
        remark=published["name"].partition(",")[0],
    )


def _canadian_province(code: str) -> Factor | None:
    table, name = _data().get_country_energy_mix_data("can"), str(iso.subdivision(code).name)
    if name.lower() not in table:
        return None
    # The file names neither publisher nor year, but it lies in a folder that is called after one.
    folder = PurePosixPath(_data().config["can_energy_mix_data_path"]).parent
    return Factor(
        g_per_kwh=_private("CAN", name.lower()),
        level="subdivision",
        region=f"{name}, {country_name('CAN')}",
        year=int(folder.name),
        source=_source("mix of sources, publisher not stated; coal, petroleum and gas count, all others as zero"),
        remark="fossil part of the mix",
    )


def _chinese_province(code: str) -> Factor | None:
    table = _data().get_china_provincial_emissions_data()
    if code not in table["data"]:
        return None
    entry = table["data"][code]
    return Factor(
        g_per_kwh=_private("CHN", entry["names"][0]),
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
    row = _data().get_global_energy_mix_data().get(country)
    if row is None:
        return None
    g_per_kwh = _private(country)
    return Factor(
        g_per_kwh=g_per_kwh,
        level="country",
        region=country_name(country),
        year=row["year"],
        source=_source("Our World in Data (Ember), carbon intensity of electricity"),
        # The Central African Republic: 0.15 TWh of hydropower, rounded down to nothing.
        remark="" if g_per_kwh else "as published; no grid emits nothing",
    )


def of_countries() -> list[Country]:
    """Every country of ISO 3166-1 that the table has a factor of, by name."""
    entries = {code: iso.country(code) for code in _data().get_global_energy_mix_data()}
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
    per_source = _data().get_carbon_intensity_per_source_data()
    return Factor(
        g_per_kwh=float(per_source["world_average"]),
        level="world",
        region="world average",
        year=None,
        source=_source(f"IEA, {per_source['world_average_source']}"),
    )


def country_name(country: str) -> str:
    """ISO 3166-1 alpha-3 -> the everyday English name."""
    if row := _data().get_global_energy_mix_data().get(country):
        return str(row["country_name"])
    entry = iso.country(country)
    return str(getattr(entry, "common_name", entry.name))


def zones() -> dict[str, Any]:
    """The Nordic bidding zones and what the table says of each."""
    zones: dict[str, Any] = _data().get_nordic_country_energy_mix_data()["data"]
    return zones


@cache
def gcp() -> dict[str, Any]:
    """The regions of Google Cloud and their rows in the table."""
    table = _data().get_cloud_emissions_data()
    rows = {row["region"]: row for row in table[table["provider"] == "gcp"].to_dict("records")}
    # CodeCarbon 3.3 misspells Doha's.
    return {region.replace("cenrtal", "central"): row for region, row in rows.items()} | rows


def _private(country: str, region: str | None = None) -> float:
    """g per kWh of a country, or of its region under the name that CodeCarbon's tables have."""
    from codecarbon.core.units import Energy
    from codecarbon.external.geography import GeoMetadata

    geo = GeoMetadata(country_iso_code=country, region=region)
    return _grams(_emissions().get_private_infra_emissions(Energy(1.0), geo))


def _grams(kg: float) -> float:
    """Kilograms -> grams, without the noise in the last bits of there and back."""
    return round(kg * GRAMS_PER_KG, 9)


@cache
def _source(publisher: str) -> str:
    return f"{publisher} (in CodeCarbon {version('codecarbon')})"


@cache
def _data() -> Any:
    import codecarbon.input

    source: Any = codecarbon.input.DataSource  # it has no annotations
    return source()


@cache
def _emissions() -> Any:
    """CodeCarbon's arithmetic, without a token: nothing in it can reach the network or its configuration."""
    from codecarbon.core.emissions import Emissions

    return Emissions(_data())
