"""Damage of a shard or a manifest, wherever it is: found when a run resumes, and told where rows are read."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from test_shards import table_of

from posegen.errors import DataError
from posegen.shards import Folder, Plan, ShardWriter, read_shard, read_shards, write_shard
from posegen.shards.intact import BLANK, DIGEST_KEY, problem_of_schema, seal, sealed_digest
from posegen.shards.manifest import MANIFEST, encode_manifest, part_name, read_manifest

PLAN = Plan(rows=8, rows_per_shard=4, fingerprint="f", command="posegen run seed=3")
VICTIM = part_name(range(4, 8))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with ShardWriter(folder, PLAN) as writer:
        writer.write(table_of(range(8)))
    return folder


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "d"))


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def places(data: bytes) -> list[int]:
    """Bits in every region: each byte of both ends, of the digest and of what is round it, and a comb over the rest."""
    start = data.index(DIGEST_KEY)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    near = [*range(32), *range(start - 8, start + 96), *range(len(data) - 32, len(data))]
    comb = [*range(0, footer, 61), *range(footer, len(data), 17)]
    return [8 * byte + byte % 8 for byte in sorted({*near, *comb})]


@pytest.mark.parametrize("manifest", [True, False])
def test_every_flipped_bit_of_a_shard_is_found_on_resume(copy, manifest, caplog):
    caplog.set_level(logging.ERROR)
    good = (copy / VICTIM).read_bytes()
    if not manifest:  # a kill came before it was written: the shard's own digest alone decides
        (copy / MANIFEST).unlink()
    tried = places(good)
    assert len(tried) > 500
    for bit in tried:
        (copy / VICTIM).write_bytes(flipped(good, bit))
        assert ShardWriter(copy, PLAN).missing() == [range(4, 8)], f"bit {bit} was not seen"
        assert not (copy / VICTIM).exists()
    (copy / VICTIM).write_bytes(good)
    assert ShardWriter(copy, PLAN).missing() == []


def test_every_flipped_bit_of_a_manifest_is_found_and_no_row_is_lost(copy, caplog):
    caplog.set_level(logging.ERROR)
    good = (copy / MANIFEST).read_bytes()
    want = read_manifest(Folder(copy))
    for bit in range(0, 8 * len(good), 3):
        (copy / MANIFEST).write_bytes(flipped(good, bit))
        try:
            assert read_manifest(Folder(copy)) == want, f"bit {bit} changed the plan in silence"
        except DataError:
            if bit % 150 == 0:
                with ShardWriter(copy, PLAN) as writer:
                    assert writer.missing() == []
                assert read_manifest(Folder(copy)) == want


def test_what_is_made_again_is_told(copy, caplog):
    (copy / VICTIM).write_bytes(flipped((copy / VICTIM).read_bytes(), 8000))
    with caplog.at_level(logging.WARNING):
        ShardWriter(copy, PLAN)
    assert VICTIM in caplog.text and "its rows will be made again" in caplog.text


def test_a_flip_is_told_where_rows_are_read_with_file_and_cure(copy):
    good = (copy / VICTIM).read_bytes()
    for bit in places(good)[::9]:
        (copy / VICTIM).write_bytes(flipped(good, bit))
        with pytest.raises(DataError) as told:
            read_shards(copy).table()
        assert VICTIM in str(told.value) and "posegen run seed=3  # renders only" in str(told.value)


def rewritten(folder: Path, table: pa.Table, name: str = VICTIM) -> None:
    """Another table under a shard's name, with a right digest and no manifest."""
    sink = pa.BufferOutputStream()
    metadata = {**(table.schema.metadata or {}), b"posegen.fingerprint": b"f", DIGEST_KEY: BLANK}
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    (folder / name).write_bytes(seal(sink.getvalue()))
    (folder / MANIFEST).unlink(missing_ok=True)


def with_column(table: pa.Table, name: str, array: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, array)


WRONG = {
    "it lacks the column pose": lambda t: t.drop_columns(["pose"]),
    "none of ours: extra": lambda t: t.append_column("extra", pa.array(range(4))),
    "column focal has type double, not float": lambda t: with_column(t, "focal", pa.array([1.0] * 4, pa.float64())),
    "column pose has type": lambda t: with_column(
        t, "pose", pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((4, 23, 3), np.float32))
    ),
    "its images are said to be raw": lambda t: with_column(t, "image", pa.array([b"x"] * 4)),
    "not uint8": lambda t: with_column(
        t, "image", pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((4, 3, 8, 8), np.float32))
    ),
}


@pytest.mark.parametrize("said", WRONG)
def test_a_whole_shard_of_another_schema_is_made_again_and_never_read(copy, said):
    rewritten(copy, WRONG[said](table_of(range(4, 8))))
    with pytest.raises(DataError, match=said):
        read_shard(Folder(copy), VICTIM)
    assert ShardWriter(copy, PLAN).missing() == [range(4, 8)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["focal", "light", "joints3d_cam_m"])
def test_labels_that_are_not_finite_are_neither_written_nor_read(copy, name, value):
    table = table_of(range(4, 8))
    column = table.column(name).combine_chunks()
    tensor = isinstance(column.type, pa.FixedShapeTensorType)
    values = np.array(column.to_numpy_ndarray() if tensor else column.to_numpy(), np.float32)
    values[2] = value
    array = pa.FixedShapeTensorArray.from_numpy_ndarray(values) if tensor else pa.array(values)
    bad = with_column(table, name, array)
    with pytest.raises(DataError, match=rf"column {name} holds a value that is not finite \(row 2\)"):
        write_shard(Folder(copy), bad)
    rewritten(copy, bad)
    with pytest.raises(DataError, match=rf"column {name} holds a value that is not finite \(row 2\)"):
        read_shard(Folder(copy), VICTIM)


def test_empty_cells_other_ids_and_other_counts_are_refused(copy):
    table = table_of(range(4, 8))
    rewritten(copy, with_column(table, "focal", pa.array([1.0, None, 2.0, 3.0], pa.float32())))
    with pytest.raises(DataError, match="column focal has 1 empty cells"):
        read_shard(Folder(copy), VICTIM)
    rewritten(copy, table_of(range(0, 4)))
    with pytest.raises(DataError, match="row ids are not those of its name"):
        read_shard(Folder(copy), VICTIM)
    rewritten(copy, table_of(range(4, 7)))
    with pytest.raises(DataError, match="holds 3 rows, its name says 4"):
        read_shard(Folder(copy), VICTIM)
    assert ShardWriter(copy, PLAN).missing() == [range(4, 8)]


def test_a_bomb_is_refused_before_it_is_unpacked(copy):
    table = table_of(range(4, 8), "png")
    rewritten(copy, with_column(table, "image", pa.array([bytes(40 * 2**20 - i) for i in range(4)])))
    assert (copy / VICTIM).stat().st_size < 2**20
    with pytest.raises(DataError, match=r"it declares .* MB for 4 rows"):
        read_shard(Folder(copy), VICTIM)


def test_not_measured_is_no_damage(copy):
    table = table_of(range(4, 8))
    rewritten(copy, with_column(table, "error_at_birth_mm", pa.array([float("nan")] * 4, pa.float32())))
    assert np.isnan(read_shard(Folder(copy), VICTIM)["error_at_birth_mm"].to_numpy()).all()


def test_a_shard_without_a_digest_is_read_and_not_trusted_on_resume(copy):
    pq.write_table(
        table_of(range(4, 8)).replace_schema_metadata(
            {**table_of([4]).schema.metadata, b"posegen.fingerprint": b"f"}
        ), copy / VICTIM,
    )  # fmt: skip
    (copy / MANIFEST).unlink()
    assert sealed_digest((copy / VICTIM).read_bytes()) is None
    assert read_shard(Folder(copy), VICTIM).num_rows == 4
    assert ShardWriter(copy, PLAN).missing() == [range(4, 8)]


def test_a_manifest_of_a_newer_format_is_refused_by_name_and_kept(copy):
    stored = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps({**stored, "format": 3, "novel": True}))
    for act in (lambda: read_shards(copy), lambda: ShardWriter(copy, PLAN)):
        with pytest.raises(DataError, match=r"format 3; this version of posegen .* reads up to 2"):
            act()
    assert (copy / MANIFEST).is_file()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"file": "../../etc/passwd"}, "which is no shard"),
        ({"rows": 10**15}, "are not those of its name"),
        ({"bytes": -1}, "size or hash"),
        ({"sha256": "x"}, "size or hash"),
        ({"more": 1}, "unexpected keyword"),
    ],
)
def test_a_manifest_is_not_believed_what_cannot_be(copy, change, said):
    stored = json.loads((copy / MANIFEST).read_text())
    entry = {**stored["shards"][0], **change}
    old = {key: stored[key] for key in ("schema_version", "complete", "rows", "plan")}
    (copy / MANIFEST).write_text(json.dumps({**old, "shards": [entry]}))
    with pytest.raises(DataError, match=said):
        read_manifest(Folder(copy))


@pytest.mark.parametrize("plan", [{"rows": 10**12}, {"rows": 0}, {"rows_per_shard": 0}, {"rows": 2.5}, {"command": 3}])
def test_a_plan_is_bounded(plan):
    with pytest.raises(DataError):
        Plan(**{"rows": 4, **plan})


def test_the_manifest_says_its_own_digest(whole):
    plan, entries = read_manifest(Folder(whole))
    assert (whole / MANIFEST).read_bytes() == encode_manifest(plan, entries)
    assert plan.command == "posegen run seed=3"


def test_our_own_tables_are_of_our_schema():
    for encoding in ("raw", "png", "jpeg"):
        assert problem_of_schema(table_of(range(2), encoding).schema) is None
    assert torch.equal(torch.tensor(table_of([3])["row_id"].to_pylist()), torch.tensor([3]))
