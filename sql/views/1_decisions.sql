-- One row per decision for the sake of the grid: what a run did, why, and what that saved, measured against what.
create or replace view decisions as
select
    runs.run_id,
    decision_rows.segment,
    decision_rows.seq,
    decision_rows.decided_at,
    decision_rows.what,
    decision_rows.why,
    decision_rows.provider,
    decision_rows.intensity_status,
    decision_rows.g_per_kwh,
    decision_rows.until_at,
    decision_rows.expected_g_per_kwh,
    decision_rows.saved_g,
    decision_rows.saved_share,
    decision_rows.saved_source,
    decision_rows.against,
    decision_rows.run_key
from decision_rows
join runs using (run_key);
