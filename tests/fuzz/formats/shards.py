"""Generated datasets: shards, their manifest, and what a run that goes on makes of damaged ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from posegen.errors import DataError
from posegen.shards import Plan, ShardWriter, read_shards, table_to_scene, table_to_tensors
from posegen.shards.folder import Folder
from posegen.shards.manifest import MANIFEST, _own_digest
from posegen.shards.reader import read_shard
from posegen.tracking.report.run_directory import RunDirectory

from .. import neighbours  # noqa: F401
from ..format import Format, Mutators
from ..raw import RAW
from ..tables import PARQUET
from ..texts import JSON, json_changed

ROWS = 4


def formats() -> list[Format]:
    from synthetic_run import _datasets

    made: dict[str, bytes] = {}

    def dataset(folder: Path) -> Path:
        """dataset/random of a run, small enough to be written thousands of times."""
        if not made:
            _datasets(folder / "run", np.random.default_rng(0), ROWS, ["before", "random"])
            made.update({p.name: p.read_bytes() for p in (folder / "run/dataset/random").iterdir()})
            shutil.rmtree(folder / "run")
        path = folder / "run/dataset/random"
        path.mkdir(parents=True)
        for name, data in made.items():
            (path / name).write_bytes(data)
        return path

    def shard(folder: Path) -> Path:
        return next(dataset(folder).glob("*.parquet"))

    def manifest(folder: Path) -> Path:
        return dataset(folder) / MANIFEST

    sealed = Mutators((), (*JSON.structure, resealed_manifest, resealed_manifest, resealed_manifest))
    return [
        Format("shard.parquet", shard, _shard, PARQUET, RAW, _check_rows, nan=("error_at_birth_mm",), weight=2),
        Format("shard_resumed.parquet", shard, _resumed, PARQUET, RAW, fresh=True, nan=("error_at_birth_mm",)),
        Format("shard_reported.parquet", shard, _reported, PARQUET, RAW, nan=("error_at_birth_mm",), weight=0.5),
        Format("manifest.json", manifest, _dataset, sealed, RAW, nan=("error_at_birth_mm",)),
        Format("manifest_resumed.json", manifest, _resumed, sealed, RAW, fresh=True, nan=("error_at_birth_mm",)),
    ]  # fmt: skip


def resealed_manifest(rng: Any, data: bytes) -> bytes:
    """Another value, and the digest that belongs to it: a manifest that somebody has edited with care."""
    tree = json.loads(json_changed(rng, data))
    return json.dumps({**tree, "digest": _own_digest(tree)}).encode("utf-8", "surrogatepass")


def _shard(path: Path) -> Any:
    table = read_shard(Folder(path.parent), path.name)
    return {**table_to_tensors(table), "scene": table_to_scene(table), "rows": table.num_rows}


def _dataset(path: Path) -> Any:
    shards = read_shards(path.parent)
    shards.verify()
    return list(shards.batches(3))


def _resumed(path: Path) -> Any:
    """A run goes on in the folder: what is damaged is made again, what is kept must be whole."""
    try:
        with ShardWriter(path.parent, Plan(rows=ROWS, rows_per_shard=max(8, ROWS // 2))) as writer:
            missing = writer.missing()
    except DataError as error:
        raise DataError(error.what, where=error.where) from error
    kept = read_shards(path.parent)
    if missing:
        return len(kept)
    assert len(kept) == ROWS, "rows that are neither kept nor missing"
    return kept.table().num_rows


def _reported(path: Path) -> Any:
    """The report reads shards of runs that are at work: what is damaged is named in it."""
    run = RunDirectory(path.parents[2])
    found = run.births(), run.samples("random")
    if run.damaged:
        raise DataError(run.damaged[0], where=path)
    return found


def _check_rows(read: Any) -> None:
    assert read["rows"] == ROWS and read["row_id"].tolist() == list(range(ROWS)), "rows"
    assert tuple(read["pose"].shape) == (ROWS, 24, 3) and read["image"].shape[:2] == (ROWS, 3), "columns"
    assert str(read["image"].dtype) == "torch.uint8", "image"
