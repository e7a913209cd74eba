"""CodeCarbon as a sensor, heard through a handler of our own; NVIDIA GPUs are read off their counters directly."""

from __future__ import annotations

import logging
import tempfile
import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from greenml.energy import nvml
from greenml.energy.sensor import Component, Reading, SensorError
from greenml.records import Source
from greenml.units import JOULES_PER_KWH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from greenml.energy.nvml import NvmlCounters

RAPL_PERIOD_S = 0.001

CPU_METHODS = {
    "intel_rapl": (Source.MEASURED, "RAPL energy counter", RAPL_PERIOD_S),
    "windows_emi": (Source.MEASURED, "Windows energy meter (RAPL)", RAPL_PERIOD_S),
    "intel_power_gadget": (Source.MEASURED, "Intel Power Gadget", RAPL_PERIOD_S),
}


class CodeCarbonSensor:
    """What CodeCarbon knows of this machine, as cumulative joules.

    Every setting is passed explicitly: CodeCarbon would fill what is missing from `CODECARBON_*` variables and
    `.codecarbon.config`, which would change the figures unseen. It multiplies PUE into joules, so it always gets 1, and
    its grams are not used: greenml derives them from joules. Readings are differences of one running total, so they add
    up to it exactly. No method of the tracker raises: a reading counts only when the handler was called. Where a GPU
    stays silent CodeCarbon counts 0 J and does not say so, hence the counters of our own.
    """

    def __init__(self) -> None:
        # requests silences this itself, unless another thread that is just loading torch undoes it.
        warnings.filterwarnings("ignore", message="SOCKS support in urllib3")
        # `flush()` skips measuring within 50 ms of the last sample (codecarbon 3.3.2).
        self.min_interval_s = 0.05
        self._latest: Any = None
        self._tracker: Any = None
        self._counters: NvmlCounters | None = None
        self._components = {
            name: Component(Source.UNKNOWN, "the meter did not start") for name in ("cpu", "gpu", "ram")
        }

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
            force_cpu_power=None,
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
        self.read()  # a throw-away: the first flush loads pandas and the tables
        try:
            self._counters = nvml.open_counters()
            gpu = _gpu(self._counters, self._hardware("GPU"))
        except SensorError as error:
            gpu = Component(Source.UNKNOWN, str(error))
        if self._counters:
            self.min_interval_s = 1.2 * nvml.PERIOD_S  # a tick at least between two readings
        self._components = {"cpu": self._cpu(), "gpu": gpu, "ram": _ram(self._hardware("RAM"))}

    def components(self) -> Mapping[str, Component]:
        return self._components

    def describe(self) -> dict[str, str]:
        return {"meter": f"CodeCarbon {version('codecarbon')}", "scope": "machine"}

    def read(self) -> Reading:
        """Cumulative joules now. Raises SensorError where CodeCarbon stays silent."""
        self._latest = None
        self._tracker.flush()
        if self._latest is None:
            raise SensorError("CodeCarbon did not answer")
        total = self._latest
        return Reading(
            cpu_j=total.cpu_energy * JOULES_PER_KWH,
            gpu_j=self._counters.read_j() if self._counters else total.gpu_energy * JOULES_PER_KWH,
            ram_j=total.ram_energy * JOULES_PER_KWH,
        )

    def stop(self) -> None:
        if self._tracker is not None:
            self._tracker.stop()

    def _hardware(self, kind: str) -> Any:
        """What CodeCarbon built for a component: it keeps no provenance, so that has to be read off its objects."""
        return next((part for part in self._tracker._hardware if type(part).__name__ == kind), None)

    def _cpu(self) -> Component:
        from codecarbon.core.cpu import DEFAULT_POWER_PER_CORE

        part = self._hardware("CPU")
        if part is None:
            return Component(Source.ESTIMATED, "power model of the chip")
        if part._mode in CPU_METHODS:
            return Component(*CPU_METHODS[part._mode])
        threads, sockets = self._tracker._conf["cpu_count"], self._tracker._conf["cpu_physical_count"]
        assumed_w = DEFAULT_POWER_PER_CORE * threads * sockets  # what CodeCarbon takes for a CPU that it does not know
        unlisted = part._is_generic_tdp or part._tdp == assumed_w
        origin = "assumed for an unlisted CPU" if unlisted else "listed for this CPU"
        model = "load model" if part._mode == "cpu_load" else "constant"
        return Component(Source.ESTIMATED, f"{model}, {part._tdp:g} W TDP {origin}")


def _gpu(counters: NvmlCounters | None, part: Any) -> Component:
    if counters:
        plural = "s" if counters.num_gpus > 1 else ""
        return Component(
            Source.MEASURED, f"NVML energy counter{plural} of {counters.num_gpus} GPU{plural}", nvml.PERIOD_S
        )
    if part is None:
        return Component(Source.ABSENT, "no GPU that CodeCarbon can read")
    if not part.devices.devices:
        return Component(Source.UNKNOWN, "a GPU driver without a GPU that answers")
    return Component(Source.ESTIMATED, "GPU power polled by CodeCarbon")


def _ram(part: Any) -> Component:
    if part is None:
        return Component(Source.ESTIMATED, "power model of the chip")
    return Component(Source.ESTIMATED, f"{part.total_power().W:.3g} W model for {part.machine_memory_GB:.0f} GB")
