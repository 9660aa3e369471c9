"""Settings of the adversarial loop."""

from __future__ import annotations

from dataclasses import dataclass

from posegen.config_types import number


@dataclass(frozen=True)
class AdversarialConfig:
    """One training of a generator. Batches are global: workers share them."""

    steps: int = number(300, low=1)  # training steps of the generator
    warmup_steps: int = number(60, low=0)  # without feedback, while the discriminators learn what real poses are
    batch: int = number(128, low=1)  # scenes a step
    feedback_batch: int = number(24, low=1)  # of these, how many are rendered and shown to the estimator
    feedback_every: int = number(1, low=1)  # steps from one feedback to the next
    discriminator_every: int = number(2, low=1)  # steps from one update of the discriminators to the next
    learning_rate: float = number(1e-3, above=0)  # Adam's, of generator and discriminators
    clip: float = number(1.0, above=0)  # longest gradient; a longer one is scaled down to it
    weight_adversarial: float = number(0.5, low=0)  # of looking real to the pose discriminators
    weight_projection: float = number(0.1, low=0)  # of looking real as a 2-D skeleton
    weight_moments: float = number(0.5, low=0)  # of mean and spread of poses being the pool's: keeps diversity
    weight_residual: float = number(0.05, low=0)  # of the size of the learned shift
    weight_limits: float = number(1.0, low=0)  # of broken joint limits
    replay: int = number(4096, low=0)  # past fakes that the discriminators are shown again
    calibration_images: int = number(96, low=2)  # of unshifted proposals, whose errors say what is hard
    # steps between two looks of the plausibility meter; beyond a limit the feedback is weakened
    meter_every: int = number(20, low=1)
    meter_samples: int = number(256, low=2)  # fresh scenes that the meter looks at
    limit_nearest_ratio: float = 1.6  # distance to the nearest real pose, over that of the unshifted proposal
    limit_violation_rad: float = 0.1  # joint-limit violation beyond that of the unshifted proposal
    limit_diversity_ratio: float = 0.7  # spread of poses, over that of the unshifted proposal
    checkpoint_every: int = number(50, low=1)  # steps between two checkpoints
