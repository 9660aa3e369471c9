"""What a dataset is to hold and what it holds: the plan, and the manifest of its shards with their sizes and hashes.

Format 2 of the manifest holds a digest of its own content; format 1, without a number, does not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from posegen.errors import DataError
from posegen.files.state import parse_json
from posegen.files.versions import checked_format
from posegen.shards.folder import Folder
from posegen.shards.schema import SCHEMA_VERSION

MANIFEST = "_manifest.json"  # readers of Parquet folders pass over names that begin with an underscore
FORMAT = 2
MOST_ROWS = 1_000_000_000
_MOST_BYTES = 256 * 2**20
_PART = re.compile(r"^part-(\d{8,12})-(\d{8,12})\.parquet$", re.ASCII)
_SHA256 = re.compile(r"^[0-9a-f]{64}$")


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

    def __post_init__(self) -> None:
        ids = part_ids(self.file) if isinstance(self.file, str) else None
        if ids is None or not len(ids):
            raise DataError(f"the manifest names {self.file!r:.80}, which is no shard")
        if not (_is_count(self.first_row_id) and _is_count(self.rows)) or self.ids != ids:
            raise DataError(f"the manifest's rows of {self.file} are not those of its name")
        if not _is_count(self.bytes) or not isinstance(self.sha256, str) or not _SHA256.match(self.sha256):
            raise DataError(f"the manifest's size or hash of {self.file} is none")

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

    def __post_init__(self) -> None:
        for name in ("rows", "rows_per_shard"):
            value = getattr(self, name)
            if not _is_count(value) or not 1 <= value <= MOST_ROWS:
                raise DataError(f"a dataset's {name} must be from 1 to {MOST_ROWS}, got {value!r:.40}")
        for name in ("fingerprint", "command"):
            if not isinstance(getattr(self, name), str):
                raise DataError(f"a dataset's {name} must be a text")

    def shards(self) -> list[range]:
        return [range(k, min(k + self.rows_per_shard, self.rows)) for k in range(0, self.rows, self.rows_per_shard)]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _own_digest(content: dict[str, Any]) -> str:
    told = {key: value for key, value in content.items() if key != "digest"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def encode_manifest(plan: Plan, entries: Sequence[ShardEntry]) -> bytes:
    rows = sum(entry.rows for entry in entries)
    content: dict[str, Any] = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "complete": rows == plan.rows,
        "rows": rows,
        "plan": asdict(plan),
        "shards": [asdict(entry) for entry in entries],
    }
    return json.dumps({**content, "digest": _own_digest(content)}, indent=1).encode()


def read_manifest(folder: Folder) -> tuple[Plan, list[ShardEntry]]:
    """The plan of a dataset and its shards. DataError when the manifest is missing, damaged or of a newer format."""
    cure = f"rm {folder.where(MANIFEST)}  # the next run writes it again from the shards"
    try:
        data = folder.read(MANIFEST, _MOST_BYTES)
    except FileNotFoundError as error:
        raise DataError(f"no {MANIFEST}: not a dataset, or it was never finished", where=folder) from error
    try:
        stored = parse_json(data.decode(), nan=False)
        if not isinstance(stored, dict):
            raise ValueError("it is no JSON object")
        _check_format(stored, folder)
        plan = Plan(**stored["plan"])
        entries = [ShardEntry(**entry) for entry in stored["shards"]]
        starts = {entry.first_row_id for entry in entries}
        if len(starts) != len(entries) or any(entry.ids.stop > plan.rows for entry in entries):
            raise ValueError("its shards overlap, or hold more rows than the plan")
    except DataError as error:
        if isinstance(error, NewerError):
            raise
        raise DataError(f"{MANIFEST} cannot be read: {error.what}", where=folder.where(MANIFEST),
                        next_command=cure) from error  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{MANIFEST} cannot be read: {error}"[:300], where=folder.where(MANIFEST),
                        next_command=cure) from error  # fmt: skip
    return plan, entries


class NewerError(DataError):
    """The manifest is whole, and of a format that this version does not know."""


def _check_format(stored: dict[str, Any], folder: Folder) -> None:
    known = {"schema_version", "complete", "rows", "plan", "shards"}
    version = stored.get("format", 1)
    if _is_count(version) and version > FORMAT:
        again = "render again under another run name"
        checked_format(version, FORMAT, "the dataset's manifest", folder.where(MANIFEST), again, NewerError)
    if version == FORMAT:
        known |= {"format", "digest"}
        if stored.get("digest") != _own_digest(stored):
            raise ValueError("its content is not what was written")
    elif version != 1:
        raise ValueError(f"it has format {version!r:.20}")
    if set(stored) != known:
        raise ValueError(f"its keys are not {', '.join(sorted(known))}")
    if not _is_count(stored["schema_version"]) or not isinstance(stored["shards"], list):
        raise ValueError("its schema_version is no number, or its shards no list")
