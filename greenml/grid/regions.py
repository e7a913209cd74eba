"""What a word for a region means: a place, and no numbers (`factors` has those). The one way in for every spelling."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from greenml.errors import UsageError, nearest
from greenml.grid import atlas, britain, factors, iso

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = "regions look like IN, IND, IN-TN, california, SE3, asia-south1, aws:us-west-2, IN-SO or GB:RG10"

EVERYDAY_NAMES = {"UK": "GBR", "Great Britain": "GBR", "UAE": "ARE"}
"""What people write and neither ISO 3166 nor CodeCarbon's tables list."""

NAMED_BY_STATE = ("US", "CA", "IN")
"""Countries whose states and provinces are known by name too. All 5000 names of the world are far from unique."""

OLD_CODES = {
    "IN-CT": "IN-CG",
    "IN-DD": "IN-DH",
    "IN-DN": "IN-DH",
    "IN-OR": "IN-OD",
    "IN-TG": "IN-TS",
    "IN-UT": "IN-UK",
}
"""What Indian states were called in ISO 3166-2 until 2023, and the two territories that are one since 2020."""

_TERRITORIES = {
    "CN": "HK=HK MO=MO TW=TW",
    "FR": "971=GP 972=MQ 973=GF 974=RE 976=YT BL=BL MF=MF NC=NC PF=PF PM=PM TF=TF WF=WF",
    "NL": "AW=AW BQ1=BQ BQ2=BQ BQ3=BQ CW=CW SX=SX",
    "NO": "21=SJ 22=SJ",
    "US": "AS=AS GU=GU MP=MP PR=PR UM=UM VI=VI",
}
OFF_GRID = {
    f"{parent}-{part}": code
    for parent, pairs in _TERRITORIES.items()
    for part, code in (pair.split("=") for pair in pairs.split())
}
"""Subdivisions with a country code and a grid of their own: the factor of the mainland says nothing about them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where electricity is drawn, as closely as it was said."""

    country: str
    """ISO 3166-1 alpha-3."""
    subdivision: str | None = None
    """ISO 3166-2: `IN-TN`."""
    zone: str | None = None
    """Nordic bidding zone: `SE3`."""
    cloud: str | None = None
    """Provider and region: `gcp:asia-south1`."""
    electricity_maps: str | None = None
    """A zone of Electricity Maps that is no region of the kinds above: `US-CAL-CISO`."""
    gb_region: int | None = None
    """NESO's number of a region of Great Britain."""
    gb_postcode: str | None = None
    """The first half of a postcode of Great Britain: `RG10`."""


def find(word: str) -> Place:
    """The one place that `word` stands for."""
    if place := by_code(word):
        return place
    folded = fold(word)
    places = _places().get(folded, set())
    if len(places) > 1:
        codes = " or ".join(sorted(f"`{unmistakable(place)}`" for place in places))
        raise UsageError(f"`{word}` is more than one place", hint=f"write {codes}")
    if places:
        return next(iter(places))
    if folded.startswith("gb:") and (postcode := britain.outward(word)):
        return Place(country="GBR", gb_postcode=postcode)
    raise UsageError(f"unknown region `{word}`", hint=hint(word))


def by_code(word: str) -> Place | None:
    """What a code of ISO 3166 stands for, found without the spellings of the whole world, which take 0.1 s; None where
    it takes these to tell."""
    code = word.strip().upper()
    if re.fullmatch("[A-Z]{2}", code):
        country = iso.country(code)
        return Place(country=country.alpha_3) if country else None
    if re.fullmatch("[A-Z]{2}-[A-Z0-9]{1,3}", code) and iso.subdivision(code) and code not in taken():
        return _place(code)
    return None


def known_regions() -> list[str]:
    """Every spelling that `find` understands, in its usual case."""
    return list(dict.fromkeys(spelling for spelling, _ in _spellings()))


def unmistakable(place: Place) -> str:
    """The code of a place that is nobody else's."""
    if place.electricity_maps:
        return f"em:{place.electricity_maps}" if iso.subdivision(place.electricity_maps) else place.electricity_maps
    if place.subdivision and not place.cloud and place.subdivision in taken():
        return f"iso:{place.subdivision}"
    if place.zone:
        return f"{iso.country(place.country).alpha_2}-{place.zone}"
    number = f"GB:{place.gb_region or place.gb_postcode}" if place.gb_region or place.gb_postcode else None
    return place.cloud or number or place.subdivision or place.country


@cache
def taken() -> frozenset[str]:
    """Codes of ISO 3166-2 that are also keys of zones elsewhere: `IT-SO` is Sondrio, and the south of Italy."""
    return frozenset(
        zone.code for zone in atlas.of_kind("zone") if zone.code != zone.iso and iso.subdivision(zone.code)
    )


def namesake(word: str) -> str | None:
    """The state or province that a two-letter country code is often mistaken for: `IN` -> "Indiana is US-IN"."""
    if len(word) == 2:
        for country in ("US", "CA"):
            state = iso.subdivision(f"{country}-{word.upper()}")
            if state and state.code not in OFF_GRID:
                return f"{state.name} is {state.code}"
    return None


def fold(word: str) -> str:
    """One key for all ways of writing a region: "South Korea", "south_korea" -> "south-korea"."""
    plain = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode()
    return re.sub(r"[\s_-]+", "-", plain.strip()).lower()


def hint(word: str) -> str:
    """The nearest spellings, first among those that begin alike: `IN-TX` is a typo in India, `us-west9` in a cloud."""
    spellings = [spelling for spelling in known_regions() if spelling not in OLD_CODES]
    head = fold(word).partition("-")[0] + "-"
    alike = [spelling for spelling in spellings if fold(spelling).startswith(head)]
    near = nearest(word, alike, otherwise="") or nearest(word, spellings, otherwise="")
    return f"{near} {EXAMPLES}".strip()


@cache
def _places() -> dict[str, set[Place]]:
    places = defaultdict(set)
    for spelling, place in _spellings():
        places[fold(spelling)].add(place)
    return dict(places)


@cache
def _spellings() -> list[tuple[str, Place]]:
    return [*_countries(), *_subdivisions(), *_zones(), *_electricity_maps(), *_britain(), *_clouds()]


def _countries() -> Iterator[tuple[str, Place]]:
    for country in iso.countries():
        place = Place(country=country.alpha_3)
        yield country.alpha_2, place
        yield country.alpha_3, place
        everyday = getattr(country, "common_name", country.name)
        for name in (country.name, everyday, factors.country_name(country.alpha_3)):
            yield name, place
    for name, code in EVERYDAY_NAMES.items():
        yield name, Place(country=code)


def _subdivisions() -> Iterator[tuple[str, Place]]:
    for subdivision in iso.subdivisions():
        place = _place(subdivision.code)
        yield subdivision.code, place
        if subdivision.country_code in NAMED_BY_STATE:
            yield subdivision.name, place
    for old, new in OLD_CODES.items():
        yield old, _place(new)


def _zones() -> Iterator[tuple[str, Place]]:
    for zone in factors.zones():
        place = Place(country=_place(zone[:2]).country, zone=zone)
        if len(zone) > 2:  # `FI` is a zone and a country; two letters are always the country
            yield zone, place
        yield f"{zone[:2]}-{zone}", place


def _electricity_maps() -> Iterator[tuple[str, Place]]:
    """Every zone by its key, and by `em:` and its key: two of Italy's are called like provinces elsewhere."""
    for country in atlas.of_kind("country"):
        if country.zones == (country.code,):
            yield f"em:{country.code}", _place(country.code)
    for zone in atlas.of_kind("zone"):
        place = _place(zone.iso)
        if zone.code[3:] in factors.zones():
            place = replace(place, zone=zone.code[3:])
        elif zone.code != zone.iso:
            place = replace(place, electricity_maps=zone.code)
            yield zone.code, place
        yield f"em:{zone.code}", place
        if zone.code.startswith("DK-DK"):
            yield zone.code[3:], place
    for code in sorted(taken()):
        yield f"iso:{code}", _place(code)


def _britain() -> Iterator[tuple[str, Place]]:
    for row in atlas.of_kind("gb"):
        place = replace(_place(row.iso), gb_region=int(row.code.removeprefix("GB:")))
        yield row.code, place
        yield f"GB:{row.name}", place


def _clouds() -> Iterator[tuple[str, Place]]:
    for row in atlas.of_kind("cloud"):
        place = replace(_place(row.iso), cloud=row.code)
        yield row.code.partition(":")[2], place
        yield row.code, place
    for region, line in factors.gcp().items():  # spelt otherwise, or newer than our table
        if f"gcp:{region}" not in atlas.rows():
            place = Place(country=line["countryIsoCode"], cloud=f"gcp:{region}")
            yield region, place
            yield f"gcp:{region}", place


def _place(code: str) -> Place:
    """An ISO code, alpha-2 or 3166-2 -> the place; what is off its country's grid is a country of its own."""
    code = OFF_GRID.get(code, code)
    return Place(country=iso.country(code[:2]).alpha_3, subdivision=code if "-" in code else None)
