-- One row per epoch of a run: what it cost for every percentage point of validation accuracy that it gained over the best
-- so far; before the first epoch that is what guessing would score, or nothing where nobody knows it. Not of a compressed
-- run, which began with what its parent had learned.
create or replace view marginal as
with climbs as (
    select
        run_key,
        epoch,
        val_accuracy,
        energy_j,
        g_per_kwh,
        max(val_accuracy) over (
            partition by run_key order by epoch rows between unbounded preceding and 1 preceding
        ) as best_before
    from all_epochs
    where val_accuracy is not null
),
gains as (
    select
        runs.run_id,
        climbs.epoch,
        climbs.val_accuracy,
        -- greatest() skips nulls. Who trained without a joule was not metered.
        100 * greatest(
            climbs.val_accuracy - greatest(climbs.best_before, guessing(runs.num_classes, runs.majority_share), 0), 0
        ) as points,
        kwh(nullif(climbs.energy_j, 0)) as used_kwh,
        runs.pue * coalesce(climbs.g_per_kwh, runs.intensity_g_per_kwh) as site_g_per_kwh
    from climbs
    join runs using (run_key)
    where runs.kind <> 'compress'
)
select
    run_id,
    epoch,
    val_accuracy as accuracy,
    points as gained_points,
    -- An epoch that gained nothing has no price per point: null, and not infinite.
    1000 * used_kwh / nullif(points, 0) as wh_per_point,
    used_kwh * site_g_per_kwh / nullif(points, 0) as g_per_point
from gains;
