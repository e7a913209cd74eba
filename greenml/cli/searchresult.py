"""What a search came to: its front, the point to take, what it cost, and when that has paid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenml import console
from greenml.cli import portrait
from greenml.console import Column, counted, local, percentage
from greenml.units import format_mass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from greenml.store import Store

    Row = dict[str, Any]

FRONT = """
    select sweep_front.*, sweep_choice.sweep_id is not null as is_chosen
    from sweep_front
    left join sweep_choice using (sweep_id, number, epochs)
    where sweep_id = ?
    order by co2_g
"""
RUNS = "select *, [run_id] as run_ids from runs where list_contains(?, run_id)"
TRIALS = "from trials where sweep_id = ? order by number"


def settled(row: Row, rows: list[Row]) -> list[Row]:
    """Rows of a sweep with the config keys that their draws come to: of a conditional parameter, its one case."""
    from greenml.sweep import space

    own = space.parse(row["space"])
    return [{**each, "config": own.config(each["params"])} for each in rows]


def config_in_words(config: Mapping[str, Any]) -> str:
    """ "lr 0.00213, batch_size 64": what is not said elsewhere of a trial."""
    left = {key: value for key, value in config.items() if key not in ("model", "precision")}
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in left.items()
    )


FRONT_COLUMNS = [
    Column("", lambda row: "→" if row["is_chosen"] else "", right=False),
    Column("trial", lambda row: str(row["number"])),
    Column("model", lambda row: row["model"], right=False, shrinks=True),
    Column("precision", lambda row: row["precision"], right=False),
    Column("ep.", lambda row: str(row["epochs"])),
    Column("val. %", lambda row: percentage(row["accuracy"])),
    Column("energy", lambda row: portrait.energy(row["energy_kwh"], row["source"])),
    Column("CO2e", lambda row: format_mass(row["co2_g"])),
    Column("run", lambda row: row["run_id"][:8], right=False),
    Column("with", lambda row: config_in_words(row["config"]), right=False, wide=True, shrinks=True),
]
LIST_COLUMNS = [
    Column("search", lambda row: row["run_id"][:8], right=False),
    Column("status", lambda row: row["status"], right=False),
    Column("models", lambda row: row["models"], right=False, shrinks=True),
    Column("dataset", lambda row: row["dataset"], right=False, shrinks=True),
    Column("name", lambda row: row["name"] or "", right=False, wide=True, shrinks=True),
    Column("sampler", lambda row: row["sampler"], right=False, wide=True),
    Column("trials", lambda row: f"{row['num_complete']}/{row['num_trials']}"),
    Column("failed", lambda row: str(row["num_failed"]), wide=True),
    Column("energy", lambda row: portrait.energy(row["energy_kwh"], row["source"], row["known_kwh"])),
    Column("started", lambda row: local(row["started_at"]), right=False),
]
TRIAL_COLUMNS = [
    Column("trial", lambda row: str(row["number"])),
    Column("state", lambda row: "known" if row["origin"] else row["state"], right=False),
    Column("model", lambda row: row["model"] or "", right=False, shrinks=True),
    Column("precision", lambda row: row["precision"] or "", right=False),
    Column("ep.", lambda row: str(row["epochs"])),
    Column("val. %", lambda row: percentage(row["accuracy"])),
    Column("energy", lambda row: portrait.energy(row["energy_kwh"], row["source"], row["known_kwh"])),
    Column("run", lambda row: (row["run_id"] or "")[:8], right=False),
    Column("why", lambda row: portrait.one_line(row["reason"]), right=False, shrinks=True),
    Column("with", lambda row: config_in_words(row["config"]), right=False, wide=True, shrinks=True),
]


def draw(db: Store, row: Row) -> None:
    """The front, what to take of it, and what it cost."""
    points = settled(row, db.rows(FRONT, [row["run_id"]]))
    if points:
        console.out().print(console.table(FRONT_COLUMNS, points))
    console.out().print(console.facts(facts(db, row, points)))
    found = list(training(db, points))
    if found:
        console.out().print("to train them with a test, the recommended one first:")
    for command, _ in found:
        console.out().print(f"  {command}", markup=False, soft_wrap=True)
    if lost := dict.fromkeys(key for _, keys in found for key in keys):
        console.say(f"no flag gives {', '.join(lost)}: put it into a file for --config")
    portrait.explain_marks({point["source"] for point in points} | {row["source"]} - {None})


def facts(db: Store, row: Row, points: list[Row]) -> list[tuple[str, str]]:
    """Label and text of what follows the front."""
    chosen = next((point for point in points if point["is_chosen"]), None)
    return [
        ("search", f"{row['run_id']}  {row['name'] or ''}"),
        (
            "recommended",
            recommended(chosen)
            if chosen
            else "nothing: no epoch clearly learned, kept the constraints and has known energy",
        ),
        ("took", took(row)),
        ("", beside(row)),
        ("pays", pays(db, row)),
    ]


def recommended(point: Row) -> str:
    """The point to take, in words."""
    return (
        f"trial {point['number']}: {point['model']} in {point['precision']}, "
        f"{counted(point['epochs'], 'epoch')}: {percentage(point['accuracy'])} % validation for "
        f"{portrait.energy(point['energy_kwh'], point['source'])}, {format_mass(point['co2_g'])}; "
        "the cheapest within a point of the most accurate"
    )


def took(row: Row) -> str:
    """What the whole search used."""
    mass = "" if row["co2_g"] is None else f", {format_mass(row['co2_g'])}"
    known = f"; {counted(row['num_known'], 'earlier run')} at no cost" if row["num_known"] else ""
    whole = ", all that the space has" if row["stop_reason"] == "space" else ""
    failed = f", {row['num_failed']} failed" if row["num_failed"] else ""
    return (
        f"{portrait.energy(row['energy_kwh'], row['source'], row['known_kwh'])}{mass}: "
        f"{counted(row['num_drawn'], 'trial')}{whole}{failed}{known}"
    )


def beside(row: Row) -> str:
    """The parts of that sum."""
    known = {"trials": row["trials_kwh"], "beside them": row["overhead_kwh"]}
    parts = [f"{name} {portrait.energy(kwh, row['source'])}" for name, kwh in known.items() if kwh is not None]
    if row["wasted_kwh"]:
        parts.append(f"of attempts that came to nothing {portrait.energy(row['wasted_kwh'], row['source'])}")
    return ", ".join(parts)


def pays(db: Store, row: Row) -> str:
    """After how many trainings the search has paid for itself; what is not known is said."""
    saving = next(iter(db.rows("from sweep_savings where sweep_id = ?", [row["run_id"]])), None)
    if saving is None:
        return "not known: no trial that the space names under `enqueue`, as a baseline, came to a result"
    base = (
        f"{saving['base_model']} in {saving['base_precision']} (trial {saving['base_number']}, "
        f"{counted(saving['base_epochs'], 'epoch')} to {percentage(saving['base_accuracy'])} %)"
    )
    if not saving["saved_kwh"]:
        return f"not yet: no trial reaches what the baseline {base} does for less"
    saved = portrait.energy(saving["saved_kwh"], row["source"])
    first = (
        f"trial {saving['number']} saves {saved} a training against the baseline {base} "
        f"at {percentage(saving['accuracy'])} %"
    )
    if saving["num_trainings"] is None:
        return f"{first}; after how many trainings is not known, as not all that the search used is"
    return f"{first}: the search is paid after {counted(saving['num_trainings'], 'such training')} (one run of each)"


def training(db: Store, points: list[Row]) -> Iterator[tuple[str, list[str]]]:
    """What trains the trials of a front again, with a test; and what no flag of it gives. The recommended point first,
    then each trial to its last epoch on the front, which answers for its earlier ones."""
    from greenml.recommend import commands

    rows = {row["run_id"]: row for row in db.rows(RUNS, [[point["run_id"] for point in points]])}
    chosen = [point for point in points if point["is_chosen"]]
    lasts = {point["run_id"]: point for point in points}.values()
    for run_id, epochs in dict.fromkeys((point["run_id"], point["epochs"]) for point in (*chosen, *lasts)):
        if run_id in rows and (command := commands.again(db, rows[run_id], epochs=epochs)):
            yield command, commands.lost(db, rows[run_id])
