"""Feeds the records of a run to trackers, and waits for none of them but a little at the end."""

from __future__ import annotations

import dataclasses
import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greenml.records import Epoch, Metric, Resume, Run
from greenml.trackers import wire
from greenml.trackers.registry import Ending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from greenml.records import Record

SERIES = "GREENML_SERIES"
"""The environment variable in which the runs of one `--repeats` find what they have in common."""
AT_ONCE_S = 2.0
"""After so long, who waits at the end of a run hears for what."""
ROOM = 1000
"""Rows that wait for a tracker which is slow; what comes on top of them is lost to it."""
PATIENCE_S = 30.0
"""How long a run that is over waits for its trackers, ..."""
BYTES_PER_S = 1e6
"""... and the slowest upload of its files that they are allowed."""


class Following:
    """The trackers of one run. A context: leaving it waits for them where the run has ended in good order.

    `say` gets what they have to say, and whether that matters to who wants to hear only of trouble; it is called
    from `show` and on leaving, on the thread that calls these. `before` is what is known of a run that is taken up
    again: trackers may have missed some of it.
    """

    def __init__(
        self, names: Iterable[str], say: Callable[[str, bool], None], before: Sequence[wire.Dated] = ()
    ) -> None:
        self._say, self._before = say, before
        self._names = list(dict.fromkeys(names))
        self._followers: list[_Follower] = []

    def __enter__(self) -> Following:
        for name in self._names:
            try:
                self._followers.append(_Follower(name))
            except OSError as error:  # out of processes or memory
                self._say(f"{name}: cannot be started: {error}; the run goes on without it", True)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for follower in self._followers:
                follower.finish()
            for follower in self._followers:
                if not follower.wait(AT_ONCE_S):
                    self._say(f"waiting for {follower.name}; Ctrl-C goes on without it", False)
                    follower.wait()
        except KeyboardInterrupt:
            self._say("not waiting for trackers any longer", True)
        finally:
            for follower in self._followers:
                follower.stop()
        self._pass_on()

    def show(self, record: Record | Ending, at: datetime | None = None) -> None:
        """Whatever a run yields; an epoch of the past with the time (UTC, naive) `at` which it ended."""
        if isinstance(record, Resume):
            for earlier, when in self._before:
                self.show(_as_resumed(earlier, record), when)
        if isinstance(record, wire.Told):
            for follower in self._followers:
                follower.send(record, at)
        self._pass_on()

    def _pass_on(self) -> None:
        for follower in self._followers:
            for text, matters in follower.said():
                self._say(f"{follower.name}: {text}", matters)


class _Follower:
    """One tracker in a process of its own, a thread that writes to it and one that listens."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `stop`
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "greenml.trackers.worker", name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                encoding="utf-8",
                **_apart(),
            )
        except OSError:
            self._stderr.close()
            raise
        self._outbox: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._inbox: queue.SimpleQueue[tuple[str, bool]] = queue.SimpleQueue()
        self._has_begun = self._has_ended = self._is_over = False
        self._num_lost = 0
        self._patience_s = PATIENCE_S
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._listen)]
        for thread in self._threads:
            thread.start()

    def send(self, record: wire.Told, at: datetime | None) -> None:
        """Never waits."""
        self._has_begun |= isinstance(record, Run)
        if isinstance(record, Ending):
            self._has_ended = True
            self._patience_s = patience_s(record)
        if isinstance(record, Epoch | Metric) and self._outbox.qsize() >= ROOM:
            self._num_lost += 1
        else:
            self._outbox.put(wire.pack(record, at))

    def finish(self) -> None:
        """There is no more to send."""
        self._deadline = time.monotonic() + self._patience_s
        self._outbox.put(None)

    def wait(self, limit_s: float | None = None) -> bool:
        """Until a run that has ended is told, or patience ends; False where only `limit_s` has.

        A run that was cut off is told of by itself.
        """
        if not self._has_ended:
            return True
        left_s = max(0.0, self._deadline - time.monotonic())
        try:
            code = self._process.wait(left_s if limit_s is None else min(limit_s, left_s))
        except subprocess.TimeoutExpired:
            if limit_s is not None and limit_s < left_s:
                return False
            self._trouble(f"no answer within {self._patience_s:.0f} s; given up, and not all of this run is there")
            return True
        if code:
            self._stderr.seek(0)
            last = self._stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
            self._trouble(f"ended with exit code {code}: {last}")
        if self._num_lost:
            self._trouble(f"too slow for this run: {self._num_lost} of its rows are not there")
        return True

    def stop(self) -> None:
        """Nothing of it stays, but for a run that was cut off: its tracker may say so, and ends by itself."""
        if self._has_ended or not self._has_begun:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join(timeout=1.0)
        self._stderr.close()

    def said(self) -> Iterator[tuple[str, bool]]:
        """What it has had to say since it was last asked."""
        with suppress(queue.Empty):
            while True:
                yield self._inbox.get_nowait()

    def _trouble(self, text: str) -> None:
        self._inbox.put((text, True))

    def _write(self) -> None:
        assert self._process.stdin
        with suppress(OSError):  # it has died, and its exit code tells
            for line in iter(self._outbox.get, None):
                self._process.stdin.write(line)
                self._process.stdin.flush()
        with suppress(OSError):
            self._process.stdin.close()

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            text, matters = json.loads(line)
            self._inbox.put((text, matters))
        self._process.stdout.close()


def _as_resumed(earlier: wire.Told, resume: Resume) -> wire.Told:
    """A run, as it is since it was taken up again."""
    if not isinstance(earlier, Run):
        return earlier
    return dataclasses.replace(
        earlier, config=resume.config, hardware=resume.hardware, meter=resume.meter, versions=resume.versions
    )


def patience_s(ending: Ending) -> float:
    """How long a tracker may take for it, in seconds."""
    return PATIENCE_S + sum(path.stat().st_size for path in map(Path, ending.files) if path.exists()) / BYTES_PER_S


def _apart() -> dict[str, Any]:
    """Out of reach of the Ctrl-C that a terminal sends to all that run in it."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
