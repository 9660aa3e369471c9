"""Annotations of benchmarks: 3DPW, EMDB and AGORA pickles, MATLAB and HDF5 files, CDF, SPIN's and HMR 2.0's npz."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from posegen.benchmarks.embedded.stand_ins import EmbeddedSet, read_set, write_set
from posegen.benchmarks.measure.agora_predictions import score_predictions
from posegen.benchmarks.protocol import build as build_benchmark
from posegen.benchmarks.readers.agora_parts import vertex_list, vertex_lists
from posegen.benchmarks.readers.human36m import read_mask_boxes
from posegen.benchmarks.readers.mpi_inf_3dhp import read_test_annotations
from posegen.benchmarks.readers.table_pickle import read_table
from posegen.errors import DataError
from posegen.files.cdf import read_variable

from .. import neighbours  # noqa: F401
from ..format import Format, Mutators
from ..pickled import OPCODES, PICKLE, tree_mutator
from ..raw import RAW
from ..tables import HDF5, MAT
from ..zips import NPY, NPZ


def formats() -> list[Format]:
    return [*_pickles(), *_arrays(), *_archives()]


def _pickles() -> list[Format]:
    import pandas as pd
    from test_agora_smplx import write_lists
    from tiny_datasets import agora_table, make_3dpw, make_emdb, write_bodies, write_picture

    def pw3d(folder: Path) -> Path:
        make_3dpw(folder, write_bodies(folder / "smpl"))
        return folder / "sequenceFiles/test/downtown_test_00.pkl"

    def emdb(folder: Path) -> Path:
        make_emdb(folder, write_bodies(folder / "smpl"))
        return folder / "P1/09_outdoor/P1_09_outdoor_data.pkl"

    def agora(folder: Path) -> Path:
        table = agora_table()
        pd.DataFrame(table).to_pickle(folder / "validation_0_withjv.pkl")
        for name in table["imgPath"]:
            write_picture(folder / name.replace(".png", "_1280x720.png"), (1280, 720))
        return folder / "validation_0_withjv.pkl"

    def agora_frame(tree: Any, protocol: int) -> bytes:
        return pickle.dumps(pd.DataFrame(tree), max(protocol, 2))

    def prediction(folder: Path) -> Path:
        agora(folder)
        (folder / "predictions").mkdir()
        person = {"joints": table["gt_joints_2d"][0][0], "allSmplJoints3d": table["gt_joints_3d"][0][0],
                  "verts": table["gt_verts"][0][0]}  # fmt: skip
        path = folder / "predictions" / "ag_validationset_0_00001_personId_0.pkl"
        path.write_bytes(pickle.dumps(person, 2))
        return path

    table = agora_table()

    def ids(folder: Path) -> Path:
        write_lists(folder / "lists")
        return folder / "lists" / "MANO_SMPLX_vertex_ids.pkl"

    def posed(name: str, levels: int) -> Callable[[Path], Any]:
        def read(path: Path) -> Any:
            root = path.parents[levels]
            benchmark = build_benchmark(name, annotations=root, body_path=root / "smpl")
            return _truth(benchmark)

        return read

    frame = tree_mutator(agora_frame, lambda: table)
    return [
        Format("3dpw.pkl", pw3d, posed("3dpw", 2), PICKLE, RAW, _check_truth, nan=("centre",)),
        Format("emdb.pkl", emdb, posed("emdb", 2), PICKLE, RAW, _check_truth),
        Format("agora.pkl", agora, _agora, Mutators((frame,), OPCODES), RAW, _check_truth, weight=0.6),
        Format("agora_prediction.pkl", prediction, lambda p: score_predictions(p.parent.parent, p.parent), PICKLE,
        RAW, weight=0.4,
               nan=("azimuth", "elevation", "pve_mm")),
        Format("agora_ids.pkl", ids, lambda path: vertex_lists(path.parent), PICKLE, RAW),
        # Numbers are AGORA's reader's to check, see agora.pkl.
        Format("table.pkl", agora, read_table, Mutators((), OPCODES), RAW, weight=0.5, nan=tuple(table)),
    ]  # fmt: skip


def _agora(path: Path) -> Any:
    return _truth(build_benchmark("agora", annotations=path.parent))


def _arrays() -> list[Format]:
    from test_human36m import make as make_human36m
    from tiny_datasets import make_3dhp_test, make_ski, skeletons, write_picture

    def test_3dhp(folder: Path) -> Path:
        make_3dhp_test(folder)
        return folder / "mpi_inf_3dhp_test_set/TS1/annot_data.mat"

    def train_3dhp(folder: Path) -> Path:
        import scipy.io

        points = np.random.default_rng(2).uniform(500, 1500, (3, 56))
        cells = [np.empty((3, 1), object) for _ in range(2)]
        for camera in range(3):
            cells[0][camera, 0], cells[1][camera, 0] = points, skeletons(3, 28, 1).reshape(3, 84) * 1000
        (folder / "S1/Seq1").mkdir(parents=True)
        scipy.io.savemat(folder / "S1/Seq1/annot.mat", {"annot2": cells[0], "annot3": cells[1]})
        write_picture(folder / "S1/Seq1/imageFrames/video_0/frame_000001.jpg", (64, 64))
        return folder / "S1/Seq1/annot.mat"

    def ski(folder: Path) -> Path:
        make_ski(folder, 4)
        return folder / "test/labels.h5"

    def human36m(folder: Path) -> Path:
        make_human36m(folder, 6)
        return folder / "S9/MyPoseFeatures/D3_Positions_mono/Walking 1.60457274.cdf"

    def masks(folder: Path) -> Path:
        whole = folder / "whole"
        human36m(whole)
        data = (whole / "S9/MySegmentsMat/ground_truth_bb/Walking 1.60457274.mat").read_bytes()
        for path in sorted(whole.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        (folder / "masks.mat").write_bytes(data)
        return folder / "masks.mat"

    def training(path: Path) -> Any:
        return _truth(build_benchmark("mpi_inf_3dhp", annotations=path.parents[2], split="train"))

    def testing(path: Path) -> Any:
        return read_test_annotations(path), _truth(build_benchmark("mpi_inf_3dhp", annotations=path.parents[2]))

    return [
        Format("3dhp_test.mat", test_3dhp, testing, HDF5, RAW, lambda read: _check_truth(read[1]), nan=("annot2",
        "joints_mm")),
        Format("3dhp_train.mat", train_3dhp, training, MAT, RAW, _check_truth),
        Format("ski.h5", ski, lambda path: _truth(build_benchmark("ski_poseptz", annotations=path.parents[1])), HDF5,
        RAW, _check_truth),
        Format("h36m.cdf", human36m, _human36m, Mutators(), RAW, lambda read: _check_truth(read[1])),
        Format("h36m_masks.mat", masks, lambda path: read_mask_boxes(path, np.arange(6)), HDF5, RAW),
    ]  # fmt: skip


def _human36m(path: Path) -> Any:
    return read_variable(path, "Pose"), _truth(build_benchmark("h36m_p2", annotations=path.parents[3]))


def _archives() -> list[Format]:
    from test_agora_smplx import write_lists
    from test_readers import write_hmr2
    from tiny_datasets import skeletons, write_bodies, write_picture, write_spin_npz

    def spin(folder: Path) -> Path:
        write_spin_npz(folder / "mpi_inf_3dhp_valid.npz", ["a.jpg", "b.jpg", "c.jpg"], skeletons(3, 24))
        return folder / "mpi_inf_3dhp_valid.npz"

    def spin_3dpw(folder: Path) -> Path:
        rng = np.random.default_rng(0)
        write_bodies(folder / "smpl")
        np.savez(
            folder / "3dpw_test.npz", imgname=np.array([f"{i}.jpg" for i in range(3)]), center=np.full((3, 2), 25.0),
            scale=np.full(3, 0.2),
            pose=rng.normal(0, 0.3, (3, 72)), shape=np.zeros((3, 10)), gender=np.array(["m", "f", "m"]),
        )  # fmt: skip
        for i in range(3):
            write_picture(folder / f"{i}.jpg")
        return folder / "3dpw_test.npz"

    def hmr2(folder: Path) -> Path:
        write_hmr2(folder / "h36m.npz", skeletons(3, 19, 5), np.full((3, 2), 40.0))
        return folder / "h36m.npz"

    def embedded(folder: Path) -> Path:
        rng = np.random.default_rng(0)
        shapes = {"pose": (24, 3), "betas": (10,), "transl": (3,), "camera_R": (3, 3), "camera_t": (3,), "focal": (),
        "centre": (2,),
                  "light": (5,)}  # fmt: skip
        whole = {key: rng.integers(0, 5, 2) for key in ("subject", "clip", "frame", "segment", "background")}
        floats = {key: rng.normal(size=(2, *shape)).astype("f4") for key, shape in shapes.items()}
        write_set(EmbeddedSet(images=np.zeros((2, 3, 8, 8), np.uint8), **floats, **whole), folder / "set.npz")
        return folder / "set.npz"

    def lists(folder: Path) -> Path:
        write_lists(folder / "lists")
        return folder / "lists" / "body_verts_smplx.npy"

    def benchmark(name: str, **options: Any) -> Callable[[Path], Any]:
        return lambda path: _truth(build_benchmark(name, annotations=path, body_path=path.parent / "smpl", **options))

    return [
        Format("spin.npz", spin, benchmark("spin_npz"), NPZ, RAW, _check_truth),
        Format("spin_3dpw.npz", spin_3dpw, benchmark("3dpw"), NPZ, RAW, _check_truth),
        Format(
            "hmr2.npz", hmr2, lambda path: _truth(build_benchmark("hmr2_npz", annotations=path)), NPZ, RAW, _check_truth
        ),
        Format("embedded.npz", embedded, _cached_set, NPZ, RAW, weight=0.5),
        Format("vertices.npy", lists, lambda path: (vertex_list(path), vertex_lists(path.parent)), NPY, RAW),
    ]


def _cached_set(path: Path) -> Any:
    """A damaged cache is not refused, but made again, with a word."""
    found = read_set(path)
    if found is None:
        raise DataError("it will be made again", where=path)
    return found


def _truth(benchmark: Any) -> Any:
    """All that a benchmark knows of its frames but their pictures."""
    rows = [record.index for record in benchmark.records]
    boxes = np.array([(*record.centre_px, record.scale) for record in benchmark.records])
    return {"truth": benchmark.truth(rows), "boxes": boxes, "frames": len(rows)}


def _check_truth(read: Any) -> None:
    joints = read["truth"].joints
    assert joints.ndim == 3 and joints.shape[0] == read["frames"] and joints.shape[2] == 3, "joints"
    assert (read["boxes"][:, 2] >= 0).all(), (
        "a box of negative size"
    )  # without size: one damaged frame, when it is read
    assert float(joints.abs().max()) < 1e5, "joints beyond a hundred kilometres"
