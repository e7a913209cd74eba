"""`greenml track -- COMMAND`: any program under the meter."""

from __future__ import annotations

import itertools
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from greenml import console
from greenml.cli import afterwards, portrait, watching
from greenml.cli.options import (
    IntensityOption,
    MeterOption,
    ProviderOption,
    PueOption,
    RequireMeterOption,
    SamplingIntervalOption,
    StoreOption,
    TdpOption,
    TraceOption,
    TraceShiftOption,
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
    StaysOnOption,
    WhenGreenOption,
)
from greenml.errors import GreenMLError, UsageError
from greenml.records import new_run_id

if TYPE_CHECKING:
    from greenml.store import Store
    from greenml.tracking.command import Ended

METRICS_FILE = Path("metrics.json")
MIN_INTERVAL_S, MAX_INTERVAL_S = 1.0, 8.0

EXAMPLES = """\
\b
The command's streams, signals and exit code are its own. Its environment has
  GREENML_METRICS  a file to which it may append JSON objects, one a line:
                   {"epoch": 1, "val_accuracy": 0.81, "train_loss": 0.6}
                   {"epoch": 0} leaves what came before out of the first epoch
                   "schedule_complete": true where a run of so many epochs would
                   have ended like this; only such epochs are on the front
  GREENML_RUN_ID   the run that it is part of
It may also write a metrics.json, with the same keys. For example:
  greenml track --model mlp --dataset wine --region IN -- python train.py
  greenml track --dataset sales --metric rmse -- sh -c "./prepare | ./fit"
"""


def track(
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND...", help="The program and its arguments.", show_default=False)
    ],
    model: Annotated[
        str | None,
        flag("--model", metavar="NAME", help="What is trained.", default="$GREENML_MODEL, or the command's name"),
    ] = None,
    dataset: Annotated[
        str | None, flag("--dataset", metavar="NAME", help="On what.", default="$GREENML_DATASET, or unknown")
    ] = None,
    season: Annotated[
        str | None, flag("--season", metavar="TEXT", help="For the record.", default="$GREENML_SEASON, or unknown")
    ] = None,
    tags: Annotated[
        list[str] | None, flag("--tag", metavar="TAG", help="Repeatable.", default="$GREENML_TAGS, with commas")
    ] = None,
    name: Annotated[
        str | None, flag("--name", metavar="TEXT", help="What you call this run.", default="$GREENML_NAME")
    ] = None,
    metric: Annotated[
        str | None,
        flag(
            "--metric",
            metavar="NAME[:max|min]",
            help="What the run is judged by.",
            default="accuracy, else the first known name that the program writes",
        ),
    ] = None,
    metrics_file: Annotated[
        Path | None,
        flag(
            "--metrics-file", metavar="FILE", help="Also read, when the program writes it.", default=str(METRICS_FILE)
        ),
    ] = None,
    num_classes: Annotated[
        int | None, typer.Option("--num-classes", min=2, metavar="N", help="Needed to rank an accuracy, ...")
    ] = None,
    num_test: Annotated[
        int | None, typer.Option("--num-test", min=1, metavar="N", help="... as are the samples that were tested.")
    ] = None,
    num_val: Annotated[
        int | None, typer.Option("--num-val", min=1, metavar="N", help="Samples of the validation split.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option("--like", metavar="RUN", help="Say that data and split are those of RUN, to be ranked beside it."),
    ] = None,
    region: Annotated[str | None, region_flag(default="$GREENML_REGION, or the world average")] = None,
    intensity: IntensityOption = None,
    trace: TraceOption = None,
    trace_shift: TraceShiftOption = None,
    provider: ProviderOption = None,
    pue: PueOption = None,
    meter: MeterOption = None,
    scope: Annotated[str | None, scope_flag(whose="the command")] = None,
    tdp: TdpOption = None,
    sampling_interval: SamplingIntervalOption = None,
    require_meter: RequireMeterOption = None,
    when_green: WhenGreenOption = None,
    duration: DurationOption = None,
    deadline: DeadlineOption = None,
    max_intensity: MaxIntensityOption = None,
    max_wait: MaxWaitOption = None,
    check_interval: CheckIntervalOption = None,
    exit_on_pause: ExitOnPauseOption = None,
    stays_on: StaysOnOption = None,
    policy: PolicyOption = None,
    interval: Annotated[
        str, typer.Option("--interval", metavar="TIME", help="A row at least so often: 1s to 8s.")
    ] = "8s",
    store: StoreOption = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the run on stdout when it is over, as one JSON array.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only what goes wrong.")] = False,
) -> None:
    """Run any program under the meter, with what it says of itself."""
    from greenml import environment
    from greenml.cli import gate
    from greenml.energy import UNKNOWN_DEVICE
    from greenml.store import Store, resolve_path
    from greenml.tracking import command as commands
    from greenml.tracking import subject
    from greenml.tracking.files import JsonFile
    from greenml.tracking.tracker import Tracker

    commands.refuse_missing(command)
    interval_s = _seconds(interval)
    place = Store(resolve_path(store))
    given = locals()
    about = subject.resolve(given, place, default_model=commands.named(command))
    run_id, numbers = new_run_id(), itertools.count()
    opened = gate.pass_through(
        "track", given, about.asked, about.intensity, place, run_id=run_id, numbers=numbers, tail=command
    )
    tracker = Tracker(
        about,
        place,
        run_id=run_id,
        decisions=opened.decisions,
        watch=watching.watch_of(about.asked, about.intensity, place, numbers=numbers),
        command=environment.command(),
        versions=environment.versions(of=("greenml", "codecarbon")),  # what the program runs on is not ours to know
        config={
            "command": [environment.printable(word) for word in command],
            "metrics_file": environment.printable(str(metrics_file or METRICS_FILE)),
        },
        device=UNKNOWN_DEVICE,
        interval_s=interval_s,
        say=console.say,
        quiet=quiet,
        sums_up=False,
    )
    snapshot = JsonFile(metrics_file or METRICS_FILE, is_expected=metrics_file is not None)
    ended = commands.run(command, tracker, snapshot)
    with suppress(KeyboardInterrupt):  # the program has ended, and its exit code stands
        try:
            _tell(place, tracker.id, ended, json=json, quiet=quiet)
        except GreenMLError as error:
            console.error(error)
    raise typer.Exit(ended.exit_code)


def _tell(store: Store, run_id: str, ended: Ended, *, json: bool, quiet: bool) -> None:
    """What the run came to, on stdout only where that was asked for; the leaderboard beside the store; advice.

    `greenml.track()` in a program leaves the last two out: it lives in a process that is not ours to keep busy.
    """
    if json:
        console.print_json(store.rows("from leaderboard where run_id = ?", [run_id]))
    stored = store.rows("select contest from runs where run_id = ?", [run_id])
    if not stored:
        return
    if not (json or quiet):
        facts = portrait.headline(portrait.everything(store, run_id))
        console.err().print(console.facts([("ended", f"{ended.status}, {ended.reason}"), *facts]))
    if missing := afterwards.leave_board(store):
        console.say(missing)
    if not quiet:
        afterwards.say_advice(store, stored[0]["contest"], answers_only=True)


def _seconds(interval: str) -> float:
    from greenml.units import SECONDS, parse_quantity

    try:
        seconds = parse_quantity(interval, SECONDS)
    except ValueError as error:
        raise UsageError(f"--interval: {error}", hint="as in 5s") from None
    if not MIN_INTERVAL_S <= seconds <= MAX_INTERVAL_S:
        raise UsageError(f"--interval {interval}: not between 1s and 8s", hint="a crash may lose what is not stored")
    return seconds
