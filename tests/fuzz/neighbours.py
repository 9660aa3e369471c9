"""Makes the builders of the other tests importable, as pytest does: they lie beside the tests of each room."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOMS = ("benchmarks", "body", "renderer", "estimator", "tracking")


def make_importable() -> None:
    """Adds the rooms that hold builders to the module path, once."""
    for folder in (TESTS, *(TESTS / room for room in ROOMS)):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


make_importable()
