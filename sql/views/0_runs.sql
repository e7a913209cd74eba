-- One row per run, without those that were removed. Runs of one contest can be compared: they saw the same data and
-- split, are judged by the same metric, and were metered in the same scope. Who gave no data has only its name.
create or replace view runs as
select
    * exclude (removed_at),
    concat_ws(' ', coalesce(data_hash, 'named ' || dataset), split_hash, scope, metric, goal) as contest
from run_rows
where removed_at is null;
