"""How the driver ends a training run that was started in a thread: Ray itself knows Ctrl-C in the main thread only."""

from __future__ import annotations

from typing import Any

import ray

from posegen.engine.private_ray import controller_callback


class Lifeline(controller_callback()):  # type: ignore[misc]
    """Tells an actor of ours the handle of the run's controller, whose `abort` ends the workers too.

    Args:
        controllers: takes handles by `add([handle])`; see posegen.engine.side_by_side.
    """

    def __init__(self, controllers: Any) -> None:
        self.controllers = controllers

    def after_controller_start(self, train_run_context: Any) -> None:
        self.controllers.add.remote([ray.get_runtime_context().current_actor])
