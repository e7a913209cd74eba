-- One row per rule of a policy and judgement of a run: what it allows, what was held against it, and what came of that; and
-- one per run for which no policy was asked, whose policy is null.
create or replace view audit as
select
    verdict_rows.run_id,
    verdict_rows.decided_at,
    verdict_rows.command,
    verdict_rows.policy,
    verdict_rows.rule,
    verdict_rows.bound as "limit",
    verdict_rows.value,
    verdict_rows.unit,
    verdict_rows.status,
    verdict_rows.words,
    verdict_rows.outcome
from verdict_rows
union all
select
    runs.run_id,
    runs.started_at as decided_at,
    runs.kind as command,
    null as policy,
    null as rule,
    null as "limit",
    null as value,
    null as unit,
    null as status,
    'no policy' as words,
    'allowed' as outcome
from runs
where runs.kind in ('train', 'sweep', 'track')
    and not exists (from verdict_rows where verdict_rows.run_id = runs.run_id);
