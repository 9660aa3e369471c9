"""Names of a package that are imported when they are first asked for (PEP 562), so that a look costs nothing.

    __getattr__, __dir__ = lazily(__name__, {"Scene": "posegen.scene"})

`from posegen import Scene` then imports posegen.scene, and with it torch; `import posegen` imports neither.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, places: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's `__getattr__` and `__dir__`.

    Args:
        package: its `__name__`.
        places: name -> the module that has it; `module:other` where it is called otherwise there.
    """

    def get(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, other = places[name].partition(":")
        value = getattr(import_module(module), other or name)
        setattr(sys.modules[package], name, value)
        return value

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *places})

    return get, listed
