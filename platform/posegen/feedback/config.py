"""Settings of the feedback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from posegen.config_types import choice, number, share


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

    name: str = "maximise"  # band | maximise | hard_ratio | score_function | none
    signal: str = "error"  # error | regret | progress | agreement
    error: str = choice("mpjpe", ("mpjpe", "pa_mpjpe"))  # pa_mpjpe does not see the root's orientation
    weight: float = number(1.0, low=0)
    cap_mm: float = number(300.0, above=0)
    low_quantile: float = share(0.6)
    high_quantile: float = share(0.9)
    target_ratio: float = number(2.0, above=0)
    explore: float = number(0.3, above=0)  # standard deviation of the exploration, score_function only
    teachers: tuple[Any, ...] = ()  # regret: estimators as in conf/estimator, such as {name: blazepose}
    width_mm: float = number(120.0, above=0)  # progress: samples this far apart (mean over joints) tell of each other
    probe_steps: int = number(20, low=1)  # progress, first round: steps that a copy of the estimator is trained for
    probe_rate: float = number(3e-3, above=0)  # relative to the weights, see posegen.finetune.relative_adam
    part: str = choice("all", ("all", "last"))  # agreement: which weights' gradients are compared
    step: float = number(0.03, above=0)  # agreement: of the finite difference, relative to the weights' sizes
    weak_images: int = number(64, low=1)  # agreement: target pictures that the target's gradient is taken on
