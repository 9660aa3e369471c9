"""Several settings of one experiment, each over seeds: what sets them apart in words, and which did better.

A setting's method is set against the first setting's on the trainings of the same seed and on the same test images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from posegen.benchmarks.measure.trainings import Judged
from posegen.tracking.compare.judged import by_seed, duel
from posegen.tracking.report.run_directory import RunDirectory
from posegen.tracking.store.names import flatten

# Where a run writes and what it is called is not what it does.
NOT_THE_EXPERIMENT = frozenset({
    "seed", "run", "engine", "tracking", "run_name", "name", "outputs", "out", "run_dir", "resume", "address",
})  # fmt: skip
_MOST_KEYS, _MOST_CHARACTERS = 3, 40
_FIRST, _OTHER = "first", "other"


def what_it_does(run: RunDirectory) -> dict[str, Any]:
    """A run's configuration without its seed and its whereabouts, as dotted keys: equal ones are repetitions."""
    kept = {key: value for key, value in run.config.items() if key not in NOT_THE_EXPERIMENT}
    return {"experiment": run.summary.get("experiment"), **flatten(kept)}


def setting_names(groups: Sequence[Sequence[RunDirectory]]) -> list[str]:
    """Of each group the keys in which groups differ and their values, such as `feedback.name=band`; "" for one alone.

    What is too long is cut; a group without a name of its own is called by its first run.
    """
    flat = [what_it_does(members[0]) for members in groups]
    keys = dict.fromkeys(key for config in flat for key in config)
    differing = [key for key in keys if len({str(config.get(key)) for config in flat}) > 1]
    names = [_name(config, differing) for config in flat]
    if len(groups) < 2:
        return names
    return [
        name if name and names.count(name) == 1 else members[0].name
        for name, members in zip(names, groups, strict=True)
    ]  # fmt: skip


def _name(config: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Keys of one part of the configuration are told without it: `feedback: name=maximise signal=regret`."""
    parts = {key.partition(".")[0] for key in keys}
    part = f"{parts.pop()}." if len(keys) > 1 and len(parts) == 1 and all("." in key for key in keys) else ""
    told = [
        f"{key.removeprefix(part)}={_short(config[key])}" for key in keys if config.get(key) not in (None, [], {}, "")
    ]
    more = len(told) - _MOST_KEYS
    name = " ".join(told[:_MOST_KEYS]) + (f" and {more} more" if more > 0 else "")
    return f"{part[:-1]}: {name}" if part and name else name


def _short(value: Any) -> str:
    text = str(value).replace("'", "")
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 3]}..."


def against(first: Sequence[RunDirectory], other: Sequence[RunDirectory]) -> Judged | None:
    """The other setting's method against the first one's, MPJPE in %; None where no seed or benchmark is shared."""
    ours, theirs = ({str(run.summary.get("seed")): run for run in by_seed(group)} for group in (first, other))
    trainings = [
        {_FIRST: ours[seed].results.get(ours[seed].method or "", {}),
         _OTHER: theirs[seed].results.get(theirs[seed].method or "", {})}
        for seed in ours if seed in theirs
    ]  # fmt: skip
    return duel(trainings, _FIRST, _OTHER) if trainings else None
