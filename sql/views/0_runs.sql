-- One row per run, without those that were removed.
create or replace view runs as
select * exclude (removed_at)
from run_rows
where removed_at is null;
