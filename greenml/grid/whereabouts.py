"""From a region's name to what providers of intensities ask for: a zone, coordinates, a time zone. Never guessed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from greenml.grid import atlas, britain, clouds, factors, iso, regions
from greenml.grid.live import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from greenml.grid.atlas import Row, Spot
    from greenml.grid.regions import Place

WIDE = ("CD", "GL", "ID", "KI", "MN", "RU")
"""Countries of several clocks of whose parts the table places only some: the others lie nobody knows where."""
FEW = 6
"""Zones that a way out names; `parts` has all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """Where a region lies, and how providers call it."""

    asked: str
    name: str
    """In words, with the country."""
    country: str
    """ISO 3166-1 alpha-3."""
    subdivision: str | None
    """ISO 3166-2, where it lies within one."""
    electricity_maps: str | None
    """The zone of Electricity Maps; None where there is none, or where several share the region."""
    parts: tuple[str, ...]
    """Those several."""
    way_out: str | None
    """What to give instead where a provider has no zone for it."""
    place: str | None
    """The town whose coordinates and clock these are: of a part without any of its own, the country's."""
    latitude: float | None
    """Degrees north, as is `longitude` degrees east; None where the table does not say."""
    longitude: float | None
    time_zone: str | None
    """IANA: `Asia/Kolkata`."""
    watttime: str | None
    """WattTime's region where the user gave it; else WattTime tells it from the coordinates."""
    gb_region: int | None
    """NESO's number, 1 to 17; None for all of Great Britain, and outside."""
    gb_postcode: str | None
    """The first half of a postcode."""

    @property
    def in_great_britain(self) -> bool:
        """Whether NESO's data are of this place: not in Northern Ireland, whose grid is Ireland's."""
        return self.country == "GBR" and self.electricity_maps != "GB-NIR"


def locate(region: str, *, watttime: str | None = None) -> Whereabouts:
    """Where `region` lies, in any spelling that `resolve` takes. Raises UsageError as `resolve` does."""
    place = regions.find(region)
    zones = _zones(place)
    spot = _spot(place)
    return Whereabouts(
        asked=region.strip(),
        name=name_of(place),
        country=place.country,
        subdivision=place.subdivision,
        electricity_maps=zones[0] if len(zones) == 1 else None,
        parts=zones if len(zones) > 1 else (),
        way_out=_way_out(place, zones),
        place=spot.place if spot else None,
        latitude=spot.latitude if spot else None,
        longitude=spot.longitude if spot else None,
        time_zone=spot.time_zone if spot else None,
        watttime=watttime,
        gb_region=_gb_region(place),
        gb_postcode=place.gb_postcode,
    )


@cache
def catalogue() -> dict[str, Place]:
    """Every region once, by the code that is nobody else's: countries, zones, subdivisions, Great Britain, clouds."""
    found = {row.code: regions.find(row.code) for row in atlas.of_kind("country")}
    for zone in atlas.of_kind("zone"):
        place = regions.find(f"em:{zone.code}")
        found[regions.unmistakable(place)] = place
    for code in sorted(entry.code for entry in iso.subdivisions()):
        place = regions.find(f"iso:{code}" if code in regions.taken() else code)
        if code not in regions.OFF_GRID:
            found.setdefault(regions.unmistakable(place), place)
    for row in (*atlas.of_kind("gb"), *atlas.of_kind("cloud")):
        found[row.code] = regions.find(row.code)
    return found


def name_of(place: Place) -> str:
    """In words: "Tamil Nadu, India"."""
    country = factors.country_name(place.country)
    own = _own_name(place)
    if own is None or (place.cloud and own.endswith(country)):
        return own or country
    return f"{own}, {country}"


def _own_name(place: Place) -> str | None:
    if place.cloud:
        provider, _, region = place.cloud.partition(":")
        row = atlas.rows().get(place.cloud)
        return f"{clouds.NAMES[provider]} {row.spot.place if row and row.spot else region}"
    if place.gb_postcode:
        return f"postcode {place.gb_postcode}"
    if place.gb_region:
        return britain.names()[place.gb_region]
    if place.zone:
        return f"bidding zone {place.zone}"
    if place.electricity_maps:
        return atlas.rows()[place.electricity_maps].name
    # "Wales [Cymru GB-CYM]": what ISO 3166 says besides is left out.
    return str(iso.subdivision(place.subdivision).name).partition(" [")[0] if place.subdivision else None


def _zones(place: Place) -> tuple[str, ...]:
    """The zones of Electricity Maps that the place may lie in."""
    for row in _rows(place):
        if row.kind == "zone":
            return (row.code,)
        if row.zones is not None:
            return row.zones
    return atlas.zones_in(_alpha2(place))


def _spot(place: Place) -> Spot | None:
    for row in _rows(place):
        if row.kind == "country" and place.subdivision and not place.gb_region and row.code in WIDE:
            return None
        if row.spot:
            return row.spot
        if row.kind == "cloud":
            return None
    return None


def _rows(place: Place) -> Iterator[Row]:
    """What the table has of the place, from the smallest to the country around it."""
    table = atlas.rows()
    number = f"GB:{place.gb_region}" if place.gb_region else None
    zone = f"{_alpha2(place)}-{place.zone}" if place.zone else place.electricity_maps
    yield from (table[code] for code in (place.cloud, number, zone) if code in table)
    iso_codes = (*_around(place.subdivision), _alpha2(place))
    yield from (table[code] for code in iso_codes if code in table and table[code].iso == code)


def _around(subdivision: str | None) -> list[str]:
    """A subdivision and what it is a part of: `IT-MI`, `IT-25`."""
    codes: list[str] = []
    while subdivision and subdivision not in codes:
        codes.append(subdivision)
        subdivision = iso.subdivision(subdivision).parent_code
    return codes


def _gb_region(place: Place) -> int | None:
    if place.gb_region:
        return place.gb_region
    return next((britain.NATIONS[code] for code in _around(place.subdivision) if code in britain.NATIONS), None)


def _way_out(place: Place, zones: tuple[str, ...]) -> str | None:
    if zones == ("GB-NIR",):
        return "Northern Ireland is on Ireland's grid: NESO's data of Great Britain leave it out"
    if len(zones) == 1:
        return None
    where = name_of(place)
    if not zones:
        return f"Electricity Maps has no zone for {where}: name a neighbour, or another provider"
    named = ", ".join(zones[:FEW])
    search = f"`greenml grid regions {place.subdivision or _alpha2(place)}`"
    rest = f", ...: {search} lists them" if len(zones) > FEW else ""
    return f"several grids share {where}: name one of {named}{rest}"


def _alpha2(place: Place) -> str:
    return str(iso.country(place.country).alpha_2)


def site_of(where: Whereabouts) -> Site:
    """The place in the words of the services. Of a region with several grids no coordinates: they would be in one."""
    is_one = not where.parts
    return Site(
        electricity_maps=where.electricity_maps,
        latitude=where.latitude if is_one else None,
        longitude=where.longitude if is_one else None,
        watttime=where.watttime,
        gb_region=where.gb_region,
        gb_postcode=where.gb_postcode,
    )
