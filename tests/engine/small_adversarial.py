"""The real adversarial loop in the tests' small world, as a class a worker can build from a configuration."""

from __future__ import annotations

from small_world import LinearEstimator, small_world

from posegen.adversarial.loop import AdversarialLoop


class SmallAdversarial(AdversarialLoop):
    def __init__(self, config, device="cpu", wrap=lambda module: module, rank=0, world_size=1):
        super().__init__(config, device, wrap, rank, world_size, world=small_world(), estimator=LinearEstimator())
