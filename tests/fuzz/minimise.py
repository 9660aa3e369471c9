"""Makes a finding smaller while it stays the same: fewer changes, fewer bytes that differ, fewer bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from .format import Format
from .pool import Ended, Trial, run

MOST_TRIES = 300


def smallest(formats: Mapping[str, Format], found: Ended, same: Callable[[Ended], bool]) -> Ended:
    """The smallest trial that still ends the same way, after at most MOST_TRIES others."""
    form = formats[found.trial.case.format]
    if found.outcome.kind in ("hang", "crash"):  # each try costs ten seconds, or a process
        return found
    left, best = MOST_TRIES, found
    for variants in (_fewer_steps, _fewer_differences, _fewer_bytes):
        again = True
        while again and left > 0:
            trials = list(islice(variants(form, best), left))
            left -= len(trials)
            ended = [other for other in run(formats, trials) if same(other)]
            again = bool(ended)
            best = min(ended, key=lambda other: len(other.content or b""), default=best)
    return best


def _fewer_steps(form: Format, found: Ended) -> Iterator[Trial]:
    trial = found.trial
    steps = trial.case.steps(form) if trial.steps is None else list(trial.steps)
    if trial.content is None and len(steps) > 1:
        for i in range(len(steps)):
            yield replace(trial, steps=steps[:i] + steps[i + 1 :])


def _fewer_differences(form: Format, found: Ended) -> Iterator[Trial]:
    """Files as long as the valid one: parts of it put back."""
    now, valid = found.content or b"", form.sample.content
    if len(now) != len(valid):
        return
    places = [i for i in range(len(now)) if now[i] != valid[i]]
    for size in (len(places) // 2, len(places) // 4, 1):
        if 0 < size < len(places):
            for start in range(0, len(places), size):
                out = bytearray(now)
                for i in places[start : start + size]:
                    out[i] = valid[i]
                yield replace(found.trial, content=bytes(out))


def _fewer_bytes(form: Format, found: Ended) -> Iterator[Trial]:
    """Parts of the file left out, large ones first."""
    now = found.content or b""
    for parts in (2, 4, 8, 16):
        size = max(1, len(now) // parts)
        for start in range(0, len(now), size):
            if size < len(now):
                yield replace(found.trial, content=now[:start] + now[start + size :])
