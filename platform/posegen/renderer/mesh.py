"""The reference renderer: ray casting of dressed meshes with Embree on the CPU. Not differentiable.

Rays leave the camera through pixel centres; normals are smooth (interpolated between vertices); a pixel's colour is
albedo * (ambient + diffuse * max(0, n . l)). With supersampling s each pixel is the mean of s x s rays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from posegen.body.dressed import DressedSubject
from posegen.errors import ConfigError
from posegen.scene import Scene

NEAR_M = 0.05


@dataclass(frozen=True)
class MeshImage:
    """What the reference renderer sees."""

    rgb: Tensor  # (B,3,H,W) in [0,1], premultiplied by alpha
    alpha: Tensor  # (B,1,H,W) in [0,1]
    depth_m: Tensor  # (B,1,H,W) along the camera's z axis, the mean over the covered rays; 0 where nothing is hit


class MeshRenderer:
    """Renders the `subject`-th of some dressed subjects; a `posegen.scene.Renderer`.

    Args:
        subjects: what `scene.subject` counts in.
        supersampling: rays along each side of a pixel.
    """

    def __init__(self, subjects: list[DressedSubject], supersampling: int = 1) -> None:
        if not subjects:
            raise ConfigError("the mesh renderer needs at least one subject")
        if supersampling < 1:
            raise ConfigError(f"supersampling must be 1 or more, not {supersampling}")
        self.subjects = list(subjects)
        self.supersampling = supersampling
        self._incidence = [_face_to_vertex(subject.faces.numpy(), len(subject.template)) for subject in self.subjects]

    def __call__(self, scene: Scene) -> tuple[Tensor, Tensor]:
        image = self.shade(scene)
        return image.rgb, image.alpha

    @torch.no_grad()
    def shade(self, scene: Scene) -> MeshImage:
        """Colour, coverage and depth of each item of the batch."""
        device = scene.pose.device
        scene = scene.detach().to("cpu", torch.float32)
        highest = int(scene.subject.max()) if len(scene) else -1
        if highest >= len(self.subjects) or (len(scene) and int(scene.subject.min()) < 0):
            raise ConfigError(
                f"scene.subject {highest} is not one of this renderer's subjects", choices=range(len(self.subjects))
            )
        height, width = scene.camera.height, scene.camera.width
        out = np.zeros((len(scene), 5, height, width), np.float32)
        light = scene.camera.R @ scene.light.direction[..., None]  # to the camera frame
        for index in torch.unique(scene.subject).tolist():
            rows = torch.nonzero(scene.subject == index).flatten()
            subject = self.subjects[index]
            part = scene[rows]
            vertices = part.camera.to_camera(subject.posed(part.pose, part.betas, part.transl)).numpy()
            for row, mesh in zip(rows.tolist(), vertices, strict=True):
                shades = light[row, :, 0].numpy(), float(scene.light.ambient[row]), float(scene.light.diffuse[row])
                camera = float(scene.camera.focal[row]), scene.camera.centre[row].numpy()
                out[row] = self._one(index, mesh, camera, shades, height, width)
        image = torch.from_numpy(out).to(device)
        return MeshImage(image[:, :3], image[:, 3:4], image[:, 4:])

    def _one(
        self,
        index: int,
        vertices: NDArray[np.float32],
        camera: tuple[float, NDArray],
        light: tuple[NDArray, float, float],
        height: int,
        width: int,
    ) -> NDArray[np.float32]:
        """One image (5,H,W): premultiplied rgb, alpha, depth. `vertices` (V,3) are in the camera frame."""
        s = self.supersampling
        subject = self.subjects[index]
        faces = subject.faces.numpy()
        top, bottom, left, right = _window(vertices, camera, height, width)
        out = np.zeros((5, height, width), np.float32)
        if top >= bottom or left >= right:
            return out
        directions = _rays(camera, (top, bottom, left, right), s)
        hit, face, barycentric, depth = cast(vertices, faces, directions)
        corners = faces[face]
        normals = self._incidence[index] @ _face_normals(vertices, faces)
        normal = np.einsum("nk,nkc->nc", barycentric, normals[corners])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        # Cloth is seen from both sides: the normal is turned to the viewer.
        normal *= np.where((normal * directions[hit]).sum(1, keepdims=True) > 0, -1, 1)
        direction, ambient, diffuse = light
        shade = ambient + diffuse * np.clip(normal @ direction, 0, None)
        albedo = np.einsum("nk,nkc->nc", barycentric, subject.albedo.numpy()[corners])
        rays = np.zeros((len(directions), 5), np.float32)
        rays[hit, :3] = np.clip(albedo * shade[:, None], 0, 1)
        rays[hit, 3] = 1
        rays[hit, 4] = depth
        window = rays.reshape(bottom - top, s, right - left, s, 5).mean((1, 3))
        window[..., 4] /= np.maximum(window[..., 3], 1e-6)
        out[:, top:bottom, left:right] = window.transpose(2, 0, 1)
        return out


def _face_to_vertex(faces: NDArray, count: int) -> sparse.csr_matrix:
    """(V,F) matrix that sums, for each vertex, over the faces around it."""
    rows, columns = faces.ravel(), np.repeat(np.arange(len(faces)), 3)
    return sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(count, len(faces)))


def _face_normals(vertices: NDArray[np.float32], faces: NDArray) -> NDArray[np.float32]:
    """(F,3), as long as twice the face's area."""
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    return np.cross(b - a, c - a)


def _window(
    vertices: NDArray[np.float32], camera: tuple[float, NDArray], height: int, width: int
) -> tuple[int, int, int, int]:
    """The rows and columns that can be covered: top, bottom, left, right (ends excluded)."""
    if vertices[:, 2].max() <= NEAR_M:
        return 0, 0, 0, 0
    if vertices[:, 2].min() <= NEAR_M:
        return 0, height, 0, width
    focal, centre = camera
    pixels = vertices[:, :2] / vertices[:, 2:] * focal + centre
    low, high = np.floor(pixels.min(0)), np.ceil(pixels.max(0))
    left, right = np.clip([low[0], high[0]], 0, width).astype(int)
    top, bottom = np.clip([low[1], high[1]], 0, height).astype(int)
    return int(top), int(bottom), int(left), int(right)


def _rays(camera: tuple[float, NDArray], window: tuple[int, int, int, int], s: int) -> NDArray[np.float32]:
    """Directions (N,3) with z = 1 through the s x s sub-pixel centres of a window, row by row."""
    focal, centre = camera
    top, bottom, left, right = window
    u = left + (np.arange((right - left) * s) + 0.5) / s
    v = top + (np.arange((bottom - top) * s) + 0.5) / s
    directions = np.ones((len(v), len(u), 3), np.float32)
    directions[..., 0] = (u - centre[0]) / focal
    directions[..., 1] = ((v - centre[1]) / focal)[:, None]
    return directions.reshape(-1, 3)


def cast(
    vertices: NDArray[np.float32], faces: NDArray, directions: NDArray[np.float32]
) -> tuple[NDArray[np.bool_], NDArray, NDArray, NDArray]:
    """Rays from the origin against a mesh.

    Args:
        vertices: (V,3); faces: (F,3); directions: (N,3), not normalised.

    Returns:
        hit (N,) bool, and for the H rays that hit: face (H,), barycentric (H,3), distance (H,) in lengths of the
        direction.
    """
    from embreex import rtcore_scene
    from embreex.mesh_construction import TriangleMesh

    scene = rtcore_scene.EmbreeScene()
    TriangleMesh(scene, np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces, np.int32))
    result = scene.run(np.zeros_like(directions), directions, output=True)
    hit = result["primID"] >= 0
    u, v = result["u"][hit], result["v"][hit]
    return hit, result["primID"][hit], np.stack([1 - u - v, u, v], 1), result["tfar"][hit]
