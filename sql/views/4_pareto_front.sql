-- One row per (run, epoch) that no other beats: a better metric on validation for the energy so far, without the test.
create or replace view pareto_front as
with candidates as (
    select
        contestants.contest_key,
        epochs.run_key,
        epochs.epoch,
        if(contestants.goal = 'min', -epochs.value, epochs.value) as score,
        epochs.energy_total_j
    from epochs
    join contestants using (run_key)
    where epochs.schedule_complete
        and epochs.energy_total_j is not null
        and epochs.value is not null
        -- What learned nothing costs next to nothing, and would beat everything at that price. Of other metrics nobody
        -- knows what guessing would reach.
        and (
            contestants.metric <> 'accuracy'
            or clearly_learned(epochs.val_accuracy, epochs.val_count, contestants.guessed)
        )
),
-- Accuracy is correct / count, so it has few levels: the front needs one row of each, not a million.
levels as (
    select contest_key, score, min(energy_total_j) as least_j
    from candidates
    group by contest_key, score
),
ladder as (
    select
        *,
        min(least_j) over (
            partition by contest_key
            order by score desc
            rows between unbounded preceding and 1 preceding
        ) as least_above_j
    from levels
),
front as (
    select candidates.*
    from candidates
    join ladder
        on candidates.contest_key = ladder.contest_key
        and candidates.score = ladder.score
        and candidates.energy_total_j = ladder.least_j
    where ladder.least_above_j is null or ladder.least_j < ladder.least_above_j
)
select
    runs.dataset,
    runs.run_id,
    front.epoch,
    if(runs.metric = 'accuracy', front.score, null) as accuracy,
    kwh(front.energy_total_j) as energy_kwh,
    kwh(front.energy_total_j) * runs.pue * runs.intensity_g_per_kwh as co2_g,
    runs.metric,
    runs.goal,
    if(runs.goal = 'min', -front.score, front.score) as value,
    runs.data_hash,
    runs.split_hash,
    runs.contest,
    front.run_key
from front
join runs using (run_key);
