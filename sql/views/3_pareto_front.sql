-- One row per (run, epoch) that no other beats: more validation accuracy for the energy so far, without the test.
create or replace view pareto_front as
with comparable as (
    -- Runs compete where they saw the same data and the same split; one integer says so (tests/bench_store.py).
    -- Two runs on one machine each see the whole machine, and stay out.
    select
        *,
        min(run_key) over (partition by data_hash, split_hash) as contest,
        guessing(num_classes, majority_share) as guessed
    from runs
    where run_key not in (select run_key from totals where overlap_s > 0)
),
candidates as (
    select
        comparable.contest,
        epochs.run_key,
        epochs.epoch,
        epochs.val_accuracy,
        epochs.energy_total_j
    from epochs
    join comparable using (run_key)
    where epochs.schedule_complete
        and epochs.energy_total_j is not null
        -- What learned nothing costs next to nothing, and would beat everything at that price.
        and clearly_learned(epochs.val_accuracy, epochs.val_count, comparable.guessed)
),
-- Accuracy is correct / count, so it has few levels: the front needs one row of each, not a million.
levels as (
    select contest, val_accuracy, min(energy_total_j) as least_j
    from candidates
    group by contest, val_accuracy
),
ladder as (
    select
        *,
        min(least_j) over (
            partition by contest
            order by val_accuracy desc
            rows between unbounded preceding and 1 preceding
        ) as least_above_j
    from levels
),
front as (
    select candidates.*
    from candidates
    join ladder
        on candidates.contest = ladder.contest
        and candidates.val_accuracy = ladder.val_accuracy
        and candidates.energy_total_j = ladder.least_j
    where ladder.least_above_j is null or ladder.least_j < ladder.least_above_j
)
select
    comparable.dataset,
    comparable.run_id,
    front.epoch,
    front.val_accuracy as accuracy,
    kwh(front.energy_total_j) as energy_kwh,
    kwh(front.energy_total_j) * comparable.pue * comparable.intensity_g_per_kwh as co2_g,
    comparable.data_hash,
    comparable.split_hash,
    front.run_key
from front
join comparable using (run_key);
