"""What the store knows before a search begins: earlier runs that lie in its space, and the search itself, where it is
taken up again."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from greenml import config as configs
from greenml import console
from greenml.cli.resuming import LIVES
from greenml.errors import UsageError
from greenml.records import Trial
from greenml.store import intensity_of
from greenml.sweep.front import Point, front
from greenml.units import co2_g, joules_of_kwh

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from greenml.config import Config
    from greenml.records import Intensity
    from greenml.store import Store
    from greenml.sweep.search import Known, Past, Plan
    from greenml.sweep.space import Space

    Row = dict[str, Any]

EARLIER = """
    select
        runs.run_id,
        runs.config,
        runs.num_parameters,
        runs.hardware,
        runs.device,
        runs.precision_asked
    from runs
    join contestants using (run_key)
    where runs.data_hash = ? and runs.split_hash = ? and runs.scope = ? and runs.metric = 'accuracy'
        and runs.kind in ('train', 'trial') and runs.status = 'done'
    order by runs.run_key desc
"""
"""Complete trainings on the same data and split, metered in the same way; the newest first."""
POINTS = """
    select run_rows.run_id, epochs.epoch, epochs.val_accuracy, epochs.energy_total_j
    from all_epochs as epochs
    join run_rows using (run_key)
    where list_contains(?, run_rows.run_id) and epochs.epoch <= ? and epochs.schedule_complete
        and epochs.val_accuracy is not null and epochs.energy_total_j is not null
    order by run_rows.run_id, epochs.epoch
"""
DURATION = """
    with lives as (
        select 0 as life, started_at from runs where run_id = $1
        union all select segment, started_at from resumes where run_id = $1
    ),
    moments as (
        select phases.started_at, phases.ended_at
        from phases
        where run_id = $1
            or run_id in (select unnest(attempts) from trials where sweep_id = $1)
    ),
    ended as (
        select lives.life, lives.started_at, max(moments.ended_at) as ended_at
        from moments asof join lives on moments.started_at >= lives.started_at
        group by all
    )
    select
        coalesce(sum(epoch_us(ended_at) - epoch_us(started_at)), 0) / 1e6
        - (
            select coalesce(sum(epoch_us(ended_at) - epoch_us(started_at)), 0) / 1e6
            from phases
            where run_id = $1 and name = 'wait'
        ) as duration_s
    from ended
"""
"""Of all lives of a search, from their first moment to the last that was metered in them, without what it waited."""
TAKEN = """
    select run_rows.run_id, totals.known_j, totals.g_per_kwh
    from totals
    join run_rows using (run_key)
    where run_id = $1 or run_id in (select run_id from trial_attempts where sweep_id = $1)
"""
"""What a search and every attempt at its trials took; removed ones are among them."""


# Earlier runs


def known(
    db: Store, space: Space, base: Config, data: Data, intensity: Intensity, *, scope: str, most: int
) -> list[Known]:
    """Complete runs of the store that a trial of this search, metered in this scope, could have been, `most` at most:
    those on the front first, then those behind it. Of runs of one config the newest."""
    from greenml.sweep.search import Known

    rows = db.rows(EARLIER, [data.data_hash, data.split_hash, scope])
    if not rows:
        return []
    is_alike = _alike(space, base, data)
    found: dict[str, tuple[Row, dict[str, Any]]] = {}
    for row in rows:
        config = {**row["config"], "precision": row["precision_asked"]}
        values = space.locate(config) if is_alike(row, config) else None
        if values is not None and str(values) not in found:
            found[str(values)] = row, values
    points = points_of(db, [row["run_id"] for row, _ in found.values()], intensity, base.epochs)
    best = _best_first([(row["run_id"], points.get(row["run_id"], [])) for row, _ in found.values()])[:most]
    return [
        Known(run_id=row["run_id"], params=values, points=points[row["run_id"]], num_parameters=row["num_parameters"])
        for row, values in sorted(found.values(), key=lambda pair: _place(best, pair[0]["run_id"]))
        if row["run_id"] in best
    ]


def points_of(db: Store, run_ids: Iterable[str], intensity: Intensity, num_epochs: int) -> dict[str, list[Point]]:
    """The epochs of runs as points, as far as a trial may go, with the grams of one grid."""
    found: dict[str, list[Point]] = {}
    for row in db.rows(POINTS, [list(run_ids), num_epochs]):
        grams = co2_g(row["energy_total_j"], intensity.g_per_kwh, intensity.pue)
        found.setdefault(row["run_id"], []).append(Point(row["val_accuracy"], grams))
    return found


def _alike(space: Space, base: Config, data: Data) -> Any:
    """Whether a run was what a trial would be: on this machine, and equal in all that the space leaves alone."""
    from greenml import environment
    from greenml.learn import precision
    from greenml.learn.loop import DEFAULT_LR, DEFAULT_WEIGHT_DECAY

    device = precision.pick_device(base.device)
    here = {"cpu": environment.hardware()["cpu"], "gpu": precision.device_name(device)}
    searched = {part.key for part in space.parameters}
    fixed = {"model_args", "image_size", "augment", "batch_size", "grad_accum", "optimizer", "lr", "weight_decay"}
    fixed |= {"label_smoothing", "warmup_steps", "ema_decay", "precision", "num_threads", "model"}

    def expected(key: str, optimizer: str) -> Any:
        resolved = {
            "lr": DEFAULT_LR[optimizer],
            "weight_decay": DEFAULT_WEIGHT_DECAY[optimizer],
            "image_size": data.image_size,
            "augment": data.augment,
        }
        value = getattr(base, key)
        return resolved[key] if key in resolved and value in (None, "auto") else value

    def is_alike(row: Row, config: Row) -> bool:
        if row["device"] != device.type or any(row["hardware"].get(part) != name for part, name in here.items()):
            return False
        return all(
            config.get(key) == expected(key, config.get("optimizer", base.optimizer))
            for key in fixed - searched
            if not (key == "num_threads" and base.num_threads is None)
        )

    return is_alike


def _best_first(curves: list[tuple[str, list[Point]]]) -> list[str]:
    """Runs by the front that their best epoch is on: none beats those of the first."""
    left, order = [(name, points) for name, points in curves if points], list[str]()
    while left:
        layer = set(front(point for _, points in left for point in points))
        order += [name for name, points in left if layer & set(points)]
        left = [(name, points) for name, points in left if not layer & set(points)]
    return order


def _place(order: list[str], name: str) -> int:
    return order.index(name) if name in order else len(order)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """What is trained on, as far as it decides what may be compared."""

    name: str
    data_hash: str
    split_hash: str
    image_size: int
    augment: str
    num_train: int
    num_val: int
    guessed: float
    """Accuracy of guessing: by chance, or always the most frequent class."""


def look_at(base: Config, say: Any) -> Data:
    """Read the data as a trial would, and let go of it again. Raises UsageError and DataError."""
    from greenml.learn import data

    name, images = console.told(data.load(base.dataset, base.image_size, base.data_dir), say)
    splits = data.split(images, base.val_fraction, base.split_seed)
    return Data(
        name=name,
        data_hash=images.data_hash,
        split_hash=splits.split_hash,
        image_size=images.image_size,
        augment=images.augment,
        num_train=len(splits.train),
        num_val=len(splits.val),
        guessed=max(1 / len(images.classes), data.majority_share(images, splits.test)),
    )


# A search that is taken up again


def study(db: Store, prefix: str) -> Row:
    """The search of that name, or whose id starts so. Raises UsageError."""
    if not prefix:
        raise UsageError("no search given", hint="`greenml sweep list` shows the searches")
    rows = db.rows("from sweeps order by started_at desc, run_id")
    named = [row for row in rows if row["name"] == prefix]
    found = named or [row for row in rows if row["run_id"].startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(row["run_id"] for row in found[:3])
        raise UsageError(f"{len(found)} searches are called `{prefix}`: {some}", hint="give the digits of its id")
    raise UsageError(f"no search starts with `{prefix}`", hint="`greenml sweep list` shows the searches")


def trials(db: Store, run_id: str, intensity: Intensity, num_epochs: int) -> list[tuple[Trial, list[Point]]]:
    """The trials of a search as they were told last, each with its epochs."""
    rows = db.rows(
        "select trial_rows.* from trial_rows join runs using (run_key) where run_id = ? order by number", [run_id]
    )
    names = [field.name for field in dataclasses.fields(Trial)]
    found = [Trial(**{name: (row | {"run_id": run_id})[name] for name in names}) for row in rows]
    lasts = {trial.number: trial.attempts[-1] if trial.attempts else trial.origin for trial in found}
    points = points_of(db, filter(None, lasts.values()), intensity, num_epochs)
    return [(trial, points.get(lasts[trial.number] or "", []) if trial.state == "complete" else []) for trial in found]


def past(db: Store, run_id: str, intensity: Intensity, num_epochs: int) -> Past:
    """What a search has done and used in the lives before."""
    from greenml.sweep.search import Past

    [lives] = db.rows(LIVES, [run_id])
    [lasted] = db.rows(DURATION, [run_id])
    [spent] = db.rows("select coalesce(known_kwh, 0) as known_kwh from sweeps where run_id = ?", [run_id])
    died = db.rows(
        "select number, count(*) as times from trial_attempts where sweep_id = ? and status = 'crashed' group by all",
        [run_id],
    )
    taken = db.rows(TAKEN, [run_id])
    return Past(
        segment=lives["next"],
        trials=trials(db, run_id, intensity, num_epochs),
        duration_s=lasted["duration_s"],
        joules=joules_of_kwh(spent["known_kwh"]),
        taken={row["run_id"]: (row["known_j"], row["g_per_kwh"]) for row in taken},
        deaths={row["number"]: row["times"] for row in died},
    )


def stored_base(row: Row) -> Config:
    """What the trials of a stored search share."""
    return configs.validate({key: row["base"][key] for key in configs.KEYS if key in row["base"]})


def stored_intensity(db: Store, run_id: str) -> Intensity:
    [run] = db.rows("from runs where run_id = ?", [run_id])
    return intensity_of(run)


def refuse_changes(row: Row, plan: Plan, given: Mapping[str, Any]) -> None:
    """Raise UsageError where a search would go on as another one; `given` are config keys that flags set."""
    stored = stored_base(row)
    hint = f"leave it out, or start a new search; what may change: {', '.join(MAY_CHANGE)}"
    if plan.space.to_plain() != row["space"]:
        raise UsageError(f"search {row['run_id']} has another space", hint="leave out --space and --models")
    if plan.sampler != row["sampler"]:
        raise UsageError(f"search {row['run_id']} draws by {row['sampler']}, not {plan.sampler}", hint=hint)
    for key, value in given.items():
        if value != getattr(stored, key):
            flag = {"epochs": "epochs-max"}.get(key, key.replace("_", "-"))
            was = "nothing" if getattr(stored, key) is None else getattr(stored, key)
            raise UsageError(f"--{flag} {value}: search {row['run_id']} was begun with {was}", hint=hint)


def refuse_scope(db: Store, run_id: str, scope: str) -> None:
    """Raise UsageError where trials would from now on be metered in another scope, which no front can compare."""
    for row in db.rows("select distinct scope from runs where parent = ? and kind = 'trial'", [run_id]):
        if row["scope"] != scope:
            raise UsageError(
                f"search {run_id} meters the {row['scope']} for each trial, and would now meter the {scope}",
                hint="as many --workers, and the --cluster, with which it began",
            )


MAY_CHANGE = (
    "--trials",
    "--early-stop",
    "--time-budget",
    "--energy-budget",
    "--carbon-budget",
    "--workers",
    "--cluster",
)
