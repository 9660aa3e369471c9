"""Hand-worked values of every metric, and the degenerate cases of the Procrustes alignment."""

from __future__ import annotations

import math

import pytest
import torch

from posegen.benchmarks.measure import metrics
from posegen.benchmarks.measure.procrustes import procrustes, similarity
from posegen.benchmarks.measure.viewpoint import wrong_way_round
from posegen.body.rotations import random_rotation


def points(seed: int = 0, batch: int = 3, number: int = 14) -> torch.Tensor:
    return torch.randn(batch, number, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def proper_rotations(generator: torch.Generator) -> torch.Tensor:
    """Three rotations, orthogonal to float64's precision."""
    u, _, vh = torch.linalg.svd(random_rotation((3,), generator).double())
    return u @ vh


def test_mpjpe_of_known_offsets():
    truth = points()
    offset = torch.zeros_like(truth)
    offset[0] += torch.tensor([0.03, 0.0, 0.0], dtype=torch.float64)
    offset[1, 0] = torch.tensor([0.03, 0.04, 0.0])  # one joint of 14 by 50 mm
    torch.testing.assert_close(
        metrics.mpjpe_mm(truth + offset, truth), torch.tensor([30.0, 50 / 14, 0.0], dtype=torch.float64)
    )


def test_valid_joints_are_the_only_ones_that_count():
    truth = points(batch=2)
    prediction = truth.clone()
    prediction[:, 0, 0] += 0.1
    prediction[:, 1, 0] += 0.2
    truth[:, 2] = torch.nan
    valid = torch.zeros(2, 14, dtype=torch.bool)
    valid[0, :2] = True
    error = metrics.mpjpe_mm(prediction, truth, valid)
    assert error[0].item() == pytest.approx(150.0, abs=1e-9)
    assert math.isnan(error[1].item())
    aligned = metrics.pa_mpjpe_mm(prediction, truth, valid)
    assert aligned[0].item() == pytest.approx(0.0, abs=1e-6)  # two points align wholly


def test_alignment_undoes_a_similarity_and_finds_it():
    x = points()
    generator = torch.Generator().manual_seed(1)
    rotation = proper_rotations(generator)
    scale = torch.tensor([0.5, 1.0, 7.0], dtype=torch.float64)
    shift = torch.tensor([[1.0, 2.0, 3.0]] * 3, dtype=torch.float64)
    y = scale[:, None, None] * x @ rotation.transpose(1, 2) + shift[:, None]
    found = similarity(x, y)
    torch.testing.assert_close(found.R, rotation, atol=1e-12, rtol=0)
    torch.testing.assert_close(found.scale, scale)
    torch.testing.assert_close(found.t, shift, atol=1e-11, rtol=0)
    assert metrics.pa_mpjpe_mm(x, y).max() < 1e-9


def test_alignment_is_optimal():
    """No nearby similarity does better (in squared error, which is what Procrustes minimises)."""
    x, y = points(0, 1), points(1, 1)
    best = (procrustes(x, y) - y).square().sum()
    found = similarity(x, y)
    generator = torch.Generator().manual_seed(2)
    for _ in range(50):
        turn = torch.linalg.matrix_exp(0.02 * _skew(torch.randn(3, generator=generator, dtype=torch.float64)))
        scale = found.scale * (1 + 0.02 * torch.randn(1, generator=generator, dtype=torch.float64))
        moved = scale[:, None, None] * (x @ (turn @ found.R[0]).T)
        moved = moved - moved.mean(1, keepdim=True) + y.mean(1, keepdim=True)
        assert (moved - y).square().sum() >= best


def _skew(v: torch.Tensor) -> torch.Tensor:
    x, y, z = v.tolist()
    return torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)


def test_pa_mpjpe_worked_by_hand():
    """A unit square against one stretched to 2 x 1 along x: the best scale is 1.5, every corner is off by sqrt 0.5."""
    square = torch.tensor([[[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]], dtype=torch.float64)
    long = square * torch.tensor([2.0, 1.0, 1.0], dtype=torch.float64)
    assert similarity(square, long).scale.item() == pytest.approx(1.5, abs=1e-12)
    assert metrics.pa_mpjpe_mm(square, long).item() == pytest.approx(1000 * math.sqrt(0.5), abs=1e-9)


def test_coplanar_points_get_a_proper_rotation():
    x = points()
    x[..., 2] = 0
    rotation = proper_rotations(torch.Generator().manual_seed(3))
    found = similarity(x, x @ rotation.transpose(1, 2))
    torch.testing.assert_close(torch.linalg.det(found.R), torch.ones(3, dtype=torch.float64))
    assert metrics.pa_mpjpe_mm(x, x @ rotation.transpose(1, 2)).max() < 1e-9


def test_collinear_points_align():
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)[None, :, None] * torch.tensor([[[1.0, 2.0, 3.0]]])
    y = torch.linspace(-1, 1, 5, dtype=torch.float64)[None, :, None] * torch.tensor([[[-3.0, 0.0, 1.0]]])
    assert metrics.pa_mpjpe_mm(x, y).item() < 1e-9
    assert torch.linalg.det(similarity(x, y).R).item() == pytest.approx(1.0)


def test_a_mirror_image_does_not_align():
    x = points()
    mirrored = x * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    found = similarity(x, mirrored)
    torch.testing.assert_close(torch.linalg.det(found.R), torch.ones(3, dtype=torch.float64))
    assert metrics.pa_mpjpe_mm(x, mirrored).min() > 50


def test_zero_variance_and_single_joints_are_defined():
    x = points()
    point = torch.full_like(x, 0.7)
    # Everything at one place: the best is the mean of the truth, the error is the truth's mean distance to it.
    expected = 1000 * (x - x.mean(1, keepdim=True)).norm(dim=-1).mean(-1)
    torch.testing.assert_close(metrics.pa_mpjpe_mm(point, x), expected)
    assert metrics.pa_mpjpe_mm(x, point).max() < 1e-9
    assert metrics.pa_mpjpe_mm(x[:, :1], x[:, 1:2]).max() < 1e-9
    assert similarity(x[:, :1], x[:, 1:2]).scale.tolist() == [1, 1, 1]


def test_pck_is_strict_and_auc_counts_31_thresholds():
    truth = torch.zeros(1, 4, 3, dtype=torch.float64)
    prediction = torch.zeros(1, 4, 3, dtype=torch.float64)
    prediction[0, :, 0] = torch.tensor([0.0, 0.0625, 0.15, 0.3])  # 0, 62.5, 150 and 300 mm
    assert metrics.pck(prediction, truth).item() == pytest.approx(50.0)
    assert metrics.pck(prediction, truth, 151.0).item() == pytest.approx(75.0)
    # 0 mm passes 30 thresholds (not 0 itself), 62.5 mm those from 65 on (18), the others none.
    assert len(metrics.AUC_THRESHOLDS_MM) == 31
    assert metrics.auc(prediction, truth).item() == pytest.approx(100 * (30 + 18) / (4 * 31), abs=1e-9)


def test_pve_is_the_mean_over_vertices():
    truth = points(number=50)
    prediction = truth.clone()
    prediction[:, :10, 1] += 0.1
    torch.testing.assert_close(metrics.pve_mm(prediction, truth), torch.full((3,), 20.0, dtype=torch.float64))


def test_acceleration_error_of_a_parabola():
    """x = a t^2 has second difference 2 a at every inner frame; a still truth has none."""
    t = torch.arange(6, dtype=torch.float64)
    prediction = torch.zeros(6, 2, 3, dtype=torch.float64)
    prediction[:, 0, 1] = 0.004 * t**2
    truth = torch.zeros_like(prediction)
    error = metrics.acceleration_error_mm(prediction, truth)
    torch.testing.assert_close(error, torch.full((4,), 4.0, dtype=torch.float64))  # 8 mm at one of two joints
    torch.testing.assert_close(metrics.acceleration_error_mm(prediction + 3 * t[:, None, None], prediction), 0 * error)


def test_float32_input_is_computed_in_float64():
    x = points().float()
    assert metrics.mpjpe_mm(x, x + 0.25).dtype == torch.float64
    torch.testing.assert_close(metrics.pa_mpjpe_mm(x * 1000, x), torch.zeros(3, dtype=torch.float64), atol=1e-3, rtol=0)


def test_who_is_seen_the_wrong_way_round():
    """A person who faces the camera, turned about the vertical by hand."""
    names = ("left_hip", "right_hip", "left_shoulder", "right_shoulder", "nose")
    facing = torch.tensor([[[0.1, 0, 0], [-0.1, 0, 0], [0.2, -0.5, 0], [-0.2, -0.5, 0], [0, -0.7, -0.1]]]).double()

    def turned(degrees: float) -> torch.Tensor:
        s, c = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
        return facing @ torch.tensor([[c, 0, -s], [0, 1, 0], [s, 0, c]]).double().T

    truth = turned(30).expand(6, -1, -1)
    prediction = torch.cat([turned(30 + by) for by in (0, 80, -80, 100, 180)] + [truth[:1] * torch.tensor([-1, 1, 1])])
    assert wrong_way_round(prediction, truth, names).tolist() == [0, 0, 0, 100, 100, 100]
    valid = torch.ones(6, 5, dtype=torch.bool)
    valid[3, 4] = valid[4, 1] = False  # a nose is no part of the trunk
    seen = wrong_way_round(prediction, truth, names, valid)
    assert seen[3] == 100 and math.isnan(seen[4])
    assert wrong_way_round(prediction[:, 1:], truth[:, 1:], names[1:]) is None
