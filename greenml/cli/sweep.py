"""`greenml sweep`: search the front of accuracy and CO2; and what there is to say of searches that were made."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenml import config as configs
from greenml import console
from greenml.cli.options import (
    DataDirOption,
    DeviceOption,
    IntensityOption,
    JsonOption,
    MeterOption,
    ProviderOption,
    PueOption,
    QuietOption,
    RequireMeterOption,
    SamplingIntervalOption,
    StoreOption,
    TagsOption,
    TdpOption,
    TraceOption,
    TraceShiftOption,
    TrainedOnOption,
    ValFractionOption,
    flag,
    region_flag,
    scope_flag,
)
from greenml.cli.policing import PolicyOption
from greenml.cli.scheduling import (
    CheckIntervalOption,
    DeadlineOption,
    DurationOption,
    ExitOnPauseOption,
    MaxIntensityOption,
    MaxWaitOption,
    PauseAboveOption,
    ResumeBelowOption,
    StaysOnOption,
    WhenGreenOption,
)
from greenml.console import counted
from greenml.errors import StoreError, UsageError, nearest
from greenml.records import new_run_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from greenml.grid.planner import Planner
    from greenml.store import Store
    from greenml.sweep.search import Past, Plan
    from greenml.sweep.space import Space

    Row = dict[str, Any]

EXAMPLES = """\
\b
Examples:
  greenml sweep --dataset digits --trials 12 --epochs-max 10
  greenml sweep --models cnn,resnet18 --carbon-budget 50g
  greenml sweep --dry-run                       the space as a file, and the plan
  greenml sweep --resume 3f2a                   go on after Ctrl-C or kill -9
  greenml sweep export 3f2a study.db            then: optuna-dashboard sqlite:///study.db
"""
NUM_TRIALS = 30
BUDGETS = tuple(configs.UNITS)
MOST_KNOWN = 3
"""Earlier runs are at most one in so many of the first generation's trials: the rest of it is for what is new."""

app = typer.Typer(
    help="Search the front of accuracy and CO2 over models, precision and hyper-parameters.",
    rich_markup_mode=None,
    invoke_without_command=True,
    epilog=EXAMPLES,
)

StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="The first digits of its id, or its name.")]


@app.callback()
def sweep(
    context: typer.Context,
    trials: Annotated[
        int | None, flag("--trials", min=1, metavar="N", help="How many to draw.", default=str(NUM_TRIALS))
    ] = None,
    models: Annotated[
        str | None,
        flag("--models", metavar="A,B", help="Architectures, in place of the space's.", default="those of the space"),
    ] = None,
    space: Annotated[
        Path | None, flag("--space", metavar="FILE", help="YAML in Optuna's terms.", default="sweep.yaml that ships")
    ] = None,
    sampler: Annotated[
        str | None, flag("--sampler", metavar="NAME", help="nsga2, tpe, gp or random.", default="nsga2")
    ] = None,
    epochs: Annotated[
        int | None, flag("--epochs-max", min=1, metavar="N", help="The most that one trial trains.", default="20")
    ] = None,
    early_stop: Annotated[
        bool | None,
        flag(
            "--early-stop/--no-early-stop",
            help="Stop a trial that can no longer reach the front, by an optimist's bound.",
            default="on",
        ),
    ] = None,
    time_budget: Annotated[
        str | None, flag("--time-budget", metavar="TIME", help="Of the whole search: 90s, 30m, 1.5h.")
    ] = None,
    energy_budget: Annotated[
        str | None, flag("--energy-budget", metavar="ENERGY", help="Of the whole search: 500J, 50Wh, 0.2kWh.")
    ] = None,
    carbon_budget: Annotated[
        str | None, flag("--carbon-budget", metavar="MASS", help="Of the whole search: 20g, 0.5kg.")
    ] = None,
    workers: Annotated[
        int | None,
        flag("--workers", min=1, metavar="N", help="Trials at a time, a process each.", default="one, or one a GPU"),
    ] = None,
    cluster: Annotated[
        str | None,
        flag("--cluster", metavar="ADDRESS", help="Of a Dask scheduler, tcp://HOST:PORT, or local.", default="none"),
    ] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="STUDY", help="Go on with a search.", show_default=False)
    ] = None,
    dataset: TrainedOnOption = None,
    data_dir: DataDirOption = None,
    image_size: Annotated[
        int | None,
        flag("--image-size", metavar="PX", help="Of all trials.", default="their own up to 64, else 224; digits 16"),
    ] = None,
    val_fraction: ValFractionOption = None,
    num_threads: Annotated[
        int | None, flag("--num-threads", metavar="N", help="CPU threads of a trial.", default="as PyTorch takes")
    ] = None,
    device: DeviceOption = None,
    region: Annotated[str | None, region_flag(default="world average")] = None,
    intensity: IntensityOption = None,
    trace: TraceOption = None,
    trace_shift: TraceShiftOption = None,
    provider: ProviderOption = None,
    pue: PueOption = None,
    meter: MeterOption = None,
    scope: Annotated[str | None, scope_flag(whose="each trial")] = None,
    tdp: TdpOption = None,
    sampling_interval: SamplingIntervalOption = None,
    require_meter: RequireMeterOption = None,
    when_green: WhenGreenOption = None,
    duration: DurationOption = None,
    deadline: DeadlineOption = None,
    max_intensity: MaxIntensityOption = None,
    max_wait: MaxWaitOption = None,
    check_interval: CheckIntervalOption = None,
    pause_above: PauseAboveOption = None,
    resume_below: ResumeBelowOption = None,
    exit_on_pause: ExitOnPauseOption = None,
    stays_on: StaysOnOption = None,
    policy: PolicyOption = None,
    seed: Annotated[int | None, flag("--seed", metavar="N", help="Of the draws, and of every trial.")] = None,
    name: Annotated[str | None, flag("--name", metavar="TEXT", help="What you call this search.")] = None,
    tag: TagsOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the space as a file, and the plan; search nothing.")
    ] = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Search the front of accuracy and CO2 over models, precision and hyper-parameters.

    Every epoch of every trial is a point, and the search is charged for all that it took.
    """
    if context.invoked_subcommand is not None:
        if given_before := [name for name in context.params if _is_typed(context, name)]:
            raise UsageError(
                f"--{given_before[0].replace('_', '-')} does nothing before `{context.invoked_subcommand}`",
                hint=f"`greenml sweep {context.invoked_subcommand} --help` shows what it takes",
            )
        return
    flags = {**locals(), "tags": tag or None}
    given = {key: flags[key] for key in configs.KEYS if key in flags and key not in (*BUDGETS, "early_stop")}
    given = {key: value for key, value in given.items() if value is not None}
    budgets = {key: flags[key] for key in BUDGETS if flags[key] is not None}
    from greenml.cli import gate, searching, searchpast
    from greenml.store import Store, resolve_path

    db = Store(resolve_path(store))
    asked = _Asked(
        trials=trials, models=models, space=space, sampler=sampler, stops_early=early_stop, workers=workers,
        given=given, limits=_limits(budgets),
    )  # fmt: skip
    if resume is not None:
        if dry_run:
            raise UsageError("--dry-run of a search that was begun", hint="`greenml sweep show` shows it")
        db.check()
        row = searchpast.study(db, resume)
        with db.claim(row["run_id"]):
            plan, past = _taken_up(db, searchpast.study(db, row["run_id"]), asked)
            left_s = plan.limits.get("time_budget", math.inf) - past.duration_s
            how = _how(plan, left_s, segment=past.segment)
            opened = gate.pass_through("sweep", flags, plan.base, plan.intensity, db, **how)
            quest = searching.Quest(
                plan=plan, past=past, workers=workers, cluster=cluster, opened=opened, numbers=how["numbers"]
            )
            searching.carry_out(quest, db, quiet=quiet, json=json)
        return
    plan = _planned(db, asked)
    how = _how(plan, plan.limits.get("time_budget", math.inf))
    if dry_run:
        planner = gate.foresee("sweep", flags, plan.base, plan.intensity, db, duration=how["duration"])
        scope = "process" if _shares_a_machine(plan, workers, cluster) else plan.base.scope
        _show(_looked_around(db, plan, scope), workers, cluster, planner, json=json)
        return
    db.check()
    opened = gate.pass_through("sweep", flags, plan.base, plan.intensity, db, **how)
    quest = searching.Quest(
        plan=plan,
        opened=opened,
        numbers=how["numbers"],
        workers=workers,
        cluster=cluster,
        look_around=lambda plan, scope: _looked_around(db, plan, scope),
    )
    with db.claim(plan.run_id):
        searching.carry_out(quest, db, quiet=quiet, json=json)


def _how(plan: Plan, left_s: float, *, segment: int = 0) -> dict[str, Any]:
    """How the gate asks for a search: where it has a time budget, that is how long it takes."""
    duration = None if math.isinf(left_s) else timedelta(seconds=max(left_s, 0.0))
    return {"run_id": plan.run_id, "segment": segment, "duration": duration, "numbers": itertools.count()}


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Asked:
    """What was typed; None and empty where nothing was."""

    trials: int | None
    models: str | None
    space: Path | None
    sampler: str | None
    stops_early: bool | None
    workers: int | None
    given: Mapping[str, Any]
    """By config key, what all trials share."""
    limits: Mapping[str, float]


def _limits(budgets: Mapping[str, str]) -> dict[str, float]:
    """Budgets as typed -> seconds, joules and grams. Raises UsageError."""
    from greenml.run import limits

    return limits(configs.validate({"model": "cnn", **budgets})) if budgets else {}


def _space(asked: _Asked) -> Space:
    """The space that was asked for. Raises UsageError."""
    from greenml.sweep import space as spaces

    found = spaces.read(asked.space)
    if asked.models is not None:
        names = [name.strip() for name in asked.models.split(",") if name.strip()]
        if not names or len(set(names)) < len(names):
            raise UsageError(f"--models {asked.models}: not a list of different models", hint="as in cnn,resnet18")
        found = spaces.with_models(found, names)
    if not found.models:
        raise UsageError("the space names no model", hint="add `model:` to it, or give --models cnn,resnet18")
    for key in asked.given:
        if any(part.key == key for part in found.parameters):
            name = key.replace("_", "-")
            raise UsageError(f"--{name}: the space searches `{key}`", hint="leave out one of the two")
    return found


def _sampler(name: str) -> Any:
    from greenml.sweep.space import SAMPLERS

    if name not in SAMPLERS:
        otherwise = f"greenml draws by {', '.join(SAMPLERS)}"
        raise UsageError(f"unknown sampler `{name}`", hint=nearest(name, SAMPLERS, otherwise=otherwise))
    return name


def _planned(db: Store, asked: _Asked) -> Plan:
    """A new search, as far as flags say it. Raises UsageError."""
    space, sampler = _space(asked), _sampler(asked.sampler or "nsga2")
    if (asked.workers or 1) > 1 and asked.given.get("scope") == "machine":
        raise UsageError(
            "several trials at a time would each count the whole machine", hint="--scope process gives each its share"
        )
    base = configs.validate({"model": space.models[0], **asked.given})
    from greenml import energy
    from greenml.energy import survey
    from greenml.energy.meters import open_sensor
    from greenml.grid import accounting
    from greenml.grid.series import now
    from greenml.sweep.search import Plan

    open_sensor(energy.Settings.of(base))  # a mistyped name is said before anything begins
    intensity = accounting.intensity_of(base)
    accounting.series_of(base, now())
    _refuse_unknown_models(space)
    return Plan(
        run_id=new_run_id(),
        space=space,
        sampler=sampler,
        num_trials=asked.trials or NUM_TRIALS,
        seed=base.seed,
        base=base,
        intensity=intensity,
        settings=energy.Settings.of(base, idle=db.idle(survey.machine)),
        limits=dict(asked.limits),
        stops_early=asked.stops_early is not False,
    )


def _taken_up(db: Store, row: Row, asked: _Asked) -> tuple[Plan, Past]:
    """A claimed search -> what is left of it. Raises UsageError where it would be another, and where nothing is."""
    from greenml import energy
    from greenml.cli import searchpast
    from greenml.energy import survey
    from greenml.run import budget_rule
    from greenml.sweep import space as spaces
    from greenml.sweep.search import Plan

    begun = spaces.parse(row["space"])
    base = searchpast.stored_base(row)
    intensity = searchpast.stored_intensity(db, row["run_id"])
    plan = Plan(
        run_id=row["run_id"],
        space=begun if asked.space is None and asked.models is None else _space(asked),
        sampler=_sampler(asked.sampler or row["sampler"]),
        num_trials=asked.trials or row["num_trials"],
        seed=row["seed"],
        base=base,
        intensity=intensity,
        settings=energy.Settings.of(base, idle=db.idle(survey.machine)),
        limits={**row["limits"], **asked.limits},
        stops_early=row["stops_early"] if asked.stops_early is None else asked.stops_early,
        floor=row["floor"],
    )
    searchpast.refuse_changes(row, plan, asked.given)
    past = searchpast.past(db, row["run_id"], intensity, base.epochs)
    own = [trial for trial, _ in past.trials if trial.origin is None]
    if len(own) >= plan.num_trials and all(trial.state != "running" for trial in own):
        raise UsageError(
            f"search {row['run_id']} is done: {counted(len(own), 'trial')}",
            hint="--trials with a larger number goes on",
        )
    if spent := budget_rule(plan.limits, lambda _: past.grams(intensity), past.duration_s, past.joules):
        raise UsageError(f"search {row['run_id']} has spent its {spent}", hint=f"a larger --{spent} goes on")
    return plan, past


def _looked_around(db: Store, plan: Plan, scope: str) -> Plan:
    """With what the data and the store say: the name of the data, and earlier runs on them that lie in the space."""
    from greenml.cli import searchpast
    from greenml.sweep import sampler

    data = searchpast.look_at(plan.base, console.say)
    base = dataclasses.replace(plan.base, dataset=data.name)
    most = max(sampler.population(plan.num_trials) // MOST_KNOWN, 1)
    known = searchpast.known(db, plan.space, base, data, plan.intensity, scope=scope, most=most)
    # Where there is no store yet it is a dry run, which asks for no floor.
    floors = db.rows("select learning_floor(?, ?) as floor", [data.num_val, data.guessed])
    floor = floors[0]["floor"] if floors else plan.floor
    return dataclasses.replace(
        plan, base=base, known=known, data_hash=data.data_hash, split_hash=data.split_hash, floor=floor
    )


def _refuse_unknown_models(space: Space) -> None:
    """A mistyped name is said now, and not by a trial that fails."""
    from greenml.learn import models

    for name in space.models:
        models.resolve_name(name)


# What is said of a plan


def _show(plan: Plan, workers: int | None, cluster: str | None, planner: Planner | None, *, json: bool) -> None:
    """The space as a file, how it would be searched, and what the `planner`, asked once, waits for. Stores nothing."""
    import yaml

    from greenml.cli import gate
    from greenml.sweep import sampler

    decisions = [*planner.decisions()] if planner else []
    if json:
        facts = {
            "space": plan.space.to_plain(),
            "sampler": plan.sampler,
            "num_trials": plan.num_trials,
            "seed": plan.seed,
            "base": dataclasses.asdict(plan.base),
            "limits": plan.limits,
            "stops_early": plan.stops_early,
            "known": [known.run_id for known in plan.known],
            "num_workers": _num_workers(plan, workers, cluster),
            "cluster": cluster,
            "intensity": dataclasses.asdict(plan.intensity),
            "decisions": [dataclasses.asdict(one) for one in decisions],
        }
        console.print_json([facts])
        return
    generation = f", {sampler.population(plan.num_trials)} a generation" if plan.sampler == "nsga2" else ""
    said = {
        "trials": f"{plan.num_trials} by {plan.sampler}{generation}, up to {counted(plan.base.epochs, 'epoch')} each, "
        f"seed {plan.seed}",
        "data": plan.base.dataset,
        "at a time": _at_a_time(plan, workers, cluster),
        "stops": "trials that can no longer reach the front" if plan.stops_early else "no trial before its last epoch",
        "limits": ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in plan.limits.items()) or "none",
        "known": ", ".join(known.run_id for known in plan.known) or "no earlier run lies in the space",
        "first": counted(len(plan.space.enqueue), "trial") + " named by the space",
    }
    console.say(f"{plan.intensity.note}; nothing is searched or stored")
    for label, text in said.items():
        console.say(f"{label:<10}{text}")
    if planner:
        gate.say_foreseen(planner, decisions, width=10)
    print(yaml.safe_dump(_file(plan.space), sort_keys=False, allow_unicode=True), end="")


def _num_workers(plan: Plan, workers: int | None, cluster: str | None) -> int | None:
    """Trials at a time; None where only the cluster can tell."""
    from greenml.sweep import crew

    if workers or cluster:
        return workers
    return max(len(crew.visible_gpus(None if plan.base.device == "auto" else plan.base.device)), 1)


def _shares_a_machine(plan: Plan, workers: int | None, cluster: str | None) -> bool:
    """Whether several trials at a time run here; what a cluster of somebody else's does only it can tell."""
    return cluster in (None, "local") and (_num_workers(plan, workers, cluster) or 1) > 1


def _at_a_time(plan: Plan, workers: int | None, cluster: str | None) -> str:
    number = _num_workers(plan, workers, cluster)
    whose = "its share of this machine" if _shares_a_machine(plan, workers, cluster) else f"its {plan.base.scope}"
    return f"{number or 'as many as the cluster has'}, each with the energy of {whose}"


def _file(space: Space) -> dict[str, Any]:
    """A space as people write it: without what is not said, and without a list of one case."""
    plain = space.to_plain()
    cases = {
        key: [{term: value for term, value in entry.items() if value not in (None, {}, False)} for entry in entries]
        for key, entries in plain["parameters"].items()
    }
    parameters = {key: entries[0] if len(entries) == 1 else entries for key, entries in cases.items()}
    return {**plain, "parameters": parameters}


# Searches that were made


@app.command("list")
def list_searches(json: JsonOption = False, store: StoreOption = None) -> None:
    """List the searches, newest first."""
    from greenml.cli import portrait, searchresult
    from greenml.store import Store, resolve_path

    db = Store(resolve_path(store))
    rows = db.rows("from sweeps order by started_at desc, run_id")
    if json:
        console.print_json(rows)
    elif rows:
        console.out().print(console.table(searchresult.LIST_COLUMNS, rows))
        portrait.explain_marks({row["source"] for row in rows} - {None})
    else:
        console.say(f"no searches in {db.path}")
        console.say("hint: greenml sweep --dataset digits --trials 12")


@app.command()
def show(study: StudyArgument, json: JsonOption = False, store: StoreOption = None) -> None:
    """Show a search: its trials, its front, what it took and when that has paid."""
    from greenml.cli import searchpast, searchresult
    from greenml.store import Store, resolve_path

    db = Store(resolve_path(store))
    row = searchpast.study(db, study)
    trials = db.rows(searchresult.TRIALS, [row["run_id"]])
    if json:
        savings = db.rows("from sweep_savings where sweep_id = ?", [row["run_id"]])
        front = db.rows(searchresult.FRONT, [row["run_id"]])
        console.print_json([{**row, "trials": trials, "front": front, "savings": savings[0] if savings else None}])
        return
    if trials:
        console.out().print(console.table(searchresult.TRIAL_COLUMNS, searchresult.settled(row, trials)))
        console.out().print()
    searchresult.draw(db, row)


@app.command()
def export(
    study: StudyArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new SQLite file: study.db.")],
    store: StoreOption = None,
) -> None:
    """Write a search as an Optuna study, which optuna-dashboard opens."""
    from greenml.cli import searchpast, searchresult
    from greenml.store import Store, resolve_path

    db = Store(resolve_path(store))
    row = searchpast.study(db, study)
    if file.exists():
        raise UsageError(f"{file} is already there", hint="name a new file")
    if not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise StoreError(f"{file} cannot be written", hint="choose another file")
    from greenml.sweep import sampler

    facts = {
        fact["number"]: {key: fact[key] for key in EXPORTED if fact[key] is not None}
        for fact in db.rows(searchresult.TRIALS, [row["run_id"]])
    }
    intensity, base = searchpast.stored_intensity(db, row["run_id"]), searchpast.stored_base(row)
    told = searchpast.trials(db, row["run_id"], intensity, base.epochs)
    sampler.export(file, row["name"] or row["run_id"], [(trial, points, facts[trial.number]) for trial, points in told])
    console.say(f"{counted(len(told), 'trial')} are in {file}; to look at it: optuna-dashboard sqlite:///{file}")


EXPORTED = (
    "run_id", "model", "precision", "epochs", "accuracy", "energy_kwh", "co2_g", "source", "reason", "origin",
)  # fmt: skip
"""Of a trial, beside what Optuna knows: its user attributes."""
