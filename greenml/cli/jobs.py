"""One run from its first batch to its files: every record goes to the store and to the screen as it comes."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from greenml import console, trackers
from greenml.cli import afterwards, log, policing, portrait, scheduling
from greenml.cli.forecasts import Outlook
from greenml.cli.screen import Notes, Screen
from greenml.errors import GreenMLError, MeterError
from greenml.records import Artifact, Decision, Notice, Phase, Progress, Resume, Run, RunEnd
from greenml.units import JOULES_PER_KWH, format_energy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from greenml.config import Config
    from greenml.energy import Meter
    from greenml.grid.planner import Clock
    from greenml.grid.watch import Watch
    from greenml.records import Intensity, Record, Stored
    from greenml.run import Past
    from greenml.store import Store
    from greenml.trackers import Following

    Halted = Callable[[], str | None]

INTERRUPTED = 130
PAUSED = 75

WRITE_EVERY_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be trained, and under which name it is kept."""

    run_id: str
    config: Config
    intensity: Intensity
    past: Past | None = None
    """Of a run that is taken up again, ..."""
    past_g_per_kwh: float | None = None
    """... with the mean intensity of what it has taken; None where that is the factor of `intensity`."""
    clock: Clock | None = None
    """By which waiting goes; None: the world's."""

    @property
    def segment(self) -> int:
        """Of the process life that trains."""
        return self.past.segment if self.past else 0


def carry_out(job: Job, store: Store, folder: Path, *, quiet: bool, json: bool, goes_on: bool = False) -> None:
    """Train, leave the run's files in its claimed `folder`, print what it came to; as JSON only where nothing `goes_on`
    with the run, whose array would be a second one.

    Raises PolicyError where it may not begin, what ended the run, SystemExit(130) where that was an interruption, and
    StoreError where rows still wait.
    """
    outlook = Outlook(store, job.config, job.intensity, job.run_id, resumed=job.past is not None)
    numbers = itertools.count()
    watch = _watch(job, store, numbers)
    grams_of = watch.grams if watch else None
    screen = Screen(folder, job.config.epochs, job.intensity, outlook, quiet=quiet, grams_of=grams_of)
    before = log.stored(store, job.run_id) if job.past and job.config.log else []
    with trackers.Following(
        job.config.log, lambda text, matters: screen.note(text, always=matters), before
    ) as following:
        with screen:
            status, error = _train(job, store, folder, screen, outlook, following, watch, numbers, quiet=quiet)
            if waiting := store.unstored():
                following.show(trackers.Ending(run_id=job.run_id, status=status, ended_at=None, summary=None, files=[]))
                if error:
                    screen.note(f"{waiting}\n{waiting.hint}", always=True)
                raise error or waiting
            if status == "done":
                _tell_what_it_saved(job, store, numbers, screen)
            known = leave_behind(store, job.run_id, folder, screen)
            following.show(log.ending(known, folder))
            if status == "interrupted":
                screen.note(f"to go on from here: greenml train --resume {job.run_id[:8]}", always=True)
            if status == "paused":
                screen.note(scheduling.leave_wakes(store, job.run_id, folder), always=True)
                raise SystemExit(PAUSED)
        if error:
            raise error
        if json and not goes_on:
            console.print_json(store.rows("from leaderboard where run_id = ?", [job.run_id]))
        elif not json:
            console.out().print(
                console.facts([("run", job.run_id), *portrait.headline(known), ("files", f"{folder}/")])
            )
        # Of repeats, the last one is followed by a line for all (greenml.cli.repeating).
        if not quiet and trackers.SERIES not in os.environ:
            afterwards.say_advice(store, known["contest"])
    if status == "interrupted":
        raise SystemExit(INTERRUPTED)


def _tell_what_it_saved(job: Job, store: Store, numbers: Iterator[int], screen: Screen) -> None:
    try:
        saved = scheduling.what_it_saved(job, store, numbers)
    except GreenMLError as error:  # a trace that is gone: what was trained is none the less
        screen.note(f"what standing still has saved is not known: {error}")
        return
    if saved:
        screen.show(saved)
        store.write([saved])


def _watch(job: Job, store: Store, numbers: Iterator[int]) -> Watch | None:
    """Who tells its phases what the grid emitted meanwhile; None where one factor counts."""
    from greenml.cli import watching
    from greenml.run import EPOCH_PHASES

    taken = {job.run_id: (job.past.known_j, job.past_g_per_kwh)} if job.past else {}
    return watching.watch_of(job.config, job.intensity, store, epoch_phases=EPOCH_PHASES, taken=taken, numbers=numbers)


def _train(
    job: Job,
    store: Store,
    folder: Path,
    screen: Screen,
    outlook: Outlook,
    following: Following,
    watch: Watch | None,
    numbers: Iterator[int],
    *,
    quiet: bool,
) -> tuple[str, GreenMLError | None]:
    """Run it, storing and showing every record; the status it ended with, and the error of a run that failed."""
    from greenml import run

    planner = scheduling.planner_of(job, store, outlook, numbers)
    if planner and planner.policy:
        policing.admit(planner, store)

    def life(meter: Meter, halted: Halted) -> Iterator[Record]:
        records = run.train(
            job.config,
            meter,
            job.intensity,
            run_id=job.run_id,
            folder=folder,
            past=job.past,
            halted=halted,
            planner=planner,
            grams_of=watch.grams if watch else None,
        )
        for record in map(outlook.hear, watch.fill(records) if watch else records):
            following.show(record)
            yield record

    screen.note(f"run {job.run_id} · {job.intensity.note}")
    if planner and planner.policy:
        screen.note(policing.in_words(planner.policy))
    return under_meter(life, job.run_id, job.config, store, screen, segment=job.segment, quiet=quiet)


def under_meter(
    life: Callable[[Meter, Halted], Iterator[Record]],
    run_id: str,
    config: Config,
    store: Store,
    notes: Notes,
    *,
    segment: int = 0,
    quiet: bool,
) -> tuple[str, GreenMLError | None]:
    """Live it under the meter that `config` asks for, storing and showing every record; the status it ended with, and
    the error of a run that failed. Raises what ended it before there was a run."""
    from greenml import energy
    from greenml.energy import survey

    settings = energy.Settings.of(config, idle=store.idle(survey.machine))
    metering = energy.open_meter(run_id, segment=segment, settings=settings)
    if ignored := energy.ignored_settings():
        notes.note(ignored, always=True)
    pending: list[Stored] = []
    status, written = "", time.monotonic()
    with until_interrupted(quiet=quiet) as (interrupted, begun), metering as meter:
        try:
            for record in life(meter, lambda: "interrupted" if interrupted() else None):
                notes.show(record)
                if not isinstance(record, Progress | Notice):
                    pending.append(record)
                weighty = isinstance(record, Run | Resume | RunEnd | Decision) or (
                    isinstance(record, Phase) and record.seq == 0
                )
                # An epoch of digits takes 0.2 s and a write 30 ms: rows of short epochs travel together.
                if pending and (weighty or time.monotonic() - written >= WRITE_EVERY_S):
                    store.write(pending)
                    pending, written = [], time.monotonic()
                if isinstance(record, Run | Resume) and meter.unused_tdp:
                    notes.note(f"not obeyed: {meter.unused_tdp}", always=True)
                if weighty:
                    begun()
                    status = record.status if isinstance(record, RunEnd) else status or "running"
        except GreenMLError as error:
            if not status:  # before there was a run to speak of
                raise
            return status, error
        finally:  # also where a second Ctrl-C, or a bug, ends it at once
            if pending and status:
                store.write(pending)
        if meter.trouble:
            notes.note(f"the meter lost something: {meter.trouble}; what it missed is unknown")
        if meter.deaf:
            notes.note(f"whether another run shared this machine is not known: {meter.deaf}")
        return status, _missed(meter) if config.require_meter else None


def _missed(meter: Meter) -> MeterError | None:
    """What --require-meter says of a run that is over, and of which not everything is known."""
    try:
        meter.require()
    except MeterError as error:
        return error
    return None


@contextmanager
def until_interrupted(*, quiet: bool) -> Iterator[tuple[Callable[[], bool], Callable[[], None]]]:
    """Ctrl-C and SIGTERM end the run after the step in hand, a second one at once.

    Gives what a run asks after every step, and what to call once there is a run: before that, the first one counts.
    """
    asked, has_begun = threading.Event(), threading.Event()

    def handle(number: int, frame: object) -> None:  # noqa: ARG001
        if asked.is_set() or not has_begun.is_set():
            raise KeyboardInterrupt
        asked.set()
        if not quiet:  # past Python's buffers, in whose midst the signal may have come
            os.write(2, b"\nstopping after this step; once more to stop at once\n")

    with handled(handle):
        yield asked.is_set, has_begun.set


@contextmanager
def handled(handle: Callable[[int, object], None]) -> Iterator[None]:
    """What asks a process to end goes to `handle`; SIGBREAK is Ctrl-Break on Windows."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_behind(store: Store, run_id: str, folder: Path, notes: Notes) -> dict[str, Any]:
    """The files of a run that is over, and the board beside the store; what is known of it. What could not be written
    is noted."""
    known = portrait.everything(store, run_id)
    try:
        trouble = _leave_files(store, known, folder)
    except OSError as what:
        trouble = f"not all files of this run could be written: {what}"
    for missing in filter(None, [trouble, afterwards.leave_board(store)]):
        notes.note(missing, always=True)
    return known


def _leave_files(store: Store, known: dict[str, Any], folder: Path) -> str | None:
    """Epochs, summary and curves out of what is known of the run, and the list of all files into the store.

    What could not be made is said in words: a training that is over does not fail for want of a picture.
    """
    from greenml import exchange

    epochs = known["epoch_rows"]
    exchange.write_csv(folder / "epochs.csv", epochs)
    exchange.write_json(folder / "epochs.json", console.plain(epochs))
    summary = {key: value for key, value in known.items() if key != "artifacts"}  # the files are only being made
    exchange.write_json(folder / "summary.json", console.plain(summary))
    untrained = known["kind"] == "compress"  # not everything is fine-tuned
    trouble = None if epochs or untrained else "no epoch was finished: no curves"
    if epochs:
        try:
            _draw_curves(folder / "curves.png", known)
        except (ImportError, ValueError) as error:  # Altair says by ValueError that vl-convert is missing
            trouble = f"no curves were drawn: {error}"
    files = sorted(file for file in folder.iterdir() if file.name != "lock")
    relative = folder.relative_to(store.path.parent)
    store.write(
        Artifact(
            run_id=known["run_id"],
            name=file.name,
            path=(relative / file.name).as_posix(),
            num_bytes=file.stat().st_size,
        )
        for file in files
    )
    return trouble


def _draw_curves(path: Path, run: dict[str, Any]) -> None:
    from greenml import plots

    accuracy = "" if run["accuracy"] is None else f"{console.percentage(run['accuracy'])} % test accuracy, "
    energy = (
        "energy unknown"
        if run["energy_kwh"] is None
        else f"{format_energy(run['energy_kwh'] * JOULES_PER_KWH)} ({run['source']})"
    )
    chart = plots.curves(
        run["epoch_rows"],
        title=f"{run['model']} on {run['dataset']}",
        subtitle=f"{accuracy}{energy}, {run['precision']} on {run['device']}, run {run['run_id']}",
        best_epoch=run["best_epoch"],
    )
    plots.save_png(chart, path)
