-- One row per run, in hindsight: the first epoch within `tolerance` (a fraction) of the run's best validation accuracy,
-- and the knee, where accuracy stands highest above the straight line from the first epoch's energy to the last's, both
-- scaled to what the run went through; null where it never rises above that line.
create or replace macro optimal_epoch_within(tolerance) as table
with best as (
    select
        run_key,
        min(val_accuracy) as least_accuracy,
        max(val_accuracy) as best_accuracy,
        -- The total only grows, and is unknown from the first gap on.
        if(count(*) = count(energy_total_j), max(energy_total_j), null) as spent_j,
        min(energy_total_j) as first_j
    from last_attempts
    where schedule_complete and val_accuracy is not null
    group by run_key
),
heights as (
    select
        last_attempts.run_key,
        last_attempts.epoch,
        last_attempts.val_accuracy,
        last_attempts.energy_total_j,
        best.best_accuracy,
        best.spent_j,
        -- 1e-9: 0.9 - 0.89 is a little more than 0.01 in binary.
        last_attempts.val_accuracy >= best.best_accuracy - tolerance - 1e-9 as is_enough,
        -- In billionths, so that what is equal on paper is equal; null where there is no line.
        round(1e9 * (
            (last_attempts.val_accuracy - best.least_accuracy) / nullif(best.best_accuracy - best.least_accuracy, 0)
            - (last_attempts.energy_total_j - best.first_j) / nullif(best.spent_j - best.first_j, 0)
        ))::bigint as height
    from last_attempts
    join best using (run_key)
    where last_attempts.schedule_complete and last_attempts.val_accuracy is not null
),
chosen as (
    select
        run_key,
        any_value(best_accuracy) as best_accuracy,
        any_value(spent_j) as spent_j,
        min(epoch) filter (is_enough) as first_epoch,
        arg_min(val_accuracy, epoch) filter (is_enough) as first_accuracy,
        -- Null where the first of them is: the joules of another epoch are not its own.
        arg_min_null(energy_total_j, epoch) filter (is_enough) as first_enough_j,
        min(epoch) filter (val_accuracy = best_accuracy) as best_epoch,
        -- The earliest of the highest, and its epoch (less than 2 ** 31) in the same number: arg_max() of two
        -- columns would take a quarter longer at a million epochs.
        max(height * 2147483648 - epoch) filter (height > 0) as knee
    from heights
    group by run_key
),
knees as (
    select
        chosen.*,
        2147483648 - knee % 2147483648 as knee_epoch
    from chosen
)
select
    runs.run_id,
    knees.first_epoch as epoch,
    knees.first_accuracy as accuracy,
    kwh(knees.first_enough_j) as energy_kwh,
    knees.best_epoch,
    knees.best_accuracy,
    kwh(knees.spent_j - knees.first_enough_j) as energy_saved_kwh,
    last_attempts.epoch as knee_epoch,
    last_attempts.val_accuracy as knee_accuracy,
    kwh(last_attempts.energy_total_j) as knee_energy_kwh
from knees
join runs using (run_key)
left join last_attempts on last_attempts.run_key = knees.run_key and last_attempts.epoch = knees.knee_epoch;

-- One row per run, in hindsight, to within one percentage point.
create or replace view optimal_epoch as from optimal_epoch_within(0.01);
