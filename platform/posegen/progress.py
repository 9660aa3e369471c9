"""Progress a person can watch: a bar for each stage at work in a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LOG_EVERY_S = 15.0


class Bar(Protocol):
    """The progress of one stage."""

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        """`done` of `total` units are finished; `note` is a short figure such as a loss."""
        ...


class Reporter:
    """Tells a person what is going on.

    Args:
        stream: where to write; bars are drawn only on a terminal.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
        self._lock = threading.Lock()
        self._bars: Progress | None = None  # the one live display a terminal can have, shared by all stages
        self._shown = 0

    def say(self, text: str = "") -> None:
        """One or more plain lines, as they are."""
        self.console.print(text, markup=False)

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Bar]:
        """Shows a bar while the block runs and a line with the time it took afterwards."""
        start = time.monotonic()
        if self.console.is_terminal:
            progress = self._show()
            task = progress.add_task(title, total=total, note="")
            try:
                yield _RichBar(progress, task)
            finally:
                progress.remove_task(task)
                self._hide()
        else:
            self.say(f"{title} ...")
            yield _LogBar(self, title)
        self.say(f"{title:<34} done in {duration(time.monotonic() - start)}")

    def _show(self) -> Progress:
        """The display of bars, drawn from the first stage that needs it; stages may run side by side in threads."""
        with self._lock:
            if self._bars is None:
                columns = (
                    TextColumn("{task.description:<34}"), BarColumn(28), MofNCompleteColumn(),
                    TimeElapsedColumn(), TimeRemainingColumn(compact=True), TextColumn("{task.fields[note]}"),
                )  # fmt: skip
                self._bars = Progress(*columns, console=self.console, transient=True)
                self._bars.start()
            self._shown += 1
            return self._bars

    def _hide(self) -> None:
        with self._lock:
            self._shown -= 1
            if self._shown == 0 and self._bars is not None:
                self._bars.stop()
                self._bars = None


class _RichBar:
    def __init__(self, progress: Progress, task) -> None:
        self.progress, self.task = progress, task

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        self.progress.update(self.task, completed=done, total=total, note=note)


class _LogBar:
    def __init__(self, reporter: Reporter, title: str) -> None:
        self.reporter, self.title, self.last = reporter, title, time.monotonic()
        self._start: tuple[float, int] | None = None  # the first news: what came before it was starting up, or resumed
        self._at: tuple[int, int | None] = (0, None)

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        now = time.monotonic()
        another_part = done < self._at[0] or total != self._at[1]  # with a pace of its own
        if self._start is None or another_part:
            self._start = now, done
        self._at = done, total
        if now - self.last < LOG_EVERY_S:
            return
        self.last = now
        began, first = self._start
        words = [f"{self.title}: {done}{f'/{total}' if total else ''}", note]
        if total and done > first:
            words.append(f"{duration((now - began) / (done - first) * (total - done))} left")
        self.reporter.say(", ".join(filter(None, words)))


def duration(seconds: float) -> str:
    """3.2 s, 1 min 05 s, 2 h 03 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
