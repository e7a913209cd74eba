"""Keeps the README's output blocks true: every `$ greenml ...` is run again, on a store that ships with the tests.

`make docs` fills the blocks; `tests/test_readme.py` fails where they differ. The store is made from
`tests/data/runs.jsonl.gz`, the records of real runs; `python tests/readme.py --record STORE` writes that file anew.
"""

from __future__ import annotations

import gzip
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from conftest import records

from greenml.records import from_json, to_json
from greenml.store import Store

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RUNS = Path(__file__).parent / "data" / "runs.jsonl.gz"
BLOCK = re.compile(r"(```console\n)(.*?)(```)", re.DOTALL)


def fixture_store(folder: Path) -> Path:
    """A store with the recorded runs."""
    path = folder / "store" / "greenml.duckdb"
    store = Store(path)
    store.check()
    with gzip.open(RUNS, "rt", encoding="utf-8") as lines:
        store.write(map(from_json, lines))
    return path


def filled(text: str) -> str:
    """The README with the output that its commands give now."""
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"GREENML_STORE": str(fixture_store(Path(folder))), "COLUMNS": "80", "TZ": "UTC"}
        return BLOCK.sub(lambda block: block[1] + _run(block[2], env, folder) + block[3], text)


def _run(block: str, env: dict[str, str], folder: str) -> str:
    commands = [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
    lines = []
    for command in commands:
        arguments = shlex.split(command)
        executable = str(Path(sys.executable).with_name(arguments[0]))
        done = subprocess.run(
            [executable, *arguments[1:]],
            env=env,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines += [f"$ {command}", *(line.rstrip() for line in done.stdout.strip("\n").splitlines())]
    return "\n".join(lines) + "\n"


def record(path: Path) -> None:
    """The records of every run in a store, as lines of JSON."""
    RUNS.parent.mkdir(exist_ok=True)
    text = "".join(to_json(row) + "\n" for row in records(Store(path)))
    RUNS.write_bytes(gzip.compress(text.encode(), mtime=0))  # the same bytes for the same rows


if __name__ == "__main__":
    if sys.argv[1:2] == ["--record"]:
        record(Path(sys.argv[2]))
    else:
        README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
