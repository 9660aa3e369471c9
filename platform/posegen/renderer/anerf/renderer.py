"""The original A-NeRF as a renderer, so that published subjects keep working. Slow, and equal to the original.

Conventions. A-NeRF's world has y down and its own scale (the mean bone is REFERENCE_BONE long), so a scene is turned by
half a turn about x and scaled; pictures do not change. Its pixel (i, j) looks along (i - centre), ours along
(i + 1/2 - centre): a picture of the original with principal point c is ours with c + 1/2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from posegen.arguments import check_arguments
from posegen.body.joint_sets import SMPL_PARENTS
from posegen.body.kinematics import forward_kinematics
from posegen.body.rotations import aa_to_matrix
from posegen.errors import CheckpointError
from posegen.renderer.anerf import rays as anerf_rays
from posegen.renderer.anerf.checkpoint import ANerfConfig, ANerfWeights, config_from_args, read_anerf
from posegen.renderer.anerf.encoding import world_to_bones
from posegen.renderer.checks import check_scene
from posegen.scene import Scene

if TYPE_CHECKING:
    from posegen.body.model import BodyModel

# Mean bone of the original's `smpl_rest_pose` (0.43861) times its `ext_scale` 0.001 * 0.25 / 0.00035.
REFERENCE_BONE = 0.43861 * 0.25 / 0.35


def mean_bone(rest_joints: Tensor) -> Tensor:
    """Mean distance of joints (24,3) from their parents: ()."""
    parents = list(SMPL_PARENTS[1:])
    return (rest_joints[1:] - rest_joints[parents]).norm(dim=-1).mean()


class ANerfRenderer(nn.Module):
    """A scene.Renderer of one subject; differentiable in pose, betas, translation and camera.

    Args:
        weights: of the networks.
        body: gives the bones' lengths (and their scale) of a scene.
    """

    half_turn: Tensor
    own_rest_pose: Tensor

    def __init__(self, weights: ANerfWeights, body: BodyModel, config: ANerfConfig | None = None) -> None:
        super().__init__()
        config = ANerfConfig() if config is None else config
        self.config = config
        self.encoding = weights.encoding
        self.coarse = weights.coarse
        self.fine = weights.fine
        self.single_net = weights.single_net
        self.body = body
        self.subjects = ("anerf",)
        self.register_buffer("half_turn", torch.diag(torch.tensor([1.0, -1.0, -1.0])), persistent=False)
        if config.skeleton == "checkpoint" and weights.rest_pose is None:
            raise CheckpointError(
                "the checkpoint holds no rest pose (it was trained without pose optimisation)",
                where="renderer.options.skeleton",
                choices=["body"],
            )
        own = torch.empty(0, 3) if weights.rest_pose is None else weights.rest_pose
        self.register_buffer("own_rest_pose", own, persistent=False)
        self.requires_grad_(False)

    def skeleton(self, scene: Scene) -> tuple[Tensor, Tensor, Tensor]:
        """Global rotations (B,24,3,3) and joints (B,24,3) in A-NeRF's world, and its scale () per metre."""
        rest = self.body.rest_joints(scene.betas)
        neutral = self.body.rest_joints(torch.zeros_like(scene.betas[:1]))[0]
        scale = REFERENCE_BONE / mean_bone(neutral)
        root = rest[:, :1]
        if self.config.skeleton == "checkpoint":
            rest = root + (self.own_rest_pose - self.own_rest_pose[:1]) / scale
        rotations, joints = forward_kinematics(aa_to_matrix(scene.pose), rest)
        joints = joints + scene.transl[:, None]
        return self.half_turn @ rotations, scale * joints @ self.half_turn, scale

    def forward(self, scene: Scene) -> tuple[Tensor, Tensor]:
        """rgb (B,3,H,W) premultiplied, alpha (B,1,H,W)."""
        check_scene(scene, self.subjects)
        camera = scene.camera
        rotations, joints, scale = self.skeleton(scene)
        bones = world_to_bones(rotations, joints)
        R = camera.R @ self.half_turn
        t = scale * camera.t
        pictures = []
        for i in range(len(scene)):
            cylinder = anerf_rays.bounding_cylinder(joints[i].detach())
            view = anerf_rays.View(R[i], t[i], camera.focal[i], camera.centre[i] - 0.5, camera.height, camera.width)
            pictures.append(self._picture(view, bones[i], cylinder))
        picture = torch.stack(pictures)
        return picture[:, :3].clamp(0, 1), picture[:, 3:].clamp(0, 1)

    def _picture(self, view: anerf_rays.View, bones: Tensor, cylinder: anerf_rays.Cylinder) -> Tensor:
        """(4,H,W): colour and alpha of one image, empty outside of the cylinder's box."""
        left, top, right, bottom = box = anerf_rays.box_of_cylinder(cylinder, view)
        if right <= left or bottom <= top:
            return torch.zeros(4, view.height, view.width, dtype=bones.dtype, device=bones.device) + 0 * bones.sum()
        origin, directions = anerf_rays.rays_in_box(box, view)
        parts = []
        for start in range(0, len(directions), self.config.chunk):
            chunk = directions[start : start + self.config.chunk]
            z = self._place(origin.detach(), chunk.detach(), bones.detach(), cylinder)
            parts.append(checkpointed(self._shade, origin, chunk, bones, z))
        inside = torch.cat(parts).T.reshape(4, bottom - top, right - left)
        return torch.nn.functional.pad(inside, (left, view.width - right, top, view.height - bottom))

    @torch.no_grad()
    def _place(self, origin: Tensor, directions: Tensor, bones: Tensor, cylinder: anerf_rays.Cylinder) -> Tensor:
        """Where to look on each ray, (R,S): evenly, and more where the coarse network saw something."""
        near, far = anerf_rays.near_and_far(origin, directions, cylinder)
        z = anerf_rays.coarse_samples(near, far, self.config.N_samples)
        if self.config.N_importance:
            raw = self._query(self.coarse, origin, directions, bones, z)
            weights = anerf_rays.volume_weights(self._density(raw[..., 3]), z, directions.norm(dim=-1))
            z = anerf_rays.importance_samples(z, weights, self.config.N_importance, self.single_net)
        return z

    def _shade(self, origin: Tensor, directions: Tensor, bones: Tensor, z: Tensor) -> Tensor:
        """(R,4) colour and alpha of rays at given samples (R,S)."""
        network = self.fine if self.config.N_importance else self.coarse
        raw = self._query(network, origin, directions, bones, z)
        weights = anerf_rays.volume_weights(self._density(raw[..., 3]), z, directions.norm(dim=-1))
        colour, alpha = anerf_rays.composite(raw, weights)
        return torch.cat([colour, alpha[:, None]], -1)

    def _query(self, network: nn.Module, origin: Tensor, directions: Tensor, bones: Tensor, z: Tensor) -> Tensor:
        """Raw outputs (R,S,4) at the samples."""
        points = origin + directions[:, None] * z[..., None]
        along = directions[:, None].expand_as(points)
        density, view = self.encoding(points.reshape(-1, 3), along.reshape(-1, 3), bones)
        return network(density, view, self.config.frame).reshape(*z.shape, 4)

    def _density(self, raw: Tensor) -> Tensor:
        raw = raw / self.config.density_scale
        if self.config.density_type == "softplus":
            return nn.functional.softplus(raw - self.config.softplus_shift)
        return torch.relu(raw)


def checkpointed(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Recomputes activations in the backward pass: 80 samples a ray of 1,080 features do not fit otherwise."""
    if torch.is_grad_enabled() and any(value.requires_grad for value in inputs):
        return checkpoint(function, *inputs, use_reentrant=False)  # type: ignore[return-value]
    return function(*inputs)


def check_options(options: Mapping[str, Any]) -> None:
    """Raises ConfigError for options that are no fields of ANerfConfig."""
    check_arguments("renderer anerf", ANerfConfig, options, where="renderer.options")


def load_anerf(
    path: Path | str, config: ANerfConfig | None = None, body: BodyModel | None = None, **options: Any
) -> ANerfRenderer:
    """The renderer of an original checkpoint.

    Args:
        path: the `.tar` file. An `args.txt` beside it, as the original writes, is taken into account.
        config: instead of that `args.txt`.
        body: whose bones are posed; the embedded body by default.
        options: single fields of ANerfConfig that override both.
    """
    path = Path(path)
    args = path.parent / "args.txt"
    if config is None:
        config = config_from_args(args) if args.is_file() else ANerfConfig()
    check_options(options)
    config = replace(config, **options)
    if body is None:
        from posegen.body.model import load_body

        body = load_body(resolution="low")
    return ANerfRenderer(read_anerf(path, config), body, config)
