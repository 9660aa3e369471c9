"""Human3.6M's original CDF files and masks, against SPIN's rules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_cdf import write_cdf
from tiny_datasets import Sequential, off_by_30, skeletons, write_picture

from posegen.benchmarks.measure.evaluate import evaluate
from posegen.benchmarks.protocol import build
from posegen.benchmarks.readers.cdf import read_variable
from posegen.benchmarks.readers.human36m import OF_32
from posegen.body.joint_sets import H36M17
from posegen.errors import DataError

FRONTAL, OTHER = "60457274", "54138969"


@pytest.mark.parametrize("column_major", [True, False])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("shape", [(1, 7, 96), (3, 4), (2, 3, 4, 5)])
def test_cdf_values(tmp_path, column_major, packed, shape):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    write_cdf(tmp_path / "a.cdf", "Pose", values, column_major, packed)
    np.testing.assert_array_equal(read_variable(tmp_path / "a.cdf", "Pose"), values)


def test_cdf_mistakes_are_named(tmp_path):
    write_cdf(tmp_path / "a.cdf", "Pose", np.ones((1, 3, 4), np.float32))
    with pytest.raises(DataError, match=r"no variable 'Poses'(.|\n)*Pose"):
        read_variable(tmp_path / "a.cdf", "Poses")
    whole = (tmp_path / "a.cdf").read_bytes()
    (tmp_path / "a.cdf").write_bytes(whole[:-20])
    with pytest.raises(DataError, match="cut short"):
        read_variable(tmp_path / "a.cdf", "Pose")
    (tmp_path / "a.cdf").write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(DataError, match="no CDF"):
        read_variable(tmp_path / "a.cdf", "Pose")


def make(root, frames: int = 11) -> dict[str, np.ndarray]:
    """S9 and S11, two cameras, one action with a number; masks and 2D joints. Returns joints (F,32,3) m by group."""
    import h5py

    truth = {}
    for subject in ("S9", "S11"):
        for camera in (OTHER, FRONTAL):
            joints = skeletons(frames, 32, int(camera) % 89 + len(subject)) + np.array([0.2, 0.1, 4.0])
            truth[f"{subject}_Walking_1.{camera}"] = joints
            features = root / subject / "MyPoseFeatures"
            name = f"Walking 1.{camera}"
            write_cdf(features / "D3_Positions_mono" / f"{name}.cdf", "Pose", 1000 * joints.reshape(1, frames, 96))
            points = np.random.default_rng(1).uniform(5, 40, (1, frames, 64))
            write_cdf(features / "D2_Positions" / f"{name}.cdf", "Pose", points)
            masks = root / subject / "MySegmentsMat" / "ground_truth_bb"
            masks.mkdir(parents=True, exist_ok=True)
            with h5py.File(masks / f"{name}.mat", "w", userblock_size=512) as mat:
                references = mat.create_dataset("Masks", (frames, 1), dtype=h5py.ref_dtype)
                for frame in range(frames):
                    mask = np.zeros((64, 48), np.uint8)  # stored transposed: (width, height)
                    mask[10:30, 5:45] = 1
                    references[frame, 0] = mat.create_dataset(f"#refs#/m{frame}", data=mask).ref
            for frame in range(0, frames, 5):
                write_picture(root / "images" / f"{subject}_Walking_1.{camera}_{frame + 1:06d}.jpg")
    return truth


@pytest.mark.parametrize(("protocol", "cameras"), [("h36m_p1", (OTHER, FRONTAL)), ("h36m_p2", (FRONTAL,))])
def test_every_fifth_frame_of_the_right_cameras(tmp_path, protocol, cameras):
    truth = make(tmp_path)
    benchmark = build(protocol, annotations=tmp_path)
    groups = [f"{s}_Walking_1.{c}" for s in ("S9", "S11") for c in cameras]
    assert [record.id for record in benchmark.frames()] == [f"{g}/{f:06d}" for g in groups for f in (1, 6, 11)]
    given = torch.tensor(np.concatenate([truth[g][::5] for g in groups])[:, OF_32]).float()
    result = evaluate(Sequential(given, "h36m17", off_by_30(H36M17.index("right_knee"))), benchmark)
    assert result.metrics["mpjpe_mm"] == pytest.approx(30 / 14, abs=1e-3)
    assert result.per_joint["right_knee"] == pytest.approx(30, abs=1e-3)
    assert "stride 5" in result.protocol and set(result.per_action) == {"Walking"}
    record = benchmark.frames()[0]
    assert record.centre_px == (20.0, 25.0) and record.scale == pytest.approx(0.9 * 40 / 200)


def test_boxes_of_joints(tmp_path):
    make(tmp_path)
    record = build("h36m_p2", annotations=tmp_path, box="joints").frames()[0]
    points = np.random.default_rng(1).uniform(5, 40, (1, 11, 64))[0, 0].reshape(32, 2)[list(OF_32)]
    assert record.scale == pytest.approx(1.2 * (points.max(0) - points.min(0)).max() / 200, rel=1e-5)


def test_missing_masks_and_subjects_are_named(tmp_path):
    make(tmp_path)
    next((tmp_path / "S11" / "MySegmentsMat" / "ground_truth_bb").glob(f"*{FRONTAL}.mat")).unlink()
    with pytest.raises(DataError, match=r"masks cannot be read(.|\n)*box=joints"):
        build("h36m_p2", annotations=tmp_path)
    (tmp_path / "S9").rename(tmp_path / "S1")
    with pytest.raises(DataError, match="subject S9"):
        build("h36m_p2", annotations=tmp_path)
