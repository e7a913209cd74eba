"""The tables of the page: what is shown of a row, and beside it the very number that the view answered."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from greenml.console import FRONT, SOURCES, SPREAD, UNKNOWN, figure, local, percentage
from greenml.titles import by_contest, titles_of
from greenml.units import ENERGY, MASS, format_duration, format_mass, kwh, unit_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from greenml.report.content import Content

    Row = dict[str, Any]

ENERGY_KWH = tuple((kwh(size), name) for size, name in ENERGY)
"""As the views answer it."""
POINTS = 100
"""Percentage points of a fraction."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its head, the column of the view behind it, and what is shown of a row."""

    head: str
    field: str
    show: Callable[[Row], str]
    is_number: bool = True
    is_code: bool = False
    hint: str = ""
    """What the head stands for, where it is short."""
    first: str = "descending"
    """How the first click sorts it: the best first."""
    is_known: Callable[[Row], bool] = lambda _: True
    """Whether the number of the view is what is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    text: str
    value: Any
    """The exact number or text of the view; None where it is unknown, or not shown."""
    is_number: bool
    is_code: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    cells: list[Cell]
    run_id: str | None
    model: str | None
    is_minor: bool
    """Unranked, shown paler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of one view, drawn."""

    name: str
    view: str
    title: str
    columns: list[Column]
    lines: list[Line]
    notes: list[str]
    sorted_by: str | None = None


def draw(
    name: str,
    view: str,
    title: str,
    columns: Iterable[Column | None],
    rows: Sequence[Row],
    *,
    notes: Iterable[str] = (),
    sorted_by: str | None = None,
) -> Table:
    """Rows as they are, in their order; columns that are None do not apply."""
    applied = [column for column in columns if column]
    lines = [
        Line(
            cells=[cell(column, row) for column in applied],
            run_id=row.get("run_id"),
            model=row.get("model"),
            is_minor="unranked" in row and row["unranked"] is not None,
        )
        for row in rows
    ]
    said = [*notes, *legends(lines)]
    return Table(name=name, view=view, title=title, columns=applied, lines=lines, notes=said, sorted_by=sorted_by)


def cell(column: Column, row: Row) -> Cell:
    value = row[column.field] if column.is_known(row) else None
    return Cell(text=column.show(row), value=value, is_number=column.is_number, is_code=column.is_code)


def legends(lines: Iterable[Line]) -> list[str]:
    """Of the marks of sources that stand before a number in these lines."""
    marks = {cell.text[0] for line in lines for cell in line.cells if cell.is_number and cell.text}
    return [legend for sign, legend in SOURCES.values() if sign in marks]


def mark(source: str | None) -> str:
    return SOURCES.get(source or "", ("", ""))[0]


# Columns of many tables


def words(head: str, field: str) -> Column:
    """Text as it is in the row."""
    return Column(head, field, lambda row: str(row[field] or UNKNOWN), is_number=False, first="ascending")


def count(head: str, field: str) -> Column:
    return Column(head, field, lambda row: whole(row[field]), first="ascending")


def whole(value: float | None) -> str:
    """A count; a mean of counts with its decimals."""
    return UNKNOWN if value is None else f"{value:,.0f}" if value == int(value) else figure(value)


def share(head: str, field: str, hint: str = "") -> Column:
    """A fraction as a percentage."""
    return Column(head, field, lambda row: percentage(row[field]), hint=hint)


def points(head: str, field: str) -> Column:
    """A difference between fractions, in percentage points, with its sign."""
    return Column(
        head, field, lambda row: UNKNOWN if row[field] is None else f"{POINTS * row[field]:+.1f}", hint="points"
    )


def quantity(
    head: str,
    field: str,
    rows: Sequence[Row],
    units: Sequence[tuple[float, str]],
    *,
    known: str | None = None,
    source: str = "source",
) -> Column:
    """An energy or a mass, the whole column in the one unit that fits its largest value, marked with its source.

    Where the sum is unknown and its known part is not, that part is shown, behind a ≥.
    """
    values = [row[field] if row[field] is not None or known is None else row[known] for row in rows]
    size, unit = unit_of([value for value in values if value is not None], units)

    def show(row: Row) -> str:
        if row[field] is not None:
            return mark(row.get(source)) + figure(row[field] / size)
        if known and row[known]:
            return mark("unknown") + figure(row[known] / size)
        return "unknown"

    return Column(f"{head} ({unit})", field, show, first="ascending")


def spread(field: str, rows: Sequence[Row], units: Sequence[tuple[float, str]], of: str) -> Column:
    """A standard deviation, in the unit of the column of means before it."""
    size, _ = unit_of([row[of] for row in rows if row[of] is not None], units)
    return Column("±", field, lambda row: UNKNOWN if row[field] is None else figure(row[field] / size, 2), hint=SPREAD)


def runs_of(head: str, field: str) -> Column:
    """The first digits of the ids, as every command accepts them."""
    return Column(head, field, lambda row: ", ".join(run_id[:8] for run_id in row[field]), is_number=False)


def ratio(head: str, field: str, hint: str = "") -> Column:
    """Energy as a share of what the other took: a percentage, marked with its source."""
    return Column(head, field, lambda row: in_percent(row[field], mark(row["source"])), hint=hint, first="ascending")


def ratio_of_co2(rows: Sequence[Row], hint: str) -> tuple[Column, list[str]]:
    """The same of CO2e, where both ran on one grid; else it tells of the grids. And what is to be said of that."""
    column = ratio("CO2e", "co2_ratio", hint)
    same = replace(
        column,
        show=lambda row: column.show(row) if row["is_same_intensity"] else UNKNOWN,
        is_known=lambda row: bool(row["is_same_intensity"]),
    )
    differ = any(not row["is_same_intensity"] for row in rows)
    return same, ["CO2e: – where the grids differ, whose difference no choice of a model makes"] if differ else []


def in_percent(fraction: float | None, sign: str = "") -> str:
    """Two digits, as a recommendation says it: 48 %, 5.6 %."""
    return UNKNOWN if fraction is None else f"{sign}{figure(POINTS * fraction, 2)} %"


def per_kwh(hint: str = "") -> Column:
    """Accuracy per kWh, known as well as its energy is; of ranked rows alone."""
    return Column(
        "acc/kWh",
        "acc_per_kwh",
        lambda row: mark(row["source"]) + figure(row["acc_per_kwh"]) if is_ranked(row) else UNKNOWN,
        hint=hint,
        is_known=is_ranked,
    )


def is_ranked(row: Row) -> bool:
    return row["rank"] is not None


def data_set(content: Content) -> Column | None:
    """Which data and split a row is about, where there are several on the page."""
    titles = by_contest(content.runs)
    if len(titles) < 2:
        return None
    return Column("data set", "dataset", lambda row: titles[row["contest"]], is_number=False, first="ascending")


def training(model: str, precision: str, epochs: str) -> Callable[[Row], str]:
    """ "resnet18 (bf16), 100 epochs"."""
    return lambda row: (
        row[model]
        + (f" ({row[precision]})" if row[precision] else "")
        + (f", {whole(row[epochs])} epochs" if row[epochs] != 1 else ", 1 epoch")
    )


# The tables


def leaderboards(content: Content) -> list[Table]:
    """One a contest: only its runs can be compared."""
    return [leaderboard(f"leaderboard-{i}", title, rows) for i, title, rows in each_contest(content.runs)]


def each_contest(rows: Sequence[Row]) -> Iterator[tuple[int, str, list[Row]]]:
    """Rows in the order of contests -> number, title and rows of each."""
    groups = [list(group) for _, group in itertools.groupby(rows, lambda row: row["contest"])]
    titles = titles_of([group[0] for group in groups])
    return ((i, title, group) for i, (title, group) in enumerate(zip(titles, groups, strict=True), start=1))


def leaderboard(name: str, title: str, rows: Sequence[Row]) -> Table:
    metric = rows[0]["metric"]
    has_accuracy = metric == "accuracy"
    notes = [FRONT] if any(row["on_front"] for row in rows) else []
    if any(row["method"] for row in rows):
        notes.append("energy and CO2e of a compressed model: with what its parent, inherited, took")
    if not has_accuracy:
        notes.append(f"{metric} is sorted, not ranked: only accuracy is ranked per kWh")
    columns = [
        Column(
            "#", "rank", lambda row: str(row["rank"] or UNKNOWN), hint="rank by accuracy per kWh", first="ascending"
        ),
        Column("front", "on_front", lambda row: "●" if row["on_front"] else "", is_number=False, hint=FRONT),
        words("model", "model"),
        words("compressed by", "method") if any(row["method"] for row in rows) else None,
        words("name", "name") if any(row["name"] for row in rows) else None,
        Column("run", "run_id", lambda row: row["run_id"][:8], is_number=False, first="ascending"),
        words("precision", "precision"),
        count("epochs", "epochs"),
        share("val. %", "val_accuracy", "on the validation split: what choices are made by") if has_accuracy else None,
        share("test %", "accuracy", "on the test split, read once, at the end")
        if has_accuracy
        else Column(metric, "value", lambda row: figure(row["value"])),
        quantity("energy", "energy_kwh", rows, ENERGY_KWH, known="known_kwh"),
        inherited(rows) if any(row["method"] for row in rows) else None,
        quantity("CO2e", "co2_g", rows, MASS),
        Column(
            "time",
            "duration_s",
            lambda row: UNKNOWN if row["duration_s"] is None else format_duration(row["duration_s"]),
            first="ascending",
        ),
        per_kwh("percentage points of test accuracy per kWh; only of ranked runs") if has_accuracy else None,
        Column("not ranked because", "unranked", lambda row: row["unranked"] or "", is_number=False, first="ascending")
        if any(row["unranked"] for row in rows)
        else None,
    ]
    return draw(name, "leaderboard", title, columns, rows, notes=notes, sorted_by="rank")


def inherited(rows: Sequence[Row]) -> Column:
    """What the ancestors of compressed models took, in the unit of the energy that it is a part of."""
    energies = [row["known_kwh"] if row["energy_kwh"] is None else row["energy_kwh"] for row in rows]
    size, unit = unit_of([energy for energy in energies if energy is not None], ENERGY_KWH)

    def show(row: Row) -> str:
        if not row["method"]:
            return UNKNOWN
        known = row["inherited_kwh"]
        return "unknown" if known is None else f"{mark(row['source'])}{figure(known / size)}"

    return Column(
        f"inherited ({unit})", "inherited_kwh", show, first="ascending", is_known=lambda row: bool(row["method"])
    )


def groups(content: Content) -> Table | None:
    """Mean and spread over the seeds of one config."""
    rows = content.groups
    if not rows:
        return None
    has_unranked = any(row["mean_unranked_kwh"] is not None for row in rows)
    columns = [
        words("model", "model"),
        words("compressed by", "method") if any(row["method"] for row in rows) else None,
        words("data set", "dataset"),
        words("precision", "precision"),
        count("epochs", "max_epochs"),
        Column("n", "num_ranked", lambda row: str(row["num_ranked"]), hint="runs that the means are made of"),
        share("test %", "mean_accuracy"),
        Column("±", "std_accuracy", lambda row: percentage(row["std_accuracy"]), hint=SPREAD),
        of_ranked(quantity("energy", "mean_energy_kwh", rows, ENERGY_KWH)),
        spread("std_energy_kwh", rows, ENERGY_KWH, "mean_energy_kwh"),
        of_ranked(quantity("CO2e", "mean_co2_g", rows, MASS)),
        spread("std_co2_g", rows, MASS, "mean_co2_g"),
        per_kwh(),
        of_unranked(quantity("energy, unranked", "mean_unranked_kwh", rows, ENERGY_KWH)) if has_unranked else None,
        runs_of("runs", "run_ids"),
    ]
    notes = [SPREAD]
    if has_unranked:
        notes.append("energy, unranked: mean over the runs that are over, where none of the group has a rank")
    return draw("groups", "leaderboard_groups", "Groups of repeats", columns, rows, notes=notes)


def of_ranked(column: Column) -> Column:
    """A mean over the ranked runs of a group: not unknown, but of nothing, where there is none."""
    return replace(column, show=lambda row: column.show(row) if row["num_ranked"] else UNKNOWN)


def of_unranked(column: Column) -> Column:
    return replace(column, show=lambda row: UNKNOWN if row["num_ranked"] else column.show(row))


def swaps(content: Content) -> Table | None:
    """Use A for n epochs instead of B for m."""
    rows = content.swaps
    if not rows:
        return None
    co2, notes_on_co2 = ratio_of_co2(rows, "of what the second took")
    columns = [
        data_set(content),
        Column("use", "use_model", training("use_model", "use_precision", "use_epochs"), is_number=False),
        Column("instead of", "model", training("model", "precision", "epochs"), is_number=False),
        share("val. %", "use_accuracy", "mean over the runs of the first"),
        share("old val. %", "accuracy", "mean over the runs of the second"),
        points("difference", "accuracy_difference"),
        Column("within the spread", "is_within_spread", in_spread, is_number=False),
        ratio("energy", "energy_ratio", "of what the second took"),
        co2,
        Column("n", "use_num_runs", lambda row: f"{row['use_num_runs']} / {row['num_runs']}", hint="runs of each"),
        runs_of("runs", "use_run_ids"),
        runs_of("against", "run_ids"),
    ]
    notes = [
        "accuracy on validation, mean over seeds; hindsight: that so many epochs are enough was known only afterwards",
        "difference in percentage points; – where one of both ran under one seed only: nobody knows the spread",
        *notes_on_co2,
    ]
    return draw("swaps", "swaps", "Use this instead", columns, rows, notes=notes)


def in_spread(row: Row) -> str:
    known = row["is_within_spread"]
    return UNKNOWN if known is None else "yes" if known else "no"


def savings(content: Content) -> Table | None:
    """What one key of the config saved."""
    rows = content.savings
    if not rows:
        return None
    co2, notes_on_co2 = ratio_of_co2(rows, "of what it was before the change")
    columns = [
        data_set(content),
        words("model", "model"),
        Column(
            "change",
            "key",
            lambda row: f"{row['key']}: {row['from_value']} → {row['to_value']}",
            is_number=False,
            first="ascending",
        ),
        Column("pairs", "num_pairs", lambda row: str(row["num_pairs"]), hint="pairs of runs under the same seed"),
        points("val. accuracy", "accuracy_difference"),
        Column(
            "±",
            "std_accuracy_difference",
            lambda row: percentage(row["std_accuracy_difference"]),
            hint="standard deviation over the pairs",
        ),
        ratio("energy", "energy_ratio", "of what it was before the change"),
        Column(
            "±",
            "std_energy_ratio",
            lambda row: UNKNOWN if row["std_energy_ratio"] is None else f"{POINTS * row['std_energy_ratio']:.1f}",
            hint="standard deviation over the pairs, in percentage points",
        ),
        co2,
        Column("speed-up", "speed_up", lambda row: f"{figure(row['speed_up'])} x", hint="of an epoch"),
        Column("fewer epochs", "epoch_reduction", lambda row: in_percent(row["epoch_reduction"])),
        runs_of("from", "from_run_ids"),
        runs_of("to", "to_run_ids"),
    ]
    notes = [
        "pairs of runs under one seed whose configs differ in this key alone; – where one pair says nothing of spread",
        *notes_on_co2,
    ]
    return draw("savings", "savings", "What one change saved", columns, rows, notes=notes)


def break_even(content: Content) -> Table | None:
    """After how many trainings a swap has paid for finding it."""
    rows = content.break_even
    if not rows:
        return None
    columns = [
        data_set(content),
        Column("use", "use_model", training("use_model", "use_precision", "use_epochs"), is_number=False),
        Column("instead of", "model", training("model", "precision", "epochs"), is_number=False),
        quantity("finding it took", "tried_kwh", rows, ENERGY_KWH, known="known_tried_kwh", source="tried_source"),
        Column("runs", "num_tried", lambda row: str(row["num_tried"])),
        quantity("saves a training", "saved_kwh", rows, ENERGY_KWH),
        Column("trainings until even", "whole_trainings", trainings, first="ascending"),
    ]
    notes = [
        "what all runs of the data set and split took, also those that are not shown here, over what one training "
        "saves that goes the first way and not the second"
    ]
    return draw("break-even", "break_even", "Break-even", columns, rows, notes=notes)


def trainings(row: Row) -> str:
    return f"{mark(row['trainings_source'])}{row['whole_trainings']:,}"


def sweeps(content: Content) -> Table | None:
    """What each search took, in all its parts."""
    rows = content.sweeps
    if not rows:
        return None
    earlier = Column(
        "known before", "num_known", lambda row: whole(row["num_known"]), hint="earlier runs, taken at no cost"
    )
    for_nothing = Column(
        "of it for nothing", "wasted_kwh", wasted(rows), hint="attempts that failed or were tried again"
    )
    columns = [
        Column("sweep", "run_id", lambda row: row["run_id"][:8], is_number=False, first="ascending"),
        words("name", "name") if any(row["name"] for row in rows) else None,
        words("status", "status") if any(row["status"] != "done" for row in rows) else None,
        words("data set", "dataset"),
        words("models", "models"),
        words("sampler", "sampler"),
        count("trials", "num_drawn"),
        count("failed", "num_failed") if any(row["num_failed"] for row in rows) else None,
        earlier if any(row["num_known"] for row in rows) else None,
        quantity("trials took", "trials_kwh", rows, ENERGY_KWH),
        quantity("beside them", "overhead_kwh", rows, ENERGY_KWH),
        quantity("together", "energy_kwh", rows, ENERGY_KWH, known="known_kwh"),
        for_nothing if any(row["wasted_kwh"] for row in rows) else None,
        quantity("CO2e", "co2_g", rows, MASS),
    ]
    notes = [
        "trials took: all attempts; beside them: the search's own overhead. Trials are runs of the leaderboard too: "
        "their energy is counted once in every sum on this page"
    ]
    drawn = draw("sweeps", "sweeps", "What each search took", columns, rows, notes=notes)
    # A sweep is no run that a chart could pick.
    return replace(drawn, lines=[replace(line, run_id=None) for line in drawn.lines])


def wasted(rows: Sequence[Row]) -> Callable[[Row], str]:
    """Of attempts, as far as it is known."""
    size, unit = unit_of([row["wasted_kwh"] for row in rows], ENERGY_KWH)
    return lambda row: f"{mark(row['source'])}{figure(row['wasted_kwh'] / size)} {unit}" if row["wasted_kwh"] else "0"


def sweep_front(content: Content) -> Table | None:
    """What the searches found."""
    rows = content.sweep_front
    if not rows:
        return None
    has_many = len({row["sweep_id"] for row in rows}) > 1
    columns = [
        Column("sweep", "sweep_id", lambda row: row["sweep_id"][:8], is_number=False) if has_many else None,
        count("trial", "number"),
        words("model", "model"),
        Column("run", "run_id", lambda row: row["run_id"][:8], is_number=False, first="ascending"),
        words("precision", "precision"),
        count("epochs", "epochs"),
        share("val. %", "accuracy", "on the validation split, after so many epochs"),
        quantity("energy", "energy_kwh", rows, ENERGY_KWH),
        quantity("CO2e", "co2_g", rows, MASS),
    ]
    notes = [
        "each epoch that no other of the same search beats in accuracy and CO2e; set-up included, without the test"
    ]
    return draw("sweep-front", "sweep_front", "The front that was found", columns, rows, notes=notes)


def factors(content: Content) -> Table | None:
    """Where grams come from: one row for each intensity that was used."""
    if not content.factors:
        return None
    columns = [
        Column("region asked", "region_asked", lambda row: row["region_asked"] or "none given", is_number=False),
        words("region used", "region_used"),
        words("level", "intensity_level"),
        Column("g CO2e/kWh", "intensity_g_per_kwh", lambda row: figure(row["intensity_g_per_kwh"])),
        Column("year", "intensity_year", lambda row: str(row["intensity_year"] or UNKNOWN)),
        Column("PUE", "pue", lambda row: figure(row["pue"])),
        count("runs", "num_runs"),
        words("source", "intensity_source"),
    ]
    return draw("factors", "factors", "Grid factors", columns, content.factors)


def decisions(content: Content) -> Table | None:
    """What runs did for the sake of the grid, and what that saved, measured against what."""
    rows = content.decisions
    if not rows:
        return None
    columns = [
        Column("decided", "decided_at", lambda row: local(row["decided_at"]), is_number=False, first="ascending"),
        Column("run", "run_id", lambda row: row["run_id"][:8], is_number=False, first="ascending"),
        words("what", "what"),
        Column("g/kWh", "g_per_kwh", lambda row: UNKNOWN if row["g_per_kwh"] is None else figure(row["g_per_kwh"])),
        words("known", "intensity_status"),
        Column("saved", "saved_g", lambda row: UNKNOWN if row["saved_g"] is None else format_mass(row["saved_g"])),
        Column("of it all", "saved_share", lambda row: in_percent(row["saved_share"])),
        words("by", "saved_source"),
        words("against", "against"),
        words("why", "why"),
    ]
    notes = ["what was foretold or modelled was never measured: such savings are expectations"]
    return draw("decisions", "decisions", "Decisions for the grid", columns, rows, notes=notes)


def meters(content: Content) -> Table | None:
    """How joules are known, a component at a time."""
    if not content.meters:
        return None
    columns = [
        words("component", "component"),
        words("known", "source"),
        words("how", "method"),
        quantity("energy", "energy_kwh", content.meters, ENERGY_KWH),
        count("runs", "num_runs"),
    ]
    return draw("meters", "meters", "How the energy is known", columns, content.meters)


def commands(rows: Sequence[Row]) -> Table | None:
    """How each run was started, and from which commit."""
    if not rows:
        return None
    columns = [
        Column("started", "started_at", lambda row: local(row["started_at"]), is_number=False),
        words("model", "model"),
        Column("run", "run_id", lambda row: row["run_id"][:8], is_number=False, first="ascending"),
        Column("status", "status", ended, is_number=False, first="ascending"),
        words("device", "device"),
        Column("seed", "seed", lambda row: UNKNOWN if row["seed"] is None else str(row["seed"]), first="ascending"),
        Column("commit", "git_commit", commit, is_number=False, is_code=True),
        Column("command", "command", lambda row: row["command"] or UNKNOWN, is_number=False, is_code=True),
    ]
    return draw("commands", "runs", "Runs as they were started", columns, rows)


def ended(row: Row) -> str:
    reason = row["stop_reason"]
    return str(row["status"]) + (f", {reason}" if reason not in (None, row["status"]) else "")


def commit(row: Row) -> str:
    return UNKNOWN if not row["git_commit"] else row["git_commit"][:12] + (" with changes" if row["git_dirty"] else "")
