"""Reads a folder of shards lazily, and says which file is damaged and how to make just that one again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from posegen.errors import DataError
from posegen.shards.folder import Folder
from posegen.shards.intact import (
    UNREADABLE,
    DamagedError,
    first_line,
    problem_of_bytes,
    problem_of_footer,
    problem_of_schema,
    problem_of_values,
)
from posegen.shards.manifest import Plan, ShardEntry, part_ids, read_manifest
from posegen.shards.schema import check_version
from posegen.shards.table import table_to_tensors
from posegen.shards.writer import check_part, missing_ids


def _damaged(what: str, folder: Folder, name: str, command: str) -> DamagedError:
    return DamagedError(
        what,
        where=folder.where(name),
        next_command=f"{command}  # renders only the rows of this shard again; the others are kept",
    )


def read_shard(
    folder: Folder,
    name: str,
    columns: Sequence[str] | None = None,
    command: str = "posegen run",
    sha256: str | None = None,
) -> pa.Table:
    """The rows of one shard, after every byte and label was looked at. DataError names the file and the command that
    makes it again.

    Args:
        columns: those that are decoded; None: all.
        sha256: what the manifest says of the file.
    """
    ids = part_ids(name)
    wanted = None if columns is None else list(columns)
    try:
        with folder.input(name) as source:
            data = source.read_buffer()
            problem = problem_of_bytes(memoryview(data), sha256)
            if problem:
                raise _damaged(f"shard is damaged or cut short: {problem}", folder, name, command)
            file = pq.ParquetFile(pa.BufferReader(data))
            check_version(file.schema_arrow, folder.where(name))
            problem = problem_of_schema(file.schema_arrow) or problem_of_footer(memoryview(data), file.schema_arrow)
            if problem:
                raise _damaged(f"shard cannot be used: {problem}", folder, name, command)
            table = file.read(columns=wanted)
            table.validate()
    except FileNotFoundError as error:
        raise _damaged("shard is missing", folder, name, command) from error
    except UNREADABLE as error:
        raise _damaged(f"shard is damaged or cut short: {first_line(error)}", folder, name, command) from error
    if ids is not None and table.num_rows != len(ids):
        raise _damaged(f"shard holds {table.num_rows} rows, its name says {len(ids)}", folder, name, command)
    if problem := problem_of_values(table, ids):
        raise _damaged(f"shard cannot be used: {problem}", folder, name, command)
    return table


@dataclass(frozen=True)
class Shards:
    """A dataset on disk: nothing but the manifest is in memory until rows are asked for."""

    folder: Folder
    plan: Plan
    entries: tuple[ShardEntry, ...]

    def __len__(self) -> int:
        return sum(entry.rows for entry in self.entries)

    @cached_property
    def missing(self) -> list[range]:
        """Ranges of row ids that the plan asks for and no shard holds."""
        return missing_ids(self.plan, {entry.file: entry.ids for entry in self.entries})

    @cached_property
    def schema(self) -> pa.Schema:
        if not self.entries:
            raise DataError("the dataset holds no shard", where=self.folder, next_command=self.plan.command)
        entry = self.entries[0]
        check_part(self.folder, entry.file, sha256=entry.sha256)
        with self.folder.input(entry.file) as source:
            return pq.read_schema(source)

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """One table a shard, in order of the row ids."""
        for entry in self.entries:
            yield read_shard(self.folder, entry.file, columns, self.plan.command, entry.sha256)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows at once."""
        if not self.entries:
            raise DataError("the dataset holds no shard", where=self.folder, next_command=self.plan.command)
        return self._joined(list(self.tables(columns)))

    def _joined(self, tables: list[pa.Table]) -> pa.Table:
        try:
            return pa.concat_tables(tables)
        except pa.ArrowException as error:
            raise DataError(
                f"the dataset's shards differ in their columns: {first_line(error)}", where=self.folder,
                next_command=f"rm -r {self.folder} && {self.plan.command}",
            ) from error  # fmt: skip

    def batches(self, rows: int, columns: Sequence[str] | None = None) -> Iterator[dict[str, Tensor]]:
        """Tensors of `rows` rows each (the last may have fewer), in order of the row ids."""
        rest: pa.Table | None = None
        for shard in self.tables(columns):
            table = shard if rest is None else self._joined([rest, shard])
            whole = table.num_rows - table.num_rows % rows
            for start in range(0, whole, rows):
                yield table_to_tensors(table.slice(start, rows))
            rest = table.slice(whole) if whole < table.num_rows else None
        if rest is not None:
            yield table_to_tensors(rest)

    def verify(self) -> None:
        """Reads every byte: DataError for the first shard whose content is not what the manifest promises."""
        for entry in self.entries:
            read_shard(self.folder, entry.file, ("row_id",), self.plan.command, entry.sha256)


def read_shards(directory: str | Path | Folder) -> Shards:
    """Opens a dataset. DataError when a shard of the manifest is missing or has another size than it should.

    Example (`folder` is `outputs/RUN/dataset/ARM`):
        >>> from posegen import read_shards
        >>> rows = read_shards(folder)
        >>> len(rows)
        24
        >>> batch = next(rows.batches(8))
        >>> batch["image"].shape, batch["joints2d_px"].shape
        (torch.Size([8, 3, 96, 96]), torch.Size([8, 24, 2]))
    """
    folder = directory if isinstance(directory, Folder) else Folder(directory)
    plan, entries = read_manifest(folder)
    sizes = folder.sizes()
    for entry in entries:
        if entry.file not in sizes:
            raise _damaged("shard is missing", folder, entry.file, plan.command)
        if sizes[entry.file] != entry.bytes:
            raise _damaged(
                f"shard is damaged or cut short: {sizes[entry.file]} bytes, the manifest says {entry.bytes}",
                folder,
                entry.file,
                plan.command,
            )
    return Shards(folder, plan, tuple(entries))
