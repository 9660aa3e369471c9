"""The embedded split: who may see what, and the proof that no test is seen in training."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import yaml

from posegen.body.mocap import EMBEDDED_CLIPS
from posegen.body.pose_space import LIMIT_CLIPS
from posegen.counter import hashed_bits
from posegen.errors import ConfigError
from posegen.renderer.surroundings.photos import bundled_photos
from posegen.scenes.disjoint import prove_disjoint
from posegen.scenes.sampler import draw_cameras
from posegen.scenes.split import SECTOR_GAP_DEG, Bodies, load_split, split_file


@pytest.fixture
def config() -> dict:
    return yaml.safe_load(split_file("embedded").read_text())


def test_embedded_split_is_what_was_agreed() -> None:
    split = load_split()
    assert split["source"].clips == ("walk", "run", "jump")
    assert split["source-wide"].clips == split["source-wide-like"].clips == split["pool"].clips
    assert split["pool"].clips == LIMIT_CLIPS and len(LIMIT_CLIPS) == 23, "joint limits are measured on the pool"
    assert split["validation"].hard == ("spin", "getup_facedown")
    assert {name: test.hard for name, test in split.tests.items()} == {
        "3dpw-like": ("dance_a",),
        "3dhp-like": ("kick",),
        "ski-like": ("cartwheel", "backflip", "spinkick"),
        "agora-like": ("dance_b", "crawl", "roll"),
    }
    assert all(part.easy for part in (split["validation"], *split.tests.values()))
    used = {clip for part in (*split.parts.values(), *split.tests.values()) for clip in part.clips}
    assert used == set(EMBEDDED_CLIPS)
    assert all(name in str(split) for name in (*split.parts, *split.tests))
    assert set(split.targets) == {"validation", *split.tests}
    assert all(f"target {name}-target" in str(split) for name in split.targets)


def test_validation_shows_people_that_training_does_not() -> None:
    """What is chosen by validation must hold for people whom the generated pictures never show."""
    split = load_split()
    assert set(split["source"].subjects) < set(split["pool"].subjects)
    for part in ("source", "source-wide", "pool"):
        assert not set(split["validation"].subjects) & set(split[part].subjects)


def test_embedded_split_is_disjoint() -> None:
    assert len(prove_disjoint(load_split())) == 4


def test_no_test_shares_anything_with_what_is_trained_or_tuned_on() -> None:
    """The same as `prove_disjoint`, spelt out on what is really drawn: clips, people, shapes, cameras, backgrounds."""
    split = load_split()
    ids = torch.arange(3000)
    for test in split.tests.values():
        cameras = draw_cameras(test.camera, ids, 1, 96)
        for part in split.parts.values():
            assert not set(test.clips) & set(part.clips)
            assert not set(test.subjects) & set(part.subjects)
            assert torch.cdist(test.bodies.betas(), part.bodies.betas()).min() > 0.1
            pools = test.background.pool, part.background.pool
            assert not set(bundled_photos(pools[0])) & set(bundled_photos(pools[1]))
            other = draw_cameras(part.camera, ids, 2, 96)
            a = torch.rad2deg(cameras.azimuth_rad).remainder(360).sort().values
            b = torch.rad2deg(other.azimuth_rad).remainder(360)
            place = torch.searchsorted(a, b)
            gap = torch.minimum((a[place % len(a)] - b).abs(), (a[place - 1] - b).abs())
            assert float(gap.min()) >= 2 * SECTOR_GAP_DEG - 1e-3
    assert not set(hashed_bits(ids, 1, 1)[:, 0].tolist()) & set(hashed_bits(ids, 2, 1)[:, 0].tolist())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["tests"]["ski-like"]["clips"].append("walk"), "ski-like and source share clips walk"),
        (lambda c: c["tests"]["3dhp-like"].update(subjects="train"), "3dhp-like and source share subjects"),
        (lambda c: c["tests"]["3dhp-like"]["bodies"].update(c["parts"]["pool"]["bodies"]), "pool share a body"),
        (lambda c: c["tests"]["3dhp-like"]["camera"].update(lattice="any"), "may share cameras"),
        (lambda c: c["parts"]["pool"]["background"].update(pool="test"), "pool share background pools test"),
        (lambda c: c["targets"]["ski-like"].update(windows="even"), "ski-like-target and ski-like may share moments"),
        (lambda c: c["targets"]["ski-like"].update(subjects="test"), "ski-like-target and ski-like share subjects"),
        (lambda c: c["targets"]["ski-like"].update(subjects="train"), "ski-like-target and source share subjects"),
        (lambda c: c["targets"]["ski-like"]["bodies"].update(seed=23), "ski-like-target and ski-like share a body"),
        (lambda c: c["targets"]["ski-like"]["camera"].update(lattice="odd"), "target and ski-like may share cameras"),
        (lambda c: c["targets"]["ski-like"]["background"].update(pool="test"), "share background pools test"),
        (
            lambda c: c["targets"]["ski-like"].update(clips=["kick"], easy=[]),
            "target and 3dhp-like share clips",
        ),
        (lambda c: c["tests"]["ski-like"].update(windows="any"), "may share moments: windows odd, any"),
    ],
)
def test_a_leak_is_found_and_named(config: dict, change, message: str) -> None:
    change(config)
    with pytest.raises(ConfigError, match=message):
        prove_disjoint(load_split(config))


def test_digest_changes_with_any_number(config: dict) -> None:
    changed = copy.deepcopy(config)
    changed["tests"]["ski-like"]["camera"]["roll_deg"] = [-6, 7]
    assert load_split(config).digest == load_split().digest
    assert load_split(changed).digest != load_split().digest


def test_bodies_are_repeatable_and_plausible() -> None:
    betas = Bodies(200, 5, spread=2.0).betas()
    assert torch.equal(betas, Bodies(200, 5, spread=2.0).betas())
    assert float(betas[:, 0].abs().max()) <= 1.5 and float(betas.abs().max()) <= 2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["tests"]["ski-like"].update(clip=["roll"]), "unknown keys"),
        (lambda c: c["tests"]["ski-like"]["camera"].update(azimut_deg=[[0, 1]]), "unknown keys"),
        (lambda c: c["tests"]["ski-like"]["camera"].update(roll_deg=[3, -3]), "no range"),
        (lambda c: c["tests"]["ski-like"].update(subjects="skiers"), "unknown group of subjects"),
        (lambda c: c["tests"]["ski-like"]["background"].update(pool="snow"), "unknown background pool"),
        (lambda c: c["tests"]["ski-like"].pop("bodies"), "incomplete"),
        (lambda c: c["tests"]["ski-like"]["camera"].update(elevation_deg="-1"), "elevation_deg must be two numbers"),
        (lambda c: c["tests"]["ski-like"]["bodies"].update(count="many"), "count must be a whole number"),
        (lambda c: c["tests"]["ski-like"]["look"].update(gain=[1, "x"]), "gain must be two numbers"),
        (lambda c: c.pop("tests"), "exactly five keys"),
        (lambda c: c["tests"]["ski-like"].update(windows="first"), "unknown windows"),
        (lambda c: c["tests"]["ski-like"].update(easy=["walk"]), "easy clips"),
        (lambda c: c["tests"]["ski-like"]["camera"].update(box="head"), "unknown box"),
        (lambda c: c["tests"]["ski-like"]["camera"].update(box_factor=0.5), "not possible"),
        (lambda c: c["targets"].update(skating={}), "is of no test"),
    ],
)
def test_mistakes_in_the_file_are_named(config: dict, change, message: str) -> None:
    change(config)
    with pytest.raises(ConfigError, match=message):
        load_split(config)


def test_unknown_names_get_the_choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="did you mean 'ski-like'"):
        load_split()["ski_like"]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="there is no split 'other'") as caught:
        load_split("other")
    assert "embedded" in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("clips", ["walk", 1.5]), ("easy", [True]), ("clips", [["walk"]])])
def test_clips_are_named_by_words(config: dict, key: str, value: list) -> None:
    config["tests"]["ski-like"][key] = value
    with pytest.raises(ConfigError, match=f"{key} are named by words"):
        load_split(config)
