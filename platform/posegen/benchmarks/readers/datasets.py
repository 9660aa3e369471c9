"""Registers the readers of real data sets under their names in configurations; each is imported when it is built."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

from posegen.benchmarks.protocol import REGISTRY, Benchmark

# name -> module of this package, its function, and arguments that the name itself gives
_READERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "3dpw": ("pw3d", "pw3d", ()),
    "mpi_inf_3dhp": ("mpi_inf_3dhp", "mpi_inf_3dhp", ()),
    "ski_poseptz": ("ski_poseptz", "ski_poseptz", ()),
    "agora": ("agora", "agora", ()),
    "emdb": ("emdb", "emdb", ()),
    "h36m_p1": ("human36m", "human36m", ("h36m_p1",)),
    "h36m_p2": ("human36m", "human36m", ("h36m_p2",)),
    "spin_npz": ("spin_npz", "spin_npz", ()),
    "hmr2_npz": ("hmr2_npz", "hmr2_npz", ()),
}
REAL = tuple(_READERS)


def _register(name: str, module: str, function: str, given: tuple[str, ...]) -> None:
    def reader() -> Callable[..., Benchmark]:
        return getattr(import_module(f"posegen.benchmarks.readers.{module}"), function)

    def factory(*arguments: Any, **options: Any) -> Benchmark:
        return reader()(*given, *arguments, **options)

    class Lazy:
        """The factory; its signature is the reader's, which is imported when somebody asks for it."""

        def __call__(self, *arguments: Any, **options: Any) -> Benchmark:
            return factory(*arguments, **options)

        @property
        def __signature__(self) -> inspect.Signature:
            signature = inspect.signature(reader())
            return signature.replace(parameters=list(signature.parameters.values())[len(given) :])

    REGISTRY.register(name)(Lazy())


for _name, (_module, _function, _given) in _READERS.items():
    _register(_name, _module, _function, _given)
