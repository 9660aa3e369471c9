"""Settings of the feedback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from posegen.config_types import choice, number, share

ERRORS = ("mpjpe", "pa_mpjpe")  # of an image: see posegen.feedback.errors3d


@dataclass(frozen=True)
class FeedbackConfig:
    """What of a sample counts (`signal`), and towards what the generator moves that (`name`).

    `maximise` saturates at cap_mm, so that an impossible sample earns no more than a hard one. `band` pulls the signal
    into a band that moves with the estimator: the quantiles of its values on the unshifted proposal, with a target on
    target-like candidates. `hard_ratio` is PoseAug's: signal(generated) / signal(proposal) towards a target.
    `score_function` needs no gradient from the estimator (REINFORCE on the saturated signal). `none` is the baseline
    without feedback.

    Signals, see posegen.feedback.signals and the modules of their names: the estimator's `error`; its `regret`, the
    error above that of the best of `teachers`; `progress`, how much the error falls near the sample while the estimator
    is trained; `agreement` of the sample's gradient with that of the target's 2-D reprojection loss.
    """

    name: str = "maximise"  # what the signal's gradient is made into: an option of the group feedback
    signal: str = "error"  # what of a sample counts: error, regret, progress or agreement
    # which error counts; pa_mpjpe does not see the root's orientation
    error: str = choice("mpjpe", ERRORS)
    weight: float = number(1.0, low=0)  # of the feedback in the generator's loss
    cap_mm: float = number(300.0, above=0)  # maximise and score_function: where the error saturates
    low_quantile: float = share(0.6)  # band: its lower end among the errors of unshifted proposals
    high_quantile: float = share(0.9)  # band: its upper end among the errors of unshifted proposals
    target_ratio: float = number(2.0, above=0)  # hard_ratio: the wanted error of generated over that of real poses
    explore: float = number(0.3, above=0)  # score_function: standard deviation of the exploration
    teachers: tuple[Any, ...] = ()  # regret: estimators as in conf/estimator, such as {name: blazepose}
    width_mm: float = number(120.0, above=0)  # progress: samples this far apart, mean over joints, tell of each other
    probe_steps: int = number(20, low=1)  # progress: steps that a copy of the estimator is trained in the first round
    probe_rate: float = number(3e-3, above=0)  # progress: learning rate of that, relative to the weights
    part: str = choice("all", ("all", "last"))  # agreement: which weights' gradients are compared
    step: float = number(0.03, above=0)  # agreement: of the finite difference, relative to the weights' sizes
    weak_images: int = number(64, low=1)  # agreement: target pictures that the target's gradient is taken on
