"""What trackers are told of a run: the same names and units in each of them. Unknown is left out, never 0."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from greenml.units import co2_g, wh

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from greenml.records import Epoch, Intensity, Run

FACTS = (
    "num_parameters", "flops_per_sample", "num_classes", "num_train", "num_val", "num_test", "image_size", "resize",
    "stem", "precision_asked", "accumulation", "season",
)  # fmt: skip
"""Of a run: what its config does not say."""
ORIGINS = ("kind", "data_hash", "split_hash", "dependencies_hash", "git_commit", "git_dirty", "command")
SUMS = ("cpu", "gpu", "ram")


def params(run: Run) -> dict[str, Any]:
    """The resolved config; what was found out; how energy and grams are known; the machine. Nested."""
    known: dict[str, Any] = {name: getattr(run, name) for name in FACTS} | {
        "energy": {"scope": run.scope, **run.meter},
        "grid": dataclasses.asdict(run.intensity),
        "hardware": run.hardware,
        "versions": run.versions,
    }
    basics = {"model": run.model, "dataset": run.dataset, "device": run.device, "seed": run.seed}
    return without_unknown(basics) | run.config | without_unknown(known)


def tags(run: Run) -> dict[str, Any]:
    """What a run is found by, and where it comes from."""
    origins = {name: getattr(run, name) for name in ORIGINS}
    named = {"run_id": run.run_id, "parent": run.parent, "tags": ", ".join(run.tags) or None}
    return without_unknown(named | origins)


def title(run: Run) -> str:
    """Its name, or what it is."""
    return run.name or f"{run.model} {run.dataset} {run.run_id[:8]}"


def epoch_metrics(epoch: Epoch, run: Run) -> dict[str, float]:
    """Accuracies are fractions 0 to 1; Wh, g CO2e, watts, seconds and bytes as the names say."""
    joules = {"": epoch.energy_j, "cpu_": epoch.cpu_j, "gpu_": epoch.gpu_j, "ram_": epoch.ram_j}
    figures: dict[str, float | None] = {
        "train_loss": epoch.train_loss,
        "train_accuracy": epoch.train_accuracy,
        "val_loss": epoch.val_loss,
        "val_accuracy": epoch.val_accuracy,
        "lr": epoch.lr,
        "duration_s": epoch.duration_s,
        **{f"{part}energy_wh": _wh(joule) for part, joule in joules.items()},
        "energy_error_wh": _wh(epoch.error_j),
        "energy_so_far_wh": _wh(epoch.energy_total_j),
        "co2_g": _grams(epoch.energy_j, run.intensity, epoch.g_per_kwh),
        "co2_so_far_g": _grams(epoch.energy_total_j, run.intensity, epoch.total_g_per_kwh),
        "watts": epoch.energy_j / epoch.duration_s if epoch.energy_j is not None and epoch.duration_s else None,
        "peak_host_bytes": epoch.peak_host_bytes,
        "peak_device_bytes": epoch.peak_device_bytes,
    }
    if run.metric != "accuracy":
        figures[run.metric] = epoch.value
    return without_unknown(figures)


def final_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """What the whole run reached and took, out of what the store knows of it; points a kWh are its, too."""
    kwh = {"total_energy_wh": "energy_kwh"} | {f"total_{name}_energy_wh": f"{name}_kwh" for name in SUMS}
    figures: dict[str, float | None] = {
        "test_accuracy": summary["accuracy"],
        "test_loss": summary["test_loss"],
        "best_val_accuracy": summary["val_accuracy"],
        "best_epoch": summary["best_epoch"],
        **{name: None if summary[key] is None else 1000 * summary[key] for name, key in kwh.items()},
        "total_co2_g": summary["co2_g"],
        "total_duration_s": summary["duration_s"],
        "acc_per_kwh": summary["acc_per_kwh"],
        "acc_per_kg": summary["acc_per_kg"],
    }
    if summary["metric"] != "accuracy":
        figures[f"final_{summary['metric']}"] = summary["value"]
    return without_unknown(figures)


def final_tags(summary: Mapping[str, Any]) -> dict[str, Any]:
    """How it ended, how good its joules are, and why it is in no ranking."""
    named = {name: summary.get(name) for name in ("status", "stop_reason", "unranked")}
    sources = {f"{name}_source": summary.get(f"{name}_source") for name in SUMS}
    return without_unknown(named | {"energy_source": summary["source"]} | sources)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested -> dotted names."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def without_unknown(values: Mapping[str, Any]) -> dict[str, Any]:
    """None is unknown, and left out, also of what is nested."""
    return {
        name: without_unknown(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if value is not None
    }


def _wh(joules: float | None) -> float | None:
    return None if joules is None else wh(joules)


def _grams(joules: float | None, intensity: Intensity, own_g_per_kwh: float | None) -> float | None:
    """At the intensity of its own hours, where that was known."""
    g_per_kwh = intensity.g_per_kwh if own_g_per_kwh is None else own_g_per_kwh
    return None if joules is None else co2_g(joules, g_per_kwh, intensity.pue)
