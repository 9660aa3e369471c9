"""Every format that posegen reads, by name. Samples are built when they are first asked for."""

from __future__ import annotations

from ..format import Format
from . import benchmarks, bodies, checkpoints, keypoints, motion, pictures, runs, settings, shards, views


def all_formats() -> dict[str, Format]:
    """Name -> format."""
    rooms = (bodies, motion, checkpoints, views, benchmarks, shards, runs, keypoints, pictures, settings)
    found: dict[str, Format] = {}
    for room in rooms:
        for form in room.formats():
            assert form.name not in found, form.name
            found[form.name] = form
    return found
