"""The two output streams: rows go to stdout, everything said about them to stderr. rich opens when first drawn on."""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from greenml.records import SIGNS, Notice

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from rich.console import Console
    from rich.table import Table

    from greenml.errors import GreenMLError
    from greenml.records import Progress

    Row = dict[str, Any]

T = TypeVar("T")

WIDE = 110
"""From this many columns on, tables show what they leave out on a narrow screen."""
UNKNOWN = "–"
MEANINGS = {
    "apportioned": "split by time: the meter's reading was too coarse",
    "estimated": "estimated by a power model, not measured",
    "unknown": "the known part: a device could not be read, or a process was killed",
}
SOURCES = {source: (SIGNS[source], f"{SIGNS[source]} {meaning}") for source, meaning in MEANINGS.items()}
"""How a figure of energy is marked, by its source, and what the mark means."""
SPREAD = "± standard deviation (n - 1) over the n runs of a group; – where one run, or one seed, says nothing of it"
FRONT = "● one of its epochs is on the front: no other epoch of any run does better on validation for as little energy"
MIN_WIDTH = 6
BLOCKS = "▁▂▃▄▅▆▇█"
BREAKS = dict.fromkeys(map(ord, "\t\n\v\f\r\u2028\u2029"), " ")
# Escape characters and their kin, what turns the direction of writing, halves of characters that cannot be printed.
UNSAFE = re.compile("[\0-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@cache
def out() -> Console:
    """Where rows go."""
    from rich.console import Console

    return Console(highlight=False)


@cache
def err() -> Console:
    """Where everything else goes; progress bars share it."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def clean(text: str) -> str:
    """What users named, on one line and without power over the terminal; else as they wrote it."""
    return UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text.translate(BREAKS))


def say(text: str) -> None:
    """For people, as it is: no markup; a terminal wraps it between words."""
    text = "\n".join(map(clean, text.split("\n")))
    if sys.stderr.isatty():
        err().print(text, markup=False)  # keeps clear of a progress bar
    else:
        print(text, file=sys.stderr, flush=True)


def error(what: GreenMLError) -> None:
    """What is wrong, and the way out."""
    say(clean(f"greenml: error: {what}"))
    say(clean(f"hint: {what.hint}"))


def legends(sources: Iterable[str | None]) -> list[str]:
    """What the marks of these sources mean, a line each."""
    told = set(sources)
    return [legend for source, (_, legend) in SOURCES.items() if source in told]


def told(steps: Generator[Progress | Notice, None, T], tell: Callable[[str], None] = say) -> T:
    """Take steps to their end and give what they return; of what they yield, notices are told."""
    while True:
        try:
            step = next(steps)
        except StopIteration as finished:
            result: T = finished.value
            return result
        if isinstance(step, Notice):
            tell(step.text)


def agrees(question: str) -> bool:
    """Ask on stderr; only y or yes is a yes."""
    print(f"{clean(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    try:
        return input().strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        print(file=sys.stderr)
        return False


def print_json(rows: Iterable[Row]) -> None:
    """One array on stdout, a row at a time; unknown is null, and so is a loss that left the numbers, for which JSON has
    no word."""
    before = "[\n  "
    for row in rows:
        text = json.dumps(plain(row), indent=2, ensure_ascii=False, allow_nan=False).replace("\n", "\n  ")
        print(before + UNSAFE.sub(lambda character: f"\\u{ord(character[0]):04x}", text), end="")
        before = ",\n  "
    print("[]" if before.startswith("[") else "\n]")


def plain(value: Any) -> Any:
    """What DuckDB answers -> what JSON can hold. Times are UTC."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return f"{value.isoformat()}Z" if isinstance(value, datetime) else value


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its head, what it shows of a row, and where it has room."""

    head: str
    show: Callable[[Row], str]
    right: bool = True
    wide: bool = False
    """Only on a wide screen."""
    shrinks: bool = False
    """Gives way, with an ellipsis, where the screen is narrow."""


def table(columns: Iterable[Column], rows: Iterable[Row], *, title: str | None = None) -> Table:
    """Rows as a table that fits the screen. What users named is shown as they wrote it, but on one line."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = [column for column in columns if out().width >= WIDE or not column.wide]
    cells = [[clean(column.show(row)) for column in shown] for row in rows]
    drawn = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=title and Text(clean(title), style="bold"),
        title_justify="left",
    )
    for column, width in zip(shown, column_widths(shown, cells, out().width), strict=True):
        justify: Literal["left", "right"] = "right" if column.right else "left"
        drawn.add_column(column.head, justify=justify, width=width, no_wrap=True, overflow="ellipsis")
    for line in cells:
        drawn.add_row(*map(Text, line))
    return drawn


def column_widths(columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int) -> list[int]:
    """As wide as what they hold; where that is too wide for the screen, the widest that may shrink does."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, (column.head, *(line[i] for line in cells)))) for i, column in enumerate(columns)]
    gaps = 2 * (len(columns) - 1)
    while sum(widths) + gaps > width:
        widest = max((i for i, column in enumerate(columns) if column.shrinks), key=widths.__getitem__, default=-1)
        if widest < 0 or widths[widest] <= MIN_WIDTH:
            break
        widths[widest] -= 1
    return widths


def facts(labelled: Iterable[tuple[str, str]]) -> Table:
    """Label and text, one a line; what has no text is left out."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, show_header=False, pad_edge=False)
    drawn.add_column(style="dim", no_wrap=True)
    drawn.add_column(overflow="fold")
    for label, text in labelled:
        if text:
            drawn.add_row(label, Text(clean(text)))
    return drawn


def counted(number: int, noun: str) -> str:
    """ "1 run", "2,000 runs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def figure(value: float | None, digits: int = 3) -> str:
    """A number with as many significant digits, and no more decimals than these need: 0.0123, 1.23, 12,345."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(decimals, 0)}f}"


def percentage(fraction: float | None) -> str:
    """0.863 -> "86.3"."""
    return UNKNOWN if fraction is None else f"{100 * fraction:.1f}"


def local(moment: datetime | None) -> str:
    """A UTC time, as the clock on the wall shows it."""
    return UNKNOWN if moment is None else f"{moment.replace(tzinfo=UTC).astimezone():%Y-%m-%d %H:%M}"


def bars(values: Sequence[float | None], width: int, *, from_zero: bool = False) -> str:
    """A line of blocks, low to high; a gap where a value is unknown. Longer series show every n-th value."""
    step = max(1, math.ceil(len(values) / width))
    picked = list(values)[::-step][::-1]  # the last one always shows
    known = [value for value in picked if value is not None and math.isfinite(value)]
    low = 0.0 if from_zero else min(known, default=0.0)
    span = max(known, default=0.0) - low
    top = len(BLOCKS) - 1
    return "".join(
        " "
        if value is None or not math.isfinite(value)
        else BLOCKS[round(top * (value - low) / span) if span > 0 else 0]
        for value in picked
    )
