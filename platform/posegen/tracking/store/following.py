"""Looks at a run that is at work, every few seconds: the machine's load, curves that grew, sheets that came.

What the machine does is kept in the run directory (`tracking/system.jsonl`), as all that MLflow is told.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from posegen.files.state import read_history

log = logging.getLogger(__name__)

LOAD_FILE = Path("tracking") / "system.jsonl"  # in a run directory


class MachineLoad:
    """Rows of the machine's load under the names that MLflow's page of system metrics looks for.

    Args:
        file: of the rows; a run that goes on counts on.
    """

    def __init__(self, file: Path) -> None:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        self.file = file
        self.step = len(read_history(file))
        self.monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        try:
            self.monitors.append(GPUMonitor())
        except ImportError:
            log.debug("no NVIDIA card is watched: its library is not installed")
        except Exception as error:  # the library's own, where there is no card
            log.debug("no NVIDIA card is watched: %s", error)

    def sample(self) -> dict[str, float]:
        """One row, kept in the file as well."""
        row: dict[str, float] = {"step": self.step, "time_s": round(time.time(), 3)}
        for monitor in self.monitors:
            monitor.collect_metrics()
            row |= {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        self.step += 1
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        return row


class NewRows:
    """The rows of history files that were not seen yet."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[int, int]] = {}  # bytes of the file, rows

    def of(self, file: Path) -> list[dict[str, Any]]:
        """Rows since the last time; all of them where the file was begun anew."""
        try:
            size = file.stat().st_size
        except OSError:
            return []
        last_size, last_rows = self._seen.get(file, (0, 0))
        if size == last_size:
            return []
        rows = read_history(file, log.debug)
        self._seen[file] = (size, len(rows))
        return rows[last_rows:] if size > last_size else rows


@contextmanager
def every(seconds: float, look: Callable[[], None]) -> Iterator[None]:
    """Calls `look` again and again beside what is done meanwhile; what goes wrong in it is logged once."""
    done = threading.Event()

    def follow() -> None:
        told = False
        while not done.wait(seconds):
            try:
                look()
            except Exception as error:
                log.log(logging.DEBUG if told else logging.WARNING, "MLflow is told less than there is: %s", error)
                told = True

    thread = threading.Thread(target=follow, name="tracking", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=60)
