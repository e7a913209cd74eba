-- One row per epoch of a recipe (one config on the same data and split, under any seed): mean and spread over its runs,
-- for what such a run of so many epochs would have come to. Only epochs that every run that counts has reached: a mean
-- over other runs at every epoch is no curve.
create or replace view recipe_epochs as
with counted as materialized (
    select run_key, recipe_key, contest_key, seed, guessed, pue, factor_g_per_kwh
    from contestants
    where counts and is_accuracy
),
members as (
    select
        recipe_key,
        any_value(contest_key) as contest_key,
        max(guessed) as guessed,
        count(*) as num_runs,
        count(distinct seed) as num_seeds
    from counted
    group by recipe_key
),
means as (
    select
        counted.recipe_key,
        all_epochs.epoch,
        count(*) as num_here,
        -- Sums come in any order: what ties on paper must tie each time.
        round(avg(all_epochs.val_accuracy), 12) as mean_accuracy,
        stddev_samp(all_epochs.val_accuracy) as spread_accuracy,
        -- All seeds look at the same images: more runs are no more images.
        min(all_epochs.val_count) as num_samples,
        -- avg() skips nulls, and a mean over a gap is not one. Who trained without a joule was not metered.
        if(
            count(*) = count(nullif(all_epochs.energy_total_j, 0)), round(avg(all_epochs.energy_total_j), 9), null
        ) as mean_j,
        avg(
            all_epochs.energy_total_j
            * (counted.pue * coalesce(all_epochs.total_g_per_kwh, counted.factor_g_per_kwh))
        ) as mean_site_j,
        max(all_epochs.source) as worst_source,
        avg(all_epochs.duration_s) as mean_s
    from all_epochs
    join counted using (run_key)
    where all_epochs.schedule_complete and all_epochs.val_accuracy is not null
    group by counted.recipe_key, all_epochs.epoch
)
select
    members.contest_key,
    members.recipe_key,
    means.epoch,
    members.num_runs,
    members.num_seeds,
    means.mean_accuracy as accuracy,
    -- One seed twice says nothing about the spread.
    if(members.num_seeds > 1, means.spread_accuracy, null) as std_accuracy,
    kwh(means.mean_j) as energy_kwh,
    if(means.mean_j is null, null, kwh(means.mean_site_j)) as co2_g,
    means.worst_source as source,
    -- Of this epoch alone: training and validation.
    means.mean_s as epoch_duration_s,
    clearly_learned(means.mean_accuracy, means.num_samples, members.guessed) as is_learned
from means
join members using (recipe_key)
where means.num_here = members.num_runs;
