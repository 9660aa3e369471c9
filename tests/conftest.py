"""Fixtures shared by all rooms: one Ray cluster and one look at the asset cache a session."""

from __future__ import annotations

import gc
import os

# One thread: the tests' tensors are small, and threads that wait for each other on a busy machine cost minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray's workers wait for nobody: the tests that run beside them are no more urgent (Ray's own default is 15).
os.environ.setdefault("RAY_worker_niceness", "0")

from collections.abc import Iterator
from pathlib import Path

import pytest

from posegen.machine import keep_freed_memory
from pretend_cuda import PretendCuda

keep_freed_memory()  # as posegen's own processes do
gc.set_threshold(10_000, 10, 50)  # a sixth of the tests' time was the collector's, looking through what is imported

TESTS = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who works where under `pytest -n 2 --dist loadgroup`: all that uses the session's Ray cluster in one process, so
    that there is one cluster, beside it file by file, so that a file's fixtures are made once."""
    for item in items:
        needs_cluster = "ray_cluster" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("ray" if needs_cluster else item.path.relative_to(TESTS).as_posix()))


def pytest_collection_finish(session: pytest.Session) -> None:
    """pytest-xdist 3.8 writes groups into a name that pytest 9.2 no longer reads, and then spreads tests one by one."""
    if session.config.getoption("loadgroup", False) and not all("@" in item.nodeid for item in session.items):
        raise pytest.UsageError("this pytest-xdist does not group tests under this pytest: install what setup.sh does")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[object]:
    """A cluster of 4 logical CPUs and a 300 MB object store, with the dashboard (sweeps need its State API).

    Workers find the modules beside the tests, so that a loop or renderer defined in one can run in an actor.
    """
    from posegen.engine.cluster import connect, disconnect

    folders = [str(TESTS), *sorted({str(path.parent) for path in TESTS.glob("*/test_*.py")})]
    code = [str(TESTS.parent / "platform"), *folders, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    cluster = connect("local", cpus=4, gpus=0, object_store_mb=300, environment={"PYTHONPATH": os.pathsep.join(code)})
    yield cluster
    disconnect()


@pytest.fixture(autouse=True)
def give_back(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What a test has taken of the cluster is given back when it ends, or it is this test that fails.

    What an error's traceback keeps alive of a failed stage holds its CPUs, too: pytest keeps those that were logged.
    """
    yield
    if "ray_cluster" in request.fixturenames:
        from posegen.engine.private_ray import free_by_node
        from posegen.engine.resources import require, unplaced

        everything = [{"CPU": 1}] * 4
        caplog.get_records("call").clear()
        if unplaced(everything, free_by_node()):
            gc.collect()
            require(everything, "the next test", free_within_s=30)


@pytest.fixture(scope="session")
def assets() -> Path:
    """The cache folder with every asset in it; what is missing is built once."""
    from posegen.assets import cache_dir, ensure

    ensure()
    return cache_dir()


@pytest.fixture
def pretend() -> Iterator[PretendCuda]:
    """While it lasts "cuda" is a device, computed on the CPU: see pretend_cuda.py."""
    with PretendCuda() as mode:
        yield mode


@pytest.fixture(params=["pretended", pytest.param("real", marks=pytest.mark.gpu)])
def cuda(request: pytest.FixtureRequest) -> Iterator[PretendCuda | None]:
    """Code for GPUs on the pretended device, and with `-m gpu` on the card itself (then it is None).

    The card computes convolutions in full float32 meanwhile, so that it can be compared with the CPU.
    """
    if request.param == "pretended":
        with PretendCuda() as mode:
            yield mode
        assert mode.moves > 0, "nothing was moved to the GPU"
        return
    import torch

    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield None
    torch.backends.cudnn.allow_tf32 = before
