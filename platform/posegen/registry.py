"""Named factories, and records in files of their own: a new noise or arm is one file, one YAML and one test."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar

from posegen.errors import ConfigError, did_you_mean

T = TypeVar("T")


def records(kinds: ModuleType, called: str, group: str) -> list[Any]:
    """What each module of a package says under one name, and plug-ins' entry points of a group give."""
    names = [f"{kinds.__name__}.{found.name}" for found in pkgutil.iter_modules(kinds.__path__)]
    own = [getattr(importlib.import_module(name), called) for name in names]
    return own + [point.load() for point in entry_points(group=group)]


class Registry(Generic[T]):
    """Maps a name to a factory, and finds plug-ins by entry point `posegen.<kind>`.

    Args:
        kind: what is registered, in the plural, as it appears in messages and in the entry-point group.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._factories: dict[str, Callable[..., T]] = {}
        self._plugins_loaded = False

    def register(self, name: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
        def decorate(factory: Callable[..., T]) -> Callable[..., T]:
            if name in self._factories:
                raise ValueError(f"{self.kind}: {name!r} is registered already")
            self._factories[name] = factory
            return factory

        return decorate

    def _load_plugins(self) -> None:
        if self._plugins_loaded:
            return
        self._plugins_loaded = True
        for point in entry_points(group=f"posegen.{self.kind}"):
            self._factories.setdefault(point.name, point.load())

    def names(self) -> list[str]:
        self._load_plugins()
        return sorted(self._factories)

    def get(self, name: str) -> Callable[..., T]:
        """The factory called `name`. Raises ConfigError with the valid names."""
        self._load_plugins()
        if name not in self._factories:
            hint = did_you_mean(name, self._factories)
            raise ConfigError(f"unknown name {name!r} among {self.kind}{hint}", choices=self.names())
        return self._factories[name]
