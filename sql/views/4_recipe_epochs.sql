-- One row per epoch of a recipe (one config on the same data and split, under any seed): mean and spread over its runs,
-- for what such a run of so many epochs would have come to. Only epochs that all finished runs of the recipe reached.
create or replace view recipe_epochs as
with recipes as (
    select
        recipe_key,
        count(*) filter (is_done) as num_done
    from contestants
    group by recipe_key
),
means as (
    select
        contestants.recipe_key,
        epochs.epoch,
        any_value(contestants.contest_key) as contest_key,
        any_value(contestants.guessed) as guessed,
        count(*) as num_runs,
        count(*) filter (contestants.is_done) as num_done_here,
        avg(epochs.val_accuracy) as accuracy,
        stddev_samp(epochs.val_accuracy) as std_accuracy,
        sum(epochs.val_count) as num_samples,
        -- avg() skips nulls, and a mean over a gap is not one.
        if(count(*) = count(epochs.energy_total_j), avg(epochs.energy_total_j), null) as mean_j,
        if(
            count(*) = count(epochs.energy_total_j),
            kwh(avg(epochs.energy_total_j * contestants.site_g_per_kwh)),
            null
        ) as co2_g,
        max(epochs.source) as source,
        avg(epochs.duration_s) as mean_s
    from epochs
    join contestants using (run_key)
    where epochs.schedule_complete
        and epochs.val_accuracy is not null
        and contestants.metric = 'accuracy'
    group by contestants.recipe_key, epochs.epoch
)
select
    means.contest_key,
    means.recipe_key,
    means.epoch,
    means.num_runs,
    means.accuracy,
    means.std_accuracy,
    kwh(means.mean_j) as energy_kwh,
    means.co2_g,
    means.source,
    means.mean_s as epoch_duration_s,
    clearly_learned(means.accuracy, means.num_samples, means.guessed) as is_learned
from means
join recipes using (recipe_key)
where means.num_done_here = recipes.num_done;
