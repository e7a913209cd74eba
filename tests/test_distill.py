"""Distillation in the loop: the loss of the paper, a teacher that learns nothing, and trainings that go on."""

from __future__ import annotations

import dataclasses
import math
from copy import deepcopy

import pytest
import torch
from conftest import finish

from greenml import config as configs
from greenml.learn import models
from greenml.learn.loop import Distillation, Learner
from greenml.learn.setup import read

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config():
    asked = {"model": "cnn", "dataset": "digits", "device": "cpu", "batch_size": 64, "label_smoothing": 0.1}
    return dataclasses.replace(configs.resolve(asked), lr=2e-3, weight_decay=0.01, augment="crop")


@pytest.fixture(scope="module")
def data(config):
    return finish(read(config, CPU))[1]


def student(seed=0):
    torch.manual_seed(seed)
    return models.create("cnn", num_classes=10, in_chans=1, image_size=16, model_args={})[0]


def learner(config, precision="fp32", **changes):
    return Learner(student(), config, precision, CPU, **changes)


def trained(one, data):
    finish(one.train_epoch(data.train, 1))
    return torch.cat([tensor.flatten() for tensor in one.averaged.state_dict().values()])


@pytest.fixture(scope="module")
def teacher(config, data):
    one = Learner(student(1), config, "fp32", CPU)
    for epoch in (1, 2):
        finish(one.train_epoch(data.train, epoch))
    return one.averaged.eval()


def test_the_loss_is_that_of_the_paper_counted_by_hand():
    """Two classes, T = 2: the teacher says 3 to 1, the student 1 to 1."""
    told = torch.tensor([[2 * math.log(3), 0.0]])
    logits = torch.zeros(1, 2, requires_grad=True)

    loss = Distillation(lambda images: told, alpha=0.75, temperature=2.0).loss(
        torch.zeros(1, 1, 4, 4), logits, torch.tensor(0.4)
    )

    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert loss.item() == pytest.approx(0.25 * 0.4 + 0.75 * 4 * divergence)


def test_softer_answers_do_not_weaken_what_the_teacher_says():
    """The gradient at the student's logits is of one size at every temperature: that is what T^2 is for."""
    told = torch.tensor([[1.0, 0.0, -1.0]])
    sizes = []
    for temperature in (10.0, 20.0):
        logits = torch.zeros(1, 3, requires_grad=True)
        Distillation(lambda images: told, alpha=1.0, temperature=temperature).loss(
            torch.zeros(1, 1, 4, 4), logits, torch.tensor(0.0)
        ).backward()
        sizes.append(logits.grad.norm().item())

    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


def test_without_a_share_the_teacher_changes_nothing(config, data, teacher):
    alone = trained(learner(config), data)

    beside = trained(learner(config, distillation=Distillation(teacher, alpha=0.0)), data)

    assert torch.equal(alone, beside)


def test_a_student_comes_to_answer_as_its_teacher_even_where_the_labels_lie(config, data, teacher):
    lies = dataclasses.replace(data.train, labels=torch.zeros_like(data.train.labels))
    one = learner(config, distillation=Distillation(teacher, alpha=1.0))

    for epoch in (1, 2, 3):
        finish(one.train_epoch(lies, epoch))

    assert finish(one.evaluate(data.val, 3))[1].accuracy > 0.8


def test_the_teacher_learns_nothing(config, data, teacher):
    before = deepcopy(teacher.state_dict())

    trained(learner(config, distillation=Distillation(teacher)), data)

    assert not teacher.training
    assert all(one.grad is None for one in teacher.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


def test_it_is_asked_once_a_batch_without_gradients_and_in_the_precision_of_the_training(config, data):
    asked = []

    def teacher(images):
        asked.append((len(images), torch.is_inference_mode_enabled(), torch.get_autocast_dtype("cpu")))
        assert torch.is_autocast_enabled("cpu")
        return torch.zeros(len(images), 10)

    one = learner(dataclasses.replace(config, batch_size=32, grad_accum=2), "bf16", distillation=Distillation(teacher))
    steps = sum(1 for _ in one.train_epoch(data.train, 1))

    assert asked == [(32, True, torch.bfloat16)] * 2 * steps


def test_a_distillation_goes_on_from_its_state_to_the_bit(config, data, teacher):
    """The teacher is no part of it: it is read from where it came from."""
    whole, first, second = (learner(config, distillation=Distillation(teacher)) for _ in range(3))
    expected = trained(whole, data)
    steps = first.train_epoch(data.train, 1)
    for _ in range(5):
        next(steps)

    second.load_state(deepcopy(first.state()))

    assert second.steps_done(1) == 5
    assert first.state().keys() == learner(config).state().keys()
    assert torch.equal(trained(second, data), expected)
