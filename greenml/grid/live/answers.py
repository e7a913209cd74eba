"""What a service said, once it has been read, and how to read it: every value may be something else than documented."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from greenml.grid.series import MAX_FIGURE, STATUSES, Status, Step, utc


class OddAnswerError(Exception):
    """An answer that is not as documented; says in which way, and quotes nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Steps in order, and the place that they are about."""

    zone: str
    """As the service calls it."""
    steps: tuple[Step, ...] = ()


def facts(value: object) -> dict[str, Any]:
    """An object of JSON."""
    if not isinstance(value, dict):
        raise OddAnswerError("no object where one belongs")
    return value


def listed(value: object) -> list[dict[str, Any]]:
    """Objects of JSON: a list of them, or one that stands without its list; none where there is nothing."""
    if value is None:
        return []
    return [facts(item) for item in (value if isinstance(value, list) else [value])]


def moment(value: object, name: str) -> datetime:
    """ISO 8601 with an offset -> UTC, naive."""
    try:
        return utc(datetime.fromisoformat(value))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        pass  # not raised here: the error of Python quotes the value
    raise OddAnswerError(f"`{name}` is no moment with an offset from UTC")


def figure(point: dict[str, Any], name: str) -> float | None:
    """A number that is not negative, or None where it is null. That it is not there at all is odd."""
    value = point.get(name, ...)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_FIGURE:
        raise OddAnswerError(f"`{name}` is no number of grams or pounds")
    return float(value)


def step(start: datetime, length: timedelta, g_per_kwh: float, status: Status) -> Step:
    """One that is `length` long."""
    if not length > timedelta():
        raise OddAnswerError("a step ends before it begins")
    try:
        return Step(start=start, end=start + length, g_per_kwh=g_per_kwh, status=status)
    except OverflowError:
        pass
    raise OddAnswerError("a step ends after the calendar")


def ordered(steps: list[Step]) -> tuple[Step, ...]:
    """By their starts, each once: where parts of an answer touch, services give the step between them twice."""
    once = {step.start: step for step in steps}
    found = tuple(once[start] for start in sorted(once))
    for one, other in pairwise(found):
        if other.start < one.end:
            raise OddAnswerError("steps overlap")
    return found


def packed(answer: Answer) -> dict[str, Any]:
    """As JSON."""
    rows = [[one.start.isoformat(), one.end.isoformat(), one.g_per_kwh, one.status] for one in answer.steps]
    return {"zone": answer.zone, "steps": rows}


def unpacked(value: Any) -> Answer:
    """What `packed` made. Raises ValueError, TypeError, KeyError or OddAnswerError for anything else."""
    steps = []
    for start, end, g_per_kwh, status in value["steps"]:
        if status not in STATUSES:
            raise ValueError("a status that there is not")
        began = datetime.fromisoformat(start)
        number = figure({"g_per_kwh": g_per_kwh}, "g_per_kwh")
        if number is None:
            raise ValueError("a step without a figure")
        steps.append(step(began, datetime.fromisoformat(end) - began, number, status))
    return Answer(zone=str(value["zone"]), steps=ordered(steps))
