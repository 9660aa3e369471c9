"""summary.json: all that a run found, for machines, the report and comparisons."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from posegen import __version__
from posegen.benchmarks.measure.comparison import Results, compare_arms
from posegen.benchmarks.measure.result import METRICS, TAILS
from posegen.config.names import plain
from posegen.config.schema import PosegenConfig
from posegen.experiment.run_record import stage_of
from posegen.experiment.stages import RunFolder, stage_times, wall_seconds
from posegen.files.secrets import masked
from posegen.machine import cores, processor

TOLD_VERSIONS = ("torch", "ray", "mlflow", "hydra-core", "pyarrow", "nerfacc", "smplx", "numpy")


def git_commit() -> str | None:
    """The checkout's commit, with a plus sign if files were changed since; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here, capture_output=True, text=True, timeout=20, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changed else "")


def machine() -> dict[str, Any]:
    """What the numbers were made on."""
    import torch

    return {
        "system": platform.system(),
        "processor": processor(),
        "cores": cores(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Of posegen and what its numbers depend on; what is not installed is left out."""
    found = {"posegen": __version__}
    for name in TOLD_VERSIONS:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def write_summary(
    run: RunFolder,
    config: PosegenConfig,
    results: Results,
    watched: Results | None = None,
    target: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Assembles and writes summary.json of a finished run.

    Args:
        watched: results that are shown, but are no part of the benchmarks' average.
        target: what is told of the user's own domain (posegen.experiment.target_account).
    """
    told = (config.seed, config.evaluation.bootstrap)
    markers = {stage: run.marker(stage) or {} for stage in map(stage_of, _markers(run))}
    plausibility = {
        name.split("/", 1)[1]: marker["plausibility"] for name, marker in markers.items() if "plausibility" in marker
    }
    summary: dict[str, Any] = {
        "run": run.name,
        "experiment": config.experiment_name,
        "seed": config.seed,
        "git_commit": git_commit(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": versions(),
        "machine": machine(),
        "split": config.split,
        "timings_s": {name: marker["seconds"] for name, marker in markers.items() if "seconds" in marker},
        "wall_s": round(wall_seconds(stage_times(run.path, markers).values()), 3),
        "arms": list(results),
        "metrics": [*METRICS, *TAILS],
        **compare_arms(results, *told),
        "watched": compare_arms(watched, *told)["benchmarks"] if watched else {},
        "generator": plausibility,
        "budget": budgets(markers, list(results)),
        "target": target or {},
        "config": masked(plain(config)),
    }
    run.write_json(run.path / "summary.json", summary)
    return summary


def budgets(markers: Mapping[str, Mapping[str, Any]], arms: Sequence[str]) -> dict[str, dict[str, int]]:
    """What each arm trained on, and what it rendered beyond that to choose from: numbers of images, and steps.

    `kept_step` is that of the weights which a guarded fine-tuning kept, over its rounds; 0: those that it began
    with, for all others were clearly worse.
    """
    told: dict[str, dict[str, int]] = {}
    for arm in arms:

        def rounds(stage: str, arm: str = arm) -> list[Mapping[str, Any]]:
            return [
                m for name, m in markers.items() if name == f"{stage}/{arm}" or name.startswith(f"{stage}/{arm}-round")
            ]

        def total(stage: str, figure: str) -> int:
            return sum(int(marker.get(figure, 0)) for marker in rounds(stage))

        if f"finetune/{arm}" in markers:
            beyond = total("candidates", "rendered") + total("mining", "rendered")  # the latter in runs of before
            told[arm] = {
                "images": total("finetune", "rows"), "rendered_to_choose": beyond, "steps": total("finetune", "steps"),
            }  # fmt: skip
            if any("kept_step" in marker for marker in rounds("finetune")):
                told[arm]["kept_step"] = total("finetune", "kept_step")
    return told


def _markers(run: RunFolder) -> list[Path]:
    return sorted(run.stages.glob("*.json"), key=lambda file: file.stat().st_mtime)
