"""What a motion capture file says: a skeleton of any shape, and how its joints turn.

T frames, J joints. A joint sits at the start of its segment and turns all that hangs on it, as in BVH; Acclaim's bones
are told the same way (posegen.body.motion.asf_amc).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posegen.errors import DataError

Array = NDArray[np.float64]

MAX_BYTES = 256 << 20
MAX_JOINTS = 512
MAX_FRAMES = 1 << 18
RATES_HZ = (1.0, 10_000.0)  # frame rates that a motion may have
MAX_NUMBER = 1e7  # of an angle in degrees, or of a length in any unit


@dataclass(frozen=True)
class SourceMotion:
    """One motion of a skeleton. Units of length are the file's own; the world's up is that of the rest pose."""

    name: str
    joints: tuple[str, ...]  # parents come before their children; the first is the root
    parents: tuple[int, ...]  # -1 for the root
    rest: Array  # (J,3) positions in the rest pose, the root at the origin
    rotations: Array  # (T,J,3,3) of each joint in the world, relative to the rest pose
    root: Array  # (T,3) position of the root
    fps: float

    def __len__(self) -> int:
        return len(self.root)

    def positions(self) -> Array:
        """(T,J,3) of every joint in the world."""
        out = np.empty((len(self), len(self.joints), 3))
        out[:, 0] = self.root
        for joint, parent in enumerate(self.parents[1:], 1):
            offset = self.rest[joint] - self.rest[parent]
            out[:, joint] = out[:, parent] + self.rotations[:, parent] @ offset
        return out

    def ancestors(self, joint: int) -> list[int]:
        """The joint itself, its parent, and so on up to the root."""
        path = [joint]
        while self.parents[path[-1]] >= 0:
            path.append(self.parents[path[-1]])
        return path


@dataclass(frozen=True)
class Line:
    """One line of a text file that says something, with its number for messages."""

    words: tuple[str, ...]
    number: int
    path: Path

    def error(self, what: str, choices: Sequence[str] | None = None) -> DataError:
        return DataError(what, where=f"{self.path}, line {self.number}", choices=choices)

    def numbers(self, words: Sequence[str]) -> list[float]:
        """Words as finite numbers of a sane size."""
        try:
            values = [float(word) for word in words]
        except ValueError:
            raise self.error(f"expected numbers, found {' '.join(words)[:80]!r}") from None
        if not all(abs(value) <= MAX_NUMBER for value in values):  # NaN fails, too
            raise self.error(f"a number is not finite or larger than {MAX_NUMBER:g}")
        return values

    def count(self, word: str, largest: int) -> int:
        """A word as a count between 0 and `largest`."""
        if not (word.isascii() and word.isdigit()) or len(word) > 9 or int(word) > largest:
            raise self.error(f"{word[:40]!r} is no count up to {largest}")
        return int(word)


def text_lines(path: Path, comment: str | None = None) -> Iterator[Line]:
    """The lines of a text file that are not empty and no comment. Raises DataError for what is no text or too large."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"the motion file is larger than {MAX_BYTES >> 20} MB", where=path)
        with path.open(encoding="utf-8-sig") as file:
            for number, text in enumerate(file, 1):
                words = text.split()
                if words and not (comment is not None and words[0].startswith(comment)):
                    yield Line(tuple(words), number, path)
    except UnicodeDecodeError as error:
        raise DataError("the motion file is no text", where=path) from error
    except OSError as error:
        raise DataError(f"the motion file cannot be read: {error.strerror or error}", where=path) from error


def check_counts(joints: int, frames: int, path: Path) -> None:
    """Refuses motions without a frame, and those that no person has made."""
    if joints > MAX_JOINTS:
        raise DataError(f"a skeleton of {joints} joints; at most {MAX_JOINTS} are read", where=path)
    if not frames:
        raise DataError("the motion file holds no frame", where=path)
    if frames > MAX_FRAMES:
        raise DataError(f"a motion of {frames} frames; at most {MAX_FRAMES} are read: cut it", where=path)
