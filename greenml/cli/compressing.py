"""One compression from its parent to its ledger, or a series of them: every record goes to the store and the screen."""

from __future__ import annotations

import json as codec
import sys
from functools import reduce
from typing import TYPE_CHECKING

from greenml import console
from greenml.cli import jobs, ledger, portrait
from greenml.cli.repeating import watched, without
from greenml.cli.screen import Notes
from greenml.compress.plan import SPARSE, unmeant
from greenml.records import Epoch, Notice, Phase, Progress, Run, RunEnd
from greenml.tally import Tally
from greenml.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from greenml.compress.plan import Parent, Plan
    from greenml.energy import Meter
    from greenml.records import Record
    from greenml.store import Store

BREAK_EVEN = """
    select
        break_even.* exclude (run_key),
        own.backend,
        own.precision,
        own.device,
        own.num_threads,
        own.memory_bytes,
        own.num_parameters,
        own.flops_per_sample,
        own.latency_p50_s,
        own.latency_p95_s,
        own.throughput,
        own.energy_low_j_per_1000,
        own.energy_high_j_per_1000,
        own.co2_g_per_1000,
        own.co2_low_g_per_1000,
        own.co2_high_g_per_1000,
        own.cpu_s_per_1000
    from break_even
    join inference as own
        on own.run_key = break_even.run_key
        and own.name = 'after'
        and own.batch_size = break_even.batch_size
    where list_contains(?, break_even.run_id)
    order by break_even.run_key, break_even.batch_size desc, baseline <> 'before', baseline
"""
STAGES = ("compress", "calibrate", "export")
"""Phases that are told of when they are over; others show as epochs and on the bar."""
OWN_FLAGS = ("--method", "--sparsity")
"""What the members of a series differ in, ..."""
SWITCHES = ("--json", "--all")
"""... and what only the series as a whole is asked for."""


class CompressScreen(Notes):
    """What a compression says while it lives."""

    def __init__(self, folder: Path, plan: Plan, *, quiet: bool) -> None:
        super().__init__(folder, quiet=quiet)
        self._plan = plan
        self._stage: list[Phase] = []

    def show(self, record: Record) -> None:
        """Whatever a compression yields."""
        match record:
            case Notice():
                self.note(record.text, always=True)
            case Run():
                self._has_begun = True
                self.note(
                    f"{record.method} of {self._plan.parent.row['model']} {record.parent} on {record.dataset}, "
                    f"{record.device}"
                )
            case Epoch():
                self.note(
                    f"epoch {record.epoch}  val {console.percentage(record.val_accuracy)} %  "
                    f"loss {record.val_loss:.3f}  {format_duration(record.duration_s)}"
                )
            case Phase():
                if self._stage and self._stage[0].name != record.name:
                    self._tell_stage()
                self._stage.append(record)
            case RunEnd():
                self._tell_stage()
            case Progress():
                watts = "" if record.watts is None else f"  {record.watts:.0f} W"
                title = f"epoch {record.epoch} {record.what}" if record.epoch else record.what
                self.move(record, title, f"{record.done:,} of {record.total:,}{watts}")
            case _:
                pass

    def _tell_stage(self) -> None:
        """What a stage took: a long one is several phases, each as long as a heartbeat of the meter."""
        stage, self._stage = self._stage, []
        if stage and stage[0].name in STAGES:
            seconds = (stage[-1].ended_at - stage[0].started_at).total_seconds()
            spent = reduce(Tally.plus, stage, Tally())
            self.note(f"{stage[0].name}  {format_duration(seconds)}  {portrait.marked(spent.joules, spent.source)}")


def carry_out(plan: Plan, run_id: str, store: Store, folder: Path, *, quiet: bool) -> None:
    """Compress, and leave the run's files in its claimed `folder`.

    Raises what ended the run, SystemExit(130) where that was an interruption, and StoreError where rows still wait.
    """

    def life(meter: Meter, halted: jobs.Halted) -> Iterator[Record]:
        from greenml.compress.life import compress

        return compress(plan, meter, run_id=run_id, folder=folder, halted=halted)

    with CompressScreen(folder, plan, quiet=quiet) as screen:
        screen.note(f"run {run_id} · {plan.intensity.note}")
        status, error = jobs.under_meter(life, run_id, plan.base, store, screen, quiet=quiet)
        if waiting := store.unstored():
            raise error or waiting
        jobs.leave_behind(store, run_id, folder, screen)
    if error:
        raise error
    if status == "interrupted":
        console.say("nothing of it is kept for another try: start it again")
        raise SystemExit(jobs.INTERRUPTED)


def rows(store: Store, run_ids: list[str], per_day: float | None) -> list[dict[str, object]]:
    """What these compressions saved: a row for each model that they are held against, and batch size."""
    return [ledger.with_lifetime(row, per_day) for row in store.rows(BREAK_EVEN, [run_ids])]


def show(store: Store, run_id: str, folder: Path, *, per_day: float | None) -> None:
    """What a compression came to."""
    ledger.show(store, run_id, per_day=per_day)
    console.out().print(console.facts([("run", run_id), ("files", f"{folder}/")]))


def series(store: Store, parent: Parent, plans: list[Plan], *, json: bool, per_day: float | None) -> None:
    """One compression after the other, a process each, and a table of all that worked.

    A process each: the first of a process also loads the libraries, and would cost more than the others. One that does
    not apply says why, and the others go on; Ctrl-C ends the series.
    """
    run_ids: list[str] = []
    codes: list[int] = []
    name, *rest = sys.argv[1:]
    for number, plan in enumerate(plans, start=1):
        console.say(f"{number} of {len(plans)}: {plan.words}")
        own = ["--method", ",".join(plan.methods), "--json"]
        own += ["--sparsity", str(plan.sparsity)] if set(plan.methods) & set(SPARSE) else []
        others = [f"--{key}" for key in unmeant(plan.methods)] + ["--export"] * (not plan.exports)
        arguments = [word for word in without(rest, (*OWN_FLAGS, *others)) if word not in SWITCHES]
        code, printed = watched([sys.executable, "-m", "greenml", name, *arguments, *own])
        run_ids += dict.fromkeys(row["run_id"] for row in codec.loads(printed or "[]"))
        if code == jobs.INTERRUPTED:
            raise SystemExit(code)
        codes.append(code)
    if not run_ids:
        raise SystemExit(max(codes))
    if json:
        console.print_json(rows(store, run_ids, per_day))
    else:
        ledger.compare(store, parent.run_id, run_ids, per_day=per_day)
