"""What the policy of the environment says of a program that is tracked as a library, before it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenml import environment
from greenml.grid import accounting
from greenml.grid import policy as policies
from greenml.store.usage import used_since

if TYPE_CHECKING:
    from datetime import datetime

    from greenml.store import Store
    from greenml.tracking.subject import Subject


def ask(subject: Subject, store: Store, *, run_id: str, now: datetime) -> None:
    """Keep what the policy says of `now` (UTC, naive). Raises PolicyError where it does not allow it, also for one that
    would wait: a library that stood still for hours would be taken for hung. No service is asked: the intensity is the
    trace's or the factor. Raises UsageError for a policy that makes no sense, and StoreError."""
    policy = policies.chosen()
    if policy is None:
        return
    used_j, used_g = None, None
    if policy.has_budget:
        used_j, used_g = used_since(store, policies.week(policy, now)[0], environment.hardware()["cpu"])
    series = accounting.series_of(subject.asked, now)
    step = series.at(now) if series else None
    facts = policies.Facts(
        now=now,
        g_per_kwh=step.g_per_kwh if step else subject.intensity.g_per_kwh,
        intensity_status=step.status if step else "assumed",
        region=subject.intensity.region_asked,
        used_j=used_j,
        used_g=used_g,
    )
    verdict = policies.judge(policy, facts)
    outcome = "allowed" if verdict.allowed else "refused"
    store.write(policies.judgements(verdict, run_id=run_id, command="track", decided_at=now, outcome=outcome))
    if not verdict.allowed:
        # Without a trace nobody knows of another hour than this.
        at = policies.next_allowed(policy, now, series, now + policies.FAR, facts)
        raise policies.refusal(verdict, at)
