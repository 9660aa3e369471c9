"""Training loops and where their batches come from, as whoever drives them sees them.

A loop is plain torch (posegen.adversarial.loop, posegen.finetune.loop) and does not know who drives it: Ray Train's
workers (posegen.engine.worker), or a plain loop in this process (posegen.experiment.in_process).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from torch import Tensor

from posegen.errors import ConfigError

LOOPS = {
    "adversarial": "posegen.adversarial.loop:AdversarialLoop",
    "finetune": "posegen.finetune.loop:FinetuneLoop",
}


class Loop(Protocol):
    """A training loop in plain torch. Its state is tensors and numbers, the same on all ranks."""

    step_index: int
    steps: int

    def step(self, *batch: Any) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def loop_class(kind: str) -> Callable[..., Loop]:
    """The loop of a kind: a name in LOOPS, or "module:Class"."""
    path = LOOPS.get(kind, kind)
    module, _, name = path.partition(":")
    if not name:
        raise ConfigError(f"unknown kind of training {kind!r}", choices=[*LOOPS, "module:Class"])
    return getattr(importlib.import_module(module), name)


class Batches(Protocol):
    """Where a loop's batches come from, e.g. rows that are being rendered; its state goes into the checkpoint."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]: ...

    def metrics(self) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class NoBatches:
    """For loops that make their own data."""

    def __init__(self, config: Any = None, **of_the_loop: Any) -> None:
        del config, of_the_loop

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        while True:
            yield ()

    def metrics(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del state


def version_of(step: int, checkpoint_every: int) -> int:
    """Which version of the trained weights the checkpoint at a step is: the first is 1."""
    return -(-step // checkpoint_every)


def on_cpu(value: Any) -> Any:
    """A state's tensors on the CPU: a checkpoint from a GPU opens on a laptop."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {name: on_cpu(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(on_cpu(item) for item in value)
    return value
