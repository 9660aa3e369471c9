"""Does the look matter? The same scenes by the field, by the reference mesh renderer, and with other people in them.

    posegen run                                                     # or any run: its estimators saw field pictures only
    python tests/speed/appearance.py --checkpoint outputs/latest/finetune/random/estimator.pt [--json FILE]

Scenes are of the split's pool (its motions, cameras and backgrounds), drawn with a seed that no run uses. If an
estimator that was fine-tuned on field pictures errs more on mesh pictures of the same scenes, it learned the field; if
it errs more where the same poses are those of people it never saw, it learned the people.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posegen.assets import ensure
from posegen.benchmarks.embedded.stand_ins import mesh_renderer
from posegen.benchmarks.measure.statistics import paired_bootstrap
from posegen.body.subjects import TEST_SUBJECTS
from posegen.config import compose
from posegen.estimator.configured import build_estimator
from posegen.experiment.summary import machine
from posegen.feedback.errors3d import image_error_m
from posegen.renderer.composite import over
from posegen.scenes.sampler import SceneSampler
from posegen.scenes.split import load_split
from posegen.scenes.world import build_world

SEED = 7777
LOOKS = ("field", "mesh", "mesh, other people")
CHUNK = 64


@torch.no_grad()
def errors_mm(checkpoint: str | None, images: int) -> dict[str, dict[str, list[float]]]:
    """Renderer -> error -> (images,) mm."""
    config = compose()
    world = build_world(config)
    estimator = build_estimator(config, checkpoint=checkpoint)
    part = load_split(config.split)["pool"]
    sampler, mesh = SceneSampler(part, size_px=config.image_size), mesh_renderer(part)
    others = mesh_renderer(replace(part, subjects=TEST_SUBJECTS))
    found: dict[str, dict[str, list[float]]] = {name: {} for name in LOOKS}
    for start in range(0, images, CHUNK):
        draw = sampler.draw(torch.arange(start, min(start + CHUNK, images)), SEED)
        behind, truth = world.backgrounds(draw.scene), draw.scene.camera.to_camera(draw.joints_m)
        for name, renderer in zip(LOOKS, (world.renderer, mesh, others), strict=True):
            scene = draw.scene
            if renderer is others:
                scene = replace(scene, subject=scene.subject % len(TEST_SUBJECTS))
            picture = world.look(over(*renderer(scene), behind), scene.background)
            prediction = estimator(picture.clamp(0, 1))
            for kind in ("mpjpe", "pa_mpjpe"):
                found[name].setdefault(kind, []).extend((1000 * image_error_m(prediction, truth, kind)).tolist())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", help="of the estimator; without it the shipped one")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    given = parser.parse_args()
    ensure()
    found = errors_mm(given.checkpoint, given.images)
    told: dict[str, Any] = {"machine": machine(), "seed": SEED, "images": given.images, "checkpoint": given.checkpoint}
    sys.stdout.write(f"{given.images} scenes, seed {SEED}; in brackets the 95 % interval of the change\n")
    for kind in ("mpjpe", "pa_mpjpe"):
        columns = {name: np.array(found[name][kind]) for name in LOOKS}
        told[kind] = {name: float(values.mean()) for name, values in columns.items()}
        sys.stdout.write(f"{kind}: field {told[kind]['field']:.1f} mm\n")
        for before, after in pairwise(LOOKS):
            change = paired_bootstrap(columns[before], columns[after], SEED)
            told[kind][f"{after} - {before}"] = [change.value, change.low, change.high]
            sys.stdout.write(f"  {after}: {told[kind][after]:.1f} mm, {change.value:+.1f} [{change.low:+.1f}, ")
            sys.stdout.write(f"{change.high:+.1f}] against {before}\n")
    if given.json:
        given.json.write_text(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
