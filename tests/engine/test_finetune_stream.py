"""Fine-tuning on rows while they are rendered: fixed order, bounded memory, exact resume."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from toy_loops import RowLoop
from toy_render import toy_factory, toy_rows

from posegen.engine.finetune import run_finetuning
from posegen.engine.history import read_history
from posegen.engine.terms import Place, Reading, Reports
from posegen.errors import DataError
from posegen.experiment.rendering import Rendering
from posegen.finetune.rows import Begun, GeneratedRows, RowStore, fresh_before, rebatched
from posegen.shards import read_shards, table_to_tensors


def blocks(rows=64, size=16):
    return [toy_rows(range(first, first + size)) for first in range(0, rows, size)]


def run_here(config, rows, **options):
    """The same training without Ray."""
    loop = RowLoop(config)
    source = iter(
        GeneratedRows(config, loop=loop, rank=0, world_size=1, rows=rows, tables=lambda: iter(blocks(rows)), **options)
    )
    history = [loop.step(*next(source)) for _ in range(loop.steps)]
    return loop.state_dict(), history


def test_batches_span_tables_and_keep_the_order():
    batches = list(rebatched(iter(blocks(64, 16)), 10))
    want = [list(range(k, min(k + 10, 64))) for k in range(0, 64, 10)]
    assert [batch["row_id"].tolist() for batch in batches] == want
    one = blocks(16, 16)
    view = next(rebatched(iter(one), 8))["image"]
    assert view.data_ptr() == table_to_tensors(one[0])["image"].data_ptr()


def test_fresh_batches_are_spread_evenly_and_all_are_seen():
    due = [fresh_before(step, 100, 10, 0.5) for step in range(101)]
    assert due[0] == 0 and due[1] == 1 and due[50] == 10 and due[100] == 10
    assert max(np.diff(due)) == 1 and np.flatnonzero(np.diff(due)).tolist() == list(range(0, 50, 5))
    assert [fresh_before(step, 4, 10, 1.0) for step in range(5)] == [0, 1, 2, 3, 4]  # fewer steps than batches


def test_kept_rows_are_a_uniform_sample_in_bounded_memory():
    row_bytes = sum(t[0].numel() * t.element_size() for t in table_to_tensors(toy_rows([0])).values())
    counts = np.zeros(200)
    for seed in range(60):
        store = RowStore(capacity_mb=40 * row_bytes / 2**20, rows=200, seed=seed)
        for table in blocks(200, 20):
            store.add(table_to_tensors(table))
        assert store.filled == store.capacity == 40
        ids = store.kept["row_id"].numpy()
        assert len(set(ids)) == 40
        np.testing.assert_array_equal(store.kept["pose"].numpy(), table_to_tensors(toy_rows(ids))["pose"].numpy())
        counts[ids] += 1
    # each row is kept with probability 1/5: 12 of 60 +- 3.1 (one sigma); early and late rows alike
    assert abs(counts[:100].mean() - 12) < 1 and counts.max() < 12 + 5 * 3.1
    small = RowStore(1, rows=20, seed=0)
    small.add(table_to_tensors(toy_rows(range(20))))
    assert sorted(small.draw(20, torch.Generator().manual_seed(0))["row_id"].tolist()) == list(range(20))
    assert len(small.draw(30, torch.Generator().manual_seed(0))["row_id"]) == 30


def test_a_guards_rows_are_the_first_and_are_never_trained_on():
    class Measuring(RowLoop):
        held_out_rows = 12

        def hold_out(self, generated):
            self.held = generated["row_id"].tolist()

    for begun_at in (0, 3):  # anew, and resumed
        loop = Measuring({"steps": 8, "batch": 8})
        loop.step_index = begun_at
        rows = GeneratedRows({}, loop=loop, rank=0, world_size=1, rows=96, seed=0, tables=lambda: iter(blocks(96)))
        seen = []
        source = iter(rows)
        while loop.step_index < 8:
            (batch,) = next(source)
            seen += batch["row_id"].tolist()
            loop.step(batch)
        assert loop.held == list(range(16))  # two batches hold twelve
        assert seen and min(seen) >= 16
    few = GeneratedRows({}, loop=loop, rank=0, world_size=1, rows=24, seed=0, tables=lambda: iter(blocks(24)))
    assert few.held_batches == 0  # too few to spare


def test_the_first_table_is_asked_for_before_anybody_wants_it():
    asked = threading.Event()

    def tables():
        asked.set()
        yield from blocks(48, 16)

    begun = Begun(tables)
    assert asked.wait(10)
    for _ in range(2):  # from its beginning each time
        assert [table.column("row_id")[0].as_py() for table in begun()] == [0, 16, 32]
    assert list(Begun(lambda: iter([]))()) == []

    def failing():
        raise DataError("no rows here")
        yield

    with pytest.raises(DataError, match="no rows here"):
        list(Begun(failing)())


def test_rows_that_fill_no_batch_are_drawn_from_later():
    loop = RowLoop({"steps": 4, "batch": 10})
    rows = GeneratedRows({}, loop=loop, rank=0, world_size=1, rows=64, seed=0, tables=lambda: iter(blocks(64)))
    rows.stream_share = 1.0
    loop.steps = 6
    source = iter(rows)
    for _ in range(6):
        loop.step(*next(source))
    assert rows.store.filled == 64 and rows.taken == 6
    loop.batch_rows = 0
    assert next(iter(rows)) == ({},)


def test_a_loop_resumed_in_the_middle_sees_the_batches_it_would_have_seen():
    config = {"steps": 20, "batch": 8}
    state, history = run_here(config, 64, seed=3)
    loop = RowLoop(config)
    rows = GeneratedRows(config, loop=loop, rank=0, world_size=1, rows=64, seed=3, tables=lambda: iter(blocks()))
    source = iter(rows)
    for _ in range(7):
        loop.step(*next(source))
    resumed = RowLoop(config)
    resumed.load_state_dict(loop.state_dict())
    source = iter(
        GeneratedRows(config, loop=resumed, rank=0, world_size=1, rows=64, seed=3, tables=lambda: iter(blocks()))
    )
    tail = [resumed.step(*next(source)) for _ in range(13)]
    assert tail == history[7:]
    assert torch.equal(resumed.state_dict()["net"]["weight"], state["net"]["weight"])


def test_a_kill_in_the_middle_of_streaming_changes_no_number_and_renders_nothing_twice(ray_cluster, tmp_path):
    config = {"steps": 24, "batch": 8}
    want, history = run_here(config, 96, seed=5, stream_share=1.0)
    stage = Rendering(
        toy_factory, {"log": str(tmp_path / "log"), "sleep": 0.05}, rows=96, rows_per_block=16,
        folder=tmp_path / "dataset", fingerprint="f",
    )  # fmt: skip
    killed = {**config, "kill_once": str(tmp_path / "killed"), "kill_at": 13}
    outcome = run_finetuning(
        killed, stage, Place(tmp_path, "finetune"), reports=Reports(checkpoint_every=6, every=3),
        reading=Reading(seed=5, stream_share=1.0), kind="toy_loops:RowLoop",
    )  # fmt: skip
    assert (tmp_path / "killed").exists() and outcome.restarts == 1
    rows = read_history(outcome.history)
    assert [row["first_row"] for row in rows] == [row["first_row"] for row in history]
    assert torch.equal(outcome.state()["net"]["weight"], want["net"]["weight"])
    assert read_shards(tmp_path / "dataset").table().equals(toy_rows(range(96)))
    assert sorted(int(f.name.split("-")[0]) for f in (tmp_path / "log").iterdir()) == list(range(0, 96, 16))
