"""What a report is made of: rows of the store's views, as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenml.store import Store

    Row = dict[str, Any]

OF_THESE = "where run_id in (select unnest(?))"
RUNS = f"""
    select
        leaderboard.*,
        runs.num_classes,
        runs.num_train,
        runs.num_val,
        runs.num_test,
        runs.image_size,
        runs.num_parameters,
        runs.flops_per_sample,
        runs.config,
        runs.hardware,
        runs.meter,
        runs.versions,
        runs.intensity_note,
        runs.command,
        runs.git_commit,
        runs.git_dirty
    from leaderboard
    join runs using (run_id)
    {OF_THESE}
    order by contest, rank nulls last, started_at, run_id
"""
PHASES = f"""
    select
        run_id,
        name,
        sum(epoch_us(ended_at) - epoch_us(started_at)) / 1e6 as duration_s,
        -- sum() skips nulls, and a sum over a gap is not a total.
        if(count(*) = count(cpu_j), kwh(sum(cpu_j)), null) as cpu_kwh,
        if(count(*) = count(gpu_j), kwh(sum(gpu_j)), null) as gpu_kwh,
        if(count(*) = count(ram_j), kwh(sum(ram_j)), null) as ram_kwh,
        if(count(*) = count(joules), kwh(sum(joules)), null) as energy_kwh,
        max(source) as worst_source
    from phases
    {OF_THESE}
    group by run_id, name
    order by run_id, min((segment, seq))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Rows of the views named, of the runs that were asked for; unknown is None. Energy in kWh, CO2e in grams."""

    runs: list[Row]
    """`leaderboard`, with what `runs` knows beside it, best first within a contest."""
    groups: list[Row]
    """`leaderboard_groups`."""
    epochs: list[Row]
    phases: list[Row]
    """One row per run and name of a phase."""
    front: list[Row]
    """`pareto_front`."""
    optimal: list[Row]
    """`optimal_epoch`."""
    marginal: list[Row]
    swaps: list[Row]
    savings: list[Row]
    num_left_out: int
    """Runs that were asked for, and are too many for a page."""


def gather(db: Store, run_ids: Sequence[str], *, num_left_out: int = 0) -> Content:
    """Everything a report says of these runs; groups, swaps and savings where one of their runs is among them."""
    ids = list(run_ids)
    epochs = f"select * exclude (run_key) from epochs {OF_THESE} order by run_id, epoch"
    return Content(
        runs=db.rows(RUNS, [ids]),
        groups=db.rows(
            "from leaderboard_groups where list_has_any(run_ids, ?) order by contest, rank nulls last", [ids]
        ),
        epochs=db.rows(epochs, [ids]),
        phases=db.rows(PHASES, [ids]),
        front=db.rows(f"select * exclude (run_key) from pareto_front {OF_THESE} order by contest, energy_kwh", [ids]),
        optimal=db.rows(f"from optimal_epoch {OF_THESE} order by run_id", [ids]),
        marginal=db.rows(f"from marginal {OF_THESE} order by run_id, epoch", [ids]),
        swaps=db.rows("from swaps where list_has_any(run_ids, ?) order by contest, energy_ratio", [ids]),
        savings=db.rows("from savings where list_has_any(from_run_ids || to_run_ids, ?) order by contest, key", [ids]),
        num_left_out=num_left_out,
    )
