"""Which number format trains fastest here, and the autocast and gradient scaling that go with it."""

from __future__ import annotations

import copy
import gc
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import nn

    from greenml.config import Precision

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}

PROBE_STEPS = 3
PROBE_BATCH = 64
HOPELESS = 3.0
"""A first step this many times slower than fp32 ends the probe: CPUs without bf16 emulate it."""


class Choice(NamedTuple):
    """The precision that runs, and in words why it is not the one asked for (None where it is)."""

    precision: Precision
    why: str | None


def choose(asked: Precision, device: torch.device, model: nn.Module, batch: torch.Tensor) -> Choice:
    """Asked precision -> what will run on this device; `batch` [N, C, S, S] is what is probed with.

    fp16 never trains on a CPU: its convolution backward runs at 1 GFLOP/s there. bf16 takes its place where a few
    probed steps of this model are faster with it than without. `bf16` itself is taken at its word.
    """
    if asked != "fp16" or device.type != "cpu":
        if asked == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
            return Choice("fp16", "this GPU has no bf16")
        return Choice(asked, None)
    fp32_s, bf16_s = probe(model, batch[:PROBE_BATCH])
    if bf16_s < fp32_s:
        return Choice(
            "bf16", f"fp16 does not train on a CPU; here bf16 steps are {fp32_s / bf16_s:.1f}x faster than fp32"
        )
    return Choice(
        "fp32", f"fp16 does not train on a CPU, and here bf16 steps are {bf16_s / fp32_s:.1f}x slower than fp32"
    )


def probe(model: nn.Module, images: torch.Tensor) -> tuple[float, float]:
    """Seconds of a training step in fp32 and in bf16, alternating, the faster of a few each.

    Works on a copy and gives the random state back: the training that follows is the same as without the probe.
    """
    replica = copy.deepcopy(model).train().to(memory_format=torch.channels_last)
    best = {"fp32": float("inf"), "bf16": float("inf")}
    with torch.random.fork_rng(devices=[]):
        for step in range(PROBE_STEPS + 1):
            for precision in best:
                if precision == "bf16" and step and best["bf16"] > HOPELESS * best["fp32"]:
                    return best["fp32"], best["bf16"]
                start = time.perf_counter()
                with autocast(images.device, precision):
                    replica(images).float().square().mean().backward()
                best[precision] = min(best[precision], time.perf_counter() - start)
                replica.zero_grad()
    return best["fp32"], best["bf16"]


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The context in which the forward pass runs."""
    dtype = DTYPES.get(precision)
    return torch.autocast(device.type, dtype) if dtype else nullcontext()


def scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """Scales gradients where fp16 needs it; elsewhere it passes everything through."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def pick_device(asked: str) -> torch.device:
    """`auto` -> the GPU where there is one. Raises UsageError for a device that is not here."""
    from greenml.errors import UsageError

    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if asked == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if here[name]))
    if not here[asked]:
        found = ", ".join(name for name, is_here in here.items() if is_here)
        raise UsageError(f"--device: there is no {asked} here", hint=f"found: {found}; `--device auto` takes the best")
    return torch.device(asked)


def device_name(device: torch.device) -> str | None:
    """What the GPU calls itself; None for a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def peak_bytes(device: torch.device) -> int | None:
    """Most memory that tensors have held on the GPU so far; None for other devices, which do not count it."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given; of GPUs, all that this process uses, as all are metered."""
    if device.type == "cuda":
        for index in range(torch.cuda.device_count()):
            # One that is not used has nothing to wait for, and would be given a context: half a gigabyte of its memory.
            if index == torch.cuda.current_device() or torch.cuda.memory_reserved(index):
                torch.cuda.synchronize(index)
    elif device.type == "mps":
        torch.mps.synchronize()


def release(device: torch.device) -> None:
    """Give back what memory of the device is no longer used."""
    gc.collect()  # models and optimizers refer to themselves
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
