-- The tables of greenml. Numbered files only grow: what is here has been written to people's disks.

create table schema_migrations (
    version integer primary key,
    name text not null,
    greenml_version text not null,
    applied_at timestamp not null
);

-- Which views the file holds: readers with other views bring their own as temporary ones.
create table schema_views (
    hash text not null,
    greenml_version text not null
);

-- Best first, in the order of greenml.records.Source (tests/test_views.py): max() is the source of a sum.
create type energy_source as enum ('absent', 'measured', 'apportioned', 'estimated', 'unknown');

create sequence run_keys;

-- One row per run. `run_key` joins inside this file only; people and other files know `run_id`.
create table runs (
    run_key integer primary key default nextval('run_keys'),
    run_id text not null unique,
    kind text not null,
    status text not null default 'running',
    stop_reason text,
    name text,
    tags text[] not null,
    parent text,
    model text not null,
    dataset text not null,
    data_hash text not null,
    split_hash text not null,
    num_classes integer not null,
    num_train integer not null,
    num_val integer not null,
    num_test integer not null,
    majority_share double not null,
    image_size integer not null,
    resize text not null,
    stem text not null,
    num_parameters bigint not null,
    precision_asked text not null,
    precision text not null,
    batch_size integer not null,
    epochs_asked integer not null,
    seed bigint not null,
    split_seed bigint not null,
    config json not null,
    device text not null,
    hardware json not null,
    meter json not null,
    versions json not null,
    intensity_g_per_kwh double not null,
    intensity_level text not null,
    region_asked text,
    region_used text not null,
    intensity_year integer,
    intensity_source text not null,
    intensity_note text not null,
    pue double not null,
    git_commit text,
    git_dirty boolean,
    command text not null,
    started_at timestamp not null,
    ended_at timestamp,
    best_epoch integer,
    val_accuracy double,
    test_accuracy double,
    test_loss double,
    test_correct bigint,
    test_count bigint
);

-- One row per stretch of a run between two readings of the meter. They tile the run; their sum is its total.
create table phase_rows (
    run_key integer not null,
    segment integer not null,
    seq integer not null,
    name text not null,
    epoch integer,
    device text not null,
    started_at timestamp not null,
    ended_at timestamp not null,
    cpu_j double,
    gpu_j double,
    ram_j double,
    cpu_source energy_source not null,
    gpu_source energy_source not null,
    ram_source energy_source not null,
    method text not null,
    error_j double,
    overlap_s double not null,
    joules double generated always as (cpu_j + gpu_j + ram_j) virtual,
    source energy_source generated always as (greatest(cpu_source, gpu_source, ram_source)) virtual,
    primary key (run_key, segment, seq),
    -- Unknown is null, and null is unknown: never 0.
    check ((cpu_j is null) = (cpu_source = 'unknown')),
    check ((gpu_j is null) = (gpu_source = 'unknown')),
    check ((ram_j is null) = (ram_source = 'unknown'))
);

-- One row per run with phases: the view `phase_totals`, kept. Every write of phases renews it in the same transaction
-- (tests/test_views.py: they agree). Three million phases take 50 ms to sum in a cold process, this takes 4.
create table totals (
    run_key integer primary key,
    duration_s double not null,
    cpu_j double,
    gpu_j double,
    ram_j double,
    known_j double not null,
    cpu_source energy_source not null,
    gpu_source energy_source not null,
    ram_source energy_source not null,
    overlap_s double not null
);

-- One row per attempt at an epoch: a resumed run may train the same epoch again, and both attempts cost energy.
create table epoch_rows (
    run_key integer not null,
    segment integer not null,
    epoch integer not null,
    train_loss double not null,
    train_accuracy double not null,
    val_loss double not null,
    val_accuracy double not null,
    val_correct bigint not null,
    val_count bigint not null,
    lr double not null,
    duration_s double not null,
    cpu_j double,
    gpu_j double,
    ram_j double,
    energy_j double,
    energy_total_j double,
    source energy_source not null,
    schedule_complete boolean not null,
    primary key (run_key, segment, epoch)
);

-- One row per file that a run left beside the store.
create table artifact_rows (
    run_key integer not null,
    name text not null,
    path text not null,
    num_bytes bigint not null,
    primary key (run_key, name)
);
