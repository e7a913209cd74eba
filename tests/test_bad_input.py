"""Bad input over the installed command: two lines, the right exit code, and nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pytest
import torch
from conftest import GREENML, environment, record
from PIL import Image

from greenml.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

if sys.platform == "win32":
    pytest.skip("file size limits and /proc are POSIX", allow_module_level=True)

EARLIER = "e" * 12
TRAIN = ("train", "cnn", "--epochs", "1", "--quiet")
DIGITS = (*TRAIN, "--dataset", "digits")


LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, [int(sys.argv[1])] * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""


def nothing(here: Path) -> None:
    pass


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def one_class(here: Path) -> None:
    for number in range(3):
        picture(here / "images" / "cat" / f"{number}.png")


def no_images(here: Path) -> None:
    for name in ("cat", "dog"):
        (here / "images" / name).mkdir(parents=True)


def text_named_jpg(here: Path) -> None:
    no_images(here)
    for name in ("cat", "dog"):
        (here / "images" / name / "a.jpg").write_text("no picture")


def parquet(**columns: list[object]) -> Callable[[Path], None]:
    return lambda here: pl.DataFrame(columns).write_parquet(here / "x.parquet")


def empty_parquet(here: Path) -> None:
    schema = {"image": pl.Binary, "label": pl.Int64}
    pl.DataFrame(schema=schema).write_parquet(here / "x.parquet")


def truncated_parquet(here: Path) -> None:
    parquet(image=[b"x"] * 100, label=[0, 1] * 50)(here)
    (here / "x.parquet").write_bytes((here / "x.parquet").read_bytes()[:200])


def config(text: str) -> Callable[[Path], None]:
    return lambda here: (here / "c.yaml").write_text(text) and None


def binary(here: Path) -> None:
    (here / "x.bin").write_bytes(b"\xff\xfe\x00")


def foreign(here: Path) -> None:
    (here / "store" / "greenml.duckdb").write_text("not a database\n" * 1000)


def corrupt(here: Path) -> None:
    path = here / "store" / "greenml.duckdb"
    data = path.read_bytes()
    path.write_bytes(data[:12_288] + b"\0" * (len(data) - 12_288))


def newer(here: Path) -> None:
    con = duckdb.connect(f"duckdb:{here / 'store' / 'greenml.duckdb'}")  # noqa: TID251
    con.execute("insert into schema_migrations values (9999, '9999_future.sql', '9.0', now()::timestamp)")
    con.close()


def a_folder(here: Path) -> None:
    (here / "taken.duckdb").mkdir()


@dataclass(frozen=True)
class Case:
    """What is typed, on what, and what comes back."""

    arguments: tuple[str, ...]
    code: int
    message: str
    hint: str
    prepare: Callable[[Path], None] = nothing
    limit: int | None = None
    """Bytes that a file may have: what a full disk looks like."""
    kept: bool = field(default=True)
    """Whether the store can still be read afterwards; not where the case itself has spoilt it."""


FOLDER = (*TRAIN, "--dataset", "folder:images")
PARQUET = (*TRAIN, "--dataset", "parquet:x.parquet")
CASES = {
    "no model": Case(("train",), 2, "no model given", "greenml train cnn"),
    "unknown model": Case(("train", "resnet81", "--dataset", "digits"), 2, "unknown model `resnet81`", "`resnet18`"),
    "unknown dataset": Case((*TRAIN, "--dataset", "digts"), 2, "unknown dataset `digts`", "`digits`"),
    "unknown flag": Case((*DIGITS, "--epoch", "3"), 2, "no such option: --epoch", "`--epochs`"),
    "unknown value": Case((*DIGITS, "--optimizer", "adamm"), 2, "--optimizer: should be", "default is adamw"),
    "unknown precision": Case((*DIGITS, "--precision", "fp8"), 2, "--precision: should be", "default is fp32"),
    "unknown region": Case((*DIGITS, "--region", "XX-YY"), 2, "unknown region `XX-YY`", "regions look like"),
    "unknown command": Case(("trian",), 2, "no such command `trian`", "`train`"),
    "unknown run": Case(("runs", "show", "abc"), 2, "no run starts with `abc`", "runs"),
    "unknown config": Case((*DIGITS, "--config", "none.yaml"), 2, "no such config", "`base.yaml`"),
    "config key": Case((*TRAIN, "--config", "c.yaml"), 2, "unknown key `epoch`", "`epochs`", config("epoch: 3")),
    "config value": Case((*TRAIN, "--config", "c.yaml"), 2, "c.yaml: `lr`", "--help", config("lr: fast")),
    "config norway": Case((*TRAIN, "--config", "c.yaml"), 2, "c.yaml: `region`", "--help", config("region: no")),
    "config half": Case((*TRAIN, "--config", "c.yaml"), 2, "not valid YAML", "`key: value`", config("a: [")),
    "config binary": Case((*TRAIN, "--config", "x.bin"), 2, "cannot be read", "YAML", binary),
    "no epochs": Case((*DIGITS, "--epochs", "0"), 2, "--epochs: should be greater", "default is 20"),
    "half an epoch": Case((*DIGITS, "--epochs", "1.5"), 2, "--epochs", "--help"),
    "no value": Case((*DIGITS, "--model-arg", "drop_rate=["), 2, "`[` is no value", "drop_rate=0.2"),
    "no number": Case((*DIGITS, "--lr", "nan"), 2, "--lr", "--help"),
    "negative time": Case((*DIGITS, "--time-budget", "-5m"), 2, "--time-budget: `-5m`", "30m"),
    "negative energy": Case((*DIGITS, "--energy-budget", "-1Wh"), 2, "--energy-budget: `-1Wh`", "50Wh"),
    "no unit": Case((*DIGITS, "--carbon-budget", "20"), 2, "`20` has no unit", "20g"),
    "wrong unit": Case((*DIGITS, "--carbon-budget", "20 litres"), 2, "unknown unit `litres`", "20g"),
    "huge batch": Case((*DIGITS, "--batch-size", "5000"), 2, "more than the 1295 training images", "--batch-size"),
    "huge step": Case((*DIGITS, "--grad-accum", "64"), 2, "--grad-accum 64 is more than the 1295", "--batch-size"),
    "no repeats": Case((*DIGITS, "--repeats", "0"), 2, "--repeats", "--help"),
    "resume and change": Case(("train", "--resume", EARLIER, "--lr", "1"), 2, "--lr would change it", "--epochs"),
    "resume nothing": Case(("train", "--resume", "abc"), 2, "no run starts with `abc`", "runs"),
    "small images": Case((*DIGITS, "--image-size", "4"), 2, "--image-size: should be", "--help"),
    "no network": Case((*TRAIN, "--dataset", "cifar10"), 5, "cannot be downloaded", "--dataset digits"),
    "no hub": Case((*TRAIN, "--dataset", "hf:owner/name"), 5, "cannot be downloaded", "--dataset digits"),
    "no name of the hub": Case((*TRAIN, "--dataset", "hf:name"), 2, "names no data set", "hf:OWNER/NAME"),
    "one class": Case(FOLDER, 5, "only one class, `cat`", "two classes", one_class),
    "no images": Case(FOLDER, 5, "images", "folder", no_images),
    "text named jpg": Case(FOLDER, 5, "none of the images can be read", "image files?", text_named_jpg),
    "no folder": Case(FOLDER, 5, "no such folder", "folder:PATH"),
    "no parquet": Case(PARQUET, 5, "no parquet file there", "parquet:PATH"),
    "parquet columns": Case(PARQUET, 5, "no image column", "`image`", parquet(a=[1], b=[2])),
    "parquet of nothing": Case(PARQUET, 5, "no images", "0 rows", empty_parquet),
    "half a parquet": Case(PARQUET, 5, "not a readable parquet file", "complete?", truncated_parquet),
    "nan loss": Case((*DIGITS, "--optimizer", "sgd", "--lr", "100000"), 5, "diverged", "smaller rate"),
    "store elsewhere": Case((*DIGITS, "--store", "/proc/none/x.duckdb"), 3, "cannot be made", "--store"),
    "store is a folder": Case((*DIGITS, "--store", "taken.duckdb"), 3, "is a folder", "--store", a_folder),
    "no database": Case(DIGITS, 3, "not a DuckDB database", "--store", foreign, kept=False),
    "corrupt store": Case(DIGITS, 3, "greenml.duckdb", "--store", corrupt, kept=False),
    "newer store": Case(DIGITS, 3, "newer greenml", "upgrade", newer),
    "full disk at the start": Case((*DIGITS, "--store", "new/x.duckdb"), 3, "x.duckdb", "free some space", limit=4096),
    "full disk at a checkpoint": Case(DIGITS, 3, ".pt cannot be written", "free some space", limit=2_000_000),
}  # fmt: skip


def try_out(folder: Path, case: Case) -> subprocess.CompletedProcess[str]:
    """The case in a folder of its own, beside a store with one finished run."""
    folder.mkdir()
    record(Store(folder / "store" / "greenml.duckdb"), EARLIER, [0.5, 0.9], [100.0, 100.0])
    case.prepare(folder)
    limited = [sys.executable, "-c", LIMITED, str(case.limit)] if case.limit else []
    command = [*limited, GREENML, *case.arguments]
    return subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True)


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """All cases, some at a time: a process takes seconds to load torch."""
    root = tmp_path_factory.mktemp("bad")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = {name: pool.submit(try_out, root / name.replace(" ", "-"), case) for name, case in CASES.items()}
    return {name: (root / name.replace(" ", "-"), future.result()) for name, future in futures.items()}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_two_lines_and_loses_nothing(tried, name):
    case, (folder, done) = CASES[name], tried[name]

    *before, first, second = done.stderr.splitlines()
    assert done.returncode == case.code, done.stderr
    assert not any("Traceback" in line for line in before), done.stderr
    assert first.startswith("greenml: error: "), done.stderr
    assert case.message in first
    assert second.startswith("hint: ")
    assert case.hint in second
    assert len(second) > len("hint: ")
    assert done.stdout == ""
    if case.kept:
        store = Store(folder / "store" / "greenml.duckdb")
        assert [row["accuracy"] for row in store.rows("from leaderboard where run_id = ?", [EARLIER])] == [0.9]
        assert store.spooled() == 0
    assert not [file for file in folder.rglob("*.partial") if file.is_file()]


def folder_data(here: Path, colours: int = 2) -> None:
    for label in range(2):
        for number in range(20):
            path = here / "images" / "ab"[label] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (100 * label, number * colours, 0)).save(path)


@pytest.fixture
def one(tmp_path, here):
    """A run on a folder of images, and the way to call greenml again: exit code and what it said on stderr."""
    folder_data(tmp_path)
    code, out, err = here(*TRAIN, "--dataset", "folder:images", "--batch-size", "4", "--json")
    assert code == 0, err
    [row] = json.loads(out)

    def again(*arguments):
        code, _, err = here(*arguments, "--quiet")
        *_, first, second = err.splitlines()
        assert second.startswith("hint: ")
        return code, first + "\n" + second

    return tmp_path / "store" / "runs" / row["run_id"], row, again


def test_a_run_does_not_go_on_with_other_data(one, tmp_path):
    _, row, again = one
    folder_data(tmp_path, colours=3)

    code, said = again("train", "--resume", row["run_id"], "--epochs", "2")

    assert code == 5
    assert "has changed since" in said
    [now] = Store(tmp_path / "store" / "greenml.duckdb").rows("from leaderboard")
    assert (now["status"], now["accuracy"], now["energy_kwh"]) == ("done", row["accuracy"], row["energy_kwh"])


@pytest.mark.parametrize("name", ["model.pt", "checkpoint.pt"])
def test_nothing_in_a_tampered_file_is_executed(one, tmp_path, name):
    folder, row, again = one

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"epoch": Evil()}, folder / name)
    code, said = again("train", "--resume", row["run_id"], "--epochs", "2")

    assert code == 5
    assert f"{name}: not a file that greenml wrote: it holds more than tensors and plain values" in said
    assert not (tmp_path / "executed").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(one):
    code, said = one[2](*DIGITS, "--device", "cuda")

    assert code == 2
    assert "there is no cuda here" in said
    assert "--device auto" in said


def test_a_store_that_somebody_else_holds_open(one, tmp_path):
    """A DuckDB shell that stays open. Nothing is trained into the void."""
    path = tmp_path / "store" / "greenml.duckdb"
    hold = f"import duckdb; c = duckdb.connect('duckdb:{path}'); print('held', flush=True); input()"
    shell = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert shell.stdout
        shell.stdout.readline()
        code, said = one[2](*DIGITS)
        assert code == 3
        assert "is in use by" in said
        assert "close that program" in said
    finally:
        shell.kill()
        shell.communicate()


def test_names_are_taken_as_they_are(tmp_path, here):
    name, tag = 'it\'s "mine" [bold]\nsecond line\t\x1b[31mred 🌱', "a,b;'--"
    code, out, _ = here(*DIGITS, "--name", name, "--tag", tag, "--json")

    [row] = json.loads(out)
    assert (code, row["name"], row["tags"]) == (0, name, [tag])
    for command in (["board"], ["runs", "list"], ["runs", "show", row["run_id"]]):
        code, out, err = here(*command)
        assert code == 0, err
        assert "\x1b[31m" not in out
