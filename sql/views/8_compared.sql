-- One row per figure of two runs, in the order in which people read them: both values, the difference, and how far
-- repeats of the two lie apart. Unknown is null; so is a difference between what cannot be compared.
create or replace macro compared(first_id, second_id) as table
with asked as (
    select
        runs.run_id,
        runs.run_key,
        runs.metric,
        runs.goal,
        runs.scope,
        coalesce(runs.data_hash, nullif('named ' || runs.dataset, 'named unknown')) as data,
        runs.split_hash,
        coalesce(totals.overlap_s, 0) = 0 and not was_replayed(runs.meter) as has_own_energy,
        contestants.recipe_key
    from runs
    left join totals using (run_key)
    left join contestants using (run_key)
    where runs.run_id in (first_id, second_id)
),
alike as (
    select
        x.data = y.data and x.split_hash is not distinct from y.split_hash
            and x.metric = y.metric and x.goal = y.goal as is_one_contest,
        x.scope = y.scope and x.has_own_energy and y.has_own_energy as is_one_meter
    from asked as x
    join asked as y on x.run_id = first_id and y.run_id = second_id
),
-- Each of the two, and the finished runs of its recipe: they say how far repeats lie apart.
members as (
    select
        asked.run_id as asked_id,
        asked.run_id as member_id,
        asked.run_key as member_key,
        coalesce(contestants.is_done, false) as is_repeat
    from asked
    left join contestants using (run_key)
    union all
    select
        asked.run_id,
        contestants.run_id,
        contestants.run_key,
        true
    from asked
    join contestants using (recipe_key)
    where contestants.is_done and contestants.run_key <> asked.run_key
),
-- The lower of the two best accuracies: what both reached.
best as (
    select run_key, max(val_accuracy) as best_accuracy
    from epochs
    where run_key in (select run_key from asked)
    group by run_key
),
target as (
    select if(count(best_accuracy) = 2 and bool_and(is_one_contest), min(best_accuracy), null) as target_accuracy
    from best
    cross join alike
),
reached as (
    select
        epochs.run_key as member_key,
        min(epochs.epoch) as target_epoch,
        arg_min_null(epochs.energy_total_j, epochs.epoch) as target_j
    from epochs
    cross join target
    where epochs.run_key in (select member_key from members)
        and epochs.val_accuracy >= target.target_accuracy - 1e-9
    group by epochs.run_key
),
speeds as (
    select
        run_key as member_key,
        avg(duration_s) as epoch_s,
        if(count(*) = count(energy_j), avg(energy_j), null) as epoch_j
    from epochs
    where run_key in (select member_key from members)
    group by run_key
),
spans as (
    select
        run_key as member_key,
        (epoch_us(max(ended_at)) - epoch_us(min(started_at))) / 1e6 as wall_s,
        sum(epoch_us(ended_at) - epoch_us(started_at)) / 1e6 as metered_s
    from phase_rows
    where run_key in (select member_key from members)
    group by run_key
),
measured as (
    select
        members.*,
        run_figures.seed,
        unnest(
            [
                {'place': 1, 'figure': 'co2_g', 'needs': 'meter', 'number': run_figures.total_co2_g},
                {'place': 2, 'figure': 'energy_kwh', 'needs': 'meter', 'number': run_figures.total_kwh},
                {'place': 3, 'figure': 'joules_per_sample', 'needs': 'meter', 'number': run_figures.mean_sample_j},
                {'place': 4, 'figure': 'peak_host_bytes', 'needs': '', 'number': run_figures.most_host_bytes},
                {'place': 5, 'figure': 'peak_device_bytes', 'needs': '', 'number': run_figures.most_device_bytes},
                {'place': 6, 'figure': 'accuracy', 'needs': 'contest', 'number': run_figures.test_accuracy},
                {'place': 7, 'figure': 'val_accuracy', 'needs': 'contest', 'number': run_figures.chosen_val_accuracy},
                {
                    'place': 8,
                    'figure': 'value',
                    'needs': 'contest',
                    'number': if(run_figures.metric = 'accuracy', null, run_figures.value)
                },
                {'place': 9, 'figure': 'wall_s', 'needs': '', 'number': spans.wall_s},
                {'place': 10, 'figure': 'waited_s', 'needs': '', 'number': run_figures.waited_s},
                -- Between two lives of a run: phases tile each of them.
                {
                    'place': 11,
                    'figure': 'paused_s',
                    'needs': '',
                    'number': greatest(spans.wall_s - spans.metered_s, 0)
                },
                {'place': 12, 'figure': 'epochs', 'needs': '', 'number': nullif(run_figures.num_epochs, 0)},
                {'place': 13, 'figure': 'epoch_s', 'needs': '', 'number': speeds.epoch_s},
                {'place': 14, 'figure': 'epoch_kwh', 'needs': 'meter', 'number': kwh(speeds.epoch_j)},
                {'place': 15, 'figure': 'target_epoch', 'needs': 'contest', 'number': reached.target_epoch},
                {'place': 16, 'figure': 'target_kwh', 'needs': 'both', 'number': kwh(reached.target_j)}
            ],
            recursive := true
        )
    from members
    join run_figures on run_figures.run_key = members.member_key
    left join speeds using (member_key)
    left join spans using (member_key)
    left join reached using (member_key)
),
judged as (
    select
        asked_id,
        place,
        figure,
        any_value(needs) as need,
        max(number) filter (member_id = asked_id) as own,
        count(distinct member_id) filter (is_repeat) as num_repeats,
        -- stddev_samp() skips nulls. On a CPU one seed learns the same twice, which says nothing of the spread.
        if(
            count(number) filter (is_repeat) = count(*) filter (is_repeat)
            and (
                figure not in ('accuracy', 'val_accuracy', 'value', 'epochs', 'target_epoch', 'target_kwh')
                or count(distinct seed) filter (is_repeat) > 1
            ),
            stddev_samp(number) filter (is_repeat),
            null
        ) as std
    from measured
    group by asked_id, place, figure
),
paired as (
    select
        x.place,
        x.figure,
        x.own as first,
        y.own as second,
        x.std as first_std,
        y.std as second_std,
        x.num_repeats as first_num_repeats,
        y.num_repeats as second_num_repeats,
        (x.need not in ('meter', 'both') or alike.is_one_meter)
            and (x.need not in ('contest', 'both') or coalesce(alike.is_one_contest, false)) as is_comparable,
        sqrt(x.std ** 2 + y.std ** 2) as both_std
    from judged as x
    join judged as y on x.place = y.place
    cross join alike
    where x.asked_id = first_id and y.asked_id = second_id
)
select
    figure,
    first,
    second,
    if(is_comparable, second - first, null) as difference,
    if(is_comparable, (second - first) / nullif(first, 0), null) as relative_difference,
    first_std,
    second_std,
    first_num_repeats,
    second_num_repeats,
    -- Null where one of them ran once: nobody knows its spread.
    both_std as spread,
    -- Two runs of one recipe lie exactly one spread apart.
    if(is_comparable, not within_spread(second - first, first_std, second_std), null) as exceeds_spread,
    is_comparable,
    (select target_accuracy from target) as target_accuracy
from paired
order by place;
