"""A plug-in of pytest, `-p sanitised_kernel`: the fused kernel ends the process at its first wrong step."""

from __future__ import annotations

from posegen.renderer.field import native

SANITISERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-sanitize=alignment")

native.FLAGS = (*(flag for flag in native.FLAGS if flag != "-O3"), *SANITISERS)
