"""What the discriminators see as real: poses of the pool and of the target's lifted people, and 2-D skeletons.

Without a target: poses of the pool and their mirror images; skeletons are such poses before the cameras of the
unshifted proposal. With one: a share of the poses are lifted people, and as large a share of the skeletons are the
target's own keypoints, so that projections are drawn towards those of the domain that the estimator is for. Keypoints
tell some joints only, and see not all of them: the discriminator sees the same joints of every skeleton, and fakes are
hidden where a real one, drawn at random, is.

Dimensions: n draws, N people of the target, K joints of its keypoints.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL24, JointSet
from posegen.body.rotations import mirror_pose
from posegen.errors import DataError
from posegen.target.anchors import Anchors

MIN_SEEN = 6  # of the joints in common: a skeleton of fewer says nothing
NOISE = 0.02  # of a skeleton's spread: keypoints are noisy, projections of a body are not, and that must not tell them


class TargetSkeletons:
    """The target's keypoints in SMPL's order.

    Args:
        keypoints: (N,K,3) x, y px, confidence.
        names: of the K joints.
    """

    def __init__(self, keypoints: Tensor, names: JointSet) -> None:
        in_names, in_smpl = names.common(SMPL24)
        points = torch.zeros(len(keypoints), len(SMPL24), 2)
        seen = torch.zeros(len(keypoints), len(SMPL24))
        found = keypoints[:, in_names].float()
        known = torch.isfinite(found).all(-1) & (found[..., 2] > 0)
        points[:, in_smpl] = torch.where(known[..., None], found[..., :2], 0.0)
        seen[:, in_smpl] = known.float()
        enough = seen.sum(1) >= MIN_SEEN
        if not enough.any():
            raise DataError(
                f"nobody of the target shows {MIN_SEEN} joints that the body has", where="target.joint_set",
                choices=SMPL24.joints,
            )  # fmt: skip
        self.joints: list[int] = in_smpl
        self.points, self.seen = points[enough], seen[enough]

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n skeletons: points (n,24,2) px and which joints are seen (n,24), on the CPU."""
        rows = torch.randint(len(self.points), (n,), generator=generator)
        return self.points[rows], self.seen[rows]


class Reals:
    """Draws real poses and skeletons from a CPU generator, on the CPU.

    Args:
        pool: (P,24,3) rad.
        anchors: the target's lifted people, None without a target.
        skeletons: the target's keypoints, None without.
        share: of what is drawn, from the target.
    """

    def __init__(
        self, pool: Tensor, anchors: Anchors | None = None, skeletons: TargetSkeletons | None = None, share: float = 0.0
    ) -> None:
        self.pool = torch.cat([pool, mirror_pose(pool)])
        self.anchors, self.skeletons = anchors, skeletons
        self.share = share if anchors is not None else 0.0
        mean, square = self.pool.mean(0), self.pool.square().mean(0)
        if anchors is not None and self.share > 0:
            lifted = torch.stack([anchors.pose, mirror_pose(anchors.pose)], 1)  # (A,2,24,3)
            weight = (anchors.weight / 2)[:, None, None, None]
            mean = (1 - self.share) * mean + self.share * (weight * lifted).sum((0, 1))
            square = (1 - self.share) * square + self.share * (weight * lifted.square()).sum((0, 1))
        self.mean, self.std = mean, (square - mean.square()).clamp_min(0).sqrt()  # (24,3) of real poses

    @property
    def joints(self) -> list[int] | None:
        """Which joints a projection discriminator can see of every skeleton; None: all."""
        return None if self.skeletons is None else self.skeletons.joints

    def poses(self, n: int, generator: torch.Generator) -> Tensor:
        """(n,24,3) rad; global orients of the two kinds are of other frames, and no discriminator looks at them."""
        drawn = self.pool[torch.randint(len(self.pool), (n,), generator=generator)]
        if self.anchors is None or self.share <= 0:
            return drawn
        chosen = torch.multinomial(self.anchors.weight, n, replacement=True, generator=generator)
        lifted = self.anchors.pose[chosen]
        u = torch.rand(n, 2, generator=generator)
        lifted = torch.where((u[:, 0] < 0.5)[:, None, None], mirror_pose(lifted), lifted)
        return torch.where((u[:, 1] < self.share)[:, None, None], lifted, drawn)

    def skeletons_of(
        self, n: int, generator: torch.Generator, projected: Callable[[int], Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Real skeletons (n,24,2) px, and which joints are seen (n,24), None for all.

        Args:
            projected: real poses before the unshifted proposal's cameras, so many (n,24,2).
        """
        if self.skeletons is None:
            return projected(n), None
        points, seen = self.skeletons.draw(n, generator)
        from_target = torch.rand(n, generator=generator) < self.share
        other = projected(n).cpu()
        return torch.where(from_target[:, None, None], points, other), seen

    def hidden(self, n: int, generator: torch.Generator) -> Tensor | None:
        """Which joints (n,24) of fakes are seen: as of real ones drawn at random."""
        return None if self.skeletons is None else self.skeletons.draw(n, generator)[1]


def noisy(joints_px: Tensor, seen: Tensor | None, generator: torch.Generator) -> Tensor:
    """Skeletons (n,24,2) with noise of NOISE times their spread; as they are where nothing is a keypoint."""
    if seen is None:
        return joints_px
    weight = seen[..., None].to(joints_px)
    count = weight.sum(1, keepdim=True).clamp_min(1)
    middle = (joints_px * weight).sum(1, keepdim=True) / count
    spread = ((joints_px - middle).square() * weight).sum((1, 2), keepdim=True).div(2 * count).sqrt()
    return joints_px + NOISE * spread * torch.randn(joints_px.shape, generator=generator).to(joints_px)
