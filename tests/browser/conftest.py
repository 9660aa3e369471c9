"""A browser and the pages that it looks at: the report of a synthetic run, and three runs side by side."""

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
    return {"report": build_report(runs[0]), "compare": folder / "compare.html"}
