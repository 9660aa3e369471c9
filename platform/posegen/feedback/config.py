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

    name: str = "maximise"  # band | maximise | hard_ratio | score_function | none
    error: str = choice("mpjpe", ("mpjpe", "pa_mpjpe"))  # pa_mpjpe does not see the root's orientation
    weight: float = number(1.0, low=0)
    cap_mm: float = number(300.0, above=0)
    low_quantile: float = share(0.6)
    high_quantile: float = share(0.9)
    target_ratio: float = number(2.0, above=0)
    explore: float = number(0.3, above=0)  # standard deviation of the exploration, score_function only
