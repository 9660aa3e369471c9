"""Parquet shards with a manifest: written atomically, resumable, every row once.

A shard holds the rows of one range of ids and its name says which: `part-00000256-00000512.parquet` has 256..511.
A file is renamed into place only when complete, so what a kill leaves is a set of complete ranges. A restart reads
every byte of them: what is not as it was written is made again. The manifest (see manifest.py) adds sizes, hashes and
the command that makes missing or damaged shards again.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from posegen.errors import DataError
from posegen.shards.folder import Folder
from posegen.shards.intact import (
    BLANK,
    DIGEST_KEY,
    UNREADABLE,
    DamagedError,
    first_line,
    problem_of_bytes,
    problem_of_footer,
    problem_of_schema,
    problem_of_values,
    seal,
)
from posegen.shards.manifest import (
    MANIFEST,
    NewerError,
    Plan,
    ShardEntry,
    encode_manifest,
    part_ids,
    part_name,
    read_manifest,
)
from posegen.shards.schema import SCHEMA_VERSION, VERSION_KEY, check_version

logger = logging.getLogger(__name__)

FINGERPRINT_KEY = b"posegen.fingerprint"


def encode_shard(table: pa.Table, fingerprint: str, compression: str = "zstd") -> tuple[bytes, range]:
    """A Parquet file in memory, and the ids it holds. The ids must be one range without gaps, in any order.

    Images stay dictionary-encoded: Parquet has no 8-bit type, and a dictionary of 256 values is what keeps a pixel at
    one byte.
    """
    ids = table.column("row_id").to_numpy()
    if len(ids) == 0:
        raise DataError("a shard cannot be empty")
    order = np.argsort(ids, kind="stable")
    first = int(ids[order[0]])
    if not np.array_equal(ids[order], np.arange(first, first + len(ids))):
        raise DataError(f"the ids of a shard must be one range without gaps or repeats, got {ids[order][:8]} ...")
    if not np.array_equal(order, np.arange(len(ids))):
        table = take_rows(table, order)
    if problem := problem_of_values(table, None):
        raise DataError(f"rendered rows cannot be kept: {problem}", where=f"rows {first} to {first + len(ids) - 1}")
    metadata = {VERSION_KEY: str(SCHEMA_VERSION).encode(), **(table.schema.metadata or {})}
    metadata[FINGERPRINT_KEY] = fingerprint.encode()
    metadata[DIGEST_KEY] = BLANK
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression=compression, compression_level=1)
    return seal(sink.getvalue()), range(first, first + len(ids))


def take_rows(table: pa.Table, indices: np.ndarray) -> pa.Table:
    """Rows by position. Arrow's `take` does not know tensor columns, so it works on their storage."""
    columns = []
    for column in table.combine_chunks().columns:
        array = column.chunk(0)
        if isinstance(array.type, pa.BaseExtensionType):
            storage = pc.take(array.storage, pa.array(indices))
            columns.append(pa.ExtensionArray.from_storage(array.type, storage))
        else:
            columns.append(pc.take(array, pa.array(indices)))
    return pa.Table.from_arrays(columns, schema=table.schema)


def write_shard(folder: Folder, table: pa.Table, fingerprint: str = "", compression: str = "zstd") -> ShardEntry:
    """Writes one shard. Writing the same rows again replaces the file by an equal one, so a retry does no harm."""
    data, ids = encode_shard(table, fingerprint, compression)
    name = part_name(ids)
    folder.write(name, data)
    return ShardEntry(name, ids.start, len(ids), len(data), hashlib.sha256(data).hexdigest())


def check_part(
    folder: Folder, name: str, plan_fingerprint: str | None = None, sha256: str | None = None, must: bool = False
) -> None:
    """Reads every byte of a shard.

    Args:
        plan_fingerprint: of the rows that belong here; None: any.
        sha256: what the manifest says of the file.
        must: whether a shard without any digest counts as damaged.

    Raises:
        DamagedError: it is not what was written, cut short, or holds other columns or rows than it should.
        DataError: it is whole, and of another configuration or a newer schema.
    """
    ids = part_ids(name)
    where = folder.where(name)
    try:
        with folder.input(name) as source:
            data = source.read_buffer()
            if problem := problem_of_bytes(memoryview(data), sha256, must=must):
                raise DamagedError(f"shard is damaged or cut short: {problem}", where=where)
            file = pq.ParquetFile(pa.BufferReader(data))
            footer, found = file.metadata, file.schema_arrow
            unbelievable = problem_of_footer(memoryview(data), found)
    except UNREADABLE as error:
        raise DamagedError(f"shard is damaged or cut short: {first_line(error)}", where=where) from error
    check_version(found, where)
    problem = problem_of_schema(found) or unbelievable
    if problem:
        raise DamagedError(f"shard cannot be used: {problem}", where=where)
    if ids is not None and footer.num_rows != len(ids):
        raise DamagedError(f"shard holds {footer.num_rows} rows, its name says {len(ids)}", where=where)
    stored = (footer.metadata or {}).get(FINGERPRINT_KEY, b"").decode(errors="replace")
    if plan_fingerprint is not None and stored != plan_fingerprint:
        raise DataError(
            f"the folder holds rows of another configuration ({stored or 'unnamed'}, not {plan_fingerprint})",
            where=where,
            next_command=f"rm -r {folder}  # or choose another run name",
        )


def complete_parts(folder: Folder, fingerprint: str | None = None, drop_damaged: bool = False) -> dict[str, range]:
    """The shards that are whole to the last bit, in order of their rows. Damaged ones raise, or are removed to be made
    again, with a word. So is the manifest.

    Rows of another configuration always raise: removing them is for the user to decide.
    """
    sizes = folder.sizes()
    known: dict[str, ShardEntry] = {}
    if MANIFEST in sizes:
        try:
            known = {entry.file: entry for entry in read_manifest(folder)[1]}
        except DataError as error:
            if not drop_damaged or isinstance(error, NewerError):
                raise
            logger.warning("%s (%s); it will be written again", error.what, folder)
            folder.remove(MANIFEST)
    parts: dict[str, range] = {}
    for name in sorted(sizes):
        ids = part_ids(name)
        if ids is None:
            continue
        entry = known.get(name)
        try:
            if entry is not None and entry.bytes != sizes[name]:
                raise DamagedError(
                    f"shard is damaged or cut short: {sizes[name]} bytes, the manifest says {entry.bytes}",
                    where=folder.where(name),
                )
            check_part(folder, name, fingerprint, None if entry is None else entry.sha256, must=drop_damaged)
        except DamagedError as error:
            if not drop_damaged:
                raise
            logger.warning("%s: %s; its rows will be made again", name, error.what)
            folder.remove(name)
            continue
        parts[name] = ids
    return dict(sorted(parts.items(), key=lambda item: item[1].start))


def missing_ids(plan: Plan, parts: dict[str, range]) -> list[range]:
    """The row ids that no shard holds, as ranges that do not cross a shard's border."""
    have = np.zeros(plan.rows, bool)
    for ids in parts.values():
        have[ids.start : ids.stop] = True
    gaps: list[range] = []
    for shard in plan.shards():
        edges = np.flatnonzero(np.diff(np.concatenate([[1], have[shard.start : shard.stop].astype(int), [1]])))
        gaps += [range(shard.start + int(a), shard.start + int(b)) for a, b in zip(edges[::2], edges[1::2])]
    return gaps


def write_manifest(folder: Folder, plan: Plan) -> list[ShardEntry]:
    """Brings the manifest up to date with the shards on disk. Only shards it does not know yet are hashed."""
    sizes = folder.sizes()
    known: dict[str, ShardEntry] = {}
    if MANIFEST in sizes:
        known = {entry.file: entry for entry in read_manifest(folder)[1]}
    entries = []
    for name in sorted((n for n in sizes if part_ids(n)), key=lambda n: part_ids(n).start):  # type: ignore[union-attr]
        ids = part_ids(name)
        assert ids is not None
        check_part(folder, name, plan.fingerprint)
        entry = known.get(name)
        if entry is None or entry.bytes != sizes[name]:  # new, or made again since
            digest = hashlib.sha256(folder.read(name)).hexdigest()
            entry = ShardEntry(name, ids.start, len(ids), sizes[name], digest)
        entries.append(entry)
    folder.write(MANIFEST, encode_manifest(plan, entries))
    return entries


class ShardWriter:
    """Collects rows in any order and writes each shard when its last row has come.

    Rows that are on disk already, or came twice, are ignored: a row is its id. Use as a context manager: a clean end
    also writes what incomplete shards hold, so that nothing rendered is lost; an error leaves the complete ones.

        with ShardWriter(folder, Plan(rows=1000)) as writer:
            for ids in writer.missing():
                writer.write(render(ids))
    """

    def __init__(self, directory: str | Path | Folder, plan: Plan, compression: str = "zstd") -> None:
        self.folder = directory if isinstance(directory, Folder) else Folder(directory)
        self.plan = plan
        self.compression = compression
        self.folder.clean()
        self.parts = complete_parts(self.folder, plan.fingerprint, drop_damaged=True)
        self._seen = np.zeros(plan.rows, bool)
        for ids in self.parts.values():
            self._seen[ids.start : ids.stop] = True
        self._pending: dict[int, list[pa.Table]] = {}

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self.close()

    def missing(self) -> list[range]:
        """Ranges of row ids that are neither on disk nor waiting to be written."""
        return missing_ids(self.plan, {str(i): range(i, i + 1) for i in np.flatnonzero(self._seen)})

    def write(self, table: pa.Table) -> list[ShardEntry]:
        """Takes rows; returns the shards that they completed."""
        ids = table.column("row_id").to_numpy()
        if len(ids) and (ids.min() < 0 or ids.max() >= self.plan.rows):
            raise DataError(f"row id outside 0..{self.plan.rows - 1}: {ids.min()}..{ids.max()}", where=self.folder)
        first_time = np.zeros(len(ids), bool)
        first_time[np.unique(ids, return_index=True)[1]] = True
        keep = np.flatnonzero(first_time & ~self._seen[ids])
        written = []
        for shard in np.unique(ids[keep] // self.plan.rows_per_shard):
            rows = keep[ids[keep] // self.plan.rows_per_shard == shard]
            self._pending.setdefault(int(shard), []).append(take_rows(table, rows))
            self._seen[ids[rows]] = True
            ids_of_shard = self.plan.shards()[int(shard)]
            if self._seen[ids_of_shard.start : ids_of_shard.stop].all():
                written += self._flush(int(shard))
        return written

    def _flush(self, shard: int) -> list[ShardEntry]:
        """Writes the waiting rows of a shard: one file, or one a range when a part of it was on disk before."""
        table = pa.concat_tables(self._pending.pop(shard))
        ids = table.column("row_id").to_numpy()
        order = np.argsort(ids)
        runs = np.split(order, np.flatnonzero(np.diff(ids[order]) != 1) + 1)
        entries = []
        for run in runs:
            entry = write_shard(self.folder, take_rows(table, run), self.plan.fingerprint, self.compression)
            self.parts[entry.file] = entry.ids
            entries.append(entry)
        return entries

    def close(self) -> list[ShardEntry]:
        for shard in sorted(self._pending):
            self._flush(shard)
        return write_manifest(self.folder, self.plan)
