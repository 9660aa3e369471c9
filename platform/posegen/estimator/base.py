"""What estimators made of torch weights share: training mode, input handling, checkpoints.

Dimensions: B batch, S image side, J joints.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from posegen.estimator.checkpoint import load_strict, read_file, state_of
from posegen.estimator.crop import CropConvention
from posegen.estimator.preprocess import check_images
from posegen.scene import Prediction

LEARNING_RATE = 5e-4  # of AdamW, for networks of HMR's kind with BatchNorm


class TrainableEstimator(nn.Module):
    """An estimator whose weights can be trained and through which a gradient reaches the images.

    A subclass sets the four attributes below, implements `predict`, and, where the original's files hold other keys
    than the module's own, `checkpoint_state` and `load_checkpoint_state`.
    """

    name: str
    joint_set: str
    image_size: int
    differentiable: bool = True
    # What fine-tuning takes unless the option of that name is given (finetune.learning_rate and so on).
    learning_rate: float = LEARNING_RATE
    optimiser: str = "adamw"
    guard_every: int = 0  # steps between checks on held-out rows

    def __init__(self) -> None:
        super().__init__()
        self._frozen_batchnorm = False

    @property
    def crop(self) -> CropConvention:
        """How it wants its person cropped: the person's box, unless a subclass says otherwise."""
        return CropConvention(self.image_size)

    @abstractmethod
    def predict(self, images: Tensor) -> Prediction:
        """images (B,3,S,S) RGB in [0,1], any S; resizes and normalises by itself."""

    def forward(self, images: Tensor) -> Prediction:
        check_images(images)
        return self.predict(images)

    def train_mode(self, frozen_batchnorm: bool = True) -> TrainableEstimator:
        """Ready to be fine-tuned: all parameters take gradients.

        Args:
            frozen_batchnorm: BatchNorm keeps its running statistics (its scale and shift still learn), as usual when
                batches mix real and generated images. It stays so through later calls of .train().
        """
        self._frozen_batchnorm = frozen_batchnorm
        self.requires_grad_(True)
        return self.train()

    def feedback_mode(self) -> TrainableEstimator:
        """Ready to judge a generator: weights fixed, evaluation behaviour, gradients flow to the images only."""
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> TrainableEstimator:
        super().train(mode)
        if mode and self._frozen_batchnorm:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def checkpoint_state(self) -> dict[str, Tensor]:
        """The weights under the keys that the original's code uses."""
        return self.state_dict()

    def load_checkpoint_state(self, state: Mapping[str, Tensor], where: object = None) -> None:
        """Loads weights under the original's keys, strictly. Raises CheckpointError."""
        load_strict(self, state, self.name, where)

    def load(self, path: str | Path) -> TrainableEstimator:
        """Loads a checkpoint file, the original's or ours."""
        content: dict[str, Any] = read_file(path)
        self.load_checkpoint_state(state_of(content, path), path)
        return self
