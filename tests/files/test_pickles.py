"""Pickles are read without running anything in them."""

from __future__ import annotations

import os
import pickle
import struct
import time
import tracemalloc
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from posegen.errors import DataError
from posegen.files.body_records import SparseMatrix, plain
from posegen.files.numbers import array_of, text_of
from posegen.files.pickles import load_pickle
from posegen.files.recorded import Name
from posegen.files.values import whole_number


class Attack:
    """Runs a function when it is unpickled by the standard reader."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_command_in_a_pickle_is_refused_by_name_and_does_not_run(tmp_path: Path, protocol: int) -> None:
    proof = tmp_path / "executed"
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    path.write_bytes(pickle.dumps({"v_template": Attack(os.system, f"touch {proof}")}, protocol=protocol))
    with pytest.raises(DataError, match=rf"asks for ({os.name}|os|posix)\.system[\s\S]*{path.name}"):
        load_pickle(path)
    assert not proof.exists()


@pytest.mark.parametrize(("function", "argument"), [(eval, "1+1"), (exec, "x=1"), (getattr, "a"), (np.load, "x")])
def test_other_callables_are_refused(tmp_path: Path, function: Any, argument: str) -> None:
    path = tmp_path / "bad.pkl"
    path.write_bytes(pickle.dumps(Attack(function, argument)))
    with pytest.raises(DataError, match=rf"\.{function.__name__} when it is loaded"):
        load_pickle(path)


def test_allowed_constructors_do_not_make_other_classes(tmp_path: Path) -> None:
    # numpy's array constructor asked to build something that is no array
    path = tmp_path / "bad.pkl"
    path.write_bytes(b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncbuiltins\nset\nK\x00\x85U\x01b\x87R.")
    with pytest.raises(DataError, match="array of class"):
        load_pickle(path)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_arrays_come_back_equal(tmp_path: Path, protocol: int) -> None:
    contents = {
        "float": np.linspace(0, 1, 7).reshape(1, 7),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "int": np.arange(5, dtype=np.uint32),
        "scalar": np.float32(2.5),
        "nested": [np.zeros(0), ("text", b"bytes", {"k": 1})],
        "objects": np.array([np.arange(2), np.arange(3)], dtype=object),
    }
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(contents, protocol=protocol))
    back = load_pickle(path)
    for key in ("float", "fortran", "int", "scalar"):
        np.testing.assert_array_equal(back[key], contents[key])
        assert back[key].dtype == contents[key].dtype
    assert back["nested"][1] == ("text", b"bytes", {"k": 1})
    np.testing.assert_array_equal(back["objects"][1], [0, 1, 2])


def test_arrays_of_python_2_are_read(tmp_path: Path) -> None:
    # As Python 2's cPickle writes numpy arrays: raw bytes as a str.
    data = struct.pack("<2d", 1.5, -2.0)
    path = tmp_path / "py2.pkl"
    path.write_bytes(
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85"
        b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10"
        + data
        + b"tb."
    )
    np.testing.assert_array_equal(load_pickle(path), [1.5, -2.0])


@pytest.mark.parametrize("make", [sparse.csc_matrix, sparse.csr_matrix, sparse.coo_matrix])
def test_sparse_matrices_become_dense(tmp_path: Path, make: Any) -> None:
    dense = np.array([[0, 1.0, 0], [2, 0, 3]])
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(make(dense), protocol=2))
    np.testing.assert_array_equal(plain(load_pickle(path)), dense)


def test_a_pickle_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "short.pkl"
    path.write_bytes(pickle.dumps({"a": np.arange(100)}, protocol=2)[:150])
    with pytest.raises(DataError, match=r"cut short or damaged[\s\S]*short\.pkl"):
        load_pickle(path)


def test_more_names_can_be_read_by_a_maker_of_ours(tmp_path: Path) -> None:
    from datetime import date

    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(date(2020, 1, 2)))
    with pytest.raises(DataError, match=r"datetime\.date"):
        load_pickle(path)
    assert load_pickle(path, {Name("datetime", "date"): lambda call: call.args[0]}) == b"\x07\xe4\x01\x02"


ARRAYS = {
    "fortran": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    "transposed": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "sliced": np.arange(20)[::3],
    "big-endian": np.arange(5, dtype=">f8"),
    "big-endian ints": np.arange(5, dtype=">i2"),
    "0-d": np.array(3.5),
    "empty": np.zeros((0, 3), np.float32),
    "bool": np.array([[True, False], [False, True]]),
    "complex": np.array([1 + 2j]),
    "half": np.arange(4, dtype=np.float16),
    "text": np.array(["a", "bcd"]),
    "bytes": np.array([b"a", b"bcd"]),
    "scalar": np.float64(2.5),
    "float32 scalar": np.float32(2.5),
    "int scalar": np.int64(-7),
    "bool scalar": np.bool_(True),
    "text scalar": np.str_("male"),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_those_of_pythons_own_reader(tmp_path: Path, protocol: int, name: str) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"a": ARRAYS[name], "again": [ARRAYS[name]] * 2}, protocol))
    trusted, read = pickle.loads(path.read_bytes()), load_pickle(path)
    for a, b in ((read["a"], trusted["a"]), (read["again"][1], trusted["again"][1])):
        np.testing.assert_array_equal(a, b, strict=False)
        assert np.shape(a) == np.shape(b) and np.asarray(a).dtype == np.asarray(b).dtype.newbyteorder("=")
    if isinstance(read["a"], np.ndarray):
        assert read["a"].flags.writeable and read["a"].flags.aligned


@pytest.mark.parametrize("protocol", range(6))
def test_containers_are_those_of_pythons_own_reader(tmp_path: Path, protocol: int) -> None:
    whole = {
        "numbers": [
            0,
            -1,
            255,
            256,
            65536,
            -(2**31),
            2**62,
            -(2**63),
            2**64 - 1,
            1.5,
            float("inf"),
            True,
            None,
            2 + 1j,
        ],
        "text": ["", "ä", "a" * 300, "\n\\'", "𝄞"],
        "bytes": [b"", b"\x00\xff", b"x" * 300, bytearray(b"ab"), bytearray()],
        "nested": ((), (1,), (1, (2, [3])), {"a": {1: {}}}, {1, 2}, frozenset("ab"), slice(1, None, 2)),
        "ordered": OrderedDict([("b", 1), ("a", [2])]),
    }
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(whole, protocol))
    assert load_pickle(path) == whole


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_objects_become_lists(tmp_path: Path, protocol: int, order: Any) -> None:
    cells = np.empty((2, 3), object, order=order)
    for i in range(6):
        cells[divmod(i, 3)] = [i, np.arange(i)]
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps((cells, np.array(None), np.empty(0, object)), protocol))
    read = load_pickle(path)
    assert [[cell[0] for cell in row] for row in read[0]] == [[0, 1, 2], [3, 4, 5]]
    np.testing.assert_array_equal(read[0][1][1][1], np.arange(4))
    assert read[1:] == (None, [])


# Attempts at the reader itself, opcode by opcode. What would run is harmless, and does not.
ND = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
F8 = b"cnumpy\ndtype\n(U\x02f8I0\nI1\ntR(I3\nU\x01<NNNI-1\nI-1\nI0\ntb"


def shaped(shape: bytes, dtype: bytes = F8, content: bytes = b"U\x08abcdefgh") -> bytes:
    return ND + b"(I1\n" + shape + dtype + b"I0\n" + content + b"tb."


def dtype(code: bytes, state: bytes) -> bytes:
    return b"cnumpy\ndtype\n(U" + bytes((len(code),)) + code + b"I0\nI1\ntR(" + state + b"tb"


ATTACKS = {
    # A dtype of numbers whose state says "Python object" in its flags, and the other way round.
    "dtype flags": shaped(b"(K\x01t", dtype(b"O8", b"I3\nU\x01|NNNI8\nI8\nI0\n")),
    "scalar of an object": b"cnumpy.core.multiarray\nscalar\n("
    + dtype(b"O8", b"I3\nU\x01|NNNI-1\nI-1\nI0\n")
    + b"U\x08abcdefghtR.",
    "dtype fields": shaped(b"(K\x01t", dtype(b"V8", b"I3\nU\x01|N(U\x01at}U\x01a(" + F8 + b"K\x00tsI8\nI1\nI16\n")),
    "dtype subarray": shaped(b"(K\x01t", dtype(b"V8", b"I3\nU\x01|(" + F8 + b"(K\x01ttNNI8\nI1\nI0\n")),
    "dtype of a dictionary": shaped(b"(K\x01t", b"cnumpy\ndtype\n(}tR"),
    "dtype of a huge text": shaped(b"(K\x00t", dtype(b"U999999999", b"I3\nU\x01<NNNI-1\nI-1\nI0\n"), b"U\x00"),
    "dtype of no size": shaped(b"(J\xff\xff\xff\x7ft", dtype(b"S0", b"I3\nU\x01|NNNI-1\nI-1\nI0\n"), b"U\x00"),
    "dtype state twice": F8 + b"(I3\nU\x01|NNNI8\nI8\nI63\ntb.",
    "shape without bytes": shaped(b"(J\xff\xff\xff\x7ft"),
    "negative shape": shaped(b"(J\xff\xff\xff\xfft"),
    "overflowing shape": shaped(b"(L4294967296\nL4294967296\nt", content=b"U\x00"),
    "overflowing empty shape": shaped(b"(K\x00" + b"L1099511627775\n" * 3 + b"t", content=b"U\x00"),
    "many dimensions": shaped(b"(" + b"K\x01" * 65 + b"t"),
    "shape of floats": shaped(b"(F1.0\nt"),
    "too few bytes": shaped(b"(K\x02t"),
    "no state": ND + b".",
    "state of the class": b"cnumpy\nndarray\n(I1\n(K\x01t" + F8 + b"I0\nU\x08abcdefghtb.",
    "array class called": b"cnumpy\nndarray\n((K\x09ttR.",
    "array class made": b"\x80\x02cnumpy\nndarray\n(K\x09t\x81.",
    "objects of a false count": shaped(b"(K\x05t", dtype(b"O8", b"I3\nU\x01|NNNI-1\nI-1\nI63\n"), b"]"),
    "objects of bytes": shaped(b"(K\x01t", dtype(b"O8", b"I3\nU\x01|NNNI-1\nI-1\nI63\n")),
    "entries into an array": ND + b"(U\x01aK\x01u.",
    "items onto an array": ND + b"K\x01a.",
    "members of an array": b"\x80\x04" + ND + b"(K\x01\x90.",
    "entries into a name": b"cnumpy\ndtype\nU\x01aK\x01s.",
    "state of a list": b"](U\x01aK\x01db.",
    "state of a dictionary": b"}(U\x01aK\x01db.",
    "a call of text": b"U\x05printU\x01a\x85R.",
    "a call of an array": ND + b"(tR.",
    "a call of a call": b"cbuiltins\nset\n(tR(tR.",
    "a name made of parts": b"\x80\x04\x8c\x05posix\x8c\x06system\x93.",
    "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.",
    "a name from a memo": b"cnumpy\ndtype\np0\n0g0\ng0\n\x93.",
    "an object of a class": b"(cposix\nsystem\nU\x04echoo.",
    "an instance": b"(U\x04echoiposix\nsystem\n.",
    "a reconstructor of a function": b"ccopy_reg\n_reconstructor\np0\n(g0\nc__builtin__\nobject\nNtR.",
    "a reconstructor of text": b"ccopy_reg\n_reconstructor\n(U\x01ac__builtin__\nobject\nNtR.",
    "an object with names": b"\x80\x04cargparse\nNamespace\n)}U\x01aK\x01s\x92.",
    "bytes of a length": b"cbuiltins\nbytes\n(J\xff\xff\xff\x7ftR.",
    "a bytearray of a length": b"cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR.",
    "a long number": b"\x8b" + struct.pack("<I", 2**20) + b"\xff" * 2**20 + b".",
    "a number of a false length": b"\x8b\xff\xff\xff\x7f.",
    "a long number in text": b"L" + b"9" * 10**6 + b"L\n.",
    "text of a false length": b"X\xff\xff\xff\x7fabc.",
    "bytes of a false length": b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "a registered extension": b"\x80\x02\x82\x01.",
    "something outside": b"U\x01aQ.",
    "text of no character": shaped(
        b"(K\x01t", dtype(b"U2", b"I3\nU\x01<NNNI8\nI4\nI0\n"), b"U\x08a\x00\x00\x00\x00\x00\x11\x00"
    ),
    "a slice without a step": b"cbuiltins\nslice\n(NNK\x00tR.",
    "a slice of floats": b"cbuiltins\nslice\n(F0.5\nNNtR.",
    "a buffer outside": b"\x80\x05\x97.",
    "a newer protocol": b"\x80\x06N.",
    "a place in the memo that is empty": b"g5\n.",
    "nothing": b"",
    "no end": b"N",
    "an empty stack": b".",
    "an unfinished list": b"(K\x01.",
    "a list in itself": b"]p0\ng0\na.",
    "a state in itself": b"cargparse\nNamespace\n(tRp0\n}U\x01ag0\nsb.",
    "an array in itself": ND + b"p0\n(I1\n(K\x01t" + dtype(b"O8", b"I3\nU\x01|NNNI-1\nI-1\nI63\n") + b"I0\n]g0\natb.",
    "a thousand levels": b"]" * 1000 + b"a" * 999 + b".",
    "tuples as keys": b"}" + b"(" * 5 + b"N" + b"t" * 5 + b"Ns.",
    "keys whose hashes take an exponential time": b"}N" + b"2\x86" * 60 + b"Ns.",
    "members whose hashes take an exponential time": b"\x80\x04\x8f(N" + b"2\x86" * 60 + b"\x90.",
    "a key that is a number of one's choice": b"}" + b"\x8a\x09" + (2**61 - 1).to_bytes(9, "little") + b"Ns.",
    "an array as key": b"}" + ND + b"Ns.",
    "a key without value": b"}(U\x01au.",
    "what a memo unfolds into lists": b"]" + b"".join(b"p%d\n0](g%d\ng%d\ne" % (i, i, i) for i in range(40)) + b".",
    "what a memo unfolds into tuples": b"N" + b"2\x86" * 60 + b".",
    "what a memo unfolds into arrays": b"T" + struct.pack("<I", 8 * 10**5) + b"\0" * 8 * 10**5 + b"p0\n0](" + 200 * (
        ND + b"(I1\n(J" + struct.pack("<i", 10**5) + b"t" + F8 + b"I0\ng0\ntb") + b"e.",
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_attempts_end_in_our_error_at_once(tmp_path: Path, name: str) -> None:
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    path.write_bytes(ATTACKS[name])
    before, started = time.monotonic(), tracemalloc.is_tracing()
    assert not started
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"SMPL_NEUTRAL\.pkl"):
            load_pickle(path)
        assert tracemalloc.get_traced_memory()[1] < 300 * 2**20
    finally:
        tracemalloc.stop()
    assert time.monotonic() - before < 10


def test_a_plain_array_written_by_hand_is_read_so_that_the_attempts_are_near_misses(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(shaped(b"(K\x01t"))
    np.testing.assert_array_equal(load_pickle(path), np.frombuffer(b"abcdefgh"))


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_both_names_of_numpys_inner_package_are_read_and_neither_imported(
    tmp_path: Path, core: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(shaped(b"(K\x01t").replace(b"numpy.core", core.encode()))

    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("called")

    monkeypatch.setattr(np._core.multiarray, "_reconstruct", never)
    monkeypatch.setattr(np._core.multiarray, "scalar", never)
    monkeypatch.setattr(pickle, "Unpickler", never)
    monkeypatch.setattr(pickle, "_Unpickler", never)
    np.testing.assert_array_equal(load_pickle(path), np.frombuffer(b"abcdefgh"))


def test_every_byte_flipped_or_cut_is_read_or_refused(tmp_path: Path) -> None:
    whole = pickle.dumps({"a": np.arange(3.0), "s": sparse.csc_matrix(np.eye(2)), "o": np.array([None], object)}, 2)
    path, refused = tmp_path / "x.pkl", 0
    for place in range(len(whole)):
        flipped = [whole[:place] + bytes([whole[place] ^ bits]) + whole[place + 1 :] for bits in (1, 0x55)]
        for damaged in (whole[:place], *flipped):
            path.write_bytes(damaged)
            try:
                read = load_pickle(path)
                for value in read.values() if isinstance(read, dict) else [read]:
                    plain(value)
            except DataError:
                refused += 1
    assert refused > len(whole)


@pytest.mark.parametrize(
    "change",
    [{"shape": (2**30, 2**30)}, {"shape": (-1, 2)}, {"indptr": np.array([0, 1, 9])}, {"indptr": np.array([0, 2, 1])},
     {"indices": np.array([0, 99])}, {"indices": np.array([-1, 0])}, {"data": np.ones(1)}, {"data": "text"},
     {"shape": (8, 2, 2)}],
)  # fmt: skip
def test_sparse_matrices_whose_parts_do_not_fit_are_refused(change: dict[str, Any]) -> None:
    good = {"_shape": (2, 2), "data": np.ones(2), "indices": np.array([0, 1]), "indptr": np.array([0, 1, 2])}
    np.testing.assert_array_equal(SparseMatrix("csr", good).array(), np.eye(2))
    state = {**good, **{("_shape" if key == "shape" else key): value for key, value in change.items()}}
    with pytest.raises(DataError, match=r"sparse matrix|impossible shape"):
        SparseMatrix("csr", state).array()


@pytest.mark.parametrize(
    "value", ["1.5", ["1.5"], [[1], [2, 3]], [None], {"a": 1}, [10**30], np.array(["a"]), b"1", [[[[]], 1]], object()]
)
def test_what_are_no_numbers_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match="heights"):
        array_of(value, "heights", np.float64, "file")


def test_numbers_of_any_layout_are_taken() -> None:
    np.testing.assert_array_equal(array_of([np.ones(2), [3, np.float32(4)]], "x"), [[1, 1], [3, 4]])
    assert whole_number(np.array([120.0]), "rate", "f") == whole_number([120], "rate", "f") == 120
    with pytest.raises(DataError, match="is no whole number"):
        whole_number(1.5, "rate", "f")
    for wrong in ([1, 2], [[1], [2, 3]], "12", None, {}, 10**400, np.array(["1"]), np.array([1, 2])):
        with pytest.raises(DataError, match=r"rate (is|must be)"):
            whole_number(wrong, "rate", "f")
    assert text_of(np.bytes_(b"m"), "gender") == text_of(b"m", "gender") == text_of(np.array(["m"]), "gender") == "m"
