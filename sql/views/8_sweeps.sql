-- One row per attempt at a trial of a sweep: what it took. Removed runs are among them, as what they took was taken; of one
-- that has no row, as it died before it said a word or was purged, nothing is known.
create or replace view trial_attempts as
with tried as (
    select
        sweeps.run_id as sweep_id,
        trial_rows.number,
        trial_rows.state,
        unnest(trial_rows.attempts) as run_id,
        unnest(range(1, len(trial_rows.attempts) + 1)) as attempt,
        len(trial_rows.attempts) as num_attempts
    from trial_rows
    join runs as sweeps using (run_key)
)
select
    tried.sweep_id,
    tried.number,
    tried.attempt,
    tried.run_id,
    run_rows.status,
    totals.cpu_j + totals.gpu_j + totals.ram_j as total_j,
    coalesce(totals.known_j, 0) as known_j,
    (totals.cpu_j + totals.gpu_j + totals.ram_j) * run_rows.pue
        * coalesce(totals.g_per_kwh, run_rows.intensity_g_per_kwh) as total_site_j,
    coalesce(greatest(totals.cpu_source, totals.gpu_source, totals.ram_source), 'unknown'::energy_source) as source,
    -- Nothing came of it: it was tried again, or the trial failed.
    tried.attempt < tried.num_attempts or tried.state = 'failed' as is_wasted,
    run_rows.ended_at
from tried
left join run_rows using (run_id)
left join totals using (run_key);

-- One row per trial of a sweep: what was drawn, how far it came, and what all attempts at it took. A trial that takes over
-- an earlier run took nothing here.
create or replace view trials as
with tried as (
    select
        trial_rows.*,
        sweeps.run_id as sweep_id,
        coalesce(trial_rows.attempts[-1], trial_rows.origin) as last_id
    from trial_rows
    join runs as sweeps using (run_key)
),
attempted as (
    select
        sweep_id,
        number,
        -- sum() skips nulls, and a sum over a gap is not a total.
        if(count(*) = count(total_j), sum(total_j), null) as all_j,
        if(count(*) = count(total_site_j), sum(total_site_j), null) as all_site_j,
        sum(known_j) as all_known_j,
        sum(known_j) filter (is_wasted) as lost_j,
        max(source) as worst_source
    from trial_attempts
    group by sweep_id, number
),
-- Of a million epochs those of the trials alone are looked at (tests/bench_store.py).
learned as (
    select
        run_key as last_key,
        count(*) filter (schedule_complete) as num_epochs,
        max(val_accuracy) filter (schedule_complete) as best_accuracy
    from last_attempts
    where run_key in (select run_rows.run_key from run_rows where run_id in (select last_id from tried))
    group by run_key
)
select
    tried.sweep_id,
    tried.number,
    tried.state,
    tried.reason,
    tried.origin,
    tried.params,
    tried.last_id as run_id,
    run_rows.model,
    run_rows.precision,
    coalesce(learned.num_epochs, 0) as epochs,
    learned.best_accuracy as accuracy,
    len(tried.attempts) as num_attempts,
    if(tried.origin is null, kwh(attempted.all_j), 0) as energy_kwh,
    if(tried.origin is null, kwh(attempted.all_site_j), 0) as co2_g,
    coalesce(kwh(attempted.all_known_j), 0) as known_kwh,
    -- What is known of attempts that nothing came of.
    coalesce(kwh(attempted.lost_j), 0) as wasted_kwh,
    -- Of the energy; one that took none here has none.
    if(tried.origin is null, coalesce(attempted.worst_source, 'unknown'::energy_source), null) as source,
    tried.attempts
from tried
left join attempted using (sweep_id, number)
left join run_rows on run_rows.run_id = tried.last_id
left join learned on learned.last_key = run_rows.run_key;

-- One row per sweep: what its trials took, and what it took beside them.
create or replace view sweeps as
with tried as (
    select
        trials.sweep_id,
        count(*) as all_trials,
        count(*) filter (trials.state = 'complete' and trials.origin is null) as num_well,
        count(*) filter (trials.state = 'failed') as num_ill,
        count(*) filter (trials.origin is not null) as num_earlier,
        -- sum() skips nulls, and a sum over a gap is not a total.
        if(count(*) = count(trials.energy_kwh), sum(trials.energy_kwh), null) as all_kwh,
        if(count(*) = count(trials.co2_g), sum(trials.co2_g), null) as all_g,
        sum(trials.known_kwh) as all_known_kwh,
        sum(trials.wasted_kwh) as all_wasted_kwh,
        max(trials.source) as worst_source,
        -- Its own run is of no contest, as it saw no data.
        any_value(runs.contest) as one_contest
    from trials
    left join runs using (run_id)
    group by trials.sweep_id
),
summed as (
    select
        runs.run_key,
        coalesce(tried.all_kwh, if(tried.all_trials is null, 0, null)) as all_kwh,
        coalesce(tried.all_g, if(tried.all_trials is null, 0, null)) as all_g,
        coalesce(tried.all_known_kwh, 0) as all_known_kwh,
        kwh(totals.total_j) as own_kwh,
        totals.co2_g as own_g,
        coalesce(kwh(totals.known_j), 0) as own_known_kwh,
        -- greatest() skips nulls; who has no phase yet has read nothing.
        greatest(tried.worst_source, coalesce(totals.source, 'unknown'::energy_source)) as worst_source,
        tried.* exclude (sweep_id, all_kwh, all_g, all_known_kwh, worst_source)
    from study_rows
    join runs using (run_key)
    left join run_totals as totals using (run_key)
    left join tried on tried.sweep_id = runs.run_id
)
select
    runs.run_id,
    runs.name,
    runs.tags,
    runs.status,
    runs.stop_reason,
    runs.dataset,
    summed.one_contest as contest,
    runs.model as models,
    study_rows.sampler,
    study_rows.seed,
    study_rows.num_trials,
    coalesce(summed.all_trials, 0) - coalesce(summed.num_earlier, 0) as num_drawn,
    coalesce(summed.num_well, 0) as num_complete,
    coalesce(summed.num_ill, 0) as num_failed,
    coalesce(summed.num_earlier, 0) as num_known,
    summed.all_kwh as trials_kwh,
    summed.own_kwh as overhead_kwh,
    summed.all_kwh + summed.own_kwh as energy_kwh,
    summed.all_known_kwh + summed.own_known_kwh as known_kwh,
    coalesce(summed.all_wasted_kwh, 0) as wasted_kwh,
    summed.all_g + summed.own_g as co2_g,
    summed.worst_source as source,
    study_rows.space,
    study_rows.base,
    study_rows.limits,
    study_rows.stops_early,
    study_rows.floor,
    runs.command,
    runs.started_at,
    runs.ended_at
from study_rows
join runs using (run_key)
join summed using (run_key);

-- One row per epoch of a sweep's trials that may be on its front: validation accuracy for the grams so far, set-up
-- included, without the test. What breaks a constraint of the space is no such point.
create or replace view sweep_points as
select
    trials.sweep_id,
    trials.number,
    trials.run_id,
    trials.origin is not null as is_known,
    trials.model,
    trials.precision,
    trials.params,
    all_epochs.epoch,
    all_epochs.val_accuracy as accuracy,
    kwh(all_epochs.energy_total_j) as energy_kwh,
    -- By the sweep's factor, whatever the hour: an earlier run on another grid is told in its grams, too, and no trial is
    -- better for the night in which it was drawn.
    kwh(all_epochs.energy_total_j) * sweep_runs.pue * sweep_runs.intensity_g_per_kwh as co2_g,
    all_epochs.source,
    -- What learned nothing costs next to nothing, and would be on every front.
    all_epochs.val_accuracy > study_rows.floor as is_learned,
    -- When the trial's epochs were known to the search: an earlier run's from the start.
    if(trials.origin is null, runs.ended_at, sweep_runs.started_at) as known_at
from trials
join runs using (run_id)
join runs as sweep_runs on sweep_runs.run_id = trials.sweep_id
join study_rows on study_rows.run_key = sweep_runs.run_key
join all_epochs on all_epochs.run_key = runs.run_key
where trials.state = 'complete'
    -- An earlier run may have gone on for longer than a trial may.
    and all_epochs.epoch <= coalesce((study_rows.base ->> '$.epochs')::integer, all_epochs.epoch)
    and all_epochs.schedule_complete
    and all_epochs.val_accuracy is not null
    and all_epochs.energy_total_j is not null
    and all_epochs.val_accuracy >= coalesce((study_rows.space ->> '$.constraints.min_accuracy')::double, 0)
    and coalesce(runs.num_parameters <= (study_rows.space ->> '$.constraints.max_parameters')::bigint, true);

-- One row per epoch of a sweep's trials that clearly learned, and that no other of its trials beats: more accurate on
-- validation for less.
create or replace view sweep_front as
with ladder as (
    select
        *,
        max(accuracy) over (
            partition by sweep_id
            order by co2_g, accuracy desc, number, epoch
            rows between unbounded preceding and 1 preceding
        ) as best_below
    from sweep_points
    where is_learned
)
select
    sweep_id,
    number,
    run_id,
    model,
    precision,
    epoch as epochs,
    accuracy,
    energy_kwh,
    co2_g,
    source,
    params
from ladder
where best_below is null or accuracy > best_below;

-- One row per moment of a sweep at which it knew more, as an attempt had ended, or the sweep itself: what it had taken by
-- then. An attempt counts when it has ended.
create or replace view sweep_moments as
with ends as (
    select sweep_id, number, run_id, ended_at
    from trial_attempts
    where ended_at is not null
    union all
    select runs.run_id, null, null, runs.ended_at
    from study_rows
    join runs using (run_key)
    where runs.ended_at is not null
    union all
    select sweep_id, null, null, known_at
    from sweep_points
    where is_known and is_learned
),
moments as (
    select
        sweep_id,
        ended_at,
        arg_min(number, number) as last_number,
        arg_min(run_id, number) as last_run_id
    from ends
    group by sweep_id, ended_at
),
spendings as (
    select sweep_id, ended_at, known_j, total_j is null as is_unknown
    from trial_attempts
    where ended_at is not null
    union all
    -- Of one that died before it said a word nobody knows when that was: by the end of the sweep it is a gap.
    select trial_attempts.sweep_id, sweep_runs.ended_at, 0, true
    from trial_attempts
    join runs as sweep_runs on sweep_runs.run_id = trial_attempts.sweep_id
    where trial_attempts.ended_at is null and sweep_runs.ended_at is not null
    union all
    select
        runs.run_id,
        phase_rows.ended_at,
        coalesce(phase_rows.cpu_j, 0) + coalesce(phase_rows.gpu_j, 0) + coalesce(phase_rows.ram_j, 0),
        phase_rows.joules is null
    from study_rows
    join runs using (run_key)
    join phase_rows using (run_key)
),
spent as (
    select
        moments.sweep_id,
        moments.ended_at,
        any_value(moments.last_number) as number,
        any_value(moments.last_run_id) as run_id,
        coalesce(sum(spendings.known_j), 0) as until_j,
        coalesce(bool_or(spendings.is_unknown), false) as has_gap
    from moments
    left join spendings on spendings.sweep_id = moments.sweep_id and spendings.ended_at <= moments.ended_at
    group by moments.sweep_id, moments.ended_at
)
select
    sweep_id,
    row_number() over (partition by sweep_id order by ended_at) as step,
    ended_at,
    number,
    run_id,
    if(has_gap, null, kwh(until_j)) as energy_kwh,
    kwh(until_j) as known_kwh
from spent;

-- One row per moment of a sweep and point of its front as it was then, with the grams of the next dearer one.
create or replace view sweep_fronts as
-- Of a trial, what none of its own epochs beats.
with steps as (
    select *
    from sweep_points
    where is_learned
    qualify accuracy > coalesce(
        max(accuracy) over (
            partition by sweep_id, number
            order by co2_g, accuracy desc, epoch
            rows between unbounded preceding and 1 preceding
        ),
        -1
    )
),
ladders as (
    select
        sweep_moments.step,
        sweep_moments.ended_at,
        steps.*,
        max(steps.accuracy) over (
            partition by sweep_moments.sweep_id, sweep_moments.step
            order by steps.co2_g, steps.accuracy desc, steps.number, steps.epoch
            rows between unbounded preceding and 1 preceding
        ) as best_below
    from sweep_moments
    join steps on steps.sweep_id = sweep_moments.sweep_id and steps.known_at <= sweep_moments.ended_at
)
select
    sweep_id,
    step,
    ended_at,
    number,
    run_id,
    model,
    precision,
    epoch as epochs,
    accuracy,
    energy_kwh,
    co2_g,
    lead(co2_g) over (partition by sweep_id, step order by co2_g) as next_co2_g
from ladders
where best_below is null or accuracy > best_below;

-- One row per moment of a sweep: what it had taken by then, and the share of a rectangle that its points then beat: from no
-- accuracy to all, and on a logarithmic scale from the cheapest of its points to the dearest.
create or replace view sweep_progress as
with bounds as (
    select sweep_id, min(co2_g) as least_g, max(co2_g) as most_g
    from sweep_points
    where co2_g > 0 and is_learned
    group by sweep_id
),
areas as (
    select
        sweep_fronts.sweep_id,
        sweep_fronts.step,
        sum((ln(coalesce(sweep_fronts.next_co2_g, bounds.most_g)) - ln(sweep_fronts.co2_g)) * sweep_fronts.accuracy)
            / nullif(ln(any_value(bounds.most_g)) - ln(any_value(bounds.least_g)), 0) as area
    from sweep_fronts
    join bounds using (sweep_id)
    where sweep_fronts.co2_g > 0
    group by sweep_fronts.sweep_id, sweep_fronts.step
)
select
    sweep_moments.sweep_id,
    sweep_moments.step,
    sweep_moments.ended_at,
    sweep_moments.number,
    sweep_moments.run_id,
    sweep_moments.energy_kwh,
    sweep_moments.known_kwh,
    -- Where no two points lie apart there is no rectangle.
    if(bounds.most_g > bounds.least_g, coalesce(areas.area, 0), null) as hypervolume,
    bounds.least_g,
    bounds.most_g
from sweep_moments
left join areas on areas.sweep_id = sweep_moments.sweep_id and areas.step = sweep_moments.step
left join bounds on bounds.sweep_id = sweep_moments.sweep_id;

-- One row per sweep, parameter and objective: which share of the variance among the trials goes with the parameter alone,
-- corrected for what chance would explain (adjusted R squared over groups of equal values; a range of more than four
-- values is cut at its quartiles). Below ten trials nobody knows. `accuracy` is a trial's best on validation, `co2_g` the
-- logarithm of the grams that it took an epoch.
create or replace view sweep_importance as
with tried as (
    select
        sweep_id,
        number,
        any_value(run_id) as one_run_id,
        max(accuracy) as best_accuracy,
        ln(nullif(max(co2_g), 0) / max(epoch)) as log_g
    from sweep_points
    group by sweep_id, number
),
searched as (
    select runs.run_id as sweep_id, study_rows.space, unnest(json_keys(study_rows.space -> '$.parameters')) as key
    from study_rows
    join runs using (run_key)
),
chosen as (
    select
        tried.sweep_id,
        tried.number,
        searched.key,
        json_extract_string(searched.space, '$.parameters.' || searched.key || '[0].type') <> 'categorical' as is_range,
        coalesce(json_extract_string(runs.config, '$.' || searched.key), 'null') as value,
        unnest(['accuracy', 'co2_g']) as objective,
        unnest([tried.best_accuracy, tried.log_g]) as reached
    from tried
    join searched using (sweep_id)
    join runs on runs.run_id = tried.one_run_id
),
counted as (
    select sweep_id, key, count(distinct value) as num_values
    from chosen
    group by sweep_id, key
),
grouped as (
    select
        chosen.sweep_id,
        chosen.key,
        chosen.objective,
        chosen.reached,
        -- Equal values are never parted: they have one rank.
        if(
            chosen.is_range and counted.num_values > 4,
            floor(
                4 * percent_rank() over (
                    partition by chosen.sweep_id, chosen.key, chosen.objective order by try_cast(chosen.value as double)
                )
            )::integer::text,
            chosen.value
        ) as part
    from chosen
    join counted using (sweep_id, key)
    where chosen.reached is not null
),
parts as (
    select sweep_id, key, objective, count(*) as part_size, var_pop(reached) * count(*) as part_squares
    from grouped
    group by sweep_id, key, objective, part
),
within_parts as (
    select sweep_id, key, objective, count(*) as all_parts, sum(part_squares) as inner_squares
    from parts
    group by sweep_id, key, objective
),
wholes as (
    select sweep_id, key, objective, count(*) as all_trials, var_pop(reached) * count(*) as all_squares
    from grouped
    group by sweep_id, key, objective
)
select
    wholes.sweep_id,
    wholes.objective,
    wholes.key,
    wholes.all_trials as num_trials,
    within_parts.all_parts as num_groups,
    case
        when wholes.all_trials < 10 or wholes.all_trials <= within_parts.all_parts then null
        when wholes.all_squares < 1e-18 then null
        else greatest(
            0,
            1 - (within_parts.inner_squares / (wholes.all_trials - within_parts.all_parts))
                / (wholes.all_squares / (wholes.all_trials - 1))
        )
    end as importance
from wholes
join within_parts using (sweep_id, key, objective);
