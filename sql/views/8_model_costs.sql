-- One row per model of a contest, in one size and one way of computing (precision, batch, threads, machine), however long
-- it was trained: what a training image cost, and what a billion of its operations did.
create or replace view model_costs as
with spent as (
    select
        run_key,
        sum(epochs.num_samples) as num_samples,
        count(epochs.num_samples) = count(*) as is_counted,
        count(*) as num_epochs,
        if(count(*) = count(epochs.energy_j), sum(epochs.energy_j), null) as energy_j,
        max(coalesce(epochs.energy_source, epochs.source)) as worst_source
    from epochs
    group by run_key
),
priced as (
    select
        contestants.contest_key,
        runs.* exclude (contest),
        runs.contest,
        machine_of(runs.hardware) as machine,
        -- Files from elsewhere hold what they hold.
        try_cast(runs.config ->> '$.num_threads' as integer) as num_threads,
        -- Before epochs counted their images, each saw all of them.
        spent.energy_j / nullif(if(is_counted, spent.num_samples, spent.num_epochs * runs.num_train), 0) as sample_j,
        spent.worst_source
    from spent
    join contestants using (run_key)
    join runs using (run_key)
    where contestants.is_done and runs.num_parameters is not null
)
select
    contest,
    model,
    num_parameters,
    flops_per_sample,
    precision,
    batch_size,
    grad_accum,
    image_size,
    device,
    machine,
    num_threads,
    count(*) as num_runs,
    list(run_id order by run_key) as run_ids,
    if(count(*) = count(sample_j), avg(sample_j), null) as joules_per_sample,
    if(count(*) = count(sample_j), stddev_samp(sample_j), null) as std_joules_per_sample,
    -- Of one forward pass: how well the machine is used, where two models are put side by side.
    if(count(*) = count(sample_j), avg(sample_j), null) / (nullif(flops_per_sample, 0) / 1e9) as joules_per_gflop,
    max(worst_source) as source,
    contest_key
from priced
group by
    contest_key, contest, model, num_parameters, flops_per_sample, precision, batch_size, grad_accum, image_size, device,
    machine, num_threads;

-- One row per pair of models that were trained alike, and of which the one with fewer parameters cost more an image.
create or replace view fewer_parameters_cost_more as
select
    a.contest,
    a.model,
    a.num_parameters,
    a.flops_per_sample,
    a.joules_per_sample,
    a.joules_per_gflop,
    a.num_runs,
    a.run_ids,
    b.model as than_model,
    b.num_parameters as than_num_parameters,
    b.flops_per_sample as than_flops_per_sample,
    b.joules_per_sample as than_joules_per_sample,
    b.joules_per_gflop as than_joules_per_gflop,
    b.num_runs as than_num_runs,
    b.run_ids as than_run_ids,
    a.precision,
    a.joules_per_sample / b.joules_per_sample as energy_ratio,
    a.flops_per_sample / nullif(b.flops_per_sample, 0) as flops_ratio,
    -- Null where one of them ran once, and the spread of the other does not tell already.
    case
        when within_spread(
            a.joules_per_sample - b.joules_per_sample,
            coalesce(a.std_joules_per_sample, 0),
            coalesce(b.std_joules_per_sample, 0)
        ) then false
        when a.num_runs > 1 and b.num_runs > 1 then true
    end as exceeds_spread,
    greatest(a.source, b.source) as source
from model_costs as a
join model_costs as b
    on a.contest_key = b.contest_key
    and a.num_parameters < b.num_parameters
    and a.joules_per_sample > b.joules_per_sample
    and a.precision is not distinct from b.precision
    and a.batch_size is not distinct from b.batch_size
    and a.grad_accum is not distinct from b.grad_accum
    and a.image_size is not distinct from b.image_size
    and a.device = b.device
    and a.machine = b.machine
    and a.num_threads is not distinct from b.num_threads
where b.joules_per_sample > 0;
