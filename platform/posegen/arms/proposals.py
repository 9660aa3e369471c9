"""Where the rows of each arm come from: the trained generator, or one of the baselines it must beat.

All arms share draws, subjects, bodies, lights, backgrounds and camera ranges; they differ only in what is done with
the draw, so that an arm's gain is the generator's and not that of a wider look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from posegen.errors import ConfigError
from posegen.generator.build import build_drawer, build_generator
from posegen.scene import Scene

ARMS = ("posegen", "no_feedback", "random", "mocap", "mined_random", "anchors")
GENERATOR_ARMS = ("posegen", "no_feedback")

Proposal = Callable[[Tensor], Scene]


def build_proposals(
    config: Mapping[str, Any],
    arm: str,
    subjects: int,
    generator_state: Mapping[str, Tensor] | None = None,
    chosen: Tensor | None = None,
) -> Proposal:
    """The scenes of an arm: ids (N,) int64 -> Scene, a function of the seed and the id alone.

    - `mocap`: real poses as they are, cameras uniform in the split's ranges.
    - `random`, `mined_random`: real poses with Gaussian joint noise; mining happens after rendering.
    - `anchors`: around the people of the lifted target (target.lifted).
    - `posegen`, `no_feedback`: a trained generator; a share `dataset.random_share` of rows stays unshifted.

    Args:
        config: the plain dict of posegen.config.PosegenConfig.
        subjects: how many the renderer has.
        chosen: (N,) int64, what mining chose: row i is the scene of chosen[i] of the random pool.
        generator_state: a trained generator's, for the two generator arms.
    """
    from posegen.body.model import load_body
    from posegen.scenes.world import real_poses

    if arm not in ARMS:
        raise ConfigError(f"unknown arm {arm!r}", where="dataset.arms", choices=ARMS)
    settings = dict(config["generator"])
    if arm not in GENERATOR_ARMS:
        settings["pose_head"] = "residual"  # the baselines start from real poses whatever the generator does
    if arm == "mocap":
        settings["pose_noise"] = 0.0
    config = {**config, "generator": settings}
    body = load_body(config["body"]["path"], resolution=config["body"]["resolution"])
    poses = real_poses(config)
    if arm == "anchors":
        from posegen.target.proposal import anchor_proposal

        return anchor_proposal(config, poses, body, subjects)
    generator = build_generator(config, poses, body).eval().requires_grad_(False)
    if arm in GENERATOR_ARMS:
        if generator_state is None:
            raise ConfigError(f"arm {arm!r} needs a trained generator", next_command="posegen generate")
        generator.load_state_dict(generator_state)
    drawer = build_drawer(config, generator, poses, subjects)
    seed, random_share = int(config["seed"]), float(config["dataset"]["random_share"])

    @torch.no_grad()
    def propose(ids: Tensor) -> Scene:
        if chosen is not None:
            ids = chosen[ids]
        draw = drawer.draw_rows(ids, seed)
        if arm not in GENERATOR_ARMS:
            return generator(draw, shift=0.0).scene
        shifted = generator(draw).scene
        if settings["pose_head"] != "residual" or random_share <= 0:
            return shifted
        plain = generator(draw, shift=0.0).scene
        # Rows with a low residue keep the proposal, evenly spread over any run of ids.
        keep = (ids * 0.6180339887498949) % 1 < random_share
        return _where(keep, plain, shifted)

    return propose


def _where(keep: Tensor, first: Scene, second: Scene) -> Scene:
    """Row by row one of two scenes that came from the same draw."""

    def choose(a, b):
        if isinstance(a, Tensor):
            return torch.where(keep.reshape(-1, *[1] * (a.ndim - 1)), a, b)
        if hasattr(a, "__dataclass_fields__"):
            return replace(a, **{k: choose(getattr(a, k), getattr(b, k)) for k in a.__dataclass_fields__})
        return a

    return choose(first, second)
