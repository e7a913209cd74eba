-- Models made smaller: of whose they were made and how, how they were served, and every repeat of measuring that.

-- In words: `prune 0.3, int8`; null for what was trained.
alter table run_rows add column method text;

-- One row per model that a run measured: `after` is its own, `before` its parent's, the others are the parent's in
-- another runtime or precision.
create table served_rows (
    run_key integer not null,
    name text not null,
    model_run text not null,
    backend text not null,
    precision text not null,
    device text not null,
    num_threads integer not null,
    num_bytes bigint not null,
    memory_bytes bigint,
    num_parameters bigint not null,
    flops_per_sample bigint,
    test_correct bigint not null,
    test_count bigint not null,
    gained bigint not null,
    lost bigint not null,
    primary key (run_key, name)
);

-- One row per repeat of a measurement; its joules are those of the phases from `first_seq` to `last_seq`.
create table inference_rows (
    run_key integer not null,
    segment integer not null,
    seq integer not null,
    name text not null,
    batch_size integer not null,
    repeat integer not null,
    num_predictions bigint not null,
    duration_s double not null,
    cpu_s double not null,
    latency_p50_s double not null,
    latency_p95_s double not null,
    first_seq integer not null,
    last_seq integer not null,
    primary key (run_key, segment, seq)
);
