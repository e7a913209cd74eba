"""The flags that several commands share, and what they mean in SQL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from greenml import config as configs


def flag(*names: str, help: str, default: str | None = None, metavar: str | None = None, min: int | None = None) -> Any:
    """An option that is None unless given, so that a config file comes before the default that its help shows."""
    shown = default or configs.DEFAULTS.get(names[0].removeprefix("--").replace("-", "_"))
    return typer.Option(*names, help=f"{help} [{shown}]" if shown is not None else help, metavar=metavar, min=min)


def region_flag(*, default: str) -> Any:
    """Whose grid; `default` says what counts where it is not given."""
    return flag("--region", metavar="CODE", help="Whose grid: IN, IND, IN-TN, US-CA, asia-south1, ...", default=default)


def scope_flag(*, whose: str) -> Any:
    """What is metered, where `whose` share of the machine can be told."""
    return flag("--scope", metavar="NAME", help=f"machine, or process: the share of {whose}.")


TrainedOnOption = Annotated[
    str | None,
    flag(
        "--dataset",
        metavar="NAME",
        help="cifar10, cifar100, mnist, fashion-mnist, digits, folder:PATH, parquet:PATH or hf:OWNER/NAME.",
        default="cifar10 if it can be had, else digits",
    ),
]
DataDirOption = Annotated[
    str | None,
    flag(
        "--data-dir",
        metavar="DIR",
        help="Where downloads are found and kept.",
        default="$GREENML_DATA, or the system's place for data",
    ),
]
ValFractionOption = Annotated[
    float | None, flag("--val-fraction", metavar="X", help="Share of the training images that decides.")
]
NumThreadsOption = Annotated[
    int | None, flag("--num-threads", metavar="N", help="CPU threads.", default="as PyTorch takes")
]
DeviceOption = Annotated[str | None, flag("--device", metavar="NAME", help="auto, cpu, cuda or mps.")]
IntensityOption = Annotated[
    float | None, flag("--intensity", metavar="G", help="So many g CO2e per kWh, at all times.", default="the region's")
]
TraceOption = Annotated[
    str | None, flag("--trace", metavar="FILE", help="CSV start,g_per_kwh: the intensity by the hour.", default="none")
]
TraceShiftOption = Annotated[
    bool | None,
    typer.Option("--trace-shift", help="Replay the trace at any time, by the hour of its week.", show_default=False),
]
ProviderOption = Annotated[
    str | None,
    flag("--provider", metavar="NAME", help="Who is asked for it by the hour: neso, electricitymaps.", default="none"),
]
PueOption = Annotated[
    float | None, flag("--pue", metavar="X", help="Power usage effectiveness of the site: multiplies CO2.")
]
MeterOption = Annotated[
    str | None, flag("--meter", metavar="NAME", help="codecarbon, counters (no models) or replay:FILE.")
]
TdpOption = Annotated[
    float | None,
    flag("--tdp", metavar="WATTS", help="Of the CPU, for the power model.", default="what CodeCarbon lists"),
]
SamplingIntervalOption = Annotated[
    float | None, flag("--sampling-interval", metavar="SECONDS", help="Between two readings of the meter.")
]
RequireMeterOption = Annotated[
    bool | None,
    typer.Option("--require-meter", help="Exit with 4 where a component cannot be metered.", show_default=False),
]
StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="FILE",
        help="The DuckDB file with the runs. [$GREENML_STORE, or store/greenml.duckdb]",
    ),
]
TagsOption = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="Repeatable.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress: the result only.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON array on stdout.")]
DatasetOption = Annotated[
    str | None, typer.Option("--dataset", metavar="NAME", help="Only runs on this data set; * stands for anything.")
]
ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="Only runs of this model; * stands for anything.")
]
TagOption = Annotated[str | None, typer.Option("--tag", metavar="TAG", help="Only runs with this tag.")]
LastOption = Annotated[int | None, typer.Option("--last", min=1, metavar="N", help="Only the newest N of these runs.")]
LimitOption = Annotated[int | None, flag("--limit", min=1, metavar="N", help="At most N rows.", default="20 on screen")]
RunsArgument = Annotated[list[str] | None, typer.Argument(metavar="RUN...", help="The first digits of their ids.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The first digits of its id.")]
LIMIT = 20
EVERYTHING = 2**62
FIRST_RUN = "hint: greenml train cnn --dataset digits"


def chosen(
    source: str,
    *,
    dataset: str | None,
    model: str | None,
    tag: str | None,
    last: int | None,
    status: str | None = None,
    key: str = "run_id",
) -> tuple[str, list[Any]]:
    """`source`, with one row a `key`, and only the runs asked for: the SQL, and the values it binds."""
    conditions = {
        "dataset glob ?": dataset,
        "model glob ?": model,
        "list_contains(tags, ?)": tag,
        "status = ?": status,
    }
    asked = {condition: value for condition, value in conditions.items() if value is not None}
    sql = f"select * from {source} where {' and '.join(asked) or 'true'}"
    values = list(asked.values())
    if last is None:
        return sql, values
    return f"{sql} qualify row_number() over (order by started_at desc, {key}) <= ?", [*values, last]
