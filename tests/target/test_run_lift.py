"""A whole target: chunks that are kept, the files written, the command, and scenes around what was lifted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lifting_truth import keypoints_of

from posegen.adversarial.target import of_lifted
from posegen.arms.proposals import build_proposals
from posegen.arms.registry import arm_of
from posegen.body.cameras import viewing_angles
from posegen.body.model import BodyModel, load_body
from posegen.body.rotations import aa_to_matrix
from posegen.cli import dispatch
from posegen.config import compose
from posegen.errors import ConfigError, DataError
from posegen.scenes.split import load_split
from posegen.scenes.world import real_poses
from posegen.target import run_lift
from posegen.target.anchors import anchors_of
from posegen.target.config import TargetConfig
from posegen.target.lift.sequence import agreed, camera_joints, over_time
from posegen.target.lifted import Lifted, read_lifted, write_lifted
from posegen.target.readers.own import write_target
from posegen.target.record import Target
from posegen.target.run_lift import lift

SMALL = {"dictionary": 1500, "candidates": 4, "first_steps": 2, "steps": 2}
CONFIG = TargetConfig(hypotheses=3, chunk=4, lifting=SMALL)


@pytest.fixture(scope="module")
def body(assets) -> BodyModel:
    return load_body(resolution="low")


@pytest.fixture(scope="module")
def target() -> Target:
    points, _ = keypoints_of(load_split("embedded")["validation"], 10, seed=5)
    points[..., :2] = 100 + 80 * points[..., :2]
    return Target("limbs12", points.numpy(), tuple(f"{i}.png" for i in range(10)))


@pytest.fixture(scope="module")
def lifted(target: Target, body: BodyModel, tmp_path_factory) -> Lifted:
    folder = tmp_path_factory.mktemp("parts")
    return lift(target, body, real_poses(compose([])), CONFIG, folder, lambda *_: None)


def test_a_stopped_lifting_goes_on_where_it_was(
    target: Target, lifted: Lifted, body: BodyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poses, told = real_poses(compose([])), []

    def stop(what: str, done: int, total: int) -> None:
        told.append((what, done, total))
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lift(target, body, poses, CONFIG, tmp_path, stop)
    assert told == [("lifting", 4, 10), ("lifting", 8, 10)]
    files = sorted(tmp_path.glob("*.npz"))
    assert len(files) == 2
    files[0].write_bytes(files[0].read_bytes()[:200])  # half a file, as after a power cut
    made = []
    build = run_lift.Lifter.__call__
    monkeypatch.setattr(run_lift.Lifter, "__call__", lambda self, k: made.append(len(k)) or build(self, k))
    again = lift(target, body, poses, CONFIG, tmp_path, lambda *_: None)
    assert sum(made) == 6, "the damaged chunk and the missing one"
    torch.testing.assert_close(again.hypotheses.pose, lifted.hypotheses.pose)
    made.clear()
    lift(target, body, poses[:300], CONFIG, tmp_path, lambda *_: None)
    assert sum(made) == 10, "other real poses, other answers"


def test_the_file_comes_back_and_damage_is_told(lifted: Lifted, tmp_path: Path) -> None:
    path = write_lifted(lifted, tmp_path / "lifted.npz")
    back = read_lifted(path)
    torch.testing.assert_close(back.hypotheses.pose, lifted.hypotheses.pose)
    assert back.names == lifted.names
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **{**arrays, "score": arrays["score"][:, :2]})
    with pytest.raises(DataError, match="expected"):
        read_lifted(path)
    np.savez(path, score=arrays["score"])
    with pytest.raises(DataError, match="it lacks pose"):
        read_lifted(path)
    with pytest.raises(DataError, match="not there"):
        read_lifted(tmp_path / "none.npz")


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="did you mean 'dictionary'"):
        run_lift.lift_config(TargetConfig(lifting={"dictionry": 3}))
    with pytest.raises(ConfigError, match="9 hypotheses of 4"):
        run_lift.lift_config(TargetConfig(hypotheses=9, lifting={"candidates": 4}))


def test_the_groups_of_the_target() -> None:
    assert compose([]).target.keypoints is None
    chosen = compose(["target=pictures", "target.images=photos"]).target
    assert (chosen.images, chosen.min_confidence) == ("photos", 0.5)


def test_an_estimator_that_agrees_with_a_hypothesis_brings_it_to_the_front(lifted: Lifted, body: BodyModel) -> None:
    places = camera_joints(lifted.hypotheses, body)
    last = places[:, -1] - places[:, -1, [1, 2]].mean(1, keepdim=True)
    common = list(range(24))
    after = agreed(lifted.hypotheses, last, common, body, scale_m=0.002)
    torch.testing.assert_close(after.pose[:, 0], lifted.hypotheses.pose[:, -1])
    torch.testing.assert_close(after.weight.sum(1), torch.ones(len(lifted)))


def test_over_time_the_hypothesis_that_goes_on_is_preferred(lifted: Lifted, body: BodyModel) -> None:
    """Five frames of the same picture, in one of which another hypothesis happens to score best."""
    still = lifted.hypotheses[torch.zeros(5, dtype=torch.long)]
    score = still.score.clone()
    score[:, 0], score[:, 1:] = 0.0, 6.0
    places = camera_joints(still[0], body)[0]
    other = int((places - places[0]).norm(dim=-1).mean(1).argmax())
    score[2, 0], score[2, other] = 1.0, 0.0
    still = replace(still, score=score, weight=torch.softmax(-score, 1))
    assert int(still.weight[2].argmax()) == other
    after = over_time(still, ("walk",) * 5, np.arange(5), body, 1.0)
    torch.testing.assert_close(after.pose[2, 0], still.pose[2, 0])
    assert after.weight[2, 0] > 0.7
    assert over_time(still, (), None, body, 1.0) is still


def test_anchors_hold_the_people_as_the_camera_sees_them(lifted: Lifted) -> None:
    anchors = anchors_of(lifted, 1.0)
    assert float(anchors.weight.sum()) == pytest.approx(1.0, abs=1e-5)
    per_person = torch.zeros(len(lifted)).index_add_(0, anchors.image, anchors.weight)
    torch.testing.assert_close(per_person, torch.full((len(lifted),), 1 / len(lifted)), atol=1e-3, rtol=0)
    world, first = anchors.in_world(), int((anchors.image == 3).nonzero()[0])
    expected = aa_to_matrix(lifted.hypotheses.pose[3, 0])
    torch.testing.assert_close(aa_to_matrix(world[first]), expected, atol=1e-5, rtol=0)
    heavy = torch.zeros(len(lifted))
    heavy[3] = 2.0
    assert set(anchors.weighed(heavy).image[anchors.weighed(heavy).weight > 0].tolist()) == {3}
    with pytest.raises(DataError, match="not all 0"):
        anchors.weighed(torch.zeros(len(lifted)))


def test_scenes_around_anchors(lifted: Lifted) -> None:
    config = compose(["target.scene_share=1"])
    target = of_lifted(lifted, config.target, None, None)

    def proposal(*words: str):
        return build_proposals(compose(["target.scene_share=1", *words]), "anchors", subjects=8, target=target)

    propose = proposal()
    ids = torch.arange(300)
    scene = propose(ids)
    torch.testing.assert_close(propose(ids[37:38]).pose, scene.pose[37:38])
    torch.testing.assert_close(propose(ids[37:38]).camera.R, scene.camera.R[37:38])
    assert (proposal("seed=1")(ids).pose - scene.pose).abs().max() > 0.1
    body = load_body(resolution="low")
    points = scene.camera.project(body.joints(aa_to_matrix(scene.pose), scene.betas, scene.transl))
    assert points.min() > -40, "people are in their pictures"
    assert points.max() < 136
    assert (scene.camera.to_camera(body.joints(aa_to_matrix(scene.pose), scene.betas))[..., 2]).min() > 0.2
    azimuth, elevation = viewing_angles(scene.camera.R)
    assert azimuth.abs().max() <= np.deg2rad(25) + 1e-4
    anchors = anchors_of(lifted, 2.0)
    mean = (anchors.weight * anchors.elevation_rad).sum()
    assert (elevation.mean() - mean).abs() < 0.08
    assert set(scene.subject.tolist()) <= set(range(8))
    assert len(set(scene.background.tolist())) == 300
    with pytest.raises(ConfigError, match="none is given"):
        arm_of("anchors").check(compose([]))
    with pytest.raises(ConfigError, match="known by keypoints alone"):
        arm_of("weak_labels").check(compose(["target.keypoints=/dev/null"]))


def test_the_command(target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_target(target, tmp_path / "k.npz")
    small = [f"++target.lifting.{key}={value}" for key, value in SMALL.items()]
    words = ["lift", f"target.keypoints={file}", f"target.output={tmp_path / 'out'}", "target.hypotheses=3", *small]
    assert dispatch(words) == 0
    told = capsys.readouterr().out
    assert "10 people, 3 hypotheses each" in told
    assert f"next: posegen run target.lifted={tmp_path / 'out' / 'lifted.npz'}" in told
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["people"] == 10
    assert (tmp_path / "out" / "sheet.png").stat().st_size > 10000
    assert len(read_lifted(tmp_path / "out" / "lifted.npz")) == 10
    with pytest.raises(ConfigError, match="no target is given"):
        dispatch(["lift"])
