-- One row per run whose epochs may be compared with those of others, with what its recipe (one config, any seed) is.
create or replace view contestants as
with competitors as materialized (
    select
        run_key,
        run_id,
        dataset,
        contest,
        coalesce(group_hash, run_id) as repeated,
        metric,
        goal,
        seed,
        status = 'done' as is_done,
        guessing(num_classes, majority_share) as guessed,
        pue,
        intensity_g_per_kwh as factor_g_per_kwh,
        -- What counted over the whole run.
        pue * coalesce(totals.g_per_kwh, intensity_g_per_kwh) as site_g_per_kwh
    from runs
    left join totals using (run_key)
    -- Two runs on one machine each see the whole machine, and stay out; so does what was not a training, or began with
    -- what another had learned.
    where coalesce(totals.overlap_s, 0) <= 0
        and kind not in ('calibrate', 'compress', 'estimate', 'sweep')
        and not was_replayed(meter)
        and names_its_data(data_hash, dataset)
),
-- Integers say which runs compete and which repeat each other (tests/bench_store.py).
contests as (
    select contest, min(run_key) as contest_key
    from competitors
    group by contest
),
recipes as (
    select contest, repeated, min(run_key) as recipe_key, bool_or(is_done) as is_any_done
    from competitors
    group by contest, repeated
)
select
    competitors.run_key,
    competitors.run_id,
    competitors.dataset,
    competitors.contest,
    competitors.metric,
    competitors.goal,
    competitors.seed,
    competitors.metric = 'accuracy' as is_accuracy,
    competitors.is_done,
    -- What its recipe is judged by: its finished runs, or all of them where none is finished.
    competitors.is_done or not recipes.is_any_done as counts,
    competitors.guessed,
    competitors.pue,
    competitors.factor_g_per_kwh,
    competitors.site_g_per_kwh,
    contests.contest_key,
    recipes.recipe_key
from competitors
join contests using (contest)
join recipes using (contest, repeated);
