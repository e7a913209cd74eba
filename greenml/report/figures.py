"""The charts of a report: which there are, what they are called, and what is said beneath them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from greenml import grid, plots
from greenml.console import counted, legends
from greenml.records import Source
from greenml.units import format_energy, joules_of_kwh

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from greenml.report.content import Content

ELSEWHERE = ["NOR", "SWE", "FRA", "BRA", "CAN", "GBR", "DEU", "USA", "JPN", "CHN", "AUS", "IND", "ZAF", "POL", "IDN"]
"""Large grids of every continent, from clean to dirty, for a run to be imagined in."""
FIRST_RUNS = f"the first {plots.MAX_RUNS}"
MARKED = f" Of more than {plots.MAX_MARKED} runs on one data set, rings and diamonds are those of the picked run."


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart and the words about it."""

    name: str
    """Short, for file names and anchors: `tradeoff`."""
    title: str
    caption: str
    """What it shows, how it is known, and of how many runs; where there is no chart, why not."""
    chart: Any
    """An Altair chart, or None where no row can be drawn."""
    is_of_sweeps: bool = False
    """Whether it is about searches, which have a section of their own."""
    is_of_compression: bool = False
    """Whether it is about compressed models, which have one, too."""


def figures(content: Content) -> list[Figure]:
    """Every chart of a report, in the order of the page; also those that nothing can be drawn for, with the reason.
    Without a sweep there is none of the charts about them, and so it is with compressed models.

    A chart whose marks belong to runs has `run_id` in its rows and the variable `plots.PICKED`.
    """
    content = trainings(content)
    sheet = plots.Sheet(
        runs=content.runs,
        epochs=content.epochs,
        marginal=content.marginal,
        kept=[
            *((row["run_id"], row["epoch"]) for row in content.front),
            *((row["run_id"], row["epoch"]) for row in content.optimal),
            *((row["run_id"], row["knee_epoch"]) for row in content.optimal),
        ],
        also=list(dict.fromkeys(row["model"] for row in content.trials if row["model"])),
    )
    made = {row["run_id"] for row in content.compress_phases}
    countries = grid.countries()
    with plots.unchecked():
        return [
            _leaderboard(sheet),
            _tradeoff(sheet, content),
            _learning(sheet, content),
            _marginal(sheet),
            _parts(sheet, content),
            _repeats(sheet, content),
            # The CO2e of a compressed model holds its parent's, which has a place in the mean already.
            _heatmap(plots.Sheet(runs=[row for row in content.runs if row["run_id"] not in made])),
            _savings(content),
            _break_even(content),
            _timeline(sheet, content),
            _map(sheet, countries),
            _elsewhere(sheet, countries),
            *(_of_sweeps(sheet, content) if content.sweeps else []),
            *(_of_compression(content) if content.compressed else []),
        ]


def trainings(content: Content) -> Content:
    """Without the epochs, phases and groups of compressed models, which began with what their parent had learned:
    beside a training they would seem to reach in no time what it paid for. They have a section of their own."""
    made = {row["run_id"] for row in content.compress_phases}
    if not made:
        return content

    def kept(rows: Sequence[Mapping[str, Any]]) -> Any:
        return [row for row in rows if row["run_id"] not in made]

    return dataclasses.replace(
        content,
        epochs=kept(content.epochs),
        phases=kept(content.phases),
        optimal=kept(content.optimal),
        groups=[row for row in content.groups if not made & {*row["run_ids"]}],
    )


# One by one


def _leaderboard(sheet: plots.Sheet) -> Figure:
    shown = plots.ranked_runs(sheet)
    return _figure(
        "leaderboard",
        "What each run reached for its energy",
        plots.ranking(sheet),
        "Test accuracy in percentage points per kWh of the whole run, set-up and test included, and the accuracy "
        f"itself. {_of(shown, sheet, f'the first {plots.MAX_BARS} of a data set')} {_signs(sheet)}{_panels(sheet)}",
        without="No run has a test accuracy yet.",
    )


def _tradeoff(sheet: plots.Sheet, content: Content) -> Figure:
    return _figure(
        "tradeoff",
        "Accuracy against energy",
        plots.tradeoff(sheet, content.front),
        "Validation accuracy against the energy from the start of the run up to that epoch, without the test. Large "
        "marks: where runs ended. Small marks and the broken line: the front, epochs that no other epoch of any run "
        f"beats in both. {_of(plots.ended_runs(sheet), sheet)}{_panels(sheet)}",
        without="No epoch has both a figure on validation and a known energy.",
    )


def _learning(sheet: plots.Sheet, content: Content) -> Figure:
    shown = plots.learned_runs(sheet)
    return _figure(
        "learning",
        "How the runs learned",
        plots.learning(sheet, content.optimal),
        "Validation by epoch and by the energy up to that epoch, and validation loss. In hindsight: rings stand at "
        "the first epoch within one percentage point of the run's best, diamonds at the knee, where accuracy stands "
        f"highest above the straight line from its first epoch to its last. {_of(shown, sheet, FIRST_RUNS)}"
        + (MARKED if len(shown.run_ids) > plots.MAX_MARKED else "")
        + _thinned(sheet)
        + _panels(sheet),
        without="No epoch has a figure on validation.",
    )


def _marginal(sheet: plots.Sheet) -> Figure:
    return _figure(
        "marginal",
        "What one more percentage point cost",
        plots.marginal(sheet),
        "Energy of an epoch divided by the percentage points of validation accuracy by which it beat all epochs "
        "before. An epoch that gained nothing has no price and no point. "
        f"{_of(plots.priced_runs(sheet), sheet, FIRST_RUNS)}{_thinned(sheet)}",
        without="No epoch with a known energy gained validation accuracy.",
    )


def _parts(sheet: plots.Sheet, content: Content) -> Figure:
    shown = plots.stacked_runs(sheet, content.phases)
    return _figure(
        "parts",
        "Where the energy went",
        plots.parts(sheet, content.phases),
        "Left: energy by phase of the run. Right: which component used it. Runs of which a part is unknown are left "
        f"out. {_of(shown, sheet, f'the first {plots.MAX_STACKS}')}",
        without="Of no run the energy of every phase is known.",
    )


def _repeats(sheet: plots.Sheet, content: Content) -> Figure:
    shown = plots.repeated_runs(sheet, content.groups)
    return _figure(
        "repeats",
        "How far equal runs lie apart",
        plots.repeats(sheet, content.groups),
        "CO2e of each run of a recipe (one config, any seed). Three runs and more have a box: the middle half, the "
        "median and, as whiskers, the least and the most. Runs that cannot be compared are left out: those that did "
        "not end, shared the machine, or have another reason not to be ranked. "
        f"{_of(shown, sheet, f'those of the first {plots.MAX_RECIPES} recipes', others='left out')}",
        without="Of no run that can be compared the CO2e is known.",
    )


def _heatmap(sheet: plots.Sheet) -> Figure:
    shown = plots.emitted_runs(sheet)
    if plots.has_seasons(sheet):
        title = "CO2e by model, country and season"
    elif any(row["tags"] for row in _rows(shown, sheet)):
        title = "CO2e by model, country and tag"
    else:
        title = "CO2e by model and country"
    return _figure(
        "heatmap",
        title,
        plots.heatmap(sheet),
        f"Mean CO2e of a run, in {sheet.mass.name}, with the number of runs where it is more than one. Runs differ in "
        "epochs and settings, too: a cell says what was emitted, not why. "
        f"{_of(shown, sheet, f'those of the first {plots.MAX_MODELS} models')}",
        without="Of no run the CO2e is known.",
    )


def _savings(content: Content) -> Figure:
    pairs = plots.paired(content.savings)
    lacking = len(content.savings) - len(pairs)
    return _figure(
        "savings",
        "What one change saved",
        plots.savings(content.savings),
        "Recipes that differ in the one key named, over the seeds that both ran under (n). Energy of the new one as a "
        "share of the old one's, and the difference in validation accuracy in percentage points; bars are one standard "
        "deviation over the pairs, and one pair has none."
        + (f" The first {plots.MAX_PAIRS} of {len(pairs)} are drawn." if len(pairs) > plots.MAX_PAIRS else "")
        + (f" {lacking} more lack the energy." if lacking else ""),
        without="Of no two recipes that differ in one key alone the energy is known."
        if lacking
        else "No two recipes differ in one key alone.",
    )


def _break_even(content: Content) -> Figure:
    """Of the swap that pays first."""
    title = "When finding out has paid for itself"
    row = next(iter(content.break_even), None)
    if row is None:
        return Figure(name="break-even", title=title, caption="No recipe would serve as well for less.", chart=None)
    spent = format_energy(joules_of_kwh(row["known_tried_kwh"]))
    took = f"took {spent} ({row['tried_source']})" if row["tried_kwh"] is not None else f"took at least {spent}"
    new, old = (format_energy(joules_of_kwh(row[field])) for field in ("use_energy_kwh", "energy_kwh"))
    return _figure(
        "break-even",
        title,
        plots.break_even(row),
        f"The {counted(row['num_tried'], 'run')} of this data set and split, also those that are not shown here, "
        + (f"with what {counted(row['num_sweeps'], 'sweep')} took beside them, " if row["num_sweeps"] else "")
        + f"{took}. Each later training with {row['use_model']} for {counted(row['use_epochs'], 'epoch')} instead of "
        f"{row['model']} for {row['epochs']} takes {new} instead of {old} ({row['source']}), runs "
        f"{', '.join(run_id[:4] for run_id in [*row['use_run_ids'], *row['run_ids']])}. That has paid for all of them "
        f"after {counted(row['whole_trainings'], 'training')}.",
    )


def _timeline(sheet: plots.Sheet, content: Content) -> Figure:
    years = sorted({str(row["intensity_year"]) for row in sheet.runs if row["intensity_year"]})
    said = f" (of {', '.join(years)})" if years else ""
    own = sum(row["intensity_level"] == "file" for row in sheet.runs)
    speeds = images_per_s(content)
    slower = any(row["segment"] for row in content.epochs)
    return _figure(
        "timeline",
        "Intensity of the grid and speed of training",
        plots.timeline(sheet, speeds),
        f"Each run at the time it started. The intensities are yearly averages{said}: they show where a run was, not "
        "the hour it ran at, so that no time of day looks cleaner here than another. "
        + (f"{counted(own, 'run')} came with a figure of {'its' if own == 1 else 'their'} own instead. " if own else "")
        + "Speed is training images of finished epochs per second of training"
        + (", and lower where a resumed run had to train an epoch again" if slower else "")
        + f". {counted(len(sheet.runs), 'run')}."
        + (f" The speed of {len(sheet.runs) - len(speeds)} is unknown." if len(speeds) < len(sheet.runs) else ""),
        without="No run has begun.",
    )


def _map(sheet: plots.Sheet, countries: Sequence[grid.Country]) -> Figure:
    of = {country.name: country for country in countries}
    # A factor that came in a file may lie in any place, and in none.
    ran = Counter(row["country"] for row in sheet.runs if row["country"])
    places = ", ".join(f"{name} ({counted(number, 'run')})" for name, number in ran.most_common(8))
    small = [name for name in ran if name in of and of[name].numeric not in plots.drawn_ids()]
    average = sum(row["intensity_level"] == "world" for row in sheet.runs)
    placeless = sum(row["intensity_level"] != "world" and not row["country"] for row in sheet.runs)
    return _figure(
        "map",
        "Carbon intensity of electricity",
        plots.world_map(sheet, [dataclasses.asdict(country) for country in countries]),
        f"Yearly averages of {len(countries)} countries: {countries[0].source}. "
        + (f"Outlined, where runs were: {places}. " if ran else "")
        + (f"Too small to be drawn: {', '.join(small)}. " if small else "")
        + (
            f"Reckoned with the world average, without a factor of a place: {counted(average, 'run')}. "
            if average
            else ""
        )
        + (f"With another factor, and no country on record: {counted(placeless, 'run')}. " if placeless else "")
        + "Shapes: Natural Earth.",
    )


def _elsewhere(sheet: plots.Sheet, countries: Sequence[grid.Country]) -> Figure:
    by_code = {country.alpha3: country for country in countries}
    world = grid.world()
    places = [by_code[code] for code in ELSEWHERE if code in by_code]
    factors = [{"name": place.name, "g_per_kwh": place.g_per_kwh} for place in places]
    return _figure(
        "elsewhere",
        "The same run elsewhere",
        plots.elsewhere(sheet, [*factors, {"name": world.region, "g_per_kwh": world.g_per_kwh}]),
        "CO2e of one run's energy with the grids of other places: energy x PUE x yearly average. The first run of the "
        "leaderboard whose energy is known, or the one that is picked. Hardware and PUE are taken as they were. "
        f"{_signs(sheet)}Factors: {places[0].source}; world: {world.source.partition(',')[0]}.",
        without="Of no run the whole energy is known.",
    )


# Of sweeps


def _of_sweeps(sheet: plots.Sheet, content: Content) -> list[Figure]:
    found = [
        _search_front(sheet, content),
        _search_gain(content),
        _importance(content),
        _trials(sheet, content),
    ]
    return [dataclasses.replace(figure, is_of_sweeps=True) for figure in found]


def _search_front(sheet: plots.Sheet, content: Content) -> Figure:
    shown = {*plots.searched(content.sweeps).run_ids}
    points = [row for row in content.sweep_points if row["sweep_id"] in shown]
    known = {(row["sweep_id"], row["number"]) for row in points if row["is_known"]}
    trials = {(row["sweep_id"], row["number"]) for row in points}
    return _figure(
        "sweep-front",
        "How the front of the search grew",
        plots.search_front(sheet, content.sweeps, content.sweep_points, content.sweep_fronts),
        "Every epoch of every trial as a point: validation accuracy against its CO2e so far, set-up included, without "
        "the test. Lines: the front, which no other point of the search beats in both, after a quarter, half, three "
        "quarters and all of the energy that is known; large marks: the front that is left. "
        f"{counted(len(points), 'epoch')} of {counted(len(trials), 'trial')}"
        + (f", {len(known)} of them taken over from earlier runs" if known else "")
        + f". {_sources(points)}{_of_these(content)}",
        without="No trial has an epoch with both an accuracy and a known energy.",
    )


def _search_gain(content: Content) -> Figure:
    shown = {*plots.searched(content.sweeps).run_ids}
    steps = [row for row in content.sweep_progress if row["sweep_id"] in shown]
    is_partly_known = any(row["energy_kwh"] is None for row in steps)
    return _figure(
        "sweep-gain",
        "What the search had found for its energy",
        plots.search_gain(content.sweeps, content.sweep_progress),
        "Hypervolume of the front against all that the search had taken: trials, attempts that came to nothing and its "
        "own overhead. Hypervolume is the share that the front beats of a rectangle, from no accuracy to 100 % and, on "
        "a logarithmic scale, from the CO2e of the sweep's cheapest epoch to that of its dearest; it compares moments "
        "of one sweep, and no two sweeps. A trial counts when it has ended. "
        f"{counted(sum(row['run_id'] is not None for row in steps), 'attempt')}. "
        + ("Of some the energy is unknown: what is drawn is the known part. " if is_partly_known else "")
        + _sources([row for row in content.sweeps if row["run_id"] in shown])
        + _of_these(content),
        without="No two epochs of a sweep took different amounts that are known.",
    )


def _importance(content: Content) -> Figure:
    shown = {*plots.searched(content.sweeps).run_ids}
    numbers = sorted({row["num_trials"] for row in content.sweep_importance if row["sweep_id"] in shown})
    return _figure(
        "sweep-importance",
        "Which parameters mattered",
        plots.importance(content.sweeps, content.sweep_importance),
        "An estimate: the share of the variance among trials that goes with each parameter alone, corrected for what "
        "chance would explain (adjusted R squared; ranges are cut at their quartiles). Trials of a search are no "
        "random sample, and parameters that changed together share what they explain: it hints at causes, and proves "
        "none. "
        "Above: best accuracy of a trial; below: the logarithm of its CO2e per epoch. "
        f"n = {' and '.join(map(str, numbers))} trials.{_of_these(content)}",
        without="No sweep has ten trials that can be compared: fewer say nothing about a parameter.",
    )


def _trials(sheet: plots.Sheet, content: Content) -> Figure:
    drawn = [row for sweep in content.sweeps[: plots.MAX_SWEEPS] for row in plots.coordinates(sweep, content.trials)]
    of_these = [row for row in content.trials if row["sweep_id"] in {*plots.searched(content.sweeps).run_ids}]
    missing = len(of_these) - len(drawn)
    return _figure(
        "sweep-trials",
        "Every trial, parameter by parameter",
        plots.trials(sheet, content.sweeps, content.trials, content.sweep_fronts),
        "A line is a trial, a row a parameter as it was trained with, from its least value to its greatest (on a "
        "logarithmic scale where it was searched on one); below them its best validation accuracy and its CO2e up to "
        "its last epoch, without the test. Strong lines have an epoch on the front. "
        f"{counted(len(drawn), 'trial')}"
        + (f"; {missing} more failed, did not end or lack the figures" if missing else "")
        + f".{_of_these(content)}",
        without="No trial has ended with an accuracy and a known energy.",
    )


def _of_these(content: Content) -> str:
    """Which sweeps have a panel."""
    shown = plots.searched(content.sweeps)
    if shown.num_left_out:
        return f" One panel for each of the newest {len(shown.run_ids)} sweeps; {shown.num_left_out} more left out."
    return " One panel for each sweep." if len(shown.run_ids) > 1 else ""


def _sources(rows: Sequence[Mapping[str, Any]]) -> str:
    """How the energy of these rows is known, the best first."""
    there = {row["source"] for row in rows}
    named = [str(source) for source in Source if source in there]
    return f"Energy {' and '.join(named)}." if named else ""


# Of compressed models


def _of_compression(content: Content) -> list[Figure]:
    found = [_lifecycle(content), _by_phase(content), _sparsity(content)]
    return [dataclasses.replace(figure, is_of_compression=True) for figure in found if figure is not None]


def _lifecycle(content: Content) -> Figure:
    return _figure(
        "lifecycle",
        "When compression has paid for itself",
        plots.lifecycle(content.compressed),
        "All the energy that a model takes beyond its parent's training: what compression took, and then each of its "
        "predictions. The training was spent either way and is in no line; where it is in reach it is drawn across. "
        "Both axes are logarithmic: a line that begins level and bends upwards has paid for its compression where it "
        "goes below the line of its parent, and what it saves from there on is the distance between them. The "
        "parent's line is the median of the sessions in which it was measured, and the others are brought to it in "
        "the proportion that was measured side by side; bars and bands are 95 % intervals, broken lines never pay. "
        f"{_of_models(content)}",
        without="Of no model both what compression took and what a prediction takes are known.",
    )


def _by_phase(content: Content) -> Figure:
    return _figure(
        "compress-phases",
        "What compressed models took, and how accurate they are",
        plots.by_phase(content.compressed, content.compress_phases),
        "Left: everything a model took, the training that it inherited included; in the middle the run of its "
        "compression alone. Fine-tuning is training and validation, a teacher's passes included; measuring is what it "
        "took to compare the two, which the break-even leaves out. Right: accuracy on the same test images; whose "
        "interval holds the broken line of the parent cannot be told from it. "
        f"{_of_models(content)}",
        without="Of no compressed model the energy of every phase is known.",
    )


def _sparsity(content: Content) -> Figure | None:
    """None where nothing was pruned twice: most stores have no such series."""
    drawn = [plots.pruned(family.rows) for family in plots.families(content.compressed)]
    series = [row for chains in drawn for members in chains.values() for row in members]
    if not series:
        return None
    return _figure(
        "sparsity",
        "What more pruning saves and costs",
        plots.sparsity_series(content.compressed),
        "Models pruned out of one parent, by the share of its operations that is left: rounding to whole groups of "
        "channels takes more, or less, than the sparsity that was asked for. Bars are 95 % intervals: of the "
        "difference in accuracy to the parent, and of the mean over the repeats. "
        f"{counted(len(series), 'model')}. {_sources(series)}",
        without="Of no pruned model the accuracy or the energy is known.",
    )


def _of_models(content: Content) -> str:
    """How many compressed models are drawn, and of how many there is no room or no measurement."""
    shown = plots.compressed_runs(content.compressed)
    able = len(shown.run_ids) + shown.num_left_out
    drawn = f"{len(shown.run_ids)} of {counted(able, 'model')}" if shown.num_left_out else counted(able, "model")
    return (
        f"{drawn}"
        + (f": the first {plots.MAX_LINES} of each of {plots.MAX_PARENTS} parents" if shown.num_left_out else "")
        + f". {_sources(content.compressed)}"
    )


# What captions are made of


def _figure(name: str, title: str, chart: Any, caption: str, *, without: str = "") -> Figure:
    return Figure(name=name, title=title, caption=without if chart is None else " ".join(caption.split()), chart=chart)


def _of(shown: plots.Shown, sheet: plots.Sheet, most: str = "", *, others: str = "without the figures") -> str:
    """How many runs a chart is made of and how their energy is known, and how many could not be drawn.

    `most` says which are drawn of too many; without it a chart has room for all that have a panel. `others` is what the
    runs are that it does not ask for.
    """
    number = len(shown.run_ids)
    able = number + shown.num_left_out
    missing = len(sheet.runs) - able
    runs = f"{number} of {counted(able, 'run')}" if shown.num_left_out else counted(number, "run")
    runs += f": {most}" if shown.num_left_out and most else ""
    runs += f"; {missing} more {others}" if missing else ""
    return f"{runs}. {_known(_rows(shown, sheet))}"


def _rows(shown: plots.Shown, sheet: plots.Sheet) -> list[Mapping[str, Any]]:
    run_ids = {*shown.run_ids}
    return [row for row in sheet.runs if row["run_id"] in run_ids]


def _known(runs: Sequence[Mapping[str, Any]]) -> str:
    """Whether the energy of these runs was measured."""
    sources = Counter(row["source"] for row in runs if row["energy_kwh"] is not None)
    if not sources:
        return "Energy unknown."
    if len(sources) == 1:
        return f"Energy {next(iter(sources))}."
    each = [f"{source} in {counted(number, 'run')}" for source, number in sources.most_common()]
    return f"Energy {', '.join(each)}."


def _signs(sheet: plots.Sheet) -> str:
    """What the signs before figures mean; of what is unknown there is no figure."""
    there = {row["source"] for row in sheet.runs if row["energy_kwh"] is not None}
    return "".join(f"{legend}. " for legend in legends(there))


def _panels(sheet: plots.Sheet) -> str:
    """Runs of different data sets are not compared."""
    left_out = len(sheet.contests) - len(sheet.panels)
    if left_out:
        return f" One panel for each data set and split; {left_out} more left out."
    return " One panel for each data set and split." if len(sheet.panels) > 1 else ""


def _thinned(sheet: plots.Sheet) -> str:
    return " Of long runs every n-th epoch is drawn." if sheet.is_thinned else ""


def images_per_s(content: Content) -> dict[str, float]:
    """Run id -> images of its epochs per second of its phases named `train`; without runs of which one is unknown."""
    seconds = {row["run_id"]: row["duration_s"] for row in content.phases if row["name"] == "train"}
    images = Counter[str]()
    for row in content.epochs:
        images[row["run_id"]] += row["num_samples"] or 0
    gaps = {row["run_id"] for row in content.epochs if row["num_samples"] is None}
    return {
        run_id: number / seconds[run_id]
        for run_id, number in images.items()
        if number and seconds.get(run_id) and run_id not in gaps
    }
