"""Work on files that one process does while others wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from greenml.records import Notice

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextlib import AbstractContextManager
    from pathlib import Path


def held(file: Path, while_waiting: str) -> Generator[Notice, None, AbstractContextManager[object]]:
    """The lock in `file`, taken, and let go by leaving its context. Where another has it: a Notice, and patience."""
    lock = FileLock(file)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        yield Notice(text=while_waiting)
    return lock.acquire()
