"""`greenml estimate MODEL`: what a training would take, from what trainings took on this machine."""

from __future__ import annotations

import dataclasses
import inspect
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from greenml import config as configs
from greenml import console
from greenml.cli import train
from greenml.cli.board import parse_target
from greenml.errors import UsageError
from greenml.records import Notice, Phase, Progress, Run, RunEnd, new_run_id, utc_now
from greenml.units import format_duration

if TYPE_CHECKING:
    from greenml.config import Config
    from greenml.forecast import Forecast
    from greenml.records import Intensity, Stored
    from greenml.store import Store

NOT_OURS = ("repeats", "resume", "quiet", "dry_run")
"""Flags of `train` that say nothing about what a training takes."""

Calibrate = Annotated[
    bool, typer.Option("--calibrate", help="Train for some seconds first, metered, so that there is a history.")
]
Record = Annotated[
    bool, typer.Option("--record", help="Store a past training that nobody metered, as an estimate and unranked.")
]
StartedAt = Annotated[
    datetime | None,
    typer.Option(
        "--started-at",
        metavar="TIME",
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S"],
        help="When it began, for --record: 2026-03-01, 2026-03-01T14:30. [so that it ended just now]",
    ),
]
Accuracy = Annotated[
    str | None,
    typer.Option("--accuracy", metavar="ACC", help="On the test split, for --record: 0.85, or 85 for 85 %."),
]


def estimate(
    *,
    calibrate: Calibrate = False,
    record: Record = False,
    started_at: StartedAt = None,
    accuracy: Accuracy = None,
    **flags: Any,
) -> None:
    """Say what a training would take on this machine; train nothing."""
    from greenml.cli import forecasts
    from greenml.grid import accounting
    from greenml.store import Store, resolve_path

    given = {"started_at": started_at, "accuracy": accuracy}
    if not record and (wrong := [name for name, value in given.items() if value is not None]):
        raise UsageError(
            f"--{wrong[0].replace('_', '-')} is about a training of the past", hint="give --record as well"
        )
    began = None if started_at is None else _past(started_at)
    reached = None if accuracy is None else parse_target(accuracy)
    asked, intensity = accounting.yearly_of(configs.resolve(train.keys(flags), flags["config"]))
    console.say(intensity.note)
    place = Store(resolve_path(flags["store"]))
    if calibrate:
        run = calibrated(asked, intensity, place)
        config = configs.validate(run["config"])
    else:
        setup = train.prepared(asked)
        config, run = setup.config, forecasts.planned(setup)
    made = forecasts.before(place, run, config, intensity)
    unknown = forecasts.unknown(made, run, asked, place)
    run_id = None
    if record:
        if made is None or made.energy_j is None:
            raise UsageError("nothing to estimate it from", hint=unknown)
        run_id = remembered(made, run, config, intensity, place, began=began, accuracy=reached)
    if flags["json"]:
        console.print_json([forecasts.row(made, run, config, intensity, run_id=run_id, unknown=unknown)])
    elif made is None:
        console.say(unknown)
    else:
        console.out().print(console.facts(forecasts.in_words(made, intensity)))


def calibrated(config: Config, intensity: Intensity, store: Store) -> dict[str, Any]:
    """Make one calibration run and store it; its Run, as a dictionary."""
    from greenml import energy, run
    from greenml.energy import survey

    store.check()
    run_id = new_run_id()
    rows: list[Stored] = []
    settings = energy.Settings.of(config, idle=store.idle(survey.machine))
    with store.claim(run_id), energy.open_meter(run_id, settings=settings) as meter:
        try:
            for record in run.calibrate(config, meter, intensity, run_id=run_id):
                if isinstance(record, Notice):
                    console.say(record.text)
                elif not isinstance(record, Progress):
                    rows.append(record)
        finally:
            if rows:
                store.write(rows)
        if meter.unused_tdp:
            console.say(f"not obeyed: {meter.unused_tdp}")
    if waiting := store.unstored():
        raise waiting
    begun = rows[0]
    assert isinstance(begun, Run)
    if any(row.overlap_s for row in rows if isinstance(row, Phase)):
        console.say("another metered run shared the machine meanwhile: this calibration will not count; run it again")
    spent = sum((row.ended_at - row.started_at).total_seconds() for row in rows if isinstance(row, Phase))
    console.say(f"calibrated: run {run_id[:8]}, {spent:.0f} s, kept in {store.path} and never ranked")
    return dataclasses.asdict(begun) | {"run_id": ""}  # part of the history of what is now asked


def remembered(
    made: Forecast,
    run: dict[str, Any],
    config: Config,
    intensity: Intensity,
    store: Store,
    *,
    began: datetime | None,
    accuracy: float | None,
) -> str:
    """Store a run of kind `estimate`, which `began` then (UTC) or is over just now; its id.

    Raises UsageError where it would not be over yet.
    """
    from greenml.cli import forecasts

    run_id = new_run_id()
    now, took = utc_now(), timedelta(seconds=made.duration_s.value)
    if began is not None and began + took > now:
        raise UsageError(
            f"--started-at: it would not be over yet, as it takes about {format_duration(made.duration_s.value)}",
            hint="leave --started-at out, and it is stored as just over",
        )
    began = began or now - took
    past = forecasts.history(store, run)
    rows = forecasts.estimated(made, run, config, intensity, past, run_id=run_id, started_at=began)
    end = RunEnd(
        run_id=run_id,
        status="done",
        stop_reason="recorded",
        ended_at=began + took,
        best_epoch=None,
        val_accuracy=None,
        test_accuracy=accuracy,
        test_loss=None,
        test_correct=None,
        test_count=None,
    )
    store.check()
    store.write([*rows, end])
    if waiting := store.unstored():
        raise waiting
    console.say(f"stored as run {run_id}: estimated, and never ranked")
    return run_id


def _past(local: datetime) -> datetime:
    """A moment of the past by the clock of this place, in UTC. Raises UsageError where it is still to come."""
    moment = local.astimezone(UTC).replace(tzinfo=None)
    if moment > utc_now():
        raise UsageError(
            f"--started-at {local:%Y-%m-%d %H:%M} is in the future", hint="--record is about a training of the past"
        )
    return moment


def _with_the_flags_of_train() -> None:
    """Whatever can be trained can be estimated, by the same words: Typer reads flags off a signature."""
    by_name = get_type_hints(train.train, include_extras=True) | get_type_hints(estimate, include_extras=True)
    own = inspect.signature(estimate).parameters
    shared = inspect.signature(train.train).parameters
    taken = [shared[name] for name in shared if name not in NOT_OURS] + [own[name] for name in own if name != "flags"]
    parameters = [
        one.replace(annotation=by_name[one.name], kind=inspect.Parameter.POSITIONAL_OR_KEYWORD) for one in taken
    ]
    estimate.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    estimate.__annotations__ = {one.name: one.annotation for one in parameters}


_with_the_flags_of_train()
