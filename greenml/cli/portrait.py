"""Everything that is known of a run: its rows, and what they say in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenml import console
from greenml.cli import ledger
from greenml.cli.ledger import energy_of
from greenml.console import SOURCES, UNKNOWN, Column, bars, counted, figure, local, percentage
from greenml.units import (
    ENERGY,
    JOULES_PER_KWH,
    format_alike,
    format_bytes,
    format_duration,
    format_energy,
    format_flops,
    format_mass,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenml.store import Store

    Row = dict[str, Any]

COMPONENTS = ("cpu", "gpu", "ram")
PHASES = """
    select
        phases.run_id,
        phases.name,
        count(*) as num_phases,
        sum(epoch_us(phases.ended_at) - epoch_us(phases.started_at)) / 1e6 as duration_s,
        -- sum() skips nulls, and a sum over a gap is not a total.
        if(count(*) = count(joules), sum(joules), null) as total_j,
        max(source) as worst_source,
        -- The intensity that counted, weighted by joules; what is equal all the way comes back to the last bit.
        case
            when min(coalesce(g_per_kwh, intensity_g_per_kwh)) = max(coalesce(g_per_kwh, intensity_g_per_kwh))
                then min(coalesce(g_per_kwh, intensity_g_per_kwh))
            else sum(joules * coalesce(g_per_kwh, intensity_g_per_kwh)) / nullif(sum(joules), 0)
        end as mean_g_per_kwh
    from phases
    join runs using (run_id)
    where phases.run_id in (select unnest(?))
    group by phases.run_id, phases.name
    order by min((segment, seq))
"""
BY_THE_HOUR = ("trace", "live")
"""Levels of runs whose phases have intensities of their own."""
GPUS = """
    select
        run_id,
        gpu,
        any_value(device) as device,
        if(count(*) = count(joules), sum(joules), null) as total_j,
        max(source) as worst_source
    from gpu_phases
    where run_id in (select unnest(?))
    group by run_id, gpu
    order by gpu
"""
METRICS = """
    select
        run_id,
        name,
        any_value(goal) as goal,
        count(*) as num_values,
        arg_max(value, (segment, seq)) as last_value,
        case any_value(goal) when 'max' then max(value) when 'min' then min(value) end as best_value
    from metrics
    where run_id in (select unnest(?))
    group by run_id, name
    order by min((segment, seq))
"""
TRIALS = """
    select * exclude (sweep_id), sweep_id as run_id, run_id as last_run_id
    from trials
    where sweep_id in (select unnest(?))
    order by number
"""
TRIAL = """
    select run_id, sweep_id, number
    from trial_attempts
    where run_id in (select unnest(?))
"""
TRIAL_COLUMNS = [
    Column("trial", lambda row: str(row["number"])),
    Column("run", lambda row: (row["last_run_id"] or "")[:8], right=False),
    Column("state", lambda row: row["state"], right=False),
    Column("model", lambda row: row["model"] or "", right=False, shrinks=True),
    Column("precision", lambda row: row["precision"] or "", right=False, wide=True),
    Column("ep.", lambda row: str(row["epochs"])),
    Column("val. %", lambda row: percentage(row["accuracy"])),
    Column(
        "energy",
        lambda row: "0, known before" if row["origin"] else energy(row["energy_kwh"], row["source"], row["known_kwh"]),
    ),
    Column("why it ended", lambda row: one_line(row["reason"]), right=False, shrinks=True),
]
METRIC_COLUMNS = [
    Column("figure", lambda row: row["name"], right=False, shrinks=True),
    Column("times", lambda row: str(row["num_values"])),
    Column("last", lambda row: figure(row["last_value"])),
    Column("best", lambda row: figure(row["best_value"])),
]
DECISION_COLUMNS = [
    Column("decided", lambda row: local(row["decided_at"]), right=False),
    Column("what", lambda row: row["what"], right=False),
    Column("g/kWh", lambda row: figure(row["g_per_kwh"]) if row["g_per_kwh"] is not None else ""),
    Column("known", lambda row: row["intensity_status"] or "", right=False, wide=True),
    Column("until", lambda row: local(row["until_at"]) if row["until_at"] else "", right=False, wide=True),
    Column("saved", lambda row: saved(row), right=False),
    Column("why", lambda row: row["why"], right=False, shrinks=True),
]
PHASE_COLUMNS = [
    Column("phase", lambda row: row["name"], right=False),
    Column("phases", lambda row: str(row["num_phases"])),
    Column("time", lambda row: format_duration(row["duration_s"])),
    Column("energy", lambda row: marked(row["total_j"], row["worst_source"])),
]


def everything(db: Store, run_id: str) -> Row:
    """A run with all that hangs on it."""
    [run] = everything_of(db, [run_id])
    return run


def everything_of(db: Store, run_ids: Sequence[str]) -> list[Row]:
    """Runs with all that hangs on them, in the order of `run_ids`."""

    def of_each(sql: str) -> dict[str, list[Row]]:
        rows: dict[str, list[Row]] = {run_id: [] for run_id in run_ids}
        for row in db.rows(sql, [list(run_ids)]):
            rows[row.pop("run_id")].append(row)
        return rows

    chosen = "where run_id in (select unnest(?))"
    stored = of_each(f"select * exclude (run_key) from runs {chosen}")
    places = of_each(f"from leaderboard {chosen}")
    optimal = of_each(f"from optimal_epoch {chosen}")
    resumes = of_each(f"from resumes {chosen} order by segment")
    metrics = of_each(f"select * exclude (run_key) from metrics {chosen} order by segment, seq")
    gpus = of_each(GPUS)
    epochs = of_each(f"select * exclude (run_key) from epochs {chosen} order by epoch")
    phases = of_each(PHASES)
    figures = of_each(METRICS)
    decisions = of_each(f"select * exclude (run_key) from decisions {chosen} order by segment, seq")
    artifacts = of_each(f"from artifacts {chosen} order by name")
    # Asked for only where there is one: a store without sweeps is told of as fast as before.
    searches = any(stored[run_id][0]["kind"] in ("sweep", "trial") for run_id in run_ids)
    sweeps = of_each(f"select *, run_id as sweep_id from sweeps {chosen}") if searches else {}
    trials = of_each(TRIALS) if searches else {}
    trial = of_each(TRIAL) if searches else {}
    ledgers = ledger.of_runs(db, run_ids)
    return [
        {
            "run_id": run_id,
            **stored[run_id][0],
            **places[run_id][0],
            "optimal_epoch": next(({"run_id": run_id, **row} for row in optimal[run_id]), None),
            "resumes": resumes[run_id],
            "epoch_rows": epochs[run_id],
            "metrics": metrics[run_id],
            "gpus": gpus[run_id],
            "phases": phases[run_id],
            "figures": figures[run_id],
            "decisions": decisions[run_id],
            "artifacts": artifacts[run_id],
            "sweep": next(iter(sweeps.get(run_id, [])), None),
            "trials": trials.get(run_id, []),
            "trial": next(iter(trial.get(run_id, [])), None),
            **ledgers[run_id],
        }
        for run_id in run_ids
    ]


def draw(run: Row) -> None:
    """All of it on stdout, the weightiest first."""
    from rich.text import Text

    console.out().print(console.facts(describe(run)))
    epochs = run["epoch_rows"]
    if epochs:
        width = min(60, console.out().width - 24)
        has_accuracy = run["metric"] == "accuracy"
        reached = [row["value"] for row in epochs]
        last = f"{percentage(reached[-1])} %" if has_accuracy else figure(reached[-1])
        spent = [row["energy_j"] for row in epochs]
        console.out().print()
        for label, line, latest in (
            ("val. accuracy" if has_accuracy else console.clean(run["metric"])[:15], bars(reached, width), last),
            ("energy an epoch", bars(spent, width, from_zero=True), marked(spent[-1], epochs[-1]["energy_source"])),
        ):
            console.out().print(Text(f"{label:<16}{line} {latest}"))
        console.out().print(console.table(epoch_columns(run), condensed(epochs, keep={run["best_epoch"]})))
    if run["trials"]:
        console.out().print()
        console.out().print(console.table(TRIAL_COLUMNS, run["trials"]))
    if run["inference"]:
        console.out().print()
        console.out().print(ledger.inference_table(run["inference"]))
    if run["children"]:
        console.out().print()
        console.out().print(ledger.children_table(run["children"], None, None))
    if run["figures"]:
        console.out().print(console.table(METRIC_COLUMNS, run["figures"]))
    if run["phases"]:
        console.out().print(console.table(PHASE_COLUMNS, run["phases"]))
    if run["decisions"]:
        console.out().print()
        console.out().print(console.table(DECISION_COLUMNS, run["decisions"]))
        for row in run["decisions"]:
            if row["against"]:
                line = console.clean(
                    f"{local(row['decided_at'])} {row['what']}: {row['why']}; against {row['against']}"
                )
                console.out().print(Text(line))
    for file in run["artifacts"]:
        line = console.clean(f"{file['path']}  {file['num_bytes']:,} bytes")
        console.out().print(Text(line), soft_wrap=True)
    explain_marks(
        {row["worst_source"] for row in run["phases"]}
        | {row["source"] for row in epochs}
        | {row["energy_source"] for row in epochs}
        | {row["source"] for row in run["trials"] if row["source"]}
        | {row["source"] for row in run["inference"]}
        | {row["measured_source"] for row in run["children"]}
    )
    if run["inference"] or run["children"]:
        console.say(ledger.SPREAD)
    ledger.explain_children(run["children"])


def epoch_columns(run: Row) -> list[Column]:
    """What the table of epochs shows: of a program that was only watched, what it said."""
    learned = {
        # A row of 80 characters has no room for it beside the intensities.
        "train_loss": Column("train loss", lambda row: figure(row["train_loss"]), wide=is_by_the_hour(run)),
        "train_accuracy": Column("train %", lambda row: percentage(row["train_accuracy"])),
        "val_loss": Column("val. loss", lambda row: figure(row["val_loss"])),
        "val_accuracy": Column("val. %", lambda row: percentage(row["val_accuracy"])),
        "value": Column(run["metric"], lambda row: figure(row["value"]), shrinks=True),
    }
    if run["metric"] == "accuracy":
        del learned["value"]
    return [
        Column("epoch", lambda row: str(row["epoch"])),
        *(column for key, column in learned.items() if any(row[key] is not None for row in run["epoch_rows"])),
        Column("energy", lambda row: marked(row["energy_j"], row["energy_source"])),
        Column("so far", lambda row: marked(row["energy_total_j"], row["source"])),
        *([Column("g/kWh", lambda row: figure(row["intensity_g_per_kwh"]))] if is_by_the_hour(run) else []),
        Column("time", lambda row: format_duration(row["duration_s"])),
    ]


def is_by_the_hour(run: Row) -> bool:
    """Whether its epochs have intensities of their own."""
    return any(row["g_per_kwh"] is not None for row in run["epoch_rows"])


def saved(decision: Row) -> str:
    """What a decision saved, or was to save, and on what that rests: never a figure alone."""
    if decision["saved_g"] is None and decision["saved_share"] is None:
        return ""
    grams = [] if decision["saved_g"] is None else [format_mass(decision["saved_g"])]
    share = [] if decision["saved_share"] is None else [f"{100 * decision['saved_share']:.0f} %"]
    return f"{', '.join(grams + share)} {decision['saved_source'] or ''}".rstrip()


def headline(run: Row) -> list[tuple[str, str]]:
    """What a run came to, in words: its accuracy and place, and where its joules and grams come from."""
    reached = {"test": run["accuracy"], "validation": run["val_accuracy"]}
    accuracy = ", ".join(f"{percentage(value)} % {split}" for split, value in reached.items() if value is not None)
    judged = run["metric"] != "accuracy" and run["value"] is not None
    is_compressed = run["kind"] == "compress"
    return [
        ("accuracy", accuracy + (f", epoch {run['best_epoch']}" if run["best_epoch"] else "")),
        (
            run["metric"],
            f"{figure(run['value'])} ({'less' if run['goal'] == 'min' else 'more'} is better)" if judged else "",
        ),
        ("rank", f"{run['rank']}, {figure(run['acc_per_kwh'])} points per kWh" if run["rank"] else ""),
        ("unranked", run["unranked"] or ""),
        ("beside them" if run["kind"] == "sweep" else "energy", energy_in_words(run)),
        ("", ledger.shares(run) if is_compressed else ""),
        *(("", part(run, name)) for name in COMPONENTS if run[f"{name}_source"]),
        ("", uncertainty(run)),
        ("", above_idle(run)),
        ("", f"{figure(run['joules_per_sample'])} J per training image" if run["joules_per_sample"] else ""),
        ("CO2e", emitted(run)),
        ("", run["intensity_note"]),
        ("time", time_in_words(run)),
    ]


def time_in_words(run: Row) -> str:
    """How long it ran, and how long it stood still for cleaner electricity."""
    waited_s = sum(phase["duration_s"] for phase in run["phases"] if phase["name"] == "wait")
    waiting = f", and {format_duration(waited_s)} of waiting" if waited_s else ""
    return f"{format_duration(run['duration_s'])}{waiting}"


def emitted(run: Row) -> str:
    """Grams, and how they come of the energy."""
    hours = f", the mean of its hours ({run['intensity_status']})" if run["intensity_level"] in BY_THE_HOUR else ""
    own = f"energy x PUE {run['pue']:g} x {run['intensity_g_per_kwh']:.3g} g/kWh{hours}"
    if run["kind"] == "compress":
        return f"{format_mass(run['co2_g'])}: its own {own}, and what its parents emitted where they were trained"
    return f"{format_mass(run['co2_g'])}: {own}"


def factor(run: Row) -> str:
    """Who says what a kWh emits, and what of: a cloud, a country, ..."""
    is_of_place = run["intensity_level"] not in (*BY_THE_HOUR, "fixed")
    return f"{run['intensity_source']}, for the {run['intensity_level']}" if is_of_place else run["intensity_source"]


def part(run: Row, name: str) -> str:
    """The joules of one component, and how they are known: the mark of the sum is that of its worst part."""
    source, kwh, method = run[f"{name}_source"], run[f"{name}_kwh"], run[f"{name}_method"]
    told = f"{name.upper()} {source if kwh is None or source == 'absent' else f'{energy_of(kwh)}, {source}'}"
    return f"{told}: {method}" if method else told


def uncertainty(run: Row) -> str:
    """What a counter may be off by; a power model has no bound."""
    if not run["error_kwh"]:
        return ""
    modelled = any(run[f"{name}_source"] == "estimated" for name in COMPONENTS)
    return f"off by {energy_of(run['error_kwh'])} at most" + " where counted; the estimated part by more" * modelled


def above_idle(run: Row) -> str:
    """Beside the total, never instead of it: the machine ran for this."""
    if run["above_idle_kwh"] is None:
        return ""
    idle = run["meter"]["idle"]
    of = "its own" if run["kind"] == "compress" else "it"
    return f"{energy_of(run['above_idle_kwh'])} of {of} above idle ({figure(idle['watts'])} W, {idle['source']})"


def describe(run: Row) -> list[tuple[str, str]]:
    """Everything about a run in words: label and text, empty where there is nothing to say."""
    optimal = run["optimal_epoch"]
    ended = run["status"] + (f", {run['stop_reason']}" if run["stop_reason"] not in (None, run["status"]) else "")
    git = run["git_commit"] and run["git_commit"][:12] + (" with changes" if run["git_dirty"] else "")
    return [
        ("run", f"{run['run_id']}  {run['name'] or ''}"),
        ("tags", " ".join(run["tags"])),
        ("note", run["note"] or ""),
        ("status", f"{ended} ({local(run['started_at'])} to {local(run['ended_at'])})"),
        ("resumed", resumed(run["resumes"]) if run["resumes"] else ""),
        *(
            [("trial", f"of sweep {run['trial']['sweep_id']}, trial {run['trial']['number']}")]
            if run["trial"]
            else [("parent", run["parent"] or "")]
        ),
        ("method", run["method"] or ""),
        *(searched(run["sweep"]) if run["sweep"] else []),
        *trained(run),
        ("place", ", ".join(filter(None, [run["country"], run["season"] and f"season {run['season']}"]))),
        *headline(run),
        *(
            (f"GPU {row['gpu']}", f"{row['device']}: {marked(row['total_j'], row['worst_source'])}")
            for row in run["gpus"]
        ),
        ("memory", memory(run)),
        ("forecast", forecast_in_words(run) if run["forecast"] else ""),
        ("meter", metered(run["meter"])),
        ("factor", factor(run)),
        *ledger.facts(run["break_even"], run["inference"], ledger.PER_DAY),
        ("hindsight", hindsight(optimal) if optimal else ""),
        ("hardware", in_words(run["hardware"])),
        ("config", in_words(run["config"])),
        ("versions", in_words(run["versions"])),
        ("packages", run["dependencies_hash"] or ""),
        ("git", git or ""),
        ("command", run["command"]),
    ]


def searched(sweep: Row) -> list[tuple[str, str]]:
    """What a sweep tried, and all that this took: the energy below is what it took beside its trials."""
    failed = f", {sweep['num_failed']} failed" if sweep["num_failed"] else ""
    known = f", and {counted(sweep['num_known'], 'earlier run')} at no cost" if sweep["num_known"] else ""
    spent = "unknown" if sweep["energy_kwh"] is None else f"{energy_of(sweep['energy_kwh'])} ({sweep['source']})"
    if sweep["energy_kwh"] is None and sweep["known_kwh"]:
        spent += f"; the known part is {energy_of(sweep['known_kwh'])}"
    wasted = f", {energy_of(sweep['wasted_kwh'])} of it for nothing" if sweep["wasted_kwh"] else ""
    grams = "" if sweep["co2_g"] is None else f", {format_mass(sweep['co2_g'])} CO2e"
    return [
        ("search", f"{sweep['sampler']}, seed {sweep['seed']}, {counted(sweep['num_trials'], 'trial')} asked for"),
        ("trials", f"{sweep['num_drawn']} drawn, {sweep['num_complete']} complete{failed}{known}"),
        ("together", f"{spent}{grams}{wasted}"),
        ("space", ", ".join(sweep["space"]["parameters"])),
    ]


def energy(kwh: float | None, source: str | None, known_kwh: float | None = None) -> str:
    """With its mark; of what is not wholly known, the known part."""
    if kwh is None and known_kwh:
        return marked(known_kwh * JOULES_PER_KWH, "unknown")
    return marked(None if kwh is None else kwh * JOULES_PER_KWH, source or "")


def one_line(reason: str | None) -> str:
    """Why a trial ended; of a traceback, its last line."""
    return (reason or "").strip().rpartition("\n")[2]


def trained(run: Row) -> list[tuple[str, str]]:
    """What was trained on what; of a program that was only watched, what it said."""
    if run["num_parameters"] is None or run["resize"] is None:
        nouns = {"num_train": "training samples", "num_val": "validation", "num_test": "test", "num_classes": "classes"}
        counts = ", ".join(f"{run[key]:,} {noun}" for key, noun in nouns.items() if run[key] is not None)
        return [("model", run["model"]), ("data", run["dataset"] + (f": {counts}" if counts else ""))]
    flops = "" if run["flops_per_sample"] is None else f", {format_flops(run['flops_per_sample'])} a sample"
    return [
        ("model", f"{run['model']}, {run['num_parameters']:,} parameters{flops}, stem {run['stem']}"),
        ("data", f"{run['dataset']}: {run['num_train']:,} + {run['num_val']:,} + {run['num_test']:,} images"),
        ("", f"{run['num_classes']} classes, {run['image_size']} px ({run['resize']})"),
        ("", f"data {run['data_hash'][:12]}, split {run['split_hash'][:12]} (split seed {run['split_seed']})"),
        ("precision", f"{run['precision']} (asked {run['precision_asked']}) on {run['device']}"),
        ("batch", batch(run)),
    ]


def metered(meter: Row) -> str:
    """Which meter, and of what; how each component is known stands beside its joules."""
    scope = {"machine": "the whole machine", "process": "the share of these processes"}
    interval = f"a reading every {meter['interval_s']:g} s" if "interval_s" in meter else ""
    ignored = f"not obeyed: {', '.join(meter['ignored'])}" if meter.get("ignored") else ""
    words = [meter.get("meter", ""), scope.get(meter.get("scope", ""), ""), interval, ignored]
    return ", ".join(filter(None, words))


def explain_marks(sources: set[str]) -> None:
    """The legend of the marks that were shown."""
    for legend in console.legends(sources):
        console.say(legend)


def resumed(resumes: list[Row]) -> str:
    """How often, when, and where in the training."""
    points = [f"in epoch {resume['epoch']} ({local(resume['started_at'])})" for resume in resumes]
    return f"{counted(len(resumes), 'time')}: {', '.join(points)}"


def batch(run: Row) -> str:
    """Images a step, and what accumulating gradients means for them."""
    size, num_batches = run["batch_size"], run["grad_accum"] or 1
    if num_batches == 1:
        return f"{size} images"
    words = f"{size} x {num_batches} = {size * num_batches:,} images a step"
    return f"{words}; {run['accumulation']}" if run["accumulation"] else words


def memory(run: Row) -> str:
    """The most that was held, in the host and on the device."""
    peaks = {"in the host": run["peak_host_bytes"], "on the GPU": run["peak_device_bytes"]}
    return ", ".join(f"up to {format_bytes(peak)} {place}" for place, peak in peaks.items() if peak is not None)


def energy_in_words(run: Row) -> str:
    if run["energy_kwh"] is not None:
        return f"{energy_of(run['energy_kwh'])} ({run['source']})"
    if run["known_kwh"]:
        return f"unknown; the known part is {energy_of(run['known_kwh'])}"
    return "unknown"


def hindsight(optimal: Row) -> str:
    saved = optimal["energy_saved_kwh"]
    words = f"epoch {optimal['epoch']} had {percentage(optimal['accuracy'])} %, within a point of the best"
    return f"{words}; after it {format_energy(saved * JOULES_PER_KWH)} more was spent" if saved else words


def forecast_in_words(run: Row) -> str:
    """What was expected before the first epoch, beside what came; of a training of the past, all that is known."""
    made = run["forecast"]
    expected, runs = made["energy_j"], counted(len(made["run_ids"]), "run")
    if expected is None:
        return f"energy unknown, from {runs}"
    (value, low, high), unit = format_alike([expected[part] for part in ("value", "low", "high")], ENERGY)
    when = "" if run["kind"] == "estimate" else " before its first epoch"
    return f"{value} {unit} ({low} to {high}){when}, from {runs} of {made['level']}"


def in_words(values: Row) -> str:
    """One line of `key value`, without what was left open."""
    told = {key: value for key, value in values.items() if value not in (None, [], {}, "")}
    return ", ".join(f"{key} {in_words(value) if isinstance(value, dict) else value}" for key, value in told.items())


def marked(joules: float | None, source: str) -> str:
    """Energy with the mark of its source."""
    return UNKNOWN if joules is None else SOURCES.get(source, ("", ""))[0] + format_energy(joules)


def condensed(epochs: list[Row], *, keep: set[int | None], most: int = 10) -> list[Row]:
    """At most about `most` epochs: the first, the last, some between at even steps, and those to `keep`."""
    step = -(-len(epochs) // most)
    last = len(epochs) - 1
    return [row for i, row in enumerate(epochs) if i % step == 0 or i == last or row["epoch"] in keep]
