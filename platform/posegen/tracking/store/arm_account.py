"""What an arm's MLflow run tells: parameters, tags, figures, a note; functions of the run directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from posegen.arms.registry import BEFORE, known
from posegen.config import PosegenConfig, plain
from posegen.config_types import typed
from posegen.errors import PosegenError
from posegen.tracking.report.findings import Estimate, average_change, direction, signed
from posegen.tracking.report.run_directory import RunDirectory
from posegen.tracking.report.style import arm_look
from posegen.tracking.store.names import flatten

# By which arms of several runs are compared; beside them an arm's run holds what the arm itself changes.
_MAIN = (
    "seed", "experiment_name", "image_size", "rounds", "estimator.name", "estimator.checkpoint", "noise.name",
    "feedback.name", "feedback.weight", "feedback.error", "adversarial.steps", "adversarial.batch",
    "adversarial.learning_rate", "dataset.images", "dataset.random_share", "dataset.source_images", "finetune.steps",
    "finetune.batch", "finetune.learning_rate", "finetune.optimiser", "finetune.source_share", "finetune.target_share",
    "finetune.target_labels", "finetune.keep", "target.images", "target.keypoints",
)  # fmt: skip
SHARED_TAGS = ("seed", "experiment")  # of a run, on each of its arms as well


def typed_config(run: RunDirectory) -> PosegenConfig | None:
    """A run's own configuration; None where it cannot be read by this version."""
    return _typed(json.dumps(run.config)) if run.config else None


@lru_cache(maxsize=1)  # all arms of a run ask for the same
def _typed(text: str) -> PosegenConfig | None:
    try:
        return typed(PosegenConfig, json.loads(text), "the run's configuration")
    except PosegenError:
        return None


def arm_params(run: RunDirectory, arm: str) -> dict[str, Any]:
    """The arm's main settings, and all in which it differs from the run's."""
    whole, found, config = flatten(run.config), known(arm), typed_config(run)
    own = whole
    if found is not None and config is not None:
        own = flatten(plain(found.configure(config)))
        whole = flatten(plain(config))
    shown = {key: own[key] for key in own if key in _MAIN or own[key] != whole.get(key)}
    return {"arm": arm, **shown}


def run_tags(run: RunDirectory) -> dict[str, str]:
    """What runs are filtered by."""
    told = {key: run.summary.get(key, run.config.get(key)) for key in ("seed", "experiment", "git_commit")}
    told["experiment"] = told["experiment"] or run.config.get("experiment_name")
    estimator = run.config.get("estimator")
    told["estimator"] = estimator.get("name") if isinstance(estimator, Mapping) else None
    told["benchmarks"] = ",".join(run.summary.get("benchmarks", {})) or None
    return {key: str(value) for key, value in told.items() if value is not None}


def arm_tags(run: RunDirectory, arm: str) -> dict[str, str]:
    """The run's own, and of each benchmark whether the arm is `better`, `worse` or `unclear` against before."""
    tags = {"arm": arm, **{key: value for key, value in run_tags(run).items() if key != "git_commit"}}
    for part, prefix in (("benchmarks", "benchmark"), ("watched", "watched")):
        for name, by_arm in (run.summary.get(part) or {}).items():
            difference = Estimate.of(by_arm.get("difference", {}).get(arm, {}).get("mpjpe_mm"))
            if arm == BEFORE:
                tags[f"{prefix}.{name}"] = "measured"
            elif difference is not None:
                tags[f"{prefix}.{name}"] = direction("mpjpe_mm", difference)
    return tags


def arm_metrics(run: RunDirectory, arm: str) -> dict[str, float]:
    """Final numbers under names that are the same in every arm, so that MLflow's compare page lines them up."""
    numbers: dict[str, float] = {}
    for benchmark, by_arm in [*run.summary.get("benchmarks", {}).items(), *(run.summary.get("watched") or {}).items()]:
        for metric, cell in by_arm.get("arms", {}).get(arm, {}).items():
            estimate = Estimate.of(cell)
            if estimate is not None:
                numbers[f"{benchmark}/{metric}"] = estimate.value
    average = average_of(run).get(arm)
    if average is not None:
        numbers["average/relative_mpjpe"] = average["relative_mpjpe"]["value"]
    return numbers


def parent_metrics(run: RunDirectory) -> dict[str, float]:
    """The final numbers of all arms under one roof: a chart for each benchmark and arm, the arms side by side."""
    numbers: dict[str, float] = {}
    for part in ("benchmarks", "watched"):
        for benchmark, by_arm in (run.summary.get(part) or {}).items():
            for arm, cells in by_arm.get("arms", {}).items():
                if (estimate := Estimate.of(cells.get("mpjpe_mm"))) is not None:
                    numbers[f"mpjpe_mm {benchmark}/{arm}"] = estimate.value
    for arm, cell in average_of(run).items():
        numbers[f"average/{arm}/relative_mpjpe"] = cell["relative_mpjpe"]["value"]
        numbers[f"average change of MPJPE in percent/{arm}"] = 100.0 * cell["relative_mpjpe"]["value"]
    return numbers


def average_of(run: RunDirectory) -> dict[str, Any]:
    average = run.summary.get("average", {})
    return {arm: cell for arm, cell in average.items() if Estimate.of(cell.get("relative_mpjpe")) is not None}


def arm_note(run: RunDirectory, arm: str) -> str:
    """The arm in a few sentences: what its images are, what came of them."""
    found, change = known(arm), average_change(run.summary, arm)
    meaning = found.meaning if found is not None else "the estimator as it was" if arm == BEFORE else arm
    lines = [f"**{arm_look(arm).label}**: {meaning}."]
    if change is not None and arm != BEFORE:
        verdict = {"better": "clearly less", "worse": "clearly more", "unclear": "not clearly different"}
        lines.append(
            f"Error (MPJPE) over the suite against before: {signed(change.value)} % [{signed(change.low)}, "
            f"{signed(change.high)}], {verdict[direction('mpjpe_mm', change)]}."
        )
    for name, by_arm in (run.summary.get("watched") or {}).items():
        cells = (by_arm.get("arms", {}).get(which, {}).get("mpjpe_mm") for which in (BEFORE, arm))
        before, after = (Estimate.of(cell) for cell in cells)
        if before is not None and after is not None and arm != BEFORE:
            lines.append(f"What it knew before ({name}): {before.value:.1f} → {after.value:.1f} mm.")
    return "\n\n".join(lines)


def is_of_arm(stage: str, arm: str) -> bool:
    """Whether a stage is an arm's work, in whichever round."""
    last = stage.rpartition("/")[2]
    return last == arm or last.startswith(f"{arm}-round")
