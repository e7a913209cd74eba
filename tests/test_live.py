"""Providers by name, tokens out of the keyring, and what several processes keep in one place."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import datetime, timedelta
from types import ModuleType

import pytest
from live_server import serving

from greenml.errors import UsageError
from greenml.grid.live import NAMES, RefusedError, Site, cache, create, known, provider, register_provider
from greenml.grid.live.answers import Answer
from greenml.grid.live.neso import Neso
from greenml.grid.live.service import ceiling, chunks, floor
from greenml.grid.live.tokens import token
from greenml.grid.series import Series, Step

NOON = datetime(2026, 3, 1, 12)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _places_of_our_own(tmp_path, monkeypatch):
    monkeypatch.setenv("GREENML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.parametrize("name", NAMES)
def test_every_provider_says_what_it_is(name):
    made = create(name)

    assert made.name == name
    assert made.title
    assert made.kind == ("marginal" if name == "watttime" else "average")
    assert made.factors in ("lifecycle", "direct")
    assert timedelta() < made.step <= HOUR


def test_production_is_where_they_ask_and_only_safely():
    assert [create(name)._base_url for name in NAMES] == [
        "https://api.carbonintensity.org.uk", "https://api.electricitymaps.com/v4", "https://api.watttime.org",
    ]  # fmt: skip


def test_a_name_that_is_not_known_is_met_with_the_nearest():
    with pytest.raises(UsageError, match="unknown provider `electricity-map`") as raised:
        create("electricity-map")
    assert raised.value.hint == "did you mean `electricitymaps`?"
    with pytest.raises(UsageError) as raised:
        create("x")
    assert raised.value.hint == "greenml knows neso, electricitymaps, watttime"


def test_another_package_registers_its_own(monkeypatch):
    monkeypatch.setattr(provider, "_MAKERS", dict(provider._MAKERS))

    class Point:
        def load(self):
            register_provider("somewhere")(Neso)

    def points(*, group):
        return [Point()] if group == "greenml.providers" else []

    monkeypatch.setattr(provider, "entry_points", points)

    assert known() == [*NAMES, "somewhere"]
    assert isinstance(create("somewhere"), Neso)


def test_opening_them_opens_no_library_of_the_network():
    code = "import sys; from greenml.grid import live; live.create('watttime'); print('requests' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


# -- the keyring --


class KeyringError(Exception):
    pass


@pytest.fixture
def keyring(monkeypatch):
    """What the package of this name has of an interface; it is not among greenml's dependencies."""
    module, errors = ModuleType("keyring"), ModuleType("keyring.errors")
    module.kept = {}
    module.get_password = lambda service, name: module.kept.get((service, name))
    errors.KeyringError = KeyringError
    monkeypatch.setitem(sys.modules, "keyring", module)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    monkeypatch.delenv("ELECTRICITYMAPS_TOKEN", raising=False)
    return module


def test_a_token_comes_from_the_environment_and_else_from_the_keyring(keyring, monkeypatch):
    keyring.kept["greenml", "ELECTRICITYMAPS_TOKEN"] = "from-the-keyring"
    assert token("ELECTRICITYMAPS_TOKEN", title="X") == "from-the-keyring"

    monkeypatch.setenv("ELECTRICITYMAPS_TOKEN", "from-the-environment")
    assert token("ELECTRICITYMAPS_TOKEN", title="X") == "from-the-environment"


def test_a_keyring_without_it_is_no_token(keyring):
    with pytest.raises(RefusedError, match="no token"):
        token("ELECTRICITYMAPS_TOKEN", title="X")


@pytest.mark.parametrize("error", [KeyringError, RuntimeError, OSError])
def test_a_keyring_that_is_locked_is_no_token(keyring, error):
    def locked(service, name):
        raise error("locked")

    keyring.get_password = locked

    with pytest.raises(RefusedError, match="no token"):
        token("ELECTRICITYMAPS_TOKEN", title="X")


# -- what is kept --


def answer(value):
    return Answer(zone="X", steps=(Step(start=NOON, end=NOON + HOUR, g_per_kwh=value, status="estimated"),))


def test_what_goes_in_comes_out_to_the_last_bit():
    cache.remember(["a", 1], answer(0.1 + 0.2), now=NOON, until=NOON + HOUR)

    assert cache.recall(["a", 1], NOON + HOUR / 2) == answer(0.1 + 0.2)
    assert cache.recall(["a", 2], NOON) is None
    assert cache.recall(["a", 1], NOON + HOUR) is None
    assert cache.recall(["a", 1], NOON - HOUR) is None


def test_processes_that_write_at_once_leave_one_whole_file(tmp_path):
    code = """
import sys
from datetime import datetime, timedelta
from greenml.grid.live import cache
from greenml.grid.live.answers import Answer
from greenml.grid.series import Step
noon, hour = datetime(2026, 3, 1, 12), timedelta(hours=1)
mine = Answer(zone="X", steps=tuple(
    Step(start=noon + i * hour, end=noon + (i + 1) * hour, g_per_kwh=float(sys.argv[1])) for i in range(300)
))
for _ in range(100):
    cache.remember(["a"], mine, now=noon, until=noon + hour)
    found = cache.recall(["a"], noon)
    assert len(found.steps) == 300 and len({step.g_per_kwh for step in found.steps}) == 1
"""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(i)], env=os.environ | {"GREENML_CACHE": str(tmp_path / "cache")}
        )
        for i in range(2)
    ]

    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(list((tmp_path / "cache" / "grid").iterdir())) == 1


def test_files_that_nobody_wrote_for_a_week_go(tmp_path):
    cache.remember(["old"], answer(1.0), now=NOON, until=NOON + HOUR)
    (old,) = (tmp_path / "cache" / "grid").iterdir()
    os.utime(old, (time.time() - 8 * 86400,) * 2)

    cache.remember(["new"], answer(1.0), now=NOON, until=NOON + HOUR)

    assert not old.exists()
    assert cache.recall(["new"], NOON) is not None


# -- arithmetic of time --


def test_spans_tile_without_a_rest():
    assert floor(NOON + HOUR / 7, HOUR / 2) == NOON
    assert floor(NOON, HOUR) == ceiling(NOON, HOUR) == NOON
    assert ceiling(NOON + timedelta(microseconds=1), HOUR) == NOON + HOUR
    assert list(chunks(NOON, NOON + 2.5 * HOUR, HOUR)) == [
        (NOON, NOON + HOUR), (NOON + HOUR, NOON + 2 * HOUR), (NOON + 2 * HOUR, NOON + 2.5 * HOUR),
    ]  # fmt: skip
    assert list(chunks(NOON, NOON, HOUR)) == []


def test_providers_are_told_apart_by_where_they_ask():
    """One kept answer is not another server's: what a test was told is not what the world is told."""
    half_hour = {"from": "2026-03-01T12:00Z", "to": "2026-03-01T12:30Z"}
    path = "/intensity/2026-03-01T12:00Z/2026-03-01T12:30Z"
    with serving() as one, serving() as other:
        for value, live in ((100, one), (200, other)):
            live.answers[path] = {"data": [half_hour | {"intensity": {"forecast": value, "actual": value}}]}
        found = [Neso(**live.settings).current(Site(electricity_maps="GB"), NOON) for live in (one, other)]

    assert [series.steps[0].g_per_kwh for series in found] == [100, 200]
    assert all(isinstance(series, Series) for series in found)
