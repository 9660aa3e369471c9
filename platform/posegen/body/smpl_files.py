"""Users' body files: SMPL .pkl (with or without chumpy objects), SMPL .npz, SMPL-X releases, gendered folders."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.body.joint_sets import H36M17, SMPL_PARENTS
from posegen.body.model import BodyModel
from posegen.errors import ConfigError, DataError
from posegen.files.arrays import read_npy, read_npz
from posegen.files.body_records import plain
from posegen.files.listing import files_matching
from posegen.files.numbers import array_of
from posegen.files.pickles import load_pickle, placed

log = logging.getLogger(__name__)

NEEDED = ("v_template", "shapedirs", "J_regressor", "weights", "f")


def _names(gender: str, short: str) -> tuple[str, ...]:
    """File names of a gender, without suffix, in the order of choice: SMPL's (as in smplx, as on its page in releases
    1.0.0 and 1.1.0), then SMPL-H's and SMPL-X's, whose pages unpack to a file by gender or to GENDER/model.npz."""
    releases = [f"basic{m}odel_{short}_lbs_10_207_0_v{version}" for version in ("1.0.0", "1.1.0") for m in "mM"]
    larger = [f"{kind}_{word}" for kind in ("SMPLH", "SMPLX") for word in (gender.upper(), gender)]
    return (f"SMPL_{gender.upper()}", *releases, *larger, f"{gender}/model")


FILE_NAMES = {
    gender: _names(gender, short) for gender, short in (("neutral", "neutral"), ("male", "m"), ("female", "f"))
}
# Folders below the given one that releases and other projects put the files into.
PLACES = ("", "smpl", "SMPL", "models", "smpl/models", "models/smpl", "smplh", "smplx", "models/smplh", "models/smplx")
GENDERS = {"n": "neutral", "m": "male", "f": "female"}
# Regressor files that come with SPIN's data: file name -> name in `BodyModel.regressors`.
REGRESSORS = {"J_regressor_h36m.npy": "h36m17", "J_regressor_extra.npy": "extra9"}
# Bodies with fingers: joint count -> name, joints merged into the head, and the joints of the left and right hand.
WITH_FINGERS: dict[int, tuple[str, list[int], list[int], list[int]]] = {
    52: ("SMPL-H", [], list(range(22, 37)), list(range(37, 52))),
    55: ("SMPL-X", [22, 23, 24], list(range(25, 40)), list(range(40, 55))),
}
DIMENSIONS = {"v_template": 2, "shapedirs": 3, "J_regressor": 2, "weights": 2, "f": 2, "posedirs": 3}
KNUCKLES = [0, 3, 6, 9]  # first joints of the index, middle, little and ring finger within a hand's fifteen


def read_body(path: Path, gender: str = "neutral") -> BodyModel:
    """A user's body, with the joint regressors that lie in the same folder."""
    file = find_file(path, gender) if path.is_dir() else path
    arrays = read_arrays(file)
    folders = [file.parent, path] if path.is_dir() else [file.parent]  # SMPL-H's files lie a folder deeper
    template = arrays["v_template"]
    regressors = {name: rows for place in folders for name, rows in read_regressors(place, template).items()}
    return BodyModel(**arrays, regressors=regressors, name=file.name)


def find_file(folder: Path, gender: str) -> Path:
    """The body file of a gender in a folder (or its subfolder smpl/)."""
    gender = GENDERS.get(gender, gender)
    if gender not in FILE_NAMES:
        raise ConfigError(f"unknown gender {gender!r}", choices=FILE_NAMES)
    for place in (folder / below for below in PLACES):
        for stem in FILE_NAMES[gender]:
            for suffix in (".npz", ".pkl"):
                if (place / (stem + suffix)).is_file():
                    return place / (stem + suffix)
    found = sorted(p.name for p in files_matching(folder, "*") if p.suffix in (".pkl", ".npz"))
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
        contents = read_npz(file, (), (*NEEDED, "kintree_table", "posedirs"), what="the body file")
    else:
        raise DataError(f"body files are .pkl or .npz, not {file.suffix or 'without a suffix'}", where=file)
    if not isinstance(contents, dict):
        raise DataError(f"the file holds a {type(contents).__name__} instead of SMPL's dictionary", where=file)
    return placed(file, lambda: _checked(contents, file))


def _checked(contents: dict[Any, Any], file: Path) -> dict[str, Any]:  # noqa: PLR0912 - a branch for each array of the file
    missing = [key for key in NEEDED if key not in contents]
    if missing:
        held = ", ".join(sorted(map(str, contents)))[:300]
        raise DataError(f"this is not a body model: {', '.join(missing)} missing (it has {held})", where=file)
    arrays = {key: plain(contents[key]) for key in NEEDED}
    posedirs = plain(contents["posedirs"]) if "posedirs" in contents else None
    for key, array in (*arrays.items(), *([] if posedirs is None else [("posedirs", posedirs)])):
        if array.ndim != DIMENSIONS[key] or not array.size:
            raise DataError(f"{key} has shape {array.shape}, expected {DIMENSIONS[key]} dimensions", where=file)
    vertices, joints = len(arrays["v_template"]), arrays["J_regressor"].shape[0]
    parents = _parents(plain(contents["kintree_table"]), file) if "kintree_table" in contents else None
    if joints in WITH_FINGERS and arrays["weights"].shape[1] == joints:
        arrays, posedirs = without_fingers(arrays, posedirs)
        parents = None if parents is None else np.append(parents[:22], SMPL_PARENTS[22:])
    elif joints not in (24, *WITH_FINGERS):
        raise DataError(
            f"this body has {joints} joints",
            where=file,
            choices=["24 (SMPL)", "52 (SMPL-H, fingers merged)", "55 (SMPL-X, fingers and face merged)"],
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
    if parents is not None and tuple(parents[1:]) != SMPL_PARENTS[1:]:
        raise DataError("the joints hang together in another way than SMPL's 24", where=file)
    if posedirs is not None and posedirs.shape != (vertices, 3, 207):
        raise DataError(f"posedirs has shape {posedirs.shape}, expected {(vertices, 3, 207)}", where=file)
    if posedirs is not None and not np.isfinite(posedirs).all():
        raise DataError("posedirs does not hold finite numbers", where=file)
    faces = array_of(arrays.pop("f"), "f", np.int64, file)
    if faces.min() < 0 or faces.max() >= vertices:
        raise DataError("faces refer to vertices that do not exist", where=file)
    out = {**arrays, "faces": faces}
    if posedirs is not None:
        out["posedirs"] = posedirs
    return out


def _parents(tree: NDArray, file: Path) -> NDArray:
    """The parent of each joint, the first row of SMPL's kintree_table; the root's is any number."""
    if tree.ndim != 2 or not tree.size or tree.dtype.kind not in "iuf" or not np.isfinite(tree).all():
        raise DataError(f"kintree_table has shape {tree.shape}, expected (2, joints)", where=file)
    return np.clip(tree[0], -1, 1000).astype(np.int64)


def without_fingers(arrays: dict[str, NDArray], posedirs: NDArray | None) -> tuple[dict[str, NDArray], NDArray | None]:
    """SMPL's 24 joints from an SMPL-H (52) or SMPL-X (55) body.

    Fingers move with a hand joint at the mean of the four knuckles, jaw and eyes with the head; the pose blend shapes
    of the 21 body joints are kept, those of the fingers are dropped.
    """
    _, face, left, right = WITH_FINGERS[arrays["J_regressor"].shape[0]]
    out = dict(arrays)
    weights = arrays["weights"][:, :22].copy()
    weights[:, 15] += arrays["weights"][:, face].sum(1)
    hands = [arrays["weights"][:, hand].sum(1, keepdims=True) for hand in (left, right)]
    out["weights"] = np.concatenate([weights, *hands], 1)
    rows = [arrays["J_regressor"][[hand[k] for k in KNUCKLES]].mean(0, keepdims=True) for hand in (left, right)]
    out["J_regressor"] = np.concatenate([arrays["J_regressor"][:22], *rows])
    if posedirs is None:
        return out, None
    kept = posedirs[..., : 21 * 9]
    return out, np.concatenate([kept, np.zeros((*kept.shape[:2], 18), kept.dtype)], 2)


def read_regressors(folder: Path, template: NDArray) -> dict[str, NDArray]:
    """The joint regressors in a folder that fit a body of template (V,3), by the name of their joint set."""
    found, vertices = {}, len(template)
    for file_name, name in REGRESSORS.items():
        path = folder / file_name
        if not path.is_file():
            continue
        matrix = read_npy(path, "the joint regressor")
        if matrix.ndim != 2 or matrix.shape[1] != vertices:
            log.warning("%s is for another mesh: shape %s, the body has %d vertices", path, matrix.shape, vertices)
            continue
        found[name] = in_named_order(matrix, template, path) if name == H36M17.name else matrix
    return found


def in_named_order(regressor: NDArray, template: NDArray, where: object = None) -> NDArray:
    """The Human3.6M regressor (17,V) with its rows in the order of the joint set h36m17 (right leg first).

    Two files go round under nearly the same name, equal but for the legs: SPIN's J_regressor_h36m.npy has the left leg
    in rows 1-3 (hence SPIN's H36M_TO_J17 = [6, 5, 4, 1, ...]), Pose2Mesh's J_regressor_h36m_correct.npy the right one.
    Which it is shows on the rest body, whose left is at +x.
    """
    return regressor[named_rows(regressor, template, where)]


def named_rows(regressor: NDArray, template: NDArray, where: object = None) -> list[int]:
    """Which rows of a Human3.6M regressor (17,V) are the joints of h36m17, in its order. See in_named_order."""
    if len(regressor) != len(H36M17):
        raise DataError(f"the Human3.6M regressor has {len(regressor)} rows instead of {len(H36M17)}", where=where)
    x = regressor @ template[:, 0]
    if x[H36M17.index("left_knee")] > x[H36M17.index("right_knee")]:
        return list(range(17))
    return [0, 4, 5, 6, 1, 2, 3, *range(7, 17)]
