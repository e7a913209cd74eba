-- One row per recipe B that another choice would have served: use A for n epochs instead of B for m. A is the cheapest
-- point of the contest whose validation accuracy is at most `tolerance` (a fraction) below the best that B reached. Of
-- equally cheap ones it is the most accurate, then the shortest, then the oldest. Energy is that of a run through its
-- last epoch, set-up included, without the test, on both sides.
create or replace macro swaps_within(tolerance) as table
with epochs_of_recipes as materialized (
    select * exclude (epoch_duration_s)
    from recipe_epochs
),
points as (
    select *
    from epochs_of_recipes
    where energy_kwh is not null and is_learned
),
-- Accuracies of single runs have few levels, so that the front is made of few rows.
levels as (
    select contest_key, accuracy, min(energy_kwh) as least_kwh
    from points
    group by contest_key, accuracy
),
ladder as (
    select
        *,
        min(least_kwh) over (
            partition by contest_key
            order by accuracy desc
            rows between unbounded preceding and 1 preceding
        ) as least_above_kwh
    from levels
),
front as (
    select
        points.contest_key,
        points.accuracy,
        points.energy_kwh,
        arg_min(points, (points.epoch, points.recipe_key)) as point
    from ladder
    join points
        on points.contest_key = ladder.contest_key
        and points.accuracy = ladder.accuracy
        and points.energy_kwh = ladder.least_kwh
    where ladder.least_above_kwh is null or ladder.least_kwh < ladder.least_above_kwh
    group by points.contest_key, points.accuracy, points.energy_kwh
),
-- Whoever runs B for m epochs pays for all of them, and keeps the best.
whole as (
    select
        recipe_key,
        any_value(contest_key) as contest_key,
        any_value(num_runs) as num_runs,
        any_value(num_seeds) as num_seeds,
        max(epoch) as epochs,
        max(accuracy) as best_accuracy,
        -- The total only grows, and is unknown from the first gap on.
        if(count(*) = count(energy_kwh), max(energy_kwh), null) as spent_kwh,
        if(count(*) = count(co2_g), max(co2_g), null) as spent_co2_g,
        max(source) as worst_source,
        best_accuracy - tolerance - 1e-9 as needed
    from epochs_of_recipes
    group by recipe_key
),
swapped as (
    select whole.*, front.point
    from whole
    asof join front on whole.contest_key = front.contest_key and whole.needed <= front.accuracy
    where front.energy_kwh < whole.spent_kwh
),
bests as (
    select
        swapped.recipe_key,
        min(epochs_of_recipes.epoch) as best_epoch,
        arg_min(epochs_of_recipes.std_accuracy, epochs_of_recipes.epoch) as best_std_accuracy
    from swapped
    join epochs_of_recipes
        on epochs_of_recipes.recipe_key = swapped.recipe_key
        and epochs_of_recipes.accuracy = swapped.best_accuracy
    group by swapped.recipe_key
),
named as materialized (
    select recipe_key, contest, dataset, model, precision, run_ids, site_g_per_kwh
    from recipes
)
select
    b.contest,
    b.dataset,
    a.model as use_model,
    a.precision as use_precision,
    point.epoch as use_epochs,
    point.num_runs as use_num_runs,
    point.num_seeds as use_num_seeds,
    point.accuracy as use_accuracy,
    point.std_accuracy as use_std_accuracy,
    point.energy_kwh as use_energy_kwh,
    point.co2_g as use_co2_g,
    a.run_ids as use_run_ids,
    b.model,
    b.precision,
    swapped.epochs,
    swapped.num_runs,
    swapped.num_seeds,
    bests.best_epoch,
    swapped.best_accuracy as accuracy,
    bests.best_std_accuracy as std_accuracy,
    swapped.spent_kwh as energy_kwh,
    swapped.spent_co2_g as co2_g,
    b.run_ids,
    point.accuracy - swapped.best_accuracy as accuracy_difference,
    point.energy_kwh / swapped.spent_kwh as energy_ratio,
    point.co2_g / nullif(swapped.spent_co2_g, 0) as co2_ratio,
    -- Null where one of them knows one seed only: nobody knows its spread.
    within_spread(
        point.accuracy - swapped.best_accuracy, point.std_accuracy, bests.best_std_accuracy
    ) as is_within_spread,
    point.recipe_key = swapped.recipe_key as is_same_recipe,
    -- Where not, the ratio of CO2 is not that of energy: another grid is part of it.
    coalesce(a.site_g_per_kwh = b.site_g_per_kwh, false) as is_same_intensity,
    greatest(point.source, swapped.worst_source) as source,
    point.recipe_key as use_recipe_key,
    swapped.recipe_key
from swapped
join bests using (recipe_key)
join named as a on a.recipe_key = point.recipe_key
join named as b on b.recipe_key = swapped.recipe_key;

-- One row per recipe that another choice would have served, to within one percentage point.
create or replace view swaps as from swaps_within(0.01);
