-- One row per run that was taken up again. These are few: their epochs alone pass the joins below, beside a million others
-- (tests/bench_store.py).
create or replace view resumed_keys as
select run_key
from resume_rows
union
select run_key
from epoch_rows
where segment > 0;

-- One row per epoch of a run that was taken up again, removed runs among them: its last attempt, as it was written.
create or replace view resumed_attempts as
select epoch_rows.*
from epoch_rows
semi join resumed_keys using (run_key)
qualify segment = max(segment) over (partition by run_key, epoch);

-- One row per epoch of a run, removed runs among them: its last attempt, as it was written. For views that look at a
-- million of them and know their runs themselves.
create or replace view last_attempts as
select epoch_rows.*
from epoch_rows
anti join resumed_keys using (run_key)
union all by name
from resumed_attempts;

-- One row per epoch of a run, removed runs among them: what the last attempt at it learned, and what all attempts cost.
create or replace view all_epochs as
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
        max(source) as worst_source,
        -- As in `phase_totals`, of these phases.
        case
            when count(g_per_kwh) = 0 then null
            when min(counted_g_per_kwh) = max(counted_g_per_kwh) then min(counted_g_per_kwh)
            else sum(joules * counted_g_per_kwh) / nullif(sum(joules), 0)
        end as all_g_per_kwh
    from (
        select phase_rows.*, coalesce(phase_rows.g_per_kwh, run_rows.intensity_g_per_kwh) as counted_g_per_kwh
        from phase_rows
        join run_rows using (run_key)
        where run_key in (select run_key from resume_rows)
    )
    where name in ('train', 'validate', 'checkpoint', 'lost')
        and epoch is not null
    group by run_key, epoch
)
select epoch_rows.* replace (coalesce(energy_source, source) as energy_source)
from epoch_rows
anti join resumed_keys using (run_key)
union all by name
select
    resumed_attempts.* replace (
        if(attempts.epoch is null, duration_s, all_duration_s) as duration_s,
        if(attempts.epoch is null, cpu_j, all_cpu_j) as cpu_j,
        if(attempts.epoch is null, gpu_j, all_gpu_j) as gpu_j,
        if(attempts.epoch is null, ram_j, all_ram_j) as ram_j,
        if(attempts.epoch is null, energy_j, all_energy_j) as energy_j,
        if(attempts.epoch is null, error_j, all_error_j) as error_j,
        if(attempts.epoch is null, g_per_kwh, all_g_per_kwh) as g_per_kwh,
        coalesce(worst_source, energy_source, source) as energy_source
    )
from resumed_attempts
left join attempts using (run_key, epoch);

-- One row per epoch of a run: what the last attempt at it learned, and what all attempts at it cost.
create or replace view epochs as
select
    runs.run_id,
    all_epochs.epoch,
    all_epochs.train_loss,
    all_epochs.train_accuracy,
    all_epochs.val_loss,
    all_epochs.val_accuracy,
    all_epochs.val_correct,
    all_epochs.val_count,
    all_epochs.lr,
    all_epochs.duration_s,
    all_epochs.cpu_j,
    all_epochs.gpu_j,
    all_epochs.ram_j,
    all_epochs.energy_j,
    all_epochs.energy_total_j,
    all_epochs.source,
    all_epochs.energy_source,
    all_epochs.error_j,
    runs.metric,
    runs.goal,
    if(runs.metric = 'accuracy', all_epochs.val_accuracy, all_epochs.value) as value,
    all_epochs.g_per_kwh,
    all_epochs.total_g_per_kwh,
    -- What counts: its own, or else the run's factor.
    coalesce(all_epochs.g_per_kwh, runs.intensity_g_per_kwh) as intensity_g_per_kwh,
    kwh(all_epochs.energy_j) as energy_kwh,
    kwh(all_epochs.energy_j) * runs.pue * coalesce(all_epochs.g_per_kwh, runs.intensity_g_per_kwh) as co2_g,
    kwh(all_epochs.energy_total_j) * runs.pue * coalesce(all_epochs.total_g_per_kwh, runs.intensity_g_per_kwh)
        as total_co2_g,
    all_epochs.schedule_complete,
    all_epochs.num_samples,
    all_epochs.energy_j / all_epochs.num_samples as joules_per_sample,
    all_epochs.peak_host_bytes,
    all_epochs.peak_device_bytes,
    all_epochs.segment,
    all_epochs.run_key
from all_epochs
join runs using (run_key);
