-- One row per recipe: the epoch of it that serves best what is asked for, and its place within its contest. What is asked
-- for: a validation accuracy of `target` for the least energy; where that is null, to come within `tolerance` of the most
-- accurate epoch of the contest; and in any case no more than so many grams and seconds, of which null is no limit.
-- Accuracies are fractions.
create or replace macro recommended(target, tolerance, most_co2_g, most_duration_s) as table
with curves as materialized (
    from recipe_epochs
),
-- Epochs within an unfinished schedule are no points, and take their time all the same.
incomplete as (
    select recipe_key
    from curves
    group by recipe_key
    having max(epoch) > count(*)
),
late as (
    select
        contestants.recipe_key,
        epochs.epoch,
        sum(avg(epochs.duration_s)) over (partition by contestants.recipe_key order by epochs.epoch) as until_s
    from epochs
    join contestants using (run_key)
    where contestants.counts and contestants.recipe_key in (select recipe_key from incomplete)
    group by contestants.recipe_key, epochs.epoch
),
-- Summed up at every epoch only where a limit asks for it: a quarter of the time at a million epochs.
elapsed as (
    select
        curves.recipe_key,
        curves.epoch,
        coalesce(
            late.until_s,
            sum(curves.epoch_duration_s) over (partition by curves.recipe_key order by curves.epoch)
        ) as until_s
    from curves
    left join late using (recipe_key, epoch)
    where most_duration_s is not null
),
points as materialized (
    select
        curves.*,
        curves.is_learned and curves.energy_kwh is not null as is_eligible,
        -- What is unknown keeps within no limit.
        is_eligible
            and (most_co2_g is null or coalesce(curves.co2_g <= most_co2_g, false))
            and (most_duration_s is null or coalesce(elapsed.until_s <= most_duration_s, false)) as is_inside
    from curves
    left join elapsed using (recipe_key, epoch)
),
-- Whoever runs a recipe to its end pays for all of its epochs, and keeps the best.
wholes as (
    select
        recipe_key,
        any_value(contest_key) as contest_key,
        max(epoch) as last_epoch,
        max(accuracy) as most_accuracy,
        max(accuracy) filter (is_learned) as most_learned_accuracy,
        max(accuracy) filter (is_eligible) as most_eligible_accuracy,
        max(accuracy) filter (is_inside) as most_inside_accuracy,
        -- Of equally accurate epochs the first.
        arg_max(std_accuracy, (accuracy, -epoch)) as std_most_accuracy,
        any_value(num_runs) as num_trained,
        any_value(num_seeds) = 1 as is_of_one_seed,
        if(count(*) = count(energy_kwh), max(energy_kwh), null) as spent_kwh,
        if(count(*) = count(co2_g), max(co2_g), null) as spent_co2_g,
        sum(epoch_duration_s) as known_s,
        max(source) as worst_source
    from points
    group by recipe_key
),
asked as (
    select
        *,
        coalesce(
            target,
            max(most_inside_accuracy) over (partition by contest_key) - tolerance
        ) as least_accuracy
    from wholes
),
-- Energy, grams and seconds only grow from epoch to epoch, so that the first that serves is the cheapest.
firsts as (
    select
        points.recipe_key,
        -- 1e-9: 0.9 - 0.89 is a little more than 0.01 in binary.
        min(points.epoch) filter (points.is_inside and points.accuracy >= asked.least_accuracy - 1e-9) as served_epoch,
        min(points.epoch) filter (points.is_inside and points.accuracy = asked.most_inside_accuracy) as inside_epoch,
        min(points.epoch) filter (points.is_eligible) as eligible_epoch,
        min(points.epoch) filter (points.is_learned and points.accuracy = asked.most_learned_accuracy) as learned_epoch,
        min(points.epoch) filter (points.accuracy = asked.most_accuracy) as accurate_epoch
    from points
    join asked using (recipe_key)
    group by points.recipe_key
),
judged as (
    select
        *,
        coalesce(served_epoch, inside_epoch, eligible_epoch, learned_epoch, accurate_epoch) as chosen_epoch,
        case
            when served_epoch is not null then 0
            when inside_epoch is not null then 1
            when eligible_epoch is not null then 2
            when learned_epoch is not null then 3
            else 4
        end as rung,
        [
            null, 'not accurate enough', 'outside the limits', 'energy unknown', 'not clearly above guessing'
        ][1 + rung] as shortfall
    from firsts
),
until_chosen as (
    select
        judged.recipe_key,
        sum(curves.epoch_duration_s) as known_s
    from judged
    join curves on curves.recipe_key = judged.recipe_key and curves.epoch <= judged.chosen_epoch
    group by judged.recipe_key
),
placed as (
    select
        points.* exclude (contest_key, epoch_duration_s),
        asked.* exclude (recipe_key, known_s),
        coalesce(late.until_s, until_chosen.known_s) as duration_s,
        coalesce(latest.until_s, asked.known_s) as spent_s,
        judged.shortfall,
        judged.accurate_epoch,
        -- What serves is judged by its energy, as is what lies outside the limits; the rest by its accuracy. Of equally
        -- cheap ones it is the most accurate, then the shortest, then the oldest, as in `swaps`.
        row_number() over (
            partition by asked.contest_key
            order by
                judged.rung,
                if(judged.rung in (0, 2), points.energy_kwh, -points.accuracy),
                -points.accuracy,
                points.energy_kwh nulls last,
                points.epoch,
                points.recipe_key
        ) as place,
        count(*) over (partition by asked.contest_key) as num_recipes,
        count(*) filter (judged.shortfall = 'energy unknown') over (partition by asked.contest_key) as num_unread
    from judged
    join asked using (recipe_key)
    join points on points.recipe_key = judged.recipe_key and points.epoch = judged.chosen_epoch
    join until_chosen on until_chosen.recipe_key = judged.recipe_key
    left join late on late.recipe_key = judged.recipe_key and late.epoch = judged.chosen_epoch
    left join late as latest on latest.recipe_key = judged.recipe_key and latest.epoch = asked.last_epoch
),
known as materialized (
    select
        recipes.* exclude (config),
        -- Files from elsewhere hold what they hold.
        if(json_type(recipes.config) = 'OBJECT', recipes.config, '{}'::json) as known_config,
        -- One training, whatever ends it and whatever it is called: at the same epoch it is the same. Of a config that
        -- is all but greenml.config.STOP_RULES and OF_ONE_RUN (tests/test_recommend.py).
        if(
            kind in ('train', 'trial'),
            hash(precision, machine_of(hardware), json_extract_string(known_config, [
                'model', 'model_args', 'dataset', 'image_size', 'augment', 'val_fraction', 'split_seed', 'batch_size',
                'grad_accum', 'optimizer', 'lr', 'weight_decay', 'label_smoothing', 'warmup_steps', 'ema_decay',
                'precision', 'device', 'num_threads', 'meter', 'scope', 'tdp'
            ])),
            recipe_key
        ) as training_key
    from recipes
),
ends as (
    select
        placed.recipe_key,
        placed.contest_key,
        placed.place,
        row_number() over (partition by placed.contest_key, known.training_key order by placed.place) = 1 as is_first
    from placed
    join known using (recipe_key)
),
choices as (
    select
        recipe_key,
        is_first,
        count(*) filter (is_first) over (partition by contest_key order by place) as num_firsts
    from ends
),
-- What the first is held against: what people would take for its accuracy alone, trained to its end; where a target is
-- asked for, the next training that reached it, at the epoch where it did.
opponents as (
    select
        contest_key,
        coalesce(
            if(
                target is null,
                arg_min(recipe_key, (-most_eligible_accuracy, coalesce(spent_kwh, 'inf'), recipe_key))
                    filter (most_eligible_accuracy is not null),
                any_value(recipe_key) filter (is_second and shortfall is null)
            ),
            any_value(recipe_key) filter (place = 1)
        ) as opponent_key,
        target is not null and bool_or(is_second and shortfall is null) as is_at_its_epoch
    from (select *, is_first and num_firsts = 2 as is_second from placed join choices using (recipe_key))
    group by contest_key
),
paired as (
    select
        placed.*,
        opponents.opponent_key,
        if(opponents.is_at_its_epoch, opponent.epoch, opponent.last_epoch) as opponent_epochs,
        if(opponents.is_at_its_epoch, opponent.epoch, opponent.accurate_epoch) as opponent_best_epoch,
        if(opponents.is_at_its_epoch, opponent.num_runs, opponent.num_trained) as opponent_num_runs,
        if(opponents.is_at_its_epoch, opponent.accuracy, opponent.most_accuracy) as opponent_accuracy,
        if(opponents.is_at_its_epoch, opponent.std_accuracy, opponent.std_most_accuracy) as opponent_std_accuracy,
        if(opponents.is_at_its_epoch, opponent.energy_kwh, opponent.spent_kwh) as opponent_kwh,
        if(opponents.is_at_its_epoch, opponent.co2_g, opponent.spent_co2_g) as opponent_co2_g,
        if(opponents.is_at_its_epoch, opponent.source, opponent.worst_source) as opponent_source,
        -- One run says nothing of the spread, nor does one seed twice; who trains without a seed repeats with each run.
        placed.num_trained = 1 or placed.is_of_one_seed as is_unrepeated,
        -- Of the two, the one of unknown spread: the cheaper first.
        row_number() over (
            partition by placed.contest_key
            order by
                is_unrepeated and (placed.place = 1 or placed.recipe_key = opponents.opponent_key) desc,
                placed.spent_kwh nulls last,
                placed.recipe_key
        ) as repeat_place
    from placed
    join opponents using (contest_key)
    join placed as opponent on opponent.recipe_key = opponents.opponent_key
),
-- As many epochs of the first as reach what a recipe reached at its best, within the limits.
enough as (
    select
        rival.recipe_key,
        any_value(best.recipe_key) as best_key,
        min(points.epoch) as first_epoch
    from placed as rival
    join placed as best on best.contest_key = rival.contest_key and best.place = 1 and best.shortfall is null
    join points
        on points.recipe_key = best.recipe_key
        and points.is_inside
        and points.accuracy >= rival.most_accuracy - tolerance - 1e-9
    where rival.recipe_key <> best.recipe_key
    group by rival.recipe_key
),
tried as (
    select contest_key, list_sort(list(distinct model)) as all_models
    from known
    group by contest_key
)
select
    own.contest,
    own.dataset,
    paired.place,
    paired.shortfall,
    paired.least_accuracy,
    own.model,
    own.precision,
    paired.epoch as epochs,
    paired.num_runs,
    paired.accuracy,
    paired.std_accuracy,
    paired.energy_kwh,
    paired.co2_g,
    paired.duration_s,
    paired.source,
    own.run_ids,
    own.seeds,
    own.regions,
    own.pues,
    paired.last_epoch as trained_epochs,
    paired.num_trained as trained_num_runs,
    paired.accurate_epoch as best_epoch,
    paired.most_accuracy as trained_accuracy,
    paired.spent_kwh as trained_energy_kwh,
    paired.spent_co2_g as trained_co2_g,
    paired.spent_s as trained_duration_s,
    paired.worst_source as trained_source,
    other.model as against_model,
    other.precision as against_precision,
    paired.opponent_epochs as against_epochs,
    paired.opponent_num_runs as against_num_runs,
    paired.opponent_accuracy as against_accuracy,
    paired.opponent_std_accuracy as against_std_accuracy,
    paired.opponent_kwh as against_energy_kwh,
    paired.opponent_co2_g as against_co2_g,
    other.run_ids as against_run_ids,
    paired.opponent_source as against_source,
    -- Where the other had its accuracy: what it took from there to its last epoch bought none.
    paired.opponent_best_epoch as against_best_epoch,
    best_of_other.energy_kwh as against_best_energy_kwh,
    best_of_other.co2_g as against_best_co2_g,
    paired.recipe_key = paired.opponent_key as is_same_recipe,
    paired.accuracy - paired.opponent_accuracy as accuracy_difference,
    greatest(paired.source, paired.opponent_source) as ratio_source,
    paired.energy_kwh / nullif(paired.opponent_kwh, 0) as energy_ratio,
    paired.co2_g / nullif(paired.opponent_co2_g, 0) as co2_ratio,
    -- Null where one of them ran under one seed: nobody knows its spread.
    within_spread(
        paired.accuracy - paired.opponent_accuracy, paired.std_accuracy, paired.opponent_std_accuracy
    ) as is_within_spread,
    paired.is_unrepeated
        and paired.repeat_place = 1
        and (paired.place = 1 or paired.recipe_key = paired.opponent_key) as is_worth_repeating,
    instead.epoch as instead_epochs,
    instead.accuracy as instead_accuracy,
    instead.energy_kwh / nullif(paired.spent_kwh, 0) as instead_energy_ratio,
    instead.co2_g / nullif(paired.spent_co2_g, 0) as instead_co2_ratio,
    within_spread(
        instead.accuracy - paired.most_accuracy, instead.std_accuracy, paired.std_most_accuracy
    ) as instead_is_within_spread,
    paired.num_recipes,
    paired.num_unread,
    tried.all_models as tried_models,
    own.is_any_imported as is_imported,
    own.is_any_unfinished as is_unfinished,
    own.kind,
    own.num_parameters,
    own.hardware,
    own.known_config as config,
    own.command,
    own.started_at,
    -- Of the same training, stopped by several rules, only the best is a choice, and has a place among these.
    if(choices.is_first, choices.num_firsts, null) as training_place,
    paired.recipe_key,
    paired.opponent_key as against_recipe_key
from paired
join known as own using (recipe_key)
join known as other on other.recipe_key = paired.opponent_key
join choices on choices.recipe_key = paired.recipe_key
join tried on tried.contest_key = paired.contest_key
join points as best_of_other
    on best_of_other.recipe_key = paired.opponent_key
    and best_of_other.epoch = paired.opponent_best_epoch
left join enough on enough.recipe_key = paired.recipe_key
left join points as instead on instead.recipe_key = enough.best_key and instead.epoch = enough.first_epoch;
