-- One row per repeat of a measurement: predictions in batches of one size, and the joules of its phases.
create or replace view inference_repeats as
with metered as (
    select
        inference_rows.run_key,
        inference_rows.segment,
        inference_rows.seq,
        -- sum() skips nulls, and a sum over a gap is not a total; a phase that is not there is a gap, too.
        if(
            count(phase_rows.joules) = any_value(inference_rows.last_seq - inference_rows.first_seq + 1),
            sum(phase_rows.joules),
            null
        ) as total_j,
        max(phase_rows.source) as worst_source,
        sum(phase_rows.overlap_s) as total_overlap_s
    from inference_rows
    left join phase_rows
        on phase_rows.run_key = inference_rows.run_key
        and phase_rows.segment = inference_rows.segment
        and phase_rows.seq between inference_rows.first_seq and inference_rows.last_seq
    group by inference_rows.run_key, inference_rows.segment, inference_rows.seq
)
select
    runs.run_id,
    inference_rows.name,
    inference_rows.batch_size,
    inference_rows.segment,
    inference_rows.repeat,
    inference_rows.num_predictions,
    inference_rows.duration_s,
    inference_rows.cpu_s,
    inference_rows.latency_p50_s,
    inference_rows.latency_p95_s,
    inference_rows.num_predictions / nullif(inference_rows.duration_s, 0) as throughput,
    metered.total_j as energy_j,
    metered.total_j / nullif(inference_rows.num_predictions, 0) as prediction_j,
    if(metered.total_j is null, 'unknown'::energy_source, metered.worst_source) as source,
    coalesce(metered.total_overlap_s, 0) as overlap_s,
    inference_rows.run_key
from inference_rows
join metered using (run_key, segment, seq)
join runs using (run_key);

-- One row per run, model that it measured and batch size: how fast, how accurate and how dear the model's answers were, as
-- means over the repeats. The interval of the energy is the 95 % t interval of the mean; that of the accuracy against
-- `before` is McNemar's, by the normal approximation, as both looked at the same test images. `reason` says why the energy
-- is no evidence; null where it is.
create or replace view inference as
with measured as (
    select
        run_key,
        name,
        batch_size,
        count(*) as all_repeats,
        avg(latency_p50_s) as mean_p50_s,
        avg(latency_p95_s) as mean_p95_s,
        sum(num_predictions) / nullif(sum(duration_s), 0) as mean_throughput,
        stddev_samp(throughput) as spread_throughput,
        if(count(*) = count(prediction_j), 1000 * avg(prediction_j), null) as mean_j,
        if(count(*) = count(prediction_j), 1000 * stddev_samp(prediction_j), null) as spread_j,
        1000 * sum(cpu_s) / nullif(sum(num_predictions), 0) as mean_cpu_s,
        max(source) as worst_source,
        sum(overlap_s) as total_overlap_s
    from inference_repeats
    group by run_key, name, batch_size
),
-- Of the images on which the two disagree.
compared as (
    select
        run_key,
        name,
        if(name = 'before', null, (gained - lost) / nullif(test_count, 0)) as difference,
        sqrt(greatest(gained + lost - (gained - lost) ** 2 / nullif(test_count, 0), 0)) / nullif(test_count, 0)
            as standard_error
    from served_rows
),
spread as (
    select
        measured.*,
        half_width(spread_j, all_repeats) as half_j,
        runs.run_id,
        runs.pue * coalesce(totals.g_per_kwh, runs.intensity_g_per_kwh) as site_g_per_kwh,
        was_replayed(runs.meter) as is_replayed
    from measured
    join runs using (run_key)
    left join totals using (run_key)
)
select
    spread.run_id,
    spread.name,
    if(spread.name in ('before', 'after'), spread.name, 'peer') as role,
    served_rows.model_run,
    served_rows.backend,
    served_rows.precision,
    served_rows.device,
    served_rows.num_threads,
    served_rows.num_bytes,
    served_rows.memory_bytes,
    served_rows.num_parameters,
    served_rows.flops_per_sample,
    served_rows.test_correct / nullif(served_rows.test_count, 0) as test_accuracy,
    compared.difference as accuracy_difference,
    -- 1.9599640: the normal quantile of 0.975.
    compared.difference - 1.9599640 * compared.standard_error as accuracy_low,
    compared.difference + 1.9599640 * compared.standard_error as accuracy_high,
    spread.batch_size,
    spread.all_repeats as num_repeats,
    spread.mean_p50_s as latency_p50_s,
    spread.mean_p95_s as latency_p95_s,
    spread.mean_throughput as throughput,
    spread.spread_throughput as std_throughput,
    spread.mean_j as energy_j_per_1000,
    spread.spread_j as std_energy_j_per_1000,
    spread.mean_j - spread.half_j as energy_low_j_per_1000,
    spread.mean_j + spread.half_j as energy_high_j_per_1000,
    kwh(spread.mean_j) * spread.site_g_per_kwh as co2_g_per_1000,
    kwh(spread.mean_j - spread.half_j) * spread.site_g_per_kwh as co2_low_g_per_1000,
    kwh(spread.mean_j + spread.half_j) * spread.site_g_per_kwh as co2_high_g_per_1000,
    spread.mean_cpu_s as cpu_s_per_1000,
    spread.worst_source as source,
    case
        when spread.is_replayed then 'replayed power'
        when spread.total_overlap_s > 0 then 'shared the machine with another metered run'
        when spread.mean_j is null then 'energy of the measurement partly unknown'
        when spread.mean_j <= 0 then 'no energy was metered'
        when spread.all_repeats < 2 then 'measured once: nobody knows the spread'
    end as reason,
    spread.run_key
from spread
join served_rows using (run_key, name)
join compared using (run_key, name);
