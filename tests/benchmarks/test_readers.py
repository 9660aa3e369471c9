"""MPI-INF-3DHP, Ski-PosePTZ, EMDB, Human3.6M and HMR 2.0's npz: original layouts, whole path, known errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_datasets import (
    Sequential,
    make_3dhp_test,
    make_emdb,
    make_ski,
    off_by_30,
    skeletons,
    write_bodies,
    write_picture,
    write_spin_npz,
)

from posegen.benchmarks.measure.evaluate import evaluate
from posegen.benchmarks.protocol import build
from posegen.body.joint_sets import H36M17, HMR2_EXTRA19, MPI_INF_3DHP17, MPI_INF_3DHP28, SMPL24, SPIN24
from posegen.errors import ConfigError, DataError


def to_h36m(joints: torch.Tensor, names) -> torch.Tensor:
    """The same people in Human3.6M's order."""
    return joints[:, [names.index(name) for name in H36M17.joints]]


def test_3dhp_counts_mpjpe_on_17_and_pck_on_14(tmp_path):
    truth = make_3dhp_test(tmp_path)[[0, 1, 3, 4]]
    benchmark = build("mpi_inf_3dhp", annotations=tmp_path)
    spoil = off_by_30(H36M17.index("spine"))
    result = evaluate(Sequential(to_h36m(truth, MPI_INF_3DHP17), "h36m17", spoil), benchmark)
    assert result.metrics["mpjpe_mm"] == pytest.approx(30 / 17, abs=1e-3)
    assert result.metrics["auc"] == pytest.approx(100 * 30 / 31, abs=1e-3)  # the spine is none of the 14
    assert result.actions == ["standing/walking", "standing/walking", "sports", "sports"]
    assert result.per_action["sports"]["images"] == 2 and set(result.groups) == {"TS1"}
    assert "PCK and AUC on 14" in result.protocol and "univ_annot3" in result.protocol
    assert [record.image[-14:] for record in benchmark.frames()][2] == "img_000004.jpg"


def test_3dhp_acceleration_needs_neighbours_in_time(tmp_path):
    truth = make_3dhp_test(tmp_path)[[0, 1, 3, 4]]
    benchmark = build("mpi_inf_3dhp", annotations=tmp_path)
    values = evaluate(Sequential(to_h36m(truth, MPI_INF_3DHP17), "h36m17"), benchmark).per_image["acceleration_mm"]
    assert np.isnan(values).all()  # frames 0, 1, 3, 4: none has both neighbours


def test_3dhp_inside_only_drops_what_spin_drops(tmp_path):
    make_3dhp_test(tmp_path)
    benchmark = build("mpi_inf_3dhp", annotations=tmp_path / "mpi_inf_3dhp_test_set", inside_only=True)
    assert [record.frame for record in benchmark.frames()] == [0, 1, 4]
    assert "inside the picture" in str(benchmark.protocol)


def test_3dhp_metres_for_millimetres_are_named(tmp_path):
    make_3dhp_test(tmp_path, unit=1.0)
    with pytest.raises(DataError, match=r"must be in mm: people measure 1\.\d+, which looks like m"):
        build("mpi_inf_3dhp", annotations=tmp_path)


def test_3dhp_another_joint_count_is_named(tmp_path):
    make_3dhp_test(tmp_path, joints=28)
    with pytest.raises(DataError, match=r"annot2 has shape .*expected \(5, 1, 17, 2\)"):
        build("mpi_inf_3dhp", annotations=tmp_path)


def test_3dhp_a_file_that_is_no_hdf5_is_named(tmp_path):
    make_3dhp_test(tmp_path)
    (tmp_path / "mpi_inf_3dhp_test_set/TS1/annot_data.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(DataError, match=r"MATLAB v7\.3"):
        build("mpi_inf_3dhp", annotations=tmp_path)


def test_3dhp_a_picture_of_another_size_is_damaged(tmp_path):
    make_3dhp_test(tmp_path)
    write_picture(tmp_path / "mpi_inf_3dhp_test_set/TS1/imageSequence/img_000005.jpg", (32, 24))
    with pytest.raises(DataError, match="is 32x24 px, its annotations are for 64x48"):
        list(build("mpi_inf_3dhp", annotations=tmp_path).batches(8))


def test_3dhp_training_annotations(tmp_path):
    import scipy.io

    frames = 21
    truth = skeletons(frames, 28, 1)
    points = np.random.default_rng(2).uniform(500, 1500, (frames, 56))
    points[10, 8] = -5  # the pelvis (joint 4) of frame 10 outside of the picture
    annot2, annot3 = np.empty((14, 1), object), np.empty((14, 1), object)
    for camera in range(14):
        annot2[camera, 0], annot3[camera, 0] = points, truth.reshape(frames, 84) * 1000
    folder = tmp_path / "S1" / "Seq1"
    folder.mkdir(parents=True)
    scipy.io.savemat(folder / "annot.mat", {"annot2": annot2, "annot3": annot3})
    write_picture(folder / "imageFrames/video_0/frame_000001.jpg", (2048, 2048))
    write_picture(folder / "imageFrames/video_0/frame_000021.jpg", (2048, 2048))
    benchmark = build("mpi_inf_3dhp", annotations=tmp_path, split="train", limit=2)
    assert [record.frame for record in benchmark.frames()] == [0, 20]
    given = torch.from_numpy(truth[[0, 20]]).float()
    result = evaluate(Sequential(to_h36m(given, MPI_INF_3DHP28), "h36m17", off_by_30(3)), benchmark)
    assert result.metrics["mpjpe_mm"] == pytest.approx(30 / 17, abs=1e-3)


@pytest.mark.parametrize("exchanged", [False, True])
def test_ski_legs_are_named_by_the_side_they_are_on(tmp_path, exchanged):
    truth = make_ski(tmp_path, exchanged=exchanged)
    benchmark = build("ski_poseptz", annotations=tmp_path)
    result = evaluate(Sequential(truth, "h36m17", off_by_30(H36M17.index("left_ankle"))), benchmark)
    assert result.metrics["mpjpe_mm"] == pytest.approx(30 / 14, abs=1e-3)
    assert result.per_joint["left_ankle"] == pytest.approx(30, abs=1e-3)
    assert ("legs of the truth exchanged" in result.protocol) == exchanged
    assert set(result.groups) == {"seq_002"}  # its cameras see the same skier at the same time
    wrong = build("ski_poseptz", annotations=tmp_path, legs="as_stored" if exchanged else "exchanged")
    assert evaluate(Sequential(truth, "h36m17"), wrong).metrics["mpjpe_mm"] > 100


def test_ski_whole_pictures_and_boxes_of_joints(tmp_path):
    make_ski(tmp_path)
    whole = build("ski_poseptz", annotations=tmp_path / "test" / "labels.h5").frames()[0]
    assert whole.centre_px == (128, 128) and whole.scale * 200 == pytest.approx(256)
    assert build("ski_poseptz", annotations=tmp_path, box="joints").frames()[0].scale * 200 < 1.2 * 0.4 * 256 + 1e-6


def test_ski_millimetres_are_named(tmp_path):
    make_ski(tmp_path, scale=1000)
    with pytest.raises(DataError, match="must be in m: these are in mm"):
        build("ski_poseptz", annotations=tmp_path)


def test_emdb_uses_the_persons_body_the_good_frames_and_the_hips(tmp_path):
    bodies = write_bodies(tmp_path / "smpl")
    joints, vertices = make_emdb(tmp_path / "emdb", bodies)
    benchmark = build("emdb", annotations=tmp_path / "emdb", body_path=bodies)
    assert [record.frame for record in benchmark.frames()] == [0, 2, 3]
    root = joints[:, 1:3].mean(1, keepdim=True)
    estimator = Sequential(joints, "smpl24", off_by_30(SMPL24.index("head")), vertices=vertices - root)
    result = evaluate(estimator, benchmark)
    assert result.metrics["mpjpe_mm"] == pytest.approx(30 / 24, abs=1e-3)
    assert result.protocol.startswith("emdb: joints smpl24; root left_hip+right_hip")
    assert len(build("emdb", annotations=tmp_path / "emdb" / "P1", body_path=bodies, subset="all")) == 6


def test_emdb_mesh_error(tmp_path):
    bodies = write_bodies(tmp_path / "smpl")
    joints, vertices = make_emdb(tmp_path / "emdb", bodies)
    benchmark = build("emdb", annotations=tmp_path / "emdb", body_path=bodies)
    vertices = vertices.clone()
    vertices[:, 0, 2] += 0.4
    result = evaluate(Sequential(joints, "smpl24", vertices=vertices), benchmark)
    assert result.metrics["pve_mm"] == pytest.approx(10, abs=1e-3)  # one of 40 vertices


def h36m_names() -> list[str]:
    cameras = ("54138969", "60457274")
    return [f"images/S9_Walking_1.{c}_{f:06d}.jpg" for c in cameras for f in (1, 6, 11)] + [
        f"images/S11_Sitting.60457274_{f:06d}.jpg" for f in (1, 6)
    ]


@pytest.mark.parametrize(("protocol", "rows"), [("h36m_p1", list(range(8))), ("h36m_p2", [3, 4, 5, 6, 7])])
def test_h36m_protocols_differ_in_cameras(tmp_path, protocol, rows):
    truth = skeletons(8, 24, 3)
    write_spin_npz(tmp_path / "h36m_valid_protocol1.npz", h36m_names(), truth)
    benchmark = build(protocol, annotations=tmp_path / "h36m_valid_protocol1.npz")
    given = to_h36m(torch.from_numpy(truth[rows]).float(), SPIN24)
    result = evaluate(Sequential(given, "h36m17", off_by_30(H36M17.index("head_top"))), benchmark)
    assert result.metrics["mpjpe_mm"] == pytest.approx(30 / 14, abs=1e-3)
    assert set(result.per_action) == {"Walking", "Sitting"}
    assert "stride 5" in result.protocol and len(result.ids) == len(rows)


def test_spin_npz_takes_its_protocol_from_the_name(tmp_path):
    truth = skeletons(3, 24, 4)
    names = [f"mpi_inf_3dhp_test_set/TS1/imageSequence/img_{i:06d}.jpg" for i in (1, 2, 3)]
    write_spin_npz(tmp_path / "mpi_inf_3dhp_valid.npz", names, truth)
    benchmark = build("spin_npz", annotations=tmp_path / "mpi_inf_3dhp_valid.npz")
    given = to_h36m(torch.from_numpy(truth).float(), SPIN24)
    result = evaluate(Sequential(given, "h36m17", off_by_30(H36M17.index("nose"))), benchmark)
    assert benchmark.name == "mpi_inf_3dhp" and result.metrics["mpjpe_mm"] == pytest.approx(30 / 17, abs=1e-3)
    (tmp_path / "mpi_inf_3dhp_valid.npz").rename(tmp_path / "other.npz")
    with pytest.raises(ConfigError, match="protocol"):
        build("spin_npz", annotations=tmp_path / "other.npz")


def test_joints_of_no_confidence_do_not_count(tmp_path):
    truth = skeletons(3, 24, 4)
    labels = np.concatenate([truth, np.ones((3, 24, 1))], 2)
    labels[:, SPIN24.index("left_wrist"), 3] = 0
    labels[:, SPIN24.index("left_wrist"), :3] = np.nan
    names = [f"images/S9_Walking.60457274_{i:06d}.jpg" for i in (1, 6, 11)]
    write_spin_npz(tmp_path / "h36m_valid_protocol2.npz", names, truth, S=labels)
    benchmark = build("h36m_p2", annotations=tmp_path / "h36m_valid_protocol2.npz")
    given = to_h36m(torch.from_numpy(truth).float(), SPIN24)
    result = evaluate(Sequential(given, "h36m17", off_by_30(H36M17.index("left_wrist"))), benchmark)
    assert result.metrics["mpjpe_mm"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"S": np.zeros((3, 17, 4))}, r"expected \(N, 24, 4\)"),
        ({"S": np.concatenate([skeletons(3, 24) * 1000, np.ones((3, 24, 1))], 2)}, "looks like mm"),
        ({"S": np.concatenate([skeletons(3, 24) + [[[2e4]], [[0]], [[0]]], np.ones((3, 24, 1))], 2)}, "no camera sees"),
        ({"S": np.concatenate([skeletons(3, 24) * np.nan, np.ones((3, 24, 1))], 2)}, "NaN"),
        ({"scale": np.array([0.2, np.nan, 0.2])}, r"boxes: NaN .* first images/S9"),
        ({"scale": np.array([0.2, 0.2])}, "unequal length"),
        ({"center": np.array([[{}, {}]] * 3, dtype=object)}, "never loaded"),
    ],
)
def test_bad_npz_files_are_named(tmp_path, changes, text):
    names = [f"images/S9_Walking.60457274_{i:06d}.jpg" for i in (1, 6, 11)]
    write_spin_npz(tmp_path / "h36m_valid_protocol2.npz", names, skeletons(3, 24), **changes)
    with pytest.raises(DataError, match=text):
        build("h36m_p2", annotations=tmp_path / "h36m_valid_protocol2.npz")


def write_hmr2(path, truth: np.ndarray, scale: np.ndarray) -> None:
    number = len(truth)
    names = [f"H36M/images/{i:05d}.jpg" for i in range(number)]
    np.savez(
        path, imgname=np.array(names), center=np.full((number, 1, 2), 25.0), scale=scale,
        body_pose=np.zeros((number, 72)), betas=np.zeros((number, 10)),
        body_keypoints_3d=np.zeros((number, 25, 4)),
        extra_keypoints_3d=np.concatenate([truth, np.ones((number, 19, 1))], 2),
    )  # fmt: skip
    for name in names:
        write_picture(path.parent / name)


def test_hmr2_npz(tmp_path):
    truth = skeletons(3, 19, 5)
    write_hmr2(tmp_path / "h36m.npz", truth, np.full((3, 2), 40.0))
    benchmark = build("hmr2_npz", annotations=tmp_path / "h36m.npz")
    assert benchmark.frames()[0].scale == pytest.approx(0.2)  # its scale is in pixels
    given = to_h36m(torch.from_numpy(truth).float(), HMR2_EXTRA19)
    result = evaluate(Sequential(given, "h36m17", off_by_30(H36M17.index("left_knee"))), benchmark)
    assert result.metrics["mpjpe_mm"] == pytest.approx(30 / 14, abs=1e-3)


def test_spins_scale_in_an_hmr2_file_is_named(tmp_path):
    write_hmr2(tmp_path / "h36m.npz", skeletons(3, 19, 5), np.full(3, 1.3))
    with pytest.raises(DataError, match="must be in pixels"):
        build("hmr2_npz", annotations=tmp_path / "h36m.npz")


def test_frames_can_be_loaded_one_by_one_in_other_processes(tmp_path):
    """What Ray Data maps: records that pickle, a function that needs nothing else, errors that keep their kind."""
    import copy  # deepcopy takes the same road as pickle: __reduce__

    from posegen.benchmarks.readers.frames import FrameError, load_frame

    make_ski(tmp_path)
    benchmark = build("ski_poseptz", annotations=tmp_path)
    record = copy.deepcopy(benchmark.frames()[1])
    pixels = load_frame(record, 64)
    assert pixels.shape == (3, 64, 64) and pixels.dtype == np.float32
    batch = benchmark.batch([(record, pixels)])
    assert batch.ids == [record.id] and batch.joints.shape == (1, 17, 3)
    (tmp_path / "test" / record.id).unlink()
    with pytest.raises(FrameError) as caught:
        load_frame(record)
    assert copy.deepcopy(caught.value).kind == "missing"


def test_two_passes_give_the_same_batches(tmp_path):
    make_ski(tmp_path)
    benchmark = build("ski_poseptz", annotations=tmp_path, workers=3, image_size=32)
    first, second = list(benchmark.batches(4)), list(benchmark.batches(4))
    assert [len(batch) for batch in first] == [4, 2]
    for a, b in zip(first, second, strict=True):
        assert a.ids == b.ids and torch.equal(a.images, b.images) and torch.equal(a.joints, b.joints)
