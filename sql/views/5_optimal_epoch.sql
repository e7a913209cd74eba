-- One row per run, in hindsight: the first epoch within `tolerance` (a fraction) of the run's best validation accuracy,
-- and the knee, where accuracy stands highest above the straight line from the first epoch's energy to the last's, both
-- scaled to what the run went through; null where it never rises above that line.
create or replace macro optimal_epoch_within(tolerance) as table
with complete as (
    select run_key, run_id, epoch, val_accuracy, energy_total_j
    from epochs
    where schedule_complete and val_accuracy is not null
),
best as (
    select
        run_key,
        min(val_accuracy) as least_accuracy,
        max(val_accuracy) as best_accuracy,
        -- The total only grows, and is unknown from the first gap on.
        if(count(*) = count(energy_total_j), max(energy_total_j), null) as spent_j,
        min(energy_total_j) as first_j
    from complete
    group by run_key
),
heights as (
    select
        complete.*,
        best.best_accuracy,
        best.spent_j,
        -- In billionths, so that what is equal on paper is equal; null where there is no line.
        round(1e9 * (
            (complete.val_accuracy - best.least_accuracy) / nullif(best.best_accuracy - best.least_accuracy, 0)
            - (complete.energy_total_j - best.first_j) / nullif(best.spent_j - best.first_j, 0)
        ))::bigint as height
    from complete
    join best using (run_key)
),
chosen as (
    select
        run_key,
        any_value(best_accuracy) as best_accuracy,
        any_value(spent_j) as spent_j,
        -- 1e-9: 0.9 - 0.89 is a little more than 0.01 in binary.
        min(epoch) filter (val_accuracy >= best_accuracy - tolerance - 1e-9) as first_epoch,
        min(epoch) filter (val_accuracy = best_accuracy) as best_epoch,
        -- The earliest of the highest.
        arg_max(epoch, height * 1000000 - epoch) filter (height > 0) as knee_epoch
    from heights
    group by run_key
)
select
    complete.run_id,
    complete.epoch,
    complete.val_accuracy as accuracy,
    kwh(complete.energy_total_j) as energy_kwh,
    chosen.best_epoch,
    chosen.best_accuracy,
    kwh(chosen.spent_j - complete.energy_total_j) as energy_saved_kwh,
    chosen.knee_epoch,
    knee.val_accuracy as knee_accuracy,
    kwh(knee.energy_total_j) as knee_energy_kwh
from chosen
join complete on complete.run_key = chosen.run_key and complete.epoch = chosen.first_epoch
left join complete as knee on knee.run_key = chosen.run_key and knee.epoch = chosen.knee_epoch;

-- One row per run, in hindsight, to within one percentage point.
create or replace view optimal_epoch as from optimal_epoch_within(0.01);
