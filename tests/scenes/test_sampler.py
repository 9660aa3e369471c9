"""Scenes by id: repeatable, inside their ranges, framed on the person."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from posegen.body.cameras import joints_box_px
from posegen.body.rotations import aa_to_matrix, geodesic_rad, matrix_to_aa
from posegen.errors import DataError
from posegen.scenes.sampler import SceneSampler, azimuth_on_lattice, clip_headings, turn_about_y
from posegen.scenes.split import load_split


@pytest.fixture(scope="module")
def samplers(assets: Path) -> dict[str, SceneSampler]:
    split = load_split()
    return {name: SceneSampler(split[name]) for name in ("source", "pool", "ski-like", "3dhp-like")}


def test_a_scene_is_a_function_of_id_and_seed(samplers: dict[str, SceneSampler]) -> None:
    for sampler in samplers.values():
        ids = torch.tensor([7, 3, 10**9])
        together, alone = sampler(ids, 1), sampler(ids[2:], 1)
        for name in ("pose", "betas", "transl", "subject", "background"):
            assert torch.equal(getattr(together, name)[2:], getattr(alone, name)), name
        assert torch.allclose(together.camera.R[2:], alone.camera.R, atol=1e-6)
        assert torch.allclose(together.camera.centre[2:], alone.camera.centre, atol=1e-3)
        assert not torch.equal(sampler(ids, 2).background, together.background)


def test_parts_draw_other_scenes_for_the_same_id(samplers: dict[str, SceneSampler]) -> None:
    ids = torch.arange(50)
    one, two = samplers["source"](ids, 0), samplers["pool"](ids, 0)
    assert not (one.background == two.background).any()


def test_ranges_are_kept_and_filled(samplers: dict[str, SceneSampler]) -> None:
    for sampler in samplers.values():
        ranges = sampler.part.camera
        draw = sampler.draw(torch.arange(2000), 0)
        azimuth, elevation = torch.rad2deg(draw.azimuth_rad), torch.rad2deg(draw.elevation_rad)
        low, high = ranges.azimuth_deg[0]
        assert float(azimuth.min()) >= low - 4 and float(azimuth.max()) <= high + 4
        assert float(azimuth.max() - azimuth.min()) > (high - low) - 8, "at most a sector is lost at either end"
        assert float(elevation.min()) >= ranges.elevation_deg[0] - 1e-3
        assert float(elevation.max()) <= ranges.elevation_deg[1] + 1e-3
        assert len(draw.clip.unique()) == len(sampler.part.clips)
        assert len(draw.scene.subject.unique()) == len(sampler.part.subjects)
        assert len(draw.body.unique()) == sampler.part.bodies.count


def test_tests_are_cropped_to_1_2_times_the_joints(samplers: dict[str, SceneSampler]) -> None:
    for name in ("ski-like", "3dhp-like"):
        draw = samplers[name].draw(torch.arange(100), 0)
        centre, side = joints_box_px(draw.scene.camera.project(draw.joints_m))
        assert torch.allclose(centre, torch.full_like(centre, 48.0), atol=0.05)
        assert torch.allclose(side, torch.full_like(side, 80.0), atol=0.05)


def test_ski_cameras_are_far_with_a_long_lens(samplers: dict[str, SceneSampler]) -> None:
    far, near = (samplers[name].draw(torch.arange(100), 0) for name in ("ski-like", "3dhp-like"))

    def depth(draw) -> torch.Tensor:
        return draw.scene.camera.to_camera(draw.joints_m)[:, 0, 2]

    assert float(depth(far).min()) > 10 and float(depth(near).max()) < 8
    assert float(far.scene.camera.focal.median()) > 5 * float(near.scene.camera.focal.median())


def test_source_people_face_the_camera(samplers: dict[str, SceneSampler]) -> None:
    draw = samplers["source"].draw(torch.arange(500), 0)
    facing = aa_to_matrix(draw.scene.pose[:, 0])[..., 2]
    towards_camera = -draw.scene.camera.R[:, 2]
    cosine = (torch.nn.functional.normalize(facing, dim=-1) * towards_camera).sum(-1)
    assert float(cosine.quantile(0.05)) > 0.6


def test_joint_noise_has_its_size_and_can_be_off(samplers: dict[str, SceneSampler]) -> None:
    sampler = samplers["source"]
    still = SceneSampler(replace(sampler.part, joint_noise_deg=0.0, mirror=False), body=sampler.body)
    noisy = SceneSampler(replace(sampler.part, joint_noise_deg=4.0, mirror=False), body=sampler.body)
    ids = torch.arange(400)
    angle = geodesic_rad(aa_to_matrix(still(ids, 0).pose), aa_to_matrix(noisy(ids, 0).pose))
    # The length of three normal numbers of sigma 4 degrees: its mean square is 3 * 16.
    assert float(torch.rad2deg(angle).square().mean()) == pytest.approx(48, rel=0.05)


def test_lattices_are_apart_and_stay_near(samplers: dict[str, SceneSampler]) -> None:
    azimuth = torch.linspace(-180, 180, 7201)[:-1]
    even, odd = azimuth_on_lattice(azimuth, "even"), azimuth_on_lattice(azimuth, "odd")
    assert float((even - azimuth).abs().max()) <= 4.5 and float((odd - azimuth).abs().max()) <= 4.5
    gap = torch.cdist(even.remainder(360)[::7, None].double(), odd.remainder(360)[::7, None].double())
    assert float(torch.minimum(gap, 360 - gap).min()) >= 1.0 - 1e-4
    assert torch.equal(azimuth_on_lattice(azimuth, "any"), azimuth)


def test_heading_is_where_the_body_faces() -> None:
    angle = torch.tensor([0.7, 0.9])
    root = matrix_to_aa(turn_about_y(angle))
    assert float(clip_headings(root)) == pytest.approx(0.8, abs=1e-4)


def test_empty_clips_are_refused(samplers: dict[str, SceneSampler]) -> None:
    with pytest.raises(DataError, match="without frames"):
        SceneSampler(samplers["source"].part, clips=[], body=samplers["source"].body)
