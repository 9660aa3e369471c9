"""Reproduces the shipped weights of the embedded estimator: renders its source, trains, writes, says how good it is.

python jobs/pretrain_hmr_small.py                        # about ten minutes on two cores
python jobs/pretrain_hmr_small.py --images 500 --steps 100 --output /tmp/quick.npz
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from rich.progress import Progress

from posegen.estimator import build
from posegen.estimator.checkpoint import write_npz
from posegen.estimator.hmr_small import SHIPPED_WEIGHTS
from posegen.estimator.pretrain import PretrainConfig, mpjpe_mm, pretrain
from posegen.estimator.source import render_source


def main() -> None:
    defaults = PretrainConfig()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=defaults.images)
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--output", type=Path, default=SHIPPED_WEIGHTS)
    arguments = parser.parse_args()
    config = replace(defaults, images=arguments.images, steps=arguments.steps, seed=arguments.seed)
    estimator = build("hmr_small", pretrained=False, seed=config.seed)
    start = time.perf_counter()
    with Progress() as bars:
        bar = bars.add_task("rendering", total=config.images)
        rows = render_source(config.images, config.source, progress=lambda n, _: bars.update(bar, completed=n))
        held_out = render_source(config.held_out_images, config.source, evaluation=True)
        rendered = time.perf_counter()
        bar = bars.add_task("training", total=config.steps)
        pretrain(estimator, rows, config, progress=lambda n, _, __: bars.update(bar, completed=n))
    trained = time.perf_counter()
    path = write_npz(estimator.state_dict(), arguments.output)
    shipped = build("hmr_small", checkpoint=path)
    print(f"rendering {rendered - start:.0f} s, training {trained - rendered:.0f} s, {torch.get_num_threads()} threads")
    print(f"MPJPE on {len(held_out)} held-out renders of the source: {mpjpe_mm(shipped, held_out):.1f} mm")
    print(f"weights: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    print("next: posegen evaluate estimator=hmr_small benchmark=3dpw-like")


if __name__ == "__main__":
    main()
