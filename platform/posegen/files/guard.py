"""What every reader of the gate shares: regular files, bounds on what they may unfold to, one kind of error."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from posegen.errors import DataError, PosegenError

MiB = 1 << 20
# What a file may unfold to: a small one to SMALL_BYTES, a larger one to RATIO times its size, none to more than MOST.
# Arrays of real data shrink to a third; masks and empty volumes to a hundredth; deflate's limit is a thousandth.
SMALL_BYTES, RATIO, MOST_BYTES = 256 * MiB, 100, 16 * 1024 * MiB


@dataclass(frozen=True)
class Told:
    """How errors about one file read.

    Args:
        what: begins the sentence: "the motion file".
        where: the file, or the address it came from.
        error: the class that its readers promise.
        next_command: what to type.
    """

    what: str
    where: object
    error: type[PosegenError] = DataError
    next_command: str | None = None

    def wrong(self, why: str) -> PosegenError:
        """The error that says why the file is refused; to be raised by the caller."""
        return self.error(f"{self.what} {why}", where=self.where, next_command=self.next_command)

    def member(self, name: str) -> Told:
        """The same for one array of the file."""
        return replace(self, what=f"{self.what}: {name}")


@contextmanager
def decoding(told: Told) -> Iterator[None]:
    """Around calls of decoders that are not ours: whatever they raise on damaged bytes becomes the reader's error.

    Which classes a decoder raises on hostile bytes is no closed list (struct, zlib, lzma, tokenize, recursion, memory
    ...), so that all are taken; keep the block to the decoder's call.
    """
    try:
        yield
    except PosegenError:
        raise
    except FileNotFoundError as error:
        raise told.wrong("is not there") from error
    except (PermissionError, IsADirectoryError) as error:
        raise told.wrong(f"cannot be opened: {error.strerror}") from error
    except Exception as error:
        raise told.wrong(f"is cut short or damaged: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of an error's text, shortened; its class where it has no text."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def regular_file(path: Path, told: Told) -> int:
    """The size of a file, bytes; the error for whatever else is there (a folder, a pipe that would never end)."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a zero byte in the name
        raise told.wrong("is not there") from error
    except OSError as error:  # a folder that may not be entered, a name too long for the file system
        raise told.wrong(f"cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise told.wrong("is no regular file")
    return found.st_size


def most_unfolded(file_bytes: int) -> int:
    """Bytes that a file of this size may unfold to."""
    return min(MOST_BYTES, max(SMALL_BYTES, RATIO * file_bytes))


class Budget:
    """Counts what a file unfolds to, before it is made."""

    def __init__(self, file_bytes: int, told: Told) -> None:
        self.left = self.most = most_unfolded(file_bytes)
        self._told = told

    def take(self, count: int) -> int:
        """`count` bytes are going to be made; the error where that is more than is left."""
        if not 0 <= count <= self.left:
            raise self._told.wrong(
                f"would unfold to more than {self.most // MiB} MB, far more than its size on disk holds"
            )
        self.left -= count
        return count
