"""Pose, camera and shape that explain a picture's points: damped Gauss-Newton on all hypotheses at once.

Minimised is half the sum of squared, robustified residuals, each in its own standard deviation, so that it is a
negative log posterior up to a constant:

    E = 1/2 sum_m c_m rho(|e_m|^2 / s_m^2)          reprojection, rho(q) = t^2 log(1 + q / t^2) (Cauchy)
      + 1/2 sum_k rho_nu((x - x0)^T K^-1 (x - x0))  distance to the dictionary's pose, heavy-tailed
      + 1/2 sum_j |excess_j|^2 / limit^2            joint limits
      + 1/2 (camera, tilt and shape about their means)^2

Dimensions: B hypotheses, M points, P unknowns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from posegen.scene import TensorRecord
from posegen.target.lift.config import LiftConfig
from posegen.target.lift.parameters import (
    ELEVATION,
    JOINTS,
    LOG_DEPTH,
    ROLL,
    ROOT,
    SHAPE,
    SHIFT,
    Kinematics,
)
from posegen.target.lift.prior import PosePrior

CAUCHY = 3.0  # standard deviations from which a keypoint counts as an outlier
TAIL = 60.0  # squared kernel widths from which a pose counts as far from its dictionary entry
LIMIT_RAD = 0.08
YAW_RAD = 0.5  # how far a hypothesis may turn from its dictionary entry before that costs
SHIFT_M = 0.4
FLAT = 1e-4  # precision of what has no prior
DAMPING = (1e-3, 1e4)


@dataclass(frozen=True)
class Problem(TensorRecord):
    """What B hypotheses are to explain, and what each started from."""

    points: Tensor  # (B,M,2) seen, in sides of the box from its middle
    weights: Tensor  # (B,M) confidence / s_m^2; 0 where not seen
    root0: Tensor  # (B,3,3)
    pose0: Tensor  # (B,69) rad
    cost0: Tensor  # (B,) of the dictionary entry itself

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class Solution(TensorRecord):
    """Unknowns with what they cost."""

    x: Tensor  # (B,P)
    energy: Tensor  # (B,)
    data: Tensor  # (B,) the reprojection's part of it
    damping: Tensor  # (B,)

    def __len__(self) -> int:
        return len(self.x)


class Solver:
    """Solves problems of one body, point set and prior."""

    def __init__(self, kinematics: Kinematics, prior: PosePrior, config: LiftConfig) -> None:
        self.kinematics, self.prior = kinematics, prior
        mean = torch.zeros(kinematics.unknowns)
        precision = torch.full((kinematics.unknowns,), FLAT)
        tilt = math.radians(config.tilt_deg)
        precision[ROOT] = torch.tensor([tilt**-2, YAW_RAD**-2, tilt**-2])
        precision[JOINTS] = 0.0  # the kernel's part
        for index, (middle, spread) in ((ELEVATION, config.elevation_deg), (ROLL, config.roll_deg)):
            mean[index], precision[index] = math.radians(middle), math.radians(spread) ** -2
        mean[LOG_DEPTH], precision[LOG_DEPTH] = math.log(config.distance[0]), config.distance[1] ** -2
        precision[SHIFT] = SHIFT_M**-2
        precision[SHAPE] = 1.0
        self.mean, self.precision = mean, precision

    def start(self, problem: Problem, x: Tensor) -> Solution:
        energy, data = self.energy(problem, x)
        return Solution(x, energy, data, torch.full_like(energy, 0.1))

    def energy(self, problem: Problem, x: Tensor) -> tuple[Tensor, Tensor]:
        """E (B,) and the reprojection's part (B,)."""
        data, _, prior, _, _ = self._terms(problem, x, self.kinematics.see(x, problem.root0, False).points)
        return data + prior, data

    def _terms(self, problem: Problem, x: Tensor, points: Tensor):
        error = points - problem.points
        q = error.square().sum(-1) * problem.weights
        data = 0.5 * CAUCHY**2 * torch.log1p(q / CAUCHY**2).sum(1)
        robust = problem.weights / (1 + q / CAUCHY**2)
        away = x[:, JOINTS] - problem.pose0
        pull = away @ self.prior.precision
        distance = (away * pull).sum(1)
        kernel = 0.5 * TAIL * torch.log1p(distance / TAIL)
        slack = 1 / (1 + distance / TAIL)
        rest = 0.5 * ((x - self.mean).square() * self.precision).sum(1)
        joints = x[:, JOINTS]
        low, high = self.prior.limits.low.flatten(), self.prior.limits.high.flatten()
        outside = (joints - high).clamp_min(0) - (low - joints).clamp_min(0)
        limits = 0.5 * outside.square().sum(1) / LIMIT_RAD**2
        return data, (error, robust), kernel + rest + limits + problem.cost0, (pull, slack), outside

    def normal_equations(self, problem: Problem, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gauss-Newton's matrix (B,P,P) and gradient (B,P)."""
        seen = self.kinematics.see(x, problem.root0)
        assert seen.jacobian is not None
        _, (error, robust), _, (pull, slack), outside = self._terms(problem, x, seen.points)
        batch = len(x)
        root = robust.sqrt()[..., None]
        jacobian = (seen.jacobian * root[..., None]).reshape(batch, -1, self.kinematics.unknowns)
        matrix = jacobian.mT @ jacobian
        gradient = (jacobian.mT @ (error * root).reshape(batch, -1, 1))[..., 0]
        matrix.diagonal(dim1=1, dim2=2).add_(self.precision)
        gradient = gradient + (x - self.mean) * self.precision
        matrix[:, JOINTS, JOINTS] += slack[:, None, None] * self.prior.precision
        matrix[:, JOINTS, JOINTS].diagonal(dim1=1, dim2=2).add_((outside != 0) / LIMIT_RAD**2)
        gradient[:, JOINTS] += slack[:, None] * pull + outside / LIMIT_RAD**2
        return matrix, gradient

    @torch.no_grad()
    def run(self, problem: Problem, solution: Solution, steps: int) -> Solution:
        """`steps` steps of Levenberg and Marquardt; a step that makes things worse is not taken."""
        for _ in range(steps):
            matrix, gradient = self.normal_equations(problem, solution.x)
            matrix.diagonal(dim1=1, dim2=2).mul_(1 + solution.damping[:, None])
            factor = torch.linalg.cholesky(matrix)
            step = torch.cholesky_solve(gradient[..., None], factor)[..., 0]
            x = solution.x - step
            energy, data = self.energy(problem, x)
            better = energy < solution.energy
            solution = replace(
                solution,
                x=torch.where(better[:, None], x, solution.x),
                energy=torch.where(better, energy, solution.energy),
                data=torch.where(better, data, solution.data),
                damping=(solution.damping * torch.where(better, 0.25, 6.0)).clamp(*DAMPING),
            )
        return solution

    @torch.no_grad()
    def spread(self, problem: Problem, solution: Solution) -> Tensor:
        """Standard deviation (B,P) of the unknowns by Laplace's approximation around a solution."""
        matrix, _ = self.normal_equations(problem, solution.x)
        return torch.linalg.inv(matrix).diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
