-- One row per recipe B that another choice would have served: use A for n epochs instead of B for m. A is the cheapest
-- point of the contest whose validation accuracy is at most `tolerance` (a fraction) below the best that B reached.
create or replace macro swaps_within(tolerance) as table
with points as (
    select *
    from recipe_epochs
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
    select contest_key, accuracy, least_kwh
    from ladder
    where least_above_kwh is null or least_kwh < least_above_kwh
),
-- Whoever runs B for m epochs pays for all of them, and keeps the best.
whole as (
    select
        recipe_key,
        any_value(contest_key) as contest_key,
        max(epoch) as epochs,
        arg_max(num_runs, epoch) as num_runs,
        max(accuracy) as best_accuracy,
        arg_max(std_accuracy, accuracy) as best_std_accuracy,
        if(count(*) = count(energy_kwh), max(energy_kwh), null) as spent_kwh,
        arg_max(co2_g, epoch) as spent_co2_g,
        max(source) as worst_source
    from recipe_epochs
    group by recipe_key
),
reached as (
    select
        whole.*,
        front.accuracy as front_accuracy,
        front.least_kwh
    from (select *, best_accuracy - tolerance - 1e-9 as needed from whole) as whole
    asof join front on whole.contest_key = front.contest_key and whole.needed <= front.accuracy
    where front.least_kwh < whole.spent_kwh
),
chosen as (
    select
        reached.recipe_key,
        arg_min(points, (points.epoch, points.recipe_key)) as point
    from reached
    join points
        on points.contest_key = reached.contest_key
        and points.accuracy = reached.front_accuracy
        and points.energy_kwh = reached.least_kwh
    group by reached.recipe_key
)
select
    b.contest,
    b.dataset,
    a.model as use_model,
    a.precision as use_precision,
    point.epoch as use_epochs,
    point.num_runs as use_num_runs,
    point.accuracy as use_accuracy,
    point.std_accuracy as use_std_accuracy,
    point.energy_kwh as use_energy_kwh,
    point.co2_g as use_co2_g,
    a.run_ids as use_run_ids,
    b.model,
    b.precision,
    reached.epochs,
    reached.num_runs,
    reached.best_accuracy as accuracy,
    reached.best_std_accuracy as std_accuracy,
    reached.spent_kwh as energy_kwh,
    reached.spent_co2_g as co2_g,
    b.run_ids,
    point.accuracy - reached.best_accuracy as accuracy_difference,
    point.energy_kwh / reached.spent_kwh as energy_ratio,
    point.co2_g / nullif(reached.spent_co2_g, 0) as co2_ratio,
    -- Null where one of them ran once: nobody knows its spread.
    abs(point.accuracy - reached.best_accuracy)
        <= sqrt(point.std_accuracy ** 2 + reached.best_std_accuracy ** 2) as is_within_spread,
    point.recipe_key = reached.recipe_key as is_same_recipe,
    greatest(point.source, reached.worst_source) as source,
    point.recipe_key as use_recipe_key,
    reached.recipe_key
from reached
join chosen using (recipe_key)
join recipes as a on a.recipe_key = point.recipe_key
join recipes as b on b.recipe_key = reached.recipe_key;

-- One row per recipe that another choice would have served, to within one percentage point.
create or replace view swaps as from swaps_within(0.01);
