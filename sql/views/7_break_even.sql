-- One row per compressed run: what its own phases took, those that measured inference (`infer`, and what was recorded
-- between them) told apart, as nobody who compresses needs them.
create or replace view compress_costs as
with lives as (
    select
        phase_rows.run_key,
        phase_rows.segment,
        -- Phases are numbered without gaps: where one is not there, nobody knows what it held.
        count(*) <= max(seq) as has_gap
    from phase_rows
    join runs using (run_key)
    where runs.kind = 'compress'
    group by phase_rows.run_key, phase_rows.segment
),
gaps as (
    select run_key, bool_or(has_gap) as has_any_gap
    from lives
    group by run_key
),
phases_told as (
    select
        phase_rows.run_key,
        phase_rows.joules,
        phase_rows.source,
        phase_rows.overlap_s,
        phase_rows.name = 'infer'
            or (
                phase_rows.name = 'record'
                and coalesce(phase_rows.seq > min(phase_rows.seq) filter (phase_rows.name = 'infer') over own, false)
            ) as measures
    from phase_rows
    semi join lives using (run_key)
    window own as (partition by phase_rows.run_key, phase_rows.segment)
),
sums as (
    select
        phases_told.run_key,
        -- sum() skips nulls, and a sum over a gap is not a total.
        if(
            count(*) filter (not measures) = count(joules) filter (not measures),
            coalesce(sum(joules) filter (not measures), 0),
            null
        ) as making_j,
        if(
            count(*) filter (measures) = count(joules) filter (measures),
            coalesce(sum(joules) filter (measures), 0),
            null
        ) as measuring_j,
        max(source) filter (not measures) as making_source,
        coalesce(sum(overlap_s) filter (not measures), 0) as making_overlap_s
    from phases_told
    group by phases_told.run_key
)
select
    sums.run_key,
    if(gaps.has_any_gap, null, sums.making_j) as compress_j,
    if(gaps.has_any_gap, null, sums.measuring_j) as measuring_j,
    if(gaps.has_any_gap or sums.making_source is null, 'unknown'::energy_source, sums.making_source) as compress_source,
    sums.making_overlap_s as compress_overlap_s
from sums
join gaps using (run_key);

-- One row per compressed run, model that it is held against (`before` is its parent as people serve it, the others are the
-- parent in another runtime or precision) and batch size: what it took, what a prediction saves, and after how many
-- predictions that has paid for the compression. What is saved, and how much faster it is, are means over the pairs of
-- repeats that lie beside each other in time, with their 95 % t interval. `never`: the interval of what is saved touches
-- zero. `unknown`: something is null, or was metered beside another run; `reason` says it. The accuracy is held against
-- `before` in every row, whatever the baseline. All is as this session measured it; `level` brings it beside others.
create or replace view break_even as
with pairs as (
    select
        x.run_key,
        y.name as baseline,
        x.batch_size,
        x.prediction_j as after_j,
        y.prediction_j as before_j,
        y.prediction_j - x.prediction_j as saved_j,
        x.throughput / nullif(y.throughput, 0) as faster,
        greatest(x.source, y.source) as pair_source,
        x.overlap_s + y.overlap_s as pair_overlap_s
    from inference_repeats as x
    join inference_repeats as y
        on y.run_key = x.run_key
        and y.segment = x.segment
        and y.repeat = x.repeat
        and y.batch_size = x.batch_size
    join runs on runs.run_key = x.run_key
    where x.name = 'after' and y.name <> 'after' and runs.kind = 'compress'
),
means as (
    select
        run_key,
        baseline,
        batch_size,
        count(*) as num_pairs,
        if(count(*) = count(before_j), 1000 * avg(before_j), null) as mean_before_j,
        if(count(*) = count(after_j), 1000 * avg(after_j), null) as mean_after_j,
        if(count(*) = count(saved_j), 1000 * avg(saved_j), null) as mean_saved_j,
        half_width(if(count(*) = count(saved_j), 1000 * stddev_samp(saved_j), null), count(*)) as half_saved_j,
        if(count(*) = count(faster), avg(faster), null) as mean_faster,
        half_width(if(count(*) = count(faster), stddev_samp(faster), null), count(*)) as half_faster,
        max(pair_source) as worst_source,
        sum(pair_overlap_s) as total_overlap_s
    from pairs
    group by run_key, baseline, batch_size
),
ledger as (
    select
        means.*,
        mean_saved_j - half_saved_j as least_saved_j,
        mean_saved_j + half_saved_j as most_saved_j,
        compress_costs.* exclude (run_key),
        inherited.inherited_j,
        inherited.inherited_co2_g,
        inherited.inherited_source,
        runs.pue * coalesce(totals.g_per_kwh, runs.intensity_g_per_kwh) as site_g_per_kwh,
        case
            when was_replayed(runs.meter) then 'replayed power'
            when runs.status <> 'done' then 'the measurement did not come to its end'
            when means.total_overlap_s > 0 then 'shared the machine with another metered run'
            when means.mean_saved_j is null then 'energy of the measurement partly unknown'
            when means.mean_before_j <= 0 then 'no energy was metered'
            when means.num_pairs < 2 then 'measured once: nobody knows the spread'
            -- What saves nothing pays for nothing, whatever that took.
            when least_saved_j <= 0 then null
            when compress_costs.compress_overlap_s > 0 then 'shared the machine with another metered run'
            when compress_costs.compress_j is null then 'energy of the compression partly unknown'
        end as doubt
    from means
    join runs using (run_key)
    join compress_costs using (run_key)
    join totals using (run_key)
    left join inherited using (run_key)
)
select
    runs.run_id,
    runs.parent,
    runs.model,
    runs.method,
    runs.dataset,
    runs.contest,
    ledger.baseline,
    ledger.batch_size,
    ledger.num_pairs as num_repeats,
    kwh(ledger.inherited_j) as train_kwh,
    ledger.inherited_co2_g as train_co2_g,
    coalesce(ledger.inherited_source, 'unknown'::energy_source) as train_source,
    kwh(ledger.compress_j) as compress_kwh,
    kwh(ledger.compress_j) * ledger.site_g_per_kwh as compress_co2_g,
    kwh(ledger.measuring_j) as measuring_kwh,
    ledger.compress_source,
    ledger.mean_before_j as before_j_per_1000,
    ledger.mean_after_j as after_j_per_1000,
    ledger.mean_saved_j as saved_j_per_1000,
    ledger.least_saved_j as saved_low_j_per_1000,
    ledger.most_saved_j as saved_high_j_per_1000,
    case
        when ledger.doubt is not null then 'unknown'
        when ledger.least_saved_j <= 0 then 'never'
        else 'pays'
    end as verdict,
    if(verdict = 'pays', 1000 * ledger.compress_j / ledger.mean_saved_j, null) as break_even,
    if(verdict = 'pays', 1000 * ledger.compress_j / ledger.most_saved_j, null) as break_even_low,
    if(verdict = 'pays', 1000 * ledger.compress_j / ledger.least_saved_j, null) as break_even_high,
    ledger.doubt as reason,
    -- What brings the joules of this session to the median of its parent's sessions: a machine that was busy with something
    -- else made both models slower and dearer, and only what was measured side by side can be told apart from that.
    coalesce(
        median(ledger.mean_before_j) filter (ledger.doubt is null) over siblings / nullif(ledger.mean_before_j, 0), 1
    ) as level,
    ledger.mean_faster as speedup,
    ledger.mean_faster - ledger.half_faster as speedup_low,
    ledger.mean_faster + ledger.half_faster as speedup_high,
    own.test_accuracy as accuracy,
    own.accuracy_difference,
    own.accuracy_low,
    own.accuracy_high,
    own.num_bytes,
    other.num_bytes as before_num_bytes,
    greatest(ledger.worst_source, ledger.compress_source) as source,
    ledger.run_key
from ledger
join runs using (run_key)
join inference as own
    on own.run_key = ledger.run_key and own.name = 'after' and own.batch_size = ledger.batch_size
join inference as other
    on other.run_key = ledger.run_key and other.name = ledger.baseline and other.batch_size = ledger.batch_size
window siblings as (partition by runs.parent, ledger.baseline, ledger.batch_size);
