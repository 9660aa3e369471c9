"""From predicted SMPL parameters to joints: with a body's own skeleton, or regressed from its vertices.

Dimensions: B batch, V vertices.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from posegen.body.joint_sets import H36M17, JOINT_SETS, LIMBS12, SMPL24
from posegen.body.model import BodyModel, load_body
from posegen.body.skeleton import Skeleton
from posegen.errors import ConfigError
from posegen.scene import Prediction

OFFERED = (SMPL24.name, H36M17.name, LIMBS12.name)


class SmplHead(nn.Module):
    """Poses a body by predicted rotations and betas.

    Args:
        body: a BodyModel, or a path to SMPL files, or None for the embedded body.
        joint_set: "smpl24", "h36m17" (needs the body's regressor), "limbs12" (those of smpl24 that mean the same on
            another body), or None: h36m17 where the body has it.
        vertices: whether predictions carry vertices; h36m17 computes them anyway.
    """

    skeleton: Skeleton

    def __init__(
        self, body: BodyModel | str | Path | None = None, joint_set: str | None = None, vertices: bool = False
    ) -> None:
        super().__init__()
        self.body = body if isinstance(body, nn.Module) else load_body(body, resolution="low")
        has_regressor = H36M17.name in self.body.regressors
        self.skeleton = Skeleton.of_body(self.body)
        self.vertices = vertices
        self.choose_joint_set(joint_set or (H36M17.name if has_regressor else SMPL24.name))

    def choose_joint_set(self, name: str) -> None:
        """Which joints predictions hold from now on. Raises ConfigError."""
        if name not in OFFERED:
            raise ConfigError(f"SMPL gives no joint set {name!r}", choices=OFFERED)
        if name == H36M17.name and H36M17.name not in self.body.regressors:
            raise ConfigError(
                "joint set h36m17 needs the body's regressor J_regressor_h36m.npy",
                where=self.body.name,
                choices=[SMPL24.name],
                next_command="put J_regressor_h36m.npy (from SPIN's data) beside the body's files",
            )
        self.joint_set = name

    def forward(self, rotations: Tensor, betas: Tensor, camera: Tensor) -> Prediction:
        """rotations (B,24,3,3), root in the camera frame; betas (B,10); camera (B,3), of the body's own origin (as
        SPIN's) -> Prediction, whose camera is of the joints' root."""
        names = JOINT_SETS[self.joint_set]
        output = None
        if self.vertices or names is H36M17:
            output = self.body(rotations, betas)
        if names is H36M17:
            assert output is not None
            joints = self.body.regress(output.vertices, H36M17.name)
        else:
            joints = self.body.joints(rotations, betas)[:, names.common(SMPL24)[1]]
        root = names.root_of(joints)
        camera = torch.cat([camera[:, :1], camera[:, 1:] + root[:, 0, :2]], 1)
        vertices = output.vertices - root if output is not None and self.vertices else None
        return Prediction(joints - root, self.joint_set, rotations, betas, camera, vertices)
