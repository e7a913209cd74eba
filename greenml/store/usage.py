"""What runs of a machine have used, as the budgets of a policy ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from greenml.store.store import Store

USED = """
    with own as (
        select
            phase_rows.joules,
            coalesce(phase_rows.g_per_kwh, run_rows.intensity_g_per_kwh) * run_rows.pue as counted_g_per_kwh,
            -- Of what had begun before, the part that lies within.
            case
                when phase_rows.started_at >= $1::timestamp then 1.0
                else (epoch_us(phase_rows.ended_at) - epoch_us($1::timestamp))
                    / (epoch_us(phase_rows.ended_at) - epoch_us(phase_rows.started_at))
            end as part
        from phase_rows
        join run_rows using (run_key)
        where phase_rows.ended_at > $1::timestamp
            and run_rows.kind <> 'import'
            and run_rows.hardware ->> '$.cpu' is not distinct from $2
            -- Of what a killed run had used since its last phase nobody knows anything, for the rest of the week.
            and phase_rows.name <> 'lost'
    )
    select
        -- sum() skips nulls, and a sum over a gap is not a total.
        if(count(*) = count(joules), coalesce(sum(joules * part), 0), null) as used_j,
        if(count(*) = count(joules), coalesce(sum(kwh(joules * part) * counted_g_per_kwh), 0), null) as used_g
    from own
"""
"""Runs that were removed count, too: their energy is used. In a merged store machines are told apart by their CPU."""


def used_since(store: Store, since: datetime, cpu: str | None) -> tuple[float | None, float | None]:
    """Joules and grams of this machine's runs since a moment; None where not all of it is known."""
    rows = store.rows(USED, [since, cpu])
    return (rows[0]["used_j"], rows[0]["used_g"]) if rows else (0.0, 0.0)
