-- One row per run that was removed and can be restored: enough to know it by.
create or replace view removed_runs as
with progress as (
    select run_key, max(epoch) as last_epoch
    from epoch_rows
    group by run_key
)
select
    run_rows.run_id,
    run_rows.name,
    run_rows.tags,
    run_rows.note,
    run_rows.kind,
    run_rows.status,
    run_rows.model,
    run_rows.dataset,
    run_rows.precision,
    run_rows.seed,
    coalesce(progress.last_epoch, 0) as epochs,
    run_rows.test_accuracy as accuracy,
    kwh(totals.cpu_j + totals.gpu_j + totals.ram_j) as energy_kwh,
    kwh(totals.known_j) as known_kwh,
    coalesce(greatest(totals.cpu_source, totals.gpu_source, totals.ram_source), 'unknown') as source,
    run_rows.started_at,
    run_rows.ended_at,
    run_rows.removed_at
from run_rows
left join progress using (run_key)
left join totals using (run_key)
where run_rows.removed_at is not null;
