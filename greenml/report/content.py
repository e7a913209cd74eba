"""What a report is made of: rows of the store's views, as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from greenml.report import rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenml.store import Store

    Row = dict[str, Any]

RUNS = f"""
    select
        leaderboard.*,
        runs.hardware,
        runs.versions,
        runs.command,
        runs.git_commit,
        runs.git_dirty
    from leaderboard
    join runs using (run_id)
    where {rows.OF_THESE}
    order by count(*) over (partition by leaderboard.contest) desc, contest, rank nulls last, started_at, run_id
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
        if(count(*) = count(joules), kwh(sum(joules)), null) as energy_kwh
    from phases
    where {rows.OF_THESE}
    group by run_id, name
    order by run_id, min((segment, seq))
"""
FACTORS = f"""
    select
        region_asked,
        region_used,
        intensity_level,
        intensity_g_per_kwh,
        intensity_year,
        pue,
        intensity_source,
        count(*) as num_runs
    from leaderboard
    where {rows.OF_THESE}
    group by all
    order by num_runs desc, intensity_g_per_kwh
"""
METERS = f"""
    with shown as materialized (select * from leaderboard where {rows.OF_THESE}),
    parts as (
        select 'CPU' as component, cpu_source as source, cpu_method as method, cpu_kwh as part_kwh from shown
        union all
        select 'GPU', gpu_source, gpu_method, gpu_kwh from shown
        union all
        select 'memory', ram_source, ram_method, ram_kwh from shown
    )
    select
        component,
        coalesce(source, 'unknown') as source,
        method,
        count(*) as num_runs,
        if(count(*) = count(part_kwh), sum(part_kwh), null) as energy_kwh
    from parts
    group by component, source, method
    order by component, num_runs desc, method
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Rows of the views named, of the runs that were asked for; unknown is None. Energy in kWh, CO2e in grams."""

    runs: list[Row]
    """`leaderboard`, with what `runs` knows beside it: the contest with most runs first, within it the best."""
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
    break_even: list[Row]
    """Of every swap: after how many trainings it has paid for all runs of its contest, also those not shown here."""
    factors: list[Row]
    """One row per grid intensity that grams were reckoned with."""
    meters: list[Row]
    """One row per component and way of knowing its energy."""
    totals: Row
    """One row over all these runs."""
    num_left_out: int
    """Runs that were asked for, and are too many for a page."""


def gather(db: Store, run_ids: Sequence[str], *, num_left_out: int = 0) -> Content:
    """Everything a report says of these runs; groups, swaps and savings where one of their runs is among them."""
    ids = [list(run_ids)]

    def view(name: str) -> list[Row]:
        return db.rows(rows.VIEWS[name], ids)

    return Content(
        runs=db.rows(RUNS, ids),
        groups=view("leaderboard_groups"),
        epochs=view("epochs"),
        phases=db.rows(PHASES, ids),
        front=view("pareto_front"),
        optimal=view("optimal_epoch"),
        marginal=view("marginal"),
        swaps=view("swaps"),
        savings=view("savings"),
        break_even=rows.break_even(db, run_ids),
        factors=db.rows(FACTORS, ids),
        meters=db.rows(METERS, ids),
        totals=rows.totals(db, run_ids),
        num_left_out=num_left_out,
    )
