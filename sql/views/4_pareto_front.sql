-- One row per (run, epoch) that no other beats: a better metric on validation for the energy so far, without the test.
create or replace view pareto_front as
with judged as (
    select
        run_key,
        contest_key,
        is_accuracy,
        guessed,
        if(goal = 'min', -1, 1) as sign
    from contestants
),
-- Accuracy is correct / count, so it has few levels: the front needs one row of each, not a million. Whether a level is
-- above chance is asked of these few, too (tests/bench_store.py).
levels as (
    select
        judged.contest_key,
        judged.guessed,
        last_attempts.val_count,
        if(judged.is_accuracy, last_attempts.val_accuracy, last_attempts.value) as level,
        min(last_attempts.energy_total_j) as least_j
    from last_attempts
    join judged using (run_key)
    where last_attempts.schedule_complete
    group by judged.contest_key, judged.guessed, last_attempts.val_count, level
),
candidates as (
    select
        levels.contest_key,
        contests.sign * levels.level as score,
        min(levels.least_j) as least_j
    from levels
    join (select distinct contest_key, is_accuracy, sign from judged) as contests using (contest_key)
    where levels.least_j is not null
        -- What learned nothing costs next to nothing, and would beat everything at that price. Of other metrics nobody
        -- knows what guessing would reach.
        and (not contests.is_accuracy or clearly_learned(levels.level, levels.val_count, levels.guessed))
    group by levels.contest_key, score
),
ladder as (
    select
        *,
        min(least_j) over (
            partition by contest_key
            order by score desc nulls last
            rows between unbounded preceding and 1 preceding
        ) as least_above_j
    from candidates
),
steps as materialized (
    select contest_key, score, least_j
    from ladder
    where score is not null and (least_above_j is null or least_j < least_above_j)
),
-- All that may stand on a step: who got as far for as much is not beaten.
spenders as materialized (
    select run_key, epoch, val_accuracy, val_count, value, energy_total_j, total_g_per_kwh
    from last_attempts
    where schedule_complete and energy_total_j in (select least_j from steps)
),
placed as materialized (
    select
        spenders.run_key,
        spenders.epoch,
        spenders.energy_total_j,
        spenders.total_g_per_kwh,
        judged.contest_key,
        judged.sign * if(judged.is_accuracy, spenders.val_accuracy, spenders.value) as score
    from spenders
    join judged using (run_key)
    where not judged.is_accuracy
        or clearly_learned(spenders.val_accuracy, spenders.val_count, judged.guessed)
),
front as (
    select placed.*
    from placed
    join steps
        on steps.contest_key = placed.contest_key
        and steps.score = placed.score
        and steps.least_j = placed.energy_total_j
)
select
    runs.dataset,
    runs.run_id,
    front.epoch,
    if(runs.metric = 'accuracy', front.score, null) as accuracy,
    kwh(front.energy_total_j) as energy_kwh,
    kwh(front.energy_total_j) * runs.pue * coalesce(front.total_g_per_kwh, runs.intensity_g_per_kwh) as co2_g,
    runs.metric,
    runs.goal,
    if(runs.goal = 'min', -front.score, front.score) as value,
    runs.data_hash,
    runs.split_hash,
    runs.contest,
    front.run_key
from front
join runs using (run_key);
