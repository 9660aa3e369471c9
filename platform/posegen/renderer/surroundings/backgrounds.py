"""What stands behind the person: a function of the background's seed and of the camera.

`Backgrounds(pool)(scene)` gives (B,3,H,W). Seed -1 is white. The numbers of a seed are hashed together with the pool's
name and each photo belongs to one pool, so that training and test pools never share a background.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from posegen.body.rotations import aa_to_matrix
from posegen.counter import hashed_choice, hashed_uniform
from posegen.errors import ConfigError
from posegen.renderer.surroundings import backdrops
from posegen.renderer.surroundings.photos import (
    GROUND_PHOTOS,
    ONLY_GROUND_PHOTOS,
    PhotoShelf,
    bundled_photos,
    check_pool,
    folder_photos,
)
from posegen.scene import Scene
from posegen.seeds import derive

if TYPE_CHECKING:
    from posegen.body.model import BodyModel

KINDS = ("photo", "room", "outdoor", "snow", "noise")
DEFAULT_KINDS: Mapping[str, float] = {"photo": 0.35, "room": 0.3, "outdoor": 0.2, "noise": 0.15}
WHITE = -1  # the seed of a plain white background
CHUNK_PX = 1 << 15  # pixels drawn at once on a CPU: the temporaries stay in its cache
SOLE_M = 0.04  # the lowest joint is this far above the ground


class LowestJoint:
    """scene -> (B,) world y of the ground under the lowest joint of the embedded body, which it loads at first use."""

    def __init__(self) -> None:
        self._body: BodyModel | None = None

    def __call__(self, scene: Scene) -> Tensor:
        from posegen.body.model import load_body

        if self._body is None:
            self._body = load_body(resolution="low")
        body = self._body.to(scene.pose.device)
        joints = body.joints(aa_to_matrix(scene.pose), scene.betas, scene.transl)
        return joints[..., 1].amin(-1) - SOLE_M


class Backgrounds:
    """Draws backgrounds by seed.

    Args:
        pool: "train", "validation" or "test".
        photos: a user's folder of photos instead of the bundled ones; it is split between the pools by file name.
        kinds: relative weights of the kinds of background.
        floor_m: scene -> (B,) world y of the floor; by default under the lowest joint of the embedded body.
        photo_px: side at which photos are kept in memory.
    """

    def __init__(
        self,
        pool: str,
        photos: Path | str | None = None,
        kinds: Mapping[str, float] | None = None,
        floor_m: Callable[[Scene], Tensor] | None = None,
        photo_px: int = 256,
    ) -> None:
        self.pool = check_pool(pool)
        weights = dict(DEFAULT_KINDS if kinds is None else kinds)
        if unknown := sorted(set(weights) - set(KINDS)):
            raise ConfigError(f"unknown kinds of background {unknown}", choices=KINDS)
        if not weights or min(weights.values()) < 0 or sum(weights.values()) <= 0:
            raise ConfigError("the weights of background kinds must be >= 0 and not all zero", where=weights)
        self.weights = torch.tensor([float(weights.get(kind, 0)) for kind in KINDS])
        bundled = bundled_photos(pool)
        upright = [path for path in bundled if path.stem not in ONLY_GROUND_PHOTOS]
        paths = upright if photos is None else folder_photos(Path(photos), pool)
        even = [path for path in bundled if path.stem in GROUND_PHOTOS]
        self.views = PhotoShelf(paths, photo_px)
        self.grounds = PhotoShelf(even, photo_px)
        self.floor_m = LowestJoint() if floor_m is None else floor_m

    def _numbers(self, seeds: Tensor, purpose: str, count: int) -> Tensor:
        return hashed_uniform(seeds, derive(0, "background", self.pool, purpose), count)

    def kind_of(self, seeds: Tensor) -> Tensor:
        """(B,) seeds -> (B,) index into KINDS."""
        return hashed_choice(seeds, derive(0, "background", self.pool, "kind"), self.weights)

    @torch.no_grad()
    def __call__(self, scene: Scene) -> Tensor:
        """-> (B,3,H,W) in [0,1]. Carries no gradient: the background is not what the generator may bend."""
        camera, seeds = scene.camera, scene.background
        height, width = camera.height, camera.width
        images = torch.ones(len(scene), 3, height, width, device=camera.R.device)
        kinds = self.kind_of(seeds)
        kinds = torch.where(seeds == WHITE, torch.full_like(kinds, -1), kinds)
        placed = (kinds >= 1) & (kinds <= 3)
        floor = torch.zeros(len(scene), device=images.device)
        if bool(placed.any()):
            rows = placed.nonzero()[:, 0]
            floor[rows] = self.floor_m(scene[rows]).to(floor)
        chunk = max(1, CHUNK_PX // (height * width)) if images.device.type == "cpu" else len(scene)
        for index, kind in enumerate(KINDS):
            for rows in (kinds == index).nonzero()[:, 0].split(chunk):
                if len(rows):
                    images[rows] = self._draw(kind, scene[rows], floor[rows])
        return images

    def _draw(self, kind: str, scene: Scene, floor_m: Tensor) -> Tensor:
        """One kind of background for each item -> (B,3,H,W)."""
        height, width = scene.camera.height, scene.camera.width
        if kind == "photo":
            return self._photos(scene.background, height, width)
        if kind == "noise":
            return backdrops.noise(self._numbers(scene.background, kind, backdrops.NOISE_NUMBERS), height, width)
        draw, count = {
            "room": (backdrops.room, backdrops.ROOM_NUMBERS),
            "outdoor": (backdrops.outdoor, backdrops.OUTDOOR_NUMBERS),
            "snow": (backdrops.snow, backdrops.OUTDOOR_NUMBERS),
        }[kind]
        view = backdrops.View.of(scene.camera, scene.transl, floor_m, scene.light)
        colours = draw(view, self._numbers(scene.background, kind, count), self._ground)
        return colours.reshape(-1, 3, height, width)

    def _photos(self, seeds: Tensor, height: int, width: int) -> Tensor:
        """Random crops, flipped, blurred (a coarser level of the pyramid) and brightened or dimmed by seed."""
        u = self._numbers(seeds, "photo", 8)
        host = u.cpu()  # where a crop lies is worked out there: one synchronisation, not several for each image
        index = (host[:, 0] * len(self.views)).long().clamp_max(len(self.views) - 1)
        window = 0.4 + 0.6 * host[:, 1]
        blur = (3 * host[:, 2] ** 2).long()
        crops = []  # photo, level of its pyramid, place of the crop
        for i, photo in enumerate(index.tolist()):
            levels, aspect = self.views[photo]
            side = float(window[i])
            # A window of the image's shape in the photo, in shares of the photo's width and height.
            share = width / height / aspect
            half = torch.tensor([side * min(1.0, share), side * min(1.0, 1 / share)]) / 2
            centre = half + (1 - 2 * half) * host[i, 3:5]
            texels = 2 * float(half.max()) * levels[0].shape[-1] / max(height, width)
            level = min(max(int(texels).bit_length() - 1, 0) + int(blur[i]), len(levels) - 2)
            flip = -1.0 if host[i, 5] < 0.5 else 1.0
            theta = torch.tensor([[flip * 2 * half[0], 0, 2 * centre[0] - 1], [0, 2 * half[1], 2 * centre[1] - 1]])
            crops.append((photo, level, theta))
        images = torch.empty(len(seeds), 3, height, width, device=seeds.device)
        for photo, level in sorted({crop[:2] for crop in crops}):
            rows = [i for i, crop in enumerate(crops) if crop[:2] == (photo, level)]
            theta = torch.stack([crops[i][2] for i in rows]).to(images)
            grid = F.affine_grid(theta, [len(rows), 3, height, width], align_corners=False)
            texture = self.views[photo][0][level].to(images).expand(len(rows), -1, -1, -1)
            images[rows] = F.grid_sample(texture, grid, padding_mode="border", align_corners=False)
        tint = 1 + 0.16 * (self._numbers(seeds, "tint", 3) - 0.5)
        gain = (0.65 + 0.6 * u[:, 6, None]) * tint
        return (images * gain[..., None, None]).clamp(0, 1)

    def _ground(self, pick: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """The tone of an even photo laid out in mirrored tiles: pick (N,) in [0,1), u, v (N,P) in tiles -> (N,P)."""
        index = (pick * len(self.grounds)).long().clamp_max(len(self.grounds) - 1)
        folded = torch.stack([u, v], -1).remainder_(2).sub_(1).abs_().mul_(2).sub_(1)
        tones = torch.empty(u.shape, dtype=u.dtype, device=u.device)
        chosen = index.tolist()
        for photo in sorted(set(chosen)):
            rows = [row for row, own in enumerate(chosen) if own == photo]
            level = self.grounds[photo][0][1].mean(0).to(u).expand(len(rows), 1, -1, -1)
            tones[rows] = F.grid_sample(level, folded[rows, None], padding_mode="border", align_corners=False)[:, 0, 0]
        return tones
