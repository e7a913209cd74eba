-- The time of a run, apart from that for which it stood still for cleaner electricity: `duration_s` had counted both.

alter table totals add column waited_s double default 0;

update totals
set waited_s = waits.waited_s, duration_s = duration_s - waits.waited_s
from (
    select run_key, sum(epoch_us(ended_at) - epoch_us(started_at)) / 1e6 as waited_s
    from phase_rows
    where name = 'wait'
    group by run_key
) as waits
where totals.run_key = waits.run_key;
