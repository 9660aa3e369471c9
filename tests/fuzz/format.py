"""What the fuzzer knows of a format: how a small valid file is built, how it is read, what may be done to its bytes."""

from __future__ import annotations

import random
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

# Changes one thing of a file. What cannot be done to it raises, and is not done.
Mutator = Callable[[random.Random, bytes], bytes]
MOST_STEPS = 3


@dataclass(frozen=True)
class Mutators:
    """What may be done to a file's content.

    Args:
        values: read the valid file with the library that wrote it, and write other values. Only ever given the valid
            file itself: on a damaged one such libraries may die, or run what it says.
        structure: know the layout, and work on bytes alone.
    """

    values: tuple[Mutator, ...] = ()
    structure: tuple[Mutator, ...] = ()


@dataclass(frozen=True)
class Sample:
    """A small valid file, with those beside it that its reader needs."""

    files: dict[str, bytes]  # by path relative to the folder
    changed: str  # which of them is fuzzed

    @property
    def content(self) -> bytes:
        return self.files[self.changed]

    def place(self, folder: Path) -> Path:
        """Writes all files; returns the path of the one that is fuzzed."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder / self.changed


@dataclass(frozen=True)
class Format:
    """One format.

    Args:
        name: also of the folder that findings are saved to; unique.
        build: writes a valid file, and those beside it, into an empty folder; returns the path of the one to fuzz.
        read: the reader of posegen, given that path. What it returns is looked through for numbers.
        mutators: changes that know the format.
        raw: changes of bytes, made last.
        check: raises AssertionError where what was read is not of the documented shape.
        nan: names of fields and keys that may hold NaN.
        fresh: whether the reader writes into its folder, so that each case gets one of its own.
        weight: how many cases of the whole it gets, relative to others; slow readers get fewer.
    """

    name: str
    build: Callable[[Path], Path]
    read: Callable[[Path], Any]
    mutators: Mutators
    raw: Sequence[Mutator]
    check: Callable[[Any], None] | None = None
    nan: tuple[str, ...] = ()
    fresh: bool = False
    weight: float = 1.0
    made: list[Sample] = field(default_factory=list, compare=False, repr=False)

    @cached_property
    def suffix(self) -> str:
        return Path(self.sample.changed).suffix

    @property
    def all_mutators(self) -> tuple[Mutator, ...]:
        """In the order in which they are applied: of values, of structure, of bytes."""
        return (*self.mutators.values, *self.mutators.structure, *self.raw)

    @property
    def sample(self) -> Sample:
        """The valid file; built once."""
        if not self.made:
            with tempfile.TemporaryDirectory(prefix="posegen-fuzz-") as folder:
                root = Path(folder).resolve()
                path = self.build(root).resolve()
                files = {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
                self.made.append(Sample(files, str(path.relative_to(root))))
        return self.made[0]


@dataclass(frozen=True)
class Step:
    """One change: which mutator, and the seed of its choices."""

    mutator: int
    seed: int


@dataclass(frozen=True)
class Case:
    """One file to try. The same case is the same file on every machine."""

    format: str
    seed: int
    number: int  # 0 is the valid file itself

    def steps(self, form: Format) -> list[Step]:
        """One to three changes, at most one of them of values."""
        if self.number == 0 or not form.all_mutators:
            return []
        rng = random.Random(zlib.crc32(f"{self.format}/{self.seed}/{self.number}".encode()))
        values, structure, raw = len(form.mutators.values), len(form.mutators.structure), len(form.raw)
        groups = [(range(values), 4), (range(values, values + structure), 3)]
        groups = [
            (group, weight)
            for group, weight in (*groups, (range(values + structure, values + structure + raw), 2))
            if group
        ]
        chosen: list[Step] = []
        for _ in range(rng.choices(range(1, MOST_STEPS + 1), (6, 3, 1))[0]):
            group = rng.choices([group for group, _ in groups], [weight for _, weight in groups])[0]
            if group.start < values and any(step.mutator < values for step in chosen):
                continue
            chosen.append(Step(rng.choice(group), rng.getrandbits(32)))
        return sorted(chosen, key=lambda step: step.mutator)


def applied(form: Format, steps: Sequence[Step]) -> bytes:
    """The valid file's bytes after some changes; a change that cannot be made any more is left out."""
    content = form.sample.content
    for step in steps:
        if step.mutator < len(form.mutators.values) and content is not form.sample.content:
            continue
        try:
            content = form.all_mutators[step.mutator](random.Random(step.seed), content)
        except Exception:  # nothing of that kind in this file, or values that its format cannot hold
            continue
    return content
