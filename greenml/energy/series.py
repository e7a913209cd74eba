"""One counter over time: its readings, and what it stood at where one phase ends and the next begins."""

from __future__ import annotations

from dataclasses import dataclass

MAX_FAILURES = 3
"""Readings in a row that may fail and be bridged; what a longer outage covers is unknown."""


@dataclass(slots=True, eq=False)
class Mark:
    """What a counter stood at, at one moment."""

    at: float
    joules: float | None = None
    """Cumulative; None until it is known, and for ever where it cannot be."""
    stretch: int = 0
    """Counts the times that the counter broke: only marks on one stretch have a difference."""
    shared_j: float | None = None
    """Where no reading fell on the moment: the joules between the two readings around it, split by time."""
    unshown_j: float | None = None
    """What the counter may have used by then and had not shown yet, at most."""
    is_settled: bool = False
    """Nothing that is still to come will change it."""


class Series:
    """The readings of one counter: cumulative joules, now and then None, now and then broken.

    `period_s` is how often the counter ticks. A counter that ticks hardly more often than it is read (`is_coarse`)
    may hold back all that the next reading shows: its marks settle at the next reading, with that as their bound. For
    a finer one, or where no reading came so soon, it is a tick at twice the highest power between two readings so far:
    no reading saw what happened within a tick.
    """

    def __init__(self, period_s: float | None, min_interval_s: float) -> None:
        self._period_s = period_s or 0.0
        self._is_coarse = 2 * self._period_s > min_interval_s
        self._stretch = 0
        self._first_j: float | None = None
        self._last: tuple[float, float] | None = None
        self._num_failures = 0
        self._peak_w = 0.0
        self._unread: list[Mark] = []
        self._unshown: list[tuple[Mark, float, float]] = []
        self.power_w: float | None = None
        """Between the last two readings; None where there are none, or the last one failed."""
        self.is_current = False
        """Whether the last reading came."""
        self.is_lost = False
        """Whether some of its joules are unknown: it broke, or is out for longer than can be bridged."""

    @property
    def is_waiting(self) -> bool:
        """Whether a mark needs another reading soon."""
        return bool(self._unread or (self._is_coarse and self._unshown))

    @property
    def used_j(self) -> float | None:
        """From the first reading to the last; None where some of it is unknown."""
        if self._last is None or self._first_j is None or self.is_lost:
            return None
        return self._last[1] - self._first_j

    def feed(self, at: float, joules: float | None, *, broken: bool = False) -> None:
        """A reading at `at`; None where it failed. `broken`: joules were lost since the one before."""
        if joules is None:
            self._fail()
            return
        before, self._last = self._last, (at, joules)
        lasting = self._num_failures >= MAX_FAILURES
        self._num_failures, self.is_current = 0, True
        if before is None:
            self._first_j = joules
            self.give_up()
        elif broken or lasting or joules < before[1]:  # a counter that went backwards was reset
            self._break()
        else:
            self._go_on(before, at, joules)

    def mark(self, at: float) -> Mark:
        """What it stands at, at `at`: as read there, or to be split between the readings around it."""
        mark = Mark(at, stretch=self._stretch)
        if self.is_current and self._last and self._last[0] == at:
            mark.joules = self._last[1]
            self._settle_or_wait(mark, *self._last)
        elif self._num_failures >= MAX_FAILURES:
            mark.is_settled = True
        else:
            self._unread.append(mark)
        return mark

    def lose(self) -> None:
        """It never answered, and nobody will ask it again."""
        self._num_failures, self.is_lost = MAX_FAILURES, True

    def give_up(self) -> None:
        """No reading will come any more: what was not read is unknown."""
        for mark in self._unread:
            mark.is_settled = True
        for mark, _, _ in self._unshown:
            self._settle(mark, self._tick_j())
        self._unread, self._unshown = [], []

    def _fail(self) -> None:
        self._num_failures += 1
        self.is_current, self.power_w = False, None
        if self._num_failures == MAX_FAILURES:
            self.is_lost = True
            self.give_up()

    def _break(self) -> None:
        self.give_up()
        self._stretch += 1
        self.power_w, self.is_lost = None, True

    def _go_on(self, before: tuple[float, float], at: float, joules: float) -> None:
        used_j, seconds = joules - before[1], at - before[0]
        self.power_w = used_j / seconds
        self._peak_w = max(self._peak_w, self.power_w)
        unshown, self._unshown = self._unshown, []
        for mark, since, since_j in unshown:
            if at - since < self._period_s:  # there may not have been a tick yet
                self._unshown.append((mark, since, since_j))
            else:
                self._settle(mark, min(joules - since_j, self._tick_j()))
        unread, self._unread = self._unread, []
        for mark in unread:
            mark.joules, mark.shared_j = before[1] + used_j * (mark.at - before[0]) / seconds, used_j
            self._settle_or_wait(mark, at, joules)

    def _settle_or_wait(self, mark: Mark, at: float, joules: float) -> None:
        """With the reading that gave it, after which what it has not shown will show."""
        if self._is_coarse or (self._period_s and not self._peak_w):  # at first no power is known
            self._unshown.append((mark, at, joules))
        else:
            self._settle(mark, self._tick_j())

    def _settle(self, mark: Mark, unshown_j: float) -> None:
        mark.unshown_j, mark.is_settled = unshown_j, True

    def _tick_j(self) -> float:
        return 2 * self._peak_w * self._period_s


def difference_j(start: Mark, end: Mark) -> float | None:
    """Joules from one mark to another; None where they are not known."""
    if start.joules is None or end.joules is None or start.stretch != end.stretch:
        return None
    return end.joules - start.joules


def error_j(start: Mark, end: Mark) -> float:
    """How far `difference_j` may be off: at each mark what was not shown yet, and all that was shared."""
    return sum((mark.unshown_j or 0.0) + (mark.shared_j or 0.0) for mark in (start, end))
