"""What a kWh counts in a run: one figure, or a step function over its hours with the yearly average in the gaps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greenml import grid
from greenml.config import Schedule
from greenml.errors import UsageError
from greenml.grid import live, trace
from greenml.grid.feed import Known
from greenml.grid.watch import Watch

if TYPE_CHECKING:
    from datetime import datetime

    from greenml.config import Config
    from greenml.grid.series import Series
    from greenml.records import Intensity


def intensity_of(config: Config) -> Intensity:
    """The factor of a run, and in its note what counts beside it. Raises UsageError where two things are to count."""
    given = [f"--{key}" for key in ("intensity", "trace", "provider") if getattr(config, key) is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)}: both say what a kWh emits", hint="leave one of them out")
    trace.refuse_lone_shift(config.trace, shift=config.trace_shift)
    yearly = grid.resolve(config.region, pue=config.pue)
    if config.intensity is not None:
        return dataclasses.replace(
            yearly,
            g_per_kwh=config.intensity,
            level="fixed",
            year=None,
            source="as given with --intensity",
            note=f"{config.intensity:g} g/kWh at all times, as given with --intensity",
        )
    if config.trace is not None:
        name = Path(config.trace).name
        return dataclasses.replace(
            yearly,
            level="trace",
            source=f"{name}; in its gaps {yearly.source}",
            note=f"by the hour, from {name}; in its gaps {yearly.note}",
        )
    if services := services_of(config):
        names = ", ".join(services)
        rest = "what it does not know" if len(services) == 1 else "what they do not know"
        return dataclasses.replace(
            yearly,
            level="live",
            source=f"{names}; {rest}, {yearly.source}",
            note=f"by the hour, from {names}; {rest}, {yearly.note}",
        )
    return yearly


def services_of(config: Config) -> tuple[str, ...]:
    """Who is asked what the grid emitted while a run lasts: the service that was named, or all that can be asked about
    the region where a run may wait for its grid. Empty where a figure or a trace counts, or the yearly average alone.

    Raises UsageError for a service that is not known, and for a `--provider` of marginal intensities.
    """
    if config.intensity is not None or config.trace is not None:
        return ()
    if named := provider_of(config):
        return (named,)
    if not (config.schedule.is_on and config.region):
        return ()
    site = grid.site_of(grid.locate(config.region))
    averages = (one for one in map(live.create, live.known()) if one.kind == "average")
    return tuple(one.name for one in averages if one.lack(site) is None)


def provider_of(config: Config) -> str | None:
    """The service that was named and can account: of a run that may wait, the one it waits by counts as well, unless
    that tells marginal intensities, which steer. Raises UsageError as `services_of` does."""
    if config.provider is not None:
        kind = live.create(config.provider).kind
        if kind != "average":
            raise UsageError(
                f"--provider {config.provider} tells {kind} intensities, which account for nothing",
                hint=f"they may steer: `provider: {config.provider}` under `schedule:`",
            )
        return config.provider
    named = config.schedule.provider if config.schedule.is_on else None
    return named if named and live.create(named).kind == "average" else None


def yearly_of(config: Config) -> tuple[Config, Intensity]:
    """For work that nobody follows by the hour: a config that claims neither a trace nor a service nor to wait, and the
    one factor that counts for all of it, given or of the year. Raises UsageError as `intensity_of` does."""
    asked = intensity_of(config)
    plain = dataclasses.replace(config, trace=None, trace_shift=False, provider=None, schedule=Schedule())
    factor = intensity_of(plain)
    if asked.level in ("trace", "live"):
        name = Path(config.trace).name if config.trace else ", ".join(services_of(config))
        factor = dataclasses.replace(factor, note=f"{factor.note}; the yearly factor counts here, and not {name}")
    return plain, factor


def series_of(config: Config, now: datetime) -> Series | None:
    """The trace that a run asks for; None where it asks for none. `now` is UTC, naive.

    Raises UsageError where the trace cannot be read, is of marginal intensities, or does not reach to `now`.
    """
    if config.trace is None:
        return None
    series = trace.averages(Path(config.trace), now, shift=config.trace_shift)
    if config.trace_shift:
        return series
    if series.start is None or series.end is None or not series.start <= now < series.end:
        raise UsageError(
            f"{config.trace} covers {_span(series)}, and not now ({now:%Y-%m-%d %H:%M} UTC)",
            hint="--trace-shift replays it at any time, by the hour of its week",
        )
    return series


def watch_of(config: Config, intensity: Intensity, now: datetime, **how: Any) -> Watch | None:
    """Who fills the intensity in while a run lasts; None where one factor counts for all of it. `how` is as in `Watch`.
    Raises UsageError as `series_of` does."""
    series = series_of(config, now)
    return None if series is None else Watch(Known(series), intensity, **how)


def _span(series: Series) -> str:
    return f"{series.start:%Y-%m-%d %H:%M} to {series.end:%Y-%m-%d %H:%M} UTC"
