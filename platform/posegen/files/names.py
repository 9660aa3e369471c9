"""Names that become folders and files: one rule, so that nothing is written or deleted outside of its place."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from posegen.errors import ConfigError

# What posegen itself keeps in the outputs folder.
RESERVED = ("latest", "mlartifacts", "mlruns", "sweeps", "evaluation", "compare.html", "fit-subject", "atlas")
RULE = "a relative name such as tuesday or exp/r1: no .., no leading dot, dash, ~ or slash, no quotes, 200 letters"
_FORBIDDEN = set("'\"`\\:*?<>|\0")


def problem_of(part: str) -> str | None:
    """Why a text cannot be the name of one file or folder, or None."""
    if not part:
        return "it has an empty part"
    if part in (".", ".."):
        return f"{part!r} is no name"
    if part[0] in ".-~":
        return f"{part!r} begins with {part[0]!r}"
    if part != part.strip() or part.endswith("."):
        return f"{part!r} begins or ends with a blank or a dot"
    bad = sorted({letter for letter in part if letter in _FORBIDDEN or not (letter.isprintable())})
    if bad:
        return f"it holds {' '.join(map(repr, bad))}"
    if len(part.encode(errors="replace")) > 150:
        return "a part of it has more than 150 letters"
    return None


def check_part(name: str, what: str, where: str) -> str:
    """A name of one file or folder. ConfigError says what is wrong with it."""
    why = "it holds a slash" if "/" in name else problem_of(name)
    if why:
        raise ConfigError(f"{name!r} cannot name {what}: {why}", where=where, choices=["letters, digits, _ . -"])
    return name


def check_run_name(name: str, where: str = "run.name") -> str:
    """A run's name: one folder, or several with slashes, inside the outputs folder. ConfigError has the rule."""
    why = "it is absolute" if name.startswith("/") else None
    parts = name.split("/")
    for part in parts:
        why = why or problem_of(part)
    if why is None and (parts[0].lower() in RESERVED or parts[0].lower().startswith("mlflow.db")):
        why = f"posegen keeps something of its own as {parts[0]!r} in the outputs folder"
    if why is None and len(name.encode(errors="replace")) > 200:
        why = "it has more than 200 letters"
    if why:
        raise ConfigError(f"{name!r} cannot name a run: {why}", where=where, choices=[RULE])
    return str(PurePosixPath(name))


def inside(outputs: Path | str, name: str) -> Path:
    """outputs/name, absolute. ConfigError where a link on the way leads out of the outputs folder."""
    base = Path(os.path.abspath(outputs))
    path = base / check_run_name(name)
    resolved, root = path.resolve(), base.resolve()
    if resolved != root / path.relative_to(base):
        raise ConfigError(
            f"the run directory is a link, or behind one, that leads to {resolved}", where=path,
            next_command="choose another run.name, or name the folder itself with run.outputs",
        )  # fmt: skip
    return path
