"""One MLflow run: what it can be told. Each thing is an operation that the tracker does or keeps for later."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from posegen.files.secrets import masked, masked_text
from posegen.tracking.report.pictures import encode
from posegen.tracking.store.names import flatten, param_text, safe_key, scalars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from posegen.tracking.store.mlflow_store import Tracker

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass
class TrackedRun:
    """One MLflow run. As a context manager it closes itself: FINISHED, KILLED on Ctrl-C, FAILED on any other error."""

    tracker: Tracker
    key: str

    @property
    def id(self) -> str:
        """MLflow's own name of it. Raises TrackingError where the store does not answer."""
        return self.tracker.id_of(self.key)

    def child(
        self, key: str, *, name: str | None = None, kind: str = "stage", start_s: float | None = None, **tags: str
    ) -> TrackedRun:
        """A nested run; its key is joined to this one's."""
        return self.tracker.run(
            f"{self.key}/{key}", name=name or key, kind=kind, parent=self, tags=tags, start_s=start_s
        )

    def _do(self, what: str, do: str, given: Mapping[str, Any], files: Mapping[str, bytes | Path] | None = None) -> int:
        return self.tracker.submit(what, do, self.key, given, files)

    def tags(self, tags: Mapping[str, Any]) -> None:
        if tags:
            self._do("tags", "tags", {safe_key(key): masked_text(str(value)) for key, value in tags.items()})

    def note(self, markdown: str) -> None:
        """The description shown on top of the run's page."""
        self.tags({"mlflow.note.content": markdown})

    def params(self, config: Mapping[str, Any]) -> None:
        """A configuration as parameters. MLflow's are written once: one that changed on resume becomes a tag."""
        texts = {safe_key(key): param_text(value) for key, value in flatten(masked(config)).items()}
        if texts:
            self._do("parameters", "params", texts)

    def metrics(self, values: Mapping[str, Any], step: int = 0) -> None:
        """Scalars at one step; a step that has a value keeps it."""
        self.curves([{"step": step, **values}])

    def curves(self, rows: Iterable[Mapping[str, Any]], step_key: str = "step", prefix: str = "") -> int:
        """Curves from history rows (one mapping a step, with its step), in batches.

        Returns:
            how many points were new to the store.
        """
        points: list[tuple[str, float, int, int]] = []
        for number, row in enumerate(rows):
            step = int(row.get(step_key, number))
            stamp = _milliseconds(row.get("time_s"))
            numbers = scalars({k: v for k, v in row.items() if k not in (step_key, "time_s")})
            points += [(safe_key(prefix + name), value, stamp, step) for name, value in numbers.items()]
        return self._do("curves", "metrics", {"points": points}) if points else 0

    def table(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """A table that the user interface shows as one."""
        data = [[_plain(cell) for cell in row] for row in zip(*columns.values(), strict=True)]
        path = name if name.endswith(".json") else f"{name}.json"
        self._do(f"table {name}", "table", {"path": path, "columns": list(columns), "data": data})

    def figure(self, figure: Figure, path: str) -> None:
        """A matplotlib figure as a PNG artefact."""
        stream = io.BytesIO()
        figure.savefig(stream, format="png")
        self._bytes(f"figure {path}", stream.getvalue(), path)

    def image(self, image: np.ndarray, path: str) -> None:
        """An image uint8 (H,W,3) as a PNG artefact."""
        self._bytes(f"image {path}", encode(image), path)

    def picture(self, image: np.ndarray, key: str, step: int) -> None:
        """An image uint8 (H,W,3) of a step, for the row of pictures that the run's page shows."""
        given = {"key": key, "step": step, "name": "picture.png"}
        self._do(f"picture {key} of step {step}", "picture", given, {"picture.png": encode(image)})

    def text(self, text: str, path: str) -> None:
        self._bytes(f"text {path}", text.encode(), path)

    def _bytes(self, what: str, data: bytes, path: str) -> None:
        folder, _, name = path.rpartition("/")
        self._do(what, "file", {"name": name, "folder": folder or None}, {name: data})

    def artifact(self, path: Path | str, folder: str | None = None) -> None:
        """A file, or a folder with all that is in it."""
        path = Path(path)
        self._do(f"artefact {path.name}", "file", {"name": path.name, "folder": folder}, {path.name: path})

    def dataset(self, record: Mapping[str, str | None], context: str) -> None:
        """Says which data the run read or made (the `Datasets used` of the run's page).

        Args:
            record: see posegen.tracking.store.datasets.
            context: training or evaluation.
        """
        self._do(f"data set {record['name']}", "dataset", {"record": dict(record), "context": context})

    def model(self, folder: Path, given: Mapping[str, Any]) -> None:
        """A model that was saved in a folder, with its place in the registry (posegen.tracking.store.registered)."""
        self._do(f"model {given['label']}", "model", {**given, "name": folder.name}, {folder.name: folder})

    def close(self, status: Status = "FINISHED", end_s: float | None = None, children: bool = False) -> None:
        """Ends it, with `children` those of its children that are open as well.

        Args:
            end_s: when it ended (time.time); now by default.
        """
        end_ms = None if end_s is None else int(end_s * 1000)
        self._do("the end", "end", {"status": status, "end_ms": end_ms, "children": children})

    def finish(self) -> None:
        self.close("FINISHED")

    def fail(self, reason: str = "", children: bool = False) -> None:
        if reason:
            self.tags({"posegen.failure": reason})
        self.close("FAILED", children=children)

    def kill(self, children: bool = False) -> None:
        self.close("KILLED", children=children)

    def __enter__(self) -> TrackedRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        elif issubclass(kind, KeyboardInterrupt):
            self.kill()
        else:
            self.fail(first_line(error) if error is not None else kind.__name__)


def _milliseconds(time_s: Any) -> int:
    seconds = time_s if isinstance(time_s, int | float) and math.isfinite(time_s) else time.time()
    return int(seconds * 1000)


def _plain(cell: Any) -> Any:
    if isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, float) and not math.isfinite(cell):
        return None
    return cell if isinstance(cell, str | int | float | bool | None) else str(cell)


def first_line(error: BaseException) -> str:
    """What an error says, in at most 300 characters."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]
