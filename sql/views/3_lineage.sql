-- One row per compressed run and run that it descends from: its parent, and where that was compressed too, its parent, and
-- so on. Removed ancestors are among them, as what they took was taken; `ancestor_key` is null where the store lacks one.
create or replace view lineage as
with recursive ancestry as (
    select run_key, run_id, parent as ancestor
    from run_rows
    where kind = 'compress' and removed_at is null
    -- Not `union all`: rows from elsewhere may go in circles.
    union
    select ancestry.run_key, ancestry.run_id, run_rows.parent as ancestor
    from ancestry
    join run_rows on run_rows.run_id = ancestry.ancestor
    where run_rows.kind = 'compress'
)
select
    ancestry.run_id,
    ancestry.ancestor,
    ancestry.run_key,
    run_rows.run_key as ancestor_key
from ancestry
left join run_rows on run_rows.run_id = ancestry.ancestor;

-- One row per compressed run: what all of its ancestors took together, each at its own place. Null where one of them is
-- unknown, or not in the store: never the part that is known.
create or replace view inherited as
with ancestors as (
    select
        lineage.run_key,
        totals.cpu_j,
        totals.gpu_j,
        totals.ram_j,
        totals.cpu_j + totals.gpu_j + totals.ram_j as total_j,
        totals.known_j,
        totals.cpu_source,
        totals.gpu_source,
        totals.ram_source,
        totals.error_j,
        totals.overlap_s,
        run_rows.pue * coalesce(totals.g_per_kwh, run_rows.intensity_g_per_kwh) as site_g_per_kwh,
        was_replayed(run_rows.meter) as is_replayed
    from lineage
    left join totals on totals.run_key = lineage.ancestor_key
    left join run_rows on run_rows.run_key = lineage.ancestor_key
)
select
    run_key,
    -- sum() skips nulls, and a sum over a gap is not a total.
    if(count(*) = count(total_j), sum(total_j), null) as inherited_j,
    if(count(*) = count(cpu_j), sum(cpu_j), null) as inherited_cpu_j,
    if(count(*) = count(gpu_j), sum(gpu_j), null) as inherited_gpu_j,
    if(count(*) = count(ram_j), sum(ram_j), null) as inherited_ram_j,
    coalesce(sum(known_j), 0) as inherited_known_j,
    if(count(*) = count(total_j), sum(kwh(total_j) * site_g_per_kwh), null) as inherited_co2_g,
    max(coalesce(cpu_source, 'unknown'::energy_source)) as inherited_cpu_source,
    max(coalesce(gpu_source, 'unknown'::energy_source)) as inherited_gpu_source,
    max(coalesce(ram_source, 'unknown'::energy_source)) as inherited_ram_source,
    greatest(inherited_cpu_source, inherited_gpu_source, inherited_ram_source) as inherited_source,
    -- Bounds of those parts that a counter gave, as in `totals`.
    sum(error_j) as inherited_error_j,
    coalesce(sum(overlap_s), 0) as inherited_overlap_s,
    bool_or(coalesce(is_replayed, false)) as is_any_replayed
from ancestors
group by run_key;
