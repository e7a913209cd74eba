-- One row per file that a run left beside the store.
create or replace view artifacts as
select
    runs.run_id,
    artifact_rows.name,
    artifact_rows.path,
    artifact_rows.num_bytes
from artifact_rows
join runs using (run_key);
