"""What was generated against what is real: poses, cameras and looks of each arm, the nearest real pose, plausibility.

Poses are compared with the pool's real ones, cameras and looks with the proposal's; with a target, all with the
target's. Dimensions: N pictures of an arm, P real poses.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from posegen.atlas.facts import KNOWN
from posegen.atlas.pose_facts import Numbers, pose_facts
from posegen.atlas.sample import Sample
from posegen.body.model import BodyModel
from posegen.body.pose_space import joint_limit_violation_rad, nearest_pose_distance_mm
from posegen.body.rotations import aa_to_matrix, mirror_pose
from posegen.tracking.report.plots import arm_histograms
from posegen.tracking.report.style import GRID, INK, arm_look, new_figure, quiet_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POSE = ("trunk_tilt_deg", "pelvis_height", "knee_bend_most_deg", "elbow_bend_most_deg", "arm_height_most",
        "legs_apart_deg")  # fmt: skip
CAMERA = ("from_front_deg", "elevation_deg", "distance_m", "size")
LOOK = ("brightness", "contrast", "hidden")
COMPARED = (*POSE, *CAMERA, *LOOK)
BINS = 16
TITLE_LETTERS = 44  # on a line of a panel's title
SURE_RAD = 0.05  # joints may exceed their limits by this before a pose counts as impossible
MOST_ROWS = 1000  # of an arm, evenly spread


@dataclass(frozen=True)
class ArmLooks:
    """One arm's pictures against the real ones."""

    arm: str
    sample: Sample
    nearest_mm: Numbers  # (N,) distance of the joints to the nearest real pose
    violation_rad: Numbers  # (N,) what exceeds the joints' limits
    apart: Mapping[str, Mapping[str, float]]  # reference -> fact -> distance of the distributions, in spreads

    def strangest(self, count: int) -> list[int]:
        """Rows that are farthest from any real pose."""
        return [int(row) for row in np.argsort(-self.nearest_mm, kind="stable")[:count]]

    def summary(self) -> dict[str, Any]:
        return {
            "pictures": len(self.sample),
            "nearest_median_mm": float(np.median(self.nearest_mm)),
            "nearest_95_mm": float(np.quantile(self.nearest_mm, 0.95)),
            "impossible": float((self.violation_rad > SURE_RAD).mean()),
            "apart": {reference: dict(facts) for reference, facts in self.apart.items()},
        }


class RealPoses:
    """The pool of real poses, with their mirror images.

    Args:
        pose: (P,24,3) rad; body: gives the joints of the mean shape.
    """

    def __init__(self, pose: torch.Tensor, body: BodyModel) -> None:
        self.body = body
        self.both = torch.cat([pose, mirror_pose(pose)])
        self.upright = self.joints(self.both)  # (2P,24,3) with the root's turn taken out

    @torch.no_grad()
    def joints(self, pose: torch.Tensor, turned: bool = False) -> torch.Tensor:
        """(N,24,3) rad -> (N,24,3) m of the mean shape, with the root's own turn or without any."""
        rotations = aa_to_matrix(pose).clone()
        if not turned:
            rotations[:, 0] = torch.eye(3)
        return self.body.joints(rotations, torch.zeros(len(pose), 10))

    def facts(self) -> dict[str, Numbers]:
        return pose_facts(self.joints(self.both, turned=True).double().numpy())

    def nearest_mm(self, pose: NDArray[np.floating]) -> Numbers:
        """(N,24,3) rad -> (N,) mean distance of the joints to the nearest of them."""
        joints = self.joints(torch.as_tensor(pose, dtype=torch.float32))
        return nearest_pose_distance_mm(joints, self.upright).double().numpy()


def against_real(
    arms: Mapping[str, Sample], real: RealPoses, references: Mapping[str, Mapping[str, Numbers]]
) -> list[ArmLooks]:
    """Each arm beside the references.

    Args:
        references: name -> fact -> values; facts that a reference does not have are not compared with it.
    """
    made = []
    for arm, sample in arms.items():
        apart = {
            name: {fact: distance(sample.facts[fact], values[fact]) for fact in COMPARED if fact in values}
            for name, values in references.items()
        }
        violation = joint_limit_violation_rad(torch.as_tensor(sample.pose, dtype=torch.float32)).double().numpy()
        made.append(ArmLooks(arm, sample, real.nearest_mm(sample.pose), violation, apart))
    return made


def distance(values: Numbers, reference: Numbers) -> float:
    """The Wasserstein-1 distance of two sets of numbers in units of the reference's standard deviation."""
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(values, reference) / max(float(reference.std()), 1e-9))


def distributions(arms: Sequence[ArmLooks], references: Mapping[str, Mapping[str, Numbers]]) -> Figure:
    """A panel a fact: the references as filled steps, each arm as a line."""
    columns = 3
    names = [name for name in COMPARED if any(name in values for values in references.values())]
    rows = -(-len(names) // columns)
    with quiet_style():
        figure, axes = new_figure(10.3, 1.9 * rows + 0.5, nrows=rows, ncols=columns)
        handles: dict[str, Any] = {}
        for axis, name in zip(axes.flat, names, strict=False):
            known = {ref: values[name] for ref, values in references.items() if name in values}
            everything = np.concatenate([*known.values(), *(arm.sample.facts[name] for arm in arms)])
            low, high = (float(end) for end in np.quantile(everything, [0.005, 0.995]))
            edges = np.linspace(low, high, BINS + 1)
            if edges[-1] <= edges[0]:
                edges = np.linspace(edges[0] - 0.5, edges[0] + 0.5, BINS + 1)
            for (ref, values), style in zip(known.items(), ("-", "--")):
                label = "real (pool)" if ref == "pool" else "target"
                heights = _density(values, edges)
                handles[label] = axis.stairs(heights, edges, fill=style == "-", color=GRID if style == "-" else INK,
                                             linestyle=style, zorder=1)  # fmt: skip
            for arm in arms:
                look = arm_look(arm.arm)
                middle = (edges[1:] + edges[:-1]) / 2
                (handles[look.label],) = axis.plot(
                    middle, _density(arm.sample.facts[name], edges), color=look.colour, linewidth=1.3,
                    marker=look.marker, markersize=3.5, markevery=5,
                )  # fmt: skip
            axis.set_title("\n".join(textwrap.wrap(KNOWN[name].title, TITLE_LETTERS)), fontsize=8)
            axis.set(yticks=[])
        for axis in axes.flat[len(names) :]:
            axis.set_visible(False)
        figure.legend(list(handles.values()), list(handles), loc="outside upper right", ncols=min(len(handles), 8))
    return figure


def _density(values: Numbers, edges: Numbers) -> Numbers:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return counts / max(len(values), 1)


def nearest_plot(arms: Sequence[ArmLooks]) -> Figure:
    """How far each arm's poses are from the nearest real one: a small histogram an arm."""
    label = "distance to the nearest real pose (mm per joint); the line is the median"
    return arm_histograms({arm.arm: arm.nearest_mm for arm in arms}, label)
