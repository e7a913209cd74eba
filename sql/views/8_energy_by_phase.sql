-- One row per run: which of those of these recipes (a list of recipe_key) count, when it is asked where energy went.
create or replace macro finished_runs(recipes) as table
select
    contestants.run_key,
    contestants.run_id,
    (runs.meter ->> '$.idle.watts')::double as idle_w
from contestants
join runs using (run_key)
where contestants.is_done and list_contains(recipes, contestants.recipe_key);

-- One row per kind of phase: what the finished runs of these recipes spent there in all, in the order in which they began.
create or replace macro energy_by_phase(recipes) as table
with kinds as (
    select
        phase_rows.name,
        min((phase_rows.segment, phase_rows.seq)) as first_place,
        sum(epoch_us(ended_at) - epoch_us(started_at)) / 1e6 as all_s,
        -- sum() skips nulls, and a sum over a gap is not a total.
        if(count(*) = count(joules), sum(joules), null) as total_j,
        if(
            count(*) = count(chosen.idle_w),
            sum(chosen.idle_w * (epoch_us(ended_at) - epoch_us(started_at)) / 1e6),
            null
        ) as idle_j,
        max(source) as worst_source
    from phase_rows
    join finished_runs(recipes) as chosen using (run_key)
    group by phase_rows.name
)
select
    name,
    all_s as duration_s,
    kwh(total_j) as energy_kwh,
    total_j / nullif(if(count(*) over () = count(total_j) over (), sum(total_j) over (), null), 0) as share,
    kwh(idle_j) as idle_kwh,
    worst_source as source,
    (select list(run_id order by run_key) from finished_runs(recipes)) as run_ids
from kinds
order by first_place;

-- One row per component: what it took in the finished runs of these recipes in all. Unknown is null.
create or replace macro energy_by_component(recipes) as table
with parts as (
    select
        unnest(
            [
                {'place': 1, 'component': 'cpu', 'part_j': totals.cpu_j, 'part_source': totals.cpu_source},
                {'place': 2, 'component': 'gpu', 'part_j': totals.gpu_j, 'part_source': totals.gpu_source},
                {'place': 3, 'component': 'ram', 'part_j': totals.ram_j, 'part_source': totals.ram_source}
            ],
            recursive := true
        )
    from totals
    join finished_runs(recipes) as chosen using (run_key)
),
sums as (
    select
        place,
        component,
        if(count(*) = count(part_j), sum(part_j), null) as total_j,
        max(part_source) as worst_source
    from parts
    group by place, component
)
select
    component,
    kwh(total_j) as energy_kwh,
    total_j / nullif(if(count(*) over () = count(total_j) over (), sum(total_j) over (), null), 0) as share,
    worst_source as source
from sums
order by place;
