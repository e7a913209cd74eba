"""Who else is metering this machine: two runs at a time would each count the whole of it."""

from __future__ import annotations

import json
import os
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

FORGET_AFTER_S = 24 * 3600


class Presence:
    """Says to every other greenml on this machine that a meter is running, and hears the same of them.

    Each meter holds a lock on a file of its own in the system's folder for temporary files, and writes there when
    it began and ended. The lock is released by the kernel also when the process is killed; it then counts to its last
    sign of life. Who has another such folder (a TMPDIR of its own, another container) is not heard.

    A search and its trials are one: `driver` is the run of the search whose trial this is, and neither hears the
    other. Trials of one search hear each other.
    """

    def __init__(self, run_id: str = "", *, driver: str | None = None) -> None:
        self._folder = Path(tempfile.gettempdir()) / "greenml-meters"
        name = f"{run_id}-{uuid.uuid4().hex}.json"
        self._file = self._folder / (f"{driver}+{name}" if driver else name)
        self._kin = (f"{driver}-",) if driver else (f"{run_id}+",) if run_id else ()
        self._lock = FileLock(self._file.with_suffix(".lock"), mode=0o666)
        self._gone: set[Path] = set()
        self._began = time.time()

    def announce(self) -> None:
        """From here on this machine is being metered. Raises OSError where nothing can be written."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with suppress(PermissionError):  # another user made it, and made it open to all
            self._folder.chmod(0o1777)
        self._forget_the_dead()
        self._lock.acquire()
        self._began = time.time()
        self._file.write_text(json.dumps([self._began, None]))

    def alive(self) -> None:
        """A sign of life, in case this process is killed."""
        with suppress(OSError):  # somebody tidied up; the others then hear of us by the lock
            os.utime(self._file)

    def leave(self) -> None:
        """The metering is over."""
        if self._lock.is_locked:
            with suppress(OSError):
                self._file.write_text(json.dumps([self._began, time.time()]))
            self._lock.release()

    def overlap_s(self, start: float, end: float) -> float:
        """Seconds of [start, end] (Unix time, after `announce`) during which at least one other meter ran here."""
        covered, reached = 0.0, start
        for began, ended in sorted(self._others()):
            low, high = max(began, reached), min(ended, end)
            if high > low:
                covered += high - low
                reached = high
        return covered

    def num_others(self) -> int:
        """How many other meters run on this machine at this moment."""
        num_others = 0
        for file in self._folder.glob("*.json"):
            with suppress(OSError):  # removed while we looked, or on a disk without locks
                num_others += file != self._file and _is_held(file)
        return num_others

    def _others(self) -> list[tuple[float, float]]:
        spans = []
        for file in self._folder.glob("*.json"):
            if file == self._file or file in self._gone or file.name.startswith(self._kin):
                continue
            # A file that is just being written or removed is seen at the next look.
            with suppress(OSError, ValueError):
                began, ended = json.loads(file.read_text())
                if ended is None:
                    ended = time.time() if _is_held(file) else file.stat().st_mtime
                elif ended < self._began:
                    self._gone.add(file)  # over before we began: never read again
                spans.append((began, ended))
        return spans

    def _forget_the_dead(self) -> None:
        for file in self._folder.glob("*.json"):
            with suppress(OSError):
                if time.time() - file.stat().st_mtime > FORGET_AFTER_S and not _is_held(file):
                    file.unlink()
                    file.with_suffix(".lock").unlink(missing_ok=True)


def _is_held(file: Path) -> bool:
    try:
        with FileLock(file.with_suffix(".lock"), timeout=0, mode=0o666):
            return False
    except Timeout:
        return True
