"""The articulated radiance field: volumes that ride on a skeleton and bend with it, lit, posed and shaped, for
several subjects in one model.

`ArticulatedField` is a `scene.Renderer`: scene in, premultiplied rgb and alpha out, differentiable in pose, betas,
translation, camera, light, and the volumes themselves.

    field = load_field()
    rgb, alpha = field(scene)
    image = over(rgb, alpha, backgrounds(scene))

Dimensions: S subjects, K volumes of each, N voxels along a side, B batch, M samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posegen.errors import ConfigError, DataError
from posegen.renderer.checks import check_scene
from posegen.renderer.composite import accumulate, render_weights
from posegen.renderer.field import appearance
from posegen.renderer.field.codes import TableCodes
from posegen.renderer.field.config import FieldConfig
from posegen.renderer.field.layout import KernelLayout, kernel_layout
from posegen.renderer.field.march import MOST_VOLUMES, Occupancy, march, pixel_rays, ray_lengths
from posegen.renderer.field.native_render import render_fused, use_fused
from posegen.renderer.field.transforms import RayTransforms, ray_transforms
from posegen.renderer.field.volumes import VolumeRig
from posegen.scene import Scene

SHARED_RIG_FIELDS = ("joint", "fraction")
EAGER_CHUNK_PX = 1 << 18  # pixels marched at once by the eager path: bounds its memory


class ArticulatedField(nn.Module):
    """Volumes of one or more subjects.

    Args:
        rigs: one of each subject; all ride on the same joints.
        subjects: their names.
        resolution: N, voxels along each side of a volume.
        config: how it is rendered.
    """

    cell: Tensor
    floor: Tensor
    low: Tensor
    high: Tensor
    rig_joints_template: Tensor
    rig_joints_shapedirs: Tensor
    rig_joint: Tensor
    rig_fraction: Tensor
    rig_low: Tensor
    rig_high: Tensor
    rig_bend: Tensor

    def __init__(
        self,
        rigs: Sequence[VolumeRig],
        subjects: Sequence[str],
        resolution: int = 24,
        config: FieldConfig | None = None,
    ) -> None:
        super().__init__()
        if len(rigs) != len(subjects) or not rigs:
            raise ConfigError(f"{len(rigs)} rigs for {len(subjects)} subjects", choices=subjects)
        if resolution < 4:
            raise ConfigError(
                f"a volume needs at least 4 voxels a side, not {resolution}", where="fit-subject resolution"
            )
        if len(rigs[0]) > MOST_VOLUMES:
            raise ConfigError(f"{len(rigs[0])} volumes; a subject can have {MOST_VOLUMES}", where="renderer.subjects")
        if any(not torch.equal(rig.joint, rigs[0].joint) for rig in rigs):
            raise DataError(
                "the subjects' volumes ride on different joints: they were fitted with other settings or by another "
                "version", where="renderer.subjects", next_command="posegen fit-subject",
            )  # fmt: skip
        if len({rig.bend.shape for rig in rigs}) > 1:
            raise DataError("some of the subjects' volumes bend with the pose, others do not",
                            where="renderer.subjects", next_command="posegen fit-subject")  # fmt: skip
        self.config = config or FieldConfig()
        self.subjects = tuple(subjects)
        self.resolution = resolution
        self.volumes = len(rigs[0])
        for field in fields(VolumeRig):
            values = [getattr(rig, field.name) for rig in rigs]
            value = values[0] if field.name in SHARED_RIG_FIELDS else torch.stack(values)
            self.register_buffer(f"rig_{field.name}", value.clone())
        cells = len(rigs) * self.volumes * resolution**3
        self.table = nn.Parameter(torch.zeros(cells, appearance.CHANNELS))
        self.register_buffer("cell", torch.zeros(cells, dtype=torch.uint8), persistent=False)
        self.register_buffer("floor", torch.zeros(cells), persistent=False)
        self.register_buffer("low", torch.zeros(len(rigs) * self.volumes, 3), persistent=False)
        self.register_buffer("high", torch.zeros(len(rigs) * self.volumes, 3), persistent=False)
        self._codes: TableCodes | None = None
        self._layout: tuple[tuple[int, ...], KernelLayout] | None = None  # of which state of `cell`, and what
        self.reset()

    # ---- the volumes

    @property
    def bends(self) -> bool:
        """Whether the volumes bend with the pose."""
        return self.rig_bend.shape[-3] > 0

    @property
    def rigs(self) -> VolumeRig:
        """The rigs of all subjects, stacked along a first dimension (S) except for the shared fields."""
        return VolumeRig(**{field.name: getattr(self, f"rig_{field.name}") for field in fields(VolumeRig)})

    def rig(self, subject: int) -> VolumeRig:
        """The rig of one subject."""
        values = {field.name: getattr(self, f"rig_{field.name}") for field in fields(VolumeRig)}
        return VolumeRig(**{k: v if k in SHARED_RIG_FIELDS else v[subject] for k, v in values.items()})

    @property
    def occupancy(self) -> Occupancy:
        return Occupancy(self.cell, self.floor, self.low, self.high, self.resolution)

    def voxels(self) -> Tensor:
        """The table as (S,K,N,N,N,8)."""
        n = self.resolution
        return self.table.view(len(self.subjects), self.volumes, n, n, n, appearance.CHANNELS)

    def voxel_points(self, subject: int = 0) -> Tensor:
        """Voxel positions (K,N,N,N,3) m in the volumes' frames at betas = 0."""
        unit = torch.linspace(0, 1, self.resolution, device=self.table.device)
        grid = torch.stack(torch.meshgrid(unit, unit, unit, indexing="ij"), -1)
        low, high = self.rig_low[subject], self.rig_high[subject]
        return low[:, None, None, None] + grid * (high - low)[:, None, None, None]

    @torch.no_grad()
    def reset(self) -> None:
        """A thin grey fog with normals that point away from each box's middle: where a fit starts."""
        voxels = self.voxels()
        voxels.zero_()
        voxels[..., 0] = -2.0
        voxels[..., 7] = 3.0
        for subject in range(len(self.subjects)):
            points = self.voxel_points(subject)
            middle = 0.5 * (self.rig_low[subject] + self.rig_high[subject])
            voxels[subject, ..., 4:7] = F.normalize(points - middle[:, None, None, None], dim=-1)
        self.empty_border()
        self.update_occupancy()

    @torch.no_grad()
    def set_codes(self, codes: TableCodes) -> None:
        """Takes the table from its codes, and keeps those for the fused kernel."""
        self.table.copy_(codes.decoded())
        self._codes = codes
        self.update_occupancy()

    @property
    def codes(self) -> TableCodes | None:
        """The codes that the table was decoded from, if it has not changed since (see `update_occupancy`)."""
        return self._codes

    @property
    def layout(self) -> KernelLayout:
        """What the fused kernel reads of occupancy and codes; made anew when those have changed."""
        state = (self.cell.data_ptr(), self.cell._version, id(self._codes))
        if self._layout is None or self._layout[0] != state:
            self._layout = state, kernel_layout(self.cell, self._codes, self.resolution)
        return self._layout[1]

    @torch.no_grad()
    def empty_border(self) -> None:
        """Empties the outermost voxels: the density then goes to nothing before a ray leaves a box."""
        raw = self.voxels()[..., 0]
        for side in (0, -1):
            raw[:, :, side] = appearance.EMPTY
            raw[:, :, :, side] = appearance.EMPTY
            raw[:, :, :, :, side] = appearance.EMPTY

    @torch.no_grad()
    def update_occupancy(self, threshold: float | None = None) -> None:
        """Finds the occupied cells anew. Call it after the table has changed."""
        if self._codes is not None and not torch.equal(self.table.float().cpu(), self._codes.decoded()):
            self._codes = None
        threshold = self.config.occupancy_threshold if threshold is None else threshold
        n = self.resolution
        dense = appearance.density(self.table[:, 0]).view(-1, 1, n, n, n)
        most = F.pad(F.max_pool3d(dense, 2, 1), (0, 1) * 3)
        least = F.pad(-F.max_pool3d(-dense, 2, 1), (0, 1) * 3)
        occupied = most > threshold
        self.cell.copy_(occupied.view(-1))
        self.floor.copy_(least.view(-1))
        for axis in range(3):
            line = occupied[:, 0].any(dim=tuple(d for d in (1, 2, 3) if d != axis + 1))  # (S*K,N)
            index = torch.arange(n, device=line.device)
            self.low[:, axis] = torch.where(line, index, n).amin(1)
            self.high[:, axis] = torch.where(line, index + 1, -1).amax(1)

    # ---- rendering

    def forward(self, scene: Scene) -> tuple[Tensor, Tensor]:
        """Returns rgb (B,3,H,W) in [0,1], premultiplied by alpha, and alpha (B,1,H,W) in [0,1]."""
        check_scene(scene, self.subjects)
        transforms = ray_transforms(scene, self.rigs, self.resolution)
        height, width = transforms.height, transforms.width
        flat = self.render(transforms)  # (B,H*W,4)
        picture = flat.view(-1, height, width, 4).permute(0, 3, 1, 2)
        return picture[:, :3], picture[:, 3:]

    def render(self, transforms: RayTransforms) -> Tensor:
        """Rays to premultiplied rgb and alpha (B,H*W,4), by the backend chosen in the config."""
        if use_fused(self.config, transforms.M.device, transforms.M.dtype) and self.table.dtype == torch.float32:
            return render_fused(transforms, self.table, self.occupancy, self.config, self.layout, self._codes)
        return self.render_eager(transforms)

    def render_eager(self, transforms: RayTransforms) -> Tensor:
        """The torch path: any device, any floating dtype."""
        pixels = transforms.height * transforms.width
        chunk = max(1, EAGER_CHUNK_PX // pixels)
        if len(transforms) == 0:
            return transforms.M.new_zeros(0, pixels, 4)
        parts = [self._render_chunk(transforms[i : i + chunk]) for i in range(0, len(transforms), chunk)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _render_chunk(self, transforms: RayTransforms) -> Tensor:
        batch, pixels, dtype = len(transforms), transforms.height * transforms.width, transforms.M.dtype
        config = self.config
        samples = march(transforms, self.occupancy, config.step_m, config.near_m, config.transmittance_threshold)
        every_pixel = pixel_rays(transforms.height, transforms.width, dtype, samples.ray.device)
        p = every_pixel.index_select(0, samples.ray % pixels)
        depth = samples.depth.to(dtype)
        count = transforms.M.shape[1]
        shade = transforms.shade[:, None].expand(-1, count, -1)
        pairs = torch.cat([transforms.M.flatten(2), transforms.c, transforms.light, shade], -1).flatten(0, 1)
        # One gather, whose derivative is one sum. Of index_select that is index_add: indexing by brackets would sort
        # the samples and add those of one pair one after the other, three quarters of a picture's time on a card.
        own = pairs.index_select(0, samples.pair)
        ray = depth[:, None] * p
        g = own[:, 9:12] + (own[:, :9].view(-1, 3, 3) * ray[:, None]).sum(-1)
        features = self.lookup(g, transforms.volume.reshape(-1)[samples.pair])
        sigma = appearance.density(features[:, 0])
        rgb = appearance.colour(features, own[:, 12:15], own[:, 15:17])
        length = config.step_m * ray_lengths(transforms.lens, every_pixel).view(-1).index_select(0, samples.ray)
        weights = render_weights(sigma, length, samples.ray, batch * pixels)
        return accumulate(weights, rgb, samples.ray, batch * pixels).view(batch, pixels, 4)

    def lookup(self, g: Tensor, volume: Tensor) -> Tensor:
        """Trilinear interpolation at voxel coordinates g (M,3) of volumes (M,): (M,8)."""
        n = self.resolution
        cell = g.detach().long().clamp_(0, n - 2)
        x, y, z = (g - cell).unbind(1)
        xs, ys, zs = (torch.stack([1 - f, f], 1) for f in (x, y, z))
        weights = (xs[:, :, None, None] * ys[:, None, :, None] * zs[:, None, None, :]).flatten(1)
        base = ((volume * n + cell[:, 0]) * n + cell[:, 1]) * n + cell[:, 2]
        offsets = torch.tensor([0, 1, n, n + 1], device=g.device)
        corners = base[:, None] + torch.cat([offsets, offsets + n * n])
        # embedding_bag sums weighted rows without making the (M,8,8) gather
        return F.embedding_bag(corners, self.table.to(g.dtype), per_sample_weights=weights, mode="sum")


def load_field(path: str | None = None, config: FieldConfig | None = None) -> ArticulatedField:
    """See `artifact.load_field`."""
    from posegen.renderer.field.artifact import load_field as load

    return load(path, config)
