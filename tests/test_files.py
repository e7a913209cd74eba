"""A file appears under its name complete, or not at all, and nothing is left beside it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from conftest import record

from greenml import exchange
from greenml.files import whole
from greenml.store.merging import copy_whole

if TYPE_CHECKING:
    from pathlib import Path

    from greenml.store import Store

FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from greenml import exchange
from greenml.store import Store
db = Store(Path(sys.argv[1]))
db.rows("from runs")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, [4096] * 2)
place = Path(sys.argv[2])
for write in (
    lambda: exchange.write_json(place / "rows.json", ["x" * 100_000]),
    lambda: exchange.write_csv(place / "rows.csv", [{"x": "x" * 100_000}]),
    lambda: exchange.write_store(place / "rows.duckdb", db, ["a" * 12]),
):
    try:
        write()
    except Exception as error:
        print(type(error).__name__, flush=True)
"""


def test_what_was_there_stays_until_the_new_file_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "figures"
    file.write_text("old")
    with whole(file) as partial:
        partial.write_text("new")
        assert file.read_text() == "old"
    assert (file.read_text(), list(tmp_path.iterdir())) == ("new", [file])


@pytest.mark.parametrize("shared", [False, True])
def test_what_fails_half_way_leaves_no_trace(tmp_path: Path, shared: bool) -> None:
    file = tmp_path / "figures"
    file.write_text("old")

    def fail() -> None:
        with whole(file, shared=shared) as partial:
            partial.write_text("half")
            raise OSError("a cable is pulled")

    with pytest.raises(OSError, match="cable"):
        fail()
    assert (file.read_text(), list(tmp_path.iterdir())) == ("old", [file])


def test_a_killed_writers_rest_is_no_beginning(tmp_path: Path) -> None:
    (tmp_path / "figures.partial").write_text("half of")
    with whole(tmp_path / "figures") as partial, partial.open("a") as file:
        file.write("all")
    assert (tmp_path / "figures").read_text() == "all"


def test_a_copy_of_what_cannot_be_read_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        copy_whole(tmp_path / "missing", tmp_path / "there" / "copy")
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are POSIX")
def test_a_full_disk_leaves_no_half_export(db: Store, tmp_path: Path) -> None:
    record(db, "a" * 12, [0.9], [1e5])
    place = tmp_path / "exports"
    place.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(db.path), str(place)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["OSError", "OSError", "StoreError"]
    assert list(place.iterdir()) == []
    exchange.write_json(place / "rows.json", [])
    assert (place / "rows.json").read_text() == "[]\n"
