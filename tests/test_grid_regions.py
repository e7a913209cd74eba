"""Where a region lies, on whose grid, and that nobody is guessed into one: the table, `locate` and `grid regions`."""

from __future__ import annotations

import contextlib
import json
import zoneinfo
from collections import Counter
from datetime import datetime
from importlib.resources import files

import pycountry
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenml import cli, grid
from greenml.errors import UsageError
from greenml.grid import atlas, britain, factors, regions, whereabouts

AMBIGUOUS = {"Georgia", "IT-NO", "IT-SO"}
DIVIDED = {"AU", "BR", "CA", "DK", "FO", "IN", "IT", "JP", "MY", "NO", "PH", "RU", "SE", "US"}
"""Countries of several zones, none of which has (nearly) all of it."""
WHOLE = {"AU", "BR", "CA", "CN", "IN", "JP", "MX", "MY", "US"}
"""Countries each of whose states has a line."""


def run(capsys, monkeypatch, *arguments: str, columns: int = 80) -> tuple[int, str, str]:
    """A command at a terminal of so many columns: its exit code, stdout and stderr."""
    from greenml import console

    monkeypatch.setenv("COLUMNS", str(columns))
    console.out.cache_clear()
    with pytest.raises(SystemExit) as done:
        cli.main(arguments)
    console.out.cache_clear()
    said = capsys.readouterr()
    return done.value.code, said.out, said.err


def clocks(country: str) -> set[tuple[object, object]]:
    """The offsets from UTC of a country's time zones, in January and July, as the tz database lists them."""
    table = files("tzdata.zoneinfo").joinpath("zone.tab").read_text(encoding="utf-8")
    lines = [line.split("\t") for line in table.splitlines() if line.startswith(f"{country}\t")]
    return {
        tuple(datetime(2026, month, 1, tzinfo=zoneinfo.ZoneInfo(line[2])).utcoffset() for month in (1, 7))
        for line in lines
    }


def test_every_row_names_places_and_clocks_that_exist():
    clocks = zoneinfo.available_timezones()
    assert len(atlas.rows()) > 900
    for row in atlas.rows().values():
        if "-" in row.iso:
            assert pycountry.subdivisions.get(code=row.iso), row
        else:
            assert pycountry.countries.get(alpha_2=row.iso), row
        if row.spot:
            assert row.spot.time_zone in clocks, row
            assert -90 <= row.spot.latitude <= 90, row
            assert -180 <= row.spot.longitude <= 180, row


def test_no_line_of_the_table_is_there_twice():
    text = files("greenml.grid").joinpath("regions.csv").read_text(encoding="utf-8")
    codes = [line.partition(",")[0] for line in text.splitlines() if not line.startswith("#")]
    assert [code for code, count in Counter(codes).items() if count > 1] == []


def test_every_zone_that_is_named_is_a_zone():
    """A country's own, or one of the lines of zones, in the same country (Åland is one of its own)."""
    known = {row.code for row in atlas.of_kind("zone")} | {
        row.code for row in atlas.of_kind("country") if row.zones == (row.code,)
    }
    for row in atlas.rows().values():
        for zone in row.zones or ():
            assert zone in known, row
            assert zone[:2] == row.iso[:2] or row.code == "FI-01", row
        assert list(row.zones or ()) == sorted(set(row.zones or ())), row


def test_every_country_of_iso_3166_has_a_line():
    assert {row.code for row in atlas.of_kind("country")} == {country.alpha_2 for country in pycountry.countries}
    assert {row.code for row in atlas.of_kind("country") if row.spot is None} == {"BV", "HM"}  # nobody lives there


@pytest.mark.parametrize("country", sorted(WHOLE))
def test_every_state_of_the_large_countries_has_a_place_of_its_own(country):
    for entry in pycountry.subdivisions.get(country_code=country):
        if entry.code not in regions.OFF_GRID:
            assert grid.locate(entry.code).time_zone, entry
            assert entry.code in atlas.rows(), entry


def test_a_clock_is_never_that_of_another_part_of_the_country():
    """Of countries with several clocks, either the states are in the table, or those that are not have none."""
    apart = {
        "AQ",
        "EC",
        "ES",
        "FM",
        "NZ",
        "PF",
        "PG",
        "PT",
        "UA",
        "UM",
        "CL",
        "CY",
    }  # islands, and what is in the table
    several = {country.alpha_2 for country in pycountry.countries if len(clocks(country.alpha_2)) > 1}
    assert several - apart <= WHOLE | set(whereabouts.WIDE)
    assert grid.locate("RU-VOR").time_zone is None
    assert grid.locate("RU-PRI").time_zone == "Asia/Vladivostok"
    assert grid.locate("PT-20").time_zone == "Atlantic/Azores"
    assert grid.locate("EC-W").time_zone == "Pacific/Galapagos"
    assert grid.locate("CL-MA").time_zone == "America/Punta_Arenas"


def test_every_cloud_region_has_a_place_unless_its_provider_keeps_it_secret():
    secret = {"aws:us-gov-east-1", "aws:us-gov-west-1", "azure:usdodcentral", "azure:usdodeast"}
    for row in atlas.of_kind("cloud"):
        where = grid.locate(row.code)
        assert (where.latitude is None) == (row.code in secret), row
    for region, line in factors.gcp().items():
        where = grid.locate(f"gcp:{region}")
        assert where.latitude is not None
        assert where.country == line["countryIsoCode"] or where.country == "HKG"  # CodeCarbon: China


def test_clouds_stand_in_the_state_whose_factor_they_get():
    """A region's own zones are among those of the state that it is said to be in."""
    for row in atlas.of_kind("cloud"):
        if row.zones and "-" in row.iso:
            state = grid.locate(row.iso)
            assert set(row.zones) <= {state.electricity_maps, *state.parts}, row


def test_all_known_regions_can_be_located():
    for spelling in grid.known_regions():
        if spelling in AMBIGUOUS:
            with pytest.raises(UsageError, match="more than one place"):
                grid.locate(spelling)
        else:
            where = grid.locate(spelling)
            assert where.country == regions.find(spelling).country
            assert (where.electricity_maps is None) or not where.parts
            assert where.electricity_maps or where.way_out, spelling


def test_every_region_of_the_catalogue_is_found_by_its_code_alone():
    places = whereabouts.catalogue()
    assert len(places) > 5500
    for code, place in places.items():
        assert regions.find(code) == place
    assert len(set(places.values())) == len(places)


@pytest.mark.parametrize(
    ("asked", "zone"),
    [
        ("DE", "DE"),
        ("DE-BY", "DE"),
        ("DEU", "DE"),
        ("GB", "GB"),
        ("GB-NIR", "GB-NIR"),
        ("GB-BFS", "GB-NIR"),  # Belfast
        ("GB-ORK", "GB-ORK"),
        ("ES", "ES"),
        ("ES-PM", None),  # the Balearic Islands are four
        ("FR", "FR"),
        ("FR-2A", "FR-COR"),
        ("FR-971", "GP"),
        ("PT-30", "PT-MA"),
        ("CL", "CL-SEN"),
        ("FI", "FI"),
        ("FI-01", "AX"),
        ("SE3", "SE-SE3"),
        ("SE-SE3", "SE-SE3"),
        ("SE-AB", "SE-SE3"),
        ("SE-X", None),  # Gävleborg is divided
        ("NO1", "NO-NO1"),
        ("DK1", "DK-DK1"),
        ("DK-DK2", "DK-DK2"),
        ("DK-84", "DK-DK2"),
        ("JP-13", "JP-TK"),
        ("JP-22", None),  # Shizuoka: 50 Hz east of the Fuji, 60 Hz west of it
        ("AU-NSW", "AU-NSW"),
        ("AU-ACT", "AU-NSW"),
        ("CA-QC", "CA-QC"),
        ("US-VA", "US-MIDA-PJM"),
        ("US-NY", "US-NY-NYIS"),
        ("US-HI", "US-HI"),
        ("US-PR", "PR"),
        ("US-CA", None),
        ("US-TX", None),
        ("US-CAL-CISO", "US-CAL-CISO"),
        ("us-west-1", "US-CAL-CISO"),
        ("gcp:us-west2", None),  # Los Angeles: its own department, and CAISO around it
        ("asia-south1", "IN-WE"),
        ("asia-east2", "HK"),
        ("em:IT-SO", "IT-SO"),
        ("iso:IT-SO", "IT-NO"),  # Sondrio
        ("IT-MI", "IT-NO"),
        ("IT-PA", "IT-SIC"),
        ("MX", "MX"),
        ("MX-SON", "MX"),
        ("BR-RJ", "BR-CS"),
        ("AS", None),
        ("IN-LD", None),
    ],
)
def test_a_zone_is_told_where_the_grid_is_one(asked, zone):
    assert grid.locate(asked).electricity_maps == zone


@pytest.mark.parametrize(
    "country", ["AU", "BR", "CA", "DK", "FO", "IN", "IT", "JP", "MY", "NO", "PH", "RU", "SE", "US"]
)
def test_a_country_of_several_grids_is_in_none_of_them(country):
    where = grid.locate(country)
    assert {row.code for row in atlas.of_kind("country") if len(atlas.zones_in(row.code)) > 1} == DIVIDED
    assert where.electricity_maps is None
    assert len(where.parts) > 1
    assert all(grid.locate(f"em:{part}").electricity_maps == part for part in where.parts)
    assert where.parts[0] in where.way_out


@pytest.mark.parametrize(
    ("zone", "states"),
    [
        ("IN-NO", "CH DL HP HR JK LA PB RJ UP UK UT"),
        ("IN-WE", "GJ MP CG CT MH GA DH DN DD"),
        ("IN-EA", "BR JH OR OD WB SK"),
        ("IN-NE", "AR AS ML MN MZ NL TR"),
        ("IN-SO", "TN KA KL AP TS TG PY"),
        ("IN-AN", "AN"),
    ],
)
def test_indian_states_are_on_their_regional_grid_by_their_old_and_new_codes(zone, states):
    for state in states.split():
        where = grid.locate(f"IN-{state}")
        assert (where.electricity_maps, where.country) == (zone, "IND")
        assert grid.resolve(f"IN-{state}").region_used == "India"


def test_a_zone_has_the_factor_of_the_state_or_country_that_holds_it():
    for zone in atlas.of_kind("zone"):
        intensity = grid.resolve(f"em:{zone.code}")
        if intensity.level != "zone":  # Norway's and Sweden's have factors of their own
            assert (
                intensity.g_per_kwh
                == grid.resolve(f"iso:{zone.iso}" if zone.iso in regions.taken() else zone.iso).g_per_kwh
            )


@pytest.mark.parametrize(
    ("asked", "number", "postcode", "inside"),
    [
        ("GB", None, None, True),
        ("GB:13", 13, None, True),
        ("gb:london", 13, None, True),
        ("GB:North Wales & Merseyside", 6, None, True),
        ("GB:south_scotland", 2, None, True),
        ("GB-ENG", 15, None, True),
        ("GB-SCT", 16, None, True),
        ("GB-WLS", 17, None, True),
        ("GB-LND", 15, None, True),
        ("GB-CRF", 17, None, True),  # Cardiff
        ("GB:RG10", None, "RG10", True),
        ("gb:ec1a", None, "EC1A", True),
        ("GB: m1", None, "M1", True),
        ("uksouth", None, None, True),
        ("GB-NIR", None, None, False),
        ("IE", None, None, False),
        ("JE", None, None, False),
        ("IM", None, None, False),
    ],
)
def test_great_britain_has_regions_and_postcodes(asked, number, postcode, inside):
    where = grid.locate(asked)
    assert (where.gb_region, where.gb_postcode, where.in_great_britain) == (number, postcode, inside)
    if inside:
        assert where.time_zone == "Europe/London"


def test_nesos_regions_are_seventeen():
    assert list(britain.names()) == list(range(1, 18))


@pytest.mark.parametrize("word", ["GB:RG10 9NY", "GB:18", "GB:0", "GB:ZZ1", "GB:RG", "GB:", "GB:1A"])
def test_what_is_no_british_region_is_refused_with_examples(word):
    with pytest.raises(UsageError, match="unknown region") as error:
        grid.locate(word)
    assert "GB:RG10" in error.value.hint


def test_northern_ireland_is_told_apart():
    assert "Ireland's grid" in grid.locate("GB-NIR").way_out
    with pytest.raises(UsageError, match="Northern Ireland") as error:
        grid.locate("GB:BT1")
    assert error.value.hint == "write `GB-NIR`"


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("IN-SQ", "`IN-SO`"),
        ("US-CAL-CISP", "`US-CAL-CISO`"),
        ("em:US-TEX-ERCT", "`em:US-TEX-ERCO`"),
        ("DK3", "`DK"),
        ("GB:Lodnon", "`GB:London`"),
    ],
)
def test_an_unknown_zone_names_the_nearest(word, near):
    with pytest.raises(UsageError, match="unknown region") as error:
        grid.locate(word)
    assert near in error.value.hint


@given(st.text(max_size=12))
def test_whatever_is_written_is_a_place_or_two_lines(word):
    with contextlib.suppress(UsageError):
        where = grid.locate(word)
        assert where.asked == word.strip()
        assert pycountry.countries.get(alpha_3=where.country)


def test_what_the_user_says_of_watttime_is_kept():
    assert grid.locate("US-CA").watttime is None
    assert grid.locate("US-CA", watttime="CAISO_NORTH").watttime == "CAISO_NORTH"


def test_whereabouts_of_a_state():
    where = grid.locate(" in_tn ")
    assert where == grid.Whereabouts(
        asked="in_tn",
        name="Tamil Nādu, India",
        country="IND",
        subdivision="IN-TN",
        electricity_maps="IN-SO",
        parts=(),
        way_out=None,
        place="Chennai",
        latitude=13.1,
        longitude=80.3,
        time_zone="Asia/Kolkata",
        watttime=None,
        gb_region=None,
        gb_postcode=None,
    )


def test_the_command_tells_all_of_a_region_as_json(capsys, monkeypatch):
    code, out, err = run(capsys, monkeypatch, "grid", "regions", "us-west-2", "--json")
    [row] = json.loads(out)
    source = row.pop("source")
    assert (code, err) == (0, "")
    assert source.startswith("EPA eGRID2023")
    assert row == {
        "region": "aws:us-west-2",
        "name": "AWS Boardman, United States",
        "country": "USA",
        "subdivision": "US-OR",
        "electricity_maps": "US-NW-BPAT",
        "parts": [],
        "way_out": None,
        "gb_region": None,
        "gb_postcode": None,
        "time_zone": "America/Los_Angeles",
        "place": "Boardman",
        "latitude": 45.8,
        "longitude": -119.7,
        "g_per_kwh": pytest.approx(166, abs=0.5),
        "year": 2023,
        "level": "subdivision",
        "factor_of": "Oregon, United States",
    }


def test_without_a_search_it_is_countries_and_how_to_search(capsys, monkeypatch):
    code, out, err = run(capsys, monkeypatch, "grid", "regions")
    assert code == 0
    assert len(out.splitlines()) == 2 + 249
    assert "SE      Sweden" in out
    assert "4 zones" in next(line for line in out.splitlines() if line.startswith("SE "))
    assert "a search finds" in err


def test_all_is_every_region_of_the_world(capsys, monkeypatch):
    code, out, _ = run(capsys, monkeypatch, "grid", "regions", "--all", "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["region"] for row in rows] == list(whereabouts.catalogue())
    assert all(row["electricity_maps"] or row["way_out"] for row in rows)


@pytest.mark.parametrize(
    ("words", "first", "others"),
    [
        (["tamil", "nadu"], "IN-TN", set()),
        (["nadu", "TAMIL"], "IN-TN", set()),
        (["mumbai"], "aws:ap-south-1", {"azure:westindia", "gcp:asia-south1"}),
        (["IN-OR"], "IN-OD", set()),
        (["US-CA"], "US-CA", {"US-CAL-CISO"}),
        (["IN"], "IN", {"IN-TN", "IN-SO", "aws:ap-south-1"}),
        (["denmark"], "DK", {"DK-DK1", "DK-84"}),
        (["georgia"], "GE", {"US-GA"}),
        (["IT-SO"], "em:IT-SO", {"iso:IT-SO"}),
        (["sondrio"], "iso:IT-SO", set()),
        (["gb:rg10"], "GB:RG10", set()),
        (["GB:"], "GB:1", {"GB:13"}),
        (["california", "iso"], "US-CAL-CISO", set()),
    ],
)
def test_a_search_finds_codes_and_names(capsys, monkeypatch, words, first, others):
    code, out, _ = run(capsys, monkeypatch, "grid", "regions", *words, "--json")
    found = [row["region"] for row in json.loads(out)]
    assert (code, found[0]) == (0, first)
    assert others <= set(found)
    assert len(found) == len(set(found))


def test_a_countrys_code_is_not_the_beginning_of_other_names(capsys, monkeypatch):
    _, out, _ = run(capsys, monkeypatch, "grid", "regions", "IN", "--json")
    assert {row["country"] for row in json.loads(out)} == {"IND"}


def test_nothing_found_is_two_lines_and_the_nearest(capsys, monkeypatch):
    code, out, err = run(capsys, monkeypatch, "grid", "regions", "californa")
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert first == "greenml: error: no region is called `californa`"
    assert second.startswith("hint: did you mean `California`?")


def test_all_and_a_search_at_once_is_refused(capsys, monkeypatch):
    code, _, err = run(capsys, monkeypatch, "grid", "regions", "--all", "india")
    assert code == 2
    assert "hint: greenml grid regions india" in err


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("words", ["US-CA", "northamerica", "sweden", "GB:"])
def test_the_table_fits_the_screen_and_cuts_no_code(capsys, monkeypatch, columns, words):
    _, out, _ = run(capsys, monkeypatch, "grid", "regions", words, columns=columns)
    lines = out.splitlines()
    codes = [line.split()[0] for line in lines[2:]]
    assert max(map(len, lines)) <= columns
    assert codes
    assert all(regions.find(code) for code in codes)
    assert ("time zone" in lines[0]) == (columns == 120)


def test_a_divided_state_is_told_with_its_grids(capsys, monkeypatch):
    _, _, err = run(capsys, monkeypatch, "grid", "regions", "US-CA")
    assert "US-CA: several grids share California, United States: name one of US-CAL-BANC, US-CAL-CISO, " in err


def test_a_code_found_the_short_way_is_what_all_spellings_say():
    """And most codes are: else it would be no way at all."""
    found = {word: regions.by_code(word) for word in regions.known_regions()}
    assert all(regions._places()[regions.fold(word)] == {place} for word, place in found.items() if place)
    assert {"IN", "IN-TN", "US-CA", "SE", "DE-BY"} <= {word for word, place in found.items() if place}
    assert regions.by_code("it-so") is None
    assert regions.by_code("in-tn") == regions.find("Tamil Nadu")
