-- Where every joule comes from; runs that greenml did not train itself, and what they say about themselves.

-- A tracked or imported run knows only what it was told: null is "not said".
alter table run_rows alter column data_hash drop not null;
alter table run_rows alter column split_hash drop not null;
alter table run_rows alter column num_classes drop not null;
alter table run_rows alter column num_train drop not null;
alter table run_rows alter column num_val drop not null;
alter table run_rows alter column num_test drop not null;
alter table run_rows alter column majority_share drop not null;
alter table run_rows alter column image_size drop not null;
alter table run_rows alter column resize drop not null;
alter table run_rows alter column stem drop not null;
alter table run_rows alter column num_parameters drop not null;
alter table run_rows alter column precision_asked drop not null;
alter table run_rows alter column precision drop not null;
alter table run_rows alter column batch_size drop not null;
alter table run_rows alter column epochs_asked drop not null;
alter table run_rows alter column seed drop not null;
alter table run_rows alter column split_seed drop not null;

-- `machine`: all that this computer used; `process`: the share of the run's processes. They are never compared.
alter table run_rows add column scope text default 'machine';
-- What the run is judged by, and whether more of it (`max`) or less (`min`) is better; its value at the end.
alter table run_rows add column metric text default 'accuracy';
alter table run_rows add column goal text default 'max';
alter table run_rows add column value double;
alter table run_rows add column country text;
alter table run_rows add column season text;
alter table run_rows add column flops_per_sample bigint;
-- Of every installed package and its version.
alter table run_rows add column dependencies_hash text;
-- What the run was expected to take before its first epoch, and what that rested on.
alter table run_rows add column forecast json;

alter table phase_rows add column cpu_error_j double;
alter table phase_rows add column gpu_error_j double;
alter table phase_rows add column ram_error_j double;
-- Joules of each GPU, in the order of the run's `meter.gpus`; null where there is none.
alter table phase_rows add column gpus_j double[];

alter table totals add column error_j double;
alter table totals add column setup_j double;

alter table epoch_rows alter column train_loss drop not null;
alter table epoch_rows alter column train_accuracy drop not null;
alter table epoch_rows alter column val_loss drop not null;
alter table epoch_rows alter column val_accuracy drop not null;
alter table epoch_rows alter column val_correct drop not null;
alter table epoch_rows alter column val_count drop not null;
alter table epoch_rows alter column lr drop not null;
-- Of `energy_j`; null in rows from before, where only that of the running total was kept.
alter table epoch_rows add column energy_source energy_source;
alter table epoch_rows add column error_j double;
-- The run's metric after this epoch, where that is not accuracy.
alter table epoch_rows add column value double;

-- One row per figure that a program said about itself.
create table metric_rows (
    run_key integer not null,
    segment integer not null,
    seq integer not null,
    epoch integer,
    name text not null,
    value double not null,
    goal text,
    logged_at timestamp not null,
    primary key (run_key, segment, seq)
);

-- One row per measurement of what a machine draws when nothing runs.
create table idle_rows (
    machine text not null,
    measured_at timestamp not null,
    seconds double not null,
    watts double,
    components json not null,
    primary key (machine, measured_at)
);

update totals
set error_j = bounds.error_j, setup_j = bounds.setup_j
from (
    select run_key, sum(ends_j) as error_j, sum(segment_setup_j) as setup_j
    from (
        select
            run_key,
            arg_min(error_j, seq) + arg_max(error_j, seq) as ends_j,
            sum(joules) filter (name = 'setup') as segment_setup_j
        from phase_rows
        group by run_key, segment
    )
    group by run_key
) as bounds
where totals.run_key = bounds.run_key;
