"""One synthetic run for all tests of the room; those that damage it copy it first."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from synthetic_run import make_run


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' stores are their own, whatever the machine's environment names."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three runs: two seeds of one experiment, and one whose test images are others."""
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "quickstart-s0", seed=0)
    make_run(folder / "quickstart-s1", seed=1, factor={"posegen": 0.86})
    make_run(folder / "elsewhere", seed=0, test_seed=5, images=40)
    return folder


@pytest.fixture(scope="session")
def finished_run(outputs: Path) -> Path:
    return outputs / "quickstart-s0"


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / finished_run.name))
