"""The pictures of an atlas: their geometry and facts in memory, the pixels on disk until they are shown.

Dimensions: N pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from posegen.atlas.facts import FactTable, Labels
from posegen.atlas.picture_facts import light_facts, view_facts
from posegen.atlas.pose_facts import Numbers, pose_facts
from posegen.errors import DataError
from posegen.shards.folder import Folder
from posegen.shards.reader import read_shard, read_shards
from posegen.shards.table import table_to_tensors

# Columns that are read of every row, beside the picture.
COLUMNS = (
    "row_id", "pose", "camera_R", "camera_t", "focal", "centre", "joints2d_px", "joints3d_cam_m", "subject", "light",
    "background",
)  # fmt: skip
KindOf = Callable[[NDArray[np.int64]], Labels]  # seeds of backgrounds (N,) -> their kinds (N,)


@dataclass(frozen=True)
class Sample:
    """N pictures that were rendered from known scenes."""

    source: Labels  # (N,) "pool", "target", or the name of an arm
    row_id: NDArray[np.int64]  # (N,)
    pose: NDArray[np.float32]  # (N,24,3) rad
    joints_cam_m: Numbers  # (N,24,3)
    joints_px: Numbers  # (N,24,2)
    camera_R: Numbers  # (N,3,3)
    focal_px: Numbers  # (N,)
    centre_px: Numbers  # (N,2)
    facts: FactTable

    def __len__(self) -> int:
        return len(self.row_id)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Sample:
        """Some of the rows, by index or mask."""
        return type(self)(**{item.name: _rows(getattr(self, item.name), rows) for item in fields(self)})

    @classmethod
    def joined(cls, parts: Sequence[Sample]) -> Sample:
        columns: dict[str, Any] = {
            item.name: np.concatenate([getattr(part, item.name) for part in parts])
            for item in fields(cls) if item.name != "facts"
        }  # fmt: skip
        return cls(**columns, facts=FactTable.joined([part.facts for part in parts]))


def _rows(column: Any, rows: NDArray) -> Any:
    return column.take(rows) if isinstance(column, FactTable) else column[rows]


def tables_of(folder: Path) -> Iterator[tuple[str, pa.Table]]:
    """The shards of a finished folder, in order of their ids: name and rows."""
    shards = read_shards(folder)
    for entry in shards.entries:
        yield entry.file, read_shard(shards.folder, entry.file, ("image", *COLUMNS), shards.plan.command, entry.sha256)


def sample_of(table: pa.Table, source: str, subjects: Sequence[str], kind_of: KindOf) -> Sample:
    """The rows of one shard.

    Args:
        subjects: names by index; those without one are called by their number.
    """
    column = {name: tensor.numpy() for name, tensor in table_to_tensors(table, ("image", *COLUMNS)).items()}
    images, count = column["image"], table.num_rows
    joints = column["joints3d_cam_m"].astype(np.float64)
    rotation, pixels = column["camera_R"].astype(np.float64), column["joints2d_px"].astype(np.float64)
    world = np.einsum("nij,nki->nkj", rotation, joints - column["camera_t"].astype(np.float64)[:, None])
    numbers = pose_facts(world)
    numbers |= view_facts(joints, rotation, pixels, *images.shape[2:])
    numbers |= light_facts(images, pixels, column["light"], rotation)
    names = [subjects[i] if i < len(subjects) else f"person {i}" for i in column["subject"].tolist()]
    labels = {"subject": np.array(names, np.str_), "background": kind_of(column["background"])}
    return Sample(
        np.full(count, source), column["row_id"].copy(), column["pose"].copy(), joints, pixels, rotation,
        column["focal"].astype(np.float64), column["centre"].astype(np.float64), FactTable(numbers, labels),
    )  # fmt: skip


def pictures_of(folder: Path, row_ids: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
    """row id -> picture (H,W,3) of some rows of a folder; only the shards that hold them are read."""
    shards = read_shards(folder)
    found: dict[int, NDArray[np.uint8]] = {}
    for entry in shards.entries:
        wanted = [row for row in row_ids if row in entry.ids]
        if not wanted:
            continue
        table = read_shard(Folder(folder), entry.file, ("image",), shards.plan.command, entry.sha256)
        for row in wanted:  # `take` is not defined for Arrow's fixed-shape tensors
            image = table_to_tensors(table.slice(row - entry.ids.start, 1), ("image",))["image"][0].numpy()
            found[row] = np.ascontiguousarray(image.transpose(1, 2, 0))
    missing = sorted(set(row_ids) - set(found))
    if missing:
        raise DataError(f"rows {missing[:5]} are not among the pictures", where=folder)
    return found


def all_pictures(sample: Sample, rows: Sequence[int], folders: Mapping[str, Path]) -> dict[int, NDArray[np.uint8]]:
    """index into the sample -> picture (H,W,3)."""
    found: dict[int, NDArray[np.uint8]] = {}
    for source, folder in folders.items():
        own = [row for row in dict.fromkeys(rows) if sample.source[row] == source]
        if own:
            pictures = pictures_of(folder, [int(sample.row_id[row]) for row in own])
            found |= {row: pictures[int(sample.row_id[row])] for row in own}
    return found
