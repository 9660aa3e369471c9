"""EfficientNet-Lite0's trunk (Tan and Le 2019; the Lite variant without squeeze-and-excitation and with ReLU6).

Keys and padding are those of the package efficientnet_lite_pytorch 0.1.0, whose ImageNet weights fit.
Dimensions: B batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from posegen.estimator.checkpoint import load_strict
from posegen.estimator.depthwise import depthwise_conv2d, has_kernel_for
from posegen.estimator.tflite_module import same_padding

# (repeats, kernel, stride of the first, expansion, output channels)
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
STEM, FEATURES = 32, 1280
_EPS, _MOMENTUM = 1e-3, 0.01


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding and no bias."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        rows, columns = (same_padding(x.shape[d], kernel, stride) for d in (2, 3))
        if has_kernel_for(x, self.weight):
            return depthwise_conv2d(x, self.weight, None, (stride, stride), (rows, columns))
        if any((*rows, *columns)):
            x = F.pad(x, (*columns, *rows))
        return F.conv2d(x, self.weight, None, self.stride, groups=self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPS, momentum=_MOMENTUM)


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = SameConv2d(inputs, hidden, 1)
            self._bn0 = _norm(hidden)
        self._depthwise_conv = SameConv2d(hidden, hidden, kernel, stride, hidden)
        self._bn1 = _norm(hidden)
        self._project_conv = SameConv2d(hidden, outputs, 1)
        self._bn2 = _norm(outputs)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.shortcut else y


class EfficientNetLite0(nn.Module):
    """(B,3,S,S) -> feature map (B,1280,S/32,S/32)."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, STEM, 3, 2)
        self._bn0 = _norm(STEM)
        blocks, inputs = [], STEM
        for repeats, kernel, stride, expansion, outputs in STAGES:
            for i in range(repeats):
                blocks.append(InvertedResidual(inputs, outputs, kernel, stride if i == 0 else 1, expansion))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv2d(inputs, FEATURES, 1)
        self._bn1 = _norm(FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x)))

    def load_imagenet(self, state: Mapping[str, Tensor], where: object = None) -> None:
        """Loads the package's weights; its classifier (_fc) is left out."""
        load_strict(self, state, "EfficientNet-Lite0", where, ignored=("_fc.",))
