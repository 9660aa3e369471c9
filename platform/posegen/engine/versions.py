"""The newest generator weights, for renderers that work while the generator is still being trained."""

from __future__ import annotations

from typing import Any


class _Board:
    """Holds a version number and a reference to its weights."""

    def __init__(self) -> None:
        self.version = 0
        self.weights: list[Any] = []

    def publish(self, version: int, weights: list[Any]) -> None:
        if version > self.version:
            self.version, self.weights = version, weights

    def current(self) -> int:
        return self.version

    def newer_than(self, known: int) -> tuple[int, list[Any]]:
        return (self.version, self.weights) if self.version > known else (self.version, [])


class VersionBoard:
    """Where the training of a generator publishes its weights; can be passed to actors.

    Weights are put into the object store once, however many renderers fetch them.
    """

    def __init__(self, actor: Any = None) -> None:
        import ray

        remote: Any = ray.remote(num_cpus=0)(_Board)
        self.actor = remote.remote() if actor is None else actor

    def __reduce__(self):
        return (VersionBoard, (self.actor,))

    def publish(self, version: int, weights: Any) -> None:
        """Makes `weights` the newest; versions count up from 1."""
        import ray

        ray.get(self.actor.publish.remote(version, [ray.put(weights)]))  # in a list, so that it stays a reference

    def current(self) -> int:
        """The newest version; 0 before the first."""
        import ray

        return ray.get(self.actor.current.remote())

    def newer_than(self, known: int) -> tuple[int, Any]:
        """The newest version with its weights; None for the weights when `known` is the newest."""
        import ray

        version, reference = ray.get(self.actor.newer_than.remote(known))
        return version, ray.get(reference[0]) if reference else None
