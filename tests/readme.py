"""Keeps the README's output blocks true: every `$ greenml ...` is run again, on a store that ships with the tests.

`make docs` fills the blocks; `tests/test_readme.py` fails where they differ. The store is made from
`tests/data/runs.jsonl.gz`, the records of real runs; `python tests/readme.py --record STORE` writes that file anew, and
`--record-sweep STORE` the records of a real search, and `--record-compress STORE` those of real compressions.
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

import conftest

from greenml.records import from_json, to_json
from greenml.store import Store

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RUNS = Path(__file__).parent / "data" / "runs.jsonl.gz"
SWEEP = RUNS.with_name("sweep.jsonl.gz")
"""What `greenml sweep` blocks tell of."""
COMPRESS = RUNS.with_name("compress.jsonl.gz")
"""What `--lifecycle` blocks tell of."""
BLOCK = re.compile(r"(```console\n)(.*?)(```)", re.DOTALL)


def fixture_store(folder: Path, records: Path = RUNS) -> Path:
    """A store with recorded runs; of the trials of a search it is to be seen that they left their configs beside it."""
    path = folder / "store" / "greenml.duckdb"
    store = Store(path)
    store.check()
    with gzip.open(records, "rt", encoding="utf-8") as lines:
        store.write(map(from_json, lines))
    for row in store.rows("select run_id from runs where kind = 'trial'"):
        own = path.parent / "runs" / row["run_id"]
        own.mkdir(parents=True)
        (own / "config.yaml").touch()
    return path


def filled(text: str) -> str:
    """The README with the output that its commands give now."""
    with tempfile.TemporaryDirectory() as place:
        stores = {"$ greenml sweep": SWEEP, "--lifecycle": COMPRESS, "": RUNS}
        for records in stores.values():
            fixture_store(Path(place) / records.name, records)
        env = os.environ | {"GREENML_STORE": "store/greenml.duckdb", "COLUMNS": "80", "TZ": "UTC"}

        def fill(block: re.Match[str]) -> str:
            records = next(records for word, records in stores.items() if word in block[2])
            return block[1] + _run(block[2], env, str(Path(place) / records.name)) + block[3]

        return BLOCK.sub(fill, text)


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


def record(store: Path, records: Path) -> None:
    """The records of every run in a store, as lines of JSON."""
    records.parent.mkdir(exist_ok=True)
    text = "".join(to_json(row) + "\n" for row in conftest.records(Store(store)))
    records.write_bytes(gzip.compress(text.encode(), mtime=0))  # the same bytes for the same rows


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--record", store]:
            record(Path(store), RUNS)
        case ["--record-sweep", store]:
            record(Path(store), SWEEP)
        case ["--record-compress", store]:
            record(Path(store), COMPRESS)
        case _:
            README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
