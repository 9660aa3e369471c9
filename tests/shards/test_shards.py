"""Shards: what is written is read back, a kill loses nothing complete, damage is named."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from posegen.body.rotations import aa_to_matrix
from posegen.errors import DataError
from posegen.scene import Camera, Light, Scene
from posegen.shards import (
    Folder,
    Plan,
    ShardWriter,
    export_hf,
    export_spin,
    read_shard,
    read_shards,
    rows_to_table,
    schema,
    table_to_scene,
    table_to_tensors,
    write_shard,
)
from posegen.shards.intact import seal
from posegen.shards.writer import complete_parts, part_name

SIDE = 16


def scene_of(ids: torch.Tensor) -> Scene:
    """A scene that is a function of its ids, so that content tells which row it is."""
    rows = len(ids)
    wave = ids[:, None].float()
    quarter_turn = aa_to_matrix(torch.tensor([0.0, np.pi / 2, 0.0])).expand(rows, 3, 3).contiguous()
    return Scene(
        pose=torch.sin(wave[..., None] + torch.arange(72.0).reshape(24, 3)),
        betas=torch.cos(wave + torch.arange(10.0)),
        transl=wave.expand(rows, 3).contiguous(),
        camera=Camera(quarter_turn, wave.repeat(1, 3), 100 + ids.float(), torch.full((rows, 2), 8.0), SIDE, SIDE),
        subject=ids % 3,
        light=Light.default(rows),
        background=ids * 7 - 1,
    )


def table_of(ids, encoding="raw") -> pa.Table:
    ids = torch.as_tensor(list(ids))
    scene = scene_of(ids)
    smooth = torch.arange(SIDE)[:, None] * 4 + torch.arange(SIDE) * 4  # JPEG likes it
    images = ((ids[:, None, None, None] * 3 + smooth) % 256).expand(-1, 3, -1, -1).to(torch.uint8)
    joints = scene.pose + torch.tensor([0.0, 0.0, 4.0])
    return rows_to_table(
        ids, scene, images, joints2d_px=joints[..., :2] * 10, joints3d_cam_m=joints, seed=5, round=1,
        generator_version=9, arm="posegen", error_at_birth_mm=ids.float(), encoding=encoding,
    )  # fmt: skip


def test_tensors_share_memory_with_the_table_and_copies_do_not():
    images = torch.randint(0, 256, (4, 3, SIDE, SIDE), dtype=torch.uint8)
    joints = torch.zeros(4, 24, 3)
    table = rows_to_table(
        np.arange(4), scene_of(torch.arange(4)), images, joints2d_px=joints[..., :2], joints3d_cam_m=joints, seed=0,
        round=0, generator_version=0, arm="a",
    )  # fmt: skip
    assert table_to_tensors(table)["image"].data_ptr() == images.data_ptr()
    copy = table_to_tensors(table, copy=True)["image"]
    assert copy.data_ptr() != images.data_ptr()
    assert torch.equal(copy, images)
    assert torch.isnan(table_to_tensors(table)["error_at_birth_mm"]).all()
    assert torch.equal(table_to_tensors(table.slice(1, 2))["image"], images[1:3])


def test_several_chunks_and_none_become_tensors():
    table = pa.concat_tables([table_of(range(3)), table_of(range(3, 5))])
    assert torch.equal(table_to_tensors(table)["image"], table_to_tensors(table_of(range(5)))["image"])
    empty = table_to_tensors(table.slice(0, 0))
    assert empty["image"].shape == (0, 3, SIDE, SIDE)
    assert table_to_tensors(schema(SIDE, SIDE).empty_table())["pose"].shape == (0, 24, 3)


def test_scene_survives_the_table():
    ids = torch.arange(6)
    back, want = table_to_scene(table_of(ids)), scene_of(ids)
    for name in ("pose", "betas", "transl", "subject", "background"):
        assert torch.equal(getattr(back, name), getattr(want, name)), name
    assert torch.equal(back.camera.R, want.camera.R) and torch.equal(back.camera.focal, want.camera.focal)
    assert torch.equal(back.light.direction, want.light.direction)
    assert (back.camera.height, back.camera.width) == (SIDE, SIDE)


@pytest.mark.parametrize(("encoding", "tolerance"), [("png", 0), ("jpeg", 6)])
def test_encoded_images_come_back(encoding, tolerance):
    raw, stored = table_of(range(4)), table_of(range(4), encoding)
    difference = table_to_tensors(raw)["image"].int() - table_to_tensors(stored)["image"].int()
    assert difference.abs().max() <= tolerance
    assert table_to_scene(stored).camera.width == SIDE


def test_images_of_another_type_are_refused():
    with pytest.raises(DataError, match="uint8"):
        rows_to_table(
            np.arange(1), scene_of(torch.arange(1)), torch.zeros(1, 3, SIDE, SIDE), joints2d_px=torch.zeros(1, 24, 2),
            joints3d_cam_m=torch.zeros(1, 24, 3), seed=0, round=0, generator_version=0, arm="a",
        )  # fmt: skip


def test_plain_pyarrow_opens_a_shard_typed_and_pandas_opens_it(tmp_path: Path):
    entry = write_shard(Folder(tmp_path), table_of(range(8)))
    table = pq.read_table(tmp_path / entry.file)
    assert table.schema.field("image").type == pa.fixed_shape_tensor(pa.uint8(), (3, SIDE, SIDE))
    assert table.schema.field("pose").type == pa.fixed_shape_tensor(pa.float32(), (24, 3))
    assert table.equals(table_of(range(8)))
    frame = pd.read_parquet(tmp_path / entry.file)
    assert list(frame["row_id"]) == list(range(8))
    np.testing.assert_array_equal(
        np.stack(frame["pose"].to_list()).reshape(8, 24, 3), table_to_tensors(table_of(range(8)))["pose"].numpy()
    )


def test_rows_in_any_order_make_complete_shards_and_each_row_is_kept_once(tmp_path: Path):
    plan = Plan(rows=25, rows_per_shard=10)
    writer = ShardWriter(tmp_path, plan)
    assert writer.write(table_of([12, 3, 3, 0, 24])) == []
    done = writer.write(table_of([1, 2, 4, 5, 6, 7, 8, 9, 3]))
    assert [entry.file for entry in done] == [part_name(range(10))]
    assert writer.missing() == [range(10, 12), range(13, 20), range(20, 24)]
    for ids in writer.missing():
        writer.write(table_of(ids))
    writer.close()
    shards = read_shards(tmp_path)
    assert shards.missing == [] and len(shards) == 25
    assert shards.table().equals(table_of(range(25)))
    assert [len(batch["row_id"]) for batch in shards.batches(7)] == [7, 7, 7, 4]
    assert torch.cat([batch["row_id"] for batch in shards.batches(7)]).tolist() == list(range(25))
    shards.verify()


def test_a_restart_knows_what_is_missing_and_never_mixes_configurations(tmp_path: Path):
    plan = Plan(rows=30, rows_per_shard=10, fingerprint="a")

    def interrupted():
        with ShardWriter(tmp_path, plan) as writer:
            writer.write(table_of(range(10, 20)))
            writer.write(table_of(range(5)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    again = ShardWriter(tmp_path, plan)
    assert again.missing() == [range(0, 10), range(20, 30)]
    again.write(table_of(range(15)))  # 10..14 are on disk
    again.close()  # an incomplete shard's rows are kept at a clean end
    assert ShardWriter(tmp_path, plan).missing() == [range(20, 30)]
    with pytest.raises(DataError, match="another configuration"):
        ShardWriter(tmp_path, Plan(rows=30, rows_per_shard=10, fingerprint="b"))


WRITE_FOREVER = """
import sys
sys.path.insert(0, {tests!r})
from test_shards import ShardWriter, Plan, table_of
with ShardWriter({folder!r}, Plan(rows=100000, rows_per_shard=10)) as writer:
    for ids in writer.missing():
        writer.write(table_of(ids))
"""


def test_kill_while_writing_leaves_complete_shards_only(tmp_path: Path):
    code = WRITE_FOREVER.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    child = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("part-*"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    child.kill()
    child.wait()
    (tmp_path / ".part-00099990-00100000.parquet.deadbeef.tmp").write_bytes(b"half")  # as a kill may leave it
    parts = complete_parts(Folder(tmp_path))
    assert len(parts) >= 5
    for name, ids in parts.items():
        assert pq.read_table(tmp_path / name).equals(table_of(ids))
    done = [i for ids in parts.values() for i in ids]
    writer = ShardWriter(tmp_path, Plan(rows=max(done) + 11, rows_per_shard=10))
    assert not list(tmp_path.glob(".*.tmp"))
    for ids in writer.missing():
        writer.write(table_of(ids))
    writer.close()
    assert read_shards(tmp_path).table(["row_id"])["row_id"].to_pylist() == list(range(max(done) + 11))


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_a_shard_cut_short_is_named_and_only_it_is_made_again(tmp_path: Path, kept: float):
    plan = Plan(rows=30, rows_per_shard=10, command="posegen run seed=3")
    with ShardWriter(tmp_path, plan) as writer:
        writer.write(table_of(range(30)))
    victim = tmp_path / part_name(range(10, 20))
    victim.write_bytes(victim.read_bytes()[: int(kept * victim.stat().st_size)])
    with pytest.raises(DataError, match=r"(?s)cut short.*part-00000010-00000020.*posegen run seed=3"):
        read_shards(tmp_path)
    again = ShardWriter(tmp_path, plan)
    assert again.missing() == [range(10, 20)]
    again.write(table_of(range(10, 20)))
    again.close()
    assert read_shards(tmp_path).table().equals(table_of(range(30)))


def test_changed_bytes_and_missing_files_are_noticed(tmp_path: Path):
    with ShardWriter(tmp_path, Plan(rows=20, rows_per_shard=10)) as writer:
        writer.write(table_of(range(20)))
    victim = tmp_path / part_name(range(10, 20))
    data = bytearray(victim.read_bytes())
    data[200] ^= 255
    victim.write_bytes(data)
    with pytest.raises(DataError, match="content is not what was written"):
        read_shards(tmp_path).verify()
    victim.unlink()
    with pytest.raises(DataError, match=r"(?s)missing.*part-00000010"):
        read_shards(tmp_path)
    with pytest.raises(DataError, match="no _manifest"):
        read_shards(tmp_path / "nowhere")


def test_another_schema_version_is_refused(tmp_path: Path):
    with ShardWriter(tmp_path, Plan(rows=4)) as writer:
        writer.write(table_of(range(4)))
    name = next(iter(complete_parts(Folder(tmp_path))))
    table = pq.read_table(tmp_path / name)
    changed = {b"posegen.schema_version": b"99", b"posegen.sha256": b"0" * 64}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, **changed}), sink)
    (tmp_path / name).write_bytes(seal(sink.getvalue()))
    (tmp_path / "_manifest.json").unlink()
    with pytest.raises(DataError, match="schema version 99"):
        ShardWriter(tmp_path, Plan(rows=4))  # whole, so it is not thrown away
    assert (tmp_path / name).is_file()
    with pytest.raises(DataError, match="schema version 99"):
        read_shard(Folder(tmp_path), name)


def test_a_full_disk_is_a_clear_error_and_keeps_what_is_complete(tmp_path: Path, monkeypatch):
    plan = Plan(rows=20, rows_per_shard=10)
    writer = ShardWriter(tmp_path, plan)
    writer.write(table_of(range(10)))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(DataError, match=r"(?s)disk is full.*df -h"):
            writer.write(table_of(range(10, 20)))
    assert sorted(file.name for file in tmp_path.iterdir()) == [part_name(range(10))]
    assert ShardWriter(tmp_path, plan).missing() == [range(10, 20)]


def test_manifest_is_plain_json_with_hashes(tmp_path: Path):
    with ShardWriter(tmp_path, Plan(rows=20, rows_per_shard=10, fingerprint="f")) as writer:
        writer.write(table_of(range(10)))
    manifest = json.loads((tmp_path / "_manifest.json").read_text())
    assert manifest["complete"] is False and manifest["rows"] == 10
    assert manifest["plan"]["fingerprint"] == "f"
    assert manifest["shards"][0]["bytes"] == (tmp_path / manifest["shards"][0]["file"]).stat().st_size


def test_shards_behind_an_fsspec_url():
    folder = Folder("memory://posegen-shards")
    with ShardWriter(folder, Plan(rows=20, rows_per_shard=10)) as writer:
        writer.write(table_of(range(20)))
    assert read_shards("memory://posegen-shards").table().equals(table_of(range(20)))


def test_spin_export_has_spins_conventions(tmp_path: Path):
    from PIL import Image

    with ShardWriter(tmp_path / "d", Plan(rows=6, rows_per_shard=4)) as writer:
        writer.write(table_of(range(6)))
    stored = np.load(export_spin(read_shards(tmp_path / "d"), tmp_path / "spin"))
    row = table_to_tensors(table_of(range(6)))
    assert stored["pose"].shape == (6, 72) and stored["shape"].shape == (6, 10) and stored["gender"].shape == (6,)
    # the camera of these scenes is a quarter turn: SPIN's global orient is in the camera's frame
    want = row["camera_R"] @ aa_to_matrix(row["pose"][:, 0])
    torch.testing.assert_close(aa_to_matrix(torch.from_numpy(stored["pose"][:, :3])), want, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(stored["pose"][:, 3:], row["pose"][:, 1:].flatten(1).numpy())
    # joint 5 of SPIN's 24 is the left ankle, SMPL's joint 7
    np.testing.assert_array_equal(stored["part"][:, 5, :2], row["joints2d_px"][:, 7].numpy())
    np.testing.assert_allclose(
        stored["S"][:, 5, :3], (row["joints3d_cam_m"][:, 7] - row["joints3d_cam_m"][:, 0]).numpy()
    )
    assert stored["S"][:, 19, 3].sum() == 0  # SMPL has no nose: confidence 0
    width = (row["joints2d_px"].amax(1) - row["joints2d_px"].amin(1)).amax(-1)
    np.testing.assert_allclose(stored["scale"], 1.2 * width / 200, rtol=1e-6)
    with Image.open(tmp_path / "spin" / str(stored["imgname"][4])) as picture:
        np.testing.assert_array_equal(np.asarray(picture).transpose(2, 0, 1), row["image"][4].numpy())


def test_hf_export_holds_png_structs_and_the_features(tmp_path: Path):
    import io

    from PIL import Image

    with ShardWriter(tmp_path / "d", Plan(rows=6, rows_per_shard=4)) as writer:
        writer.write(table_of(range(6)))
    paths = export_hf(read_shards(tmp_path / "d"), tmp_path / "hf")
    assert [path.name for path in paths] == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    table = pq.read_table(paths[0])
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"} and set(features) == set(table.column_names)
    row = table_to_tensors(table_of(range(6)))
    np.testing.assert_array_equal(np.array(table["pose"][2].as_py(), np.float32), row["pose"][2].numpy())
    with Image.open(io.BytesIO(table["image"][2].as_py()["bytes"])) as picture:
        np.testing.assert_array_equal(np.asarray(picture).transpose(2, 0, 1), row["image"][2].numpy())
