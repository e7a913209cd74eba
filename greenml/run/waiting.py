"""A run that is held up while electricity is dirty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenml.records import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from greenml.energy import Meter
    from greenml.grid.planner import Planner
    from greenml.records import Record
    from greenml.run.books import Books

PAUSED = "paused"


class Orders:
    """Who may hold a run up: its caller by a reason, its planner by `paused`. The first that was given stands."""

    def __init__(self, halted: Callable[[], str | None], planner: Planner | None) -> None:
        self._halted, self._planner = halted, planner
        self.given: str | None = None

    def to_end(self, _: int = 0) -> str | None:
        """What the caller asks, after any batch."""
        self.given = self.given or self._halted()
        return self.given

    def to_pause(self) -> str | None:
        """The same, or what the planner asks: while it trains, where a checkpoint holds what was done."""
        if self.to_end() is None and self._planner and self._planner.holds():
            self.given = PAUSED
        return self.given

    def told(self) -> Iterator[Record]:
        """What the planner has decided since the last call."""
        if self._planner:
            yield from self._planner.judgements()
            yield from self._planner.decisions()

    def wait(self, meter: Meter, books: Books) -> Iterator[Record]:
        """Stay in a phase `wait` until the planner lets go, or the caller asks to end."""
        planner = self._planner
        assert planner is not None
        self.given = None
        with meter.window("wait"):
            while self.to_end() is None and planner.holds():
                yield from self.told()
                yield from books.settle()
                done_s, total_s = planner.progress()
                yield Progress(what="waiting", done=round(done_s), total=round(total_s), watts=meter.watts())
                planner.rest()
        yield from self.told()
