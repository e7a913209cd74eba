-- One row per group of repeats (one config on the same data and split, under any seed): mean and spread of its ranked runs.
create or replace view leaderboard_groups as
with members as (
    select
        * replace (if(metric = 'accuracy', test_accuracy, value) as value),
        num_epochs as epochs,
        test_accuracy as accuracy,
        total_kwh as energy_kwh,
        kwh(setup_j) as setup_kwh,
        kwh(own_j) as own_kwh,
        total_co2_g as co2_g,
        worst_source as source,
        -- A run that nobody can repeat, as it is from before groups, stands alone.
        coalesce(group_hash, run_id) as repeated,
        reason is null as counts,
        status not in ('running', 'waiting', 'paused', 'crashed', 'failed') as is_over
    from run_figures
),
figures as (
    select
        contest,
        repeated,
        any_value(data_hash) as common_data_hash,
        any_value(split_hash) as common_split_hash,
        any_value(scope) as common_scope,
        any_value(metric) as common_metric,
        any_value(goal) as common_goal,
        arg_min(model, (started_at, run_id)) as first_model,
        arg_min(method, (started_at, run_id)) as first_method,
        arg_min(dataset, (started_at, run_id)) as first_dataset,
        arg_min(precision, (started_at, run_id)) as first_precision,
        arg_min(device, (started_at, run_id)) as first_device,
        list_distinct(flatten(list(tags))) as all_tags,
        count(*) as total_runs,
        count(*) filter (where counts) as counted_runs,
        count(*) filter (where not is_over) as unfinished_runs,
        coalesce(list(seed order by started_at, run_id) filter (seed is not null), []) as all_seeds,
        list(run_id order by started_at, run_id) as all_run_ids,
        max(epochs) as most_epochs,
        avg(value) filter (where counts) as average_value,
        avg(accuracy) filter (where counts) as average_accuracy,
        -- On a CPU one seed gives one accuracy: that it came out twice says nothing about the spread.
        if(
            min(seed) filter (where counts) < max(seed) filter (where counts),
            stddev_samp(accuracy) filter (where counts),
            null
        ) as spread_accuracy,
        min(accuracy) filter (where counts) as least_accuracy,
        max(accuracy) filter (where counts) as most_accuracy,
        avg(energy_kwh) filter (where counts) as average_kwh,
        stddev_samp(energy_kwh) filter (where counts) as spread_kwh,
        -- Where no run counts, what those took that are over; avg() skips nulls, and a mean over a gap is none.
        if(
            not bool_or(counts) and bool_and(energy_kwh is not null) filter (where is_over),
            avg(energy_kwh) filter (where is_over),
            null
        ) as average_unranked_kwh,
        avg(co2_g) filter (where counts) as average_co2_g,
        stddev_samp(co2_g) filter (where counts) as spread_co2_g,
        avg(duration_s) filter (where counts) as average_s,
        -- Runs so short that setting up outweighs them say more together than each alone.
        sum(setup_kwh) / nullif(sum(own_kwh), 0) as common_setup_share,
        -- Of what the means are made of, where there are means.
        coalesce(max(source) filter (where counts), max(source) filter (where is_over), max(source)) as worst_source,
        min(started_at) as first_started_at
    from members
    group by contest, repeated
),
ratios as (
    select
        *,
        100 * average_accuracy / average_kwh as points_per_kwh
    from figures
)
select
    first_model as model,
    first_method as method,
    first_dataset as dataset,
    common_data_hash as data_hash,
    common_split_hash as split_hash,
    contest,
    common_scope as scope,
    common_metric as metric,
    common_goal as goal,
    average_value as mean_value,
    first_precision as precision,
    first_device as device,
    all_tags as tags,
    total_runs as num_runs,
    counted_runs as num_ranked,
    total_runs - counted_runs as num_unranked,
    unfinished_runs as num_unfinished,
    all_seeds as seeds,
    all_run_ids as run_ids,
    most_epochs as max_epochs,
    average_accuracy as mean_accuracy,
    spread_accuracy as std_accuracy,
    least_accuracy as min_accuracy,
    most_accuracy as max_accuracy,
    average_kwh as mean_energy_kwh,
    spread_kwh as std_energy_kwh,
    average_unranked_kwh as mean_unranked_kwh,
    average_co2_g as mean_co2_g,
    spread_co2_g as std_co2_g,
    average_s as mean_duration_s,
    common_setup_share as setup_share,
    points_per_kwh as acc_per_kwh,
    if(
        counted_runs > 0 and common_metric = 'accuracy',
        rank() over (partition by contest, counted_runs > 0 order by points_per_kwh desc),
        null
    ) as rank,
    worst_source as source,
    first_started_at as started_at
from ratios;
