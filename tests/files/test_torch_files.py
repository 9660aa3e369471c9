"""torch's checkpoints without torch.load: the same contents, and nothing of the file's choosing is run or believed."""

from __future__ import annotations

import argparse
import collections
import io
import os
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from posegen.errors import CheckpointError
from posegen.estimator.checkpoint import read_state
from posegen.files.torch_files import read_torch

SOURCE = Path(__file__).parents[2] / "platform" / "posegen"
OWN_RUNS = {"files/versions.py"}


def contents() -> dict[str, Any]:
    base = torch.arange(24.0)
    kinds = (
        torch.float16,
        torch.bfloat16,
        torch.float64,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
    )
    return {
        "model": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict(),
        "kinds": [torch.arange(5).to(kind) for kind in kinds] + [torch.tensor([True, False, True])],
        "views": (base.view(4, 6).T, base[5:9], base.view(2, 12)[1], torch.tensor(3.5), torch.zeros(0, 4), base[3:3]),
        "parameter": nn.Parameter(torch.ones(2)),
        "optimizer": {
            "state": {0: {"step": 3, "exp_avg": torch.ones(2)}},
            "param_groups": [{"lr": 5e-4, "params": [0]}],
        },
        "anchors": {"kps": np.arange(6.0).reshape(2, 3), "beta": None},
        "expanded": torch.ones(3, 1).expand(3, 5),
    }


def same(a: Any, b: Any) -> None:
    if isinstance(b, Tensor):
        assert a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    elif isinstance(b, np.ndarray):
        np.testing.assert_array_equal(a, b)
    elif isinstance(b, dict):
        assert list(a) == list(b)
        for key in b:
            same(a[key], b[key])
    elif isinstance(b, list | tuple):
        assert type(a) is type(b) and len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        assert a == b


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_all_that_torch_saves_comes_back_equal(tmp_path: Path, zipped: bool, protocol: int) -> None:
    wanted = contents()
    path = tmp_path / "c.pt"
    torch.save(wanted, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    read = read_torch(path)
    same(read, wanted)
    # Tensors of one storage share it, as torch.load leaves them.
    assert read["views"][1].untyped_storage().data_ptr() == read["views"][2].untyped_storage().data_ptr()


@pytest.mark.parametrize("zipped", [True, False])
def test_numpy_scalars_and_a_namespace_beside_the_weights_do_no_harm(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "c.pt"
    beside = {"performance": np.float64(3), "args": argparse.Namespace(lr=1e-4, out=Path("x")), "when": np.int64(7)}
    beside |= {"milestones": collections.Counter({30: 1}), "kind": torch.float32, "size": torch.Size([2, 3])}
    torch.save({"model": {"w": torch.ones(2)}, **beside}, path, _use_new_zipfile_serialization=zipped)
    read = read_torch(path)
    assert read["performance"] == 3 and read["when"] == 7 and read["milestones"] == {30: 1} and read["size"] == (2, 3)
    assert read["args"].state == {"lr": 1e-4, "out": "x"}
    assert torch.equal(read_state(path)["w"], torch.ones(2))


class Runs:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("zipped", [True, False])
def test_other_names_are_named_in_plain_words_and_do_not_run(tmp_path: Path, zipped: bool) -> None:
    proof = tmp_path / "ran"
    path = tmp_path / "c.pt"
    torch.save({"model": Runs(os.mkdir, str(proof))}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        CheckpointError, match=r"asks for posix.mkdir.*could run code[\s\S]*c\.pt[\s\S]*re-save"
    ) as caught:
        read_torch(path)
    assert not proof.exists() and "\x1b" not in str(caught.value)


def legacy(tree: bytes, keys: list[str], storages: bytes) -> bytes:
    """A stream with a pickle of one's own as its contents."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    return b"".join((*parts, tree, pickle.dumps(keys, 2), storages))


def tensor(offset: int, size: tuple[int, ...], stride: tuple[int, ...], count: int = 4) -> bytes:
    """The pickle of {"w": a tensor over storage "0"}."""

    def ints(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in values) + b"t"

    reference = (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + ints((count,))[1:-1]
    )
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + reference + b"NtQ" + ints((offset,))[1:-1]
    return b"\x80\x02}X\x01\x00\x00\x00w" + call + ints(size) + ints(stride) + b"\x89}tRs."


FLOATS = struct.pack("<q4f", 4, 1, 2, 3, 4)


def test_a_hand_made_stream_is_read(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    path.write_bytes(legacy(tensor(1, (3,), (1,)), ["0"], FLOATS))
    assert read_torch(path)["w"].tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("offset", "size", "stride", "count"),
    [(2, (3,), (1,), 4), (0, (2,), (2**30,), 4), (-8, (1,), (1,), 4), (0, (2,), (-1,), 4), (0, (1,), (1,), 2**33),
     (0, (5,), (1,), 5), (0, (2**20, 2**19), (0, 0), 4), (0, (2**39,), (0,), 4), (0, (0, 2**39, 2**39), (1, 1, 1), 4),
     (0, (2, 2), (1,), 4)],
)  # fmt: skip
def test_tensors_stay_inside_of_their_storage(tmp_path: Path, offset: int, size: Any, stride: Any, count: int) -> None:
    path = tmp_path / "c.pt"
    path.write_bytes(legacy(tensor(offset, size, stride, count), ["0"], FLOATS))
    with pytest.raises(CheckpointError, match=r"c\.pt"):
        read_torch(path)


@pytest.mark.parametrize("keys", [["0"], ["1"], [], [["0"]]])
def test_a_stream_of_false_storages_is_refused(tmp_path: Path, keys: Any) -> None:
    path = tmp_path / "c.pt"
    path.write_bytes(legacy(tensor(0, (4,), (1,)), keys, struct.pack("<q4f", 2**40, 1, 2, 3, 4)))
    with pytest.raises(CheckpointError, match=r"storages|storage 0"):
        read_torch(path)


def rewritten(path: Path, change: Any, compression: int = zipfile.ZIP_STORED) -> Path:
    """A copy of a zipped checkpoint whose members went through change(name, content) -> [(name, content), ...]."""
    out = path.with_name("changed.pt")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", compression) as new:
        for name in old.namelist():
            for pair in change(name, old.read(name)):
                new.writestr(*pair)
    return out


def test_archives_of_bombs_and_misplaced_members_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save({"model": {"w": torch.ones(4)}}, path)
    assert torch.equal(read_state(rewritten(path, lambda *pair: [pair]))["w"], torch.ones(4))
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = rewritten(path, lambda *pair: [pair, pair])
    with pytest.raises(CheckpointError, match="twice"):
        read_torch(twice)
    for place in ("/etc/x", "../x", "c/../../x"):
        with pytest.raises(CheckpointError, match="out of place"):
            read_torch(
                rewritten(path, lambda *pair, place=place: [pair, (place, b"")] if "data.pkl" in pair[0] else [pair])
            )
    with pytest.raises(CheckpointError, match="compressed"):
        read_torch(rewritten(path, lambda *pair: [pair], zipfile.ZIP_DEFLATED))
    with pytest.raises(CheckpointError, match="lacks its storage"):
        read_torch(rewritten(path, lambda *pair: [] if "/data/" in pair[0] else [pair]))
    with pytest.raises(CheckpointError, match="storage 0 has 4 bytes"):
        read_torch(rewritten(path, lambda name, held: [(name, held[:4] if "/data/" in name else held)]))
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_torch(rewritten(path, lambda *pair: [pair, ("c/constants.pkl", b"")] if "data.pkl" in pair[0] else [pair]))
    raw = bytearray(path.read_bytes())
    for found in re.finditer(rb"PK\x01\x02", bytes(raw)):
        raw[found.start() + 8] |= 1  # the flag of encryption
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match="encrypted"):
        read_torch(path)


def test_no_byte_of_a_checkpoint_can_be_changed_to_another_error(tmp_path: Path) -> None:
    """Each place flipped or cut in turn: read, or our error."""
    buffer, path, outcomes = io.BytesIO(), tmp_path / "c.pt", collections.Counter()
    torch.save({"model": {"w": torch.ones(2, 2)}}, buffer, _use_new_zipfile_serialization=False)
    whole = buffer.getvalue()
    for place in range(len(whole)):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 0x15]) + whole[place + 1 :]):
            path.write_bytes(damaged)
            try:
                read_torch(path)
                outcomes["read"] += 1
            except CheckpointError:
                outcomes["refused"] += 1
    assert outcomes["refused"] > len(whole)


def test_users_files_never_reach_torch_load_or_pickle() -> None:
    """Only a run's own state goes through torch.load, with weights_only; nothing goes through pickle."""
    for file in SOURCE.rglob("*.py"):
        text, name = file.read_text(), str(file.relative_to(SOURCE))
        code = re.sub(r'""".*?"""', "", text, flags=re.S)
        if name == "tracking/store/served.py":  # MLflow asks for a pickle module: its own class names what may be made
            for part in ("\nimport pickle\n", "class Unpickler(pickle.Unpickler):\n"):
                assert code.count(part) == 1
                code = code.replace(part, "\n")
        assert not re.search(
            r"\bpickle\.(load|loads|Unpickler)\b|^(import pickle|from pickle)|allow_pickle=True", code, re.M
        ), name
        calls = re.findall(r"torch\.load\([^\n]*", code)
        assert not calls or (name in OWN_RUNS and all("weights_only=True" in call for call in calls)), name
