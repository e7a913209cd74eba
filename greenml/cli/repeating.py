"""`greenml train --repeats N`: one config under N seeds, a run and a process each, and what they come to together."""

from __future__ import annotations

import json as codec
import subprocess
import sys
from typing import TYPE_CHECKING

from greenml import console
from greenml.cli import board, runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from greenml.store import Store


def repeat(store: Store, seeds: Iterable[int], *, json: bool) -> None:
    """Train once a seed; a repeat that does not end well ends the series, with its exit code.

    A process each: the first run of a process also loads the libraries, and would cost more than the others.
    """
    command = [sys.executable, "-m", "greenml", *without(sys.argv[1:], ("--repeats", "--seed")), "--json"]
    run_ids = []
    for seed in seeds:
        console.say(f"seed {seed}:")
        done = subprocess.run([*command, "--seed", str(seed)], stdout=subprocess.PIPE, text=True, check=False)
        run_ids += [run["run_id"] for run in codec.loads(done.stdout or "[]")]
        if done.returncode:
            raise SystemExit(done.returncode)
    if json:
        console.print_json(store.rows("from leaderboard where list_contains(?, run_id) order by seed", [run_ids]))
        return
    groups = store.rows("from leaderboard_groups where list_has_any(run_ids, ?)", [run_ids])
    console.out().print(console.table(board.GROUP_COLUMNS, groups))
    runs.explain_marks({group["source"] for group in groups})
    for note in board.about_groups(groups):
        console.say(note)


def without(arguments: Sequence[str], flags: Sequence[str]) -> list[str]:
    """The command line without these flags and their values."""
    kept, skip = [], False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in flags:
            skip = True
        elif not argument.startswith(tuple(f"{flag}=" for flag in flags)):
            kept.append(argument)
    return kept
