"""Someone's model behind a function: the same standing person whatever the picture, moved by its brightness."""

import numpy as np

from posegen.body.joint_sets import LIMBS12

HEIGHTS_M = {"ankle": 0.85, "knee": 0.45, "hip": 0.0, "shoulder": -0.5, "elbow": -0.25, "wrist": 0.0}  # y points down


def guess(images: np.ndarray) -> np.ndarray:
    """(B,3,S,S) -> (B,12,3) m in the order of limbs12."""
    joints = np.zeros((len(images), 12, 3), np.float32)
    for i, name in enumerate(LIMBS12.joints):
        side, part = name.split("_")
        joints[:, i, 0] = 0.15 if side == "right" else -0.15
        joints[:, i, 1] = HEIGHTS_M[part]
    joints[:, :, 2] = images.mean((1, 2, 3))[:, None] * joints[:, :, 1]
    return joints
