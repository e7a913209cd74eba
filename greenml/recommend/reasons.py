"""Why a recommendation is what it is: what a model costs an image, where the energy went, what could be changed.

All of it from rows of one contest. What was not tried here has no number, but the command that would measure it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from greenml.console import figure
from greenml.recommend import commands
from greenml.records import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from greenml.recommend.advice import Advice
    from greenml.records import Intensity
    from greenml.store import Store

    Row = dict[str, Any]

MOST_MODELS = 12
MOST_CHANGES = 8
ALIKE = """
    select 1 as one
    from model_costs
    where contest = ? and joules_per_sample is not null
    group by precision, batch_size, grad_accum, image_size, device, machine, num_threads
    having count(distinct num_parameters) > 1
    limit 1
"""
FEWER = """
    from fewer_parameters_cost_more
    where contest = ?
    -- What repeats bear out comes first, and what they do not comes last.
    order by if(exceeds_spread is null, 0, if(exceeds_spread, -1, 1)), energy_ratio desc
    limit 1
"""
SAVINGS = "from savings where contest = ? order by num_pairs > 1 desc, energy_ratio"
SWAPS = "from swaps where contest = ? and model <> use_model order by num_runs > 1 desc, energy_ratio limit 1"
HINDSIGHT = """
    select
        count(*) as num_runs,
        list(contestants.run_id order by contestants.run_key) as run_ids,
        round(avg(optimal_epoch.epoch))::integer as epochs,
        min(optimal_epoch.epoch) = max(optimal_epoch.epoch) as is_one_epoch,
        max(run_figures.num_epochs) as trained_epochs,
        -- avg() skips nulls, and a mean over a gap is not one.
        1 - if(count(*) = count(energy_saved_kwh / total_kwh), avg(energy_saved_kwh / total_kwh), null) as ratio,
        if(count(*) = count(energy_saved_kwh / total_kwh), stddev_samp(energy_saved_kwh / total_kwh), null)
            as std_ratio,
        max(worst_source) as source,
        avg(optimal_epoch.accuracy - best_accuracy) as accuracy_difference,
        stddev_samp(optimal_epoch.accuracy - best_accuracy) as std_accuracy_difference
    from optimal_epoch
    join contestants using (run_id)
    join run_figures using (run_key)
    where contestants.is_done and contestants.recipe_key = ?
    having count(*) > 0
"""
GRIDS = """
    select
        runs.region_asked,
        runs.region_used,
        -- What counted. What is equal all the way comes back to the last bit: no sum is as exact.
        case
            when min(run_totals.intensity_g_per_kwh) = max(run_totals.intensity_g_per_kwh)
                then min(run_totals.intensity_g_per_kwh)
            else sum(total_j * run_totals.intensity_g_per_kwh) / nullif(sum(total_j), 0)
        end as mean_g_per_kwh
    from runs
    join run_totals using (run_id)
    where run_id in (select unnest(?))
    group by runs.region_asked, runs.region_used
"""
UNFINISHED = """
    select count(*) as num_runs, sum(kwh(known_j)) as known_kwh, max(worst_source) as source
    from run_figures
    where contest = ? and status in ('crashed', 'failed')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Where the energy of some runs went."""

    title: str
    run_ids: list[str]
    """Those that finished."""
    phases: list[Row]
    """`energy_by_phase`, in kWh, of all runs together; `share` is a fraction, None where a part is unknown."""
    components: list[Row]
    """`energy_by_component`, likewise."""

    @property
    def source(self) -> Source:
        """A sum is as good as its worst part."""
        return Source.worst([Source(row["source"]) for row in self.phases])


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that could be done otherwise."""

    what: str
    basis: str
    """`tried`, `chance` (tried, and not the effect of this), `hindsight`, `at most` (a bound), `computed`, or
    `not tried`."""
    of: str = "energy"
    """What `ratio` is of: `energy` or `CO2e`."""
    ratio: float | None = None
    """What is left: 0.6 is 40 % less. None where nobody measured it."""
    std_ratio: float | None = None
    source: str | None = None
    """How the joules behind it are known; None where there are none."""
    accuracy_difference: float | None = None
    """On validation, a fraction."""
    std_accuracy_difference: float | None = None
    num_runs: int | None = None
    """So many pairs of runs; of a single recipe, so many runs."""
    run_ids: tuple[str, ...] = ()
    effort: str = "flag"
    """`flag`, `edit` (of a config file), or `operations`."""
    remark: str = ""
    command: str | None = None
    """What would measure it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasons:
    """Why, for one contest."""

    title: str
    models: list[Row]
    """`model_costs`, the fewest parameters first."""
    are_comparable: bool
    """Whether two models were trained alike, and their energy is known."""
    fewer: Row | None
    """A row of `fewer_parameters_cost_more`, the one best borne out; None where there is none."""
    spent: list[Spent]
    """Of the recommended recipe and what it is recommended instead of; of the whole contest where there is neither."""
    unfinished: Row
    changes: list[Change]


def reasons(db: Store, advice: Advice) -> Reasons:
    """All that the rows of a contest say about the why of its advice."""
    contest = advice.contest
    best = advice.rows[0] if advice.rows else None
    spent = _spent(db, advice, best)
    savings = db.rows(SAVINGS, [contest])
    return Reasons(
        title=advice.title,
        models=db.rows(
            "from model_costs where contest = ? order by num_parameters, model, precision limit ?",
            [contest, MOST_MODELS],
        ),
        are_comparable=bool(db.rows(ALIKE, [contest])),
        fewer=next(iter(db.rows(FEWER, [contest])), None),
        spent=spent,
        unfinished=db.rows(UNFINISHED, [contest])[0],
        changes=[
            *map(_tried, savings[:MOST_CHANGES]),
            *_swapped(db, contest),
            *(_in_hindsight(db, best) if best else ()),
            *_at_most(spent[0], best),
            *(_elsewhere(db, best) if best else ()),
            *(_not_tried(db, best, {row["key"] for row in savings}) if best else ()),
        ],
    )


def _spent(db: Store, advice: Advice, best: Row | None) -> list[Spent]:
    """Of the recipes in question; of all together where there is no such recipe."""
    if best is None:
        recipes = db.rows("select recipe_key from recipes where contest = ?", [advice.contest])
        return [_spent_by(db, "all runs", [row["recipe_key"] for row in recipes])]
    found = [_spent_by(db, _called(best), [best["recipe_key"]])]
    if not best["is_same_recipe"]:
        other = next(row for row in advice.rows if row["recipe_key"] == best["against_recipe_key"])
        found.append(_spent_by(db, _called(other), [other["recipe_key"]]))
    return found


def _spent_by(db: Store, title: str, recipes: list[int]) -> Spent:
    phases = db.rows("from energy_by_phase(?::integer[])", [recipes])
    return Spent(
        title=title,
        run_ids=phases[0]["run_ids"] if phases else [],
        phases=phases,
        components=db.rows("from energy_by_component(?::integer[])", [recipes]),
    )


def _called(row: Row) -> str:
    return " ".join(filter(None, [row["model"], row["precision"]]))


# What could be changed


def _tried(row: Row) -> Change:
    """A pair of recipes that differ in one key alone; what made it worse is said, too."""
    key = row["key"]
    # Where nothing was stopped, stopping saved nothing.
    is_idle = key == "early_stop" and row["to_epochs"] >= row["from_epochs"]
    remark = ""
    if is_idle:
        remark = "it stopped nothing early here, and what lies between the runs has another cause"
    elif key == "early_stop":
        remark = f"against {row['from_epochs']:g} epochs, which somebody chose"
    return Change(
        what=f"{key}{_values(row)} ({row['model']})",
        basis="chance" if is_idle else "tried",
        ratio=row["energy_ratio"],
        std_ratio=row["std_energy_ratio"],
        source=row["source"],
        accuracy_difference=row["accuracy_difference"],
        std_accuracy_difference=row["std_accuracy_difference"],
        num_runs=row["num_pairs"],
        run_ids=(*row["from_run_ids"], *row["to_run_ids"]),
        effort=_effort(key),
        remark=remark,
    )


def _values(row: Row) -> str:
    """From what to what; of what was only switched on, nothing."""
    if (row["from_value"], row["to_value"]) == ("false", "true"):
        return ""
    return f" {_short(row['from_value'])} to {_short(row['to_value'])}"


def _short(value: str | None) -> str:
    return "default" if value is None else value if len(value) <= 12 else f"{value[:11]}…"


def _effort(key: str) -> str:
    return "edit" if key in commands.WITHOUT_FLAG else "flag"


def _swapped(db: Store, contest: str) -> Iterator[Change]:
    """The model that another would replace at the least energy."""
    for row in db.rows(SWAPS, [contest]):
        is_alike = row["use_precision"] == row["precision"]
        use, instead = (
            model if is_alike else f"{model} {precision}"
            for model, precision in ((row["use_model"], row["use_precision"]), (row["model"], row["precision"]))
        )
        yield Change(
            what=f"{use} x {row['use_epochs']} for {instead} x {row['epochs']}",
            basis="tried",
            ratio=row["energy_ratio"],
            source=row["source"],
            accuracy_difference=row["accuracy_difference"],
            num_runs=min(row["use_num_runs"], row["num_runs"]),
            run_ids=(*row["use_run_ids"], *row["run_ids"]),
            remark="epochs; within a point of the other's best validation accuracy, at an epoch chosen in hindsight",
        )


def _in_hindsight(db: Store, best: Row) -> Iterator[Change]:
    """Had its runs stopped where they were within a point of their best."""
    for row in db.rows(HINDSIGHT, [best["recipe_key"]]):
        if row["ratio"] is not None and row["epochs"] < row["trained_epochs"]:
            about = "" if row["is_one_epoch"] else "about "
            yield Change(
                what=f"stop at {about}epoch {row['epochs']} of {row['trained_epochs']}",
                basis="hindsight",
                ratio=row["ratio"],
                std_ratio=row["std_ratio"],
                source=row["source"],
                accuracy_difference=row["accuracy_difference"],
                std_accuracy_difference=row["std_accuracy_difference"],
                num_runs=row["num_runs"],
                run_ids=tuple(row["run_ids"]),
                remark=f"{_called(best)}, within a point of its best validation accuracy, unknown at the time",
            )


def _at_most(spent: Spent, best: Row | None) -> Iterator[Change]:
    """What a change could save if it cost nothing: the share of a phase is the bound."""
    shares = {row["name"]: row["share"] for row in spent.phases}
    if best is None or best["kind"] not in commands.TRAINED_HERE:  # somebody's own program has no flags of ours
        shares.pop("validate", None)
    for phase, what, effort, remark in (
        ("setup", "less setting up", "operations", "longer runs, or fewer of them, share one setting up"),
        ("validate", "a smaller val_fraction", "flag", "makes another split, whose accuracies compare with no other"),
    ):
        if shares.get(phase):
            yield Change(
                what=what,
                basis="at most",
                ratio=1 - shares[phase],
                source=spent.source,
                num_runs=len(spent.run_ids),
                run_ids=tuple(spent.run_ids),
                effort=effort,
                remark=f"{spent.title}; {remark}",
            )


def _elsewhere(db: Store, best: Row) -> Iterator[Change]:
    """The same joules on another grid, by the annual averages that a region would get, against what counted here."""
    from greenml import grid

    grids = db.rows(GRIDS, [best["run_ids"]])
    if len(grids) != 1 or not grids[0]["mean_g_per_kwh"]:
        return
    [here] = grids
    own = f"{here['region_used']}, {figure(here['mean_g_per_kwh'])} g/kWh"
    for place, remark in (
        (grid.cloud_near(here["region_asked"]), "the cloud region of this country that emits least, at an equal PUE"),
        (grid.resolve(None), "for scale, at an equal PUE"),
    ):
        if place is None or place.region_used == here["region_used"]:
            continue
        yield Change(
            what=f"grid of {place.region_used}",
            basis="computed",
            of="CO2e",
            ratio=place.g_per_kwh / here["mean_g_per_kwh"],
            effort="operations",
            remark=f"{remark}: {_factor(place)} for the same joules, instead of {own}",
        )


def _factor(place: Intensity) -> str:
    """What a kWh emits, by whom and of when."""
    year = "year not stated" if place.year is None else str(place.year)
    return f"{figure(place.g_per_kwh)} g/kWh ({place.source.partition(',')[0]}, {year})"


def _not_tried(db: Store, best: Row, tried: set[str]) -> Iterator[Change]:
    """What has no pair here: the run that would make one. Of somebody's own program nobody knows what it could."""
    if best["kind"] not in commands.TRAINED_HERE:
        return
    config = best["config"]
    half_batch, image_size = (config.get("batch_size") or 0) // 2, config.get("image_size") or 0
    trials: list[tuple[str, Any, str]] = [
        ("precision", "fp32" if config.get("precision") != "fp32" else "bf16", ""),
        ("early_stop", not config.get("early_stop", False), ""),
        ("batch_size", 2 * (config.get("batch_size") or 0), ""),
        ("image_size", image_size * 3 // 4 // 8 * 8, "fewer pixels, fewer operations"),
        ("grad_accum", 2, "lowers peak memory at the same images a step; that it lowers energy nobody has shown"),
    ]
    for key, value, remark in trials:
        changes = {key: value} | ({"batch_size": half_batch} if key == "grad_accum" else {})
        if key in tried or not all(changes.values()) or config.get(key) == value:
            continue
        if command := commands.again(db, best, **changes):
            words = ", ".join(f"{name} {_short(str(new).lower())}" for name, new in changes.items())
            yield Change(
                what=f"{words} ({best['model']})",
                basis="not tried",
                effort=_effort(key),
                remark=remark,
                command=command,
            )
