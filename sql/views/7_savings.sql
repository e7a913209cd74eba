-- One row per pair of recipes whose configs differ in one key alone: what the second saved, over the seeds both ran under.
create or replace view savings as
with
-- Of each seed the first run that counts.
counted as (
    select
        contestants.recipe_key,
        leaderboard.seed,
        arg_min(leaderboard, contestants.run_key) as run
    from leaderboard
    join contestants using (run_id)
    where leaderboard.unranked is null and leaderboard.metric = 'accuracy' and leaderboard.epochs > 0
    group by contestants.recipe_key, leaderboard.seed
),
keys as (
    select
        recipe_key,
        contest_key,
        unnest(json_keys(config)) as key,
        config
    from recipes
    where recipe_key in (select recipe_key from counted)
),
pairs as (
    select
        recipe_key,
        contest_key,
        key,
        config -> key as value,
        hash(key, (config -> key)::text)::hugeint as pair_hash
    from keys
    where key not in ('model', 'seed', 'name', 'tags', 'log', 'data_dir')
        and (config -> key)::text <> 'null'
),
-- What is left of a config without one of its keys: equal in two that differ there alone.
rests as (
    select
        pairs.*,
        recipes.model,
        sum(pair_hash) over (partition by recipe_key) - pair_hash as rest_hash
    from pairs
    join recipes using (recipe_key)
),
differing as (
    select
        a.recipe_key as from_key,
        b.recipe_key as to_key,
        a.key,
        a.value as from_value,
        b.value as to_value
    from rests as a
    join rests as b
        on a.contest_key = b.contest_key
        and a.model = b.model
        and a.key = b.key
        and a.rest_hash = b.rest_hash
        and a.pair_hash <> b.pair_hash
    -- From what people start with to what they change it to; else from the older to the newer.
    where case a.key
        when 'precision' then a.value ->> '$' = 'fp32'
        when 'early_stop' then a.value ->> '$' = 'false'
        else a.recipe_key < b.recipe_key
    end
),
paired as (
    select
        differing.*,
        x.run as x,
        y.run as y,
        count(*) over pair as num_pairs
    from differing
    join counted as x on x.recipe_key = differing.from_key
    join counted as y on y.recipe_key = differing.to_key and y.seed is not distinct from x.seed
    window pair as (partition by differing.from_key, differing.to_key, differing.key)
)
select
    any_value(x.contest) as contest,
    any_value(x.dataset) as dataset,
    any_value(x.model) as model,
    key,
    any_value(from_value) ->> '$' as from_value,
    any_value(to_value) ->> '$' as to_value,
    count(*) as num_pairs,
    list(x.run_id order by x.seed) as from_run_ids,
    list(y.run_id order by x.seed) as to_run_ids,
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
    (sum(x.duration_s) / sum(x.epochs)) / (sum(y.duration_s) / sum(y.epochs)) as speed_up,
    1 - sum(y.epochs) / sum(x.epochs) as epoch_reduction,
    greatest(max(x.source), max(y.source)) as source
from paired
group by from_key, to_key, key;
