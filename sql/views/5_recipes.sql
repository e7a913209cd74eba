-- One row per recipe (one config on the same data and split, under any seed): the runs that count for it, which are the
-- finished ones or else all.
create or replace view recipes as
select
    contestants.recipe_key,
    any_value(contestants.contest_key) as contest_key,
    any_value(runs.contest) as contest,
    arg_min(runs.dataset, runs.run_key) as dataset,
    arg_min(runs.model, runs.run_key) as model,
    arg_min(runs.precision, runs.run_key) as precision,
    arg_min(runs.num_parameters, runs.run_key) as num_parameters,
    arg_min(runs.kind, runs.run_key) as kind,
    arg_min(runs.hardware, runs.run_key) as hardware,
    arg_min(runs.config, runs.run_key) as config,
    arg_min(runs.command, runs.run_key) as command,
    list(runs.run_id order by runs.run_key) as run_ids,
    coalesce(list(distinct runs.seed order by runs.seed) filter (runs.seed is not null), []) as seeds,
    list_sort(list(distinct runs.region_used)) as regions,
    list_sort(list(distinct runs.pue)) as pues,
    bool_or(runs.kind = 'import') as is_any_imported,
    -- Such a recipe is judged by all of its runs, as none has finished.
    bool_or(not contestants.is_done) as is_any_unfinished,
    max(runs.started_at) as started_at,
    -- Null where they ran on grids of different intensity.
    if(min(contestants.site_g_per_kwh) = max(contestants.site_g_per_kwh), min(contestants.site_g_per_kwh), null)
        as site_g_per_kwh
from contestants
join runs using (run_key)
where contestants.counts
group by contestants.recipe_key;
