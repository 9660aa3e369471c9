"""Rendering as a stream: every row once, in order, in bounded memory, and nothing rendered twice."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pyarrow as pa
import pytest
import torch
from toy_render import toy_factory, toy_rows

from posegen.engine.failures import explain
from posegen.engine.stream import native_tensor_context, render_dataset, render_to_disk
from posegen.errors import ConfigError, DataError, EngineError
from posegen.experiment.rendering import BlockRenderer, Rendering, finish_folder, prepare_folder
from posegen.shards import read_shards, table_to_tensors
from posegen.shards.writer import part_name


def blocks_of(stage: Rendering):
    return render_dataset(stage).iter_batches(batch_size=None, batch_format="pyarrow")


def spilled_mb() -> int:
    import ray
    from ray._private.internal_api import memory_summary

    text = memory_summary(address=ray.get_runtime_context().gcs_address, stats_only=True)
    found = re.search(r"Spilled (\d+) MiB", text)
    return int(found.group(1)) if found else 0


def test_a_stage_asks_for_no_more_than_its_renderers(ray_cluster):
    """Half a CPU is free: a hidden task of one CPU, as ray.data.from_arrow starts, would wait for ever."""
    import ray

    @ray.remote(num_cpus=3.5)
    class Others:
        def ready(self):
            return True

    others = Others.remote()
    assert ray.get(others.ready.remote())
    try:
        stage = Rendering(toy_factory, {}, rows=8, rows_per_block=4, num_cpus=0.5)
        assert sum(table.num_rows for table in blocks_of(stage)) == 8
    finally:
        ray.kill(others)


def test_there_are_no_more_renderers_than_blocks(ray_cluster):
    """Ray Data warns of actors that can never have anything to do."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stage = Rendering(toy_factory, {}, rows=8, rows_per_block=8, actors=2, num_cpus=0.5)
        assert sum(table.num_rows for table in blocks_of(stage)) == 8


def test_rays_private_switch_to_arrow_native_tensors_is_where_we_look_for_it():
    context = native_tensor_context()
    assert context.arrow_fixed_shape_tensor_format.name == "ARROW_NATIVE"
    from ray.data import DataContext

    assert DataContext.get_current().arrow_fixed_shape_tensor_format.name != "ARROW_NATIVE"  # ours alone


def test_rows_come_once_in_order_typed_and_reach_torch_without_a_copy(ray_cluster):
    stage = Rendering(toy_factory, {}, rows=100, rows_per_block=16, actors=2)
    tables = list(blocks_of(stage))
    assert [table.num_rows for table in tables] == [16] * 6 + [4]
    assert np.concatenate([table["row_id"].to_numpy() for table in tables]).tolist() == list(range(100))
    assert tables[0].schema.field("image").type == pa.fixed_shape_tensor(pa.uint8(), (3, 16, 16))
    assert pa.concat_tables(tables).equals(toy_rows(range(100)))
    chunk = tables[3]["image"].chunk(0)
    tensor = table_to_tensors(tables[3])["image"]
    address = chunk.storage.values.buffers()[1].address + chunk.offset * 3 * 16 * 16
    assert tensor.data_ptr() == address
    assert torch.equal(tensor[:, 0, 0, 0], torch.arange(48, 64, dtype=torch.uint8))


def test_more_than_the_object_store_goes_through_it_and_nothing_spills(ray_cluster):
    """600 MB through a 300 MB store, by a slow reader; each row once."""
    import time

    before = spilled_mb()
    rows = 5376
    seen = []
    for index, table in enumerate(blocks_of(Rendering(toy_factory, {"side": 192}, rows, 128, actors=1))):
        seen.append(table["row_id"].to_numpy().copy())  # a view would pin the whole block in the store
        time.sleep(0.05 if index < 20 else 0)
    assert rows * 3 * 192 * 192 > 1.8 * 300 * 2**20
    assert np.concatenate(seen).tolist() == list(range(rows))
    assert spilled_mb() == before


@pytest.mark.slow
def test_several_times_the_object_store_with_two_renderers(ray_cluster):
    before = spilled_mb()
    rows = 16384
    seen = np.concatenate(
        [
            table["row_id"].to_numpy().copy()
            for table in blocks_of(Rendering(toy_factory, {"side": 192}, rows, 128, actors=2))
        ]
    )
    assert rows * 3 * 192 * 192 > 5 * 300 * 2**20
    assert seen.tolist() == list(range(rows))
    assert spilled_mb() == before


def test_a_killed_renderer_and_a_second_pass_render_each_block_once(ray_cluster, tmp_path):
    config = {"log": str(tmp_path / "log"), "kill_once": str(tmp_path / "killed"), "kill_at": 64}
    stage = Rendering(toy_factory, config, rows=128, rows_per_block=16, folder=tmp_path / "d", fingerprint="f")
    steps: list[int] = []
    assert render_to_disk(stage, steps.append) == {"rows": 128, "rendered": 128}
    assert (tmp_path / "killed").exists() and steps == list(range(16, 129, 16))
    starts = sorted(int(file.name.split("-")[0]) for file in (tmp_path / "log").iterdir())
    assert starts == list(range(0, 128, 16))  # blocks before the kill were read from disk, not made again
    shards = read_shards(tmp_path / "d")
    assert shards.table().equals(toy_rows(range(128)))
    victim = tmp_path / "d" / part_name(range(32, 48))
    victim.write_bytes(victim.read_bytes()[:1000])
    assert render_to_disk(stage) == {"rows": 128, "rendered": 16}
    assert len(list((tmp_path / "log").iterdir())) == 9
    assert read_shards(tmp_path / "d").table().equals(toy_rows(range(128)))
    with pytest.raises(DataError, match="another configuration"):
        prepare_folder(Rendering(toy_factory, {}, rows=128, folder=tmp_path / "d", fingerprint="g"))


def test_blocks_on_disk_of_other_sizes_are_used_and_only_the_gaps_rendered(tmp_path):
    first = Rendering(toy_factory, {"log": str(tmp_path / "log")}, rows=30, rows_per_block=10, folder=tmp_path / "d")
    BlockRenderer(first)(range(10, 20))
    second = Rendering(toy_factory, {"log": str(tmp_path / "log")}, rows=30, rows_per_block=15, folder=tmp_path / "d")
    renderer = BlockRenderer(second)
    for ids in second.plan.shards():
        assert renderer(ids).equals(toy_rows(ids))
    starts = sorted(int(file.name.split("-")[0]) for file in (tmp_path / "log").iterdir())
    assert starts == [0, 10, 20]  # 0..9 and 20..29 were missing
    assert finish_folder(second) == 30
    assert read_shards(tmp_path / "d").table().equals(toy_rows(range(30)))


def test_a_block_too_large_for_the_store_and_bad_sizes_are_told():
    stage = Rendering(toy_factory, {"side": 64}, rows=64, rows_per_block=64)
    with pytest.raises(EngineError, match=r"(?s)object store is too small: a block of 64 rows.*rows_per_block"):
        BlockRenderer(stage, store_bytes=2**20)(range(64))
    with pytest.raises(ConfigError, match="rows_per_block must be at least 1"):
        Rendering(toy_factory, {}, rows=1, rows_per_block=0)


def broken_factory(config):
    raise DataError("no such field file", where="field.npz", next_command="posegen fit-subject")


def test_an_error_in_a_renderer_reaches_the_user_as_it_was(ray_cluster):
    with pytest.raises(Exception) as caught:
        list(blocks_of(Rendering(broken_factory, {}, rows=4)))
    error = explain(caught.value, "rendering")
    assert isinstance(error, DataError) and error.next_command == "posegen fit-subject"
