"""What a run is measured on: a list of data sets by name, each with options and a name of its own in the table.

A suite's entry is a name, such as `ski-like`, or a mapping `{name: 3dpw, split: train, label: 3dpw-train}`. Real data
sets are looked for below `data.root`, or at `data.NAME`, unless the entry says `annotations` itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from posegen.arguments import check_arguments
from posegen.benchmarks.places import PLACES, Found, find
from posegen.benchmarks.protocol import Benchmark, build, names
from posegen.config.schema import PosegenConfig
from posegen.errors import ConfigError, DataError, did_you_mean

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NEEDS_BODY = ("3dpw", "emdb", "spin_npz")  # readers whose truth may be posed SMPL bodies


@dataclass(frozen=True)
class Entry:
    """One data set of a suite."""

    name: str  # among the benchmarks
    label: str  # in tables and file names
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def embedded(self) -> bool:
        from posegen.benchmarks.embedded.stand_ins import EMBEDDED_OTHERS, EMBEDDED_TESTS

        return self.name in (*EMBEDDED_TESTS, *EMBEDDED_OTHERS)

    def as_word(self) -> str:
        """As it is written in an override."""
        given = dict(self.options)
        if self.label != self.name:
            given["label"] = self.label
        if not given:
            return self.name
        return "{" + ",".join(f"{key}:{_quoted(value)}" for key, value in {"name": self.name, **given}.items()) + "}"

    def as_plain(self) -> Any:
        """What its results depend on, for a digest: the name alone where there is no more to say."""
        return {"name": self.name, "label": self.label, **self.options} if self.options else self.name


def _quoted(value: Any) -> str:
    text = str(value)
    return text if _LABEL.fullmatch(text) else "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def entries(listed: Sequence[Any], where: str) -> list[Entry]:
    """The entries of a configuration's list, checked: names exist, labels differ. Raises ConfigError."""
    found = [_entry(item, where) for item in listed]
    labels = [entry.label for entry in found]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ConfigError(
            f"two entries are called {twice[0]!r}", where=where, next_command=f"give one a label: "
            f"{where}=[{{name:{twice[0]},label:NAME}}, ...]",
        )  # fmt: skip
    return found


def _entry(item: Any, where: str) -> Entry:
    given = {"name": item} if isinstance(item, str) else dict(item) if isinstance(item, Mapping) else {}
    name = given.pop("name", None)
    label = str(given.pop("label", None) or name)
    if name not in names():
        hint = did_you_mean(str(name), names())
        raise ConfigError(f"unknown benchmark {str(name)!r}{hint}", where=where, choices=names())
    if not _LABEL.fullmatch(label):
        raise ConfigError(f"a label is made of letters, digits, dots, dashes: not {label!r}", where=where)
    return Entry(name, label, {key: value for key, value in given.items() if value is not None})


@dataclass(frozen=True)
class Suite:
    """What is measured, and what is watched beside it, with the places of all real data sets found."""

    measured: tuple[Entry, ...]
    watched: tuple[Entry, ...]

    @classmethod
    def of(cls, config: PosegenConfig, again: Sequence[str] = ("posegen", "run")) -> Suite:
        """The suite of a configuration. Says all that is missing at once, before anything is rendered.

        Args:
            again: the words of the command, which an error repeats with fewer data sets.
        """
        parts = {"suite": config.evaluation.suite, "watch": config.evaluation.watch}
        lists = {part: entries(listed, f"evaluation.{part}") for part, listed in parts.items()}
        for part, listed in lists.items():
            check_options(listed, f"evaluation.{part}")
        if not lists["suite"]:
            raise ConfigError("a suite without a data set measures nothing", where="evaluation.suite", choices=names())
        located = {part: [_located(entry, config) for entry in listed] for part, listed in lists.items()}
        missing = [entry for listed in located.values() for entry in listed if isinstance(entry, _Absent)]
        if missing:
            raise _incomplete(lists, located, missing, again)
        return cls(*(tuple(entry for entry in listed if isinstance(entry, Entry)) for listed in located.values()))


@dataclass(frozen=True)
class _Absent:
    entry: Entry
    why: str


def _located(entry: Entry, config: PosegenConfig) -> Entry | _Absent:
    """The entry with its place and the body that its truth is posed with."""
    if entry.embedded:
        return entry
    options = dict(entry.options)
    if "annotations" not in options and entry.name in PLACES:
        data = config.data
        found = find(entry.name, data.root, getattr(data, PLACES[entry.name].key), str(options.get("split", "")))
        if isinstance(found, str):
            return _Absent(entry, found)
        options = {**_paths(found), **options}
    body = config.body.path or config.estimator.body
    if entry.name in _NEEDS_BODY and body is not None:
        options.setdefault("body_path", str(body))
    if entry.name in ("3dpw", "emdb") and "body_path" not in options:
        return _Absent(entry, "its truth is posed SMPL bodies: estimator.body=FOLDER or body.path=FOLDER is needed")
    return Entry(entry.name, entry.label, options)


def _paths(found: Found) -> dict[str, str]:
    images = {} if found.images is None else {"images": str(found.images)}
    return {"annotations": str(found.annotations), **images}


def _incomplete(
    lists: Mapping[str, list[Entry]], located: Mapping[str, list[Entry | _Absent]], missing: list[_Absent],
    again: Sequence[str],
) -> DataError:  # fmt: skip
    """Names what is missing and what is there, and the command that goes on with that."""
    import shlex

    total = sum(map(len, lists.values()))
    lines = [f"{len(missing)} of the {total} data sets of this suite cannot be had:"]
    lines += [f"    {absent.entry.label}: {absent.why}" for absent in missing]
    there = {
        part: [entry for entry, place in zip(lists[part], located[part], strict=True) if isinstance(place, Entry)]
        for part in lists
    }
    kept = [place for listed in located.values() for place in listed if isinstance(place, Entry)]
    lines += [f"  there: {entry.label} {entry.options.get('annotations', '(embedded)')}" for entry in kept]
    words = [word for word in again if not word.startswith(("evaluation.suite=", "evaluation.watch="))]
    words += [f"evaluation.{part}=[{','.join(entry.as_word() for entry in listed)}]" for part, listed in there.items()]
    go_on = shlex.join(words) + "   # with fewer" if there["suite"] else None
    return DataError(
        "\n".join(lines),
        where="data.root, data.NAME or an entry's annotations",
        next_command=go_on or "data=FOLDER names the folder that holds them; posegen doctor tells what is found",
    )


def build_entry(entry: Entry, config: PosegenConfig) -> Benchmark:
    """The benchmark of an entry, cropped as the estimator wants it; embedded ones are rendered once and cached."""
    from posegen.estimator.configured import crop_of_config

    options = dict(entry.options)
    if entry.embedded:
        settings = config.evaluation
        own = {"images": settings.images, "seed": settings.seed, "split": config.split}
        options = {**own, "size_px": config.image_size, **options}
    benchmark = build(entry.name, crop_of_config(config), **options)
    benchmark.name = entry.label
    return benchmark


def check_options(listed: Sequence[Entry], where: str) -> None:
    """Raises ConfigError for an option that a data set does not have, without reading it."""
    from dataclasses import fields
    from inspect import Parameter, signature

    from posegen.benchmarks.protocol import REGISTRY
    from posegen.benchmarks.readers.frames import FrameOptions

    for entry in listed:
        factory = REGISTRY.get(entry.name)
        of_frames = any(p.kind is Parameter.VAR_KEYWORD for p in signature(factory).parameters.values())
        more = [part.name for part in fields(FrameOptions)] if of_frames else []
        check_arguments(f"benchmark {entry.name}", factory, entry.options, where=where, more=more)
