"""Files that a user may bring: what they are called, on whose project page they are, where posegen looks for them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Wanted:
    """A body, a checkpoint or a data set.

    Args:
        section: heading in the report; name: shown.
        folder: its place below the data folder; patterns: any of these below that folder means it is there.
        page: the project page to get it from.
        keys: configuration keys that may name its place instead, the first is used in the command.
        options: names of `conf/benchmark` and estimators for which a key counts.
        command: what to type when it is found; {place} is replaced.
    """

    section: str
    name: str
    folder: str
    patterns: tuple[str, ...]
    page: str
    keys: tuple[str, ...]
    command: str
    options: tuple[str, ...] = ()


BODIES = "bodies and motion (your own; the free ones need nothing)"
WEIGHTS = "checkpoints"
DATA = "data sets"
_EVALUATE = "posegen evaluate estimator=... benchmark={name} benchmark.annotations={{place}}"


def _body_patterns(gender: str, stems: tuple[str, ...]) -> tuple[str, ...]:
    """As in body/smpl_files.py: SMPL's names, then SMPL-H's and SMPL-X's, here or in the folders of their releases."""
    larger = [f"{kind}_{word}" for kind in ("SMPLH", "SMPLX") for word in (gender.upper(), gender)]
    larger.append(f"{gender}/model")
    below = (
        "",
        "smpl/",
        "SMPL/",
        "models/",
        "smpl/models/",
        "models/smpl/",
        "smplh/",
        "smplx/",
        "models/smplh/",
        "models/smplx/",
    )
    return tuple(
        f"{place}{stem}.{suffix}" for place in below for stem in (*stems, *larger) for suffix in ("npz", "pkl")
    )


CATALOGUE: tuple[Wanted, ...] = (
    *(
        Wanted(
            BODIES, f"SMPL {gender}", "smpl",
            _body_patterns(gender, stems),
            f"the SMPL project page ({page}; registration)", ("body.path", "estimator.body"),
            "posegen run estimator.body={place}",
        )
        for gender, page, stems in (
            ("neutral", "SMPLify's neutral model", ("SMPL_NEUTRAL", "basicmodel_neutral*", "basicModel_neutral*")),
            ("male", "SMPL for Python", ("SMPL_MALE", "basicmodel_m_*", "basicModel_m_*")),
            ("female", "SMPL for Python", ("SMPL_FEMALE", "basicmodel_f_*", "basicModel_f_*")),
        )
    ),
    Wanted(
        BODIES, "J_regressor_h36m.npy", "smpl", ("J_regressor_h36m.npy",),
        "SPIN's GitHub page (its fetch_data script)", ("body.path", "estimator.body"), "is read with the body files",
    ),
    Wanted(
        BODIES, "AMASS", "amass", ("*/*.npz", "*/*/*.npz", "*.npz"),
        "the AMASS project page (registration)", ("mocap.path",), "posegen run mocap.path={place}",
    ),
    Wanted(
        WEIGHTS, "SPIN", "spin", ("model_checkpoint.pt", "*.pt"),
        "SPIN's GitHub page (its fetch_data script)", ("estimator.checkpoint",),
        "posegen run estimator=spin estimator.checkpoint={place}", ("spin",),
    ),
    Wanted(
        WEIGHTS, "SPIN mean parameters", "spin", ("smpl_mean_params.npz",),
        "SPIN's GitHub page (its fetch_data script)", ("estimator.mean_params",),
        "estimator.mean_params={place}", ("spin",),
    ),
    Wanted(
        WEIGHTS, "HybrIK", "hybrik", ("*.pth",),
        "HybrIK's GitHub page (ResNet-34, camera variant)", ("estimator.checkpoint",),
        "posegen run estimator=hybrik estimator.checkpoint={place}", ("hybrik",),
    ),
    Wanted(
        WEIGHTS, "BlazePose lite, heavy", "blazepose", ("pose_landmark_heavy.tflite", "pose_landmark_lite.tflite"),
        "MediaPipe's model pages (full comes with posegen assets)", ("estimator.options.model_file",),
        "posegen run estimator=blazepose estimator.options.model_file={place}", ("blazepose",),
    ),
    Wanted(
        DATA, "3DPW", "3dpw", ("sequenceFiles/*/*.pkl", "3dpw_test.npz"),
        "the 3DPW project page", ("benchmark.annotations",), _EVALUATE.format(name="3dpw"), ("3dpw",),
    ),
    Wanted(
        DATA, "MPI-INF-3DHP", "mpi_inf_3dhp",
        ("mpi_inf_3dhp_test_set/TS*/annot_data.mat", "TS*/annot_data.mat", "mpi_inf_3dhp_*.npz"),
        "the MPI-INF-3DHP project page", ("benchmark.annotations",), _EVALUATE.format(name="mpi_inf_3dhp"),
        ("mpi_inf_3dhp",),
    ),
    Wanted(
        DATA, "Ski-PosePTZ", "ski_poseptz", ("test/labels.h5", "*/test/labels.h5"),
        "the Ski-PosePTZ page of EPFL's CVLab", ("benchmark.annotations",), _EVALUATE.format(name="ski_poseptz"),
        ("ski_poseptz",),
    ),
    Wanted(
        DATA, "AGORA (validation)", "agora", ("*_withjv.pkl", "*/*_withjv.pkl"),
        "the AGORA project page (validation tables with SMPL joints and vertices; registration)",
        ("benchmark.annotations",), _EVALUATE.format(name="agora"), ("agora",),
    ),
    Wanted(
        DATA, "Human3.6M", "h36m", ("h36m_valid_protocol*.npz",),
        "the Human3.6M project page (registration), preprocessed by SPIN's scripts", ("benchmark.annotations",),
        _EVALUATE.format(name="h36m_p2"), ("h36m_p1", "h36m_p2"),
    ),
    Wanted(
        DATA, "EMDB", "emdb", ("P*/*/*_data.pkl",),
        "the EMDB project page (ETH Zurich; registration)", ("benchmark.annotations",), _EVALUATE.format(name="emdb"),
        ("emdb",),
    ),
)  # fmt: skip


def data_folder() -> Path:
    """Where users put their own files: $POSEGEN_DATA, else data/ in the cache folder."""
    from posegen.assets import cache_dir

    given = os.environ.get("POSEGEN_DATA")
    return Path(given).expanduser() if given else cache_dir() / "data"


def configured(wanted: Wanted, config: Mapping[str, Any]) -> tuple[str, Path] | None:
    """The key and place that the configuration gives for a wanted file, if it does."""
    for key in wanted.keys:
        node: Any = config
        for part in key.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        if node is None:
            continue
        chosen = (config.get(key.split(".")[0]) or {}).get("name")
        if not wanted.options or chosen in wanted.options:
            return key, Path(str(node)).expanduser()
    return None
