"""Timing on a card: events around the work, after a warm-up, and the median; and what the card itself can do."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from check import MARK


def report(**found: Any) -> None:
    """Hands figures to the check, at once: a part that runs out of time keeps what it has measured."""
    print(MARK + json.dumps(found), flush=True)


def median_s(work: Callable[[], Any], device: torch.device, repeats: int = 20, warm_up: int = 3) -> float:
    """The median duration of several runs in seconds, by events on a card and by the clock on a CPU."""
    for _ in range(warm_up):
        work()
    if device.type != "cuda":
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return statistics.median(times)
    marks = []
    torch.cuda.synchronize()
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        marks.append((begin, end))
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in marks) / 1e3


def copy_bytes_per_s(device: torch.device, megabytes: int) -> float:
    """Bytes read and written a second by a large copy within the device's memory."""
    source = torch.randint(0, 2**31 - 1, (megabytes * 2**18,), dtype=torch.int32, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / median_s(lambda: target.copy_(source), device, 10)


class Stopwatch:
    """Seconds of named stretches of work within a step, by events on a card; read once at the end.

    A stretch within another counts for the outer one alone, so that the sums are shares of a whole.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_card = device.type == "cuda" and torch.cuda.is_available()
        self._marks: dict[str, list[tuple[Any, Any]]] = {}
        self._inside = False

    def _now(self) -> Any:
        if not self.on_card:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def around(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed under a name."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return work(*args, **kwargs)
            begin, self._inside = self._now(), True
            try:
                return work(*args, **kwargs)
            finally:
                self._inside = False
                self._marks.setdefault(name, []).append((begin, self._now()))

        return timed

    def clear(self) -> None:
        self._marks.clear()

    def seconds(self) -> dict[str, float]:
        """The sum over all calls of each name."""
        if self.on_card:
            torch.cuda.synchronize()
            return {name: sum(a.elapsed_time(b) for a, b in pairs) / 1e3 for name, pairs in self._marks.items()}
        return {name: sum(b - a for a, b in pairs) for name, pairs in self._marks.items()}
