-- One row per time that a run was taken up again.
create or replace view resumes as
select
    runs.run_id,
    resume_rows.segment,
    resume_rows.epoch,
    resume_rows.step,
    resume_rows.started_at,
    resume_rows.epochs_asked,
    resume_rows.config,
    resume_rows.hardware,
    resume_rows.meter,
    resume_rows.versions,
    resume_rows.command
from resume_rows
join runs using (run_key);
