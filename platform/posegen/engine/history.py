"""history.jsonl: one line a training step, each step once, also after a kill and a resume."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.train import UserCallback

from posegen.files.atomic import write_text
from posegen.files.state import read_history

__all__ = ["FailureWriter", "HistoryWriter", "mean_rows", "read_history"]


def mean_rows(per_rank: Sequence[Sequence[dict[str, float]]]) -> list[dict[str, float]]:
    """Averages the rows of all ranks, step by step (each rank saw its slice of the batch)."""
    first = per_rank[0]
    others = [{row["step"]: row for row in rows} for rows in per_rank[1:]]
    averaged = []
    for row in first:
        same_step = [row, *(rank[row["step"]] for rank in others if row["step"] in rank)]
        averaged.append({name: sum(r.get(name, row[name]) for r in same_step) / len(same_step) for name in row})
        averaged[-1]["step"] = int(row["step"])
    return averaged


class HistoryWriter(UserCallback):
    """Appends what workers report. Steps that are repeated after a resume replace what was written of them."""

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self.last_step: int | None = None

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        rows = mean_rows([report["rows"] for report in metrics])
        if not rows:
            return
        for key in ("waited_s", "worked_s"):
            rows[-1][key] = sum(report[key] for report in metrics) / len(metrics)
        for row in rows:
            row["world_size"] = len(metrics)
        if self.last_step is None or rows[0]["step"] <= self.last_step:
            self._cut_before(int(rows[0]["step"]))
        with open(self.path, "a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
        self.last_step = int(rows[-1]["step"])

    def _cut_before(self, step: int) -> None:
        kept = [row for row in read_history(self.path) if row["step"] < step]
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in kept))


class FailureWriter(UserCallback):
    """Counts restarts in a file beside the history, and ends the run at once on errors that a retry cannot mend."""

    def __init__(self, path: str | Path, stage: str) -> None:
        self.path, self.stage = str(path), stage

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        from posegen.engine.failures import explain, is_lasting, user_error

        with open(self.path, "a") as file:
            for rank, error in worker_exceptions.items():
                file.write(json.dumps({"rank": rank, "error": f"{type(error).__name__}: {str(error)[:400]}"}) + "\n")
        ours = next(filter(None, map(user_error, worker_exceptions.values())), None)
        if ours is not None:
            raise ours  # an error of a callback is not retried
        for error in filter(is_lasting, worker_exceptions.values()):
            raise explain(error, self.stage)
