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

    # a bounded shift from a real pose, or a pose from noise alone
    pose_head: str = choice("residual", ("residual", "direct"))
    hidden: int = number(256, low=1)  # width of the MLP's layers
    layers: int = number(2, low=1)  # hidden layers of the MLP
    # standard deviation of the joint noise, in units of the pool's own spread of each joint
    pose_noise: float = number(0.5, low=0)
    pose_range: float = number(1.0, low=0)  # bound of the learned residual, in the same units
    # bound of the learned change of the root's orientation: 0 leaves it to the camera
    root_range_rad: float = number(0.0, low=0)
    # Bound of the learned shift of a camera parameter, in logits of its uniform prior. With 2, a third of the cameras
    # went under -15 degrees of elevation instead of a sixth: hard, and of no use.
    camera_range: float = number(0.7, low=0)
    azimuth_range_rad: float = number(1.5, low=0)  # bound of the learned shift of the camera's azimuth
    betas_range: float = number(0.5, low=0)  # bound of the learned change of body shape (betas)
    light_range: float = number(0.5, low=0)  # bound of the learned change of the light's direction
    mirror: bool = True  # mirrors half of the real poses left to right
