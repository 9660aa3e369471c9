"""Reads a pickle's opcodes and writes down what they ask for; no name is looked up, nothing is called.

Python's own unpicklers build objects as they go: a class let in by name is then steered by the file (a dtype's state,
an array's shape), and C code believes it. This machine knows containers, numbers, text and bytes; every global is two
texts checked against a list, every call and state is recorded (recorded.py) for our own makers.

Opcodes and their meaning: Python's Lib/pickletools.py, protocols 0 to 5. Text of Python 2 is read as latin1.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Container
from typing import Any

from posegen.errors import DataError
from posegen.files.recorded import Made, Name, Stored, check_key

MAX_OPCODES = 10_000_000
MAX_LINE = 2**20  # bytes of a text argument of protocol 0, longer only for strings
MAX_INT_BYTES = 64
_RECONSTRUCTORS = frozenset((Name("copy_reg", "_reconstructor"), Name("copyreg", "_reconstructor")))


class PickleMachine:
    """Args:
    data: the file's bytes.
    names: what the file may name.
    at: where in the data the pickle begins. `at` is where it ended, after run().
    persistent: whether it may refer to things beside it.
    """

    def __init__(self, data: bytes, names: Container[Name], at: int = 0, persistent: bool = False) -> None:
        self.data, self.names, self.at, self.persistent = data, names, at, persistent
        self.end = len(data)
        self.stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The recorded tree. Raises DataError where the pickle is damaged or asks for what is not read."""
        table = [_OPCODES.get(code) for code in range(256)]
        try:
            for _ in range(MAX_OPCODES):
                code = self.data[self.at]
                self.at += 1
                if code == 0x2E:  # STOP
                    return self._finish()
                step = table[code]
                if step is None:
                    raise DataError(f"the pickle is damaged: {bytes((code,))!r} at byte {self.at - 1} is not read here")
                step(self)
        except (IndexError, KeyError, ValueError, TypeError, OverflowError, struct.error) as error:
            reason = f"{type(error).__name__} at byte {self.at}"
            raise DataError(f"the pickle is cut short or damaged: {reason}") from error
        raise DataError(f"the pickle has more than {MAX_OPCODES:,} steps, which no file of this kind needs")

    def _finish(self) -> Any:
        if self._marked or len(self.stack) != 1:
            raise DataError("the pickle is damaged: it ends with an unfinished container")
        return self.stack[0]

    # Arguments in the file

    def _bytes(self, count: int) -> bytes:
        start, self.at = self.at, self.at + count
        if not 0 <= count <= self.end - start:
            raise DataError("the pickle is cut short or damaged: it ends before its contents do")
        return self.data[start : self.at]

    def _line(self, longest: int = MAX_LINE) -> bytes:
        stop = self.data.find(b"\n", self.at, min(self.end, self.at + longest))
        if stop < 0:
            raise DataError("the pickle is cut short or damaged: a text does not end")
        line, self.at = self.data[self.at : stop], stop + 1
        return line

    def _unsigned(self, count: int) -> int:
        return int.from_bytes(self._bytes(count), "little")

    # The stack

    def _to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self._marked.pop()
        return items

    def mark(self) -> None:
        self._marked.append(self.stack)
        self.stack = []

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._to_mark()

    def pop_mark(self) -> None:
        self._to_mark()

    def duplicate(self) -> None:
        self.stack.append(self.stack[-1])

    # Numbers, text, bytes

    def text_int(self) -> None:
        line = self._line(160).rstrip(b"Ll")
        self.stack.append({b"00": False, b"01": True}.get(line) if line in (b"00", b"01") else int(line))

    def text_float(self) -> None:
        self.stack.append(float(self._line(80)))

    def text_string(self) -> None:
        line = self._line(self.end)
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
            raise DataError("the pickle is damaged: a text without quotes")
        self.stack.append(codecs.escape_decode(line[1:-1])[0].decode("latin1"))  # type: ignore[attr-defined]

    def text_unicode(self) -> None:
        self.stack.append(str(self._line(self.end), "raw-unicode-escape"))

    def int4(self) -> None:
        self.stack.append(int.from_bytes(self._bytes(4), "little", signed=True))

    def int1(self) -> None:
        self.stack.append(self.data[self.at])
        self.at += 1

    def int2(self) -> None:
        self.stack.append(self._unsigned(2))

    def long(self, width: int) -> None:
        count = self._unsigned(width)
        if count > MAX_INT_BYTES:
            raise DataError(f"the pickle holds a number of {count} bytes")
        self.stack.append(int.from_bytes(self._bytes(count), "little", signed=True))

    def float8(self) -> None:
        self.stack.append(struct.unpack(">d", self._bytes(8))[0])

    def latin1(self, width: int) -> None:
        self.stack.append(self._bytes(self._unsigned(width)).decode("latin1"))

    def unicode(self, width: int) -> None:
        self.stack.append(self._bytes(self._unsigned(width)).decode())

    def raw(self, width: int) -> None:
        self.stack.append(self._bytes(self._unsigned(width)))

    # Containers

    def tuple_to_mark(self) -> None:
        items = self._to_mark()
        self.stack.append(tuple(items))

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise DataError("the pickle is damaged: a tuple of more values than there are")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def list_to_mark(self) -> None:
        items = self._to_mark()
        self.stack.append(items)

    def dict_to_mark(self) -> None:
        made: dict[Any, Any] = {}
        items = self._to_mark()
        self._enter(made, items)
        self.stack.append(made)

    def frozenset_to_mark(self) -> None:
        items = self._to_mark()
        self.stack.append(frozenset(check_key(item) for item in items))

    def append(self) -> None:
        item = self.stack.pop()
        self._extend([item])

    def appends(self) -> None:
        self._extend(self._to_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise DataError(f"the pickle appends to a {_kind(target)}")
        target.extend(items)

    def set_item(self) -> None:
        value = self.stack.pop()
        key = self.stack.pop()
        self._enter(self.stack[-1], [key, value])

    def set_items(self) -> None:
        items = self._to_mark()
        self._enter(self.stack[-1], items)

    def _enter(self, target: Any, items: list[Any]) -> None:
        if len(items) % 2:
            raise DataError("the pickle is damaged: a key without a value")
        if type(target) is dict:
            for i in range(0, len(items), 2):
                target[check_key(items[i])] = items[i + 1]
        elif type(target) is Made and target.name.module == "collections":
            target.items.extend((check_key(items[i]), items[i + 1]) for i in range(0, len(items), 2))
        else:
            raise DataError(f"the pickle puts entries into a {_kind(target)}")

    def add_items(self) -> None:
        items = self._to_mark()
        target = self.stack[-1]
        if type(target) is not set:
            raise DataError(f"the pickle adds members to a {_kind(target)}")
        target.update(check_key(item) for item in items)

    # Names, calls, states: recorded

    def _named(self, module: Any, name: Any) -> Name:
        if type(module) is not str or type(name) is not str:
            raise DataError("the pickle names something by what is no text")
        found = Name(module, name)
        if found not in self.names:
            asked = f"the file asks for {str(found)[:200]} when it is loaded"
            raise DataError(
                f"{asked}, which no data file needs: refused, nothing ran",
                next_command="take the file from its original source again, or convert it to .npz where you trust it",
            )
        return found

    def global_(self) -> None:
        module, name = self._line().decode(), self._line().decode()
        self.stack.append(self._named(module, name))

    def stack_global(self) -> None:
        name = self.stack.pop()
        module = self.stack.pop()
        self.stack.append(self._named(module, name))

    def _made(self, name: Any, args: Any) -> None:
        if type(name) is not Name or type(args) is not tuple:
            raise DataError(f"the pickle calls a {_kind(name)}")
        if name in _RECONSTRUCTORS:  # objects of protocols 0 and 1: (class, base, state of the base)
            if len(args) != 3 or type(args[0]) is not Name:
                raise DataError(f"the pickle makes an object of a {_kind(args[0] if args else None)}")
            name, args = args[0], ()
        self.stack.append(Made(name, args))

    def reduce(self) -> None:
        args = self.stack.pop()
        self._made(self.stack.pop(), args)

    def new_object_with_names(self) -> None:
        if self.stack.pop() != {}:
            raise DataError("the pickle makes an object with named arguments, which is not read")
        self.reduce()

    def inst(self) -> None:
        name = self._named(self._line().decode(), self._line().decode())
        self._made(name, tuple(self._to_mark()))

    def object_to_mark(self) -> None:
        items = self._to_mark()
        self._made(items[0], tuple(items[1:]))

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is not Made or target.has_state:
            raise DataError(f"the pickle sets the state of a {_kind(target)}{' twice' if type(target) is Made else ''}")
        target.state, target.has_state = state, True

    def persistent_text(self) -> None:
        self._refer(self._line().decode())

    def persistent_value(self) -> None:
        self._refer(self.stack.pop())

    def _refer(self, reference: Any) -> None:
        if not self.persistent:
            raise DataError("the pickle refers to objects outside of the file: refused")
        self.stack.append(Stored(reference))

    # Memo and frame

    def put(self, index: int) -> None:
        self._memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self._memo[index])

    def protocol(self) -> None:
        if self._unsigned(1) > 5:
            raise DataError("the pickle is of a protocol newer than 5")

    def frame(self) -> None:
        if self._unsigned(8) > self.end - self.at:
            raise DataError("the pickle is cut short or damaged: it ends before its contents do")


def _kind(value: Any) -> str:
    return str(value.name) if type(value) is Made else type(value).__name__


_M = PickleMachine
_OPCODES: dict[int, Callable[[PickleMachine], None]] = {
    code[0]: step
    for code, step in {
        b"(": _M.mark, b"0": _M.pop, b"1": _M.pop_mark, b"2": _M.duplicate,
        b"N": lambda m: m.stack.append(None), b"\x88": lambda m: m.stack.append(True),
        b"\x89": lambda m: m.stack.append(False), b"]": lambda m: m.stack.append([]),
        b"}": lambda m: m.stack.append({}), b")": lambda m: m.stack.append(()),
        b"\x8f": lambda m: m.stack.append(set()),
        b"I": _M.text_int, b"L": _M.text_int, b"F": _M.text_float, b"S": _M.text_string, b"V": _M.text_unicode,
        b"J": _M.int4, b"K": _M.int1, b"M": _M.int2, b"\x8a": lambda m: m.long(1), b"\x8b": lambda m: m.long(4),
        b"G": _M.float8, b"T": lambda m: m.latin1(4), b"U": lambda m: m.latin1(1), b"\x8c": lambda m: m.unicode(1),
        b"X": lambda m: m.unicode(4), b"\x8d": lambda m: m.unicode(8), b"C": lambda m: m.raw(1),
        b"B": lambda m: m.raw(4), b"\x8e": lambda m: m.raw(8), b"\x96": lambda m: m.raw(8),
        b"t": _M.tuple_to_mark, b"\x85": lambda m: m.tuple_of(1), b"\x86": lambda m: m.tuple_of(2),
        b"\x87": lambda m: m.tuple_of(3), b"l": _M.list_to_mark, b"d": _M.dict_to_mark, b"\x91": _M.frozenset_to_mark,
        b"a": _M.append, b"e": _M.appends, b"s": _M.set_item, b"u": _M.set_items, b"\x90": _M.add_items,
        b"c": _M.global_, b"\x93": _M.stack_global, b"R": _M.reduce, b"\x81": _M.reduce,
        b"\x92": _M.new_object_with_names, b"i": _M.inst, b"o": _M.object_to_mark, b"b": _M.build,
        b"P": _M.persistent_text, b"Q": _M.persistent_value, b"\x80": _M.protocol, b"\x95": _M.frame,
        b"p": lambda m: m.put(int(m._line(20))), b"q": lambda m: m.put(m._unsigned(1)),
        b"r": lambda m: m.put(m._unsigned(4)), b"\x94": lambda m: m.put(len(m._memo)),
        b"g": lambda m: m.get(int(m._line(20))), b"h": lambda m: m.get(m._unsigned(1)),
        b"j": lambda m: m.get(m._unsigned(4)),
    }.items()
}  # fmt: skip
