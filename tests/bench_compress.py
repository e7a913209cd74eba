"""What compression is worth here: int8 and pruned models against their originals, alternating, and a cold `predict`.

How fast a model answers does not depend on what it learned, so these are fresh ones, on random images. But for their
norms: timm begins with zeros at the end of each residual block, and OpenVINO leaves out what is multiplied by them.
What compression costs in accuracy `greenml compress` says of real models.

    python tests/bench_compress.py       this part of `make bench` alone
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from bench_store import Figure
from conftest import make_end, make_run
from torch import nn

from greenml import serve
from greenml.compress import prune, quantize
from greenml.compress.footprint import num_bytes
from greenml.compress.inference import Contender, measure
from greenml.energy import Meter
from greenml.energy.replay import ReplaySensor
from greenml.learn import artifact, models
from greenml.learn.batches import Normalisation
from greenml.learn.serving import TorchPredictor
from greenml.store import Store

if TYPE_CHECKING:
    from greenml.records import Inference

SHAPE = (3, 32, 32)
BATCH_SIZES = (1, 256)
REPEATS = 5
MODELS = ("cnn", "resnet18")
CALIBRATION = 1024


class Ratio(NamedTuple):
    """Throughput of one model over that of another, in pairs of repeats that lie beside each other."""

    ratios: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    @property
    def spread(self) -> str:
        return f"{min(self.ratios):.2f} to {max(self.ratios):.2f}"


def bench() -> list[Figure]:
    """Fresh models on random images, and the start of a cold process."""
    figures = []
    for name in MODELS:
        torch.manual_seed(0)
        model, _ = models.create(name, num_classes=10, in_chans=3, image_size=32, model_args={})
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.uniform_(norm.weight, 0.5, 1.5)
        figures += _int8(name, model.eval())
        figures += _pruned(name, model.eval())
    return [*figures, _cold_start()]


def _int8(name: str, model: nn.Module) -> list[Figure]:
    """OpenVINO's int8 against PyTorch's fp32, the same runtime in fp32, and whoever is best in bf16."""
    with tempfile.TemporaryDirectory() as folder:
        found = _forms(Path(folder), model)
        rows = _measured(found)
        figures = []
        for size in BATCH_SIZES:
            bf16 = max((one for one in found if one.name.endswith("bf16")), key=lambda one: _rate(rows, one.name, size))
            for other in ("torch fp32", "openvino fp32", bf16.name):
                ratio = _ratio(rows, "openvino int8", other, size)
                what = f"{name}, int8 / {other}{' (the best bf16)' * (other == bf16.name)}, batch {size}: throughput"
                figures.append(Figure(what, f"{ratio.median:.2f}x", len(ratio.ratios), ratio.spread))
            rate = _rate(rows, "openvino int8", size)
            figures.append(Figure(f"{name}, int8, batch {size}", f"{rate:,.0f} images/s", REPEATS, ""))
        by_name = {one.name: one for one in found}
        share = by_name["openvino int8"].num_bytes / by_name["torch fp32"].num_bytes
        return [*figures, Figure(f"{name}, int8 / fp32: bytes on disk", f"{100 * share:.1f} %", 1, "")]


def _forms(folder: Path, model: nn.Module) -> list[Contender]:
    """One model as it is served in every way that counts."""
    said = _said()
    artifact.save(folder / "model.pt", model, said)
    threads = torch.get_num_threads()
    original = quantize.to_openvino(model, SHAPE)
    random = np.random.default_rng(0)
    images = (random.standard_normal((64, *SHAPE), dtype=np.float32) for _ in range(CALIBRATION // 64))
    for place, converted, numbers in (
        ("fp32", original, "fp32"),
        ("int8", quantize.int8(quantize.to_openvino(model, SHAPE), images), "int8"),
    ):
        (folder / place).mkdir()
        quantize.save(converted, folder / place, said, numbers)
    predictors = {
        "torch fp32": TorchPredictor(model, said, "cpu", "fp32"),
        "torch bf16": TorchPredictor(model, said, "cpu", "bf16"),
        "openvino fp32": serve.open_exported(folder / "fp32", precision="fp32", num_threads=threads),
        "openvino bf16": serve.open_exported(folder / "fp32", precision="bf16", num_threads=threads),
        "openvino int8": serve.open_exported(folder / "int8", num_threads=threads),
    }
    places = {"openvino int8": folder / "int8"} | {
        f"openvino {numbers}": folder / "fp32" for numbers in ("fp32", "bf16")
    }
    return [
        Contender(
            name=name,
            model_run="",
            folder=folder,
            predictor=predictor,
            num_bytes=num_bytes(predictor, places.get(name, folder)),
            num_parameters=0,
            flops_per_sample=None,
        )
        for name, predictor in predictors.items()
    ]


def _said() -> dict[str, Any]:
    return artifact.describe(
        architecture="cnn",
        model_args={},
        classes=[str(label) for label in range(10)],
        in_chans=3,
        image_size=32,
        norm=Normalisation([0.0] * 3, [1.0] * 3),
    )


def _pruned(name: str, model: nn.Module) -> list[Figure]:
    """Half of the multiplications gone, in PyTorch's fp32 both."""
    sparsity = 0.3
    small = prune.structured(model, sparsity, SHAPE, 10)
    with tempfile.TemporaryDirectory() as folder:
        rows = _measured(
            [
                Contender(
                    name=which,
                    model_run="",
                    folder=Path(folder),
                    predictor=TorchPredictor(one, {}, "cpu", "fp32"),
                    num_bytes=0,
                    num_parameters=0,
                    flops_per_sample=None,
                )
                for which, one in (("dense", model), ("pruned", small.model))
            ]
        )
    ratio = _ratio(rows, "pruned", "dense", 256)
    what = f"{name}, pruned {sparsity:g} ({small.macs_before / small.macs:.2f}x fewer MACs) / dense: throughput"
    return [Figure(what, f"{ratio.median:.2f}x", len(ratio.ratios), ratio.spread)]


def _measured(contenders: list[Contender]) -> list[Inference]:
    images = np.random.default_rng(0).standard_normal((1024, *SHAPE), dtype=np.float32)
    with Meter(ReplaySensor(), run_id="0" * 12) as meter:
        meter.wait_until_ready()
        rows = list(measure(contenders, images, BATCH_SIZES, REPEATS, meter, "0" * 12, halted=lambda: None))
        meter.finish()
    return rows


def _ratio(rows: list[Inference], one: str, other: str, batch_size: int) -> Ratio:
    rates = {
        (row.name, row.repeat): row.num_predictions / row.duration_s for row in rows if row.batch_size == batch_size
    }
    return Ratio([rates[one, repeat] / rates[other, repeat] for repeat in range(1, REPEATS + 1)])


def _rate(rows: list[Inference], name: str, batch_size: int) -> float:
    own = [row for row in rows if (row.name, row.batch_size) == (name, batch_size)]
    return statistics.median(row.num_predictions / row.duration_s for row in own)


def _cold_start(*, num: int = 5) -> Figure:
    """`greenml predict` on an int8 cnn, from the start of the process to its answer."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model, _ = models.create("cnn", num_classes=10, in_chans=3, image_size=32, model_args={})
        run_id = "a" * 12
        store = Store(folder / "greenml.duckdb")
        store.check()
        store.write([make_run(run_id, kind="compress", parent="b" * 12, method="int8"), make_end(run_id)])
        images = np.random.default_rng(0).standard_normal((128, *SHAPE), dtype=np.float32)
        converted = quantize.int8(quantize.to_openvino(model.eval(), SHAPE), [images])
        quantize.save(converted, folder / "runs" / run_id, _said(), "int8")
        Image.new("RGB", (32, 32)).save(folder / "image.png")
        seconds = []
        for _ in range(num + 1):
            began = time.perf_counter()
            command = [sys.executable, "-m", "greenml", "predict", run_id, str(folder / "image.png"), "--json"]
            done = subprocess.run([*command, "--store", str(folder / "greenml.duckdb")], capture_output=True, text=True)
            seconds.append(time.perf_counter() - began)
            assert json.loads(done.stdout), done.stderr
    cold = seconds[1:]  # the first one may also compile Python
    return Figure(
        "`greenml predict` of an int8 cnn, whole process",
        f"{statistics.median(cold):.2f} s",
        num,
        f"{min(cold):.2f} to {max(cold):.2f} s",
    )


if __name__ == "__main__":
    for figure in bench():
        print(f"{figure.name:<90}  {figure.value:>14}  n={figure.n:<5} {figure.spread}", flush=True)
