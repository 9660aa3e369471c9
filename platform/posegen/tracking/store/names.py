"""Names and values as MLflow takes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

# MLflow's own limits (mlflow/utils/validation.py): a request beyond them is refused as a whole.
PARAM_CHARACTERS = 6000
KEY_CHARACTERS = 250
TAG_CHARACTERS = 5000


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings to dotted keys; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def safe_key(name: str) -> str:
    """A name that MLflow takes: letters, digits and `_-./ :`, at most 250 of them, no empty or dotted path part."""
    name = re.sub(r"[^\w\-. /:]", "_", str(name)).strip("/ ") or "_"
    name = "/".join(part if part.strip(".") else "_" for part in name.split("/") if part)
    return name[:KEY_CHARACTERS]


def param_text(value: Any) -> str:
    """A parameter's text, cut where MLflow would refuse it."""
    text = str(value)
    if len(text) <= PARAM_CHARACTERS:
        return text
    mark = f"... ({len(text)} characters)"
    return text[: PARAM_CHARACTERS - len(mark)] + mark


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a history row, nested mappings flattened; booleans, texts and lists are left out."""
    numbers: dict[str, float] = {}
    for key, value in flatten(row).items():
        if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
            numbers[safe_key(key.replace(".", "/"))] = float(value)
    return numbers
