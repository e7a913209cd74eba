"""Everything that `greenml doctor` looks at, and what it finds. Each look catches what it can name."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from greenml import __version__, config, energy, environment, grid
from greenml.console import counted, figure, local
from greenml.energy import SensorError, baseline, codecarbon, survey
from greenml.energy.machine import UNREADABLE
from greenml.energy.presence import Presence
from greenml.energy.survey import Finding, State
from greenml.errors import MeterError, StoreError, UsageError
from greenml.store import examine
from greenml.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from greenml.energy import Component
    from greenml.energy.baseline import Baseline
    from greenml.energy.survey import Gpus
    from greenml.errors import GreenMLError
    from greenml.store import Health, Store

BUSY_PERCENT = 10
"""A GPU that works for more of the time does more than drawing a desktop."""
NUM_SHOWN = 5
STATES = {"measured": State.WORKS, "absent": State.ABSENT, "unknown": State.BROKEN}


@dataclass(kw_only=True)
class Report:
    """What was found: `findings` by section, for people, and `facts` for programs."""

    findings: dict[str, list[Finding]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    exit_code: int = 0
    """Why no run could be metered and stored; the first reason is the one that a run would end by."""

    def add(self, section: str, name: str, state: State, text: str, *hints: str) -> None:
        self.findings.setdefault(section, []).append(Finding(name=name, state=state, text=text, hints=hints))

    def add_error(self, section: str, name: str, error: GreenMLError) -> None:
        self.add(section, name, State.BROKEN, str(error), error.hint)
        self.fail(error.exit_code)

    def fail(self, exit_code: int) -> None:
        self.exit_code = self.exit_code or exit_code

    def as_row(self) -> dict[str, Any]:
        """Everything, for `--json`."""
        findings = [
            {"section": section, **dataclasses.asdict(finding), "state": str(finding.state)}
            for section, found in self.findings.items()
            for finding in found
        ]
        return {**self.facts, "findings": findings, "is_ready": not self.exit_code, "exit_code": self.exit_code}


def look(db: Store, *, region: str | None, seconds: float, say: Callable[[str], None]) -> Report:
    """Look at everything; `seconds` of it at the idle machine, before the meter starts, whose start is work."""
    report, gpus = Report(), survey.nvidia_gpus()
    report.facts["machine"] = machine = {
        "id": survey.machine(gpus),
        **environment.hardware(),
        "gpus": list(gpus.names),
        "virtual_machine": environment.virtual_machine(),
        "container": environment.container(),
    }
    report.findings["Meters"] = [survey.processor(), *survey.graphics(gpus)]
    measured = _rest(report, seconds, gpus, say)
    _grid(report, region)
    health = examine(db)
    _keep(report, db, health, machine["id"], measured)
    _store(report, examine(db) if measured and not health.exists else health)
    _meter(report)
    _software(report, gpus)
    return report


def _rest(report: Report, seconds: float, gpus: Gpus, say: Callable[[str], None]) -> Baseline | None:
    """What the machine draws at rest, where that can be measured now."""
    section = "Idle power"
    num_others = report.facts["other_meters"] = Presence().num_others()
    if num_others:
        text = f"{counted(num_others, 'other meter')} of greenml on this machine at this moment"
        hint = "runs that share a machine each count the whole of it: they are marked, and not ranked"
        report.add("Meters", "others", State.LIMITED, text, hint)
        report.add(section, "now", State.ABSENT, "not measured: a run is being metered", "ask again when it is over")
        return None
    if not seconds:
        report.add(section, "now", State.ABSENT, "not measured: --seconds 0")
        return None
    notice = f"measuring idle power for {format_duration(seconds)}: leave the machine alone"
    try:
        measured = baseline.measure(seconds, has_gpu=survey.has_gpu(gpus), begin=lambda: say(notice))
    except SensorError as error:
        report.add(section, "now", State.BROKEN, str(error), "a run would store it as unknown")
        report.fail(MeterError.exit_code)
        return None
    if measured is None:
        text = "nothing to measure it with: no counter can be read, and a model would only guess"
        report.add(section, "now", State.ABSENT, text)
        return None
    text = f"{_parts(measured.parts_w)}; mean of {format_duration(measured.seconds)}"
    busy = [] if measured.is_idle else [f"{measured.busy_threads:.1f} threads"]
    busy += [name for name, percent in zip(gpus.names, gpus.busy_percent, strict=True) if percent > BUSY_PERCENT]
    if busy:
        text += f"; not kept, for work went on ({', '.join(busy)})"
        report.add(section, "now", State.LIMITED, text, "close what runs, and ask again")
        return None
    report.add(section, "now", State.WORKS, text)
    return measured


def _parts(parts_w: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {'not counted' if watts is None else f'{figure(watts)} W'}" for name, watts in parts_w.items()
    )


def _keep(report: Report, db: Store, health: Health, machine: str, measured: Baseline | None) -> None:
    """Into the store, from where `greenml train` takes it; else what an earlier look has kept there."""
    report.facts["idle"] = None
    if health.trouble:
        return
    try:
        if measured:
            db.keep_idle(
                machine,
                measured_at=measured.measured_at,
                seconds=measured.seconds,
                watts=measured.watts,
                components=measured.components(),
            )
        # A store of an older greenml would be brought up to date for it.
        kept = db.idle(lambda: machine) if measured or health.num_runs is not None else None
    except StoreError as error:
        report.add_error("Idle power", "kept", error)
        return
    report.facts["idle"] = kept
    if kept and measured:
        report.add("Idle power", "kept", State.WORKS, "every run on this machine carries it from now on")
    elif kept:
        parts = _parts({name: kept[f"{name}_w"] for name in ("cpu", "gpu", "ram")})
        when = local(datetime.fromisoformat(str(kept["measured_at"])))
        report.add("Idle power", "kept", State.WORKS, f"{parts}; of {when}; every run here carries it")


def _grid(report: Report, region: str | None) -> None:
    """The intensity that a run would be stored with."""
    report.facts["intensity"] = None
    try:
        intensity = grid.resolve(region, pue=config.DEFAULTS["pue"])
    except UsageError as error:
        report.add_error("CO2", "region", error)
        return
    report.facts["intensity"] = dataclasses.asdict(intensity)
    is_far = intensity.level == "world"  # also where a region was given that has no factor
    report.add("CO2", "region", State.LIMITED if is_far else State.WORKS, intensity.note)
    text = f"{intensity.level}, {intensity.year or 'year not stated'}: {intensity.source}"
    report.add("CO2", "factor", State.WORKS, text)
    text = f"{intensity.pue:g} unless --pue says otherwise; it multiplies grams, never joules"
    report.add("CO2", "PUE", State.WORKS, text)


def _store(report: Report, health: Health) -> None:
    """Whether rows can be read and written, and what waits or died."""
    report.facts["store"] = {part.name: getattr(health, part.name) for part in dataclasses.fields(health)} | {
        "path": str(health.path.absolute()),
        "trouble": str(health.trouble) if health.trouble else None,
    }
    report.findings["Store"] = list(_about(health))
    if health.trouble:
        report.add_error("Store", "writing", health.trouble)
    elif health.exists:
        report.add("Store", "writing", State.WORKS, "a transaction was tried, and taken back")


def _about(health: Health) -> Iterator[Finding]:
    if not health.exists and not health.trouble:
        text = f"{health.path} is not there yet: the first run makes it"
        yield Finding(name="file", state=State.ABSENT, text=text)
    elif health.schema_version and health.num_runs is None and not health.trouble:
        text = f"{health.path} is of an older greenml (schema {health.schema_version})"
        hint = "the next greenml command that reads or writes it brings it up to date"
        yield Finding(name="file", state=State.LIMITED, text=text, hints=(hint,))
    if health.num_runs is not None:
        removed = f", {health.num_removed} removed" if health.num_removed else ""
        text = f"{health.path}: {counted(health.num_runs, 'run')}{removed}, schema {health.schema_version}"
        yield Finding(name="file", state=State.WORKS, text=text)
    if health.alive:
        yield Finding(name="running", state=State.WORKS, text=_some(health.alive))
    if health.crashed:
        hint = "`greenml runs list --crashed` shows them; `greenml train --resume RUN` goes on with one"
        yield Finding(name="crashed", state=State.LIMITED, text=_some(health.crashed), hints=(hint,))
    if health.num_spooled:
        text = f"{counted(health.num_spooled, 'row')} beside the store"
        hint = "the next greenml command that writes adds them"
        yield Finding(name="waiting", state=State.LIMITED, text=text, hints=(hint,))


def _some(run_ids: list[str]) -> str:
    more = f" and {len(run_ids) - NUM_SHOWN} more" if len(run_ids) > NUM_SHOWN else ""
    return ", ".join(run_id[:8] for run_id in run_ids[:NUM_SHOWN]) + more


def _meter(report: Report) -> None:
    """What a run that starts now would store of its joules."""
    section = "A run now"
    report.facts |= {"meter": None, "components": None, "ignored_settings": codecarbon.ignored_settings()}
    try:
        components, described = survey.components()
    except SensorError as error:
        text = f"does not start: {error}"
        report.add(section, "meter", State.BROKEN, text, "a run would go on, and store its joules as unknown")
        report.fail(MeterError.exit_code)
        return
    report.facts["meter"] = described
    report.facts["components"] = {name: dataclasses.asdict(part) for name, part in sorted(components.items())}
    for name, part in sorted(components.items()):
        _component(report, section, name, part)
        if part.source == "unknown":
            report.fail(MeterError.exit_code)
    report.add(section, "meter", State.WORKS, f"{described['meter']}, for the whole machine")
    if ignored := energy.ignored_settings():
        report.add(section, "ignored", State.LIMITED, ignored)


def _component(report: Report, section: str, name: str, part: Component) -> None:
    tick = "" if part.period_s is None else f"; ticks every {format_duration(part.period_s)}"
    is_guessed = str(part.constants.get("tdp_origin", "")).startswith("assumed")
    hints = ("--tdp WATTS, as its maker lists it, makes the model better",) if is_guessed else ()
    method = part.method.removesuffix(f"; {UNREADABLE}")  # which says: see greenml doctor
    report.add(section, name, STATES.get(part.source, State.LIMITED), f"{part.source}: {method}{tick}", *hints)


def _software(report: Report, gpus: Gpus) -> None:
    versions = report.facts["versions"] = environment.versions() | {"greenml": __version__}
    build = survey.torch_build()
    built_for = build[1] if build else None
    report.facts["cuda"] = {"torch_built_for": built_for, "driver_runs": gpus.cuda, "driver": gpus.driver}
    text = ", ".join(f"{name} {version}" for name, version in versions.items())
    report.add("Software", "versions", State.WORKS, text)
    built = f"torch {build[0]} is built for {f'CUDA {built_for}' if built_for else 'CPUs'}" if build else ""
    if not build:
        text = "not installed: `greenml train` needs it"
        report.add("Software", "torch", State.LIMITED, text, "$ pip install torch torchvision")
    elif not gpus.names:
        report.add("Software", "CUDA", State.ABSENT, f"no NVIDIA GPU that answers; {built}")
    elif built_for:
        report.add("Software", "CUDA", State.WORKS, f"driver {gpus.driver} runs CUDA up to {gpus.cuda}; {built}")
    else:
        hint = "https://pytorch.org/get-started has the command for your CUDA"
        report.add("Software", "CUDA", State.LIMITED, f"{built}: the GPU would not be used", hint)
