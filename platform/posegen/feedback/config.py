"""Settings of the feedback."""

from __future__ import annotations

from dataclasses import dataclass

from posegen.config_types import choice, number, share


@dataclass(frozen=True)
class FeedbackConfig:
    """Which error counts, and towards what the generator moves it.

    `maximise` saturates at cap_mm, so that an impossible sample earns no more than a hard one. `band` pulls the error
    into a band that moves with the estimator: the quantiles of its errors on the unshifted proposal. `hard_ratio` is
    PoseAug's: error(generated) / error(real) towards a target. `score_function` needs no gradient from the estimator
    (REINFORCE on the saturated error). `none` is the baseline without feedback.
    """

    name: str = "maximise"  # what the error's gradient is made into: an option of the group feedback
    # which error counts; pa_mpjpe does not see the root's orientation
    error: str = choice("mpjpe", ("mpjpe", "pa_mpjpe"))
    weight: float = number(1.0, low=0)  # of the feedback in the generator's loss
    cap_mm: float = number(300.0, above=0)  # maximise and score_function: where the error saturates
    low_quantile: float = share(0.6)  # band: its lower end among the errors of unshifted proposals
    high_quantile: float = share(0.9)  # band: its upper end among the errors of unshifted proposals
    target_ratio: float = number(2.0, above=0)  # hard_ratio: the wanted error of generated over that of real poses
    explore: float = number(0.3, above=0)  # score_function: standard deviation of the exploration
