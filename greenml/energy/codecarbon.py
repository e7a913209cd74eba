"""CodeCarbon as a sensor, heard through a handler of our own: power models, and counters that only it can read."""

from __future__ import annotations

import configparser
import logging
import os
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greenml.energy.sensor import COMPONENTS, Component, Reading, SensorError
from greenml.records import Source
from greenml.units import JOULES_PER_KWH

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

RAPL_PERIOD_S = 0.001

STILL_S = 0.5
"""Nothing that is switched on uses no energy for so long: a sum that stands still is one that is not kept."""

CPU_COUNTERS = {"intel_rapl": "RAPL energy counter", "windows_emi": "Windows energy meter (RAPL)"}

LEAST_LOAD = 0.1
"""Share of the TDP that CodeCarbon's load model gives at no load, ..."""
CONSTANT_LOAD = 0.5
"""... and the one that its constant model always gives (tests/test_energy.py holds both)."""

KEYS = {
    "pue": "pue",
    "force_cpu_power": "tdp",
    "tracking_mode": "scope",
    "measure_power_secs": "sampling_interval",
    "country_iso_code": "region",
    "region": "region",
    "cloud_region": "region",
    "project_name": "name",
}
"""CodeCarbon's keys, and greenml's that do what they ask for."""


def version_name() -> str:
    """CodeCarbon and its version."""
    return f"CodeCarbon {version('codecarbon')}"


def ignored_settings() -> dict[str, list[str]]:
    """What is set for CodeCarbon here and not obeyed: keys by the file, or the `environment`, that sets them."""
    found: dict[str, list[str]] = {}
    for folder in dict.fromkeys((Path.home(), Path.cwd())):
        file, parser = folder / ".codecarbon.config", configparser.ConfigParser()
        try:
            if parser.read(file) and parser.has_section("codecarbon"):
                found[str(file)] = sorted(parser["codecarbon"])
        except (configparser.Error, UnicodeDecodeError):
            found[str(file)] = []
    prefix = "codecarbon_"
    if names := sorted(name for name in os.environ if name.lower().startswith(prefix)):
        found["environment"] = names
    return found


class CodeCarbonSensor:
    """What CodeCarbon knows of `wanted` components, as cumulative joules.

    Every setting is passed explicitly: CodeCarbon would fill what is missing from `CODECARBON_*` variables and
    `.codecarbon.config`, which would change the figures unseen. It multiplies PUE into joules, so it always gets 1, and
    its grams are not used: greenml derives them from joules. Readings are differences of one running total, so they add
    up to it exactly. No method of the tracker raises: a reading counts only when the handler was called. A device that
    falls silent adds 0 J and no word, so a sum that stands still is unknown, and broken where it goes on.
    """

    def __init__(self, wanted: Collection[str] = COMPONENTS, *, tdp_w: float | None = None) -> None:
        # requests silences this itself, unless another thread that is just loading torch undoes it.
        warnings.filterwarnings("ignore", message="SOCKS support in urllib3")
        # `flush()` skips measuring within 50 ms of the last sample (codecarbon 3.3.2).
        self.min_interval_s = 0.05
        self._wanted, self._tdp_w = [name for name in COMPONENTS if name in wanted], tdp_w
        self._latest: Any = None
        self._tracker: Any = None
        self._components = {name: Component(Source.UNKNOWN, "CodeCarbon did not start") for name in self._wanted}
        self._grew: dict[str, tuple[float, float]] = {}
        self._still: set[str] = set()

    def start(self) -> None:
        """Detect the hardware and begin to count; 2 to 3 s the first time. Raises SensorError."""
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.output_methods.base_output import BaseOutput

        sensor = self
        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)

        class Handler(BaseOutput):
            def out(self, total: Any, delta: Any) -> None:  # noqa: ARG002
                sensor._latest = total

        self._tracker = OfflineEmissionsTracker(
            country_iso_code="USA",  # required and unused: the intensity is forced, and its grams are dropped
            region=None,
            cloud_provider=None,
            cloud_region=None,
            country_2letter_iso_code=None,
            force_carbon_intensity_g_co2e_kwh=1.0,
            project_name="greenml",
            measure_power_secs=86400,  # only the measuring thread measures: its scheduler would race with flush()
            api_call_interval=-1,
            output_dir=tempfile.gettempdir(),
            output_methods=[],
            save_to_file=False,
            save_to_api=False,
            save_to_logger=False,
            save_to_prometheus=False,
            save_to_logfire=False,
            emissions_endpoint=None,
            output_handlers=[Handler()],
            electricitymaps_api_token=None,
            tracking_mode="machine",
            log_level="critical",
            logger_preamble="",
            gpu_ids=None,
            force_cpu_power=None,  # it would also replace a counter; --tdp is for the model alone
            force_ram_power=None,
            force_mode_cpu_load=False,
            rapl_include_dram=False,
            rapl_prefer_psys=False,
            allow_multiple_runs=True,
            pue=1.0,
            wue=0.0,
            metadata=None,
        )
        self._tracker.start()
        parts = self._take_over()
        self._flush()  # a throw-away: the first flush loads the tables
        self._components = {name: self._component(name, parts.get(name)) for name in self._wanted}
        self._wanted = [name for name in self._wanted if self._components[name].source is not Source.ABSENT]

    def components(self) -> Mapping[str, Component]:
        return self._components

    def describe(self) -> dict[str, object]:
        ignored = [f"{key} ({place})" for place, keys in ignored_settings().items() for key in keys or ["unreadable"]]
        return {"meter": version_name(), "ignored": ignored}

    def read(self) -> Reading:
        """Cumulative joules now. Raises SensorError where CodeCarbon stays silent."""
        total, now = self._flush(), time.monotonic()
        joules: dict[str, float | None] = {}
        broken = set[str]()
        for name in self._wanted:
            kwh = getattr(total, f"{name}_energy")
            before_kwh, grew_at = self._grew.get(name, (-1.0, now))
            if kwh > before_kwh:
                self._grew[name] = (kwh, now)
                if name in self._still:
                    self._still.remove(name)
                    broken.add(name)
            elif now - grew_at > STILL_S and self._may_not_stand_still(name):
                self._still.add(name)
            joules[name] = None if name in self._still else kwh * JOULES_PER_KWH
        faults = dict.fromkeys(self._still, "CodeCarbon's sum stands still: the device fell silent")
        return Reading(joules, broken=frozenset(broken), faults=faults)

    def stop(self) -> None:
        if self._tracker is not None:
            self._tracker.stop()

    def _flush(self) -> Any:
        self._latest = None
        self._tracker.flush()
        if self._latest is None:
            raise SensorError("CodeCarbon did not answer")
        return self._latest

    def _take_over(self) -> dict[str, Any]:
        """Keep of CodeCarbon's hardware what is wanted, set as asked for; the parts by component.

        It keeps no provenance, so that has to be read off its objects.
        """
        parts = {name: part for part in self._tracker._hardware if (name := _component_of(part)) in self._wanted}
        self._tracker._hardware = list(parts.values())
        cpu, gpu = parts.get("cpu"), parts.get("gpu")
        if cpu and self._tdp_w is not None and _is_modelled(cpu):
            cpu._tdp = self._tdp_w
        if gpu and type(gpu).__name__ == "GPU":
            gpu.gpu_ids = list(range(gpu.num_gpus))  # it would follow CUDA_VISIBLE_DEVICES; the machine has them all
            self.min_interval_s = 0.12  # a tick of their counters at least between two readings
        elif _is_modelled(cpu) and self._tracker._scheduler_monitor_power:
            # Its second thread samples power every second; so does the heartbeat. It took half of the meter's time.
            self._tracker._scheduler_monitor_power.stop()
        return parts

    def _may_not_stand_still(self, name: str) -> bool:
        return not (name == "gpu" and "Apple" in self._components[name].method)  # whose GPU may be said to draw 0 mW

    def _component(self, name: str, part: Any) -> Component:
        match name, type(part).__name__:
            case "gpu", "NoneType":
                return Component(Source.ABSENT, "no GPU that CodeCarbon can read")
            case _, "NoneType":
                return Component(Source.UNKNOWN, "CodeCarbon found none")
            case _, "AppleSiliconChip":
                return Component(Source.ESTIMATED, "Apple's power estimate (powermetrics), for 1 s at each reading")
            case _, "Raspberry":
                return Component(Source.ESTIMATED, "power of the board's supply rails (PMIC) at each reading")
            case "gpu", _:
                return _gpu(part)
            case "ram", _:
                return _ram(part)
            case _:
                return self._cpu(part)

    def _cpu(self, part: Any) -> Component:
        if part._mode in CPU_COUNTERS:
            return Component(Source.MEASURED, f"{CPU_COUNTERS[part._mode]}, read by CodeCarbon", RAPL_PERIOD_S)
        if not _is_modelled(part):
            return Component(Source.ESTIMATED, "Intel Power Gadget, power for 1 s at each reading")
        tdp_w, origin = part._tdp, self._tdp_origin(part)
        is_load = part._mode == "cpu_load"
        return Component(
            Source.ESTIMATED,
            f"{'load model' if is_load else 'constant'}, {tdp_w:g} W TDP {origin}",
            constants={"tdp_w": tdp_w, "tdp_origin": origin},
            idle_w=tdp_w * (LEAST_LOAD if is_load else CONSTANT_LOAD),
        )

    def _tdp_origin(self, part: Any) -> str:
        from codecarbon.core.cpu import DEFAULT_POWER_PER_CORE

        if self._tdp_w is not None:
            return "given by --tdp"
        threads, sockets = self._tracker._conf["cpu_count"], self._tracker._conf["cpu_physical_count"]
        assumed_w = DEFAULT_POWER_PER_CORE * threads * sockets  # what CodeCarbon takes for a CPU that it does not know
        is_assumed = part._is_generic_tdp or part._tdp == assumed_w
        # On a Mac with an M processor it looks nothing up, and a second tracker forgets that it did not.
        is_assumed = is_assumed or str(part._model).startswith("Apple")
        return "assumed for an unlisted CPU" if is_assumed else "listed for this CPU"


def _component_of(part: Any) -> str | None:
    """Which component one of CodeCarbon's hardware objects stands for."""
    by_kind = {"CPU": "cpu", "GPU": "gpu", "RAM": "ram"}
    kind = type(part).__name__
    if kind in ("AppleSiliconChip", "Raspberry"):
        return by_kind.get(part.chip_part)
    return by_kind.get(kind)


def _is_modelled(cpu: Any) -> bool:
    return type(cpu).__name__ == "CPU" and cpu._mode in ("cpu_load", "constant")


def _gpu(part: Any) -> Component:
    devices = part.devices.devices
    if not devices:
        return Component(Source.UNKNOWN, "a GPU driver without a GPU that answers")
    plural = f"s of {len(devices)} GPUs" if len(devices) > 1 else ""
    if any(device._use_power_fallback for device in devices):
        return Component(Source.ESTIMATED, f"GPU power{plural} polled by CodeCarbon")
    makers = {"AMD" if type(device).__name__.startswith("AMD") else "NVML" for device in devices}
    # How often AMD's counters tick is not said, so that no bound is given.
    return Component(Source.MEASURED, f"{' and '.join(sorted(makers))} energy counter{plural}, read by CodeCarbon")


def _ram(part: Any) -> Component:
    power_w, memory_gb = part.total_power().W, part.machine_memory_GB
    return Component(
        Source.ESTIMATED,
        f"{power_w:.3g} W model for {memory_gb:.0f} GB",
        constants={"power_w": power_w, "memory_gb": round(memory_gb, 1)},
        idle_w=power_w,
    )
