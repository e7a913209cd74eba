"""Steps that say how far they are, and that end where somebody asks them to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from greenml.records import Record
    from greenml.run.books import Books

TICK_S = 0.25
"""How often a run says how far it is."""

T = TypeVar("T")


def follow(
    steps: Generator[int, None, T],
    what: str,
    total: int,
    number: int | None,
    books: Books,
    halt: Callable[[int], str | None],
    *,
    check: Callable[[], object] = lambda: None,
) -> Generator[Record, None, tuple[T | None, str | None]]:
    """Take `steps` to their end and give what they return, or until `halt` has a reason and give that; `check` is
    called whenever there is a word on how far it is."""
    said = time.perf_counter()
    while True:
        try:
            done = next(steps)
        except StopIteration as finished:
            return finished.value, None
        if reason := halt(done):
            return None, reason
        if time.perf_counter() - said >= TICK_S:
            said = time.perf_counter()
            check()
            yield from books.settle()
            yield books.progress(what, done, total, number)
