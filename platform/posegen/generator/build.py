"""Builds the generator of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from posegen import noise as noises
from posegen.body.model import BodyModel
from posegen.config.schema import PosegenConfig
from posegen.errors import CheckpointError
from posegen.files.versions import load_state, save_state
from posegen.generator.draws import Drawer
from posegen.generator.generator import Generator
from posegen.scenes.split import part_from_config
from posegen.target.draws import TargetDraws

if TYPE_CHECKING:
    from posegen.adversarial.target import GeneratorTarget

FORMAT = 1  # of generator.pt


def build_generator(config: PosegenConfig, poses: Tensor, body: BodyModel) -> Generator:
    """A fresh generator.

    Args:
        config: the configuration.
        poses: (P,24,3) rad, the pool of real poses; its spread is the unit of joint noise and residual.
        body: gives joint positions for framing.
    """
    distribution = noises.of_config(config.noise)
    ranges = part_from_config("pool", config.split["parts"]["pool"]).camera
    return Generator(config.generator, distribution, poses.std(0), body, ranges, config.image_size)


def save_generator(state: Mapping[str, Any], path: Path) -> Path:
    """A trained generator's state as a run keeps it: generate/<arm>/generator.pt."""
    return save_state(dict(state), path, FORMAT)


def load_generator(path: Path | str) -> dict[str, Any]:
    """What `save_generator` wrote."""
    cure = f"rm {path}  # the generator is then trained again"
    return load_state(path, FORMAT, "the generator", cure, error=CheckpointError)


def build_drawer(
    config: PosegenConfig,
    generator: Generator,
    poses: Tensor,
    subjects: int,
    target: GeneratorTarget | None = None,
) -> Drawer:
    """Draws for a generator, with the bodies of the split's pool; a share of them around the target's people."""
    betas = part_from_config("pool", config.split["parts"]["pool"]).bodies.betas()
    cfg = generator.config
    if target is None:
        return Drawer(generator.noise, poses, betas, subjects, cfg.mirror)
    noise = target.settings.joint_noise / max(cfg.pose_noise, 1e-6)  # the generator scales joints by pose_noise
    draws = TargetDraws(target.anchors, target.settings, cfg.mirror)
    return Drawer(generator.noise, poses, betas, subjects, cfg.mirror, draws, target.settings.scene_share, noise)
