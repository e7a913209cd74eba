"""A meter that replays what it is given: for tests, and for asking what another machine would have said."""

from __future__ import annotations

import csv
import time
from bisect import bisect_right
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from greenml.energy.sensor import COMPONENTS, Component, Reading, SensorError
from greenml.errors import UsageError
from greenml.records import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

EXAMPLE = "a header `seconds,cpu_w,gpu_w,ram_w` and a row for each change of power, as in `0,65,0,5`"


class ReplaySensor:
    """Answers with `joules(component, seconds)`, cumulative; `constant(cpu=10.0, ...)` is the usual case.

    After `broken_after` readings it fails, as a sensor does whose driver went away.
    """

    def __init__(
        self,
        joules: Callable[[str, float], float | None] | None = None,
        *,
        sources: Mapping[str, Source] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        min_interval_s: float = 0.05,
        broken_after: int | None = None,
    ) -> None:
        self._joules = joules or constant(cpu=10.0, gpu=0.0, ram=2.0)
        self._sources = {"cpu": Source.MEASURED, "gpu": Source.ABSENT, "ram": Source.ESTIMATED} | dict(sources or {})
        self._clock = clock
        self._broken_after = broken_after
        self._num_reads = 0
        self.min_interval_s = min_interval_s

    def start(self) -> None:
        self._started = self._clock()

    def components(self) -> Mapping[str, Component]:
        return {
            name: Component(source, "replayed", 0.001 if source is Source.MEASURED else None)
            for name, source in self._sources.items()
        }

    def describe(self) -> dict[str, object]:
        return {"meter": "replay"}

    def read(self) -> Reading:
        self._num_reads += 1
        if self._broken_after is not None and self._num_reads > self._broken_after:
            raise SensorError("the replay ends here")
        seconds = self._clock() - self._started
        return Reading({name: self._joules(name, seconds) for name in COMPONENTS})

    def stop(self) -> None:
        pass


def constant(**watts: float) -> Callable[[str, float], float | None]:
    """Constant watts per component -> cumulative joules."""
    return lambda component, seconds: watts[component] * seconds


class Steps:
    """Power over time: each value holds from its second to the next one, the last for ever.

    `seconds` ascend from 0; `watts` are None where they are not known.
    """

    def __init__(self, seconds: Sequence[float], watts: Sequence[float | None]) -> None:
        self._seconds, self._watts = seconds, watts
        spans = zip(watts, pairwise(seconds), strict=False)
        self._before_j = [0.0, *accumulate((power or 0.0) * (end - start) for power, (start, end) in spans)]

    def joules(self, at: float) -> float | None:
        """Cumulative, of what is known; None while the power is not."""
        row = self._row(at)
        watts = self._watts[row]
        return None if watts is None else self._before_j[row] + watts * (at - self._seconds[row])

    def has_gap(self, start: float, end: float) -> bool:
        """Whether the power is unknown at some moment between two."""
        return None in self._watts[self._row(start) : self._row(end) + 1]

    def _row(self, at: float) -> int:
        return bisect_right(self._seconds, at) - 1


class FileSensor:
    """Replays a CSV of watts from the moment that it starts; what the file does not know is unknown.

    Its figures are `estimated`, unless a column such as `cpu_source` says of a component where they are from. A
    component whose power is 0 throughout is absent.
    """

    min_interval_s = 0.01

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.perf_counter) -> None:
        """Raises UsageError for a file that is none, or says something else."""
        self._path, self._clock = path, clock
        self._steps, self._components = _read(path)
        self._last_s = 0.0

    def start(self) -> None:
        self._started = self._clock()

    def components(self) -> Mapping[str, Component]:
        return self._components

    def describe(self) -> dict[str, object]:
        return {"meter": f"replay of {self._path.name}", "replayed": True}  # and so unranked

    def read(self) -> Reading:
        last_s, self._last_s = self._last_s, self._clock() - self._started
        return Reading(
            {name: steps.joules(self._last_s) for name, steps in self._steps.items()},
            broken=frozenset(name for name, steps in self._steps.items() if steps.has_gap(last_s, self._last_s)),
            faults=dict.fromkeys(COMPONENTS, f"{self._path.name} does not say"),
        )

    def stop(self) -> None:
        pass


def _read(path: Path) -> tuple[dict[str, Steps], dict[str, Component]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows, names = list(reader), reader.fieldnames or ()
    except FileNotFoundError:
        raise UsageError(f"--meter replay:{path}: no such file", hint=f"it holds {EXAMPLE}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"--meter replay:{path}: cannot be read: {error}", hint=f"it holds {EXAMPLE}") from None
    missing = [name for name in ("seconds", *(f"{each}_w" for each in COMPONENTS)) if name not in names]
    if missing or not rows:
        what = f"no column `{missing[0]}`" if missing else "no rows"
        raise UsageError(f"--meter replay:{path}: {what}", hint=f"it holds {EXAMPLE}")
    seconds = [_number(path, line, row["seconds"], "seconds") for line, row in enumerate(rows, start=2)]
    known = [value for value in seconds if value is not None]
    if len(known) < len(seconds) or known[0] != 0 or any(after <= before for before, after in pairwise(known)):
        raise UsageError(f"--meter replay:{path}: `seconds` must begin with 0 and ascend", hint=f"it holds {EXAMPLE}")
    steps, components = {}, {}
    for name in COMPONENTS:
        watts = [_number(path, line, row[f"{name}_w"], f"{name}_w") for line, row in enumerate(rows, start=2)]
        steps[name] = Steps(known, watts)
        components[name] = Component(_source(path, name, watts, rows), f"replayed from {path.name}")
    return steps, components


def _number(path: Path, line: int, text: str | None, column: str) -> float | None:
    if not (text or "").strip():
        return None
    try:
        number = float(text or "")
        if 0 <= number < float("inf"):
            return number
    except ValueError:
        pass
    raise UsageError(f"--meter replay:{path}, line {line}: `{text}` is no {column}", hint=f"it holds {EXAMPLE}")


def _source(path: Path, name: str, watts: Iterable[float | None], rows: list[dict[str, str]]) -> Source:
    """As good as the worst row says; what the file does not say is an estimate."""
    said = {(row.get(f"{name}_source") or "").strip() for row in rows} - {""}
    try:
        if said:
            return Source.worst([Source(word) for word in said])
    except ValueError:
        sources = ", ".join(Source)
        raise UsageError(
            f"--meter replay:{path}: `{name}_source` is none of the sources", hint=f"they are {sources}"
        ) from None
    values = set(watts)
    if values == {0.0}:
        return Source.ABSENT
    return Source.UNKNOWN if values == {None} else Source.ESTIMATED
