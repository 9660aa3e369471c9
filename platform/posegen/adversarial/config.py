"""Settings of the adversarial loop."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class AdversarialConfig:
    """One training of a generator. Batches are global: workers share them."""

    steps: int = 300
    warmup_steps: int = 60  # without feedback, while the discriminators learn what real poses are
    batch: int = 128  # scenes a step
    feedback_batch: int = 24  # of these, how many are rendered and shown to the estimator
    feedback_every: int = 1
    discriminator_every: int = 2
    learning_rate: float = 1e-3
    clip: float = 1.0
    weight_adversarial: float = 0.5
    weight_projection: float = 0.1
    weight_moments: float = 0.5  # mean and spread of poses against the pool: keeps diversity
    weight_residual: float = 0.05
    weight_limits: float = 1.0
    replay: int = 4096
    calibration_images: int = 96
    # The plausibility meter: measured every so many steps; beyond a limit the feedback is weakened.
    meter_every: int = 20
    meter_samples: int = 256
    limit_nearest_ratio: float = 1.6  # distance to the nearest real pose, over that of the unshifted proposal
    limit_violation_rad: float = 0.1  # joint-limit violation beyond that of the unshifted proposal
    limit_diversity_ratio: float = 0.7  # spread of poses, over that of the unshifted proposal
    checkpoint_every: int = 50
