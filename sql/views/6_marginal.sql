-- One row per epoch of a run: what it cost for every percentage point of validation accuracy that it gained.
create or replace view marginal as
with climbs as (
    select
        run_key,
        run_id,
        epoch,
        val_accuracy,
        energy_j,
        energy_kwh,
        co2_g,
        100 * (val_accuracy - coalesce(
            max(val_accuracy) over (
                partition by run_key order by epoch rows between unbounded preceding and 1 preceding
            ),
            0
        )) as points
    from epochs
    where val_accuracy is not null
)
select
    run_id,
    epoch,
    val_accuracy as accuracy,
    greatest(points, 0) as gained_points,
    -- An epoch that gained nothing has no price per point: null, and not infinite.
    1000 * energy_kwh / if(points > 0, points, null) as wh_per_point,
    co2_g / if(points > 0, points, null) as g_per_point
from climbs;
