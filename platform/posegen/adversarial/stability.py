"""Losses that are no numbers, or that explode: seen before they reach the weights, and gone back from.

Whatever is not a number in a step (poses, points, the estimator's errors, losses, gradients) ends the step before any
weight moves. A loss far beyond what it usually is means that earlier steps went astray: everything goes back to the
last snapshot that was sound. Either way steps become smaller; after some of that the training ends with an error, and
what it has saved so far is of sound weights only.

All of it is a function of numbers that are the same on every worker, and part of the checkpoint.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

from posegen.errors import TrainingError

logger = logging.getLogger(__name__)

FACTOR = 100.0  # a loss beyond this times the usual one has exploded
BACK_OFF, TRIES = 0.5, 4  # factor on the steps after each time, and how many times are survived
KEEP_EVERY = 20  # steps between two snapshots
USUAL_STEPS = 20  # that the usual loss is averaged over; before so many nothing is called an explosion


class UnsoundError(ArithmeticError):
    """A step found something that is not a number, or far too large; no weight has moved in it."""

    def __init__(self, what: str, exploded: bool = False) -> None:
        super().__init__(what)
        self.exploded = exploded


class Stability:
    """Watches over one training.

    Args:
        capture, restore: give and put back what training changes: tensors and numbers in dicts.
        what: names the training in messages.
        next_command: what a user may try where nothing helps.
    """

    def __init__(
        self, capture: Callable[[], dict[str, Any]], restore: Callable[[Mapping[str, Any]], None], what: str,
        next_command: str,
    ) -> None:  # fmt: skip
        self._capture, self._restore, self.what, self.next_command = capture, restore, what, next_command
        self.scale = 1.0  # on the learning rate
        self.blowups = 0
        self.usual = 0.0  # mean of the loss's size
        self.seen = 0  # steps in that mean
        self._loss = 0.0
        self.kept: dict[str, Any] = {}
        self.kept_step = 0

    def check(self, name: str, *numbers: float) -> None:
        """UnsoundError unless all are numbers."""
        for number in numbers:
            if not math.isfinite(number):
                raise UnsoundError(f"{name} is {number}")

    def check_loss(self, loss: float) -> None:
        """UnsoundError unless the loss is a number, and no explosion."""
        self.check("the loss", loss)
        if self.seen >= USUAL_STEPS and abs(loss) > FACTOR * max(self.usual, 1e-6):
            raise UnsoundError(f"the loss is {loss:.4g}, usually {self.usual:.4g}", exploded=True)
        self._loss = loss

    def passed(self, step: int) -> None:
        """The step whose loss was checked was sound; `step` have been done."""
        self.seen += 1
        self.usual += (abs(self._loss) - self.usual) / min(self.seen, USUAL_STEPS)
        if step % KEEP_EVERY == 0:
            self.keep(step)

    def keep(self, step: int) -> None:
        """Takes a snapshot."""
        self.kept, self.kept_step = copy.deepcopy(self._capture()), step

    def blown_up(self, step: int, why: UnsoundError) -> None:
        """Makes steps smaller, and after an explosion goes back.

        Raises:
            TrainingError: it happened once more than is survived.
        """
        self.blowups += 1
        self.scale *= BACK_OFF
        back = "the step is left out"
        if self.kept and (why.exploded or self.blowups > 1):
            self._restore(copy.deepcopy(self.kept))
            back = f"back to step {self.kept_step}"
        if self.blowups > TRIES:
            raise TrainingError(
                f"{self.what} blew up {self.blowups} times, also with steps {self.scale / BACK_OFF:g} of what they "
                f"were; the weights of step {self.kept_step} are the last good ones; the last time: {why}",
                where=f"step {step}", next_command=self.next_command,
            )  # fmt: skip
        logger.warning("%s: step %d: %s; %s, steps are %g of what they were", self.what, step, why, back, self.scale)

    def metrics(self) -> dict[str, float]:
        return {"blowups": float(self.blowups), "step_scale": self.scale}

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and strings only."""
        return {name: getattr(self, name) for name in ("scale", "blowups", "usual", "seen", "kept", "kept_step")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.scale, self.usual = float(state["scale"]), float(state["usual"])
        self.blowups, self.seen, self.kept_step = int(state["blowups"]), int(state["seen"]), int(state["kept_step"])
        self.kept = copy.deepcopy(dict(state["kept"]))
