-- One row per epoch of a run: what it cost for every percentage point of validation accuracy that it gained over the best
-- so far; before the first epoch that is what guessing would score, or nothing where nobody knows it.
create or replace view marginal as
with climbs as (
    select
        epochs.run_id,
        epochs.epoch,
        epochs.val_accuracy,
        nullif(epochs.energy_kwh, 0) as used_kwh,
        nullif(epochs.energy_kwh, 0) * runs.pue * runs.intensity_g_per_kwh as used_co2_g,
        -- greatest() skips nulls.
        100 * (epochs.val_accuracy - greatest(
            max(epochs.val_accuracy) over (
                partition by epochs.run_key, epochs.run_id
                order by epochs.epoch
                rows between unbounded preceding and 1 preceding
            ),
            guessing(runs.num_classes, runs.majority_share),
            0
        )) as points
    from epochs
    join runs using (run_key)
    where epochs.val_accuracy is not null
)
select
    run_id,
    epoch,
    val_accuracy as accuracy,
    greatest(points, 0) as gained_points,
    -- An epoch that gained nothing has no price per point, and one without a joule was not metered: null.
    1000 * used_kwh / if(points > 0, points, null) as wh_per_point,
    used_co2_g / if(points > 0, points, null) as g_per_point
from climbs;
