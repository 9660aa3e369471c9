"""Registers the readers of real data sets under the names that configurations use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from posegen.benchmarks.protocol import REGISTRY, Benchmark
from posegen.benchmarks.readers.agora import agora
from posegen.benchmarks.readers.emdb import emdb
from posegen.benchmarks.readers.hmr2_npz import hmr2_npz
from posegen.benchmarks.readers.human36m import human36m
from posegen.benchmarks.readers.mpi_inf_3dhp import mpi_inf_3dhp
from posegen.benchmarks.readers.pw3d import pw3d
from posegen.benchmarks.readers.ski_poseptz import ski_poseptz
from posegen.benchmarks.readers.spin_npz import spin_npz


def h36m_p1(annotations: str | Path, images: str | Path | None = None, box: str = "masks", **options: Any) -> Benchmark:
    """Human3.6M protocol 1: S9 and S11, all four cameras, every fifth frame."""
    return human36m("h36m_p1", annotations, images, box, **options)


def h36m_p2(annotations: str | Path, images: str | Path | None = None, box: str = "masks", **options: Any) -> Benchmark:
    """Human3.6M protocol 2: the frontal camera only."""
    return human36m("h36m_p2", annotations, images, box, **options)


_FACTORIES: dict[str, Callable[..., Benchmark]] = {
    "3dpw": pw3d,
    "mpi_inf_3dhp": mpi_inf_3dhp,
    "ski_poseptz": ski_poseptz,
    "agora": agora,
    "emdb": emdb,
    "h36m_p1": h36m_p1,
    "h36m_p2": h36m_p2,
    "spin_npz": spin_npz,
    "hmr2_npz": hmr2_npz,
}
for _name, _factory in _FACTORIES.items():
    REGISTRY.register(_name)(_factory)
