"""3DPW in the original layout, and as SPIN's npz: the same numbers; bad input is named."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from tiny_datasets import Sequential, make_3dpw, off_by_30, write_bodies

from posegen.benchmarks.measure.evaluate import evaluate
from posegen.benchmarks.protocol import build
from posegen.body.joint_sets import H36M17
from posegen.body.model import load_body
from posegen.errors import ConfigError, DataError

WRIST = H36M17.index("left_wrist")


@pytest.fixture
def bodies(tmp_path):
    return write_bodies(tmp_path / "smpl")


def test_the_truth_is_the_gendered_mesh_in_the_cameras_axes(tmp_path, bodies):
    truth = make_3dpw(tmp_path, bodies)
    benchmark = build("3dpw", annotations=tmp_path / "sequenceFiles", body_path=bodies)
    assert len(benchmark) == 6  # 4 of the man, 2 of the woman
    estimator = Sequential(truth, "h36m17", off_by_30(WRIST))
    result = evaluate(estimator, benchmark, batch_size=4)
    assert result.metrics["mpjpe_mm"] == pytest.approx(30 / 14, abs=1e-3)
    assert result.per_joint["left_wrist"] == pytest.approx(30, abs=1e-3)
    assert result.per_joint["right_wrist"] == pytest.approx(0, abs=1e-3)
    assert result.groups == ["downtown_test_00/0"] * 4 + ["downtown_test_00/1"] * 2
    assert result.counted == {"used": 6, "missing": 0, "damaged": 0, "failed": 0}
    assert estimator.seen[0].shape == (4, 3, 224, 224) and 0 <= estimator.seen[0].min() <= estimator.seen[0].max() <= 1
    assert np.isfinite(result.azimuth).all() and np.abs(result.elevation).max() <= np.pi / 2
    for part in ("14 of h36m17", "root pelvis", "male and female SMPL", "14 joints compared", "SPIN"):
        assert part in result.protocol


def test_the_gender_rule_changes_the_truth(tmp_path, bodies):
    truth = make_3dpw(tmp_path, bodies)
    neutral = build("3dpw", annotations=tmp_path, body_path=bodies, gender="neutral")
    result = evaluate(Sequential(truth, "h36m17"), neutral)
    assert result.metrics["mpjpe_mm"] > 20
    assert "not comparable" in result.protocol


def test_joints_and_vertices_come_from_the_estimators_mesh(tmp_path, bodies):
    """True rotations on the neutral body: the error is the difference of the bodies, joints and vertices alike."""
    make_3dpw(tmp_path, bodies)
    benchmark = build("3dpw", annotations=tmp_path, body_path=bodies)
    batch = next(benchmark.batches(6))
    from posegen.body.rotations import aa_to_matrix

    rotations = aa_to_matrix(batch.pose)
    body = load_body(bodies)
    estimator = Sequential(torch.zeros(6, 24, 3), "smpl24", rotations=rotations, betas=batch.betas)
    result = evaluate(estimator, benchmark, body=body)
    vertices = body(rotations, batch.betas).vertices
    joints = body.regress(vertices, "h36m17")
    apart = (vertices - joints[:, :1]) - (batch.vertices - batch.joints[:, :1])
    assert result.metrics["pve_mm"] == pytest.approx(1000 * apart.norm(dim=-1).mean().item(), rel=1e-5)
    assert "regressed from the mesh" in result.protocol


def test_spins_npz_gives_the_same_numbers(tmp_path, bodies):
    truth = make_3dpw(tmp_path, bodies)
    original = build("3dpw", annotations=tmp_path, body_path=bodies)
    posed = original.truth
    np.savez(
        tmp_path / "3dpw_test.npz",
        imgname=np.array([str(record.image).removeprefix(f"{tmp_path}/") for record in original.frames()]),
        center=np.array([record.centre_px for record in original.frames()]),
        scale=np.array([record.scale for record in original.frames()]),
        pose=posed.pose.reshape(-1, 72),
        shape=posed.betas,
        gender=np.array(["m"] * 4 + ["f"] * 2),
    )
    for name in ("spin_npz", "3dpw"):
        benchmark = build(name, annotations=tmp_path / "3dpw_test.npz", images=tmp_path, body_path=bodies)
        again = evaluate(Sequential(truth, "h36m17", off_by_30(WRIST)), benchmark)
        first = evaluate(Sequential(truth, "h36m17", off_by_30(WRIST)), original)
        assert again.metrics == pytest.approx(first.metrics, rel=1e-6, nan_ok=True)
        assert len(set(again.groups)) == 2  # the woman's frames begin again: another group


def test_boxes_follow_the_detected_joints_only(tmp_path, bodies):
    make_3dpw(tmp_path, bodies)
    record = build("3dpw", annotations=tmp_path, body_path=bodies).frames()[0]
    assert record.scale < 1.2 * 35 / 200 + 1e-9 and max(record.centre_px) < 40


def test_missing_pictures_are_counted_named_and_fatal_above_the_share(tmp_path, bodies):
    truth = make_3dpw(tmp_path, bodies)
    pictures = tmp_path / "imageFiles" / "downtown_test_00"
    (pictures / "image_00001.jpg").unlink()
    (pictures / "image_00003.jpg").write_bytes(b"\xff\xd8 cut short")
    options = {"annotations": tmp_path, "body_path": bodies}
    with pytest.raises(DataError, match=r"1 of 6 frames cannot be used, more than 1.0% \(downtown_test_00/0/00001\)"):
        evaluate(Sequential(truth, "h36m17"), build("3dpw", **options))
    # Man 0..3, woman 0 and 3: frame 1 is missing once, frame 3 damaged twice.
    benchmark = build("3dpw", **options, max_bad_share=0.5)
    result = evaluate(Sequential(truth[[0, 2, 4]], "h36m17"), benchmark, batch_size=2)
    assert result.counted == {"used": 3, "missing": 1, "damaged": 2, "failed": 0}
    assert result.metrics["mpjpe_mm"] == pytest.approx(0, abs=1e-3)
    assert result.skipped == ["downtown_test_00/0/00001", "downtown_test_00/0/00003", "downtown_test_00/1/00003"]
    with pytest.raises(DataError, match="none of the first pictures"):
        build("3dpw", **options, images=tmp_path / "smpl")


@pytest.mark.parametrize(
    ("corrupt", "text"),
    [
        (lambda d: d.pop("cam_poses"), "cam_poses missing"),
        (
            lambda d: d["poses"][0].__setitem__((2, 5), np.nan),
            r"poses: NaN or infinite values in 1 item\(s\), first frame 2",
        ),
        (lambda d: d.__setitem__("poses", [d["poses"][0][:, :66]] * 2), r"expected \(T, 72\)"),
        (lambda d: d.__setitem__("poses2d", [p[:, :, :17] for p in d["poses2d"]]), r"expected \(T, 3, 18\)"),
        (lambda d: d.__setitem__("genders", ["m", "x"]), "unknown gender 'x'"),
    ],
)
def test_bad_annotations_are_named(tmp_path, bodies, corrupt, text):
    # The fixture cannot compute a truth from broken annotations; its files are written before.
    with contextlib.suppress(KeyError, RuntimeError, ValueError):
        make_3dpw(tmp_path, bodies, corrupt=corrupt)
    with pytest.raises(DataError, match=text):
        build("3dpw", annotations=tmp_path, body_path=bodies)


def test_a_pickle_that_would_run_code_is_refused(tmp_path, bodies):
    make_3dpw(tmp_path, bodies)
    (tmp_path / "sequenceFiles/test/zz.pkl").write_bytes(b"cposix\nsystem\n(S'echo'\ntR.")
    with pytest.raises(DataError, match=r"posix\.system"):
        build("3dpw", annotations=tmp_path, body_path=bodies)


def test_options_are_checked(tmp_path, bodies):
    make_3dpw(tmp_path, bodies)
    with pytest.raises(ConfigError, match="did you mean 'max_bad_share'"):
        build("3dpw", annotations=tmp_path, body_path=bodies, max_bad_shares=1)
    with pytest.raises(ConfigError, match="body"):
        build("3dpw", annotations=tmp_path)
    with pytest.raises(ConfigError, match="needs annotations"):
        build("3dpw")
    (bodies / "J_regressor_h36m.npy").unlink()
    with pytest.raises(DataError, match="J_regressor_h36m"):
        build("3dpw", annotations=tmp_path, body_path=bodies)


def test_stride_and_limit_thin_the_frames(tmp_path, bodies):
    make_3dpw(tmp_path, bodies)
    benchmark = build("3dpw", annotations=tmp_path, body_path=bodies, stride=2, limit=2)
    assert [record.frame for record in benchmark.frames()] == [0, 2] and "stride 2" in str(benchmark.protocol)
