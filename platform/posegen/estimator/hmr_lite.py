"""The better embedded estimator: HMR's head on what BlazePose sees, 4.5 million parameters.

Its trunk starts from BlazePose's weights ("full", Apache-2.0), which know people in pictures but give no SMPL. Its
shipped weights come from jobs/pretrain_hmr_lite.py: everyday motions, climbing and fights, seen from all sides at about
the height of the eyes. Unseen motions, views from above and below, and long lenses are what it has to learn.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posegen.body.skeleton import Skeleton
from posegen.estimator.blazepose import IMAGE_SIZE as TRUNK_SIZE
from posegen.estimator.blazepose import BlazePose, as_it_looks, features_before, named_outputs
from posegen.estimator.crop import DECLARED, CropConvention
from posegen.estimator.hmr import Hmr, shipped_hmr
from posegen.estimator.tflite_graph import read_tflite
from posegen.estimator.tflite_module import TfliteModule

IMAGE_SIZE = DECLARED["hmr_lite"].size_px
FEATURES = 512
SHIPPED_WEIGHTS = Path(__file__).parent / "weights" / "hmr_lite.npz"


class BlazeTrunk(nn.Module):
    """(B,3,256,256) in [0,1] -> (B,512): BlazePose's last map, place by place, and the landmarks it finds there.

    Args:
        model_file: pose_landmark_full.tflite, which gives the architecture and the weights to start from.
        fixed_above_px: what makes maps larger than this is not trained; None trains all.
    """

    def __init__(self, model_file: Path, fixed_above_px: int | None = None) -> None:
        super().__init__()
        graph = read_tflite(model_file)
        numbers = named_outputs(graph)
        seen = [features_before(graph, numbers["world"]), numbers["landmarks"], numbers["world"]]
        self.network = TfliteModule(graph, seen, fixed_above_px)
        # BatchNorm, for they are of all sizes: activations, pixels, metres
        self.scale = nn.BatchNorm1d(sum(torch.Size(graph.shapes[number][1:]).numel() for number in seen))
        self.project = nn.Linear(self.scale.num_features, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        return self.judged(self.seen(x))

    def seen(self, x: Tensor) -> Tensor:
        """What BlazePose makes of pictures (B,3,256,256): (B,1464), of all sizes."""
        last, landmarks, world = self.network(x)
        return torch.cat([last.flatten(1), landmarks / TRUNK_SIZE, world], 1)  # px to crops: half floats hold squares

    def judged(self, seen: Tensor, dropout: float = 0.0) -> Tensor:
        """The features (B,512) that follow from it."""
        return F.relu(self.project(F.dropout(self.scale(seen), dropout, self.training)))


class HmrLite(Hmr):
    """HMR's head on BlazeTrunk. Pictures of any side are looked at with BlazePose's."""

    optimiser = BlazePose.optimiser
    learning_rate = BlazePose.learning_rate
    guard_every = BlazePose.guard_every
    backbone: BlazeTrunk

    @property
    def crop(self) -> CropConvention:
        return DECLARED["hmr_lite"]

    def features(self, images: Tensor) -> Tensor:
        """images (B,3,S,S) in [0,1] -> (B,512)."""
        return self.backbone(as_it_looks(images))


def hmr_lite(
    checkpoint: str | Path | None = None,
    pretrained: bool = True,
    body: nn.Module | None = None,
    seed: int = 0,
    fixed_above_px: int | None = None,
) -> HmrLite:
    """Builds the estimator.

    Args:
        checkpoint: weights; None takes those shipped in the package.
        pretrained: False starts from BlazePose's trunk and a random head instead (for pre-training).
        body: whose skeleton to use, anything with SMPL's buffers. None keeps the skeleton in the weights file, or
            with pretrained=False takes the embedded body's.
        seed: of the head's random weights.
        fixed_above_px: 32 leaves what sees edges, in maps of 64 px and more, as it is, which saves a third of a
            training step. None trains all.
    """
    from posegen.assets import asset_path

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = BlazeTrunk(asset_path("blazepose_full"), fixed_above_px)
        model = HmrLite("hmr_lite", backbone, FEATURES, IMAGE_SIZE, Skeleton(), hidden=512)
    return shipped_hmr(model, SHIPPED_WEIGHTS, checkpoint, None if pretrained else lambda: None, body)
