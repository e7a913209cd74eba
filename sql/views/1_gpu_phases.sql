-- One row per phase and GPU: what each device used.
create or replace view gpu_phases as
with numbered as (
    select
        run_key,
        segment,
        seq,
        name,
        epoch,
        gpu_source,
        contains(method, 'split by time') as is_split,
        unnest(range(len(gpus_j))) as gpu,
        unnest(gpus_j) as joules
    from phase_rows
    where gpus_j is not null
)
select
    runs.run_id,
    numbered.segment,
    numbered.seq,
    numbered.name,
    numbered.epoch,
    numbered.gpu,
    runs.meter -> '$.gpus' ->> numbered.gpu::integer as device,
    numbered.joules,
    -- One GPU that was lost makes the sum unknown, and no other GPU. Only counters are read one by one.
    case
        when numbered.joules is null then 'unknown'
        when numbered.gpu_source = 'unknown' and numbered.is_split then 'apportioned'
        when numbered.gpu_source = 'unknown' then 'measured'
        else numbered.gpu_source
    end as source,
    numbered.run_key
from numbered
join runs using (run_key);
