"""From what an estimator says to joints in the benchmark's own definition and, where it can be, to vertices.

Joints of one name can differ in meaning by centimetres: SMPL's hip lies elsewhere than the Human3.6M marker-based hip.
Benchmarks on Human3.6M joints (3DPW, MPI-INF-3DHP, Human3.6M) therefore regress the predicted joints from the predicted
mesh with J_regressor_h36m, as SPIN's eval.py does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from posegen.benchmarks.protocol import EvalBatch, Protocol
from posegen.body.joint_sets import H36M17, SMPL24, joint_set
from posegen.errors import DataError
from posegen.scene import Prediction, TellsFaces, TellsRegressors


@dataclass(frozen=True)
class Posed:
    """A prediction ready to compare."""

    joints: Tensor  # (B,J,3) m
    joint_set: str
    vertices: Tensor | None  # (B,V,3) m, in the frame of `joints`
    how: str  # where the joints come from, for the protocol line

    def take(self, rows: Sequence[int]) -> Posed:
        """These rows."""
        index = list(rows)
        return replace(
            self, joints=self.joints[index], vertices=None if self.vertices is None else self.vertices[index]
        )


def h36m_regressor(body: nn.Module | None) -> Tensor | None:
    """The body's Human3.6M joint regressor (17,V) with rows in the order of the joint set `h36m17`, if it has one."""
    return body.regressors.get(H36M17.name) if isinstance(body, TellsRegressors) else None


def posed_prediction(
    prediction: Prediction,
    batch: EvalBatch,
    protocol: Protocol,
    body: nn.Module | None = None,
    vertex_subset: NDArray | None = None,
    truth_body: nn.Module | None = None,
) -> Posed:
    """The prediction's joints in the best definition at hand, and vertices where the truth has some of that mesh.

    Args:
        body: what the prediction's rotations and betas are of.
        vertex_subset: indices of the vertices that the truth holds, where it holds not all.
        truth_body: what the truth is made of, where the benchmark knows. Vertices of two meshes are never compared,
            even where there are as many of them.
    """
    joints, set_name, vertices = prediction.joints, prediction.joint_set, prediction.vertices
    if joints.shape[1] != len(joint_set(set_name)):
        raise DataError(f"the estimator returned {joints.shape[1]} joints for {set_name}", where="Prediction.joints")
    how = f"{set_name} as the estimator gives it"
    other_mesh = body is not None and truth_body is not None and not same_mesh(body, truth_body)
    if body is not None and prediction.rotations is not None and prediction.betas is not None:
        output = body(prediction.rotations, prediction.betas)
        regressor = h36m_regressor(body)
        if regressor is not None and set(protocol.joints or protocol.truth_set.joints) <= set(H36M17.joints):
            joints = torch.einsum("jv,bvc->bjc", regressor.to(output.vertices.dtype), output.vertices)
            set_name, vertices, how = H36M17.name, output.vertices, "h36m17 regressed from the mesh"
        elif vertices is None and not other_mesh and (set_name == SMPL24.name or protocol_of_smpl(protocol)):
            joints, set_name, vertices = output.joints, SMPL24.name, output.vertices
            how = "smpl24 of the body"
    if vertices is not None and vertex_subset is not None:
        vertices = vertices[:, torch.as_tensor(vertex_subset)] if vertices.shape[1] > vertex_subset.max() else None
    if vertices is not None and (batch.vertices is None or vertices.shape[1] != batch.vertices.shape[1]):
        vertices = None
    return Posed(joints, set_name, None if other_mesh else vertices, how)


def protocol_of_smpl(protocol: Protocol) -> bool:
    """Whether the joints that a protocol compares are SMPL's own, of its skeleton."""
    return set(protocol.joints or protocol.truth_set.joints) <= set(SMPL24.joints) and protocol.joint_set.startswith(
        "smpl"
    )


def same_mesh(body: nn.Module, other: nn.Module) -> bool:
    """Whether vertex i of the one is vertex i of the other: their faces are the same."""
    if not (isinstance(body, TellsFaces) and isinstance(other, TellsFaces)):
        return False
    return torch.equal(body.faces.cpu(), other.faces.cpu())
