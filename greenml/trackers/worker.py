"""The process of one tracker: `python -m greenml.trackers.worker NAME`, fed lines on stdin, heard on stdout.

It ends when its stdin does, or a while after at the latest; a run that it was told no end of has crashed.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from collections import deque
from typing import IO, TYPE_CHECKING

from greenml.records import Epoch, Metric, Run
from greenml.trackers import registry, wire
from greenml.trackers.following import PATIENCE_S, ROOM, patience_s
from greenml.trackers.registry import Ending

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime


NOT_NOW = (408, 429)
"""HTTP status codes of a client that was too slow, and of one that asked too often."""
LONGEST = 200
"""Characters of a message that are shown."""


def main(name: str) -> None:
    """Tell the tracker `name` everything, and say on stdout what goes wrong, once."""
    for number in (signal.SIGINT, signal.SIGTERM):  # it is the training that decides; its end is the end of stdin
        signal.signal(number, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(5)  # the training comes first
    work(name, Voice())


class Voice:
    """The way back. What libraries print goes to stderr, which is read only when this process dies."""

    def __init__(self) -> None:
        self._out: IO[str] = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._has_complained = False

    def say(self, text: str, *, matters: bool = False) -> None:
        self._out.write(json.dumps([text, matters]) + "\n")
        self._out.flush()

    def complain(self, text: str) -> None:
        """The first of what goes wrong: more of it would only repeat that."""
        if not self._has_complained:
            self.say(text, matters=True)
        self._has_complained = True


def work(name: str, voice: Voice) -> None:
    """Until stdin ends."""
    inbox: queue.Queue[wire.Dated | None] = queue.Queue(maxsize=ROOM)
    threading.Thread(target=_read, args=(inbox,), daemon=True).start()
    try:
        teller = Teller(name, voice)
    except Exception as error:  # noqa: BLE001 - whatever a library raises as it is imported
        voice.complain(f"{_reason(error)}; the run goes on without it")
        return
    for record, at in iter(inbox.get, None):
        teller.tell(record, at)
    teller.close()


class Teller:
    """Tells a tracker records in their order; what does not get through is told again with the next.

    Of the rows of a long silence those that come first are kept.
    """

    def __init__(self, name: str, voice: Voice) -> None:
        self._name, self._voice = name, voice
        self._tracker = registry.create(name)
        self._waiting: deque[wire.Dated] = deque()
        self._run: Run | None = None
        self._has_ended = self._has_lost = self._is_closed_to_us = False

    def tell(self, record: wire.Told, at: datetime | None = None) -> None:
        """A record, after those that wait."""
        self._run = record if isinstance(record, Run) else self._run
        self._has_ended |= isinstance(record, Ending)
        if isinstance(record, Epoch | Metric) and len(self._waiting) >= ROOM:
            self._has_lost = True
        else:
            self._waiting.append((record, at))
        while self._waiting and not self._is_closed_to_us:
            try:
                self._pass_on(*self._waiting[0])
            except Exception as error:  # noqa: BLE001 - whatever a tracker raises, the run goes on
                if _may_pass(error):
                    self._voice.complain(f"{_reason(error)}; the run goes on, and what is missing is sent later")
                    return
                self._give_up(self._waiting[0][0], error)
            self._waiting.popleft()

    def close(self) -> None:
        """Nothing more will come."""
        if self._run and not self._has_ended:
            self.tell(Ending(run_id=self._run.run_id, status="crashed", ended_at=None, summary=None, files=[]))
        if self._run and (self._has_lost or self._waiting):
            again = f"greenml runs log {self._run.run_id[:8]} --to {self._name}"
            self._voice.say(f"not all of this run is there; when that is mended: {again}", matters=True)

    def _pass_on(self, record: wire.Told, at: datetime | None) -> None:
        match record:
            case Run():
                self._voice.say(self._tracker.begin(record))
            case Epoch():
                self._tracker.epoch(record, at)
            case Metric():
                self._tracker.metric(record)
            case Ending():
                self._tracker.end(record)

    def _give_up(self, record: wire.Told, error: Exception) -> None:
        self._has_lost = True
        self._voice.complain(f"{_reason(error)}; the run goes on")
        self._is_closed_to_us = isinstance(record, Run)


def _read(inbox: queue.Queue[wire.Dated | None]) -> None:
    limit_s = PATIENCE_S
    for line in sys.stdin:
        record, at = wire.unpack(line)
        inbox.put((record, at))
        if isinstance(record, Ending):
            limit_s = patience_s(record)
    # Who fed this process may have been killed: a tracker that hangs must not outlive it for long.
    timer = threading.Timer(limit_s, os._exit, args=[1])
    timer.daemon = True
    timer.start()
    inbox.put(None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    at: BaseException | None = error
    while at:
        yield at
        at = at.__cause__ or at.__context__


def _may_pass(error: BaseException) -> bool:
    """Whether the same may get through when it is told again: what a network loses may, what is refused may not."""
    causes = [cause for cause in _causes(error) if isinstance(cause, OSError)]
    return bool(causes) and not any(map(_is_final, causes))


def _is_final(error: OSError) -> bool:
    """Of a file, or as the answer of a server (`requests.HTTPError`): no, and not just for now."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    is_refused = isinstance(status, int) and 400 <= status < 500 and status not in NOT_NOW
    return is_refused or isinstance(error, FileNotFoundError | PermissionError)


def _reason(error: BaseException) -> str:
    """The root of it, in one line."""
    *_, root = error, *(cause for cause in _causes(error) if isinstance(cause, OSError))
    text = " ".join((getattr(root, "strerror", None) or str(root) or type(root).__name__).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


if __name__ == "__main__":
    main(sys.argv[1])
