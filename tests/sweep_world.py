"""What a training of the search space would have given, without training it: a surrogate made of recorded curves.

`tests/data/curves.jsonl.gz` holds trainings of random configs of the space on a subset of CIFAR-10, 2,401 images of
16 px, ten epochs each. Between them a Gaussian process tells what another config would have given; it leans on
`generator`, plain formulas fitted by hand, where nothing was recorded near. Accuracies are recorded, energies are not:
they come from `tests/data/costs.json`, a set-up and an epoch by model, precision and batch size.

    python tests/sweep_world.py --record parquet:data/cifar10 200   trains so many more configs
    python tests/sweep_world.py --take curves.jsonl                 takes curves that were recorded elsewhere
    python tests/sweep_world.py --costs                             measures the costs anew: leave the machine alone
    python tests/sweep_world.py                                     how far the surrogate is off
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import math
import random
import statistics
import sys
import tempfile
import time
import warnings
from datetime import timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from greenml.records import Epoch, Phase
from greenml.sweep.front import Point

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sklearn.gaussian_process import GaussianProcessRegressor

    from greenml.records import Record

DATA = Path(__file__).parent / "data"
CURVES, COSTS = DATA / "curves.jsonl.gz", DATA / "costs.json"
EPOCHS = 10
CHANCE = 0.1
NUM_TRAIN, NUM_VAL = 2401, 1599
MODELS, SIZES, PRECISIONS = ("cnn", "resnet18", "mobilenetv2_100"), (64, 128, 256), ("fp32", "bf16")
KEYS = ("model", "batch_size", "optimizer", "lr", "weight_decay", "label_smoothing", "precision", "augment")
"""Of a config, what its curve depends on."""
BEST_LR = {"adamw": 0.003, "sgd": 0.08}
"""Where the generator has its summit, at a batch of 128."""
LAST_Z = -4.0
"""Of a training that learns nothing."""
ENOUGH = 30
"""Recorded curves from which noise is told by them; with fewer it is assumed."""
ASSUMED = (0.1, 0.06, 0.04)
"""Noise of a training on the scale of `z`, in level, slope and epoch: 0.1 is 2 points of accuracy or so."""


class Curve(NamedTuple):
    """A recorded training."""

    config: dict[str, Any]
    accuracies: list[float]
    """Of validation, an epoch each; short where it broke off."""


class Training(NamedTuple):
    """What one training gives, epoch by epoch."""

    seen: list[Point]
    """As validation tells it."""
    true: list[Point]
    """As an endless validation would."""


# Accuracies are told by z: where they stand between chance and certainty, as a logit


def z_of(accuracy: float) -> float:
    share = (accuracy - CHANCE) / (1 - CHANCE)
    return LAST_Z if share <= 0 else max(LAST_Z, math.log(share / (1 - share)))


def accuracy_of(z: float) -> float:
    return CHANCE + (1 - CHANCE) / (1 + math.exp(-z))


AGES = [math.log(epoch) - statistics.fmean(map(math.log, range(1, EPOCHS + 1))) for epoch in range(1, EPOCHS + 1)]


def generator(config: Mapping[str, Any]) -> tuple[float, float]:
    """Level and slope of z against the logarithm of the epoch, by formulas that were fitted to few curves by eye.

    An optimum of the rate that moves with the root of the batch, and falls off on both sides, faster above it; more
    steps an epoch learn more; augmentation and smoothing cost a little in so few epochs.
    """
    off = math.log10(config["lr"] / (BEST_LR[config["optimizer"]] * math.sqrt(config["batch_size"] / 128)))
    level = {"cnn": -0.55, "resnet18": -0.75, "mobilenetv2_100": -1.35}[config["model"]]
    level -= (1.1 if off > 0 else 0.45) * off**2
    level -= 0.2 * math.log2(config["batch_size"] / 128)
    level -= {"none": 0.0, "crop": 0.05, "crop-flip": 0.05}[config["augment"]]
    level -= 0.1 * config["label_smoothing"] / 0.2
    return level, 0.5


def features(config: Mapping[str, Any]) -> list[float]:
    """Places in which near configs stand near each other, about one apart where they differ in what matters."""
    off = math.log10(config["lr"] / BEST_LR[config["optimizer"]])
    return [
        *(1.0 * (config["model"] == model) for model in MODELS),
        math.log2(config["batch_size"] / 128),
        0.7 * (config["optimizer"] == "sgd"),
        1.5 * off,
        0.3 * math.log10(config["weight_decay"]),
        2.0 * config["label_smoothing"],
        0.3 * (config["precision"] == "fp32"),
        0.7 * (config["augment"] == "none"),
        0.3 * (config["augment"] == "crop-flip"),
    ]


class Surrogate:
    """Level and slope of any config's curve: the generator, and what the recorded curves say against it."""

    def __init__(self, curves: Sequence[Curve], kernels: Sequence[Any] | None = None) -> None:
        self.curves = curves
        self._places = np.array([features(curve.config) for curve in curves])
        self.found = np.array([_line(curve) for curve in curves])
        """Level and slope of each recorded curve, less the generator's."""
        self._fits = [self._fit(column, kernels and kernels[column]) for column in (0, 1)]

    def _fit(self, column: int, kernel: Any) -> GaussianProcessRegressor:
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

        fresh = ConstantKernel(0.2, (1e-3, 3)) * RBF(2.0, (0.7, 6)) + WhiteKernel(0.05, (2e-3, 1))
        fit = GaussianProcessRegressor(kernel or fresh, optimizer=None if kernel else "fmin_l_bfgs_b", alpha=1e-6)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few curves: a bound of a kernel is reached
            return fit.fit(self._places, self.found[:, column])

    @property
    def kernels(self) -> list[Any]:
        return [fit.kernel_ for fit in self._fits]

    def resampled(self, seed: int) -> Surrogate:
        """Made of as many curves drawn again from these: what the recordings might as well have been."""
        return Surrogate(random.Random(seed).choices(self.curves, k=len(self.curves)), self.kernels)

    def line(self, config: Mapping[str, Any]) -> tuple[float, float]:
        level, slope = generator(config)
        place = np.array([features(config)])  # as `predict` does it, without its checks, which take most of its time
        found = [(fit.kernel_(place, self._places) @ fit.alpha_).item() for fit in self._fits]
        return level + found[0], slope + found[1]

    @cached_property
    def left_out(self) -> list[tuple[float, float]]:
        """Errors in level and slope where each curve is told by the others (kernels as fitted to all)."""
        errors = []
        for i in range(len(self.curves)):
            rest = Surrogate([*self.curves[:i], *self.curves[i + 1 :]], self.kernels)
            said, came = rest.line(self.curves[i].config), _fitted(self.curves[i])
            errors.append((came[0] - said[0], came[1] - said[1]))
        return errors

    @cached_property
    def spread(self) -> tuple[float, float]:
        """Standard deviations of level and slope between trainings of one config: what the fit holds to be noise."""
        if len(self.curves) < ENOUGH:
            return ASSUMED[:2]
        level, slope = (math.sqrt(kernel.k2.noise_level) for kernel in self.kernels)
        return level, slope


def _fitted(curve: Curve) -> tuple[float, float]:
    """A straight line through z against the logarithm of the epoch. A training that broke off learns nothing more."""
    zs = [z_of(accuracy) for accuracy in curve.accuracies]
    zs += [LAST_Z] * (EPOCHS - len(zs))
    slope = sum(age * z for age, z in zip(AGES, zs, strict=True)) / sum(age**2 for age in AGES)
    return statistics.fmean(zs), slope


def _line(curve: Curve) -> list[float]:
    level, slope = generator(curve.config)
    came = _fitted(curve)
    return [came[0] - level, came[1] - slope]


def rough(curves: Sequence[Curve]) -> float:
    """How far epochs stand off the straight line of their curve, on the scale of z; validation's own error aside."""
    if len(curves) < ENOUGH:
        return ASSUMED[2]
    left = []
    for curve in curves:
        level, slope = _fitted(curve)
        for age, accuracy in zip(AGES, curve.accuracies, strict=False):
            if accuracy > 2 * CHANCE:
                share = (accuracy - CHANCE) / (1 - CHANCE)
                error = math.sqrt(accuracy * (1 - accuracy) / NUM_VAL) / ((1 - CHANCE) * share * (1 - share))
                left.append((z_of(accuracy) - level - slope * age) ** 2 - error**2)
    return math.sqrt(max(statistics.fmean(left), 0.0)) if left else 0.0


class World:
    """One possible world: a surrogate made of recordings drawn again, and luck of its own for every config."""

    def __init__(self, seed: int, *, drawn_again: bool = True) -> None:
        whole = surrogate()
        self._seed = seed
        self._surrogate = whole.resampled(seed) if drawn_again else whole
        self._spread, self._rough = whole.spread, rough(whole.curves)
        self._trained: dict[str, Training] = {}

    def train(self, config: Mapping[str, Any]) -> Training:
        """A whole training of ten epochs; the same config gives the same."""
        plain = {key: config[key] for key in KEYS}
        plain["precision"] = "bf16" if config["precision"] == "fp16" else config["precision"]  # as a CPU takes it
        key = json.dumps(plain, sort_keys=True)
        if key not in self._trained:
            self._trained[key] = self._train(plain, key)
        return self._trained[key]

    def _train(self, config: Mapping[str, Any], key: str) -> Training:
        luck = np.random.default_rng([self._seed, *hashlib.sha256(key.encode()).digest()])
        level, slope = (
            said + spread * luck.normal()
            for said, spread in zip(self._surrogate.line(config), self._spread, strict=True)
        )
        setup, epoch = cost(config)
        seen, true = [], []
        for number, age in enumerate(AGES, start=1):
            accuracy = accuracy_of(max(LAST_Z, level + max(slope, 0.0) * age + self._rough * luck.normal()))
            told = luck.binomial(NUM_VAL, accuracy) / NUM_VAL
            true.append(Point(accuracy, setup + number * epoch))
            seen.append(Point(told, setup + number * epoch))
        return Training(seen, true)


@cache
def surrogate() -> Surrogate:
    return Surrogate(recorded())


def recorded() -> list[Curve]:
    with gzip.open(CURVES, "rt", encoding="utf-8") as lines:
        return [Curve(row["config"], row["accuracies"]) for row in map(json.loads, lines)]


# Energies


@cache
def costs() -> dict[str, Any]:
    return json.loads(COSTS.read_text(encoding="utf-8"))


def cost(config: Mapping[str, Any]) -> tuple[float, float]:
    """What the set-up takes, and what an epoch does."""
    setup, epoch = costs()["cells"][cell(config)]
    return setup, epoch


def cell(config: Mapping[str, Any]) -> str:
    return f"{config['model']} {config['precision']} {config['batch_size']}"


def least() -> float:
    """The cheapest epoch of the space, set-up included."""
    return min(setup + epoch for setup, epoch in costs()["cells"].values())


def most() -> float:
    """The dearest training of the space."""
    return max(setup + EPOCHS * epoch for setup, epoch in costs()["cells"].values())


# Recording


def random_config(number: int) -> dict[str, Any]:
    """Of the space that ships, with rates somewhat beyond it, so that its edges lie inside. Small models come more
    often: they take less time."""
    draw = random.Random(number)
    sgd = draw.random() < 0.5

    def log(low: float, high: float) -> float:
        return low * (high / low) ** draw.random()

    return {
        "model": ("cnn", "mobilenetv2_100", "cnn", "mobilenetv2_100", "resnet18")[number % 5],
        "batch_size": draw.choice(SIZES),
        "optimizer": "sgd" if sgd else "adamw",
        "lr": log(5e-3, 0.5) if sgd else log(1e-4, 3e-2),
        "weight_decay": log(1e-5, 0.1),
        "label_smoothing": draw.uniform(0, 0.2),
        "precision": draw.choice(PRECISIONS),
        "augment": draw.choice(["none", "crop", "crop-flip"]),
        "seed": number,
    }


def record(dataset: str, num_more: int) -> None:
    """Train so many more random configs and add their curves."""
    curves = recorded() if CURVES.exists() else []
    first = 1 + max((curve.config["seed"] for curve in curves), default=-1)
    for number in range(first, first + num_more):
        config = random_config(number)
        rows = trained({**config, "dataset": dataset, "epochs": EPOCHS})
        accuracies = [
            round(row.val_accuracy, 5) for row in rows if isinstance(row, Epoch) and row.val_accuracy is not None
        ]
        curves.append(Curve(config, accuracies))
        write(curves)
        print(number, cell(config), accuracies, file=sys.stderr)


def trained(keys: Mapping[str, Any]) -> Iterator[Record]:
    """Whatever a training says; fewer epochs where it breaks off."""
    from greenml import config as configs
    from greenml import energy, grid, run
    from greenml.errors import GreenMLError

    config = configs.validate({"image_size": 16, "val_fraction": 0.4, "meter": "counters", **keys})
    with tempfile.TemporaryDirectory() as folder, energy.open_meter("0" * 12, settings=energy.Settings.of(config)) as m:
        try:
            yield from run.train(config, m, grid.resolve(None, pue=1.0), run_id="0" * 12, folder=Path(folder))
        except GreenMLError as error:
            print(f"{cell(keys)}: {error}", file=sys.stderr)


def take(path: Path) -> None:
    """Curves of a JSON lines file: `config`, and `epochs` with an accuracy first in each."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    write([Curve(row["config"], [round(epoch[0], 5) for epoch in row["epochs"]]) for row in rows])


def write(curves: Sequence[Curve]) -> None:
    with gzip.GzipFile(CURVES, "wb", mtime=0) as file:
        file.writelines((json.dumps(curve._asdict()) + "\n").encode() for curve in curves)


def measure_costs(*, share: int = 2, num_epochs: int = 4) -> None:
    """Seconds of set-up and epoch of every cell, on random images: what is in them makes no difference.

    Seconds stand in for joules, as on a machine of which no counter can be read: a training takes all of it. (CPU
    seconds would not do: threads that wait for each other count.) A `share` of the images is trained on; the least of
    four epochs counts.
    """
    from greenml.learn.data import Images, register_dataset
    from greenml.records import Progress

    @register_dataset("costs", usage="costs")
    def noise(asked: Any) -> Iterator[Progress]:
        yield Progress(what="reading", done=1, total=1)
        images = (NUM_TRAIN + NUM_VAL) // share
        draw = np.random.default_rng(0)
        return Images(
            images=draw.integers(0, 256, (images + 100, 32, 32, 3), dtype=np.uint8),
            labels=draw.integers(0, 10, images + 100),
            num_train=images,
            classes=[str(label) for label in range(10)],
            data_hash="costs",
            resize="none",
            augment="crop-flip",
        )

    from greenml.environment import hardware

    list(trained({"model": "cnn", "dataset": "costs", "epochs": 1}))  # libraries are loaded once, before any trial
    cells = {}
    for model, precision, batch_size in itertools.product(MODELS, PRECISIONS, SIZES):
        keys = {"model": model, "precision": precision, "batch_size": batch_size, "dataset": "costs"}
        rows = list(trained({**keys, "epochs": num_epochs}))
        setups = [row.ended_at - row.started_at for row in rows if isinstance(row, Phase) and row.name == "setup"]
        epoch = share * min(row.duration_s for row in rows if isinstance(row, Epoch))
        cells[cell(keys)] = [round(sum(setups, timedelta()).total_seconds(), 3), round(epoch, 3)]
        print(cell(keys), cells[cell(keys)], file=sys.stderr)
    told = {
        "unit": "seconds",
        "how": "measured, least of four epochs",
        "cpu": hardware()["cpu"],
        "date": time.strftime("%Y-%m-%d"),
        "cells": cells,
    }
    COSTS.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def errors() -> list[str]:
    """How far the surrogate is off where a curve is told by the others; in points of accuracy at the last epoch."""
    whole = surrogate()
    of_fit, of_formulas = [], []
    for curve, (level, slope) in zip(whole.curves, whole.left_out, strict=True):
        came = _fitted(curve)
        last = accuracy_of(came[0] + came[1] * AGES[-1])
        said = accuracy_of(came[0] - level + (came[1] - slope) * AGES[-1])
        plain = generator(curve.config)
        of_fit.append(100 * abs(said - last))
        of_formulas.append(100 * abs(accuracy_of(plain[0] + plain[1] * AGES[-1]) - last))
    counts = ", ".join(f"{sum(c.config['model'] == model for c in whole.curves)} {model}" for model in MODELS)
    assumed = " (assumed: too few curves)" if len(whole.curves) < ENOUGH else ""
    return [
        f"recorded curves: {len(whole.curves)} ({counts})",
        f"left out and told by the others: {statistics.fmean(of_fit):.1f} points off on average, "
        f"{max(of_fit):.1f} at most (by the formulas alone {statistics.fmean(of_formulas):.1f})",
        f"noise of a training{assumed}: {whole.spread[0]:.2f} in level, {whole.spread[1]:.2f} in slope, "
        f"{rough(whole.curves):.2f} an epoch (logits)",
        f"energies are not metered with the curves but out of {COSTS.name}: {costs()['unit']}; {costs()['how']} "
        f"({costs()['cpu']}, {costs()['date']})",
    ]


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--record", dataset, num_more]:
            record(dataset, int(num_more))
        case ["--take", path]:
            take(Path(path))
        case ["--costs"]:
            measure_costs()
        case _:
            print("\n".join(errors()))
