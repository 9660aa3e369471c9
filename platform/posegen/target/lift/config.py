"""What the lifting assumes and how hard it tries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LiftConfig:
    """Lifting of 2-D keypoints. Angles in degrees, lengths in metres, keypoints in sides of the person's box.

    Args:
        hypotheses: kept of each picture.
        candidates: started from, in the dictionary's order.
        dictionary: entries: poses x views x tilts.
        first_steps, steps: of the solver, on all candidates and on those that are kept.
        keypoint_noise: standard deviation of a keypoint.
        kernel_share, kernel_own: width of the pose prior's kernel in units of the pool's spread: along the pool's
            covariance, and of each joint by itself.
        mixed: share of dictionary entries whose limbs come from several poses; mix_cost is what such an entry costs.
        blur: noise of the dictionary's poses in units of the kernel.
        tilted: share of dictionary entries that are tilted any way (cartwheels, falls); tilt_cost is what such an
            entry costs, in the score's units (half squared standard deviations).
        elevation_deg, roll_deg: mean and standard deviation of cameras.
        distance: median of the camera's distance in metres, and standard deviation of its logarithm.
        tilt_deg: standard deviation of a person's tilt about those of like poses in the pool.
        like_m: how far joints of such a pose may be off.
        shapes: components of body shape that are solved for.
        shared_deg: how far the cameras of people in one picture may differ.
        odd_tilts: share of people who are tilted any way, whatever their pose has in the pool.
        floor_weight, floor_m: how much it counts that people are above what they stand on, and the scale of that.
        apart_m: hypotheses differ by at least this in the mean distance of their joints.
        temperature: of the weights: exp(-score / temperature).
    """

    hypotheses: int = 6
    candidates: int = 20
    dictionary: int = 20000
    first_steps: int = 3
    steps: int = 6
    keypoint_noise: float = 0.006
    kernel_share: float = 1.0
    kernel_own: float = 0.8
    mixed: float = 0.5
    mix_cost: float = 1.0
    blur: float = 0.15
    tilted: float = 0.4
    tilt_cost: float = 4.0
    elevation_deg: tuple[float, float] = (8.0, 22.0)
    roll_deg: tuple[float, float] = (0.0, 6.0)
    distance: tuple[float, float] = (4.5, 0.6)
    tilt_deg: float = 12.0
    like_m: float = 0.08
    shapes: int = 0
    odd_tilts: float = 0.05
    shared_deg: float = 5.0
    floor_weight: float = 2.0
    floor_m: float = 0.08
    apart_m: float = 0.06
    temperature: float = 1.0
    seed: int = 0
