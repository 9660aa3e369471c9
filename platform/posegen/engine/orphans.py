"""Gives back what a group of trainers holds when one of them dies while the group is started."""

from __future__ import annotations

from typing import Any

from posegen.engine.private_ray import group_callback


class Orphans(group_callback()):  # type: ignore[misc]
    """Ends the group before where the next one begins and it has not been ended.

    Ray's controller knows a group once it is started. Where a trainer dies after it was made and before its function
    runs, nobody does: the next group is started beside it, and its placement group keeps its CPUs for as long as the
    job lives, so that a later stage waits for ever.
    """

    def __init__(self) -> None:
        self.group: Any = None

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        if self.group is not None and self.group.has_started():
            self.group.abort()
        self.group = None

    def after_worker_group_start(self, worker_group: Any) -> None:
        self.group = worker_group
