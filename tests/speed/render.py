"""Milliseconds an image, forward and forward with backward, of the field's backends and of the original A-NeRF.

    python tests/speed/render.py [--sizes 64 96 128 224] [--batch 32] [--threads 2] [--json FILE]

Gradients go to pose, betas, translation and camera; the field is frozen. All of a run's figures come from one process
on the same scenes, the best of several repeats, so that their ratios mean something on a busy machine. A-NeRF has
random weights in the original's sizes and is timed on a sample of the rays of its bounding box, scaled to all.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from posegen.body.cameras import frame_person
from posegen.body.kinematics import forward_kinematics
from posegen.body.rotations import aa_to_matrix
from posegen.compiled import NativeUnavailable
from posegen.machine import keep_freed_memory, processor
from posegen.renderer.anerf import rays as anerf_rays
from posegen.renderer.anerf.checkpoint import ANerfConfig, ANerfWeights
from posegen.renderer.anerf.encoding import CutoffEncoding, PlainEncoding, SkeletonEncoding, world_to_bones
from posegen.renderer.anerf.network import ANerfNetwork
from posegen.renderer.anerf.renderer import ANerfRenderer
from posegen.renderer.field.artifact import with_config
from posegen.renderer.field.field import ArticulatedField, load_field
from posegen.renderer.field.march import march
from posegen.renderer.field.native import load_kernel
from posegen.renderer.field.transforms import ray_transforms
from posegen.renderer.field.volumes import rest_joints
from posegen.scene import Light, Scene

# Arithmetic of one sample: coordinates 18, seven interpolations of 8 channels with 3 each 168, activations and
# shading about 90, compositing 14; backward adds the slopes, the chain rule through all of it and the sums.
FLOP_FORWARD, FLOP_BACKWARD = 290, 620
SAMPLED_RAYS = 96


class FieldBody(nn.Module):
    """The rest joints of a field's own skeleton, for A-NeRF."""

    def __init__(self, field: ArticulatedField) -> None:
        super().__init__()
        self.rig = field.rig(0)

    def rest_joints(self, betas: Tensor) -> Tensor:
        return rest_joints(self.rig.joints_template, self.rig.joints_shapedirs, betas)


def scenes(field: ArticulatedField, batch: int, size_px: int, seed: int = 0) -> Scene:
    """Random poses framed as the product frames them, seen from all around."""
    generator = torch.Generator().manual_seed(seed)
    pose = 0.25 * torch.randn(batch, 24, 3, generator=generator)
    betas = 0.5 * torch.randn(batch, 10, generator=generator)
    rig = field.rig(0)
    rest = rest_joints(rig.joints_template.cpu(), rig.joints_shapedirs.cpu(), betas)
    _, joints = forward_kinematics(aa_to_matrix(pose), rest)
    azimuth = 6.28 * torch.rand(batch, generator=generator)
    elevation = torch.rand(batch, generator=generator) - 0.4
    camera = frame_person(joints, azimuth, elevation, size_px=size_px)
    subject = torch.arange(batch) % len(field.subjects)
    return Scene(pose, betas, torch.zeros(batch, 3), camera, subject, Light.default(batch), torch.full((batch,), -1))


def with_gradients(scene: Scene) -> Scene:
    camera = scene.camera
    camera = replace(
        camera,
        R=camera.R.clone().requires_grad_(),
        t=camera.t.clone().requires_grad_(),
        focal=camera.focal.clone().requires_grad_(),
    )
    return replace(
        scene,
        pose=scene.pose.clone().requires_grad_(),
        betas=scene.betas.clone().requires_grad_(),
        transl=scene.transl.clone().requires_grad_(),
        camera=camera,
    )


def best_s(work: Callable[[], Any], repeats: int, device: torch.device) -> float:
    """The shortest of several wall times, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def cpu_s(work: Callable[[], Any], repeats: int) -> float:
    """The least processor time of several runs, summed over threads: wall time times threads on an idle machine."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def gemm_peak(device: torch.device) -> float:
    """FLOP/s of a large float32 matrix product."""
    side = 1536 if device.type == "cpu" else 8192
    a, b = torch.randn(side, side, device=device), torch.randn(side, side, device=device)
    return 2 * side**3 / best_s(lambda: a @ b, 8, device)


def work_of(field: ArticulatedField, scene: Scene) -> tuple[Callable[[], None], Callable[[], None]]:
    """A picture of a scene forward, and forward and backward."""

    def forward() -> None:
        with torch.no_grad():
            field(scene)

    def both() -> None:
        picture = torch.cat(field(with_gradients(scene)), 1)
        picture.backward(torch.ones_like(picture))

    return forward, both


def time_field(field: ArticulatedField, scene: Scene, repeats: int) -> tuple[float, float, float, float]:
    """Seconds of the batch: wall forward and both, processor forward and both."""
    device = scene.pose.device
    forward, both = work_of(field, scene)
    wall = best_s(forward, repeats, device), best_s(both, repeats, device)
    return *wall, cpu_s(forward, repeats), cpu_s(both, repeats)


def samples_of(field: ArticulatedField, scene: Scene) -> float:
    """Composited samples an image."""
    transforms = ray_transforms(scene, field.rigs, field.resolution)
    config = field.config
    found = march(transforms, field.occupancy, config.step_m, config.near_m, config.transmittance_threshold)
    return len(found.ray) / len(scene)


def anerf(field: ArticulatedField, device: torch.device) -> ANerfRenderer:
    """The original's sizes with random weights: 360 + 72 + 648 inputs, two perceptrons of 8 x 256, 64 + 16 samples."""
    encoding = SkeletonEncoding(CutoffEncoding(7, 1), PlainEncoding(0, 3), CutoffEncoding(4, 3))
    torch.manual_seed(0)
    coarse, fine = ANerfNetwork(432, 648), ANerfNetwork(432, 648)
    renderer = ANerfRenderer(ANerfWeights(encoding, coarse, fine, False, None), FieldBody(field), ANerfConfig())  # type: ignore[arg-type]
    return renderer.to(device)


def time_anerf(renderer: ANerfRenderer, scene: Scene) -> tuple[float, float]:
    """Seconds an image, from a sample of the rays of the first image's box."""
    scene = scene[:1]

    def rays(scene: Scene) -> tuple[Tensor, Tensor, Tensor, anerf_rays.Cylinder, float]:
        camera = scene.camera
        rotations, joints, scale = renderer.skeleton(scene)
        bones = world_to_bones(rotations, joints)
        cylinder = anerf_rays.bounding_cylinder(joints[0].detach())
        view = anerf_rays.View(
            (camera.R @ renderer.half_turn)[0], scale * camera.t[0], camera.focal[0], camera.centre[0] - 0.5,
            camera.height, camera.width,
        )  # fmt: skip
        origin, directions = anerf_rays.rays_in_box(anerf_rays.box_of_cylinder(cylinder, view), view)
        count = min(SAMPLED_RAYS, len(directions))
        picked = torch.linspace(0, len(directions) - 1, count).long().to(directions.device)
        return origin, directions[picked], bones[0], cylinder, len(directions) / count

    def forward() -> None:
        with torch.no_grad():
            origin, directions, bones, cylinder, _ = rays(scene)
            renderer._shade(origin, directions, bones, renderer._place(origin, directions, bones, cylinder))

    def both() -> None:
        origin, directions, bones, cylinder, _ = rays(with_gradients(scene))
        z = renderer._place(origin.detach(), directions.detach(), bones.detach(), cylinder)
        renderer._shade(origin, directions, bones, z).sum().backward()

    factor = rays(scene)[4]
    device = scene.pose.device
    return factor * best_s(forward, 2, device), factor * best_s(both, 2, device)


def measure(device: torch.device, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    field = with_config(load_field(arguments.field), step_m=arguments.step).to(device)
    backends = ["eager"]
    if device.type == "cpu":
        try:
            load_kernel()
            backends = ["fused", "eager"]
        except NativeUnavailable as reason:
            print(f"no fused kernel: {reason}")
    peak = gemm_peak(device)
    print(f"{device}: float32 matrix product {peak / 1e9:.0f} GFLOP/s")
    original = anerf(field, device)
    rows = []
    for size in arguments.sizes:
        batch = arguments.batch if size < 200 else max(1, arguments.batch // 4)
        scene = scenes(field, batch, size).to(device)
        samples = samples_of(field, scene[: min(batch, 8)])
        row: dict[str, Any] = {
            "device": str(device), "size_px": size, "batch": batch, "samples_per_image": samples, "gemm_flops": peak,
        }  # fmt: skip
        for backend in backends:
            with_config(field, backend=backend)
            forward, both, forward_cpu, both_cpu = (
                1e3 * s / batch for s in time_field(field, scene, arguments.repeats)
            )
            row |= {f"{backend}_forward_cpu_ms": forward_cpu, f"{backend}_both_cpu_ms": both_cpu}
            flop = samples * FLOP_FORWARD, samples * (FLOP_FORWARD + FLOP_BACKWARD)
            row |= {f"{backend}_forward_ms": forward, f"{backend}_both_ms": both}
            row |= {f"{backend}_forward_of_peak": flop[0] / forward * 1e3 / peak}
            row |= {f"{backend}_both_of_peak": flop[1] / both * 1e3 / peak}
        forward, both = (1e3 * s for s in time_anerf(original, scene))
        row |= {"anerf_forward_ms": forward, "anerf_both_ms": both, "anerf_rays_timed": SAMPLED_RAYS}
        rows.append(row)
        best = backends[0]
        parts = [
            f"{b} {row[f'{b}_forward_ms']:.2f} / {row[f'{b}_both_ms']:.2f} ms "
            f"(processor {row[f'{b}_forward_cpu_ms']:.2f} / {row[f'{b}_both_cpu_ms']:.2f} ms, "
            f"{100 * row[f'{b}_forward_of_peak']:.1f} / {100 * row[f'{b}_both_of_peak']:.1f} % of peak)"
            for b in backends
        ]
        ratio = forward / row[f"{best}_forward_ms"], both / row[f"{best}_both_ms"]
        print(
            f"{size} px, batch {batch}, {samples:.0f} samples an image: {'; '.join(parts)}; A-NeRF {forward:.0f} / "
            f"{both:.0f} ms (from {SAMPLED_RAYS} rays, scaled): {ratio[0]:.0f} / {ratio[1]:.0f} times {best}",
            flush=True,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 96, 128, 224])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--step", type=float, default=0.02, help="metres between samples")
    parser.add_argument("--field", help="a fitted field; none takes the package's own")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as trainers and renderers do
    print(f"{processor()}, {arguments.threads} threads, torch {torch.__version__}; forward / forward + backward")
    rows = measure(torch.device("cpu"), arguments)
    if torch.cuda.is_available():
        print(torch.cuda.get_device_name())
        rows += measure(torch.device("cuda"), arguments)
    if arguments.json:
        figures = {"processor": processor(), "threads": arguments.threads, "torch": torch.__version__, "rows": rows}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
