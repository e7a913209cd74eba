-- One row per figure that a program said about itself while it was tracked.
create or replace view metrics as
select
    runs.run_id,
    metric_rows.segment,
    metric_rows.seq,
    metric_rows.epoch,
    metric_rows.name,
    metric_rows.value,
    metric_rows.goal,
    metric_rows.logged_at,
    metric_rows.run_key
from metric_rows
join runs using (run_key);
