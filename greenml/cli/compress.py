"""`greenml compress RUN`: from flags to plans, and from plans to runs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greenml import config as configs
from greenml import console
from greenml.cli.options import (
    DataDirOption,
    DeviceOption,
    JsonOption,
    MeterOption,
    NumThreadsOption,
    PueOption,
    QuietOption,
    RequireMeterOption,
    RunArgument,
    SamplingIntervalOption,
    StoreOption,
    TagsOption,
    TdpOption,
    flag,
    region_flag,
    scope_flag,
)
from greenml.compress import plan as plans
from greenml.errors import UsageError
from greenml.records import new_run_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from greenml.compress.plan import Parent, Plan
    from greenml.store import Store

OF_A_MACHINE = ("meter", "tdp", "sampling_interval")
"""How a machine is metered: not asked of another."""
EXAMPLES = """\
\b
  greenml compress RUN --method int8                    8 bits, calibrated on training images
  greenml compress RUN --method prune,int8 --sparsity 0.5
  greenml compress RUN --method distill --student cnn   a smaller model learns from this one
  greenml compress RUN --all                            every method that applies, as one table
  greenml compress RUN --method prune --sparsity 0.1,0.3,0.5
  greenml compress RUN --export onnx                    the model as it is, for other runtimes
"""


def compress(
    run: RunArgument,
    method: Annotated[
        str | None, typer.Option("--method", metavar="NAME", help=f"{', '.join(plans.METHODS)}; a chain as prune,int8.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every method that applies, one after the other.")] = False,
    sparsity: Annotated[
        str | None,
        flag(
            "--sparsity",
            metavar="X",
            help="Share that pruning removes; several as 0.1,0.3,0.5.",
            default=f"{plans.DEFAULT_SPARSITY:g}",
        ),
    ] = None,
    student: Annotated[
        str | None, typer.Option("--student", metavar="MODEL", help="What distill trains: cnn, or any timm name.")
    ] = None,
    epochs: Annotated[
        int | None,
        flag(
            "--epochs",
            metavar="N",
            min=1,
            help="Of fine-tuning.",
            default=", ".join(f"{name} {number}" for name, number in plans.DEFAULT_EPOCHS.items())
            + ", distill as the run",
        ),
    ] = None,
    lr: Annotated[
        float | None, flag("--lr", metavar="RATE", help="Of fine-tuning.", default="as the run's; qat a tenth")
    ] = None,
    calibration: Annotated[
        int | None,
        flag(
            "--calibration",
            metavar="N",
            min=1,
            help="Training images that int8 looks at.",
            default=str(plans.DEFAULT_CALIBRATION),
        ),
    ] = None,
    export: Annotated[
        list[str] | None,
        typer.Option("--export", metavar="FORMAT", help=f"{', '.join(plans.EXPORTS)}; checked. Repeatable."),
    ] = None,
    batch_size: Annotated[
        int | None,
        flag("--batch-size", metavar="N", min=2, help="Inference is measured with 1 and with N images.", default="256"),
    ] = None,
    repeats: Annotated[
        int | None,
        flag("--repeats", metavar="N", help="How often each is measured.", default=str(plans.MIN_REPEATS)),
    ] = None,
    predictions_per_day: Annotated[
        float | None,
        typer.Option("--predictions-per-day", min=1, metavar="N", help="Break-even in days, too.", show_default=False),
    ] = None,
    num_threads: NumThreadsOption = None,
    device: DeviceOption = None,
    data_dir: DataDirOption = None,
    region: Annotated[str | None, region_flag(default="as the run's")] = None,
    pue: PueOption = None,
    meter: MeterOption = None,
    scope: Annotated[str | None, scope_flag(whose="this compression")] = None,
    tdp: TdpOption = None,
    sampling_interval: SamplingIntervalOption = None,
    require_meter: RequireMeterOption = None,
    seed: Annotated[int | None, flag("--seed", metavar="N", help="Of fine-tuning.", default="as the run's")] = None,
    name: Annotated[str | None, flag("--name", metavar="TEXT", help="What you call the new run.")] = None,
    tag: TagsOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a smaller model of a trained one; say what it saves, and when it has paid for itself."""
    given = locals()
    from greenml.cli import compressing
    from greenml.store import Store, resolve_path

    place = Store(resolve_path(store))
    place.check()
    if every and method is not None:
        raise UsageError("--all and --method contradict each other", hint="leave one of them out")
    parent = read_parent(place, run)
    parts = {
        "calibration": calibration,
        "batch_size": batch_size,
        "repeats": repeats,
        "student": student,
        "epochs": epochs,
        "lr": lr,
        "exports": tuple(export) if export else None,
        "name": name,
        "tags": tuple(tag) if tag else None,
    }
    chains = all_chains(parent, student) if every else [plans.parse_chain(method) if method else ()]
    if not every:
        refuse_unused(given, chains[0])
    told = {key: part for key, part in parts.items() if part is not None}
    drafts = []
    for chain in chains:
        unused = [*plans.unmeant(chain), *(["exports"] if every and plans.has_own_format(chain) else [])]
        own = {key: part for key, part in told.items() if key not in unused}
        drafts += [make_plan(parent, given, chain, own | sparse) for sparse in sparsities(sparsity, chain)]
    if len(drafts) > 1:
        compressing.series(place, parent, drafts, json=json, per_day=predictions_per_day)
        return
    run_id = new_run_id()
    with place.claim(run_id) as folder:
        compressing.carry_out(drafts[0], run_id, place, folder, quiet=quiet)
        if json:
            console.print_json(compressing.rows(place, [run_id], predictions_per_day))
        else:
            compressing.show(place, run_id, folder, per_day=predictions_per_day)


def chain_after(text: str) -> tuple[str, ...]:
    """What `train --then` asks for. Raises UsageError."""
    chain = plans.parse_chain(text)
    plans.refuse_missing(chain)
    if "distill" in chain:
        raise UsageError(
            "--then distill needs a student", hint="train first; then: greenml compress RUN --method distill --student"
        )
    return chain


def after_training(store: Store, run_id: str, chain: tuple[str, ...], *, json: bool, quiet: bool) -> None:
    """What `train --then` does with the model that it left; as JSON, the two runs are rows of one array."""
    from greenml.cli import compressing

    parent = read_parent(store, run_id)
    plan = make_plan(parent, dataclasses.asdict(parent.config), chain, {})
    child = new_run_id()
    with store.claim(child) as folder:
        compressing.carry_out(plan, child, store, folder, quiet=quiet)
        if json:
            both = "from leaderboard where list_contains(?, run_id) order by started_at"
            console.print_json(store.rows(both, [[run_id, child]]))
        else:
            compressing.show(store, child, folder, per_day=None)


def read_parent(store: Store, prefix: str) -> Parent:
    """The run whose model is to be made smaller. Raises what `plan.refuse_parent` raises."""
    run_id = store.run_id(prefix)
    [row] = store.rows("from runs where run_id = ?", [run_id])
    folder = store.folder(run_id)
    plans.refuse_parent(row, folder)
    config = configs.validate({key: row["config"][key] for key in configs.KEYS if key in row["config"]})
    return plans.Parent(run_id=run_id, folder=folder, config=config, row=row)


def make_plan(parent: Parent, given: Mapping[str, Any], chain: tuple[str, ...], parts: Mapping[str, Any]) -> Plan:
    """One plan out of flags. Raises UsageError."""
    from greenml import energy
    from greenml.energy.meters import open_sensor
    from greenml.grid import accounting

    changes = {
        key: given[key]
        for key in ("num_threads", "data_dir", "region", "pue", "scope", "seed", "require_meter", *OF_A_MACHINE)
        if given.get(key) is not None
    }
    # Devices, threads and meters are this machine's: the run may have been trained on another.
    asked: dict[str, Any] = {"num_threads": None, "device": given.get("device") or "auto", "log": []}
    asked |= {"name": None, "tags": []} | {key: configs.DEFAULTS[key] for key in OF_A_MACHINE}
    if changes.get("region") not in (None, parent.config.region):
        asked["intensity"] = None  # what was given of one place says nothing of another
    base, intensity = accounting.yearly_of(configs.validate(dataclasses.asdict(parent.config) | asked | changes))
    open_sensor(energy.Settings.of(base))  # a mistyped name is said before anything begins
    return plans.Plan(parent=parent, methods=chain, base=base, intensity=intensity, **parts)


def refuse_unused(given: Mapping[str, Any], chain: tuple[str, ...]) -> None:
    """Raise UsageError for a flag that means nothing to these methods."""
    for key in plans.unmeant(chain):
        if given[key] is not None:
            raise UsageError(
                f"--{key} means nothing to {','.join(chain) or 'an export'}",
                hint=f"it is for {', '.join(plans.MEANT[key])}",
            )


def all_chains(parent: Parent, student: str | None) -> list[tuple[str, ...]]:
    """What `--all` makes of it."""
    named = [*plans.APPLIED_BY_ALL, *(["distill"] if student else [])]
    return [chain for chain in map(plans.parse_chain, named) if not plans.fillings((*parent.methods, *chain))]


def sparsities(text: str | None, chain: tuple[str, ...]) -> list[dict[str, float]]:
    """What `--sparsity` means for a chain: a plan for each share, one where the chain prunes nothing."""
    if text is None or not set(chain) & set(plans.SPARSE):
        return [{}]
    try:
        shares = [float(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"--sparsity {text}: no number", hint="as in 0.3, or 0.1,0.3,0.5 for a series") from None
    if len(set(shares)) < len(shares):
        raise UsageError(f"--sparsity {text}: one share twice", hint="name each once")
    return [{"sparsity": share} for share in shares]
