"""Tiny bodies in the layouts of SMPL's releases, for tests of readers."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from posegen.body.joint_sets import SMPL_PARENTS

VERTICES = 40


def arrays(joints: int = 24, seed: int = 0) -> dict[str, np.ndarray]:
    """Random but well-formed arrays of a body with 24 (SMPL), 52 (SMPL-H) or 55 (SMPL-X) joints."""
    g = np.random.default_rng(seed)
    regressor = g.random((joints, VERTICES)) * (g.random((joints, VERTICES)) < 0.3) + 1e-3
    weights = g.random((VERTICES, joints)) ** 4
    parents = np.array([2**32 - 1, *SMPL_PARENTS[1:22], *([0] * (joints - 22))], np.int64)
    parents[22:24] = SMPL_PARENTS[22:]
    return {
        "v_template": g.normal(size=(VERTICES, 3)),
        "shapedirs": 0.03 * g.normal(size=(VERTICES, 3, 10)),
        "posedirs": 0.01 * g.normal(size=(VERTICES, 3, 9 * (joints - 1))),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "weights": weights / weights.sum(1, keepdims=True),
        "f": g.integers(0, VERTICES, (60, 3)).astype(np.uint32),
        "kintree_table": np.stack([parents, np.arange(joints)]),
    }


@contextmanager
def fake_chumpy() -> Iterator[type]:
    """A module called chumpy whose Ch pickles like the original: the class by name, the numbers under `x`."""
    package, module = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")

    class Ch:
        def __init__(self, x: np.ndarray) -> None:
            self.x = x
            self._dirty_vars: set[str] = {"x"}
            self._itr = None

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module.Ch = Ch  # type: ignore[attr-defined]
    sys.modules |= {"chumpy": package, "chumpy.ch": module}
    try:
        yield Ch
    finally:
        del sys.modules["chumpy"], sys.modules["chumpy.ch"]


def write_original_pkl(path: Path, seed: int = 0, protocol: int = 2) -> dict[str, np.ndarray]:
    """SMPL's release layout: chumpy shapedirs, posedirs and weights, a scipy csc regressor, more keys."""
    body: dict[str, Any] = arrays(seed=seed)
    truth = dict(body)
    with fake_chumpy() as Ch:
        for key in ("v_template", "shapedirs", "weights", "posedirs"):
            body[key] = Ch(body[key])
        body["J_regressor"] = sparse.csc_matrix(body["J_regressor"])
        body |= {"bs_style": "lbs", "bs_type": "lrotmin", "J": Ch(np.zeros((24, 3)))}
        path.write_bytes(pickle.dumps(body, protocol=protocol))
    return truth
