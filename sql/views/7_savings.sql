-- One row per pair of recipes whose configs differ in one key alone, on one machine: what the second saved over the first,
-- by the seeds that both finished under and whose energy is known in the same way: joules that were measured and joules that
-- were estimated differ by more than most keys. Only of trainings by greenml, whose configs are known in full.
create or replace view savings as
with trainings as materialized (
    select
        contestants.run_key,
        contestants.recipe_key,
        contestants.contest_key,
        contestants.seed,
        contestants.site_g_per_kwh,
        contestants.run_id,
        run_figures.num_epochs as epochs,
        run_figures.mean_epoch_s as epoch_s,
        run_figures.chosen_val_accuracy as val_accuracy,
        run_figures.total_kwh as energy_kwh,
        run_figures.total_co2_g as co2_g,
        run_figures.cpu_source,
        run_figures.gpu_source,
        run_figures.ram_source,
        run_figures.worst_source as source
    from run_figures
    join contestants using (run_key)
    where contestants.is_done
        and contestants.is_accuracy
        and run_figures.kind in ('train', 'trial')
        and run_figures.reason is null
        and run_figures.num_epochs > 0
        and run_figures.chosen_val_accuracy is not null
),
-- Of each seed the first run.
counted as materialized (
    select *
    from trainings
    where run_key in (select min(run_key) from trainings group by recipe_key, seed)
),
-- The key of a recipe is that of its oldest run.
configured as materialized (
    select
        runs.run_key as recipe_key,
        runs.contest,
        runs.dataset,
        runs.model,
        runs.config,
        -- Only those that agree in it are compared: one number is carried and joined instead of three columns.
        hash(members.contest_key, runs.model, machine_of(runs.hardware)) as place_hash
    from (select distinct recipe_key, contest_key from counted) as members
    join runs on runs.run_key = members.recipe_key
    where json_type(runs.config) = 'OBJECT'
),
entries as (
    select
        recipe_key,
        config ->> '$.early_stop' = 'true' as stops_early,
        unnest(json_keys(config)) as key,
        unnest(config -> '$.*') as value
    from configured
),
pairs as materialized (
    select
        recipe_key,
        key,
        value,
        hash(key, value::text) as pair_hash
    from entries
    -- What is null is what is not there. What repeats of one recipe may differ in (tests/test_answers.py) is no difference.
    where json_type(value) <> 'NULL'
        and key not in (
            'seed', 'name', 'tags', 'region', 'intensity', 'trace', 'trace_shift', 'provider', 'pue', 'data_dir',
            'sampling_interval', 'require_meter', 'log', 'schedule'
        )
        -- Without early stopping nobody waits: how long is no difference then.
        and (key not in ('patience', 'min_delta') or stops_early)
),
wholes as (
    select
        recipe_key,
        xor(bit_xor(pair_hash), any_value(place_hash)) as whole_hash,
        bit_xor(pair_hash) filter (key in ('early_stop', 'patience', 'min_delta')) as stop_hash
    from pairs
    join configured using (recipe_key)
    group by recipe_key
),
-- What is left of a config without one of its keys, and without none.
rests as (
    select
        pairs.recipe_key,
        pairs.key,
        pairs.value,
        -- Early stopping comes with its settings.
        xor(wholes.whole_hash, if(pairs.key = 'early_stop', wholes.stop_hash, pairs.pair_hash)) as rest_hash
    from pairs
    join wholes using (recipe_key)
    union all by name
    select
        recipe_key,
        whole_hash as rest_hash
    from wholes
),
-- Equal in two that differ there alone: both have the key, or only the second.
differing as (
    select
        a.recipe_key as from_key,
        b.recipe_key as to_key,
        b.key,
        a.value as first_value,
        b.value as second_value
    from rests as a
    join rests as b on a.rest_hash = b.rest_hash
    where a.recipe_key <> b.recipe_key
        and b.key is not null
        -- Another way of metering saves nothing.
        and b.key not in ('meter', 'scope', 'tdp')
        and case
            when a.key is null then true
            when a.key <> b.key or a.value::text = b.value::text then false
            -- From what people start with to what they change it to; else from the older to the newer.
            when (a.value::text in ('"fp32"', 'false')) <> (b.value::text in ('"fp32"', 'false'))
            then a.value::text in ('"fp32"', 'false')
            else a.recipe_key < b.recipe_key
        end
)
select
    any_value(configured.contest) as contest,
    any_value(configured.dataset) as dataset,
    any_value(configured.model) as model,
    differing.key,
    any_value(differing.first_value) ->> '$' as from_value,
    any_value(differing.second_value) ->> '$' as to_value,
    count(*) as num_pairs,
    list(x.run_id order by x.seed, x.run_key) as from_run_ids,
    list(y.run_id order by y.seed, y.run_key) as to_run_ids,
    avg(x.epochs) as from_epochs,
    avg(y.epochs) as to_epochs,
    avg(x.val_accuracy) as from_accuracy,
    avg(y.val_accuracy) as to_accuracy,
    avg(y.val_accuracy - x.val_accuracy) as accuracy_difference,
    stddev_samp(y.val_accuracy - x.val_accuracy) as std_accuracy_difference,
    avg(x.energy_kwh) as from_energy_kwh,
    avg(y.energy_kwh) as to_energy_kwh,
    sum(y.energy_kwh) / sum(x.energy_kwh) as energy_ratio,
    stddev_samp(y.energy_kwh / x.energy_kwh) as std_energy_ratio,
    sum(y.co2_g) / nullif(sum(x.co2_g), 0) as co2_ratio,
    -- Of an epoch: a run that stopped earlier is not faster for it.
    if(count(x.epoch_s) = count(*), avg(x.epoch_s), null) / nullif(avg(y.epoch_s), 0) as speed_up,
    1 - sum(y.epochs) / sum(x.epochs) as epoch_reduction,
    -- Where not, the ratio of CO2 is not that of energy: another grid is part of it.
    bool_and(x.site_g_per_kwh = y.site_g_per_kwh) as is_same_intensity,
    greatest(max(x.source), max(y.source)) as source,
    differing.from_key as from_recipe_key,
    differing.to_key as to_recipe_key
from differing
join configured on configured.recipe_key = differing.from_key
join counted as x on x.recipe_key = differing.from_key
join counted as y
    on y.recipe_key = differing.to_key
    and y.seed is not distinct from x.seed
    and (y.cpu_source, y.gpu_source, y.ram_source) = (x.cpu_source, x.gpu_source, x.ram_source)
group by differing.from_key, differing.to_key, differing.key;
