-- One row per epoch of a run, removed runs among them: its last attempt, as it was written. For views that look at a
-- million of them and know their runs themselves (tests/bench_store.py).
create or replace view last_attempts as
with repeated as (
    -- Only a resumed run has a segment above 0, so that this stays small beside a million epochs.
    select run_key, epoch, max(segment) as last_segment
    from epoch_rows
    where segment > 0
    group by run_key, epoch
)
select epoch_rows.*
from epoch_rows
left join repeated using (run_key, epoch)
where last_segment is null or segment = last_segment;

-- One row per epoch of a run: what the last attempt at it learned, and what all attempts at it cost.
create or replace view epochs as
-- Attempts that ended before they had a row of their own used energy too: the phases know.
with attempts as (
    select
        run_key,
        epoch,
        sum(epoch_us(ended_at) - epoch_us(started_at)) filter (name in ('train', 'validate')) / 1e6 as all_duration_s,
        -- sum() skips nulls, and a sum over a gap is not a total.
        if(count(*) = count(cpu_j), sum(cpu_j), null) as all_cpu_j,
        if(count(*) = count(gpu_j), sum(gpu_j), null) as all_gpu_j,
        if(count(*) = count(ram_j), sum(ram_j), null) as all_ram_j,
        if(count(*) = count(joules), sum(joules), null) as all_energy_j,
        -- Attempts lie apart, so that their bounds add up.
        if(count(*) = count(error_j), sum(error_j), null) as all_error_j,
        max(source) as worst_source
    from phase_rows
    where run_key in (select run_key from resume_rows)
        and name in ('train', 'validate', 'checkpoint', 'lost')
        and epoch is not null
    group by run_key, epoch
),
latest as (
    select
        last_attempts.* replace (
            if(attempts.epoch is null, duration_s, all_duration_s) as duration_s,
            if(attempts.epoch is null, cpu_j, all_cpu_j) as cpu_j,
            if(attempts.epoch is null, gpu_j, all_gpu_j) as gpu_j,
            if(attempts.epoch is null, ram_j, all_ram_j) as ram_j,
            if(attempts.epoch is null, energy_j, all_energy_j) as energy_j,
            if(attempts.epoch is null, error_j, all_error_j) as error_j,
            coalesce(worst_source, energy_source, source) as energy_source
        )
    from last_attempts
    left join attempts using (run_key, epoch)
)
select
    runs.run_id,
    latest.epoch,
    latest.train_loss,
    latest.train_accuracy,
    latest.val_loss,
    latest.val_accuracy,
    latest.val_correct,
    latest.val_count,
    latest.lr,
    latest.duration_s,
    latest.cpu_j,
    latest.gpu_j,
    latest.ram_j,
    latest.energy_j,
    latest.energy_total_j,
    latest.source,
    latest.energy_source,
    latest.error_j,
    runs.metric,
    runs.goal,
    if(runs.metric = 'accuracy', latest.val_accuracy, latest.value) as value,
    runs.intensity_g_per_kwh,
    kwh(latest.energy_j) as energy_kwh,
    kwh(latest.energy_j) * runs.pue * runs.intensity_g_per_kwh as co2_g,
    latest.schedule_complete,
    latest.num_samples,
    latest.energy_j / latest.num_samples as joules_per_sample,
    latest.peak_host_bytes,
    latest.peak_device_bytes,
    latest.segment,
    latest.run_key
from latest
join runs using (run_key);
