"""A browser and the pages that it looks at: the report of a synthetic run, three runs side by side, a small atlas."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import chromium

sys.path.insert(0, str(Path(__file__).parents[1] / "tracking"))
from synthetic_run import make_run


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    with chromium() as made:
        yield made


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_pages(tmp_path_factory.mktemp("pages"))


def make_pages(folder: Path) -> dict[str, Path]:
    """The pages by name."""
    from posegen.tracking.compare.compare import compare
    from posegen.tracking.report.report import build_report

    runs = [make_run(folder / f"quickstart-s{seed}", seed=seed) for seed in range(3)]
    compare(runs, out=folder / "compare.html")
    return {"report": build_report(runs[0]), "compare": folder / "compare.html", "atlas": make_atlas(folder / "atlas")}


def make_atlas(folder: Path) -> Path:
    """An atlas of few scenes, all of it real."""
    from posegen.atlas.command import main

    words = ["scenes=60", "image_size=48", "atlas.groups=3", "atlas.shown=3", "atlas.pictures=2", "atlas.turned=3"]
    assert main([*words, f"run.outputs={folder.parent}", f"atlas.output={folder}"]) == 0
    return folder / "atlas.html"


@pytest.fixture(scope="session")
def mlflow_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[str, str]]]:
    """MLflow over a published run: what each page is, and its address."""
    from posegen.tracking.store.mlflow_store import Tracker
    from posegen.tracking.store.publish import publish
    from posegen.tracking.store.ui import pages as pages_of
    from posegen.tracking.store.ui import serve

    outputs = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        publish(make_run(outputs / "quickstart-s0"))
        tracker = Tracker(outputs)
        with serve(tracker.uri, outputs) as server:
            yield pages_of(server.url, tracker)
