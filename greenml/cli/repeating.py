"""`greenml train --repeats N`: one config under N seeds, a run and a process each, and what they come to together."""

from __future__ import annotations

import json as codec
import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from greenml import console
from greenml.cli import afterwards, board, portrait
from greenml.cli.jobs import handled
from greenml.records import new_run_id
from greenml.trackers import SERIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from greenml.store import Store


def repeat(store: Store, seeds: Iterable[int], *, json: bool, quiet: bool = False, deadline: str | None = None) -> None:
    """Train once a seed, all by the same `deadline`; a repeat that does not end well ends the series, with its exit
    code.

    A process each: the first run of a process also loads the libraries, and would cost more than the others.
    """
    name, *rest = sys.argv[1:]
    run_ids = []
    series = os.environ | {SERIES: new_run_id()}
    for seed in seeds:
        console.say(f"seed {seed}:")
        own = [name, "--json", "--seed", str(seed), *without(rest, ("--repeats", "--seed", "--deadline"))]
        own += ["--deadline", deadline] if deadline else []
        code, printed = watched([sys.executable, "-m", "greenml", *own], series)
        run_ids += [run["run_id"] for run in codec.loads(printed or "[]")]
        if code:
            raise SystemExit(code)
    if json:
        console.print_json(store.rows("from leaderboard where list_contains(?, run_id) order by seed", [run_ids]))
    else:
        of_these = "select *, false as _is_imported from leaderboard_groups where list_has_any(run_ids, ?)"
        groups = store.rows(of_these, [run_ids])
        console.out().print(console.table(board.group_columns("accuracy"), groups))
        portrait.explain_marks({group["source"] for group in groups})
        for note in board.about_groups(groups):
            console.say(note)
    if not quiet:
        contests = store.rows("select distinct contest from runs where list_contains(?, run_id)", [run_ids])
        for row in contests:  # one, as they share data and split
            afterwards.say_advice(store, row["contest"])


def watched(command: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run it to its end: exit code and stdout. Ctrl-C and SIGTERM are passed on, so that it leaves a checkpoint."""
    # A session of its own: Ctrl-C on a terminal would otherwise reach it twice, and the second one stops at once.
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def pass_on(number: int, frame: object) -> None:  # noqa: ARG001
        with suppress(ValueError, OSError):  # Windows passes Ctrl-C on by itself
            process.send_signal(number)

    with handled(pass_on):
        printed, _ = process.communicate()
    return process.returncode, printed


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
