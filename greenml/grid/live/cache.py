"""Answers, kept on disk until the data step ends that they are about: polling asks no more often than there is news.

In a file are the question, without a token, and what was read out of the answer; nothing of the answer as it came.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING

from greenml.files import cache_folder, whole
from greenml.grid.live.answers import Answer, OddAnswerError, packed, unpacked

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1
"""Grows when a file comes to mean something else."""

KEEP_S = 7 * 86400.0
"""Of files that were not written for as long, the question is not asked again."""

_WRITING = Lock()
"""Threads of a process would share the name of the file that they write; processes do not."""


def recall(question: list[object], now: datetime) -> Answer | None:
    """What was answered, where that still holds; None too where the file is damaged, or of a clock that went back."""
    try:
        kept = json.loads(_file(question).read_text(encoding="utf-8"))
        if kept["version"] != VERSION or kept["question"] != question:
            return None
        asked, until = datetime.fromisoformat(kept["asked"]), datetime.fromisoformat(kept["until"])
        return unpacked(kept["answer"]) if asked <= now < until else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError, OddAnswerError):
        return None


def remember(question: list[object], answer: Answer, *, now: datetime, until: datetime) -> None:
    """Keep an answer until a moment. That the disk refuses costs the next question a request, and nothing else."""
    kept = {
        "version": VERSION,
        "question": question,
        "asked": now.isoformat(),
        "until": until.isoformat(),
        "answer": packed(answer),
    }
    file = _file(question)
    with suppress(OSError), _WRITING:
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole(file, shared=True) as partial:
            partial.write_text(json.dumps(kept), encoding="utf-8")
        _tidy(file.parent)


def _file(question: list[object]) -> Path:
    name = hashlib.sha256(json.dumps(question).encode()).hexdigest()[:16]
    return cache_folder() / "grid" / f"{question[0]}-{name}.json"


def _tidy(folder: Path) -> None:
    for file in folder.iterdir():
        if file.stat().st_mtime < time.time() - KEEP_S:
            file.unlink(missing_ok=True)
