"""A guard against blow-ups: measures held-out rows while weights are trained, goes back, and keeps the good.

At every check errors are measured on rows that are never trained on, of each kind (generated, source). A check's score
is the mean over kinds of its error relative to the start's. What is kept is the latest check that is not clearly worse
than the one with the lowest score: by more than a standard error of the difference over the same rows (the rule of
Breiman et al. 1984, which prefers the simpler of equals; here the later, for steps become smaller to the end, and one
row whose left and right are swapped moves a mean of dozens by tenths). Two things are a blow-up: a loss or gradient
that is not a number, seen before it reaches the weights; and an error beyond `factor` times the lowest of its kind, and
further than two standard errors, seen at the next check. Then everything goes back to the weights that are kept, and
steps become smaller by `back_off`; after `tries` of that the training stops with an error, those weights in place.

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

import torch
from torch import Tensor

from posegen.errors import TrainingError

logger = logging.getLogger(__name__)
Errors = dict[str, Tensor]  # of each kind of held-out rows (n,)


@dataclass(frozen=True)
class GuardSettings:
    """When to look, and what to do about what is seen.

    Attributes:
        every: steps between two checks; 0 measures nothing, and only losses that are no number are seen.
        factor: an error of a kind beyond this times the lowest of that kind is a blow-up.
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
        measure: the errors (any unit) of the present weights on held-out rows (n,), by kind: the same rows each time.
        what: names the training in messages.
    """

    def __init__(
        self,
        settings: GuardSettings,
        capture: Callable[[], dict[str, Any]],
        restore: Callable[[Mapping[str, Any]], None],
        measure: Callable[[], dict[str, Tensor]],
        what: str = "fine-tuning",
    ) -> None:
        self.settings, self.what = settings, what
        self._capture, self._restore, self._measure = capture, restore, measure
        self.scale = 1.0  # on the learning rate
        self.blowups = 0
        self.events: list[str] = []  # what happened, in words
        self.start: dict[str, float] = {}
        self.lowest: Errors = {}  # of each kind, those of the check where their mean was lowest
        self.best: Errors = {}  # those of the check with the lowest score
        self.kept: dict[str, Any] = {}  # step, errors, state

    @property
    def measures(self) -> bool:
        return self.settings.every > 0

    def begin(self, step: int) -> None:
        """Measures the weights that the training starts from. Does nothing after the first time."""
        if not self.measures or self.kept:
            return
        errors = self._measure()
        self.start = _means(errors)
        if not self.start or not all(math.isfinite(value) and value > 0 for value in self.start.values()):
            raise TrainingError(
                f"the weights that {self.what} starts from cannot be measured: "
                f"{_told(self.start) or 'no rows held out'}",
                where=f"step {step}",
                next_command="finetune.guard_every=0 trains unguarded; posegen evaluate measures the estimator alone",
            )
        self.lowest, self.best = dict(errors), errors
        self._keep(step, errors)

    def due(self, step: int, steps: int) -> bool:
        """Whether to check after this many finished steps of so many; the last is always one."""
        return self.measures and (step % self.settings.every == 0 or step == steps)

    def check(self, step: int) -> dict[str, float]:
        """Measures, keeps what is best, goes back where it blew up. Returns what a history should show.

        Raises:
            TrainingError: it blew up once more than is survived.
        """
        errors = self._measure()
        means = _means(errors)
        exploded = [kind for kind in errors if self._exploded(kind, errors[kind])]
        if exploded:
            worst = max(exploded, key=lambda kind: _ratio(means[kind], float(self.lowest[kind].mean())))
            lowest = float(self.lowest[worst].mean())
            self.blown_up(
                step, f"the error on held-out {worst} rows is {means[worst]:.4g}, its lowest was {lowest:.4g}"
            )
        else:
            for kind, found in errors.items():
                if found.mean() < self.lowest[kind].mean():
                    self.lowest[kind] = found
            rise, chance = self._rise(errors, self.best)
            if rise < 0:
                self.best = errors
            if rise <= chance:
                self._keep(step, errors)
        return {f"held_{kind}": value for kind, value in means.items()} | self.metrics()

    def sound(self, *numbers: float) -> bool:
        """Whether a loss and a gradient's norm are numbers at all."""
        return all(math.isfinite(number) for number in numbers)

    def blown_up(self, step: int, reason: str) -> None:
        """Goes back to the weights that are kept (where none are: stays before the step) with smaller steps."""
        self.blowups += 1
        self.scale *= self.settings.back_off
        self.go_to_kept()
        back = f"back to step {self.kept['step']}" if self.kept else "the step is left out"
        self.events.append(f"step {step}: {reason}; {back}, steps are {self.scale:g} of what they were")
        if self.blowups > self.settings.tries:
            kept = f"those of step {self.kept['step']} ({_told(self.kept['errors'])})" if self.kept else "those before"
            raise TrainingError(
                f"{self.what} blew up {self.blowups} times, also with steps {self.scale / self.settings.back_off:g} of "
                f"what they were; the last good weights are kept, {kept}; the last time: {reason}",
                where=f"step {step}",
                next_command="a lower finetune.learning_rate, finetune.optimiser=relative_adam, or finetune.keep=l2sp",
            )
        logger.warning("%s: %s", self.what, self.events[-1])

    def go_to_kept(self) -> None:
        """Puts the weights that are kept back, with the optimiser as it was then."""
        if self.kept:
            self._restore(copy.deepcopy(self.kept["state"]))

    def metrics(self) -> dict[str, float]:
        kept = {"kept_step": float(self.kept["step"])} if self.kept else {}
        return {"blowups": float(self.blowups), "step_scale": self.scale} | kept

    def _exploded(self, kind: str, errors: Tensor) -> bool:
        lowest = self.lowest[kind]
        if _ratio(float(errors.mean()), float(lowest.mean())) <= self.settings.factor:
            return False
        rise = errors - lowest
        return not bool(torch.isfinite(rise).all()) or float(rise.mean()) > 2 * _standard_error(rise)

    def _rise(self, errors: Errors, since: Errors) -> tuple[float, float]:
        """By how much the score of some errors is above that of others, and the standard error of that."""
        rises = [(errors[kind] - since[kind]) / start for kind, start in self.start.items()]
        spread = math.sqrt(sum(_standard_error(rise) ** 2 for rise in rises))
        return sum(float(rise.mean()) for rise in rises) / len(rises), spread / len(rises)

    def _keep(self, step: int, errors: Errors) -> None:
        self.kept = {"step": step, "errors": _means(errors), "state": copy.deepcopy(self._capture())}

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and strings only."""
        told = {name: getattr(self, name) for name in ("scale", "blowups", "start", "lowest", "best", "kept")}
        return {**told, "events": list(self.events)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.scale, self.blowups = float(state["scale"]), int(state["blowups"])
        self.start, self.lowest, self.best = (dict(state[name]) for name in ("start", "lowest", "best"))
        self.kept, self.events = copy.deepcopy(dict(state["kept"])), list(state["events"])


def told_at_the_end(state: Mapping[str, Any]) -> list[str]:
    """In words what a guard saw, from its state after the last step: its events, and whether nothing was won."""
    told = list(state["events"])
    if state["kept"] and state["kept"]["step"] == 0:
        told.append(
            f"at every check held-out rows were worse than at the start ({_told(state['start'])} mm), by more than "
            "chance: its weights are those that it began with; another finetune.learning_rate, more finetune.steps or "
            "dataset.images may help"
        )
    return told


def _means(errors: Errors) -> dict[str, float]:
    return {kind: float(found.mean()) for kind, found in errors.items()}


def _standard_error(differences: Tensor) -> float:
    """Of their mean; 0 where there is one alone."""
    count = len(differences)
    return float(differences.std()) / math.sqrt(count) if count > 1 else 0.0


def _ratio(error: float, lowest: float) -> float:
    return error / lowest if math.isfinite(error) else math.inf


def _told(errors: Mapping[str, float]) -> str:
    return ", ".join(f"{kind} {value:.4g}" for kind, value in errors.items())
