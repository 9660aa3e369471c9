"""Whether a command line of posegen, as documentation and errors name it, would be understood."""

import re
from functools import cache

from posegen.commandline.options import COMMANDS, SHELLS
from posegen.config import groups
from posegen.config.keys import keys

BLANK = "\u2423"  # stands in a line for what is only known at run time
OWN_KEYS = ("sweep", "benchmark", "posegen")  # of a sweep's own file, of a data set's options


@cache
def known_keys() -> frozenset[str]:
    return frozenset({*groups(), *keys(), "data", *(f"data.{name}" for name in ("3dpw",)), *OWN_KEYS})


@cache
def open_parts() -> tuple[str, ...]:
    """Parts that may hold any key, as prefixes."""
    return (*(f"{key.name}." for key in keys().values() if key.kind == "mapping"), "sweep.")


def problem_of(words: list[str]) -> str | None:
    """Why a command line would not be understood; None if it would be."""
    name, *rest = [word.rstrip(",.;:") for word in words]
    if name in ("COMMAND", "...", "--help", "--version"):
        return None
    if name not in COMMANDS:
        return f"no command {name}"
    if name == "submit" and rest and rest[0] in COMMANDS:
        return problem_of(rest)
    if name in ("fit-subject", "help", "assets"):  # their words are their own
        return None
    if name == "completion":
        return None if set(rest) <= {*SHELLS, "SHELL", "bash|zsh|fish", "--help", BLANK} else f"no shell {rest}"
    for word in rest:
        if word.startswith("--"):
            option = word.partition("=")[0]
            allowed = {*COMMANDS[name].options, *COMMANDS["submit"].options, "--help"}
            if option not in allowed:
                return f"{name} has no option {option}"
        elif re.match(r"[\w.+-]+=", word):
            key, _, value = word.partition("=")
            if key in COMMANDS[name].own:
                continue
            if (wrong := problem_of_setting(key, value)) is not None:
                return wrong
    return None


def problem_of_setting(key: str, value: str) -> str | None:
    """Why `key=value` is no setting; None if it is one."""
    if key not in known_keys() and not key.startswith(open_parts()):
        return f"no key {key}"
    # Names in capitals stand for one's own; estimators and benchmarks may be plug-ins.
    open_group = key in ("estimator", "benchmark") or not value.islower()
    if key in groups() and not open_group and value not in groups()[key]:
        return f"{key} has no option {value}"
    return None
