"""What ships: the wheel holds the SQL and the configs, and works from there."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from greenml.resources import shipped

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The built wheel, laid out as an installation would."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_sql_configs_and_nothing_of_the_workshop(unpacked):
    inside = {str(file.relative_to(unpacked)) for file in unpacked.rglob("*") if file.is_file()}

    for name in ("sql", "configs"):
        here = {
            f"greenml/{name}/{file.relative_to(ROOT / name)}" for file in (ROOT / name).rglob("*") if file.is_file()
        }
        assert here <= inside
    assert {"greenml/plots/countries-110m.json", "greenml/grid/regions.csv"} <= inside
    assert {f"greenml/report/page.{kind}" for kind in ("html", "css", "js")} <= inside
    assert not any(name.startswith(("tests", "store")) for name in inside)


def test_the_wheel_works_away_from_the_repository(unpacked, tmp_path):
    env = os.environ | {"PYTHONPATH": str(unpacked)}
    script = (
        "import greenml.resources as r; print(r.shipped('sql').parent);"
        "from greenml.store import Store; from pathlib import Path; s = Store(Path('s/g.duckdb')); s.check();"
        "print(s.rows('from leaderboard'));"
        "from greenml.config import resolve; print(resolve({}, Path('optimized.yaml')).model)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines() == [str(unpacked / "greenml"), "[]", "resnet18"]


def test_a_checkout_finds_them_at_its_root():
    assert shipped("sql") == ROOT / "sql"
    assert shipped("configs") == ROOT / "configs"
