"""Training, rendering and fine-tuning at the same time: they truly overlap, and no stale row is used.

The order of what happens is made certain by files that one run writes and another waits for, never by sleeping.
"""

from __future__ import annotations

import pytest
from toy_loops import RowLoop
from toy_render import toy_factory

from posegen.engine.finetune import run_finetuning
from posegen.engine.history import read_history
from posegen.engine.online import FreshRenderer, FreshRows, Online
from posegen.engine.overlap import Overlap
from posegen.engine.terms import Place, Reading, Reports
from posegen.engine.train import run_training
from posegen.engine.versions import VersionBoard
from posegen.errors import DataError, EngineError
from posegen.experiment.rendering import Rendering, finish_folder, prepare_folder
from posegen.shards import read_shards

BLOCK = 8  # rows a fine-tuning step uses


def stage_in(folder, rows, **config):
    config["log"] = str(folder / "meet")
    return Rendering(toy_factory, config, rows, BLOCK, folder=folder / "dataset", fingerprint="f")


def overlapped(folder, train_config, finetune_config, rows, max_age):
    """Both toy loops by an Overlap: the overlap and how each training ended."""
    (folder / "meet").mkdir()
    overlap = Overlap(stage_in(folder, rows), max_age)
    common = {"batch": BLOCK, "meet": str(folder / "meet"), "every": 1}
    outcomes = {}

    def train():
        outcomes["train"] = run_training(
            "toy_loops:MeetingGanLoop", common | train_config, Place(folder, "train"),
            reports=Reports(
                checkpoint_every=1, publish=overlap.board.publish_generator, callbacks=[overlap.together.lifeline()]
            ),
        )  # fmt: skip

    def finetune():
        outcomes["finetune"] = run_finetuning(
            common | finetune_config, overlap.online.rendering, Place(folder, "finetune"),
            reports=Reports(checkpoint_every=100, callbacks=[overlap.together.lifeline()]),
            reading=Reading(stream_share=1.0), online=overlap.online, kind="toy_loops:MeetingRowLoop",
        )  # fmt: skip

    overlap.run(train, finetune)
    return overlap, outcomes


def test_training_rendering_and_fine_tuning_overlap_and_no_stale_row_is_used(ray_cluster, tmp_path):
    """Of six versions, the first two steps see version 1 and the third a block that aged in flight to four.

    The training cannot go past its first step before the fine-tuning has made two, and not past its fifth before the
    fine-tuning has made five: without overlap neither would end.
    """
    train = {
        "steps": 6,
        "at": {"train 2": [("wait", "two steps")], "train 6": [("write", "v5"), ("wait", "five steps")]},
    }
    finetune = {
        "steps": 8,
        "at": {
            "finetuned 2": [("wait", "000016-*"), ("write", "two steps"), ("wait", "v5")],  # block 2 is made by then
            "finetuned 5": [("write", "five steps")],
        },
    }
    overlap, outcomes = overlapped(tmp_path, train, finetune, rows=64, max_age=1)
    events = overlap.board.events()
    told = [(event.kind, event.version) for event in events if event.kind != "taken"]
    assert told == [("published", 1), *(("published", v) for v in (2, 3, 4, 5)), ("dropped", 1), ("published", 6),
                    ("ended", 6)]  # fmt: skip
    order = [(event.kind, event.first_row if event.kind == "taken" else event.version) for event in events]
    assert order.index(("taken", 8)) < order.index(("published", 2))  # used while the training was at its first step
    assert order.index(("published", 5)) < order.index(("taken", 16)) < order.index(("published", 6))
    taken = [event for event in events if event.kind == "taken"]
    assert [event.first_row for event in taken] == list(range(0, 64, BLOCK))  # all that was asked for, each once
    assert all(event.newest - event.version <= 1 for event in taken)
    assert overlap.counts() == {"versions": 6, "rows_used": 64, "rows_dropped": 8}
    rows = read_shards(tmp_path / "dataset").table()
    assert rows["row_id"].to_pylist() == list(range(64))
    made_by = {event.first_row: event.version for event in taken}
    assert rows["generator_version"].to_pylist() == [made_by[row // BLOCK * BLOCK] for row in range(64)]
    assert [made_by[first] for first in (0, 8, 16)] == [1, 1, 5]
    history = read_history(outcomes["finetune"].history)
    assert [row["first_row"] for row in history] == list(range(0, 64, BLOCK))
    assert history[-1]["dropped_rows"] == 8 and outcomes["train"].steps == 6


@pytest.mark.slow
def test_a_training_that_fails_ends_the_fine_tuning_with_its_error(ray_cluster, tmp_path):
    train = {"steps": 3, "fail_at": 1, "at": {"train 2": [("wait", "one step")]}}
    finetune = {"steps": 10**6, "at": {"finetuned 1": [("write", "one step")]}}
    with pytest.raises(DataError, match="the shard is cut short"):
        overlapped(tmp_path, train, finetune, rows=BLOCK * 10**5, max_age=10)
    assert list((tmp_path / "dataset").glob("part-*.parquet"))  # what was rendered is kept


def rows_of(online, step_index, steps=8):
    """The versions and ids that a worker at a step of a loop is given, and its counts."""
    loop = RowLoop({"steps": steps, "batch": BLOCK})
    loop.step_index = step_index
    rows = FreshRows(
        {}, online=online, loop=loop, rank=0, world_size=1, rows=online.rendering.rows, seed=0, stream_share=1.0
    )
    source, seen = iter(rows), []
    while loop.step_index < steps:
        (batch,) = next(source)
        seen.append((int(batch["generator_version"][0]), int(batch["row_id"][0])))
        loop.step_index += 1
    return seen, rows


def test_a_resumed_worker_sees_what_it_had_used_and_makes_the_rest_anew(ray_cluster, tmp_path):
    board = VersionBoard()
    online = Online(stage_in(tmp_path, 64), board, max_age=2).started()
    prepare_folder(online.rendering)
    board.publish(1, {"version": 1})
    board.publish(3, {"version": 3})
    board.publish(2, {"version": 2})  # late: changes nothing
    first, rows = rows_of(online, 0)
    assert first == [(3, row) for row in range(0, 64, BLOCK)] and rows.dropped == 0
    board.publish(9, {"version": 9})
    again, rows = rows_of(online, 5)
    assert again == [(9, row) for row in (40, 48, 56)]
    assert rows.store.kept["generator_version"].tolist() == [3] * 40 + [9] * 24  # five steps had used the old ones
    assert rows.metrics()["dropped_rows"] == rows.dropped and rows.newest == 9
    finish_folder(online.rendering)
    on_disk = read_shards(tmp_path / "dataset").table()["generator_version"].to_pylist()
    assert on_disk == [3] * 40 + [9] * 24
    board.fail("no gradient")
    with pytest.raises(EngineError, match="generator's training failed: no gradient"):
        rows_of(online, 0)
    online.close()


def test_a_renderer_reads_rows_that_are_young_enough_and_mends_a_damaged_shard(ray_cluster, tmp_path):
    board = VersionBoard()
    board.publish(4, {"version": 4})
    stage = stage_in(tmp_path, 16)
    renderer = FreshRenderer(stage, board)
    assert renderer.block(range(8), oldest=0)["generator_version"].to_pylist() == [4] * 8
    board.publish(6, {"version": 6})
    assert renderer.block(range(8), oldest=4)["generator_version"].to_pylist() == [4] * 8
    assert renderer.block(range(8), oldest=5)["generator_version"].to_pylist() == [6] * 8
    (shard,) = (tmp_path / "dataset").glob("part-*.parquet")
    shard.write_bytes(shard.read_bytes()[:500])
    assert renderer.block(range(8), oldest=6)["row_id"].to_pylist() == list(range(8))
    made = sorted(file.name.split("-")[0] for file in (tmp_path / "meet").iterdir())
    assert made == ["000000"] * 3
