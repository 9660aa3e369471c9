"""The adversarial loop itself on Ray: several models in one step, two workers, the numbers of one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from posegen.config import compose
from posegen.config.task import ArmTask
from posegen.engine.terms import Claim, Place, Reports
from posegen.engine.train import run_training

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "adversarial"))


@pytest.mark.slow
def test_two_workers_train_generator_and_discriminators_as_one_would(ray_cluster, assets, tmp_path):
    from small_adversarial import SmallAdversarial
    from small_world import SIZE

    small = [
        f"image_size={SIZE}", "adversarial.batch=16", "adversarial.feedback_batch=8", "adversarial.meter_samples=32",
        "adversarial.steps=6", "adversarial.warmup_steps=0",
    ]  # fmt: skip
    config = ArmTask(compose(["experiment=smoke", *small]))
    outcome = run_training(
        "small_adversarial:SmallAdversarial",
        config,
        Place(tmp_path, "a"),
        claim=Claim(workers=2),
        reports=Reports(checkpoint_every=3),
    )
    one = SmallAdversarial(config)
    while one.step_index < one.steps:
        one.step()
    state = outcome.state()
    for part in ("generator", "discriminators"):
        for name, value in getattr(one, part).state_dict().items():
            # Adam makes a step of 1e-3 out of any gradient: where one is nearly 0, its last digits are seen
            off = (state[part][name] - value).abs()
            assert off.max() < 1e-4 and off.mean() < 1e-6, f"{part} {name}: {off.max()}, in the mean {off.mean()}"
    torch.testing.assert_close(state["replay"], one.state_dict()["replay"], atol=1e-4, rtol=0)
