"""Which extra brings a package that is missing: `pip install 'posegen[run]'` instead of a traceback."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires

from posegen.errors import ConfigError

# Modules that are called otherwise than the distribution that brings them.
_DISTRIBUTIONS = {
    "PIL": "pillow", "sklearn": "scikit-learn", "skimage": "scikit-image", "yaml": "pyyaml",
    "fast_simplification": "fast-simplification", "hydra": "hydra-core",
}  # fmt: skip


def extra_of(module: str) -> str | None:
    """The extra that brings a module, such as "run" for ray; None where none of them does."""
    name = _DISTRIBUTIONS.get(module, module).lower()
    try:
        listed = requires("posegen") or []
    except PackageNotFoundError:
        return None
    for line in listed:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        if extra and re.split(r"[\s\[<>=!~(]", requirement.strip().lower())[0] == name:
            return extra[1]
    return None


def explained(error: ModuleNotFoundError) -> ConfigError | None:
    """What to install, for a missing package that an extra brings; None for any other missing module."""
    module = (error.name or "").split(".")[0]
    extra = extra_of(module) if module else None
    if extra is None:
        return None
    return ConfigError(
        f"the package {module} is needed for this and is not installed",
        next_command=f"pip install 'posegen[{extra}]'",
    )
