"""What happens beside a sweep's trials: their MLflow runs, and a word to the user when one ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from posegen.files.secrets import masked_text

log = logging.getLogger(__name__)

Progress = Callable[[str], None]
# Tune saves its callbacks with the sweep and loads them on resume. A terminal cannot be saved, so who listens is kept
# here, by the sweep's name, and set anew by each process that runs the sweep.
_listeners: dict[str, Progress] = {}
_uris: dict[str, str] = {}  # of stores, by what is left of them when the password is masked


def listen(sweep: str, progress: Progress) -> None:
    _listeners[sweep] = progress


def cell(value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def error_line(error: Any) -> str:
    """The line of a remote error that says what was wrong: the last that is not indented."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith(" ")]
    return (lines[-1] if lines else type(error).__name__)[:300]


_TUNES_OWN = frozenset({
    "timestamp", "training_iteration", "time_this_iter_s", "time_total_s", "pid", "time_since_restore",
    "iterations_since_restore", "timesteps_total", "episodes_total",
})  # fmt: skip


def numbers(result: Mapping[str, Any]) -> dict[str, float]:
    """The objective's own numbers in one of Tune's results."""
    return {
        key: float(value)
        for key, value in result.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and key not in _TUNES_OWN
    }


@dataclass(frozen=True)
class SweepRuns:
    """Where a sweep's MLflow run is. Small and picklable: Tune saves it with the sweep, and a resumed one finds it.

    Only the sweep's driver writes to MLflow: a trial's process then starts in a third of the time, and its node needs
    no way to the store.
    """

    outputs: str
    experiment: str
    uri: str
    key: str

    def __post_init__(self) -> None:
        _uris[masked_text(self.uri)] = self.uri

    def __reduce__(self):  # Tune writes it to disk: without the password, which each process is given anew
        return (_sweep_runs, (self.outputs, self.experiment, masked_text(self.uri), self.key))

    def parent(self) -> Any:
        from posegen.tracking.store.mlflow_store import Tracker

        return Tracker(self.outputs, self.experiment, self.uri).run(self.key, kind="sweep")

    def kill(self) -> None:
        """Closes the runs of a sweep that was interrupted: the parent, and each trial that was still at work."""
        self.parent().kill(children=True)


def _sweep_runs(outputs: str, experiment: str, uri: str, key: str) -> SweepRuns:
    return SweepRuns(outputs, experiment, _uris.get(uri, uri), key)


class Watcher(tune.Callback):
    """Says how each trial ended, and keeps its MLflow run: found again by the trial's id when the sweep is resumed."""

    def __init__(self, sweep: str, metric: str, runs: SweepRuns | None) -> None:
        self.sweep, self.metric, self.runs = sweep, metric, runs
        self._parent: Any = None
        self._children: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_parent": None, "_children": {}}

    def _run(self, trial: Any) -> Any:
        """The trial's MLflow run; None where there is none, or the store is away: that must not end the sweep."""
        try:
            return self._opened(trial)
        except Exception as error:
            log.warning("MLflow did not answer (the sweep goes on): %s", masked_text(str(error))[:300])
            return None

    def _opened(self, trial: Any) -> Any:
        if self.runs is None:
            return None
        if self._parent is None:
            self._parent = self.runs.parent()
        if trial.trial_id not in self._children:
            label = ",".join(f"{key.split('.')[-1]}={cell(value)}" for key, value in trial.config.items())
            run = self._parent.child(trial.trial_id, name=label[:120], kind="trial", ray_trial_id=trial.trial_id)
            run.params(trial.config)
            self._children[trial.trial_id] = run
        return self._children[trial.trial_id]

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._run(trial)

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict[str, Any], **info: Any) -> None:
        run = self._run(trial)
        if run is not None:
            run.metrics(numbers(result), step=int(result["training_iteration"]))

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        last = trial.last_result or {}
        finished = bool(last.get("complete", False))
        self._say(f"trial {trial.trial_id} {'finished' if finished else 'stopped early'}: {self._value(last)}")
        run = self._run(trial)
        if run is not None:
            if not finished:
                run.tags({"posegen.stopped_by": "scheduler"})
            run.finish()

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        # Trial.get_error reads the copy in the sweep's storage, which is made only later
        path = Path(trial.error_file) if trial.error_file else None
        text = path.read_text(errors="replace") if path is not None and path.is_file() else trial.get_error()
        reason = masked_text(error_line(text))
        self._say(f"trial {trial.trial_id} failed: {reason}")
        run = self._run(trial)
        if run is not None:
            run.fail(reason)

    def _value(self, last: Mapping[str, Any]) -> str:
        return f"{self.metric}={cell(last.get(self.metric))}"

    def _say(self, line: str) -> None:
        _listeners.get(self.sweep, log.info)(line)
