"""From a region's name to grams of CO2e per kWh: annual averages, offline, and never guessed from an IP address.

    >>> resolve("IN-TN").note
    'IN-TN: no state factor; India, 713 g/kWh, 2023'

Two letters are always a country: `CA` is Canada, `IN` India and `DE` Germany; California is `US-CA`.
"""

from __future__ import annotations

from greenml.errors import UsageError
from greenml.grid import clouds, factors, iso, regions
from greenml.grid.factors import Country
from greenml.grid.factors import of_countries as countries
from greenml.grid.factors import of_world as world
from greenml.grid.regions import known_regions
from greenml.grid.whereabouts import Whereabouts, locate, site_of
from greenml.records import Intensity

__all__ = [
    "Country",
    "Whereabouts",
    "cloud_near",
    "countries",
    "known_regions",
    "locate",
    "resolve",
    "site_of",
    "world",
]


def resolve(region: str | None, *, pue: float = 1.0) -> Intensity:
    """The nearest factor there is for `region`; the average of the world where none was named or none is near.

    `pue`, the power usage effectiveness of the site, is kept beside it: it multiplies grams, never joules.
    """
    country = None
    if region is None:
        factor = factors.of_world()
        note = f"no --region: {_figures(factor)}; pass --region (IN, US-CA, asia-south1, ...) for your own grid"
    else:
        place = regions.find(region)
        factor = factors.nearest_to(place)
        country = factors.country_name(place.country)
        note = _note(region.strip(), place, factor)
    return Intensity(
        g_per_kwh=factor.g_per_kwh,
        level=factor.level,
        region_asked=region,
        region_used=factor.region,
        year=factor.year,
        source=factor.source,
        note=note,
        country=country,
        pue=pue,
    )


def cloud_near(region: str | None) -> Intensity | None:
    """The cloud region in the country of `region` whose own figure is lowest; None where nobody publishes one there."""
    try:
        country = None if region is None else regions.find(region).country
    except UsageError:  # of an imported run, which may call its region anything
        return None
    published = {name: row["impact"] for name, row in factors.gcp().items() if row["countryIsoCode"] == country}
    return resolve(min(published, key=published.__getitem__)) if published else None


def _note(asked: str, place: regions.Place, factor: factors.Factor) -> str:
    if factor.level == "world":
        lack = f"NO FACTOR for {factors.country_name(place.country)}"
        return f"{asked}: {lack}; {_figures(factor)}, which may be far off; pass a neighbour with --region"
    note = f"{asked}: {_lack(place, factor)}{_figures(factor)}"
    namesake = regions.namesake(asked)
    return f"{note}; {namesake}" if namesake else note


def _lack(place: regions.Place, factor: factors.Factor) -> str:
    """What was asked for and is not there: "no state factor; "."""
    if place.cloud and factor.level != "cloud":
        return f"no {clouds.NAMES[place.cloud.partition(':')[0]]} factor; "
    if place.electricity_maps:
        return "no zone factor; "
    if place.gb_region or place.gb_postcode:
        return "no regional factor; "
    if place.subdivision and factor.level == "country":
        return f"no {iso.subdivision(place.subdivision).type.lower()} factor; "
    return ""


def _figures(factor: factors.Factor) -> str:
    """The factor in words: "California, United States, 179 g/kWh, 2023 (EPA eGRID2023)"."""
    g_per_kwh = f"{factor.g_per_kwh:.0f}" if factor.g_per_kwh >= 100 else f"{factor.g_per_kwh:.3g}"
    year = f", {factor.year}" if factor.year else ""
    remark = f" ({factor.remark})" if factor.remark else ""
    return f"{factor.region}, {g_per_kwh} g/kWh{year}{remark}"
