"""Where the rows of each arm come from: the trained generator, or one of the baselines it must beat.

All arms share draws, subjects, bodies, lights, backgrounds and camera ranges; they differ only in what is done with
the draw, so that an arm's gain is the generator's and not that of a wider look.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from posegen.adversarial.target import GeneratorTarget
from posegen.arms.registry import Given, Proposal, arm_of
from posegen.body.model import load_body
from posegen.config.schema import PosegenConfig
from posegen.errors import ConfigError
from posegen.generator.build import build_drawer, build_generator
from posegen.generator.config import GeneratorConfig
from posegen.generator.draws import Draw
from posegen.generator.generator import Generator
from posegen.scene import Scene
from posegen.scenes.world import real_poses


def build_proposals(
    config: PosegenConfig,
    arm: str,
    subjects: int,
    generator_state: Mapping[str, Tensor] | None = None,
    chosen: Tensor | None = None,
    target: GeneratorTarget | None = None,
) -> Proposal:
    """The scenes of an arm: ids (N,) int64 -> Scene, a function of the seed and the id alone.

    Args:
        config: of the experiment.
        subjects: how many the renderer has.
        generator_state: of a trained generator, for the arms that train one.
        chosen: (N,) int64, what selection chose: row i is the scene of chosen[i].
        target: the user's own domain, for arms that are shown it.

    Raises:
        ConfigError: for an unknown arm, or one that lacks what it needs.
    """
    found = arm_of(arm)
    if found.propose is None:
        raise ConfigError(f"nothing is rendered for arm {arm!r}", where="dataset.arms")
    config = found.configure(config)
    body = load_body(config.body.path, resolution=config.body.resolution)
    return found.propose(Given(config, real_poses(config), body, subjects, generator_state, chosen, target))


def unshifted(given: Given, pose_noise: float | None = None) -> Proposal:
    """Real poses with Gaussian joint noise before cameras of the split's ranges: what a generator starts from.

    Args:
        pose_noise: in units of the pool's spread; None takes the configuration's.
    """
    settings = replace(given.config.generator, pose_head="residual")  # whatever the generator does
    if pose_noise is not None:
        settings = replace(settings, pose_noise=pose_noise)
    return _Drawn(given, settings).plain


def shifted(given: Given) -> Proposal:
    """Scenes of a trained generator; a share `dataset.random_share` of the rows keeps the proposal it starts from."""
    if given.generator_state is None:
        raise ConfigError("this arm needs a trained generator", where="dataset.arms", next_command="posegen generate")
    drawn = _Drawn(given, given.config.generator)
    drawn.generator.load_state_dict(given.generator_state)
    share = given.config.dataset.random_share

    def propose(ids: Tensor) -> Scene:
        scenes = drawn.moved(ids)
        if given.config.generator.pose_head != "residual" or share <= 0:
            return scenes
        # Rows with a low residue keep the proposal, evenly spread over any run of ids.
        keep = (ids * 0.6180339887498949) % 1 < share
        return where_scene(keep, drawn.plain(ids), scenes)

    return propose


class _Drawn:
    """Scenes from the draws that all arms share."""

    def __init__(self, given: Given, settings: GeneratorConfig) -> None:
        config = replace(given.config, generator=settings)
        self.given, self.seed = given, config.seed
        self.generator: Generator = build_generator(config, given.poses, given.body).eval().requires_grad_(False)
        self.drawer = build_drawer(config, self.generator, given.poses, given.subjects, given.target)

    @torch.no_grad()
    def plain(self, ids: Tensor) -> Scene:
        return self.generator(self.drawn(ids), shift=0.0).scene

    @torch.no_grad()
    def moved(self, ids: Tensor) -> Scene:
        return self.generator(self.drawn(ids)).scene

    def drawn(self, ids: Tensor) -> Draw:
        chosen = self.given.chosen
        return self.drawer.draw_rows(ids if chosen is None else chosen[ids], self.seed)


def persons(given: Given, ids: Tensor) -> Tensor:
    """Which of the target's people (N,) int64 each row is drawn around; -1 for poses of the pool."""
    person = _Drawn(given, given.config.generator).drawn(ids).person
    return torch.full_like(ids, -1) if person is None else person


def where_scene(keep: Tensor, first: Scene, second: Scene) -> Scene:
    """Row by row one of two scenes that came from the same draw.

    Args:
        keep: (N,) bool, rows that are the first's.
    """

    def choose(a, b):
        if isinstance(a, Tensor):
            return torch.where(keep.reshape(-1, *[1] * (a.ndim - 1)), a, b)
        if hasattr(a, "__dataclass_fields__"):
            return replace(a, **{k: choose(getattr(a, k), getattr(b, k)) for k in a.__dataclass_fields__})
        return a

    return choose(first, second)
