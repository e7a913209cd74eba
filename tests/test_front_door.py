"""The front door: quick, quiet, and two lines where something is wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from conftest import make_end, make_phase, make_run

import greenml
from greenml.store import Store

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = {
    "torch", "torchvision", "timm", "optuna", "altair", "codecarbon", "polars", "pydantic", "sklearn", "numpy",
    "mlflow", "wandb", "dask", "distributed", "openvino", "onnxruntime", "nncf", "onnx",
}  # fmt: skip
PEEK = """
import sys
from greenml.cli import main
try:
    main(sys.argv[1:])
finally:
    print("loaded:", *sys.modules, file=sys.stderr)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "greenml", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        (["--help"], {"duckdb", "rich"}),
        (["train", "--help"], {"duckdb", "rich"}),
        (["track", "--help"], {"duckdb", "rich"}),
        (["sweep", "--help"], {"duckdb", "rich"}),
        (["sweep", "--space", "nowhere.yaml"], {"rich"}),
        (["sweep", "list", "--store", "nowhere/none.duckdb"], {"filelock", "rich"}),
        (["track", "nowhere"], set()),
        (["estimate", "--help"], {"duckdb", "rich"}),
        (["predict", "--help"], {"duckdb", "rich", "PIL"}),
        (["predict", "nowhere"], {"duckdb", "rich", "PIL"}),
        (["evaluate", "--help"], {"duckdb", "rich", "PIL"}),
        (["evaluate", "run", "--split", "tests"], {"duckdb", "rich", "PIL"}),
        (["report", "--help"], {"duckdb", "rich"}),
        (["report", "--md", "--store", "nowhere/none.duckdb"], {"filelock"}),
        (["grid", "plan", "--help"], {"duckdb", "rich", "requests", "pycountry"}),
        (["grid", "plan", "--duration", "4h", "--region", "DE"], {"requests"}),
        (["grid", "forecast", "--intensity", "250"], {"requests"}),
        (["train", "cnn", "--no-such-flag"], {"duckdb", "rich"}),
        (["grid", "regions", "--help"], {"duckdb", "rich", "pycountry"}),
        (["grid", "regions", "tamil", "nadu"], {"duckdb", "pandas"}),
        (["board", "--store", "nowhere/none.duckdb"], {"filelock"}),
        (["recommend", "--store", "nowhere/none.duckdb"], {"filelock", "rich", "yaml"}),
    ],
)
def test_what_is_heavy_stays_outside(arguments: list[str], more: set[str]) -> None:
    done = subprocess.run([sys.executable, "-c", PEEK, *arguments], capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in done.stderr.partition("loaded:")[2].split()}
    assert "greenml" in loaded
    assert loaded & (HEAVY | more) == set()


def test_help_shows_the_commands_in_order_and_the_first_steps() -> None:
    done = run("--help")
    assert done.returncode == 0
    commands = [
        line.split()[0]
        for line in done.stdout.partition("Commands:")[2].partition("First")[0].splitlines()
        if line.strip()
    ]
    assert commands[:6] == ["train", "compress", "board", "recommend", "report", "predict"]
    assert {"doctor", "estimate", "evaluate", "import", "runs", "track"} <= set(commands)
    for whole in ("Say which model to run, for how many epochs, and why.", "as a page, charts or tables."):
        assert whole in done.stdout
    assert "greenml train cnn --dataset digits" in done.stdout
    assert run().stdout == done.stdout


def test_version() -> None:
    assert run("--version").stdout == f"greenml {greenml.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["boadr"], "no such command `boadr`", "did you mean `board`?"),
        (["board", "--modle", "x"], "no such option: --modle", "did you mean `--model`?"),
        (
            ["board", "--limit", "0"],
            "invalid value for `--limit`: 0 is not in the range x>=1",
            "`greenml board --help`",
        ),
        (["runs", "show"], "missing argument `RUN`", "`greenml runs show --help`"),
        (["runs"], "missing command", "`greenml runs --help`"),
    ],
)
def test_wrong_use_is_two_lines_and_a_way_out(arguments: list[str], error: str, hint: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert first == f"greenml: error: {error}"
    assert second.startswith(f"hint: {hint}")


def test_a_broken_store_is_two_lines_and_3(tmp_path: Path) -> None:
    (tmp_path / "bad.duckdb").write_text("no database" * 1000)
    done = run("board", "--store", str(tmp_path / "bad.duckdb"))
    assert done.returncode == 3
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["greenml", "hint"]


def test_flags_accept_underscores() -> None:
    done = run("train", "cnn", "--batch_size", "many")
    assert done.returncode == 2
    assert "invalid value for `--batch-size`: `many`" in done.stderr.replace("'", "`")


def test_a_bug_keeps_its_traceback() -> None:
    code = "import greenml.store as s; s.Store.rows = lambda *_: 1 / 0; from greenml.cli import main; main(['board'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_nobody_listens_any_more(tmp_path: Path) -> None:
    """`greenml board --json | head -1` ends quietly, however much is still to say."""
    db = Store(tmp_path / "greenml.duckdb")
    db.write([row for n in range(300) for row in (make_run(f"{n:012x}"), make_end(f"{n:012x}"))])
    script = f"set -o pipefail; {sys.executable} -m greenml board --json --store {db.path} | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_watch_draws_until_ctrl_c_and_ends_well(tmp_path: Path) -> None:
    import pty

    db = Store(tmp_path / "greenml.duckdb")
    db.write([make_run("a" * 12), make_phase("a" * 12, 0), make_end("a" * 12)])
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "greenml", "board", "--watch", "--store", str(db.path)]
    process = subprocess.Popen(
        command, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    )
    os.close(theirs)
    drawn = b""
    while b"acc/kWh" not in drawn or b"cnn" not in drawn:
        drawn += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 0
    os.close(ours)
