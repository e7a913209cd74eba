"""`greenml train MODEL`: one run, from flags to its files."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from greenml import config as configs
from greenml import console
from greenml.cli.options import JsonOption, StoreOption
from greenml.cli.screen import Screen
from greenml.errors import StoreError, UsageError
from greenml.records import Artifact, Notice, Progress, Run, RunEnd, new_run_id
from greenml.units import JOULES_PER_KWH, format_energy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from greenml.config import Config
    from greenml.records import Intensity, Stored
    from greenml.store import Store

INTERRUPTED = 130

WRITE_EVERY_S = 1.0


def flag(*names: str, help: str, default: str | None = None, metavar: str | None = None) -> Any:
    """An option that is None unless given, so that a config file comes before the default that its help shows."""
    shown = default or configs.DEFAULTS.get(names[0].removeprefix("--").replace("-", "_"))
    return typer.Option(*names, help=f"{help} [{shown}]" if shown is not None else help, metavar=metavar)


def train(
    model: Annotated[
        str | None, typer.Argument(help="cnn, mobilenetv2, resnet18, or any timm name.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None, flag("--dataset", metavar="NAME", help="digits, folder:PATH or parquet:PATH.")
    ] = None,
    epochs: Annotated[int | None, flag("--epochs", metavar="N", help="How many to train at most.")] = None,
    batch_size: Annotated[int | None, flag("--batch-size", metavar="N", help="Images a step.")] = None,
    lr: Annotated[float | None, flag("--lr", metavar="RATE", help="Learning rate.", default="0.002; sgd 0.05")] = None,
    optimizer: Annotated[str | None, flag("--optimizer", metavar="NAME", help="adam, adamw or sgd.")] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Half precision; on a CPU bf16 where that is faster.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="bfloat16.")] = False,
    precision: Annotated[str | None, flag("--precision", metavar="NAME", help="fp32, fp16 or bf16.")] = None,
    early_stop: Annotated[
        bool | None,
        flag("--early-stop/--no-early-stop", help="Stop when validation accuracy no longer improves.", default="off"),
    ] = None,
    patience: Annotated[int | None, flag("--patience", metavar="N", help="Epochs that --early-stop waits.")] = None,
    target_acc: Annotated[
        float | None,
        flag("--target-acc", metavar="ACC", help="Stop at this validation accuracy: 0.85, or 85 for 85 %."),
    ] = None,
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
    device: Annotated[str | None, flag("--device", metavar="NAME", help="auto, cpu, cuda or mps.")] = None,
    region: Annotated[
        str | None,
        flag(
            "--region",
            metavar="CODE",
            help="Whose grid: IN, IND, IN-TN, US-CA, asia-south1, ...",
            default="world average",
        ),
    ] = None,
    seed: Annotated[int | None, flag("--seed", metavar="N", help="Of weights, order and augmentation.")] = None,
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
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="Repeatable.")] = None,
    store: StoreOption = None,
    json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress: the result only.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Resolve everything, train nothing.")] = False,
) -> None:
    """Train one model, and write energy, CO2 and accuracy of every epoch into the store."""
    flags = {
        "model": model,
        "dataset": dataset,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "optimizer": optimizer,
        "precision": _one_precision(precision, fp16=fp16, bf16=bf16),
        "early_stop": early_stop,
        "patience": patience,
        "target_acc": target_acc,
        "image_size": image_size,
        "model_args": _pairs(model_arg),
        "device": device,
        "region": region,
        "seed": seed,
        "name": name,
        "tags": tag or None,
    }
    asked = configs.resolve(flags, config)
    from greenml import grid
    from greenml.cli import runs
    from greenml.store import Store, resolve_path

    intensity = grid.resolve(asked.region)
    if dry_run:
        _show_plan(asked, intensity, json=json)
        return
    place = Store(resolve_path(store))
    place.check()
    run_id = new_run_id()
    with place.claim(run_id) as folder, Screen(folder, asked.epochs, intensity, quiet=quiet) as screen:
        status = _train(asked, intensity, run_id, place, folder, screen)
        if waiting := place.spooled():
            raise StoreError(
                f"{place.path}: {waiting} rows of run {run_id} are not stored yet",
                hint="they wait in the spool beside it: the next greenml command that writes adds them",
            )
        known = runs.everything(place, run_id)
        try:
            trouble = _leave_files(place, known, folder)
        except OSError as error:
            trouble = f"not all files of this run could be written: {error}"
        if trouble:
            screen.note(trouble, always=True)
    if json:
        console.print_json(place.rows("from leaderboard where run_id = ?", [run_id]))
    else:
        console.out().print(console.facts([("run", run_id), *runs.headline(known), ("files", f"{folder}/")]))
    if status == "interrupted":
        raise SystemExit(INTERRUPTED)


def _train(config: Config, intensity: Intensity, run_id: str, store: Store, folder: Path, screen: Screen) -> str:
    """Run it, storing and showing every record as it comes; the status it ended with."""
    from greenml import energy, run

    screen.note(f"run {run_id} · {intensity.note}")
    status, pending, written = "failed", cast("list[Stored]", []), time.monotonic()
    with _until_interrupted(screen.note) as (interrupted, begun), energy.open_meter(run_id) as meter:
        for record in run.train(config, meter, intensity, run_id=run_id, folder=folder, interrupted=interrupted):
            screen.show(record)
            if isinstance(record, Run):
                begun()
            if isinstance(record, Progress | Notice):
                continue
            pending.append(record)
            # An epoch of digits takes 0.2 s and a write 30 ms: rows of short epochs travel together.
            if isinstance(record, Run | RunEnd) or time.monotonic() - written >= WRITE_EVERY_S:
                store.write(pending)
                pending, written = [], time.monotonic()
            if isinstance(record, RunEnd):
                status = record.status
        if meter.trouble:
            screen.note(f"the meter fell silent: {meter.trouble}; what it missed is unknown")
        if meter.deaf:
            screen.note(f"whether another run shared this machine is not known: {meter.deaf}")
    return status


@contextmanager
def _until_interrupted(note: Callable[[str], None]) -> Iterator[tuple[Callable[[], bool], Callable[[], None]]]:
    """Ctrl-C and SIGTERM end the run after the batch in hand, a second one at once.

    Gives what a run asks after every batch, and what to call once there is a run: before that, the first one counts.
    """
    asked, has_begun = threading.Event(), threading.Event()

    def handle(number: int, frame: object) -> None:  # noqa: ARG001
        if asked.is_set() or not has_begun.is_set():
            raise KeyboardInterrupt
        asked.set()
        note("stopping after this batch; once more to stop at once")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set, has_begun.set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
        pairs[key] = yaml.safe_load(value)
    return pairs or None


def _show_plan(config: Config, intensity: Intensity, *, json: bool) -> None:
    """What would be trained, with every open choice made. Reads the data and builds the model; stores nothing."""
    import dataclasses

    from greenml.learn import precision
    from greenml.learn.setup import prepare

    steps = prepare(config, precision.pick_device(config.device))
    while True:
        try:
            step = next(steps)
        except StopIteration as finished:
            setup = finished.value
            break
        if isinstance(step, Notice):
            console.say(step.text)
    if json:
        console.print_json(
            [{**dataclasses.asdict(setup.config), **setup.facts, "intensity": dataclasses.asdict(intensity)}]
        )
        return
    console.say(f"{intensity.note}\n{setup.facts['num_parameters']:,} parameters; nothing is trained or stored:")
    print(configs.dump(setup.config), end="")


def _leave_files(store: Store, known: dict[str, Any], folder: Path) -> str | None:
    """Epochs, summary and curves out of what is known of the run, and the list of all files into the store.

    What could not be made is said in words: a training that is over does not fail for want of a picture.
    """
    from greenml import exchange

    epochs = known["epoch_rows"]
    exchange.write_csv(folder / "epochs.csv", epochs)
    exchange.write_json(folder / "epochs.json", console.plain(epochs))
    summary = {key: value for key, value in known.items() if key != "artifacts"}  # the files are only being made
    exchange.write_json(folder / "summary.json", console.plain(summary))
    trouble = None if epochs else "no epoch was finished: no curves"
    if epochs:
        try:
            _draw_curves(folder / "curves.png", known)
        except (ImportError, ValueError) as error:  # Altair says by ValueError that vl-convert is missing
            trouble = f"no curves were drawn: {error}"
    files = sorted(file for file in folder.iterdir() if file.name != "lock")
    relative = folder.relative_to(store.path.parent)
    store.write(
        Artifact(
            run_id=known["run_id"],
            name=file.name,
            path=(relative / file.name).as_posix(),
            num_bytes=file.stat().st_size,
        )
        for file in files
    )
    return trouble


def _draw_curves(path: Path, run: dict[str, Any]) -> None:
    from greenml import plots

    accuracy = "" if run["accuracy"] is None else f"{console.percentage(run['accuracy'])} % test accuracy, "
    energy = (
        "energy unknown"
        if run["energy_kwh"] is None
        else f"{format_energy(run['energy_kwh'] * JOULES_PER_KWH)} ({run['source']})"
    )
    chart = plots.curves(
        run["epoch_rows"],
        title=f"{run['model']} on {run['dataset']}",
        subtitle=f"{accuracy}{energy}, {run['precision']} on {run['device']}, run {run['run_id']}",
        best_epoch=run["best_epoch"],
    )
    plots.save_png(chart, path)
