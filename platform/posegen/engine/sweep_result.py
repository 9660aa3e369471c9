"""What a sweep found: its trials, the best one, and the files and MLflow entries that show them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from posegen.engine.sweep_space import SweepConfig
from posegen.engine.sweep_watch import SweepRuns, error_line, numbers
from posegen.tracking.report.sweep_plots import save_sweep_plots, sweep_table

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"
SEED = "seed"


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
        """The best trial that ran to its end; failing that, the best of those that were stopped early.

        Where the sweep has several seeds it is the setting with the best mean, not the trial with the luckiest seed.
        """
        measured = [t for t in self.pooled() or self.trials if t.value is not None and t.state != FAILED]
        return next((t for t in measured if t.state == FINISHED), measured[0] if measured else None)

    def pooled(self) -> tuple[Trial, ...]:
        """Trials that differ in nothing but `seed` as one, best first: their mean, and in `metrics` its spread.

        One that lacks a seed which others have (a trial failed or was stopped) does not count as finished. Empty where
        the sweep has not several seeds.
        """
        groups: dict[str, list[Trial]] = {}
        for trial in self.trials:
            rest = {key: value for key, value in trial.parameters.items() if key != SEED}
            groups.setdefault(json.dumps(rest, sort_keys=True, default=str), []).append(trial)
        seeds = max((len(group) for group in groups.values()), default=0)
        if seeds < 2 or any(SEED not in trial.parameters for trial in self.trials):
            return ()
        settings = []
        for group in groups.values():
            values = [t.value for t in group if t.value is not None and t.state == FINISHED]
            state = FINISHED if len(values) == seeds else STOPPED if values else FAILED
            spread = {"seeds": float(len(values))} | ({"sd": statistics.stdev(values)} if len(values) > 1 else {})
            settings.append(
                Trial(
                    id=", ".join(t.id for t in group),
                    state=state,
                    parameters={key: value for key, value in group[0].parameters.items() if key != SEED},
                    value=statistics.fmean(values) if values else None,
                    reports=sum(t.reports for t in group),
                    metrics=spread,
                )
            )
        return tuple(_best_first(settings, self.mode))

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"trial": t.id, "state": t.state, self.metric: t.value, "reports": t.reports, **t.parameters}
            for t in self.trials
        ]

    def plotted(self, trials: Sequence[Trial] | None = None) -> list[dict[str, Any]]:
        """The trials as posegen.tracking.report.sweep_plots takes them. A trial that failed counts as not measured."""
        return [
            {
                "params": trial.parameters,
                "metrics": {} if trial.state == FAILED or trial.value is None else {self.metric: trial.value},
                "status": trial.state,
            }
            for trial in (self.trials if trials is None else trials)
        ]

    def table(self) -> str:
        """The trials as aligned text, best first, and why those that failed did; below, the means over seeds."""

        def text(trials: Sequence[Trial]) -> str:
            return sweep_table(self.plotted(trials), self.metric, lower_is_better=self.mode == "min", most=len(trials))

        table, pooled = text(self.trials), self.pooled()
        if pooled:
            said = [replace(t, state=_over_seeds(t)) for t in pooled]
            table += f"\n\nthe same, mean over seeds\n{text(said)}"
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


def _best_first(trials: Iterable[Trial], mode: str) -> list[Trial]:
    """Finished and stopped ones by their value, then those without a value, then those that failed."""
    sign = -1.0 if mode == "max" else 1.0
    return sorted(trials, key=lambda t: (t.state == FAILED, t.value is None, sign * (t.value or 0.0)))


def _over_seeds(setting: Trial) -> str:
    """What the table says of a mean: how many seeds, and how far they spread."""
    if not setting.metrics["seeds"]:
        return FAILED
    spread = f"sd {setting.metrics['sd']:.2g}, " if "sd" in setting.metrics else ""
    return f"{spread}{setting.metrics['seeds']:.0f} seed{'s' * (setting.metrics['seeds'] != 1)}"


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
    run_id = None if tracking is None else tracking.parent().id
    return SweepResult(config.name, config.metric, config.mode, state, tuple(_best_first(trials, config.mode)), run_id)
