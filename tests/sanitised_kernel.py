"""A plug-in of pytest, `-p sanitised_kernel`: a compiled kernel ends the process at its first wrong step."""

from __future__ import annotations

from posegen import compiled

SANITISERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-sanitize=alignment")

compiled.FLAGS = (*(flag for flag in compiled.FLAGS if flag != "-O3"), *SANITISERS)
