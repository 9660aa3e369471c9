"""Whether a shard is what was written, to the last bit, and holds what its schema promises.

A shard carries a digest of itself: SHA-256 of the whole file, in which the digest's own 64 letters read as zeros. It is
kept in the Parquet footer's metadata, so one file is enough to know, also where a kill came before the manifest.
"""

from __future__ import annotations

import hashlib
import math
import re

import numpy as np
import pyarrow as pa

from posegen.errors import DataError
from posegen.files.parquet_footer import read_footer
from posegen.shards.schema import ENCODING_KEY, ENCODINGS, LABELS, tensor_type

DIGEST_KEY = b"posegen.sha256"
BLANK = b"0" * 64
# In the footer (Thrift's compact protocol): the key, then the value with its field header and length.
_PLACE = re.compile(re.escape(DIGEST_KEY) + rb"\x18\x40([0-9a-f]{64})")
# What pyarrow raises for a file that is not as it should be.
UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError)
MOST_SIDE_PX = 8192
MOST_ROWS = 1_000_000  # of one shard
_SLACK = 64 * 2**20


class DamagedError(DataError):
    """A shard that can be made again: cut short, altered, or with other columns than it should have."""


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def seal(data: pa.Buffer | bytes) -> bytes:
    """A Parquet file whose metadata has DIGEST_KEY: BLANK, with its digest in that place."""
    view = bytearray(data)
    places = list(_PLACE.finditer(view))
    if len(places) != 1 or places[0][1] != BLANK:
        raise DataError("the shard has no place for its digest")
    digest = hashlib.sha256(view).hexdigest()
    start = places[0].start(1)
    del places  # they hold the buffer
    view[start : start + 64] = digest.encode()
    return bytes(view)


def sealed_digest(data: memoryview | bytes) -> bool | None:
    """Whether a file's own digest is right; None where it has none."""
    footer = max(0, len(data) - 2**20)  # the metadata is in the file's last bytes
    places = list(_PLACE.finditer(data, footer))
    if not places:
        return None
    if len(places) > 1:
        return False
    start = places[0].start(1)
    digest = hashlib.sha256(data[:start])
    digest.update(BLANK)
    digest.update(data[start + 64 :])
    return digest.hexdigest().encode() == places[0][1]


def problem_of_bytes(data: memoryview | bytes, sha256: str | None = None, *, must: bool = False) -> str | None:
    """Why a file is not what was written, or None.

    Args:
        sha256: what the manifest says of it.
        must: whether a file without any digest counts as damaged.
    """
    own = sealed_digest(data)
    if own is False:
        return "its content is not what was written"
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        return "its content is not what the manifest says"
    if own is None and sha256 is None and must:
        return "it has no digest (written by an older version, or damaged)"
    return None


def problem_of_schema(found: pa.Schema, columns: list[str] | None = None) -> str | None:
    """Why a table is none of generated rows, or None.

    Args:
        columns: the table holds these alone; None: all.
    """
    expected = {"image", *LABELS} if columns is None else set(columns)
    names = found.names
    if len(set(names)) != len(names):
        return "two columns have one name"
    if missing := sorted(expected - set(names)):
        return f"it lacks the column {', '.join(missing)}"
    if strange := sorted(set(names) - {"image", *LABELS}):
        return f"it has columns that are none of ours: {', '.join(strange)[:200]}"
    for name in names:
        kind = found.field(name).type
        if name != "image" and kind != tensor_type(*LABELS[name]):
            return f"column {name} has type {kind}, not {tensor_type(*LABELS[name])}"
    return _problem_of_image(found) if "image" in names else None


def _problem_of_image(found: pa.Schema) -> str | None:
    kind = found.field("image").type
    stored = (found.metadata or {}).get(ENCODING_KEY)
    if stored is not None and stored not in [encoding.encode() for encoding in ENCODINGS]:
        return f"its images have an unknown encoding {stored[:40]!r}"
    raw = isinstance(kind, pa.FixedShapeTensorType)
    if stored is not None and raw != (stored == b"raw"):
        return f"its images are said to be {stored.decode()}, and have type {kind}"
    if not raw:
        return None if pa.types.is_binary(kind) else f"column image has type {kind}"
    shape = list(kind.shape)
    if kind.value_type != pa.uint8() or len(shape) != 3 or shape[0] != 3 or not 0 < max(shape[1:]) <= MOST_SIDE_PX:
        return f"its images have type {kind}, not uint8 (3,H,W) of at most {MOST_SIDE_PX} px"
    return None


def row_bytes(found: pa.Schema) -> int | None:
    """What one row takes in memory; None where images are encoded."""
    kind = found.field("image").type if "image" in found.names else None
    if kind is not None and not isinstance(kind, pa.FixedShapeTensorType):
        return None
    labels = sum(value.bit_width // 8 * math.prod(shape) for value, shape in LABELS.values() if value != pa.string())
    return labels + 64 + (math.prod(kind.shape) if kind is not None else 0)


def problem_of_footer(data: memoryview | bytes, found: pa.Schema) -> str | None:
    """Why the sizes that a file's footer declares are not believed, or None: asked before anything is allocated."""
    try:
        footer = read_footer(data)
    except ValueError as error:
        return str(error)
    if footer.rows > MOST_ROWS:
        return f"it declares {footer.rows} rows"
    one = row_bytes(found)
    most = (8 * len(data) if one is None else 2 * one * footer.rows) + _SLACK
    if footer.unpacked_bytes > most:
        return f"it declares {footer.unpacked_bytes // 2**20} MB for {footer.rows} rows"
    return None


def problem_of_values(table: pa.Table, ids: range | None) -> str | None:
    """Why a table's labels cannot be trained on, or None.

    Args:
        ids: the row ids that it should hold, in order.
    """
    for name in table.column_names:
        column = table.column(name)
        if column.null_count:
            return f"column {name} has {column.null_count} empty cells"
        kind = column.type
        value = kind.value_type if isinstance(kind, pa.FixedShapeTensorType) else kind
        if not pa.types.is_floating(value):
            continue
        numbers = np.concatenate([_flat(chunk) for chunk in column.chunks]) if column.num_chunks else np.zeros(0)
        bad = np.isinf(numbers) if name == "error_at_birth_mm" else ~np.isfinite(numbers)  # NaN: not measured
        if bad.any():
            row = int(np.flatnonzero(bad)[0]) // max(1, len(numbers) // max(1, table.num_rows))
            return f"column {name} holds a value that is not finite (row {row})"
    if ids is None or "row_id" not in table.column_names:
        return None
    same = np.array_equal(table.column("row_id").to_numpy(), np.arange(ids.start, ids.stop))
    return None if same else "its row ids are not those of its name"


def _flat(chunk: pa.Array) -> np.ndarray:
    storage = chunk.storage.flatten() if isinstance(chunk.type, pa.BaseExtensionType) else chunk
    return storage.to_numpy(zero_copy_only=False)
