"""The outcome of one evaluation: per image, per joint, per group and in all; saved as one Parquet file."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from posegen.errors import DataError

METRICS = ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "pck_150", "auc")
_FORMAT = "posegen-benchmark-result-1"
_LABELS = ("id", "group", "action", "azimuth_rad", "elevation_rad", "joint_errors_mm")


@dataclass(frozen=True)
class BenchmarkResult:
    """Errors of one estimator on one benchmark; N images, C compared joints."""

    benchmark: str
    protocol: str  # one line that says how the numbers were made
    ids: list[str]
    groups: list[str]  # clip or sequence of each image
    per_image: dict[str, np.ndarray]  # metric -> (N,), NaN where it is not defined
    azimuth: np.ndarray  # (N,) rad, NaN where unknown
    elevation: np.ndarray  # (N,) rad
    metrics: dict[str, float]  # metric -> mean over images
    counted: dict[str, int]  # used, missing, damaged, failed
    estimator: str = ""
    actions: list[str] = field(default_factory=list)
    joint_names: list[str] = field(default_factory=list)
    joint_errors_mm: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))  # (N,C)
    skipped: list[str] = field(default_factory=list)  # names of the missing and damaged frames

    @property
    def per_joint(self) -> dict[str, float]:
        """Mean error of each compared joint, mm."""
        if not self.joint_names:
            return {}
        means = np.nanmean(self.joint_errors_mm, axis=0)
        return {name: float(value) for name, value in zip(self.joint_names, means, strict=True)}

    @property
    def per_group(self) -> dict[str, dict[str, float]]:
        """Means of all metrics by clip or sequence, with the number of images."""
        return self._by(self.groups)

    @property
    def per_action(self) -> dict[str, dict[str, float]]:
        """The same by action, where the data set names actions."""
        return self._by(self.actions) if any(self.actions) else {}

    def _by(self, labels: list[str]) -> dict[str, dict[str, float]]:
        names, inverse = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
        table: dict[str, dict[str, float]] = {str(name): {} for name in names}
        for metric, values in self.per_image.items():
            good = np.isfinite(values)
            count = np.bincount(inverse[good], minlength=len(names))
            total = np.bincount(inverse[good], weights=values[good], minlength=len(names))
            for i, name in enumerate(names):
                table[str(name)][metric] = float(total[i] / count[i]) if count[i] else math.nan
        for name, number in zip(names, np.bincount(inverse, minlength=len(names)), strict=True):
            table[str(name)]["images"] = float(number)
        return table

    def summary(self) -> dict[str, Any]:
        """Everything but the per-image arrays, JSON-serialisable (NaN becomes null)."""
        return _without_nan(
            {
                "benchmark": self.benchmark,
                "estimator": self.estimator,
                "protocol": self.protocol,
                "metrics": self.metrics,
                "counted": self.counted,
                "per_joint_mm": self.per_joint,
                "per_group": self.per_group,
                "per_action": self.per_action,
                "skipped": self.skipped,
            }
        )

    def save(self, path: str | Path) -> Path:
        """Writes one Parquet file: a row an image, the summary in the file's metadata. Returns the path."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        number = len(self.ids)
        columns: dict[str, Any] = {
            "id": pa.array(self.ids, pa.string()),
            "group": pa.array(self.groups, pa.string()),
            "action": pa.array(self.actions or [""] * number, pa.string()),
            "azimuth_rad": pa.array(self.azimuth, pa.float64()),
            "elevation_rad": pa.array(self.elevation, pa.float64()),
        }
        if self.joint_names:
            flat = pa.array(np.ascontiguousarray(self.joint_errors_mm).reshape(-1), pa.float64())
            columns["joint_errors_mm"] = pa.FixedSizeListArray.from_arrays(flat, len(self.joint_names))
        columns |= {name: pa.array(values, pa.float64()) for name, values in self.per_image.items()}
        header = {
            "format": _FORMAT,
            "benchmark": self.benchmark,
            "estimator": self.estimator,
            "protocol": self.protocol,
            "metrics": {name: None if math.isnan(value) else value for name, value in self.metrics.items()},
            "counted": self.counted,
            "joint_names": self.joint_names,
            "skipped": self.skipped,
        }
        table = pa.table(columns).replace_schema_metadata({"posegen": json.dumps(header)})
        temporary = path.with_name(path.name + ".part")
        pq.write_table(table, temporary, compression="zstd")
        temporary.replace(path)  # a killed run leaves either no file or a whole one
        return path

    @classmethod
    def load(cls, path: str | Path) -> BenchmarkResult:
        """Reads what `save` wrote; DataError names a file that is missing or of another kind."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"cannot read a benchmark result: {error}", where=path, next_command="posegen evaluate"
            ) from error
        header = json.loads((table.schema.metadata or {}).get(b"posegen", b"{}"))
        if header.get("format") != _FORMAT:
            raise DataError("this Parquet file is no benchmark result", where=path, next_command="posegen evaluate")
        names = list(header["joint_names"])
        errors = np.zeros((table.num_rows, 0))
        if names:
            flat = table["joint_errors_mm"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            errors = flat.reshape(-1, len(names))
        return cls(
            benchmark=header["benchmark"],
            protocol=header["protocol"],
            estimator=header["estimator"],
            ids=table["id"].to_pylist(),
            groups=table["group"].to_pylist(),
            actions=table["action"].to_pylist(),
            per_image={
                name: table[name].to_numpy().astype(np.float64) for name in table.column_names if name not in _LABELS
            },
            azimuth=table["azimuth_rad"].to_numpy().astype(np.float64),
            elevation=table["elevation_rad"].to_numpy().astype(np.float64),
            joint_names=names,
            joint_errors_mm=errors,
            metrics={name: math.nan if value is None else value for name, value in header["metrics"].items()},
            counted=header["counted"],
            skipped=header["skipped"],
        )


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: null takes its place."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
