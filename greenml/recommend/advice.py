"""From what people ask for to what they should run: one piece of advice for each contest of the store."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from greenml.recommend import commands, words
from greenml.titles import titles_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenml.store import Store

    Row = dict[str, Any]


DEFAULT_TOLERANCE = 0.01
"""What a person would call as accurate: one percentage point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a recommendation is to keep to; None asks for nothing."""

    dataset: str | None = None
    """Only contests with a run on such a data set; `*` stands for anything."""
    contests: Sequence[str] | None = None
    """Only these, by the column `contest` of the views."""
    target_accuracy: float | None = None
    """On validation, a fraction: the cheapest that reached it is recommended."""
    max_co2_g: float | None = None
    max_time_s: float | None = None
    """Of training and validation, without what setting up took."""
    tolerance: float | None = None
    """Without a target: how far below the most accurate, as a fraction. None is 0.01, or 0 where there are limits."""
    num_runners_up: int | None = 3
    """None is all there are."""
    num_contests: int = 5
    """So many are advised on, the newest first; the others are named."""

    @property
    def tolerance_or_default(self) -> float:
        if self.tolerance is not None:
            return self.tolerance
        return 0.0 if self.has_limits else DEFAULT_TOLERANCE

    @property
    def has_limits(self) -> bool:
        return self.max_co2_g is not None or self.max_time_s is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """On one contest: runs on the same data and split, judged by the same metric. All of it is plain text."""

    contest: str
    title: str
    """The data set, and what tells this contest from others on it."""
    sentence: str
    """What to run, instead of what, and why; or that nothing can be recommended."""
    is_answer: bool
    """Whether the sentence recommends something."""
    was_left_out: bool
    """Not looked at, for its age."""
    evidence: list[str]
    """What it rests on, a line each: runs, spread, where accuracy and energy come from."""
    command: str | None
    """Ready to run; None where nothing is recommended, or nobody knows the program that it was."""
    next_reason: str
    """What would tell more, and what it would cost; empty where enough is known."""
    next_command: str | None
    runners_up: list[str]
    rows: list[Row]
    """`recommended`, best first: of the recommended recipe, of what it is held against, of the runners-up at least.
    Energy in kWh, CO2e in grams, times in seconds."""


CONTESTS = """
    select
        runs.contest,
        min(runs.dataset) as dataset,
        any_value(runs.metric) as metric,
        any_value(runs.goal) as goal,
        any_value(runs.scope) as scope,
        any_value(runs.data_hash) as data_hash,
        any_value(runs.split_hash) as split_hash,
        arg_max(runs.dataset, runs.run_key) filter (runs.kind in ('train', 'trial')) as train_dataset,
        row_number() over (order by max(runs.started_at) desc, runs.contest) as age
    from runs
    where runs.kind not in ('calibrate', 'compress', 'estimate', 'sweep')
        and names_its_data(runs.data_hash, runs.dataset)
    group by runs.contest
    having {chosen}
"""


def advise(db: Store, asked: Asked) -> list[Advice]:
    """What to run, one piece of advice a contest, the newest contest first; nothing where there are no runs."""
    rows = recommended(db, asked)
    contests = [list(group) for _, group in itertools.groupby(rows, lambda row: row["_age"])]
    titles = titles_of(
        [{key[1:]: value for key, value in group[0].items() if key.startswith("_")} for group in contests]
    )
    return [_advice(db, asked, title, group) for title, group in zip(titles, contests, strict=True)]


def recommended(db: Store, asked: Asked) -> list[Row]:
    """The macro `recommended` for each contest asked for, best first; a row of nulls where it says nothing of one.

    What begins with `_` is of the contest. Beyond `num_contests`, a contest has one such row.
    """
    conditions: dict[str, Any] = {}
    if asked.dataset is not None:
        conditions["bool_or(runs.dataset glob ?)"] = asked.dataset
    if asked.contests is not None:
        conditions["list_contains(?, runs.contest)"] = list(asked.contests)
    chosen = CONTESTS.format(chosen=" and ".join(conditions) or "true")
    # As literals: DuckDB leaves out what a null does not ask for, and of a bound value it does not know.
    asks = [
        "null" if value is None else repr(float(value))
        for value in (asked.target_accuracy, asked.tolerance_or_default, asked.max_co2_g, asked.max_time_s)
    ]
    needed = "true"
    if asked.num_runners_up is not None:  # beside the first and whom it is held against
        needed = f"""
            found.training_place <= {asked.num_runners_up + 2}
            or found.recipe_key = found.against_recipe_key
        """
    sql = f"""
        with contests as ({chosen})
        select
            contests.contest as _contest,
            contests.dataset as _dataset,
            contests.metric as _metric,
            contests.goal as _goal,
            contests.scope as _scope,
            contests.data_hash as _data_hash,
            contests.split_hash as _split_hash,
            contests.train_dataset as _train_dataset,
            contests.age as _age,
            found.*
        from contests
        left join recommended({", ".join(asks)}) as found
            on found.contest = contests.contest
            and contests.age <= ?
            and ({needed})
        order by contests.age, found.place
    """
    return db.rows(sql, [*conditions.values(), asked.num_contests])


def _advice(db: Store, asked: Asked, title: str, group: list[Row]) -> Advice:
    first = group[0]
    rows = [{key: value for key, value in row.items() if not key.startswith("_")} for row in group if row["place"]]
    if not rows:
        return _without_rows(db, asked, title, first)
    best = rows[0]
    other = next(row for row in rows if row["recipe_key"] == best["against_recipe_key"])
    is_answer = best["shortfall"] is None
    next_reason, next_command = commands.next_step(db, asked, best, other)
    evidence = words.evidence(best, other)
    if is_answer and (lost := commands.lost(db, best)):
        evidence.append(f"no flag gives {', '.join(lost)}: put it into a file for --config")
    return Advice(
        contest=first["_contest"],
        title=title,
        sentence=words.sentence(asked, best, other) if is_answer else words.refusal(asked, title, best),
        is_answer=is_answer,
        was_left_out=False,
        evidence=evidence,
        command=commands.again(db, best, epochs=best["epochs"]) if is_answer else None,
        next_reason=next_reason,
        next_command=next_command,
        runners_up=words.runners_up(asked, rows),
        rows=rows,
    )


def _without_rows(db: Store, asked: Asked, title: str, contest: Row) -> Advice:
    """On a contest of which nothing was ranked, or that was not looked at."""
    dataset = contest["_train_dataset"]
    was_left_out = contest["_age"] > asked.num_contests
    can_train = not was_left_out and contest["_metric"] == "accuracy" and dataset
    return Advice(
        contest=contest["_contest"],
        title=title,
        sentence=words.nothing(title, contest["_metric"], was_left_out=was_left_out),
        is_answer=False,
        was_left_out=was_left_out,
        evidence=[],
        command=None,
        next_reason="any training that ends would tell more" if can_train else "",
        next_command=commands.train(db, {"model": commands.ARCHITECTURES[0], "dataset": dataset})
        if can_train
        else None,
        runners_up=[],
        rows=[],
    )
