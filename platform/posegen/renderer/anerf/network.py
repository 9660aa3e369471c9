"""A-NeRF's multi-layer perceptron (LemonATsu/A-NeRF core/networks/nerf.py), with the names of its state dict."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SKIP_AFTER = 4  # the input is concatenated in front of this layer's output


class FrameCodes(nn.Module):
    """One learned code for each training picture; a picture it has not seen takes their mean."""

    def __init__(self, count: int, size: int) -> None:
        super().__init__()
        self.codes = nn.Embedding(count, size)

    def forward(self, frame: int | None) -> Tensor:
        """-> (size,): the code of a frame; None is the mean of all."""
        return self.codes.weight.mean(0) if frame is None else self.codes.weight[frame]


class ANerfNetwork(nn.Module):
    """Raw colour and density from encoded points.

    Args:
        density_inputs, view_inputs: widths of the encodings.
        width, depth: of the perceptron.
        frames, code_size: of the frame codes; 0 frames means that there are none.
    """

    def __init__(
        self,
        density_inputs: int,
        view_inputs: int,
        width: int = 256,
        depth: int = 8,
        frames: int = 0,
        code_size: int = 0,
    ) -> None:
        super().__init__()
        inputs = [density_inputs] + [width] * (depth - 1)
        if depth > SKIP_AFTER + 1:
            inputs[SKIP_AFTER + 1] += density_inputs
        self.pts_linears = nn.ModuleList(nn.Linear(size, width) for size in inputs)
        self.alpha_linear = nn.Linear(width, 1)
        self.feature_linear = nn.Linear(width, width)
        self.views_linears = nn.ModuleList([nn.Linear(width + view_inputs + code_size, width // 2)])
        self.rgb_linear = nn.Linear(width // 2, 3)
        if frames:
            self.framecodes = FrameCodes(frames, code_size)

    def forward(self, density: Tensor, view: Tensor, frame: int | None) -> Tensor:
        """density (P,D), view (P,V) -> (P,4) raw red, green, blue, density."""
        hidden = density
        for index, layer in enumerate(self.pts_linears):
            hidden = torch.relu(layer(hidden))
            if index == SKIP_AFTER:
                hidden = torch.cat([density, hidden], -1)
        parts = [self.feature_linear(hidden), view]
        if hasattr(self, "framecodes"):
            code = self.framecodes(frame)
            parts.append(code.expand(len(view), len(code)))
        colour = self.rgb_linear(torch.relu(self.views_linears[0](torch.cat(parts, -1))))
        return torch.cat([colour, self.alpha_linear(hidden)], -1)
