"""The data that a run made and was measured on, as MLflow's `Datasets used` shows it: with digest, schema, profile."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posegen.errors import PosegenError

if TYPE_CHECKING:
    from posegen.benchmarks.measure.result import BenchmarkResult

_DIGITS = 32  # of a digest; MLflow takes 36


def record(
    name: str, digest: str, kind: str, source: Mapping[str, Any], schema: Mapping[str, str], profile: Mapping[str, Any]
) -> dict[str, str | None]:
    """A data set as MLflow keeps it.

    Args:
        kind: `generated` or `benchmark`, shown as the kind of its source.
        schema: column -> type, in words.
        profile: figures that tell what is in it.
    """
    columns = [{"type": kind_of, "name": column, "required": True} for column, kind_of in schema.items()]
    return {
        "name": name[:500],
        "digest": digest[:_DIGITS],
        "source_type": f"posegen {kind}",
        "source": json.dumps(dict(source)),
        "schema": json.dumps({"mlflow_colspec": columns}),
        "profile": json.dumps({key: value for key, value in profile.items() if value is not None}),
    }


def generated(name: str, folder: Path, errors_mm: np.ndarray) -> dict[str, str | None] | None:
    """An arm's rows: their digest is of the hashes of all shards. None while there is no manifest.

    Args:
        errors_mm: (N,) the estimator's error on each row when it was made.
    """
    from posegen.shards.folder import Folder
    from posegen.shards.manifest import read_manifest
    from posegen.shards.schema import LABELS

    try:
        plan, shards = read_manifest(Folder(folder))
    except PosegenError:
        return None
    digest = hashlib.sha256("\n".join(f"{shard.file}:{shard.sha256}" for shard in shards).encode()).hexdigest()
    known = errors_mm[np.isfinite(errors_mm)]
    profile = {
        "num_rows": sum(shard.rows for shard in shards),
        "num_shards": len(shards),
        "bytes": sum(shard.bytes for shard in shards),
        "median_error_at_birth_mm": float(np.median(known)) if len(known) else None,
        "worst_10_error_at_birth_mm": float(np.quantile(known, 0.9)) if len(known) else None,
        "made_by": plan.command,
    }
    source = {"uri": folder.resolve().as_uri(), "format": "parquet", "fingerprint": plan.fingerprint}
    schema = {"image": "binary", **{name: _column_type(str(kind), shape) for name, (kind, shape) in LABELS.items()}}
    return record(name, digest, "generated", source, schema, profile)


def benchmark(result: BenchmarkResult) -> dict[str, str | None]:
    """Test images: their digest is of the protocol and of which images there are, in which order."""
    digest = hashlib.sha256("\n".join([result.protocol, *result.ids]).encode()).hexdigest()
    profile = {
        "num_rows": len(result.ids),
        "groups": len(set(result.groups)),
        "joints": len(result.joint_names),
        **{key: value for key, value in result.counted.items() if value},
    }
    schema = {"image": "binary", **{f"{joint}_m": "double" for joint in result.joint_names}}
    source = {"benchmark": result.benchmark, "protocol": result.protocol}
    return record(result.benchmark, digest, "benchmark", source, schema, profile)


def _column_type(arrow: str, shape: tuple[int, ...]) -> str:
    """MLflow's word for a column's type; it has none for tensors."""
    words = {"int64": "long", "int32": "integer", "string": "string", "bool": "boolean", "float": "float"}
    return "binary" if shape else words.get(arrow, "double")
