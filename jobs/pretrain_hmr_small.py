"""Reproduces the shipped weights of the embedded estimator: renders its narrow source, trains, says how good it is.

    python jobs/pretrain_hmr_small.py                      # about a quarter of an hour on two cores
    python jobs/pretrain_hmr_small.py --images 500 --steps 100 --output quick.npz

Training is posegen.finetune's loop with nothing but source rows; the source is the split's (conf/split/embedded.yaml).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from posegen.arms.rows import SourceRenderer
from posegen.assets import ensure
from posegen.benchmarks.embedded.stand_ins import build_embedded
from posegen.benchmarks.measure.evaluate import evaluate
from posegen.config import compose
from posegen.config.task import ArmTask
from posegen.estimator import build
from posegen.estimator.checkpoint import write_npz
from posegen.estimator.hmr_small import SHIPPED_WEIGHTS
from posegen.finetune.loop import COLUMNS, FinetuneLoop
from posegen.machine import keep_freed_memory
from posegen.progress import Reporter, duration
from posegen.shards.table import table_to_tensors

SETTINGS = [
    "finetune.source_share=1.0", "finetune.frozen_batchnorm=false", "finetune.learning_rate=1.5e-3",
    "finetune.warmup_steps=100", "finetune.average=0.995", "finetune.batch=64",
]  # fmt: skip
CHUNK = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=SHIPPED_WEIGHTS)
    arguments = parser.parse_args()
    keep_freed_memory()
    ensure()
    reporter = Reporter()
    config = compose([*SETTINGS, f"finetune.steps={arguments.steps}", f"seed={arguments.seed}"])
    renderer = SourceRenderer(config)
    tables = []
    with reporter.stage("rendering the source", arguments.images) as bar:
        for start in range(0, arguments.images, CHUNK):
            tables.append(renderer(np.arange(start, min(start + CHUNK, arguments.images))).select(list(COLUMNS)))
            bar.update(start + CHUNK, arguments.images)
    rows = table_to_tensors(pa.concat_tables(tables), COLUMNS)
    start_s = time.monotonic()
    loop = FinetuneLoop(
        ArmTask(config), estimator=build("hmr_small", pretrained=False, seed=arguments.seed), source=rows
    )
    with reporter.stage("training", arguments.steps) as bar:
        while loop.step_index < loop.steps:
            loss = loop.step({})["loss"]
            bar.update(loop.step_index, loop.steps, f"loss {loss:.3f}")
    path = write_npz(loop.finish().state_dict(), arguments.output)
    shipped = build("hmr_small", checkpoint=path)
    reporter.say(f"trained in {duration(time.monotonic() - start_s)} with {torch.get_num_threads()} threads")
    for name in ("source-like", "validation"):
        result = evaluate(shipped, build_embedded(name, images=512))
        reporter.say(f"{name}: MPJPE {result.metrics['mpjpe_mm']:.1f} mm, PA {result.metrics['pa_mpjpe_mm']:.1f} mm")
    reporter.say(f"weights: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    reporter.say("next: posegen run")


if __name__ == "__main__":
    main()
