"""Pictures read by Ray Data are those that threads read, and bad ones are named alike."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from tiny_datasets import make_ski

from posegen.benchmarks.protocol import build
from posegen.engine.frames import by_ray
from posegen.errors import DataError


def test_ray_reads_what_threads_read_and_names_what_is_missing(tmp_path, ray_cluster):
    make_ski(tmp_path)
    benchmark = build("ski_poseptz", annotations=tmp_path, max_bad_share=0.5)
    Path(benchmark.frames()[1].image).unlink()
    by_threads = list(benchmark.batches(2))
    skipped = benchmark.skipped
    benchmark.loader = by_ray
    from_ray = list(benchmark.batches(2))
    assert [batch.ids for batch in from_ray] == [batch.ids for batch in by_threads]
    assert all(torch.equal(a.images, b.images) for a, b in zip(from_ray, by_threads, strict=True))
    assert benchmark.skipped == skipped
    assert skipped.missing == [benchmark.frames()[1].id]


def test_too_many_bad_pictures_end_the_evaluation(tmp_path, ray_cluster):
    make_ski(tmp_path)
    benchmark = build("ski_poseptz", annotations=tmp_path)
    Path(benchmark.frames()[1].image).write_bytes(b"no picture")
    benchmark.loader = by_ray
    with pytest.raises(DataError, match="cannot be used"):
        list(benchmark.batches(2))
