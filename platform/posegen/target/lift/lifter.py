"""From 2-D points to several people in the world with their cameras."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from posegen.body.joint_sets import JointSet
from posegen.body.model import BodyModel
from posegen.body.rotations import matrix_to_aa
from posegen.scene import TensorRecord
from posegen.target.lift.config import LiftConfig
from posegen.target.lift.dictionary import LIMBS, apart, build_dictionary, find
from posegen.target.lift.parameters import (
    ELEVATION,
    JOINTS,
    LOG_DEPTH,
    LOG_SCALE,
    ROLL,
    SHAPE,
    SHIFT,
    Kinematics,
    camera_rotation,
)
from posegen.target.lift.points import body_points
from posegen.target.lift.prior import pose_prior
from posegen.target.lift.solve import Problem, Solver
from posegen.target.lift.world import Tilts, camera_log_prior, settled, tilts_of, world_log_likelihood

LOOKED_AT = 160  # dictionary entries a picture that candidates are chosen from
START_APART_M = 0.10


@dataclass(frozen=True)
class Hypotheses(TensorRecord):
    """H ways to see each of N pictures, best first. Boxes are squares around the keypoints that were seen."""

    pose: Tensor  # (N,H,24,3) rad, global orient in the world: y up, the camera at azimuth 0
    betas: Tensor  # (N,H,10)
    elevation_rad: Tensor  # (N,H)
    roll_rad: Tensor  # (N,H)
    distance_m: Tensor  # (N,H) of the pelvis
    focal: Tensor  # (N,H) in sides of the box
    shift_m: Tensor  # (N,H,2) of the pelvis across the view
    elevation_spread_rad: Tensor  # (N,H) standard deviation
    log_distance_spread: Tensor  # (N,H) standard deviation of the distance's logarithm
    score: Tensor  # (N,H) negative log posterior up to a constant: less is better
    reprojection: Tensor  # (N,H) mean distance of the points from the keypoints, sides of the box
    weight: Tensor  # (N,H), sums to 1

    def __len__(self) -> int:
        return len(self.pose)


class Lifter:
    """Lifts points of one joint set with one body and one pool of real poses.

    Args:
        names: the joint set of the keypoints.
        body: of the scenes.
        poses: (P,24,3) rad, the pool of real poses in their world, each clip facing +z on average.
    """

    def __init__(self, names: JointSet, body: BodyModel, poses: Tensor, config: LiftConfig | None = None) -> None:
        self.config = config = config or LiftConfig()
        self.body = body
        self.points = body_points(names, body)
        self.kinematics = Kinematics(body, self.points, config.shapes)
        self.prior = pose_prior(poses, config)
        self.dictionary = build_dictionary(poses, self.kinematics, self.prior, config)
        self.tilts: Tilts = tilts_of(poses, body, config)
        self.solver = Solver(self.kinematics, self.prior, config)

    @torch.no_grad()
    def __call__(self, keypoints: Tensor) -> Hypotheses:
        """Keypoints (N,K,3) as x, y (sides of the box, from its middle) and confidence in [0,1]."""
        seen = keypoints[:, self.points.columns].float()
        points = torch.where(seen[..., 2:] > 0, seen[..., :2], 0.0)
        config, solver = self.config, self.solver
        found = find(self.dictionary, points, seen[..., 2], LOOKED_AT)
        joints = self.dictionary.joints[found.index]
        first = apart(found.cost, joints, config.candidates, START_APART_M)
        index, scale = found.index.gather(1, first).flatten(), found.scale.gather(1, first).flatten()
        shift = found.shift.gather(1, first[..., None].expand(-1, -1, 2)).flatten(0, 1)
        entries = self.dictionary[index]
        x = entries.x.clone()
        x[:, LOG_SCALE] = scale.log()
        x[:, SHIFT] = shift / scale[:, None]
        weights = self._weights(seen[..., 2]).repeat_interleave(config.candidates, 0)
        problem = Problem(
            points.repeat_interleave(config.candidates, 0),
            weights,
            entries.root,
            entries.x[:, JOINTS],
            entries.cost,
        )
        solution = solver.run(problem, solver.start(problem, x), config.first_steps)
        n = len(keypoints)
        kept = apart(
            solution.energy.view(n, -1), self._limbs(problem, solution.x).view(n, -1, 12, 3), config.hypotheses,
            config.apart_m,
        )  # fmt: skip
        rows = (kept + config.candidates * torch.arange(n)[:, None]).flatten()
        problem, solution = problem[rows], solution[rows]
        solution = solver.run(problem, solution, config.steps)
        order = solution.energy.view(n, -1).argsort(1)
        rows = (order + config.hypotheses * torch.arange(n)[:, None]).flatten()
        return self._result(problem[rows], solution[rows])

    def _weights(self, confidence: Tensor) -> Tensor:
        """Confidence over variance (N,M): noise of the keypoints, and where the body's point may differ from theirs."""
        side_m = 1.3  # of a usual person's box: good enough to turn a tolerance into sides of the box
        variance = self.config.keypoint_noise**2 + (self.points.tolerance_m / side_m).square()
        return confidence.clamp(0, 1) / variance

    def _limbs(self, problem: Problem, x: Tensor) -> Tensor:
        camera, _, _ = camera_rotation(x[:, ELEVATION], x[:, ROLL])
        return self.kinematics.posed(x, problem.root0)[1][:, LIMBS] @ camera.mT

    def _result(self, problem: Problem, solution) -> Hypotheses:
        x, h = solution.x, self.config.hypotheses
        spread = self.solver.spread(problem, solution)
        turned, joints = self.kinematics.posed(x, problem.root0)
        camera, _, _ = camera_rotation(x[:, ELEVATION], x[:, ROLL])
        likelihood = world_log_likelihood(joints @ camera.mT, camera @ turned[:, 0], self.tilts, self.config)
        world = settled(camera_log_prior(self.config) + likelihood)
        placed, _, _ = camera_rotation(world.elevation, world.roll)
        root = matrix_to_aa(placed.mT @ camera @ turned[:, 0])
        betas = torch.zeros(len(x), 10)
        betas[:, : self.config.shapes] = x[:, SHAPE]
        points = self.kinematics.see(x, problem.root0, False).points
        used = (problem.weights > 0).float()
        gap = ((points - problem.points).norm(dim=-1) * used).sum(1) / used.sum(1).clamp_min(1)
        distance = x[:, LOG_DEPTH].exp()
        score = solution.energy
        values = {
            "pose": torch.cat([root[:, None], x[:, JOINTS].reshape(-1, 23, 3)], 1),
            "betas": betas,
            "elevation_rad": world.elevation,
            "roll_rad": world.roll,
            "distance_m": distance,
            "focal": x[:, LOG_SCALE].exp() * distance,
            "shift_m": x[:, SHIFT],
            "elevation_spread_rad": world.elevation_spread,
            "log_distance_spread": spread[:, LOG_DEPTH],
            "score": score,
            "reprojection": gap,
        }
        shaped = {name: value.reshape(-1, h, *value.shape[1:]) for name, value in values.items()}
        weight = torch.softmax(-shaped["score"] / self.config.temperature, 1)
        return Hypotheses(**shaped, weight=weight)
