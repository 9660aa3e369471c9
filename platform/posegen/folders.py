"""Where the files that come with posegen are, beside its code: in a checkout, or as an installed package."""

from __future__ import annotations

import sys
from pathlib import Path

from posegen.errors import ConfigError

INSTALLED = Path("share") / "posegen"  # below the environment's root: pyproject.toml, data-files


def package_dir() -> Path:
    """The folder of posegen's own code."""
    return Path(__file__).resolve().parent


def conf_dir() -> Path:
    """The folder of YAML files: conf/ of the checkout, else what the wheel installed."""
    return _beside("conf", "config.yaml", "the configuration files")


def jobs_dir() -> Path:
    """The folder of Ray jobs: jobs/ of the checkout, else what the wheel installed."""
    return _beside("jobs", "experiment.py", "the jobs")


def _beside(name: str, holds: str, what: str) -> Path:
    above = package_dir().parents
    # The second: `pip install --target FOLDER` puts share/ beside the package; the last: an environment's own root.
    candidates = [above[1] / name, above[0] / INSTALLED / name, Path(sys.prefix) / INSTALLED / name]
    for folder in candidates:
        if (folder / holds).is_file():
            return folder
    raise ConfigError(
        f"{what} ({name}/{holds}) that come with posegen are not there",
        where=", ".join(map(str, candidates)),
        next_command="install posegen again: pip install --force-reinstall --no-deps posegen",
    )
