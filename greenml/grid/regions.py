"""What a word for a region means: a place, and no numbers (`factors` has those)."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from greenml.errors import UsageError, nearest
from greenml.grid import clouds, factors, iso

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = "regions look like IN, IND, IN-TN, california, SE3, asia-south1 or aws:us-west-2"

EVERYDAY_NAMES = {"UK": "GBR", "Great Britain": "GBR", "UAE": "ARE"}
"""What people write and neither ISO 3166 nor CodeCarbon's tables list."""

NAMED_BY_STATE = ("US", "CA", "IN")
"""Countries whose states and provinces are known by name too. All 5000 names of the world are far from unique."""

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


def find(word: str) -> Place:
    """The one place that `word` stands for."""
    places = _places().get(_fold(word), set())
    if len(places) > 1:
        codes = " or ".join(sorted(f"`{place.subdivision or place.country}`" for place in places))
        raise UsageError(f"`{word}` is more than one place", hint=f"write {codes}")
    if not places:
        raise UsageError(f"unknown region `{word}`", hint=_hint(word))
    return next(iter(places))


def known_regions() -> list[str]:
    """Every spelling that `find` understands, in its usual case."""
    return list(dict.fromkeys(spelling for spelling, _ in _spellings()))


def namesake(word: str) -> str | None:
    """The state or province that a two-letter country code is often mistaken for: `IN` -> "Indiana is US-IN"."""
    if len(word) == 2:
        for country in ("US", "CA"):
            state = iso.subdivision(f"{country}-{word.upper()}")
            if state and state.code not in OFF_GRID:
                return f"{state.name} is {state.code}"
    return None


def _fold(word: str) -> str:
    """One key for all ways of writing a region: "South Korea", "south_korea" -> "south-korea"."""
    plain = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode()
    return re.sub(r"[\s_-]+", "-", plain.strip()).lower()


def _hint(word: str) -> str:
    """The nearest spellings, first among those that begin alike: `IN-TX` is a typo in India, `us-west9` in a cloud."""
    head = _fold(word).partition("-")[0] + "-"
    alike = [spelling for spelling in known_regions() if _fold(spelling).startswith(head)]
    near = nearest(word, alike, otherwise="") or nearest(word, known_regions(), otherwise="")
    return f"{near} {EXAMPLES}".strip()


@cache
def _places() -> dict[str, set[Place]]:
    places = defaultdict(set)
    for spelling, place in _spellings():
        places[_fold(spelling)].add(place)
    return dict(places)


@cache
def _spellings() -> list[tuple[str, Place]]:
    return [*_countries(), *_subdivisions(), *_zones(), *_clouds()]


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


def _zones() -> Iterator[tuple[str, Place]]:
    for zone in factors.zones():
        place = Place(country=_place(zone[:2]).country, zone=zone)
        if len(zone) > 2:  # `FI` is a zone and a country; two letters are always the country
            yield zone, place
        yield f"{zone[:2]}-{zone}", place


def _clouds() -> Iterator[tuple[str, Place]]:
    sites = [
        (provider, region, _place(code))
        for provider, codes in clouds.SITES.items()
        for code, regions in codes.items()
        for region in regions.split()
    ]
    sites += [("gcp", region, Place(country=row["countryIsoCode"])) for region, row in factors.gcp().items()]
    for provider, region, site in sites:
        place = Place(country=site.country, subdivision=site.subdivision, cloud=f"{provider}:{region}")
        yield region, place
        yield f"{provider}:{region}", place


def _place(code: str) -> Place:
    """An ISO code, alpha-2 or 3166-2 -> the place; what is off its country's grid is a country of its own."""
    code = OFF_GRID.get(code, code)
    return Place(country=iso.country(code[:2]).alpha_3, subdivision=code if "-" in code else None)
