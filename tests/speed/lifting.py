"""How near lifting comes to the truth, and what it costs: on scenes of the embedded split, known by 12 noisy keypoints.

    python tests/speed/lifting.py [--people 200] [--noise 1.0] [--parts validation 3dpw-like ...] [lifting settings]

Settings are those of posegen.target.lift.config.LiftConfig, as key=value. "By score" is the best hypothesis as the
lifter orders them; "guess" is the mean distance of the true elevations from their own mean, which is what knowing the
part's mean and nothing of the picture would give. All draws are seeded.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path

import torch

from posegen.body.joint_sets import LIMBS12
from posegen.body.model import load_body
from posegen.config import compose
from posegen.config_types import typed
from posegen.scenes.split import load_split
from posegen.scenes.world import real_poses
from posegen.target.lift.config import LiftConfig
from posegen.target.lift.lifter import Hypotheses, Lifter

sys.path.append(str(Path(__file__).resolve().parents[1] / "target"))
from lifting_truth import keypoints_of, measured

PARTS = ("validation", "3dpw-like", "3dhp-like", "ski-like", "agora-like")
BATCH = 50


def row(lifter: Lifter, part: str, args: argparse.Namespace) -> tuple[str, list[float]]:
    """A line of the table, and its numbers for the mean."""
    keypoints, draw = keypoints_of(load_split("embedded")[part], args.people, args.seed, args.noise)
    start = time.process_time()
    hypotheses = Hypotheses.cat([lifter(batch) for batch in keypoints.split(BATCH)])
    cost_ms = 1000 * (time.process_time() - start) / len(keypoints)
    errors = measured(hypotheses, draw, lifter.body)
    guess = torch.rad2deg((draw.elevation_rad - draw.elevation_rad.mean()).abs()).mean()
    joints, elevation = errors.joints_mm, errors.elevation_deg[:, 0]
    numbers = [
        joints.amin(1).mean(), joints[:, 0].mean(), joints.mean(), elevation.median(), elevation.mean(), guess,
        errors.up_deg[:, 0].median(), torch.tensor(cost_ms),
    ]  # fmt: skip
    values = [float(number) for number in numbers]
    return f"| {part} | " + " | ".join(f"{value:.0f}" for value in values) + " |", values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--noise", type=float, default=1.0, help="px of a picture of 96 px")
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--parts", nargs="+", default=list(PARTS))
    parser.add_argument("settings", nargs="*", help="key=value of LiftConfig")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    settings = {
        key: float(value) if "." in value else int(value) for key, value in (s.split("=") for s in args.settings)
    }
    config = typed(LiftConfig, settings, "lifting settings")
    lifter = Lifter(LIMBS12, load_body(resolution="low"), real_poses(compose([])), config)
    print(f"{platform.machine()}, torch {torch.__version__}, {args.threads} thread, {args.people} people a part, noise "
          f"{args.noise:g} px of 96, {config.hypotheses} hypotheses")  # fmt: skip
    print("| part | best, mm | by score, mm | all, mm | elevation, median deg | mean | guess | up, median deg | ms |")
    print("| --- " * 9 + "|")
    tests = []
    for part in args.parts:
        line, values = row(lifter, part, args)
        print(line, flush=True)
        if part != "validation":
            tests.append(values)
    if tests:
        means = torch.tensor(tests).mean(0).tolist()
        print("| mean of stand-ins | " + " | ".join(f"{value:.0f}" for value in means) + " |")


if __name__ == "__main__":
    main()
