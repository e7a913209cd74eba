"""What a model computes for one sample, counted operation by operation."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from torch import nn


def flops_per_sample(model: nn.Module, in_chans: int, image_size: int) -> int | None:
    """Floating-point operations of one forward pass for one image [1, C, S, S]; None where they cannot be counted.

    A multiplication and an addition are two. Counted are convolutions, matrix products and attention, by PyTorch's own
    counter on tensors without memory: milliseconds, whatever the size of the model. What else there is (activations,
    normalisation, pooling) is left out, as in the figures that papers give.
    """
    without_memory = {name: part.to("meta") for name, part in (*model.named_parameters(), *model.named_buffers())}
    was_training = model.training
    model.eval()
    try:
        # Where a model brings tensors of its own into the forward pass, one real image does it.
        # A model is anybody's Python: what its forward pass raises on tensors without memory is its own choice, so no
        # narrower name will do. Nothing is hidden by it: None is the answer, `learn.setup` says so, and a bug of the
        # model comes up again in the first step of the training.
        for weights, device in ((without_memory, "meta"), ({}, next(model.parameters()).device)):
            image = torch.zeros(1, in_chans, image_size, image_size, device=device)
            with suppress(Exception), torch.no_grad(), FlopCounterMode(display=False) as counter:
                torch.func.functional_call(model, weights, image)
                return counter.get_total_flops() or None
        return None
    finally:
        model.train(was_training)
