"""Two runs side by side: what they came to, and what went into them. SQL does the sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from greenml import console
from greenml.console import SOURCES, UNKNOWN, Column, figure, percentage
from greenml.errors import UsageError
from greenml.units import JOULES_PER_KWH, format_bytes, format_duration, format_energy, format_mass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from greenml.store import Store

    Row = dict[str, Any]

RUNS = """
    select
        runs.* exclude (run_key, config),
        -- Files from elsewhere hold what they hold.
        if(json_type(runs.config) = 'OBJECT', runs.config, '{}'::json) as config,
        run_figures.worst_source as source,
        run_figures.reason as unranked,
        (select count(*) from resumes where resumes.run_id = runs.run_id) as resumes
    from runs
    join run_figures using (run_key)
    where runs.run_id in (?, ?)
"""
KNOWN_BY = ("run_id", "kind", "name", "model", "dataset", "precision", "seed", "status", "metric", "source", "unranked")
TRAINED_HERE = frozenset({"train", "trial"})

OF_NO_EFFECT = frozenset({"name", "tags", "log", "data_dir"})
"""Keys of a config that change nothing in a run; whether a folder held the same data, their hash says."""
TOLD = (
    *("kind", "model", "dataset", "precision", "batch_size", "grad_accum", "epochs_asked", "device"),
    *("seed", "split_seed", "scope", "metric", "goal", "resumes"),
)
"""What a row says of a run where its config does not."""
OF_A_PROGRAM = ("season", "command", "git_commit", "git_dirty")
"""What else may tell two runs of somebody's own program apart."""
MACHINE = "machine"
SECTIONS = ("config", "run", "data", "region", MACHINE, "meter", "versions")
FOLLOWS = {
    ("data", "data_hash"): frozenset({"dataset"}),
    ("data", "split_hash"): frozenset({"dataset", "data_hash", "val_fraction", "split_seed"}),
    ("region", "region_used"): frozenset({"region"}),
    ("region", "intensity_g_per_kwh"): frozenset({"region", "region_used"}),
    **{
        ("meter", key): frozenset({"meter", "scope", "tdp", "sampling_interval", "codecarbon", MACHINE})
        for key in ("meter used", "interval_s", "cpu", "gpu", "ram")
    },
}
"""What differs where something else does: it is listed, and is no second difference."""
PACKAGES = ("versions", "dependencies_hash")
"""Of every installed package. Those that compute are among the versions; that another one changed is listed alone."""

ENERGIES = frozenset({"co2_g", "energy_kwh", "joules_per_sample", "epoch_kwh", "target_kwh"})
SELDOM = frozenset({"peak_device_bytes", "value", "waited_s", "paused_s", "target_epoch", "target_kwh"})
"""Figures that are shown only where there is one, and not 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs side by side."""

    first: Row
    """What the run is known by: `run_id`, `model`, `dataset`, `precision`, `seed`, `status`, ..."""
    second: Row
    rows: list[Row]
    """Of `compared`: a figure of both, `difference` (second - first; null where the two cannot be compared), and
    whether it exceeds the spread (null where that is unknown). Energy in kWh, CO2e in g, accuracy as a fraction."""
    differing: list[Row]
    """What went into the runs and differs: `of`, `key`, `first`, `second`, `follows` (the key that brings it about;
    None where none does), and whether it `counts` as a difference of its own."""
    alone: str | None
    """The one thing in which they differ; None where there is none, or more than one."""
    notes: list[str]
    """What is to be said of the rows, in words."""

    def as_json(self) -> list[Row]:
        """One array, with this comparison in it."""
        return [
            {
                "first": self.first,
                "second": self.second,
                "differs_alone": self.alone,
                "figures": self.rows,
                "differing": self.differing,
                "notes": self.notes,
            }
        ]


def compare(db: Store, first_id: str, second_id: str) -> Comparison:
    """Two runs, by the first digits of their ids. Raises UsageError where they are one run, or not there."""
    first_id, second_id = db.run_id(first_id), db.run_id(second_id)
    if first_id == second_id:
        raise UsageError(f"{first_id} cannot be compared with itself", hint="`greenml runs list` shows the others")
    found = {row["run_id"]: row for row in db.rows(RUNS, [first_id, second_id])}
    first, second = found[first_id], found[second_id]
    rows = db.rows("from compared(?, ?)", [first_id, second_id])
    differing = list(differences(first, second))
    causes = independent(differing)
    return Comparison(
        first={key: first[key] for key in KNOWN_BY},
        second={key: second[key] for key in KNOWN_BY},
        rows=rows,
        differing=differing,
        alone=causes[0] if len(causes) == 1 and trained_here(first, second) else None,
        notes=[
            attribution(causes, first, second),
            *incomparable(rows, first, second),
            about_spread(rows),
            *about_target(rows),
            *(f"{run['run_id'][:8]} is unranked: {run['unranked']}" for run in (first, second) if run["unranked"]),
        ],
    )


def trained_here(*runs: Row) -> bool:
    """Whether all that went into them is on record: of other people's programs, only what they told is."""
    return all(run["kind"] in TRAINED_HERE for run in runs)


def differences(first: Row, second: Row) -> Iterator[Row]:
    """Everything recorded that went into the runs and is not the same in both."""
    sides = [ingredients(first), ingredients(second)]
    places = sorted(dict.fromkeys([*sides[0], *sides[1]]), key=lambda place: SECTIONS.index(place[0]))
    differ = [place for place in places if sides[0].get(place) != sides[1].get(place)]
    if ("data", "data_hash") not in differ and sides[0].get(("data", "data_hash")):
        differ = [place for place in differ if place[1] != "dataset"]  # two names of the same images
    names = {MACHINE if of == MACHINE else key for of, key in differ}
    for place in differ:
        follows = min(FOLLOWS.get(place, frozenset()) & names, default=None)
        yield {
            "of": place[0],
            "key": place[1],
            "first": sides[0].get(place),
            "second": sides[1].get(place),
            "follows": follows,
            "counts": follows is None and place != PACKAGES,
        }


def ingredients(run: Row) -> dict[tuple[str, str], Any]:
    """What went into a run, by where it belongs and what it is called; what nobody said is None."""
    program = () if trained_here(run) else OF_A_PROGRAM
    told = {key: run[key] for key in (*TOLD, *program) if key.removesuffix("_asked") not in run["config"]}
    meter = run["meter"]
    return {
        **{("config", key): value for key, value in run["config"].items() if key not in OF_NO_EFFECT},
        **{("run", key): value for key, value in told.items()},
        **{("data", key): run[key] for key in ("data_hash", "split_hash")},
        **{("region", key): run[key] for key in ("region_used", "intensity_g_per_kwh")},
        **{(MACHINE, key): value for key, value in run["hardware"].items()},
        ("meter", "meter used"): meter.get("meter"),
        ("meter", "interval_s"): meter.get("interval_s"),
        **{("meter", part): known_by(meter.get(part)) for part in ("cpu", "gpu", "ram")},
        **{("versions", key): value for key, value in run["versions"].items()},
        PACKAGES: run["dependencies_hash"],
    }


def known_by(part: Any) -> str | None:
    """How the joules of a component are known, in words."""
    return f"{part.get('source')}: {part.get('method')}" if isinstance(part, dict) else part


def independent(differing: list[Row]) -> list[str]:
    """What differs of itself; a machine is one thing, whatever is in it."""
    own = [row for row in differing if row["counts"]]
    return list(dict.fromkeys(MACHINE if row["of"] == MACHINE else row["key"] for row in own))


def attribution(causes: list[str], first: Row, second: Row) -> str:
    """What the differences may be put down to."""
    if not trained_here(first, second):
        return "what went into these programs is not all on record: nothing is attributed"
    match causes:
        case []:
            return "nothing on record differs: what lies between them is chance, or the state of the machine"
        case ["seed"]:
            return "they differ in seed alone: they repeat each other, and what lies between them is the spread"
        case [cause]:
            return f"they differ in {cause} alone"
        case _:
            return f"they differ in {len(causes)} things ({', '.join(causes)}): nothing is attributed to any of them"


def incomparable(rows: list[Row], first: Row, second: Row) -> Iterator[str]:
    """Which differences are left out, and why."""
    comparable = {row["figure"]: row["is_comparable"] for row in rows}
    if not comparable["accuracy"]:
        yield (
            "different data, split or metric: accuracies are not compared, and energy, time and memory are those of "
            "different work"
        )
    if not comparable["energy_kwh"]:
        why = (
            "one was metered as a machine, the other as a process"
            if first["scope"] != second["scope"]
            else "the joules of one are not its own (a shared machine, or replayed power)"
        )
        yield f"energy and CO2e are not compared: {why}"


def about_spread(rows: list[Row]) -> str:
    """What the differences are held against."""
    first, second = rows[0]["first_num_repeats"], rows[0]["second_num_repeats"]
    if first > 1 and second > 1:
        return (
            f"spread: standard deviations (n - 1) over {first} and {second} finished runs of each config, root of the "
            "sum of squares; the difference is that of these two runs"
        )
    if first <= 1 and second <= 1:
        return "spread unknown: one run each, and one run is an anecdote; run them again with other seeds"
    return f"spread unknown: there are {first} and {second} finished runs of each config, and it takes two of both"


def about_target(rows: list[Row]) -> Iterator[str]:
    """Where the accuracy to which convergence is measured comes from."""
    if target := rows[0]["target_accuracy"]:
        yield f"{percentage(target)} % is the lower of the two best validation accuracies: hindsight"


# On screen


def show(comparison: Comparison) -> None:
    """The figures and what differs on stdout, what is to be said of them on stderr."""
    first, second = comparison.first, comparison.second
    console.out().print(console.facts([("first", in_words(first)), ("second", in_words(second))]))
    console.out().print()
    console.out().print(console.table(figure_columns(comparison), filter(is_shown, comparison.rows)))
    if comparison.differing:
        console.out().print()
        console.out().print(console.table(DIFFERING, comparison.differing, title="what differs"))
    for note in comparison.notes:
        console.say(note)
    for source in dict.fromkeys(run["source"] for run in (first, second)):
        if source in SOURCES:
            console.say(SOURCES[source][1])


def in_words(run: Row) -> str:
    """Which run it is."""
    seed = "" if run["seed"] is None else f"seed {run['seed']}"
    parts = [run["run_id"], run["name"], run["model"], run["precision"], f"on {run['dataset']}", seed, run["status"]]
    return ", ".join(filter(None, parts))


def is_shown(row: Row) -> bool:
    """The everyday figures always, so that an unknown one is seen to be unknown."""
    return row["figure"] not in SELDOM or bool(row["first"] or row["second"])


def figure_columns(comparison: Comparison) -> list[Column]:
    first, second = comparison.first, comparison.second

    def value(key: str, run: Row) -> Callable[[Row], str]:
        return lambda row: marked(row["figure"], row[key], run["source"])

    return [
        Column("", lambda row: label(row, first["metric"]), right=False, shrinks=True),
        Column(first["run_id"][:8], value("first", first)),
        Column(second["run_id"][:8], value("second", second)),
        Column("difference", lambda row: signed(row["figure"], row["difference"])),
        Column("%", lambda row: relative(row["relative_difference"])),
        Column("spread", lambda row: shown(row["figure"], row["spread"]).replace(" %", " pp"), wide=True),
        Column("beyond spread", beyond_spread, right=False),
    ]


def label(row: Row, metric: str) -> str:
    """What a figure is called."""
    target = percentage(row["target_accuracy"])
    return {
        "co2_g": "CO2e",
        "energy_kwh": "energy",
        "joules_per_sample": "J a training image",
        "peak_host_bytes": "peak memory",
        "peak_device_bytes": "peak GPU memory",
        "accuracy": "test accuracy",
        "val_accuracy": "validation acc.",
        "value": metric,
        "wall_s": "wall time",
        "waited_s": "of it waiting",
        "paused_s": "of it paused",
        "epochs": "epochs",
        "epoch_s": "time an epoch",
        "epoch_kwh": "energy an epoch",
        "target_epoch": f"epochs to {target} %",
        "target_kwh": f"energy to {target} %",
    }[row["figure"]]


def shown(name: str, value: float | None) -> str:
    """A figure in a unit that fits it."""
    if value is None:
        return UNKNOWN
    match name:
        case "co2_g":
            return format_mass(value)
        case "energy_kwh" | "epoch_kwh" | "target_kwh":
            return format_energy(value * JOULES_PER_KWH)
        case "peak_host_bytes" | "peak_device_bytes":
            return format_bytes(value)
        case "accuracy" | "val_accuracy":
            return f"{percentage(value)} %"
        case "wall_s" | "waited_s" | "paused_s" | "epoch_s":
            return format_duration(value)
        case "epochs" | "target_epoch":
            return f"{value:.3g}"
        case _:
            return figure(value)


def marked(name: str, value: float | None, source: str) -> str:
    """The same, with the mark of how its joules are known."""
    mark = SOURCES.get(source, ("", ""))[0] if name in ENERGIES and value is not None else ""
    return mark + shown(name, value)


def signed(name: str, difference: float | None) -> str:
    """A difference with its sign; between percentages it is one of points."""
    if difference is None:
        return UNKNOWN
    sign = "+" if difference > 0 else "-" if difference < 0 else ""
    return sign + shown(name, abs(difference)).replace(" %", " pp")


def relative(difference: float | None) -> str:
    return UNKNOWN if difference is None else f"{100 * difference:+.1f}"


def beyond_spread(row: Row) -> str:
    if not row["is_comparable"]:
        return "not compared"
    if row["difference"] is None:
        return UNKNOWN
    return {True: "yes", False: "no", None: "unknown"}[row["exceeds_spread"]]


DIFFERING = [
    Column("of", lambda row: row["of"], right=False),
    Column("key", lambda row: row["key"], right=False),
    Column("first", lambda row: said(row["first"]), right=False, shrinks=True),
    Column("second", lambda row: said(row["second"]), right=False, shrinks=True),
    Column("follows", lambda row: row["follows"] or "", right=False),
]


def said(value: Any) -> str:
    return "not said" if value is None else str(value)
