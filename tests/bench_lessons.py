"""What fine-tuning with a teacher is worth in accuracy, on the images that a run in a store was trained on.

    python tests/bench_lessons.py STORE RUN                  its pruned model, and a dense control with the same lessons
    python tests/bench_lessons.py STORE RUN --student cnn    a student with the run as its teacher, and without one

It takes epochs of real training for each seed, so it is no part of `make bench`. Pairs see the same images in the same
order; of each, the epoch that validation chose is tested.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from bench_store import Figure
from conftest import finish

from greenml.cli.compress import read_parent
from greenml.compress import prune
from greenml.compress.plan import DEFAULT_SPARSITY
from greenml.learn import artifact, models, setup
from greenml.learn.loop import Distillation, Learner, evaluate
from greenml.learn.precision import pick_device
from greenml.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from greenml.compress.plan import Parent
    from greenml.config import Config
    from greenml.learn.setup import Data


class Lesson(NamedTuple):
    """A model to train, and who teaches it beside the labels."""

    name: str
    model: nn.Module
    teacher: nn.Module | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("run")
    parser.add_argument("--student")
    parser.add_argument("--sparsity", type=float, default=DEFAULT_SPARSITY)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    parent = read_parent(Store(asked.store), asked.run)
    for figure in bench(parent, asked):
        print(f"{figure.name:<64}  {figure.value:>14}  n={figure.n:<3} {figure.spread}", flush=True)


def bench(parent: Parent, asked: argparse.Namespace) -> Iterator[Figure]:
    """A line a lesson, when it is over, and one of how far the first of each pair is above the second."""
    device = pick_device("auto")
    _, data = finish(setup.read(parent.config, device))
    model = artifact.load(parent.folder / "model.pt")[0].to(device)
    differences = []
    for seed in range(asked.seeds):
        config = dataclasses.replace(parent.config, seed=seed, epochs=asked.epochs)
        pair = _student(asked.student, model, data, seed) if asked.student else _pruned(asked.sparsity, model, data)
        tested = []
        for lesson in pair:
            accuracy = 100 * _learned(lesson, config, data, device)
            yield Figure(f"{lesson.name}, {asked.epochs} epochs, seed {seed}", f"{accuracy:.2f} %", 1, "test")
            tested.append(accuracy)
        differences.append(tested[0] - tested[1])
    spread = f"{min(differences):+.2f} to {max(differences):+.2f}"
    yield Figure("the first above the second", f"{statistics.mean(differences):+.2f} points", asked.seeds, spread)


def _pruned(sparsity: float, model: nn.Module, data: Data) -> tuple[Lesson, Lesson]:
    small = prune.structured(model, sparsity, (data.in_chans, data.image_size, data.image_size), len(data.classes))
    assert small.macs is not None
    assert small.macs_before is not None
    name = f"pruned {sparsity:g} ({small.macs_before / small.macs:.2f}x fewer MACs)"
    return Lesson(name, small.model, model), Lesson("dense control", copy.deepcopy(model), model)


def _student(name: str, teacher: nn.Module, data: Data, seed: int) -> tuple[Lesson, Lesson]:
    torch.manual_seed(seed)
    shape: dict[str, Any] = {"num_classes": len(data.classes), "in_chans": data.in_chans, "image_size": data.image_size}
    fresh, _ = models.create(name, model_args={}, **shape)
    return Lesson(f"{name}, taught", copy.deepcopy(fresh), teacher), Lesson(f"{name}, alone", fresh, None)


def _learned(lesson: Lesson, config: Config, data: Data, device: torch.device) -> float:
    """Test accuracy of the epoch that validation chose, trained as `compress` and `train` do."""
    distillation = Distillation(lesson.teacher) if lesson.teacher else None
    learner = Learner(lesson.model, config, config.precision, device, distillation=distillation)
    best, chosen = -1.0, copy.deepcopy(learner.averaged)
    for epoch in range(1, config.epochs + 1):
        finish(learner.train_epoch(data.train, epoch))
        _, score = finish(learner.evaluate(data.val, epoch))
        if score.accuracy > best:
            best, chosen = score.accuracy, copy.deepcopy(learner.averaged)
    _, score = finish(evaluate(chosen, data.test, config.batch_size, config.precision, device))
    return float(score.accuracy)


if __name__ == "__main__":
    main()
