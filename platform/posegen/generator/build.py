"""Builds the generator of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from posegen import noise as noises
from posegen.body.model import BodyModel
from posegen.config_types import typed
from posegen.generator.config import GeneratorConfig
from posegen.generator.draws import Drawer
from posegen.generator.generator import Generator
from posegen.scenes.split import part_from_config
from posegen.target.draws import TargetDraws

if TYPE_CHECKING:
    from posegen.adversarial.target import GeneratorTarget


def build_generator(config: Mapping[str, Any], poses: Tensor, body: BodyModel) -> Generator:
    """A fresh generator.

    Args:
        config: the plain dict of posegen.config.PosegenConfig.
        poses: (P,24,3) rad, the pool of real poses; its spread is the unit of joint noise and residual.
        body: gives joint positions for framing.
    """
    noise = dict(config["noise"])
    distribution = noises.build(noise["name"], dim=noise["dim"], **(noise.get("options") or {}))
    settings = typed(GeneratorConfig, config["generator"], "generator")
    ranges = part_from_config("pool", config["split"]["parts"]["pool"]).camera
    return Generator(settings, distribution, poses.std(0), body, ranges, config["image_size"])


def build_drawer(
    config: Mapping[str, Any],
    generator: Generator,
    poses: Tensor,
    subjects: int,
    target: GeneratorTarget | None = None,
) -> Drawer:
    """Draws for a generator, with the bodies of the split's pool; a share of them around the target's people."""
    betas = part_from_config("pool", config["split"]["parts"]["pool"]).bodies.betas()
    cfg = generator.config
    if target is None:
        return Drawer(generator.noise, poses, betas, subjects, cfg.mirror)
    noise = target.settings.joint_noise / max(cfg.pose_noise, 1e-6)  # the generator scales joints by pose_noise
    draws = TargetDraws(target.anchors, target.settings, cfg.mirror)
    return Drawer(
        generator.noise, poses, betas, subjects, cfg.mirror, draws, target.settings.scene_share, noise
    )
