-- One row per run: everything it took, from the first reading of the meter to the last, summed from its phases. Its time
-- is apart from that for which it waited.
create or replace view phase_totals as
with lives as (
    select
        run_key,
        -- A counter's error sits at the two ends of a stretch: what lies between cancels out.
        arg_min(error_j, seq) + arg_max(error_j, seq) as ends_j,
        -- Phases are numbered without gaps: where one is not there, nobody knows what it held.
        count(*) <= max(seq) as has_gap
    from phase_rows
    group by run_key, segment
),
bounds as (
    select run_key, sum(ends_j) as error_j, bool_or(has_gap) as has_gap
    from lives
    group by run_key
),
-- The intensity that counts for a phase: its own, or else that of the run.
priced as (
    select phase_rows.*, coalesce(phase_rows.g_per_kwh, run_rows.intensity_g_per_kwh) as counted_g_per_kwh
    from phase_rows
    join run_rows using (run_key)
),
sums as (
    select
        run_key,
        coalesce(sum(epoch_us(ended_at) - epoch_us(started_at)) filter (name <> 'wait'), 0) / 1e6 as work_s,
        coalesce(sum(epoch_us(ended_at) - epoch_us(started_at)) filter (name = 'wait'), 0) / 1e6 as wait_s,
        sum(cpu_j) as known_cpu_j,
        sum(gpu_j) as known_gpu_j,
        sum(ram_j) as known_ram_j,
        sum(joules) filter (name = 'setup') as setup_j,
        max(cpu_source) as worst_cpu_source,
        max(gpu_source) as worst_gpu_source,
        max(ram_source) as worst_ram_source,
        sum(overlap_s) as total_overlap_s,
        -- What is equal all the way comes back to the last bit: no sum is as exact.
        case
            when count(g_per_kwh) = 0 then null
            when min(counted_g_per_kwh) = max(counted_g_per_kwh) then min(counted_g_per_kwh)
            else sum(joules * counted_g_per_kwh) / nullif(sum(joules), 0)
        end as mean_g_per_kwh,
        if(count(g_per_kwh) = 0, null, max(coalesce(intensity_status, 'assumed'))) as worst_status
    from priced
    group by run_key
),
judged as (
    select
        *,
        if(has_gap and worst_cpu_source <> 'absent', 'unknown', worst_cpu_source) as true_cpu_source,
        if(has_gap and worst_gpu_source <> 'absent', 'unknown', worst_gpu_source) as true_gpu_source,
        if(has_gap and worst_ram_source <> 'absent', 'unknown', worst_ram_source) as true_ram_source
    from sums
    join bounds using (run_key)
)
select
    run_key,
    work_s as duration_s,
    -- sum() skips nulls, and a sum over a gap is not a total.
    if(true_cpu_source = 'unknown', null, known_cpu_j) as cpu_j,
    if(true_gpu_source = 'unknown', null, known_gpu_j) as gpu_j,
    if(true_ram_source = 'unknown', null, known_ram_j) as ram_j,
    coalesce(known_cpu_j, 0) + coalesce(known_gpu_j, 0) + coalesce(known_ram_j, 0) as known_j,
    true_cpu_source as cpu_source,
    true_gpu_source as gpu_source,
    true_ram_source as ram_source,
    error_j,
    setup_j,
    total_overlap_s as overlap_s,
    mean_g_per_kwh as g_per_kwh,
    worst_status as intensity_status,
    wait_s as waited_s
from judged;

-- One row per run: the same, kept, with its sum.
create or replace view run_totals as
select
    runs.run_id,
    totals.duration_s,
    totals.waited_s,
    totals.cpu_j + totals.gpu_j + totals.ram_j as total_j,
    totals.known_j,
    totals.cpu_j,
    totals.gpu_j,
    totals.ram_j,
    totals.cpu_source,
    totals.gpu_source,
    totals.ram_source,
    greatest(totals.cpu_source, totals.gpu_source, totals.ram_source) as source,
    totals.error_j,
    totals.setup_j,
    totals.overlap_s,
    -- What counts: the mean over its phases, or else the run's factor, which is an assumption.
    coalesce(totals.g_per_kwh, runs.intensity_g_per_kwh) as intensity_g_per_kwh,
    coalesce(totals.intensity_status, 'assumed') as intensity_status,
    kwh(totals.cpu_j + totals.gpu_j + totals.ram_j) * runs.pue * coalesce(totals.g_per_kwh, runs.intensity_g_per_kwh)
        as co2_g,
    totals.g_per_kwh,
    totals.run_key
from totals
join runs using (run_key);
