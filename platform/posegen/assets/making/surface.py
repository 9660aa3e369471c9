"""Triangle meshes bound to the body, and the cutting, thickening, thinning and joining of them. Metres, zero pose."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def vertex_normals(points: Array, faces: Index) -> Array:
    """(V,3), (F,3) -> (V,3) unit: the mean of the faces around each vertex weighted by their areas; 0 without any."""
    a, b, c = (points[faces[:, k]] for k in range(3))
    face_normals = np.cross(b - a, c - a)
    normals = np.zeros_like(points)
    for k in range(3):
        np.add.at(normals, faces[:, k], face_normals)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


@dataclass(frozen=True)
class Surface:
    """A mesh whose vertices follow the skeleton and the betas.

    Args:
        points: (V,3) m; shapedirs: (V,3,10); weights: (V,24); faces: (F,3); albedo: (V,3) in [0,1].
    """

    points: Array
    shapedirs: Array
    weights: Array
    faces: Index
    albedo: Array

    @property
    def normals(self) -> Array:
        """(V,3) unit, see `vertex_normals`."""
        return vertex_normals(self.points, self.faces)

    def inflated(self, offset_m: Array | float) -> Surface:
        """Moved outwards along the normals by (V,) or one offset."""
        offset = np.broadcast_to(np.asarray(offset_m, np.float64), (len(self.points),))
        return replace(self, points=self.points + offset[:, None] * self.normals)

    def painted(self, albedo: Array) -> Surface:
        return replace(self, albedo=np.broadcast_to(np.asarray(albedo, np.float64), self.points.shape).copy())

    def compact(self) -> Surface:
        """Without the vertices that no face uses."""
        used, faces = np.unique(self.faces, return_inverse=True)
        return Surface(
            self.points[used], self.shapedirs[used], self.weights[used], faces.reshape(-1, 3), self.albedo[used]
        )

    def clipped(self, field: Array) -> Surface:
        """The part where a per-vertex field (V,) is not negative; triangles across its zero are cut along it."""
        inside = field >= 0
        count = inside[self.faces].sum(1)
        kept = [self.faces[count == 3]]
        corners: list[Index] = []  # (K,2) ends of cut edges, from inside to outside
        for inner in (1, 2):
            crossing = self.faces[count == inner]
            # Turn each triangle so that its odd corner comes first.
            odd = inside[crossing] if inner == 1 else ~inside[crossing]
            start = odd.argmax(1)
            a, b, c = (crossing[np.arange(len(crossing)), (start + k) % 3] for k in range(3))
            base = len(self.points) + sum(map(len, corners))
            ab, ac = base + np.arange(len(a)), base + len(a) + np.arange(len(a))
            if inner == 1:
                kept.append(np.stack([a, ab, ac], 1))
                corners += [np.stack([a, b], 1), np.stack([a, c], 1)]
            else:
                kept += [np.stack([ab, b, c], 1), np.stack([ab, c, ac], 1)]
                corners += [np.stack([b, a], 1), np.stack([c, a], 1)]
        ends = np.concatenate(corners)
        share = field[ends[:, 0]] / np.maximum(field[ends[:, 0]] - field[ends[:, 1]], 1e-12)
        cut = self.interpolated(ends, np.stack([1 - share, share], 1), np.zeros((0, 3), np.int64))
        # One vertex for each cut edge, so that the rim is not torn where triangles meet.
        _, first, same = np.unique(np.sort(ends, 1), axis=0, return_index=True, return_inverse=True)
        faces = np.concatenate(kept)
        number = np.concatenate([np.arange(len(self.points)), len(self.points) + first[same.ravel()]])
        joined = Surface(
            np.concatenate([self.points, cut.points]),
            np.concatenate([self.shapedirs, cut.shapedirs]),
            np.concatenate([self.weights, cut.weights]),
            number[faces],
            np.concatenate([self.albedo, cut.albedo]),
        )
        return joined.compact()

    def interpolated(self, corners: Index, shares: Array, faces: Index) -> Surface:
        """A surface whose vertices lie between some of this one's: corners (N,K) and their shares (N,K)."""
        return Surface(
            interpolate(self.points, corners, shares),
            interpolate(self.shapedirs, corners, shares),
            interpolate(self.weights, corners, shares),
            faces,
            interpolate(self.albedo, corners, shares),
        )

    def decimated(self, count: int) -> Surface:
        """About `count` faces on the same surface."""
        if len(self.faces) <= count:
            return self
        return self.interpolated(*decimate(self.points, self.faces, count))

    @staticmethod
    def joined(parts: list[Surface]) -> Surface:
        start = np.cumsum([0, *(len(part.points) for part in parts)])
        return Surface(
            np.concatenate([part.points for part in parts]),
            np.concatenate([part.shapedirs for part in parts]),
            np.concatenate([part.weights for part in parts]),
            np.concatenate([part.faces + offset for part, offset in zip(parts, start, strict=False)]),
            np.concatenate([part.albedo for part in parts]),
        )


def interpolate(values: Array, corners: Index, shares: Array) -> Array:
    """Values (V,...) of vertices at points (N,...) given by corners (N,K) and shares (N,K)."""
    return np.einsum("nk,nk...->n...", shares, values[corners])


def decimate(vertices: Array, faces: Index, count: int) -> tuple[Index, Array, Index]:
    """A mesh of about `count` faces on the same surface.

    Returns:
        corners (N,3): the original vertices of the triangle that holds each new vertex; shares (N,3) of these; faces
        (M,3) of new vertices.
    """
    import fast_simplification
    import trimesh
    from scipy.spatial import cKDTree

    points, simple = fast_simplification.simplify(
        vertices.astype(np.float32), faces.astype(np.int32), target_count=count
    )
    points = points.astype(np.float64)
    triangles = vertices[faces]
    _, near = cKDTree(triangles.mean(1)).query(points, k=min(24, len(faces)))
    candidates = triangles[near].reshape(-1, 3, 3)
    nearest = trimesh.triangles.closest_point(candidates, np.repeat(points, near.shape[1], 0)).reshape(*near.shape, 3)
    best = np.linalg.norm(nearest - points[:, None], axis=-1).argmin(1)
    rows = np.arange(len(points))
    triangle = near[rows, best]
    shares = trimesh.triangles.points_to_barycentric(triangles[triangle], nearest[rows, best])
    shares = np.clip(np.nan_to_num(shares, nan=1 / 3), 0, None)
    return faces[triangle], shares / shares.sum(1, keepdims=True), simple.astype(np.int64)
