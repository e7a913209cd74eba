-- One row per run with phases, removed runs among them: everything that its model took, which for a compressed one is what
-- the run took and what all of its ancestors did: without their training there is no such model. Sums, sources and bounds
-- are of all that; `setup_j`, `duration_s` and `waited_s` are of the run alone.
create or replace view model_totals as
select
    totals.run_key,
    totals.cpu_j + totals.gpu_j + totals.ram_j as own_j,
    totals.known_j as own_known_j,
    totals.g_per_kwh as own_g_per_kwh,
    totals.intensity_status as own_intensity_status,
    -- Who has no ancestors inherits nothing, and that is known. Every compressed run has a row there.
    if(inherited.run_key is null, 0, inherited.inherited_j) as inherited_j,
    if(inherited.run_key is null, 0, inherited.inherited_co2_g) as inherited_co2_g,
    totals.cpu_j + totals.gpu_j + totals.ram_j + if(inherited.run_key is null, 0, inherited.inherited_j) as total_j,
    totals.known_j + coalesce(inherited.inherited_known_j, 0) as known_j,
    totals.cpu_j + if(inherited.run_key is null, 0, inherited.inherited_cpu_j) as cpu_j,
    totals.gpu_j + if(inherited.run_key is null, 0, inherited.inherited_gpu_j) as gpu_j,
    totals.ram_j + if(inherited.run_key is null, 0, inherited.inherited_ram_j) as ram_j,
    -- greatest() skips nulls.
    greatest(totals.cpu_source, inherited.inherited_cpu_source) as cpu_source,
    greatest(totals.gpu_source, inherited.inherited_gpu_source) as gpu_source,
    greatest(totals.ram_source, inherited.inherited_ram_source) as ram_source,
    -- Of those parts that a counter gave: a model has no bound.
    coalesce(totals.error_j + inherited.inherited_error_j, totals.error_j, inherited.inherited_error_j) as error_j,
    totals.setup_j,
    totals.duration_s,
    totals.waited_s,
    totals.overlap_s + coalesce(inherited.inherited_overlap_s, 0) as overlap_s,
    coalesce(inherited.is_any_replayed, false) as is_any_replayed
from totals
left join inherited using (run_key);

-- One row per run: why it may not be ranked, or null, and the percentage points that it reached per kilowatt-hour. It is
-- narrow: to sort what `run_figures` has is most of the time of a leaderboard (tests/bench_store.py).
create or replace view run_verdicts as
select
    runs.run_key,
    runs.contest,
    runs.metric,
    case
        when runs.status in ('running', 'waiting') then 'still running'
        when runs.status in ('paused', 'crashed', 'failed') then runs.status
        when runs.kind = 'calibrate' then 'a calibration, not a training'
        when runs.kind = 'sweep' then 'a search, not a training'
        when runs.kind = 'estimate' then 'never metered'
        when was_replayed(runs.meter) or totals.is_any_replayed then 'replayed power'
        when runs.metric <> 'accuracy' and runs.value is null then 'no test ' || runs.metric
        when runs.metric = 'accuracy' and runs.test_accuracy is null then 'no test accuracy'
        when not names_its_data(runs.data_hash, runs.dataset) then 'data set not said'
        when totals.total_j is null then 'energy partly unknown'
        when totals.total_j <= 0 then 'no energy was metered'
        when totals.overlap_s > 0 then 'shared the machine with another metered run'
        when runs.metric <> 'accuracy' then null
        when runs.num_classes is null or runs.test_count is null then 'not known to be above chance'
        when not clearly_learned(
            runs.test_accuracy, runs.test_count, guessing(runs.num_classes, runs.majority_share)
        ) then 'not clearly above chance'
    end as reason,
    100 * runs.test_accuracy / nullif(kwh(totals.total_j), 0) as points_per_kwh
from runs
left join model_totals as totals using (run_key);

-- One row per run: what it reached, what it took and how that is known. Its intensity is what counted: the mean over its
-- phases, weighted by their joules, or else the factor that it was stored with.
create or replace view run_facts as
with progress as (
    select
        run_key,
        max(epoch) as last_epoch,
        max(val_accuracy) as best_val_accuracy,
        avg(duration_s) as mean_epoch_s,
        if(count(*) = count(energy_j), sum(energy_j), null) / sum(num_samples) as mean_sample_j,
        max(peak_host_bytes) as most_host_bytes,
        max(peak_device_bytes) as most_device_bytes
    from all_epochs
    group by run_key
)
select
    runs.* replace (coalesce(totals.own_g_per_kwh, runs.intensity_g_per_kwh) as intensity_g_per_kwh),
    -- A factor that is not of the hour is an assumption.
    coalesce(totals.own_intensity_status, 'assumed') as worst_intensity_status,
    -- Nobody saw the epochs of a run that was never metered: it is taken at its word.
    coalesce(progress.last_epoch, if(runs.kind = 'estimate', runs.epochs_asked, 0)) as num_epochs,
    progress.mean_epoch_s,
    progress.mean_sample_j,
    progress.most_host_bytes,
    progress.most_device_bytes,
    coalesce(runs.val_accuracy, progress.best_val_accuracy) as chosen_val_accuracy,
    totals.own_j,
    totals.own_known_j,
    totals.inherited_j,
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
    totals.waited_s,
    totals.overlap_s,
    -- Taken apart once: JSON is slow.
    runs.meter ->> ['$.cpu.method', '$.gpu.method', '$.ram.method', '$.idle.watts'] as methods,
    methods[4]::double as idle_w,
    coalesce(greatest(totals.cpu_source, totals.gpu_source, totals.ram_source), 'unknown'::energy_source) as worst_source,
    kwh(totals.total_j) as total_kwh,
    kwh(totals.own_j) * runs.pue * coalesce(totals.own_g_per_kwh, runs.intensity_g_per_kwh) + totals.inherited_co2_g
        as total_co2_g
from runs
left join progress using (run_key)
left join model_totals as totals using (run_key);

-- One row per run: the same, and why it may not be ranked. It is apart from `leaderboard` for those who need no ranks
-- (tests/bench_store.py).
create or replace view run_figures as
select run_facts.*, run_verdicts.reason
from run_facts
join run_verdicts using (run_key);
