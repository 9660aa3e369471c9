"""Data sets of a few frames in the exact layouts of the originals, and tiny SMPL files to pose them with."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from posegen.body.joint_sets import H36M17
from posegen.body.model import BodyModel, load_body
from posegen.body.rotations import aa_to_matrix
from posegen.scene import Prediction

VERTICES = 40


def write_bodies(folder: Path, vertices: int = VERTICES) -> Path:
    """SMPL_{MALE,FEMALE,NEUTRAL}.npz of so few vertices and SPIN's J_regressor_h36m.npy (left leg first)."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = np.random.default_rng(0)
    joint_regressor = shared.dirichlet(np.full(vertices, 0.2), 24)
    for seed, gender in enumerate(("NEUTRAL", "MALE", "FEMALE")):
        rng = np.random.default_rng(seed + 1)
        template = rng.normal(0, 0.35, (vertices, 3))
        template[:20, 0], template[20:, 0] = np.abs(template[:20, 0]), -np.abs(template[20:, 0])
        np.savez_compressed(
            folder / f"SMPL_{gender}.npz",
            v_template=template,
            shapedirs=rng.normal(0, 0.02, (vertices, 3, 10)),
            posedirs=rng.normal(0, 0.001, (vertices, 3, 207))
            if vertices < 1000
            else np.zeros((vertices, 3, 207), "f4"),
            J_regressor=joint_regressor,
            weights=rng.dirichlet(np.full(24, 0.3), vertices),
            f=np.array([[0, 1, 2], [2, 3, 4]]),
        )
    rows = shared.dirichlet(np.full(vertices, 0.2), 17)
    rows[2], rows[5] = 0, 0
    rows[2, 3], rows[5, 23] = 1, 1  # SPIN's file: row 2 is the left knee, at +x
    np.save(folder / "J_regressor_h36m.npy", rows)
    return folder


def write_picture(path: Path, size: tuple[int, int] = (64, 48), shade: int = 128) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), shade, np.uint8)
    pixels[0, 0], pixels[-1, -1] = 0, 255
    Image.fromarray(pixels).save(path)


def truth_h36m(bodies: Path, gender: str, pose: np.ndarray, betas: np.ndarray, camera: np.ndarray) -> Tensor:
    """Independently of the readers: the posed mesh, turned into the camera's axes, regressed (F,17,3)."""
    body = load_body(bodies, gender=gender)
    vertices = body(torch.tensor(pose, dtype=torch.float32).reshape(-1, 24, 3), torch.tensor(betas).float()).vertices
    joints = body.regress(vertices, "h36m17")
    return joints @ torch.tensor(camera, dtype=torch.float32).transpose(-1, -2)


def random_rotations(number: int, seed: int) -> np.ndarray:
    return aa_to_matrix(torch.from_numpy(np.random.default_rng(seed).normal(0, 1.2, (number, 3)))).numpy()


class Sequential:
    """An estimator that answers with given joints, in the order of the frames, spoilt in a known way."""

    name, differentiable, image_size = "sequential", False, 8

    def __init__(self, joints: Tensor, joint_set: str, spoil: Callable[[Tensor], Tensor] = lambda j: j, **more) -> None:
        self.joints, self.joint_set, self.spoil, self.more, self.next = joints, joint_set, spoil, more, 0
        self.seen: list[Tensor] = []

    def __call__(self, images: Tensor) -> Prediction:
        rows = slice(self.next, self.next + len(images))
        self.next += len(images)
        self.seen.append(images)
        more = {key: value[rows] for key, value in self.more.items()}
        return Prediction(self.spoil(self.joints[rows].clone()), self.joint_set, **more)


def off_by_30(joint: int) -> Callable[[Tensor], Tensor]:
    """One joint 30 mm off along x."""

    def spoil(joints: Tensor) -> Tensor:
        joints[:, joint, 0] += 0.03
        return joints

    return spoil


def make_3dpw(root: Path, bodies: Path, frames: int = 4, corrupt: Callable[[dict], None] | None = None) -> Tensor:
    """One sequence with a man and a woman; the woman's camera is not valid in frame 1, she is not seen in frame 2.

    Returns the true Human3.6M joints in the order of the records.
    """
    rng = np.random.default_rng(3)
    cameras = np.tile(np.eye(4), (frames, 1, 1))
    cameras[:, :3, :3] = random_rotations(frames, 4)
    points = rng.uniform(5, 40, (2, frames, 3, 18))
    points[:, :, 2] = 0.8
    points[:, :, 2, 5] = 0  # a joint that was not detected, far away
    points[:, :, 0, 5] = 5000
    points[1, 2, 2] = 0
    valid = np.ones((2, frames), bool)
    valid[1, 1] = False
    data = {
        "sequence": "downtown_test_00",
        "poses": [rng.normal(0, 0.3, (frames, 72)) for _ in range(2)],
        "betas": [rng.normal(0, 1, 300), rng.normal(0, 1, 10)],
        "trans": [rng.normal(0, 1, (frames, 3)) for _ in range(2)],
        "poses2d": list(points),
        "cam_poses": cameras,
        "cam_intrinsics": np.eye(3),
        "campose_valid": list(valid),
        "genders": ["m", "f"],
        "img_frame_ids": np.arange(frames),
    }
    if corrupt is not None:
        corrupt(data)
    folder = root / "sequenceFiles" / "test"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "downtown_test_00.pkl").write_bytes(pickle.dumps(data, protocol=2))
    for frame in range(frames):
        write_picture(root / "imageFiles" / "downtown_test_00" / f"image_{frame:05d}.jpg")
    parts = []
    for person, gender in enumerate(("male", "female")):
        usable = [f for f in range(frames) if valid[person, f] and points[person, f, 2].any()]
        betas = np.tile(data["betas"][person][:10], (len(usable), 1))
        parts.append(truth_h36m(bodies, gender, data["poses"][person][usable], betas, cameras[usable, :3, :3]))
    return torch.cat(parts)


def skeletons(number: int, joints: int, seed: int = 0) -> np.ndarray:
    """People-sized random joints (N,J,3) m."""
    rng = np.random.default_rng(seed)
    return rng.uniform([-0.4, -0.9, -0.3], [0.4, 0.9, 0.3], (number, joints, 3))


def make_3dhp_test(root: Path, frames: int = 5, unit: float = 1000.0, joints: int = 17) -> Tensor:
    """TS1 with one invalid frame (2) and a joint outside of the picture in frame 3. Returns joints (frames,17,3) m."""
    import h5py

    rng = np.random.default_rng(5)
    truth = skeletons(frames, joints, 6) + np.array([0.1, 0.2, 3.0])
    points = rng.uniform(5, 40, (frames, 1, joints, 2))
    points[3, 0, 4] = (70, 20)
    valid = np.ones((frames, 1))
    valid[2] = 0
    folder = root / "mpi_inf_3dhp_test_set" / "TS1"
    folder.mkdir(parents=True, exist_ok=True)
    # MATLAB v7.3 is HDF5 behind a 512-byte text header, arrays in MATLAB's (reversed) order of dimensions.
    with h5py.File(folder / "annot_data.mat", "w", userblock_size=512) as mat:
        for key, value in {
            "annot2": points,
            "annot3": truth[:, None] * unit * 1.1,
            "univ_annot3": truth[:, None] * unit,
            "valid_frame": valid,
            "activity_annotation": np.array([[1], [1], [1], [6], [6]])[:frames],
        }.items():
            mat.create_dataset(key, data=value).attrs["MATLAB_class"] = np.bytes_("double")
    with (folder / "annot_data.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    for frame in range(frames):
        write_picture(folder / "imageSequence" / f"img_{frame + 1:06d}.jpg")
    return torch.from_numpy(truth).float()


def make_ski(root: Path, number: int = 6, exchanged: bool = False, scale: float = 1.0) -> Tensor:
    """The test split; left at +x. Returns joints (N,17,3) m in Human3.6M's order, rightly named."""
    import h5py

    truth = skeletons(number, 17, 7)
    for i, joint in enumerate(H36M17.joints):
        side = 1 if "left_" in joint else -1 if "right_" in joint else 0
        truth[:, i, 0] = 0.2 * side + 0.05 * truth[:, i, 0]
    stored = truth[:, [0, 4, 5, 6, 1, 2, 3, *range(7, 17)]] if exchanged else truth
    folder = root / "test"
    folder.mkdir(parents=True)
    with h5py.File(folder / "labels.h5", "w") as labels:
        labels["seq"], labels["cam"] = np.full(number, 2.0), np.arange(number) % 2
        labels["frame"] = np.arange(number) + 10.0
        labels["subj"] = np.ones(number)
        labels["3D"] = (stored * scale).reshape(number, 51)
        labels["2D"] = np.random.default_rng(8).uniform(0.3, 0.7, (number, 34))
    for i in range(number):
        write_picture(folder / "seq_002" / f"cam_{i % 2:02d}" / f"image_{i + 10:06d}.png", (256, 256))
    return torch.from_numpy(truth).float()


def agora_table(pictures: int = 2, people: int = 3, seed: int = 9) -> dict[str, list]:
    """Columns of a validation table: in each picture person 1 is not valid, and the last one is a child."""
    rng = np.random.default_rng(seed)
    joints = [[skeletons(1, 45, seed + 10 * i + j)[0] + [j, 0, 5] for j in range(people)] for i in range(pictures)]
    centres = [[np.array([600 + 1000 * j, 1000]) for j in range(people)] for _ in range(pictures)]
    return {
        "imgPath": [f"ag_validationset_{i}_00001.png" for i in range(pictures)],
        "camX": [1.5] * pictures,
        "gender": [["male"] * people for _ in range(pictures)],
        "kid": [[j == people - 1 for j in range(people)] for _ in range(pictures)],
        "isValid": [[j != 1 for j in range(people)] for _ in range(pictures)],
        "occlusion": [[95.0 if j == 1 else 20.0 for j in range(people)] for _ in range(pictures)],
        "gt_joints_2d": [[c + rng.uniform(-300, 300, (45, 2)) for c in row] for row in centres],
        "gt_joints_3d": joints,
        "gt_verts": [[rng.normal(0, 0.4, (VERTICES, 3)).astype(np.float32) + j[0] for j in row] for row in joints],
    }


def make_emdb(root: Path, bodies: Path, frames: int = 4) -> tuple[Tensor, Tensor]:
    """P1 with a sequence of EMDB 1 (frame 1 not good) and one that is not. Returns joints and vertices, (3,24,3)."""
    rng = np.random.default_rng(11)
    for name, first in (("09_outdoor", True), ("10_indoor", False)):
        cameras = np.tile(np.eye(4), (frames, 1, 1))
        cameras[:, :3, :3] = random_rotations(frames, 12)
        pose, betas = rng.normal(0, 0.3, (frames, 72)), rng.normal(0, 1, 10)
        good = np.ones(frames, bool)
        good[1] = False
        data = {
            "gender": "female", "name": f"P1_{name}", "emdb1": first, "emdb2": not first, "n_frames": frames,
            "good_frames_mask": good,
            "camera": {"intrinsics": np.eye(3), "extrinsics": cameras, "width": 64, "height": 48},
            "smpl": {
                "poses_root": pose[:, :3], "poses_body": pose[:, 3:], "trans": np.ones((frames, 3)), "betas": betas,
            },
            "kp2d": np.zeros((frames, 24, 2)),
            "bboxes": {"bboxes": np.tile([5.0, 5, 40, 44], (frames, 1)), "invalid_idxs": np.array([1])},
        }  # fmt: skip
        folder = root / "P1" / name
        folder.mkdir(parents=True)
        (folder / f"P1_{name}_data.pkl").write_bytes(pickle.dumps(data, protocol=4))
        for frame in range(frames):
            write_picture(folder / "images" / f"{frame:05d}.jpg")
        if first:
            body: BodyModel = load_body(bodies, gender="female")
            out = body(torch.tensor(pose[good]).float().reshape(-1, 24, 3), torch.tensor(betas).float().expand(3, 10))
            turn = torch.tensor(cameras[good, :3, :3]).float().transpose(-1, -2)
            result = out.joints @ turn, out.vertices @ turn
    return result


def write_spin_npz(path: Path, names: list[str], joints: np.ndarray, **changes) -> None:
    """SPIN-style npz with S; `joints` (N,24,3) m in SPIN's order."""
    number = len(names)
    arrays = {
        "imgname": np.array(names),
        "center": np.full((number, 2), 25.0),
        "scale": np.full(number, 0.2),
        "S": np.concatenate([joints, np.ones((number, 24, 1))], 2),
    }
    np.savez(path, **(arrays | changes))
    for name in names:
        write_picture(path.parent / name)
