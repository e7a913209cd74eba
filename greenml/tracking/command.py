"""A command under the meter: its streams, signals and exit code are its own; we watch, and read its figures."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from greenml.environment import printable
from greenml.errors import CommandError
from greenml.tracking.files import JsonLines
from greenml.tracking.signals import Signals
from greenml.tracking.tracker import METRICS, METRICS_FILE, RUN_ID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenml.tracking.files import JsonFile
    from greenml.tracking.signals import Received
    from greenml.tracking.tracker import Tracker

LOOK_S = 0.1
"""How often we look for figures: by so much an epoch may seem to end too late."""
IDLE_LOOK_S = 0.25
"""The same while there is no file for them: ten looks a second take 0.2 % of a slow core."""

SCRIPTS = frozenset({".py", ".ipynb", ".r", ".jl", ".sh", ".js", ".lua", ".m", ".pl", ".rb"})


class Ended(NamedTuple):
    """How a command ended."""

    exit_code: int
    """As shells have it: 128 + n where signal n ended it."""
    status: str
    reason: str


def named(argv: Sequence[str]) -> str:
    """What a command is called: the script among its words, else the program itself."""
    scripts = (Path(word) for word in argv[1:] if Path(word).suffix.lower() in SCRIPTS)
    return printable(next((path.name for path in scripts if path.is_file()), Path(argv[0]).name))


def refuse_missing(argv: Sequence[str]) -> None:
    """Raise CommandError where there is no such program, before there is a run."""
    program = argv[0]
    if shutil.which(program):
        return
    if Path(program).is_file() and os.path.dirname(program):  # noqa: PTH120 - `./x` is Path("x")
        raise CommandError(
            f"{program} may not be executed", hint=f"chmod +x {program}, or name its interpreter first", exit_code=126
        )
    hint = "a pipeline or a built-in of the shell: greenml track -- sh -c '...'"
    raise CommandError(f"{program}: no such command", hint=hint, exit_code=127)


def run(argv: Sequence[str], tracker: Tracker, snapshot: JsonFile) -> Ended:
    """Run a command from the start of the run to its end; `snapshot` is read beside the lines that it writes.

    Signals reach it once: those of a terminal by themselves, others through us. Raises as `Tracker.start` does, and
    CommandError where the system cannot start it.
    """
    with Signals() as signals:
        tracker.start()
        early = [received for received in signals.wait(0) if received.is_ending]
        if early:
            ended = Ended(128 + early[0].number, "interrupted", f"signal {early[0].name}")
        else:
            try:
                ended = _follow(argv, tracker, signals, snapshot)
            except OSError as error:
                tracker.finish("failed", "not started")
                raise CommandError(
                    f"{argv[0]} cannot be started: {error.strerror}", hint="does it run without greenml?", exit_code=126
                ) from error
        tracker.finish(ended.status, ended.reason)
    return ended


def _follow(argv: Sequence[str], tracker: Tracker, signals: Signals, snapshot: JsonFile) -> Ended:
    lines_file = _own_or_given(tracker.folder / METRICS_FILE)
    lines = JsonLines(lines_file)
    env = os.environ | {METRICS: str(lines_file), RUN_ID: tracker.id}
    with signals.starting():
        program = subprocess.Popen(argv, env=env)
    asked: Received | None = None
    while program.poll() is None:
        for received in signals.wait(LOOK_S if lines.exists or snapshot.exists else IDLE_LOOK_S):
            if not received.by_terminal:
                program.send_signal(received.number)
            if received.is_ending:
                asked = received
        _hear(tracker, lines, snapshot)
    _hear(tracker, lines, snapshot)
    while lines.has_more:
        _hear(tracker, lines, snapshot)
    _hear(tracker, lines, snapshot, final=True)
    return _ended(program.returncode, asked)


def _own_or_given(own: Path) -> Path:
    """The file for figures: what the user has chosen, unless it is that of a run around us."""
    given = os.environ.get(METRICS)
    return Path(given) if given and RUN_ID not in os.environ else own.resolve()


def _hear(tracker: Tracker, lines: JsonLines, snapshot: JsonFile, *, final: bool = False) -> None:
    for figures in (lines.read(final=final), snapshot.read()):
        if figures:
            tracker.log_all(figures)
    if lines.trouble:
        tracker.notice("line", lines.trouble)
    if final and snapshot.trouble:
        tracker.notice("file", snapshot.trouble)


def _ended(code: int, asked: Received | None) -> Ended:
    reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    exit_code = 128 - code if code < 0 else code
    if asked:
        return Ended(exit_code, "interrupted", f"signal {asked.name}")
    return Ended(exit_code, "done" if code == 0 else "failed", reason)
