"""Ground truth of rows of a data set: given as joints, or posed from SMPL parameters with the right body.

Posed meshes are made batch by batch: 6890 vertices of 35 000 frames do not fit in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol as TypingProtocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posegen.benchmarks.readers.plausibility import check_parameters
from posegen.body.joint_sets import H36M17, SMPL24
from posegen.body.model import BodyModel
from posegen.errors import ConfigError, DataError

GENDERS = {"m": "male", "f": "female", "n": "neutral", "male": "male", "female": "female", "neutral": "neutral"}


def gender_word(value: object, where: object) -> str:
    """male, female or neutral, of what annotations say: letters or words, of any case, as text or bytes."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    text = value.decode("latin1") if isinstance(value, bytes) else str(value)
    word = GENDERS.get(text.strip().lower())
    if word is None:
        raise DataError(f"unknown gender {text!r} in the annotations", where=where, choices=GENDERS)
    return word


def one_gender(words: Sequence[str]) -> str:
    """A remark for the protocol where all people of 3DPW are of one gender: its splits have both; "" elsewhere.

    Npz files go round in which every row is "m": numbers of their gendered truth are not those that are published.
    """
    if set(words) in ({"male"}, {"female"}):
        return f" (all rows are {words[0]}, 3DPW has both: not comparable to published numbers)"
    return ""


@dataclass(frozen=True)
class TruthBatch:
    """Ground truth of B frames in the camera's axes."""

    joints: Tensor  # (B,J,3) m
    vertices: Tensor | None = None  # (B,V,3) m
    pose: Tensor | None = None  # (B,24,3) rad
    betas: Tensor | None = None  # (B,10)
    valid: Tensor | None = None  # (B,J) bool


class Truth(TypingProtocol):
    """Rows of annotations -> their ground truth."""

    def __call__(self, rows: Sequence[int]) -> TruthBatch: ...


@dataclass(frozen=True)
class GivenJoints:
    """Joints as annotated.

    Args:
        joints_m: (N,J,3); valid: (N,J) bool or None; vertices: one (V,3) array a row or None.
    """

    joints_m: NDArray
    valid: NDArray | None = None
    vertices: Sequence[NDArray] | None = None

    def __call__(self, rows: Sequence[int]) -> TruthBatch:
        index = list(rows)
        joints = torch.from_numpy(np.ascontiguousarray(self.joints_m[index], dtype=np.float32))
        valid = None if self.valid is None else torch.from_numpy(np.ascontiguousarray(self.valid[index], dtype=bool))
        vertices = None
        if self.vertices is not None:
            vertices = torch.from_numpy(np.stack([np.asarray(self.vertices[row], np.float32) for row in index]))
        return TruthBatch(joints, vertices, valid=valid)


@dataclass(frozen=True)
class PosedBodies:
    """Joints and vertices of SMPL parameters, each row with the body of its gender.

    Args:
        bodies: gender -> body; pose: (N,24,3) rad with the global orient in the camera's axes; betas: (N,10);
        genders: (N,) of the keys of `bodies`; joint_set: "h36m17", regressed from the vertices, or "smpl24".
    """

    bodies: Mapping[str, BodyModel]
    pose: NDArray
    betas: NDArray
    genders: Sequence[str]
    joint_set: str
    where: object = None  # the annotations, for errors

    def __post_init__(self) -> None:
        check_parameters(self.pose, self.betas, self.where)

    def __call__(self, rows: Sequence[int]) -> TruthBatch:
        index = list(rows)
        pose = torch.from_numpy(np.ascontiguousarray(self.pose[index], dtype=np.float32))
        betas = torch.from_numpy(np.ascontiguousarray(self.betas[index], dtype=np.float32))
        genders = [self.genders[row] for row in index]
        number = next(iter(self.bodies.values())).v_template.shape[0]
        vertices, joints = torch.empty(len(index), number, 3), None
        for gender in sorted(set(genders)):
            body = self.bodies[gender]
            chosen = torch.tensor([g == gender for g in genders])
            with torch.no_grad():
                posed = body(pose[chosen], betas[chosen])
                vertices[chosen] = posed.vertices
                part = posed.joints if self.joint_set == SMPL24.name else body.regress(posed.vertices, H36M17.name)
            if joints is None:
                joints = torch.empty(len(index), part.shape[1], 3)
            joints[chosen] = part
        assert joints is not None
        return TruthBatch(joints, vertices, pose, betas)


def gendered_bodies(
    path: str | Path | None, genders: Sequence[str], rule: str, regressed: bool
) -> tuple[dict[str, BodyModel], list[str]]:
    """The bodies that ground truth is posed with, and the body's name for each row.

    Args:
        path: folder of SMPL files, or one file (then the rule must be "neutral"); genders: of each row, m, f or words.
        rule: "gendered" takes the body of each person's gender, "neutral" one for all.
        regressed: whether the joint regressor J_regressor_h36m.npy is needed.
    """
    from posegen.body.model import load_body

    if rule not in ("gendered", "neutral"):
        raise ConfigError(f"unknown gender rule {rule!r}", where="benchmark.gender", choices=("gendered", "neutral"))
    if path is None:
        raise ConfigError(
            "this ground truth is made of SMPL parameters: it needs SMPL's body files",
            where="body.path",
            next_command="posegen evaluate ... body.path=FOLDER_WITH_SMPL_FILES",
        )
    named = ["neutral" if rule == "neutral" else gender_word(gender, path) for gender in genders]
    path = Path(path).expanduser()
    if rule == "gendered" and path.is_file():
        raise ConfigError(
            "gendered ground truth needs a folder with the male and the female body, not one file",
            where=path,
            next_command="body.path=FOLDER, or benchmark.gender=neutral (not comparable to SPIN's numbers)",
        )
    bodies = {gender: load_body(path, gender=gender).eval() for gender in sorted(set(named))}
    for body in bodies.values():
        if regressed and H36M17.name not in body.regressors:
            raise DataError(
                "Human3.6M joints are regressed from the mesh, which needs J_regressor_h36m.npy beside the body files",
                where=path,
                next_command="put J_regressor_h36m.npy (it comes with SPIN's data) into that folder",
            )
    return bodies, named
