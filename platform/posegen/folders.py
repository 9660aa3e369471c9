"""Where the files that come with posegen are, beside its code: in a checkout, or as an installed package."""

from __future__ import annotations

import sys
from pathlib import Path

from posegen.errors import ConfigError

INSTALLED = Path("share") / "posegen" / "conf"  # below the environment's root: pyproject.toml, data-files


def conf_dir() -> Path:
    """The folder of YAML files: conf/ of the checkout, else what the wheel installed."""
    package = Path(__file__).resolve().parent
    above = package.parents
    # The second: `pip install --target FOLDER` puts share/ beside the package; the last: an environment's own root.
    candidates = [above[1] / "conf", above[0] / INSTALLED, *(Path(root) / INSTALLED for root in (sys.prefix,))]
    for folder in candidates:
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(
        "the configuration files (conf/config.yaml) that come with posegen are not there",
        where=", ".join(map(str, candidates)),
        next_command="install posegen again: pip install --force-reinstall --no-deps posegen",
    )
