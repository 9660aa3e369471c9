"""A split (conf/split) as a table: who and what each part may show, and seen from where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def split_table(split: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row for each training part, then one for each test."""
    parts: dict[str, Any] = {**(split.get("parts") or {})}
    parts |= {f"test: {name}": part for name, part in (split.get("tests") or {}).items()}
    rows = []
    for name, part in parts.items():
        if not isinstance(part, Mapping):
            continue
        camera, background = (part.get(key) or {} for key in ("camera", "background"))
        rows.append(
            {
                "part": str(name),
                "clips": listed(part.get("clips", "")),
                "subjects": listed(part.get("subjects", "")),
                "azimuth": _spans(camera.get("azimuth_deg") or []),
                "elevation": _spans(camera.get("elevation_deg") or []),
                "backgrounds": listed(background.get("pool", "")),
            }
        )
    return rows


def listed(value: Any) -> str:
    """A list as it is said."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _spans(ranges: Any) -> str:
    """`−20° to 20°`; of several ranges each once, however often it is listed for its weight."""
    if not isinstance(ranges, list | tuple) or not ranges:
        return listed(ranges)
    pairs = ranges if isinstance(ranges[0], list | tuple) else [ranges]
    said = [f"{low:g}° to {high:g}°".replace("-", "−").replace(" ", "\N{NO-BREAK SPACE}") for low, high in pairs]
    return " or ".join(dict.fromkeys(said))
