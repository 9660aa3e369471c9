"""`posegen evaluate benchmark=NAME`: the error of one estimator on one data set, printed with its protocol."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from posegen.benchmarks.measure.comparison import TAIL_RESAMPLES
from posegen.benchmarks.measure.evaluate import evaluate
from posegen.benchmarks.measure.result import TAILS, BenchmarkResult
from posegen.benchmarks.measure.statistics import Interval, bootstrap_mean, bootstrap_tail
from posegen.benchmarks.protocol import build, names
from posegen.config.schema import PosegenConfig
from posegen.errors import ConfigError
from posegen.files.results import split_result, write_result

HELP = """posegen evaluate [estimator=NAME] benchmark=NAME [key=value ...] [--json FILE]

Measures an estimator on a data set and prints every number with its interval and its protocol.

  benchmark=NAME              {names}
  benchmark.annotations=PATH  where the labels are; conf/benchmark/NAME.yaml tells each data set's options
  benchmark.images=FOLDER     where the pictures are, if not beside the labels
  body.path=FOLDER            SMPL files with J_regressor_h36m.npy: truth of 3DPW and EMDB, vertices of predictions
  estimator.body=PATH         the estimator's own body, where it is another
  estimator=NAME              and estimator.checkpoint=FILE estimator.mean_params=FILE
  engine.address=HOST:PORT    read and crop the pictures with Ray Data on that cluster (local: one started here)
  --json FILE                 the same numbers for machines; --overwrite writes over a file that is there

examples
  posegen evaluate estimator=spin estimator.checkpoint=model_checkpoint.pt estimator.mean_params=smpl_mean_params.npz \\
    body.path=smpl benchmark=3dpw benchmark.annotations=3DPW/sequenceFiles benchmark.images=3DPW --json out.json
  posegen evaluate benchmark=ski-like benchmark.images=160
  posegen evaluate suite=paper data=/DATASETS ...     # all data sets of a suite: posegen evaluate suite=paper --help
"""

LABELS = {
    "mpjpe_mm": ("MPJPE", "mm"),
    "pa_mpjpe_mm": ("PA-MPJPE", "mm"),
    "pve_mm": ("PVE", "mm"),
    "pck_150": ("PCK@150", "%"),
    "auc": ("AUC", "%"),
    "wrong_way_round": ("wrong way round", "%"),
    "acceleration_mm": ("acceleration", "mm/frame2"),
    "nmje_mm": ("NMJE", "mm"),
    "nmve_mm": ("NMVE", "mm"),
    "worst_5_mm": ("worst 5 %", "mm"),
    "worst_10_mm": ("worst 10 %", "mm"),
    "f1": ("F1", ""),
    **{
        f"{part}_{kind}_mm": (f"{label} {kind.upper()}", "mm")
        for part, label in (
            ("body", "body"),
            ("lhand", "left hand"),
            ("rhand", "right hand"),
            ("face", "face"),
            ("fullbody", "whole"),
        )
        for kind in ("mpjpe", "mve", "nmje", "nmve")
    },
    "precision": ("precision", ""),
    "recall": ("recall", ""),
}

Progress = Callable[[int, int], None]


def evaluate_command(config: PosegenConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Runs the evaluation that a configuration describes.

    Args:
        config: the plain dict of posegen.config; `benchmark` holds a name and options, None values are left out.

    Returns:
        the summary of the result with an interval for each metric, the path of the Parquet file, seconds, images/s.
    """
    from posegen.assets import ensure
    from posegen.devices import default_device
    from posegen.estimator.configured import build_estimator, crop_of_config, evaluation_body

    options = {key: value for key, value in config.benchmark.items() if value is not None}
    name = options.pop("name", None)
    if name is None:
        raise ConfigError("which benchmark?", where="benchmark", choices=names())
    started = time.monotonic()
    predictions = options.pop("predictions", None)
    if predictions is not None:
        result = _scored(name, predictions, options)
    else:
        if config.body.path is None and config.estimator.body is None:
            ensure(["body_full", "body_low"])
        config.estimator.check_weights()
        benchmark = build(name, crop_of_config(config), **_with_defaults(name, options, config))
        estimator = build_estimator(config, default_device(), compared_with=benchmark.truth_of)
        if config.engine.address:
            _read_by_ray(benchmark, config)
        result = evaluate(estimator, benchmark, evaluation_body(estimator, config), config.evaluation.batch, progress)
        result = replace(result, weights=config.estimator.weights())
    seconds = time.monotonic() - started
    path = result.save_beside(Path(config.run.outputs) / "evaluation", file_stem(result))
    return result.summary() | {
        "intervals": intervals(result, config.seed, config.evaluation.bootstrap),
        "checkpoint": config.estimator.checkpoint,
        "annotations": options.get("annotations"),
        "file": str(path),
        "seconds": round(seconds, 2),
        "images_per_second": round(len(result.ids) / seconds, 2),
    }


def intervals(result: BenchmarkResult, seed: int, resamples: int) -> dict[str, dict[str, Any]]:
    """95 % bootstrap intervals over clips or sequences, of each metric that images have."""
    table = {}
    for metric, values in result.per_image.items():
        interval = bootstrap_mean(values, seed, result.groups, resamples=resamples)
        if interval.count:
            table[metric] = _told(interval)
    for name, share in TAILS.items():
        interval = bootstrap_tail(
            result.per_image["mpjpe_mm"], share, seed, result.groups, resamples=min(resamples, TAIL_RESAMPLES)
        )
        if interval.count:
            table[name] = _told(interval)
    return table


def _told(interval: Interval) -> dict[str, Any]:
    return {"value": interval.value, "low": interval.low, "high": interval.high, "over": interval.unit}


def _embedded(name: str) -> bool:
    from posegen.benchmarks.embedded.stand_ins import EMBEDDED_OTHERS, EMBEDDED_TESTS

    return name in (*EMBEDDED_TESTS, *EMBEDDED_OTHERS)


def _with_defaults(name: str, options: dict[str, Any], config: PosegenConfig) -> dict[str, Any]:
    """The benchmark's options with what other parts of the configuration say of it."""
    if _embedded(name):
        return {"split": config.split, "size_px": config.image_size} | options
    body_path = config.body.path or config.estimator.body
    takes_body = name in ("3dpw", "emdb", "spin_npz") and body_path is not None
    return ({"body_path": body_path} if takes_body else {}) | options


def _read_by_ray(benchmark: Any, config: PosegenConfig) -> None:
    """Pictures are read by the cluster that the configuration names, instead of by threads of this process."""
    from posegen.benchmarks.readers.frames import FrameBenchmark
    from posegen.engine.cluster import connect
    from posegen.engine.frames import by_ray

    if isinstance(benchmark, FrameBenchmark):
        connect(config.engine.address)
        benchmark.loader = by_ray


def _scored(name: str, predictions: str, options: dict[str, Any]) -> BenchmarkResult:
    from posegen.benchmarks.measure.agora_predictions import score_predictions

    if name != "agora":
        raise ConfigError(
            "prediction files are scored for AGORA only", where="benchmark.predictions", choices=["agora"]
        )
    if "annotations" not in options:
        raise ConfigError("AGORA's tables are needed", where="benchmark.annotations")
    given = {key: options[key] for key in ("body_vertices", "model", "part_vertices") if key in options}
    return score_predictions(options["annotations"], predictions, **given)


def file_stem(result: BenchmarkResult) -> str:
    """The name of a result's file: estimator, benchmark, and the weights where they are known."""
    weights = f"-{result.weights[:8]}" if result.weights else ""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{result.estimator}-{result.benchmark}{weights}")


def table_text(summary: Mapping[str, Any]) -> str:
    """The result as a person reads it."""
    lines = [f"{summary['estimator']} on {summary['benchmark']}", f"  protocol  {summary['protocol']}"]
    for metric, value in summary["metrics"].items():
        label, unit = LABELS.get(metric, (metric, ""))
        interval = summary["intervals"].get(metric)
        shown = "-" if value is None else f"{value:9.2f} {unit}".rstrip()
        if interval is not None and value is not None:
            shown += f"  [{interval['low']:.2f}, {interval['high']:.2f}] over {interval['over']}s"
        lines.append(f"  {label:<13} {shown}")
    for title, table in (("by action", summary["per_action"]), ("by sequence", summary["per_group"])):
        if 1 < len(table) <= 24:
            lines.append(f"  {title}")
            for group, values in table.items():
                error = values.get("mpjpe_mm")
                lines.append(f"    {group:<32} {'-' if error is None else f'{error:8.1f} mm'}  {values['images']:.0f}")
    lines.append("  images    " + ", ".join(f"{number} {kind}" for kind, number in summary["counted"].items()))
    if summary["skipped"]:
        shown = ", ".join(summary["skipped"][:5]) + (" ..." if len(summary["skipped"]) > 5 else "")
        lines.append(f"  left out  {shown}")
    lines.append(f"  speed     {summary['images_per_second']:.1f} images/s")
    lines.append(f"  file      {summary['file']}")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """The command line; returns the exit status. Raises PosegenError."""
    from posegen.config import compose
    from posegen.progress import Reporter
    from posegen.tracking.store.evaluated import track_evaluation

    if any(word in ("-h", "--help") for word in argv):
        sys.stdout.write(HELP.format(names=", ".join(names())))
        return 0
    overrides, json_file = split_result(argv, "--json", "posegen evaluate --help")
    # `benchmark` is in no defaults list, so that an experiment has none: Hydra wants a plus sign for such a group.
    config = compose([f"+{word}" if word.startswith("benchmark=") else word for word in overrides])
    reporter = Reporter()
    with reporter.stage(f"evaluating {config.estimator.name}") as bar:
        summary = evaluate_command(config, bar.update)
    table = table_text(summary)
    reporter.say(table)
    if json_file is not None:
        text = json.dumps(summary, indent=2, allow_nan=False)
        write_result(json_file, text + "\n", overwrite=True)  # it was free before
        reporter.say(f"  json      {json_file}")
    with reporter.stage("telling MLflow"):
        track_evaluation(config, {summary["benchmark"]: summary["file"]}, ["posegen", "evaluate", *argv], table)
    reporter.say("next: fine-tune on what it fails at with `posegen run estimator=...`, then evaluate the result again")
    return 0
