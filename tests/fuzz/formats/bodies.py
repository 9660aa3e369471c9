"""Body models: SMPL's pickles and npz files, joint regressors, the packed dressed people, SPIN's mean parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from posegen.body.smpl_files import read_arrays, read_regressors
from posegen.body.subjects import read_subjects
from posegen.estimator.spin import read_mean_params

from .. import neighbours  # noqa: F401 (the builders of the other tests)
from ..format import Format, Mutators
from ..pickled import OPCODES, tree_mutator
from ..raw import RAW
from ..zips import NPY, NPZ


def formats() -> list[Format]:
    from smpl_like import arrays, write_original_pkl

    def pickled(folder: Path) -> Path:
        write_original_pkl(folder / "SMPL_NEUTRAL.pkl")
        return folder / "SMPL_NEUTRAL.pkl"

    def archive(folder: Path) -> Path:
        np.savez(folder / "SMPL_NEUTRAL.npz", **arrays())
        return folder / "SMPL_NEUTRAL.npz"

    def regressor(folder: Path) -> Path:
        np.save(folder / "J_regressor_h36m.npy", np.random.default_rng(0).dirichlet(np.ones(40), 17))
        return folder / "J_regressor_h36m.npy"

    def people(folder: Path) -> Path:
        rng = np.random.default_rng(0)
        body = {
            "template": rng.normal(size=(6, 3)), "shapedirs": rng.normal(size=(6, 3, 10)), "albedo": rng.random((6, 3)),
            "weights": rng.dirichlet(np.ones(24), 6), "faces": np.array([[0, 1, 2], [3, 4, 5]], np.int32),
        }  # fmt: skip
        rest = {"rest_template": rng.normal(size=(24, 3)), "rest_directions": rng.normal(size=(24, 3, 10))}
        np.savez(folder / "subjects.npz", **rest, **{f"one/{key}": value for key, value in body.items()})
        return folder / "subjects.npz"

    def means(folder: Path) -> Path:
        rng = np.random.default_rng(0)
        np.savez(folder / "means.npz", pose=rng.normal(size=144), shape=np.zeros(10), cam=np.array([0.9, 0, 0]))
        return folder / "means.npz"

    template = np.random.default_rng(0).normal(size=(40, 3))
    return [
        Format("smpl.pkl", pickled, read_arrays, Mutators((tree_mutator(sample=arrays),), OPCODES), RAW, _check_body),
        Format("smpl.npz", archive, read_arrays, NPZ, RAW, _check_body),
        Format(
            "j_regressor.npy",
            regressor,
            lambda path: read_regressors(path.parent, template),
            NPY,
            RAW,
            _check_regressor,
        ),
        Format("subjects.npz", people, lambda path: read_subjects(path, ["one"]), NPZ, RAW),
        Format("mean_params.npz", means, read_mean_params, NPZ, RAW, _check_means),
    ]


def _check_body(body: dict[str, Any]) -> None:
    vertices = len(body["v_template"])
    assert body["v_template"].shape == (vertices, 3), "v_template"
    assert body["weights"].shape == (vertices, 24), "weights"
    assert body["J_regressor"].shape == (24, vertices), "J_regressor"
    assert body["faces"].dtype == np.int64 and body["faces"].max() < vertices, "faces"


def _check_regressor(found: dict[str, Any]) -> None:
    assert all(matrix.shape[1] == 40 and matrix.dtype.kind in "fiub" for matrix in found.values()), "regressor"
    assert found.get("h36m17", np.zeros((17, 40))).shape == (17, 40), "h36m17"


def _check_means(found: dict[str, Any]) -> None:
    assert {key: tuple(value.shape) for key, value in found.items()} == {
        "init_pose": (1, 144), "init_shape": (1, 10), "init_cam": (1, 3),
    }, "mean parameters"  # fmt: skip
