"""What a pickle asks for, written down instead of done; and how the values are made from it afterwards.

The pickle machine (pickle_machine.py) never looks up or calls what a file names: it leaves `Name`, `Made` and `Stored`
in the tree that it returns. `Resolver` then walks that tree once, from the leaves, and replaces each `Made` by what a
maker of ours builds from plain values. A tree may share parts (pickles have a memo), so a small file can unfold into a
huge one; sizes are counted as unfolded, and bounded by the size of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from posegen.errors import DataError

MAX_DEPTH = 100
_ATOM, _CONTAINER = 8, 16  # bytes that a number, and a list or dictionary, count
_ALLOWANCE = 64 * 2**20  # what the smallest file may unfold into
_FACTOR = 8  # and how many times its size a larger one may
ATOMS = frozenset((type(None), bool, int, float, complex, str))
_KEYS = frozenset((str, bytes, int, bool, type(None)))


class Name(NamedTuple):
    """A class or function that the file names: two texts, nothing imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True)
class Made:
    """A call or an object that the file asks for: of what, with which arguments, state and entries."""

    name: Name
    args: tuple[Any, ...]
    state: Any = None
    has_state: bool = False
    items: list[tuple[Any, Any]] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Stored:
    """A reference to something beside the pickle (the storages of torch's files)."""

    reference: Any


class Budget:
    """Bytes that may be made from a file, all together."""

    def __init__(self, file_bytes: int) -> None:
        self.limit = _ALLOWANCE + _FACTOR * file_bytes
        self.used = 0

    def charge(self, count: int) -> None:
        self.used += count
        if self.used > self.limit:
            self.refuse()

    def refuse(self) -> None:
        raise DataError(f"the file's contents would take more than {self.limit // 2**20} MiB, much more than the file")


@dataclass(frozen=True)
class Call:
    """What a maker is given: plain values only (and Names)."""

    name: Name
    args: tuple[Any, ...]
    state: Any
    items: list[tuple[Any, Any]]
    budget: Budget


Maker = Callable[[Call], Any]
Makers = Mapping[Name, Maker | None]  # None: may be named, not called


def check_key(key: Any) -> Any:
    """Keys of dictionaries and members of sets: text and whole numbers, whose hashes cost nothing and do not collide.

    Nested tuples are hashed anew each time, and numbers of one's choice modulo 2^61-1 all fall into one place."""
    if type(key) not in _KEYS or (type(key) is int and not -(2**60) < key < 2**60):
        what = type(key).__name__ if not isinstance(key, Made) else str(key.name)
        raise DataError(f"a dictionary or set has a key that is neither text nor a whole number ({what})")
    return key


def weight_of(value: Any) -> int:
    """Bytes that a made value counts."""
    size = getattr(value, "nbytes", None)
    if type(size) is int:
        return _CONTAINER + size
    return _CONTAINER + len(value) if isinstance(value, bytes | bytearray) else _CONTAINER


class Resolver:
    """Makes plain values from a recorded tree.

    Args:
        makers: for each name that the file may use, what builds its value.
        stored: gives the value of a `Stored` reference.
    """

    def __init__(self, makers: Makers, budget: Budget, stored: Callable[[Any], Any] | None = None) -> None:
        self.makers, self.budget, self.stored = makers, budget, stored
        self._done: dict[int, tuple[Any, int]] = {}
        self._open: set[int] = set()

    def resolve(self, root: Any) -> Any:
        return self._walk(root, 0)[0]

    def _walk(self, node: Any, depth: int) -> tuple[Any, int]:
        kind = type(node)
        if kind in ATOMS or kind is Name:
            return node, _ATOM
        if kind is bytes or kind is bytearray:
            return node, _CONTAINER + len(node)
        mark = id(node)  # the tree is kept whole by its root, so no id is used twice
        if mark in self._done:
            return self._done[mark]
        if mark in self._open:
            raise DataError("the pickle holds something that contains itself")
        if depth > MAX_DEPTH:
            raise DataError(f"the pickle is nested deeper than {MAX_DEPTH} levels")
        self._open.add(mark)
        value, weight = self._parts(node, kind, depth + 1)
        self._open.discard(mark)
        if weight > self.budget.limit:
            self.budget.refuse()
        self._done[mark] = (value, weight)
        return value, weight

    def _parts(self, node: Any, kind: type, depth: int) -> tuple[Any, int]:
        if kind is list or kind is tuple:
            values, weight = self._sequence(node, depth)
            return (values if kind is list else tuple(values)), weight
        if kind is dict:
            values, weight = self._sequence(list(node.values()), depth)
            return dict(zip(node, values, strict=True)), weight + _ATOM * len(node)
        if kind is set:
            return set(node), _CONTAINER + _ATOM * len(node)
        if kind is frozenset:
            return node, _CONTAINER + _ATOM * len(node)
        if kind is Stored:
            reference, weight = self._walk(node.reference, depth)
            if self.stored is None:
                raise DataError("the pickle refers to objects outside of the file: refused")
            return self.stored(reference), weight
        return self._made(node, depth)

    def _sequence(self, items: Any, depth: int) -> tuple[list[Any], int]:
        weight = _CONTAINER
        values = []
        for item in items:
            if type(item) in ATOMS:
                values.append(item)
                weight += _ATOM
            else:
                value, part = self._walk(item, depth)
                values.append(value)
                weight += part
            if weight > self.budget.limit:
                self.budget.refuse()
        return values, weight

    def _made(self, node: Made, depth: int) -> tuple[Any, int]:
        args, weight = self._sequence(node.args, depth)
        state, more = self._walk(node.state, depth)
        entries, rest = self._sequence([value for _, value in node.items], depth)
        items = [(key, value) for (key, _), value in zip(node.items, entries, strict=True)]
        maker = self.makers.get(node.name)
        if maker is None:
            raise DataError(f"the pickle calls {node.name}, which is only a name")
        value = maker(Call(node.name, tuple(args), state, items, self.budget))
        return value, weight + more + rest + weight_of(value)
