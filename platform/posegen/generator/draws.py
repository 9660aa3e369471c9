"""The raw randomness of a scene, apart from what the generator makes of it.

Drawing is apart from generating for two reasons: data-parallel workers draw the whole batch from one seeded generator
and take their slices, so that two workers do what one would do with the doubled batch; and a data set row is drawn
from its own id, so that any worker can render any row and get the same one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL24
from posegen.body.rotations import mirror_pose
from posegen.noise import Noise
from posegen.renderer.surroundings.looks import random_light
from posegen.scene import Light, TensorRecord
from posegen.scenes.views import Views
from posegen.seeds import derive

if TYPE_CHECKING:
    from posegen.target.draws import TargetDraws

CAMERA_PARAMETERS = ("azimuth", "elevation", "roll", "distance", "focal", "crop", "shift_u", "shift_v")


@dataclass(frozen=True)
class Draw(TensorRecord):
    """Raw randomness of n scenes."""

    noise: Tensor  # (n, raw_dim) of the noise distribution
    anchor: Tensor  # (n, 24, 3) rad, a real pose
    joints: Tensor  # (n, 24, 3) standard normal, scaled by the generator
    camera: Tensor  # (n, 8) uniform in (0,1), one column for each of CAMERA_PARAMETERS
    betas: Tensor  # (n, 10)
    light: Light
    subject: Tensor  # (n,) int64
    background: Tensor  # (n,) int64
    explore: Tensor  # (n, 24*3 + 8) standard normal, used by the score-function feedback only
    # With a target: where cameras may be, and which of its people each draw is around (-1: a pose of the pool).
    view: Views | None = None
    person: Tensor | None = None  # (n,) int64

    def __len__(self) -> int:
        return len(self.noise)


class Drawer:
    """Draws for a generator.

    Args:
        noise: the generator's noise distribution.
        real_poses: (P,24,3) rad, the pool of real poses that anchors are taken from.
        betas: (N,10) the bodies to choose from.
        subjects: how many subjects the renderer has.
        mirror: whether half of the anchors are mirrored left to right.
        target: the target's people; none draws from the pool alone.
        target_share: of the draws, those around the target's people.
        target_noise: factor on the joint noise of those.
    """

    def __init__(
        self,
        noise: Noise,
        real_poses: Tensor,
        betas: Tensor,
        subjects: int,
        mirror: bool = True,
        target: TargetDraws | None = None,
        target_share: float = 0.0,
        target_noise: float = 1.0,
    ) -> None:
        if real_poses.ndim != 3 or real_poses.shape[1:] != (len(SMPL24), 3) or len(real_poses) == 0:
            raise ValueError(f"real_poses must be (P,24,3) with P > 0, not {tuple(real_poses.shape)}")
        self.noise, self.real_poses, self.betas = noise, real_poses, betas
        self.subjects, self.mirror = subjects, mirror
        self.target, self.target_share, self.target_noise = target, target_share, target_noise

    def draw(self, n: int, generator: torch.Generator, target_share: float | None = None) -> Draw:
        """n draws from a CPU generator. All tensors are on the CPU.

        Args:
            target_share: another share around the target's people than the drawer's own.
        """
        drawn = self._from_pool(n, generator)
        if self.target is None:
            return drawn
        return self._around_target(drawn, generator, self.target_share if target_share is None else target_share)

    def _around_target(self, drawn: Draw, generator: torch.Generator, share: float) -> Draw:
        """A share of the draws begins at a lifted person, before a camera like that person's."""
        assert self.target is not None
        taken = torch.rand(len(drawn), generator=generator) < share
        around = self.target.draw(len(drawn), generator)
        return replace(
            drawn,
            anchor=torch.where(taken[:, None, None], around.pose, drawn.anchor),
            joints=torch.where(taken[:, None, None], self.target_noise * drawn.joints, drawn.joints),
            view=replace(around.view, given=taken),
            person=torch.where(taken, around.person, -1),
        )

    def _from_pool(self, n: int, generator: torch.Generator) -> Draw:
        anchor = self.real_poses[torch.randint(len(self.real_poses), (n,), generator=generator)]
        flip = torch.rand(n, generator=generator) < 0.5
        if self.mirror:
            anchor = torch.where(flip[:, None, None], mirror_pose(anchor), anchor)
        return Draw(
            noise=self.noise.draw(n, generator),
            anchor=anchor,
            joints=torch.randn(n, len(SMPL24), 3, generator=generator),
            camera=torch.rand(n, len(CAMERA_PARAMETERS), generator=generator).clamp(1e-4, 1 - 1e-4),
            betas=self.betas[torch.randint(len(self.betas), (n,), generator=generator)],
            light=random_light(n, generator),
            subject=torch.randint(self.subjects, (n,), generator=generator),
            background=torch.randint(2**31, (n,), generator=generator),
            explore=torch.randn(n, 24 * 3 + len(CAMERA_PARAMETERS), generator=generator),
        )

    def draw_rows(self, ids: Tensor, seed: int) -> Draw:
        """One draw for each row id (N,), a function of the seed and the id alone."""
        draws = [self.draw(1, torch.Generator().manual_seed(derive(seed, "row", int(row)))) for row in ids.tolist()]
        return Draw.cat(draws)
