"""From predicted SMPL parameters to joints: with a body's own skeleton, or regressed from its vertices.

Dimensions: B batch, V vertices.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from posegen.body.joint_sets import H36M17, SMPL24
from posegen.body.model import BodyModel, load_body
from posegen.errors import ConfigError
from posegen.scene import Prediction

JOINT_SETS = (SMPL24.name, H36M17.name)


class SmplHead(nn.Module):
    """Poses a body by predicted rotations and betas.

    Args:
        body: a BodyModel, or a path to SMPL files, or None for the embedded body.
        joint_set: "smpl24", "h36m17" (needs the body's regressor), or None: h36m17 where the body has it.
        vertices: whether predictions carry vertices; h36m17 computes them anyway.
    """

    def __init__(
        self, body: BodyModel | str | Path | None = None, joint_set: str | None = None, vertices: bool = False
    ) -> None:
        super().__init__()
        self.body = body if isinstance(body, nn.Module) else load_body(body, resolution="low")
        has_regressor = H36M17.name in self.body.regressors
        self.joint_set = joint_set or (H36M17.name if has_regressor else SMPL24.name)
        self.vertices = vertices
        if self.joint_set not in JOINT_SETS:
            raise ConfigError(f"SMPL gives no joint set {self.joint_set!r}", choices=JOINT_SETS)
        if self.joint_set == H36M17.name and not has_regressor:
            raise ConfigError(
                "joint set h36m17 needs the body's regressor J_regressor_h36m.npy",
                where=self.body.name,
                choices=[SMPL24.name],
                next_command="put J_regressor_h36m.npy (from SPIN's data) beside the SMPL files and give body.path",
            )

    def forward(self, rotations: Tensor, betas: Tensor, camera: Tensor | None) -> Prediction:
        """rotations (B,24,3,3), root in the camera frame; betas (B,10); camera (B,3) -> Prediction."""
        if self.joint_set == SMPL24.name and not self.vertices:
            joints = SMPL24.centred(self.body.joints(rotations, betas))
            return Prediction(joints, self.joint_set, rotations, betas, camera)
        output = self.body(rotations, betas)
        if self.joint_set == SMPL24.name:
            joints, root = output.joints, SMPL24.root_of(output.joints)
        else:
            joints = self.body.regress(output.vertices, H36M17.name)
            root = H36M17.root_of(joints)
        vertices = output.vertices - root if self.vertices else None
        return Prediction(joints - root, self.joint_set, rotations, betas, camera, vertices)
