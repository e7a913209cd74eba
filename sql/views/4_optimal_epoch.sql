-- One row per run, in hindsight: the first epoch within one percentage point of the run's best validation accuracy.
create or replace view optimal_epoch as
with complete as (
    select run_key, run_id, epoch, val_accuracy, energy_total_j
    from epochs
    where schedule_complete and val_accuracy is not null
),
best as (
    select
        run_key,
        max(val_accuracy) as best_accuracy,
        max(epoch) as last_epoch,
        -- The total only grows, and is unknown from the first gap on.
        if(count(*) = count(energy_total_j), max(energy_total_j), null) as spent_j
    from complete
    group by run_key
),
chosen as (
    select
        complete.run_key,
        any_value(complete.run_id) as run_id,
        min(complete.epoch) as first_epoch,
        min(complete.epoch) filter (where complete.val_accuracy = best.best_accuracy) as best_epoch,
        any_value(best.best_accuracy) as best_accuracy,
        any_value(best.spent_j) as spent_j
    from complete
    join best using (run_key)
    -- 1e-9: 0.9 - 0.89 is a little more than 0.01 in binary.
    where complete.val_accuracy >= best.best_accuracy - 0.01 - 1e-9
    group by complete.run_key
)
select
    chosen.run_id,
    complete.epoch,
    complete.val_accuracy as accuracy,
    kwh(complete.energy_total_j) as energy_kwh,
    chosen.best_epoch,
    chosen.best_accuracy,
    kwh(chosen.spent_j - complete.energy_total_j) as energy_saved_kwh
from chosen
join complete on complete.run_key = chosen.run_key and complete.epoch = chosen.first_epoch;
