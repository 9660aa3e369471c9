"""What a configuration is called, and its plain form for files and trackers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from posegen.config.schema import PosegenConfig
from posegen.files.names import check_run_name, inside

# Parts that say where a run happens, where it is written and what is made of it later, not what it computes.
PLACE_KEYS = ("run", "engine", "tracking", "data", "atlas")


def plain(settings: Any) -> Any:
    """Dicts, lists and scalars of a configuration or of a part of it, as YAML and JSON hold them."""
    if hasattr(settings, "__dataclass_fields__"):
        settings = asdict(settings)
    if isinstance(settings, dict):
        return {key: plain(value) for key, value in settings.items()}
    if isinstance(settings, list | tuple):
        return [plain(value) for value in settings]
    return settings


def digest(config: PosegenConfig) -> str:
    """Eight characters that change with anything that changes what a run computes."""
    told = {key: value for key, value in plain(config).items() if key not in PLACE_KEYS}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]


def run_name(config: PosegenConfig) -> str:
    """The run's name: as given, or from experiment, seed and digest, so that the same call finds the same run."""
    given = config.run.name
    if given is not None:
        return check_run_name(given)
    made = f"{config.experiment_name}-seed{config.seed}-{digest(config)}"
    return check_run_name(made, "experiment_name")


def parts_of(config: PosegenConfig, *keys: str) -> dict[str, Any]:
    """Some top-level parts of a configuration, plain: what a digest is made of."""
    return {key: plain(getattr(config, key)) for key in keys}


def run_path(config: PosegenConfig) -> Path:
    """The run directory of a configuration, inside its outputs folder. ConfigError for a name that leads elsewhere."""
    return inside(Path(config.run.outputs).expanduser(), run_name(config))
