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
from posegen.shards.schema import check_version
from posegen.shards.table import table_to_tensors
from posegen.shards.writer import Plan, ShardEntry, missing_ids, part_ids, read_manifest


def _damaged(what: str, folder: Folder, name: str, command: str) -> DataError:
    return DataError(
        what,
        where=folder.where(name),
        next_command=f"{command}  # renders only the rows of this shard again; the others are kept",
    )


def read_shard(
    folder: Folder, name: str, columns: Sequence[str] | None = None, command: str = "posegen run"
) -> pa.Table:
    """The rows of one shard. DataError names the file and the command that makes it again."""
    try:
        with folder.input(name) as source:
            table = pq.read_table(source, columns=None if columns is None else list(columns))
    except FileNotFoundError as error:
        raise _damaged("shard is missing", folder, name, command) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(f"shard is damaged or cut short: {error}", folder, name, command) from error
    check_version(table.schema, folder.where(name))
    ids = part_ids(name)
    if ids is not None and table.num_rows != len(ids):
        raise _damaged(f"shard holds {table.num_rows} rows, its name says {len(ids)}", folder, name, command)
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
        with self.folder.input(self.entries[0].file) as source:
            return pq.read_schema(source)

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """One table a shard, in order of the row ids."""
        for entry in self.entries:
            yield read_shard(self.folder, entry.file, columns, self.plan.command)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows at once."""
        if not self.entries:
            raise DataError("the dataset holds no shard", where=self.folder, next_command=self.plan.command)
        return pa.concat_tables(self.tables(columns))

    def batches(self, rows: int, columns: Sequence[str] | None = None) -> Iterator[dict[str, Tensor]]:
        """Tensors of `rows` rows each (the last may have fewer), in order of the row ids."""
        rest: pa.Table | None = None
        for shard in self.tables(columns):
            table = shard if rest is None else pa.concat_tables([rest, shard])
            whole = table.num_rows - table.num_rows % rows
            for start in range(0, whole, rows):
                yield table_to_tensors(table.slice(start, rows))
            rest = table.slice(whole) if whole < table.num_rows else None
        if rest is not None:
            yield table_to_tensors(rest)

    def verify(self) -> None:
        """Reads every byte: DataError for the first shard whose content is not what the manifest promises."""
        import hashlib

        for entry in self.entries:
            if hashlib.sha256(self.folder.read(entry.file)).hexdigest() != entry.sha256:
                raise _damaged("shard's content has changed", self.folder, entry.file, self.plan.command)


def read_shards(directory: str | Path | Folder) -> Shards:
    """Opens a dataset. DataError when a shard of the manifest is missing or has another size than it should."""
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
