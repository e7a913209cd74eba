-- One row per sweep with a front: the point to take, which is the cheapest within a point of the most accurate.
create or replace view sweep_choice as
with tops as (
    select sweep_id, max(accuracy) as most
    from sweep_front
    group by sweep_id
)
select
    sweep_front.sweep_id,
    arg_min(sweep_front.number, sweep_front.co2_g) as number,
    arg_min(sweep_front.run_id, sweep_front.co2_g) as run_id,
    arg_min(sweep_front.epochs, sweep_front.co2_g) as epochs
from sweep_front
join tops using (sweep_id)
-- The billionth: in binary, a point of difference on paper is a little more.
where sweep_front.accuracy >= tops.most - 0.01 - 1e-9
group by sweep_front.sweep_id;

-- One row per sweep with a baseline, which is the first complete trial that the space names (`enqueue`): the cheapest
-- point of the front that is at least as accurate as the best epoch of the baseline, and after how many such trainings what it saves
-- has paid for the search. The same config once more is no saving, but luck. Null where it saves nothing, or where the
-- energy of the search is not known.
create or replace view sweep_savings as
with named as (
    select runs.run_id as sweep_id, min(trial_rows.number) as number
    from trial_rows
    join runs using (run_key)
    where trial_rows.state = 'complete' and trial_rows.origin is null
        and trial_rows.attrs ->> '$.fixed_params' is not null
    group by runs.run_id
),
base as (
    select
        sweep_points.sweep_id,
        any_value(sweep_points.number) as base_number,
        any_value(sweep_points.run_id) as base_id,
        any_value(sweep_points.model) as base_model,
        any_value(sweep_points.precision) as base_precision,
        max(sweep_points.accuracy) as best,
        arg_max(sweep_points.epoch, (sweep_points.accuracy, -sweep_points.epoch)) as best_epoch,
        arg_max(sweep_points.energy_kwh, (sweep_points.accuracy, -sweep_points.epoch)) as best_kwh
    from sweep_points
    join named using (sweep_id, number)
    group by sweep_points.sweep_id
),
found as (
    select
        base.sweep_id,
        arg_min(sweep_front.number, sweep_front.co2_g) as found_number,
        arg_min(sweep_front.run_id, sweep_front.co2_g) as found_id,
        arg_min(sweep_front.epochs, sweep_front.co2_g) as found_epochs,
        arg_min(sweep_front.accuracy, sweep_front.co2_g) as found_accuracy,
        arg_min(sweep_front.energy_kwh, sweep_front.co2_g) as found_kwh
    from base
    join runs as base_runs on base_runs.run_id = base.base_id
    join sweep_front on sweep_front.sweep_id = base.sweep_id and sweep_front.accuracy >= base.best
    join runs on runs.run_id = sweep_front.run_id
    where coalesce(runs.group_hash, runs.run_id) <> coalesce(base_runs.group_hash, base_runs.run_id)
    group by base.sweep_id
)
select
    base.sweep_id,
    base.base_number,
    base.base_id as base_run_id,
    base.base_model,
    base.base_precision,
    base.best_epoch as base_epochs,
    base.best as base_accuracy,
    base.best_kwh as base_energy_kwh,
    found.found_number as number,
    found.found_id as run_id,
    found.found_epochs as epochs,
    found.found_accuracy as accuracy,
    found.found_kwh as energy_kwh,
    base.best_kwh - found.found_kwh as saved_kwh,
    sweeps.energy_kwh as search_kwh,
    if(base.best_kwh > found.found_kwh, ceil(sweeps.energy_kwh / (base.best_kwh - found.found_kwh)), null)::bigint
        as num_trainings
from base
left join found using (sweep_id)
join sweeps on sweeps.run_id = base.sweep_id;
