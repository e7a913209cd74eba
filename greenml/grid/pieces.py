"""Running in pieces: the best of all plans whose pieces begin and end on a grid, but for one end that makes it last.

From left to right over the moments of the grid goes what it costs at least to have run for so long by then, and to be
idle, or to have been running for long enough to be free to stop. What cannot become better than the best plan so far,
were the rest run at the lowest intensity to come, is dropped.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from greenml.grid.tariff import Integral, Tariff

Piece = tuple[int, int]
Chain = tuple["Chain", int, int] | None
"""Pieces from the last to the first; None where nothing has been run."""
Idle = dict[int, tuple[float, Chain]]
"""By what has been run so far: the least that it has cost, and how."""
Busy = dict[int, tuple[float, tuple[Chain, int]]]
"""The same, with the start of the piece that is running."""

Link = TypeVar("Link", Chain, tuple[Chain, int])

TIE = 10**9
"""Starting later or pausing has to save one part in so many: what is less comes of how figures were rounded before."""
MOST_STATES = 200_000
"""Moments times amounts of what has been run: about a second where little can be dropped."""


def best(
    tariff: Tariff, length: int, span: int, *, min_run: int, max_pauses: int | None, whole: Piece | None
) -> list[Piece] | None:
    """The pieces that emit least together: `whole`, the best without a pause, unless others are better; None where
    there are none.

    `length` of running within [0, span], each piece `min_run` or longer, which `length` is at least.
    """
    # No more pieces have room, and of two in the same step one could be moved to the other.
    most_pieces = min(length // max(min_run, 1), len(tariff.integral.values))
    if max_pauses is not None and max_pauses >= most_pieces - 1:
        max_pauses = None
    num_layers = 1 if max_pauses is None else max_pauses + 1
    grid = _Grid.over(tariff.integral, length, span, min_run, MOST_STATES // num_layers)
    search = _Search(tariff, grid, length, span, min_run, max_pauses)
    if whole:
        search.finish(tariff.waiting(0, whole[0]) or 0.0, None, whole[0], *whole)
    return search.best()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """Where plans may begin and end a piece, and how much they may have run by then."""

    moments: list[int]
    amounts: frozenset[int]
    parts: list[int]
    """What is run of a cell between two moments that is not run through: so that the duration comes out."""

    @classmethod
    def over(cls, integral: Integral, length: int, span: int, min_run: int, most_states: int) -> _Grid:
        inner = sorted(moment for moment in integral.moments if 0 < moment < span)
        steps = [end - start for start, end in pairwise(inner)] or [span]
        unit = _unit(steps, min_run, least=math.isqrt(4 * span * length // most_states) + 1)
        phase = Counter(moment % unit for moment in inner).most_common(1)[0][0] if inner else 0
        # Of the cells, the first and the last are shorter. What has been run before the piece that makes up the
        # duration is a number of whole cells, perhaps with the first; what is run after it, perhaps with the last.
        firsts, lasts = {0, phase}, {0, (span - phase) % unit}
        before = {amount for first in firsts for amount in range(first, length + 1, unit)}
        after = {amount for last in lasts for amount in range(length - last, -1, -unit)}
        return cls(
            moments=sorted({0, span, *range(phase, span, unit)}),
            amounts=frozenset(before | after),
            parts=sorted({(length - last - first) % unit for first in firsts for last in lasts} - {0}),
        )


def _unit(steps: list[int], min_run: int, least: int) -> int:
    """The grid on which all steps begin, where it is not finer than `least`; or else a whole number of cells to the
    most frequent step, or of these to a cell."""
    unit = math.gcd(*steps, min_run)
    if unit >= least:
        return unit
    [(step, _)] = Counter(steps).most_common(1)
    if step < least:
        return -(-least // step) * step
    return step // next(number for number in range(step // least, 0, -1) if step % number == 0)


class _Search:
    """One search, from left to right; what a state costs is paid up to its moment."""

    def __init__(
        self, tariff: Tariff, grid: _Grid, length: int, span: int, min_run: int, max_pauses: int | None
    ) -> None:
        self.tariff, self.moments, self.amounts, self.parts = tariff, grid.moments, grid.amounts, grid.parts
        self.length, self.span, self.min_run, self.max_pauses = length, span, min_run, max_pauses
        layers = range(1 if max_pauses is None else max_pauses + 1)
        self.idle: list[list[Idle]] = [[{} for _ in self.moments] for _ in layers]
        """By the number of pauses so far, all in one where nobody counts, and by the moment."""
        self.busy: list[list[Busy]] = [[{} for _ in self.moments] for _ in layers]
        """Running for `min_run` or longer, and free to stop."""
        # So that of equals the plan wins that pauses less, and then the one that runs sooner.
        self.per_pause = tariff.load.active_w * length * tariff.integral.mean / TIE
        self.per_delay = self.per_pause / span / length
        self.bound = math.inf
        self.found: Chain = None

    def best(self) -> list[Piece] | None:
        self.idle[0][0][0] = (0.0, None)
        for at in range(len(self.moments) - 1):
            for layer in range(len(self.idle)):
                self._run_on(at, layer)
            for layer in range(len(self.idle)):
                self._wait(at, layer)
                self._begin(at, layer)
                self.idle[layer][at], self.busy[layer][at] = {}, {}
        return list(_unchained(self.found))[::-1] or None

    def finish(self, cost: float, chain: Chain, start: int, since: int, end: int) -> None:
        """All is done at `end`, with a piece from `start` on, and `cost` covers what was before `since`."""
        running = self._running(since, end)
        if end <= self.span and running is not None and cost + running < self.bound:
            self.bound, self.found = cost + running, (chain, start, end)

    def _running(self, start: int, end: int) -> float | None:
        running = self.tariff.running(start, end)
        return None if running is None else running + self.per_delay * (start + end) / 2 * (end - start)

    def _run_on(self, at: int, layer: int) -> None:
        """What runs stops here, or goes on to the next moment, or for a part of that."""
        moment, after = self.moments[at : at + 2]
        cell, running = after - moment, self._running(moment, after)
        alive = list(self._alive(at, self.busy[layer][at]))
        paused = self._paused(layer)
        for amount, cost, (chain, start) in alive:
            if paused:
                _keep(paused[at], amount, cost, (chain, start, moment))
            if running is None:
                continue
            if self.length - amount <= cell:
                self.finish(cost, chain, start, moment, moment + self.length - amount)
            elif amount + cell in self.amounts:
                _keep(self.busy[layer][at + 1], amount + cell, cost + running, (chain, start))
        for part in self.parts:
            if paused and part < cell:
                self._pause_between(at, part, alive, paused[at + 1])

    def _pause_between(
        self, at: int, part: int, alive: list[tuple[int, float, tuple[Chain, int]]], paused: Idle
    ) -> None:
        """What runs stops a `part` after here."""
        moment, after = self.moments[at : at + 2]
        running, waiting = self._running(moment, moment + part), self.tariff.waiting(moment + part, after)
        if running is None or waiting is None:
            return
        for amount, cost, (chain, start) in alive:
            if amount + part in self.amounts and amount + part < self.length:
                _keep(paused, amount + part, cost + running + waiting, (chain, start, moment + part))

    def _wait(self, at: int, layer: int) -> None:
        waiting = self.tariff.waiting(*self.moments[at : at + 2])
        if waiting is not None:
            for amount, cost, chain in self._alive(at, self.idle[layer][at]):
                _keep(self.idle[layer][at + 1], amount, cost + waiting, chain)

    def _begin(self, at: int, layer: int) -> None:
        """A piece, here or before the next moment, that runs at least until the first at which it may stop."""
        moment, after = self.moments[at : at + 2]
        alive = list(self._alive(at, self.idle[layer][at]))
        starts = {moment, *(after - part for part in self.parts), self.span - self.min_run}
        for start in sorted(start for start in starts if alive and moment <= start < after):
            waiting, restart = self.tariff.waiting(moment, start), self.tariff.restart(start) + self.per_pause
            if waiting is None:
                continue
            to = bisect_left(self.moments, max(start + self.min_run, after))
            is_beyond = to == len(self.moments)
            end = self.span if is_beyond else self.moments[to]
            running = None if is_beyond else self._running(start, end)
            for amount, cost, chain in alive:
                cost += waiting + (restart if chain else 0.0)
                if self.min_run <= self.length - amount <= end - start:
                    self.finish(cost, chain, start, start, start + self.length - amount)
                elif running is not None and amount + end - start in self.amounts:
                    _keep(self.busy[layer][to], amount + end - start, cost + running, (chain, start))
                if start == moment and not is_beyond:
                    self._run_shortly(amount, cost, (chain, start), end, layer)

    def _run_shortly(self, amount: int, cost: float, running: tuple[Chain, int], end: int, layer: int) -> None:
        """A piece that begins on the grid and stops before `end`, the first moment of the grid at which it may."""
        (chain, start), paused = running, self._paused(layer)
        # At the very beginning, which is off the grid, all that leads back to it.
        for length in self.amounts if start == 0 else self.parts:
            is_allowed = max(self.min_run, 1) <= length < min(end - start, self.length - amount)
            if paused and is_allowed and amount + length in self.amounts:
                to = bisect_left(self.moments, start + length)
                spent = self._running(start, start + length)
                waiting = self.tariff.waiting(start + length, self.moments[to])
                if spent is not None and waiting is not None:
                    _keep(paused[to], amount + length, cost + spent + waiting, (chain, start, start + length))

    def _paused(self, layer: int) -> list[Idle] | None:
        """Where those go that pause; None where they must not any more."""
        if self.max_pauses is None:
            return self.idle[layer]
        return self.idle[layer + 1] if layer < self.max_pauses else None

    def _alive(self, at: int, states: dict[int, tuple[float, Link]]) -> Iterator[tuple[int, float, Link]]:
        """Those that may still become better than the best plan so far."""
        lowest = self.tariff.load.active_w * self.tariff.integral.lowest_after(self.moments[at])
        for amount, (cost, link) in states.items():
            if cost + lowest * (self.length - amount) < self.bound:
                yield amount, cost, link


def _keep(states: dict[int, tuple[float, Link]], amount: int, cost: float, link: Link) -> None:
    """If it is cheaper than what else has run for as long."""
    if amount not in states or cost < states[amount][0]:
        states[amount] = (cost, link)


def _unchained(chain: Chain) -> Iterator[Piece]:
    while chain:
        chain, start, end = chain
        yield start, end
