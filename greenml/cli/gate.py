"""What a sweep or a tracked program waits for before it begins, of which greenml knows nothing beforehand."""

from __future__ import annotations

import dataclasses
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from greenml import config as configs
from greenml import console
from greenml.cli import policing, scheduling
from greenml.cli.gridasking import duration_of
from greenml.cli.jobs import INTERRUPTED, PAUSED
from greenml.cli.repeating import without
from greenml.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from greenml.config import Config
    from greenml.grid.planner import Clock, Planner
    from greenml.records import Decision, Intensity
    from greenml.store import Store

UNMETERED = "what waiting draws is not metered"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
    """What was decided before it began, and who decides from then on."""

    planner: Planner | None = None
    decisions: Sequence[Decision] = ()


def pass_through(
    command: str,
    given: Mapping[str, Any],
    config: Config,
    intensity: Intensity,
    store: Store,
    *,
    run_id: str,
    duration: timedelta | None = None,
    segment: int = 0,
    numbers: Iterator[int],
    clock: Clock | None = None,
    tail: Sequence[str] = (),
) -> Opened:
    """Stand still for as long as flags (by the names of their parameters) and policy say so, with every decision shown.

    `config` says where it will run, `duration` how long at most where --duration does not. `tail` are the words of the
    command line that are another program's. Raises UsageError, PolicyError, SystemExit(130) where it was interrupted,
    and SystemExit(75) where it leaves rather than waits.
    """
    from greenml.grid.planner import Need, SystemClock

    clock = clock or SystemClock()
    config, duration = _settled(config, given, duration, clock)
    planner = scheduling.make_planner(
        config,
        store,
        intensity,
        clock,
        need=lambda: Need(remaining=duration),
        run_id=run_id,
        segment=segment,
        numbers=numbers,
        command=command,
    )
    if planner is None:
        return Opened()
    if planner.policy:
        console.say(policing.in_words(planner.policy))
        policing.admit(planner, store)
    decisions = []
    try:
        while planner.holds():
            decisions += [*_told(planner, store)]
            if planner.exits:
                _leave(planner, store, clock, command=command, deadline=config.schedule.deadline, tail=tail)
            planner.rest()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    if planner.exits and planner.may_pause and command == "sweep":
        console.say("--exit-on-pause leaves before a search begins: from here on it stays, also between two trials")
    return Opened(planner=planner, decisions=[*decisions, *_told(planner, store)])


def foresee(
    command: str,
    given: Mapping[str, Any],
    config: Config,
    intensity: Intensity,
    store: Store,
    *,
    duration: timedelta | None = None,
) -> Planner | None:
    """What `pass_through` would wait for now, asked once and kept nowhere; None where nothing can hold it up. Raises
    UsageError, and PolicyError where it may not begin."""
    from greenml.grid.planner import Need, SystemClock

    config, duration = _settled(config, given, duration, SystemClock())
    return scheduling.ask_once(config, store, intensity, Need(remaining=duration), command=command)


def say_foreseen(planner: Planner, decisions: Sequence[Decision], *, width: int) -> None:
    """Of a planner that was asked once: which policy holds, what it decided, and whether anything is waited for. Labels
    are so many columns wide."""
    if planner.policy:
        console.say(policing.in_words(planner.policy))
    words = [scheduling.in_words(decision) for decision in decisions]
    for text in words if planner.hold else [*words, "starts at once"]:
        console.say(f"{'grid':<{width}}{text}")


def _settled(
    config: Config, given: Mapping[str, Any], duration: timedelta | None, clock: Clock
) -> tuple[Config, timedelta | None]:
    """With the schedule of these flags, and how long it takes where --duration or `duration` says so. Raises
    UsageError for what does nothing, or cannot be."""
    config = _scheduled(config, given)
    if config.schedule.pause_above is not None and config.schedule.exit_on_pause:
        raise UsageError(
            "--exit-on-pause leaves before a search begins: between two trials it stays",
            hint="leave out --exit-on-pause or --pause-above",
        )
    duration = _duration(given.get("duration"), config) or duration
    if config.schedule.when_green and duration is None:
        raise UsageError("--when-green: how long it takes is not known", hint="give --duration, as in --duration 4h")
    return scheduling.settled(config, clock.now()), duration


def _scheduled(config: Config, given: Mapping[str, Any]) -> Config:
    """With the schedule that flags ask for, which is no part of what is trained. Raises UsageError."""
    keys = scheduling.keys({name: given.get(name) for name in scheduling.FLAGS})
    schedule = configs.validate({"model": config.model, "schedule": keys or {}}).schedule
    return dataclasses.replace(config, schedule=schedule)


def _duration(text: str | None, config: Config) -> timedelta | None:
    if text is None:
        return None
    if not config.schedule.when_green:
        raise UsageError("--duration without --when-green", hint="leave it out: nothing else asks how long it takes")
    return duration_of("--duration", text, "90m")


def _told(planner: Planner, store: Store) -> Iterator[Decision]:
    """What was decided since the last call, shown and as the run will keep it: it has no status while it is none."""
    if said := [*planner.judgements()]:
        store.write(said)
    for decision in planner.decisions():
        why = f"{decision.why}; {UNMETERED}" if decision.what == "wait" else decision.why
        kept = dataclasses.replace(decision, why=why, status=None)
        console.say(scheduling.in_words(kept))
        yield kept


def _leave(
    planner: Planner, store: Store, clock: Clock, *, command: str, deadline: str | None, tail: Sequence[str]
) -> None:
    """Say what starts the very same command again, and leave."""
    assert planner.hold is not None
    at = planner.hold.until or clock.now() + timedelta(hours=1)
    words = again(sys.argv[1:], command=command, deadline=deadline, tail=tail)
    store.check()
    console.say(scheduling.wake_lines(words, at, log=store.path.parent / "wake.log", by_hand=words))
    raise SystemExit(PAUSED)


def again(arguments: Sequence[str], *, command: str, deadline: str | None, tail: Sequence[str] = ()) -> list[str]:
    """The same command line with its deadline as a moment: one that counts from now would never come."""
    own = [*arguments[: len(arguments) - len(tail)]]
    if deadline is not None:
        own = without(own, ("--deadline",))
        place = own.index(command) + 1
        own[place:place] = ["--deadline", deadline]
    return [*own, *tail]
