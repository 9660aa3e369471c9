"""The published protocols, in one place. docs/reference/benchmarks.md explains each.

J14 are SPIN's first 14 of H36M_TO_J17 = [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10, 0, 7, 9] (constants.py; the
numbers are rows of its regressor file, which has the left leg first): ankles, knees, hips, wrists, elbows, shoulders,
neck and top of the head. J17 adds pelvis, spine and nose.
"""

from __future__ import annotations

from posegen.benchmarks.protocol import Protocol
from posegen.body.joint_sets import LSP14

J14: tuple[str, ...] = LSP14.joints
J17: tuple[str, ...] = (*J14, "pelvis", "spine", "nose")

PW3D = Protocol(
    name="3dpw",
    joint_set="h36m17",
    joints=J14,
    root=("pelvis",),
    gender="male and female SMPL by person",
    split="test",
    boxes="2D joints x 1.2",
    ordered=True,
    source="SPIN eval.py and datasets/preprocess/pw3d.py",
)
MPI_INF_3DHP_TEST = Protocol(
    name="mpi_inf_3dhp",
    joint_set="mpi_inf_3dhp17",
    joints=J17,
    pck_joints=J14,
    root=("pelvis",),
    split="test, TS1 to TS6, valid frames",
    boxes="2D joints x 1.2",
    scale="metric, none fitted (universal-skeleton truth, univ_annot3)",
    ordered=True,
    source="Mehta et al. 2017 (PCK, AUC on 14 joints); SPIN eval.py (MPJPE on 17)",
)
SKI_POSEPTZ = Protocol(
    name="ski_poseptz",
    joint_set="h36m17",
    joints=J14,
    root=("pelvis",),
    split="test",
    boxes="whole picture",
    source="Rhodin et al. 2018; the 14 joints of PoseGen's released code",
)
AGORA_VALIDATION = Protocol(
    name="agora",
    joint_set="smpl24",
    root=("left_hip", "right_hip"),
    gender="the truth's own meshes",
    split="validation, occlusion 0 to 90 %",
    boxes="2D joints x 1.2",
    source="Patel et al. 2021, agora_evaluation",
)
H36M_P1 = Protocol(
    name="h36m_p1",
    joint_set="spin24",
    joints=J14,
    root=("pelvis",),
    split="S9 and S11",
    stride=5,
    boxes="masks x 0.9",
    source="SPIN datasets/preprocess/h36m.py, protocol 1",
)
H36M_P2 = Protocol(
    name="h36m_p2",
    joint_set="spin24",
    joints=J14,
    root=("pelvis",),
    split="S9 and S11",
    stride=5,
    cameras="60457274 (frontal)",
    boxes="masks x 0.9",
    source="SPIN datasets/preprocess/h36m.py, protocol 2",
)
EMDB = Protocol(
    name="emdb",
    joint_set="smpl24",
    root=("left_hip", "right_hip"),
    gender="SMPL of the person's gender",
    split="EMDB 1, good frames",
    boxes="2D boxes x 1.2",
    ordered=True,
    source="Kaufmann et al. 2023, evaluation_metrics.py",
)
