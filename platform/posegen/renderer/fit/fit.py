"""Fits the volumes of one subject to posed views by gradient descent through the renderer.

The loss is the squared error of the picture over a random background colour (so that the fit cannot hide a wrong
alpha in white), of alpha, both divided by the person's share of the picture, and of the logarithm-like total variation
between neighbouring voxels. Empty space is given up as the fit goes on: the occupancy threshold rises from nothing, so
that the first steps are slow and the last fast.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from posegen.errors import CheckpointError, ConfigError
from posegen.files.versions import load_state, save_state
from posegen.renderer.composite import over
from posegen.renderer.field import appearance
from posegen.renderer.field.field import ArticulatedField
from posegen.renderer.fit.views import FitViews
from posegen.seeds import derive

STATE_FORMAT = 1  # of the fit's saved state
HAZE = -4.0  # raw density just under the renderer's occupancy threshold: 0.18 per metre
DENSEST = 6.0  # raw density: a step of 2 cm then lets a third of the light through
FLESH = 3.0  # raw density that a fit starts with under the skin: 30 per metre
SKIN_M = 0.01  # how far under the skin that begins
LEAST_SHARE = 0.01  # of a picture: a smaller person counts no more than this one


@dataclass(frozen=True)
class FitSchedule:
    """How a fit proceeds."""

    steps: int = 600
    batch: int = 8
    learning_rate: float = 0.2  # of the raw voxel values
    decay: float = 0.03  # of the learning rate, over the whole fit
    alpha_weight: float = 0.1
    variation_weight: float = 5e-6
    sparsity_weight: float = 1e-4
    warmup_share: float = 0.1  # of the steps, before cells are given up
    coarse_share: float = 0.2  # of the steps, at half of the pictures' side: the fog is still around the skin
    first_threshold: float = 0.4  # 1/m, density under which a cell is then given up
    last_threshold: float = 2.0  # 1/m, from a third of the steps on
    haze_density: float = 1.0  # 1/m, what is thinner than this at the end becomes empty
    save_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "save_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"a fit needs at least one of {name}", where=f"fit-subject schedule.{name}")


class FieldFit:
    """A fit that can be stopped and resumed: the same steps follow as if it had not been stopped.

    Args:
        field: of one subject, in which the fit leaves its result; the fit runs on its device.
        views: what to fit to; may lie elsewhere, only a batch at a time is moved.
        state_path: where the state is kept between steps, if anywhere.
    """

    def __init__(
        self, field: ArticulatedField, views: FitViews, schedule: FitSchedule, state_path: Path | None = None
    ) -> None:
        if len(views) == 0:
            raise ConfigError("there are no views to fit to", where="fit-subject views")
        self.field, self.views, self.schedule, self.state_path = field, views, schedule, state_path
        field.requires_grad_(True)
        self.optimizer = torch.optim.Adam(
            [field.table], lr=schedule.learning_rate, betas=(0.9, 0.98), eps=1e-12, fused=True
        )
        self.step_index = 0
        self._fixed_threshold = field.config.occupancy_threshold
        self.field.update_occupancy(self._threshold())

    def _threshold(self) -> float:
        """The renderer's own at first, then rising from the first to the last threshold in equal ratios."""
        schedule, done = self.schedule, self.step_index / self.schedule.steps
        if done < schedule.warmup_share:
            return self._fixed_threshold
        share = min(1.0, (done - schedule.warmup_share) / 0.25)
        return schedule.first_threshold * (schedule.last_threshold / schedule.first_threshold) ** share

    def step(self) -> float:
        """One update; returns the loss."""
        schedule, field = self.schedule, self.field
        generator = torch.Generator().manual_seed(derive(schedule.seed, "fit-step", self.step_index))
        for group in self.optimizer.param_groups:
            group["lr"] = schedule.learning_rate * schedule.decay ** (self.step_index / schedule.steps)
        index = torch.randint(len(self.views), (schedule.batch,), generator=generator)
        part = self.views.pick(index).to(field.table.device)
        if self.step_index < schedule.coarse_share * schedule.steps:
            part = part.halved()
        rgb, alpha = field(part.scene)
        background = torch.rand(schedule.batch, 3, 1, 1, generator=generator).to(rgb.device)
        share = part.alpha.mean((1, 2, 3)).clamp_min(LEAST_SHARE)
        weight = (1 / share / (1 / share).mean())[:, None, None, None]  # a person far off counts as one close by
        picture = (over(rgb, alpha, background) - over(part.rgb, part.alpha, background)).square()
        loss = (weight * picture).mean() + schedule.alpha_weight * (weight * (alpha - part.alpha).square()).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._regularise()
        self.optimizer.step()
        with torch.no_grad():
            field.table[:, 0].clamp_(appearance.EMPTY, DENSEST)
        field.empty_border()
        self.step_index += 1
        if self.step_index % 10 == 0 or self.step_index == schedule.steps:
            field.update_occupancy(self._threshold())
        if self.step_index == schedule.steps // 2:
            sink_haze(field, schedule.last_threshold)
        return float(loss.detach())

    @torch.no_grad()
    def _regularise(self) -> None:
        """Adds the derivatives of the total variation and of the sparsity term to the table's gradient.

        They are written out because autograd would copy the whole table several times for them.
        """
        table, gradient = self.field.voxels()[0], self.field.table.grad
        assert gradient is not None
        gradient = gradient.view_as(table)
        weight = self.schedule.variation_weight / table.shape[0] / table.shape[1] ** 2
        for axis in (1, 2, 3):
            size = table.shape[axis]
            ahead, behind = table.narrow(axis, 1, size - 1), table.narrow(axis, 0, size - 1)
            pull = weight * (ahead - behind).clamp_(-1, 1)
            gradient.narrow(axis, 1, size - 1).add_(pull)
            gradient.narrow(axis, 0, size - 1).sub_(pull)
        gradient[..., 0].add_(torch.sigmoid(table[..., 0]), alpha=self.schedule.sparsity_weight / table[..., 0].numel())

    def finish(self) -> None:
        """Empties what the fit has given up, so that the renderer's own threshold finds the same cells."""
        field = self.field
        field.update_occupancy(self.schedule.last_threshold)
        clear_unoccupied(field)
        sink_haze(field, self.schedule.haze_density)
        field.update_occupancy()
        field.requires_grad_(False)

    def run(self, progress: Callable[[int, int, float], None] | None = None) -> float:
        """Takes the remaining steps; returns their wall time in seconds. Ctrl-C keeps the state."""
        start = time.monotonic()
        try:
            while self.step_index < self.schedule.steps:
                loss = self.step()
                if progress is not None:
                    progress(self.step_index, self.schedule.steps, loss)
                if self.step_index % self.schedule.save_every == 0:
                    self.save_state()
        except KeyboardInterrupt:
            self.save_state()
            raise
        self.finish()
        return time.monotonic() - start

    def save_state(self) -> None:
        if self.state_path is None:
            return
        self.state_path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "step": self.step_index, "table": self.field.table.detach(), "cell": self.field.cell,
            "optimizer": self.optimizer.state_dict(),
        }  # fmt: skip
        save_state(state, self.state_path, STATE_FORMAT)

    def load_state(self) -> bool:
        """Goes on from a saved state, if there is one."""
        if self.state_path is None or not self.state_path.exists():
            return False
        cure = f"rm {self.state_path}"
        state = load_state(self.state_path, STATE_FORMAT, "the state of the fit", cure, error=CheckpointError)
        if state["table"].shape != self.field.table.shape:
            raise CheckpointError(
                "the state of the fit is of another field", where=self.state_path,
                next_command=f"rm {self.state_path}",
            )  # fmt: skip
        with torch.no_grad():
            self.field.table.copy_(state["table"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step_index = int(state["step"])
        # the occupancy of the last multiple of ten steps, which the running fit would have
        last = self.step_index
        self.step_index = last - last % 10
        self.field.update_occupancy(self._threshold())
        self.step_index = last
        self.field.cell.copy_(state["cell"])
        return True


@torch.no_grad()
def clear_unoccupied(field: ArticulatedField) -> None:
    """Sets every voxel that touches no occupied cell to empty space."""
    n = field.resolution
    cells = field.cell.view(-1, 1, n, n, n)[..., : n - 1, : n - 1, : n - 1].float()
    touched = torch.nn.functional.max_pool3d(torch.nn.functional.pad(cells, (1,) * 6), 2, 1).view(-1) > 0
    field.table[~touched] = 0
    field.table[~touched, 0] = appearance.EMPTY


@torch.no_grad()
def sink_haze(field: ArticulatedField, density: float) -> None:
    """Takes voxels thinner than `density` (1/m) just under the renderer's occupancy threshold.

    Rays then do not sample a broad haze around the skin. Half-way through a fit, what the pictures need comes back.
    """
    raw = field.table[:, 0]
    hazy = (appearance.density(raw) < density) & (raw > HAZE)
    raw[hazy] = HAZE


@dataclass(frozen=True)
class Skin:
    """Points of a subject's skin at rest, close enough together to tell inside from outside."""

    points_m: Tensor  # (V,3)
    normals: Tensor  # (V,3) unit, outward
    follow: Tensor  # (V,K) how much each of them belongs to each volume


@torch.no_grad()
def start_near_surface(field: ArticulatedField, skin: Skin, reach_m: float, min_weight: float) -> None:
    """Starts a fit from the skin: flesh beneath it, fog around it, normals away from it, and nothing further off.

    What hides what is then right from the first step, and rays end soon after the skin.

    Args:
        reach_m: a voxel further than this from the nearest point of the skin is empty.
        min_weight: and so is one whose nearest point belongs to the volume less than this. Where many volumes share
            the skin, each would paint its own copy, and the copies part when the joints turn.
    """
    from scipy.spatial import cKDTree

    rig = field.rig(0)
    points = (field.voxel_points() + rig.joints_template[rig.joint][:, None, None, None]).reshape(-1, 3).cpu()
    distance, nearest = cKDTree(skin.points_m.numpy()).query(points.numpy(), distance_upper_bound=reach_m)
    near = torch.from_numpy(distance <= reach_m)
    volume = torch.arange(len(near)) // field.resolution**3
    near[near.clone()] &= skin.follow[torch.from_numpy(nearest)[near], volume[near]] > min_weight
    field.table[~near, 0] = appearance.EMPTY
    closest = torch.from_numpy(nearest)[near]
    field.table[near, 4:7] = skin.normals[closest].to(field.table)
    height = ((points[near] - skin.points_m[closest]) * skin.normals[closest]).sum(-1)
    field.table[near.nonzero()[:, 0][height < -SKIN_M], 0] = FLESH
    field.empty_border()
    field.update_occupancy()
