"""Progress: samples near those whose error falls while the estimator is trained.

Some errors fall by training and others stay, being noise or beyond the network: what can be learned now is where the
error falls (Schmidhuber 1991; Oudeyer and Kaplan 2007). Over N samples x_i of the proposal, with the error e before and
e' after training,

    r(x) = sum_i k(x, x_i) (e(x_i) - e'(x_i)) / (k0 + sum_i k(x, x_i)),   k(x, y) = exp(-d(x, y)^2 / 2 w^2)

where d is the mean distance of the joints about the pelvis in the camera's frame, so that a region is a pose with a
view. Far from all samples nothing is known: r is 0. The gradient runs through the sample's own joints.

Before and after are, from the second round on, the estimators of the round before and of this one. In the first round
two copies of the estimator are trained for a few steps, each on one half of the samples, and measured on the other.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from posegen.body.joint_sets import SMPL24
from posegen.feedback.config import FeedbackConfig
from posegen.feedback.errors3d import image_error_m
from posegen.feedback.signals import REGISTRY, Sample, Standardised, Surroundings, need_weights
from posegen.finetune.relative_adam import RelativeAdam
from posegen.seeds import torch_generator

UNKNOWN = 0.5  # k0: the weight of not knowing, in samples
CHUNK = 32


def places(joints_cam_m: Tensor) -> Tensor:
    """Joints (B,24,3) about the pelvis, flat (B,72): what nearness is measured in."""
    return SMPL24.centred(joints_cam_m).flatten(1)


def local_mean(at: Tensor, known: Tensor, values: Tensor, width_m: float) -> Tensor:
    """The module's r at places (B,72), of values (N,) known at places (N,72).

    d^2 is the mean over joints of the squared distance.
    """
    square = (at[:, None] - known[None]).square().sum(-1) / len(SMPL24)
    weight = torch.exp(-0.5 * square / width_m**2)
    return (weight * values).sum(1) / (UNKNOWN + weight.sum(1))


@REGISTRY.register("progress")
class ProgressSignal(Standardised):
    """See the module's formula; standardised over the proposal."""

    needs_gradient = False  # through the sample's joints, not through the estimator

    def __init__(self, config: FeedbackConfig, around: Surroundings) -> None:
        super().__init__()
        need_weights(around.estimator, "progress")
        self.config, self.around = config, around

    def calibrate(self, samples: list[Sample]) -> None:
        joints = torch.cat([sample.joints_cam_m.detach() for sample in samples])
        images = torch.cat([sample.images.detach() for sample in samples])
        fall = self._fall(images, joints, samples[0].kind)
        self.state = {"places": places(joints).cpu(), "fall": fall.cpu()}
        super().calibrate(samples)

    def raw(self, sample: Sample) -> Tensor:
        at = places(sample.joints_cam_m)
        return local_mean(at, self.state["places"].to(at), self.state["fall"].to(at), self.config.width_mm / 1000)

    def _fall(self, images: Tensor, joints: Tensor, kind: str) -> Tensor:
        """(N,) error before less error after, m."""
        now = errors_of(self.around.estimator, images, joints, kind)
        if self.around.earlier is not None:
            return errors_of(self.around.earlier, images, joints, kind) - now
        order = torch.randperm(len(images), generator=torch_generator(self.around.seed, "progress", "halves"))
        halves = order[::2].to(images.device), order[1::2].to(images.device)
        after = now.clone()
        for taught, measured in (halves, halves[::-1]):
            probe = trained_a_little(
                self.around.estimator, images[taught], joints[taught], self.config.probe_steps, self.config.probe_rate
            )
            after[measured] = errors_of(probe, images[measured], joints[measured], kind)
        return now - after


@torch.no_grad()
def errors_of(estimator: Any, images: Tensor, joints_cam_m: Tensor, kind: str) -> Tensor:
    """(N,) m."""
    parts = [slice(start, start + CHUNK) for start in range(0, len(images), CHUNK)]
    return torch.cat([image_error_m(estimator(images[part]), joints_cam_m[part], kind) for part in parts])


def trained_a_little(estimator: nn.Module, images: Tensor, joints_cam_m: Tensor, steps: int, rate: float) -> nn.Module:
    """A copy of the estimator after some steps of relative Adam on the joints' error alone; the estimator stays."""
    probe: Any = copy.deepcopy(estimator).requires_grad_(True).eval()
    optimiser = RelativeAdam(probe.named_parameters(), rate)
    with torch.enable_grad():
        for step in range(steps):
            rows = torch.arange(step * CHUNK, (step + 1) * CHUNK, device=images.device).remainder(len(images)).unique()
            loss = image_error_m(probe(images[rows]), joints_cam_m[rows]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return probe.requires_grad_(False)
