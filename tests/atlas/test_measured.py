"""Errors shard by shard: kept, read again, and right for estimators of any joints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from people import crowd, measured_with
from shards_of_people import write_shards

from posegen.atlas.measured import Measured, measure, measured_shard
from posegen.atlas.sample import pictures_of, sample_of, tables_of
from posegen.body.joint_sets import LIMBS12, SMPL24
from posegen.errors import DataError
from posegen.scene import Prediction


class Shifted:
    """Says the truth with one wrist off by `off_m`, in the joints of a set; counts how often it is asked."""

    name, differentiable, image_size = "shifted", False, 32

    def __init__(self, truth: torch.Tensor, joint_set: str, off_m: float = 0.23) -> None:
        self.truth, self.joint_set, self.off_m, self.asked, self.place = truth, joint_set, off_m, 0, 0

    def __call__(self, images: torch.Tensor) -> Prediction:
        assert images.dtype == torch.float32 and float(images.max()) <= 1
        self.asked += 1
        joints = self.truth[self.place : self.place + len(images)].clone()
        self.place += len(images)
        joints[:, SMPL24.index("left_wrist"), 1] += self.off_m
        own = {"smpl24": SMPL24, "limbs12": LIMBS12}[self.joint_set]
        in_smpl, in_own = SMPL24.common(own)
        out = torch.zeros(len(joints), len(own), 3)
        out[:, in_own] = joints[:, in_smpl]
        return Prediction(out - own.root_of(out), self.joint_set)


@pytest.fixture(scope="module")
def people():
    sample, _ = crowd(each=4)
    return sample


def images_of(count: int) -> torch.Tensor:
    return torch.full((count, 3, 32, 32), 100, dtype=torch.uint8)


@pytest.mark.parametrize(("joint_set", "joints"), [("smpl24", 24), ("limbs12", 12)])
def test_one_wrong_wrist_is_the_whole_error(people, joint_set: str, joints: int):
    truth = torch.from_numpy(people.joints_cam_m).float()
    estimator = Shifted(truth, joint_set)
    found = measure(estimator, images_of(12), truth, people.row_id, batch=5)
    wrist = found.joint_names.index("left_wrist")
    assert len(found.joint_names) == joints
    assert found.joint_errors_mm[:, wrist] == pytest.approx(230, abs=0.1)
    assert np.delete(found.joint_errors_mm, wrist, 1) == pytest.approx(0, abs=0.01)
    assert found.mpjpe_mm == pytest.approx(230 / joints, abs=0.1)
    assert estimator.asked == 3
    # Put at the true root, all but the wrist lie on the truth; what the estimator does not know is NaN.
    known = [SMPL24.index(name) for name in found.joint_names if name != "left_wrist"]
    assert found.predicted_cam_m[:, known] == pytest.approx(people.joints_cam_m[:, known], abs=1e-5)
    assert np.isnan(found.predicted_cam_m).any() == (joints < 24)


def test_errors_are_kept_and_read_again(people, tmp_path: Path):
    write_shards(tmp_path / "rows", people, per_shard=5)
    truth = torch.from_numpy(people.joints_cam_m).float()
    estimator = Shifted(truth, "limbs12")
    made = [measured_shard(tmp_path / f"{name}.npz", table, lambda: estimator, 64)
            for name, table in tables_of(tmp_path / "rows")]  # fmt: skip

    def never():
        raise AssertionError("it was measured before")

    again = [measured_shard(tmp_path / f"{name}.npz", table, never, 64) for name, table in tables_of(tmp_path / "rows")]
    one, two = Measured.joined(made), Measured.joined(again)
    assert one.row_id.tolist() == two.row_id.tolist() == list(range(12))
    assert two.joint_errors_mm == pytest.approx(one.joint_errors_mm, abs=1e-3)
    assert two.joint_names == one.joint_names


def test_a_damaged_file_is_measured_again(people, tmp_path: Path):
    write_shards(tmp_path / "rows", people, per_shard=12)
    truth = torch.from_numpy(people.joints_cam_m).float()
    ((name, table),) = tables_of(tmp_path / "rows")
    file = tmp_path / f"{name}.npz"
    file.write_bytes(b"PK\x03\x04 cut short")
    found = measured_shard(file, table, lambda: Shifted(truth, "smpl24"), 64)
    assert found.mpjpe_mm == pytest.approx(230 / 24, abs=0.1)
    assert Measured.load(file).mpjpe_mm == pytest.approx(found.mpjpe_mm, abs=1e-3)


def test_parts_that_compare_other_joints_are_not_joined(people):
    whole = measured_with(people, np.full(12, 50.0))
    less = Measured(whole.row_id, LIMBS12.joints, np.zeros((12, 12)), np.zeros(12), whole.predicted_cam_m)
    with pytest.raises(DataError, match="other joints"):
        Measured.joined([whole, less])


def test_a_shard_gives_back_the_facts_that_went_in(people, tmp_path: Path):
    write_shards(tmp_path / "rows", people, per_shard=7)
    parts = [sample_of(table, "pool", ["ada"], lambda seeds: np.full(len(seeds), "room"))
             for _, table in tables_of(tmp_path / "rows")]  # fmt: skip
    assert [len(part) for part in parts] == [7, 5]
    first = parts[0]
    for name in ("trunk_tilt_deg", "elevation_deg", "azimuth_deg", "distance_m", "pelvis_height"):
        assert first.facts[name] == pytest.approx(people.facts[name][:7], abs=1e-2), name
    assert first.facts.labels["subject"].tolist() == ["ada"] * 7


def test_pictures_are_read_by_row_and_a_missing_one_is_told(people, tmp_path: Path):
    write_shards(tmp_path / "rows", people, per_shard=5)
    found = pictures_of(tmp_path / "rows", [11, 3])
    assert sorted(found) == [3, 11]
    assert found[3].shape == (32, 32, 3)
    assert (found[3] == 3).all() and (found[11] == 11).all()  # each picture has its row's grey
    with pytest.raises(DataError, match="rows \\[99\\]"):
        pictures_of(tmp_path / "rows", [99])
