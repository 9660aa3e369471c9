"""The target in a run directory: lifted once, held out honestly, errors and weights of estimators, the account."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from posegen.arms.registry import arm_of
from posegen.benchmarks.embedded.target_parts import build_target
from posegen.body.joint_sets import LIMBS12
from posegen.body.model import load_body
from posegen.cli import dispatch
from posegen.config import compose
from posegen.errors import ConfigError, DataError
from posegen.estimator.crop import CropConvention
from posegen.experiment import target_stages
from posegen.experiment.plans import ArmRound
from posegen.experiment.stages import RunFolder, digest_of
from posegen.experiment.summary import budgets
from posegen.experiment.target_account import by_view, target_account
from posegen.experiment.target_stages import TargetStages, of_earlier
from posegen.files.arrays import read_npy
from posegen.scene import Prediction
from posegen.target.config import TargetConfig
from posegen.target.crops import TargetCrops
from posegen.target.embedded import write_target_folder
from posegen.target.lift.sequence import camera_joints
from posegen.target.lifted import Lifted, read_lifted
from posegen.target.opinion import second_opinion, seen_by
from posegen.target.people import people_of, read_people
from posegen.target.readers import read_target
from posegen.target.weighing import weights_of_people

pytestmark = pytest.mark.usefixtures("assets")
PEOPLE = 12
SMALL = ("dictionary: 1500", "candidates: 4", "first_steps: 2", "steps: 2")


class Bar:
    def update(self, *told: object) -> None:
        """Nobody watches."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("target")
    write_target_folder(where, ["validation"], PEOPLE, "embedded", noise_px=0.0)
    return where


def stages(folder: Path, run: Path, *words: str) -> tuple[TargetStages, list[str]]:
    config = compose(
        ["experiment=smoke", f"target.images={folder / 'pictures'}", f"target.keypoints={folder / 'keypoints.npz'}",
         "target.held_share=0.25", "target.hypotheses=3", f"++target.lifting={{{', '.join(SMALL)}}}", *words]
    )  # fmt: skip
    done: list[str] = []

    def stage(name, title, digest, total, work):
        marker = RunFolder(run).run_stage(name, digest, lambda: (done.append(name), work(Bar()))[1])
        return marker

    return TargetStages(config, RunFolder(run), stage), done


def test_the_embedded_target_is_what_a_user_has(folder: Path) -> None:
    target = read_target(TargetConfig(images=str(folder / "pictures"), keypoints=str(folder / "keypoints.npz")))
    part = build_target("validation", PEOPLE, keypoints=LIMBS12.name)
    assert len(target) == PEOPLE and target.joint_set == "limbs12"
    pixels = np.asarray(Image.open(target.pictures[3]))
    np.testing.assert_array_equal(pixels, part.images[3].permute(1, 2, 0).numpy())
    rows = TargetCrops(people_of(target, 0.0), CropConvention(96, stretch=False)).rows([3])
    assert (rows.images[0].int() - part.images[3].int()).abs().max() <= 1
    torch.testing.assert_close(rows.keypoints[0, :, :2], part.keypoints[3, :, :2] / 48 - 1, atol=1e-4, rtol=0)


def test_wider_pictures_hold_the_same_person(tmp_path: Path) -> None:
    write_target_folder(tmp_path, ["validation"], 8, "embedded", noise_px=0.0, margin=2.0)
    target = read_target(TargetConfig(images=str(tmp_path / "pictures"), keypoints=str(tmp_path / "keypoints.npz")))
    assert Image.open(target.pictures[0]).size == (192, 192)
    assert target.boxes is not None and target.boxes[0].tolist() == [48.0, 48.0, 96.0, 96.0]
    inside = (target.keypoints[..., :2] >= 40) & (target.keypoints[..., :2] <= 152)
    assert inside.mean() > 0.98


def test_a_target_is_lifted_once_and_anew_when_it_changes(folder: Path, tmp_path: Path) -> None:
    first, done = stages(folder, tmp_path)
    files = first.files()
    assert files is not None and done == ["target"]
    people, lifted = read_people(Path(files.people)), read_lifted(files.lifted)
    assert people.held.sum() == 3 and len(lifted) == PEOPLE - 3
    assert set(lifted.names) == set(people.shown.target.names)
    assert not set(lifted.names) & set(people.kept_back.target.names)
    assert (tmp_path / "target" / "sheet.png").stat().st_size > 5000
    again, done = stages(folder, tmp_path)
    assert again.files() == files and done == []
    other, done = stages(folder, tmp_path, "target.held_share=0.5")
    other.files()
    assert done == ["target"]
    without = TargetStages(compose([]), RunFolder(tmp_path / "other"), lambda *_: {})
    assert without.files() is None and not without.given


def test_a_file_of_an_earlier_lifting_is_split_too(folder: Path, tmp_path: Path) -> None:
    first, _ = stages(folder, tmp_path / "a", "target.held_share=0")
    files = first.files()
    assert files is not None
    lifted = read_lifted(files.lifted)
    people, shown = of_earlier(lifted, 0.25)
    assert people.held.sum() == 3 and shown.names == people.shown.target.names
    picked = [lifted.names.index(name) for name in shown.names]
    torch.testing.assert_close(shown.hypotheses.pose, lifted.hypotheses.pose[picked])


def test_runs_that_drew_the_same_target_know_it_by_the_same_digest(folder: Path, tmp_path: Path) -> None:
    def digest(run: str, noise_px: float) -> str:
        drawn = ("target.images=null", "target.keypoints=null", "target.embedded=[3dpw-like]")
        sizes = ("target.embedded_images=8", f"target.embedded_noise_px={noise_px}")
        made, _ = stages(folder, tmp_path / run, *drawn, *sizes)
        files = made.files()
        assert files is not None
        config = replace(made.config, target=replace(made.config.target, embedded_noise_px=0.0))  # files alone count
        return digest_of(ArmRound(arm_of("anchors"), target=files).target_digest(config))

    assert digest("a", 1.0) == digest("b", 1.0) != digest("c", 2.0)


def test_people_weigh_by_how_the_estimator_reprojects(folder: Path, tmp_path: Path) -> None:
    made, done = stages(folder, tmp_path, "target.follow=error", "target.follow_power=2")
    files = made.weighed("posegen", None)
    assert files is not None and files.weights is not None and "target/error/posegen-shown" in done
    errors = made.errors_of("posegen", None, held=False)
    expected = errors**2 / (errors**2).mean()
    np.testing.assert_allclose(read_npy(files.weights, "weights"), expected, rtol=1e-4)
    plain, _ = stages(folder, tmp_path)
    assert plain.weighed("posegen", None) == plain.files()


def test_a_second_opinion_brings_what_it_agrees_with_to_the_front(folder: Path, tmp_path: Path) -> None:
    made, _ = stages(folder, tmp_path)
    files = made.files()
    assert files is not None
    lifted, people = read_lifted(files.lifted), read_people(Path(files.people)).shown
    body = load_body(resolution="low")
    last = camera_joints(lifted.hypotheses, body)[:, -1]

    class Says:
        name, joint_set, differentiable, image_size, at = "says", "smpl24", False, 48, 0

        def __call__(self, images: torch.Tensor) -> Prediction:
            self.at += len(images)
            return Prediction(last[self.at - len(images) : self.at], "smpl24")

    says = Says()
    seen = seen_by(says, people, tmp_path / "parts")
    assert says.at == len(people) and torch.equal(seen_by(says, people, tmp_path / "parts"), seen)
    assert says.at == len(people), "asked once: the second time reads what is kept"
    after = second_opinion(lifted, seen, "smpl24", body, 0.002)
    torch.testing.assert_close(after.hypotheses.pose[:, 0], lifted.hypotheses.pose[:, -1])
    none = second_opinion(lifted, seen, "smpl24", body, 1e6)
    torch.testing.assert_close(none.hypotheses.weight, lifted.hypotheses.weight, atol=1e-4, rtol=0)
    seen[0] = torch.nan  # nothing was seen in its picture
    one = second_opinion(lifted, seen, "smpl24", body, 0.002)
    torch.testing.assert_close(one.hypotheses.weight[0], lifted.hypotheses.weight[0])
    torch.testing.assert_close(one.hypotheses.weight[1:], after.hypotheses.weight[1:])


def test_the_command_asks_for_a_second_opinion_too(folder: Path, tmp_path: Path) -> None:
    known = f"target.keypoints={folder / 'keypoints.npz'}"
    words = [
        "lift",
        known,
        "target.agree_with=hmr_small",
        "target.agree_mm=5",
        "target.hypotheses=3",
        f"++target.lifting={{{', '.join(SMALL)}}}",
    ]
    for name, more in (("alone", "target.agree_with=null"), ("asked", f"target.images={folder / 'pictures'}")):
        assert dispatch([*words, more, f"target.output={tmp_path / name}"]) == 0
    alone, asked = (read_lifted(tmp_path / name / "lifted.npz").hypotheses for name in ("alone", "asked"))
    torch.testing.assert_close(asked.score.sort(1).values, alone.score.sort(1).values)
    assert (asked.weight[:, 0] > alone.weight[:, 0]).float().mean() > 0.5, "an opinion makes the choice clearer"
    for more, error, said in (
        ((), DataError, "known by keypoints alone"),
        ((f"target.images={folder / 'pictures'}", "target.agree_with=hmr_smaller"), ConfigError, "hmr_smaller"),
    ):
        with pytest.raises(error, match=said):
            dispatch([*words, *more, f"target.output={tmp_path / 'refused'}"])
        assert not (tmp_path / "refused").exists(), "said before anything is lifted"


def test_weights_of_people() -> None:
    now, before = torch.tensor([0.1, math.nan, 0.3]), torch.tensor([0.3, 0.2, 0.3])
    assert weights_of_people("none", now, before).tolist() == [1, 1, 1]
    assert weights_of_people("error", now, None).tolist() == pytest.approx([0.5, 1.0, 1.5])
    assert weights_of_people("progress", now, None).tolist() == [1, 1, 1]
    follow = weights_of_people("progress", now, before)
    assert follow[0] > 2 * follow[1] and follow[1] == follow[2]


def test_the_account_says_who_is_failed_on_before_and_after(folder: Path, tmp_path: Path) -> None:
    made, _ = stages(folder, tmp_path)
    told = target_account(made, made.config, {"before": None, "anchors": None}, "anchors")
    assert told is not None
    assert told["people"] == PEOPLE - 3 and told["held_out"] == 3
    cell = told["reprojection"]["anchors"]
    errors = 50 * made.errors_of("before", None, held=True)
    assert cell["value"] == pytest.approx(errors.mean()) and cell["images"] == 3
    assert cell["change"]["value"] == pytest.approx(0.0), "the same weights"
    assert (tmp_path / "target" / "failures.png").stat().st_size > 5000
    assert {row["name"] for row in told["by_view"]} >= {"camera below -10°", "camera 10 to 30°", "sideways"}
    cameras = [row["people"] for row in told["by_view"] if row["name"].startswith("camera")]
    assert sum(cameras) == PEOPLE - 3


def test_errors_by_view(folder: Path, tmp_path: Path) -> None:
    made, _ = stages(folder, tmp_path)
    files = made.files()
    assert files is not None
    lifted = read_lifted(files.lifted)
    h = lifted.hypotheses
    pose = torch.zeros_like(h.pose)
    pose[:5, :, 0, 1] = math.pi  # five turn their backs to the camera, the others face it
    elevation = torch.zeros_like(h.elevation_rad)
    elevation[5:] = math.radians(45)
    asked: Lifted = replace(lifted, hypotheses=replace(h, pose=pose, elevation_rad=elevation))
    before = np.array([0.2] * 5 + [0.1, math.nan, 0.1, 0.1])
    rows = {row["name"]: row for row in by_view(asked, before, before / 2)}
    away = rows["away from the camera"]
    assert away["people"] == 5 and away["before"] == pytest.approx(10.0) and away["after"] == pytest.approx(5.0)
    assert rows["camera -10 to 10°"]["people"] == 5 and rows["camera above 30°"]["people"] == 4
    assert rows["camera above 30°"]["before"] is None, "means of so few are not told"


def test_inputs_that_change_are_seen(tmp_path: Path) -> None:
    file = tmp_path / "k.npz"
    file.write_bytes(b"1")
    first = target_stages.inputs_digest(TargetConfig(keypoints=str(file)))
    file.write_bytes(b"12")
    assert target_stages.inputs_digest(TargetConfig(keypoints=str(file))) != first


def test_what_is_rendered_beyond_the_rows_is_counted() -> None:
    markers = {
        "finetune/posegen": {"rows": 10, "steps": 5, "kept_step": 5},
        "finetune/posegen-round2": {"rows": 10, "steps": 5, "kept_step": 0},
        "candidates/posegen": {"rendered": 30}, "candidates/posegen-round2": {"rendered": 30},
        "finetune/mined_random": {"rows": 20, "steps": 10}, "mining/mined_random": {"rendered": 60},
        "finetune/weak_labels": {"rows": 0, "steps": 10},
    }  # fmt: skip
    assert budgets(markers, ["before", "mined_random", "posegen", "weak_labels"]) == {
        "mined_random": {"images": 20, "rendered_to_choose": 60, "steps": 10},
        "posegen": {"images": 20, "rendered_to_choose": 60, "steps": 10, "kept_step": 5},
        "weak_labels": {"images": 0, "rendered_to_choose": 0, "steps": 10},
    }
