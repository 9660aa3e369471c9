"""A body of 24 vertices that are its joints: known without assets, quick."""

from __future__ import annotations

import numpy as np

from posegen.body.model import BodyModel


def stick_body(h36m: bool = False) -> BodyModel:
    generator = np.random.default_rng(5)
    regressors = {"h36m17": generator.dirichlet(np.full(24, 0.3), 17)} if h36m else None
    return BodyModel(
        generator.standard_normal((24, 3)) * 0.3,
        generator.standard_normal((24, 3, 10)) * 0.01,
        np.eye(24),
        np.eye(24),
        np.array([[0, 1, 2]]),
        regressors=regressors,
        name="stick",
    )
