-- One row per run: what it reached, what it took and how that is known, and its place among the runs of its contest.
create or replace view leaderboard as
with progress as (
    select
        run_key,
        max(epoch) as last_epoch,
        max(val_accuracy) as best_val_accuracy,
        if(count(*) = count(energy_j), sum(energy_j), null) / sum(num_samples) as mean_sample_j,
        max(peak_host_bytes) as most_host_bytes,
        max(peak_device_bytes) as most_device_bytes
    from epochs
    group by run_key
),
figures as (
    select
        runs.*,
        -- Nobody saw the epochs of a run that was never metered: it is taken at its word.
        coalesce(progress.last_epoch, if(runs.kind = 'estimate', runs.epochs_asked, 0)) as num_epochs,
        progress.mean_sample_j,
        progress.most_host_bytes,
        progress.most_device_bytes,
        coalesce(runs.val_accuracy, progress.best_val_accuracy) as chosen_val_accuracy,
        totals.total_j,
        totals.known_j,
        totals.cpu_j,
        totals.gpu_j,
        totals.ram_j,
        totals.cpu_source,
        totals.gpu_source,
        totals.ram_source,
        totals.error_j,
        totals.setup_j,
        totals.duration_s,
        totals.overlap_s,
        (runs.meter ->> '$.idle.watts')::double as idle_w,
        coalesce(totals.source, 'unknown'::energy_source) as worst_source,
        kwh(totals.total_j) as total_kwh,
        kwh(totals.total_j) * runs.pue * runs.intensity_g_per_kwh as total_co2_g,
        case
            when runs.status in ('running', 'waiting') then 'still running'
            when runs.status in ('paused', 'crashed', 'failed') then runs.status
            when runs.kind = 'calibrate' then 'a calibration, not a training'
            when runs.kind = 'estimate' then 'never metered'
            when was_replayed(runs.meter) then 'replayed power'
            when runs.metric <> 'accuracy' and runs.value is null then 'no test ' || runs.metric
            when runs.metric = 'accuracy' and runs.test_accuracy is null then 'no test accuracy'
            -- Whoever tracks a program without a word on its data has not said that they are the data of others.
            when runs.data_hash is null and runs.dataset = 'unknown' then 'data set not said'
            when totals.total_j is null then 'energy partly unknown'
            when totals.total_j <= 0 then 'no energy was metered'
            when totals.overlap_s > 0 then 'shared the machine with another metered run'
            when runs.metric <> 'accuracy' then null
            when runs.num_classes is null or runs.test_count is null then 'not known to be above chance'
            when not clearly_learned(
                runs.test_accuracy, runs.test_count, guessing(runs.num_classes, runs.majority_share)
            ) then 'not clearly above chance'
        end as reason
    from runs
    left join progress using (run_key)
    left join run_totals as totals using (run_key)
),
-- Percentage points per unit, as people say it: 86.3 % / 0.42 kWh = 205.
ratios as (
    select
        *,
        100 * test_accuracy / nullif(total_kwh, 0) as points_per_kwh,
        100 * test_accuracy / nullif(total_co2_g / 1000, 0) as points_per_kg
    from figures
)
select
    run_id,
    name,
    tags,
    note,
    kind,
    status,
    stop_reason,
    model,
    dataset,
    country,
    season,
    data_hash,
    split_hash,
    contest,
    scope,
    metric,
    goal,
    if(metric = 'accuracy', test_accuracy, value) as value,
    precision,
    batch_size,
    grad_accum,
    accumulation,
    device,
    seed,
    group_hash,
    num_epochs as epochs,
    best_epoch,
    test_accuracy as accuracy,
    chosen_val_accuracy as val_accuracy,
    total_kwh as energy_kwh,
    kwh(known_j) as known_kwh,
    kwh(cpu_j) as cpu_kwh,
    kwh(gpu_j) as gpu_kwh,
    kwh(ram_j) as ram_kwh,
    cpu_source,
    gpu_source,
    ram_source,
    meter ->> '$.cpu.method' as cpu_method,
    meter ->> '$.gpu.method' as gpu_method,
    meter ->> '$.ram.method' as ram_method,
    kwh(error_j) as error_kwh,
    kwh(setup_j) as setup_kwh,
    setup_j / nullif(total_j, 0) as setup_share,
    idle_w,
    kwh(total_j - idle_w * duration_s) as above_idle_kwh,
    total_co2_g as co2_g,
    duration_s,
    overlap_s,
    mean_sample_j as joules_per_sample,
    most_host_bytes as peak_host_bytes,
    most_device_bytes as peak_device_bytes,
    points_per_kwh as acc_per_kwh,
    points_per_kg as acc_per_kg,
    -- Of accuracy alone: an error divided by energy gets better when more is used.
    if(
        reason is null and metric = 'accuracy',
        rank() over (partition by contest, reason is null order by points_per_kwh desc),
        null
    ) as rank,
    reason as unranked,
    run_key in (select run_key from pareto_front) as on_front,
    worst_source as source,
    pue,
    intensity_g_per_kwh,
    intensity_level,
    intensity_year,
    intensity_source,
    region_asked,
    region_used,
    started_at,
    ended_at
from ratios;
