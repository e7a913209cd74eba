"""What the clients of all services have in common: ask once per data step, read with suspicion, answer in steps."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from greenml.grid.live import cache
from greenml.grid.live.answers import OddAnswerError, ordered
from greenml.grid.live.client import LATER, TOO_OLD, Client, Patience
from greenml.grid.live.provider import RefusedError, UnavailableError
from greenml.grid.series import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from greenml.grid.live.answers import Answer
    from greenml.grid.live.provider import Site
    from greenml.grid.series import Factors, Kind, Step

Refusals = dict[int, tuple[str, str]]
"""What a status of 400 on means, and the way out."""


class Service(ABC):
    """Provider, but for what is asked where, and how the answer is read."""

    name: str
    title: str
    kind: Kind
    factors: Factors
    step: timedelta
    grace: timedelta
    """How long after a step begins its figures are out."""
    url: str

    def __init__(
        self,
        base_url: str | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        patience: Patience | None = None,
    ) -> None:
        self._base_url = (base_url or self.url).rstrip("/")
        self._client = Client(self.title, self._base_url, sleep=sleep, patience=patience)
        self._unreached: tuple[datetime, UnavailableError] | None = None

    def lack(self, site: Site) -> RefusedError | None:
        try:
            self._prepare(site)
        except RefusedError as error:
            return error
        return None

    def current(self, site: Site, now: datetime) -> Series:
        self._prepare(site)
        answer = self._latest(site, now)
        holding = [step for step in answer.steps if step.start <= now < step.end]
        if not holding:
            raise UnavailableError(
                f"{self.title}: no figure for {answer.zone} holds now"
                + (f": the newest ended at {answer.steps[-1].end:%Y-%m-%d %H:%M} UTC" if answer.steps else ""),
                hint=LATER,
                status=200,
                later=self._until(now),
            )
        return self._series(answer.zone, holding)

    def history(self, site: Site, start: datetime, end: datetime, now: datetime) -> Series:
        self._prepare(site)
        end = min(end, now)
        answers = list(self._past(site, start, end, now)) if start < end else []
        steps = [step for answer in answers for step in answer.steps if step.end > start and step.start < end]
        if answers and not steps:
            raise self._empty(f"{answers[0].zone} from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC", now)
        return self._series(answers[0].zone if answers else None, steps)

    def forecast(self, site: Site, now: datetime, hours: float) -> Series:
        self._prepare(site)
        answer = self._coming(site, now, hours)
        until = now + timedelta(hours=hours)
        steps = [step for step in answer.steps if step.end > now and step.start < until]
        if not steps:
            raise self._empty(f"{answer.zone} from now on", now)
        return self._series(answer.zone, steps)

    @abstractmethod
    def _prepare(self, site: Site) -> None:
        """Raise RefusedError where there is no use in asking."""

    @abstractmethod
    def _latest(self, site: Site, now: datetime) -> Answer: ...

    @abstractmethod
    def _past(self, site: Site, start: datetime, end: datetime, now: datetime) -> Iterator[Answer]: ...

    @abstractmethod
    def _coming(self, site: Site, now: datetime, hours: float) -> Answer: ...

    @abstractmethod
    def _read(self, path: str, body: object, zone: str) -> Answer:
        """What was answered at `path` about `zone`. Raises OddAnswerError, and RefusedError for
        made-up data."""

    def _get(self, path: str, params: Mapping[str, str], now: datetime, refusals: Refusals) -> object:
        """The JSON at `path`, asked for with whatever the service wants to see."""
        return self._client.get(path, params, now=now, refusals=refusals)

    def _answer(
        self,
        path: str,
        params: Mapping[str, str],
        now: datetime,
        *,
        zone: str,
        refusals: Refusals,
        until: datetime | None = None,
    ) -> Answer:
        """What is kept of this question, else what the service says to it, kept until the data step ends."""
        question: list[object] = [self.name, self._base_url, path, sorted([*pair] for pair in params.items())]
        if known := cache.recall(question, now):
            return known
        if self._unreached and self._unreached[0] == now:
            raise self._unreached[1]
        try:
            body = self._get(path, params, now, refusals)
        except RefusedError:
            raise
        except UnavailableError as error:
            if error.status is None:  # another question of the same moment would only wait as long again
                self._unreached = (now, error)
            raise
        answer, odd = None, ""
        try:
            answer = self._read(path, body, zone)
        except OddAnswerError as error:
            odd = str(error)
        if answer is None:
            message = f"{self.title}: an answer that is not as documented: {odd}"
            raise UnavailableError(message, hint=TOO_OLD, status=200)
        cache.remember(question, answer, now=now, until=until or self._until(now))
        return answer

    def _until(self, now: datetime) -> datetime:
        """When there may be more than there is now: as the next step begins and, just after that, as it is out."""
        begun = floor(now, self.step)
        return begun + self.grace if now < begun + self.grace else begun + self.step

    def _empty(self, what: str, now: datetime) -> UnavailableError:
        message = f"{self.title}: no figures for {what}"
        return UnavailableError(message, hint=LATER, status=200, later=self._until(now))

    def _series(self, zone: str | None, steps: list[Step]) -> Series:
        try:
            in_order = ordered(steps)
        except OddAnswerError as error:
            message = f"{self.title}: answers that do not fit together: {error}"
            raise UnavailableError(message, hint=TOO_OLD, status=200) from None
        return Series(
            steps=in_order, provider=self.name, source=self.title, zone=zone, kind=self.kind, factors=self.factors
        )


def floor(moment: datetime, step: timedelta) -> datetime:
    """The last multiple of `step` since midnight that is not after `moment`."""
    return moment - (moment - datetime.min) % step


def ceiling(moment: datetime, step: timedelta) -> datetime:
    """The first one that is not before it."""
    return -(-(moment - datetime.min) // step) * step + datetime.min


def chunks(start: datetime, end: datetime, longest: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """[start, end) in parts of at most `longest`."""
    while start < end:
        yield start, min(start + longest, end)
        start += longest
