"""Reasons in words and tables, on stdout."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from greenml import console
from greenml.console import SOURCES, UNKNOWN, Column, counted, figure, percentage
from greenml.records import total
from greenml.units import JOULES_PER_KWH, format_energy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from greenml.recommend.reasons import Reasons, Spent

    Row = dict[str, Any]

PHASES = {
    "setup": "set-up (libraries, data)",
    "train": "training",
    "validate": "validation",
    "checkpoint": "checkpoints",
    "record": "writing rows",
    "test": "test",
    "lost": "lost with a process",
    "wait": "waiting",
}
AN_IMAGE = (
    "J/image: all joules of the epochs (training, validation, checkpoint) by their training images. FLOPs are those of "
    "one forward pass, as is GFLOP in J/GFLOP; a training step takes about three times as many."
)
WHY_NOT_PARAMETERS = (
    "What is computed is operations, not parameters: a convolution uses each of its parameters at every place of the "
    "image."
)
WHY_NOT_OPERATIONS = (
    "The usual reason (not measured here): small and depthwise convolutions do few operations for each number they "
    "fetch, so that the machine waits for its memory; it is on for as long."
)
BASIS = (
    "Below 0 it saves, above 0 it costs more; ± standard deviation, which one pair has not. tried: over n pairs of "
    "runs; chance: what was changed had no effect; hindsight: nobody knew in time; at most: all that this part of the "
    "runs took; computed: from annual averages, and of CO2e."
)
LOADING = "Loading of batches happens within training and is not metered apart."
FORMULA = "grams = kWh x PUE x g/kWh: CO2e follows each of the three in proportion."


def show(reasons: Reasons) -> None:
    """Everything, in three parts."""
    heading("Why fewer parameters can cost more")
    paragraphs(why_fewer_cost_more(reasons))
    if reasons.models:
        console.out().print(console.table(MODELS, reasons.models))
        paragraphs([AN_IMAGE])
    heading("Where the energy went")
    where_energy_went(reasons)
    heading("What could be changed here")
    what_could_be_changed(reasons)
    parts = [row for spent in reasons.spent for row in spent.phases]
    sources = {row["source"] for row in [*reasons.models, *parts, *map(asdict, reasons.changes)]}
    for legend in console.legends(sources):
        console.say(legend)


def paragraphs(texts: Iterable[str]) -> None:
    """Plain text, which a terminal wraps between words."""
    from rich.text import Text

    for text in texts:
        console.out().print(Text(console.clean(text)))


def heading(text: str) -> None:
    from rich.text import Text

    console.out().print()
    console.out().print(Text(console.clean(text), style="bold"))


# What a model costs


def why_fewer_cost_more(reasons: Reasons) -> Iterator[str]:
    """Of the pair that shows it best, where there is one."""
    row = reasons.fewer
    if row is None:
        yield (
            "Here they did not: of models that were trained alike, fewer parameters always took less an image."
            if reasons.are_comparable
            else "Nothing to compare: it takes two models that were trained alike, and whose energy is known."
        )
        return
    n = f"n = {row['num_runs']} and {row['than_num_runs']}"
    runs = f"runs {ids(row['run_ids'])} against {ids(row['than_run_ids'])}; {n}"
    if row["exceeds_spread"] is False:
        yield (
            f"Here they did not beyond the spread of repeats: {row['model']} comes nearest, at "
            f"{row['energy_ratio']:.2f} times the energy an image of {row['than_model']}, which has more ({runs})."
        )
        return
    in_precision = f" in {row['precision']}" if row["precision"] else ""
    spread = "more than repeats differ" if row["exceeds_spread"] else "spread unknown"
    yield (
        f"{row['model']} has {row['num_parameters']:,} parameters and {row['than_model']} has "
        f"{row['than_num_parameters']:,}, yet{in_precision} it took {row['energy_ratio']:.2f} times the energy "
        f"an image ({runs}; {spread})."
    )
    yield from the_cause(row)


def the_cause(row: Row) -> Iterator[str]:
    """Operations where they go with the energy; else how badly the machine was used."""
    if row["flops_ratio"] is None:
        yield f"How many operations they compute is not known. {WHY_NOT_PARAMETERS}"
        return
    yield f"It computes {row['flops_ratio']:.2f} times the operations. {WHY_NOT_PARAMETERS}"
    if row["energy_ratio"] > row["flops_ratio"]:
        used = row["joules_per_gflop"] / row["than_joules_per_gflop"]
        yield f"And each operation took {used:.1f} times the energy here. {WHY_NOT_OPERATIONS}"


MODELS = [
    Column("model", lambda row: row["model"], right=False, shrinks=True),
    Column("prec.", lambda row: row["precision"] or UNKNOWN, right=False),
    Column("parameters", lambda row: f"{row['num_parameters']:,}"),
    Column("MFLOPs", lambda row: figure(per_million(row["flops_per_sample"]))),
    Column("J/image", lambda row: marked(row["joules_per_sample"], row["source"])),
    Column("±", lambda row: figure(row["std_joules_per_sample"], digits=2)),
    Column("J/GFLOP", lambda row: marked(row["joules_per_gflop"], row["source"])),
    Column("n", lambda row: str(row["num_runs"])),
    Column("batch", lambda row: str(row["batch_size"] or UNKNOWN), wide=True),
    Column("px", lambda row: str(row["image_size"] or UNKNOWN), wide=True),
    Column("runs", lambda row: ids(row["run_ids"]), right=False, wide=True, shrinks=True),
]


def per_million(value: float | None) -> float | None:
    return None if value is None else value / 1e6


def marked(value: float | None, source: str) -> str:
    """A figure with the mark of how its joules are known."""
    return UNKNOWN if value is None else SOURCES.get(source, ("", ""))[0] + figure(value)


def ids(run_ids: list[str]) -> str:
    """The first digits of a few."""
    more = f" and {len(run_ids) - 3} more" if len(run_ids) > 3 else ""
    return ", ".join(run_id[:8] for run_id in run_ids[:3]) + more


# Where the energy went


def where_energy_went(reasons: Reasons) -> None:
    """By phase and by component, a run on average."""
    known = [spent for spent in reasons.spent if spent.run_ids]
    if not known:
        paragraphs(["No finished run here was metered."])
    for i, spent in enumerate(known):
        if i:
            console.out().print()
        runs = "run" if len(spent.run_ids) == 1 else f"mean of {len(spent.run_ids)} runs"
        title = f"{spent.title}, {runs} {ids(spent.run_ids)}"
        console.out().print(console.table(spent_columns(spent), spent_rows(spent), title=title))
        if said := idle(spent):
            paragraphs([said])
    if known:
        paragraphs([LOADING])
    if number := reasons.unfinished["num_runs"]:
        mark = SOURCES.get(reasons.unfinished["source"], ("", ""))[0]
        lost = mark + energy(reasons.unfinished["known_kwh"])
        paragraphs(
            [f"Beside these, {counted(number, 'run')} here crashed or failed, and took {lost} (the known part)."]
        )


def spent_rows(spent: Spent) -> list[Row]:
    """Phases and components under each other."""
    phases = [row | {"what": PHASES.get(row["name"], row["name"])} for row in spent.phases]
    parts = [row | {"what": row["component"].upper()} for row in spent.components]
    every = total(*(row["energy_kwh"] for row in spent.phases))
    share = None if every is None else 1.0
    return [*phases, {"what": "in all", "energy_kwh": every, "share": share, "source": spent.source}, *parts]


def spent_columns(spent: Spent) -> list[Column]:
    def each(row: Row) -> str:
        if row["source"] == "absent":
            return "absent"
        kwh = row["energy_kwh"]
        return "unknown" if kwh is None else SOURCES.get(row["source"], ("", ""))[0] + energy(kwh / len(spent.run_ids))

    return [
        Column("", lambda row: row["what"], right=False),
        Column("energy a run", each),
        Column("%", lambda row: UNKNOWN if row["source"] == "absent" else percentage(row["share"])),
        Column("known as", lambda row: row["source"], right=False),
    ]


def energy(kwh: float | None) -> str:
    return format_energy(None if kwh is None else kwh * JOULES_PER_KWH)


def idle(spent: Spent) -> str:
    """What the machine would have drawn anyway, where it is known."""
    every = total(*(row["energy_kwh"] for row in spent.phases))
    resting = total(*(row["idle_kwh"] for row in spent.phases))
    if not every or resting is None:
        return ""
    mark = SOURCES.get(spent.source, ("", ""))[0]
    share = percentage(min(resting / every, 1.0))
    return f"{mark}{share} % of it is power that the machine draws when idle: it goes with the time, not with the work."


# What could be changed


def what_could_be_changed(reasons: Reasons) -> None:
    """A table of what has a number, and the commands for what has none."""
    with_number = [change for change in reasons.changes if change.ratio is not None]
    if with_number:
        console.out().print(console.table(CHANGES, map(asdict, with_number)))
        paragraphs(f"{change.what}: {change.remark}." for change in with_number if change.remark)
        paragraphs([BASIS, FORMULA])
    else:
        paragraphs(["Nothing was tried in two ways yet, and no share of the energy is known."])
    if untried := [change for change in reasons.changes if change.ratio is None]:
        paragraphs(["Not tried here, so that nobody knows what it saves; what would measure it:"])
        for change in untried:
            remark = f" ({change.remark})" if change.remark else ""
            paragraphs([f"  {change.what}, {change.effort}{remark}:"])
            print(f"    {console.clean(change.command or '')}")


CHANGES = [
    Column("change", lambda row: row["what"], right=False, shrinks=True),
    Column("energy %", lambda row: effect(row)),
    Column("val. pp", lambda row: points(row["accuracy_difference"], row["std_accuracy_difference"])),
    Column("basis", lambda row: row["basis"], right=False),
    Column("n", lambda row: str(row["num_runs"] or UNKNOWN)),
    Column("effort", lambda row: row["effort"], right=False),
    Column("runs", lambda row: ids(row["run_ids"]), right=False, wide=True, shrinks=True),
]


def effect(row: Row) -> str:
    """ "~-57.0 ± 3.1": below 0 it saves, above it costs more; marked by how its joules are known."""
    spread = "" if row["std_ratio"] is None else f" ± {100 * row['std_ratio']:.1f}"
    mark = SOURCES.get(row["source"], ("", ""))[0]
    return f"{mark}{100 * (row['ratio'] - 1):+.1f}{spread}" + (f" {row['of']}" if row["of"] != "energy" else "")


def points(difference: float | None, std: float | None) -> str:
    spread = "" if std is None else f" ± {100 * std:.1f}"
    return UNKNOWN if difference is None else f"{100 * difference:+.1f}{spread}"
