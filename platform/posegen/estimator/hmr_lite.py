"""The better embedded estimator: HMR's head on EfficientNet-Lite0's ImageNet features, 5 million parameters at 128 px.

Its shipped weights come from jobs/pretrain_hmr_lite.py: everyday motions, climbing and fights, seen from all sides at
about the height of the eyes. Unseen motions, views from above and below, and long lenses are what it has to learn.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posegen.body.skeleton import Skeleton
from posegen.estimator.checkpoint import load_strict, read_state
from posegen.estimator.efficientnet import imagenet_file
from posegen.estimator.efficientnet_lite import EfficientNetLite0
from posegen.estimator.hmr import Hmr, shipped_hmr

IMAGE_SIZE = 128
FEATURES = 512
SHIPPED_WEIGHTS = Path(__file__).parent / "weights" / "hmr_lite.npz"

_MIDDLE, _LAST = 112, 320  # channels of the trunk's maps at 1/16 (8 px) and 1/32 (4 px) of the picture's side
_KEPT_MIDDLE, _KEPT_LAST = 24, 96  # channels of them that are looked at place by place
_MIDDLE_BLOCK = 10  # whose map is the last at 1/16
_HEAD = ("_conv_head.", "_bn1.", "_fc.")  # of the ImageNet classifier: not used


class PlacesBackbone(nn.Module):
    """(B,3,128,128) -> (B,512): what the trunk sees at each place of two of its maps. Where a limb is matters here."""

    def __init__(self) -> None:
        super().__init__()
        whole = EfficientNetLite0()
        self.stem, self.stem_bn, self.blocks = whole._conv_stem, whole._bn0, whole._blocks
        self.look_middle = nn.Conv2d(_MIDDLE, _KEPT_MIDDLE, 1, bias=False)
        self.look_middle_bn = nn.BatchNorm2d(_KEPT_MIDDLE)
        self.look_last = nn.Conv2d(_LAST, _KEPT_LAST, 1, bias=False)
        self.look_last_bn = nn.BatchNorm2d(_KEPT_LAST)
        places = (IMAGE_SIZE // 16) ** 2 * _KEPT_MIDDLE + (IMAGE_SIZE // 32) ** 2 * _KEPT_LAST
        self.project = nn.Linear(places, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.stem_bn(self.stem(x)))
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index == _MIDDLE_BLOCK:
                middle = x
        seen = F.relu(self.look_middle_bn(self.look_middle(middle))), F.relu(self.look_last_bn(self.look_last(x)))
        return F.relu(self.project(torch.cat([map.flatten(1) for map in seen], 1)))

    def load_imagenet(self, path: Path) -> None:
        """Starts the trunk from the package's ImageNet weights."""
        state = read_state(path)
        renamed = {"_conv_stem.": "stem.", "_bn0.": "stem_bn.", "_blocks.": "blocks."}
        trunk = {
            new + key.removeprefix(old): value
            for key, value in state.items()
            for old, new in renamed.items()
            if key.startswith(old)
        }
        others = {key: value for key, value in state.items() if not key.startswith(tuple(renamed))}
        own = {key: value for key, value in self.state_dict().items() if not key.startswith(tuple(renamed.values()))}
        load_strict(self, {**own, **trunk, **others}, "EfficientNet-Lite0", path, ignored=_HEAD)


def hmr_lite(
    checkpoint: str | Path | None = None,
    pretrained: bool = True,
    body: nn.Module | None = None,
    seed: int = 0,
) -> Hmr:
    """Builds the estimator.

    Args:
        checkpoint: weights; None takes those shipped in the package.
        pretrained: False starts from ImageNet's trunk and a random head instead (for pre-training).
        body: whose skeleton to use, anything with SMPL's buffers. None keeps the skeleton in the weights file, or
            with pretrained=False takes the embedded body's.
        seed: of the head's random weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = PlacesBackbone()
        model = Hmr("hmr_lite", backbone, FEATURES, IMAGE_SIZE, Skeleton(), hidden=512)
    start = None if pretrained else lambda: backbone.load_imagenet(imagenet_file())
    return shipped_hmr(model, SHIPPED_WEIGHTS, checkpoint, start, body)
