"""Gives back what a group of trainers holds when one of them dies while the group is started."""

from __future__ import annotations

from typing import Any

from posegen.engine.private_ray import controller_callback, group_callback


class Orphans(controller_callback(), group_callback()):  # type: ignore[misc]
    """Ends a group of trainers that nobody else knows of.

    Ray's controller knows a group once its training runs. Where a trainer dies before (while the process group is
    made, or as its function is sent), the group stands without an owner: the next one is started beside it, and its
    placement group keeps its CPUs for as long as the job lives, so that a later stage waits for ever.

    It must be the first of the callbacks (`private_ray.trainer_that_calls_first`): an error in one before it, such as
    the set-up of the process group, would hide the group from it.
    """

    def __init__(self) -> None:
        self.group: Any = None

    def after_worker_group_start(self, worker_group: Any) -> None:
        self.group = worker_group

    def after_worker_group_training_start(self, worker_group: Any) -> None:
        self.group = None  # from here on the controller ends it

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        self._end()

    async def before_controller_shutdown(self) -> None:
        self._end()

    def before_controller_abort(self) -> None:
        self._end()

    def _end(self) -> None:
        group, self.group = self.group, None
        if group is not None:
            group.abort()
