"""The rows that a report hands over as they are, for other programs: of any number of runs, some runs at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from greenml.store import Store

    Row = dict[str, Any]

OF_THESE = "run_id in (select unnest($1))"
# A sweep is told of as a whole, where it, or one of its trials, is among the runs.
OF_SWEEPS = f"""(
    {OF_THESE} or run_id in (select sweep_id from trial_attempts where {OF_THESE})
)"""
OF_TRIALS = f"""(
    sweep_id in (select unnest($1)) or sweep_id in (select sweep_id from trial_attempts where {OF_THESE})
)"""
BOARD = """
    from (
        select
            leaderboard.*,
            runs.num_parameters,
            runs.flops_per_sample
        from leaderboard
        join runs using (run_id)
    ) as board
"""
BEST_FIRST = "order by rank nulls last, started_at desc, run_id"
VIEWS = {
    "leaderboard": f"{BOARD} where {OF_THESE} order by contest, rank nulls last, started_at, run_id",
    "leaderboard_groups": """
        from leaderboard_groups where list_has_any(run_ids, $1) order by contest, rank nulls last, started_at, run_ids
    """,
    "epochs": f"select * exclude (run_key) from epochs where {OF_THESE} order by run_id, epoch",
    "phases": f"select * exclude (run_key) from phases where {OF_THESE} order by run_id, segment, seq",
    "pareto_front": f"""
        select * exclude (run_key) from pareto_front where {OF_THESE} order by contest, energy_kwh, run_id, epoch
    """,
    "optimal_epoch": f"from optimal_epoch where {OF_THESE} order by run_id",
    "swaps": """
        select * exclude (use_recipe_key, recipe_key)
        from swaps
        where list_has_any(run_ids, $1) or list_has_any(use_run_ids, $1)
        order by contest, energy_ratio, recipe_key
    """,
    "savings": """
        from savings
        where list_has_any(from_run_ids || to_run_ids, $1)
        order by contest, key, model, from_run_ids, to_run_ids
    """,
    "marginal": f"from marginal where {OF_THESE} order by run_id, epoch",
    # JSON as the text that it is: files of rows have no nested values.
    "sweeps": f"""
        select * replace (space::text as space, base::text as base, limits::text as limits)
        from sweeps
        where {OF_SWEEPS}
        order by started_at desc, run_id
    """,
    "trials": f"""
        select * replace (params::text as params) from trials where {OF_TRIALS} order by sweep_id, number
    """,
    "sweep_front": f"""
        select * replace (params::text as params)
        from sweep_front
        where {OF_TRIALS}
        order by sweep_id, co2_g, number, epochs
    """,
    "sweep_progress": f"from sweep_progress where {OF_TRIALS} order by sweep_id, step",
    "sweep_importance": f"from sweep_importance where {OF_TRIALS} order by sweep_id, objective, importance desc, key",
}
"""One query a view, on the run ids bound first."""
OF_SEARCHES = {"sweeps", "trials", "sweep_front", "sweep_progress", "sweep_importance"}
"""Views that are empty without a sweep."""
OF_DECISIONS = {
    "decisions": f"select * exclude (run_key) from decisions where {OF_THESE} order by run_id, segment, seq",
}
OF_COMPRESSION = {
    "inference": f"select * exclude (run_key) from inference where {OF_THESE} order by run_id, batch_size, name",
    "break_even": f"select * exclude (run_key) from break_even where {OF_THESE} order by run_id, batch_size, baseline",
}
"""The same of views that are empty without a compressed model."""
SPENT = "kind <> 'estimate' and unranked is distinct from 'replayed power'"
"""Runs that took energy here: what was never metered, or metered elsewhere and replayed, took none."""
TOGETHER = """
            -- sum() skips nulls, and a sum over a gap is not a total.
            if(count(*) = count(duration_s), sum(duration_s), null) as total_s,
            sum(duration_s) as total_known_s,
            -- What runs took themselves: what a compressed model inherited stands with its parent.
            if(count(*) = count(own_kwh), sum(own_kwh), null) as total_kwh,
            sum(own_known_kwh) as total_known_kwh,
            -- Each run at its own place.
            if(count(*) = count(own_kwh), sum(own_kwh * pue * intensity_g_per_kwh), null) as total_co2_g,
            sum(own_known_kwh * pue * intensity_g_per_kwh) as total_known_co2_g,
            count(*) filter (own_kwh is null) as num_unknown,
            count(*) filter (overlap_s > 0) as num_overlapping,
            max(source) as worst_source
"""
"""What rows of `leaderboard` took together. Every sum over runs is this one, over those that `SPENT` holds for."""
TAKEN = """
    (
        select leaderboard.* replace (coalesce(sweeps.contest, leaderboard.contest) as contest)
        from leaderboard
        left join sweeps using (run_id)
    )
"""
"""The leaderboard; what a sweep took beside its trials stands with them. Its trials have rows of their own, so that no
joule of a sweep is there twice (tests/test_sweep_report.py)."""
LONG = {"epochs", "phases", "marginal"}
"""Views with many rows a run, and none that takes more runs than one."""
RUNS_AT_ONCE = 500
"""Of a long view: 500 runs of 100 epochs are 150,000 phases, and 0.3 GB as Python holds them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One view of the store, of certain runs."""

    name: str
    types: dict[str, str]
    """Its columns in order, and what DuckDB calls their types."""
    parts: Iterator[list[Row]]
    """Its rows, read as they are asked for."""


def views(db: Store, run_ids: Sequence[str]) -> Iterator[View]:
    """Every view that is handed over, with all its rows of these runs; those about sweeps where there is one, those
    about compression where there is a compressed model, and that of decisions where there is one."""
    has_sweeps = bool(db.rows(f"select 1 as one from sweeps where {OF_SWEEPS} limit 1", [list(run_ids)]))
    decided = db.rows(f"select 1 as one from decisions where {OF_THESE} limit 1", [list(run_ids)])
    queries = VIEWS | (OF_COMPRESSION if has_compressed(db, run_ids) else {}) | (OF_DECISIONS if decided else {})
    for name, sql in queries.items():
        if name in OF_SEARCHES and not has_sweeps:
            continue
        described = db.rows(f"describe {sql}", [[]])
        types = {row["column_name"]: row["column_type"] for row in described}
        yield View(name=name, types=types, parts=_parts(db, name, sql, run_ids))


def has_compressed(db: Store, run_ids: Sequence[str]) -> bool:
    """Whether one of these runs made a smaller model of another's."""
    sql = f"select 1 as one from runs where kind = 'compress' and {OF_THESE} limit 1"
    return bool(db.rows(sql, [list(run_ids)]))


def _parts(db: Store, name: str, sql: str, run_ids: Sequence[str]) -> Iterator[list[Row]]:
    # By id, as the rows of a part are: together they are sorted, too.
    ids = sorted(run_ids)
    size = RUNS_AT_ONCE if name in LONG else max(1, len(ids))
    for start in range(0, len(ids), size):
        yield db.rows(sql, [ids[start : start + size]])


def board(db: Store) -> list[Row]:
    """All runs, ranked or not: the best first, and of those without a rank the newest."""
    return db.rows(f"{BOARD} {BEST_FIRST}")


def top(db: Store, num_runs: int, num_contests: int) -> list[Row]:
    """The best runs of each of the newest contests, the newest contest first; all with a test accuracy."""
    sql = f"""
        with reached as ({BOARD} where accuracy is not null),
        placed as (
            select
                *,
                max(started_at) over (partition by contest) as _newest,
                row_number() over (partition by contest {BEST_FIRST}) as _place
            from reached
        )
        select * exclude (_newest, _place)
        from placed
        qualify _place <= $1 and dense_rank() over (order by _newest desc, contest) <= $2
        order by _newest desc, contest, _place
    """
    return db.rows(sql, [num_runs, num_contests])


def best(db: Store, run_ids: Sequence[str], limit: int) -> list[str]:
    """The best `limit` of these runs: by rank, then the newest that have none."""
    rows = db.rows(f"select run_id from leaderboard where {OF_THESE} {BEST_FIRST} limit $2", [list(run_ids), limit])
    return [row["run_id"] for row in rows]


def low_carbon(db: Store, run_ids: Sequence[str], most_g: float) -> list[Row]:
    """Ranked runs that took at most so many grams of CO2e, the most accurate on validation first."""
    sql = f"""
        {BOARD}
        where {OF_THESE} and unranked is null and metric = 'accuracy' and co2_g <= $2
        order by contest, val_accuracy desc nulls last, co2_g, run_id
    """
    return db.rows(sql, [list(run_ids), most_g])


def contests(db: Store, run_ids: Sequence[str]) -> list[Row]:
    """One row per contest: how many runs it has, its best ones by two measures, and what all of them took."""
    sql = f"""
        with shown as materialized (
            select * from {TAKEN} where {OF_THESE}
        ),
        taken as (
            select
                contest,
                count(*) filter (kind <> 'sweep') as num_metered,
                {TOGETHER}
            from shown
            where {SPENT}
            group by contest
        ),
        bests as (
            select
                contest,
                min(dataset) as first_dataset,
                count(*) as num_runs,
                count(rank) as num_ranked,
                first(shown order by rank, started_at, run_id) filter (rank is not null) as thriftiest,
                first(shown order by val_accuracy desc, energy_kwh, run_id)
                    filter (rank is not null and val_accuracy is not null) as most_accurate
            from shown
            where kind <> 'sweep'
            group by contest
        )
        select bests.*, taken.* exclude (contest)
        from bests
        left join taken using (contest)
        order by num_runs desc, contest
    """
    return db.rows(sql, [list(run_ids)])


def totals(db: Store, run_ids: Sequence[str]) -> Row:
    """One row over all these runs: when they were, and what they took."""
    sql = f"""
        with shown as materialized (
            select * from leaderboard where {OF_THESE}
        ),
        counts as (
            select
                count(*) filter (kind <> 'sweep') as num_runs,
                count(*) filter (kind = 'sweep') as num_sweeps,
                count(distinct contest) filter (kind <> 'sweep') as num_contests,
                min(started_at) as first_started_at,
                max(coalesce(ended_at, started_at)) as last_ended_at
            from shown
        ),
        taken as (
            select
                count(*) filter (kind <> 'sweep') as num_metered,
                {TOGETHER}
            from shown
            where {SPENT}
        )
        select counts.*, taken.*
        from counts, taken
    """
    [row] = db.rows(sql, [list(run_ids)])
    return row


def break_even(db: Store, run_ids: Sequence[str]) -> list[Row]:
    """One row per swap, the one that pays first before the others: after how many trainings it has paid for all runs of
    its contest, also those that are not among these.

    What they took while it was found out is paid; every later training with the one and not the other pays some of it
    back.
    """
    sql = f"""
        with taken as (
            select
                contest,
                count(*) filter (kind <> 'sweep') as num_tried,
                count(*) filter (kind = 'sweep') as num_sweeps,
                {TOGETHER}
            from {TAKEN}
            -- A model that was made smaller is no training that was tried.
            where {SPENT} and kind <> 'compress'
            group by contest
        ),
        paid as (
            select
                swaps.*,
                taken.num_tried,
                taken.num_sweeps,
                taken.total_kwh as tried_kwh,
                taken.total_known_kwh as known_tried_kwh,
                taken.worst_source as tried_source,
                swaps.energy_kwh - swaps.use_energy_kwh as saved_kwh,
                taken.total_known_kwh / (swaps.energy_kwh - swaps.use_energy_kwh) as num_trainings,
                greatest(taken.worst_source, swaps.source) as trainings_source
            from ({VIEWS["swaps"]}) as swaps
            join taken using (contest)
        )
        select
            *,
            -- The first whole number of them that pays.
            ceil(num_trainings)::bigint as whole_trainings
        from paid
        order by num_trainings, use_run_ids, run_ids
    """
    return db.rows(sql, [list(run_ids)])


def all_of_contest(db: Store, contest: str) -> Row:
    """What all runs of a contest took together."""
    sql = f"""
        select
            count(*) filter (kind <> 'sweep') as num_runs,
            {TOGETHER}
        from {TAKEN}
        where contest = ? and {SPENT}
    """
    [row] = db.rows(sql, [contest])
    return row
