"""Generated datasets in the formats of other projects: SPIN's npz with image files, and Hugging Face Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from posegen.body.joint_sets import SMPL24
from posegen.body.rotations import aa_to_matrix, matrix_to_aa
from posegen.shards.reader import Shards
from posegen.shards.schema import LABELS
from posegen.shards.table import encode_image, table_to_tensors

# SPIN's 24 ground-truth joints by the names of posegen.body.joint_sets (SPIN constants.py, JOINT_NAMES[25:49]). Those
# that an SMPL skeleton does not have keep confidence 0: right for LSP neck, head tops, spine, jaw, nose, eyes, ears.
_SPIN_FROM_SMPL: dict[int, str] = {
    0: "right_ankle", 1: "right_knee", 2: "right_hip", 3: "left_hip", 4: "left_knee", 5: "left_ankle",
    6: "right_wrist", 7: "right_elbow", 8: "right_shoulder", 9: "left_shoulder", 10: "left_elbow", 11: "left_wrist",
    14: "pelvis",
}  # fmt: skip
_BOX_FACTOR = 1.2  # of the tight box around the joints, as SPIN's own preprocessing takes it
_BOX_UNIT_PX = 200.0  # SPIN's `scale` is the box side in units of 200 px


def _spin_rows(column: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The labels of a batch in SPIN's conventions: camera-frame global orient, root-centred joints in metres."""
    rows = len(column["pose"])
    pose = column["pose"].clone()
    pose[:, 0] = matrix_to_aa(column["camera_R"] @ aa_to_matrix(pose[:, 0]))
    spin_index = torch.tensor(list(_SPIN_FROM_SMPL))
    smpl_index = torch.tensor([SMPL24.index(name) for name in _SPIN_FROM_SMPL.values()])
    part = torch.zeros(rows, 24, 3)
    part[:, spin_index, :2] = column["joints2d_px"][:, smpl_index]
    part[:, spin_index, 2] = 1
    joints = torch.zeros(rows, 24, 4)
    centred = SMPL24.centred(column["joints3d_cam_m"])
    joints[:, spin_index, :3] = centred[:, smpl_index]
    joints[:, spin_index, 3] = 1
    low, high = column["joints2d_px"].amin(1), column["joints2d_px"].amax(1)
    return {
        "center": ((low + high) / 2).numpy(),
        "scale": (_BOX_FACTOR * (high - low).amax(-1) / _BOX_UNIT_PX).numpy(),
        "pose": pose.flatten(1).numpy(),
        "shape": column["betas"].numpy(),
        "has_smpl": np.ones(rows, np.float32),
        "part": part.numpy(),
        "S": joints.numpy(),
        "openpose": np.zeros((rows, 25, 3), np.float32),
        "gender": np.full(rows, "n"),
    }


def export_spin(shards: Shards, directory: str | Path, name: str = "posegen_train") -> Path:
    """Writes images/00000000.png ... and `<name>.npz` that SPIN's BaseDataset reads; returns the npz's path."""
    directory = Path(directory)
    (directory / "images").mkdir(parents=True, exist_ok=True)
    collected: dict[str, list[np.ndarray]] = {}
    for table in shards.tables():
        column = table_to_tensors(table)
        names = [f"images/{int(row):08d}.png" for row in column["row_id"]]
        for file, image in zip(names, column["image"].numpy()):
            (directory / file).write_bytes(encode_image(image, "png"))
        for key, value in {"imgname": np.array(names), **_spin_rows(column)}.items():
            collected.setdefault(key, []).append(value)
    path = directory / f"{name}.npz"
    np.savez(path, **{key: np.concatenate(parts) for key, parts in collected.items()})  # type: ignore[arg-type]
    return path


def _list_type(value: pa.DataType, shape: tuple[int, ...]) -> pa.DataType:
    for _ in shape:
        value = pa.list_(value)
    return value


def _hf_feature(value: pa.DataType, shape: tuple[int, ...]) -> dict[str, Any]:
    feature: dict[str, Any] = {"dtype": str(value), "_type": "Value"}
    if pa.types.is_floating(value):
        feature["dtype"] = "float32"
    for _ in shape:
        feature = {"feature": feature, "_type": "List"}
    return feature


def export_hf(shards: Shards, directory: str | Path) -> list[Path]:
    """Writes `data/train-00000-of-0000N.parquet`; images are PNG {bytes, path}, which the metadata makes `Image`."""
    directory = Path(directory) / "data"
    directory.mkdir(parents=True, exist_ok=True)
    features = {"image": {"_type": "Image"}} | {name: _hf_feature(*spec) for name, spec in LABELS.items()}
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [pa.field("image", image_type)]
    fields += [pa.field(name, _list_type(*spec)) for name, spec in LABELS.items()]
    hf_schema = pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})
    paths = []
    for index, table in enumerate(shards.tables()):
        column = table_to_tensors(table)
        pictures = [
            {"bytes": encode_image(image, "png"), "path": f"{int(row):08d}.png"}
            for row, image in zip(column["row_id"], column["image"].numpy())
        ]
        arrays: list[pa.Array] = [pa.array(pictures, image_type)]
        for name, spec in LABELS.items():
            values = table.column(name).to_pylist() if name not in column else column[name].tolist()
            arrays.append(pa.array(values, _list_type(*spec)))
        path = directory / f"train-{index:05d}-of-{len(shards.entries):05d}.parquet"
        pq.write_table(pa.Table.from_arrays(arrays, schema=hf_schema), path, compression="zstd")
        paths.append(path)
    return paths
