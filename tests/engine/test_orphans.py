"""A group of trainers that nobody ended is ended before the next one begins, and no other."""

from __future__ import annotations

from posegen.engine.orphans import Orphans


class Group:
    def __init__(self) -> None:
        self.started, self.aborted = True, 0

    def has_started(self) -> bool:
        return self.started

    def abort(self) -> None:
        self.started, self.aborted = False, self.aborted + 1


def test_only_what_was_left_is_ended():
    orphans, ended, left, last = Orphans(), Group(), Group(), Group()
    for group in (ended, left, last):
        orphans.before_worker_group_start(None)
        orphans.after_worker_group_start(group)
        if group is ended:
            group.started = False  # as Ray ends a group that it knows of
    assert [group.aborted for group in (ended, left, last)] == [0, 1, 0]
