"""One search from its first trial to its front: every record goes to the store and to the screen as it comes."""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from greenml import console
from greenml.cli import portrait, searchpast, searchresult
from greenml.cli.gate import Opened
from greenml.cli.jobs import INTERRUPTED, WRITE_EVERY_S, until_interrupted
from greenml.cli.searchscreen import SearchScreen
from greenml.errors import TrainingError, UsageError
from greenml.records import Artifact, Notice, Progress, Resume, Run, RunEnd, Stored, Study, Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from greenml.energy import Meter
    from greenml.records import Record
    from greenml.store import Store
    from greenml.sweep.crew import Seat
    from greenml.sweep.search import Files, Past, Plan


@dataclass(frozen=True, kw_only=True)
class Quest:
    """What is to be searched, and by whom."""

    plan: Plan
    past: Past | None = None
    workers: int | None = None
    """Trials at a time; None: one, or one a GPU, or as many as the cluster has."""
    cluster: str | None = None
    opened: Opened = field(default_factory=Opened)
    """What it was held up by before it began, and who may hold its trials back."""
    numbers: Iterator[int] = field(default_factory=itertools.count)
    """Counts its decisions."""
    look_around: Callable[[Plan, str], Plan] = lambda plan, _: plan
    """Completes the plan by what data and store say, given whose energy a trial counts (`machine`, `process`). It
    happens under the meter, as a part of the search."""


def carry_out(quest: Quest, store: Store, *, quiet: bool, json: bool) -> None:
    """Search, leave what the trials leave in their folders, print the front. The search's own folder is claimed.

    Raises TrainingError where nothing worked, UsageError where a budget was too small for a single epoch,
    SystemExit(130) where it was interrupted, and StoreError where rows still wait.
    """
    end, plan = _search(quest, store, quiet=quiet)
    if waiting := store.unstored():
        raise waiting
    [row] = store.rows("from sweeps where run_id = ?", [plan.run_id])
    if end.status == "failed":
        raise _nothing_works(store, plan)
    again = f"greenml sweep --resume {plan.run_id[:8]}"
    points = store.rows(searchresult.FRONT, [plan.run_id])
    if not row["num_complete"] and end.stop_reason in ("time-budget", "energy-budget", "carbon-budget"):
        raise UsageError(
            f"the {end.stop_reason.replace('-', ' ')} ended the search before one trial had a whole epoch; "
            f"{searchresult.took(row)}",
            hint=f"give more: {again} --{end.stop_reason} ...",
        )
    if json:
        console.print_json(points)
    else:
        searchresult.draw(store, row)
    if end.status == "interrupted":
        console.say(f"to go on from here: {again}")
        raise SystemExit(INTERRUPTED)


def _search(quest: Quest, store: Store, *, quiet: bool) -> tuple[RunEnd, Plan]:
    """Run it, storing and showing every record; how it ended."""
    from greenml.cli import watching
    from greenml.run import EPOCH_PHASES
    from greenml.sweep import crew, search

    plan, past = quest.plan, quest.past
    device = None if plan.base.device == "auto" else plan.base.device
    books = _Books(store)
    taken = past.taken if past else {}
    watch = watching.watch_of(
        plan.base, plan.intensity, store, epoch_phases=EPOCH_PHASES, taken=taken, numbers=quest.numbers
    )
    grams_of = watch.grams if watch else None
    with (
        until_interrupted(quiet=quiet) as (interrupted, begun),
        crew.open_seats(quest.workers, device=device, cluster=quest.cluster) as seats,
        _left_at_once(seats),
        books,
        search.open_meter(plan, seats, segment=past.segment if past else 0) as meter,
    ):
        scope = "process" if search.is_shared(seats) else plan.base.scope
        if scope != plan.base.scope:
            console.say("trials share a machine: of its energy each is given its share, by CPU time and memory")
        if past is not None:
            searchpast.refuse_scope(store, plan.run_id, scope)
        plan = quest.look_around(plan, scope)
        if plan.base.require_meter:
            meter.wait_until_ready()
            meter.require()
        end: RunEnd | None = None
        with SearchScreen(plan, quiet=quiet, past=past, grams_of=grams_of) as screen:
            screen.note(f"search {plan.run_id} · {plan.intensity.note}")
            planner = quest.opened.planner if quest.opened.planner and quest.opened.planner.may_pause else None
            life = search.Search(
                plan, seats, meter, past=past, interrupted=interrupted, grams_of=grams_of, planner=planner
            ).go()
            for record in watch.fill(life) if watch else life:
                books.keep(record)
                screen.show(record)
                if isinstance(record, Study):
                    begun()
                    for decision in quest.opened.decisions:
                        books.keep(decision)
                if isinstance(record, RunEnd) and record.run_id == plan.run_id:
                    end = record
                if isinstance(record, Run) and record.kind == "sweep":
                    _say_meter(screen, meter)
        assert end is not None
        return end, plan


def _say_meter(screen: SearchScreen, meter: Meter) -> None:
    if meter.unused_tdp:
        screen.note(f"not obeyed: {meter.unused_tdp}", always=True)
    if meter.deaf:
        screen.note(f"whether another run shared this machine is not known: {meter.deaf}")


@contextmanager
def _left_at_once(seats: Sequence[Seat]) -> Iterator[None]:
    """Where it is not the end of the search that ends it, no trial is waited for."""
    try:
        yield
    except BaseException:
        for seat in seats:
            seat.call_off()
        raise


class _Books:
    """Rows in batches, a claimed folder for each trial that lives, and in it the files that it leaves."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pending: list[Stored] = []
        self._written = time.monotonic()
        self._claims: dict[str, tuple[ExitStack, Path]] = {}
        self._has_begun = False

    def __enter__(self) -> _Books:
        return self

    def __exit__(self, *_: object) -> None:
        """Also where a second Ctrl-C, or a bug, ends it at once."""
        if self._pending and self._has_begun:
            self._write()
        for claim, _folder in self._claims.values():
            claim.close()

    def keep(self, record: Record | Files) -> None:
        """Whatever a search yields."""
        if isinstance(record, Progress | Notice):
            return
        if isinstance(record, Run) and record.kind == "trial":
            claim = ExitStack()
            self._claims[record.run_id] = claim, claim.enter_context(self._store.claim(record.run_id))
        if isinstance(record, Stored):
            self._has_begun = True
            self._pending.append(record)
            # What a search is taken up again from is stored at once; rows of short epochs travel together.
            weighty = isinstance(record, Run | Resume | RunEnd | Study | Trial)
            if weighty or time.monotonic() - self._written >= WRITE_EVERY_S:
                self._write()
        else:
            self._leave(record)

    def _leave(self, files: Files) -> None:
        """What a trial left into its folder, which then is nobody's; also where it has died."""
        if files.run_id not in self._claims:  # it failed before it was a run
            return
        claim, folder = self._claims.pop(files.run_id)
        with claim:
            try:
                for name, content in files.content.items():
                    (folder / name).write_bytes(content)
            except OSError as error:  # a full disk ends no search for want of a model
                console.say(f"{folder}: the files of this trial could not be written: {error.strerror}")
                return
            relative = folder.relative_to(self._store.path.parent)
            self._pending += [
                Artifact(run_id=files.run_id, name=name, path=(relative / name).as_posix(), num_bytes=len(content))
                for name, content in files.content.items()
            ]
            self._write()

    def _write(self) -> None:
        self._store.write(self._pending)
        self._pending, self._written = [], time.monotonic()


def _nothing_works(store: Store, plan: Plan) -> TrainingError:
    """Every trial failed: what the last one said."""
    rows = store.rows("from trials where sweep_id = ? and state = 'failed' order by number", [plan.run_id])
    why = portrait.one_line(rows[-1]["reason"]) if rows else "nobody knows why"
    return TrainingError(
        f"every trial failed ({len(rows)} of {plan.num_trials}), the last one: {why}",
        hint=f"`greenml sweep show {plan.run_id[:8]}` shows them; try one by `greenml train`",
        stop_reason="failures",
    )
