-- One row per stretch of a run between two readings of the meter. They tile the run; their sum is its total.
create or replace view phases as
select
    runs.run_id,
    phase_rows.segment,
    phase_rows.seq,
    phase_rows.name,
    phase_rows.epoch,
    phase_rows.device,
    phase_rows.started_at,
    phase_rows.ended_at,
    phase_rows.cpu_j,
    phase_rows.gpu_j,
    phase_rows.ram_j,
    phase_rows.joules,
    phase_rows.cpu_source,
    phase_rows.gpu_source,
    phase_rows.ram_source,
    phase_rows.source,
    phase_rows.method,
    phase_rows.cpu_error_j,
    phase_rows.gpu_error_j,
    phase_rows.ram_error_j,
    phase_rows.error_j,
    phase_rows.gpus_j,
    phase_rows.overlap_s,
    phase_rows.g_per_kwh,
    phase_rows.intensity_status,
    phase_rows.run_key
from phase_rows
join runs using (run_key);
