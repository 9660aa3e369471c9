"""How well a field's gradient predicts what its picture does: cosines against central differences.

    python tests/speed/gradients.py [--field FILE] [--steps 0.02 0.01] [--differences 1e-3 1e-4] [--batch 8]

The loss is the squared error to a picture of a pose close by, its samples found again after every perturbation. A
cosine compares, over all scenes and a few random directions, the gradient's slopes with the differences'. Directions
are of unit variance in metres, radians (0.3 for each of the pose's) and relative focal length. Float64, eager.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from render import scenes
from torch import Tensor

from posegen.body.rotations import aa_to_matrix
from posegen.renderer.field.artifact import load_field, with_config
from posegen.renderer.field.config import FieldConfig
from posegen.renderer.field.field import ArticulatedField
from posegen.scene import Scene

sys.path.append(str(Path(__file__).resolve().parents[1] / "renderer"))
from capsule_scenes import capsule_field

POSE_SCALE = 0.3
INPUTS = ("pose", "rotation", "translation", "focal length")


def moved(scene: Scene, name: str, by: Tensor) -> Scene:
    """The scene with one input changed by `by`: (B,24,3), (B,3), (B,3) or (B,1)."""
    camera = scene.camera
    if name == "pose":
        return replace(scene, pose=scene.pose + by)
    if name == "rotation":
        return replace(scene, camera=replace(camera, R=aa_to_matrix(by) @ camera.R))
    if name == "translation":
        return replace(scene, transl=scene.transl + by)
    return replace(scene, camera=replace(camera, focal=camera.focal * (1 + by[:, 0])))


def slopes(
    loss: Callable[[Scene], Tensor], scene: Scene, name: str, differences: list[float], directions: int, seed: int
) -> tuple[Tensor, list[Tensor]]:
    """The gradient along random directions (N,), and for each size of a difference the same by differences."""
    generator = torch.Generator().manual_seed(seed)
    batch = len(scene)
    shape = {"pose": (batch, 24, 3), "focal length": (batch, 1)}.get(name, (batch, 3))
    x = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(moved(scene, name, x)).sum(), x)
    analytic, numeric = [], [[] for _ in differences]
    for _ in range(directions):
        direction = torch.randn(shape, generator=generator, dtype=torch.float64)
        if name == "pose":
            direction *= POSE_SCALE
        analytic.append((gradient * direction).reshape(batch, -1).sum(1))
        for eps, out in zip(differences, numeric, strict=True):
            with torch.no_grad():
                change = loss(moved(scene, name, eps * direction)) - loss(moved(scene, name, -eps * direction))
            out.append(change / (2 * eps))
    return torch.cat(analytic), [torch.cat(out) for out in numeric]


def table(field: ArticulatedField, label: str, args: argparse.Namespace) -> list[str]:
    """A line of the table for each step and difference."""
    scene = scenes(field, args.batch, args.size, args.seed).to(torch.float64)
    field = field.double()
    generator = torch.Generator().manual_seed(args.seed)
    near = 0.15 * torch.randn(args.batch, 24, 3, generator=generator, dtype=torch.float64)
    lines = []
    for step in args.steps:
        with_config(field, step_m=step)
        with torch.no_grad():
            target, _ = field(replace(scene, pose=scene.pose + near))

        def loss(changed: Scene, target: Tensor = target) -> Tensor:
            return ((field(changed)[0] - target) ** 2).sum((1, 2, 3))

        cosines = []
        for name in INPUTS:
            analytic, numeric = slopes(loss, scene, name, args.differences, args.directions, args.seed)
            cosines.append([float(F.cosine_similarity(analytic, other, 0)) for other in numeric])
        for i, eps in enumerate(args.differences):
            values = " | ".join(f"{cosine[i]:.3f}" for cosine in cosines)
            lines.append(f"| {label} | {100 * step:g} cm | {eps:g} | {values} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--field", help="a fitted field (npz); without one, the package's subjects")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--directions", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=float, nargs="+", default=[0.02, 0.01])
    parser.add_argument("--differences", type=float, nargs="+", default=[1e-3, 1e-4])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = FieldConfig(backend="eager")
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, float64, {args.size} px, "
          f"{args.batch} scenes, {args.directions} directions, seed {args.seed}")  # fmt: skip
    print(f"| field | step | difference | {' | '.join(INPUTS)} |")
    print("| --- " * (3 + len(INPUTS)) + "|")
    capsules = capsule_field(resolution=16, config=config)
    fitted = load_field(args.field, config)
    for label, field in (("analytic capsules", capsules), ("fitted subjects", fitted)):
        print("\n".join(table(field, label, args)), flush=True)


if __name__ == "__main__":
    main()
