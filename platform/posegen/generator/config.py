"""Settings of the generator. Where cameras may be is said by the split, `split.parts.pool.camera`."""

from __future__ import annotations

from dataclasses import dataclass

from posegen.config_types import choice, number


@dataclass(frozen=True)
class GeneratorConfig:
    """The generator's heads and how far each may go.

    `residual`: a real pose plus Gaussian joint noise plus a bounded learned residual. It starts as the random
    baseline and stays near real poses; `direct` is PoseGen's: pose from noise alone, held by the discriminators.
    """

    pose_head: str = choice("residual", ("residual", "direct"))  # residual | direct
    hidden: int = number(256, low=1)
    layers: int = number(2, low=1)
    pose_noise: float = number(0.5, low=0)  # std of the joint noise, in units of the pool's own std per joint
    pose_range: float = number(1.0, low=0)  # bound of the learned residual, in the same units
    root_range_rad: float = number(
        0.0, low=0
    )  # bound of the learned change of global orient: 0 leaves it to the camera
    # Bound of the learned shift of a camera parameter, in logits of its uniform prior. With 2, a third of the cameras
    # went under -15 degrees of elevation instead of a sixth: hard, and of no use.
    camera_range: float = number(0.7, low=0)
    azimuth_range_rad: float = number(1.5, low=0)  # bound of the learned shift of the azimuth
    betas_range: float = number(0.5, low=0)  # bound of the learned change of betas
    light_range: float = number(0.5, low=0)  # bound of the learned change of the light's direction
    mirror: bool = True
