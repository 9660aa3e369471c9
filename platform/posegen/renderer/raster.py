"""The reference renderer's pictures by rasterisation in torch: on a GPU some thousand a second. Not differentiable.

The same rays through the same sub-pixel centres meet the same triangles as in `posegen.renderer.mesh`, and are shaded
alike; only what lies exactly on a triangle's edge may differ. It needs no Embree and stays on the device of its scenes.

Dimensions: B batch, V vertices, F faces, T = B * F triangles, N (triangle, sub-pixel) candidates, H, W the finer grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from posegen.body.dressed import DressedSubject
from posegen.errors import ConfigError
from posegen.renderer.mesh import NEAR_M
from posegen.scene import Scene

# Sub-pixels that are rasterised at once: bounds the memory, and keeps a CPU's caches warm.
CHUNK = {"cpu": 1 << 19, "cuda": 1 << 24}
FACE_BITS = 32


@dataclass(frozen=True)
class _Triangles:
    """Triangles on the finer grid, whose pixel (0,0) is a sub-pixel's centre. Those that cover none are left out.

    A point's weights of the first two corners are affine in the picture: start + right * i + down * j at i columns
    and j rows from the corner (`left`, `top`) of the triangle's box.
    """

    left: Tensor  # (T,) int64
    top: Tensor  # (T,)
    columns: Tensor  # (T,) int64, of its box
    rows: Tensor  # (T,)
    start: Tensor  # (T,2)
    right: Tensor  # (T,2)
    down: Tensor  # (T,2)


class RasterRenderer:
    """Renders the `subject`-th of some dressed subjects; a `posegen.scene.Renderer`.

    Args:
        subjects: what `scene.subject` counts in.
        supersampling: samples along each side of a pixel.
        device: where scenes will be.
    """

    def __init__(
        self, subjects: list[DressedSubject], supersampling: int = 1, device: str | torch.device = "cpu"
    ) -> None:
        if not subjects:
            raise ConfigError("the renderer needs at least one subject")
        if supersampling < 1:
            raise ConfigError(f"supersampling must be 1 or more, not {supersampling}")
        self.subjects = [_moved(subject, torch.device(device)) for subject in subjects]
        self.supersampling = supersampling

    @torch.no_grad()
    def __call__(self, scene: Scene) -> tuple[Tensor, Tensor]:
        """Returns rgb (B,3,H,W) in [0,1], premultiplied by alpha, and alpha (B,1,H,W) in [0,1]."""
        device, height, width = scene.pose.device, scene.camera.height, scene.camera.width
        used = torch.unique(scene.subject).tolist()
        if used and not 0 <= used[0] <= used[-1] < len(self.subjects):
            raise ConfigError(
                f"scene.subject {used} are not all among this renderer's subjects", choices=range(len(self.subjects))
            )
        picture = torch.zeros(len(scene), 4, height, width, device=device)
        at_once = max(1, CHUNK.get(device.type, CHUNK["cuda"]) // (height * width * self.supersampling**2))
        for index in used:
            for rows in (scene.subject == index).nonzero()[:, 0].split(at_once):
                picture[rows] = self._render(self.subjects[index], scene[rows])
        return picture[:, :3], picture[:, 3:]

    def _render(self, subject: DressedSubject, scene: Scene) -> Tensor:
        """Scenes of one subject -> (B,4,H,W) premultiplied rgb and alpha."""
        s, camera, batch = self.supersampling, scene.camera, len(scene)
        height, width = camera.height * s, camera.width * s
        vertices = camera.to_camera(subject.posed(scene.pose, scene.betas, scene.transl))  # (B,V,3)
        focal, centre = camera.focal[:, None] * s, camera.centre[:, None] * s - 0.5
        screen = vertices[..., :2] / vertices[..., 2:].clamp_min(NEAR_M) * focal[..., None] + centre
        inverse_depth = 1 / vertices[..., 2].clamp_min(NEAR_M)
        triangles, owner = _triangles(screen, vertices[..., 2], subject.faces, height, width)
        sample, face, weight = _nearest(triangles, owner, inverse_depth, subject.faces, height, width)

        image = torch.div(sample, height * width, rounding_mode="floor")
        row = torch.div(sample, width, rounding_mode="floor") - image * height
        column = sample - (image * height + row) * width
        corners = subject.faces[face]  # (n,3)
        corner_rows = image[:, None] * vertices.shape[1] + corners
        # Weights in the picture become weights on the triangle by the corners' depths.
        weight = weight * inverse_depth.flatten()[corner_rows]
        weight = weight / weight.sum(1, keepdim=True)
        normals = _vertex_normals(vertices, subject.faces).flatten(0, 1)
        normal = F.normalize((weight[..., None] * normals[corner_rows]).sum(1), dim=-1, eps=1e-12)
        place = torch.stack([column, row], 1).to(screen.dtype)
        across = (place - centre[image, 0]) / focal[image]
        facing_away = ((normal[:, :2] * across).sum(1) + normal[:, 2]) > 0
        normal = torch.where(facing_away[:, None], -normal, normal)  # cloth is seen from both sides
        towards = (camera.R @ scene.light.direction[..., None])[..., 0]
        lit = (normal * towards[image]).sum(1).clamp_min(0)
        shade = scene.light.ambient[image] + scene.light.diffuse[image] * lit
        albedo = (weight[..., None] * subject.albedo[corners]).sum(1)
        samples = torch.zeros(batch * height * width, 4, device=screen.device)
        samples[sample] = torch.cat([(albedo * shade[:, None]).clamp(0, 1), torch.ones_like(shade)[:, None]], 1)
        return samples.view(batch, camera.height, s, camera.width, s, 4).mean((2, 4)).permute(0, 3, 1, 2)


def _moved(subject: DressedSubject, device: torch.device) -> DressedSubject:
    tensors: dict[str, Any] = {k: v.to(device) for k, v in vars(subject).items() if isinstance(v, Tensor)}
    return replace(subject, **tensors)


def _vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """(B,V,3): at each vertex the sum of the normals of the faces around it, each as long as twice the face's area."""
    a, b, c = (vertices[:, faces[:, i]] for i in range(3))
    normal = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for i in range(3):
        total.index_add_(1, faces[:, i], normal)
    return total


def _triangles(screen: Tensor, depth: Tensor, faces: Tensor, height: int, width: int) -> tuple[_Triangles, Tensor]:
    """Triangles that cover a sample, and which image and face each is: image * F + face (T,).

    Args:
        screen: (B,V,2) column and row on the finer grid; depth: (B,V) m.
    """
    corners = screen[:, faces].flatten(0, 1)  # (B*F,3,2)
    limit = torch.tensor([width - 1, height - 1], device=screen.device, dtype=screen.dtype)
    low = corners.amin(1).ceil().clamp_min(0)
    high = torch.minimum(corners.amax(1).floor(), limit)
    in_front = (depth[:, faces] > NEAR_M).all(-1).flatten()
    a, b, c = corners.unbind(1)
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    seen = (in_front & (high >= low).all(1) & (area.abs() > 1e-12)).nonzero()[:, 0]
    a, b, c, low, high, area = a[seen], b[seen], c[seen], low[seen], high[seen], area[seen]
    # the first corner's weight is the area of (point, b, c) over the whole, the second's that of (a, point, c)
    right = torch.stack([b[:, 1] - c[:, 1], c[:, 1] - a[:, 1]], 1) / area[:, None]
    down = torch.stack([c[:, 0] - b[:, 0], a[:, 0] - c[:, 0]], 1) / area[:, None]
    # measured from a corner that both pass through, so that nothing large is subtracted
    start = right * (low[:, :1] - c[:, :1]) + down * (low[:, 1:] - c[:, 1:])
    corner, size = low.long(), (high - low).long() + 1
    return _Triangles(corner[:, 0], corner[:, 1], size[:, 0], size[:, 1], start, right, down), seen


def _nearest(
    triangles: _Triangles, owner: Tensor, inverse_depth: Tensor, faces: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest triangle of each sample that any covers.

    Returns:
        sample (n,) (image * H + row) * W + column; face (n,); weight (n,3) of its corners in the picture.
    """
    count = triangles.columns * triangles.rows
    triangle = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    within = torch.arange(len(triangle), device=count.device) - (count.cumsum(0) - count)[triangle]
    wide = triangles.columns[triangle]
    j = torch.div(within, wide, rounding_mode="floor")
    i = within - j * wide
    first = triangles.start[triangle] + triangles.right[triangle] * i[:, None] + triangles.down[triangle] * j[:, None]
    weight = torch.cat([first, 1 - first.sum(1, keepdim=True)], 1)
    inside = (weight >= 0).all(1).nonzero()[:, 0]
    triangle, weight = triangle[inside], weight[inside]
    column, row = triangles.left[triangle] + i[inside], triangles.top[triangle] + j[inside]
    image = torch.div(owner[triangle], len(faces), rounding_mode="floor")
    face = owner[triangle] - image * len(faces)
    nearness = (weight * inverse_depth.flatten()[image[:, None] * inverse_depth.shape[1] + faces[face]]).sum(1)
    # Positive floats are in the order of their bits: the nearest triangle has the greatest key.
    order = nearness.contiguous().view(torch.int32).long() << FACE_BITS
    key = order | torch.arange(len(order), device=order.device)
    sample = (image * height + row) * width + column
    best = torch.zeros(len(inverse_depth) * height * width, dtype=torch.int64, device=key.device)
    best.scatter_reduce_(0, sample, key, "amax")
    covered = best.nonzero()[:, 0]
    chosen = best[covered] & ((1 << FACE_BITS) - 1)
    return covered, face[chosen], weight[chosen]
