"""An estimator's errors on the pictures of an atlas: shard by shard, each kept in a file; a stopped one goes on.

Any estimator will do: all that is asked of it is joints of a named set.

Dimensions: N pictures, C compared joints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from posegen.atlas.pose_facts import Numbers
from posegen.benchmarks.measure.metrics import distances_mm, pa_mpjpe_mm
from posegen.body.joint_sets import SMPL24, comparable, joint_set
from posegen.errors import DataError
from posegen.files.arrays import read_npz
from posegen.files.atomic import replacing
from posegen.scene import Estimator
from posegen.shards.table import table_to_tensors

FORMAT = 1
_NAMES = ("row_id", "joint_errors_mm", "pa_mpjpe_mm", "predicted_cam_m", "joint_names", "format")


@dataclass(frozen=True)
class Measured:
    """What one estimator made of N pictures. The root is the pelvis, or the middle of the hips where it has none."""

    row_id: NDArray[np.int64]  # (N,)
    joint_names: tuple[str, ...]  # of the C joints that estimator and body share
    joint_errors_mm: Numbers  # (N,C) root-centred
    pa_mpjpe_mm: Numbers  # (N,) after similarity alignment
    predicted_cam_m: Numbers  # (N,24,3) put at the true root, NaN where the estimator has no such joint

    def __len__(self) -> int:
        return len(self.row_id)

    @property
    def mpjpe_mm(self) -> Numbers:
        """(N,) mean over the compared joints."""
        return self.joint_errors_mm.mean(1)

    def save(self, file: Path) -> None:
        with replacing(file) as partial, partial.open("wb") as stream:
            np.savez_compressed(
                stream,
                row_id=self.row_id,
                joint_errors_mm=self.joint_errors_mm.astype(np.float32),
                pa_mpjpe_mm=self.pa_mpjpe_mm.astype(np.float32),
                predicted_cam_m=self.predicted_cam_m.astype(np.float32),
                joint_names=np.array(self.joint_names),
                format=np.array([FORMAT]),
            )

    @classmethod
    def load(cls, file: Path) -> Measured:
        """DataError for a file that is damaged or of another version."""
        arrays = read_npz(file, _NAMES, text=("joint_names",), unbounded=("predicted_cam_m",), what="the errors")
        names, count = tuple(arrays["joint_names"].reshape(-1).tolist()), len(arrays["row_id"].reshape(-1))
        shapes = {"joint_errors_mm": (count, len(names)), "pa_mpjpe_mm": (count,), "predicted_cam_m": (count, 24, 3)}
        if arrays["format"].tolist() != [FORMAT] or any(arrays[key].shape != shape for key, shape in shapes.items()):
            raise DataError("the errors are of another version, or do not fit each other", where=file)
        numbers = (arrays[name].astype(np.float64) for name in shapes)
        return cls(arrays["row_id"].astype(np.int64).reshape(-1), names, *numbers)

    @classmethod
    def joined(cls, parts: Sequence[Measured]) -> Measured:
        if len({part.joint_names for part in parts}) != 1:
            raise DataError("parts of the errors compare other joints", next_command="remove the folder `measured`")
        return cls(
            np.concatenate([part.row_id for part in parts]), parts[0].joint_names,
            np.concatenate([part.joint_errors_mm for part in parts]),
            np.concatenate([part.pa_mpjpe_mm for part in parts]),
            np.concatenate([part.predicted_cam_m for part in parts]),
        )  # fmt: skip


@torch.no_grad()
def measure(
    estimator: Estimator, images: torch.Tensor, joints_cam_m: torch.Tensor, row_id: NDArray[np.int64], batch: int
) -> Measured:
    """The errors of an estimator on pictures whose truth is known.

    Args:
        images: (N,3,S,S) uint8; joints_cam_m: (N,24,3) m.
    """
    first = next(estimator.parameters(), None) if isinstance(estimator, torch.nn.Module) else None
    device = torch.device("cpu") if first is None else first.device
    errors, aligned, placed = [], [], []
    names: list[str] = []
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        prediction = estimator(images[part].to(device).float() / 255).to("cpu")
        own, truth = joint_set(prediction.joint_set), joints_cam_m[part].float()
        predicted, true = comparable(prediction.joints.float(), own, truth, SMPL24)
        in_truth, _ = SMPL24.common(own)
        names = [SMPL24.joints[i] for i in in_truth]
        errors.append(distances_mm(predicted, true))
        aligned.append(pa_mpjpe_mm(predicted, true))
        root = truth[:, in_truth] - true  # (B,C,3), the same for all joints
        where = torch.full((len(truth), len(SMPL24), 3), float("nan"))
        where[:, in_truth] = predicted + root
        placed.append(where)
    # Rounded as files keep it: an atlas that was stopped and one that was not say the same.
    numbers = (torch.cat(parts).float().double().numpy() for parts in (errors, aligned, placed))
    return Measured(row_id, tuple(names), *numbers)


def measured_shard(file: Path, table: pa.Table, estimator: Callable[[], Estimator], batch: int) -> Measured:
    """The errors on the rows of one shard: those of the file, or measured now and kept in it.

    Args:
        estimator: is called only if something is left to measure.
    """
    rows = table.column("row_id").to_numpy()
    if file.is_file():
        try:
            kept = Measured.load(file)
            if np.array_equal(kept.row_id, rows):
                return kept
        except DataError:
            file.unlink(missing_ok=True)  # cut short: these rows are measured again
    column = table_to_tensors(table, ("image", "joints3d_cam_m"), copy=True)
    made = measure(estimator(), column["image"], column["joints3d_cam_m"], rows.copy(), batch)
    made.save(file)
    return made
