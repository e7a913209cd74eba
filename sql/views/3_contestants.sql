-- One row per run whose epochs may be compared with those of others, with what its recipe (one config, any seed) is.
create or replace view contestants as
select
    run_key,
    run_id,
    dataset,
    contest,
    metric,
    goal,
    seed,
    status = 'done' as is_done,
    -- What its recipe is judged by: its finished runs, or all of them where none is finished.
    is_done or not bool_or(is_done) over recipe as counts,
    guessing(num_classes, majority_share) as guessed,
    pue * intensity_g_per_kwh as site_g_per_kwh,
    -- Integers say which runs compete and which repeat each other (tests/bench_store.py).
    min(run_key) over (partition by contest) as contest_key,
    min(run_key) over recipe as recipe_key
from runs
-- Two runs on one machine each see the whole machine, and stay out; so does what was not a training.
where run_key not in (select run_key from totals where overlap_s > 0)
    and kind not in ('calibrate', 'estimate')
    and not was_replayed(meter)
    and (data_hash is not null or dataset <> 'unknown')
window recipe as (partition by contest, coalesce(group_hash, run_id));
