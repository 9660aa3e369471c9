"""What a sweep found: its trials, the best one, and the files and MLflow entries that show them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from posegen.engine.sweep_space import SweepConfig
from posegen.engine.sweep_watch import SweepRuns, error_line, numbers
from posegen.tracking.sweep_plots import save_sweep_plots, sweep_table

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"


@dataclass(frozen=True)
class Trial:
    """One row of a sweep's table. `value` is the metric's last value, None if it reported none."""

    id: str
    state: str  # finished | stopped (by the scheduler, early) | failed
    parameters: dict[str, Any]
    value: float | None
    reports: int
    metrics: dict[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class SweepResult:
    """All trials, best first."""

    name: str
    metric: str
    mode: str
    directory: str
    trials: tuple[Trial, ...]
    mlflow_run_id: str | None = None

    @property
    def best(self) -> Trial | None:
        """The best trial that ran to its end; failing that, the best of those that were stopped early."""
        measured = [trial for trial in self.trials if trial.value is not None and trial.state != FAILED]
        return next((t for t in measured if t.state == FINISHED), measured[0] if measured else None)

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"trial": t.id, "state": t.state, self.metric: t.value, "reports": t.reports, **t.parameters}
            for t in self.trials
        ]

    def plotted(self) -> list[dict[str, Any]]:
        """The trials as posegen.tracking.sweep_plots takes them. A trial that failed counts as not measured."""
        return [
            {
                "params": trial.parameters,
                "metrics": {} if trial.state == FAILED or trial.value is None else {self.metric: trial.value},
                "status": trial.state,
            }
            for trial in self.trials
        ]

    def table(self) -> str:
        """The trials as aligned text, best first, and why those that failed did."""
        table = sweep_table(self.plotted(), self.metric, lower_is_better=self.mode == "min", most=len(self.trials))
        failures = [f"trial {trial.id} failed: {trial.error}" for trial in self.trials if trial.error]
        return "\n".join([table, *failures])

    def write(self, folder: Path) -> None:
        """<folder>/result.json, table.txt and figures, for people and programs."""
        (folder / "result.json").write_text(json.dumps(asdict(self), indent=2, default=str))
        (folder / "table.txt").write_text(self.table() + "\n")
        save_sweep_plots(self.plotted(), self.metric, folder, lower_is_better=self.mode == "min")

    def track(self, folder: Path, tracking: SweepRuns) -> None:
        """Closes the sweep's MLflow run with its table, its best trial and the files in `folder`."""
        run, rows = tracking.parent(), self.rows()
        keys = list(dict.fromkeys(key for row in rows for key in row))
        if rows:
            run.table("trials", {key: [row.get(key) for row in rows] for key in keys})
        if self.best is not None and self.best.value is not None:
            run.metrics({f"best/{self.metric}": self.best.value})
            run.tags({"posegen.best_trial": self.best.id})
        for path in (folder / "result.json", folder / "table.txt", *sorted(folder.glob("*.png"))):
            run.artifact(path)
        run.finish()


def collect(outcome: Any, config: SweepConfig, state: str, tracking: SweepRuns | None) -> SweepResult:
    """From Tune's ResultGrid."""
    trials = []
    for result in outcome:
        last = dict(result.metrics or {})
        value = last.get(config.metric)
        complete = bool(last.get("complete", False))
        trials.append(
            Trial(
                id=str(last.get("trial_id") or Path(result.path).name),
                state=FAILED if result.error else FINISHED if complete else STOPPED,
                parameters=dict(result.config or {}),
                value=None if value is None else float(value),
                reports=int(last.get("training_iteration", 0)),
                metrics=numbers(last),
                error=error_line(result.error) if result.error else None,
            )
        )
    sign = -1.0 if config.mode == "max" else 1.0
    trials.sort(key=lambda t: (t.state == FAILED, t.value is None, sign * (t.value or 0.0)))
    run_id = None if tracking is None else tracking.parent().id
    return SweepResult(config.name, config.metric, config.mode, state, tuple(trials), run_id)
