"""Reads torch's checkpoint files (zip, and the older stream) without torch.load: tensors are made here, from bytes.

torch.load builds as it reads; even with weights_only its C code takes shapes, strides and pointers from the file. Here
the pickle is recorded (pickle_machine.py), storages are counted bytes, and a tensor is made only where its size,
strides and offset stay inside of its storage. numpy arrays and scalars, Namespace and the like beside the weights are
harmless and kept; a file that names anything else is refused by that name.

Formats: torch/serialization.py (`_save`, `_legacy_save`), torch/csrc/serialization.cpp.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posegen.errors import CheckpointError, DataError
from posegen.files.array_records import ARRAYS, Record, make_record
from posegen.files.pickle_machine import PickleMachine
from posegen.files.pickles import read_bytes
from posegen.files.recorded import Budget, Call, Maker, Name, Resolver
from posegen.files.zips import open_zip, read_member

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
RESAVE = "re-save its state dict alone: torch.save({'model': model.state_dict()}, FILE)"
_STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
_ELEMENTS = tuple(str(dtype).removeprefix("torch.") for dtype in (*_STORAGES.values(), torch.complex64))


@dataclass(frozen=True)
class _Storage:
    """Bytes of numbers: which, of which kind, and how many numbers."""

    key: str
    dtype: torch.dtype
    count: int
    first: int  # within the bytes of `key`, for views of the older format


def _reference(value: Any) -> _Storage:
    """('storage', class, key, device, count), and in the older format a view: None or (key, first, count)."""
    if type(value) is not tuple or len(value) not in (5, 6) or value[0] not in ("storage", b"storage"):
        raise DataError("the checkpoint refers to something that is no storage of numbers")
    kind, key, count = value[1], value[2], value[4]
    dtype = _STORAGES.get(kind.name) if type(kind) is Name and kind.module in ("torch", "torch.cuda") else None
    if dtype is None or type(key) not in (str, int) or type(count) is not int or not 0 <= count < 2**40:
        raise DataError(f"the checkpoint has a storage of an unknown kind ({str(kind)[:60]})")
    first, view = 0, value[5] if len(value) == 6 else None
    if view is not None:
        if type(view) is not tuple or len(view) != 3 or not all(type(n) is int and 0 <= n < 2**40 for n in view[1:]):
            raise DataError("the checkpoint has a view of an unknown layout")
        first, count = view[1:]
    return _Storage(str(key), dtype, count, first)


class _Tensors:
    """Tensors of a file's storages.

    Args:
        content: gives a storage's bytes. little: the file's byte order.
    """

    def __init__(self, content: Callable[[str, int], bytes], little: bool, budget: Budget) -> None:
        self.content, self.little, self.budget = content, little, budget
        self._flat: dict[tuple[str, torch.dtype], Tensor] = {}

    def flat(self, storage: _Storage) -> Tensor:
        """All numbers of a storage, as torch.load gives them: tensors of one storage share it."""
        if (storage.key, storage.dtype) not in self._flat:
            size = storage.dtype.itemsize
            raw = self.content(storage.key, (storage.first + storage.count) * size)
            if len(raw) < (storage.first + storage.count) * size or len(raw) % size:
                raise DataError(f"storage {storage.key[:40]} has {len(raw)} bytes for {storage.count} {storage.dtype}")
            self.budget.charge(len(raw))
            numbers = np.frombuffer(raw, f"{'<' if self.little else '>'}u{size}").astype(f"=u{size}", copy=True)
            if storage.dtype is torch.bool:
                self._flat[storage.key, storage.dtype] = torch.from_numpy(numbers != 0)
            else:
                signed = torch.from_numpy(numbers.view(f"i{size}" if size > 1 else "u1"))
                self._flat[storage.key, storage.dtype] = signed.view(storage.dtype)
        whole = self._flat[storage.key, storage.dtype]
        if storage.first + storage.count > len(whole):
            raise DataError(f"storage {storage.key[:40]} has {len(whole)} numbers instead of {storage.count}")
        return whole[storage.first : storage.first + storage.count]

    def make(self, call: Call) -> Tensor:
        """torch._utils._rebuild_tensor[_v2](storage, offset, size, stride, ...)."""
        if len(call.args) < 4 or type(call.args[0]) is not _Storage:
            raise DataError("the checkpoint has a tensor of an unknown layout")
        storage: _Storage = call.args[0]
        offset, size, stride = call.args[1:4]
        if type(size) is not tuple or type(stride) is not tuple:
            raise DataError("the checkpoint has a tensor of an unknown layout")
        numbers = (offset, *size, *stride)
        if len(size) != len(stride) or len(size) > 32 or not all(type(n) is int and 0 <= n < 2**40 for n in numbers):
            raise DataError("the checkpoint has a tensor of an impossible shape")
        count = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if count else 0
        if last >= max(storage.count, 1) or (count and not storage.count) or math.prod(n for n in size if n) >= 2**40:
            raise DataError(f"a tensor of shape {tuple(size)} reaches beyond its {storage.count} stored numbers")
        self.budget.charge(256 + max(count - storage.count, 0) * storage.dtype.itemsize)
        start = storage.first + (offset if count else 0)  # as_strided counts from the start of the whole storage
        return self.flat(storage).as_strided(size, stride, start)


def _parameter(call: Call) -> Tensor:
    """torch._utils._rebuild_parameter(tensor, requires_grad, hooks): the tensor."""
    if not call.args or not isinstance(call.args[0], Tensor):
        raise DataError("the checkpoint has a parameter of an unknown layout")
    return call.args[0]


def _size(call: Call) -> tuple[int, ...]:
    sizes: Any = call.args[0] if len(call.args) == 1 else None
    if type(sizes) not in (tuple, list) or not all(type(n) is int for n in sizes):
        raise DataError("the checkpoint has a size of an unknown layout")
    return tuple(sizes)


def _path(call: Call) -> str:
    if not all(type(part) is str for part in call.args):
        raise DataError("the checkpoint has a path of an unknown layout")
    return str(PurePosixPath(*call.args))


def _makers(tensors: _Tensors) -> dict[Name, Maker | None]:
    makers: dict[Name, Maker | None] = {
        **ARRAYS,
        Name("torch._utils", "_rebuild_tensor"): tensors.make,
        Name("torch._utils", "_rebuild_tensor_v2"): tensors.make,
        Name("torch._utils", "_rebuild_parameter"): _parameter,
        Name("torch._utils", "_rebuild_parameter_with_state"): _parameter,
        Name("torch", "Size"): _size,
        Name("torch", "device"): make_record,
    }
    makers |= {Name(module, kind): None for module in ("torch", "torch.cuda") for kind in _STORAGES}
    makers |= {Name("torch", dtype): None for dtype in _ELEMENTS}
    makers |= {Name("pathlib", f"{kind}Path"): _path for kind in ("Posix", "PurePosix", "Windows", "PureWindows")}
    return makers


def _resolved(tree: Any, tensors: _Tensors) -> Any:
    return Resolver(_makers(tensors), tensors.budget, _reference).resolve(tree)


def read_torch(path: Path) -> Any:
    """What torch.save put into a file: containers, numbers, text, tensors (on the CPU), numpy arrays.

    Raises CheckpointError where it is missing, damaged, or asks for anything else.
    """
    try:
        if not path.is_file():
            raise DataError("no such checkpoint file", next_command="posegen doctor")
        with path.open("rb") as file:
            head = file.read(4)
        if head[:2] == b"PK":
            return _read_zip(path)
        return _read_stream(path, head)
    except DataError as error:
        named = "the file asks for" in error.what
        what = error.what.replace("which no data file needs", "so loading it could run code") if named else error.what
        raise CheckpointError(
            what, where=error.where or path, choices=error.choices, next_command=RESAVE if named else error.next_command
        ) from error
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise CheckpointError(f"cannot read the checkpoint: {reason}", where=path) from error


def _read_zip(path: Path) -> Any:
    """NAME/data.pkl, NAME/data/KEY (each a storage's bytes, never compressed), NAME/byteorder."""
    with open_zip(path, compressed=False) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise DataError("the zip archive holds no data.pkl: no PyTorch checkpoint")
        root = pickles[0].removesuffix("data.pkl")
        if root + "constants.pkl" in members:
            raise DataError("this is a TorchScript program, not a checkpoint", next_command=RESAVE)
        little = True
        if root + "byteorder" in members:
            order = read_member(archive, members[root + "byteorder"])
            if order not in (b"little", b"big"):
                raise DataError("the checkpoint is of an unknown byte order")
            little = order == b"little"
        data = read_member(archive, members[pickles[0]])

        def content(key: str, wanted: int) -> bytes:
            info = members.get(f"{root}data/{key}")
            if info is None:
                raise DataError(f"the checkpoint lacks its storage {key[:40]}: it is damaged")
            return read_member(archive, info)

        tensors = _Tensors(content, little, Budget(path.stat().st_size))
        tree = PickleMachine(data, _makers(tensors), persistent=True).run()
        return _resolved(tree, tensors)


def _read_stream(path: Path, head: bytes) -> Any:
    """Five pickles one after the other (magic number, protocol, system, contents, storages' keys), then the storages:
    eight bytes of count, and the numbers."""
    if head[:1] != b"\x80":
        raise DataError("this is no PyTorch checkpoint")
    data = read_bytes(path)
    held: dict[str, tuple[int, int]] = {}  # key -> where its count stands, and where the last storage ends

    def content(key: str, wanted: int) -> bytes:
        if key not in held:
            raise DataError(f"the checkpoint lacks its storage {key[:40]}: it is damaged")
        return data[held[key][0] : held[key][1]]

    tensors, at = _Tensors(content, True, Budget(len(data))), 0
    parts: list[Any] = []
    makers = _makers(tensors)
    for expected in (MAGIC, PROTOCOL, None, None, None):
        machine = PickleMachine(data, makers, at, persistent=len(parts) == 3)
        parts.append(machine.run())
        at = machine.at
        if expected is not None and parts[-1] != expected:
            raise DataError("this is no PyTorch checkpoint (a pickle of another kind)")
    system, tree, keys = parts[2:]
    if type(system) is not dict or type(keys) is not list or not all(type(key) in (str, int) for key in keys):
        raise DataError("the checkpoint is damaged: its list of storages cannot be read")
    tensors.little = bool(system.get("little_endian", True))
    sizes = _sizes(tree)
    for key in map(str, keys):
        if at + 8 > len(data) or key not in sizes:
            raise DataError("the checkpoint is cut short: storages are missing")
        count = int.from_bytes(data[at : at + 8], "little" if tensors.little else "big")
        if count * sizes[key] > len(data) - at - 8:
            raise DataError("the checkpoint is cut short: storages are missing")
        held[key] = (at + 8, at + 8 + count * sizes[key])
        at = held[key][1]
    return _resolved(tree, tensors)


def _sizes(tree: Any) -> dict[str, int]:
    """Bytes of one number of each storage that a recorded tree refers to."""
    sizes: dict[str, int] = {}

    def note(value: Any) -> _Storage:
        storage = _reference(value)
        sizes[storage.key] = storage.dtype.itemsize
        return storage

    def nothing(call: Call) -> Record:
        return Record(call.name, (), None)

    blank: Mapping[Name, Maker | None] = dict.fromkeys(_makers(_Tensors(lambda *_: b"", True, Budget(0))), nothing)
    Resolver(blank, Budget(2**40), note).resolve(tree)
    return sizes
