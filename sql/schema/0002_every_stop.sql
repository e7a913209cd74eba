-- Runs that go on, runs that are repeated, runs that were set aside; memory beside energy.

-- `runs` is a view now: what was removed (and not purged) is not in it, and so in no ranking.
alter table runs rename to run_rows;
alter table run_rows add column note text;
alter table run_rows add column removed_at timestamp;
-- Equal for runs that differ in their seed alone; null in rows from before.
alter table run_rows add column group_hash text;
alter table run_rows add column grad_accum integer default 1;
-- In words, whether accumulated gradients equal those of the large batch; null where nothing was accumulated.
alter table run_rows add column accumulation text;

alter table epoch_rows add column num_samples bigint;
alter table epoch_rows add column peak_host_bytes bigint;
alter table epoch_rows add column peak_device_bytes bigint;

-- One row per time that a run was taken up again: a new process life, with what may differ in it.
create table resume_rows (
    run_key integer not null,
    segment integer not null,
    epoch integer not null,
    step integer not null,
    started_at timestamp not null,
    epochs_asked integer not null,
    group_hash text,
    config json not null,
    hardware json not null,
    meter json not null,
    versions json not null,
    command text not null,
    primary key (run_key, segment)
);
