"""What a region's name resolves to, and that the figures are CodeCarbon's own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import Counter

import pycountry
import pytest
from codecarbon.core.emissions import Emissions
from codecarbon.core.units import Energy
from codecarbon.external.geography import CloudMetadata, GeoMetadata
from codecarbon.input import DataSource

from greenml import grid
from greenml.errors import UsageError
from greenml.grid import atlas, clouds, regions

DATA = DataSource()
DATA_GCP = DATA.get_cloud_emissions_data()["region"].str.replace("cenrtal", "central")


def codecarbon_g_per_kwh(country: str, region: str | None = None) -> float:
    """What CodeCarbon itself makes of one kWh, in grams."""
    geo = GeoMetadata(country_iso_code=country, region=region)
    return Emissions(DATA).get_private_infra_emissions(Energy(1.0), geo) * 1000


def iso_codes(country: str) -> dict[str, str]:
    """Lower-case names of a country's subdivisions -> ISO 3166-2."""
    return {entry.name.lower(): entry.code for entry in pycountry.subdivisions.get(country_code=country)}


@pytest.mark.parametrize(
    ("asked", "note"),
    [
        ("IN-TN", "IN-TN: no state factor; India, 713 g/kWh, 2023"),
        ("IN-DL", "IN-DL: no union territory factor; India, 713 g/kWh, 2023"),
        ("SE-AB", "SE-AB: no county factor; Sweden, 40.7 g/kWh, 2023"),
        ("CN-XZ", "CN-XZ: no autonomous region factor; China, 582 g/kWh, 2023"),
        ("IND", "IND: India, 713 g/kWh, 2023"),
        ("IN", "IN: India, 713 g/kWh, 2023; Indiana is US-IN"),
        ("CA", "CA: Canada, 170 g/kWh, 2023; California is US-CA"),
        ("FR", "FR: France, 56 g/kWh, 2023"),
        ("US-CA", "US-CA: California, United States, 179 g/kWh, 2023 (EPA eGRID2023)"),
        ("CA-ON", "CA-ON: Ontario, Canada, 64.7 g/kWh, 2023 (fossil part of the mix)"),
        ("CN-BJ", "CN-BJ: Beijing, China, 555 g/kWh, 2023 (MEE/NBS, CO2 only)"),
        ("SE3", "SE3: bidding zone SE3, Sweden, 27 g/kWh, 2025 (ENTSO-E)"),
        ("FI", "FI: Finland, 79.2 g/kWh, 2023"),
        ("FI-FI", "FI-FI: bidding zone FI, Finland, 72 g/kWh, 2025 (publisher not stated)"),
        ("asia-south1", "asia-south1: Mumbai, India, 648 g/kWh (Google Cloud, year not stated)"),
        ("aws:us-west-2", "aws:us-west-2: no AWS factor; Oregon, United States, 166 g/kWh, 2023 (EPA eGRID2023)"),
        ("centralindia", "centralindia: no Azure factor; India, 713 g/kWh, 2023"),
        ("asia-east2", "asia-east2: Hong Kong, 360 g/kWh (Google Cloud, year not stated)"),
        ("IN-SO", "IN-SO: no zone factor; India, 713 g/kWh, 2023"),
        ("IN-OR", "IN-OR: no state factor; India, 713 g/kWh, 2023"),
        ("DK1", "DK1: no zone factor; Denmark, 152 g/kWh, 2023"),
        ("US-CAL-CISO", "US-CAL-CISO: no zone factor; California, United States, 179 g/kWh, 2023 (EPA eGRID2023)"),
        ("US-MIDA-PJM", "US-MIDA-PJM: no zone factor; United States, 369 g/kWh, 2023"),
        ("GB:RG10", "GB:RG10: no regional factor; United Kingdom, 238 g/kWh, 2023"),
        ("GB:13", "GB:13: no regional factor; United Kingdom, 238 g/kWh, 2023"),
        ("europe-north2", "europe-north2: no Google Cloud factor; Sweden, 40.7 g/kWh, 2023"),
        ("PR", "PR: Puerto Rico, 679 g/kWh, 2022"),
        ("CF", "CF: Central African Republic, 0 g/kWh, 2022 (as published; no grid emits nothing)"),
        (
            "MC",
            "MC: NO FACTOR for Monaco; world average, 475 g/kWh, which may be far off; pass a neighbour with --region",
        ),
    ],
)
def test_the_note_says_what_was_used_instead_of_what(asked, note):
    """The figures are CodeCarbon 3.3's: a new table changes them, and is to be looked at."""
    assert grid.resolve(asked).note == note


@pytest.mark.parametrize(
    ("spellings", "used", "level"),
    [
        (["IN", "in", "IND", "ind", "India", "india", " INDIA ", "IN-TN", "in_tn", "tamil nadu"], "India", "country"),
        (["US-CA", "us_ca", "california", "us-west-1", "azure:westus"], "California, United States", "subdivision"),
        (["CA-QC", "Quebec", "québec", "canadaeast", "ca-central-1"], "Quebec, Canada", "subdivision"),
        (["KR", "South Korea", "south_korea", "Korea, Republic of", "ap-northeast-2"], "South Korea", "country"),
        (["GB", "GBR", "UK", "united kingdom", "uksouth", "AWS:EU-WEST-2"], "United Kingdom", "country"),
        (["TR", "Turkey", "Türkiye"], "Turkey", "country"),
        (["SE3", "se3", "SE-SE3", "se_se3", "em:SE-SE3"], "bidding zone SE3, Sweden", "zone"),
        (["CA-QC", "em:CA-QC"], "Quebec, Canada", "subdivision"),
        (["HK", "CN-HK", "ap-east-1", "eastasia"], "Hong Kong", "country"),
        (["PR", "US-PR", "puerto rico"], "Puerto Rico", "country"),
        (["gcp:us-central1", "us-central1", "US_CENTRAL1"], "Council Bluffs, United States", "cloud"),
        (["me-central1", "me-cenrtal1"], "Doha, Qatar", "cloud"),  # CodeCarbon's spelling of Doha, and Google's
        (["DE", "Germany"], "Germany", "country"),
        (["GE", "GEO"], "Georgia", "country"),
    ],
)
def test_one_place_has_many_spellings(spellings, used, level):
    for spelling in spellings:
        intensity = grid.resolve(spelling)
        assert (intensity.region_asked, intensity.region_used, intensity.level) == (spelling, used, level)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("IN-TX", "`IN-TN`"),
        ("IN-OX", "`IN-OD`"),
        ("indai", "`India`"),
        ("californa", "`California`"),
        ("us-west9", "`us-west4`"),
        ("aws:us-west-9", "`aws:us-west-2`"),
        ("us-central1-a", "`us-central1`"),
        ("SE-SE9", "`SE-SE4`"),
        ("XX", "regions look like IN, "),
        ("", "regions look like IN, "),
    ],
)
def test_an_unknown_region_is_an_error_that_names_the_nearest(word, hint):
    with pytest.raises(UsageError, match="unknown region") as error:
        grid.resolve(word)
    assert f"`{word}`" in str(error.value)
    assert hint in error.value.hint
    assert error.value.exit_code == 2


def test_a_name_of_two_places_is_refused():
    with pytest.raises(UsageError, match="more than one place") as error:
        grid.resolve("georgia")
    assert error.value.hint == "write `GEO` or `US-GA`"


def test_a_zone_that_is_called_like_a_province_elsewhere_is_refused():
    """`IT-SO` is the south of Italy to Electricity Maps, and to ISO 3166 Sondrio, in the Alps."""
    with pytest.raises(UsageError, match="more than one place") as error:
        grid.resolve("IT-SO")
    assert error.value.hint == "write `em:IT-SO` or `iso:IT-SO`"


def test_no_other_spelling_is_ambiguous():
    """Neither between countries, states, zones and clouds, nor among the clouds."""
    meanings = {(regions.fold(spelling), place) for spelling, place in regions._spellings()}
    several = {word for word, count in Counter(word for word, _ in meanings).items() if count > 1}
    assert several == {"georgia", "it-no", "it-so"}


def test_without_a_region_it_is_the_world_and_says_so():
    intensity = grid.resolve(None)
    assert (intensity.level, intensity.region_asked, intensity.year) == ("world", None, None)
    assert intensity.g_per_kwh == DATA.get_carbon_intensity_per_source_data()["world_average"]
    assert intensity.note.startswith("no --region: world average, 475 g/kWh; pass --region")


@pytest.mark.parametrize(
    ("region", "country"), [(None, None), ("IN-TN", "India"), ("asia-south1", "India"), ("MC", "Monaco")]
)
def test_the_country_and_the_pue_of_the_site_are_kept_beside_the_factor(region, country):
    intensity = grid.resolve(region, pue=1.4)

    assert (intensity.country, intensity.pue) == (country, 1.4)
    assert intensity.g_per_kwh == grid.resolve(region).g_per_kwh


def test_every_country_has_codecarbons_value_and_year():
    table = DATA.get_global_energy_mix_data()
    assert len(table) > 200
    for code, row in table.items():
        for spelling in (code, pycountry.countries.get(alpha_3=code).alpha_2):
            intensity = grid.resolve(spelling)
            assert intensity.g_per_kwh == pytest.approx(codecarbon_g_per_kwh(code), rel=1e-6)
            assert intensity.g_per_kwh == pytest.approx(row["carbon_intensity"], rel=1e-6)
            assert (intensity.level, intensity.year) == ("country", row["year"])


def test_every_country_without_a_factor_is_the_world_aloud():
    without = [c for c in pycountry.countries if c.alpha_3 not in DATA.get_global_energy_mix_data()]
    assert without
    for country in without:
        intensity = grid.resolve(country.alpha_2)
        assert intensity.level == "world"
        assert "NO FACTOR" in intensity.note


def test_every_us_state_has_codecarbons_value():
    table = {name: row for name, row in DATA.get_country_emissions_data("usa").items() if "regionCode" in row}
    states = {name: row for name, row in table.items() if name in iso_codes("US")}
    assert len(states) == 51
    for name, row in states.items():
        intensity = grid.resolve(iso_codes("US")[name])
        assert intensity.g_per_kwh == pytest.approx(codecarbon_g_per_kwh("USA", name), rel=1e-6)
        assert intensity.g_per_kwh == pytest.approx(row["emissions"] * 0.45359237, rel=1e-6)  # lb/MWh
        assert (intensity.level, intensity.year) == ("subdivision", 2023)


def test_every_canadian_province_has_codecarbons_value():
    table = DATA.get_country_energy_mix_data("can")
    assert len(table) == 13
    for name in table:
        intensity = grid.resolve(iso_codes("CA")[name])
        assert intensity.g_per_kwh == pytest.approx(codecarbon_g_per_kwh("CAN", name), rel=1e-6)
        assert (intensity.level, intensity.year) == ("subdivision", 2023)


def test_every_chinese_province_has_codecarbons_value():
    table = DATA.get_china_provincial_emissions_data()["data"]
    assert len(table) == 30
    for code, row in table.items():
        intensity = grid.resolve(code)
        assert intensity.g_per_kwh == pytest.approx(row["emission_factor"], rel=1e-6)
        for name in row["names"]:
            assert intensity.g_per_kwh == pytest.approx(codecarbon_g_per_kwh("CHN", name), rel=1e-6)


def test_every_nordic_zone_has_codecarbons_value():
    table = DATA.get_nordic_country_energy_mix_data()["data"]
    assert len(table) == 10
    for zone, row in table.items():
        country = pycountry.countries.get(alpha_2=zone[:2]).alpha_3
        intensity = grid.resolve(f"{zone[:2]}-{zone}")
        assert intensity.g_per_kwh == pytest.approx(codecarbon_g_per_kwh(country, zone), rel=1e-6)
        assert (intensity.level, intensity.year) == ("zone", row["year"])


def test_every_google_region_has_codecarbons_value():
    table = DATA.get_cloud_emissions_data()
    assert len(table) >= 40
    for region, g_per_kwh in zip(table["region"], table["impact"], strict=True):
        kg = Emissions(DATA).get_cloud_emissions(Energy(1.0), CloudMetadata("gcp", region))
        for spelling in (region, f"gcp:{region}"):
            intensity = grid.resolve(spelling)
            assert intensity.g_per_kwh == pytest.approx(kg * 1000, rel=1e-6) == pytest.approx(g_per_kwh)
            assert intensity.level == "cloud"


def test_every_other_cloud_region_has_the_factor_of_its_site():
    others = [row for row in atlas.of_kind("cloud") if row.code.removeprefix("gcp:") not in set(DATA_GCP)]
    assert len(others) > 100
    for row in others:
        site, intensity = grid.resolve(row.iso), grid.resolve(row.code)
        assert site.level == ("subdivision" if "-" in row.iso else "country")
        assert (intensity.g_per_kwh, intensity.region_used) == (site.g_per_kwh, site.region_used)
        assert f"no {clouds.NAMES[row.code.partition(':')[0]]} factor; " in intensity.note


def test_every_subdivision_in_the_world_resolves():
    """And to a factor of its own only where the tables have it."""
    codes = [f"iso:{entry.code}" if entry.code in regions.taken() else entry.code for entry in pycountry.subdivisions]
    levels = Counter(grid.resolve(code).level for code in codes)
    assert levels["subdivision"] == 51 + 13 + 30
    for code, country in regions.OFF_GRID.items():
        assert grid.resolve(code).region_used == grid.resolve(country).region_used


@pytest.mark.parametrize(
    ("region", "publisher"),
    [
        ("IN", "Our World in Data (Ember)"),
        ("US-CA", "EPA eGRID2023"),
        ("CA-ON", "publisher not stated"),
        ("CN-BJ", "Ministry of Ecology and Environment"),
        ("SE3", "ENTSO-E"),
        ("asia-south1", "Google Cloud"),
        (None, "IEA"),
    ],
)
def test_the_source_names_the_publisher_and_codecarbons_version(region, publisher):
    source = grid.resolve(region).source
    assert publisher in source
    assert "(in CodeCarbon 3." in source


def test_no_socket_is_opened(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("greenml.grid reached for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for region in (None, "IN-TN", "US-CA", "CA-ON", "CN-BJ", "SE3", "asia-south1", "us-west-2", "MC"):
        grid.resolve(region)


def test_codecarbons_configuration_has_no_say(tmp_path):
    """Neither `.codecarbon.config` nor the environment: with a token CodeCarbon would ask the network instead."""
    settings = {"country_iso_code": "FRA", "electricitymaps_api_token": "x", "force_carbon_intensity_g_co2e_kwh": "1"}
    config = "[codecarbon]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items())
    (tmp_path / ".codecarbon.config").write_text(config)
    environment = {f"CODECARBON_{key.upper()}": value for key, value in settings.items()}
    script = "from greenml import grid; print(grid.resolve('IN-TN').note); print(grid.resolve('asia-south1').g_per_kwh)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, **environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["IN-TN: no state factor; India, 713 g/kWh, 2023", "648.0"]


@pytest.mark.parametrize(
    ("after", "light"),
    [
        ("pass", "{'codecarbon', 'pandas', 'pycountry', 'requests'}"),
        ("greenml.grid.resolve('asia-south1')", "{'codecarbon', 'pandas', 'requests'}"),
        ("greenml.grid.locate('asia-south1')", "{'codecarbon', 'pandas', 'requests'}"),
    ],
)
def test_the_package_stays_light(after, light):
    """CodeCarbon's tables are read, and nothing of it is opened: it takes longer than all else a command does."""
    script = f"import greenml.grid, sys; {after}; print({light} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
