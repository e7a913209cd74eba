"""`greenml grid regions`: what can be said to `--region`, where it lies, and what a kWh there emits in a year."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenml import console
from greenml.cli.options import JsonOption
from greenml.console import UNKNOWN, Column, counted, figure
from greenml.errors import UsageError

if TYPE_CHECKING:
    from greenml.grid.regions import Place

    Row = dict[str, Any]

EXAMPLES = """\
\b
Examples:
  greenml grid regions                   every country
  greenml grid regions tamil nadu        a state, by name
  greenml grid regions IN                India, its states, its zones and the clouds there
  greenml grid regions GB:RG10           where a British postcode is
  greenml grid regions US-CA --json      all that is known of California
"""
TOLD = 3
"""Rows whose way out is told, at most: of more it is a wall of text."""
LONGEST_CODE = 3
"""Letters of a country in ISO 3166-1."""


def regions(
    search: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SEARCH]...", help="Beginnings of words of a code or a name; all must be there."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every region of the world: 5,500 rows.", show_default=False)
    ] = False,
    json: JsonOption = False,
) -> None:
    """What --region takes: countries, states, zones, parts of Great Britain and clouds.

    Shown with the zone of Electricity Maps, its time zone, and the yearly average of its grid.
    """
    words = " ".join(search or []).strip()
    if words and everything:
        raise UsageError("`--all` goes not with a search", hint=f"greenml grid regions {words}")
    codes = found(words) if words else overview(everything)
    rows = [described(code) for code in codes]
    if json:
        console.print_json(rows)
        return
    console.out().print(console.table(COLUMNS, rows))
    for note in notes(rows, whole=everything or bool(words)):
        console.say(note)


def overview(everything: bool) -> list[str]:
    """Countries by name, or all regions there are."""
    from greenml.grid import whereabouts

    places = whereabouts.catalogue()
    if everything:
        return list(places)
    countries = [code for code in places if len(code) == 2]
    return sorted(countries, key=lambda code: whereabouts.name_of(places[code]))


def found(words: str) -> list[str]:
    """The regions in whose code or name something begins with each of the words; first what is called just so.

    A country's code stands for the country and what is in it: `IN` is not Inverness.
    """
    from greenml.grid import regions, whereabouts

    places = whereabouts.catalogue()
    begins = [re.compile(rf"(?<![a-z0-9]){re.escape(regions.fold(word))}") for word in words.split()]
    codes = [code for code, place in places.items() if all(begin.search(text(code, place)) for begin in begins)]
    try:
        called = regions.find(words)
    except UsageError:  # half a name, or that of several
        if not codes:
            raise UsageError(f"no region is called `{words}`", hint=regions.hint(words)) from None
        return codes
    if called == regions.Place(country=called.country):
        inside = [code for code, place in places.items() if place.country == called.country]
        return inside if len(words) <= LONGEST_CODE else list(dict.fromkeys([*inside, *codes]))
    # A postcode is not in the catalogue.
    return list(dict.fromkeys([regions.unmistakable(called), *codes]))


def text(code: str, place: Place) -> str:
    """What a search looks into."""
    from greenml.grid import regions, whereabouts

    alone = place.country if len(code) == 2 else ""
    return f"{regions.fold(code)} {regions.fold(whereabouts.name_of(place))} {alone.lower()}"


def described(code: str) -> Row:
    """All that is known of a region, in order."""
    from greenml import grid

    where = grid.locate(code)
    factor = grid.resolve(code)
    return {
        "region": code,
        "name": where.name,
        "country": where.country,
        "subdivision": where.subdivision,
        "electricity_maps": where.electricity_maps,
        "parts": where.parts,
        "way_out": where.way_out,
        "gb_region": where.gb_region,
        "gb_postcode": where.gb_postcode,
        "time_zone": where.time_zone,
        "place": where.place,
        "latitude": where.latitude,
        "longitude": where.longitude,
        "g_per_kwh": factor.g_per_kwh,
        "year": factor.year,
        "level": factor.level,
        "factor_of": factor.region_used,
        "source": factor.source,
    }


def zone(row: Row) -> str:
    """Of Electricity Maps, or how many share the region."""
    if row["parts"]:
        return f"{len(row['parts'])} zones"
    return row["electricity_maps"] or UNKNOWN


def coordinates(row: Row) -> str:
    """Latitude and longitude, and of which town."""
    if row["place"] is None:
        return UNKNOWN
    return f"{row['latitude']:.1f}, {row['longitude']:.1f} {row['place']}"


COLUMNS = [
    Column("region", lambda row: str(row["region"]), right=False),
    Column("name", lambda row: str(row["name"]), right=False, shrinks=True),
    Column("zone", zone, right=False),
    Column("time zone", lambda row: row["time_zone"] or UNKNOWN, right=False, wide=True, shrinks=True),
    Column("place", coordinates, right=False, wide=True, shrinks=True),
    Column("g/kWh", lambda row: figure(row["g_per_kwh"])),
    Column("year", lambda row: str(row["year"] or UNKNOWN)),
    Column("factor of", lambda row: str(row["level"]), right=False),
]


def notes(rows: list[Row], *, whole: bool) -> list[str]:
    """What the columns mean, what is divided, and what is not on the page."""
    said = ["zone: Electricity Maps's; g/kWh: the yearly average in CodeCarbon's tables, of the smallest they have"]
    asked = rows if len(rows) <= TOLD else rows[:1] if whole else []
    said += [f"{row['region']}: {row['way_out']}" for row in asked if row["way_out"]]
    if not whole:
        said.append(f"{counted(len(rows), 'place')} with a country code: a search finds their parts and clouds, too")
    return said
