"""A guard against blow-ups: measures held-out rows while weights are trained, goes back, and keeps the best.

At every check an error is measured on rows that are never trained on, of each kind (generated, source). The best
weights so far are those with the lowest mean of errors relative to the start's. Two things count as a blow-up: a loss
or gradient that is not a number, seen before it reaches the weights; and an error beyond `factor` times the best of its
kind, seen at the next check. Then everything goes back to the best weights, and steps become smaller by `back_off`;
after `tries` of that the training stops with an error, the best weights in place.

Everything is a function of what is measured, and the guard's state is part of the checkpoint, so a training that was
killed gives the numbers of one that was not.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from posegen.errors import TrainingError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GuardSettings:
    """When to look, and what to do about what is seen.

    Attributes:
        every: steps between two checks; 0 measures nothing, and only losses that are no number are seen.
        factor: an error of a kind beyond this times the best of that kind is a blow-up.
        back_off: factor on the steps after each.
        tries: how many are survived.
    """

    every: int = 0
    factor: float = 1.3
    back_off: float = 0.5
    tries: int = 4


class Guard:
    """Watches over one training.

    Args:
        capture: gives the training's state (weights, averages, optimiser): tensors and numbers in dicts and lists.
        restore: puts such a state back.
        measure: the errors (any unit) of the present weights on held-out rows, by kind.
        what: names the training in messages.
    """

    def __init__(
        self,
        settings: GuardSettings,
        capture: Callable[[], dict[str, Any]],
        restore: Callable[[Mapping[str, Any]], None],
        measure: Callable[[], dict[str, float]],
        what: str = "fine-tuning",
    ) -> None:
        self.settings, self.what = settings, what
        self._capture, self._restore, self._measure = capture, restore, measure
        self.scale = 1.0  # on the learning rate
        self.blowups = 0
        self.events: list[str] = []  # what happened, in words
        self.start: dict[str, float] = {}
        self.lowest: dict[str, float] = {}
        self.best: dict[str, Any] = {}  # step, score, errors, state

    @property
    def measures(self) -> bool:
        return self.settings.every > 0

    def begin(self, step: int) -> None:
        """Measures the weights that the training starts from. Does nothing after the first time."""
        if not self.measures or self.best:
            return
        self.start = self._measure()
        if not self.start or not all(math.isfinite(value) and value > 0 for value in self.start.values()):
            raise TrainingError(
                f"the weights that {self.what} starts from cannot be measured: "
                f"{_told(self.start) or 'no rows held out'}",
                where=f"step {step}",
                next_command="finetune.guard_every=0 trains unguarded; posegen evaluate measures the estimator alone",
            )
        self.lowest = dict(self.start)
        self._keep(step, self.start)

    def due(self, step: int, steps: int) -> bool:
        """Whether to check after this many finished steps of so many; the last is always one."""
        return self.measures and (step % self.settings.every == 0 or step == steps)

    def check(self, step: int) -> dict[str, float]:
        """Measures, keeps what is best, goes back where it blew up. Returns what a history should show.

        Raises:
            TrainingError: it blew up once more than is survived.
        """
        errors = self._measure()
        worst = max(errors, key=lambda kind: _ratio(errors[kind], self.lowest[kind]))
        if _ratio(errors[worst], self.lowest[worst]) > self.settings.factor:
            reason = (
                f"the error on held-out {worst} rows is {errors[worst]:.4g}, its lowest was {self.lowest[worst]:.4g}"
            )
            self.blown_up(step, reason)
        else:
            self.lowest = {kind: min(value, self.lowest[kind]) for kind, value in errors.items()}
            if self._score(errors) < self.best["score"]:
                self._keep(step, errors)
        return {f"held_{kind}": value for kind, value in errors.items()} | self.metrics()

    def sound(self, *numbers: float) -> bool:
        """Whether a loss and a gradient's norm are numbers at all."""
        return all(math.isfinite(number) for number in numbers)

    def blown_up(self, step: int, reason: str) -> None:
        """Goes back to the best weights (where none are kept: stays before the step) with smaller steps."""
        self.blowups += 1
        self.scale *= self.settings.back_off
        self.go_to_best()
        back = f"back to step {self.best['step']}" if self.best else "the step is left out"
        self.events.append(f"step {step}: {reason}; {back}, steps are {self.scale:g} of what they were")
        if self.blowups > self.settings.tries:
            kept = f"those of step {self.best['step']} ({_told(self.best['errors'])})" if self.best else "those before"
            raise TrainingError(
                f"{self.what} blew up {self.blowups} times, also with steps {self.scale / self.settings.back_off:g} of "
                f"what they were; the last good weights are kept, {kept}; the last time: {reason}",
                where=f"step {step}",
                next_command="a lower finetune.learning_rate, finetune.optimiser=relative_adam, or finetune.keep=l2sp",
            )
        logger.warning("%s: %s", self.what, self.events[-1])

    def go_to_best(self) -> None:
        """Puts the best weights back, with the optimiser as it was then."""
        if self.best:
            self._restore(copy.deepcopy(self.best["state"]))

    def metrics(self) -> dict[str, float]:
        best = {"best_step": float(self.best["step"])} if self.best else {}
        return {"blowups": float(self.blowups), "step_scale": self.scale} | best

    def _score(self, errors: Mapping[str, float]) -> float:
        return sum(errors[kind] / self.start[kind] for kind in self.start) / len(self.start)

    def _keep(self, step: int, errors: Mapping[str, float]) -> None:
        state = copy.deepcopy(self._capture())
        self.best = {"step": step, "score": self._score(errors), "errors": dict(errors), "state": state}

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and strings only."""
        told = {name: getattr(self, name) for name in ("scale", "blowups", "start", "lowest", "best")}
        return {**told, "events": list(self.events)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.scale, self.blowups = float(state["scale"]), int(state["blowups"])
        self.start, self.lowest = dict(state["start"]), dict(state["lowest"])
        self.best, self.events = copy.deepcopy(dict(state["best"])), list(state["events"])


def told_at_the_end(state: Mapping[str, Any]) -> list[str]:
    """In words what a guard saw, from its state after the last step: its events, and whether nothing was won."""
    told = list(state["events"])
    if state["best"] and state["best"]["step"] == 0:
        told.append(
            f"at no check were held-out rows better than at the start ({_told(state['start'])} mm): its weights are "
            "those that it began with; another finetune.learning_rate, more finetune.steps or dataset.images may help"
        )
    return told


def _ratio(error: float, lowest: float) -> float:
    return error / lowest if math.isfinite(error) else math.inf


def _told(errors: Mapping[str, float]) -> str:
    return ", ".join(f"{kind} {value:.4g}" for kind, value in errors.items())
