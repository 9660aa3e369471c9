"""Which way is up: what of a view is the camera's elevation and what is the person's tilt.

Turning person and camera together leaves every pixel where it is, so the picture itself does not say. Four things do:
cameras are mostly level and seldom rolled; a pose comes with the tilts that the poses of real motion like it have, with
a few exceptions; a person on a floor stands above what touches it; and several people in one picture have one camera.
All are evaluated on a grid of elevations and rolls; the answer is the posterior's mean with its spread.

Dimensions: B hypotheses, G cells of the grid, P poses of the pool, k of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL24
from posegen.body.model import BodyModel
from posegen.body.rotations import aa_to_matrix, mirror_pose
from posegen.target.lift.config import LiftConfig
from posegen.target.lift.parameters import camera_rotation

ELEVATIONS_DEG = tuple(range(-70, 90, 5))
ROLLS_DEG = tuple(range(-20, 25, 5))
# What people touch the floor with.
CONTACTS = tuple(
    SMPL24.index(name)
    for name in ("left_foot", "right_foot", "left_ankle", "right_ankle", "left_knee", "right_knee", "pelvis",
                 "left_hand", "right_hand", "left_elbow", "right_elbow", "head")
)  # fmt: skip
# Share of the body's mass near a joint, after the segments of Winter 2009, Biomechanics, table 4.1.
MASS = {
    "pelvis": 0.14, "spine1": 0.10, "spine2": 0.10, "spine3": 0.12, "neck": 0.03, "head": 0.06, "left_hip": 0.06,
    "right_hip": 0.06, "left_knee": 0.07, "right_knee": 0.07, "left_ankle": 0.03, "right_ankle": 0.03,
    "left_shoulder": 0.03, "right_shoulder": 0.03, "left_elbow": 0.022, "right_elbow": 0.022, "left_wrist": 0.013,
    "right_wrist": 0.013,
}  # fmt: skip
NEAREST = 200  # poses of the pool that a pose is compared with
TOUCH_M = 0.05  # joints this much above the lowest count e times less as support


@dataclass(frozen=True)
class Upright:
    """Camera angles (B,) rad with their spreads, and the log evidence of the world's priors."""

    elevation: Tensor
    roll: Tensor
    elevation_spread: Tensor
    log_evidence: Tensor


class Tilts:
    """How people in a pose are tilted: the up directions of the pool's poses that are most like it.

        p(up | pose) = (1 - odd) sum_k w_k N(angle(up, up_k); tilt_deg) + odd / 4 pi,  w_k ~ exp(-d_k^2 / 2 like_m^2)

    with d_k the root mean square distance of the joints in the frame of the pelvis.

    Args:
        places_m: (P,24,3) joints of the pool's poses in the frame of the pelvis; up: (P,3) unit, the world's up there.
    """

    def __init__(self, places_m: Tensor, up: Tensor, config: LiftConfig) -> None:
        self.places, self.up, self.config = places_m.flatten(1), up, config

    def near(self, places_m: Tensor) -> tuple[Tensor, Tensor]:
        """Log weights (B,k) and up directions (B,k,3) in the frame of the pelvis, of poses like (B,24,3)."""
        square = torch.cdist(places_m.flatten(1), self.places).square() / places_m.shape[1]
        nearest, index = square.topk(min(NEAREST, len(self.up)), largest=False)
        return torch.log_softmax(-0.5 * nearest / self.config.like_m**2, 1), self.up[index]

    def log_density(self, places_m: Tensor, root_cam: Tensor, up_cam: Tensor) -> Tensor:
        """(B,G) of directions up_cam (G,3) in the camera's frame, for people (B,24,3) whose pelvis is turned by
        root_cam (B,3,3)."""
        log_weight, up = self.near(places_m)
        angle = torch.acos((torch.einsum("bij,bkj->bki", root_cam, up) @ up_cam.T).clamp(-1, 1))
        sigma, odd = math.radians(self.config.tilt_deg), self.config.odd_tilts
        near = torch.exp(log_weight[..., None] - 0.5 * (angle / sigma).square()).sum(1) / (2 * math.pi * sigma**2)
        return ((1 - odd) * near + odd / (4 * math.pi)).log()


def tilts_of(poses: Tensor, body: BodyModel, config: LiftConfig) -> Tilts:
    """The tilts of a pool of real poses (P,24,3) in their world, and of their mirror images."""
    both = torch.cat([poses, mirror_pose(poses)]).float()
    rotations = aa_to_matrix(both)
    up = rotations[:, 0, 1].clone()  # the world's y in the frame of the pelvis
    rotations[:, 0] = torch.eye(3)
    with torch.no_grad():
        places = body.joints(rotations, torch.zeros(len(both), 10))
    return Tilts(places - places[:, :1], up, config)


def grid() -> tuple[Tensor, Tensor]:
    """Elevations and rolls (G,) rad."""
    e, r = torch.meshgrid(
        torch.deg2rad(torch.tensor(ELEVATIONS_DEG, dtype=torch.float32)),
        torch.deg2rad(torch.tensor(ROLLS_DEG, dtype=torch.float32)), indexing="ij",
    )  # fmt: skip
    return e.flatten(), r.flatten()


def camera_log_prior(config: LiftConfig) -> Tensor:
    """(G,): what cameras usually are, a density on the sphere."""
    e, r = grid()
    log_p = e.cos().log()
    for angle, (mean, spread) in ((e, config.elevation_deg), (r, config.roll_deg)):
        log_p = log_p - 0.5 * ((angle - math.radians(mean)) / math.radians(spread)).square()
    return log_p


def world_log_likelihood(joints_cam_m: Tensor, root_cam: Tensor, tilts: Tilts, config: LiftConfig) -> Tensor:
    """(B,G): how well people (B,24,3), the pelvis anywhere, stand in the world of each camera of the grid."""
    rotation, _, _ = camera_rotation(*grid())  # (G,3,3) world -> camera
    places = (joints_cam_m - joints_cam_m[:, :1]) @ root_cam
    tilt = tilts.log_density(places, root_cam, rotation[:, :, 1])
    return tilt - config.floor_weight * imbalance(joints_cam_m, rotation, config.floor_m)


def settled(log_p: Tensor) -> Upright:
    """The mean of a posterior over the grid (B,G), not normalised."""
    e, r = grid()
    log_evidence = torch.logsumexp(log_p, 1)
    p = (log_p - log_evidence[:, None]).exp()
    elevation, roll = p @ e, p @ r
    return Upright(elevation, roll, (p @ e.square() - elevation.square()).clamp_min(0).sqrt(), log_evidence)


def shared_camera(log_likelihood: Tensor, log_weight: Tensor, groups: Tensor, config: LiftConfig) -> Tensor:
    """Posteriors (N,H,G), not normalised, of each hypothesis' camera where people of a group have one camera.

    A person's hypotheses are a mixture; what the others of the group say of the camera is a prior for each,

        p_nh(g) ~ prior(g) L_nh(g) S[prod_{m != n} sum_h w_mh L_mh](g)

    spread (S) by shared_deg: people who stand apart in a picture are seen along different rays.

    Args:
        log_likelihood: (N,H,G); log_weight: (N,H) of hypotheses, weights sum to 1; groups: (N,) int64.
    """
    each = torch.logsumexp(log_likelihood + log_weight[..., None], 1)  # (N,G)
    together = torch.zeros(int(groups.max()) + 1, each.shape[1]).index_add_(0, groups, each)
    others = together[groups] - each
    e, r = grid()
    square = (e[:, None] - e).square() + (r[:, None] - r).square()
    spread = torch.log_softmax(-0.5 * square / math.radians(config.shared_deg) ** 2, 1)
    others = torch.logsumexp(others[:, None] + spread, 2)
    return camera_log_prior(config) + log_likelihood + others[:, None]


def imbalance(joints_cam_m: Tensor, rotation: Tensor, floor_m: float) -> Tensor:
    """(B,G): how far the centre of mass is from above its support, Cauchy of half squares in units of floor_m."""
    world = torch.einsum("bjc,gck->bgjk", joints_cam_m, rotation)  # R^T j
    contacts = world[:, :, list(CONTACTS)]
    support = torch.softmax(-contacts[..., 1] / TOUCH_M, 2)
    mass = torch.tensor([MASS.get(name, 0.0) for name in SMPL24.joints])
    centre = torch.einsum("j,bgjk->bgk", mass / mass.sum(), world)
    gap = centre - (support[..., None] * contacts).sum(2)
    return 0.5 * torch.log1p((gap[..., 0].square() + gap[..., 2].square()) / floor_m**2)
