"""A body with SMPL's counts (6890 vertices, 13776 faces) whose numbers anyone can recompute: for HybrIK's layer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL_PARENTS
from posegen.estimator.hybrik_ik import CHILDREN, LEAF_VERTICES, PARENTS

VERTICES, FACES = 6890, 13776

# A plausible rest skeleton, metres: pelvis, hips, spine, ... in SMPL's order.
REST_JOINTS = np.array(
    [
        [0.00, -0.22, 0.03], [0.06, -0.31, 0.01], [-0.06, -0.31, 0.01], [0.00, -0.11, 0.00], [0.10, -0.69, 0.01],
        [-0.10, -0.69, 0.01], [0.00, 0.03, 0.00], [0.09, -1.10, -0.03], [-0.09, -1.10, -0.03], [0.00, 0.08, 0.03],
        [0.11, -1.15, 0.09], [-0.11, -1.15, 0.09], [0.00, 0.29, -0.01], [0.08, 0.20, -0.01], [-0.08, 0.20, -0.01],
        [0.01, 0.36, 0.04], [0.17, 0.22, -0.02], [-0.17, 0.22, -0.02], [0.43, 0.21, -0.04], [-0.43, 0.21, -0.04],
        [0.68, 0.22, -0.04], [-0.68, 0.22, -0.04], [0.77, 0.21, -0.06], [-0.77, 0.21, -0.06],
    ]
)  # fmt: skip
LEAVES = np.array(
    [[0.0, 0.58, 0.02], [0.88, 0.20, -0.06], [-0.88, 0.20, -0.06], [0.10, -1.20, 0.17], [-0.10, -1.20, 0.17]]
)


def smpl_buffers() -> dict[str, Tensor]:
    """HybrIK's smpl.* buffers, without the prefix."""
    generator = np.random.default_rng(11)
    owner = generator.integers(0, 24, VERTICES)
    offset = generator.normal(0, 0.05, (VERTICES, 3))
    template = REST_JOINTS[owner] + offset
    template[list(LEAF_VERTICES)] = LEAVES
    weights = np.zeros((VERTICES, 24))
    weights[np.arange(VERTICES), owner] = 0.8
    weights[np.arange(VERTICES), np.maximum(np.array(SMPL_PARENTS)[owner], 0)] += 0.2
    regressor = np.zeros((24, VERTICES))
    for joint in range(24):  # the least-norm weights of its own vertices that give the joint exactly
        mine = np.flatnonzero(owner == joint)
        system = np.concatenate([template[mine].T, np.ones((1, len(mine)))])
        regressor[joint, mine] = np.linalg.pinv(system) @ np.append(REST_JOINTS[joint], 1)
    h36m = np.zeros((17, VERTICES))
    h36m[np.arange(17).repeat(5), generator.integers(0, VERTICES, 85)] = 0.2
    arrays = {
        "faces_tensor": generator.integers(0, VERTICES, (FACES, 3)),
        "v_template": template.astype(np.float32),
        "shapedirs": generator.normal(0, 0.003, (VERTICES, 3, 10)).astype(np.float32),
        "posedirs": generator.normal(0, 0.001, (207, VERTICES * 3)).astype(np.float32),
        "J_regressor": regressor.astype(np.float32),
        "J_regressor_h36m": h36m.astype(np.float32),
        "children_map": np.array(CHILDREN),
        "parents": np.array(PARENTS),
        "lbs_weights": weights.astype(np.float32),
    }
    return {key: torch.from_numpy(value) for key, value in arrays.items()}
