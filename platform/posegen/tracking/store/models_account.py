"""Puts a run's estimators into MLflow's registry: where it started (`source`) and its best (`champion`)."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from posegen.arms.registry import BEFORE, arm_of
from posegen.config import PosegenConfig
from posegen.experiment.plans import ArmRound
from posegen.experiment.stages import file_digest
from posegen.files.atomic import write_json
from posegen.files.secrets import masked_text
from posegen.files.state import read_json
from posegen.tracking.report.run_directory import Missing, RunDirectory
from posegen.tracking.store.arm_account import run_tags
from posegen.tracking.store.champion import RULE, champion, measured_on, scores
from posegen.tracking.store.names import safe_key
from posegen.tracking.store.registered import CHAMPION, DIGEST_TAG, RULE_TAG, SCORE_TAG, SOURCE
from posegen.tracking.store.tracked_run import TrackedRun

log = logging.getLogger(__name__)

SENT_FILE = Path("tracking") / "models.json"  # in a run directory: what was sent where, with which aliases


def send_models(run: RunDirectory, config: PosegenConfig, parent: TrackedRun, child: Any) -> str | None:
    """Sends the models that `tracking.models` asks for; the arm that won, None where nothing was measured.

    Args:
        child: arm -> its MLflow run.
    """
    won = champion(run)
    if won is None or config.tracking.models == "none":
        return won
    wanted = [BEFORE, won] if config.tracking.models == "champion" else [BEFORE, *run.arms]
    found, rule = scores(run), measured_on(run)
    for arm in dict.fromkeys(wanted):
        weights = weights_file(run.path, arm, config)
        if arm != BEFORE and weights is None:
            continue
        aliases = [SOURCE] * (arm == BEFORE) + [CHAMPION] * (arm == won)
        tags: dict[str, Any] = {
            **run_tags(run), "arm": arm, "run": run.name,
            DIGEST_TAG: file_digest(weights) if weights else f"{config.estimator.name}-{config.estimator.weights()}",
        }  # fmt: skip
        told = ""
        if arm in found:
            tags |= {RULE_TAG: rule, SCORE_TAG: found[arm].chosen_by}
            if math.isfinite(found[arm].told):
                told = f" Told on the other half: {found[arm].told:.4f} of the error before."
        given = {
            "model": safe_key(f"{parent.tracker.experiment}-{config.estimator.name}").replace("/", "-"),
            "label": f"{config.estimator.name}-{arm}",
            "tags": {key: str(value) for key, value in tags.items()},
            "aliases": aliases,
            "description": f"Arm {arm} of run {run.name}. Champion: {RULE}.{told}",
        }
        _send(run, config, arm, weights, child(arm), given)
    return won


def weights_file(run: Path, arm: str, config: PosegenConfig) -> Path | None:
    """The file of an arm's weights after its last round, if it is there."""
    if arm == BEFORE:
        return None
    found = arm_of(arm)
    last = ArmRound(found, config.rounds - 1 if found.follows else 0, config.rounds)
    file = run / last.stage("finetune") / "estimator.pt"
    return file if file.is_file() else None


def _send(
    run: RunDirectory, config: PosegenConfig, arm: str, weights: Path | None, child: TrackedRun, given: dict[str, Any]
) -> None:
    from posegen.tracking.store.served import save, served

    where = masked_text(child.tracker.uri)
    try:
        sent = read_json(run.path / SENT_FILE, "what was sent to MLflow")
    except FileNotFoundError:
        sent = {}
    mark = [given["tags"][DIGEST_TAG], *given["aliases"]]
    if sent.get(where, {}).get(arm) == mark:
        return
    model = served(config, weights)
    if model is None:
        return
    missed = len(child.tracker.missed)
    with TemporaryDirectory() as folder:
        save(model, Path(folder) / "model", _example(run, arm, config))
        child.model(Path(folder) / "model", given)
    if len(child.tracker.missed) == missed:
        write_json(run.path / SENT_FILE, {**sent, where: {**sent.get(where, {}), arm: mark}})


def _example(run: RunDirectory, arm: str, config: PosegenConfig) -> np.ndarray:
    """Two pictures (2,3,S,S) in [0,1] of the arm's own rows; grey ones where it has none."""
    for name in (arm, *run.generated_arms):
        samples = run.samples(name, 2)
        if not isinstance(samples, Missing) and len(samples) == 2:
            return np.ascontiguousarray(samples.images.transpose(0, 3, 1, 2), dtype=np.float32) / 255.0
    return np.full((2, 3, config.image_size, config.image_size), 0.5, np.float32)
