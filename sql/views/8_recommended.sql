-- One row per recipe: the epoch of it that serves best what is asked for, and its place within its contest. What is asked
-- for: a validation accuracy of `target` for the least energy; without a target, to come within `tolerance` of the most
-- accurate epoch of the contest; and in any case at most so many grams and seconds. Accuracies are fractions. A null asks
-- for nothing, and a null `tolerance` is one percentage point, or nothing at all below the most that the limits allow.
create or replace macro recommended(target, tolerance, most_co2_g, most_duration_s) as table
with seconds as (
    select
        contestants.recipe_key,
        epochs.epoch,
        avg(epochs.duration_s) as mean_s
    from epochs
    join contestants using (run_key)
    where contestants.metric = 'accuracy'
    group by contestants.recipe_key, epochs.epoch
),
-- All epochs up to this one, those of an unfinished schedule too.
elapsed as (
    select
        recipe_key,
        epoch,
        sum(mean_s) over (partition by recipe_key order by epoch) as duration_s
    from seconds
),
points as (
    select
        recipe_epochs.*,
        elapsed.duration_s,
        recipe_epochs.is_learned and recipe_epochs.energy_kwh is not null as is_eligible,
        -- What is unknown keeps within no limit.
        coalesce(recipe_epochs.co2_g <= most_co2_g, most_co2_g is null)
            and coalesce(elapsed.duration_s <= most_duration_s, most_duration_s is null) as is_inside
    from recipe_epochs
    left join elapsed using (recipe_key, epoch)
),
-- Whoever runs a recipe to its end pays for all of its epochs, and keeps the best.
wholes as (
    select
        recipe_key,
        any_value(contest_key) as contest_key,
        max(epoch) as last_epoch,
        max(accuracy) as most_accuracy,
        max(accuracy) filter (is_eligible) as most_eligible_accuracy,
        arg_max(std_accuracy, accuracy) as std_most_accuracy,
        arg_max(num_runs, epoch) as num_trained,
        if(count(*) = count(energy_kwh), max(energy_kwh), null) as spent_kwh,
        if(count(*) = count(co2_g), max(co2_g), null) as spent_co2_g,
        max(duration_s) as spent_s,
        max(source) as worst_source
    from points
    group by recipe_key
),
asked as (
    select
        contest_key,
        coalesce(
            target,
            max(accuracy) filter (is_inside)
            - coalesce(tolerance, if(most_co2_g is null and most_duration_s is null, 0.01, 0))
        ) as least_accuracy
    from points
    where is_eligible
    group by contest_key
),
judged as (
    select
        points.*,
        asked.least_accuracy,
        case
            when not points.is_learned then 'not clearly above guessing'
            when not points.is_eligible then 'energy unknown'
            when not points.is_inside then 'outside the limits'
            -- 1e-9: 0.9 - 0.89 is a little more than 0.01 in binary.
            when points.accuracy < asked.least_accuracy - 1e-9 then 'not accurate enough'
        end as shortfall
    from points
    left join asked using (contest_key)
),
-- What serves is judged by its energy, as is what lies outside the limits; the rest by its accuracy.
scored as (
    select
        *,
        coalesce(
            list_position(
                ['not accurate enough', 'outside the limits', 'energy unknown', 'not clearly above guessing'], shortfall
            ),
            0
        ) as rung,
        if(shortfall is null or shortfall = 'outside the limits', energy_kwh, -accuracy) as cost
    from judged
),
chosen as (
    select *
    from scored
    qualify row_number() over (partition by recipe_key order by rung, cost, epoch) = 1
),
placed as (
    select
        chosen.*,
        wholes.* exclude (recipe_key, contest_key),
        row_number() over (in_contest order by rung, cost, epoch, recipe_key) as place,
        count(*) over (partition by chosen.contest_key) as num_recipes,
        count(*) filter (shortfall = 'energy unknown') over (partition by chosen.contest_key) as num_unread
    from chosen
    join wholes using (recipe_key)
    window in_contest as (partition by chosen.contest_key)
),
-- What the first is held against: what people would take for its accuracy alone, trained to its end; where a target is
-- asked for, the next that reached it, at the epoch where it did.
opponents as (
    select
        contest_key,
        coalesce(
            if(
                target is null,
                arg_max(recipe_key, (most_eligible_accuracy, -spent_kwh)),
                any_value(recipe_key) filter (place = 2 and shortfall is null)
            ),
            any_value(recipe_key) filter (place = 1)
        ) as opponent_key,
        target is not null and bool_or(place = 2 and shortfall is null) as is_at_its_epoch
    from placed
    group by contest_key
),
paired as (
    select
        placed.*,
        opponents.opponent_key,
        if(opponents.is_at_its_epoch, opponent.epoch, opponent.last_epoch) as opponent_epochs,
        if(opponents.is_at_its_epoch, opponent.num_runs, opponent.num_trained) as opponent_num_runs,
        if(opponents.is_at_its_epoch, opponent.accuracy, opponent.most_accuracy) as opponent_accuracy,
        if(opponents.is_at_its_epoch, opponent.std_accuracy, opponent.std_most_accuracy) as opponent_std_accuracy,
        if(opponents.is_at_its_epoch, opponent.energy_kwh, opponent.spent_kwh) as opponent_kwh,
        if(opponents.is_at_its_epoch, opponent.co2_g, opponent.spent_co2_g) as opponent_co2_g,
        if(opponents.is_at_its_epoch, opponent.source, opponent.worst_source) as opponent_source,
        -- Of the two, the one that ran once: the cheaper first.
        row_number() over (
            partition by placed.contest_key
            order by
                placed.num_trained = 1 and (placed.place = 1 or placed.recipe_key = opponents.opponent_key) desc,
                placed.spent_kwh nulls last,
                placed.recipe_key
        ) as repeat_place
    from placed
    join opponents using (contest_key)
    join placed as opponent on opponent.recipe_key = opponents.opponent_key
),
named as (
    select
        contestants.recipe_key,
        list(contestants.run_id order by contestants.run_key) as all_run_ids,
        coalesce(list_sort(list(distinct runs.seed) filter (runs.seed is not null)), []) as all_seeds,
        list_sort(list(distinct runs.region_used)) as all_regions,
        list_sort(list(distinct runs.pue)) as all_pues,
        bool_or(runs.kind = 'import') as is_any_imported,
        max(runs.started_at) as last_started_at
    from contestants
    join runs using (run_key)
    group by contestants.recipe_key
)
select
    first_run.contest,
    first_run.dataset,
    paired.place,
    paired.shortfall,
    paired.least_accuracy,
    first_run.model,
    first_run.precision,
    paired.epoch as epochs,
    paired.num_runs,
    paired.accuracy,
    -- One seed twice says nothing about the spread.
    if(len(named.all_seeds) > 1, paired.std_accuracy, null) as std_accuracy,
    paired.energy_kwh,
    paired.co2_g,
    paired.duration_s,
    paired.source,
    named.all_run_ids as run_ids,
    named.all_seeds as seeds,
    named.all_regions as regions,
    named.all_pues as pues,
    paired.last_epoch as trained_epochs,
    paired.num_trained as trained_num_runs,
    paired.most_accuracy as trained_accuracy,
    paired.spent_kwh as trained_energy_kwh,
    paired.spent_co2_g as trained_co2_g,
    paired.spent_s as trained_duration_s,
    paired.worst_source as trained_source,
    other_run.model as against_model,
    other_run.precision as against_precision,
    paired.opponent_epochs as against_epochs,
    paired.opponent_num_runs as against_num_runs,
    paired.opponent_accuracy as against_accuracy,
    if(len(other.all_seeds) > 1, paired.opponent_std_accuracy, null) as against_std_accuracy,
    paired.opponent_kwh as against_energy_kwh,
    paired.opponent_co2_g as against_co2_g,
    other.all_run_ids as against_run_ids,
    paired.recipe_key = paired.opponent_key as is_same_recipe,
    paired.accuracy - paired.opponent_accuracy as accuracy_difference,
    greatest(paired.source, paired.opponent_source) as ratio_source,
    paired.energy_kwh / nullif(paired.opponent_kwh, 0) as energy_ratio,
    paired.co2_g / nullif(paired.opponent_co2_g, 0) as co2_ratio,
    -- Null where one of them ran once: nobody knows its spread.
    if(
        len(named.all_seeds) > 1 and len(other.all_seeds) > 1,
        abs(paired.accuracy - paired.opponent_accuracy)
            <= sqrt(paired.std_accuracy ** 2 + paired.opponent_std_accuracy ** 2),
        null
    ) as is_within_spread,
    paired.num_trained = 1
        and paired.repeat_place = 1
        and (paired.place = 1 or paired.recipe_key = paired.opponent_key) as is_worth_repeating,
    paired.num_recipes,
    paired.num_unread,
    named.is_any_imported as is_imported,
    first_run.kind,
    first_run.num_parameters,
    first_run.hardware,
    first_run.config,
    first_run.command,
    named.last_started_at as started_at,
    paired.recipe_key,
    paired.opponent_key as against_recipe_key
from paired
join named using (recipe_key)
join named as other on other.recipe_key = paired.opponent_key
join runs as first_run on first_run.run_key = paired.recipe_key
join runs as other_run on other_run.run_key = paired.opponent_key;
