"""What standing still has saved, when a run is over: against the same work, begun when it was asked for and never held
up, at the intensities that those earlier hours then had."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from greenml.grid.series import worst
from greenml.grid.windows import Saving
from greenml.units import co2_g

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from greenml.grid.series import Series, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A phase of a run, as far as this question goes."""

    name: str
    start: datetime
    end: datetime
    joules: float | None
    g_per_kwh: float
    """What counted for it."""
    status: Status


def without_waiting(phases: Sequence[Stretch]) -> list[tuple[Stretch, datetime, datetime]]:
    """The phases of the work, in order, each with when it would have begun and ended had nothing held the run up: what
    it waited, and the set-ups that only a pause made necessary, are left out. Other gaps, such as that between a Ctrl-C
    and `--resume`, stay as they were."""
    moved: list[tuple[Stretch, datetime, datetime]] = []
    gone, has_waited = timedelta(0), False
    for phase in phases:
        has_waited = has_waited or phase.name == "wait"
        if phase.name == "wait" or (phase.name == "setup" and has_waited):
            gone += phase.end - phase.start
        else:
            moved.append((phase, phase.start - gone, phase.end - gone))
    return moved


def saved(
    phases: Sequence[Stretch], ask: Callable[[datetime, datetime], Series], *, pue: float = 1.0, idles: bool = True
) -> tuple[Saving, Status] | None:
    """What the run came to against never having been held up, and how well the intensities of both are known; None
    where a joule or an intensity is unknown. `ask` gives what is known of a time that is past.

    What a machine drew while it waited counts only where it `idles` for the run; one that is on anyway drew it anyway.
    """
    work = without_waiting(phases)
    if not work or any(phase.joules is None for phase in phases):
        return None
    series = ask(work[0][1], work[-1][2])
    means = [series.mean(start, end) for _, start, end in work]
    if any(mean is None for mean in means) or series.kind != "average":
        return None
    at_once = math.fsum(
        co2_g(phase.joules or 0.0, mean or 0.0, pue) for (phase, _, _), mean in zip(work, means, strict=True)
    )
    counted = [phase for phase in phases if idles or phase.name != "wait"]
    then = math.fsum(co2_g(phase.joules or 0.0, phase.g_per_kwh, pue) for phase in counted)
    status = worst([*(phase.status for phase in counted), series.between(work[0][1], work[-1][2]).status])
    return Saving(now_g=at_once, then_g=then), status
