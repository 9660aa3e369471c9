"""What was written by the first version loads, and is gone on with; what a newer one writes is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from posegen.errors import DataError
from posegen.experiment.run_folders import RUN_FILE, is_run
from posegen.experiment.run_record import FORMAT, read_record
from posegen.experiment.stages import RunFolder
from posegen.renderer.field.artifact import load_field_file
from posegen.shards import Plan, ShardWriter, read_shards
from posegen.tracking.report.gallery import Gallery
from posegen.tracking.report.run_directory import Missing, RunDirectory
from posegen.tracking.store.publish import run_key

FROZEN = Path(__file__).parents[1] / "data" / "format1"


@pytest.fixture
def old(tmp_path) -> Path:
    return Path(shutil.copytree(FROZEN / "run", tmp_path / "run"))


def test_the_first_versions_run_is_read_whole(old):
    run = RunDirectory(old)
    assert run.arms == ["before", "random", "posegen"] and run.name == "run"
    assert run.results["posegen"]["ski-like"].ids[0] == "ski-like/00000" and len(run.results["before"]) == 4
    assert [len(rows) for rows in run.histories("finetune").values()] == [5, 5]
    assert {arm: len(values) for arm, values in run.births().items()} == {"random": 4, "posegen": 4}
    assert isinstance(run.gallery, Gallery) and not isinstance(run.samples("random"), Missing)
    assert run.config["seed"] == 0 and run.damaged == []


def test_the_first_versions_run_is_gone_on_with_under_its_old_key(old):
    assert is_run(old) and read_record(old) is None and run_key(old) == "run"
    run = RunFolder(old)
    assert run.is_done("dataset/random", "0123456789ab") and not run.is_done("evaluate", "a")
    assert read_record(old) is not None and run_key(old) == "run"
    assert json.loads((old / RUN_FILE).read_text())["format"] == FORMAT


def test_the_first_versions_shards_are_read_and_kept_on_resume(old):
    shards = read_shards(old / "dataset" / "random")
    assert shards.table().num_rows == 4
    shards.verify()
    writer = ShardWriter(old / "dataset" / "random", Plan(rows=4, rows_per_shard=8))
    assert writer.missing() == []
    writer.close()
    assert read_shards(old / "dataset" / "random").table().num_rows == 4


def test_the_first_versions_field_is_read():
    field = load_field_file(FROZEN / "field.npz")
    assert field.subjects == ("capsules_0",) or list(field.subjects) == ["capsules_0"]
    assert torch.isfinite(field.table).all() if hasattr(field, "table") else True


def test_a_result_of_a_newer_format_is_refused_by_name(old):
    import pyarrow.parquet as pq

    from posegen.benchmarks.measure.result import BenchmarkResult

    path = old / "evaluation" / "before" / "ski-like.parquet"
    table = pq.read_table(path)
    header = json.loads(table.schema.metadata[b"posegen"])
    header["format"] = "posegen-benchmark-result-2"
    pq.write_table(table.replace_schema_metadata({"posegen": json.dumps(header)}), path)
    with pytest.raises(DataError, match="format posegen-benchmark-result-2, this version of posegen reads"):
        BenchmarkResult.load(path)


@pytest.mark.parametrize("kept", [0, 0.3, 0.99])
def test_a_result_cut_short_is_named(old, kept):
    from posegen.benchmarks.measure.result import BenchmarkResult

    path = old / "evaluation" / "before" / "ski-like.parquet"
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(DataError, match="cannot read a benchmark result"):
        BenchmarkResult.load(path)
