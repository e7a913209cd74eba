"""Models answer in turn, and every repeat has its own phases."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import finish

from greenml.compress import inference
from greenml.compress.inference import Answers, Contender, answers, measure, served, some_images
from greenml.energy import Meter
from greenml.energy.replay import ReplaySensor
from greenml.learn.batches import Part

REPEATS = 5
IMAGES = np.zeros((20, 1, 8, 8), np.float32)


class Slow:
    """Names the class that the first pixel says, after so many seconds."""

    backend, precision, device, num_threads = "torch", "fp32", "cpu", 1
    description: dict[str, object] = {}  # noqa: RUF012

    def __init__(self, seconds=0.0, wrong=()):
        self.seconds, self.wrong, self.shapes = seconds, set(wrong), []

    def __call__(self, images):
        time.sleep(self.seconds)
        self.shapes.append(images.shape)
        told = images[:, 0, 0, 0].astype(int)
        return np.eye(10, dtype=np.float32)[[(one + 1) % 10 if one in self.wrong else one for one in told]]


def contender(name, predictor=None, **changes):
    values = {"name": name, "model_run": "a" * 12, "folder": Path(), "num_bytes": 1, "num_parameters": 2}
    return Contender(**values | {"flops_per_sample": None, "predictor": predictor or Slow()} | changes)


@pytest.fixture
def meter(monkeypatch):
    """12 W, always; repeats of a few milliseconds."""
    monkeypatch.setattr(inference, "MIN_S", 0.02)
    monkeypatch.setattr(inference, "WARM_UP_S", 0.0)
    with Meter(ReplaySensor(min_interval_s=0.001), run_id="b" * 12) as meter:
        meter.wait_until_ready()
        yield meter


def taken(meter, contenders, **changes):
    values = {"images": IMAGES, "batch_sizes": [1, 16], "repeats": REPEATS, "halted": lambda: None} | changes
    images, sizes, repeats, halted = (values[key] for key in ("images", "batch_sizes", "repeats", "halted"))
    rows = list(measure(contenders, images, sizes, repeats, meter, "b" * 12, halted=halted))
    meter.finish()
    return rows, {phase.seq: phase for phase in meter.phases()}


def test_every_model_is_measured_as_often_as_the_others_at_every_batch_size(meter):
    rows, _ = taken(meter, [contender("before"), contender("after"), contender("openvino fp32")])

    assert len(rows) == 3 * 2 * REPEATS
    assert [row.seq for row in rows] == list(range(len(rows)))
    for name in ("before", "after", "openvino fp32"):
        for size in (1, 16):
            own = [row.repeat for row in rows if (row.name, row.batch_size) == (name, size)]
            assert own == list(range(1, REPEATS + 1))


def test_models_take_turns_and_nobody_is_always_first(meter):
    rows, _ = taken(meter, [contender("before"), contender("after")])

    assert all(one.name != two.name for one, two in zip(rows[::2], rows[1::2], strict=True))
    assert {row.name for row in rows[::2]} == {"before", "after"}


def test_a_repeat_has_phases_of_its_own_and_their_joules(meter):
    rows, phases = taken(meter, [contender("before", Slow(0.004)), contender("after", Slow(0.001))])

    for row in rows:
        own = [phases[seq] for seq in range(row.first_seq, row.last_seq + 1)]
        assert {phase.name for phase in own} == {"infer"}
        seconds = sum((phase.ended_at - phase.started_at).total_seconds() for phase in own)
        assert row.duration_s <= seconds
        # A busy machine may take a millisecond or two between a reading and the look at the clock.
        assert sum(phase.joules for phase in own) == pytest.approx(12 * seconds, rel=0.25)
    assert all(one.last_seq < two.first_seq for one, two in pairwise(rows))


def test_what_a_repeat_counts_is_what_was_answered(meter):
    slow = Slow(0.004)
    rows, _ = taken(meter, [contender("before", slow), contender("after", Slow(0.001))])

    warm_up = 2 * inference.WARM_UP_CALLS
    of_slow = [row for row in rows if row.name == "before"]
    assert sum(row.num_predictions for row in of_slow) == sum(shape[0] for shape in slow.shapes) - 3 * (1 + 16)
    assert len(slow.shapes) == warm_up + sum(row.num_predictions // row.batch_size for row in of_slow)
    assert {shape[0] for shape in slow.shapes} == {1, 16}
    for row in rows:
        assert row.num_predictions >= inference.MIN_CALLS * row.batch_size
        assert row.duration_s >= inference.MIN_S
        least = 0.004 if row.name == "before" else 0.001
        assert least <= row.latency_p50_s <= row.latency_p95_s


def test_fewer_images_than_a_batch_come_again(meter):
    few = Slow()
    taken(meter, [contender("before", few)], images=IMAGES[:3], batch_sizes=[8])

    assert set(few.shapes) == {(8, 1, 8, 8)}


def test_who_asks_for_the_end_gets_it_before_the_next_repeat(meter):
    asked = iter([None, None, "interrupted"])

    rows, _ = taken(meter, [contender("before")], halted=lambda: next(asked))

    assert len(rows) == 2


def part(labels):
    """Images whose first pixel says their label; neither shifted nor scaled."""
    images = torch.zeros(len(labels), 8, 8, 1, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.tensor(labels)
    ones = torch.ones(8, 8, 1)
    return Part(images, torch.tensor(labels), torch.arange(len(labels)), torch.zeros(8, 8, 1), ones)


def test_answers_are_compared_image_by_image():
    labels = [0, 1, 2, 3, 4, 5]
    _, before = finish(answers(Slow(wrong={1, 2}), part(labels), 4))
    said, after = finish(answers(Slow(wrong={2, 3, 4}), part(labels), 4))

    row = served(contender("after"), after, before, 1_000, "b" * 12)

    assert said == [4, 6]
    assert (before.correct, after.correct, after.count) == (4, 3, 6)
    assert (row.gained, row.lost) == (1, 2)  # 1 is right now; 3 and 4 no longer
    assert (row.test_correct, row.test_count, row.memory_bytes) == (3, 6, 1_000)


def test_nobody_gains_on_itself():
    own = Answers(np.array([True, False]))

    row = served(contender("before"), own, own, None, "b" * 12)

    assert (row.gained, row.lost) == (0, 0)


def test_some_images_are_whole_batches_of_the_split(monkeypatch):
    monkeypatch.setattr(inference, "NUM_IMAGES", 4)

    assert some_images(part([1, 2, 3, 4, 5, 6, 7]), 3).shape == (6, 1, 8, 8)
    assert some_images(part([1, 2]), 3).shape == (2, 1, 8, 8)
