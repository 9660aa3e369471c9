"""Cutting, thickening and thinning of bound meshes, on shapes with known areas."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from posegen.assets.making.surface import Surface, vertex_normals


def sphere(subdivisions: int = 4) -> Surface:
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=1.0)
    points = np.array(mesh.vertices)
    weights = np.zeros((len(points), 24))
    weights[:, 0], weights[:, 1] = 0.5 + 0.5 * points[:, 1], 0.5 - 0.5 * points[:, 1]
    shapedirs = np.repeat(points[:, :, None], 10, 2)
    return Surface(points, shapedirs, weights, np.array(mesh.faces), np.abs(points))


def area(surface: Surface) -> float:
    return float(trimesh.Trimesh(surface.points, surface.faces, process=False).area)


@pytest.mark.parametrize("height", [-0.9, 0.0, 0.37])
def test_a_clipped_sphere_is_a_cap_with_a_straight_rim(height: float) -> None:
    cap = sphere().clipped(sphere().points[:, 1] - height)
    assert area(cap) == pytest.approx(2 * np.pi * (1 - height), rel=0.01)  # area of a spherical cap
    assert cap.points[:, 1].min() == pytest.approx(height, abs=1e-9)
    mesh = trimesh.Trimesh(cap.points, cap.faces, process=False)
    edges, count = np.unique(mesh.edges_sorted, axis=0, return_counts=True)
    rim = np.unique(edges[count == 1])
    np.testing.assert_allclose(cap.points[rim, 1], height, atol=1e-9)  # no tear elsewhere
    np.testing.assert_allclose(cap.weights.sum(1), 1)
    np.testing.assert_allclose(cap.weights[:, 0], 0.5 + 0.5 * cap.points[:, 1], atol=1e-9)  # attributes follow


def test_clipping_keeps_the_faces_orientation() -> None:
    half = sphere().clipped(sphere().points[:, 0])
    a, b, c = (half.points[half.faces[:, k]] for k in range(3))
    assert (np.einsum("fc,fc->f", np.cross(b - a, c - a), a + b + c) >= -1e-12).all()


def test_inflating_a_sphere_grows_its_radius() -> None:
    grown = sphere().inflated(0.25)
    np.testing.assert_allclose(np.linalg.norm(grown.points, axis=1), 1.25, atol=1e-3)


def test_decimation_stays_on_the_surface() -> None:
    fine = sphere()
    coarse = fine.decimated(600)
    assert 500 < len(coarse.faces) <= 600
    assert area(coarse) == pytest.approx(4 * np.pi, rel=0.03)
    np.testing.assert_allclose(coarse.weights.sum(1), 1, atol=1e-9)
    np.testing.assert_allclose(coarse.weights[:, 0], 0.5 + 0.5 * coarse.points[:, 1], atol=1e-9)
    np.testing.assert_allclose(coarse.shapedirs[..., 3], coarse.points, atol=1e-9)


def test_joined_surfaces_keep_their_faces() -> None:
    one, two = sphere(1), sphere(2)
    both = Surface.joined([one, two])
    assert area(both) == pytest.approx(area(one) + area(two))
    assert len(both.points) == len(one.points) + len(two.points)


def test_normals_of_a_roof() -> None:
    """Two squares at a right angle: each vertex looks out of its own, those on the ridge out of both."""
    roof = np.array([[0.0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0], [0, 0, -1], [2, 0, -1], [9, 9, 9]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [0, 4, 5], [0, 5, 1]])
    normals = vertex_normals(roof, faces)
    assert normals[3].tolist() == [0, 0, 1] and normals[4].tolist() == [0, -1, 0] and normals[6].tolist() == [0, 0, 0]
    assert normals[0].tolist() == pytest.approx([0, -(0.5**0.5), 0.5**0.5])
