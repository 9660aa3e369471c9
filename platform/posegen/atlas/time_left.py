"""How long a loop still takes, from how fast it has been since it was started."""

from __future__ import annotations

import time

from posegen.progress import Bar, duration

SURE_AFTER_S = 2.0  # before, the first item's start-up would be taken for its speed


class TimeLeft:
    """Passes progress on to a bar with the time left as its note.

    Args:
        total: of the units that are counted.
        clock: seconds; replaced in tests.
    """

    def __init__(self, bar: Bar, total: int, clock=time.monotonic) -> None:
        self.bar, self.total, self.clock = bar, total, clock
        self._start: tuple[float, int] | None = None

    def __call__(self, done: int, note: str = "") -> None:
        now = self.clock()
        if self._start is None:
            self._start = now, done
        began, first = self._start
        left = ""
        if done > first and now - began > SURE_AFTER_S:
            left = f"{duration((now - began) / (done - first) * (self.total - done))} left"
        self.bar.update(done, self.total, ", ".join(part for part in (note, left) if part))
