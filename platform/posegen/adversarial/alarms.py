"""Alarms over a generator's training: poses too far from real ones, too alike, or one loss that outweighs the rest.

A function of the rows of its history, so that a training that was killed and went on gives the alarms of one that was
not. Each alarm has one beginning and, where it passed, one end; `posegen run` prints both when they are seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

PLAUSIBILITY, DIVERSITY, BALANCE = "plausibility", "diversity", "loss_balance"
WINDOW = 20  # steps that the balance of losses is averaged over
MOST_SHARE = 0.95  # of the weighted losses' sizes, of one of them alone
LEAST_DISCRIMINATOR = 0.05  # least-squares loss of both discriminators; 0.5 is that of a guess


@dataclass(frozen=True)
class Alarm:
    """One thing that went wrong for a while."""

    name: str
    begun: int  # step
    told: str  # with the figures of the beginning
    ended: int | None = None  # step; None: it was so at the last row

    def __str__(self) -> str:
        until = f"until step {self.ended}" if self.ended is not None else "to the end"
        return f"from step {self.begun} {until}: {self.told}"


class Alarms:
    """Watches over one training.

    Args:
        weights: of the losses in their sum, by name (`adversarial`, `feedback`, ...).
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)
        self.found: list[Alarm] = []
        self._shares: deque[dict[str, float]] = deque(maxlen=WINDOW)
        self._discriminator: deque[float] = deque(maxlen=WINDOW)

    def see(self, row: Mapping[str, float]) -> list[str]:
        """Told of a step's row; what a person should be told of it, a line each."""
        step = int(row["step"])
        wrong = {**self._limits(row), **self._balance(row)}
        lines: list[str] = []
        for place, alarm in enumerate(self.found):
            if alarm.ended is None and alarm.name in wrong and wrong[alarm.name] is None:
                self.found[place] = replace(alarm, ended=step)
                lines.append(f"step {step}: {alarm.name} is well again")
        open_now = {alarm.name for alarm in self.found if alarm.ended is None}
        for name, told in wrong.items():
            if told is not None and name not in open_now:
                self.found.append(Alarm(name, step, told))
                lines.append(f"step {step}: alarm, {name}: {told}")
        return lines

    def _limits(self, row: Mapping[str, float]) -> dict[str, str | None]:
        """By name what is wrong, None where it was looked at and is well; steps without a measurement say nothing."""
        if "limit_nearest_mm" not in row:
            return {}
        said: list[str] = []
        if row["meter_nearest_mm"] > row["limit_nearest_mm"]:
            said.append(
                f"the nearest real pose is {row['meter_nearest_mm']:.0f} mm a joint away, the limit is "
                f"{row['limit_nearest_mm']:.0f} mm"
            )
        if row["meter_violation_rad"] > row["limit_violation_rad"]:
            said.append(
                f"joints are bent {row['meter_violation_rad']:.3f} rad beyond what they can, the limit is "
                f"{row['limit_violation_rad']:.3f} rad"
            )
        alike = None
        if row["meter_diversity_mm"] < row["limit_diversity_mm"]:
            alike = (
                f"two poses differ by {row['meter_diversity_mm']:.0f} mm a joint, the limit is "
                f"{row['limit_diversity_mm']:.0f} mm"
            )
        return {PLAUSIBILITY: "; ".join(said) or None, DIVERSITY: alike}

    def _balance(self, row: Mapping[str, float]) -> dict[str, str | None]:
        """The gate counts: a feedback that it has weakened weighs less."""
        gate = row.get("feedback_gate", 1.0)
        sizes = {
            name: abs(row[f"loss_{name}"]) * weight * (gate if name == "feedback" else 1.0)
            for name, weight in self.weights.items()
            if f"loss_{name}" in row
        }
        if not sizes or sum(sizes.values()) <= 0:
            return {}
        self._shares.append({name: size / sum(sizes.values()) for name, size in sizes.items()})
        if "loss_discriminator" in row:
            self._discriminator.append(row["loss_discriminator"])
        if len(self._shares) < WINDOW:
            return {}
        means = {name: sum(shares.get(name, 0.0) for shares in self._shares) / WINDOW for name in self.weights}
        heaviest = max(means, key=lambda name: means[name])
        if means[heaviest] > MOST_SHARE:
            return {BALANCE: f"{heaviest} is {100 * means[heaviest]:.0f} % of all losses; the others teach nothing"}
        judged = sum(self._discriminator) / len(self._discriminator) if self._discriminator else 1.0
        if judged < LEAST_DISCRIMINATOR:
            return {BALANCE: f"the discriminators hardly err (loss {judged:.3f}): what looks real is not learned"}
        return {BALANCE: None}


def alarms_of(rows: Iterable[Mapping[str, float]], weights: Mapping[str, float]) -> list[Alarm]:
    """The alarms of a whole history."""
    watch = Alarms(weights)
    for row in rows:
        watch.see(row)
    return watch.found


def loss_weights(config: Mapping[str, Any]) -> dict[str, float]:
    """The weights of the losses, of a configuration in its plain form; empty where it holds none."""
    adversarial = config.get("adversarial") or {}
    weights = {key.removeprefix("weight_"): value for key, value in adversarial.items() if key.startswith("weight_")}
    weights["feedback"] = (config.get("feedback") or {}).get("weight", 1.0)
    return {name: float(value) for name, value in weights.items() if isinstance(value, int | float)}
