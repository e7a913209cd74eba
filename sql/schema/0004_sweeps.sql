-- Searches: what was searched, and every trial of it. The run of a sweep holds what it used beside its trials.

-- One row per sweep.
create table study_rows (
    run_key integer primary key,
    sampler text not null,
    num_trials integer not null,
    seed bigint not null,
    space json not null,
    base json not null,
    limits json not null,
    stops_early boolean not null,
    floor double not null
);

-- One row per trial, as it was told last.
create table trial_rows (
    run_key integer not null,
    number integer not null,
    state text not null,
    params json not null,
    distributions json not null,
    attrs json not null,
    attempts text[] not null,
    origin text,
    reason text,
    primary key (run_key, number)
);
