"""Users' body files: SMPL .pkl (with or without chumpy objects), SMPL .npz, SMPL-X releases, gendered folders."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.body.joint_sets import H36M17, SMPL_PARENTS
from posegen.body.model import BodyModel
from posegen.body.safe_pickle import load_pickle, plain
from posegen.errors import ConfigError, DataError

NEEDED = ("v_template", "shapedirs", "J_regressor", "weights", "f")
# Names of body files in the wild: SMPL's own, SPIN's and HybrIK's, smplx's.
FILE_NAMES = {
    "neutral": ("SMPL_NEUTRAL", "basicmodel_neutral_lbs_10_207_0_v1.0.0", "basicModel_neutral_lbs_10_207_0_v1.0.0"),
    "male": ("SMPL_MALE", "basicmodel_m_lbs_10_207_0_v1.0.0", "basicModel_m_lbs_10_207_0_v1.0.0"),
    "female": ("SMPL_FEMALE", "basicmodel_f_lbs_10_207_0_v1.0.0", "basicModel_f_lbs_10_207_0_v1.0.0"),
}
GENDERS = {"n": "neutral", "m": "male", "f": "female"}
# Regressor files that come with SPIN's data: file name -> name in `BodyModel.regressors`.
REGRESSORS = {"J_regressor_h36m.npy": "h36m17", "J_regressor_extra.npy": "extra9"}
SMPLX_JOINTS = (55, 52, 127)


def read_body(path: Path, gender: str = "neutral") -> BodyModel:
    """A user's body, with the joint regressors that lie in the same folder."""
    file = find_file(path, gender) if path.is_dir() else path
    arrays = read_arrays(file)
    return BodyModel(**arrays, regressors=_regressors(file.parent, arrays["v_template"]), name=file.name)


def find_file(folder: Path, gender: str) -> Path:
    """The body file of a gender in a folder (or its subfolder smpl/)."""
    gender = GENDERS.get(gender, gender)
    if gender not in FILE_NAMES:
        raise ConfigError(f"unknown gender {gender!r}", choices=FILE_NAMES)
    for place in (folder, folder / "smpl", folder / "SMPL", folder / "models"):
        for stem in FILE_NAMES[gender]:
            for suffix in (".npz", ".pkl"):
                if (place / (stem + suffix)).is_file():
                    return place / (stem + suffix)
    found = sorted(p.name for p in folder.glob("*") if p.suffix in (".pkl", ".npz"))
    raise DataError(
        f"no {gender} body in the folder (it holds {', '.join(found) or 'no .pkl or .npz file'})",
        where=folder,
        choices=[stem + ".pkl" for stem in FILE_NAMES[gender]],
        next_command="posegen doctor",
    )


def read_arrays(file: Path) -> dict[str, Any]:
    """The arguments of BodyModel from an SMPL .pkl or .npz file, checked."""
    if not file.exists():
        raise DataError("there is no such body file", where=file, next_command="posegen doctor")
    if file.suffix == ".pkl":
        contents = load_pickle(file)
    elif file.suffix == ".npz":
        try:
            with np.load(file, allow_pickle=False) as archive:
                contents = {key: archive[key] for key in archive.files if archive[key].dtype != object}
        except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
            contents = _object_npz(file, error)
    else:
        raise DataError(f"body files are .pkl or .npz, not {file.suffix or 'without a suffix'}", where=file)
    if not isinstance(contents, dict):
        raise DataError(f"the file holds a {type(contents).__name__} instead of SMPL's dictionary", where=file)
    return _checked(contents, file)


def _object_npz(file: Path, error: Exception) -> dict[str, Any]:
    """npz members that hold Python objects are pickles: those needed are numbers, the others are left out."""
    contents: dict[str, Any] = {}
    try:
        with np.load(file, allow_pickle=False) as archive:
            for key in archive.files:
                try:
                    contents[key] = archive[key]
                except ValueError:
                    continue  # an object array, never unpickled
    except (zipfile.BadZipFile, ValueError, EOFError, OSError):
        raise DataError(f"the .npz file is cut short or damaged: {error}", where=file) from error
    return contents


def _checked(contents: dict[Any, Any], file: Path) -> dict[str, Any]:
    missing = [key for key in NEEDED if key not in contents]
    if missing:
        raise DataError(
            f"this is not a body model: {', '.join(missing)} missing (it has {', '.join(map(str, sorted(contents)))})",
            where=file,
        )
    arrays = {key: plain(contents[key]) for key in NEEDED}
    vertices, joints = len(arrays["v_template"]), arrays["J_regressor"].shape[0]
    if joints in SMPLX_JOINTS:
        raise DataError(
            f"this is an SMPL-X or SMPL-H body ({joints} joints): renderer and estimators need SMPL's 24 joints",
            where=file,
            next_command="use SMPL_NEUTRAL.pkl (smpl.is.tue.mpg.de); motion of SMPL-X releases is read all the same",
        )
    expected = {
        "v_template": (vertices, 3), "J_regressor": (24, vertices), "weights": (vertices, 24),
        "shapedirs": (vertices, 3, arrays["shapedirs"].shape[-1]), "f": (len(arrays["f"]), 3),
    }  # fmt: skip
    for key, shape in expected.items():
        if arrays[key].shape != shape:
            raise DataError(f"{key} has shape {arrays[key].shape}, expected {shape}", where=file)
        if arrays[key].dtype == object or not np.isfinite(arrays[key]).all():
            raise DataError(f"{key} does not hold finite numbers", where=file)
    if "kintree_table" in contents:
        parents = plain(contents["kintree_table"])[0].astype(np.int64)
        if tuple(parents[1:]) != SMPL_PARENTS[1:]:
            raise DataError("the joints hang together in another way than SMPL's 24", where=file)
    posedirs = plain(contents["posedirs"]) if "posedirs" in contents else None
    if posedirs is not None and posedirs.shape != (vertices, 3, 207):
        raise DataError(f"posedirs has shape {posedirs.shape}, expected {(vertices, 3, 207)}", where=file)
    faces = arrays.pop("f").astype(np.int64)
    if faces.min() < 0 or faces.max() >= vertices:
        raise DataError("faces refer to vertices that do not exist", where=file)
    out = {**arrays, "faces": faces}
    if posedirs is not None:
        out["posedirs"] = posedirs
    return out


def _regressors(folder: Path, template: NDArray) -> dict[str, NDArray]:
    found, vertices = {}, len(template)
    for file_name, name in REGRESSORS.items():
        path = folder / file_name
        if not path.is_file():
            continue
        try:
            matrix = np.load(path, allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise DataError(f"the joint regressor is damaged: {error}", where=path) from error
        if matrix.ndim != 2 or matrix.shape[1] != vertices:
            raise DataError(f"the joint regressor has shape {matrix.shape}, the body {vertices} vertices", where=path)
        found[name] = in_named_order(matrix, template) if name == H36M17.name else matrix
    return found


def in_named_order(regressor: NDArray, template: NDArray) -> NDArray:
    """The Human3.6M regressor (17,V) with its rows in the order of the joint set h36m17 (right leg first).

    Two files go round under nearly the same name, equal but for the legs: SPIN's J_regressor_h36m.npy has the left leg
    in rows 1-3 (hence SPIN's H36M_TO_J17 = [6, 5, 4, 1, ...]), Pose2Mesh's J_regressor_h36m_correct.npy the right one.
    Which it is shows on the rest body, whose left is at +x.
    """
    if len(regressor) != len(H36M17):
        raise DataError(f"the Human3.6M regressor has {len(regressor)} rows instead of {len(H36M17)}")
    x = regressor @ template[:, 0]
    if x[H36M17.index("left_knee")] > x[H36M17.index("right_knee")]:
        return regressor
    return regressor[[0, 4, 5, 6, 1, 2, 3, *range(7, 17)]]
