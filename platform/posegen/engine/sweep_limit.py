"""How many trials of a sweep run at once, and the schedulers that keep to it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from posegen.engine.sweep_space import SweepConfig, size
from posegen.errors import EngineError

# Tune saves its scheduler with the sweep and loads it on resume, perhaps on a cluster of another size. The limit is
# kept here instead, and set anew by each process that runs a sweep.
_present = {"trials": 1}


def limit(trials: int) -> None:
    """Sets how many trials the sweep of this process may run at once."""
    _present["trials"] = trials


def concurrency(config: SweepConfig, cluster: Mapping[str, float]) -> int:
    """How many trials may run at once. Raises EngineError if the cluster has no room for even one."""
    asked = {name: amount for name, amount in config.trial_resources.items() if amount > 0}
    if config.growing_cluster and config.max_concurrent:
        return config.max_concurrent
    room = min((int((cluster.get(name, 0.0) + 1e-9) // amount) for name, amount in asked.items()), default=size(config))
    if room < 1:
        present = {name: cluster.get(name, 0) for name in asked}
        raise EngineError(
            f"a trial asks for {_resources(asked)}, the cluster has {_resources(present)}",
            where="sweep.trial_resources",
            next_command="ask for less, or add nodes; sweep.growing_cluster=true with sweep.max_concurrent=N trusts an "
            "autoscaler",
        )
    return max(1, min(room, config.max_concurrent or room, size(config)))


def _resources(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in amounts.items()) or "nothing"


class _AtMost:
    """Lets Tune start no more trials than `limit` says, new ones and those of an interrupted sweep alike.

    Tune's own limits (BasicVariantGenerator.max_concurrent, ConcurrencyLimiter) are saved with the sweep, and hold for
    new trials only: all that ran when a sweep was killed would start again together. Tune asks its scheduler before
    each start, so the limit on what it stages is set here. Private names of Ray, which is pinned; tests count trials.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        controller = tune_controller._tune_controller
        actors = controller._actor_manager
        controller._max_pending_trials = max(0, _present["trials"] - actors.num_live_actors)
        if actors.num_pending_actors >= controller._max_pending_trials:
            return None
        return super().choose_trial_to_run(tune_controller)  # type: ignore[misc]


class LimitedFIFO(_AtMost, FIFOScheduler):
    """Every trial runs to its end."""


class LimitedASHA(_AtMost, ASHAScheduler):
    """Trials that do badly are stopped early (Li et al. 2020)."""


def scheduler(config: SweepConfig) -> Any:
    if config.scheduler == "none":
        return LimitedFIFO()
    return LimitedASHA(
        time_attr="training_iteration",
        grace_period=min(config.grace_reports, config.max_reports),
        max_t=config.max_reports,
        reduction_factor=config.reduction_factor,
    )


@contextmanager
def own_interrupt() -> Iterator[None]:
    """Ctrl-C lets Tune write down where the sweep is, and then reaches the caller as KeyboardInterrupt.

    Tune takes the signal for itself and returns as if the sweep were over. So it gets SIGUSR1 instead, which it treats
    alike. A second Ctrl-C waits for nothing. Wants TUNE_DISABLE_SIGINT_HANDLER=1 in the environment.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupted = False
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGUSR1)

    def on_interrupt(number: int, frame: Any) -> None:
        nonlocal interrupted
        if interrupted or signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:  # or Tune does not run yet
            raise KeyboardInterrupt
        interrupted = True
        signal.raise_signal(signal.SIGUSR1)

    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGUSR1, before[1])
    if interrupted:
        raise KeyboardInterrupt
