"""The embedded default: HMR's head on a residual network of one million parameters, quick enough for a laptop.

Its shipped weights come from jobs/pretrain_hmr_small.py: a narrow source of everyday motions seen by level frontal
cameras, so that there is something to find wanting.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posegen.body.skeleton import Skeleton
from posegen.estimator.hmr import Hmr, shipped_hmr

IMAGE_SIZE = 96
FEATURES = 256
SHIPPED_WEIGHTS = Path(__file__).parent / "weights" / "hmr_small.npz"


def conv_bn(x: Tensor, conv: nn.Conv2d, bn: nn.BatchNorm2d) -> Tensor:
    """bn(conv(x)); as one convolution where the statistics stand still, which saves a seventh of a training step.

    Differentiable in everything that is learned. `conv` has no bias.
    """
    if bn.training:
        return bn(conv(x))
    assert bn.running_mean is not None and bn.running_var is not None
    scale = bn.weight * torch.rsqrt(bn.running_var + bn.eps)
    weight = conv.weight * scale[:, None, None, None]
    return F.conv2d(x, weight, bn.bias - bn.running_mean * scale, conv.stride, conv.padding)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016); a strided shortcut averages first (ResNet-D)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs or stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = conv_bn(F.relu(conv_bn(x, self.conv1, self.bn1)), self.conv2, self.bn2)
        if self.shortcut is not None:
            x = self.shortcut(F.avg_pool2d(x, self.stride) if self.stride > 1 else x)
        return F.relu(x + y)


class SmallResNet(nn.Module):
    """(B,3,96,96) -> (B,256). Ends in a 3x3 map that is flattened, not averaged: where a limb is matters here."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 5, 2, 2, bias=False)  # 48 px
        self.stem_bn = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(
            ResidualBlock(16, 32, 1),  # 24 px, after pooling
            ResidualBlock(32, 64, 2),  # 12 px
            ResidualBlock(64, 96, 2),  # 6 px
            ResidualBlock(96, 128, 2),  # 3 px
        )
        self.project = nn.Linear(128 * 9, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(conv_bn(x, self.stem, self.stem_bn)), 2)
        return F.relu(self.project(self.blocks(x).flatten(1)))


def hmr_small(
    checkpoint: str | Path | None = None,
    pretrained: bool = True,
    body: nn.Module | None = None,
    seed: int = 0,
) -> Hmr:
    """Builds the estimator.

    Args:
        checkpoint: weights; None takes those shipped in the package.
        pretrained: False starts from random weights instead (for pre-training).
        body: whose skeleton to use, anything with SMPL's buffers. None keeps the skeleton in the weights file, or
            with pretrained=False takes the embedded body's.
        seed: of the random weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Hmr("hmr_small", SmallResNet(), FEATURES, IMAGE_SIZE, Skeleton())
    return shipped_hmr(model, SHIPPED_WEIGHTS, checkpoint, None if pretrained else lambda: None, body)
