"""What runs reached, from a table beside them: joined to runs by model, country, season and run."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from greenml.errors import DataError
from greenml.exchange.foreign import country_name
from greenml.goals import goal_of, parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from greenml.exchange.foreign import Foreign, Said

KEYS = ("model", "country", "season", "run")
NAME, VALUE, GOAL = "name", "value", "goal"

Figure = tuple[str, float, str | None]
"""Name, value, and whether more or less of it is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Figures, and of which runs they are: every key that is there has to fit."""

    keys: dict[str, str]
    figures: list[Figure]

    def fits(self, run: Foreign, said: Said) -> bool:
        own: dict[str, list[str | None]] = {
            "model": [said.model or run.model],
            "country": [country_name(said.region or run.country)],
            "season": [said.season or run.season or "unknown"],
            "run": [run.name, run.label, run.run_id, run.path.stem],
        }
        asked = self.keys | ({"country": str(country_name(self.keys["country"]))} if "country" in self.keys else {})
        return all(value.casefold() in [str(name).casefold() for name in own[key]] for key, value in asked.items())


def read(path: Path) -> list[Told]:
    """A CSV or JSON of figures. Raises DataError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read", hint="it is to be CSV or JSON in UTF-8") from error
    if path.suffix.lower() != ".json":
        return [told(path, row) for row in csv.DictReader(io.StringIO(text, newline=""))]
    try:
        content: Any = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}", hint='as in {"accuracy": 0.91}, or a list of such') from error
    rows = content if isinstance(content, list) else [content]
    if not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path} has no names for its figures", hint='as in {"accuracy": 0.91}, or a list of such')
    return [told(path, row) for row in rows]


def told(path: Path, row: dict[str, Any]) -> Told:
    """One row, wide (a column a figure) or long (name and value)."""
    row = {str(key).strip(): value for key, value in row.items() if key is not None}
    row = {key.lower() if key.lower() in (*KEYS, NAME, VALUE, GOAL) else key: value for key, value in row.items()}
    keys = {key: str(row[key]).strip() for key in KEYS if row.get(key) not in (None, "")}
    is_long = NAME in row and VALUE in row
    if is_long:
        named: list[tuple[str, Any, str | None]] = [(str(row[NAME]), row[VALUE], row.get(GOAL) or None)]
    else:
        named = [(name, value, None) for name, value in row.items() if name not in KEYS]
    figures = []
    for name, value, goal in named:
        base = parse(name).base
        if is_long or goal_of(base):
            refuse_words(path, name, value)
        number = as_number(value)
        if number is None:
            continue
        if base == "accuracy" and not 0 <= number <= 1:
            raise DataError(f"{path}: {name} is {number:g}", hint="accuracy is a fraction: 0.91, not 91")
        if goal not in (None, "max", "min"):
            raise DataError(f"{path}: {name} has the goal `{goal}`", hint="max or min")
        figures.append((name, number, goal or goal_of(base)))
    return Told(keys=keys, figures=figures)


def refuse_words(path: Path, name: str, value: Any) -> None:
    """Raise DataError where a figure should be and something else is; a gap is none, and what is not finite neither."""
    text = "" if value is None else str(value).strip()
    try:
        float(text or "nan")
    except ValueError as error:
        raise DataError(f"{path}: {name} is `{text}`", hint="write a number, as 0.91, or leave it empty") from error


def as_number(value: Any) -> float | None:
    """None of words, gaps and what is not finite."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def joined(run: Foreign, said: Said, tables: Sequence[Told]) -> tuple[list[Figure], list[Told]]:
    """The figures of a run, the last of a name counting, and the rows that had them."""
    rows = [row for row in tables if row.fits(run, said)]
    figures = {name: (name, value, goal) for row in rows for name, value, goal in row.figures}
    return list(figures.values()), rows
