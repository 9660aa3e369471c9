"""How an estimator sees the rows of data sets before it has learned from them: its errors, and whom it turns round.

    python jobs/rows_seen.py outputs/RUN/dataset/anchors outputs/RUN/dataset/posegen estimator=hmr_small

A person counts as seen the wrong way round where his left side, square to his trunk, is seen more than 90 degrees from
where it is.
"""

from __future__ import annotations

import argparse
import sys

import torch
from torch import Tensor

from posegen.benchmarks.measure.viewpoint import TRUNK, wrong_way_round
from posegen.body.joint_sets import SMPL24, JointSet, joint_set
from posegen.config import compose
from posegen.errors import PosegenError
from posegen.estimator.configured import build_estimator
from posegen.feedback.errors3d import ERRORS, image_error_m
from posegen.scene import Estimator
from posegen.shards.reader import Shards, read_shards

BATCH = 128


def trunk(joints: Tensor, names: JointSet) -> Tensor:
    """(B,J,3) -> (B,4,3), the joints of TRUNK. Raises ConfigError for joints without hips and shoulders."""
    return joints[:, [names.index(joint) for joint in TRUNK]]


@torch.no_grad()
def seen(shards: Shards, estimator: Estimator) -> dict[str, Tensor]:
    """Of each row (N,): `mpjpe` and `pa_mpjpe` in mm, and `wrong`, whether it is seen the wrong way round."""
    parts: dict[str, list[Tensor]] = {name: [] for name in (*ERRORS, "wrong")}
    for batch in shards.batches(BATCH, ["image", "joints3d_cam_m"]):
        prediction, true = estimator(batch["image"].float() / 255), batch["joints3d_cam_m"]
        for kind in ERRORS:
            parts[kind].append(image_error_m(prediction, true, kind) * 1000)
        found = trunk(prediction.joints, joint_set(prediction.joint_set))
        turned = wrong_way_round(found, trunk(true, SMPL24), TRUNK)
        assert turned is not None  # TRUNK has hips and shoulders
        parts["wrong"].append(turned > 0)
    return {name: torch.cat(values) for name, values in parts.items()}


def told(rows: dict[str, Tensor]) -> str:
    """One line of figures."""
    wrong, error = rows["wrong"], rows["mpjpe"]
    return (
        f"{len(wrong)} rows, MPJPE {error.mean():.0f} mm, PA-MPJPE {rows['pa_mpjpe'].mean():.0f} mm, "
        f"{100 * wrong.float().mean():.0f} % seen the wrong way round (MPJPE {error[wrong].mean():.0f} mm, the "
        f"others {error[~wrong].mean():.0f})"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="+", metavar="FOLDER | key=value", help="data sets, and which estimator")
    given = parser.parse_args()
    folders = [word for word in given.words if "=" not in word]
    if not folders:
        parser.error("name at least one data set, such as outputs/RUN/dataset/ARM")
    try:
        estimator = build_estimator(compose([word for word in given.words if "=" in word]))
        for folder in folders:
            print(f"{folder}: {told(seen(read_shards(folder), estimator))}", flush=True)
    except PosegenError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
