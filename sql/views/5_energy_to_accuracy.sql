-- One row per run that reached `target` (a fraction) on validation: the first epoch there, and what it had taken so far;
-- of a compressed run, what its ancestors took comes before that.
create or replace macro energy_to_accuracy(target) as table
with reached as (
    select run_key, min(epoch) as first_epoch
    from last_attempts
    where val_accuracy >= target - 1e-9
    group by run_key
)
select
    runs.run_id,
    last_attempts.epoch,
    last_attempts.val_accuracy as accuracy,
    kwh(last_attempts.energy_total_j + if(runs.kind = 'compress', inherited.inherited_j, 0)) as energy_kwh,
    kwh(last_attempts.energy_total_j) * runs.pue * coalesce(last_attempts.total_g_per_kwh, runs.intensity_g_per_kwh)
        + if(runs.kind = 'compress', inherited.inherited_co2_g, 0) as co2_g
from reached
join last_attempts on last_attempts.run_key = reached.run_key and last_attempts.epoch = reached.first_epoch
join runs on runs.run_key = reached.run_key
left join inherited on inherited.run_key = reached.run_key;
