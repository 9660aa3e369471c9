"""Settings of the adversarial loop."""

from __future__ import annotations

from dataclasses import dataclass

from posegen.config_types import number


@dataclass(frozen=True)
class AdversarialConfig:
    """One training of a generator. Batches are global: workers share them."""

    steps: int = number(300, low=1)
    warmup_steps: int = number(60, low=0)  # without feedback, while the discriminators learn what real poses are
    batch: int = number(128, low=1)  # scenes a step
    feedback_batch: int = number(24, low=1)  # of these, how many are rendered and shown to the estimator
    feedback_every: int = number(1, low=1)
    discriminator_every: int = number(2, low=1)
    learning_rate: float = number(1e-3, above=0)
    clip: float = number(1.0, above=0)
    weight_adversarial: float = number(0.5, low=0)
    weight_projection: float = number(0.1, low=0)
    weight_moments: float = number(0.5, low=0)  # mean and spread of poses against the pool: keeps diversity
    weight_residual: float = number(0.05, low=0)
    weight_limits: float = number(1.0, low=0)
    replay: int = number(4096, low=0)
    calibration_images: int = number(96, low=2)
    # The plausibility meter: measured every so many steps; beyond a limit the feedback is weakened.
    meter_every: int = number(20, low=1)
    meter_samples: int = number(256, low=2)
    limit_nearest_ratio: float = 1.6  # distance to the nearest real pose, over that of the unshifted proposal
    limit_violation_rad: float = 0.1  # joint-limit violation beyond that of the unshifted proposal
    limit_diversity_ratio: float = 0.7  # spread of poses, over that of the unshifted proposal
    checkpoint_every: int = number(50, low=1)
