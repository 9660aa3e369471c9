"""Parquet shards with a manifest: written atomically, resumable, every row once.

A shard holds the rows of one range of ids and its name says which: `part-00000256-00000512.parquet` has 256..511.
A file is renamed into place only when complete, so what a kill leaves is a set of complete ranges, and a restart
needs the folder's listing alone to know which rows are missing. The manifest adds sizes, hashes and the command that
makes missing or damaged shards again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from posegen.errors import DataError
from posegen.shards.folder import Folder
from posegen.shards.schema import SCHEMA_VERSION, VERSION_KEY

logger = logging.getLogger(__name__)

MANIFEST = "_manifest.json"  # readers of Parquet folders pass over names that begin with an underscore
FINGERPRINT_KEY = b"posegen.fingerprint"
_PART = re.compile(r"^part-(\d+)-(\d+)\.parquet$")


def part_name(ids: range) -> str:
    return f"part-{ids.start:08d}-{ids.stop:08d}.parquet"


def part_ids(name: str) -> range | None:
    """The row ids a file holds, by its name; None for files that are no shards."""
    match = _PART.match(name)
    return range(int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True)
class ShardEntry:
    """One shard in the manifest."""

    file: str
    first_row_id: int
    rows: int
    bytes: int
    sha256: str

    @property
    def ids(self) -> range:
        return range(self.first_row_id, self.first_row_id + self.rows)


@dataclass(frozen=True)
class Plan:
    """What a dataset is to hold, the same before and after a restart.

    Args:
        rows: row ids 0..rows-1 make the dataset.
        rows_per_shard: ids k*n..(k+1)*n-1 make shard k.
        fingerprint: names the configuration the rows come from; rows of another one are never mixed in.
        command: what a user types to render missing rows again.
    """

    rows: int
    rows_per_shard: int = 256
    fingerprint: str = ""
    command: str = "posegen run"

    def shards(self) -> list[range]:
        return [range(k, min(k + self.rows_per_shard, self.rows)) for k in range(0, self.rows, self.rows_per_shard)]


def encode_shard(table: pa.Table, fingerprint: str, compression: str = "zstd") -> tuple[pa.Buffer, range]:
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
    metadata = {VERSION_KEY: str(SCHEMA_VERSION).encode(), **(table.schema.metadata or {})}
    metadata[FINGERPRINT_KEY] = fingerprint.encode()
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression=compression, compression_level=1)
    return sink.getvalue(), range(first, first + len(ids))


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
    return ShardEntry(name, ids.start, len(ids), data.size, hashlib.sha256(data).hexdigest())


def check_part(folder: Folder, name: str, plan_fingerprint: str | None = None) -> pq.FileMetaData:
    """Reads a shard's footer: DataError when the file is cut short, or holds other rows than it should."""
    ids = part_ids(name)
    try:
        with folder.input(name) as source:
            footer = pq.read_metadata(source)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"shard is damaged or cut short: {error}", where=folder.where(name)) from error
    if ids is not None and footer.num_rows != len(ids):
        raise DataError(f"shard holds {footer.num_rows} rows, its name says {len(ids)}", where=folder.where(name))
    stored = (footer.metadata or {}).get(FINGERPRINT_KEY, b"").decode()
    if plan_fingerprint is not None and stored != plan_fingerprint:
        raise DataError(
            f"the folder holds rows of another configuration ({stored or 'unnamed'}, not {plan_fingerprint})",
            where=folder.where(name),
            next_command=f"rm -r {folder}  # or choose another run name",
        )
    return footer


def complete_parts(folder: Folder, fingerprint: str | None = None, drop_damaged: bool = False) -> dict[str, range]:
    """The shards that are whole, in order of their rows. Damaged ones raise, or are removed to be made again.

    Rows of another configuration always raise: removing them is for the user to decide.
    """
    sizes = folder.sizes()
    known = {entry.file: entry for entry in read_manifest(folder)[1]} if MANIFEST in sizes else {}
    parts: dict[str, range] = {}
    for name in sorted(sizes):
        ids = part_ids(name)
        if ids is None:
            continue
        try:
            check_part(folder, name)
            if name in known and known[name].bytes != sizes[name]:
                raise DataError(
                    f"shard has {sizes[name]} bytes, the manifest says {known[name].bytes}", where=folder.where(name)
                )
        except DataError as error:
            if not drop_damaged:
                raise
            logger.warning("%s; it will be made again", error.what)
            folder.remove(name)
            continue
        check_part(folder, name, fingerprint)
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


def read_manifest(folder: Folder) -> tuple[Plan, list[ShardEntry]]:
    """The plan of a dataset and its shards. DataError when the manifest is missing or unreadable."""
    try:
        stored = json.loads(folder.read(MANIFEST))
        plan = Plan(**stored["plan"])
        return plan, [ShardEntry(**entry) for entry in stored["shards"]]
    except FileNotFoundError as error:
        raise DataError(f"no {MANIFEST}: not a dataset, or it was never finished", where=folder) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{MANIFEST} cannot be read: {error}",
            where=folder.where(MANIFEST),
            next_command=f"rm {folder.where(MANIFEST)}  # the next run writes it again from the shards",
        ) from error


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
    rows = sum(entry.rows for entry in entries)
    folder.write_json(
        MANIFEST,
        {
            "schema_version": SCHEMA_VERSION,
            "complete": rows == plan.rows,
            "rows": rows,
            "plan": asdict(plan),
            "shards": [asdict(entry) for entry in entries],
        },
    )
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
