"""Records on their way to a tracker's process: one line of JSON each."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime
from typing import cast

from greenml.records import Epoch, Metric, Run, from_json, to_json
from greenml.trackers.registry import Ending

Told = Run | Epoch | Metric | Ending
Dated = tuple[Told, datetime | None]
"""With the time at which it was so (UTC, naive); None: just now."""


def pack(record: Told, at: datetime | None) -> str:
    """A record, and the time at which it was so -> one line."""
    if isinstance(record, Ending):
        text = json.dumps(dataclasses.asdict(record), default=datetime.isoformat)
    else:
        text = to_json(record)
    return json.dumps([type(record).__name__, text, at and at.isoformat()]) + "\n"


def unpack(line: str) -> Dated:
    """What `pack` made -> the same again."""
    kind, text, at = json.loads(line)
    moment = datetime.fromisoformat(at) if at else None
    if kind != Ending.__name__:
        return cast("Told", from_json(text)), moment
    values = json.loads(text)
    values["ended_at"] = values["ended_at"] and datetime.fromisoformat(values["ended_at"])
    return Ending(**values), moment
