"""What a run leaves, in a form in which two runs can be compared; and what must not be left."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

# Of a history's rows: times, of which no two runs have the same, and what only workers of a cluster write.
TIMES = ("waited_s", "worked_s", "world_size")
FIGURES = ("arms", "metrics", "benchmarks", "average", "watched", "generator")  # of the summary: measured


@dataclass(frozen=True)
class Left:
    """The results of a finished run.

    Args:
        weights: digests of what was trained.
        figures: of summary.json, all that was measured.
        rows: digest of each data set, whose rows are there once.
        steps: the histories, without times.
    """

    weights: dict[str, str]
    figures: dict[str, Any]
    rows: dict[str, str]
    steps: dict[str, list[dict[str, float]]]


def read_left(run: Path) -> Left:
    """AssertionError where a row or a step is missing or there twice."""
    summary = json.loads((run / "summary.json").read_text())
    return Left(read_weights(run), {name: summary[name] for name in FIGURES}, read_rows(run), read_steps(run))


def read_weights(run: Path) -> dict[str, str]:
    return {name: _weights(run / name) for name in _files(run, "*.pt")}


def read_rows(run: Path) -> dict[str, str]:
    return {folder.name: _rows(folder) for folder in sorted((run / "dataset").iterdir())}


def read_steps(run: Path) -> dict[str, list[dict[str, float]]]:
    return {name: _steps(run / name) for name in _files(run, "history.jsonl")}


def problems(run: Path, wanted: Left) -> list[str]:
    """What differs from an undisturbed run, and half-written files; nothing where all is well."""
    try:
        left = read_left(run)
    except (AssertionError, OSError, ValueError, KeyError) as error:
        return [f"results cannot be read: {type(error).__name__}: {error}"]
    found = [f"{name} differ" for name in ("weights", "figures", "rows", "steps")
             if getattr(left, name) != getattr(wanted, name)]  # fmt: skip
    return found + [f"half-written {name}" for name in half_written(run)]


def half_written(run: Path) -> list[str]:
    """Files under temporary names: what a killed writer leaves, until the next run clears it."""
    return sorted(
        str(file.relative_to(run)) for file in run.rglob(".*") if file.suffix in (".tmp", ".partial") or ".part" in
        file.name
    )  # fmt: skip


def made(run: Path) -> set[tuple[str, Any]]:
    """What is finished of a run that is at work: stages, shards, results, steps. Progress is whatever comes to it."""
    found: set[tuple[str, Any]] = set()
    for pattern in ("stages/*.json", "dataset/*/part-*.parquet", "evaluation/**/*.parquet", "watched/**/*.parquet",
                    "report.html"):  # fmt: skip
        found |= {("file", str(file.relative_to(run))) for file in run.glob(pattern)}
    for file in run.glob("*/*/history.jsonl"):
        try:
            found |= {(str(file.relative_to(run)), number) for number in range(file.read_text().count("\n"))}
        except OSError:
            continue
    return found


def again(count: Path) -> tuple[int, int]:
    """Steps and rows that were made more than once, of what counting/ wrote."""
    lines = count.read_text().splitlines() if count.is_file() else []
    twice = {kind: [line for line in lines if line.startswith(kind)] for kind in ("step", "row")}
    return tuple(len(kept) - len(set(kept)) for kept in twice.values())  # type: ignore[return-value]


def _files(run: Path, pattern: str) -> list[str]:
    return sorted(str(file.relative_to(run)) for file in run.rglob(pattern) if "checkpoint_" not in str(file))


def _weights(file: Path) -> str:
    state = torch.load(file, map_location="cpu", weights_only=True)
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(str((value.dtype, tuple(value.shape))).encode() + value.contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                digest.update(str(key).encode())
                add(value[key])
        elif isinstance(value, list | tuple):
            for one in value:
                add(one)
        else:
            digest.update(repr(value).encode())

    add(state)
    return digest.hexdigest()[:16]


def _rows(folder: Path) -> str:
    table = pq.read_table(folder).sort_by("row_id")
    assert table.column("row_id").to_pylist() == list(range(table.num_rows)), f"{folder.name}: rows missing or twice"
    digest = hashlib.sha256()
    for name in sorted(table.column_names):
        digest.update(name.encode() + repr(table.column(name).to_pylist()).encode())
    return digest.hexdigest()[:16]


def _steps(file: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1)), f"{file.parent.name}: a step is missing"
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]
