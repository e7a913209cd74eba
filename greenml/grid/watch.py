"""The intensity of the grid while something runs: phases and epochs in, the same with their grams per kWh out.

Power is taken as constant within a phase: a phase is what lies between two readings of the meter, nine seconds at most,
and nobody knows more. So its intensity is the mean over time, and its grams are joules times that.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from greenml.errors import GreenMLError, UsageError
from greenml.grid.series import Series, Step, worst
from greenml.records import Decision, Epoch, Phase
from greenml.units import co2_g

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from greenml.records import Intensity

T = TypeVar("T")

ASK_EVERY = timedelta(seconds=60)
"""How often a source is asked at most, in the time of the phases."""
ASK_AT_LEAST = timedelta(hours=1)
"""The same where it keeps being away."""
LAG = timedelta(hours=3)
"""How long the last figure of a live service counts, which publishes late; what is older says nothing of now."""
DAY = timedelta(days=1)
"""So much of what is known from the start is taken at once."""


class Source(Protocol):
    """Who knows the intensity of a time."""

    def past(self, start: datetime, end: datetime) -> Series:
        """What is known of [start, end), as far as it is."""


@dataclass(slots=True)
class Mean:
    """The intensity over several phases, weighted by their joules; a phase without one counts with `factor`."""

    factor: float
    """g/kWh."""
    joules: float = 0.0
    """Of what is known of the phases."""
    _weighted: float = 0.0
    _least: float | None = None
    _most: float | None = None
    _has_own: bool = False

    def add(self, joules: float | None, g_per_kwh: float | None) -> None:
        """One phase more, or several that were summed up already; None where that is unknown."""
        counted = self.factor if g_per_kwh is None else g_per_kwh
        self._has_own = self._has_own or g_per_kwh is not None
        self._least = counted if self._least is None else min(self._least, counted)
        self._most = counted if self._most is None else max(self._most, counted)
        if joules is not None:
            self.joules += joules
            self._weighted += joules * counted

    @property
    def g_per_kwh(self) -> float | None:
        """None where no phase has an intensity of its own. What is equal all the way comes back to the last bit."""
        if not self._has_own:
            return None
        if self._least == self._most:
            return self._least
        return self._weighted / self.joules if self.joules else None

    def grams(self, pue: float) -> float:
        """Grams of CO2e of the joules that are known."""
        mean = self.g_per_kwh
        return co2_g(self.joules, self.factor if mean is None else mean, pue)

    def after(self, before: Mean, share: float) -> Mean:
        """What it was when `share` of the way from `before` to here was gone."""
        if share == 1:
            return self
        joules = before.joules + (self.joules - before.joules) * share
        weighted = before._weighted + (self._weighted - before._weighted) * share
        return dataclasses.replace(self, joules=joules, _weighted=weighted)

    def copy(self) -> Mean:
        """As it is now."""
        return dataclasses.replace(self)


def mean_of(phases: Iterable[Phase], factor: float) -> Mean:
    """The mean over phases that have their intensity."""
    mean = Mean(factor)
    for phase in phases:
        mean.add(phase.joules, phase.g_per_kwh)
    return mean


@dataclass(slots=True)
class _Account:
    """What one run has taken."""

    whole: Mean
    by_epoch: dict[int | None, Mean] = field(default_factory=dict)


class Watch:
    """Fills in the intensity of phases and epochs on their way to the store, of one run or of several.

    A phase keeps what was known when it came by: a live service that publishes late is not waited for, its last figure
    holds on for three hours as an estimate. Of a phase that is not known in full nothing is: the yearly factor counts
    for it, and the first time that is a Decision.
    """

    def __init__(
        self,
        source: Source,
        intensity: Intensity,
        *,
        epoch_phases: Collection[str] = (),
        is_live: bool = False,
        before: Mapping[str, tuple[float, float | None]] | None = None,
        numbers: Iterator[int] | None = None,
        fallbacks: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """`intensity` has the yearly factor and the PUE; `epoch_phases` are the names of the phases that epochs answer
        for. A source that `is_live` learns as time goes by, and is asked for what lies behind alone. `before` has what
        earlier lives took: by run, joules and their g/kWh (None: the factor). `numbers` counts decisions, where
        somebody else makes some, too. `fallbacks` says why others than usual have answered, each reason once."""
        self._source, self._intensity = source, intensity
        self._fallbacks = fallbacks
        self._epoch_phases = epoch_phases
        self._lag, self._ahead = (LAG, timedelta(0)) if is_live else (timedelta(0), DAY)
        self._numbers = itertools.count() if numbers is None else numbers
        self._known = Series(steps=(), provider="", source="nobody")
        self._asked_at: datetime | None = None
        self._patience = ASK_EVERY
        self._trouble: str | None = None
        self._has_fallen_back = False
        self._accounts: defaultdict[str, _Account] = defaultdict(lambda: _Account(Mean(intensity.g_per_kwh)))
        for run_id, (joules, g_per_kwh) in (before or {}).items():
            self._accounts[run_id].whole.add(joules, g_per_kwh)
        self._latest: float = intensity.g_per_kwh

    def fill(self, records: Iterable[T]) -> Iterator[T | Phase | Epoch | Decision]:
        """What runs yield as it comes, phases and epochs with their intensity. Raises UsageError where the source
        knows marginal intensities only, which may steer and never account."""
        for record in records:
            if isinstance(record, Phase):
                filled, step = self._priced(record)
                yield filled
                for why in self._fallbacks():
                    yield self._fallback(record, why)
                if step is None and not self._has_fallen_back:
                    self._has_fallen_back = True
                    yield self._without_own(record)
            elif isinstance(record, Epoch):
                yield self._averaged(record)
            else:
                yield record

    def grams(self, joules: float) -> float:
        """What `joules` of all runs that are watched have come to, PUE included: what has passed at the intensities of
        its time, and what has not yet at the last of them."""
        wholes = [account.whole for account in self._accounts.values()]
        pue = self._intensity.pue
        means = {mean.factor if mean.g_per_kwh is None else mean.g_per_kwh for mean in wholes}
        if means <= {self._latest}:
            return co2_g(joules, self._latest, pue)
        passed = sum(mean.joules for mean in wholes)
        return sum(mean.grams(pue) for mean in wholes) + co2_g(joules - passed, self._latest, pue)

    def _priced(self, phase: Phase) -> tuple[Phase, Step | None]:
        step = self._at(phase.started_at, phase.ended_at)
        if step:
            phase = dataclasses.replace(phase, g_per_kwh=step.g_per_kwh, intensity_status=step.status)
        account = self._accounts[phase.run_id]
        account.whole.add(phase.joules, phase.g_per_kwh)
        if phase.epoch is not None and phase.name in self._epoch_phases:
            mean = account.by_epoch.setdefault(phase.epoch, Mean(self._intensity.g_per_kwh))
            mean.add(phase.joules, phase.g_per_kwh)
        self._latest = self._intensity.g_per_kwh if phase.g_per_kwh is None else phase.g_per_kwh
        return phase, step

    def _averaged(self, epoch: Epoch) -> Epoch:
        """An epoch follows the last of its phases."""
        account = self._accounts[epoch.run_id]
        own = account.by_epoch.pop(epoch.epoch, None)
        if own is None:  # of an earlier life, or of a program whose epochs are not told by the names of phases
            return epoch
        return dataclasses.replace(epoch, g_per_kwh=own.g_per_kwh, total_g_per_kwh=account.whole.g_per_kwh)

    def _at(self, start: datetime, end: datetime) -> Step | None:
        """The mean of a stretch as one step; None where a part of it is not known."""
        if self._is_due(start, end):
            self._ask(start, end)
        known = self._held_on(end)
        mean = known.mean(start, end)
        if mean is None:
            return None
        moment = known.at(start)
        status = known.between(start, end).status if start < end or moment is None else moment.status
        return Step(start=start, end=max(end, start + timedelta.resolution), g_per_kwh=mean, status=status)

    def _is_due(self, start: datetime, end: datetime) -> bool:
        if self._known.mean(start, end) is not None:
            return False
        return self._asked_at is None or abs(end - self._asked_at) >= self._patience

    def _ask(self, start: datetime, end: datetime) -> None:
        self._asked_at, self._trouble = end, None
        try:
            told = self._source.past(start - self._lag, end + self._ahead)
        except GreenMLError as error:
            # A service that is away ends no training, and holds it up ever more seldom.
            self._trouble, self._patience = str(error), min(2 * self._patience, ASK_AT_LEAST)
            return
        self._patience = ASK_EVERY
        if told.kind != "average":
            raise UsageError(
                f"{told.source} tells {told.kind} intensities, which account for nothing",
                hint="they may steer; account with average ones: another --provider, --trace or --intensity",
            )
        self._known = told

    def _held_on(self, end: datetime) -> Series:
        """What is known, its last step as an estimate until `end` where that is not too long ago."""
        known = self._known
        if not known.steps or not timedelta(0) < end - known.steps[-1].end <= self._lag:
            return known
        last = known.steps[-1]
        held = Step(start=last.end, end=end, g_per_kwh=last.g_per_kwh, status=worst([last.status, "estimated"]))
        return dataclasses.replace(known, steps=(*known.steps, held))

    def _without_own(self, phase: Phase) -> Decision:
        factor = self._intensity
        lack = self._trouble or f"{self._known.source} says nothing of {phase.started_at:%Y-%m-%d %H:%M} UTC"
        why = f"{lack}: {factor.g_per_kwh:.3g} g/kWh counts there, {factor.region_used}"
        return self._fallback(phase, why, intensity_status="assumed", g_per_kwh=factor.g_per_kwh)

    def _fallback(self, phase: Phase, why: str, **known: Any) -> Decision:
        return Decision(
            run_id=phase.run_id,
            segment=phase.segment,
            seq=next(self._numbers),
            decided_at=phase.started_at,
            what="fallback",
            why=why,
            provider=self._known.provider or None,
            **known,
        )
