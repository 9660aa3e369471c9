"""AGORA: pickled pandas tables of new and old layouts, matching worked by hand, prediction files."""

from __future__ import annotations

import io
import pickle
import sys
import types

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_datasets import VERTICES, Sequential, agora_table, off_by_30, write_picture

from posegen.benchmarks.measure.agora_matching import detection_scores, match, normalised, overlap
from posegen.benchmarks.measure.agora_predictions import score_predictions
from posegen.benchmarks.measure.evaluate import evaluate
from posegen.benchmarks.protocol import build
from posegen.benchmarks.readers.table_pickle import read_table
from posegen.body.joint_sets import SMPL24
from posegen.errors import DataError


def write_agora(root, table=None, small: bool = True) -> dict:
    table = agora_table() if table is None else table
    root.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(table).to_pickle(root / "validation_0_withjv.pkl")
    for name in table["imgPath"]:
        write_picture(root / name.replace(".png", "_1280x720.png"), (1280, 720))
    return table


def valid_joints(table: dict) -> torch.Tensor:
    return torch.tensor(np.array([row[j][:24] for row in table["gt_joints_3d"] for j in (0, 2)])).float()


def old_layout(table: dict) -> bytes:
    """What pandas 1.0 to 1.2 wrote: a BlockManager with a state tuple, classes named by their old modules."""
    modules = {}
    for name in ("pandas.core.frame", "pandas.core.internals.managers", "pandas.core.indexes.range",
                 "pandas.core.indexes.base"):  # fmt: skip
        modules[name] = types.ModuleType(name)

    def fake(module: str, name: str):
        cls = type(name, (), {"__module__": module, "__qualname__": name})
        setattr(modules[module], name, cls)
        return cls

    frame_class, manager_class = (
        fake("pandas.core.frame", "DataFrame"),
        fake("pandas.core.internals.managers", "BlockManager"),
    )
    range_class, index_class = (
        fake("pandas.core.indexes.range", "RangeIndex"),
        fake("pandas.core.indexes.base", "Index"),
    )

    def _new_Index(cls, state):
        raise AssertionError("never called")

    _new_Index.__module__, _new_Index.__qualname__ = "pandas.core.indexes.base", "_new_Index"
    modules["pandas.core.indexes.base"]._new_Index = _new_Index

    class Reduced:
        def __init__(self, *parts):
            self.parts = parts

        def __reduce__(self):
            return self.parts

    columns, rows = list(table), len(table["imgPath"])
    objects = np.empty((len(columns) - 1, rows), object)
    for i, name in enumerate(c for c in columns if c != "camX"):
        for j, value in enumerate(table[name]):
            objects[i, j] = value
    places = np.array([i for i, c in enumerate(columns) if c != "camX"])
    names = np.array(columns, object)
    axes = [
        Reduced(_new_Index, (index_class, {"data": names, "name": None})),
        Reduced(_new_Index, (range_class, {"start": 0, "stop": rows, "step": 1, "name": None})),
    ]
    camera = columns.index("camX")
    blocks = [
        {"values": np.array([table["camX"]]), "mgr_locs": slice(camera, camera + 1, 1)},
        {"values": objects, "mgr_locs": places},
    ]
    state = (axes, [b["values"] for b in blocks], [names], {"0.14.1": {"axes": axes, "blocks": blocks}})

    class Made:
        def __init__(self, cls, state):
            self.cls, self.state = cls, state

        def __reduce_ex__(self, protocol):
            import copyreg

            return copyreg.__newobj__, (self.cls,), self.state

    whole = Made(frame_class, {"_data": Made(manager_class, state), "_typ": "dataframe"})
    real = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        buffer = io.BytesIO()
        _Pickler(buffer, protocol=4).dump(whole)
    finally:
        for name, module in real.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    return buffer.getvalue()


class _Pickler(pickle._Pickler):
    """Lets a stand-in be written as an object of another class."""

    def save_reduce(self, func, args, state=None, *rest, obj=None, **more):
        super().save_reduce(func, args, state, *rest, **more)  # without obj: no check that classes agree


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_tables_of_the_installed_pandas(tmp_path, protocol):
    table = agora_table()
    pd.DataFrame(table).to_pickle(tmp_path / "t.pkl", protocol=protocol)
    _same(read_table(tmp_path / "t.pkl"), table)


def test_tables_of_old_pandas(tmp_path):
    table = agora_table()
    (tmp_path / "t.pkl").write_bytes(old_layout(table))
    _same(read_table(tmp_path / "t.pkl"), table)


def test_text_columns_without_arrow(tmp_path):
    table = agora_table()
    frame = pd.DataFrame(table).astype({"imgPath": object})
    frame.to_pickle(tmp_path / "t.pkl")
    _same(read_table(tmp_path / "t.pkl"), table)


def _same(read: dict, table: dict) -> None:
    assert list(read) == list(table)
    for key, column in table.items():
        for a, b in zip(read[key], column, strict=True):
            if isinstance(b, list):
                for x, y in zip(a, b, strict=True):
                    np.testing.assert_array_equal(x, y)
            else:
                assert a == b


def test_a_table_that_would_run_code_is_refused(tmp_path):
    frame = pd.DataFrame({"imgPath": [print]})
    frame.to_pickle(tmp_path / "t.pkl")
    with pytest.raises(DataError, match=r"builtins\.print"):
        read_table(tmp_path / "t.pkl")


def test_valid_people_only_with_f1_of_one(tmp_path):
    table = write_agora(tmp_path)
    benchmark = build("agora", annotations=tmp_path, image_size=32)
    assert len(benchmark) == 4
    meshes = torch.tensor(np.array([row[j] for row in table["gt_verts"] for j in (0, 2)]))
    truth = valid_joints(table)
    estimator = Sequential(truth, "smpl24", off_by_30(SMPL24.index("head")), vertices=meshes)
    result = evaluate(estimator, benchmark)
    assert result.metrics["mpjpe_mm"] == pytest.approx(30 / 24, abs=1e-3)
    assert result.metrics["pve_mm"] == pytest.approx(0, abs=1e-3)
    assert result.metrics["f1"] == 1 and result.metrics["nmje_mm"] == pytest.approx(30 / 24, abs=1e-3)
    assert result.per_action["kid"]["images"] == 2
    assert len(build("agora", annotations=tmp_path, kids=False)) == 2


def test_a_picture_of_several_people_is_decoded_once(tmp_path, monkeypatch):
    from posegen.benchmarks.readers import picture_cache

    reads: list[str] = []
    real = picture_cache.read_picture
    monkeypatch.setattr(picture_cache, "read_picture", lambda path: reads.append(path) or real(path))
    table = write_agora(tmp_path)
    list(build("agora", annotations=tmp_path, image_size=32, workers=4).batches(3))
    assert sorted(reads) == sorted(str(tmp_path / n.replace(".png", "_1280x720.png")) for n in table["imgPath"])


def test_boxes_shrink_with_the_pictures(tmp_path):
    table = write_agora(tmp_path)
    record = build("agora", annotations=tmp_path).frames()[0]
    points = table["gt_joints_2d"][0][0][:24] / 3
    assert record.centre_px == pytest.approx(tuple((points.max(0) + points.min(0)) / 2))
    assert record.scale == pytest.approx(1.2 * (points.max(0) - points.min(0)).max() / 200)
    assert record.size_px == (1280, 720)


def test_a_failed_frame_lowers_f1(tmp_path):
    table = write_agora(tmp_path)
    (tmp_path / table["imgPath"][1].replace(".png", "_1280x720.png")).write_bytes(b"no picture")
    benchmark = build("agora", annotations=tmp_path, max_bad_share=0.6, resolution="720p")
    result = evaluate(Sequential(valid_joints(table)[:2] * 1.1, "smpl24"), benchmark)
    assert result.metrics["recall"] == 0.5 and result.metrics["f1"] == round(2 / (2 + 0.5 * 2), 2)
    assert result.metrics["nmje_mm"] == pytest.approx(result.metrics["mpjpe_mm"] / 0.67)


def test_mean_vertex_error_on_the_official_subset(tmp_path):
    table = write_agora(tmp_path)
    np.save(tmp_path / "body_verts_smpl.npy", np.arange(10))
    meshes = torch.tensor(np.array([row[j] for row in table["gt_verts"] for j in (0, 2)]))
    meshes[:, 0, 1] += 0.1
    meshes[:, 20:, 1] += 5
    benchmark = build("agora", annotations=tmp_path, body_vertices=tmp_path / "body_verts_smpl.npy")
    result = evaluate(Sequential(valid_joints(table), "smpl24", vertices=meshes), benchmark)
    assert result.metrics["pve_mm"] == pytest.approx(10, abs=1e-3)


def test_meshes_of_another_size_are_named(tmp_path):
    table = agora_table()
    table["gt_verts"][1][2] = table["gt_verts"][1][2][:5]
    write_agora(tmp_path, table)
    with pytest.raises(DataError, match=r"a person has 5 vertices, others have 40(.|\n)*00001\.png/2"):
        build("agora", annotations=tmp_path)
    np.save(tmp_path / "body_verts_smpl.npy", np.arange(10))
    with pytest.raises(DataError, match="a person has 5 vertices, body_vertices asks for number 9"):
        build("agora", annotations=tmp_path, body_vertices=tmp_path / "body_verts_smpl.npy")


def test_tables_without_joints_are_named(tmp_path):
    table = agora_table()
    del table["gt_joints_3d"]
    write_agora(tmp_path, table)
    with pytest.raises(DataError, match=r"lacks gt_joints_3d(.|\n)*with SMPL joints and vertices"):
        build("agora", annotations=tmp_path)


def square(x: float, y: float, side: float = 10.0) -> np.ndarray:
    """24 points that span a square."""
    corners = np.array([[x, y], [x + side, y], [x, y + side], [x + side, y + side]])
    return np.tile(corners, (6, 1))


def test_overlap_counts_whole_pixels():
    assert overlap(square(0, 0, 9), square(0, 0, 9)) == 1
    assert overlap(square(0, 0, 9), square(5, 0, 9)) == pytest.approx(50 / 150)
    assert overlap(square(0, 0, 9), square(50, 0, 9)) == 0


def test_matching_takes_the_nearest_free_pair():
    people = [square(0, 0), square(100, 0)]
    found = match([square(101, 0), square(2, 0)], people, [True, True])
    assert set(found.pairs) == {(0, 1), (1, 0)} and found.misses == () and found.false_positives == ()


def test_two_predictions_of_one_person_leave_a_false_positive():
    found = match([square(1, 0), square(3, 0)], [square(0, 0)], [True])
    assert found.pairs == ((0, 0),) and found.false_positives == (1,) and found.misses == ()


def test_far_predictions_are_false_positives_and_people_missed():
    found = match([square(500, 0)], [square(0, 0)], [True])
    assert found.pairs == () and found.false_positives == (0,) and found.misses == (0,)
    assert match([], [square(0, 0)], [True]).misses == (0,)


def test_people_that_are_not_valid_are_no_misses():
    found = match([square(0, 0), square(100, 0)], [square(0, 0), square(100, 0)], [False, True])
    assert found.pairs == ((1, 1),) and found.misses == () and found.false_positives == (0,)


def test_scores_are_rounded_before_they_divide():
    scores = detection_scores(matched=8, misses=2, false_positives=1)
    assert scores == {"precision": 0.89, "recall": 0.8, "f1": 0.84}
    assert normalised({"mpjpe_mm": 84.0, "pve_mm": 42.0}, scores)["nmje_mm"] == pytest.approx(100)
    assert detection_scores(0, 0, 3) == {"precision": 0, "recall": 0, "f1": 0}


def test_prediction_files_are_matched_and_scored(tmp_path):
    table = write_agora(tmp_path / "gt")
    folder = tmp_path / "predictions"
    folder.mkdir()
    for i, name in enumerate(table["imgPath"]):
        for n, j in enumerate((2, 0) if i == 0 else (0,)):  # the child of the second picture is missed
            joints = table["gt_joints_3d"][i][j].copy()
            joints[SMPL24.index("head"), 0] += 0.24
            person = {
                "joints": table["gt_joints_2d"][i][j][:24] + 3,
                "allSmplJoints3d": joints + 7,
                "verts": table["gt_verts"][i][j] + 7,
            }
            (folder / f"{name[:-4]}_personId_{n}.pkl").write_bytes(pickle.dumps(person))
    result = score_predictions(tmp_path / "gt", folder, name="mine")
    assert result.metrics["mpjpe_mm"] == pytest.approx(10, abs=1e-3)
    assert result.metrics["pve_mm"] == pytest.approx(0, abs=1e-3)
    assert result.metrics["f1"] == round(3 / 3.5, 2) and result.counted["missing"] == 1
    assert result.metrics["nmje_mm"] == pytest.approx(10 / 0.86, abs=1e-3)
    assert table["gt_verts"][0][0].shape[0] == VERTICES and result.estimator == "mine"


def test_bad_prediction_files_are_named(tmp_path):
    write_agora(tmp_path / "gt")
    file = tmp_path / "ag_validationset_0_00001_personId_0.pkl"
    file.write_bytes(pickle.dumps({"joints": np.zeros((17, 2)), "allSmplJoints3d": np.zeros((24, 3))}))
    with pytest.raises(DataError, match=r"joints has shape \(17, 2\)"):
        score_predictions(tmp_path / "gt", tmp_path)
