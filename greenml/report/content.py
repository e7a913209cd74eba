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
        if(count(*) = count(joules), kwh(sum(joules)), null) as energy_kwh,
        max(source) as worst_source
    from phases
    {OF_THESE}
    group by run_id, name
    order by run_id, min((segment, seq))
"""
TOTALS = f"""
    select
        count(*) as num_runs,
        count(distinct contest) as num_contests,
        count(*) filter (energy_kwh is null) as num_unknown,
        count(*) filter (overlap_s > 0) as num_overlapping,
        if(count(*) = count(energy_kwh), sum(energy_kwh), null) as energy_kwh,
        sum(known_kwh) as known_kwh,
        if(count(*) = count(co2_g), sum(co2_g), null) as co2_g,
        -- What is known of the energy, each run at its own place.
        sum(known_kwh * pue * intensity_g_per_kwh) as known_co2_g,
        sum(duration_s) as duration_s,
        max(source) as source,
        min(started_at) as first_started_at,
        max(coalesce(ended_at, started_at)) as last_ended_at
    from leaderboard
    {OF_THESE}
"""
# What all runs of a contest took while it was found out is paid; every later training with the one and not the other
# pays some of it back.
BREAK_EVEN = """
    with tried as (
        select
            contest,
            count(*) as num_tried,
            -- sum() skips nulls, and a sum over a gap is not a total.
            if(count(*) = count(energy_kwh), sum(energy_kwh), null) as tried_kwh,
            sum(known_kwh) as known_tried_kwh
        from leaderboard
        where run_id in (select unnest($1))
        group by contest
    )
    select
        swaps.contest,
        swaps.dataset,
        swaps.use_model,
        swaps.use_precision,
        swaps.use_epochs,
        swaps.model,
        swaps.precision,
        swaps.epochs,
        swaps.use_run_ids,
        swaps.run_ids,
        tried.num_tried,
        tried.tried_kwh,
        tried.known_tried_kwh,
        swaps.energy_kwh - swaps.use_energy_kwh as saved_kwh,
        tried.known_tried_kwh / (swaps.energy_kwh - swaps.use_energy_kwh) as num_trainings,
        swaps.source
    from swaps
    join tried using (contest)
    where list_has_any(run_ids || use_run_ids, $1)
    order by num_trainings nulls last, swaps.recipe_key
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
    {OF_THESE}
    group by all
    order by num_runs desc, intensity_g_per_kwh
"""
METERS = f"""
    with shown as materialized (select * from leaderboard {OF_THESE}),
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
    """Of every swap: after how many trainings it has paid for all runs of its contest."""
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
        break_even=db.rows(BREAK_EVEN, [ids]),
        factors=db.rows(FACTORS, [ids]),
        meters=db.rows(METERS, [ids]),
        totals=next(iter(db.rows(TOTALS, [ids])), {}),
        num_left_out=num_left_out,
    )
