"""AGORA with SMPL-X: tables of 127 joints, parts worked by hand, the official means."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_datasets import Sequential, agora_table, off_by_30, write_picture

from posegen.benchmarks.measure.agora_predictions import score_predictions
from posegen.benchmarks.measure.evaluate import evaluate
from posegen.benchmarks.protocol import build
from posegen.benchmarks.readers.agora_parts import (
    PARTS,
    SMPLX_JOINTS,
    SMPLX_VERTICES,
    part_errors_mm,
    vertex_lists,
    whole_body,
)
from posegen.body.joint_sets import SMPLX_BODY22
from posegen.errors import ConfigError, DataError

FILES = ("body_verts_smplx.npy", "MANO_SMPLX_vertex_ids.pkl", "SMPL-X__FLAME_vertex_ids.npy")


def smplx_table() -> dict:
    """The tiny table with SMPL-X's counts: body joints as they were, fingers and face about the neck."""
    table, rng = agora_table(), np.random.default_rng(2)
    for row in range(len(table["imgPath"])):
        for person, joints in enumerate(table["gt_joints_3d"][row]):
            more = joints[12] + rng.normal(0, 0.1, (SMPLX_JOINTS - 22, 3))
            table["gt_joints_3d"][row][person] = np.concatenate([joints[:22], more])
            table["gt_joints_2d"][row][person] = rng.uniform(0, 600, (SMPLX_JOINTS, 2)) + [600 + 1000 * person, 700]
            table["gt_verts"][row][person] = rng.normal(0, 0.4, (SMPLX_VERTICES, 3)).astype(np.float32)
    return table


def write_table(root, table) -> None:
    root.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(table).to_pickle(root / "validation_0_withjv.pkl")
    for name in table["imgPath"]:
        write_picture(root / name.replace(".png", "_1280x720.png"), (1280, 720))


def write_lists(folder) -> None:
    folder.mkdir()
    np.save(folder / FILES[0], np.arange(100))
    hands = {"left_hand": np.arange(200, 216), "right_hand": np.arange(300, 316)}
    (folder / FILES[1]).write_bytes(pickle.dumps(hands, protocol=2))
    np.save(folder / FILES[2], np.arange(400, 500))


def test_each_part_is_centred_on_its_own_root_and_counts_it():
    rng = np.random.default_rng(0)
    true = rng.normal(0, 0.3, (SMPLX_JOINTS, 3))
    predicted = true + 5.0  # where the person stands does not matter
    predicted[30, 0] += 0.160  # one of a left hand's fifteen joints, and its wrist: 160 mm / 16
    predicted[100, 1] += 0.052  # one of the 51 landmarks, and the neck: 52 mm / 52
    errors = part_errors_mm(predicted, true, None, {})
    expected = {"body_mpjpe_mm": 0, "lhand_mpjpe_mm": 10, "rhand_mpjpe_mm": 0, "face_mpjpe_mm": 1}
    assert errors == pytest.approx(expected, abs=1e-6)
    predicted[21, 2] += 0.022  # the right wrist: one of 22 body joints, and the root of fifteen of the hand's sixteen
    errors = part_errors_mm(predicted, true, None, {})
    assert errors["body_mpjpe_mm"] == pytest.approx(1) and errors["rhand_mpjpe_mm"] == pytest.approx(22 * 15 / 16)


def test_vertices_are_centred_on_the_joints_root():
    true, mesh = np.zeros((SMPLX_JOINTS, 3)), np.zeros((SMPLX_VERTICES, 3))
    predicted, moved = true.copy(), mesh.copy()
    predicted[20, 0] += 0.03  # the wrist alone: all vertices of the hand then lie 30 mm off it
    moved[5, 1] += 0.1  # one of the body's four
    lists = {"body": np.array([4, 5, 6, 7]), "lhand": np.array([200, 201])}
    errors = part_errors_mm(predicted, true, (moved, mesh), lists)
    assert errors["body_mve_mm"] == pytest.approx(25) and errors["lhand_mve_mm"] == pytest.approx(30)
    assert "face_mve_mm" not in errors


def test_the_whole_body_is_the_body_and_a_third_of_the_rest():
    rows = [{f"{part.name}_mpjpe_mm": value for part, value in zip(PARTS, (60.0, 30.0, 33.0, 36.0), strict=True)}]
    means = whole_body(rows, 0, 0.5)
    assert means["fullbody_mpjpe_mm"] == pytest.approx(60 + (30 + 33 + 36) / 3)
    assert means["fullbody_nmje_mm"] == pytest.approx(186) and means["body_nmje_mm"] == pytest.approx(120)
    assert "fullbody_mve_mm" not in means
    # as officially, a person missed beside others weighs on hands and face, as zero, and not on the body
    assert whole_body(rows, 2, 0.5)["lhand_mpjpe_mm"] == pytest.approx(10)
    assert whole_body(rows, 2, 0.5)["body_mpjpe_mm"] == 60


def test_prediction_files_are_scored_part_by_part(tmp_path):
    table = smplx_table()
    write_table(tmp_path / "gt", table)
    write_lists(tmp_path / "lists")
    folder = tmp_path / "predictions"
    folder.mkdir()
    for i, name in enumerate(table["imgPath"]):
        for n, j in enumerate((2, 0) if i == 0 else (0,)):  # the child of the second picture is missed
            joints, mesh = table["gt_joints_3d"][i][j] + 7, table["gt_verts"][i][j] + 7.0
            joints[30, 0] += 0.160
            mesh[205, 1] += 0.160  # one of the left hand's sixteen vertices
            mesh[5000, 1] += 3  # in no list
            person = {"joints": table["gt_joints_2d"][i][j][:24], "allSmplJoints3d": joints, "verts": mesh}
            (folder / f"{name[:-4]}_personId_{n}.pkl").write_bytes(pickle.dumps(person))
    result = score_predictions(tmp_path / "gt", folder, model="smplx", part_vertices=tmp_path / "lists")
    f1 = round(3 / 3.5, 2)
    assert result.metrics["f1"] == f1 and result.joint_names == list(SMPLX_BODY22.joints)
    expected = {
        "mpjpe_mm": 0, "pve_mm": 0, "body_mpjpe_mm": 0, "lhand_mpjpe_mm": 7.5, "face_mve_mm": 0, "lhand_mve_mm": 7.5,
        "fullbody_mpjpe_mm": 2.5, "fullbody_mve_mm": 2.5, "fullbody_nmje_mm": 2.5 / f1,
    }  # fmt: skip
    found = {name: result.metrics[name] for name in expected}
    assert found == pytest.approx(expected, abs=1e-3)  # 3 hands of 10 mm and a missed one of 0
    assert "smplx_body22" in result.protocol


def test_an_estimator_of_smpl_is_compared_on_the_body_joints(tmp_path):
    table = smplx_table()
    write_table(tmp_path, table)
    benchmark = build("agora", annotations=tmp_path, model="smplx", image_size=32)
    assert benchmark.protocol.joint_set == "smplx_body22"
    truth = torch.tensor(np.array([row[j][:24] for row in table["gt_joints_3d"] for j in (0, 2)])).float()
    truth[:, 22:] += 9  # SMPL's hands are not SMPL-X's jaw and eye, which have these places
    result = evaluate(Sequential(truth, "smpl24", off_by_30(15)), benchmark)
    assert result.metrics["mpjpe_mm"] == pytest.approx(30 / 22, abs=1e-3)
    assert len(result.joint_names) == 22 and "pve_mm" not in result.metrics


def test_tables_of_the_other_body_model_are_told(tmp_path):
    write_table(tmp_path / "x", smplx_table())
    write_table(tmp_path / "s", agora_table())
    with pytest.raises(DataError, match=r"of smplx, not of smpl(.|\n)*benchmark\.model=smplx"):
        build("agora", annotations=tmp_path / "x")
    with pytest.raises(DataError, match="of smpl, not of smplx"):
        build("agora", annotations=tmp_path / "s", model="smplx")
    with pytest.raises(ConfigError, match="unknown body model"):
        build("agora", annotations=tmp_path / "s", model="star")


def test_vertex_lists_are_checked(tmp_path):
    write_lists(tmp_path / "lists")
    assert {name: len(rows) for name, rows in vertex_lists(tmp_path / "lists").items()} == {
        "body": 100, "lhand": 16, "rhand": 16, "face": 100,
    }  # fmt: skip
    np.save(tmp_path / "lists" / FILES[0], np.array([0, SMPLX_VERTICES]))
    with pytest.raises(DataError, match="no vertices of SMPL-X"):
        vertex_lists(tmp_path / "lists")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no list of vertices"):
        vertex_lists(tmp_path / "empty")
