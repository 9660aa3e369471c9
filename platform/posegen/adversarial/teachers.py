"""The estimators that a feedback compares with: `feedback.teachers`, each as in conf/estimator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from posegen.config.schema import PosegenConfig
from posegen.config_types import typed
from posegen.errors import ConfigError
from posegen.estimator.config import EstimatorConfig
from posegen.estimator.configured import build_estimator
from posegen.scene import Estimator


def teachers_of(config: PosegenConfig, device: str | torch.device = "cpu") -> tuple[Estimator, ...]:
    """Builds the teachers of a configuration; none where its signal asks none.

    Raises:
        ConfigError: a teacher that is no estimator's settings, or that lacks its weights.
    """
    if config.feedback.signal != "regret" or config.feedback.name == "none":
        return ()
    built = []
    for number, told in enumerate(config.feedback.teachers):
        where = f"feedback.teachers[{number}]"
        if not isinstance(told, Mapping) or "name" not in told:
            raise ConfigError(
                f"{told!r} is no estimator's settings", where=where,
                next_command='"feedback.teachers=[{name: blazepose}]"',
            )  # fmt: skip
        settings = typed(EstimatorConfig, told, where)
        built.append(build_estimator(replace(config, estimator=settings), device))
    return tuple(built)
