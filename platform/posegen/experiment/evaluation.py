"""The evaluation of one arm: an estimator's errors on benchmarks, a file for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from posegen.progress import Bar

MAIN_METRIC = "mpjpe_mm"


def build_benchmarks(config: dict[str, Any], names: Sequence[str]) -> list[Any]:
    """Benchmarks by name. The embedded ones are rendered at first use and cached."""
    from posegen.benchmarks import protocol
    from posegen.benchmarks.embedded import stand_ins as embedded

    settings = config["evaluation"]
    own = {"images": settings["images"], "seed": settings["seed"], "split": config["split"]}
    own["size_px"] = config["image_size"]
    ours = {*embedded.EMBEDDED_TESTS, *embedded.EMBEDDED_OTHERS}
    return [protocol.REGISTRY.get(name)(**(own if name in ours else {})) for name in names]


def evaluate_into(folder: Path, config: dict[str, Any], names: Sequence[str], weights: Path | None, bar: Bar) -> None:
    """Writes <folder>/<benchmark>.parquet for each benchmark.

    Args:
        weights: of the estimator; None takes those of the configuration.
    """
    from posegen.benchmarks.measure.evaluate import evaluate
    from posegen.devices import default_device
    from posegen.scenes.world import build_estimator, evaluation_body

    checkpoint = str(weights) if weights else None
    estimator = build_estimator(config, default_device(), checkpoint, compared_with="free body")
    body = evaluation_body(estimator, config)
    for number, benchmark in enumerate(build_benchmarks(config, names)):
        result = evaluate(estimator, benchmark, body, config["evaluation"]["batch"])
        result.save(folder / f"{benchmark.name}.parquet")
        bar.update(number + 1, len(names), f"{result.metrics[MAIN_METRIC]:.1f} mm on {benchmark.name}")
