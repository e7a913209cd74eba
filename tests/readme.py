"""Keeps the README's output blocks true: every `$ greenml ...` is run again, on a store that ships with the tests.

`make docs` fills the blocks; `tests/test_readme.py` fails where they differ. The store is made from
`tests/data/runs.jsonl`, the records of real runs; `python tests/readme.py --record STORE` writes that file anew.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from greenml.records import Artifact, Epoch, Intensity, Phase, Run, RunEnd, from_json, to_json
from greenml.store import Store

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RUNS = Path(__file__).parent / "data" / "runs.jsonl"
BLOCK = re.compile(r"(```console\n)(.*?)(```)", re.DOTALL)


def fixture_store(folder: Path) -> Path:
    """A store with the recorded runs."""
    path = folder / "store" / "greenml.duckdb"
    store = Store(path)
    store.check()
    store.write(from_json(line) for line in RUNS.read_text(encoding="utf-8").splitlines())
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
    store, rows = Store(path), []
    for run in store.rows("from runs order by run_key"):
        of_run = [run["run_id"]]
        intensity = {name: run.get(f"intensity_{name}", run.get(name)) for name in names(Intensity)}
        rows.append(Run(**{name: run.get(name) for name in names(Run)} | {"intensity": Intensity(**intensity)}))
        rows += [taken(Phase, row) for row in store.rows("from phases where run_id = ? order by segment, seq", of_run)]
        rows += [taken(Epoch, row) for row in store.rows("from epochs where run_id = ? order by epoch", of_run)]
        rows += [taken(Artifact, row) for row in store.rows("from artifacts where run_id = ? order by name", of_run)]
        rows.append(taken(RunEnd, run))
    RUNS.parent.mkdir(exist_ok=True)
    RUNS.write_text("".join(to_json(row) + "\n" for row in rows), encoding="utf-8")


def names(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def taken(kind, row):
    return kind(**{name: row[name] for name in names(kind)})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--record"]:
        record(Path(sys.argv[2]))
    else:
        README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
