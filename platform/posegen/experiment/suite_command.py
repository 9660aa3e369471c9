"""`posegen evaluate suite=NAME`: the table of one estimator on a whole suite; nothing is generated or trained."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from posegen.benchmarks.command import file_stem
from posegen.benchmarks.measure.comparison import BEFORE, compare_arms
from posegen.benchmarks.measure.result import METRICS, TAILS, BenchmarkResult, without_nan
from posegen.benchmarks.suites import Suite, build_entry
from posegen.config.schema import PosegenConfig
from posegen.experiment.evaluation import Judge, results_of
from posegen.files.results import split_result, write_result
from posegen.progress import Bar, Reporter

HELP = """posegen evaluate suite=NAME [data=FOLDER] [estimator=NAME] [key=value ...] [--json FILE]

The table of one estimator on all data sets of a suite; nothing is generated or trained.

  suite=NAME             embedded, paper, h36m, all; conf/suite/NAME.yaml
  data=FOLDER            holds the data sets under their usual names, in their original layouts
  data.3dpw=FOLDER       one by itself; also mpi_inf_3dhp, ski_poseptz, agora, h36m, emdb
  estimator.body=FOLDER  SMPL's files with J_regressor_h36m.npy: the truth of 3DPW and EMDB
  --json FILE            the same numbers for machines; --overwrite writes over a file that is there

With run.name=NAME the arms of that run are evaluated instead, each against `before`.

example
  posegen evaluate suite=paper data=/DATASETS estimator=spin estimator.checkpoint=FILE estimator.body=SMPL_FOLDER
"""


def evaluate_suite(config: PosegenConfig, again: Sequence[str], bar: Bar | None = None) -> dict[str, Any]:
    """Evaluates the estimator of a configuration on its suite; each result is kept beside earlier ones.

    Args:
        again: the words of the command, for an error that names what is missing.

    Returns:
        the sections of a run's summary.json with the one arm `before`, and the files of the results.
    """
    from posegen.assets import ensure

    suite = Suite.of(config, again)
    settings = config.estimator
    settings.check_weights()
    if any(entry.embedded for entry in (*suite.measured, *suite.watched)):
        ensure()
    elif config.body.path is None and config.estimator.body is None:
        ensure(["body_full", "body_low"])
    judge, batch, weights = Judge(config), config.evaluation.batch, settings.weights()
    listed = (*suite.measured, *suite.watched)
    folder = Path(config.run.outputs) / "evaluation"
    results: dict[str, BenchmarkResult] = {}
    files: dict[str, str] = {}
    for result in results_of(judge, (build_entry(entry, config) for entry in listed), batch, weights):
        results[result.benchmark] = result
        files[result.benchmark] = str(result.save_beside(folder, file_stem(result)))
        if bar is not None:
            bar.update(len(results), len(listed), f"{result.metrics['mpjpe_mm']:.1f} mm on {result.benchmark}")
    told = (int(config.seed), int(config.evaluation.bootstrap))
    measured = {entry.label: results[entry.label] for entry in suite.measured}
    watched = {entry.label: results[entry.label] for entry in suite.watched}
    return {
        "estimator": config.estimator.name,
        "weights": weights,
        "arms": [BEFORE],
        "metrics": [*METRICS, *TAILS],
        **compare_arms({BEFORE: measured}, *told),
        "watched": compare_arms({BEFORE: watched}, *told)["benchmarks"] if watched else {},
        "counted": {name: result.counted for name, result in results.items()},
        "files": files,
    }


def main(argv: list[str]) -> int:
    """The command line; returns the exit status. Raises PosegenError."""
    from posegen.config import compose
    from posegen.tracking.report.tables import suite_text
    from posegen.tracking.store.evaluated import track_evaluation

    if any(word in ("-h", "--help") for word in argv):
        sys.stdout.write(HELP)
        return 0
    overrides, json_file = split_result(argv, "--json", "posegen evaluate --help")
    config = compose(overrides)
    reporter, started = Reporter(), time.monotonic()
    with reporter.stage(f"evaluating {config.estimator.name}") as bar:
        summary = evaluate_suite(config, ["posegen", "evaluate", *argv], bar)
    summary["seconds"] = round(time.monotonic() - started, 2)
    table = suite_text(summary)
    reporter.say(f"\n{table}\n")
    for name, file in summary["files"].items():
        reporter.say(f"  {name:<16} {file}")
    if json_file is not None:
        text = json.dumps(without_nan(summary), indent=2, allow_nan=False)
        write_result(json_file, text + "\n", overwrite=True)  # it was free before
        reporter.say(f"  json             {json_file}")
    with reporter.stage("telling MLflow"):
        track_evaluation(config, summary["files"], ["posegen", "evaluate", *argv], table)
    words = [word for word in overrides if not word.startswith("run.")]
    reporter.say(f"next: posegen run {' '.join(words)}   # the same table before and after")
    return 0
