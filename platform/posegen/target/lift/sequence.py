"""Hypotheses of a recording, weighted over time: what follows from the frame before is more likely.

The frames of one person are a chain whose states are the hypotheses: their own weights times how near the joints of
one frame are to those of the next. Forward-backward (Rabiner 1989, equations 19 to 27) gives the weight of each
hypothesis given all frames.

Dimensions: T frames, H hypotheses, J joints.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posegen.body.rotations import aa_to_matrix
from posegen.target.lift.parameters import camera_rotation

if TYPE_CHECKING:
    from posegen.body.model import BodyModel
    from posegen.target.lift.lifter import Hypotheses

STEP_M = 0.06  # joints move about this much from frame to frame, and the square root of the gap as much
MAX_GAP = 8  # frames; beyond, a new chain begins
CHUNK = 512


def chain_log_weights(log_weight: Tensor, places_m: Tensor, gaps: Tensor) -> Tensor:
    """Log marginals (T,H) of one chain.

    Args:
        log_weight: (T,H) of each hypothesis by itself; places_m: (T,H,J,3) camera frame; gaps: (T-1,) frames, > 0.
    """
    steps = []
    for t, gap in enumerate(gaps.tolist()):
        move = (places_m[t][:, None] - places_m[t + 1][None]).norm(dim=-1).mean(-1)
        steps.append(-0.5 * (move / STEP_M).square() / gap)
    forward = [log_weight[0]]
    for t, step in enumerate(steps):
        forward.append(torch.logsumexp(forward[-1][:, None] + step, 0) + log_weight[t + 1])
    backward = [torch.zeros_like(log_weight[0])]
    for t in range(len(steps) - 1, -1, -1):
        backward.insert(0, torch.logsumexp(steps[t] + (log_weight[t + 1] + backward[0])[None], 1))
    return torch.log_softmax(torch.stack(forward) + torch.stack(backward), 1)


def chains(sequences: Sequence[str], frames: NDArray[np.int64]) -> list[tuple[list[int], list[int]]]:
    """Rows of each run of frames with few gaps, and the gaps between them; runs of one frame are left out."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(sequences):
        if name:
            rows[name].append(row)
    result = []
    for members in rows.values():
        ordered = sorted(members, key=lambda row: int(frames[row]))
        run, gaps = [ordered[0]], []
        for row in ordered[1:]:
            gap = int(frames[row]) - int(frames[run[-1]])
            if 0 < gap <= MAX_GAP:
                run.append(row)
                gaps.append(gap)
                continue
            result.append((run, gaps))
            run, gaps = [row], []
        result.append((run, gaps))
    return [(run, gaps) for run, gaps in result if gaps]


def over_time(
    hypotheses: Hypotheses,
    sequences: Sequence[str],
    frames: NDArray[np.int64] | None,
    body: BodyModel,
    temperature: float,
) -> Hypotheses:
    """The same hypotheses with weights and order by their marginals; those of people without a recording stay."""
    if not sequences or frames is None or not any(sequences):
        return hypotheses
    weight = hypotheses.weight.clone()
    for run, gaps in chains(sequences, frames):
        part = hypotheses[torch.tensor(run)]
        places = camera_joints(part, body)
        log_weight = -(part.score - part.score.amin(1, keepdim=True)) / temperature
        weight[run] = chain_log_weights(log_weight, places, torch.tensor(gaps)).exp()
    return reordered(replace(hypotheses, weight=weight))


def camera_joints(hypotheses: Hypotheses, body: BodyModel) -> Tensor:
    """Joints (N,H,24,3) m in the camera's axes, the pelvis at the origin."""
    n, h = hypotheses.score.shape
    places = []
    for rows in torch.arange(n).split(CHUNK):
        part = hypotheses[rows]
        joints = body.joints(aa_to_matrix(part.pose.flatten(0, 1)), part.betas.flatten(0, 1))
        rotation, _, _ = camera_rotation(part.elevation_rad.flatten(), part.roll_rad.flatten())
        places.append((joints - joints[:, :1]) @ rotation.mT)
    return torch.cat(places).view(n, h, 24, 3)


def reordered(hypotheses: Hypotheses) -> Hypotheses:
    """The hypotheses of each person by falling weight."""
    order = hypotheses.weight.sort(dim=1, descending=True, stable=True).indices

    def sort(value: Tensor) -> Tensor:
        index = order.reshape(*order.shape, *[1] * (value.ndim - 2)).expand_as(value)
        return value.gather(1, index)

    return hypotheses._map(sort)


def agreed(
    hypotheses: Hypotheses, estimated_m: Tensor, common: list[int], body: BodyModel, scale_m: float
) -> Hypotheses:
    """Weights that also ask an estimator: hypotheses near to what it says of the picture count more.

    Args:
        estimated_m: (N,C,3) joints that an estimator predicts, camera axes, about the middle of the hips; NaN where
            it was not asked, which leaves a person's weights as they are.
        common: which SMPL joints those are.
        scale_m: mean distance at which a hypothesis loses one unit of log weight.
    """
    places = camera_joints(hypotheses, body)
    places = places - places[:, :, [1, 2]].mean(2, keepdim=True)
    gap = (places[:, :, common] - estimated_m[:, None]).norm(dim=-1).mean(-1).nan_to_num(nan=0.0)
    weight = torch.softmax(hypotheses.weight.clamp_min(1e-12).log() - gap / scale_m, 1)
    return reordered(replace(hypotheses, weight=weight))
