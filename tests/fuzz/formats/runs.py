"""Run directories: what a report, a comparison and a run that goes on read of them, with one file of them damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from posegen.benchmarks.measure.result import BenchmarkResult
from posegen.errors import DataError
from posegen.experiment.stages import RunFolder
from posegen.tracking.report.gallery import Gallery
from posegen.tracking.report.report import build_report
from posegen.tracking.report.run_directory import Missing, RunDirectory

from .. import neighbours
from ..format import Format
from ..raw import RAW
from ..tables import PARQUET
from ..texts import JSON, LINES, YAML
from ..zips import NPZ

RUN = "run"
NOT_MEASURED = ("azimuth", "elevation", "azimuth_rad", "elevation_rad", "joints2d_before", "joints2d_after",
"error_before_mm",
                "error_after_mm", "per_image", "joint_errors_mm", "error_at_birth_mm", "metrics")  # fmt: skip


def formats() -> list[Format]:
    def run(name: str) -> Callable[[Path], Path]:
        def build(folder: Path) -> Path:
            shutil.copytree(neighbours.TESTS / "data" / "format1" / "run", folder / RUN)
            for arm in ("random", "posegen"):  # the reader of shards has formats of its own
                shutil.rmtree(folder / RUN / "dataset" / arm)
            RunFolder(folder / RUN)  # its record
            return folder / RUN / name

        return build

    def unfinished(folder: Path) -> Path:
        """A run without its summary, whose configuration is then read from its own file."""
        path = run("config.yaml")(folder)
        path.with_name("summary.json").unlink()
        return path

    result = "evaluation/random/ski-like.parquet"
    return [
        Format("run.json", run("run.json"), lambda path: RunFolder(path.parent).record.format, JSON, RAW, fresh=True),
        Format("marker.json", run("stages/evaluate.json"), _marker, JSON, RAW),
        Format("summary.json", run("summary.json"), _run, JSON, RAW, nan=NOT_MEASURED),
        Format(
            "summary_report.json", run("summary.json"), _report, JSON, RAW, nan=NOT_MEASURED, weight=0.02, fresh=True
        ),
        Format("config.yaml", unfinished, _config, YAML, RAW, nan=NOT_MEASURED, weight=0.5),
        Format("history.jsonl", run("finetune/random/history.jsonl"), _run, LINES, RAW, nan=(*NOT_MEASURED, "loss")),
        Format(
            "result.parquet", run(result), BenchmarkResult.load, PARQUET, RAW, _check_result, nan=NOT_MEASURED, weight=2
        ),
        Format("gallery.npz", run("evaluation/gallery.npz"), Gallery.load, NPZ, RAW, nan=NOT_MEASURED),
    ]


def _marker(path: Path) -> Any:
    """A marker that cannot be read is as none: the stage is done again."""
    found = RunFolder(path.parents[1]).marker("evaluate")
    if found is None:
        raise DataError("the stage is done again", where=path)
    return found.get("digest")


def _run(path: Path) -> Any:
    """Everything but shards, as the report and the comparison ask for it."""
    root = next(parent for parent in path.parents if parent.name == RUN)
    run = RunDirectory(root)
    _ = run.name, run.arms, run.histories("generate"), run.stages(), run.config
    text = run.config_text
    if isinstance(run.summary_problem, Missing):
        raise DataError(str(run.summary_problem), where=path)
    if run.damaged:
        raise DataError(run.damaged[0], where=path)
    return run.method, [len(rows) for rows in run.histories("finetune").values()], len(text or "")


def _config(path: Path) -> Any:
    run = RunDirectory(path.parent)
    found, text = run.config, run.config_text
    if run.damaged:
        raise DataError(run.damaged[0], where=path)
    return found, text


def _report(path: Path) -> Any:
    return Path(build_report(path.parent)).stat().st_size


def _check_result(result: BenchmarkResult) -> None:
    count = len(result.ids)
    assert len(result.groups) == count and result.azimuth.shape == (count,), "rows"
    assert all(values.shape == (count,) for values in result.per_image.values()), "per image"
    assert result.joint_errors_mm.shape[1] == len(result.joint_names), "joint errors"
    assert len(result.per_joint) == len(result.joint_names) and isinstance(result.per_group, dict), "means"
