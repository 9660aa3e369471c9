"""Pictures of a part of the split with their labels, made as fast as the machine can, and a store that refills itself.

On a GPU all is made there: scenes, meshes by rasterisation, backgrounds and looks. On a CPU Embree traces the meshes.

Dimensions: N rows, S image side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from posegen.benchmarks.embedded.stand_ins import mesh_renderer
from posegen.body.joint_sets import SMPL24
from posegen.body.rotations import aa_to_matrix
from posegen.body.subjects import load_subjects
from posegen.estimator.crop import CropConvention
from posegen.estimator.labels import Labels
from posegen.renderer.raster import RasterRenderer
from posegen.scene import Renderer, Scene
from posegen.scenes.photographer import Photographer
from posegen.scenes.sampler import SceneSampler
from posegen.scenes.split import SplitPart

SUPERSAMPLING = 2  # as in the stand-ins


@dataclass(frozen=True)
class Pictures:
    """Rows on one device."""

    images: Tensor  # (N,3,S,S) uint8
    labels: Labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Tensor | slice) -> Pictures:
        return Pictures(self.images[rows], self.labels[rows])

    @staticmethod
    def cat(parts: Sequence[Pictures]) -> Pictures:
        return Pictures(torch.cat([part.images for part in parts]), Labels.cat([part.labels for part in parts]))


class PictureMaker:
    """Makes the pictures of a part by id: those of the stand-ins' renderer, but for the last digits.

    Args:
        part: what to draw from.
        crop: of the estimator that is to learn from them: pictures and labels are those of its crops.
        seed: another one gives other pictures of the same ids.
        device: where they are made.
    """

    def __init__(self, part: SplitPart, crop: CropConvention, seed: int, device: torch.device) -> None:
        self.crop = crop
        self.seed = seed
        self.device = device
        self.sampler = SceneSampler(part, size_px=crop.size_px, device=device)
        renderer: Renderer
        if device.type == "cpu":
            renderer = mesh_renderer(part)
        else:
            renderer = RasterRenderer(load_subjects(list(part.subjects)), SUPERSAMPLING, device)
        self.photograph = Photographer.of_part(part, renderer, clamped=True)

    @torch.no_grad()
    def __call__(self, first: int, count: int) -> Pictures:
        """Rows of the ids `first` to `first + count - 1`."""
        draw = self.sampler.draw(torch.arange(first, first + count, device=self.device), self.seed)
        scene = self.crop.scene(draw.scene, draw.joints_m, SMPL24)
        return Pictures((self.photograph(scene) * 255).round().to(torch.uint8), labels_of_scenes(scene, draw.joints_m))


def labels_of_scenes(scene: Scene, joints_m: Tensor) -> Labels:
    """The labels in the camera frame, for an estimator of the scenes' own body. joints_m (N,24,3) world."""
    matrices = aa_to_matrix(scene.pose)
    root = scene.camera.R @ matrices[:, 0]
    side = scene.camera.centre.new_tensor([scene.camera.width, scene.camera.height])
    known = torch.ones(len(scene), device=root.device)
    return Labels(
        torch.cat([root[:, None], matrices[:, 1:]], 1),
        scene.betas,
        SMPL24.centred(scene.camera.to_camera(joints_m)),
        scene.camera.project(joints_m) / side * 2 - 1,
        known,
        known,
    )


class PictureStore:
    """The newest `capacity` rows of a maker: new ones take the place of the oldest.

    Args:
        first: id of the first row that is made.
    """

    def __init__(self, maker: PictureMaker, capacity: int, first: int = 0) -> None:
        self.maker = maker
        self.capacity = capacity
        self.next_id = first
        self.made = 0
        self._rows: Pictures | None = None

    def __len__(self) -> int:
        return min(self.made, self.capacity)

    def refill(self, count: int) -> None:
        """Makes `count` rows, at most the capacity."""
        new = self.maker(self.next_id, count)
        if self._rows is None:
            self._rows = _room(new, self.capacity)
        places = torch.arange(self.made, self.made + count, device=new.images.device) % self.capacity
        self._rows.images[places] = new.images
        for field in fields(Labels):
            getattr(self._rows.labels, field.name)[places] = getattr(new.labels, field.name)
        self.next_id += count
        self.made += count

    def all(self) -> Pictures:
        """Every row there is."""
        assert self._rows is not None, "refill() comes first"
        return self._rows[slice(0, len(self))]

    def batch(self, count: int, generator: torch.Generator) -> Pictures:
        """Rows drawn with replacement."""
        assert self._rows is not None, "refill() comes first"
        return self._rows[torch.randint(len(self), (count,), generator=generator, device=generator.device)]


def _room(like: Pictures, capacity: int) -> Pictures:
    def empty(tensor: Tensor) -> Tensor:
        return torch.empty(capacity, *tensor.shape[1:], dtype=tensor.dtype, device=tensor.device)

    return Pictures(empty(like.images), Labels(*(empty(getattr(like.labels, field.name)) for field in fields(Labels))))
