-- One row per model whose inference was measured, compressed ones and what they were made of: what it takes in all for a
-- `lifetime` of so many predictions in batches of `size` (null: the largest that was measured), and after how many days of
-- `per_day` predictions (null: nobody said) a compressed one has paid. Of a compressed model the columns of `break_even`
-- against `before`; a model that it was made of stands there with what the newest of its children's sessions measured, of
-- those whose energy is evidence. Sessions are brought to one `level`, the median of what the parent took in them.
create or replace macro lifecycle(lifetime, per_day, size) as table
with ledger as (
    select *
    from break_even
    where baseline = 'before' and batch_size = coalesce(size, batch_size)
    qualify batch_size = max(batch_size) over (partition by run_key)
),
levelled as (
    select
        inference.* replace (
            inference.energy_j_per_1000 * break_even.level as energy_j_per_1000,
            inference.std_energy_j_per_1000 * break_even.level as std_energy_j_per_1000,
            inference.energy_low_j_per_1000 * break_even.level as energy_low_j_per_1000,
            inference.energy_high_j_per_1000 * break_even.level as energy_high_j_per_1000,
            inference.co2_g_per_1000 * break_even.level as co2_g_per_1000,
            inference.co2_low_g_per_1000 * break_even.level as co2_low_g_per_1000,
            inference.co2_high_g_per_1000 * break_even.level as co2_high_g_per_1000
        )
    from inference
    join break_even using (run_key, batch_size)
    where break_even.baseline = 'before'
),
compressed as (
    select
        ledger.* exclude (run_key, baseline) replace (
            ledger.before_j_per_1000 * ledger.level as before_j_per_1000,
            ledger.after_j_per_1000 * ledger.level as after_j_per_1000,
            ledger.saved_j_per_1000 * ledger.level as saved_j_per_1000,
            ledger.saved_low_j_per_1000 * ledger.level as saved_low_j_per_1000,
            ledger.saved_high_j_per_1000 * ledger.level as saved_high_j_per_1000,
            ledger.break_even / ledger.level as break_even,
            ledger.break_even_low / ledger.level as break_even_low,
            ledger.break_even_high / ledger.level as break_even_high
        ),
        ledger.run_id as measured_by,
        measured.* exclude (
            run_id, name, role, model_run, num_bytes, test_accuracy, accuracy_difference, accuracy_low, accuracy_high,
            batch_size, num_repeats, source, reason, run_key
        ),
        measured.source as measured_source
    from ledger
    join levelled as measured
        on measured.run_key = ledger.run_key and measured.name = 'after' and measured.batch_size = ledger.batch_size
),
sessions as (
    select
        levelled.*,
        runs.started_at as measured_at
    from levelled
    join runs using (run_key)
    where levelled.role = 'before' and levelled.batch_size = coalesce(size, levelled.batch_size)
        and levelled.model_run not in (select run_id from compressed)
    qualify row_number() over (
        partition by levelled.model_run
        order by levelled.reason is not null, runs.started_at desc, levelled.run_key desc, levelled.batch_size desc
    ) = 1
),
originals as (
    select
        runs.run_id,
        runs.parent,
        runs.model,
        runs.method,
        runs.dataset,
        runs.contest,
        sessions.batch_size,
        sessions.num_repeats,
        kwh(spent.total_j) as train_kwh,
        kwh(spent.own_j) * runs.pue * coalesce(spent.own_g_per_kwh, runs.intensity_g_per_kwh) + spent.inherited_co2_g
            as train_co2_g,
        coalesce(greatest(spent.cpu_source, spent.gpu_source, spent.ram_source), 'unknown'::energy_source)
            as train_source,
        -- Nobody compressed it: nothing, exactly.
        0 as compress_kwh,
        0 as compress_co2_g,
        'absent'::energy_source as compress_source,
        sessions.reason,
        sessions.test_accuracy as accuracy,
        sessions.num_bytes,
        sessions.source,
        sessions.run_id as measured_by,
        sessions.* exclude (
            run_id, name, role, model_run, num_bytes, test_accuracy, accuracy_difference, accuracy_low, accuracy_high,
            batch_size, num_repeats, source, reason, run_key, measured_at
        ),
        sessions.source as measured_source
    from sessions
    join runs on runs.run_id = sessions.model_run
    left join model_totals as spent on spent.run_key = runs.run_key
),
lines as (
    from compressed
    union all by name
    from originals
)
select
    lines.*,
    lifetime as lifetime_predictions,
    per_day as daily_predictions,
    lines.break_even / per_day as days,
    lines.break_even_low / per_day as days_low,
    lines.break_even_high / per_day as days_high,
    lines.train_kwh + lines.compress_kwh + kwh(lifetime / 1000 * lines.energy_j_per_1000) as total_kwh,
    lines.train_co2_g + lines.compress_co2_g + lifetime / 1000 * lines.co2_g_per_1000 as total_co2_g,
    greatest(lines.train_source, lines.compress_source, lines.measured_source) as total_source,
    runs.kind,
    runs.name,
    runs.tags,
    runs.started_at
from lines
join runs using (run_id);
