"""The embedded stand-ins: labels fit pictures, the cache is whole or absent, two builders make one set."""

from __future__ import annotations

import threading
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from posegen.benchmarks import protocol
from posegen.benchmarks.embedded.stand_ins import (
    EMBEDDED_OTHERS,
    EMBEDDED_TESTS,
    EmbeddedBenchmark,
    EmbeddedSet,
    build_embedded,
    cached_set,
    mesh_renderer,
    read_set,
    render_part,
    set_path,
    write_set,
)
from posegen.body.cameras import SURFACE_FACTOR, joints_box_px
from posegen.errors import ConfigError
from posegen.scene import Scene
from posegen.scenes.sampler import SceneSampler
from posegen.scenes.split import Split, load_split

IMAGES = 6


@pytest.fixture(scope="module")
def split(assets: Path) -> Split:
    return load_split()


@pytest.fixture(scope="module")
def sets(split: Split) -> dict[str, EmbeddedBenchmark]:
    return {
        name: EmbeddedBenchmark(split[name], render_part(split[name], IMAGES, 0), split)
        for name in (*EMBEDDED_TESTS, *EMBEDDED_OTHERS)
    }


def grey_people(scene: Scene) -> tuple[torch.Tensor, torch.Tensor]:
    """A renderer that costs nothing: a grey disc for everyone."""
    size = scene.camera.width
    v, u = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    disc = ((u - size / 2) ** 2 + (v - size / 2) ** 2 < (size / 4) ** 2).float()
    alpha = disc.expand(len(scene), 1, size, size)
    return 0.5 * alpha.expand(-1, 3, -1, -1), alpha


def test_all_are_registered_and_satisfy_the_protocol(sets: dict[str, EmbeddedBenchmark]) -> None:
    assert {*EMBEDDED_TESTS, *EMBEDDED_OTHERS} <= set(protocol.names())
    for name, benchmark in sets.items():
        assert isinstance(benchmark, protocol.Benchmark)
        assert benchmark.name == name and len(benchmark) == IMAGES
        line = str(benchmark.protocol)
        assert line.startswith(f"{name}: ") and "\n" not in line and "not the data set" in line


def test_labels_fit_the_pictures(sets: dict[str, EmbeddedBenchmark], split: Split) -> None:
    """The mesh covers its own joints: nearly all project onto pixels that the renderer calls covered."""
    for name, benchmark in sets.items():
        sampler = SceneSampler(split[name])
        scene = sampler(torch.arange(IMAGES), 0)
        _, alpha = mesh_renderer(split[name])(scene)
        (batch,) = benchmark.batches(IMAGES)
        camera = benchmark.camera(slice(0, IMAGES))
        pixels = batch.joints[..., :2] / batch.joints[..., 2:] * camera.focal[:, None, None] + camera.centre[:, None]
        inside = pixels.floor().long().clamp(0, 95)
        covered = torch.stack([alpha[i, 0][inside[i, :, 1], inside[i, :, 0]] for i in range(IMAGES)])
        assert float((covered > 0.5).float().mean()) > 0.85, name
        if name in EMBEDDED_TESTS:
            cam = batch.vertices
            assert cam is not None
            surface = cam[..., :2] / cam[..., 2:] * camera.focal[:, None, None] + camera.centre[:, None]
            centre, side = joints_box_px(surface)
            assert torch.allclose(centre, torch.full_like(centre, 48.0), atol=0.1)
            assert torch.allclose(side, torch.full_like(side, 96 / SURFACE_FACTOR), atol=0.1)


def test_pose_vertices_and_joints_are_in_the_camera_frame(sets: dict[str, EmbeddedBenchmark]) -> None:
    benchmark = sets["3dhp-like"]
    (batch,) = benchmark.batches(IMAGES)
    posed = benchmark.body(batch.pose, batch.betas)
    for mine, theirs in ((batch.joints, posed.joints), (batch.vertices, posed.vertices)):
        assert mine is not None
        shifted = mine - batch.joints[:, :1] - (theirs - posed.joints[:, :1])
        assert float(shifted.abs().max()) < 1e-4
    assert float(batch.joints[..., 2].min()) > 0.3, "all in front of the camera"


def test_viewpoints_are_those_of_the_cameras(sets: dict[str, EmbeddedBenchmark]) -> None:
    (batch,) = sets["source-like"].batches(IMAGES)
    assert batch.azimuth_rad is not None and batch.elevation_rad is not None
    assert float(torch.rad2deg(batch.azimuth_rad).abs().max()) < 60, "the source sees people from the front"
    assert float(torch.rad2deg(batch.elevation_rad).abs().max()) < 40


def test_batches_cover_all_once_and_repeat(sets: dict[str, EmbeddedBenchmark]) -> None:
    benchmark = sets["agora-like"]
    first, again = list(benchmark.batches(4)), list(benchmark.batches(4))
    assert [len(batch) for batch in first] == [4, 2]
    ids = [name for batch in first for name in batch.ids]
    assert len(set(ids)) == IMAGES and ids == [name for batch in again for name in batch.ids]
    assert torch.equal(first[1].images, again[1].images)
    assert float(first[0].images.min()) >= 0 and float(first[0].images.max()) <= 1
    assert {group.split("/")[0] for batch in first for group in batch.groups} <= set(benchmark.part.clips)


def test_each_has_an_easy_and_a_hard_half(split: Split) -> None:
    for name in EMBEDDED_TESTS:
        part = split[name]
        data = render_part(part, 64, 0, sampler=SceneSampler(part), renderer=grey_people)
        benchmark = EmbeddedBenchmark(part, data, split)
        assert 20 <= int(benchmark.easy.sum()) <= 44, name
        clips = {part.clips[i] for i in data.clip[benchmark.easy]}
        assert clips <= set(part.easy) and len(clips) > len(part.easy) - 1
        assert (data.segment % 2 == 0).all(), "a test shows the even half seconds"


def test_stand_ins_differ_in_kind(sets: dict[str, EmbeddedBenchmark]) -> None:
    """Each looks like what it claims, measured: slopes are bright, long lenses long, the street at eye level."""
    data = {name: benchmark.data for name, benchmark in sets.items()}
    corner = {name: d.images[:, :, :10, :10].mean() / 255 for name, d in data.items()}
    assert data["ski-like"].focal.min() > 4 * np.median(data["3dhp-like"].focal)
    assert corner["ski-like"] > 0.3
    views = {name: next(iter(b.batches(IMAGES))) for name, b in sets.items()}
    height = {name: -view.joints[..., 1].mean() for name, view in views.items()}
    assert all(np.isfinite(float(h)) for h in height.values())
    tilt = {name: np.degrees(np.arcsin(np.clip(-d.camera_R[:, 2, 1], -1, 1))) for name, d in data.items()}
    assert np.abs(tilt["3dpw-like"]).max() < 15 < np.abs(tilt["3dhp-like"]).max()


def test_a_larger_set_begins_with_the_smaller(split: Split) -> None:
    part = split["3dpw-like"]
    sampler = SceneSampler(part)
    few, more = (render_part(part, n, 0, sampler=sampler, renderer=grey_people) for n in (5, 40))
    for field in fields(EmbeddedSet):
        assert np.allclose(getattr(more, field.name)[:5], getattr(few, field.name), atol=1e-4), field.name
    other = render_part(part, 5, 1, sampler=sampler, renderer=grey_people)
    assert not np.array_equal(other.images, few.images)


def test_cache_is_named_after_all_that_matters(split: Split) -> None:
    part = split["ski-like"]
    path = set_path(part, 160, 0, 96)
    changed = replace(part, ambient=(0.3, 0.7))
    others = [set_path(part, 161, 0, 96), set_path(part, 160, 1, 96), set_path(part, 160, 0, 64)]
    assert len({path, *others, set_path(changed, 160, 0, 96)}) == 5
    assert path == set_path(part, 160, 0, 96)


def test_damaged_sets_are_made_again(
    split: Split, sets: dict[str, EmbeddedBenchmark], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSEGEN_CACHE", str(tmp_path))
    part, data = split["ski-like"], sets["ski-like"].data
    made: list[int] = []

    def make() -> EmbeddedSet:
        made.append(1)
        return data

    first = cached_set(part, IMAGES, 0, make=make)
    again = cached_set(part, IMAGES, 0, make=make)
    assert len(made) == 1 and np.array_equal(first.images, again.images)
    path = set_path(part, IMAGES, 0, 96)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert read_set(path) is None
    cached_set(part, IMAGES, 0, make=make)
    assert len(made) == 2 and read_set(path) is not None
    write_set(replace(data, images=data.images.copy()), path)
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["images"][0, 0, 0, 0] ^= 1
    np.savez(path.open("wb"), **arrays)
    assert read_set(path) is None, "one changed pixel is noticed"


def test_two_builders_make_one_set(
    split: Split,
    sets: dict[str, EmbeddedBenchmark],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("POSEGEN_CACHE", str(tmp_path))
    part, data = split["3dhp-like"], sets["3dhp-like"].data
    made: list[int] = []

    def make() -> EmbeddedSet:
        made.append(1)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and caplog.text.count(told) < 2:
            time.sleep(0.05)
        return data

    told = "another process draws 3dhp-like; waiting for it"

    threads = [threading.Thread(target=cached_set, args=(part, IMAGES, 0), kwargs={"make": make}) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert caplog.text.count(told) == 2, "who waits says for what"
    assert not [path for path in (tmp_path / "embedded").iterdir() if path.suffix not in (".npz", ".lock")]


def test_bad_requests_are_named(assets: Path) -> None:
    with pytest.raises(ConfigError, match="make no benchmark"):
        build_embedded("ski-like", images=0)
    with pytest.raises(ConfigError, match="has no part"):
        build_embedded("skating-like")
    with pytest.raises(ConfigError, match="no labels to evaluate on"):
        build_embedded("ski-like-target")
    with pytest.raises(ConfigError, match="images is a whole number, not 'abc'"):
        protocol.build("ski-like", images="abc")
    with pytest.raises(ConfigError, match="no option"):
        protocol.build("ski-like", pictures=3)
