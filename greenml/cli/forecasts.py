"""Forecasts: rows of the store in, what a run will take in words out."""

from __future__ import annotations

import dataclasses
import shlex
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from greenml import config as configs
from greenml import environment, forecast
from greenml.console import counted
from greenml.errors import StoreError
from greenml.records import Epoch, Phase, Progress, Run, Source, utc_now
from greenml.store import resolve_path
from greenml.units import ENERGY, JOULES_PER_KWH, MASS, co2_g, format_alike, format_duration, format_energy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from greenml.config import Config
    from greenml.forecast import Forecast, Span, Work
    from greenml.learn.setup import Setup
    from greenml.records import Intensity, Record, Stored
    from greenml.store import Store

STALE_DAYS = 30
"""Machines change: drivers, kernels, cooling, what else runs. Older history still counts, and is said to be old."""

CANDIDATES = 200
"""Runs that are looked through for history: those of the model first, then the newest."""
PARTS = ("cpu", "gpu", "ram")
UNREAD = "not every joule of the runs on this machine could be read; `greenml doctor` says what would help"
NEARNESS = ("device", "data_dir", *configs.METERED_BY, "precision", "batch_size", "image_size", "num_threads")
"""Keys that decide whether a calibration counts for a training, and how near it is."""
BOOKED = ("name", "epoch", "segment", "started_at", "ended_at", "joules")

HISTORY = """
    with candidates as (
        select runs.*
        from runs
        left join totals using (run_key)
        where kind in ('train', 'trial', 'calibrate')
            and status not in ('running', 'waiting')
            and run_id <> ?
            and device = ?
            and hardware ->> '$.cpu' is not distinct from ?
            -- Two runs at a time each see the whole machine.
            and coalesce(overlap_s, 0) = 0
        order by model = ? desc, started_at desc
        limit ?
    ),
    -- What a killed or interrupted life had begun has no row, and is no work that anybody could count.
    finished as (
        select
            run_key,
            epoch,
            arg_max(coalesce(num_samples, num_train), segment) as last_trained,
            arg_max(coalesce(val_count, num_val), segment) as last_validated
        from epoch_rows
        join candidates using (run_key)
        group by run_key, epoch
    ),
    work as (
        select run_key, sum(last_trained)::bigint as num_trained, sum(last_validated)::bigint as num_validated
        from finished
        group by run_key
    ),
    -- A pause within a life is followed by a set-up of its own; a set-up of several phases is one.
    stretches as (
        select
            phase_rows.*,
            phase_rows.name = 'setup'
                and coalesce(lag(phase_rows.name) over (partition by run_key, segment order by seq) <> 'setup', true)
                as begins_setup
        from phase_rows
        semi join candidates using (run_key)
    ),
    spent as (
        select
            phase_rows.run_key,
            phase_rows.name = 'setup' as is_setup,
            count(*) filter (begins_setup) as num_setups,
            sum(epoch_us(phase_rows.ended_at) - epoch_us(phase_rows.started_at)) / 1e6 as seconds,
            -- sum() skips nulls, and a sum over a gap is not a total.
            if(count(*) = count(joules), sum(joules), null) as total_j,
            if(count(*) = count(joules), sum(cpu_j), null) as total_cpu_j,
            if(count(*) = count(joules), sum(gpu_j), null) as total_gpu_j,
            if(count(*) = count(joules), sum(ram_j), null) as total_ram_j
        from stretches as phase_rows
        join candidates using (run_key)
        left join finished using (run_key, epoch)
        where phase_rows.name = 'setup'
            or (phase_rows.name = 'test' and test_count is not null)
            or (phase_rows.name in ('train', 'validate', 'checkpoint', 'record') and finished.epoch is not null)
        group by phase_rows.run_key, is_setup
    )
    select
        candidates.run_id,
        candidates.kind,
        candidates.model,
        candidates.dataset,
        candidates.precision,
        candidates.batch_size,
        candidates.image_size,
        candidates.flops_per_sample,
        candidates.scope,
        candidates.device,
        candidates.hardware,
        candidates.config,
        candidates.meter,
        candidates.started_at,
        work.num_trained,
        work.num_validated + coalesce(candidates.test_count, 0) as num_evaluated,
        setups.num_setups as num_lives,
        setups.seconds as setup_s,
        setups.total_j as setup_j,
        works.seconds as work_s,
        works.total_j as work_j,
        works.total_cpu_j as work_cpu_j,
        works.total_gpu_j as work_gpu_j,
        works.total_ram_j as work_ram_j
    from candidates
    join work using (run_key)
    join spent as works on works.run_key = candidates.run_key and not works.is_setup
    join spent as setups on setups.run_key = candidates.run_key and setups.is_setup
"""


def before(store: Store, run: Mapping[str, Any], config: Config, intensity: Intensity) -> Forecast | None:
    """Before the first epoch, out of this store's history on this machine; `run` has the fields of `records.Run`."""
    return forecast.before(work_of(run, config), history(store, run), budgets_of(config, intensity))


def planned(setup: Setup) -> dict[str, Any]:
    """What `before` reads of a run, of one that has not begun."""
    own = dataclasses.asdict(setup.config)
    return {**setup.facts, "run_id": "", "scope": setup.config.scope, "config": own, "meter": {}}


def lack(run: Mapping[str, Any], past: Sequence[Mapping[str, Any]]) -> str:
    """Why nothing can be forecast before the first epoch out of this history."""
    if run["flops_per_sample"] is None:
        return f"the operations of {run['model']} cannot be counted"
    here = [row for row in past if forecast.machine(row) == forecast.machine(run)]
    if not here:
        return "no history on this machine"
    alike = [row for row in here if forecast.metering(row) == forecast.metering(run)]
    if not alike:
        return f"{counted(len(here), 'run')} on this machine, but none metered this way ({metering_in_words(run)})"
    if run["meter"] and all(forecast.methods(row) != forecast.methods(run) for row in alike):
        return "what meters this machine has changed since the runs on it"
    return "no run on this machine says what its operations took"


def metering_in_words(run: Mapping[str, Any]) -> str:
    """What it is asked to be metered by: "codecarbon, scope process, 65 W TDP"."""
    scope, meter, tdp = forecast.metering(run)
    return f"{meter}, scope {scope}" + (f", {tdp:g} W TDP" if tdp else "")


def way_out(run: Mapping[str, Any], asked: Config, store: Store) -> str:
    """The command that makes the history which is missing for a training that was `asked` for."""
    given = {key: value for key in NEARNESS if (value := getattr(asked, key)) != configs.DEFAULTS[key]}
    if store.path != resolve_path(None):
        given["store"] = store.path
    flags = [word for key, value in given.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    return shlex.join(["greenml", "estimate", run["model"], "--dataset", run["dataset"], *flags, "--calibrate"])


def unknown(made: Forecast | None, run: Mapping[str, Any], asked: Config, store: Store) -> str:
    """Why there is no forecast, and the command that makes one; or why it knows only the time. Empty if it is whole."""
    if made is not None:
        return UNREAD if made.energy_j is None else ""
    why = lack(run, history(store, run))
    if run["flops_per_sample"] is None:
        return f"{why}: there is no forecast before its first epoch"
    return f"{why}: run one calibration epoch: {way_out(run, asked, store)}"


def history(store: Store, run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What other runs on this machine took for their work, as `forecast.before` reads it."""
    from greenml.learn.models import family

    asked = [run["run_id"], run["device"], run["hardware"]["cpu"], run["model"], CANDIDATES]
    return [row | {"family": family(row["model"])} for row in store.rows(HISTORY, asked)]


def work_of(run: Mapping[str, Any], config: Config) -> Work:
    """What a run is going to do."""
    from greenml.learn.models import family

    together = config.batch_size * config.grad_accum
    return forecast.Work(
        kind=forecast.kind({**run, "batch_size": config.batch_size, "family": family(run["model"])}),
        dataset=run["dataset"],
        machine=forecast.machine(run),
        metering=forecast.metering(run),
        methods=forecast.methods(run) if run["meter"] else None,
        flops_per_sample=run["flops_per_sample"],
        num_train=run["num_train"] // together * together,
        num_val=run["num_val"],
        num_test=run["num_test"],
        epochs=config.epochs,
    )


def budgets_of(config: Config, intensity: Intensity) -> forecast.Budgets:
    """The rules that may end a run before its last epoch."""
    grams = configs.quantity(config, "carbon_budget")
    g_per_joule = co2_g(1.0, intensity.g_per_kwh, intensity.pue)
    joules = [configs.quantity(config, "energy_budget"), grams and g_per_joule and grams / g_per_joule]
    return forecast.Budgets(
        seconds=configs.quantity(config, "time_budget"),
        joules=min((limit for limit in joules if limit), default=None),
        may_stop_early=config.early_stop or config.target_acc is not None,
    )


def priced(made: Forecast, config: Config, intensity: Intensity, start: datetime) -> tuple[Intensity, str]:
    """What its grams are foretold by, and in words where that is no figure of a year: of a trace its mean over what the
    forecast takes from `start` (UTC, naive) on. Where that is not known the factor stays."""
    from greenml.grid import accounting
    from greenml.grid.moments import shown
    from greenml.grid.series import now

    series = accounting.series_of(config, now())
    mean = series.mean(start, start + timedelta(seconds=made.duration_s.value)) if series else None
    if mean is None:
        return intensity, ""
    return dataclasses.replace(intensity, g_per_kwh=mean), f", the trace's mean from {shown(start, now())} on"


def in_words(made: Forecast, intensity: Intensity, of: str = "") -> list[tuple[str, str]]:
    """Label and text: what it will take, and what that rests on; `of` says whose figure the intensity is."""
    at_most = "at most " if made.at_most else ""
    if made.energy_j is None:
        known = [("energy", f"unknown: {UNREAD}")]
    else:
        factors = f"energy x PUE {intensity.pue:g} x {intensity.g_per_kwh:.3g} g/kWh{of}"
        known = [
            ("energy", at_most + energy(made.energy_j)),
            ("CO2e", f"{at_most}{mass(grams(made.energy_j, intensity))}: {factors}"),
        ]
    return [
        *known,
        ("time", at_most + duration(made.duration_s)),
        ("from", basis(made)),
        *(("", text) for text in sources_in_words(made)),
    ]


def sources_in_words(made: Forecast) -> list[str]:
    """How the joules of the runs are known that it rests on, without what they do not have."""
    return [
        f"where {part.upper()} is {known['source']}: {known['method']}"
        for part, known in made.metered.items()
        if known["source"] not in (None, Source.ABSENT)
    ]


def in_one_line(made: Forecast, intensity: Intensity) -> str:
    """The same in short."""
    parts = (energy(made.energy_j), mass(grams(made.energy_j, intensity)), duration(made.duration_s))
    return ("at most " if made.at_most else "") + ", ".join(parts)


def basis(made: Forecast) -> str:
    """Which runs it rests on, how near they are, and how old."""
    return f"{whose(made)}, {age(made)}"


def whose(made: Forecast) -> str:
    """Which runs it rests on, and how near they are."""
    runs = counted(len(made.run_ids), "run")
    names = ", ".join(run_id[:8] for run_id in made.run_ids[:3]) + ", ..." * (len(made.run_ids) > 3)
    return f"{runs} of {made.level} ({names})"


def age(made: Forecast) -> str:
    """Of the newest run that it rests on; said to be stale after a month."""
    if made.newest_at is None:
        return ""
    days = days_old(made.newest_at)
    old = "of today" if days < 1 else f"{counted(days, 'day')} old"
    return f"stale: {old}; `greenml estimate --calibrate` renews it" if is_stale(made) else old


def is_stale(made: Forecast) -> bool:
    """Whether all that it rests on is older than a month."""
    return made.newest_at is not None and days_old(made.newest_at) > STALE_DAYS


def days_old(moment: datetime) -> int:
    return (utc_now() - moment).days


def grams(joules: Span | None, intensity: Intensity) -> Span | None:
    return None if joules is None else joules.scaled(co2_g(1.0, intensity.g_per_kwh, intensity.pue))


def energy(joules: Span | None) -> str:
    """ "12.3 Wh (10.1 to 15.0)"."""
    return quantity(joules, ENERGY)


def mass(weight: Span | None) -> str:
    return quantity(weight, MASS)


def quantity(span: Span | None, units: tuple[tuple[float, str], ...]) -> str:
    if span is None:
        return "unknown"
    (value, low, high), unit = format_alike([span.value, span.low, span.high], units)
    return f"{value} {unit} ({low} to {high})"


def so_far(joules: float, whole: Span | None, *, at_most: bool) -> str:
    """What is spent of what is expected: "12.3 of ~48.1 mWh (45.2 to 51.0)"."""
    if whole is None:
        return format_energy(joules)
    (spent, value, low, high), unit = format_alike([joules, whole.value, whole.low, whole.high], ENERGY)
    return f"{spent} of {'<' if at_most else '~'}{value} {unit} ({low} to {high})"


def duration(span: Span) -> str:
    return f"{format_duration(span.value)} ({format_duration(span.low)} to {format_duration(span.high)})"


def row(
    made: Forecast | None,
    run: Mapping[str, Any],
    config: Config,
    intensity: Intensity,
    *,
    run_id: str | None,
    unknown: str,
) -> dict[str, Any]:
    """For `--json`: plain figures in the units of the board; null where nothing is known. `run_id` is of the run that
    it was stored as."""
    joules = made and made.energy_j
    figures: dict[str, Any] = {}
    for name, span, factor in (
        ("energy_kwh", joules, 1 / JOULES_PER_KWH),
        ("co2_g", joules, co2_g(1.0, intensity.g_per_kwh, intensity.pue)),
        ("duration_s", made and made.duration_s, 1.0),
    ):
        for suffix, part in (("", "value"), ("_low", "low"), ("_high", "high")):
            figures[name + suffix] = span and getattr(span, part) * factor
    return {
        "run_id": run_id,
        "model": run["model"],
        "dataset": run["dataset"],
        "epochs": config.epochs,
        "flops_per_sample": run["flops_per_sample"],
        "num_parameters": run["num_parameters"],
        "device": run["device"],
        "precision": run["precision"],
        **figures,
        "at_most": made and made.at_most,
        # Whatever the runs were metered by: what they say of another run is an estimate.
        "source": str(Source.ESTIMATED if joules else Source.UNKNOWN),
        "runs_metered": made and made.metered,
        "pue": intensity.pue,
        "intensity_g_per_kwh": intensity.g_per_kwh,
        "intensity_note": intensity.note,
        "from": made and made.level,
        "run_ids": [*made.run_ids] if made else [],
        "newest_at": made and made.newest_at,
        "is_stale": made and is_stale(made),
        "unknown": unknown or None,
    }


def estimated(
    made: Forecast,
    run: Mapping[str, Any],
    config: Config,
    intensity: Intensity,
    past: Sequence[Mapping[str, Any]],
    *,
    run_id: str,
    started_at: datetime,
) -> list[Stored]:
    """A training that nobody metered, as rows: a Run of kind `estimate` and one phase, which is all of it.

    `past` is the history that `made` rests on; it says how the joules part into components.
    """
    assert made.energy_j is not None
    used = [row for row in past if row["run_id"] in made.run_ids]
    method = f"from {whose(made)}, the newest of {made.newest_at:%Y-%m-%d}"
    shares = {part: sum(row[f"work_{part}_j"] for row in used) / sum(row["work_j"] for row in used) for part in PARTS}
    sources = {part: Source.ESTIMATED if share else Source.ABSENT for part, share in shares.items()}
    named = {name: run[name] for name in Run.__dataclass_fields__ if name in run}
    begun = Run(
        **named
        | {
            "run_id": run_id,
            "kind": "estimate",
            "group_hash": None,
            "name": config.name,
            "tags": config.tags,
            "parent": None,
            "batch_size": config.batch_size,
            "grad_accum": config.grad_accum,
            "epochs_asked": config.epochs,
            "seed": config.seed,
            "split_seed": config.split_seed,
            "meter": {"meter": "estimate"}
            | {part: _estimated_part(made, part, sources[part], method) for part in PARTS},
            "intensity": intensity,
            # Of today; what it ran with is not known.
            "versions": {},
            "dependencies_hash": None,
            "git_commit": None,
            "git_dirty": None,
            "command": environment.command(),
            "started_at": started_at,
            "forecast": made.to_plain(),
        }
    )
    whole = Phase(
        run_id=run_id,
        segment=0,
        seq=0,
        name="whole",
        epoch=None,
        device=run["device"],
        started_at=started_at,
        ended_at=started_at + timedelta(seconds=made.duration_s.value),
        cpu_j=made.energy_j.value * shares["cpu"],
        gpu_j=made.energy_j.value * shares["gpu"],
        ram_j=made.energy_j.value * shares["ram"],
        cpu_source=sources["cpu"],
        gpu_source=sources["gpu"],
        ram_source=sources["ram"],
        method=method,
        error_j=None,
        overlap_s=0.0,
    )
    return [begun, whole]


def _estimated_part(made: Forecast, part: str, source: Source, method: str) -> dict[str, object]:
    """How a component of an estimate is known: by runs, and these by their meter."""
    there = made.metered[part]["method"]
    return {"source": source, "method": there if source is Source.ABSENT else f"{method}; there: {there}"}


class Outlook:
    """What is expected of one run while it lives, out of its records as they come by."""

    def __init__(self, store: Store, config: Config, intensity: Intensity, run_id: str, *, resumed: bool) -> None:
        self._store, self._config, self._intensity = store, config, intensity
        self._budgets = budgets_of(config, intensity)
        self._ledger = forecast.Ledger()
        self._num_val = self._num_test = 0
        self.latest: Forecast | None = None
        """None while nothing is known."""
        self.lack = "the store cannot be read"
        """Why there was none before the first epoch."""
        self._anchor: tuple[float, float] | None = None
        self._waited_s = self._waited_before_s = 0.0
        """In phases `wait`; and so much of it when `latest` was made."""
        if resumed:
            [run] = store.rows("select num_val, num_test from runs where run_id = ?", [run_id])
            self._num_val, self._num_test = run["num_val"], run["num_test"]
            for phase in store.rows("from phases where run_id = ? order by segment, seq", [run_id]):
                self._ledger.book(**{name: phase[name] for name in BOOKED})

    def hear(self, record: Record) -> Record:
        """Take a record of the run in, and pass it on: a Run with the forecast of before its first epoch."""
        if isinstance(record, Run | Epoch):
            self._anchor = None
            self._waited_before_s = self._waited_s
        match record:
            case Run():
                self._num_val, self._num_test = record.num_val or 0, record.num_test or 0
                with suppress(StoreError):  # no training fails for want of a forecast
                    run = dataclasses.asdict(record)
                    past = history(self._store, run)
                    self.latest = forecast.before(work_of(run, self._config), past, self._budgets)
                    self.lack = "" if self.latest else lack(run, past)
                return dataclasses.replace(record, forecast=self.latest.to_plain() if self.latest else None)
            case Phase():
                self._ledger.add(record)
                if record.name == "wait":
                    self._waited_s += (record.ended_at - record.started_at).total_seconds()
            case Epoch():
                # A part of an epoch is what a budget left of it: the test alone is still to come.
                done = record.epoch if record.schedule_complete else self._config.epochs
                self.latest = forecast.after(
                    self._ledger,
                    done=done,
                    epochs=self._config.epochs,
                    num_val=self._num_val,
                    num_test=self._num_test,
                    budgets=self._budgets,
                )
        return record

    def in_one_line(self, now: datetime) -> str:
        """`latest`, of a run that begins `now`."""
        assert self.latest is not None
        return in_one_line(self.latest, priced(self.latest, self._config, self._intensity, now)[0])

    def remaining(self) -> tuple[timedelta | None, float | None]:
        """How long it will still take at most, as its interval goes, and the watts of it; None while nobody knows."""
        made = self.latest
        if made is None:
            return None, None
        # What a forecast was made of has waited; what is left has not.
        spent_s = self._ledger.spent.seconds - (self._waited_s - self._waited_before_s)
        left_s = max(made.duration_s.high - spent_s, 0.0)
        return timedelta(seconds=left_s), made.power_w

    def wanted_j(self) -> float | None:
        """What it is still going to use; None while nobody knows."""
        made, spent_j = self.latest, self._ledger.spent.joules
        if made is None or made.energy_j is None or spent_j is None:
            return None
        return max(made.energy_j.value - spent_j, 0.0)

    def energy_by_now(self, record: Progress) -> Span | None:
        """The latest forecast of the energy, in the midst of an epoch: what it left to come shrinks with every step."""
        if self.latest is None or self.latest.energy_j is None or record.energy_j is None or record.epoch is None:
            return None
        share = record.done / record.total if record.what == "training" else 1.0
        position = record.epoch - 1 + share
        began, spent_j = self._anchor = self._anchor or (position, record.energy_j)
        last = self._config.epochs
        left = (last - position) / (last - began) if began < last else 0.0
        whole = self.latest.energy_j
        low, value, high = (
            record.energy_j + left * max(0.0, part - spent_j) for part in (whole.low, whole.value, whole.high)
        )
        return forecast.Span(low, value, high)
