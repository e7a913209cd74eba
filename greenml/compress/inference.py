"""What predictions cost: models answer in turn, on the same images, until every one has been measured often enough."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import psutil

from greenml.learn.batches import evaluation_batches
from greenml.records import Inference, Served

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from greenml.energy import Meter
    from greenml.learn.batches import Part
    from greenml.serve import Predictor

    Images = NDArray[np.float32]

MIN_S = 1.5
"""Of a repeat: CodeCarbon reads its models once a second, and a batch may take longer than that."""
MIN_CALLS = 5
"""Of a repeat, so that it has a median."""
WARM_UP_S, WARM_UP_CALLS = 0.3, 3
"""The first calls also find memory and choose kernels."""
NUM_IMAGES, NUM_BYTES = 2048, 256e6
"""So many test images answer in turn, and take so much at most: more would not change the time of one."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A model that is measured."""

    name: str
    """`before`, `after`, or what it runs in: `openvino fp32`."""
    model_run: str
    folder: Path
    """Where its files are."""
    predictor: Predictor
    num_bytes: int
    num_parameters: int
    flops_per_sample: int | None


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model says of a split."""

    is_correct: NDArray[np.bool_]
    """[N], in the order of the split."""

    @property
    def correct(self) -> int:
        return int(self.is_correct.sum())

    @property
    def count(self) -> int:
        return len(self.is_correct)


def answers(predictor: Predictor, part: Part, batch_size: int) -> Generator[int, None, Answers]:
    """A model on every image of a split, yielding images done."""
    found: list[NDArray[np.bool_]] = []
    done = 0
    for images, labels in evaluation_batches(part, batch_size):
        logits = predictor(images.cpu().numpy())
        found.append(logits.argmax(1) == labels.cpu().numpy())
        done += len(labels)
        yield done
    return Answers(np.concatenate(found))


def some_images(part: Part, batch_size: int) -> Images:
    """Up to NUM_IMAGES images of a split, but a batch at least where it has as many: [N, C, S, S], normalised."""
    image_bytes = 4 * part.images[0].numel()
    wanted = max(batch_size, min(NUM_IMAGES, int(NUM_BYTES / image_bytes)))
    taken: list[Images] = []
    for images, _ in evaluation_batches(part, batch_size):
        taken.append(images.cpu().numpy())
        if sum(map(len, taken)) >= wanted:
            break
    return np.concatenate(taken)


def measure(
    contenders: Sequence[Contender],
    images: Images,
    batch_sizes: Sequence[int],
    repeats: int,
    meter: Meter,
    run_id: str,
    *,
    halted: Callable[[], str | None],
) -> Iterator[Inference]:
    """Every model at every batch size, `repeats` times in turn, each in a window `infer` of its own.

    Within a repeat all models follow each other at once, in another order each time, so that what else the machine does
    meets all of them alike. Ends early where `halted` gives a reason.
    """
    batches = {(one.name, size): cycle(_batches(images, size)) for one in contenders for size in batch_sizes}
    with meter.window("infer"):
        for one in contenders:
            for size in batch_sizes:
                _answer(one.predictor, batches[one.name, size], WARM_UP_S, WARM_UP_CALLS)
    seq = 0
    for repeat in range(1, repeats + 1):
        for size in batch_sizes:
            first = repeat % len(contenders)
            for one in (*contenders[first:], *contenders[:first]):
                if halted():
                    return
                with meter.window("infer"):
                    cpu_s = _cpu_s()
                    latencies = _answer(one.predictor, batches[one.name, size], MIN_S, MIN_CALLS)
                    cpu_s = _cpu_s() - cpu_s
                yield Inference(
                    run_id=run_id,
                    segment=0,
                    seq=seq,
                    name=one.name,
                    batch_size=size,
                    repeat=repeat,
                    num_predictions=len(latencies) * size,
                    duration_s=float(sum(latencies)),
                    cpu_s=cpu_s,
                    latency_p50_s=float(np.percentile(latencies, 50)),
                    latency_p95_s=float(np.percentile(latencies, 95)),
                    first_seq=meter.first_seq,
                    last_seq=meter.last_seq,
                )
                seq += 1


def served(contender: Contender, own: Answers, before: Answers, memory_bytes: int | None, run_id: str) -> Served:
    """What is kept of a model that was measured."""
    return Served(
        run_id=run_id,
        name=contender.name,
        model_run=contender.model_run,
        backend=contender.predictor.backend,
        precision=contender.predictor.precision,
        device=contender.predictor.device,
        num_threads=contender.predictor.num_threads,
        num_bytes=contender.num_bytes,
        memory_bytes=memory_bytes,
        num_parameters=contender.num_parameters,
        flops_per_sample=contender.flops_per_sample,
        test_correct=own.correct,
        test_count=own.count,
        gained=int((own.is_correct & ~before.is_correct).sum()),
        lost=int((before.is_correct & ~own.is_correct).sum()),
    )


def _batches(images: Images, size: int) -> list[Images]:
    """Whole batches; images come again where there are fewer than one batch wants."""
    if len(images) < size:
        images = np.concatenate([images] * -(-size // len(images)))
    return [images[start : start + size] for start in range(0, len(images) - size + 1, size)]


def _answer(predictor: Predictor, batches: Iterator[Images], min_s: float, min_calls: int) -> list[float]:
    """Answer batch after batch for so long: seconds of each."""
    latencies: list[float] = []
    began = now = time.perf_counter()
    while now - began < min_s or len(latencies) < min_calls:
        predictor(next(batches))
        latencies.append(-now + (now := time.perf_counter()))
    return latencies


def _cpu_s() -> float:
    """CPU seconds of this process so far; its threads answer."""
    times = psutil.Process().cpu_times()
    return float(times.user + times.system)
