"""Rows of npz files that cannot be measured, and boxes in the wrong unit: counted and named, never a wrong number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_datasets import Sequential, skeletons, write_bodies, write_spin_npz

from posegen.benchmarks.measure.evaluate import evaluate
from posegen.benchmarks.measure.metrics import acceleration_error_mm
from posegen.benchmarks.protocol import build
from posegen.body.joint_sets import SPIN24
from posegen.errors import DataError
from posegen.estimator.spin_crop import spin_crop

NAMES = [f"TS1/img_{i:06d}.jpg" for i in range(1, 6)]
PELVIS = SPIN24.index("pelvis")


def joints(number: int = 5) -> np.ndarray:
    """Five frames of a person who stands four metres away."""
    return np.tile(skeletons(1, 24)[0] + [0.3, -0.2, 4.0], (number, 1, 1))


def npz(folder, confidence: np.ndarray | None = None, points: np.ndarray | None = None, **changes):
    points = joints() if points is None else points
    confidence = np.ones((5, 24)) if confidence is None else confidence
    stored = np.concatenate([points, confidence[..., None]], 2)
    write_spin_npz(folder / "mpi_inf_3dhp_valid.npz", NAMES, points, S=stored, **changes)
    return build("spin_npz", annotations=folder / "mpi_inf_3dhp_valid.npz")


def exact() -> Sequential:
    return Sequential(torch.from_numpy(joints()).float(), "spin24")


def test_rows_whose_root_does_not_count_are_left_out_and_said_so(tmp_path):
    confidence = np.ones((5, 24))
    confidence[1, PELVIS] = 0
    result = evaluate(exact(), npz(tmp_path, confidence), batch_size=2)
    assert result.metrics["mpjpe_mm"] == pytest.approx(0, abs=1e-2) and result.metrics["pck_150"] == 100
    assert result.counted == {"used": 4, "missing": 0, "damaged": 0, "failed": 0, "without_root": 1}
    assert result.skipped == [f"{NAMES[1]}#1"]
    assert "1 rows whose root joint is not annotated left out" in result.protocol


def test_a_file_without_any_root_is_refused_by_the_joints_name(tmp_path):
    confidence = np.ones((5, 24))
    confidence[:, PELVIS] = 0
    with pytest.raises(DataError, match=r"no row has an annotated root joint \(pelvis\)"):
        evaluate(exact(), npz(tmp_path, confidence))


def test_rows_without_any_joint_are_no_failures_and_no_acceleration(tmp_path):
    confidence, points = np.ones((5, 24)), joints()
    confidence[1], points[1] = 0, 0
    result = evaluate(exact(), npz(tmp_path, confidence, points))
    assert result.counted == {"used": 4, "missing": 0, "damaged": 0, "failed": 0, "without_truth": 1}
    assert result.metrics["acceleration_mm"] == pytest.approx(0, abs=1e-2)
    # Frames 1, 3, 4, 5 are left: only 4 has both neighbours.
    assert np.isfinite(result.per_image["acceleration_mm"]).tolist() == [False, False, True, False]


def test_a_joint_that_is_missing_within_a_clip_does_not_move(tmp_path):
    confidence = np.ones((5, 24))
    confidence[2, SPIN24.index("left_wrist")] = 0
    assert evaluate(exact(), npz(tmp_path, confidence)).metrics["acceleration_mm"] == pytest.approx(0, abs=1e-2)
    truth = torch.zeros(3, 2, 3)
    prediction = truth.clone()
    prediction[1, 0, 0], prediction[1, 1, 0] = 0.010, 0.030
    valid = torch.tensor([[True, True], [True, False], [True, True]])
    assert acceleration_error_mm(prediction, truth).tolist() == pytest.approx([40.0])  # (20 + 60) / 2
    assert acceleration_error_mm(prediction, truth, valid).tolist() == pytest.approx([20.0])


def test_the_viewpoint_of_a_trunk_that_is_not_annotated_is_unknown(tmp_path):
    confidence = np.ones((5, 24))
    confidence[2, SPIN24.index("left_shoulder")] = 0
    result = evaluate(exact(), npz(tmp_path, confidence))
    assert np.isnan(result.azimuth).tolist() == [False, False, True, False, False]


def test_scale_in_pixels_is_told_before_anything_is_read(tmp_path):
    with pytest.raises(DataError, match=r"side / 200 px: its median is 250"):
        npz(tmp_path, scale=np.full(5, 250.0))


def test_a_single_absurd_box_is_one_damaged_frame(tmp_path):
    scales = np.full(5, 0.2)
    scales[3] = 250.0
    npz(tmp_path, scale=scales)
    benchmark = build("spin_npz", annotations=tmp_path / "mpi_inf_3dhp_valid.npz", max_bad_share=0.5)
    result = evaluate(exact(), benchmark)
    assert result.counted["damaged"] == 1 and result.counted["used"] == 4
    assert result.skipped == [f"{NAMES[3]}#3"]


def test_a_crop_beyond_the_picture_is_that_of_the_whole_padded_box():
    """Against the plain way: pad, stretch, resize."""
    from PIL import Image

    picture = np.random.default_rng(0).integers(30, 200, (40, 60, 3)).astype(np.uint8)
    box = np.zeros((120, 120, 3), np.float64)
    box[40:80, 30:90] = picture
    whole = Image.fromarray((box * (255.0 / box.max()) + 0.5).astype(np.uint8)).resize(
        (64, 64), Image.Resampling.BILINEAR
    )
    assert (spin_crop(picture, (30.0, 20.0), 0.6, 64) == np.asarray(whole)).all()


def test_rows_without_smpl_parameters_are_no_truth(tmp_path):
    bodies = write_bodies(tmp_path / "smpl")
    rng = np.random.default_rng(0)
    arrays = {
        "pose": rng.normal(0, 0.2, (5, 72)), "shape": rng.normal(0, 1, (5, 10)), "gender": np.array(list("mfmfm")),
        "has_smpl": np.array([1, 1, 0, 1, 1]),
    }  # fmt: skip
    write_spin_npz(tmp_path / "3dpw_test.npz", NAMES, joints(), **arrays)
    benchmark = build("spin_npz", annotations=tmp_path / "3dpw_test.npz", body_path=bodies)
    truth = next(benchmark.batches(8))
    assert truth.ids == [f"{NAMES[i]}#{i}" for i in (0, 1, 3, 4)]
    result = evaluate(Sequential(truth.joints, "h36m17"), benchmark)
    assert result.metrics["mpjpe_mm"] == pytest.approx(0, abs=1e-2) and result.counted["without_truth"] == 1
    assert "all rows are" not in result.protocol
    write_spin_npz(tmp_path / "3dpw_test.npz", NAMES, joints(), **(arrays | {"gender": np.array([b"M"] * 5)}))
    one = build("spin_npz", annotations=tmp_path / "3dpw_test.npz", body_path=bodies)
    assert "all rows are male, 3DPW has both: not comparable" in str(one.protocol)
