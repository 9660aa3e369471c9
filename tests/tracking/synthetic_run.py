"""A run directory as an experiment leaves it, made from a seed: stick people, invented errors, real formats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter

from posegen.benchmarks.measure.result import METRICS, BenchmarkResult
from posegen.benchmarks.measure.statistics import bootstrap_mean, paired_bootstrap
from posegen.body.cameras import look_at_camera
from posegen.body.joint_sets import SMPL24, SMPL_PARENTS
from posegen.scene import Light, Scene
from posegen.shards.table import rows_to_table
from posegen.shards.writer import Plan, ShardWriter
from posegen.tracking.report.gallery import Gallery

ARMS = ["before", "random", "mocap", "mined_random", "no_feedback", "posegen"]
CLIPS = {
    "3dpw-like": ["dance_a"],
    "3dhp-like": ["kick"],
    "ski-like": ["cartwheel", "backflip", "spinkick"],
    "agora-like": ["dance_b", "crawl", "roll"],
}
BASE_MM = {"3dpw-like": 96.0, "3dhp-like": 128.0, "ski-like": 171.0, "agora-like": 117.0}
# Relative error after fine-tuning; mocap makes 3dpw-like worse, and the intervals of some arms include 0.
FACTOR = {"before": 1.0, "random": 0.985, "mocap": 0.93, "mined_random": 0.9, "no_feedback": 0.94, "posegen": 0.82}
SIZE = 96

# Rest joints of a person 1.7 m tall (24,3) m, y up, facing +z, left at +x.
REST = np.array([
    [0, 0.95, 0], [0.09, 0.87, 0], [-0.09, 0.87, 0], [0, 1.06, 0], [0.1, 0.48, 0], [-0.1, 0.48, 0], [0, 1.18, 0],
    [0.1, 0.08, -0.03], [-0.1, 0.08, -0.03], [0, 1.25, 0], [0.11, 0.03, 0.1], [-0.11, 0.03, 0.1], [0, 1.43, 0],
    [0.07, 1.37, 0], [-0.07, 1.37, 0], [0, 1.56, 0.03], [0.18, 1.38, 0], [-0.18, 1.38, 0], [0.44, 1.37, 0],
    [-0.44, 1.37, 0], [0.69, 1.37, 0], [-0.69, 1.37, 0], [0.77, 1.37, 0], [-0.77, 1.37, 0],
], np.float32)  # fmt: skip


def pose_joints(pose: np.ndarray) -> np.ndarray:
    """Forward kinematics of axis-angles (24,3): world joints (24,3) m."""
    from scipy.spatial.transform import Rotation

    local = Rotation.from_rotvec(pose).as_matrix()
    world, joints = [local[0]], [REST[0]]
    for joint in range(1, 24):
        parent = SMPL_PARENTS[joint]
        joints.append(joints[parent] + world[parent] @ (REST[joint] - REST[parent]))
        world.append(world[parent] @ local[joint])
    return np.stack(joints).astype(np.float32)


def random_scene(rng: np.random.Generator, spread: float) -> tuple[Scene, np.ndarray, np.ndarray]:
    """One scene with its joints in the camera frame (24,3) m and in pixels (24,2)."""
    pose = np.zeros((24, 3), np.float32)
    for joint, scale in {1: 0.6, 2: 0.6, 4: 0.8, 5: 0.8, 16: 0.7, 17: 0.7, 18: 0.9, 19: 0.9, 3: 0.2, 6: 0.2}.items():
        pose[joint] = rng.normal(0, scale * spread, 3)
    pose[16, 2] -= 0.9
    pose[17, 2] += 0.9
    pose[0, 1] = rng.uniform(-np.pi, np.pi)
    joints = torch.from_numpy(pose_joints(pose))[None]
    angles = torch.tensor([rng.uniform(-np.pi, np.pi)]), torch.tensor([rng.uniform(-0.3, 0.9) * spread])
    camera = look_at_camera(*angles, torch.tensor([2.7]), size_px=SIZE, target_m=torch.tensor([[0.0, 0.9, 0.0]]))
    scene = Scene(
        torch.from_numpy(pose)[None], torch.zeros(1, 10), torch.zeros(1, 3), camera, torch.zeros(1, dtype=torch.int64),
        Light.default(1), torch.tensor([int(rng.integers(1 << 30))]),
    )  # fmt: skip
    return scene, camera.to_camera(joints)[0].numpy(), camera.project(joints)[0].numpy()


def draw_person(joints_px: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A soft figure on a soft background (S,S,3) uint8: enough to see whether a skeleton lies on it."""
    noise = (rng.integers(90, 190, (1, 1, 3)) + rng.integers(-30, 30, (6, 6, 1))).astype(np.uint8)
    picture = Image.fromarray(noise).resize((SIZE * 3, SIZE * 3), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    shirt, skin, trousers = (tuple(int(c) for c in rng.integers(30, 225, 3)) for _ in range(3))
    p = [tuple(float(c) * 3 for c in point) for point in joints_px]
    for a, b in SMPL24.edge_indices:
        name = SMPL24.joints[b]
        leg = any(part in name for part in ("hip", "knee", "ankle", "foot"))
        colour = trousers if leg else skin if any(part in name for part in ("wrist", "hand", "head")) else shirt
        draw.line([p[a], p[b]], fill=colour, width=24 if leg else 17)
        draw.ellipse([p[b][0] - 9, p[b][1] - 9, p[b][0] + 9, p[b][1] + 9], fill=colour)
    x, y = p[15]
    draw.ellipse([x - 15, y - 20, x + 15, y + 16], fill=skin)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(2)).resize((SIZE, SIZE), Image.Resampling.BOX))


def _results(rng: np.random.Generator, images: int, arms: list[str], factor: dict[str, float]):
    """arm -> benchmark -> BenchmarkResult, on the same images; errors grow towards steep and rear views."""
    table: dict[str, dict[str, BenchmarkResult]] = {arm: {} for arm in arms}
    for benchmark, clips in CLIPS.items():
        azimuth, elevation = rng.uniform(-np.pi, np.pi, images), rng.uniform(-0.4, 1.1, images)
        hardness = BASE_MM[benchmark] * (0.7 + 0.35 * np.abs(azimuth) / np.pi + 0.5 * np.clip(elevation, 0, 2))
        hardness *= rng.gamma(9.0, 1 / 9.0, images)
        groups = [f"{clips[i % len(clips)]}/{i // 6}" for i in range(images)]
        for arm in arms:
            gain = 1 - (1 - factor[arm]) * (0.4 + 1.2 * np.clip(elevation, 0, 2))
            gain += 0.06 * (arm == "mocap" and benchmark == "3dpw-like") * 2
            mpjpe = hardness * np.clip(gain, 0.1, 2) * rng.normal(1.0, 0.03 if arm != "before" else 0.0, images)
            weight = 0.5 + np.linspace(0, 1, 24)[None] * rng.gamma(20, 1 / 20.0, (images, 24))
            joints = mpjpe[:, None] * weight / weight.mean(1, keepdims=True)
            per_image = {
                "mpjpe_mm": mpjpe,
                "pa_mpjpe_mm": 0.62 * mpjpe,
                "pve_mm": 1.18 * mpjpe,
                "pck_150": 100 * (joints < 150).mean(1),
                "auc": 100 * np.clip(1 - joints / 150, 0, 1).mean(1),
                "wrong_way_round": 100.0 * (mpjpe > 250),
            }
            table[arm][benchmark] = BenchmarkResult(
                benchmark=benchmark,
                protocol=f"{benchmark}: 24 joints of smpl24; root pelvis; root translation; test split; stride 1",
                ids=[f"{benchmark}/{i:05d}" for i in range(images)],
                groups=groups,
                per_image=per_image,
                azimuth=azimuth,
                elevation=elevation,
                metrics={name: float(values.mean()) for name, values in per_image.items()},
                counted={"used": images, "missing": 0, "damaged": 0, "failed": 0},
                estimator="hmr_small",
                joint_names=list(SMPL24.joints),
                joint_errors_mm=joints,
            )
    return table


def _interval(interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _watched(arms: list[str]) -> dict:
    """What the estimator knew before: the method forgets 8 mm of it, and the interval says so."""

    def cell(value: float, half: float) -> dict:
        return {"mpjpe_mm": {"value": value, "low": value - half, "high": value + half}}

    return {
        "protocol": "source-like: smpl24",
        "images": 40,
        "arms": {arm: cell(60.0 if arm == "before" else 68.0, 9.0) for arm in arms},
        "difference": {arm: cell(8.0, 2.0) for arm in arms if arm != "before"},
    }


def make_summary(table, arms: list[str], seed: int, name: str, images: int) -> dict:
    benchmarks: dict = {}
    for benchmark in CLIPS:
        before = table["before"][benchmark]
        entry: dict = {"protocol": before.protocol, "images": len(before.ids), "arms": {}, "difference": {}}
        for arm in arms:
            result = table[arm][benchmark]
            entry["arms"][arm] = {
                m: _interval(bootstrap_mean(result.per_image[m], seed, result.groups, resamples=400)) for m in METRICS
            }
            if arm != "before":
                entry["difference"][arm] = {
                    m: _interval(
                        paired_bootstrap(before.per_image[m], result.per_image[m], seed, before.groups, resamples=400)
                    )
                    for m in METRICS
                }
        benchmarks[benchmark] = entry
    average: dict = {}
    for arm in arms:
        cells = [
            paired_bootstrap(
                table["before"][b].per_image["mpjpe_mm"], table[arm][b].per_image["mpjpe_mm"], seed, resamples=400,
                relative=True,
            )
            for b in CLIPS
        ]  # fmt: skip
        half = float(np.sqrt(sum((c.high - c.low) ** 2 for c in cells)) / 2 / len(cells)) / 100
        value = float(np.mean([c.value for c in cells])) / 100
        average[arm] = {"relative_mpjpe": {"value": value, "low": value - half, "high": value + half}}
    return {
        "run": name,
        "experiment": "quickstart",
        "seed": seed,
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "created": "2026-01-05T10:20:30+00:00",
        "versions": {"posegen": "0.1.0", "torch": "2.13.0", "ray": "2.60.0", "mlflow": "3.17.2", "python": "3.11.9"},
        "machine": {"cpus": 2, "memory_gb": 8.0, "gpus": 0, "system": "Linux"},
        "split": {
            "name": "embedded",
            "parts": {
                "source": {
                    "clips": ["walk", "run", "jump"],
                    "subjects": "train",
                    "camera": {"azimuth_deg": [[-20, 20]], "elevation_deg": [-5, 5]},
                    "background": {"pool": "train"},
                },
            },
            "tests": {name: {"clips": clips, "subjects": "test"} for name, clips in CLIPS.items()},
        },
        "timings_s": {
            "generate/posegen": 134.5,
            "dataset/posegen": 88.0,
            "finetune/random": 71.0,
            "finetune/posegen": 71.7,
            "evaluate": 61.2,
        },
        "wall_s": 300.0,
        "arms": arms,
        "metrics": list(METRICS),
        "benchmarks": benchmarks,
        "watched": {"source-like": _watched(arms)},
        "average": average,
        "generator": {
            "posegen": {
                "proposal_nearest_mm": 21.5,
                "nearest_mm": 31.25,
                "violation_rad": 0.012,
                "diversity_mm": 144.0,
            },
            "no_feedback": {
                "proposal_nearest_mm": 21.5,
                "nearest_mm": 24.0,
                "violation_rad": 0.008,
                "diversity_mm": 147.0,
            },
        },
        "config": {
            "seed": seed,
            "experiment": "quickstart",
            "noise": {"kind": "gaussian"},
            "images": images,
        },
    }


def _histories(path: Path, rng: np.random.Generator, steps: int, arms: list[str]) -> None:
    for arm in ("posegen", "no_feedback"):
        folder = path / "generate" / arm
        folder.mkdir(parents=True)
        with (folder / "history.jsonl").open("w") as file:
            for step in range(steps):
                t = step / steps
                row = {
                    "step": step,
                    "error_mm": 90 + (70 if arm == "posegen" else 10) * (1 - np.exp(-4 * t)) + rng.normal(0, 5),
                    "loss_adversarial": 1.2 * np.exp(-2 * t) + 0.4 + rng.normal(0, 0.05),
                    "loss_discriminator": 0.6 + 0.1 * t + rng.normal(0, 0.03),
                    "meter_nearest_mm": 20 + 12 * t + rng.normal(0, 1),
                    "meter_violation_rad": max(0.0, 0.02 * t + rng.normal(0, 0.003)),
                    "meter_diversity_mm": 150 - 16 * t + rng.normal(0, 3),
                }
                file.write(json.dumps(row) + "\n")
    for arm in arms[1:]:
        folder = path / "finetune" / arm
        folder.mkdir(parents=True)
        with (folder / "history.jsonl").open("w") as file:
            for step in range(steps):
                loss = 0.9 * np.exp(-3 * step / steps) + 0.3 * FACTOR[arm]
                row = {"step": step, "loss": loss + rng.normal(0, 0.04), "learning_rate": 1e-4, "rows_per_s": 210.0}
                file.write(json.dumps(row) + "\n")


def _datasets(path: Path, rng: np.random.Generator, rows: int, arms: list[str]) -> None:
    for number, arm in enumerate(arms[1:]):
        spread = 0.7 if arm == "mocap" else 1.0
        drawn = [random_scene(rng, spread) for _ in range(rows)]
        images = np.stack([draw_person(px, rng).transpose(2, 0, 1) for _, _, px in drawn])
        errors = torch.from_numpy(rng.gamma(8, (14 + 2.2 * number) / 1.3, rows).astype(np.float32))
        table = rows_to_table(
            torch.arange(rows), Scene.cat([scene for scene, _, _ in drawn]), images,
            joints2d_px=torch.from_numpy(np.stack([px for _, _, px in drawn])),
            joints3d_cam_m=torch.from_numpy(np.stack([cam for _, cam, _ in drawn])),
            seed=0, round=0, generator_version=1, arm=arm, error_at_birth_mm=errors,
        )  # fmt: skip
        with ShardWriter(path / "dataset" / arm, Plan(rows, rows_per_shard=max(8, rows // 2))) as writer:
            writer.write(table)


def _gallery(path: Path, rng: np.random.Generator, count: int) -> Gallery:
    truth, before, after, images = [], [], [], []
    for _ in range(count):
        _, _, px = random_scene(rng, 1.2)
        images.append(draw_person(px, rng))
        truth.append(px)
        wrong = np.cumsum(rng.normal(0, 3.0, (24, 2)), 0) * 0.5
        before.append(px + wrong)
        after.append(px + wrong * rng.choice([0.2, 0.35, 0.95]))
    error_before = np.array([np.abs(b - t).mean() * 30 for b, t in zip(before, truth, strict=True)])
    error_after = np.array([np.abs(a - t).mean() * 30 for a, t in zip(after, truth, strict=True)])
    names = np.array([list(CLIPS)[i % 4] for i in range(count)])
    ids = np.array([f"{name}/{i:05d}" for i, name in enumerate(names)])
    gallery = Gallery(
        np.stack(images), np.stack(truth), np.stack(before), np.stack(after), error_before, error_after, names, ids
    )
    gallery.save(path / "evaluation" / "gallery.npz")
    return gallery


def make_run(
    path: Path,
    *,
    seed: int = 0,
    test_seed: int = 0,
    images: int = 60,
    rows: int = 24,
    steps: int = 60,
    arms: list[str] | None = None,
    factor: dict[str, float] | None = None,
) -> Path:
    """Writes the whole directory and returns its path. Runs of one `test_seed` share their test images."""
    arms = arms or ARMS
    test_rng, rng = np.random.default_rng(test_seed), np.random.default_rng(seed + 1000)
    path.mkdir(parents=True)
    table = _results(test_rng, images, arms, {**FACTOR, **(factor or {})})
    for arm, results in table.items():
        for benchmark, result in results.items():
            result.save(path / "evaluation" / arm / f"{benchmark}.parquet")
    summary = make_summary(table, arms, seed, path.name, images)
    (path / "summary.json").write_text(json.dumps(summary, indent=1))
    (path / "config.yaml").write_text(f"seed: {seed}\nexperiment: quickstart\nnoise:\n  kind: gaussian\n")
    (path / "stages").mkdir()
    for stage, seconds in summary["timings_s"].items():
        (path / "stages" / f"{stage.replace('/', '--')}.json").write_text(
            json.dumps({"stage": stage, "seconds": seconds})
        )
    _histories(path, rng, steps, arms)
    _datasets(path, rng, rows, arms)
    _gallery(path, rng, 12)
    return path
