-- Grams by the hour: what the grid emitted while a run lasted, what was decided for its sake, and what was heard of it.

-- Best first, in the order of greenml.grid.series.STATUSES (tests/test_views.py): max() is the status of a mean.
create type intensity_status as enum ('actual', 'estimated', 'forecast', 'modelled', 'assumed');

-- The mean over the phase; null where nobody knew it, and the run's own factor applies.
alter table phase_rows add column g_per_kwh double;
alter table phase_rows add column intensity_status intensity_status;

-- The same over the phases of the epoch, weighted by their joules, ...
alter table epoch_rows add column g_per_kwh double;
-- ... and over all phases from the start of the run to the end of the epoch.
alter table epoch_rows add column total_g_per_kwh double;

-- The same over all phases of the run, and the worst status among them. Null where no phase has an intensity of its own.
alter table totals add column g_per_kwh double;
alter table totals add column intensity_status intensity_status;

-- One row per decision for the sake of the grid: to wait, to start, to pause, to go on, not to pause, ...
create table decision_rows (
    run_key integer not null,
    segment integer not null,
    seq integer not null,
    decided_at timestamp not null,
    what text not null,
    why text not null,
    provider text,
    intensity_status intensity_status,
    g_per_kwh double,
    until_at timestamp,
    expected_g_per_kwh double,
    saved_g double,
    saved_share double,
    saved_source text,
    against text,
    primary key (run_key, segment, seq)
);

-- One row per step of an intensity that a provider has told, of no run. Steps of one provider, zone, kind and set of
-- factors do not overlap. A zone without a name is ''.
create table grid_history (
    provider text not null,
    zone text not null,
    kind text not null,
    factors text not null,
    start_at timestamp not null,
    end_at timestamp not null,
    g_per_kwh double not null,
    status intensity_status not null,
    source text not null,
    fetched_at timestamp not null,
    primary key (provider, zone, kind, factors, start_at)
);

-- One row per rule of a policy and judgement. Of no run_key: also what was refused, and never was a run, is in it, and
-- stays when runs go.
create table verdict_rows (
    run_id text not null,
    decided_at timestamp not null,
    command text not null,
    policy text not null,
    rule text not null,
    bound text,
    value text,
    unit text,
    status text not null,
    words text not null,
    outcome text not null,
    primary key (run_id, decided_at, rule, outcome)
);
