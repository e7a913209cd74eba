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
    where {rows.OF_THESE} and leaderboard.kind <> 'sweep'
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
    -- What runs took themselves: what a compressed model inherited stands with its parent.
    with shown as materialized (
        select
            leaderboard.* replace (
                kwh(run_totals.cpu_j) as cpu_kwh,
                kwh(run_totals.gpu_j) as gpu_kwh,
                kwh(run_totals.ram_j) as ram_kwh,
                run_totals.cpu_source as cpu_source,
                run_totals.gpu_source as gpu_source,
                run_totals.ram_source as ram_source
            )
        from leaderboard
        left join run_totals using (run_id)
        where {rows.OF_THESE}
    ),
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
# The front as it was when the sweep had taken a quarter of its energy, half, three quarters, and all.
FRONTS = f"""
    with quarters as (
        select sweep_id, quarter, max(step) filter (known_kwh <= quarter * last_kwh * (1 + 1e-9)) as step
        from (
            select *, max(known_kwh) over (partition by sweep_id) as last_kwh
            from sweep_moments
            where {rows.OF_TRIALS}
        )
        cross join (select unnest([0.25, 0.5, 0.75, 1.0])::double as quarter)
        group by sweep_id, quarter
    )
    select quarters.quarter, sweep_fronts.*
    from sweep_fronts
    join quarters using (sweep_id, step)
    order by sweep_id, quarter, co2_g
"""
TRIALS = f"""
    with lasts as (
        select sweep_id, number, arg_max(co2_g, epoch) as last_co2_g
        from sweep_points
        where {rows.OF_TRIALS}
        group by sweep_id, number
    )
    select trials.*, runs.config, lasts.last_co2_g
    from trials
    left join lasts using (sweep_id, number)
    left join runs using (run_id)
    where {rows.OF_TRIALS}
    order by sweep_id, number
"""
# What both models of a pair are, and how they answered, beside what the view says of them.
COMPRESSED = f"""
    with shown as materialized (
        select * from break_even where {rows.OF_THESE}
    ),
    answered as materialized (
        select * from inference where {rows.OF_THESE}
    )
    select
        shown.* exclude (run_key),
        -- A lifetime.
        shown.train_kwh + shown.compress_kwh + kwh(1000 * shown.after_j_per_1000) as million_kwh,
        parents.model as parent_model,
        after.backend as after_backend,
        after.precision as after_precision,
        after.flops_per_sample as after_flops,
        after.energy_low_j_per_1000 as after_low_j_per_1000,
        after.energy_high_j_per_1000 as after_high_j_per_1000,
        before.backend as before_backend,
        before.precision as before_precision,
        before.flops_per_sample as before_flops,
        before.energy_low_j_per_1000 as before_low_j_per_1000,
        before.energy_high_j_per_1000 as before_high_j_per_1000
    from shown
    join runs using (run_key)
    join answered as after
        on after.run_key = shown.run_key and after.name = 'after' and after.batch_size = shown.batch_size
    join answered as before
        on before.run_key = shown.run_key and before.name = shown.baseline and before.batch_size = shown.batch_size
    left join run_rows as parents on parents.run_id = shown.parent
    order by
        shown.parent,
        shown.baseline <> 'before',
        shown.baseline,
        shown.batch_size desc,
        runs.started_at,
        shown.run_id
"""
# Of every compressed model its own row, and of its parent, in each runtime, what the newest session that measured it
# says; in batches of the largest size, with what one prediction at a time took beside it.
SERVED = f"""
    with answered as materialized (
        select * from inference where {rows.OF_THESE}
    ),
    singles as (
        select run_key, name, latency_p50_s as single_p50_s
        from answered
        where batch_size = 1
    ),
    largest as (
        select *
        from answered
        qualify batch_size = max(batch_size) over (partition by run_key)
    ),
    placed as (
        select
            largest.*,
            runs.parent,
            runs.method,
            runs.started_at,
            row_number() over (
                partition by runs.parent, largest.name order by runs.started_at desc, runs.run_id
            ) as age
        from largest
        join runs using (run_key)
        where runs.kind = 'compress'
    )
    select
        placed.* exclude (run_key, age, started_at),
        parents.model as parent_model,
        models.model,
        singles.single_p50_s
    from placed
    left join singles using (run_key, name)
    left join run_rows as parents on parents.run_id = placed.parent
    left join run_rows as models on models.run_id = placed.model_run
    where placed.role = 'after' or placed.age = 1
    order by
        placed.parent,
        array_position(['before', 'peer', 'after'], placed.role),
        if(placed.role = 'after', placed.started_at, null),
        placed.name,
        placed.run_id
"""
# Of compressed models alone: what their parents took is drawn as one.
COMPRESS_PHASES = f"""
    select
        run_id,
        name,
        if(count(*) = count(joules), kwh(sum(joules)), null) as energy_kwh
    from phases
    where {rows.OF_THESE} and run_id in (select run_id from runs where kind = 'compress')
    group by run_id, name
    order by run_id, min((segment, seq))
"""
DECISIONS = f"select * exclude (run_key) from decisions where {rows.OF_THESE} order by decided_at, run_id, segment, seq"
SWEEPS = f"from sweeps where {rows.OF_SWEEPS} order by started_at desc, run_id"
POINTS = f"select * exclude (params) from sweep_points where {rows.OF_TRIALS} order by sweep_id, number, epoch"


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
    decisions: list[Row]
    """For the sake of the grid, in their order."""
    meters: list[Row]
    """One row per component and way of knowing its energy."""
    totals: Row
    """One row over all these runs."""
    sweeps: list[Row]
    """`sweeps` that have one of these runs among their trials, the newest first, and all of what each found."""
    trials: list[Row]
    """`trials`, with the config that each was trained with and the grams at its last epoch."""
    sweep_front: list[Row]
    sweep_points: list[Row]
    sweep_fronts: list[Row]
    """`sweep_fronts` after each `quarter` of a sweep's energy."""
    sweep_progress: list[Row]
    sweep_importance: list[Row]
    compressed: list[Row]
    """`break_even`, with what `inference` knows of both models (`before_`, `after_`) and the parent's model."""
    served: list[Row]
    """`inference` of the compressed models and of their parents, at the largest batch, with the latency at one."""
    compress_phases: list[Row]
    """One row per compressed run and name of a phase."""
    num_left_out: int
    """Runs that were asked for, and are too many for a page."""


def gather(db: Store, run_ids: Sequence[str], *, num_left_out: int = 0) -> Content:
    """Everything a report says of these runs; groups, swaps and savings where one of their runs is among them."""
    ids = [list(run_ids)]

    def view(name: str) -> list[Row]:
        return db.rows(rows.VIEWS[name], ids)

    sweeps = db.rows(SWEEPS, ids)

    def of_sweeps(sql: str) -> list[Row]:
        return db.rows(sql, ids) if sweeps else []

    has_compressed = rows.has_compressed(db, run_ids)

    def of_compression(sql: str) -> list[Row]:
        return db.rows(sql, ids) if has_compressed else []

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
        decisions=db.rows(DECISIONS, ids),
        meters=db.rows(METERS, ids),
        totals=rows.totals(db, run_ids),
        sweeps=sweeps,
        trials=of_sweeps(TRIALS),
        sweep_front=of_sweeps(rows.VIEWS["sweep_front"]),
        sweep_points=of_sweeps(POINTS),
        sweep_fronts=of_sweeps(FRONTS),
        sweep_progress=of_sweeps(rows.VIEWS["sweep_progress"]),
        sweep_importance=of_sweeps(rows.VIEWS["sweep_importance"]),
        compressed=of_compression(COMPRESSED),
        served=of_compression(SERVED),
        compress_phases=of_compression(COMPRESS_PHASES),
        num_left_out=num_left_out,
    )
