"""The outcome of one evaluation: per image, per joint, per group and in all; saved as one Parquet file."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from posegen.errors import DataError
from posegen.files.atomic import replacing
from posegen.files.parquet_footer import Footer, read_footer
from posegen.files.state import parse_json

METRICS = ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "pck_150", "auc", "wrong_way_round")
TAILS = {"worst_5_mm": 0.05, "worst_10_mm": 0.10}  # mean MPJPE of this share of the images, the worst
_FORMAT_NAME = "posegen-benchmark-result-"
_FORMAT = f"{_FORMAT_NAME}1"
_HEADER = {
    "benchmark": str, "protocol": str, "estimator": str, "joint_names": list, "metrics": dict, "counted": dict,
    "skipped": list,
}  # fmt: skip
_MOST_BYTES = 256 * 2**20
_MOST_ROWS = 10_000_000
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
    counted: dict[str, int]  # used, missing, damaged, failed, and by reason what was left out: without_truth, ...
    estimator: str = ""
    weights: str = ""  # of the estimator: sha256 of its checkpoint, or a word; "" where nobody said
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
        return without_nan(
            {
                "benchmark": self.benchmark,
                "estimator": self.estimator,
                "weights": self.weights,
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
            "weights": self.weights,
            "protocol": self.protocol,
            "metrics": {name: None if math.isnan(value) else value for name, value in self.metrics.items()},
            "counted": self.counted,
            "joint_names": self.joint_names,
            "skipped": self.skipped,
        }
        table = pa.table(columns).replace_schema_metadata({"posegen": json.dumps(header)})
        with replacing(path) as partial:
            pq.write_table(table, partial, compression="zstd", write_page_checksum=True)
        return path

    def save_beside(self, folder: Path, stem: str) -> Path:
        """Writes `<folder>/<stem>.parquet`; where that holds other numbers, `<stem>-2.parquet` and so on.

        An earlier result is never overwritten by a different one; the same one is found again.
        """
        number = 1
        while True:
            path = folder / (f"{stem}.parquet" if number == 1 else f"{stem}-{number}.parquet")
            if not path.exists():
                return self.save(path)
            try:
                if self.same_as(BenchmarkResult.load(path)):
                    return path
            except DataError:  # another file of that name stays, too
                pass
            number += 1

    def same_as(self, other: BenchmarkResult) -> bool:
        """Whether it is of the same images by the same rules and weights, with the same numbers."""
        told = ("benchmark", "protocol", "estimator", "weights", "ids", "groups", "counted", "skipped")
        return (
            all(getattr(self, name) == getattr(other, name) for name in told)
            and self.per_image.keys() == other.per_image.keys()
            and all(np.array_equal(v, other.per_image[k], equal_nan=True) for k, v in self.per_image.items())
        )

    @classmethod
    def load(cls, path: str | Path) -> BenchmarkResult:
        """Reads what `save` wrote; DataError names a file that is missing or of another kind."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            if Path(path).stat().st_size > _MOST_BYTES:
                raise ValueError(f"it has more than {_MOST_BYTES // 2**20} MB")
            with pa.memory_map(str(path)) as source:
                _check_sizes(read_footer(memoryview(source.read_buffer())))
                source.seek(0)
                file = pq.ParquetFile(source, page_checksum_verification=True)
                table = file.read()
                table.validate()
            return cls._of_table(table)
        except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise DataError(
                f"cannot read a benchmark result: {' '.join(str(error).split())[:250] or 'it is damaged'}",
                where=path,
                next_command="posegen evaluate",
            ) from error

    @classmethod
    def _of_table(cls, table: Any) -> BenchmarkResult:
        """ValueError and its like say what a table lacks."""
        stored = (table.schema.metadata or {}).get(b"posegen", b"")
        header = parse_json(stored.decode()) if stored else None
        if not isinstance(header, dict) or not str(header.get("format", "")).startswith(_FORMAT_NAME):
            raise ValueError("this Parquet file is no benchmark result")
        if header["format"] != _FORMAT:
            raise ValueError(f"it has format {str(header['format'])[:60]}, this version of posegen reads {_FORMAT}")
        for key, kind in _HEADER.items():
            if not isinstance(header[key], kind):
                raise ValueError(f"{key} in its header is no {kind.__name__}")
        names, rows = [str(name) for name in header["joint_names"]], table.num_rows
        errors = np.zeros((rows, 0))
        if names:
            flat = table["joint_errors_mm"].combine_chunks().flatten()
            errors = _numbers(flat, rows * len(names), "joint_errors_mm").reshape(rows, len(names))
        per_image = {name: _numbers(table[name], rows, name) for name in table.column_names if name not in _LABELS}
        metrics = {name: math.nan if value is None else float(value) for name, value in header["metrics"].items()}
        texts = {name: table[name].to_pylist() for name in ("id", "group", "action")}
        for name, values in texts.items():
            if not all(isinstance(value, str) for value in values):
                raise ValueError(f"column {name} is no text")
        return cls(
            benchmark=header["benchmark"],
            protocol=header["protocol"],
            estimator=header["estimator"],
            weights=str(header.get("weights", "")),  # results of earlier versions do not say
            ids=texts["id"],
            groups=texts["group"],
            actions=texts["action"],
            per_image=per_image,
            azimuth=_numbers(table["azimuth_rad"], rows, "azimuth_rad"),
            elevation=_numbers(table["elevation_rad"], rows, "elevation_rad"),
            joint_names=names,
            joint_errors_mm=errors,
            metrics=metrics,
            counted={str(name): int(value) for name, value in header["counted"].items()},
            skipped=[str(name) for name in header["skipped"]],
        )


def _numbers(column: Any, size: int, name: str) -> np.ndarray:
    """float64 (size,); NaN is a figure that is not defined, infinity is none."""
    values = column.to_numpy(zero_copy_only=False)
    if values.dtype.kind != "f" or values.size != size:
        raise ValueError(f"column {name} holds {values.dtype}, {values.size} values, and not {size} numbers")
    if np.isinf(values).any():
        raise ValueError(f"column {name} holds an infinite value")
    return values.astype(np.float64)


def _check_sizes(footer: Footer) -> None:
    if footer.rows > _MOST_ROWS or footer.unpacked_bytes > 4 * _MOST_BYTES:
        raise ValueError(f"it declares {footer.rows} rows and {footer.unpacked_bytes // 2**20} MB")


def without_nan(value: Any) -> Any:
    """JSON has no NaN: null takes its place."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
