"""Numbers rounded as 8 bits would round them, with gradients that pass."""

from __future__ import annotations

import torch
from torch import nn


class Rounding(nn.Module):
    """Values -> the nearest that 8 bits can hold, float32; gradients pass where nothing is cut off."""

    scale: torch.Tensor
    zero_point: torch.Tensor

    def __init__(self, low: int, high: int, scale: torch.Tensor, zero_point: torch.Tensor, axis: int | None) -> None:
        """Steps of `scale` [C] between the integers `low` and `high`, for each index of `axis`; None: one scale [1]."""
        super().__init__()
        self._low, self._high, self._axis = low, high, axis
        # Buffers, not parameters: the rate and decay of weights would ruin ranges.
        self.register_buffer("scale", scale.detach().clone())
        self.register_buffer("zero_point", zero_point.detach().to(torch.int32).clone())

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        values = values.float()  # under autocast, too: bf16 has fewer steps than int8
        if self._axis is None:
            return torch.fake_quantize_per_tensor_affine(values, self.scale, self.zero_point, self._low, self._high)
        return torch.fake_quantize_per_channel_affine(
            values, self.scale, self.zero_point, self._axis, self._low, self._high
        )
