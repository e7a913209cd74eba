"""`greenml train MODEL`: from flags to runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenml import config as configs
from greenml import console
from greenml.cli import scheduling
from greenml.cli.options import (
    DataDirOption,
    DeviceOption,
    IntensityOption,
    JsonOption,
    MeterOption,
    NumThreadsOption,
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
    ExitOnPauseOption,
    MaxIntensityOption,
    MaxWaitOption,
    PauseAboveOption,
    PrefetchOption,
    ResumeBelowOption,
    StaysOnOption,
    WhenGreenOption,
)
from greenml.errors import UsageError
from greenml.records import new_run_id
from greenml.units import format_flops

if TYPE_CHECKING:
    from collections.abc import Mapping

    from greenml.config import Config
    from greenml.learn.setup import Setup
    from greenml.records import Intensity
    from greenml.store import Store


def train(
    model: Annotated[
        str | None, typer.Argument(help="cnn, mobilenetv2, resnet18, or any timm name.", show_default=False)
    ] = None,
    dataset: TrainedOnOption = None,
    data_dir: DataDirOption = None,
    epochs: Annotated[int | None, flag("--epochs", metavar="N", help="How many to train at most.")] = None,
    batch_size: Annotated[int | None, flag("--batch-size", metavar="N", help="Images a step.")] = None,
    grad_accum: Annotated[
        int | None, flag("--grad-accum", metavar="N", help="Batches a step: large steps in little memory.")
    ] = None,
    lr: Annotated[float | None, flag("--lr", metavar="RATE", help="Learning rate.", default="0.002; sgd 0.05")] = None,
    optimizer: Annotated[str | None, flag("--optimizer", metavar="NAME", help="adam, adamw or sgd.")] = None,
    weight_decay: Annotated[
        float | None, flag("--weight-decay", metavar="X", help="Of the optimizer.", default="adamw 0.01; sgd 0.0005")
    ] = None,
    label_smoothing: Annotated[
        float | None, flag("--label-smoothing", metavar="X", help="Share of a label that is spread over all.")
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Half precision; on a CPU bf16 where that is faster.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="bfloat16.")] = False,
    precision: Annotated[str | None, flag("--precision", metavar="NAME", help="fp32, fp16 or bf16.")] = None,
    early_stop: Annotated[
        bool | None,
        flag("--early-stop/--no-early-stop", help="Stop when validation accuracy no longer improves.", default="off"),
    ] = None,
    patience: Annotated[int | None, flag("--patience", metavar="N", help="Epochs that --early-stop waits.")] = None,
    min_delta: Annotated[
        float | None, flag("--min-delta", metavar="X", help="What counts as improved: 0.001 is a tenth of a point.")
    ] = None,
    target_acc: Annotated[
        float | None,
        flag("--target-acc", metavar="ACC", help="Stop at this validation accuracy: 0.85, or 85 for 85 %."),
    ] = None,
    time_budget: Annotated[str | None, flag("--time-budget", metavar="TIME", help="Stop after 90s, 30m, 1.5h.")] = None,
    energy_budget: Annotated[
        str | None, flag("--energy-budget", metavar="ENERGY", help="Stop after 500J, 50Wh, 0.2kWh.")
    ] = None,
    carbon_budget: Annotated[str | None, flag("--carbon-budget", metavar="MASS", help="Stop after 20g, 0.5kg.")] = None,
    image_size: Annotated[
        int | None,
        flag(
            "--image-size",
            metavar="PX",
            help="Scale the shorter side, crop the centre.",
            default="their own up to 64, else 224; digits 16",
        ),
    ] = None,
    model_arg: Annotated[
        list[str] | None,
        typer.Option("--model-arg", metavar="KEY=VALUE", help="For the architecture, as drop_rate=0.2. Repeatable."),
    ] = None,
    val_fraction: ValFractionOption = None,
    num_threads: NumThreadsOption = None,
    device: DeviceOption = None,
    region: Annotated[str | None, region_flag(default="world average")] = None,
    intensity: IntensityOption = None,
    trace: TraceOption = None,
    trace_shift: TraceShiftOption = None,
    provider: ProviderOption = None,
    pue: PueOption = None,
    meter: MeterOption = None,
    scope: Annotated[str | None, scope_flag(whose="this training")] = None,
    tdp: TdpOption = None,
    sampling_interval: SamplingIntervalOption = None,
    require_meter: RequireMeterOption = None,
    when_green: WhenGreenOption = None,
    deadline: DeadlineOption = None,
    max_intensity: MaxIntensityOption = None,
    max_wait: MaxWaitOption = None,
    check_interval: CheckIntervalOption = None,
    pause_above: PauseAboveOption = None,
    resume_below: ResumeBelowOption = None,
    exit_on_pause: ExitOnPauseOption = None,
    stays_on: StaysOnOption = None,
    prefetch: PrefetchOption = None,
    policy: PolicyOption = None,
    log: Annotated[
        list[str] | None, typer.Option("--log", metavar="NAME", help="mlflow or wandb, beside the store. Repeatable.")
    ] = None,
    seed: Annotated[int | None, flag("--seed", metavar="N", help="Of weights, order and augmentation.")] = None,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, metavar="N", help="Train under N seeds, a run each.", show_default=False)
    ] = 1,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume", metavar="RUN", help="Go on from a run's last checkpoint; takes what stops it or holds it up."
        ),
    ] = None,
    then: Annotated[
        str | None,
        typer.Option("--then", metavar="METHODS", help="Compress what was trained: int8, or a chain as prune,int8."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="YAML with the same keys; flags win. base.yaml explains all.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[str | None, flag("--name", metavar="TEXT", help="What you call this run.")] = None,
    tag: TagsOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Resolve everything, train nothing.")] = False,
) -> None:
    """Train one model; store energy, CO2 and accuracy of every epoch."""
    flags = keys(locals())
    given = {key: value for key, value in flags.items() if value is not None}
    from greenml.cli import compress, jobs, repeating, resuming
    from greenml.store import Store, resolve_path

    chain = compress.chain_after(then) if then is not None else None
    place = Store(resolve_path(store))
    if resume is not None:
        others = {"--config": config, "--dry-run": dry_run, "--repeats": repeats > 1, "--then": then}
        resuming.refuse(given, [name for name, is_given in others.items() if is_given])
        place.check()
        run_id = place.run_id(resume)
        with place.claim(run_id) as folder:
            jobs.carry_out(resuming.take_up(place, run_id, given), place, folder, quiet=quiet, json=json)
        return
    from greenml import energy, trackers
    from greenml.energy.meters import open_sensor
    from greenml.grid import accounting
    from greenml.grid.series import now

    asked = scheduling.settled(configs.resolve(flags, config), now())
    scheduling.refuse_leaving(asked.schedule, repeats=repeats, then=then)
    trackers.check(asked.log)
    open_sensor(energy.Settings.of(asked))  # a mistyped name is said before anything begins
    factor = accounting.intensity_of(asked)
    accounting.series_of(asked, now())
    if dry_run:
        _show_plan(asked, factor, place, json=json)
        if repeats > 1:
            console.say(f"the same under {repeats} seeds, from {asked.seed} on")
        return
    place.check()
    if repeats > 1:
        seeds = range(asked.seed, asked.seed + repeats)
        repeating.repeat(place, seeds, json=json, quiet=quiet, deadline=asked.schedule.deadline)
        return
    job = jobs.Job(run_id=new_run_id(), config=asked, intensity=factor)
    with place.claim(job.run_id) as folder:
        jobs.carry_out(job, place, folder, quiet=quiet, json=json, goes_on=chain is not None)
    if chain:
        compress.after_training(place, job.run_id, chain, json=json, quiet=quiet)


def keys(given: Mapping[str, Any]) -> dict[str, Any]:
    """Flags by the names of the parameters of `train` -> config keys; None where a flag was not given."""
    return {key: given[key] for key in configs.KEYS if key in given} | {
        "precision": _one_precision(given["precision"], fp16=given["fp16"], bf16=given["bf16"]),
        "model_args": _pairs(given["model_arg"]),
        "log": given["log"] or None,
        "tags": given["tag"] or None,
        "schedule": scheduling.keys(given),
    }


def _one_precision(precision: str | None, *, fp16: bool, bf16: bool) -> str | None:
    named = {name for name, given in (("fp16", fp16), ("bf16", bf16), (precision, precision)) if given and name}
    if len(named) > 1:
        raise UsageError(
            f"two precisions asked for: {' and '.join(sorted(named))}", hint="give one of --fp16, --bf16, --precision"
        )
    return named.pop() if named else None


def _pairs(given: list[str] | None) -> dict[str, Any] | None:
    import yaml

    pairs = {}
    for pair in given or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--model-arg {pair}: not KEY=VALUE", hint="as in --model-arg drop_rate=0.2")
        try:
            pairs[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UsageError(
                f"--model-arg {pair}: `{value}` is no value", hint="as in --model-arg drop_rate=0.2"
            ) from None
    return pairs or None


def prepared(config: Config) -> Setup:
    """Everything of a training but the training: reads the data and builds the model, saying what it falls back to."""
    from greenml.learn import precision
    from greenml.learn.setup import prepare

    return console.told(prepare(config, precision.pick_device(config.device)))


def _show_plan(config: Config, intensity: Intensity, store: Store, *, json: bool) -> None:
    """What would be trained, with every open choice made, and what it would take. Stores nothing."""
    import dataclasses

    from greenml.cli import forecasts, gate
    from greenml.grid.series import now

    setup = prepared(config)
    run = forecasts.planned(setup)
    made = forecasts.before(store, run, setup.config, intensity)
    planner = scheduling.foreseen(setup.config, store, intensity, made)
    decisions = [*planner.decisions()] if planner else []
    if json:
        plan = {**dataclasses.asdict(setup.config), **setup.facts, "intensity": dataclasses.asdict(intensity)}
        foreseen = {"forecast": made and made.to_plain(), "decisions": [dataclasses.asdict(one) for one in decisions]}
        console.print_json([plan | foreseen])
        return
    flops = format_flops(setup.facts["flops_per_sample"])
    console.say(intensity.note)
    console.say(f"{setup.facts['num_parameters']:,} parameters, {flops} a sample; nothing is trained or stored")
    if made is None:
        console.say(forecasts.unknown(made, run, config, store))
    else:
        begins = (planner and planner.hold and planner.hold.until) or now()
        for label, text in forecasts.in_words(made, *forecasts.priced(made, config, intensity, begins)):
            console.say(f"{label:<8}{text}")
    if planner:
        gate.say_foreseen(planner, decisions, width=8)
    print(configs.dump(setup.config), end="")
