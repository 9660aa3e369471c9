"""Backgrounds: a function of seed, pool and camera; floors under the feet; pools apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from posegen.body.cameras import look_at_camera
from posegen.errors import ConfigError, DataError
from posegen.renderer.surroundings import backdrops
from posegen.renderer.surroundings.backgrounds import KINDS, Backgrounds, LowestJoint
from posegen.renderer.surroundings.photos import POOLS, bundled_photos, folder_photos
from posegen.scene import Light, Scene

FLOOR_M = -0.9


def floor(scene: Scene) -> torch.Tensor:
    return torch.full((len(scene),), FLOOR_M)


def scene_of(seeds: list[int], size: int = 24, azimuth: float = 0.4, elevation: float = 0.25) -> Scene:
    n = len(seeds)
    camera = look_at_camera(torch.full((n,), azimuth), elevation, 4.0, 0.0, None, size)
    return Scene(
        torch.zeros(n, 24, 3),
        torch.zeros(n, 10),
        torch.zeros(n, 3),
        camera,
        torch.zeros(n, dtype=torch.int64),
        Light.default(n),
        torch.tensor(seeds),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_deterministic_and_independent_of_the_batch(kind: str) -> None:
    backgrounds = Backgrounds("train", kinds={kind: 1.0}, floor_m=floor)
    seeds = [3, 11, 4, 2**60]
    images = backgrounds(scene_of(seeds))
    assert images.shape == (4, 3, 24, 24)
    assert torch.isfinite(images).all() and images.min() >= 0 and images.max() <= 1
    again = Backgrounds("train", kinds={kind: 1.0}, floor_m=floor)
    for i, seed in enumerate(seeds):
        assert torch.allclose(again(scene_of([seed]))[0], images[i], atol=1e-5)
    assert (images[0] - images[1]).abs().mean() > 0.01, "another seed, another picture"


def test_white_where_the_seed_is_minus_one() -> None:
    images = Backgrounds("train", floor_m=floor)(scene_of([-1, 5, -1]))
    assert images[0].min() == 1 and images[2].min() == 1
    assert images[1].min() < 1


@pytest.mark.parametrize("kind", KINDS)
def test_pools_give_other_pictures_for_the_same_seed(kind: str) -> None:
    pictures = [Backgrounds(pool, kinds={kind: 1.0}, floor_m=floor)(scene_of(list(range(4)))) for pool in POOLS]
    for i in range(3):
        for j in range(i):
            assert ((pictures[i] - pictures[j]).abs().mean((1, 2, 3)) > 0.01).all()


def test_bundled_photos_exist_and_belong_to_one_pool() -> None:
    pools = [bundled_photos(pool) for pool in POOLS]
    every = [path for pool in pools for path in pool]
    assert all(path.is_file() for path in every)
    assert len(every) == len({path.name for path in every})
    assert not {"astronaut.png", "camera.png"} & {path.name for path in every}, "no other people"


def test_rooms_follow_the_camera() -> None:
    backgrounds = Backgrounds("train", kinds={"room": 1.0}, floor_m=floor)
    still = backgrounds(scene_of([7]))
    assert torch.equal(backgrounds(scene_of([7])), still)
    moved = backgrounds(scene_of([7], azimuth=0.45))
    assert 0.001 < (moved - still).abs().mean() < 0.2, "a small step of the camera moves the room a little"


def test_floor_lies_under_the_feet() -> None:
    """The horizon of an outdoor view is where rays are level, and the shadow is where the feet are."""
    size = 48
    scene = scene_of([1], size, elevation=0.0)
    view = backdrops.View.of(scene.camera, scene.transl, floor(scene), scene.light)
    seen = backdrops._Outside.of(view, torch.tensor([[0.0, 1.0, 0.0]]))
    rows = seen.on_ground.reshape(size, size)
    assert not rows[: size // 2].any() and rows[size // 2 :].all(), "a level camera has its horizon in the middle"
    feet = scene.camera.project(torch.tensor([[[0.0, FLOOR_M, 0.0]]]))[0, 0]
    pixel = int(feet[1]) * size + int(feet[0])
    off = torch.stack([seen.dx[0, pixel], seen.dz[0, pixel]]).norm()
    assert float(off) < 0.3, "the ground point seen at the feet's pixel is at the feet"


def test_camera_below_the_floor_lowers_it() -> None:
    scene = scene_of([1], 8, elevation=-0.6)
    view = backdrops.View.of(scene.camera, scene.transl, floor(scene), scene.light)
    assert float(view.floor_m) == pytest.approx(float(view.origin[0, 1]) - backdrops.CLEARANCE_M)
    for kind in ("room", "outdoor", "snow"):
        image = Backgrounds("test", kinds={kind: 1.0}, floor_m=floor)(scene)
        assert torch.isfinite(image).all()


def test_view_rays_invert_the_projection() -> None:
    scene = scene_of([1], 6, azimuth=1.1, elevation=0.4)
    view = backdrops.View.of(scene.camera, scene.transl, floor(scene), scene.light)
    points = (view.origin[:, None] + 2.5 * view.direction.transpose(1, 2)).contiguous()
    pixels = scene.camera.project(points)[0]
    v, u = torch.meshgrid(torch.arange(6) + 0.5, torch.arange(6) + 0.5, indexing="ij")
    assert torch.allclose(pixels, torch.stack([u, v], -1).reshape(-1, 2), atol=1e-4)


def test_kinds_follow_their_weights() -> None:
    backgrounds = Backgrounds("train", kinds={"photo": 1.0, "noise": 3.0}, floor_m=floor)
    kinds = backgrounds.kind_of(torch.arange(8000))
    shares = torch.bincount(kinds, minlength=len(KINDS)) / 8000
    assert shares[KINDS.index("photo")] == pytest.approx(0.25, abs=0.02)
    assert shares[KINDS.index("noise")] == pytest.approx(0.75, abs=0.02)


def test_users_photos_are_split_and_used(tmp_path: Path) -> None:
    for i in range(12):
        Image.fromarray(np.full((20, 30, 3), 20 * i, np.uint8)).save(tmp_path / f"{i}.png")
    parts = [folder_photos(tmp_path, pool) for pool in POOLS]
    assert sorted(path.name for part in parts for path in part) == sorted(f"{i}.png" for i in range(12))
    assert all(parts)
    image = Backgrounds("train", photos=tmp_path, kinds={"photo": 1.0})(scene_of([3]))
    assert float(image.std((2, 3)).max()) < 0.02, "a photo of one colour stays one"


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown background pool"):
        Backgrounds("training")
    with pytest.raises(ConfigError, match="unknown kinds"):
        Backgrounds("train", kinds={"space": 1.0})
    with pytest.raises(ConfigError, match="must be >= 0"):
        Backgrounds("train", kinds={"room": 0.0})
    with pytest.raises(DataError, match="does not exist"):
        Backgrounds("train", photos=tmp_path / "none")
    with pytest.raises(DataError, match="0 photos found"):
        Backgrounds("train", photos=tmp_path)
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot be read"):
        Backgrounds("train", photos=tmp_path, kinds={"photo": 1.0})(scene_of([1]))


def test_default_floor_is_under_the_lowest_joint(assets: Path) -> None:
    from posegen.body.model import load_body
    from posegen.body.rotations import aa_to_matrix

    scene = scene_of([1, 2])
    joints = load_body(resolution="low").joints(aa_to_matrix(scene.pose), scene.betas, scene.transl)
    found = LowestJoint()(scene)
    gap = joints[..., 1].amin(1) - found
    assert torch.allclose(gap, torch.full((2,), 0.04), atol=1e-5)
