"""The differentiable body model: SMPL's equations on the embedded free body or on a user's own SMPL files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from smplx.lbs import batch_rigid_transform, blend_shapes, vertices2joints
from torch import Tensor, nn

from posegen.body.joint_sets import SMPL_PARENTS
from posegen.body.kinematics import forward_kinematics
from posegen.body.rotations import aa_to_matrix
from posegen.errors import ConfigError

# Standard deviations of plausible betas: the first component of the free body is stature (0.107 m).
BETA_LIMIT = (1.5, 2.0)  # first component, others


@dataclass(frozen=True)
class BodyOutput:
    """Posed body, metres, world."""

    vertices: Tensor  # (B,V,3)
    joints: Tensor  # (B,24,3)


class BodyModel(nn.Module):
    """A body with 24 joints and up to 10 betas (Loper et al. 2015, equations 2 to 10).

    Args:
        v_template: (V,3) m; shapedirs: (V,3,S); posedirs: (V,3,207) or None when the body has none;
        J_regressor: (24,V); weights: (V,24); faces: (F,3).
        regressors: further joint regressors, name -> (J,V), e.g. "h36m17".
        name: of the body, shown in reports.
    """

    v_template: Tensor
    shapedirs: Tensor
    posedirs: Tensor
    J_regressor: Tensor
    weights: Tensor
    faces: Tensor
    rest_template: Tensor
    rest_directions: Tensor
    parents: Tensor

    def __init__(
        self,
        v_template: NDArray,
        shapedirs: NDArray,
        J_regressor: NDArray,
        weights: NDArray,
        faces: NDArray,
        posedirs: NDArray | None = None,
        regressors: dict[str, NDArray] | None = None,
        name: str = "body",
    ) -> None:
        super().__init__()
        self.name = name
        vertices, betas = len(v_template), min(10, shapedirs.shape[2])
        template = torch.as_tensor(np.asarray(v_template, np.float64))
        directions = torch.as_tensor(np.asarray(shapedirs[..., :betas], np.float64))
        if betas < 10:
            directions = torch.cat([directions, directions.new_zeros(vertices, 3, 10 - betas)], 2)
        regressor = torch.as_tensor(np.asarray(J_regressor, np.float64))
        if posedirs is None or not np.any(posedirs):
            pose_blend = torch.zeros(0, 3 * vertices)
        else:
            pose_blend = torch.as_tensor(np.asarray(posedirs, np.float32).reshape(3 * vertices, -1).T.copy())
        self.register_buffer("v_template", template.float())
        self.register_buffer("shapedirs", directions.float())
        self.register_buffer("posedirs", pose_blend)  # (207, 3V), or (0, 3V) without pose blend shapes
        self.register_buffer("J_regressor", regressor.float())
        self.register_buffer("weights", torch.as_tensor(np.asarray(weights, np.float32)))
        self.register_buffer("faces", torch.as_tensor(np.asarray(faces).astype(np.int64)))
        # Joints are linear in the betas: kept apart, so that kinematics needs no vertices.
        self.register_buffer("rest_template", (regressor @ template).float())
        self.register_buffer("rest_directions", torch.einsum("jv,vck->jck", regressor, directions).float())
        self.register_buffer("parents", torch.tensor(SMPL_PARENTS))
        self._regressor_names = tuple(regressors or ())
        for key, matrix in (regressors or {}).items():
            self.register_buffer(f"regressor_{key}", torch.as_tensor(np.asarray(matrix, np.float32)))

    @property
    def regressors(self) -> dict[str, Tensor]:
        """Further joint regressors that came with the body: name -> (J,V)."""
        return {name: getattr(self, f"regressor_{name}") for name in self._regressor_names}

    def rest_joints(self, betas: Tensor) -> Tensor:
        """(B,10) -> joints of the zero pose (B,24,3) m."""
        return self.rest_template + torch.einsum("bk,jck->bjc", betas, self.rest_directions)

    def joints(self, rotations: Tensor, betas: Tensor, transl: Tensor | None = None) -> Tensor:
        """Joints only, without vertices.

        Args:
            rotations: (B,24,3,3); betas: (B,10); transl: (B,3) m.

        Returns:
            (B,24,3) m, differentiable in all.
        """
        _, joints = forward_kinematics(rotations, self.rest_joints(betas))
        return joints if transl is None else joints + transl[:, None]

    def forward(self, pose: Tensor, betas: Tensor, transl: Tensor | None = None) -> BodyOutput:
        """Posed vertices and joints.

        Args:
            pose: axis-angle (B,24,3) rad or rotation matrices (B,24,3,3).
            betas: (B,10); transl: (B,3) m.
        """
        rotations = aa_to_matrix(pose) if pose.ndim == 3 else pose
        shaped = self.v_template + blend_shapes(betas, self.shapedirs)
        rest = self.rest_joints(betas)
        joints, skinning = batch_rigid_transform(rotations, rest, self.parents, dtype=rest.dtype)
        if len(self.posedirs):
            feature = (rotations[:, 1:] - torch.eye(3, dtype=shaped.dtype, device=shaped.device)).flatten(1)
            shaped = shaped + (feature @ self.posedirs).view_as(shaped)
        vertices = skin(shaped, self.weights, skinning)
        if transl is not None:
            vertices, joints = vertices + transl[:, None], joints + transl[:, None]
        return BodyOutput(vertices, joints)

    def regress(self, vertices: Tensor, name: str) -> Tensor:
        """Joints (B,J,3) of posed vertices (B,V,3) by one of `regressors`."""
        if name not in self.regressors:
            raise ConfigError(
                f"this body has no joint regressor {name!r}",
                where=self.name,
                choices=self.regressors,
                next_command="put J_regressor_h36m.npy beside the SMPL files (it comes with SPIN's data)",
            )
        return vertices2joints(self.regressors[name], vertices)


def skin(rest_vertices: Tensor, weights: Tensor, transforms: Tensor) -> Tensor:
    """Linear blend skinning.

    Args:
        rest_vertices: (B,V,3); weights: (V,24); transforms: (B,24,4,4).

    Returns:
        (B,V,3).
    """
    blended = torch.einsum("vj,bjk->bvk", weights, transforms[:, :, :3].flatten(2)).unflatten(2, (3, 4))
    return (blended[..., :3] @ rest_vertices[..., None])[..., 0] + blended[..., 3]


def sample_betas(count: int, generator: torch.Generator) -> Tensor:
    """Plausible betas (count,10): normal, cut at 1.5 (stature) and 2 standard deviations."""
    limit = torch.tensor([BETA_LIMIT[0]] + [BETA_LIMIT[1]] * 9)
    return torch.randn(count, 10, generator=generator).clamp(-limit, limit)


def load_body(path: str | Path | None = None, resolution: str = "full", gender: str = "neutral") -> BodyModel:
    """A body model.

    Args:
        path: None for the embedded free body; else an SMPL .pkl or .npz file or a folder of them.
        resolution: of the embedded body, "full" (13.5 k vertices) or "low" (3 k).
        gender: which file of a folder to take: "neutral", "male" or "female".

    Example:
        >>> import torch
        >>> from posegen import load_body
        >>> body = load_body(resolution="low")
        >>> round(float(body.rest_joints(torch.zeros(1, 10))[0, 15, 1]), 1)  # the head's height over the origin, m
        0.7
    """
    from posegen.body.smpl_files import read_arrays, read_body

    if path is not None:
        return read_body(Path(path), gender)
    if resolution not in ("full", "low"):
        raise ConfigError(f"unknown body resolution {resolution!r}", choices=("full", "low"))
    from posegen.assets import asset_path

    return BodyModel(**read_arrays(asset_path(f"body_{resolution}")), name=f"free body ({resolution})")
