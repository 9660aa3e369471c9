"""Reads what a run left behind: each part is there, or a `Missing` that says why not.

outputs/<run>/{config.yaml, summary.json, stages/<stage>.json, generate/<arm>/history.jsonl,
               finetune/<arm>/history.jsonl, dataset/<arm>/part-*.parquet,
               evaluation/<arm>/<benchmark>.parquet, evaluation/gallery.npz}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from posegen.arms.registry import in_order, method_of
from posegen.errors import DataError, PosegenError
from posegen.experiment.run_record import stage_of
from posegen.files.secrets import masked_text
from posegen.files.state import MOST_YAML, read_history, read_json, read_text, read_yaml
from posegen.tracking.report.gallery import Gallery
from posegen.tracking.store.names import scalars

if TYPE_CHECKING:
    from posegen.benchmarks.measure.result import BenchmarkResult


@dataclass(frozen=True)
class Missing:
    """A part of a run that cannot be shown, with the reason in one sentence."""

    what: str
    why: str
    verb: str = "is"

    def __str__(self) -> str:
        return f"{self.what} {self.verb} missing: {self.why}"


@dataclass(frozen=True)
class Samples:
    """A few rows of a generated dataset."""

    images: NDArray[np.uint8]  # (K,H,W,3)
    joints2d_px: NDArray[np.floating]  # (K,24,2)
    error_at_birth_mm: NDArray[np.floating]  # (K,), NaN where it was not measured
    azimuth_rad: NDArray[np.floating]  # (K,) of the camera round the person's heading
    elevation_rad: NDArray[np.floating]  # (K,)
    row_id: NDArray[np.integer]  # (K,)

    def __len__(self) -> int:
        return len(self.images)


def is_arm(folder: str) -> bool:
    """Whether a folder of a stage is an arm's own: neither the source's rows nor a later round's."""
    return folder != "source" and "-round" not in folder


class RunDirectory:
    """One run's folder, read lazily."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._births: dict[str, NDArray[np.float64]] = {}

    @property
    def name(self) -> str:
        return str(self.summary.get("run") or self.path.resolve().name)

    @cached_property
    def _summary(self) -> dict[str, Any] | Missing:
        return _read_json(self.path / "summary.json", "The summary", "the experiment has not reached its end")

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json, empty where there is none."""
        return {} if isinstance(self._summary, Missing) else self._summary

    @property
    def summary_problem(self) -> Missing | None:
        return self._summary if isinstance(self._summary, Missing) else None

    @property
    def arms(self) -> list[str]:
        named = self.summary.get("arms")
        if named:
            return list(named)
        return in_order([*self.results, *filter(is_arm, [*self._folders("dataset"), *self._folders("finetune")])])

    @property
    def generated_arms(self) -> list[str]:
        """Arms that images were made for; more than the tuned ones where the estimator has no weights."""
        made = filter(is_arm, self._folders("dataset"))
        return [arm for arm in in_order([*self.arms, *made]) if arm != "before"]

    @property
    def method(self) -> str | None:
        """The arm that the experiment is about."""
        return method_of(self.arms)

    def _folders(self, stage: str) -> list[str]:
        folder = self.path / stage
        entries = folder.iterdir() if folder.is_dir() else ()
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))

    @cached_property
    def results(self) -> dict[str, dict[str, BenchmarkResult]]:
        """arm -> benchmark -> its per-image errors; what cannot be read is left out and named in `damaged`."""
        return self._read_results("evaluation")

    @cached_property
    def watched(self) -> dict[str, dict[str, BenchmarkResult]]:
        """arm -> watched set -> its per-image errors."""
        return self._read_results("watched")

    def _read_results(self, folder: str) -> dict[str, dict[str, BenchmarkResult]]:
        from posegen.benchmarks.measure.result import BenchmarkResult

        read: dict[str, dict[str, BenchmarkResult]] = {}
        for path in sorted((self.path / folder).glob("*/*.parquet")):
            try:
                read.setdefault(path.parent.name, {})[path.stem] = BenchmarkResult.load(path)
            except (PosegenError, OSError, ValueError, KeyError) as error:
                self.damaged.append(f"{path.relative_to(self.path)}: {_first_line(error)}")
        return {arm: read[arm] for arm in in_order(read)}

    @cached_property
    def damaged(self) -> list[str]:
        """Files that were there and could not be read, each with its reason."""
        return []

    def paired(self, first: str, second: str) -> dict[str, tuple[BenchmarkResult, BenchmarkResult]]:
        """Benchmarks on which two arms were tested on the same images in the same order."""
        both = {}
        for benchmark, result in self.results.get(first, {}).items():
            other = self.results.get(second, {}).get(benchmark)
            if other is not None and other.ids == result.ids:
                both[benchmark] = (result, other)
        return both

    @cached_property
    def gallery(self) -> Gallery | Missing:
        path = self.path / "evaluation" / "gallery.npz"
        if not path.is_file():
            return Missing("The gallery", "evaluation/gallery.npz was not written (the evaluation stage has not ended)")
        try:
            return Gallery.load(path)
        except PosegenError as error:
            return Missing("The gallery", error.what)

    def histories(self, stage: str) -> dict[str, list[dict[str, float]]]:
        """arm -> rows of `<stage>/<arm>/history.jsonl`, flattened scalars with their step."""
        told = self.damaged.append
        read = {arm: read_curves(self.path / stage / arm / "history.jsonl", told) for arm in self._folders(stage)}
        flat = read_curves(self.path / stage / "history.jsonl", told)
        if flat and not any(read.values()) and self.method:
            read[self.method] = flat
        return {arm: read[arm] for arm in in_order(read) if read[arm]}

    def births(self) -> dict[str, NDArray[np.float64]]:
        """arm -> error at birth (N,) of all its rows, mm; without arms that have none."""
        found = {arm: self.births_of(arm) for arm in in_order(self._folders("dataset"))}
        return {arm: errors for arm, errors in found.items() if len(errors)}

    def births_of(self, arm: str) -> NDArray[np.float64]:
        """Error at birth (N,) of an arm's rows, mm; none where nobody knows it of any. Read once."""
        from posegen.shards.folder import Folder
        from posegen.shards.reader import read_shard

        if arm not in self._births:
            columns = []
            for part in self.parts(arm):
                try:
                    column = read_shard(Folder(part.parent), part.name, ["error_at_birth_mm"])["error_at_birth_mm"]
                    columns.append(column.to_numpy().astype(np.float64))
                except (PosegenError, OSError, ValueError, KeyError) as error:
                    self.damaged.append(f"{part.relative_to(self.path)}: {_first_line(error)}")
            values = np.concatenate(columns) if columns else np.zeros(0)
            self._births[arm] = values if np.isfinite(values).any() else np.zeros(0)
        return self._births[arm]

    def parts(self, arm: str) -> list[Path]:
        """The shards of an arm's dataset."""
        return sorted((self.path / "dataset" / arm).glob("part-*.parquet"))

    def samples(self, arm: str, count: int = 12) -> Samples | Missing:
        """Rows of an arm's dataset from the easiest to the hardest at birth, evenly spaced in rank."""
        what = f"The dataset of {arm}"
        parts = self.parts(arm)
        if not parts:
            return Missing(what, f"dataset/{arm} holds no part-*.parquet (the render stage has not reached this arm)")
        try:
            return _read_samples(parts, count)
        except (PosegenError, OSError, ValueError, KeyError) as error:
            return Missing(what, f"it cannot be read: {_first_line(error)}")

    def stages(self) -> dict[str, dict[str, Any]]:
        """stage -> what its marker says; `finetune/random` has the marker stages/finetune--random.json."""
        found = {}
        for path in sorted((self.path / "stages").glob("*.json")):
            record = _read_json(path, path.stem, "")
            if isinstance(record, dict):
                found[stage_of(path)] = record
        return found

    @property
    def config_text(self) -> str | None:
        """config.yaml as it is, secrets masked: older runs hold them."""
        try:
            return masked_text(read_text(self.path / "config.yaml", "config.yaml", most=MOST_YAML))
        except FileNotFoundError:
            return None
        except DataError as error:
            self.damaged.append(_first_line(error))
            return None

    @property
    def config(self) -> dict[str, Any]:
        """The configuration: from the summary, else from config.yaml."""
        stored = self.summary.get("config")
        if isinstance(stored, Mapping) and stored:
            return dict(stored)
        try:
            return read_yaml(self.path / "config.yaml", "config.yaml")
        except FileNotFoundError:
            return {}
        except DataError as error:
            self.damaged.append(_first_line(error))
            return {}


def read_curves(path: Path, tell: Callable[[str], None]) -> list[dict[str, float]]:
    """The numbers of a history file's rows, flattened, each with its step; see posegen.files.state.read_history."""
    return [{"step": float(row["step"]), **scalars(row)} for row in read_history(path, tell)]


def _read_json(path: Path, what: str, why_absent: str) -> dict[str, Any] | Missing:
    try:
        return read_json(path, path.name)
    except FileNotFoundError:
        return Missing(what, f"{path.name} was not written ({why_absent})")
    except DataError as error:
        return Missing(what, _first_line(error))


def _read_samples(parts: list[Path], count: int) -> Samples:
    import pyarrow as pa

    from posegen.shards.folder import Folder
    from posegen.shards.reader import read_shard
    from posegen.shards.table import table_to_tensors

    folder, births = Folder(parts[0].parent), ["error_at_birth_mm"]
    errors = [read_shard(folder, part.name, births)["error_at_birth_mm"].to_numpy() for part in parts]
    place = np.concatenate([np.stack([np.full(len(e), i), np.arange(len(e))], 1) for i, e in enumerate(errors)])
    order = np.argsort(np.nan_to_num(np.concatenate(errors), nan=-1.0), kind="stable")
    chosen = place[order[np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))]]
    names = ["image", "row_id", "joints2d_px", "error_at_birth_mm", "pose", "camera_R", "camera_t", "transl"]
    rows: list[dict[str, np.ndarray]] = [{} for _ in chosen]
    for part in np.unique(chosen[:, 0]):
        wanted = np.flatnonzero(chosen[:, 0] == part)
        table = read_shard(folder, parts[part].name, names)
        # Row by row: `take` is not defined for Arrow's fixed-shape tensors.
        picked = pa.concat_tables([table.slice(int(row), 1) for row in chosen[wanted, 1]])
        tensors = table_to_tensors(picked, copy=True)
        for target, source in enumerate(wanted):
            rows[source] = {name: tensors[name][target].numpy() for name in names}
    stacked = {name: np.stack([row[name] for row in rows]) for name in names}
    azimuth, elevation = viewpoint(stacked["pose"], stacked["camera_R"], stacked["camera_t"], stacked["transl"])
    return Samples(
        images=np.ascontiguousarray(stacked["image"].transpose(0, 2, 3, 1)),
        joints2d_px=stacked["joints2d_px"],
        error_at_birth_mm=stacked["error_at_birth_mm"],
        azimuth_rad=azimuth,
        elevation_rad=elevation,
        row_id=stacked["row_id"],
    )


def viewpoint(
    pose: NDArray[np.floating],
    camera_R: NDArray[np.floating],
    camera_t: NDArray[np.floating],
    transl: NDArray[np.floating],
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Azimuth round the heading of the body and elevation above the horizon of cameras, rad: two arrays (K,).

    The heading is the body's forward axis (+z at rest) on the ground; the conventions are posegen.body.cameras'.

    Args:
        pose: (K,24,3) axis-angle rad.
        camera_R: (K,3,3) world -> camera.
        camera_t: (K,3) m.
        transl: (K,3) m, the person's place in the world.
    """
    from scipy.spatial.transform import Rotation

    forward = Rotation.from_rotvec(pose[:, 0].astype(np.float64)).apply(np.array([0.0, 0.0, 1.0]))
    heading = np.arctan2(forward[:, 0], forward[:, 2])
    away = -np.einsum("kji,kj->ki", camera_R, camera_t) - transl
    azimuth = np.arctan2(away[:, 0], away[:, 2]) - heading
    elevation = np.arctan2(away[:, 1], np.hypot(away[:, 0], away[:, 2]))
    return (azimuth + np.pi) % (2 * np.pi) - np.pi, elevation


def _first_line(error: BaseException) -> str:
    text = error.what if isinstance(error, PosegenError) else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0][:200]
